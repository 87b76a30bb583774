/**
 * Copying between the arena and a guest. Short stretches go word by word, which needs no call (and never as
 * floating-point numbers, whose bits a processor may change); longer ones by memcpy. Neither makes an object.
 */
import { copyMemory } from '../../../host/foreign.js';

/** Where the two cost the same (measured): a call out of JS is about 100 ns. */
export const WORDS_MAX_BYTES = 112;

/** Stretches need not be aligned. At least four bytes, at most WORDS_MAX_BYTES for a good price. */
export function copyWords(
  from: DataView,
  fromAt: number,
  to: DataView,
  toAt: number,
  length_bytes: number,
): void {
  const end = (fromAt + length_bytes) | 0;
  let i = fromAt | 0;
  let o = toAt | 0;
  for (; i + 16 <= end; i = (i + 16) | 0, o = (o + 16) | 0) {
    to.setInt32(o, from.getInt32(i, true), true);
    to.setInt32(o + 4, from.getInt32(i + 4, true), true);
    to.setInt32(o + 8, from.getInt32(i + 8, true), true);
    to.setInt32(o + 12, from.getInt32(i + 12, true), true);
  }
  for (; i + 4 <= end; i = (i + 4) | 0, o = (o + 4) | 0) to.setInt32(o, from.getInt32(i, true), true);
  for (; i < end; i++, o++) to.setUint8(o, from.getUint8(i));
}

/** Any length. The addresses are those of the first byte of each view. */
export function copyStretch(
  from: DataView,
  fromAddress: number,
  fromAt: number,
  to: DataView,
  toAddress: number,
  toAt: number,
  length_bytes: number,
): void {
  if (length_bytes <= WORDS_MAX_BYTES) copyWords(from, fromAt, to, toAt, length_bytes);
  else copyMemory(toAddress + toAt, fromAddress + fromAt, length_bytes);
}
