/**
 * Replies of the transmission phase, laid into the output. Which form is taken:
 *
 *   reads and block status, when structured replies were agreed: structured chunks, one per reply (of block status: per context)
 *   everything else, and everything when they were not: simple replies (allowed also after that agreement)
 *
 * A read's data are in the output before its header is (the volume put them there), hence `dataHeader`.
 */
import { AT_EXPORT } from './counters.js';
import type { Output } from './output.js';
import {
  CHUNK_HEADER_BYTES,
  DATA_CHUNK_HEADER_BYTES,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  SIMPLE_REPLY_BYTES,
  STATUS_CHUNK_HEADER_BYTES,
  STATUS_DESCRIPTOR_BYTES,
  emitChunk,
  emitSimpleReply,
  putOffset,
} from './wire.js';

/** Error and message length; there is no message. */
const ERROR_PAYLOAD_BYTES = 6;

export class Replies {
  /** What comes before a read's data. */
  readonly dataHeader_bytes: number;
  #out: Output;
  #structured: boolean;
  #counters: Float64Array;

  constructor(out: Output, structuredReplies: boolean, counters: Float64Array) {
    this.#out = out;
    this.#structured = structuredReplies;
    this.#counters = counters;
    this.dataHeader_bytes = structuredReplies ? DATA_CHUNK_HEADER_BYTES : SIMPLE_REPLY_BYTES;
  }

  dataHeader(
    v: DataView,
    at: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
  ): void {
    if (!this.#structured) {
      emitSimpleReply(v, at, 0, cookieHigh, cookieLow);
      return;
    }
    emitChunk(v, at, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, cookieHigh, cookieLow, length + 8);
    putOffset(v, at + CHUNK_HEADER_BYTES, offset);
  }

  /** Success without payload. A read of nothing is the one for which a simple reply would not do. */
  success(type: number, cookieHigh: number, cookieLow: number): void {
    const out = this.#out;
    if (type === NBD_CMD_READ && this.#structured) {
      const at = out.reserve(CHUNK_HEADER_BYTES);
      const view = out.chunk!.view;
      out.commit(emitChunk(view, at, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, cookieHigh, cookieLow, 0));
    } else {
      const at = out.reserve(SIMPLE_REPLY_BYTES);
      out.commit(emitSimpleReply(out.chunk!.view, at, 0, cookieHigh, cookieLow));
    }
  }

  error(type: number, error: number, cookieHigh: number, cookieLow: number): void {
    this.#counters[AT_EXPORT.errorReplies]!++;
    const out = this.#out;
    if (!this.#structured || (type !== NBD_CMD_READ && type !== NBD_CMD_BLOCK_STATUS)) {
      const at = out.reserve(SIMPLE_REPLY_BYTES);
      out.commit(emitSimpleReply(out.chunk!.view, at, error, cookieHigh, cookieLow));
      return;
    }
    const at = out.reserve(CHUNK_HEADER_BYTES + ERROR_PAYLOAD_BYTES);
    const view = out.chunk!.view;
    const payload = ERROR_PAYLOAD_BYTES;
    emitChunk(view, at, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, cookieHigh, cookieLow, payload);
    view.setUint32(at + CHUNK_HEADER_BYTES, error);
    view.setUint16(at + CHUNK_HEADER_BYTES + 4, 0);
    out.commit(CHUNK_HEADER_BYTES + payload);
  }

  /** The first `count` extents of one context; `last` ends the reply. */
  blockStatus(
    contextId: number,
    lengths_bytes: Float64Array,
    states: Uint8Array | Uint32Array,
    count: number,
    last: boolean,
    cookieHigh: number,
    cookieLow: number,
  ): void {
    const out = this.#out;
    const payload = STATUS_CHUNK_HEADER_BYTES - CHUNK_HEADER_BYTES + count * STATUS_DESCRIPTOR_BYTES;
    let at = out.reserve(CHUNK_HEADER_BYTES + payload);
    const view = out.chunk!.view;
    const type = NBD_REPLY_TYPE_BLOCK_STATUS;
    const flags = last ? NBD_REPLY_FLAG_DONE : 0;
    at += emitChunk(view, at, flags, type, cookieHigh, cookieLow, payload);
    view.setUint32(at, contextId);
    at += 4;
    for (let i = 0; i < count; i++, at += STATUS_DESCRIPTOR_BYTES) {
      view.setUint32(at, lengths_bytes[i]!);
      // EXTENT_HOLE and EXTENT_ZERO are numbered as NBD_STATE_HOLE and NBD_STATE_ZERO.
      view.setUint32(at + 4, states[i]!);
    }
    out.commit(CHUNK_HEADER_BYTES + payload);
  }
}
