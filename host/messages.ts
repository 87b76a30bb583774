/**
 * Many datagrams to one system call, with all that a message can carry: several pieces, an address, control
 * messages. For recvmmsg and sendmmsg on packet, datagram and UDP sockets; MessageVector of iovec.ts is the same
 * for who needs one piece and nothing else.
 *
 *   struct mmsghdr, 64 bytes, in words of 4:
 *     0 name(u64)  2 namelen  4 iov(u64)  6 iovlen(u64)  8 control(u64)  10 controllen(u64)  12 flags  14 length
 *
 * One mapping holds everything, so filling a message is a handful of stores:
 *
 *   | mmsghdr x n | iovec x n x k | name x n | control x n |
 */
import { EINVAL, HostError } from './errno.js';
import { IOVEC_BYTES, MMSGHDR_BYTES, setWord } from './iovec.js';
import { mapAnonymous } from './memory.js';
import type { Mapping } from './memory.js';

const MESSAGES_MAX_COUNT = 1024;
const HEADER_WORDS = MMSGHDR_BYTES >>> 2;
const NAMELEN = 2;
const IOVLEN = 6;
const CONTROL = 8;
const CONTROLLEN = 10;
const FLAGS = 12;
const LENGTH = 14;

export interface MessageShape {
  /** Messages. */
  readonly count: number;
  /** Pieces of each, at most. */
  readonly pieces: number;
  /** Room for an address of each. */
  readonly name_bytes?: number;
  /** Room for control messages of each. */
  readonly control_bytes?: number;
}

export class MessageBatch {
  readonly count: number;
  /** For recvmmsg and sendmmsg; of message i: `addressOf(i)`. */
  readonly address: number;
  readonly i32: Int32Array;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly #memory: Mapping;
  readonly #pieces: number;
  readonly #iovecs_words: number;
  readonly #name_bytes: number;
  readonly #names: number;
  readonly #control_bytes: number;
  readonly #controls: number;

  constructor({ count, pieces, name_bytes = 0, control_bytes = 0 }: MessageShape) {
    if (!Number.isInteger(count) || count < 1 || count > MESSAGES_MAX_COUNT || pieces < 1)
      throw new HostError('MessageBatch', EINVAL, `${count} messages`, `1 to ${MESSAGES_MAX_COUNT}`);
    this.count = count;
    this.#pieces = pieces;
    // Control messages must be aligned to 8 bytes.
    this.#name_bytes = (name_bytes + 7) & ~7;
    this.#control_bytes = (control_bytes + 7) & ~7;
    const iovecs = count * MMSGHDR_BYTES;
    this.#names = iovecs + count * pieces * IOVEC_BYTES;
    this.#controls = this.#names + count * this.#name_bytes;
    this.#iovecs_words = iovecs >>> 2;
    this.#memory = mapAnonymous(this.#controls + count * this.#control_bytes);
    const { address, i32, view, bytes } = this.#memory;
    this.address = address;
    this.i32 = i32;
    this.view = view;
    this.bytes = bytes;
    for (let message = 0; message < count; message++) {
      const at = message * HEADER_WORDS;
      setWord(i32, at + 4, address + iovecs + message * pieces * IOVEC_BYTES);
      if (name_bytes > 0) setWord(i32, at, address + this.nameAt(message));
      if (control_bytes > 0) setWord(i32, at + CONTROL, address + this.controlAt(message));
    }
  }

  addressOf(message: number): number {
    return this.address + message * MMSGHDR_BYTES;
  }

  /** Where in `view` the address of a message stands. */
  nameAt(message: number): number {
    return this.#names + message * this.#name_bytes;
  }

  /** Where in `view` its control messages stand. */
  controlAt(message: number): number {
    return this.#controls + message * this.#control_bytes;
  }

  setPiece(message: number, piece: number, address: number, length_bytes: number): void {
    const at = this.#iovecs_words + ((message * this.#pieces + piece) << 2);
    const { i32 } = this;
    i32[at] = address;
    i32[at + 1] = address / 2 ** 32;
    i32[at + 2] = length_bytes;
  }

  /** Before sending: how many pieces, and how much of its address and of its control messages is meant. */
  arm(message: number, pieces: number, name_bytes: number, control_bytes: number): void {
    const at = message * HEADER_WORDS;
    const { i32 } = this;
    i32[at + IOVLEN] = pieces;
    i32[at + NAMELEN] = name_bytes;
    i32[at + CONTROLLEN] = control_bytes;
    i32[at + FLAGS] = 0;
  }

  /** An address that stands elsewhere, in memory that stays mapped. */
  pointName(message: number, address: number): void {
    setWord(this.i32, message * HEADER_WORDS, address);
  }

  /** Pieces that stand elsewhere: struct iovec's. */
  pointPieces(message: number, address: number): void {
    setWord(this.i32, message * HEADER_WORDS + 4, address);
  }

  /** Before receiving: the kernel overwrote the sizes with what it used last time. */
  armToReceive(message: number, pieces: number): void {
    this.arm(message, pieces, this.#name_bytes, this.#control_bytes);
  }

  length_bytes(message: number): number {
    return this.i32[message * HEADER_WORDS + LENGTH]!;
  }
  /** MSG_TRUNC and its kin. */
  flags(message: number): number {
    return this.i32[message * HEADER_WORDS + FLAGS]!;
  }
  nameLength_bytes(message: number): number {
    return this.i32[message * HEADER_WORDS + NAMELEN]!;
  }
  controlLength_bytes(message: number): number {
    return this.i32[message * HEADER_WORDS + CONTROLLEN]!;
  }

  close(): void {
    this.#memory.unmap();
  }
}

const CMSG_HEADER_BYTES = 16;

/**
 * Where in `view` the payload of the first control message of that kind stands, if it has `payload_bytes`; else -1.
 *
 *   struct cmsghdr   0 len(u64)   8 level(i32)   12 type(i32)   16 payload   padded to 8 bytes
 */
export function findControl(
  batch: MessageBatch,
  message: number,
  level: number,
  type: number,
  payload_bytes: number,
): number {
  const { view } = batch;
  let at = batch.controlAt(message);
  const end = at + batch.controlLength_bytes(message);
  while (at + CMSG_HEADER_BYTES <= end) {
    const length = view.getInt32(at, true);
    if (length < CMSG_HEADER_BYTES || at + length > end) return -1;
    if (view.getInt32(at + 8, true) === level && view.getInt32(at + 12, true) === type)
      return length >= CMSG_HEADER_BYTES + payload_bytes ? at + CMSG_HEADER_BYTES : -1;
    at += (length + 7) & ~7;
  }
  return -1;
}

/** Writes one control message; returns its length with its padding. */
export function putControl(
  batch: MessageBatch,
  at: number,
  level: number,
  type: number,
  payload_bytes: number,
): number {
  const { view } = batch;
  view.setInt32(at, CMSG_HEADER_BYTES + payload_bytes, true);
  view.setInt32(at + 4, 0, true);
  view.setInt32(at + 8, level, true);
  view.setInt32(at + 12, type, true);
  return (CMSG_HEADER_BYTES + payload_bytes + 7) & ~7;
}
