/** Against the algorithm written down slowly with BigInt, and against sums that xxHash's own library made. */
import fc from 'fast-check';
import t from 'tap';
import { Checksum } from '../../../storage/checksum/checksum.js';
import { SECRET, SUMMED_BYTES } from '../../../storage/checksum/xxh3.js';

const MASK = (1n << 64n) - 1n;
const PRIME32 = [0x9e3779b1n, 0x85ebca77n, 0xc2b2ae3dn] as const;
const PRIME64 = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
] as const;

/** xxhash_spec.md, XXH3 for more than 240 bytes, seed 0. */
function slow(bytes: Uint8Array): number {
  const input = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const secret = new DataView(SECRET.buffer, SECRET.byteOffset, SECRET.length);
  const acc: bigint[] = [PRIME32[2], ...PRIME64.slice(0, 4), PRIME32[1], PRIME64[4], PRIME32[0]];
  const stripe = (at: number, secretAt: number): void => {
    for (let i = 0; i < 8; i++) {
      const value = input.getBigUint64(at + 8 * i, true);
      const mixed = value ^ secret.getBigUint64(secretAt + 8 * i, true);
      acc[i ^ 1] = (acc[i ^ 1]! + value) & MASK;
      acc[i] = (acc[i]! + (mixed & 0xffffffffn) * (mixed >> 32n)) & MASK;
    }
  };
  const perBlock = (SECRET.length - 64) / 8;
  const blocks = Math.floor((bytes.length - 1) / (64 * perBlock));
  for (let block = 0; block < blocks; block++) {
    for (let i = 0; i < perBlock; i++) stripe((block * perBlock + i) * 64, 8 * i);
    for (let i = 0; i < 8; i++) {
      const value = acc[i]! ^ (acc[i]! >> 47n) ^ secret.getBigUint64(SECRET.length - 64 + 8 * i, true);
      acc[i] = (value * PRIME32[0]) & MASK;
    }
  }
  const rest = Math.floor((bytes.length - 1 - blocks * 64 * perBlock) / 64);
  for (let i = 0; i < rest; i++) stripe((blocks * perBlock + i) * 64, 8 * i);
  stripe(bytes.length - 64, SECRET.length - 64 - 7);
  let sum = (BigInt(bytes.length) * PRIME64[0]) & MASK;
  for (let i = 0; i < 4; i++) {
    const a = acc[2 * i]! ^ secret.getBigUint64(11 + 16 * i, true);
    const b = acc[2 * i + 1]! ^ secret.getBigUint64(19 + 16 * i, true);
    sum = (sum + (((a * b) & MASK) ^ ((a * b) >> 64n))) & MASK;
  }
  sum = ((sum ^ (sum >> 37n)) * 0x165667919e3779f9n) & MASK;
  return Number((sum ^ (sum >> 32n)) & 0xffffffffn);
}

const made = (value: (i: number) => number): Uint8Array =>
  Uint8Array.from({ length: SUMMED_BYTES }, (_, i) => value(i));

await t.test('sums that the library of xxHash 0.8 makes (XXH3_64bits, low half)', async t => {
  const checksum = new Checksum();
  t.equal(checksum.sum('xxh3', { bytes: made(() => 0) }, 0), 0x48c689ba);
  t.equal(checksum.sum('xxh3', { bytes: made(i => i & 255) }, 0), 0x7879151);
  t.equal(checksum.sum('xxh3', { bytes: made(i => (i * 7 + (i >> 8)) & 255) }, 0), 0xeb6f9064);
});

await t.test('as the slow one, wherever the bytes lie', async t => {
  const checksum = new Checksum(64 * 1024);
  const inside = { bytes: checksum.take(2 * SUMMED_BYTES)! };
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: SUMMED_BYTES, maxLength: SUMMED_BYTES }),
      fc.nat(SUMMED_BYTES),
      (bytes, at) => {
        const wanted = slow(bytes);
        const outside = new Uint8Array(2 * SUMMED_BYTES);
        outside.set(bytes, at);
        inside.bytes.set(bytes, at);
        return (
          checksum.sum('xxh3', { bytes: outside }, at) === wanted &&
          checksum.sum('xxh3', inside, at) === wanted &&
          checksum.pageSum(bytes) === wanted
        );
      },
    ),
    { numRuns: 60 },
  );
  t.pass();
});

await t.test('one bit more or less is another sum', async t => {
  const checksum = new Checksum();
  const bytes = made(i => (i * 31) & 255);
  const sum = checksum.sum('xxh3', { bytes }, 0);
  const seen = new Set([sum]);
  for (let bit = 0; bit < 8 * SUMMED_BYTES; bit += 7) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    seen.add(checksum.sum('xxh3', { bytes }, 0));
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
  t.equal(seen.size, 1 + Math.ceil((8 * SUMMED_BYTES) / 7));
  t.equal(checksum.take(1 << 20), null, 'what is not there is not given');
});
