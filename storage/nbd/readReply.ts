/**
 * The bytes of a read as chunks of its reply: zeroes are told by NBD_REPLY_TYPE_OFFSET_HOLE and not sent, where that pays.
 * That they "read as all zeroes" is all that such a chunk says, so it does not matter whether nothing or zeroes were written there.
 *
 *   before   |..header..|data data data 0000000000000000000000 data data|
 *   after    |header data data data|hole|header data data|
 *
 * What lies behind a hole moves down; a hole is longer than the headers that come instead, so nothing runs into what has not
 * moved yet.
 */
import type { Chunk } from './chunks.js';
import type { Replies } from './replies.js';

/** Zeroes are looked for in reads from here on, in steps of this length. */
const ZERO_RUN_BYTES = 32_768;
/** No step is shorter: it has to be worth its headers. */
const SHORTEST_BYTES = 4096;

const ZEROES = Buffer.alloc(ZERO_RUN_BYTES);

/**
 * `length` bytes from `offset` of the export lie in `chunk` at `at + replies.dataHeader_bytes`. Lays the reply from `at` on and
 * returns how long it is, at most dataHeader_bytes + length.
 */
export function layRead(
  replies: Replies,
  chunk: Chunk,
  at: number,
  offset: number,
  length: number,
  last: boolean,
): number {
  const { bytes, view } = chunk;
  const header = replies.dataHeader_bytes;
  const from = at + header;
  let end = length < ZERO_RUN_BYTES ? length : stepEnd(offset, 0, length);
  let isZero = length >= ZERO_RUN_BYTES && readsZero(bytes, from, from + end);
  if (end === length && !isZero) {
    replies.dataHeader(view, at, offset, length, last);
    return header + length;
  }
  let to = at;
  let start = 0;
  for (;;) {
    const next = end === length ? length : stepEnd(offset, end, length);
    const nextIsZero = end < length && readsZero(bytes, from + end, from + next);
    if (end === length || nextIsZero !== isZero) {
      const isLast = last && end === length;
      if (isZero) to += replies.hole(view, to, offset + start, end - start, isLast);
      else {
        if (to + header < from + start) bytes.copyWithin(to + header, from + start, from + end);
        replies.dataHeader(view, to, offset + start, end - start, isLast);
        to += header + end - start;
      }
      if (end === length) return to - at;
      start = end;
      isZero = nextIsZero;
    }
    end = next;
  }
}

/** Steps end at multiples of ZERO_RUN_BYTES of the export, and where the read does. */
function stepEnd(offset: number, from: number, length: number): number {
  let end = from + ZERO_RUN_BYTES - ((offset + from) % ZERO_RUN_BYTES);
  if (end - from < SHORTEST_BYTES) end += ZERO_RUN_BYTES;
  return length - end < SHORTEST_BYTES ? length : end;
}

/** Data mostly say so by their first byte. */
function readsZero(bytes: Uint8Array, from: number, to: number): boolean {
  if (bytes[from] !== 0 || bytes[to - 1] !== 0) return false;
  for (let at = from; at < to; at += ZEROES.length) {
    const part = Math.min(ZEROES.length, to - at);
    if (ZEROES.compare(bytes, at, at + part, 0, part) !== 0) return false;
  }
  return true;
}
