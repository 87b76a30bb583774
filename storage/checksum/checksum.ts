/**
 * Sums of blocks of 4096 bytes, for one thread: the WebAssembly of blockSum.ts and of xxh3.ts with the memory of both.
 *
 *   0 secret (192)   256 factors (4112)   8192 scratch block   12288 what `take` gives away, from here to the end
 *
 * The memory never grows, so its address stays, and buffers that the kernel fills can lie in it: what lies there is summed in
 * place, anything else is copied to the scratch block first. In place: 180 ns and 360 ns, where a call into C of libxxhash cost
 * 1030, and of the zlib that node carries 1430.
 */
import { FACTORS, blockSumModule } from './blockSum.js';
import { SECRET, SUMMED_BYTES, xxh3Module } from './xxh3.js';

const PAGE_BYTES = 65_536;
const FACTORS_AT = 256;
const SCRATCH_AT = 8192;
const FREE_AT = SCRATCH_AT + SUMMED_BYTES;

/**
 * What a layer keeps of its blocks: 'products' of blockSum.ts; 'xxh3', the low half of XXH3-64, in layers made before there was
 * the other. Pages of maps have XXH3 everywhere.
 */
export type SumKind = 'products' | 'xxh3';

/** As Memory of volume.ts, of which only the bytes are read. */
interface Summable {
  readonly bytes: Uint8Array;
}

type Run = (at: number, constantsAt: number) => number;

/** What is used of it; TypeScript has these types only among those of browsers. */
declare const WebAssembly: {
  Memory: new (limits: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

export class Checksum {
  /** All of the memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  #buffer: ArrayBuffer;
  #xxh3: Run;
  #products: Run;
  #free = FREE_AT;
  /** The bytes that were asked about last, and where they lie in our memory; -1: elsewhere. V8 calls C++ for `buffer`. */
  #known: Uint8Array | null = null;
  #knownAt = -1;

  /** `room_bytes`: how much may be given away by `allocate`; reserved, and used only when touched. */
  constructor(room_bytes: number = 0) {
    const pages = Math.ceil((FREE_AT + room_bytes) / PAGE_BYTES);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const runOf = (module: Uint8Array<ArrayBuffer>): Run => {
      const instance = new WebAssembly.Instance(new WebAssembly.Module(module), { env: { memory } });
      return (instance.exports as { run: Run }).run;
    };
    this.#xxh3 = runOf(xxh3Module(pages));
    this.#products = runOf(blockSumModule(pages));
    this.#buffer = memory.buffer;
    this.bytes = new Uint8Array(this.#buffer);
    this.bytes.set(SECRET, 0);
    // WebAssembly reads them as little-endian, whatever the machine.
    const factors = new DataView(this.#buffer, FACTORS_AT);
    for (let i = 0; i < FACTORS.length; i++) factors.setInt16(2 * i, FACTORS[i]!, true);
  }

  /** Of the 4096 bytes at `memory.bytes[at]`: 0 to 2^32 - 1. */
  sum(kind: SumKind, memory: Summable, at: number): number {
    const { bytes } = memory;
    if (bytes !== this.#known) {
      this.#known = bytes;
      this.#knownAt = bytes.buffer === this.#buffer ? bytes.byteOffset : -1;
    }
    let place = this.#knownAt + at;
    if (this.#knownAt < 0) {
      this.bytes.set(bytes.subarray(at, at + SUMMED_BYTES), SCRATCH_AT);
      place = SCRATCH_AT;
    }
    return (kind === 'products' ? this.#products(place, FACTORS_AT) : this.#xxh3(place, 0)) >>> 0;
  }

  /** XXH3 of one page of 4096 bytes. */
  pageSum = (page: Uint8Array): number => {
    if (page.buffer === this.#buffer) return this.#xxh3(page.byteOffset, 0) >>> 0;
    this.bytes.set(page, SCRATCH_AT);
    return this.#xxh3(SCRATCH_AT, 0) >>> 0;
  };

  /** A part of the memory for good, on a page boundary; null when there is not so much left. */
  take(length_bytes: number): Uint8Array<ArrayBuffer> | null {
    const at = this.#free;
    if (at + length_bytes > this.bytes.length) return null;
    this.#free = Math.ceil((at + length_bytes) / SUMMED_BYTES) * SUMMED_BYTES;
    return new Uint8Array(this.#buffer, at, length_bytes);
  }
}
