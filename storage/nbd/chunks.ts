/**
 * Buffers for the data thread. Two sizes, both last in, first out: the chunk given back last is taken next, so a
 * thousand connections that take turns use one that is warm in the cache.
 *
 * Also the budget of limits.ts, which counts promises and not chunks: who may have several chunks in flight asks
 * it first.
 */
import { IN_FLIGHT_BUDGET_BYTES, LARGE_CHUNK_BYTES, SMALL_CHUNK_BYTES } from './limits.js';

/** A Memory of volume.ts with a view for headers. */
export interface Chunk {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly length_bytes: number;
}

/** What maps memory: host's mapAnonymous, or anything in a test. */
export type Allocate = (length_bytes: number) => Chunk & { unmap(): void };

/** Free large chunks kept; more are unmapped. */
const FREE_LARGE_LIMIT = 64;
const SMALL_PER_SLAB = 64;

export class ChunkPool {
  #allocate: Allocate;
  #large: (Chunk & { unmap(): void })[] = [];
  #small: Chunk[] = [];
  #slabs: Chunk[] = [];
  largeCount = 0;
  smallCount = 0;

  constructor(allocate: Allocate) {
    this.#allocate = allocate;
  }

  get mapped_bytes(): number {
    return this.largeCount * LARGE_CHUNK_BYTES + this.smallCount * SMALL_CHUNK_BYTES;
  }

  /** The smallest that holds so much; `length_bytes` is at most LARGE_CHUNK_BYTES. */
  take(length_bytes: number): Chunk {
    return length_bytes <= SMALL_CHUNK_BYTES ? this.takeSmall() : this.takeLarge();
  }

  takeLarge(): Chunk {
    const chunk = this.#large.pop();
    if (chunk !== undefined) return chunk;
    this.largeCount++;
    return this.#allocate(LARGE_CHUNK_BYTES);
  }

  takeSmall(): Chunk {
    if (this.#small.length === 0) this.#newSlab();
    return this.#small.pop()!;
  }

  give(chunk: Chunk): void {
    if (chunk.length_bytes <= SMALL_CHUNK_BYTES) {
      this.#small.push(chunk);
      return;
    }
    const large = chunk as Chunk & { unmap(): void };
    if (this.#large.length < FREE_LARGE_LIMIT) {
      this.#large.push(large);
      return;
    }
    this.largeCount--;
    large.unmap();
  }

  #newSlab(): void {
    const slab = this.#allocate(SMALL_PER_SLAB * SMALL_CHUNK_BYTES);
    this.#slabs.push(slab);
    for (let i = 0; i < SMALL_PER_SLAB; i++) {
      const at = i * SMALL_CHUNK_BYTES;
      const offset = slab.bytes.byteOffset + at;
      this.#small.push({
        address: slab.address + at,
        bytes: new Uint8Array(slab.bytes.buffer, offset, SMALL_CHUNK_BYTES),
        view: new DataView(slab.bytes.buffer, offset, SMALL_CHUNK_BYTES),
        length_bytes: SMALL_CHUNK_BYTES,
      });
      this.smallCount++;
    }
  }
}

export class Budget {
  #left_bytes: number;
  #waiting: BudgetWaiter[] = [];
  #released = false;

  constructor(limit_bytes: number = IN_FLIGHT_BUDGET_BYTES) {
    this.#left_bytes = limit_bytes;
  }

  get left_bytes(): number {
    return this.#left_bytes;
  }

  /** False: there is not so much, or others wait already; ask again when `budgetReleased` is called. */
  take(length_bytes: number, waiter: BudgetWaiter): boolean {
    const first = this.#waiting[0];
    if (length_bytes <= this.#left_bytes && (first === undefined || first === waiter)) {
      if (first === waiter) {
        this.#waiting.shift();
        // What is left may do for the next in line.
        this.#released = true;
      }
      this.#left_bytes -= length_bytes;
      return true;
    }
    if (!this.#waiting.includes(waiter)) this.#waiting.push(waiter);
    return false;
  }

  /** Take without asking: for the one request that each connection is allowed. May go below zero. */
  force(length_bytes: number): void {
    this.#left_bytes -= length_bytes;
  }

  give(length_bytes: number): void {
    this.#left_bytes += length_bytes;
    this.#released = true;
  }

  /** A waiter that is gone. */
  forget(waiter: BudgetWaiter): void {
    const index = this.#waiting.indexOf(waiter);
    if (index >= 0) this.#waiting.splice(index, 1);
    this.#released = true;
  }

  /** Once per turn of the loop: tells the first in line when something was given back. */
  turn(): void {
    if (!this.#released) return;
    this.#released = false;
    this.#waiting[0]?.budgetReleased();
  }
}

export interface BudgetWaiter {
  budgetReleased(): void;
}
