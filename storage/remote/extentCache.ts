/**
 * What a server has told of one stretch of its export: Volume.extents must answer at once, a server answers later. So it is
 * asked ahead, and what it said is used until something is written there. Where nothing is known the answer is "data", which
 * is always true enough: only what is told to be zero may be skipped by a reader. Pure.
 *
 * Counts on being the export's only writer, and believes nothing for longer than AGE_LIMIT_MS all the same.
 */
import { EXTENT_DATA, EXTENT_HOLE, EXTENT_ZERO, pushExtent, type ExtentList } from '../volume/volume.js';

const EXTENTS_LIMIT = 4096;
const AGE_LIMIT_MS = 5000;
/** Told of a range that is being asked for: short, so that the next question may find more. */
const UNKNOWN_BYTES = 64 * 1024;

export class ExtentCache {
  /** Being asked: [askedFrom, askedTo), unless it was spoilt by a write. */
  asking = false;
  #spoilt = false;
  #askedFrom = 0;
  #askedTo = 0;
  #at = 0;
  #from = 0;
  #to = 0;
  #until_ms = 0;
  #count = 0;
  #ends = new Float64Array(EXTENTS_LIMIT);
  #flags = new Uint8Array(EXTENTS_LIMIT);

  /** Fills `into` from what is known; true when the server should be asked from `offset` on. */
  fill(offset: number, length: number, now_ms: number, into: ExtentList): boolean {
    into.count = 0;
    const known = !this.asking && now_ms < this.#until_ms && offset >= this.#from && offset < this.#to;
    if (!known) {
      pushExtent(into, Math.min(length, UNKNOWN_BYTES), EXTENT_DATA);
      return !this.asking;
    }
    const end = Math.min(offset + length, this.#to);
    let at = offset;
    for (let i = 0; i < this.#count && at < end; i++) {
      if (this.#ends[i]! <= at) continue;
      const upTo = Math.min(this.#ends[i]!, end);
      if (!pushExtent(into, upTo - at, this.#flags[i]!)) break;
      at = upTo;
    }
    return false;
  }

  begin(offset: number, length: number): void {
    this.asking = true;
    this.#spoilt = false;
    this.#askedFrom = this.#at = this.#from = this.#to = offset;
    this.#askedTo = offset + length;
    this.#count = 0;
  }

  /** The next of the answer. */
  add(length: number, hole: boolean, zero: boolean): void {
    if (this.#count === EXTENTS_LIMIT || this.#at >= this.#askedTo) return;
    this.#at = Math.min(this.#at + length, this.#askedTo);
    const flags = (hole ? EXTENT_HOLE : 0) | (zero ? EXTENT_ZERO : 0);
    if (this.#count > 0 && this.#flags[this.#count - 1] === flags) this.#count--;
    this.#ends[this.#count] = this.#at;
    this.#flags[this.#count++] = flags;
  }

  end(ok: boolean, now_ms: number): void {
    this.asking = false;
    this.#to = ok && !this.#spoilt ? this.#at : this.#from;
    this.#until_ms = now_ms + AGE_LIMIT_MS;
  }

  /** Something is, or was, written there. */
  forget(offset: number, length: number): void {
    const end = offset + length;
    if (this.asking && offset < this.#askedTo && this.#askedFrom < end) this.#spoilt = true;
    if (!this.asking && offset < this.#to && this.#from < end) this.#to = this.#from;
  }
}
