/**
 * How a run of tests is shown: a line for each file, with what failed in it, below it each failure whole; and at the end, where a
 * log that was cut off still has it, which files took longest and each failure once more in a few lines.
 */
const MAX_WHOLE_LINES = 40;
const MAX_BRIEF_LINES = 12;
const MAX_NAMED = 5;
const SLOW_FILES = 12;

export function formatCounts({ passed, failed, skipped, todo }) {
  const parts = [`${passed} passed`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (skipped > 0) parts.push(`${skipped} skipped`);
  if (todo > 0) parts.push(`${todo} todo`);
  return parts.join(', ');
}

/** Without where it was built to. */
export function shownName(file) {
  return file.replace(/^dist\//, '').replace(/\.test\.js$/, '');
}

/** `took_ms`: null when it is not known. */
export function fileLine(file, counts, { ok, took_ms, failures }) {
  const word = ok && counts.failed === 0 ? 'ok    ' : 'FAILED';
  const took = took_ms === null ? '' : ` (${seconds(took_ms)})`;
  const named = failures.slice(0, MAX_NAMED).map(failure => `"${titleOf(failure)}"`);
  if (failures.length > MAX_NAMED) named.push(`${failures.length - MAX_NAMED} more`);
  const which = named.length === 0 ? '' : `: ${named.join(', ')}`;
  return `${word} ${shownName(file)}: ${formatCounts(counts)}${took}${which}`;
}

/** Of a test: its name below that of its file. */
function titleOf({ file, path }) {
  return path.filter(name => shownName(name) !== shownName(file)).join(' > ') || 'the file';
}

export function failureLines(failure) {
  const { file, diagnostics } = failure;
  return [
    `FAILED ${shownName(file)}: ${titleOf(failure)}`,
    ...diagnostics.slice(0, MAX_WHOLE_LINES).map(line => `    ${line}`),
    ...(diagnostics.length > MAX_WHOLE_LINES ? ['    …'] : []),
  ];
}

/** All failures of a run by their files: name, place, difference. `all`: {file, path, diagnostics}[]. */
export function summaryLines(all) {
  const byFile = new Map();
  for (const failure of all) byFile.set(failure.file, [...(byFile.get(failure.file) ?? []), failure]);
  return [...byFile].flatMap(([file, failures]) => [
    `FAILED ${shownName(file)}`,
    ...failures.flatMap(failure => {
      const place = placeOf(failure.diagnostics);
      return [
        `    ${titleOf(failure)}${place === null ? '' : `   ${place}`}`,
        ...essence(failure.diagnostics).map(line => `        ${line}`),
      ];
    }),
  ]);
}

/** The first `at:` of a diagnostic block, as FILE:LINE. */
function placeOf(diagnostics) {
  const block = blockOf(diagnostics, 'at');
  const field = name => block?.map(line => new RegExp(`^ +${name}: (.*)$`).exec(line)?.[1]).find(Boolean);
  const [file, line] = [field('fileName'), field('lineNumber')];
  return file === undefined ? null : `${file}${line === undefined ? '' : `:${line}`}`;
}

/** The difference when there is one, else what else it says in a line each. */
function essence(diagnostics) {
  const diff = blockOf(diagnostics, 'diff');
  const lines =
    diff === null
      ? diagnostics.filter(line => /^(?!at:|stack:|source:|tapCaught:)\S/.test(line))
      : diff
          .map(line => line.replace(/^ {2}/, ''))
          .filter(line => line.trim() !== '' && !/^(--- expected|\+\+\+ actual|@@ )/.test(line));
  return lines.length <= MAX_BRIEF_LINES ? lines : [...lines.slice(0, MAX_BRIEF_LINES), '…'];
}

/** The lines below `key:` of a block of YAML; null without such a key. */
function blockOf(lines, key) {
  const at = lines.findIndex(line => line.startsWith(`${key}:`));
  if (at < 0) return null;
  const end = lines.findIndex((line, i) => i > at && /^\S/.test(line));
  return lines.slice(at + 1, end < 0 ? undefined : end);
}

/** `files`: {file, took_ms}[]. */
export function slowLines(files) {
  const slow = files.filter(({ took_ms }) => took_ms >= 1000).toSorted((a, b) => b.took_ms - a.took_ms);
  return slow
    .slice(0, SLOW_FILES)
    .map(({ file, took_ms }) => `${seconds(took_ms).padStart(8)}  ${shownName(file)}`);
}

export function seconds(time_ms) {
  return time_ms < 9500 ? `${(time_ms / 1000).toFixed(1)} s` : `${Math.round(time_ms / 1000)} s`;
}

/** Skips by their reason: one line for all that miss the same. */
export function skipLines(skips) {
  const byReason = new Map();
  for (const { reason } of skips) byReason.set(reason, (byReason.get(reason) ?? 0) + 1);
  return [...byReason].map(([reason, n]) => `skipped ${n}: ${reason === '' ? 'no reason given' : reason}`);
}
