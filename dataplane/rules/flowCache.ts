/**
 * Keys that were looked up before, and what came of them: sets of two, the one that was used last first. Bounded; a
 * new flow takes the place of the older one of its set. It is never told to forget: it belongs to one set of rules, and
 * goes with it.
 */

/** Plan plus one (0: empty), what came of it, and the words of the key under that plan. */
const STRIDE = 18;
const WORDS_AT = 2;
export const CACHE_WORDS_MAX = STRIDE - WORDS_AT;
export const MISS = -1;

export class FlowCache {
  readonly #words: Int32Array;
  readonly #setMask: number;
  /** The key to be found or put in; the caller writes its first words. */
  readonly key = new Int32Array(CACHE_WORDS_MAX);
  #set = 0;
  count = 0;
  hits = 0;
  misses = 0;

  /** `flows`: a power of two. 8192 of them are 576 KiB. */
  constructor(flows: number) {
    this.#words = new Int32Array(flows * STRIDE);
    this.#setMask = flows / 2 - 1;
  }

  /** What came of this key under this plan, or MISS: then `put` puts it where it was looked for. */
  find(plan: number, length: number, hash: number): number {
    const words = this.#words;
    const at = (hash & this.#setMask) * (2 * STRIDE);
    this.#set = at;
    if (this.#fits(at, plan, length)) {
      this.hits++;
      return words[at + 1]!;
    }
    if (this.#fits(at + STRIDE, plan, length)) {
      this.hits++;
      const result = words[at + STRIDE + 1]!;
      for (let i = 0; i < WORDS_AT + length; i++) words[at + STRIDE + i] = words[at + i]!;
      // The other may have been longer than this one.
      this.#moveRest(at, length);
      this.#write(at, plan, length, result);
      return result;
    }
    this.misses++;
    return MISS;
  }

  put(plan: number, length: number, result: number): void {
    const words = this.#words;
    const at = this.#set;
    if (words[at + STRIDE] === 0 && words[at] !== 0) this.count++;
    else if (words[at] === 0) this.count++;
    for (let i = 0; i < STRIDE; i++) words[at + STRIDE + i] = words[at + i]!;
    this.#write(at, plan, length, result);
  }

  #fits(at: number, plan: number, length: number): boolean {
    const words = this.#words;
    if (words[at] !== plan + 1) return false;
    const key = this.key;
    for (let i = 0; i < length; i++) if (words[at + WORDS_AT + i] !== key[i]) return false;
    return true;
  }

  #moveRest(at: number, length: number): void {
    const words = this.#words;
    for (let i = WORDS_AT + length; i < STRIDE; i++) words[at + STRIDE + i] = words[at + i]!;
  }

  #write(at: number, plan: number, length: number, result: number): void {
    const words = this.#words;
    words[at] = plan + 1;
    words[at + 1] = result;
    for (let i = 0; i < length; i++) words[at + WORDS_AT + i] = this.key[i]!;
  }
}
