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
 * has payload, memory of its own; others overtake it. That memory is the input chunk itself (`tookInput`), unless what
 * lies behind the payload there is longer: then the payload is copied.
 *
 * Writes: writes.ts. Reads that wait: slowReads.ts. Block status: blockStatus.ts.
 *
 * One clause is not kept to: a chunk that is sent from a file carries NBD_REPLY_FLAG_DONE, though an error may still come up
 * while it is sent ("MUST NOT do so for a content chunk if it would still be possible to detect an error while transmitting the
 * chunk"). The file is sent from only when its pages are in memory, another chunk would cost each long read a system call,
 * and when it does fail, the connection is dropped in the middle of the chunk: no wrong byte is ever taken for a good one.
 *
 * Nothing is taken while `stalled`: the client does not read its replies, or has its limit in flight.
 */
import { BlockStatus } from './blockStatus.js';
import type { Budget, BudgetWaiter, Chunk, ChunkPool } from './chunks.js';
import { AT_EXPORT } from './counters.js';
import {
  IN_FLIGHT_LIMIT_BYTES,
  IN_FLIGHT_REQUESTS_LIMIT,
  MAXIMUM_PAYLOAD_BYTES,
  PIECE_BYTES,
  SEND_FILE_BYTES,
  SKIPPED_PAYLOAD_LIMIT_BYTES,
  SLICE_BYTES,
} from './limits.js';
import { Operations, howToZero, type Operation } from './operation.js';
import type { FileSource, Output } from './output.js';
import { layRead } from './readReply.js';
import { Replies } from './replies.js';
import { BLOCK_BYTES, SlowReads } from './slowReads.js';
import { EXACT_RECEIVE_BYTES, Writes, type WritesOwner } from './writes.js';
import { BAD_CONTEXT_LIST, SHUTTING_DOWN, nbdError, validate, type Agreed } from './validate.js';
import { failure } from './words.js';
import { ERRNO, newFileRuns, type Volume } from '../volume/volume.js';
import {
  EXTENDED_REQUEST_BYTES,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  REQUEST_BYTES,
  request,
} from './wire.js';

const FILL_TOKEN = -2;

/** Filled and used up within one request. */
const fileRuns = newFileRuns(PIECE_BYTES / 32_768);

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

export class Transmission implements BudgetWaiter, FileSource, WritesOwner {
  ended: TransmissionEnd | null = null;
  readonly header_bytes: number;
  /** The export or the server ends: what is asked from now on is refused. */
  shuttingDown = false;
  /** How much more input the next step needs at least; what may be received beyond that. */
  wanted_bytes: number;
  welcome_bytes = Infinity;
  /** The chunk that `consume` was given belongs to a request now; what it did not take of it is to be copied. */
  tookInput = false;
  #volume: Volume;
  #agreed: Agreed;
  #extended: boolean;
  #out: Output;
  #pool: ChunkPool;
  #budget: Budget;
  #counters: Float64Array;
  #touch: () => void;
  #operations = new Operations();
  #replies: Replies;
  #status: BlockStatus;
  #slowReads: SlowReads;
  #writes: Writes;
  #waitsForBudget = false;
  /** Of the long read at the beginning of the input, which goes piece by piece: how much was asked of the volume. */
  #trickled_bytes = 0;

  constructor(parts: TransmissionParts) {
    this.#volume = parts.volume;
    this.#agreed = parts.agreed;
    this.#out = parts.output;
    this.#pool = parts.pool;
    this.#budget = parts.budget;
    this.#counters = parts.counters;
    this.#touch = parts.touch;
    const { structuredReplies, extendedHeaders = false } = parts.agreed;
    this.#extended = extendedHeaders;
    this.header_bytes = extendedHeaders ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
    this.wanted_bytes = this.header_bytes;
    this.#replies = new Replies(parts.output, structuredReplies, extendedHeaders, parts.counters);
    this.#status = new BlockStatus(
      parts.volume,
      parts.agreed,
      this.#operations,
      this.#replies,
      parts.counters,
    );
    this.#slowReads = new SlowReads(parts, this.#operations, this.#replies, this);
    this.#writes = new Writes(parts, this.#operations, this.#replies, this);
  }

  get inFlightCount(): number {
    return this.#operations.inFlightCount;
  }

  get stalled(): boolean {
    return (
      this.#out.blocked ||
      this.#waitsForBudget ||
      (this.#trickled_bytes > 0 && this.#operations.inFlightCount > 0) ||
      this.#operations.inFlightCount >= IN_FLIGHT_REQUESTS_LIMIT ||
      this.#operations.inFlight_bytes >= IN_FLIGHT_LIMIT_BYTES
    );
  }

  /** Takes whole requests from `chunk` between `at` and `end`; returns where the rest begins. */
  consume(chunk: Chunk, at: number, end: number): number {
    const view = chunk.view;
    const header = this.header_bytes;
    const magic = this.#extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
    while (this.ended === null && !this.stalled && !this.tookInput) {
      if (this.#writes.isWithin) {
        const taken = this.#writes.proceed(chunk, at, end);
        at += taken;
        // What is left of the input is too short for a piece.
        if (taken === 0 && this.#writes.isWithin) break;
        continue;
      }
      const left = end - at;
      // Another magic is told from as few bytes as tell it.
      if (left >= 4 && request.magic(view, at) !== magic) {
        this.ended = 'badRequestMagic';
        break;
      }
      if (left < header) {
        this.want(header - left, Infinity);
        break;
      }
      const type = request.type(view, at);
      const length = this.#extended ? request.length64(view, at) : request.length(view, at);
      const payload = this.#hasPayload(type, request.flags(view, at)) ? length : 0;
      const whole = payload <= PIECE_BYTES ? header + payload : header;
      if (left < whole) {
        // Long payloads are received alone, so that nothing behind them has to be moved; the next header may come along.
        const missing = whole - left;
        this.want(missing, payload < EXACT_RECEIVE_BYTES ? Infinity : missing + header);
        break;
      }
      if (!this.#take(type, length, payload, chunk, at, end)) break;
      at += whole;
    }
    return at;
  }

  /** Whether the length of a request is that of bytes behind it, and not of a range of the export. */
  #hasPayload(type: number, flags: number): boolean {
    return this.#extended ? (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0 : type === NBD_CMD_WRITE;
  }

  /** The answer of the volume to an Operation, or to what `fill` reads. */
  completed(token: number, result: number): void {
    if (token === FILL_TOKEN) {
      this.#out.filled(result);
      this.#operations.inFlightCount--;
      this.#touch();
      return;
    }
    const operation = this.#operations.slots[token]!;
    if (operation.long !== null) this.#writes.pieceWritten(operation, operation.long, result);
    else if (operation.type === NBD_CMD_READ && (operation.total > 0 || this.#inChunks(operation.flags))) {
      if (!this.#slowReads.pieceCame(operation, token, result)) return;
    } else {
      if (result < 0 && operation.error === 0)
        operation.error = nbdError(result, (operation.flags & NBD_CMD_FLAG_FAST_ZERO) !== 0);
      if (--operation.piecesLeft > 0) return;
      if (operation.error === 0) {
        if (operation.done < operation.length) return this.#slice(operation, token);
        if (operation.fua) {
          operation.fua = false;
          operation.piecesLeft = 1;
          this.#volume.flush(this, token);
          return;
        }
      }
      this.#answer(operation);
    }
    this.#operations.give(token);
    // With nothing in flight it may go on without the common budget.
    if (this.#waitsForBudget && this.#operations.inFlightCount === 0) this.#leaveLine();
    this.#touch();
  }

  sendableFrom(offset_bytes: number, length_bytes: number): number {
    return this.#volume.sendableFrom(offset_bytes, length_bytes);
  }

  fill(offset_bytes: number, length_bytes: number, chunk: Chunk): number {
    const result = this.#volume.tryRead(offset_bytes, length_bytes, chunk, 0);
    if (result !== -ERRNO.EAGAIN) return result;
    this.#operations.inFlightCount++;
    this.#volume.read(offset_bytes, length_bytes, chunk, 0, this, FILL_TOKEN);
    return result;
  }

  budgetReleased(): void {
    this.#waitsForBudget = false;
    // Whoever could not use it now must not be in the way of others.
    if (this.stalled) this.#budget.forget(this);
    this.#touch();
  }

  #leaveLine(): void {
    this.#waitsForBudget = false;
    this.#budget.forget(this);
  }

  /** The connection is gone; operations with the volume still end, and then give their memory back. */
  close(): void {
    this.#budget.forget(this);
  }

  want(wanted_bytes: number, welcome_bytes: number): void {
    this.wanted_bytes = wanted_bytes;
    this.welcome_bytes = welcome_bytes;
  }

  /** Whether the reply to a read may be several chunks. */
  #inChunks(flags: number): boolean {
    return this.#replies.inChunks && (flags & NBD_CMD_FLAG_DF) === 0;
  }

  /** False: it must be asked again later (no budget). A payload of up to PIECE_BYTES is behind the header. */
  #take(type: number, length: number, payload: number, chunk: Chunk, at: number, end: number): boolean {
    const view = chunk.view;
    const flags = request.flags(view, at);
    const cookieHigh = request.cookieHigh(view, at);
    const cookieLow = request.cookieLow(view, at);
    const offset = request.offset(view, at);
    if (type === NBD_CMD_DISC) {
      this.ended = 'disconnects';
      return true;
    }
    const behind = at + this.header_bytes;
    // Of block status the payload says what is to be looked at, and by what.
    const names = payload > 0 && type === NBD_CMD_BLOCK_STATUS && payload <= PIECE_BYTES;
    if (names) length = BlockStatus.effectLength(view, behind, payload);
    const { size_bytes } = this.#volume;
    // A reply that has begun goes on.
    let refusal =
      this.shuttingDown && this.#trickled_bytes === 0
        ? SHUTTING_DOWN
        : validate(type, flags, offset, length, size_bytes, this.#agreed);
    if (payload > PIECE_BYTES) {
      // "A server SHOULD initiate hard disconnect" beyond the maximum, with extended headers.
      if (payload > (this.#extended ? MAXIMUM_PAYLOAD_BYTES : SKIPPED_PAYLOAD_LIMIT_BYTES)) {
        this.ended = 'oversizedRequests';
        return true;
      }
      if (type !== NBD_CMD_WRITE) refusal ??= BAD_CONTEXT_LIST;
    }
    this.#replies.toHalves(cookieHigh, cookieLow, view.getInt32(at + 16), view.getInt32(at + 20));
    const contexts = names ? this.#status.named(view, behind, payload) : this.#status.all;
    if (names && contexts === 0) refusal ??= BAD_CONTEXT_LIST;
    if (refusal !== null) {
      const { error, words } = refusal;
      this.#replies.error(error, () => words(type, offset, length, size_bytes, this.#agreed));
      if (payload > PIECE_BYTES) this.#writes.skip(payload, error);
      return true;
    }
    switch (type) {
      case NBD_CMD_READ:
        return this.#read(flags, cookieHigh, cookieLow, offset, length);
      case NBD_CMD_WRITE: {
        if (payload <= PIECE_BYTES)
          return this.#writes.whole(flags, cookieHigh, cookieLow, offset, length, chunk, behind, end);
        this.#writes.begin(flags, cookieHigh, cookieLow, offset, length);
        return true;
      }
      case NBD_CMD_BLOCK_STATUS:
        if (!this.#status.waits(flags, cookieHigh, cookieLow, offset, length, contexts, this))
          this.#status.answer(flags, offset, length, contexts);
        return true;
      default:
        this.#later(type, flags, cookieHigh, cookieLow, offset, length);
        return true;
    }
  }

  #read(flags: number, cookieHigh: number, cookieLow: number, offset: number, length: number): boolean {
    const replies = this.#replies;
    const header = replies.dataHeader_bytes;
    if (length === 0) {
      this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, 0);
      replies.success(NBD_CMD_READ);
      return true;
    }
    const inChunks = this.#inChunks(flags);
    if (this.#trickled_bytes > 0)
      return this.#trickle(flags, cookieHigh, cookieLow, offset, length, inChunks);
    const out = this.#out;
    if (length >= SEND_FILE_BYTES && out.canSendFiles) {
      const fileFd = this.#volume.sendableFrom(offset, length);
      if (fileFd >= 0) {
        const at = out.reserve(header);
        replies.dataHeader(out.chunk!.view, at, offset, length, true);
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
      const result = this.#tryRead(offset, length, chunk, at + header);
      if (result === 0) {
        if (fileRuns.count > 0) {
          replies.dataHeader(chunk.view, at, offset, length, true);
          out.commitRuns(this, header + length, at + header, offset, fileRuns);
          this.#counters[AT_EXPORT.sentReads]!++;
        } else if (inChunks) out.commit(layRead(replies, chunk, at, offset, length, true));
        else {
          replies.dataHeader(chunk.view, at, offset, length, true);
          out.commit(header + length);
        }
        this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, length);
        return true;
      }
      // Where a part of it may be good that is looked for, which takes a while.
      if (result !== -ERRNO.EAGAIN && !(inChunks && result === -ERRNO.EIO && length > BLOCK_BYTES)) {
        this.failed(NBD_CMD_READ, offset, length, nbdError(result), inChunks ? offset : -1);
        return true;
      }
    }
    if (!this.mayWait(length)) {
      if (length <= PIECE_BYTES || this.#operations.inFlightCount > 0) return false;
      this.#leaveLine();
      return this.#trickle(flags, cookieHigh, cookieLow, offset, length, inChunks);
    }
    this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, length);
    this.#counters[AT_EXPORT.slowReads]!++;
    if (inChunks) this.#slowReads.inPieces(flags, cookieHigh, cookieLow, offset, length);
    else this.#slowReads.whole(flags, cookieHigh, cookieLow, offset, length);
    return true;
  }

  /** As of the volume; `fileRuns` has what is to be sent from files. */
  #tryRead(offset: number, length: number, chunk: Chunk, at: number): number {
    const volume = this.#volume;
    fileRuns.count = 0;
    if (length < SEND_FILE_BYTES || !this.#out.canSendFiles || volume.tryReadRuns === undefined)
      return volume.tryRead(offset, length, chunk, at);
    return volume.tryReadRuns(offset, length, chunk, at, fileRuns);
  }

  /** The next piece of a read for which there is no budget. True with the last: the request is taken then. */
  #trickle(
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    inChunks: boolean,
  ): boolean {
    if (this.#operations.inFlightCount > 0) return false;
    // What came before has to be gone, so that a client that does not read holds no more than this.
    if (!this.#out.empty) this.#out.flush();
    if (!this.#out.empty) return false;
    const done = this.#trickled_bytes;
    this.#budget.force(Math.min(PIECE_BYTES, length - done));
    const piece = this.#slowReads.onePiece(flags, cookieHigh, cookieLow, offset, length, done, inChunks);
    this.#trickled_bytes = done + piece;
    if (done + piece < length) return false;
    this.#trickled_bytes = 0;
    this.#count(AT_EXPORT.reads, AT_EXPORT.readBytes, length);
    this.#counters[AT_EXPORT.slowReads]!++;
    return true;
  }

  #later(
    type: number,
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
  ): void {
    this.#counters[COUNTER_OF[type]!]!++;
    if (length === 0 && type !== NBD_CMD_FLUSH) return this.#replies.success(type);
    const token = this.#operations.take(type, flags, cookieHigh, cookieLow, offset, length, 0);
    const operation = this.#operations.slots[token]!;
    operation.fua = (flags & NBD_CMD_FLAG_FUA) !== 0 && type !== NBD_CMD_FLUSH && type !== NBD_CMD_CACHE;
    if (type === NBD_CMD_FLUSH) return this.#volume.flush(this, token);
    this.#slice(operation, token);
  }

  /** The next part of what has no payload and may be of any length: each takes a turn, so that others have theirs. */
  #slice(operation: Operation, token: number): void {
    const { type, flags } = operation;
    const at = operation.offset + operation.done;
    const length = Math.min(operation.length - operation.done, SLICE_BYTES);
    operation.done += length;
    operation.piecesLeft = 1;
    if (type === NBD_CMD_TRIM) return this.#volume.trim(at, length, this, token);
    if (type === NBD_CMD_WRITE_ZEROES) return this.#volume.zero(at, length, howToZero(flags), this, token);
    // A hint: what comes later would only drive out what came first.
    operation.done = operation.length;
    this.#volume.cache(at, length, this, token);
  }

  /** Whether a request may hold so many bytes while it waits. */
  mayWait(length: number): boolean {
    if (this.inFlightCount === 0 && length <= PIECE_BYTES) {
      this.#budget.force(length);
      return true;
    }
    if (this.#budget.take(length, this)) return true;
    this.#waitsForBudget = true;
    return false;
  }

  #answer(operation: Operation): void {
    const { type, cookieHigh, cookieLow, offset, length, chunks, error } = operation;
    this.#replies.to(cookieHigh, cookieLow, operation.requestOffset);
    if (type === NBD_CMD_READ && error === 0) {
      this.#slowReads.answerWhole(operation);
    } else {
      for (const chunk of chunks) this.#pool.give(chunk);
      this.#budget.give(operation.payload_bytes);
      if (error !== 0) this.failed(type, offset, length, error);
      else if (type === NBD_CMD_BLOCK_STATUS)
        this.#status.answer(operation.flags, offset, length, operation.total);
      else this.#replies.success(type);
    }
    chunks.length = 0;
  }

  /** What passed the gate was not done. `at`: where, if that is known more exactly than where the request begins. */
  failed(type: number, offset: number, length: number, error: number, at = -1): void {
    const { state } = this.#volume;
    if (at >= 0 && this.#replies.inChunks)
      this.#replies.errorAt(error, failure(type, at, offset + length - at, error, state), at, true);
    else this.#replies.error(error, () => failure(type, offset, length, error, state));
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
