/**
 * The filtering database (IEEE 802.1Q-2022 8.8): which port a station was last heard on, per VLAN.
 *
 * One Int32Array, open addressing with linear probing, four words to an entry, so that an entry never spans two
 * cache lines:
 *
 *   word 0  VLAN << 16 | octets 0-1 of the address     (a VLAN is never 0, so 0 marks an empty entry)
 *   word 1  octets 2-5
 *   word 2  port
 *   word 3  last heard, milliseconds of the engine's clock as a wrapping 32-bit number
 *
 * Removal moves later entries of the run back, so there are no tombstones and a lookup ends at the first empty
 * entry. The table doubles when half full, up to the limit it was made with; a full table learns nothing more.
 * An entry past its age is not found even before `sweep` takes it away.
 *
 * Wrapping time: entries are compared by (now - then) | 0, right as long as no entry stays for 2^31 ms (24.8
 * days) unswept; the owner sweeps every second or so, and ages are bounded to 10^6 s.
 */

const ENTRY_WORDS = 4;
const CAPACITY_MIN = 64;

/** What `learn` answers; a value >= 0 is the port that the station has moved away from. */
export const LEARN_KNOWN = -1;
export const LEARN_NEW = -2;
export const LEARN_FULL = -3;

/** What `lookup` answers for an unknown station. */
export const UNKNOWN = -1;

function hash(w0: number, w1: number): number {
  let h = Math.imul(w0 ^ (w1 >>> 15), 0x9e37_79b1) ^ Math.imul(w1, 0x85eb_ca6b);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b_3c6d);
  return h ^ (h >>> 13);
}

export class FilteringDatabase {
  #table: Int32Array;
  /** Entries minus one: capacities are powers of two. */
  #mask: number;
  #count = 0;
  #limit: number;
  #age_ms: number;
  #sweepAt = 0;

  constructor(limit: number, age_ms: number) {
    this.#limit = limit;
    this.#age_ms = age_ms;
    this.#table = new Int32Array(CAPACITY_MIN * ENTRY_WORDS);
    this.#mask = CAPACITY_MIN - 1;
  }

  /** Entries, those past their age but not yet swept included. */
  get count(): number {
    return this.#count;
  }

  /** Addresses beyond a lowered limit stay until they age. */
  configure(limit: number, age_ms: number): void {
    this.#limit = limit;
    this.#age_ms = age_ms;
  }

  static key0(vlan: number, addressHigh16: number): number {
    return (vlan << 16) | addressHigh16;
  }

  /** The port a station was heard on within the ageing time, or UNKNOWN. */
  lookup(key0: number, key1: number, now_ms: number): number {
    const table = this.#table;
    const mask = this.#mask;
    for (let i = hash(key0, key1) & mask; ; i = (i + 1) & mask) {
      const at = i << 2;
      const w0 = table[at]!;
      if (w0 === 0) return UNKNOWN;
      if (w0 === key0 && table[at + 1] === key1)
        return ((now_ms - table[at + 3]!) | 0) > this.#age_ms ? UNKNOWN : table[at + 2]!;
    }
  }

  /** Notes that the station was heard on the port now. */
  learn(key0: number, key1: number, port: number, now_ms: number): number {
    const table = this.#table;
    const mask = this.#mask;
    let at = 0;
    for (let i = hash(key0, key1) & mask; ; i = (i + 1) & mask) {
      at = i << 2;
      const w0 = table[at]!;
      if (w0 === 0) break;
      if (w0 === key0 && table[at + 1] === key1) {
        const before = table[at + 2]!;
        const heard_ms = table[at + 3]!;
        // Compared first: a store would take the cache line away from nobody, but dirty it for nothing.
        if (heard_ms !== (now_ms | 0)) table[at + 3] = now_ms;
        if (before === port) return LEARN_KNOWN;
        table[at + 2] = port;
        return ((now_ms - heard_ms) | 0) > this.#age_ms ? LEARN_NEW : before;
      }
    }
    if (this.#count >= this.#limit) return LEARN_FULL;
    table[at] = key0;
    table[at + 1] = key1;
    table[at + 2] = port;
    table[at + 3] = now_ms;
    this.#count++;
    if (this.#count * 2 > mask) this.#grow();
    return LEARN_NEW;
  }

  /** Forgets everything. Returns how many. */
  flush(): number {
    const flushed = this.#count;
    this.#table = new Int32Array(CAPACITY_MIN * ENTRY_WORDS);
    this.#mask = CAPACITY_MIN - 1;
    this.#count = 0;
    this.#sweepAt = 0;
    return flushed;
  }

  /** Forgets what was learned on one port. Returns how many. */
  flushPort(port: number): number {
    const before = this.#count;
    for (let i = 0; i <= this.#mask;) {
      const at = i << 2;
      if (this.#table[at] !== 0 && this.#table[at + 2] === port) this.#removeAt(i);
      else i++;
    }
    return before - this.#count;
  }

  /**
   * Looks at up to `entries` entries from where the last sweep ended, and removes those past their age.
   * Returns how many were removed.
   */
  sweep(now_ms: number, entries: number): number {
    const before = this.#count;
    const steps = Math.min(entries, this.#mask + 1);
    for (let step = 0; step < steps; step++) {
      const i = this.#sweepAt & this.#mask;
      const at = i << 2;
      // What removal moves back into this place is looked at in the next step.
      if (this.#table[at] !== 0 && ((now_ms - this.#table[at + 3]!) | 0) > this.#age_ms) this.#removeAt(i);
      else this.#sweepAt = (i + 1) & this.#mask;
    }
    return before - this.#count;
  }

  get capacity(): number {
    return this.#mask + 1;
  }

  /** All live entries, four words each as in the head of this file, word 3 being the age in ms. For listings. */
  snapshot(now_ms: number): Int32Array {
    const out = new Int32Array(this.#count * ENTRY_WORDS);
    let to = 0;
    for (let at = 0; at < this.#table.length; at += ENTRY_WORDS) {
      const age_ms = (now_ms - this.#table[at + 3]!) | 0;
      if (this.#table[at] === 0 || age_ms > this.#age_ms) continue;
      out[to] = this.#table[at]!;
      out[to + 1] = this.#table[at + 1]!;
      out[to + 2] = this.#table[at + 2]!;
      out[to + 3] = age_ms;
      to += ENTRY_WORDS;
    }
    return out.subarray(0, to);
  }

  /** Backward-shift deletion: later entries of the run that may stand earlier are moved up to the hole. */
  #removeAt(index: number): void {
    const table = this.#table;
    const mask = this.#mask;
    let hole = index;
    for (let i = (index + 1) & mask; ; i = (i + 1) & mask) {
      const at = i << 2;
      if (table[at] === 0) break;
      const home = hash(table[at]!, table[at + 1]!) & mask;
      // It may move when its home does not lie cyclically within (hole, i].
      if (((i - home) & mask) >= ((i - hole) & mask)) {
        table.copyWithin(hole << 2, at, at + ENTRY_WORDS);
        hole = i;
      }
    }
    table.fill(0, hole << 2, (hole << 2) + ENTRY_WORDS);
    this.#count--;
  }

  #grow(): void {
    const old = this.#table;
    const mask = (this.#mask + 1) * 2 - 1;
    const table = new Int32Array((mask + 1) * ENTRY_WORDS);
    for (let from = 0; from < old.length; from += ENTRY_WORDS) {
      if (old[from] === 0) continue;
      let i = hash(old[from]!, old[from + 1]!) & mask;
      while (table[i << 2] !== 0) i = (i + 1) & mask;
      for (let w = 0; w < ENTRY_WORDS; w++) table[(i << 2) + w] = old[from + w]!;
    }
    this.#table = table;
    this.#mask = mask;
    this.#sweepAt = 0;
  }
}
