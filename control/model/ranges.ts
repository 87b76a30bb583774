/** Ranges of VLANs as users write them. Pure. */

/** Sorted, joined, inclusive: [[10, 12], [20, 20]]. */
export function vlanRanges(written: readonly (number | string)[]): [number, number][] {
  const ranges = written
    .map((range): [number, number] => {
      if (typeof range === 'number') return [range, range];
      const [first = 0, last = 0] = range.split('-').map(Number);
      return [first, last];
    })
    .sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [first, last] of ranges) {
    const before = joined.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined;
}
