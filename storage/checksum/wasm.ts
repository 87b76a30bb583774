/**
 * A small assembler for WebAssembly: just the opcodes that xxh3.ts and blockSum.ts use, by their names in the specification
 * (WebAssembly Core 2.0, chapter 5, binary format), and the sections around one function that works on an imported memory.
 */

/** LEB128, signed: what constants are written in. */
export function signed(value: bigint): number[] {
  const out: number[] = [];
  for (;;) {
    const byte = Number(value & 0x7fn);
    value >>= 7n;
    const ends = (value === 0n && (byte & 0x40) === 0) || (value === -1n && (byte & 0x40) !== 0);
    out.push(ends ? byte : byte | 0x80);
    if (ends) return out;
  }
}

/** LEB128, unsigned: counts, indices, offsets, opcodes behind a prefix. */
export function unsigned(value: number): number[] {
  const out: number[] = [];
  for (; value > 0x7f; value >>>= 7) out.push((value & 0x7f) | 0x80);
  out.push(value);
  return out;
}

const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];
/** Alignment is a hint; 0 promises nothing. */
const memory = (offset: number): number[] => [0, ...unsigned(offset)];

export const I32 = 0x7f;
export const I64 = 0x7e;
export const V128 = 0x7b;

export const op = {
  get: (local: number) => [0x20, ...unsigned(local)],
  set: (local: number) => [0x21, ...unsigned(local)],
  tee: (local: number) => [0x22, ...unsigned(local)],
  /** Repeats its body as long as the value that it leaves on the stack is not 0. */
  loopWhile: (body: number[]) => [0x03, 0x40, ...body, 0x0d, 0, 0x0b],
  i32Const: (value: number) => [0x41, ...signed(BigInt(value))],
  i32Add: [0x6a],
  i32LtU: [0x49],
  i32WrapI64: [0xa7],
  i64ExtendI32U: [0xad],
  i64Load: (offset: number) => [0x29, ...memory(offset)],
  i64Const: (value: bigint) => [0x42, ...signed(BigInt.asIntN(64, value))],
  i64Add: [0x7c],
  i64Mul: [0x7e],
  i64And: [0x83],
  i64Or: [0x84],
  i64Xor: [0x85],
  i64Shl: [0x86],
  i64ShrU: [0x88],
  v128Load: (offset: number) => [...simd(0x00), ...memory(offset)],
  v128Const: (low: bigint, high: bigint) => [...simd(0x0c), ...bytesOf(low), ...bytesOf(high)],
  shuffle: (...lanes: number[]) => [...simd(0x0d), ...lanes],
  v128Xor: simd(0x51),
  i32x4ExtractLane: (lane: number) => [...simd(0x1b), lane],
  i32x4Add: simd(0xae),
  /** Products of 8 pairs of signed 16 bits, added by twos. */
  i32x4DotI16x8: simd(0xba),
  i64x2Add: simd(0xce),
  i64x2Mul: simd(0xd5),
  i64x2ShrU: simd(0xcd),
  i64x2ExtmulLowI32x4U: simd(0xde),
  i64x2ExtmulHighI32x4U: simd(0xdf),
  i64x2ExtractLane: (lane: number) => [...simd(0x1d), lane],
} as const;

function bytesOf(value: bigint): number[] {
  return Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

const MAGIC_AND_VERSION = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];

const section = (id: number, content: number[]): number[] => [id, ...unsigned(content.length), ...content];
const text = (name: string): number[] => [...unsigned(name.length), ...new TextEncoder().encode(name)];

/** A module with one exported function `run(i32...) -> i32` on the imported memory `env.memory` of `pages` x 64 KiB. */
export function moduleOf(parts: {
  parameterCount: number;
  /** Groups of locals behind the parameters. */
  locals: readonly (readonly [count: number, type: number])[];
  body: readonly number[];
  pages: number;
}): Uint8Array<ArrayBuffer> {
  const { parameterCount, locals, body, pages } = parts;
  const code = [
    ...unsigned(locals.length),
    ...locals.flatMap(([count, type]) => [...unsigned(count), type]),
    ...body,
    0x0b,
  ];
  const parameters = Array.from({ length: parameterCount }, () => I32);
  return Uint8Array.from([
    ...MAGIC_AND_VERSION,
    ...section(1, [1, 0x60, ...unsigned(parameterCount), ...parameters, 1, I32]),
    ...section(2, [1, ...text('env'), ...text('memory'), 2, 1, ...unsigned(pages), ...unsigned(pages)]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text('run'), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]);
}
