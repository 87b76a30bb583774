/**
 * What a server has acknowledged and not yet been flushed: it may lose that when its machine goes down, and a client of ours,
 * whose file system counts on a page cache that outlives a connection, cannot do it again. So it is kept here, in the
 * order in which it was acknowledged, and done again on a new connection before anything else is asked.
 *
 *   bytes    a ring; an entry whose bytes do not fit before its end becomes two
 *   entries  a ring too: oldest (dropped when a flush that was sent after them is answered) ... newest
 *
 * Bounded: room is reserved before a write is sent. Who finds none flushes first. Pure.
 */
import type { Memory } from '../volume/volume.js';

export const KEPT_WRITE = 0;
export const KEPT_ZERO = 1;
export const KEPT_TRIM = 2;

export class Unflushed {
  readonly memory: Memory;
  /** Entries ever appended; those from `oldest` on are kept. */
  newest = 0;
  oldest = 0;
  #capacity_bytes: number;
  #entries: number;
  #reserved_bytes = 0;
  #reservedEntries = 0;
  #used_bytes = 0;
  #head = 0;
  #kinds: Uint8Array;
  #offsets: Float64Array;
  #lengths: Float64Array;
  /** Of a write: where its bytes are. Of zeroes: flags of the command. */
  #details: Float64Array;

  constructor(memory: Memory, capacity_bytes: number, entries: number) {
    this.memory = memory;
    this.#capacity_bytes = capacity_bytes;
    this.#entries = entries;
    this.#kinds = new Uint8Array(entries);
    this.#offsets = new Float64Array(entries);
    this.#lengths = new Float64Array(entries);
    this.#details = new Float64Array(entries);
  }

  get count(): number {
    return this.newest - this.oldest;
  }

  /** So much is kept or promised that a flush is worth it. */
  get halfFull(): boolean {
    return (
      (this.#used_bytes + this.#reserved_bytes) * 2 > this.#capacity_bytes ||
      (this.count + this.#reservedEntries) * 2 > this.#entries
    );
  }

  /** `length_bytes`: of a write; 0 for others. False: no room until a flush is answered. */
  reserve(length_bytes: number): boolean {
    if (this.#used_bytes + this.#reserved_bytes + length_bytes > this.#capacity_bytes) return false;
    if (this.count + this.#reservedEntries + 2 > this.#entries) return false;
    this.#reserved_bytes += length_bytes;
    this.#reservedEntries += 2;
    return true;
  }

  release(length_bytes: number): void {
    this.#reserved_bytes -= length_bytes;
    this.#reservedEntries -= 2;
  }

  /** It was acknowledged; room for it had been reserved. */
  append(kind: number, flags: number, offset: number, length: number, from: Memory | null, at: number): void {
    this.release(kind === KEPT_WRITE ? length : 0);
    if (kind !== KEPT_WRITE) return this.#entry(kind, offset, length, flags);
    const first = Math.min(length, this.#capacity_bytes - this.#head);
    this.#copy(offset, first, from!, at);
    if (first < length) this.#copy(offset + first, length - first, from!, at + first);
  }

  /** A flush that was sent when `newest` was this has been answered. */
  flushed(newest: number): void {
    for (; this.oldest < newest; this.oldest++) {
      const index = this.oldest % this.#entries;
      if (this.#kinds[index] === KEPT_WRITE) this.#used_bytes -= this.#lengths[index]!;
    }
  }

  kind(entry: number): number {
    return this.#kinds[entry % this.#entries]!;
  }
  offset(entry: number): number {
    return this.#offsets[entry % this.#entries]!;
  }
  length(entry: number): number {
    return this.#lengths[entry % this.#entries]!;
  }
  detail(entry: number): number {
    return this.#details[entry % this.#entries]!;
  }

  /** Whether an entry touches one of [from, entry): then it must not be done beside them. */
  overlaps(entry: number, from: number): boolean {
    const begin = this.offset(entry);
    const end = begin + this.length(entry);
    for (let other = from; other < entry; other++)
      if (this.offset(other) < end && begin < this.offset(other) + this.length(other)) return true;
    return false;
  }

  #copy(offset: number, length: number, from: Memory, at: number): void {
    this.memory.bytes.set(from.bytes.subarray(at, at + length), this.#head);
    this.#entry(KEPT_WRITE, offset, length, this.#head);
    this.#head = (this.#head + length) % this.#capacity_bytes;
    this.#used_bytes += length;
  }

  #entry(kind: number, offset: number, length: number, detail: number): void {
    const index = this.newest++ % this.#entries;
    this.#kinds[index] = kind;
    this.#offsets[index] = offset;
    this.#lengths[index] = length;
    this.#details[index] = detail;
  }
}
