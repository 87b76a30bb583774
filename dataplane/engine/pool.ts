/**
 * The buffer pool: which slots of the arena are free, and how many hold on to each that is not.
 *
 * A frame in the table of the turn holds its slot once; a port that keeps a slot beyond the turn (the rest of a
 * half-received frame, a backlog) holds it once more. Several frames may lie in one slot. A slot that nobody
 * holds is free, and the one freed last is taken first: it is still in the cache.
 *
 * Chunks (arena.ts) are held and released by the same calls, but taken from a list of their own. A chunk that a
 * ring of AF_XDP has been given counts as held.
 */
import type { Arena } from './arena.js';

export class BufferPool {
  readonly arena: Arena;
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #holds: Int32Array;
  readonly #slots: number;
  readonly #freeChunks: Int32Array;
  #freeChunkCount: number;
  /** Times that a slot was asked for and there was none. */
  exhausted = 0;

  constructor(arena: Arena) {
    this.arena = arena;
    this.#free = new Int32Array(arena.slots);
    this.#holds = new Int32Array(arena.slots + arena.chunks);
    this.#slots = arena.slots;
    this.#freeCount = arena.slots;
    this.#freeChunks = new Int32Array(arena.chunks);
    this.#freeChunkCount = arena.chunks;
    for (let i = 0; i < arena.chunks; i++) this.#freeChunks[i] = arena.slots + arena.chunks - 1 - i;
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

  get freeChunkCount(): number {
    return this.#freeChunkCount;
  }

  /** A free chunk, now held once, as a slot's number; -1 when there is none. */
  takeChunk(): number {
    if (this.#freeChunkCount === 0) return -1;
    const slot = this.#freeChunks[--this.#freeChunkCount]!;
    this.#holds[slot] = 1;
    return slot;
  }

  retain(slot: number): void {
    this.#holds[slot]!++;
  }

  release(slot: number): void {
    const holds = this.#holds[slot]! - 1;
    this.#holds[slot] = holds;
    if (holds === 0) {
      if (slot < this.#slots) this.#free[this.#freeCount++] = slot;
      else this.#freeChunks[this.#freeChunkCount++] = slot;
    } else if (holds < 0) throw new Error(`slot ${slot} was released more often than held`);
  }

  holds(slot: number): number {
    return this.#holds[slot]!;
  }
}
