/**
 * Behind which remote end of a tunnel a station is: learned from the inner source address, as RFC 7348 4.1 has it.
 *
 * A table of sets with four places each: a station has its place in one of the four of its set, and when all are
 * taken by others that were heard of lately, the one heard of least lately gives way. So it is bounded, and what
 * is forgotten is merely sent to every remote end again. Four words to a place:
 *
 *   0 octets 0-1 | 0x10000 (taken)   1 octets 2-5   2 remote end   3 last heard, in seconds
 */
const WAYS = 4;
const WORDS = 4;
const TAKEN = 0x1_0000;

export const KNOWN = 0;
export const NEW = 1;
export const MOVED = 2;
/** Another station had to give way. */
export const REPLACED = 3;

export class TunnelStations {
  readonly #words: Int32Array;
  readonly #sets: number;
  readonly #age_s: number;
  #count = 0;

  /** `capacity`: a power of two. */
  constructor(capacity: number, age_s: number) {
    this.#sets = capacity / WAYS;
    this.#words = new Int32Array(capacity * WORDS);
    this.#age_s = age_s;
  }

  /** Places taken, be it by stations not heard of for long. */
  get count(): number {
    return this.#count;
  }

  #set(high: number, low: number): number {
    const hash = Math.imul(low ^ Math.imul(high, 0x85eb_ca6b), 0x9e37_79b1);
    return ((hash ^ (hash >>> 15)) & (this.#sets - 1)) * WAYS * WORDS;
  }

  learn(high: number, low: number, remote: number, now_s: number): number {
    const words = this.#words;
    const first = this.#set(high, low);
    const key = high | TAKEN;
    let victim = first;
    for (let w = first; w < first + WAYS * WORDS; w += WORDS) {
      if (words[w] === key && words[w + 1] === low) {
        const outcome = words[w + 2] === remote ? KNOWN : MOVED;
        words[w + 2] = remote;
        words[w + 3] = now_s;
        return outcome;
      }
      if (words[w] === 0 ? words[victim] !== 0 : words[victim] !== 0 && words[w + 3]! < words[victim + 3]!)
        victim = w;
    }
    const wasTaken = words[victim] !== 0;
    const wasFresh = wasTaken && now_s - words[victim + 3]! <= this.#age_s;
    if (!wasTaken) this.#count++;
    words[victim] = key;
    words[victim + 1] = low;
    words[victim + 2] = remote;
    words[victim + 3] = now_s;
    return wasFresh ? REPLACED : NEW;
  }

  /** The remote end; -1 when it is not known (any more). */
  lookup(high: number, low: number, now_s: number): number {
    const words = this.#words;
    const first = this.#set(high, low);
    const key = high | TAKEN;
    for (let w = first; w < first + WAYS * WORDS; w += WORDS)
      if (words[w] === key && words[w + 1] === low)
        return now_s - words[w + 3]! <= this.#age_s ? words[w + 2]! : -1;
    return -1;
  }
}
