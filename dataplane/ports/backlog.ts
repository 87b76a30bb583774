/**
 * What a stream's peer has not taken yet: a bounded chain of slots of the pool, filled and written as one
 * sequence of bytes. Frames are copied into it, so a slow peer holds a few slots of its own and never those
 * that frames arrive in.
 */
import { SLOT_BYTES } from '../engine/arena.js';
import type { BufferPool } from '../engine/pool.js';

/**
 * About 2 MB: the buffer that a TCP connection needs to be held up for some milliseconds by a peer that waits for a
 * core, without losing much. Beside it stands what the socket itself holds, 0.2 MB.
 */
export const BACKLOG_SLOTS_MAX_COUNT = 32;

export class Backlog {
  readonly #pool: BufferPool;
  readonly #slots = new Int32Array(BACKLOG_SLOTS_MAX_COUNT);
  #slotCount = 0;
  /** Offset in the first slot of what is next to be written, and in the last slot of where the next byte goes. */
  #from = 0;
  #to = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get isEmpty(): boolean {
    return this.#slotCount === 0;
  }

  get bytes(): number {
    return this.#slotCount === 0 ? 0 : (this.#slotCount - 1) * SLOT_BYTES + this.#to - this.#from;
  }

  /**
   * Room for so many bytes more? A quarter of the pool is never used for backlogs, so that frames can still
   * arrive when every peer is slow.
   */
  hasRoom(length_bytes: number): boolean {
    const inLast = this.#slotCount === 0 ? 0 : SLOT_BYTES - this.#to;
    const more = Math.ceil((length_bytes - inLast) / SLOT_BYTES);
    if (more <= 0) return true;
    return (
      this.#slotCount + more <= BACKLOG_SLOTS_MAX_COUNT &&
      this.#pool.freeCount - more >= this.#pool.arena.slots >>> 2
    );
  }

  /** The caller has asked `hasRoom`. */
  append(at: number, length_bytes: number): void {
    const arena = this.#pool.arena;
    let from = at;
    let left = length_bytes;
    while (left > 0) {
      if (this.#slotCount === 0 || this.#to === SLOT_BYTES) {
        const slot = this.#pool.take();
        if (slot < 0) throw new Error('append without asking hasRoom');
        if (this.#slotCount === 0) this.#from = 0;
        this.#slots[this.#slotCount++] = slot;
        this.#to = 0;
      }
      const part = Math.min(left, SLOT_BYTES - this.#to);
      const target = arena.slotAt(this.#slots[this.#slotCount - 1]!) + this.#to;
      arena.bytes.copyWithin(target, from, from + part);
      this.#to += part;
      from += part;
      left -= part;
    }
  }

  /** What to write next: a stretch of the arena. Of an empty backlog: length 0. */
  get headAt(): number {
    return this.#pool.arena.slotAt(this.#slots[0]!) + this.#from;
  }

  get headLength(): number {
    if (this.#slotCount === 0) return 0;
    return (this.#slotCount === 1 ? this.#to : SLOT_BYTES) - this.#from;
  }

  /** So many bytes of the head were written. */
  consume(length_bytes: number): void {
    if (length_bytes < this.headLength) {
      this.#from += length_bytes;
      return;
    }
    this.#pool.release(this.#slots[0]!);
    this.#slots.copyWithin(0, 1, this.#slotCount);
    this.#slotCount--;
    this.#from = 0;
  }

  clear(): void {
    for (let i = 0; i < this.#slotCount; i++) this.#pool.release(this.#slots[i]!);
    this.#slotCount = 0;
    this.#from = 0;
    this.#to = 0;
  }
}
