/**
 * The buffer pool: which slots of the arena are free, and how many hold on to each that is not.
 *
 * A frame in the table of the turn holds its slot once; a port that keeps a slot beyond the turn (the rest of a
 * half-received frame, a backlog) holds it once more. Several frames may lie in one slot. A slot that nobody
 * holds is free, and the one freed last is taken first: it is still in the cache.
 */
import type { Arena } from './arena.js';

export class BufferPool {
  readonly arena: Arena;
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #holds: Int32Array;
  /** Times that a slot was asked for and there was none. */
  exhausted = 0;

  constructor(arena: Arena) {
    this.arena = arena;
    this.#free = new Int32Array(arena.slots);
    this.#holds = new Int32Array(arena.slots);
    this.#freeCount = arena.slots;
    for (let i = 0; i < arena.slots; i++) this.#free[i] = arena.slots - 1 - i;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  get usedCount(): number {
    return this.arena.slots - this.#freeCount;
  }

  /** A free slot, now held once; -1 when there is none. */
  take(): number {
    if (this.#freeCount === 0) {
      this.exhausted++;
      return -1;
    }
    const slot = this.#free[--this.#freeCount]!;
    this.#holds[slot] = 1;
    return slot;
  }

  retain(slot: number): void {
    this.#holds[slot]!++;
  }

  release(slot: number): void {
    const holds = this.#holds[slot]! - 1;
    this.#holds[slot] = holds;
    if (holds === 0) this.#free[this.#freeCount++] = slot;
    else if (holds < 0) throw new Error(`slot ${slot} was released more often than held`);
  }

  holds(slot: number): number {
    return this.#holds[slot]!;
  }
}
