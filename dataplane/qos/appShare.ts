/**
 * The part of the buffer pool that queues may hold, and how much of it one port may have: as much as is still free
 * (a dynamic threshold, Choudhury and Hahne 1998, with alpha 1). A port alone gets half of it, two a third each, and a
 * port that comes later always finds some: fixed parts would waste nearly all of it on ports that queue nothing.
 */
import type { BufferPool } from '../engine/pool.js';

const shares = new WeakMap<BufferPool, BufferShare>();

export class BufferShare {
  /** Slots that all queues together may hold; the rest is for frames in hand. */
  readonly max: number;
  held = 0;

  constructor(slots: number) {
    this.max = slots >>> 1;
  }

  static of(pool: BufferPool): BufferShare {
    let share = shares.get(pool);
    if (share === undefined) shares.set(pool, (share = new BufferShare(pool.arena.slots)));
    return share;
  }

  /** Whether a port that holds so many may hold one more. */
  allows(own: number): boolean {
    return own < this.max - this.held;
  }
}
