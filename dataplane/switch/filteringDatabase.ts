/**
 * The filtering database (IEEE 802.1Q-2022 8.8): which port a station was last heard on, per VLAN, and what the
 * configuration says of stations once and for all.
 *
 * One Int32Array, open addressing with linear probing, four words to an entry, so that an entry never spans two
 * cache lines:
 *
 *   word 0  VLAN << 16 | octets 0-1 of the address     (a VLAN is never 0, so 0 marks an empty entry)
 *   word 1  octets 2-5
 *   word 2  port, with STATIC set for an entry of the configuration
 *   word 3  last heard, milliseconds of the engine's clock as a wrapping 32-bit number
 *
 * Removal moves later entries of the run back, so there are no tombstones and a lookup ends at the first empty
 * entry. The table doubles when half full, up to the limit it was made with; a full table learns nothing more. It
 * grows a little with every address that is learned: what still lies in the old table is found there, and whatever
 * removes entries first moves the rest. Doubling 131,072 entries at once would hold all frames up for 18 ms.
 *
 * An entry past its age is not found even before `sweep` takes it away. Wrapping time: entries are compared by
 * (now - then) | 0, right as long as no entry stays for 2^31 ms (24.8 days) unswept; the owner sweeps every second or
 * so, and ages are bounded to 10^6 s.
 */

const ENTRY_WORDS = 4;
const CAPACITY_MIN = 64;
/** Entries of the old table moved per address learned. Two would do; four are done earlier. */
const MOVED_PER_LEARNING = 4;

/** What `learn` answers; a value >= 0 is the port that the station has moved away from. */
export const LEARN_KNOWN = -1;
export const LEARN_NEW = -2;
/** The table holds as many as it may. */
export const LEARN_FULL = -3;
/** The configuration has the station elsewhere. */
export const LEARN_STATIC = -4;
/** The port holds as many as it may. */
export const LEARN_PORT_FULL = -5;

/** What `lookup` answers for an unknown station. */
export const UNKNOWN = -1;

const STATIC = 1 << 30;
/** Among the ports: what goes to this station goes nowhere. */
export const NOWHERE = 0xffff;

function hash(w0: number, w1: number): number {
  let h = Math.imul(w0 ^ (w1 >>> 15), 0x9e37_79b1) ^ Math.imul(w1, 0x85eb_ca6b);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b_3c6d);
  return h ^ (h >>> 13);
}

/** Where the entry stands in the table; else one less than minus where the empty one stands that ends the search. */
function find(table: Int32Array, mask: number, key0: number, key1: number): number {
  for (let i = hash(key0, key1) & mask; ; i = (i + 1) & mask) {
    const at = i << 2;
    const w0 = table[at]!;
    if (w0 === 0) return -1 - at;
    if (w0 === key0 && table[at + 1] === key1) return at;
  }
}

export class FilteringDatabase {
  #table: Int32Array;
  /** Entries minus one: capacities are powers of two. */
  #mask: number;
  /** The table before the last doubling, of which entries before `#movedTo` were moved; undefined: all were. */
  #old: Int32Array | undefined;
  #movedTo = 0;
  #count = 0;
  #staticCount = 0;
  #limit: number;
  #age_ms: number;
  #sweepAt = 0;
  /** Learned on each port, and how many may be; 0: any number. */
  readonly #perPort: Int32Array;
  readonly #portLimits: Int32Array;

  constructor(limit: number, age_ms: number, ports = 4096) {
    this.#limit = limit;
    this.#age_ms = age_ms;
    this.#table = new Int32Array(CAPACITY_MIN * ENTRY_WORDS);
    this.#mask = CAPACITY_MIN - 1;
    this.#perPort = new Int32Array(ports);
    this.#portLimits = new Int32Array(ports);
  }

  /** Entries, static ones and those past their age but not yet swept included. */
  get count(): number {
    return this.#count;
  }

  /** Of those, what was learned on this port. */
  learnedOn(port: number): number {
    return this.#perPort[port]!;
  }

  /** Addresses beyond a lowered limit stay until they age. */
  configure(limit: number, age_ms: number): void {
    this.#limit = limit;
    this.#age_ms = age_ms;
  }

  /** 0: as many as the table holds. */
  limitPort(port: number, limit: number): void {
    this.#portLimits[port] = limit;
  }

  static key0(vlan: number, addressHigh16: number): number {
    return (vlan << 16) | addressHigh16;
  }

  /** The port a station is on (NOWHERE: what goes to it is dropped), or UNKNOWN. */
  lookup(key0: number, key1: number, now_ms: number): number {
    const table = this.#table;
    const mask = this.#mask;
    for (let i = hash(key0, key1) & mask; ; i = (i + 1) & mask) {
      const at = i << 2;
      const w0 = table[at]!;
      if (w0 === 0) return this.#old === undefined ? UNKNOWN : this.#lookupOld(this.#old, key0, key1, now_ms);
      if (w0 === key0 && table[at + 1] === key1) return this.#portAt(table, at, now_ms);
    }
  }

  #portAt(table: Int32Array, at: number, now_ms: number): number {
    const port = table[at + 2]!;
    if (port >= STATIC) return port & 0xffff;
    return ((now_ms - table[at + 3]!) | 0) > this.#age_ms ? UNKNOWN : port;
  }

  #lookupOld(old: Int32Array, key0: number, key1: number, now_ms: number): number {
    const at = find(old, (old.length >>> 2) - 1, key0, key1);
    return at < 0 ? UNKNOWN : this.#portAt(old, at, now_ms);
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
      if (w0 === key0 && table[at + 1] === key1) return this.#hear(at, port, now_ms);
    }
    if (this.#old !== undefined) {
      const oldAt = find(this.#old, (this.#old.length >>> 2) - 1, key0, key1);
      if (oldAt >= 0) {
        for (let w = 0; w < ENTRY_WORDS; w++) table[at + w] = this.#old[oldAt + w]!;
        return this.#hear(at, port, now_ms);
      }
    }
    if (this.#count >= this.#limit) return LEARN_FULL;
    if (this.#isPortFull(port)) return LEARN_PORT_FULL;
    table[at] = key0;
    table[at + 1] = key1;
    table[at + 2] = port;
    table[at + 3] = now_ms;
    this.#perPort[port]!++;
    this.#added();
    return LEARN_NEW;
  }

  /** What `learn` would answer; nothing is noted. */
  wouldLearn(key0: number, key1: number, port: number, now_ms: number): number {
    let table = this.#table;
    let at = find(table, this.#mask, key0, key1);
    if (at < 0 && this.#old !== undefined) {
      table = this.#old;
      at = find(table, (table.length >>> 2) - 1, key0, key1);
    }
    if (at < 0) {
      if (this.#count >= this.#limit) return LEARN_FULL;
      return this.#isPortFull(port) ? LEARN_PORT_FULL : LEARN_NEW;
    }
    const before = table[at + 2]!;
    if (before >= STATIC) return (before & 0xffff) === port ? LEARN_KNOWN : LEARN_STATIC;
    if (before === port) return LEARN_KNOWN;
    if (this.#isPortFull(port)) return LEARN_PORT_FULL;
    return ((now_ms - table[at + 3]!) | 0) > this.#age_ms ? LEARN_NEW : before;
  }

  #isPortFull(port: number): boolean {
    const limit = this.#portLimits[port]!;
    return limit !== 0 && this.#perPort[port]! >= limit;
  }

  /** The entry at `at` was heard on this port. */
  #hear(at: number, port: number, now_ms: number): number {
    const table = this.#table;
    const before = table[at + 2]!;
    const heard_ms = table[at + 3]!;
    if (before >= STATIC) return (before & 0xffff) === port ? LEARN_KNOWN : LEARN_STATIC;
    if (before === port) {
      // Compared first: a store would take the cache line away from nobody, but dirty it for nothing.
      if (heard_ms !== (now_ms | 0)) table[at + 3] = now_ms;
      return LEARN_KNOWN;
    }
    if (this.#isPortFull(port)) return LEARN_PORT_FULL;
    table[at + 2] = port;
    table[at + 3] = now_ms;
    this.#perPort[before]!--;
    this.#perPort[port]!++;
    return ((now_ms - heard_ms) | 0) > this.#age_ms ? LEARN_NEW : before;
  }

  /** The station goes back to where it was before a `learn` that answered with that port. */
  moveBack(key0: number, key1: number, port: number): void {
    const at = find(this.#table, this.#mask, key0, key1);
    if (at < 0) return;
    this.#perPort[this.#table[at + 2]!]!--;
    this.#perPort[port]!++;
    this.#table[at + 2] = port;
  }

  /** Heard by other eyes than `learn`'s (an offloaded flow): a known station on this port stays young. */
  refresh(key0: number, key1: number, port: number, now_ms: number): void {
    const at = find(this.#table, this.#mask, key0, key1);
    if (at >= 0 && this.#table[at + 2] === port) this.#table[at + 3] = now_ms;
  }

  /** An entry of the configuration, in the place of what was learned. */
  addStatic(key0: number, key1: number, port: number): void {
    this.#finishMoving();
    let at = find(this.#table, this.#mask, key0, key1);
    if (at >= 0) {
      const before = this.#table[at + 2]!;
      if (before < STATIC) {
        this.#perPort[before]!--;
        this.#staticCount++;
      }
      this.#table[at + 2] = STATIC | port;
      return;
    }
    at = -1 - at;
    this.#table[at] = key0;
    this.#table[at + 1] = key1;
    this.#table[at + 2] = STATIC | port;
    this.#staticCount++;
    this.#added();
  }

  removeStatic(key0: number, key1: number): void {
    this.#finishMoving();
    const at = find(this.#table, this.#mask, key0, key1);
    if (at >= 0 && this.#table[at + 2]! >= STATIC) this.#removeAt(at >>> 2);
  }

  /** Forgets what was learned. Returns how many. */
  flush(): number {
    const flushed = this.#count - this.#staticCount;
    if (this.#staticCount === 0) {
      this.#old = undefined;
      this.#table = new Int32Array(CAPACITY_MIN * ENTRY_WORDS);
      this.#mask = CAPACITY_MIN - 1;
      this.#count = 0;
      this.#sweepAt = 0;
      this.#perPort.fill(0);
    } else this.#flushIf(() => true);
    return flushed;
  }

  /** Forgets what was learned on one port. Returns how many. */
  flushPort(port: number): number {
    if (this.#perPort[port] === 0) return 0;
    return this.#flushIf(at => this.#table[at + 2] === port);
  }

  /** Forgets what was learned in one VLAN (by its FID). Returns how many. */
  flushVlan(fid: number): number {
    return this.#flushIf(at => this.#table[at]! >>> 16 === fid);
  }

  #flushIf(isMeant: (at: number) => boolean): number {
    this.#finishMoving();
    const before = this.#count;
    for (let i = 0; i <= this.#mask;) {
      const at = i << 2;
      if (this.#table[at] !== 0 && this.#table[at + 2]! < STATIC && isMeant(at)) this.#removeAt(i);
      else i++;
    }
    return before - this.#count;
  }

  /**
   * Looks at up to `entries` entries from where the last sweep ended, and removes those past their age.
   * Returns how many were removed. While the table grows, it only goes on with that.
   */
  sweep(now_ms: number, entries: number): number {
    if (this.#old !== undefined) {
      this.#move(entries);
      return 0;
    }
    const before = this.#count;
    const steps = Math.min(entries, this.#mask + 1);
    for (let step = 0; step < steps; step++) {
      const i = this.#sweepAt & this.#mask;
      const at = i << 2;
      // What removal moves back into this place is looked at in the next step.
      if (
        this.#table[at] !== 0 &&
        this.#table[at + 2]! < STATIC &&
        ((now_ms - this.#table[at + 3]!) | 0) > this.#age_ms
      )
        this.#removeAt(i);
      else this.#sweepAt = (i + 1) & this.#mask;
    }
    return before - this.#count;
  }

  get capacity(): number {
    return this.#mask + 1;
  }

  /**
   * All live entries, four words each as in the head of this file, word 2 without STATIC, word 3 being the age in ms
   * and -1 for static ones. For listings.
   */
  snapshot(now_ms: number): Int32Array {
    this.#finishMoving();
    const out = new Int32Array(this.#count * ENTRY_WORDS);
    let to = 0;
    for (let at = 0; at < this.#table.length; at += ENTRY_WORDS) {
      if (this.#table[at] === 0) continue;
      const port = this.#table[at + 2]!;
      const age_ms = port >= STATIC ? -1 : (now_ms - this.#table[at + 3]!) | 0;
      if (age_ms > this.#age_ms) continue;
      out[to] = this.#table[at]!;
      out[to + 1] = this.#table[at + 1]!;
      out[to + 2] = port & 0xffff;
      out[to + 3] = age_ms;
      to += ENTRY_WORDS;
    }
    return out.subarray(0, to);
  }

  /** Backward-shift deletion: later entries of the run that may stand earlier are moved up to the hole. */
  #removeAt(index: number): void {
    const table = this.#table;
    const mask = this.#mask;
    const port = table[(index << 2) + 2]!;
    if (port >= STATIC) this.#staticCount--;
    else this.#perPort[port]!--;
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

  /** One entry more stands in the table. */
  #added(): void {
    this.#count++;
    if (this.#old !== undefined) this.#move(MOVED_PER_LEARNING);
    if (this.#count * 2 <= this.#mask) return;
    this.#finishMoving();
    this.#old = this.#table;
    this.#movedTo = 0;
    this.#mask = (this.#mask + 1) * 2 - 1;
    this.#table = new Int32Array((this.#mask + 1) * ENTRY_WORDS);
    this.#sweepAt = 0;
  }

  /** Up to `entries` places of the old table; what the new one has already is left. */
  #move(entries: number): void {
    const old = this.#old!;
    const end = Math.min(old.length, this.#movedTo + entries * ENTRY_WORDS);
    for (let from = this.#movedTo; from < end; from += ENTRY_WORDS) {
      if (old[from] === 0) continue;
      const at = find(this.#table, this.#mask, old[from]!, old[from + 1]!);
      if (at < 0) for (let w = 0; w < ENTRY_WORDS; w++) this.#table[-1 - at + w] = old[from + w]!;
    }
    this.#movedTo = end;
    if (end === old.length) this.#old = undefined;
  }

  #finishMoving(): void {
    if (this.#old !== undefined) this.#move(this.#old.length);
  }
}
