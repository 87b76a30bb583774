/**
 * Replies of the transmission phase, laid into the output. Which form is taken:
 *
 *   extended headers agreed     everything is chunks with headers of 32 bytes
 *   structured replies agreed   chunks for reads, block status and every error (which has words then); simple replies for
 *                               the success of everything else, which is allowed and shorter
 *   neither                     simple replies
 *
 * `to` says whose request the following replies answer. A read's data are in the output before its header is (the volume put
 * them there), hence `dataHeader`.
 */
import { AT_EXPORT } from './counters.js';
import type { Output } from './output.js';
import {
  CHUNK_HEADER_BYTES,
  DATA_DETAIL_BYTES,
  ERROR_DETAIL_BYTES,
  EXTENDED_CHUNK_HEADER_BYTES,
  EXTENDED_STATUS_DESCRIPTOR_BYTES,
  EXTENDED_STATUS_DETAIL_BYTES,
  HOLE_DETAIL_BYTES,
  NBD_CMD_READ,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  SIMPLE_REPLY_BYTES,
  STATUS_DESCRIPTOR_BYTES,
  STATUS_DETAIL_BYTES,
  emitChunk,
  emitExtendedChunk,
  emitSimpleReply,
  putOffset,
  utf8,
} from './wire.js';

const TWO_32 = 0x1_0000_0000;

export class Replies {
  /** What comes before a read's data; and a whole hole. */
  readonly dataHeader_bytes: number;
  readonly hole_bytes: number;
  readonly inChunks: boolean;
  #header_bytes: number;
  #out: Output;
  #extended: boolean;
  #counters: Float64Array;
  #cookieHigh = 0;
  #cookieLow = 0;
  #offsetHigh = 0;
  #offsetLow = 0;

  constructor(out: Output, structuredReplies: boolean, extendedHeaders: boolean, counters: Float64Array) {
    this.#out = out;
    this.inChunks = structuredReplies || extendedHeaders;
    this.#extended = extendedHeaders;
    this.#counters = counters;
    this.#header_bytes = extendedHeaders ? EXTENDED_CHUNK_HEADER_BYTES : CHUNK_HEADER_BYTES;
    this.dataHeader_bytes = this.inChunks ? this.#header_bytes + DATA_DETAIL_BYTES : SIMPLE_REPLY_BYTES;
    this.hole_bytes = this.#header_bytes + HOLE_DETAIL_BYTES;
  }

  /** A cookie, and an offset below 2^53. */
  to(cookieHigh: number, cookieLow: number, offset: number): this {
    return this.toHalves(cookieHigh, cookieLow, Math.floor(offset / TWO_32), offset % TWO_32);
  }

  toHalves(cookieHigh: number, cookieLow: number, offsetHigh: number, offsetLow: number): this {
    this.#cookieHigh = cookieHigh;
    this.#cookieLow = cookieLow;
    this.#offsetHigh = offsetHigh;
    this.#offsetLow = offsetLow;
    return this;
  }

  /** Before data that are there: of a chunk of several, or of the one (then `last`). `offset` is theirs. */
  dataHeader(v: DataView, at: number, offset: number, length: number, last: boolean): void {
    if (!this.inChunks) {
      emitSimpleReply(v, at, 0, this.#cookieHigh, this.#cookieLow);
      return;
    }
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    at += this.#chunk(v, at, flags, NBD_REPLY_TYPE_OFFSET_DATA, DATA_DETAIL_BYTES + length);
    putOffset(v, at, offset);
  }

  /** Zeroes that are not sent; returns its length. Only where replies are chunks. */
  hole(v: DataView, at: number, offset: number, length: number, last: boolean): number {
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    at += this.#chunk(v, at, flags, NBD_REPLY_TYPE_OFFSET_HOLE, HOLE_DETAIL_BYTES);
    putOffset(v, at, offset);
    v.setUint32(at + 8, length);
    return this.hole_bytes;
  }

  /** Success without payload. A read of nothing is the one for which a simple reply would not do. */
  success(type: number): void {
    const out = this.#out;
    if (this.#extended || (type === NBD_CMD_READ && this.inChunks)) {
      const at = out.reserve(this.#header_bytes);
      out.commit(this.#chunk(out.chunk!.view, at, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0));
    } else {
      const at = out.reserve(SIMPLE_REPLY_BYTES);
      out.commit(emitSimpleReply(out.chunk!.view, at, 0, this.#cookieHigh, this.#cookieLow));
    }
  }

  /** `words` are asked for only where they can be sent; up to STRING_LIMIT_BYTES. */
  error(error: number, words: () => string): void {
    this.#counters[AT_EXPORT.errorReplies]!++;
    if (this.inChunks) return this.#errorChunk(NBD_REPLY_TYPE_ERROR, error, words(), -1, true);
    const out = this.#out;
    const at = out.reserve(SIMPLE_REPLY_BYTES);
    out.commit(emitSimpleReply(out.chunk!.view, at, error, this.#cookieHigh, this.#cookieLow));
  }

  /** An error at one place of a request, which other chunks may follow unless it is the last. Only where replies are chunks. */
  errorAt(error: number, words: string, offset: number, last: boolean): void {
    this.#counters[AT_EXPORT.errorReplies]!++;
    this.#errorChunk(NBD_REPLY_TYPE_ERROR_OFFSET, error, words, offset, last);
  }

  #errorChunk(type: number, error: number, words: string, offset: number, last: boolean): void {
    const out = this.#out;
    const text = utf8(words);
    const payload = ERROR_DETAIL_BYTES + text.length + (type === NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0);
    let at = out.reserve(this.#header_bytes + payload);
    const { view, bytes } = out.chunk!;
    at += this.#chunk(view, at, last ? NBD_REPLY_FLAG_DONE : 0, type, payload);
    view.setUint32(at, error);
    view.setUint16(at + 4, text.length);
    bytes.set(text, at + ERROR_DETAIL_BYTES);
    if (type === NBD_REPLY_TYPE_ERROR_OFFSET) putOffset(view, at + ERROR_DETAIL_BYTES + text.length, offset);
    out.commit(this.#header_bytes + payload);
  }

  /** The first `count` extents of one context; `last` ends the reply. */
  blockStatus(
    contextId: number,
    lengths_bytes: Float64Array,
    states: Uint8Array | Uint32Array,
    count: number,
    last: boolean,
  ): void {
    const out = this.#out;
    const extended = this.#extended;
    const detail = extended ? EXTENDED_STATUS_DETAIL_BYTES : STATUS_DETAIL_BYTES;
    const size = extended ? EXTENDED_STATUS_DESCRIPTOR_BYTES : STATUS_DESCRIPTOR_BYTES;
    const payload = detail + count * size;
    let at = out.reserve(this.#header_bytes + payload);
    const { view } = out.chunk!;
    const type = extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    at += this.#chunk(view, at, last ? NBD_REPLY_FLAG_DONE : 0, type, payload);
    view.setUint32(at, contextId);
    if (extended) view.setUint32(at + 4, count);
    at += detail;
    for (let i = 0; i < count; i++, at += size) {
      // EXTENT_HOLE and EXTENT_ZERO are numbered as NBD_STATE_HOLE and NBD_STATE_ZERO.
      if (extended) {
        putOffset(view, at, lengths_bytes[i]!);
        putOffset(view, at + 8, states[i]!);
      } else {
        view.setUint32(at, lengths_bytes[i]!);
        view.setUint32(at + 4, states[i]!);
      }
    }
    out.commit(this.#header_bytes + payload);
  }

  #chunk(v: DataView, at: number, flags: number, type: number, length: number): number {
    const high = this.#cookieHigh;
    const low = this.#cookieLow;
    if (!this.#extended) return emitChunk(v, at, flags, type, high, low, length);
    return emitExtendedChunk(v, at, flags, type, high, low, this.#offsetHigh, this.#offsetLow, length);
  }
}
