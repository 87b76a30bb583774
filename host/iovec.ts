/**
 * Layouts that vectored and message calls take, written by hand into mapped memory, so that filling one costs
 * two stores per field and no allocation.
 *
 *   struct iovec   16 bytes    0 base   8 length
 *   struct msghdr  56 bytes    0 name   8 namelen(u32)   16 iov   24 iovlen   32 control   40 controllen   48 flags(i32)
 *   struct mmsghdr 64 bytes    0 msghdr                                              56 received or sent length (u32)
 *
 * The same on x86-64 and arm64 (64-bit, little-endian). musl declares iovlen and controllen as int with
 * padding beside it; with the padding zero, as here, the bytes are the same.
 */
import { EINVAL, HostError } from './errno.js';
import { mapAnonymous } from './memory.js';
import type { Mapping } from './memory.js';

export const IOVEC_BYTES = 16;
export const MSGHDR_BYTES = 56;
export const MMSGHDR_BYTES = 64;

/** The kernel's UIO_MAXIOV: more in one call is EINVAL. */
export const IOVEC_MAX_COUNT = 1024;

const TWO_32 = 2 ** 32;

/** An address or length below 2^53 as two 32-bit stores: setBigUint64 would allocate. */
export function setWord(i32: Int32Array, at_words: number, value: number): void {
  i32[at_words] = value;
  i32[at_words + 1] = value / TWO_32;
}

export function getWord(i32: Int32Array, at_words: number): number {
  return (i32[at_words + 1]! >>> 0) * TWO_32 + (i32[at_words]! >>> 0);
}

/** An array of struct iovec. */
export class IoVector {
  readonly capacity: number;
  /** For readv, writev, preadv, … ; of the first element. */
  readonly address: number;
  readonly #memory: Mapping;
  readonly #i32: Int32Array;

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > IOVEC_MAX_COUNT)
      throw new HostError('IoVector', EINVAL, `capacity ${capacity}`, `1 to ${IOVEC_MAX_COUNT}`);
    this.capacity = capacity;
    this.#memory = mapAnonymous(capacity * IOVEC_BYTES);
    this.#i32 = this.#memory.i32;
    this.address = this.#memory.address;
  }

  /** `index` beyond the capacity does nothing: typed arrays ignore such stores. */
  set(index: number, address: number, length_bytes: number): void {
    const i32 = this.#i32;
    const at = index << 2;
    i32[at] = address;
    i32[at + 1] = address / TWO_32;
    i32[at + 2] = length_bytes;
    i32[at + 3] = length_bytes / TWO_32;
  }

  base(index: number): number {
    return getWord(this.#i32, index << 2);
  }

  length_bytes(index: number): number {
    return getWord(this.#i32, (index << 2) + 2);
  }

  /**
   * Moves the start past `done_bytes` that a short write took. Returns the index of the first element that
   * still has bytes (adjusted in place), `count` when all is done.
   */
  advance(from: number, count: number, done_bytes: number): number {
    let index = from;
    let left = done_bytes;
    while (index < count) {
      const length = this.length_bytes(index);
      if (left < length) break;
      left -= length;
      index++;
    }
    if (index < count && left > 0) this.set(index, this.base(index) + left, this.length_bytes(index) - left);
    return index;
  }

  close(): void {
    this.#memory.unmap();
  }
}

/**
 * An array of struct mmsghdr with one iovec for each, for recvmmsg and sendmmsg on datagram and packet
 * sockets: `set` once or before each call, `length_bytes(i)` after it.
 */
export class MessageVector {
  readonly capacity: number;
  readonly address: number;
  readonly #memory: Mapping;
  readonly #i32: Int32Array;
  readonly #iov_words: number;

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > IOVEC_MAX_COUNT)
      throw new HostError('MessageVector', EINVAL, `capacity ${capacity}`, `1 to ${IOVEC_MAX_COUNT}`);
    this.capacity = capacity;
    this.#memory = mapAnonymous(capacity * (MMSGHDR_BYTES + IOVEC_BYTES));
    this.#i32 = this.#memory.i32;
    this.address = this.#memory.address;
    this.#iov_words = (capacity * MMSGHDR_BYTES) >>> 2;
    for (let index = 0; index < capacity; index++) {
      const at = (index * MMSGHDR_BYTES) >>> 2;
      setWord(this.#i32, at + 4, this.address + capacity * MMSGHDR_BYTES + index * IOVEC_BYTES);
      this.#i32[at + 6] = 1;
    }
  }

  set(index: number, address: number, length_bytes: number): void {
    const i32 = this.#i32;
    const at = this.#iov_words + (index << 2);
    i32[at] = address;
    i32[at + 1] = address / TWO_32;
    i32[at + 2] = length_bytes;
    i32[at + 3] = 0;
  }

  /** What the kernel received into, or sent from, the message. */
  length_bytes(index: number): number {
    return this.#i32[(index << 4) + 14]! >>> 0;
  }

  close(): void {
    this.#memory.unmap();
  }
}
