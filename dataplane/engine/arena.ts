/**
 * The one mapping that all frames live in, and how it is divided.
 *
 *   0                                   scratchAt            iovecsAt          zerosAt   chunksAt
 *   +--------+--------+-----+----------+--------------------+-----------------+---------+---------+---
 *   | slot 0 | slot 1 | …   | slot n-1 | scratch of a flush | struct iovec [] | zeros   | chunk 0 | …
 *   +--------+--------+-----+----------+--------------------+-----------------+---------+---------+---
 *
 * A slot holds any frame. Chunks are a second, smaller size, a page each: what AF_XDP can be given (ports/xdp.ts). To
 * who holds or releases a buffer, chunk c is slot number `slots + c`.
 *
 * Whatever the kernel is pointed at while frames move is an offset into it, a small integer; the address is the
 * base plus the offset. A slot's length is a multiple of 64 but not of a page, so that the first bytes of
 * many slots do not fall into the same set of the first-level cache.
 *
 * The mapping may be far larger than what is ever touched: slots are handed out last in, first out, so an
 * engine that has ten frames in hand touches ten slots.
 */

/** What is asked of the memory; a Mapping of host/ fits, and so does an ArrayBuffer with address 0 in tests. */
export interface Memory {
  readonly address: number;
  readonly length_bytes: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly i32: Int32Array;
}

/** 64 bytes before a frame, the largest frame, and room to spare: 1089 cache lines. */
export const SLOT_BYTES = 69_696;
/** Where a frame that has a slot of its own begins. Before it: room for the headers that ports put there. */
export const SLOT_ROOM_BYTES = 64;
export const SCRATCH_BYTES = 512 * 1024;
/** The kernel's UIO_MAXIOV. */
export const IOVECS_COUNT = 1024;
const IOVEC_WORDS = 4;
export const ZEROS_BYTES = 64;

const TWO_32 = 0x1_0000_0000;

/** A page, the largest chunk of AF_XDP's aligned mode. */
export const CHUNK_BYTES = 4096;

const fixedLength = (slots: number): number =>
  slots * SLOT_BYTES + SCRATCH_BYTES + IOVECS_COUNT * IOVEC_WORDS * 4 + ZEROS_BYTES;
const chunksOffset = (slots: number): number => (fixedLength(slots) + CHUNK_BYTES - 1) & -CHUNK_BYTES;

export function arenaLength(slots: number, chunks = 0): number {
  return chunks === 0 ? fixedLength(slots) : chunksOffset(slots) + chunks * CHUNK_BYTES;
}

export class Arena {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly i32: Int32Array;
  readonly address: number;
  readonly slots: number;
  readonly chunks: number;
  readonly chunksAt: number;
  readonly scratchAt: number;
  readonly zerosAt: number;
  /** Of the first struct iovec, for writev and its like. */
  readonly iovecsAddress: number;
  readonly #iovecsAt_words: number;
  readonly #addressLow: number;
  readonly #addressHigh: number;

  constructor(memory: Memory, slots: number, chunks = 0) {
    if (memory.length_bytes < arenaLength(slots, chunks))
      throw new RangeError('the memory is too small for its slots');
    this.bytes = memory.bytes;
    this.view = memory.view;
    this.i32 = memory.i32;
    this.address = memory.address;
    this.slots = slots;
    this.chunks = chunks;
    this.chunksAt = chunksOffset(slots);
    this.scratchAt = slots * SLOT_BYTES;
    const iovecsAt = this.scratchAt + SCRATCH_BYTES;
    this.zerosAt = iovecsAt + IOVECS_COUNT * IOVEC_WORDS * 4;
    this.iovecsAddress = memory.address + iovecsAt;
    this.#iovecsAt_words = iovecsAt >>> 2;
    this.#addressLow = memory.address % TWO_32;
    this.#addressHigh = Math.floor(memory.address / TWO_32);
  }

  /** Of a slot, not of a chunk. */
  slotAt(slot: number): number {
    return slot * SLOT_BYTES;
  }

  /** Of chunk number `slot - slots`. */
  chunkAt(slot: number): number {
    return this.chunksAt + (slot - this.slots) * CHUNK_BYTES;
  }

  /** Fills struct iovec `index` (base u64, length u64) with a stretch of the arena. */
  setIovec(index: number, at: number, length_bytes: number): void {
    const w = this.#iovecsAt_words + index * IOVEC_WORDS;
    const low = this.#addressLow + at;
    this.i32[w] = low;
    this.i32[w + 1] = low < TWO_32 ? this.#addressHigh : this.#addressHigh + 1;
    this.i32[w + 2] = length_bytes;
    this.i32[w + 3] = 0;
  }
}
