/**
 * The flows that are with the kernel or on their way there: pure bookkeeping, asked for every frame that two ports of
 * the kernel exchange by way of the engine. Allocates nothing after it was made.
 *
 * A flow is (port, destination, source, tag as it came). Its first frames are only counted; at the PASSED_ON_AFTER th
 * the caller hands it to the kernel. It is in one of four states:
 *
 *   COUNTING --handed over--> KERNEL --something it was decided by changed--> ENDING --grace over--> gone
 *       |                       ^  |                                            |
 *       +-- not seen for long   |  +-- idle --> ENDING                          +-- decided again --+
 *       v                       +---------------------------------------------------------------- - +
 *      gone
 *
 * ENDING: the kernel's gates let no more frames of it pass, but those that are past the gate still find it.
 *
 * An open-addressed table of slot numbers finds a flow's slot; everything about the flow stands in arrays by slot.
 */

/** Frames of a flow that the engine forwards before it hands it over: a lone request and its answer are not worth it. */
export const PASSED_ON_AFTER = 4;

export const FREE = 0;
export const COUNTING = 1;
export const KERNEL = 2;
export const ENDING = 3;

/** Words of a key in `keys`: see `find`. */
const KEY_WORDS = 4;

function hash(w0: number, w1: number, w2: number, w3: number): number {
  let h = Math.imul(w1 ^ (w0 << 7), 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15) ^ w2, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13) ^ w3, 0xc2b2ae35);
  return h ^ (h >>> 16);
}

export class FlowTable {
  readonly limit: number;
  readonly state: Uint8Array;
  readonly vlan: Uint16Array;
  readonly egress: Int16Array;
  readonly edit: Int32Array;
  /** Of COUNTING: frames so far. */
  readonly seen: Uint8Array;
  /** When it last had frames, or began to end; the engine's clock. */
  readonly at_ms: Float64Array;
  /** As the kernel counted when it was last asked. */
  readonly frames: Float64Array;
  readonly octets: Float64Array;
  readonly superFrames: Float64Array;
  /** Since it was handed over. */
  readonly totalFrames: Float64Array;
  readonly totalOctets: Float64Array;
  /** How many are KERNEL, and how many slots are taken. */
  kernelCount = 0;
  count = 0;

  readonly #keys: Int32Array;
  /** Slot + 1, or 0. */
  readonly #index: Int32Array;
  readonly #mask: number;
  readonly #free: Int32Array;
  #freeCount: number;

  constructor(limit: number) {
    this.limit = limit;
    this.state = new Uint8Array(limit);
    this.vlan = new Uint16Array(limit);
    this.egress = new Int16Array(limit);
    this.edit = new Int32Array(limit);
    this.seen = new Uint8Array(limit);
    this.at_ms = new Float64Array(limit);
    this.frames = new Float64Array(limit);
    this.octets = new Float64Array(limit);
    this.superFrames = new Float64Array(limit);
    this.totalFrames = new Float64Array(limit);
    this.totalOctets = new Float64Array(limit);
    this.#keys = new Int32Array(limit * KEY_WORDS);
    let size = 4;
    while (size < limit * 2) size *= 2;
    this.#index = new Int32Array(size);
    this.#mask = size - 1;
    this.#free = new Int32Array(limit);
    for (let slot = 0; slot < limit; slot++) this.#free[slot] = limit - 1 - slot;
    this.#freeCount = limit;
  }

  destinationHigh(slot: number): number {
    return this.#keys[slot * KEY_WORDS]! >>> 16;
  }

  sourceHigh(slot: number): number {
    return this.#keys[slot * KEY_WORDS]! & 0xffff;
  }

  destinationLow(slot: number): number {
    return this.#keys[slot * KEY_WORDS + 1]!;
  }

  sourceLow(slot: number): number {
    return this.#keys[slot * KEY_WORDS + 2]!;
  }

  port(slot: number): number {
    return this.#keys[slot * KEY_WORDS + 3]! & 0x7fff;
  }

  /** -1: it comes without a tag. */
  tci(slot: number): number {
    const word = this.#keys[slot * KEY_WORDS + 3]!;
    return (word & 0x8000) === 0 ? -1 : word >>> 16;
  }

  /**
   * Its slot, made in state FREE -> COUNTING when absent, or -1 when all are taken. Halves of addresses: the first
   * 16 bits and the last 32; `tci` -1 without a tag.
   */
  find(
    port: number,
    destinationHigh: number,
    destinationLow: number,
    sourceHigh: number,
    sourceLow: number,
    tci: number,
  ): number {
    const w0 = (destinationHigh << 16) | sourceHigh;
    const w1 = destinationLow | 0;
    const w2 = sourceLow | 0;
    const w3 = tci < 0 ? port : (tci << 16) | 0x8000 | port;
    const index = this.#index;
    const keys = this.#keys;
    let i = hash(w0, w1, w2, w3) & this.#mask;
    for (; ; i = (i + 1) & this.#mask) {
      const slot = index[i]! - 1;
      if (slot < 0) break;
      const at = slot * KEY_WORDS;
      if (keys[at] === w0 && keys[at + 1] === w1 && keys[at + 2] === w2 && keys[at + 3] === w3) return slot;
    }
    if (this.#freeCount === 0) return -1;
    const slot = this.#free[--this.#freeCount]!;
    const at = slot * KEY_WORDS;
    keys[at] = w0;
    keys[at + 1] = w1;
    keys[at + 2] = w2;
    keys[at + 3] = w3;
    index[i] = slot + 1;
    this.state[slot] = COUNTING;
    this.seen[slot] = 0;
    this.count++;
    return slot;
  }

  setState(slot: number, state: number): void {
    if (this.state[slot] === KERNEL) this.kernelCount--;
    if (state === KERNEL) this.kernelCount++;
    this.state[slot] = state;
  }

  /** What the kernel counts of it begins at zero. */
  resetCounters(slot: number): void {
    this.frames[slot] = 0;
    this.octets[slot] = 0;
    this.superFrames[slot] = 0;
  }

  /** The slot is free for another flow. */
  remove(slot: number): void {
    this.setState(slot, FREE);
    const index = this.#index;
    const mask = this.#mask;
    let hole = this.#homeOf(slot);
    while (index[hole] !== slot + 1) hole = (hole + 1) & mask;
    // Backward-shift deletion, as in switch/filteringDatabase.ts.
    for (let i = (hole + 1) & mask; index[i] !== 0; i = (i + 1) & mask) {
      const home = this.#homeOf(index[i]! - 1);
      if (((i - home) & mask) >= ((i - hole) & mask)) {
        index[hole] = index[i]!;
        hole = i;
      }
    }
    index[hole] = 0;
    this.totalFrames[slot] = 0;
    this.totalOctets[slot] = 0;
    this.#free[this.#freeCount++] = slot;
    this.count--;
  }

  #homeOf(slot: number): number {
    const at = slot * KEY_WORDS;
    const keys = this.#keys;
    return hash(keys[at]!, keys[at + 1]!, keys[at + 2]!, keys[at + 3]!) & this.#mask;
  }
}
