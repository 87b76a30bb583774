/**
 * eBPF instructions as bytes (RFC 9669), written by hand: small programs that this project loads itself
 * (host/bpf.ts), without a compiler and without an object file. Pure.
 *
 *   struct bpf_insn, 8 bytes   0 opcode(u8)   1 dst(low 4 bits) src(high 4)   2 offset(i16)   4 imm(i32)
 *
 * Methods are named for what they do and write one instruction each (a 64-bit immediate takes two slots). Jumps
 * go to labels, which may stand before or behind. Nothing is checked that the kernel's verifier checks; what
 * cannot be encoded (a label that is nowhere, a jump too far) is a RangeError.
 */

/** Return value of helpers and of the program. */
export const R0 = 0;
/** Arguments of helpers, lost by a call; R1 is the program's context at its start. */
export const R1 = 1;
export const R2 = 2;
export const R3 = 3;
export const R4 = 4;
export const R5 = 5;
/** Kept over calls. */
export const R6 = 6;
export const R7 = 7;
export const R8 = 8;
export const R9 = 9;
/** Frame pointer, read only: the stack is the 512 bytes below it. */
export const R10 = 10;
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

// RFC 9669 3: classes in the low three bits.
const LD = 0x00;
const LDX = 0x01;
const ST = 0x02;
const STX = 0x03;
const ALU = 0x04;
const JMP = 0x05;
const JMP32 = 0x06;
const ALU64 = 0x07;

const SOURCE_IMM = 0x00;
const SOURCE_REG = 0x08;

// Table 12: modes of loads and stores.
const MODE_IMM = 0x00;
const MODE_MEM = 0x60;
const MODE_ATOMIC = 0xc0;

/** Table 13, by bytes. */
const SIZE = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 } as const;
export type Width = keyof typeof SIZE;

/** Table 4. */
const ARITHMETIC = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  shiftLeft: 0x60,
  shiftRight: 0x70,
  negate: 0x80,
  mod: 0x90,
  xor: 0xa0,
  move: 0xb0,
  shiftRightSigned: 0xc0,
} as const;
export type Arithmetic = keyof typeof ARITHMETIC;

const END = 0xd0;

/** Table 8; comparisons are unsigned but for those named `signed…`. */
const CONDITIONS = {
  '==': 0x10,
  '>': 0x20,
  '>=': 0x30,
  '&': 0x40,
  '!=': 0x50,
  'signed>': 0x60,
  'signed>=': 0x70,
  '<': 0xa0,
  '<=': 0xb0,
  'signed<': 0xc0,
  'signed<=': 0xd0,
} as const;
export type Condition = keyof typeof CONDITIONS;

const JUMP_ALWAYS = 0x00;
const CALL = 0x80;
const EXIT = 0x90;

/** Table 15: what the source bits of a 64-bit immediate say about it. */
const PSEUDO_MAP_FD = 1;
const PSEUDO_MAP_VALUE = 2;

export const INSTRUCTION_BYTES = 8;

/** A register, or a signed 32-bit number. */
export type Operand = { readonly register: Register } | number;

/** As an operand: the register, where a bare number would be taken for an immediate. */
export function reg(register: Register): { readonly register: Register } {
  return { register };
}

export class BpfAssembler {
  readonly #words: { opcode: number; registers: number; offset: number; imm: number }[] = [];
  readonly #labels = new Map<string, number>();
  readonly #jumps: { at: number; label: string }[] = [];

  /** Instructions so far, in slots of eight bytes. */
  get length(): number {
    return this.#words.length;
  }

  #put(opcode: number, dst: number, src: number, offset: number, imm: number): this {
    if (offset < -0x8000 || offset > 0x7fff) throw new RangeError(`offset ${offset} of an instruction`);
    if (imm < -0x8000_0000 || imm > 0xffff_ffff) throw new RangeError(`immediate ${imm}`);
    this.#words.push({ opcode, registers: dst | (src << 4), offset, imm: imm | 0 });
    return this;
  }

  /** The place that jumps to `name` go to. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`label ${name} stands twice`);
    this.#labels.set(name, this.#words.length);
    return this;
  }

  /** 64 bits wide. A number is sign-extended. */
  op(operation: Arithmetic, dst: Register, by: Operand = 0): this {
    return this.#arithmetic(ALU64, operation, dst, by);
  }

  /** 32 bits wide; the upper half becomes zero. */
  op32(operation: Arithmetic, dst: Register, by: Operand = 0): this {
    return this.#arithmetic(ALU, operation, dst, by);
  }

  #arithmetic(width: number, operation: Arithmetic, dst: Register, by: Operand): this {
    const code = width | ARITHMETIC[operation];
    return typeof by === 'number'
      ? this.#put(code | SOURCE_IMM, dst, 0, 0, by)
      : this.#put(code | SOURCE_REG, dst, by.register, 0, 0);
  }

  /** `dst = by`, 64 bits wide. */
  move(dst: Register, by: Operand): this {
    return this.op('move', dst, by);
  }

  /** The low bits of dst from host to big-endian order (or back: on the machines we know it is the same). */
  toBigEndian(dst: Register, bits: 16 | 32 | 64): this {
    return this.#put(ALU | END | SOURCE_REG, dst, 0, 0, bits);
  }

  /** `dst = *(src + offset)`, zero-extended. */
  load(width: Width, dst: Register, src: Register, offset: number): this {
    return this.#put(LDX | MODE_MEM | SIZE[width], dst, src, offset, 0);
  }

  /** `*(dst + offset) = value`. */
  store(width: Width, dst: Register, offset: number, value: Operand): this {
    return typeof value === 'number'
      ? this.#put(ST | MODE_MEM | SIZE[width], dst, 0, offset, value)
      : this.#put(STX | MODE_MEM | SIZE[width], dst, value.register, offset, 0);
  }

  /** `*(dst + offset) += src`, at once for all processors. */
  atomicAdd(width: 4 | 8, dst: Register, offset: number, src: Register): this {
    return this.#put(STX | MODE_ATOMIC | SIZE[width], dst, src, offset, ARITHMETIC.add);
  }

  #imm64(dst: Register, src: number, low: number, high: number): this {
    this.#put(LD | MODE_IMM | SIZE[8], dst, src, 0, low);
    return this.#put(0, 0, 0, 0, high);
  }

  move64(dst: Register, value: bigint): this {
    return this.#imm64(
      dst,
      0,
      Number(BigInt.asIntN(32, value)),
      Number(BigInt.asIntN(32, BigInt.asUintN(64, value) >> 32n)),
    );
  }

  /** The map of an open fd, as helpers take it. The program keeps the map alive; the fd may be closed afterwards. */
  loadMap(dst: Register, fd: number): this {
    return this.#imm64(dst, PSEUDO_MAP_FD, fd, 0);
  }

  /** The address of byte `offset` of an array map's value 0: no look-up at run time. */
  loadMapValue(dst: Register, fd: number, offset: number): this {
    return this.#imm64(dst, PSEUDO_MAP_VALUE, fd, offset);
  }

  call(helper: number): this {
    return this.#put(JMP | CALL, 0, 0, 0, helper);
  }

  exit(): this {
    return this.#put(JMP | EXIT, 0, 0, 0, 0);
  }

  jump(label: string): this {
    return this.#jump(JMP | JUMP_ALWAYS, 0, 0, 0, label);
  }

  /** Jumps when `dst condition than` holds, 64 bits wide. */
  jumpIf(dst: Register, condition: Condition, than: Operand, label: string): this {
    return this.#branch(JMP, dst, condition, than, label);
  }

  /** The same, looking at the low 32 bits. */
  jumpIf32(dst: Register, condition: Condition, than: Operand, label: string): this {
    return this.#branch(JMP32, dst, condition, than, label);
  }

  #branch(width: number, dst: Register, condition: Condition, than: Operand, label: string): this {
    const code = width | CONDITIONS[condition];
    return typeof than === 'number'
      ? this.#jump(code | SOURCE_IMM, dst, 0, than, label)
      : this.#jump(code | SOURCE_REG, dst, than.register, 0, label);
  }

  #jump(opcode: number, dst: number, src: number, imm: number, label: string): this {
    this.#jumps.push({ at: this.#words.length, label });
    return this.#put(opcode, dst, src, 0, imm);
  }

  /** The program. May be called again after more was written. */
  finish(): Uint8Array {
    const bytes = new Uint8Array(this.#words.length * INSTRUCTION_BYTES);
    const view = new DataView(bytes.buffer);
    for (const [index, { opcode, registers, offset, imm }] of this.#words.entries()) {
      const at = index * INSTRUCTION_BYTES;
      view.setUint8(at, opcode);
      view.setUint8(at + 1, registers);
      view.setInt16(at + 2, offset, true);
      view.setInt32(at + 4, imm, true);
    }
    for (const { at, label } of this.#jumps) {
      const to = this.#labels.get(label);
      if (to === undefined) throw new RangeError(`no label ${label}`);
      // Counted from the instruction behind the jump.
      const offset = to - at - 1;
      if (offset < -0x8000 || offset > 0x7fff) throw new RangeError(`label ${label} is too far away`);
      view.setInt16(at * INSTRUCTION_BYTES + 2, offset, true);
    }
    return bytes;
  }
}
