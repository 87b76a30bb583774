/**
 * Reads that have to wait for their volume, in pieces of PIECE_BYTES.
 *
 *   inPieces   each piece is a chunk of the reply, or some (readReply.ts), as soon as it is there. A piece that fails is read
 *              again in blocks: what comes before the bad one is sent, and the error says where that is
 *   whole      by a simple reply, or with NBD_CMD_FLAG_DF: gathered before the reply begins, so that an error can still be told
 *
 *   onePiece   where there is no budget for all of it, since others do not read what they asked for: a piece at a time, the next
 *              when that has gone. Of a reply that is one the header goes out with the first; when a later piece fails, nothing
 *              is left but to drop the connection
 *
 * Budget is held for all of a read (or for the piece) already, and goes back with its chunks.
 */
import type { Budget, Chunk, ChunkPool } from './chunks.js';
import { PIECE_BYTES, SMALL_CHUNK_BYTES } from './limits.js';
import type { Operation, Operations, PieceGroup } from './operation.js';
import type { Output } from './output.js';
import { layRead } from './readReply.js';
import type { Replies } from './replies.js';
import { nbdError } from './validate.js';
import { ERRNO, type Volume, type Waiter } from '../volume/volume.js';
import { failure } from './words.js';
import { NBD_CMD_READ } from './wire.js';

/** A volume's blocks: the smallest that can be bad alone. */
export const BLOCK_BYTES = 4096;

export interface SlowReadsParts {
  readonly volume: Volume;
  readonly output: Output;
  readonly pool: ChunkPool;
  readonly budget: Budget;
}

export class SlowReads {
  #volume: Volume;
  #out: Output;
  #pool: ChunkPool;
  #budget: Budget;
  #operations: Operations;
  #replies: Replies;
  #waiter: Waiter;

  /** `waiter` gets the volume's answers, and hands them to `pieceCame`. */
  constructor(parts: SlowReadsParts, operations: Operations, replies: Replies, waiter: Waiter) {
    this.#volume = parts.volume;
    this.#out = parts.output;
    this.#pool = parts.pool;
    this.#budget = parts.budget;
    this.#operations = operations;
    this.#replies = replies;
    this.#waiter = waiter;
  }

  /** One Operation, which `answerWhole` answers when no piece is left and none failed. */
  whole(flags: number, cookieHigh: number, cookieLow: number, offset: number, length: number): void {
    const operations = this.#operations;
    const token = operations.take(NBD_CMD_READ, flags, cookieHigh, cookieLow, offset, length, length);
    const operation = operations.slots[token]!;
    operation.done = length;
    operation.piecesLeft = Math.ceil(length / PIECE_BYTES);
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const piece = Math.min(PIECE_BYTES, length - done);
      const room = done === 0 ? this.#replies.dataHeader_bytes : 0;
      const chunk = this.#pool.take(room + piece);
      operation.chunks.push(chunk);
      this.#volume.read(offset + done, piece, chunk, room, this.#waiter, token);
    }
  }

  /** Copied when it is small, so that a burst still goes out by one send. */
  answerWhole(operation: Operation): void {
    const { offset, length, chunks } = operation;
    const header = this.#replies.dataHeader_bytes;
    const first = chunks[0]!;
    this.#replies.dataHeader(first.view, 0, offset, length, true);
    if (chunks.length === 1) return this.#send(first, header + length, length);
    for (let i = 0; i < chunks.length; i++) {
      const piece = Math.min(PIECE_BYTES, length - i * PIECE_BYTES);
      this.#out.append(chunks[i]!, 0, (i === 0 ? header : 0) + piece, piece);
    }
  }

  /** An Operation for each piece. */
  inPieces(flags: number, cookieHigh: number, cookieLow: number, offset: number, length: number): void {
    const operations = this.#operations;
    const header = this.#replies.dataHeader_bytes;
    const left = Math.ceil(length / PIECE_BYTES);
    const group: PieceGroup | null = left > 1 ? { left } : null;
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const piece = Math.min(PIECE_BYTES, length - done);
      const from = offset + done;
      const token = operations.take(NBD_CMD_READ, flags, cookieHigh, cookieLow, from, piece, piece);
      const operation = operations.slots[token]!;
      operation.requestOffset = offset;
      operation.group = group;
      const chunk = this.#pool.take(header + piece);
      operation.chunks.push(chunk);
      this.#volume.read(from, piece, chunk, header, this.#waiter, token);
    }
  }

  /** The piece at `done` of a read; returns its length. `inChunks`: as above. */
  onePiece(
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    done: number,
    inChunks: boolean,
  ): number {
    const operations = this.#operations;
    const piece = Math.min(PIECE_BYTES, length - done);
    const from = offset + done;
    const token = operations.take(NBD_CMD_READ, flags, cookieHigh, cookieLow, from, piece, piece);
    const operation = operations.slots[token]!;
    operation.requestOffset = offset;
    if (!inChunks) operation.total = length;
    // One that is never the last.
    else if (done + piece < length) operation.group = { left: Infinity };
    const room = inChunks || done === 0 ? this.#replies.dataHeader_bytes : 0;
    const chunk = this.#pool.take(room + piece);
    operation.chunks.push(chunk);
    this.#volume.read(from, piece, chunk, room, this.#waiter, token);
    return piece;
  }

  /** The volume's answer to a piece, or to a block of one. True: it is answered. False: more of it is to be read. */
  pieceCame(operation: Operation, token: number, result: number): boolean {
    if (operation.total > 0) {
      this.#answerPart(operation, result);
      return true;
    }
    const { offset, length, inBlocks } = operation;
    if (result === 0) operation.done = inBlocks ? operation.done + nextBlock(operation) : length;
    else if (!inBlocks && result === -ERRNO.EIO && length > BLOCK_BYTES) operation.inBlocks = true;
    else operation.error = nbdError(result);
    if (operation.error === 0 && operation.done < length) {
      const { done } = operation;
      const at = this.#replies.dataHeader_bytes + done;
      this.#volume.read(offset + done, nextBlock(operation), operation.chunks[0]!, at, this.#waiter, token);
      return false;
    }
    this.#answerPiece(operation);
    return true;
  }

  #answerPart(operation: Operation, result: number): void {
    const { cookieHigh, cookieLow, requestOffset, offset, length, total } = operation;
    const chunk = operation.chunks[0]!;
    operation.chunks.length = 0;
    let room = 0;
    if (offset === requestOffset) {
      room = this.#replies.dataHeader_bytes;
      this.#replies.to(cookieHigh, cookieLow, offset).dataHeader(chunk.view, 0, offset, total, true);
    }
    if (result < 0) this.#out.broken = true;
    this.#send(chunk, result < 0 ? 0 : room + length, length);
  }

  #answerPiece(operation: Operation): void {
    const { cookieHigh, cookieLow, requestOffset, offset, length, done, error, group } = operation;
    const replies = this.#replies.to(cookieHigh, cookieLow, requestOffset);
    const last = group === null || --group.left === 0;
    const chunk = operation.chunks[0]!;
    operation.chunks.length = 0;
    const laid = done === 0 ? 0 : layRead(replies, chunk, 0, offset, done, last && error === 0);
    this.#send(chunk, laid, length);
    if (error === 0) return;
    const words = failure(NBD_CMD_READ, offset + done, length - done, error, this.#volume.state);
    replies.errorAt(error, words, offset + done, last);
  }

  /** The beginning of a chunk; with the chunk, budget goes back. */
  #send(chunk: Chunk, length: number, budget_bytes: number): void {
    if (length > SMALL_CHUNK_BYTES) return this.#out.append(chunk, 0, length, budget_bytes);
    if (length > 0) {
      const at = this.#out.reserve(length);
      this.#out.chunk!.bytes.set(chunk.bytes.subarray(0, length), at);
      this.#out.commit(length);
    }
    this.#pool.give(chunk);
    this.#budget.give(budget_bytes);
  }
}

/** How long the block is that comes next; the first and the last may be parts of blocks. */
function nextBlock({ offset, length, done }: Operation): number {
  return Math.min(length - done, BLOCK_BYTES - ((offset + done) % BLOCK_BYTES));
}
