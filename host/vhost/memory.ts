/**
 * The guest's memory as the peer described it: up to eight regions, each with its place in the guest (what
 * descriptors name) and in the peer's own address space (what ring addresses name).
 *
 *   guest 0x0            0xc0000000         0x100000000
 *         |== region 0 ==|   (hole)         |== region 1 ======|        -> windows of the mapped files
 *
 * `locate` is asked for every descriptor. It takes an address as two 32-bit halves, so that no number beyond 31 bits
 * is handed between functions, and leaves its answer in fields: the window, the offset in it, and how many
 * of the bytes asked for lie there in one stretch. Nothing outside a region is ever answered, so whatever a guest
 * writes into its rings, it can only point us at its own memory.
 */
import type { Region } from './wire.js';
import { REGIONS_MAX_COUNT } from './wire.js';

/** As foreign.ts has it: a stretch of up to this many bytes lies whole in the window in which it begins. */
export const WINDOW_STEP_BYTES = 2 ** 30;

/** What is asked of mapped memory; ForeignMemory of foreign.ts fits, and a double of plain memory. */
export interface Backing {
  readonly length_bytes: number;
  readonly windows: readonly {
    readonly address: number;
    readonly bytes: Uint8Array;
    readonly view: DataView;
    readonly i32: Int32Array;
  }[];
  unmap(): void;
}

/** The typed arrays of one window, made once per table. */
export class Window {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly i32: Int32Array;
  readonly u16: Uint16Array;

  constructor(address: number, bytes: Uint8Array, view: DataView, i32: Int32Array) {
    this.address = address;
    this.bytes = bytes;
    this.view = view;
    this.i32 = i32;
    this.u16 = new Uint16Array(i32.buffer, i32.byteOffset, view.byteLength >>> 1);
  }
}

const NO_WINDOW = new Window(0, new Uint8Array(0), new DataView(new ArrayBuffer(0)), new Int32Array(0));

/** What is wrong with a table before anything is mapped; undefined: nothing. */
export function tableProblem(regions: readonly Region[]): string | undefined {
  for (const [i, region] of regions.entries()) {
    const { guestAddress, size_bytes, userAddress, mmapOffset_bytes } = region;
    const ends = [guestAddress + size_bytes, userAddress + size_bytes, mmapOffset_bytes + size_bytes];
    if (size_bytes === 0 || !ends.every(end => Number.isSafeInteger(end)))
      return `region ${i} is empty or beyond all addresses`;
    // Typed arrays want words on word boundaries.
    if (guestAddress % 4096 !== 0 || size_bytes % 4096 !== 0 || mmapOffset_bytes % 4096 !== 0)
      return `region ${i} does not begin and end at a page`;
    for (const [j, other] of regions.slice(0, i).entries())
      if (
        (guestAddress < other.guestAddress + other.size_bytes &&
          other.guestAddress < guestAddress + size_bytes) ||
        (userAddress < other.userAddress + other.size_bytes && other.userAddress < userAddress + size_bytes)
      )
        return `regions ${j} and ${i} overlap`;
  }
  return undefined;
}

export class GuestMemory {
  #count = 0;
  readonly #start = new Float64Array(REGIONS_MAX_COUNT);
  readonly #end = new Float64Array(REGIONS_MAX_COUNT);
  readonly #user = new Float64Array(REGIONS_MAX_COUNT);
  readonly #windows: Window[][] = [];
  #backings: Backing[] = [];
  /** Where the last address was found: the next one is likely to be there too. */
  #recent = 0;

  // The answer of the last `locate`.
  window: Window = NO_WINDOW;
  offset = 0;
  span = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** The caller has asked `tableProblem`. The backings are ours from now on. */
  set(regions: readonly Region[], backings: Backing[]): void {
    this.clear();
    for (const [i, region] of regions.entries()) {
      this.#start[i] = region.guestAddress;
      this.#end[i] = region.guestAddress + region.size_bytes;
      this.#user[i] = region.userAddress;
      this.#windows[i] = backings[i]!.windows.map(
        ({ address, bytes, view, i32 }) => new Window(address, bytes, view, i32),
      );
    }
    this.#backings = backings;
    this.#count = regions.length;
  }

  clear(): void {
    for (const backing of this.#backings) backing.unmap();
    this.#backings = [];
    this.#windows.length = 0;
    this.#count = 0;
    this.#recent = 0;
    this.#start.fill(0);
    this.#end.fill(0);
    this.window = NO_WINDOW;
    this.span = 0;
  }

  /**
   * Whether the guest has memory at this address. `length_bytes` may be anything; of what lies there in one stretch
   * `span` answers at most so much, and nothing beyond a gigabyte.
   */
  locate(low: number, high: number, length_bytes: number): boolean {
    if (high < 0 || length_bytes <= 0) return false;
    const address = high * 4294967296 + (low >>> 0);
    let region = this.#recent;
    if (!(address >= this.#start[region]! && address < this.#end[region]!)) {
      region = this.#find(address);
      if (region < 0) return false;
      this.#recent = region;
    }
    const into = address - this.#start[region]!;
    const left = this.#end[region]! - address;
    const window = into < WINDOW_STEP_BYTES ? 0 : Math.floor(into / WINDOW_STEP_BYTES);
    this.window = this.#windows[region]![window]!;
    this.offset = (into - window * WINDOW_STEP_BYTES) | 0;
    const span = length_bytes < WINDOW_STEP_BYTES ? length_bytes : WINDOW_STEP_BYTES;
    this.span = span <= left ? span : left | 0;
    return true;
  }

  #find(address: number): number {
    for (let i = 0; i < this.#count; i++) if (address >= this.#start[i]! && address < this.#end[i]!) return i;
    return -1;
  }

  /** For a ring, which the peer names by its own address and which must lie in one stretch. */
  locateUser(address: number, length_bytes: number): boolean {
    for (let i = 0; i < this.#count; i++) {
      const into = address - this.#user[i]!;
      const region_bytes = this.#end[i]! - this.#start[i]!;
      if (!(into >= 0 && into + length_bytes <= region_bytes)) continue;
      const window = Math.floor(into / WINDOW_STEP_BYTES);
      this.window = this.#windows[i]![window]!;
      this.offset = into - window * WINDOW_STEP_BYTES;
      this.span = length_bytes;
      return true;
    }
    return false;
  }
}
