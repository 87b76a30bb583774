/**
 * A mirror's write-intent journal: which regions of the two sides may differ, and which side is good. Codec and state machine;
 * the file is written by a SlowIo, so crash states can be enumerated in tests.
 *
 *   file   copy 0 (20 KiB)   copy 1 (20 KiB)      written alternately, synced before the other is written again
 *   copy   0 magic "WMIR"(4)  4 CRC-32 of the copy with these 4 bytes zero(4)  8 sequence(8)  16 size(8)  24 region size(8)
 *          32 good: 0 both, 1 the first, 2 the second(4)   36 length(4) and 64 text of who the second side is(128)
 *          4096 a bit for each region (16 KiB)            little-endian
 *
 * The whole copy with the higher sequence counts: a copy that a crash tore leaves the other. Two rules make it true:
 *
 *   - a region is marked, durably, before a write to it is begun; it is cleared only after both sides were flushed, and
 *     then the next write to it marks it again
 *   - `good` names one side, durably, before a write is answered that only this side got
 *
 * It tells of these two sides as long as nobody else has written to one of them: the second one is named by its `partner`, a text
 * that is another one once it was used by itself (desk/volumes.ts; '': a journal from before there were any).
 *
 * A file of zeroes is a new mirror: everything differs and the first side is good, because it is the volume that was asked to
 * be mirrored. A file with two bad copies is damaged: which side is good is not guessed. One bad copy beside one of zeroes
 * is a new mirror again: nothing was answered yet on the strength of a first copy that did not get whole.
 */
import type { SlowIo } from './slowIo.js';
import type { Memory, Waiter } from './volume.js';

const REGIONS_LIMIT = 131_072;
const REGION_BYTES = 4 * 1024 * 1024;
const HEADER_BYTES = 4096;
export const COPY_BYTES = HEADER_BYTES + REGIONS_LIMIT / 8;
export const JOURNAL_BYTES = 2 * COPY_BYTES;
const PARTNER_LIMIT_BYTES = 128;
const PARTNER_AT = 64;
const MAGIC = 0x52494d57;
const EIO = -5;

export type Good = 'both' | 'first' | 'second';
const GOODS: readonly Good[] = ['both', 'first', 'second'];

export interface JournalCopy {
  readonly sequence: number;
  readonly size_bytes: number;
  readonly region_bytes: number;
  readonly good: Good;
  /** At most PARTNER_LIMIT_BYTES in UTF-8. */
  readonly partner: string;
  readonly marks: Uint8Array;
}

/** 4 MiB, or more where the journal would not hold them all. */
export function regionBytesOf(size_bytes: number): number {
  let region_bytes = REGION_BYTES;
  while (size_bytes / region_bytes > REGIONS_LIMIT) region_bytes *= 2;
  return region_bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = (sum & 1) === 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  return sum;
});

function crc32(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = (sum >>> 8) ^ CRC_TABLE[(sum ^ bytes[i]!) & 0xff]!;
  return (sum ^ 0xffffffff) >>> 0;
}

/** `bytes` has COPY_BYTES. */
export function emitCopy(bytes: Uint8Array, copy: JournalCopy): void {
  const v = new DataView(bytes.buffer, bytes.byteOffset, COPY_BYTES);
  bytes.fill(0, 0, HEADER_BYTES);
  v.setUint32(0, MAGIC, true);
  v.setBigUint64(8, BigInt(copy.sequence), true);
  v.setBigUint64(16, BigInt(copy.size_bytes), true);
  v.setBigUint64(24, BigInt(copy.region_bytes), true);
  v.setUint32(32, GOODS.indexOf(copy.good), true);
  const partner = Buffer.from(copy.partner).subarray(0, PARTNER_LIMIT_BYTES);
  v.setUint32(36, partner.length, true);
  bytes.set(partner, PARTNER_AT);
  bytes.set(copy.marks, HEADER_BYTES);
  v.setUint32(4, crc32(bytes.subarray(0, COPY_BYTES)), true);
}

/** null: not whole. */
export function parseCopy(bytes: Uint8Array): JournalCopy | null {
  const v = new DataView(bytes.buffer, bytes.byteOffset, COPY_BYTES);
  if (v.getUint32(0, true) !== MAGIC) return null;
  const whole = bytes.slice(0, COPY_BYTES);
  whole.fill(0, 4, 8);
  if (crc32(whole) !== v.getUint32(4, true)) return null;
  const [sequence, size_bytes, region_bytes] = [8, 16, 24].map(at => Number(v.getBigUint64(at, true)));
  const good = GOODS[v.getUint32(32, true)];
  const length = v.getUint32(36, true);
  if (good === undefined || length > PARTNER_LIMIT_BYTES) return null;
  if (region_bytes! < 4096 || size_bytes! / region_bytes! > REGIONS_LIMIT) return null;
  return {
    sequence: sequence!,
    size_bytes: size_bytes!,
    region_bytes: region_bytes!,
    good,
    partner: Buffer.from(whole.buffer, PARTNER_AT, length).toString(),
    marks: whole.slice(HEADER_BYTES),
  };
}

/** What a journal's file says; 'new' and 'damaged' as above. */
export function parseJournal(bytes: Uint8Array): JournalCopy | 'new' | 'damaged' {
  const halves = [bytes.subarray(0, COPY_BYTES), bytes.subarray(COPY_BYTES, JOURNAL_BYTES)];
  const [a, b] = halves.map(parseCopy);
  if (a && b) return a.sequence > b.sequence ? a : b;
  if (a || b) return (a ?? b)!;
  return halves.some(half => half.every(byte => byte === 0)) ? 'new' : 'damaged';
}

export class Bits {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array = new Uint8Array(REGIONS_LIMIT / 8)) {
    this.bytes = bytes;
  }

  has(region: number): boolean {
    return (this.bytes[region >>> 3]! & (1 << (region & 7))) !== 0;
  }
  /** True when it was not set. */
  set(region: number): boolean {
    const at = region >>> 3;
    const before = this.bytes[at]!;
    this.bytes[at] = before | (1 << (region & 7));
    return this.bytes[at] !== before;
  }
  clear(region: number): void {
    this.bytes[region >>> 3]! &= ~(1 << (region & 7));
  }
  /** Two regions become one. */
  halve(): void {
    const before = new Bits(this.bytes.slice());
    this.bytes.fill(0);
    for (let i = before.next(0); i >= 0; i = before.next(i + 1)) this.set(i >>> 1);
  }
  /** From `region` on. */
  clearFrom(region: number): void {
    for (let i = this.next(region); i >= 0; i = this.next(i + 1)) this.clear(i);
  }
  count(): number {
    let count = 0;
    for (let byte of this.bytes) for (; byte !== 0; byte &= byte - 1) count++;
    return count;
  }
  /** From `region` on, the next that is set; -1. */
  next(region: number): number {
    for (let i = region; i < REGIONS_LIMIT;) {
      if (this.bytes[i >>> 3] === 0) i = ((i >>> 3) + 1) << 3;
      else if (this.has(i)) return i;
      else i++;
    }
    return -1;
  }
}

const LOAD = 0;
const WRITE = 1;
const SYNC = 2;

export interface JournalOwner {
  /** The journal has been read; or could not be. */
  journalLoaded(found: JournalCopy | 'new' | 'damaged' | 'unreadable'): void;
  /** More is durable than was, or it failed. */
  journalCommitted(): void;
}

export class MirrorJournal implements Waiter {
  size_bytes = 0;
  region_bytes = REGION_BYTES;
  good: Good = 'first';
  partner = '';
  failed = false;
  commitCount = 0;
  /** As it should be on disk. */
  readonly marks = new Bits();
  #durable = new Bits();
  #durableGood: Good | null = null;
  #writing: { good: Good; marks: Uint8Array } | null = null;
  #changed = false;
  #sequence = 0;
  #memory: Memory;
  #io: SlowIo;
  #fd: number;
  #owner: JournalOwner;

  /** `memory` has JOURNAL_BYTES and belongs to this. */
  constructor(io: SlowIo, fd: number, memory: Memory, owner: JournalOwner) {
    this.#io = io;
    this.#fd = fd;
    this.#memory = memory;
    this.#owner = owner;
  }

  get busy(): boolean {
    return this.#writing !== null;
  }

  load(): void {
    this.#memory.bytes.fill(0, 0, JOURNAL_BYTES);
    this.#io.read(this.#fd, this.#memory.address, JOURNAL_BYTES, 0, this, LOAD);
  }

  /** What was found, or decided; durable from the next commit on. */
  adopt(copy: JournalCopy): void {
    this.#sequence = copy.sequence;
    this.size_bytes = copy.size_bytes;
    this.region_bytes = copy.region_bytes;
    this.good = copy.good;
    this.partner = copy.partner;
    this.marks.bytes.set(copy.marks);
  }

  /** Who is good is on disk as it is here. */
  get goodIsDurable(): boolean {
    return this.#durableGood === this.good && !this.failed;
  }

  /** Marks what [offset, offset + length) touches. True: it is all durable already. */
  mark(offset: number, length: number): boolean {
    let durable = true;
    const last = Math.floor((offset + length - 1) / this.region_bytes);
    for (let region = Math.floor(offset / this.region_bytes); region <= last; region++) {
      this.marks.set(region);
      if (!this.#durable.has(region)) durable = false;
    }
    if (!durable) this.commit();
    return durable && !this.failed;
  }

  /** Sets the bits of all regions that [offset, offset + length) touches. */
  spread(bits: Bits, offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / this.region_bytes);
    for (let region = Math.floor(offset / this.region_bytes); region <= last; region++) bits.set(region);
  }

  /** For a larger volume; regions grow, two by two, where they would be too many. `also` are other bits of the same regions. */
  grow(size_bytes: number, also: Bits): void {
    this.size_bytes = size_bytes;
    while (size_bytes / this.region_bytes > REGIONS_LIMIT) {
      this.region_bytes *= 2;
      for (const bits of [this.marks, also]) bits.halve();
      this.#durable.bytes.fill(0);
    }
    this.commit();
  }

  /** For a smaller volume: of what is cut off nothing is told any more. `also` are other bits of the same regions. */
  cut(size_bytes: number, also: Bits): void {
    this.size_bytes = size_bytes;
    for (const bits of [this.marks, this.#durable, also])
      bits.clearFrom(Math.ceil(size_bytes / this.region_bytes));
    this.commit();
  }

  /** Both sides are flushed and nobody writes there. */
  clear(region: number): void {
    this.marks.clear(region);
    // From now on it counts for nothing, whatever the file still says.
    this.#durable.clear(region);
  }

  setGood(good: Good): void {
    this.good = good;
    this.commit();
  }

  commit(): void {
    this.#changed = true;
    if (this.#writing !== null || this.failed) return;
    this.#changed = false;
    this.commitCount++;
    const marks = this.marks.bytes.slice();
    this.#writing = { good: this.good, marks };
    const sequence = ++this.#sequence;
    const at = (sequence % 2) * COPY_BYTES;
    const { size_bytes, region_bytes, good, partner } = this;
    const copy = { sequence, size_bytes, region_bytes, good, partner, marks };
    emitCopy(this.#memory.bytes.subarray(0, COPY_BYTES), copy);
    this.#io.write(this.#fd, this.#memory.address, COPY_BYTES, at, this, WRITE);
  }

  completed(token: number, result: number): void {
    if (token === LOAD) {
      // A file that is shorter reads as zeroes behind its end.
      const bytes = this.#memory.bytes.slice(0, JOURNAL_BYTES);
      return this.#owner.journalLoaded(result < 0 ? 'unreadable' : parseJournal(bytes));
    }
    if (token === WRITE) {
      if (result === COPY_BYTES) return this.#io.fdatasync(this.#fd, this, SYNC);
      // Short is as bad as failed: there is no room, or no disk.
      return this.#fail(EIO);
    }
    if (result < 0) return this.#fail(result);
    const { good, marks } = this.#writing!;
    this.#writing = null;
    this.#durableGood = good;
    // What was cleared meanwhile is not durable again.
    for (let i = 0; i < marks.length; i++) this.#durable.bytes[i] = marks[i]! & this.marks.bytes[i]!;
    if (this.#changed) this.commit();
    this.#owner.journalCommitted();
  }

  #fail(_result: number): void {
    this.failed = true;
    this.#writing = null;
    this.#owner.journalCommitted();
  }
}
