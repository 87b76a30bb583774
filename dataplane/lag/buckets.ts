/**
 * Which member carries which flow: a table of buckets, a flow's hash names its bucket. When members come or go, only
 * as many buckets change hands as must for each member to have its share: the flows in all others stay where they are.
 *
 * 1024 buckets: with any number of members up to 32 the shares differ by one bucket, 3 % of a share at most.
 */

// Our constants.
export const BUCKETS_COUNT = 1024;
export const BUCKETS_MASK = BUCKETS_COUNT - 1;
export const NOBODY = -1;

export class Buckets {
  /** Member of each bucket, or NOBODY. The frame path reads it. */
  readonly table = new Int32Array(BUCKETS_COUNT).fill(NOBODY);

  /** Members by their numbers, in any order. Returns how many buckets changed hands. */
  share(members: readonly number[]): number {
    const { table } = this;
    if (members.length === 0) {
      const moved = table.reduce((count, member) => count + (member === NOBODY ? 0 : 1), 0);
      table.fill(NOBODY);
      return moved;
    }
    const held = new Map<number, number>(members.map(member => [member, 0]));
    for (const member of table) if (held.has(member)) held.set(member, held.get(member)! + 1);
    // Whoever has most keeps the odd bucket: then none of these moves.
    const base = Math.floor(BUCKETS_COUNT / members.length);
    const odd = BUCKETS_COUNT % members.length;
    const order = members.toSorted((a, b) => held.get(b)! - held.get(a)! || a - b);
    const quota = new Map(order.map((member, place) => [member, base + (place < odd ? 1 : 0)]));
    const free: number[] = [];
    const kept = new Map<number, number>(members.map(member => [member, 0]));
    for (let bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
      const member = table[bucket]!;
      const count = kept.get(member);
      if (count !== undefined && count < quota.get(member)!) kept.set(member, count + 1);
      else free.push(bucket);
    }
    // Dealt like cards, so that what one member loses does not all fall to the next.
    let place = 0;
    for (const bucket of free) {
      while (kept.get(order[place]!)! >= quota.get(order[place]!)!) place = (place + 1) % order.length;
      const member = order[place]!;
      table[bucket] = member;
      kept.set(member, kept.get(member)! + 1);
      place = (place + 1) % order.length;
    }
    return free.length;
  }

  counts(): Map<number, number> {
    const counts = new Map<number, number>();
    for (const member of this.table) if (member !== NOBODY) counts.set(member, (counts.get(member) ?? 0) + 1);
    return counts;
  }
}
