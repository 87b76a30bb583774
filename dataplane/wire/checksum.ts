/**
 * The Internet checksum (RFC 1071).
 *
 * The ones' complement sum does not care about byte order as long as one keeps to it (RFC 1071 section 2 (B)), so
 * the sum is taken over little-endian words, which is what the machine loads in one instruction, and a sum is
 * written back little-endian. A constant that joins a sum (a protocol number, a length) is therefore swapped first.
 */

/** So many bytes can be added as halves before 31 bits could overflow; sums are folded after each stretch. */
const STRETCH_BYTES = 16_384;

export function fold(value: number): number {
  let sum = value;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** A 16-bit number as it stands in a little-endian sum; longer ones (a jumbo length) are folded. */
export function swap(value: number): number {
  const folded = fold(value);
  return ((folded & 0xff) << 8) | (folded >>> 8);
}

/** Adds `length_bytes` bytes to a sum and folds it to 16 bits. An odd last byte counts as if followed by zero. */
export function sum(view: DataView, at: number, length_bytes: number, initial: number): number {
  let total = initial | 0;
  let from = at | 0;
  const end = (at + length_bytes) | 0;
  while (end - from >= 32) {
    const stretchEnd = (from + Math.min((end - from) & ~31, STRETCH_BYTES)) | 0;
    for (; from < stretchEnd; from = (from + 32) | 0) {
      const a = view.getInt32(from, true);
      const b = view.getInt32(from + 4, true);
      const c = view.getInt32(from + 8, true);
      const d = view.getInt32(from + 12, true);
      const e = view.getInt32(from + 16, true);
      const f = view.getInt32(from + 20, true);
      const g = view.getInt32(from + 24, true);
      const h = view.getInt32(from + 28, true);
      total =
        (total +
          ((a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff)) +
          ((e & 0xffff) + (f & 0xffff) + (g & 0xffff) + (h & 0xffff)) +
          ((a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) +
          ((e >>> 16) + (f >>> 16) + (g >>> 16) + (h >>> 16))) |
        0;
    }
    total = (total & 0xffff) + (total >>> 16);
  }
  for (; end - from >= 2; from = (from + 2) | 0) total = (total + view.getUint16(from, true)) | 0;
  if (from < end) total = (total + view.getUint8(from)) | 0;
  return fold(total);
}

/** Writes a sum's complement where the checksum stands. */
export function write(view: DataView, at: number, total: number): void {
  view.setUint16(at, total ^ 0xffff, true);
}

/** The same for a transport, where zero would mean "no checksum" (RFC 768) and is sent as all ones. */
export function writeNonZero(view: DataView, at: number, total: number): void {
  view.setUint16(at, total === 0xffff ? 0xffff : total ^ 0xffff, true);
}
