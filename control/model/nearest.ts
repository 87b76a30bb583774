/**
 * "Did you mean": the known word nearest to an unknown one. Near is a small edit distance (insertions,
 * deletions, replacements, and swaps of neighbours, which is how keys are mistyped).
 */

/** Words longer than this are not compared: a bound on work that a user's file decides. */
const LONGEST_COMPARED = 64;

export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row: number[] = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(row[j]! + 1, next[j - 1]! + 1, replace);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, before[j - 2]! + 1);
      next.push(best);
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}

/** Undefined when nothing is near enough to be what was meant. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  if (word.length > LONGEST_COMPARED) return undefined;
  const lower = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    if (candidate.length > LONGEST_COMPARED) continue;
    const distance = editDistance(lower, candidate.toLowerCase());
    const tolerated = Math.max(1, Math.floor(Math.max(lower.length, candidate.length) / 3));
    if (distance <= tolerated && distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** `; did you mean "vlan"?` or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const match = nearest(word, known);
  return match === undefined ? '' : `; did you mean "${match}"?`;
}

/** `a, b, c and 12 more`: a list that cannot flood a terminal. */
export function someOf(words: Iterable<string>, most = 8): string {
  const all = [...words];
  if (all.length <= most) return all.join(', ');
  return `${all.slice(0, most).join(', ')} and ${all.length - most} more`;
}
