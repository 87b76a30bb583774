/**
 * A write longer than PIECE_BYTES, whose payload is applied while it comes; or any request with a payload of that length that
 * is refused and whose payload is read past (`error` from the beginning).
 *
 * Pieces end on blocks of 4096 of the volume, so that no block is written in two parts. Where the volume takes them at once each is what one
 * receive gave. Where it once could not, they are gathered to PIECE_BYTES and given to it one behind the other, without waiting for
 * the one before (`open` are with it); the write is answered when the last of them is.
 */
import { PIECE_BYTES } from './limits.js';
import { nbdError } from './validate.js';

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
  /** The volume had to wait once. */
  slow = false;
  /** Pieces that the volume has not answered. */
  open = 0;
  left_bytes: number;

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
    this.left_bytes = length_bytes;
    this.fua = fua;
    this.error = error;
  }

  get over(): boolean {
    return this.left_bytes === 0 && this.open === 0;
  }

  /** Where the next piece goes. */
  get next_bytes(): number {
    return this.offset_bytes + this.length_bytes - this.left_bytes;
  }

  /** How long the next piece is when so many bytes of it are there; 0: more are needed. */
  piece(there_bytes: number): number {
    const { left_bytes, slow } = this;
    if (this.error !== 0) return Math.min(there_bytes, left_bytes);
    const whole_bytes = Math.min(left_bytes, PIECE_BYTES);
    if (slow && there_bytes < whole_bytes) return 0;
    const length = Math.min(there_bytes, slow ? whole_bytes : left_bytes);
    if (length === left_bytes) return length;
    return Math.max(0, length - ((this.next_bytes + length) & BLOCK_MASK));
  }

  /** `result`: 0 or -errno, of the piece that begins there. */
  written(result: number, at_bytes: number): void {
    if (result >= 0 || this.error !== 0) return;
    this.error = nbdError(result);
    this.failedAt_bytes = at_bytes;
  }
}
