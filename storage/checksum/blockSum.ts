/**
 * The sum of a block of 4096 bytes, as WebAssembly with 128-bit SIMD: what the words of layers are made of (layers/map.ts).
 *
 * A block is 2048 digits d(i), little-endian and signed, of 16 bits; k(i) are fixed odd numbers of 16 bits. Digit i belongs to lane
 * (i mod 8) / 2. For each of the four lanes there are two sums over its digits,
 *
 *   A = sum of k(i) d(i) mod 2^32          B = sum of k(i + 8) d(i) mod 2^32
 *
 * and the eight, times eight numbers m below 2^29, make the sum: START + sum of m A + sum of m' B, mod 2^32 - 5, a prime.
 *
 * What it finds. A changed digit changes its A, since k is odd: so does every single bit. Eight sums of which any differ give the same
 * result in one case of 2^32, as with a CRC of 32 bits. With the numbers below it is certain that one or two flipped
 * bits, wherever they are, are found: which difference a flip makes of A and B does not depend on the rest of the block, but
 * for what is carried beyond 2^32; of these 131072 differences no two are the same or opposite mod 2^32 - 5, nor is one 0 (the test goes
 * through all). Many bits of the same weight, which are where sums mod 2^32 are weak, must agree in A and in B: again one
 * case of some 2^31, and only within a lane. Digits that are moved or exchanged meet another k. What it is not is a protection
 * against who wants to deceive it.
 *
 * Why not XXH3, as older layers have it (xxh3.ts): a third of the instructions. SIMD of WebAssembly multiplies 8 pairs of 16 bits
 * and adds them by twos at once; products of 32 bits need their halves put side by side first.
 */
import { I32, I64, V128, moduleOf, op } from './wasm.js';
import { SUMMED_BYTES } from './xxh3.js';

const VECTOR_BYTES = 16;
const DIGITS_PER_VECTOR = 8;
const LANES = 4;
const DIGITS = SUMMED_BYTES / 2;
/** Of which the number is tried that finds two flipped bits for certain. */
const SEED = 2;

/** The finalizer of MurmurHash3, 32 bits: every bit of the result depends on every bit of `i`. */
function mixed(i: number): number {
  let x = Math.imul(SEED + i, 0x9e3779b9);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** k: one vector more than a block has. */
export const FACTORS = Int16Array.from(
  { length: DIGITS + DIGITS_PER_VECTOR },
  (_, i) => (mixed(i) >>> 16) | 1,
);
/** m of the four A, then m' of the four B: 29 bits, so that all together stay below 2^64. */
export const LANE_FACTORS: readonly number[] = Array.from(
  { length: 2 * LANES },
  (_, lane) => (mixed(FACTORS.length + lane) >>> 3) | 1,
);
/** A block of zeroes has this sum and not 0. */
export const START = 0x77656674;
export const PRIME = 2 ** 32 - 5;
/** What 2^32 is, mod PRIME. */
const FOLD = 5n;

// Parameters and locals of the function.
const AT = 0;
const FACTORS_AT = 1;
const END = 2;
const SUM = 3;
const A = 4;
const B = 5;
const DATA = 6;
const K = 7;
const NEXT_K = 8;

/** Vectors in one turn of the loop. */
const UNROLLED = 8;

function sequence(...instructions: readonly (readonly number[])[]): number[] {
  return instructions.flat();
}

/** Vector `i` of this turn; `k` has its factors, `nextK` gets those of the next one, which are also those of B. */
function accumulate(i: number, k: number, nextK: number): number[] {
  return [
    ...sequence(op.get(FACTORS_AT), op.v128Load(VECTOR_BYTES * (i + 1)), op.set(nextK)),
    ...sequence(op.get(AT), op.v128Load(VECTOR_BYTES * i), op.tee(DATA)),
    ...sequence(op.get(k), op.i32x4DotI16x8, op.get(A), op.i32x4Add, op.set(A)),
    ...sequence(op.get(DATA), op.get(nextK), op.i32x4DotI16x8, op.get(B), op.i32x4Add, op.set(B)),
  ];
}

/** SUM += m x lane */
function gather(sums: number, lane: number, factor: number): number[] {
  return [
    ...sequence(op.get(sums), op.i32x4ExtractLane(lane), op.i64ExtendI32U),
    ...sequence(op.i64Const(BigInt(factor)), op.i64Mul, op.get(SUM), op.i64Add, op.set(SUM)),
  ];
}

/** SUM = low 32 bits + FOLD x the rest: the same mod PRIME, and shorter. */
const fold: number[] = [
  ...sequence(op.get(SUM), op.i64Const(0xffffffffn), op.i64And),
  ...sequence(op.get(SUM), op.i64Const(32n), op.i64ShrU, op.i64Const(FOLD), op.i64Mul, op.i64Add),
  ...op.set(SUM),
];

function body(): number[] {
  const step = UNROLLED * VECTOR_BYTES;
  const forward = (local: number): number[] =>
    sequence(op.get(local), op.i32Const(step), op.i32Add, op.set(local));
  return [
    ...sequence(op.get(AT), op.i32Const(SUMMED_BYTES), op.i32Add, op.set(END)),
    ...sequence(op.get(FACTORS_AT), op.v128Load(0), op.set(K)),
    ...op.loopWhile([
      // An even number of them, so that the factors of the next turn lie in K again.
      ...Array.from({ length: UNROLLED }, (_, i) =>
        i % 2 === 0 ? accumulate(i, K, NEXT_K) : accumulate(i, NEXT_K, K),
      ).flat(),
      ...forward(FACTORS_AT),
      ...forward(AT),
      ...sequence(op.get(AT), op.get(END), op.i32LtU),
    ]),
    ...sequence(op.i64Const(BigInt(START)), op.set(SUM)),
    ...LANE_FACTORS.flatMap((factor, i) => gather(i < LANES ? A : B, i % LANES, factor)),
    // Below 2^64, then below 6 x 2^32, then below 2^32 + 25.
    ...fold,
    ...fold,
    // And minus PRIME where it is not below that: then adding FOLD reaches 2^32.
    ...sequence(op.get(SUM), op.get(SUM), op.i64Const(FOLD), op.i64Add, op.i64Const(32n), op.i64ShrU),
    ...sequence(op.i64Const(FOLD), op.i64Mul, op.i64Add, op.i32WrapI64),
  ];
}

/** `run(at, factorsAt)` of this module answers the sum, as a signed 32-bit number. */
export function blockSumModule(pages: number): Uint8Array<ArrayBuffer> {
  return moduleOf({
    parameterCount: 2,
    locals: [
      [1, I32],
      [1, I64],
      [5, V128],
    ],
    body: body(),
    pages,
  });
}
