/**
 * What a mirror copies from one side to the other, a chunk at a time: blocks to repair first, then the regions that may
 * differ. One chunk is
 *
 *   lock (exclusive) -> regions marked durably -> read from the one that has it -> write, or zero, to the other -> unlock
 *
 * Makes way for clients: after a chunk during which they were answered it waits PAUSE times as long as that chunk took, so
 * it takes a fifth of a busy mirror and all of an idle one. Whoever ends something calls `proceed`.
 */
import type { MirrorVolume } from './mirror.js';
import type { Leg } from './mirrorParts.js';
import type { LockWaiter } from './rangeLock.js';
import { EXTENT_ZERO, newExtentList, type Memory, type Waiter, type ZeroHow } from './volume.js';

const CHUNK_BYTES = 256 * 1024;
const BLOCK_BYTES = 4096;
const REPAIRS_LIMIT = 64;
const PAUSE = 4;
const PAUSE_LIMIT_MS = 200;
const HOLE: ZeroHow = { mayUnmap: true, fastOnly: false };

interface Repair {
  readonly leg: 0 | 1;
  from: number;
  readonly to: number;
}

type Step = 'idle' | 'locking' | 'marking' | 'reading' | 'writing' | 'flushing';

export class MirrorCopier implements Waiter, LockWaiter {
  static readonly CHUNK_BYTES = CHUNK_BYTES;
  #mirror: MirrorVolume;
  #chunk: Memory;
  #words: Int32Array;
  #now_ms: () => number;
  #step: Step = 'idle';
  #stopped = false;
  #held = false;
  #repairs: Repair[] = [];
  #repair: Repair | null = null;
  #region = -1;
  /** Where the next chunk of the region begins. */
  #next = 0;
  #from = 0;
  #to = 0;
  #target: 0 | 1 = 1;
  #lock = -1;
  #begun_ms = 0;
  #restUntil_ms = 0;
  #clientsSeen = 0;
  #extents = newExtentList(1);

  constructor(mirror: MirrorVolume, chunk: Memory, now_ms: () => number) {
    this.#mirror = mirror;
    this.#chunk = chunk;
    this.#words = new Int32Array(chunk.bytes.buffer, chunk.bytes.byteOffset, CHUNK_BYTES / 4);
    this.#now_ms = now_ms;
  }

  get busy(): boolean {
    return this.#step !== 'idle';
  }

  /** The chunk that is being copied. */
  eachChange(tell: (offset: number, length: number) => void): void {
    if (this.#lock >= 0) tell(this.#from, this.#to - this.#from);
  }

  /** More is stale than was: what has been copied of the region under way may be so again. */
  restart(): void {
    this.#region = -1;
  }

  /** The mirror has become smaller, or others regions. Only while nothing is being copied. */
  resized(): void {
    this.restart();
    const { size_bytes } = this.#mirror;
    this.#repairs = this.#repairs.filter(({ to }) => to <= size_bytes);
  }

  /** Begins nothing until it is let go again. */
  hold(held: boolean): void {
    this.#held = held;
    if (!held) this.proceed();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** That side could not read it, the other could. More than can be remembered are found again by the next read. */
  repair(leg: 0 | 1, offset: number, length: number): void {
    const from = offset - (offset % BLOCK_BYTES);
    const to = Math.min(Math.ceil((offset + length) / BLOCK_BYTES) * BLOCK_BYTES, this.#mirror.size_bytes);
    if (this.#repairs.length >= REPAIRS_LIMIT) return;
    if (this.#repairs.some(other => other.leg === leg && other.from <= from && other.to >= to)) return;
    this.#repairs.push({ leg, from, to });
    this.proceed();
  }

  proceed(): void {
    if (this.#step !== 'idle' || this.#stopped || this.#held || this.#mirror.state === 'failed') return;
    const now_ms = this.#now_ms();
    if (now_ms < this.#restUntil_ms || !this.#choose()) return;
    this.#begun_ms = now_ms;
    this.#step = 'locking';
    this.#lock = this.#mirror.locks.acquire(this.#from, this.#to, true, this);
    if (this.#mirror.locks.held(this.#lock)) this.#mark();
  }

  granted(): void {
    this.#mark();
  }

  journalCommitted(): void {
    if (this.#step === 'marking') this.#mark();
    else this.proceed();
  }

  /** Sets from, to and target of the next chunk; false: there is nothing to do, or the last flush was begun. */
  #choose(): boolean {
    const mirror = this.#mirror;
    while (this.#repairs.length > 0) {
      const repair = this.#repairs[0]!;
      if (repair.from < repair.to && mirror.sides.legs[repair.leg].state !== 'out') {
        this.#repair = repair;
        this.#from = repair.from;
        this.#to = Math.min(repair.to, repair.from + CHUNK_BYTES);
        this.#target = repair.leg;
        return true;
      }
      this.#repairs.shift();
    }
    this.#repair = null;
    this.#target = mirror.sides.good === 0 ? 1 : 0;
    if (this.#leg.state !== 'resyncing') return false;
    const { region_bytes } = mirror.journal;
    if (this.#region < 0 || !mirror.stale.has(this.#region)) {
      this.#region = mirror.stale.next(0);
      this.#next = this.#region * region_bytes;
    }
    // The last region may have become shorter than nothing when the journal knows a larger volume.
    while (this.#region >= 0 && this.#next >= mirror.size_bytes) this.#regionDone();
    if (this.#region < 0) {
      this.#step = 'flushing';
      mirror.flush(this, 0);
      return false;
    }
    this.#from = this.#next;
    this.#to = Math.min(this.#from + CHUNK_BYTES, (this.#region + 1) * region_bytes, mirror.size_bytes);
    return true;
  }

  get #leg(): Leg {
    return this.#mirror.sides.legs[this.#target];
  }

  #regionDone(): void {
    const { stale, journal } = this.#mirror;
    stale.clear(this.#region);
    this.#region = stale.next(0);
    this.#next = this.#region * journal.region_bytes;
  }

  #mark(): void {
    const mirror = this.#mirror;
    mirror.touchRegions(this.#from, this.#to - this.#from);
    const source = this.#target === 0 ? 1 : 0;
    if (mirror.state === 'failed' || this.#leg.state === 'out') return this.#end(false);
    if (!mirror.sides.readableThere(source, this.#from, this.#to - this.#from)) return this.#end(false);
    if (!mirror.journal.mark(this.#from, this.#to - this.#from) || !mirror.journal.goodIsDurable) {
      this.#step = 'marking';
      return;
    }
    this.#step = 'reading';
    const { volume } = mirror.sides.legs[source];
    const length = this.#to - this.#from;
    const list = this.#extents;
    const known = this.#repair === null && volume.extents(this.#from, length, list) === 0;
    if (known && list.count > 0 && list.lengths_bytes[0]! >= length && (list.flags[0]! & EXTENT_ZERO) !== 0)
      return this.#zero();
    volume.read(this.#from, length, this.#chunk, 0, this, 0);
  }

  #zero(): void {
    this.#step = 'writing';
    this.#leg.volume.zero(this.#from, this.#to - this.#from, HOLE, this, 0);
  }

  completed(_token: number, result: number): void {
    const mirror = this.#mirror;
    const length = this.#to - this.#from;
    if (this.#step === 'flushing') {
      this.#step = 'idle';
      const done = result === 0 && mirror.stale.next(0) < 0 && this.#leg.state === 'resyncing';
      if (done) mirror.sides.resynced();
      else this.#rest();
      return;
    }
    if (this.#step === 'reading') {
      if (result < 0) {
        this.#skip();
        return this.#end(false);
      }
      if (this.#isZero(length)) return this.#zero();
      this.#step = 'writing';
      this.#leg.volume.write(this.#from, length, this.#chunk, 0, this, 0);
      return;
    }
    if (result < 0) mirror.sides.takeOut(this.#target, `copying to it failed with errno ${-result}`);
    else {
      mirror.copied_bytes += length;
      if (this.#repair !== null) mirror.repairs++;
    }
    this.#end(result === 0);
  }

  /** The good side cannot read it: the others first, and this region again when it is its turn. */
  #skip(): void {
    if (this.#repair !== null || this.#region < 0) return;
    this.#region = this.#mirror.stale.next(this.#region + 1);
    this.#next = this.#region * this.#mirror.journal.region_bytes;
  }

  #isZero(length: number): boolean {
    if (length % 4 !== 0) return false;
    const words = this.#words;
    for (let i = 0; i < length / 4; i++) if (words[i] !== 0) return false;
    return true;
  }

  #end(done: boolean): void {
    this.#mirror.touchRegions(this.#from, this.#to - this.#from);
    const repair = this.#repair;
    if (repair !== null) {
      repair.from = done ? this.#to : repair.to;
      this.#repair = null;
    } else if (done && this.#region >= 0) {
      this.#next = this.#to;
      const end = Math.min((this.#region + 1) * this.#mirror.journal.region_bytes, this.#mirror.size_bytes);
      if (this.#next >= end) this.#regionDone();
    }
    this.#step = 'idle';
    const lock = this.#lock;
    this.#lock = -1;
    if (!done) this.#rest();
    else if (this.#mirror.clientCount !== this.#clientsSeen) {
      const now_ms = this.#now_ms();
      this.#restUntil_ms = now_ms + Math.min((now_ms - this.#begun_ms) * PAUSE, PAUSE_LIMIT_MS);
    }
    this.#clientsSeen = this.#mirror.clientCount;
    this.#mirror.locks.release(lock);
    this.proceed();
  }

  #rest(): void {
    this.#restUntil_ms = this.#now_ms() + PAUSE_LIMIT_MS;
  }
}
