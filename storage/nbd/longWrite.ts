/**
 * A write longer than PIECE_BYTES, whose payload is applied while it comes; or any request with a payload of that length that
 * is refused and whose payload is read past (`error` from the beginning).
 *
 * Pieces end on blocks of 4096 of the volume, so that no block is written in two parts. One that the volume cannot
 * take at once stays in the input chunk until it is written (`waiting`); nothing else is received meanwhile.
 */
import type { Chunk } from './chunks.js';
import { nbdError } from './validate.js';
import { ERRNO, type Volume, type Waiter } from '../volume/volume.js';

const BLOCK_MASK = 4095;

export class LongWrite {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly fua: boolean;
  readonly offset_bytes: number;
  readonly length_bytes: number;
  /** It is only read past. */
  readonly refused: boolean;
  error: number;
  /** Where the piece begins that was not written. */
  failedAt_bytes = -1;
  waiting = false;
  left_bytes: number;
  #offset_bytes: number;
  #pieceAt_bytes = -1;

  constructor(
    cookieHigh: number,
    cookieLow: number,
    offset_bytes: number,
    length_bytes: number,
    fua: boolean,
    error: number,
  ) {
    this.cookieHigh = cookieHigh;
    this.cookieLow = cookieLow;
    this.offset_bytes = offset_bytes;
    this.length_bytes = length_bytes;
    this.refused = error !== 0;
    this.#offset_bytes = offset_bytes;
    this.left_bytes = length_bytes;
    this.fua = fua;
    this.error = error;
  }

  get over(): boolean {
    return this.left_bytes === 0 && !this.waiting;
  }

  /** Uses up input between `at` and `end`; returns how much. The volume answers `token` when `waiting`. */
  take(volume: Volume, chunk: Chunk, at: number, end: number, waiter: Waiter, token: number): number {
    let length = Math.min(end - at, this.left_bytes);
    if (this.error === 0 && length < this.left_bytes)
      length = Math.max(0, length - ((this.#offset_bytes + length) & BLOCK_MASK));
    if (length === 0) return 0;
    if (this.error === 0) {
      const result = volume.tryWrite(this.#offset_bytes, length, chunk, at);
      if (result === -ERRNO.EAGAIN) {
        this.waiting = true;
        volume.write(this.#offset_bytes, length, chunk, at, waiter, token);
      } else if (result < 0) this.#failed(result, this.#offset_bytes);
      this.#pieceAt_bytes = this.#offset_bytes;
    }
    this.#offset_bytes += length;
    this.left_bytes -= length;
    return length;
  }

  /** The volume's answer to the piece that waited. */
  pieceDone(result: number): void {
    this.waiting = false;
    if (result < 0) this.#failed(result, this.#pieceAt_bytes);
  }

  #failed(result: number, at_bytes: number): void {
    this.error = nbdError(result);
    this.failedAt_bytes = at_bytes;
  }
}
