/**
 * The transmission phase of one connection: requests out of the input, replies into the output.
 *
 *                  consume()                     tryRead, tryWrite: answered here and now
 *   input chunk ----------------> request --+--------------------------------------------> Output
 *                                           |   everything else, and what has to wait
 *                                           +--> Operation --volume--> completed() --------^
 *
 * Requests are taken one after the other from where they lie; nothing is copied and nothing allocated for one
 * that the volume answers at once. One that must wait gets an Operation (a slot that is used again) and, where it
 * has payload, memory of its own; others overtake it.
 *
 * A write longer than PIECE_BYTES is not gathered but applied as its payload comes, in pieces that end on blocks
 * of 4096, one at a time (longWrite.ts): a client that goes away in the middle of it leaves the beginning written, as
 * a machine that loses power does. A read longer than that is gathered in several chunks before its reply begins, so
 * that an error can still be told.
 *
 * Nothing is taken while `stalled`: the client does not read its replies, or has its limit in flight.
 */
import type { Budget, BudgetWaiter, Chunk, ChunkPool } from './chunks.js';
import { AT_EXPORT } from './counters.js';
import {
  EXTENTS_LIMIT,
  IN_FLIGHT_LIMIT_BYTES,
  IN_FLIGHT_REQUESTS_LIMIT,
  PIECE_BYTES,
  SEND_FILE_BYTES,
  SKIPPED_PAYLOAD_LIMIT_BYTES,
  SMALL_CHUNK_BYTES,
} from './limits.js';
import { LongWrite } from './longWrite.js';
import { BASE_ALLOCATION_ID, FIRST_CONTEXT_ID } from './negotiation.js';
import type { FileSource, Output } from './output.js';
import { Replies } from './replies.js';
import { nbdError, validate, type Agreed } from './validate.js';
import {
  ERRNO,
  newContextExtentList,
  newExtentList,
  type Volume,
  type Waiter,
  type ZeroHow,
} from '../volume/volume.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_REQUEST_MAGIC,
  REQUEST_BYTES,
  request,
} from './wire.js';

/** Below this a payload that has not come whole may be received together with whatever follows it. */
const EXACT_RECEIVE_BYTES = 32_768;

/** Shared by all connections: filled and used up within one request. */
const extents = newExtentList(EXTENTS_LIMIT);
const values = newContextExtentList(EXTENTS_LIMIT);

/** A request that waits for its volume. */
interface Operation {
  type: number;
  cookieHigh: number;
  cookieLow: number;
  offset: number;
  /** Held of the budget. */
  payload_bytes: number;
  /** Flush before the answer. */
  fua: boolean;
  chunks: Chunk[];
  piecesLeft: number;
  error: number;
}

const LONG_WRITE_TOKEN = -1;
const FILL_TOKEN = -2;

export interface TransmissionParts {
  readonly volume: Volume;
  readonly agreed: Agreed;
  readonly output: Output;
  readonly pool: ChunkPool;
  readonly budget: Budget;
  readonly counters: Float64Array;
  /** An answer was added or a stall may be over: `consume` and `flush` me before this turn of the loop ends. */
  readonly touch: () => void;
}

/** Why the client's stream of requests ended; each is a counter. */
export type TransmissionEnd = 'disconnects' | 'badRequestMagic' | 'oversizedRequests';

export class Transmission implements Waiter, BudgetWaiter, FileSource {
  ended: TransmissionEnd | null = null;
  /** How much more input the next step needs at least; what may be received beyond that. */
  wanted_bytes = REQUEST_BYTES;
  welcome_bytes = Infinity;
  inFlightCount = 0;
  #inFlight_bytes = 0;
  #volume: Volume;
  #agreed: Agreed;
  #out: Output;
  #pool: ChunkPool;
  #budget: Budget;
  #counters: Float64Array;
  #touch: () => void;
  #operations: Operation[] = [];
  #free: number[] = [];
  #longWrite: LongWrite | null = null;
  #replies: Replies;
  #waitsForBudget = false;

  constructor(parts: TransmissionParts) {
    this.#volume = parts.volume;
    this.#agreed = parts.agreed;
    this.#out = parts.output;
    this.#pool = parts.pool;
    this.#budget = parts.budget;
    this.#counters = parts.counters;
    this.#touch = parts.touch;
    this.#replies = new Replies(parts.output, parts.agreed.structuredReplies, parts.counters);
  }

  get stalled(): boolean {
    return (
      this.#out.blocked ||
      this.#waitsForBudget ||
      this.inFlightCount >= IN_FLIGHT_REQUESTS_LIMIT ||
      this.#inFlight_bytes >= IN_FLIGHT_LIMIT_BYTES ||
      this.holdsInput
    );
  }

  /** Takes whole requests from `chunk` between `at` and `end`; returns where the rest begins. */
  consume(chunk: Chunk, at: number, end: number): number {
    const view = chunk.view;
    while (this.ended === null && !this.stalled) {
      if (this.#longWrite !== null) {
        const taken = this.#continueLongWrite(this.#longWrite, chunk, at, end);
        at += taken;
        // What is left of the input is too short for a piece.
        if (taken === 0 && this.#longWrite !== null) break;
        continue;
      }
      const left = end - at;
      if (left < REQUEST_BYTES) {
        this.#want(REQUEST_BYTES - left, Infinity);
        break;
      }
      if (request.magic(view, at) !== NBD_REQUEST_MAGIC) {
        this.ended = 'badRequestMagic';
        break;
      }
      const type = request.type(view, at);
      const length = request.length(view, at);
      const whole = type === NBD_CMD_WRITE && length <= PIECE_BYTES ? REQUEST_BYTES + length : REQUEST_BYTES;
      if (left < whole) {
        // Long payloads are received alone, so that nothing behind them has to be moved; the next header may come along.
        const missing = whole - left;
        this.#want(missing, length < EXACT_RECEIVE_BYTES ? Infinity : missing + REQUEST_BYTES);
        break;
      }
      if (!this.#take(type, length, chunk, at)) break;
      at += whole;
    }
    return at;
  }

  /** The answer of the volume to an Operation, to a piece of a long write, or to what `fill` reads. */
  completed(token: number, result: number): void {
    if (token === LONG_WRITE_TOKEN) {
      this.#longWrite!.pieceDone(result);
      this.inFlightCount--;
      this.#touch();
      return;
    }
    if (token === FILL_TOKEN) {
      this.#out.filled(result);
      this.inFlightCount--;
      this.#touch();
      return;
    }
    const operation = this.#operations[token]!;
    if (result < 0 && operation.error === 0) operation.error = nbdError(result);
    if (--operation.piecesLeft > 0) return;
    if (operation.fua && operation.error === 0) {
      operation.fua = false;
      operation.piecesLeft = 1;
      this.#volume.flush(this, token);
      return;
    }
    this.#answer(operation);
    this.inFlightCount--;
    this.#inFlight_bytes -= operation.payload_bytes;
    this.#free.push(token);
    this.#touch();
  }

  sendableFrom(offset_bytes: number, length_bytes: number): number {
    return this.#volume.sendableFrom(offset_bytes, length_bytes);
  }

  fill(offset_bytes: number, length_bytes: number, chunk: Chunk): number {
    const result = this.#volume.tryRead(offset_bytes, length_bytes, chunk, 0);
    if (result !== -ERRNO.EAGAIN) return result;
    this.inFlightCount++;
    this.#volume.read(offset_bytes, length_bytes, chunk, 0, this, FILL_TOKEN);
    return result;
  }

  budgetReleased(): void {
    this.#waitsForBudget = false;
    this.#touch();
  }

  /** In the middle of a long write. */
  get streaming(): boolean {
    return this.#longWrite !== null;
  }

  /** Input that was consumed is still in use: the chunk must stay. */
  get holdsInput(): boolean {
    return this.#longWrite !== null && this.#longWrite.waiting;
  }

  /** The connection is gone; operations with the volume still end, and then give their memory back. */
  close(): void {
    this.#budget.forget(this);
  }

  #want(wanted_bytes: number, welcome_bytes: number): void {
    this.wanted_bytes = wanted_bytes;
    this.welcome_bytes = welcome_bytes;
  }

  /** False: it must be asked again later (no budget). */
  #take(type: number, length: number, chunk: Chunk, at: number): boolean {
    const view = chunk.view;
    const flags = request.flags(view, at);
    const cookieHigh = request.cookieHigh(view, at);
    const cookieLow = request.cookieLow(view, at);
    const offset = request.offset(view, at);
    if (type === NBD_CMD_DISC) {
      this.ended = 'disconnects';
      return true;
    }
    const error = validate(type, flags, offset, length, this.#volume.size_bytes, this.#agreed);
    if (type === NBD_CMD_WRITE && length > PIECE_BYTES) {
      if (length > SKIPPED_PAYLOAD_LIMIT_BYTES) {
        this.ended = 'oversizedRequests';
        return true;
      }
      const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
      this.#longWrite = new LongWrite(cookieHigh, cookieLow, offset, length, fua, error);
      return true;
    }
    if (error !== 0) {
      this.#replies.error(type, error, cookieHigh, cookieLow);
      return true;
    }
    switch (type) {
      case NBD_CMD_READ:
        return this.#read(cookieHigh, cookieLow, offset, length);
      case NBD_CMD_WRITE:
        return this.#write(flags, cookieHigh, cookieLow, offset, length, chunk, at + REQUEST_BYTES);
      case NBD_CMD_BLOCK_STATUS:
        this.#blockStatus(flags, cookieHigh, cookieLow, offset, length);
        return true;
      default:
        this.#later(type, flags, cookieHigh, cookieLow, offset, length);
        return true;
    }
  }

  #read(cookieHigh: number, cookieLow: number, offset: number, length: number): boolean {
    const header = this.#replies.dataHeader_bytes;
    if (length === 0) {
      this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, 0);
      this.#replies.success(NBD_CMD_READ, cookieHigh, cookieLow);
      return true;
    }
    const out = this.#out;
    if (length >= SEND_FILE_BYTES && out.canSendFiles) {
      const fileFd = this.#volume.sendableFrom(offset, length);
      if (fileFd >= 0) {
        const at = out.reserve(header);
        this.#replies.dataHeader(out.chunk!.view, at, cookieHigh, cookieLow, offset, length);
        out.commit(header);
        out.appendFile(this, fileFd, offset, length);
        this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, length);
        this.#counters[AT_EXPORT.sentReads]!++;
        return true;
      }
    }
    if (length <= PIECE_BYTES) {
      const at = out.reserve(header + length);
      const chunk = out.chunk!;
      const result = this.#volume.tryRead(offset, length, chunk, at + header);
      if (result === 0) {
        this.#replies.dataHeader(chunk.view, at, cookieHigh, cookieLow, offset, length);
        out.commit(header + length);
        this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, length);
        return true;
      }
      if (result !== -ERRNO.EAGAIN) {
        this.#replies.error(NBD_CMD_READ, nbdError(result), cookieHigh, cookieLow);
        return true;
      }
    }
    if (!this.#mayWait(length)) return false;
    this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, length);
    this.#counters[AT_EXPORT.slowReads]!++;
    const token = this.#begin(NBD_CMD_READ, cookieHigh, cookieLow, offset, length, false);
    const operation = this.#operations[token]!;
    operation.piecesLeft = Math.ceil(length / PIECE_BYTES);
    for (let done = 0; done < length; done += PIECE_BYTES) {
      const piece = Math.min(PIECE_BYTES, length - done);
      const room = done === 0 ? header : 0;
      const chunk = this.#pool.take(room + piece);
      operation.chunks.push(chunk);
      this.#volume.read(offset + done, piece, chunk, room, this, token);
    }
    return true;
  }

  #write(
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    chunk: Chunk,
    at: number,
  ): boolean {
    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    const result = length === 0 ? 0 : this.#volume.tryWrite(offset, length, chunk, at);
    if (result === -ERRNO.EAGAIN) {
      if (!this.#mayWait(length)) return false;
      this.#counters[AT_EXPORT.slowWrites]!++;
      const token = this.#begin(NBD_CMD_WRITE, cookieHigh, cookieLow, offset, length, fua);
      const operation = this.#operations[token]!;
      const own = this.#pool.take(length);
      own.bytes.set(chunk.bytes.subarray(at, at + length));
      operation.chunks.push(own);
      this.#volume.write(offset, length, own, 0, this, token);
    } else if (result < 0) {
      this.#replies.error(NBD_CMD_WRITE, nbdError(result), cookieHigh, cookieLow);
      return true;
    } else this.#written(NBD_CMD_WRITE, fua, cookieHigh, cookieLow);
    this.#count(AT_EXPORT.writes, AT_EXPORT.writtenBytes, length);
    if (fua) this.#counters[AT_EXPORT.fuaWrites]!++;
    return true;
  }

  /** The bytes are in the volume: answer, after a flush where that was asked for. */
  #written(type: number, fua: boolean, cookieHigh: number, cookieLow: number): void {
    if (!fua) return this.#replies.success(type, cookieHigh, cookieLow);
    this.#volume.flush(this, this.#begin(type, cookieHigh, cookieLow, 0, 0, false));
  }

  /** Returns how much of the input was used up. */
  #continueLongWrite(long: LongWrite, chunk: Chunk, at: number, end: number): number {
    const taken = long.take(this.#volume, chunk, at, end, this, LONG_WRITE_TOKEN);
    this.#want(1, long.left_bytes + REQUEST_BYTES);
    if (long.error === 0) this.#counters[AT_EXPORT.writtenBytes]! += taken;
    if (long.waiting) {
      this.#counters[AT_EXPORT.slowWrites]!++;
      this.inFlightCount++;
    }
    if (long.over) this.#endLongWrite(long);
    return taken;
  }

  #endLongWrite(long: LongWrite): void {
    this.#longWrite = null;
    const { cookieHigh, cookieLow, error, fua } = long;
    if (error !== 0) return this.#replies.error(NBD_CMD_WRITE, error, cookieHigh, cookieLow);
    this.#counters[AT_EXPORT.writes]!++;
    if (fua) this.#counters[AT_EXPORT.fuaWrites]!++;
    this.#written(NBD_CMD_WRITE, fua, cookieHigh, cookieLow);
  }

  #later(
    type: number,
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
  ): void {
    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    this.#counters[COUNTER_OF[type]!]!++;
    if (length === 0 && type !== NBD_CMD_FLUSH) return this.#replies.success(type, cookieHigh, cookieLow);
    const writes = type === NBD_CMD_TRIM || type === NBD_CMD_WRITE_ZEROES;
    const token = this.#begin(type, cookieHigh, cookieLow, offset, 0, fua && writes);
    switch (type) {
      case NBD_CMD_FLUSH:
        return this.#volume.flush(this, token);
      case NBD_CMD_TRIM:
        return this.#volume.trim(offset, length, this, token);
      case NBD_CMD_CACHE:
        return this.#volume.cache(offset, length, this, token);
      default:
        return this.#volume.zero(offset, length, ZERO_HOW[zeroHow(flags)]!, this, token);
    }
  }

  #blockStatus(flags: number, cookieHigh: number, cookieLow: number, offset: number, length: number): void {
    this.#counters[AT_EXPORT.blockStatuses]!++;
    const one = (flags & NBD_CMD_FLAG_REQ_ONE) !== 0;
    const { baseAllocation, contexts = [] } = this.#agreed;
    // "exactly one chunk of this type for each context"; an error ends the answer, whatever came before it.
    let left = contexts.length;
    if (baseAllocation) {
      const result = this.#volume.extents(offset, length, extents);
      if (result < 0)
        return this.#replies.error(NBD_CMD_BLOCK_STATUS, nbdError(result), cookieHigh, cookieLow);
      const { count, lengths_bytes, flags: states } = extents;
      const id = BASE_ALLOCATION_ID;
      this.#replies.blockStatus(
        id,
        lengths_bytes,
        states,
        one ? 1 : count,
        left === 0,
        cookieHigh,
        cookieLow,
      );
    }
    for (const context of contexts) {
      const result = this.#volume.meta?.contextExtents(context, offset, length, values) ?? -ERRNO.EIO;
      if (result < 0)
        return this.#replies.error(NBD_CMD_BLOCK_STATUS, nbdError(result), cookieHigh, cookieLow);
      const { count, lengths_bytes, values: states } = values;
      const id = FIRST_CONTEXT_ID + context;
      left--;
      this.#replies.blockStatus(
        id,
        lengths_bytes,
        states,
        one ? 1 : count,
        left === 0,
        cookieHigh,
        cookieLow,
      );
    }
  }

  /** Whether a request may hold so many bytes while it waits. */
  #mayWait(length: number): boolean {
    if (this.inFlightCount === 0 && length <= PIECE_BYTES) {
      this.#budget.force(length);
      return true;
    }
    if (this.#budget.take(length, this)) return true;
    this.#waitsForBudget = true;
    return false;
  }

  /** An Operation of one piece; its index is the token. */
  #begin(
    type: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    payload_bytes: number,
    fua: boolean,
  ): number {
    let token = this.#free.pop();
    if (token === undefined) {
      token = this.#operations.length;
      this.#operations.push(newOperation());
    }
    const operation = this.#operations[token]!;
    operation.type = type;
    operation.cookieHigh = cookieHigh;
    operation.cookieLow = cookieLow;
    operation.offset = offset;
    operation.payload_bytes = payload_bytes;
    operation.fua = fua;
    operation.piecesLeft = 1;
    operation.error = 0;
    this.inFlightCount++;
    this.#inFlight_bytes += payload_bytes;
    return token;
  }

  #answer(operation: Operation): void {
    const { type, cookieHigh, cookieLow, chunks, payload_bytes } = operation;
    if (type === NBD_CMD_READ && operation.error === 0) {
      this.#answerRead(operation);
    } else {
      for (const chunk of chunks) this.#pool.give(chunk);
      this.#budget.give(payload_bytes);
      if (operation.error !== 0) this.#replies.error(type, operation.error, cookieHigh, cookieLow);
      else this.#replies.success(type, cookieHigh, cookieLow);
    }
    chunks.length = 0;
  }

  /** The reply to a read that waited: copied when it is small, so that a burst still goes out by one send. */
  #answerRead(operation: Operation): void {
    const { cookieHigh, cookieLow, offset, payload_bytes: length, chunks } = operation;
    const header = this.#replies.dataHeader_bytes;
    const first = chunks[0]!;
    this.#replies.dataHeader(first.view, 0, cookieHigh, cookieLow, offset, length);
    if (first.length_bytes <= SMALL_CHUNK_BYTES) {
      const out = this.#out;
      const at = out.reserve(header + length);
      out.chunk!.bytes.set(first.bytes.subarray(0, header + length), at);
      out.commit(header + length);
      this.#pool.give(first);
      this.#budget.give(length);
      return;
    }
    for (let i = 0; i < chunks.length; i++) {
      const piece = Math.min(PIECE_BYTES, length - i * PIECE_BYTES);
      this.#out.append(chunks[i]!, 0, (i === 0 ? header : 0) + piece, piece);
    }
  }

  #count(operations: number, bytes: number, length: number): void {
    this.#counters[operations]!++;
    this.#counters[bytes]! += length;
  }
}

const COUNTER_OF: Readonly<Record<number, number>> = {
  [NBD_CMD_FLUSH]: AT_EXPORT.flushes,
  [NBD_CMD_TRIM]: AT_EXPORT.trims,
  [NBD_CMD_CACHE]: AT_EXPORT.caches,
  [NBD_CMD_WRITE_ZEROES]: AT_EXPORT.zeroes,
};

/** By zeroHow(flags). */
const ZERO_HOW: readonly ZeroHow[] = [
  { mayUnmap: true, fastOnly: false },
  { mayUnmap: false, fastOnly: false },
  { mayUnmap: true, fastOnly: true },
  { mayUnmap: false, fastOnly: true },
];

function zeroHow(flags: number): number {
  return ((flags & NBD_CMD_FLAG_NO_HOLE) !== 0 ? 1 : 0) + ((flags & NBD_CMD_FLAG_FAST_ZERO) !== 0 ? 2 : 0);
}

function newOperation(): Operation {
  return {
    type: 0,
    cookieHigh: 0,
    cookieLow: 0,
    offset: 0,
    payload_bytes: 0,
    fua: false,
    chunks: [],
    piecesLeft: 0,
    error: 0,
  };
}
