/** How a run of tests is shown: a line for each file, then every failure with its diagnostics. */
export function formatCounts({ passed, failed, skipped, todo }) {
  const parts = [`${passed} passed`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (skipped > 0) parts.push(`${skipped} skipped`);
  if (todo > 0) parts.push(`${todo} todo`);
  return parts.join(', ');
}

export function fileLine(name, counts, ok) {
  const shown = name.replace(/^dist\//, '').replace(/\.test\.js$/, '');
  return `${ok && counts.failed === 0 ? 'ok    ' : 'FAILED'} ${shown}: ${formatCounts(counts)}`;
}

export function failureLines({ path, diagnostics }) {
  return [`FAILED ${path.join(' > ')}`, ...diagnostics.map(line => `    ${line}`)];
}

/** Skips by their reason: one line for all that miss the same. */
export function skipLines(skips) {
  const byReason = new Map();
  for (const { reason } of skips) byReason.set(reason, (byReason.get(reason) ?? 0) + 1);
  return [...byReason].map(([reason, n]) => `skipped ${n}: ${reason === '' ? 'no reason given' : reason}`);
}
