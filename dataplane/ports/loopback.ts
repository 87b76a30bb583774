/**
 * Returns to the switch what the switch sends to it, in the next turn. For tests and measurements: two of
 * them in one VLAN pass a broadcast to and fro for ever.
 */
import { C } from '../engine/counters.js';
import { FrameTable } from '../engine/frames.js';
import type { Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import { pushEditedCopy } from './copies.js';
import { countAllDropped, countSent } from './sent.js';

export class LoopbackPort implements Port {
  readonly kind = 'loopback';
  readonly #link: Link;
  /** On their way back; as many as a table holds. */
  readonly #held: FrameTable;

  constructor(link: Link) {
    this.#link = link;
    this.#held = new FrameTable(link.loop.pool);
  }

  open(): void {
    this.#link.setState('up', null);
  }

  close(): void {
    this.#held.releaseAll();
  }

  receive(frames: FrameTable, limit: number): boolean {
    const held = this.#held;
    const count = Math.min(limit, held.count);
    for (let frame = 0; frame < count; frame++) frames.pushCopy(frame, held);
    held.shift(count);
    return held.count > 0;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const { pool } = this.#link.loop;
    const row = this.#link.counters;
    // As with a backlog, a quarter of the pool stays for frames that arrive.
    if (pool.freeCount < pool.arena.slots >>> 2) {
      countAllDropped(row, queue, C.dropQueueFull);
      return;
    }
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      if (this.#held.free === 0 || !pushEditedCopy(pool, frames, frame, queue.edit(i), this.#held)) {
        row[C.dropQueueFull]!++;
        continue;
      }
      countSent(row, pool.arena.view, frames, frame, queue.edit(i));
    }
    if (this.#held.count > 0) this.#link.wake();
  }
}
