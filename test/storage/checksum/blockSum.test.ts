/** The sum of blocks: against its definition, and what it finds. */
import fc from 'fast-check';
import t from 'tap';
import { Checksum } from '../../../storage/checksum/checksum.js';
import { FACTORS, LANE_FACTORS, PRIME, START } from '../../../storage/checksum/blockSum.js';
import { blockWord } from '../../../storage/layers/map.js';

const BYTES = 4096;
const DIGITS = BYTES / 2;
const P = BigInt(PRIME);
const checksum = new Checksum(1024 * 1024);

/** The definition at the head of blockSum.ts, in integers without bounds. */
function slow(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, BYTES);
  const sums = Array.from({ length: 8 }, () => 0n);
  for (let i = 0; i < DIGITS; i++) {
    const digit = BigInt(view.getInt16(2 * i, true));
    const lane = (i % 8) >> 1;
    sums[lane] = sums[lane]! + BigInt(FACTORS[i]!) * digit;
    sums[4 + lane] = sums[4 + lane]! + BigInt(FACTORS[i + 8]!) * digit;
  }
  const total = sums.reduce(
    (sum, one, lane) => sum + BigInt(LANE_FACTORS[lane]!) * BigInt.asUintN(32, one),
    BigInt(START),
  );
  return Number(total % P);
}

const sum = (bytes: Uint8Array): number => checksum.sum('products', { bytes }, 0);
const block = (value: (i: number) => number): Uint8Array =>
  Uint8Array.from({ length: BYTES }, (_, i) => value(i));

/** Bytes of no pattern, the same ones each time. */
function noise(seed: number): Uint8Array {
  let x = seed;
  return block(() => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return x >>> 24;
  });
}

await t.test('is what it is on disks', async t => {
  t.equal(FACTORS.length, DIGITS + 8);
  t.ok(FACTORS.every(factor => (factor & 1) === 1));
  t.ok(LANE_FACTORS.every(factor => factor > 0 && factor < 2 ** 29));
  t.same([...FACTORS.subarray(0, 4)], [15575, 6933, 19465, 18553]);
  t.equal(sum(block(() => 0)), START);
  t.equal(sum(block(i => i & 255)), 0x113143);
  t.equal(sum(block(() => 255)), 4187949404);
  t.equal(sum(noise(1)), 2755157668);
});

await t.test('as its definition, wherever the bytes lie', async t => {
  const inside = { bytes: checksum.take(2 * BYTES)! };
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(0, 127, 128, 255));
  const bytesOf = fc.oneof(
    fc.uint8Array({ minLength: BYTES, maxLength: BYTES }),
    // Extremes: sums that are carried beyond 2^32 often.
    fc.array(byte, { minLength: 1, maxLength: 16 }).map(some => block(i => some[i % some.length]!)),
  );
  fc.assert(
    fc.property(bytesOf, fc.nat(BYTES), (bytes, at) => {
      const wanted = slow(bytes);
      const outside = new Uint8Array(2 * BYTES);
      outside.set(bytes, at);
      inside.bytes.set(bytes, at);
      return (
        checksum.sum('products', { bytes: outside }, at) === wanted &&
        checksum.sum('products', inside, at) === wanted
      );
    }),
    { numRuns: 100 },
  );
  t.pass();
});

/**
 * What one flipped bit can change of the sum, for each bit and each way in which A and B can be carried beyond 2^32 by it: whatever
 * else the block holds there is no other. A difference and its opposite are one here.
 */
function differences(): { values: Float64Array; bits: Uint32Array } {
  const values = new Float64Array(DIGITS * 16 * 4);
  const bits = new Uint32Array(values.length);
  let n = 0;
  for (let i = 0; i < DIGITS; i++) {
    const lane = (i % 8) >> 1;
    const [m, n2] = [BigInt(LANE_FACTORS[lane]!), BigInt(LANE_FACTORS[4 + lane]!)];
    for (let bit = 0; bit < 16; bit++) {
      const a = BigInt.asUintN(32, BigInt(FACTORS[i]!) << BigInt(bit));
      const b = BigInt.asUintN(32, BigInt(FACTORS[i + 8]!) << BigInt(bit));
      for (const carriedA of [0n, 1n << 32n])
        for (const carriedB of [0n, 1n << 32n]) {
          const value = Number((((m * (a - carriedA) + n2 * (b - carriedB)) % P) + P) % P);
          bits[n] = i * 16 + bit;
          values[n++] = Math.min(value, PRIME - value);
        }
    }
  }
  return { values, bits };
}

await t.test('one or two flipped bits are found, whatever the block and wherever they are', async t => {
  const { values, bits } = differences();
  const seen = new Map<number, number>();
  let alike = 0;
  for (const [n, value] of values.entries()) {
    const other = seen.get(value);
    if (value === 0 || (other !== undefined && other !== bits[n])) alike++;
    seen.set(value, bits[n]!);
  }
  t.equal(alike, 0, `of ${values.length} differences none is 0, and no two bits have the same`);
});

await t.test('each bit, in blocks that are there', async t => {
  for (const bytes of [block(() => 0), block(() => 255), noise(7)]) {
    const seen = new Set([sum(bytes)]);
    for (let bit = 0; bit < 8 * BYTES; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      seen.add(sum(bytes));
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    // All differ from the block's, and, since two flips are found, from each other.
    t.equal(seen.size, 1 + 8 * BYTES);
  }
});

/** Of so many tries, how often a change that is one was not seen; one in 2^32 would not be seen. */
function missed(tries: number, change: (bytes: Uint8Array, pick: (below: number) => number) => void): number {
  let x = 12345;
  const pick = (below: number): number => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
  let count = 0;
  const bytes = noise(99);
  const before = Buffer.from(bytes);
  const wanted = sum(bytes);
  for (let n = 0; n < tries; n++) {
    change(bytes, pick);
    if (sum(bytes) === wanted && !before.equals(bytes)) count++;
    bytes.set(before);
  }
  return count;
}

const flip = (bytes: Uint8Array, bit: number): void => void (bytes[bit >> 3]! ^= 1 << (bit & 7));

await t.test('other damage', async t => {
  const TRIES = 3000;
  const is0 = (what: string, change: Parameters<typeof missed>[1]): void => {
    t.equal(missed(TRIES, change), 0, what);
  };
  is0('three to eight bits anywhere', (bytes, pick) => {
    for (let left = 3 + pick(6); left > 0; left--) flip(bytes, pick(8 * BYTES));
  });
  is0('bits of one weight, in one lane: where these sums are weakest', (bytes, pick) => {
    const [bit, lane] = [pick(16), pick(4)];
    for (let left = 4; left > 0; left--) flip(bytes, (pick(256) * 8 + lane * 2 + pick(2)) * 16 + bit);
  });
  is0('a burst of up to 64 bits', (bytes, pick) => {
    const from = pick(8 * BYTES - 64);
    for (let left = 1 + pick(64); left > 0; left--) if (pick(2) === 0) flip(bytes, from + left);
  });
  for (const width of [1, 2, 4, 8, 16, 512])
    is0(`two words of ${width} bytes exchanged`, (bytes, pick) => {
      const [a, b] = [pick(BYTES / width) * width, pick(BYTES / width) * width];
      const word = bytes.slice(a, a + width);
      bytes.copyWithin(a, b, b + width);
      bytes.set(word, b);
    });
  is0('moved', (bytes, pick) => {
    const by = 1 + pick(BYTES - 1);
    const first = bytes.slice(0, by);
    bytes.copyWithin(0, by);
    bytes.set(first, BYTES - by);
  });
  is0('a part zeroed, or ones', (bytes, pick) => {
    const from = pick(BYTES);
    bytes.fill(pick(2) * 255, from, from + 1 + pick(BYTES - from));
  });
  is0('a number that is counted up', (bytes, pick) => {
    const view = new DataView(bytes.buffer);
    const at = pick(BYTES / 4) * 4;
    view.setUint32(at, view.getUint32(at, true) + 1 + pick(1000), true);
    const other = pick(BYTES / 4) * 4;
    view.setUint32(other, view.getUint32(other, true) - 1 - pick(1000), true);
  });
  is0('garbage', (bytes, pick) => {
    const words = new Uint32Array(bytes.buffer);
    const x = pick(2 ** 32) | 1;
    for (let i = 0; i < words.length; i++) words[i] = Math.imul(words[i]! ^ x, x);
  });
});

await t.test('sums of blocks that differ in little are spread evenly', async t => {
  // 65536 blocks with another number in each: in 2^32 sums, half a pair of them would be the same by chance.
  const view = new DataView(new ArrayBuffer(BYTES));
  const bytes = new Uint8Array(view.buffer);
  const seen = new Set<number>();
  const low = new Uint32Array(256);
  const high = new Uint32Array(256);
  for (let n = 0; n < 65_536; n++) {
    view.setUint32(1000, n, true);
    const found = sum(bytes);
    seen.add(found);
    low[found & 255]!++;
    high[found >>> 24]!++;
  }
  t.ok(seen.size > 65_530, `${seen.size} of 65536`);
  for (const counts of [low, high]) t.ok(Math.max(...counts) < 1024, `at most ${Math.max(...counts)} of 256`);
});

await t.test('the place counts', async t => {
  const found = sum(noise(3));
  const words = new Set(Array.from({ length: 100_000 }, (_, i) => blockWord(found, i)));
  t.equal(words.size, 100_000);
  t.notOk(words.has(0));
});
