/**
 * A volume in memory: the double for tests, and a rehearsal ground for front doors. Thin like the real one: a
 * block that was never written, or was trimmed, takes no memory and reads as zeroes.
 *
 * `capacity_bytes` bounds what may be allocated, so that a full file system can be played.
 */
import type { Later } from './later.js';
import {
  ERRNO,
  EXTENT_DATA,
  EXTENT_HOLE,
  EXTENT_ZERO,
  pushExtent,
  type ExtentList,
  type Memory,
  type Volume,
  type VolumeState,
  type Waiter,
  type ZeroHow,
} from './volume.js';

const BLOCK_BYTES = 4096;

export class MemoryVolume implements Volume {
  size_bytes: number;
  state: VolumeState = 'ok';
  reason: string | null = null;
  flushCount = 0;
  #blocks = new Map<number, Uint8Array>();
  #capacity_blocks: number;
  #later: Later;

  constructor(size_bytes: number, later: Later, capacity_bytes = Infinity) {
    this.size_bytes = size_bytes;
    this.#later = later;
    this.#capacity_blocks = Math.floor(capacity_bytes / BLOCK_BYTES);
  }

  get allocated_bytes(): number {
    return this.#blocks.size * BLOCK_BYTES;
  }

  grow(size_bytes: number): void {
    this.size_bytes = Math.max(this.size_bytes, size_bytes);
  }

  tryRead(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    this.#eachPart(offset_bytes, length_bytes, (block, from, to, done) => {
      const data = this.#blocks.get(block);
      if (data === undefined) memory.bytes.fill(0, at + done, at + done + (to - from));
      else memory.bytes.set(data.subarray(from, to), at + done);
      return true;
    });
    return 0;
  }

  tryWrite(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const fitted = this.#eachPart(offset_bytes, length_bytes, (block, from, to, done) => {
      const data = this.#allocate(block);
      data?.set(memory.bytes.subarray(at + done, at + done + (to - from)), from);
      return data !== undefined;
    });
    return this.#wrote(fitted);
  }

  read(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, this.tryRead(offset_bytes, length_bytes, memory, at));
  }

  write(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, this.tryWrite(offset_bytes, length_bytes, memory, at));
  }

  flush(waiter: Waiter, token: number): void {
    this.flushCount++;
    this.#later.answer(waiter, token, 0);
  }

  trim(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    // Whole blocks only: it is a hint.
    const first = Math.ceil(offset_bytes / BLOCK_BYTES);
    const end = Math.floor((offset_bytes + length_bytes) / BLOCK_BYTES);
    if (end - first > this.#blocks.size) {
      for (const block of this.#blocks.keys()) if (block >= first && block < end) this.#blocks.delete(block);
    } else for (let block = first; block < end; block++) this.#blocks.delete(block);
    this.#later.answer(waiter, token, 0);
  }

  zero(offset_bytes: number, length_bytes: number, how: ZeroHow, waiter: Waiter, token: number): void {
    const fitted = this.#eachPart(offset_bytes, length_bytes, (block, from, to) => {
      if (how.mayUnmap && to - from === BLOCK_BYTES) {
        this.#blocks.delete(block);
        return true;
      }
      const data = how.mayUnmap ? this.#blocks.get(block) : this.#allocate(block);
      data?.fill(0, from, to);
      return how.mayUnmap || data !== undefined;
    });
    this.#later.answer(waiter, token, how.mayUnmap ? 0 : this.#wrote(fitted));
  }

  cache(_offset_bytes: number, _length_bytes: number, waiter: Waiter, token: number): void {
    this.#later.answer(waiter, token, 0);
  }

  extents(offset_bytes: number, length_bytes: number, into: ExtentList): number {
    into.count = 0;
    this.#eachPart(offset_bytes, length_bytes, (block, from, to) =>
      pushExtent(into, to - from, this.#blocks.has(block) ? EXTENT_DATA : EXTENT_HOLE | EXTENT_ZERO),
    );
    return 0;
  }

  sendableFrom(): number {
    return -1;
  }

  sendFailed(): void {}

  #allocate(block: number): Uint8Array | undefined {
    let data = this.#blocks.get(block);
    if (data !== undefined || this.#blocks.size >= this.#capacity_blocks) return data;
    data = new Uint8Array(BLOCK_BYTES);
    this.#blocks.set(block, data);
    return data;
  }

  #wrote(fitted: boolean): number {
    this.state = fitted ? 'ok' : 'full';
    this.reason = fitted ? null : 'no memory left of what this volume may take';
    return fitted ? 0 : -ERRNO.ENOSPC;
  }

  /** Calls `part(block, from, to, bytesBefore)` for each block touched, until it answers false. */
  #eachPart(
    offset_bytes: number,
    length_bytes: number,
    part: (block: number, from: number, to: number, done: number) => boolean,
  ): boolean {
    for (let done = 0; done < length_bytes;) {
      const position = offset_bytes + done;
      const block = Math.floor(position / BLOCK_BYTES);
      const from = position - block * BLOCK_BYTES;
      const to = Math.min(BLOCK_BYTES, from + length_bytes - done);
      if (!part(block, from, to, done)) return false;
      done += to - from;
    }
    return true;
  }
}
