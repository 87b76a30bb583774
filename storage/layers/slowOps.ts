/**
 * What of a LayeredVolume cannot be answered at once: it is carried out step by step, and tried again from the beginning
 * when what it waited for has come.
 *
 *   read    run by run; a run that the page cache lacks is read by SlowIo, straight to where it belongs, after what is said of it in
 *           maps (mapReads.ts)
 *   change  (write, trim, zero) waits for: the map there, nobody else changing these blocks, regions to be opened, the rest of a block that
 *           it writes a part of; then it is done as the fast path does it. On a slow disk whole blocks are written by SlowIo
 *
 * Changes of the same blocks are done in the order in which they came. While paused none begins.
 */
import { mapAnonymous, type Mapping } from '../pool/file.js';
import { ERRNO, type Memory, type Waiter } from '../volume/volume.js';
import type { Later } from '../volume/later.js';
import { RangeLock, type LockWaiter } from '../volume/rangeLock.js';
import { LOST } from './chain.js';
import type { LayeredVolume } from './layeredVolume.js';
import { BLOCK_BYTES, REGION_BLOCKS, REGION_BYTES } from './map.js';
import type { Region } from './regions.js';

const CACHE_LIMIT_BYTES = 8 * 1024 * 1024;
const SCRATCH_BYTES = 256 * 1024;

/** Where hints are read to, for all volumes of a thread; and zeroes to write. */
let hints: Mapping | null = null;
let zeroes: Mapping | null = null;

export class SlowOps {
  readonly volume: LayeredVolume;
  readonly later: Later;
  /** Of changes: each holds its blocks. */
  #locks = new RangeLock();
  /** Those that give space back. */
  #punches = new Set<Change>();
  /** Reads and hints: they hold no blocks. */
  #readers = new Set<object>();
  #paused: (() => void) | null = null;
  #isPaused = false;
  #opening: { regions: Set<number>; ahead: Region[]; waiters: Change[] } | null = null;

  constructor(volume: LayeredVolume, later: Later) {
    this.volume = volume;
    this.later = later;
  }

  get busy(): boolean {
    return this.#locks.count > 0 || this.#readers.size > 0;
  }

  /** Whether a change of these bytes must wait for another: the fast path asks. */
  blocks(offset_bytes: number, length_bytes: number): boolean {
    return this.#locks.blocks(floor(offset_bytes), ceil(offset_bytes + length_bytes));
  }

  /** `paused` is called when no change is on its way; from then on until `resume` none begins. */
  pause(paused: () => void): void {
    this.#isPaused = true;
    this.#locks.pause();
    this.#paused = paused;
    // Never from within this call: the caller may hold several volumes.
    this.later.answer({ completed: () => this.#tellPaused() }, 0, 0);
  }

  resume(): void {
    this.#isPaused = false;
    this.#locks.resume();
  }

  /** `missed`: the page cache was found to lack the beginning, just now. */
  read(
    offset: number,
    length: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
    missed: boolean,
  ): void {
    const read = new Read(this, offset, length, memory, at, waiter, token);
    this.#readers.add(read);
    read.begin(missed);
  }

  write(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    this.#enter(new Change(this, 'write', offset, length, memory, at, waiter, token));
  }

  /** Zeroes are written out. */
  zeroes(offset: number, length: number, waiter: Waiter, token: number): void {
    zeroes ??= mapAnonymous(SCRATCH_BYTES);
    this.#enter(new Change(this, 'zeroes', offset, length, zeroes, 0, waiter, token));
  }

  /** Reads as zeroes from then on; whole blocks need no space. */
  zero(offset: number, length: number, waiter: Waiter, token: number): void {
    zeroes ??= mapAnonymous(SCRATCH_BYTES);
    this.#enter(new Change(this, 'zero', offset, length, zeroes, 0, waiter, token));
  }

  /** As zero, of whole blocks. */
  clear(offset: number, length: number, waiter: Waiter, token: number): void {
    this.zero(offset, length, waiter, token);
  }

  cache(offset: number, length: number, waiter: Waiter, token: number): void {
    hints ??= mapAnonymous(SCRATCH_BYTES);
    const hint = new Hint(this, offset, Math.min(length, CACHE_LIMIT_BYTES), hints, waiter, token);
    this.#readers.add(hint);
    hint.begin();
  }

  /** Gives space back; nobody waits for it, but changes of these blocks do. */
  punch(fd: number, mode: number, offset: number, length: number): void {
    const hole = new Change(this, 'punch', offset, length, null, 0, NOBODY, 0);
    hole.fd = fd;
    hole.mode = mode;
    this.#punches.add(hole);
    this.#enter(hole);
  }

  /** Space of this file is being given back, or will be. */
  punches(fd: number): boolean {
    for (const hole of this.#punches) if (hole.fd === fd) return true;
    return false;
  }

  /** What waits to be given back of other files than this one is not: they may be closed. */
  keepPunches(fd: number): void {
    for (const hole of this.#punches) {
      if (hole.fd === fd || this.#locks.held(hole.lock)) continue;
      this.#punches.delete(hole);
      this.#locks.release(hole.lock);
    }
  }

  /** A read or hint has ended. */
  left(reader: object): void {
    this.#readers.delete(reader);
  }

  /** Answers whether those that read now have ended: then no file of before is in use any more. */
  readersOfNow(): () => boolean {
    const now = [...this.#readers];
    const mapReads = this.volume.mapReads.readsOfNow();
    return () => mapReads() && now.every(reader => !this.#readers.has(reader));
  }

  /** A change has ended: its blocks are free. */
  ended(change: Change): void {
    this.#punches.delete(change);
    this.#locks.release(change.lock);
    this.#tellPaused();
  }

  /** Regions are opened together, by one commit for all who wait. */
  open(regions: Iterable<number>, change: Change): void {
    const begins = this.#opening === null;
    this.#opening ??= { regions: new Set(), ahead: [], waiters: [] };
    for (const region of regions) {
      this.#opening.regions.add(region);
      for (const other of this.volume.ahead.together(region)) {
        this.#opening.regions.add(other.index);
        this.#opening.ahead.push(other);
      }
    }
    this.#opening.waiters.push(change);
    if (!begins) return;
    const { volume } = this;
    const { top } = volume.chain;
    let batch = this.#opening;
    volume.commits.open(
      top,
      () => {
        batch = this.#opening!;
        this.#opening = null;
        return batch.regions;
      },
      result => {
        volume.ahead.opened(batch.ahead, result);
        if (result === 0)
          for (const index of batch.regions) {
            const region = volume.regions.peek(index);
            if (region !== undefined) region.open = true;
          }
        for (const waiter of batch.waiters) waiter.again(result);
      },
    );
  }

  #enter(change: Change): void {
    const { offset, length } = change;
    change.lock = this.#locks.acquire(floor(offset), ceil(offset + length), true, change);
    if (this.#locks.held(change.lock)) change.granted();
  }

  #tellPaused(): void {
    if (!this.#isPaused || this.#locks.heldCount > 0) return;
    const paused = this.#paused;
    this.#paused = null;
    paused?.();
  }
}

const floor = (offset_bytes: number): number => Math.floor(offset_bytes / BLOCK_BYTES) * BLOCK_BYTES;
const ceil = (offset_bytes: number): number => Math.ceil(offset_bytes / BLOCK_BYTES) * BLOCK_BYTES;

/** Tokens of a change's own waits. */
const FIRST = 0;
const FETCHED = 1;
const WROTE = 2;

class Change implements Waiter, LockWaiter {
  lock = -1;
  readonly offset: number;
  readonly length: number;
  fd = -1;
  mode = 0;
  #ops: SlowOps;
  #kind: 'write' | 'zeroes' | 'zero' | 'punch';
  #memory: Memory | null;
  #at: number;
  #waiter: Waiter;
  #token: number;
  #done = 0;
  #piece = 0;
  #pieceLeft = 0;
  #regions: Region[] = [];

  constructor(
    ops: SlowOps,
    kind: Change['kind'],
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    waiter: Waiter,
    token: number,
  ) {
    this.#ops = ops;
    this.#kind = kind;
    this.offset = offset;
    this.length = length;
    this.#memory = memory;
    this.#at = at;
    this.#waiter = waiter;
    this.#token = token;
  }

  get kind(): 'write' | 'zeroes' | 'zero' | 'punch' {
    return this.#kind;
  }

  /** Its blocks are its own. */
  granted(): void {
    // Not from within the call that asked, or that let go.
    this.#ops.later.answer(this, FIRST, 0);
  }

  /** A commit that it waited for has ended. */
  again(result: number): void {
    if (result < 0) this.#end(result);
    else this.#go();
  }

  completed(step: number, result: number): void {
    if (step === FIRST) return this.#go();
    if (step === FETCHED) {
      // What came is in the page cache now; where it did not come, the next try says why.
      if (result < 0 && result !== -ERRNO.EAGAIN && result !== -EINTR) return this.#end(result);
      return this.#go();
    }
    if (this.#kind === 'punch') return this.#end(0);
    this.#wrote(result);
  }

  #go(): void {
    const { volume } = this.#ops;
    if (this.#kind === 'punch') return this.#punch();
    while (this.#done < this.length) {
      const pos = this.offset + this.#done;
      const left = this.length - this.#done;
      const isWhole = pos % BLOCK_BYTES === 0 && left >= BLOCK_BYTES;
      if (this.#kind === 'zero' && isWhole) {
        const length = left - (left % BLOCK_BYTES);
        const result = volume.clearNow(pos, length);
        if (result === -ERRNO.EAGAIN) return this.#wait(pos, length);
        if (result < 0) return this.#end(result);
        this.#done += result;
        continue;
      }
      // A part of a block alone; whole blocks as far as one region goes.
      const toRegion = REGION_BYTES - (pos % REGION_BYTES);
      const toBlock = BLOCK_BYTES - (pos % BLOCK_BYTES);
      let length = isWhole ? Math.min(left - (left % BLOCK_BYTES), toRegion) : Math.min(left, toBlock);
      if (this.#kind !== 'write') length = Math.min(length, SCRATCH_BYTES);
      const memory = this.#memory!;
      const at = this.#kind === 'write' ? this.#at + this.#done : 0;
      const may = volume.mayWrite(pos, length);
      if (may === -ERRNO.EAGAIN) return this.#wait(pos, length);
      if (may < 0) return this.#end(may);
      if (isWhole) return this.#write(pos, length, memory, at);
      const result = volume.writeNow(pos, length, memory, at);
      if (result === -ERRNO.EAGAIN) return this.#bring(pos);
      if (result < 0) return this.#end(result);
      this.#done += length;
    }
    this.#end(0);
  }

  /** For a part of the map, a commit that is under way, or one that says that the layer or a region of it is being written. */
  #wait(pos: number, length: number): void {
    const { volume } = this.#ops;
    const index = Math.floor(pos / REGION_BYTES);
    if (!volume.chain.top.clean && !volume.regions.isReady(index))
      return volume.regions.bring(index, () => this.#go());
    if (volume.chain.top.isHeld(pos, length) || !volume.upkeep.mayOpen())
      return volume.commits.after(result => this.again(result));
    this.#ops.open(volume.chain.top.clean ? [] : [index], this);
  }

  /** The rest of a block that is written in part. */
  #bring(pos: number): void {
    const { volume } = this.#ops;
    const index = Math.floor(pos / REGION_BYTES);
    const block = Math.floor((pos - index * REGION_BYTES) / BLOCK_BYTES);
    const owner = volume.regions.get(index).owners[block]!;
    hints ??= mapAnonymous(SCRATCH_BYTES);
    const at = index * REGION_BYTES + block * BLOCK_BYTES;
    volume.io.read(volume.chain.layer(owner).dataFd, hints.address, BLOCK_BYTES, at, this, FETCHED);
  }

  /** Whole blocks of one region, by SlowIo: other clients go on meanwhile. */
  #write(pos: number, length: number, memory: Memory, at: number): void {
    const { volume } = this.#ops;
    const region = volume.regions.get(Math.floor(pos / REGION_BYTES));
    // Who reads meanwhile gets the old bytes or the new ones, and neither can be compared.
    volume.uncertain(pos, length);
    region.busy++;
    region.writers++;
    this.#regions.push(region);
    this.#piece = length;
    this.#pieceLeft = length;
    volume.io.write(volume.chain.top.dataFd, memory.address + at, length, pos, this, WROTE);
  }

  #wrote(result: number): void {
    const { volume } = this.#ops;
    const pos = this.offset + this.#done;
    const memory = this.#memory!;
    const at = this.#kind === 'write' ? this.#at + this.#done : 0;
    if (result > 0) this.#pieceLeft -= result;
    const fd = volume.chain.top.dataFd;
    const gone = this.#piece - this.#pieceLeft;
    if ((result > 0 && this.#pieceLeft > 0) || result === -EINTR || result === -ERRNO.EAGAIN)
      return volume.io.write(fd, memory.address + at + gone, this.#pieceLeft, pos + gone, this, WROTE);
    for (const region of this.#regions) {
      region.busy--;
      region.writers--;
    }
    this.#regions.length = 0;
    if (result <= 0) return this.#end(volume.wrote(result === 0 ? -ERRNO.EIO : result));
    this.#note(pos, memory, at);
  }

  /** The bytes are there; they count when states may change. */
  #note(pos: number, memory: Memory, at: number): void {
    const { volume } = this.#ops;
    const index = Math.floor(pos / REGION_BYTES);
    if (!volume.regions.isReady(index)) return volume.regions.bring(index, () => this.#note(pos, memory, at));
    if (volume.chain.top.isHeld(pos, this.#piece))
      return volume.commits.after(result => (result < 0 ? this.#end(result) : this.#note(pos, memory, at)));
    const result = volume.wrote(volume.written(pos, this.#piece, memory, at));
    if (result < 0) return this.#end(result);
    this.#done += this.#piece;
    this.#go();
  }

  #punch(): void {
    const { volume } = this.#ops;
    // Written again since it was asked for.
    const end = this.offset + this.length;
    if (volume.chain.top.nextData(this.offset, end) < end) return this.#end(0);
    volume.io.fallocate(this.fd, this.mode, this.offset, this.length, this, WROTE);
  }

  #end(result: number): void {
    this.#ops.ended(this);
    this.#waiter.completed(this.#token, result);
  }
}

class Read implements Waiter {
  #ops: SlowOps;
  #offset: number;
  #length: number;
  #memory: Memory;
  #at: number;
  #waiter: Waiter;
  #token: number;
  #done = 0;
  #region: Region | null = null;
  #first = 0;
  #count = 0;
  #words: Uint32Array | null = null;
  #owner = 0;
  #runLeft = 0;
  #run = 0;

  constructor(
    ops: SlowOps,
    offset: number,
    length: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ) {
    this.#ops = ops;
    this.#offset = offset;
    this.#length = length;
    this.#memory = memory;
    this.#at = at;
    this.#waiter = waiter;
    this.#token = token;
  }

  begin(missed: boolean): void {
    if (!missed || !this.#bring(this.#offset, this.#length)) this.#ops.later.answer(this, FIRST, 0);
  }

  completed(step: number, result: number): void {
    if (step === FIRST || this.#arrived(result)) this.#go();
  }

  #go(): void {
    const { volume } = this.#ops;
    while (this.#done < this.#length) {
      const pos = this.#offset + this.#done;
      const left = this.#length - this.#done;
      const n = volume.reads.readRun(pos, left, this.#memory, this.#at + this.#done);
      if (n === -ERRNO.EAGAIN) {
        if (this.#bring(pos, left)) return;
        // Its map has come in between.
        continue;
      }
      if (n < 0) return this.#end(n);
      this.#done += n;
    }
    this.#end(0);
  }

  /**
   * Asks for the run that is not in memory: whole blocks to where they belong, a part of a block by way of the page cache. False:
   * nobody has it, or it is lost.
   */
  #bring(pos: number, left: number): boolean {
    const { volume } = this.#ops;
    const index = Math.floor(pos / REGION_BYTES);
    const region = volume.regions.peek(index);
    if (region === undefined) {
      volume.regions.bring(index, () => this.#go());
      return true;
    }
    const first = Math.floor((pos - index * REGION_BYTES) / BLOCK_BYTES);
    const owner = region.owners[first]!;
    if (owner === 0 || owner === LOST) return false;
    const isWhole = pos % BLOCK_BYTES === 0 && left >= BLOCK_BYTES;
    let count = 1;
    const most = isWhole ? Math.min(REGION_BLOCKS - first, Math.floor(left / BLOCK_BYTES)) : 1;
    while (count < most && region.owners[first + count] === owner) count++;
    this.#region = region;
    this.#first = first;
    this.#count = isWhole ? count : 0;
    this.#owner = owner;
    this.#words = isWhole ? region.words.slice(first, first + count) : null;
    this.#run = count * BLOCK_BYTES;
    this.#runLeft = this.#run;
    region.busy++;
    hints ??= mapAnonymous(SCRATCH_BYTES);
    const address = isWhole ? this.#memory.address + this.#at + this.#done : hints.address;
    const at = index * REGION_BYTES + first * BLOCK_BYTES;
    volume.io.read(volume.chain.layer(owner).dataFd, address, this.#run, at, this, FETCHED);
    return true;
  }

  /** False: it has ended, or waits for more. */
  #arrived(result: number): boolean {
    const { volume } = this.#ops;
    const region = this.#region!;
    if (result > 0) this.#runLeft -= result;
    const again = result === -EINTR || result === -ERRNO.EAGAIN;
    if (again || (result > 0 && this.#runLeft > 0)) {
      const gone = this.#run - this.#runLeft;
      const isWhole = this.#count > 0;
      const address = isWhole ? this.#memory.address + this.#at + this.#done + gone : hints!.address + gone;
      const at = region.index * REGION_BYTES + this.#first * BLOCK_BYTES + gone;
      volume.io.read(volume.chain.layer(this.#owner).dataFd, address, this.#runLeft, at, this, FETCHED);
      return false;
    }
    region.busy--;
    if (result <= 0) {
      this.#end(result === 0 ? -ERRNO.EIO : result);
      return false;
    }
    if (this.#count === 0) return true; // it is in the page cache now
    const at = this.#at + this.#done;
    // Written meanwhile, or to other layers: the words of now are not those of what was read. Read again, from memory then.
    for (let i = 0; i < this.#count; i++) {
      const b = this.#first + i;
      if (region.owners[b] !== this.#owner || region.words[b] !== this.#words![i]) return true;
    }
    if (!volume.reads.verify(region, this.#first, this.#first + this.#count, this.#memory, at)) {
      this.#end(-ERRNO.EIO);
      return false;
    }
    this.#done += this.#run;
    return true;
  }

  #end(result: number): void {
    this.#ops.left(this);
    this.#waiter.completed(this.#token, result);
  }
}

/** Reads ahead into the page cache; whatever goes wrong does not matter. */
class Hint implements Waiter {
  #ops: SlowOps;
  #pos: number;
  #end: number;
  #memory: Mapping;
  #waiter: Waiter;
  #token: number;

  constructor(ops: SlowOps, offset: number, length: number, memory: Mapping, waiter: Waiter, token: number) {
    this.#ops = ops;
    this.#pos = offset;
    this.#end = offset + length;
    this.#memory = memory;
    this.#waiter = waiter;
    this.#token = token;
  }

  begin(): void {
    this.#ops.later.answer(this, FIRST, 0);
  }

  completed(_step: number, result: number): void {
    const { volume } = this.#ops;
    while (result >= 0 && this.#pos < this.#end) {
      const index = Math.floor(this.#pos / REGION_BYTES);
      if (volume.regions.now(index) === null)
        return volume.regions.bring(index, () => this.completed(FIRST, 0));
      const run = volume.reads.ownedRun(this.#pos, Math.min(this.#end - this.#pos, SCRATCH_BYTES));
      const from = this.#pos;
      this.#pos += run.length_bytes;
      if (run.fd >= 0)
        return volume.io.read(run.fd, this.#memory.address, run.length_bytes, from, this, FETCHED);
    }
    this.#ops.left(this);
    this.#waiter.completed(this.#token, 0);
  }
}

const EINTR = 4;
const NOBODY: Waiter = { completed: () => undefined };
