/**
 * XXH3-64 (low 32 bits; seed 0, default secret) of 4096 bytes, as WebAssembly with 128-bit SIMD. The algorithm and its
 * constants are those of the specification (xxHash, doc/xxhash_spec.md, "XXH3 Algorithm Overview", long inputs).
 *
 * Why here and not in C: a call out of JavaScript costs as much as the sum itself, and no library is on every machine.
 *
 *   4096 bytes = 3 blocks of 16 stripes of 64 bytes, each followed by a scramble, then 15 stripes, then the last 64 bytes
 *   accumulators: 8 x 64 bits in four v128; the other four gather what is added crosswise
 */
import { I32, I64, V128, moduleOf, op } from './wasm.js';

export const SUMMED_BYTES = 4096;

const PRIME32_1 = 0x9e3779b1n;
const PRIME32_2 = 0x85ebca77n;
const PRIME32_3 = 0xc2b2ae3dn;
const PRIME64_1 = 0x9e3779b185ebca87n;
const PRIME64_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME64_3 = 0x165667b19e3779f9n;
const PRIME64_4 = 0x85ebca77c2b2ae63n;
const PRIME64_5 = 0x27d4eb2f165667c5n;
const PRIME_MX1 = 0x165667919e3779f9n;

/** The default secret, 192 bytes. */
export const SECRET = Uint8Array.from(
  (
    'b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221' +
    'b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8' +
    'a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb' +
    '170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e'
  )
    .match(/../g)!
    .map(byte => Number.parseInt(byte, 16)),
);

const STRIPE_BYTES = 64;
const STRIPES_PER_BLOCK = 16;
const SECRET_STEP_BYTES = 8;

// Parameters and locals of the function.
const AT = 0;
const SECRET_AT = 1;
const INPUT = 2;
const KEY = 3;
const END = 4;
const LAST = 5;
const SUM = 6;
const A64 = 7;
const B64 = 8;
const PART = 9;
const MIDDLE = 10;
const ACC = 11; // four
const DATA = 15;
const GATHERED = 16; // four
const LOWS = 20;
const HIGHS = 21;

/** Instructions one behind the other; a line of the function below. */
function sequence(...instructions: readonly (readonly number[])[]): number[] {
  return instructions.flat();
}

/** The halves of two vectors of 64-bit lanes, exchanged; and their low and their high 32 bits, side by side for extmul. */
const SWAP = op.shuffle(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
const LOW_HALVES = op.shuffle(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
const HIGH_HALVES = op.shuffle(4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);

/** acc[i] += low32(data ^ secret) x high32(data ^ secret), two vectors at a time; data is gathered for `exchange`. */
function accumulate(): number[] {
  const mix = (i: number, to: number): number[] => [
    ...sequence(op.get(INPUT), op.v128Load(16 * i), op.tee(DATA)),
    ...sequence(op.get(KEY), op.v128Load(16 * i), op.v128Xor, op.set(to)),
    ...sequence(op.get(GATHERED + i), op.get(DATA), op.i64x2Add, op.set(GATHERED + i)),
  ];
  const multiply = (i: number, extmul: readonly number[]): number[] =>
    sequence(op.get(ACC + i), op.get(LOWS), op.get(HIGHS), extmul, op.i64x2Add, op.set(ACC + i));
  return [0, 2].flatMap(i => [
    ...mix(i, LOWS),
    ...mix(i + 1, HIGHS),
    ...sequence(op.get(LOWS), op.get(HIGHS), LOW_HALVES),
    ...sequence(op.get(LOWS), op.get(HIGHS), HIGH_HALVES, op.set(HIGHS), op.set(LOWS)),
    ...multiply(i, op.i64x2ExtmulLowI32x4U),
    ...multiply(i + 1, op.i64x2ExtmulHighI32x4U),
  ]);
}

/** acc[i ^ 1] += data[i] of all stripes since the last time: additions may wait, and so there is one exchange of halves and not sixteen. */
function exchange(): number[] {
  return [0, 1, 2, 3].flatMap(i => [
    ...sequence(op.get(ACC + i), op.get(GATHERED + i), op.get(GATHERED + i), SWAP),
    ...sequence(op.i64x2Add, op.set(ACC + i), op.v128Const(0n, 0n), op.set(GATHERED + i)),
  ]);
}

/** Stripes from INPUT to END, the secret moving on by 8 bytes each. */
function stripes(count: number): number[] {
  return [
    ...sequence(op.get(INPUT), op.i32Const(count * STRIPE_BYTES), op.i32Add, op.set(END)),
    ...sequence(op.get(SECRET_AT), op.set(KEY)),
    ...op.loopWhile([
      ...accumulate(),
      ...sequence(op.get(KEY), op.i32Const(SECRET_STEP_BYTES), op.i32Add, op.set(KEY)),
      ...sequence(op.get(INPUT), op.i32Const(STRIPE_BYTES), op.i32Add, op.tee(INPUT)),
      ...sequence(op.get(END), op.i32LtU),
    ]),
  ];
}

function scramble(): number[] {
  return [0, 1, 2, 3].flatMap(i => [
    ...sequence(op.get(ACC + i), op.get(ACC + i), op.i32Const(47), op.i64x2ShrU, op.v128Xor),
    ...sequence(op.get(SECRET_AT), op.v128Load(SECRET.length - STRIPE_BYTES + 16 * i), op.v128Xor),
    ...sequence(op.v128Const(PRIME32_1, PRIME32_1), op.i64x2Mul, op.set(ACC + i)),
  ]);
}

const low = (local: number): number[] => [...op.get(local), ...op.i64Const(0xffffffffn), ...op.i64And];
const high = (local: number): number[] => [...op.get(local), ...op.i64Const(32n), ...op.i64ShrU];

/** SUM += low64 ^ high64 of the 128-bit product of two accumulators, each mixed with the secret. */
function merge(pair: number): number[] {
  const side = (lane: number): number[] => [
    ...sequence(op.get(ACC + pair), op.i64x2ExtractLane(lane)),
    ...sequence(op.get(SECRET_AT), op.i64Load(11 + 16 * pair + 8 * lane), op.i64Xor),
  ];
  return [
    ...sequence(side(0), op.set(A64), side(1), op.set(B64)),
    // PART: low x low. MIDDLE: high x low, and what PART carries.
    ...sequence(low(A64), low(B64), op.i64Mul, op.set(PART)),
    ...sequence(high(A64), low(B64), op.i64Mul, high(PART), op.i64Add, op.set(MIDDLE)),
    // Upper half: high x high + high(MIDDLE) + high(low(MIDDLE) + low x high)
    ...sequence(high(A64), high(B64), op.i64Mul, high(MIDDLE), op.i64Add),
    ...sequence(low(A64), high(B64), op.i64Mul, low(MIDDLE), op.i64Add, op.tee(MIDDLE)),
    ...sequence(op.i64Const(32n), op.i64ShrU, op.i64Add),
    // Lower half.
    ...sequence(op.get(MIDDLE), op.i64Const(32n), op.i64Shl, low(PART), op.i64Or),
    ...sequence(op.i64Xor, op.get(SUM), op.i64Add, op.set(SUM)),
  ];
}

function body(): number[] {
  const start = [
    [PRIME32_3, PRIME64_1],
    [PRIME64_2, PRIME64_3],
    [PRIME64_4, PRIME32_2],
    [PRIME64_5, PRIME32_1],
  ] as const;
  return [
    ...start.flatMap(([a, b], i) => [...op.v128Const(a, b), ...op.set(ACC + i)]),
    ...sequence(op.get(AT), op.set(INPUT)),
    ...sequence(op.get(AT), op.i32Const(3 * STRIPES_PER_BLOCK * STRIPE_BYTES), op.i32Add, op.set(LAST)),
    ...op.loopWhile([
      ...stripes(STRIPES_PER_BLOCK),
      ...exchange(),
      ...scramble(),
      ...sequence(op.get(INPUT), op.get(LAST), op.i32LtU),
    ]),
    ...stripes(STRIPES_PER_BLOCK - 1),
    // INPUT is at the last stripe now; its secret lies 7 bytes before the end's.
    ...sequence(op.get(SECRET_AT), op.i32Const(SECRET.length - STRIPE_BYTES - 7), op.i32Add, op.set(KEY)),
    ...accumulate(),
    ...exchange(),
    ...sequence(op.i64Const(BigInt(SUMMED_BYTES) * PRIME64_1), op.set(SUM)),
    ...[0, 1, 2, 3].flatMap(merge),
    // Avalanche; of its last step, only what reaches the low half.
    ...sequence(op.get(SUM), op.get(SUM), op.i64Const(37n), op.i64ShrU, op.i64Xor),
    ...sequence(op.i64Const(PRIME_MX1), op.i64Mul, op.tee(SUM)),
    ...sequence(op.get(SUM), op.i64Const(32n), op.i64ShrU, op.i64Xor, op.i32WrapI64),
  ];
}

/** `run(at, secretAt)` of this module answers the sum, as a signed 32-bit number. */
export function xxh3Module(pages: number): Uint8Array<ArrayBuffer> {
  return moduleOf({
    parameterCount: 2,
    locals: [
      [4, I32],
      [5, I64],
      [11, V128],
    ],
    body: body(),
    pages,
  });
}
