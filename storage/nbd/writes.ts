/**
 * Writes of one connection: at once from where they lie in the input, or later from memory of their own, which is the input chunk
 * itself where little else is behind the payload.
 *
 * One longer than PIECE_BYTES is not gathered but applied as its payload comes, in pieces that end on blocks of 4096
 * (longWrite.ts): a client that goes away in the middle of it leaves the beginning written, as a machine that loses power does.
 * Any other payload of that length, and the payload of what is refused, is read past: a long write that has failed already.
 */
import type { Budget, Chunk, ChunkPool } from './chunks.js';
import { AT_EXPORT } from './counters.js';
import { PIECE_BYTES } from './limits.js';
import { LongWrite } from './longWrite.js';
import type { Operation, Operations } from './operation.js';
import type { Replies } from './replies.js';
import { nbdError } from './validate.js';
import { ERRNO, type Volume, type Waiter } from '../volume/volume.js';
import { NBD_CMD_FLAG_FUA, NBD_CMD_WRITE } from './wire.js';

/** Below this a payload that has not come whole may be received together with whatever follows it. */
export const EXACT_RECEIVE_BYTES = 32_768;

interface WritesParts {
  readonly volume: Volume;
  readonly pool: ChunkPool;
  readonly budget: Budget;
  readonly counters: Float64Array;
}

/** The connection's transmission: the volume answers it, and it hands on what concerns a piece. */
export interface WritesOwner extends Waiter {
  tookInput: boolean;
  /** Length of a header: the next that is wanted. */
  readonly header_bytes: number;
  /** Whether a request may hold so many bytes while it waits. */
  mayWait(length: number): boolean;
  want(wanted_bytes: number, welcome_bytes: number): void;
  failed(type: number, offset: number, length: number, error: number, at?: number): void;
}

export class Writes {
  #volume: Volume;
  #pool: ChunkPool;
  #budget: Budget;
  #counters: Float64Array;
  #operations: Operations;
  #replies: Replies;
  #owner: WritesOwner;
  #long: LongWrite | null = null;

  constructor(parts: WritesParts, operations: Operations, replies: Replies, owner: WritesOwner) {
    this.#volume = parts.volume;
    this.#pool = parts.pool;
    this.#budget = parts.budget;
    this.#counters = parts.counters;
    this.#operations = operations;
    this.#replies = replies;
    this.#owner = owner;
  }

  /** What comes next of the input belongs to a payload that has begun. */
  get isWithin(): boolean {
    return this.#long !== null;
  }

  /** The payload, of up to PIECE_BYTES, is all there. False: it must be asked again later (no budget). */
  whole(
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    chunk: Chunk,
    at: number,
    end: number,
  ): boolean {
    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    const result = length === 0 ? 0 : this.#volume.tryWrite(offset, length, chunk, at);
    if (result === -ERRNO.EAGAIN) {
      if (!this.#owner.mayWait(length)) return false;
      const operations = this.#operations;
      const token = operations.take(NBD_CMD_WRITE, flags, cookieHigh, cookieLow, offset, length, length);
      const operation = operations.slots[token]!;
      operation.done = length;
      operation.fua = fua;
      this.#giveToVolume(operation, token, chunk, at, end);
    } else if (result < 0) {
      this.#owner.failed(NBD_CMD_WRITE, offset, length, nbdError(result));
      return true;
    } else this.#written(fua, cookieHigh, cookieLow, offset);
    this.#counters[AT_EXPORT.writes]!++;
    this.#counters[AT_EXPORT.writtenBytes]! += length;
    if (fua) this.#counters[AT_EXPORT.fuaWrites]!++;
    return true;
  }

  /** A longer one: its payload follows, by `proceed`. */
  begin(flags: number, cookieHigh: number, cookieLow: number, offset: number, length: number): void {
    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    this.#long = new LongWrite(cookieHigh, cookieLow, offset, length, fua, 0);
  }

  /** So much payload follows of a request that was answered with an error. */
  skip(payload_bytes: number, error: number): void {
    this.#long = new LongWrite(0, 0, 0, payload_bytes, false, error);
  }

  /** Goes on with a payload that has begun; returns how much of the input was used up. */
  proceed(chunk: Chunk, at: number, end: number): number {
    const long = this.#long!;
    const owner = this.#owner;
    const length = long.piece(end - at);
    const offset = long.next_bytes;
    if (length > 0 && long.error === 0) {
      const result = long.slow ? -ERRNO.EAGAIN : this.#volume.tryWrite(offset, length, chunk, at);
      if (result !== -ERRNO.EAGAIN) long.written(result, offset);
      else {
        long.slow = true;
        // Now a whole piece, if that is not there yet.
        if (long.piece(end - at) !== length) return this.proceed(chunk, at, end);
        if (!owner.mayWait(length)) return 0;
        const { cookieHigh, cookieLow } = long;
        const token = this.#operations.take(NBD_CMD_WRITE, 0, cookieHigh, cookieLow, offset, length, length);
        const operation = this.#operations.slots[token]!;
        operation.long = long;
        long.open++;
        this.#giveToVolume(operation, token, chunk, at, end);
      }
      this.#counters[AT_EXPORT.writtenBytes]! += length;
    }
    long.left_bytes -= length;
    const there = end - at - length;
    const missing = Math.min(long.left_bytes, long.slow ? PIECE_BYTES : 1) - there;
    owner.want(Math.max(1, missing), Math.max(1, long.left_bytes - there + owner.header_bytes));
    if (long.left_bytes > 0) return length;
    this.#long = null;
    owner.want(owner.header_bytes, Infinity);
    if (long.open === 0) this.#endLong(long);
    return length;
  }

  pieceWritten(operation: Operation, long: LongWrite, result: number): void {
    for (const chunk of operation.chunks) this.#pool.give(chunk);
    operation.chunks.length = 0;
    this.#budget.give(operation.payload_bytes);
    long.open--;
    long.written(result, operation.offset);
    if (long.over) this.#endLong(long);
  }

  /** The payload of a write that has to wait begins at chunk[at]; input ends at `end`. */
  #giveToVolume(operation: Operation, token: number, chunk: Chunk, at: number, end: number): void {
    const { offset, length } = operation;
    this.#counters[AT_EXPORT.slowWrites]!++;
    if (length >= EXACT_RECEIVE_BYTES && end - at - length <= length) {
      this.#owner.tookInput = true;
      operation.chunks.push(chunk);
      this.#volume.write(offset, length, chunk, at, this.#owner, token);
      return;
    }
    const own = this.#pool.take(length);
    own.bytes.set(chunk.bytes.subarray(at, at + length));
    operation.chunks.push(own);
    this.#volume.write(offset, length, own, 0, this.#owner, token);
  }

  #endLong(long: LongWrite): void {
    if (long.refused) return; // and answered already
    const { cookieHigh, cookieLow, error, fua, offset_bytes, length_bytes } = long;
    this.#replies.to(cookieHigh, cookieLow, offset_bytes);
    if (error !== 0)
      return this.#owner.failed(NBD_CMD_WRITE, offset_bytes, length_bytes, error, long.failedAt_bytes);
    this.#counters[AT_EXPORT.writes]!++;
    if (fua) this.#counters[AT_EXPORT.fuaWrites]!++;
    this.#written(fua, cookieHigh, cookieLow, offset_bytes);
  }

  /** The bytes are in the volume: answer, after a flush where that was asked for. */
  #written(fua: boolean, cookieHigh: number, cookieLow: number, offset: number): void {
    if (!fua) return this.#replies.success(NBD_CMD_WRITE);
    const token = this.#operations.take(NBD_CMD_WRITE, 0, cookieHigh, cookieLow, offset, 0, 0);
    this.#volume.flush(this.#owner, token);
  }
}
