/** A mirror of memory volumes with its journal in memory, where time is wound by hand and everything can fail or be cut off. */
import { mapAnonymous, viewAt } from '../../../host/memory.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { MirrorVolume } from '../../../storage/volume/mirror.js';
import { JOURNAL_BYTES } from '../../../storage/volume/mirrorJournal.js';
import type { SlowIo } from '../../../storage/volume/slowIo.js';
import type { Memory, VolumeState, Waiter } from '../../../storage/volume/volume.js';
import { EXAM_BYTES, type Examined } from './suite.js';

/** After so many turns. */
function after(later: Later, turns: number, then: () => void): void {
  let left = turns;
  const waiter: Waiter = {
    completed: () => {
      if (left-- > 0) later.answer(waiter, 0, 0);
      else then();
    },
  };
  later.answer(waiter, 0, 0);
}

/** A file in memory: what is synced, and what a crash may tear. */
export class MemoryFile implements SlowIo {
  synced = new Uint8Array(JOURNAL_BYTES);
  now = new Uint8Array(JOURNAL_BYTES);
  error = 0;
  /** Turns that a write or a sync takes. */
  slow: () => number = () => 0;
  #later: Later;

  constructor(later: Later) {
    this.#later = later;
  }
  read(_fd: number, address: number, length: number, offset: number, waiter: Waiter, token: number): void {
    viewAt(address, length).bytes.set(this.now.subarray(offset, offset + length));
    this.#later.answer(waiter, token, length);
  }
  write(_fd: number, address: number, length: number, offset: number, waiter: Waiter, token: number): void {
    if (this.error !== 0) return this.#later.answer(waiter, token, -this.error);
    this.now.set(viewAt(address, length).bytes, offset);
    after(this.#later, this.slow(), () => waiter.completed(token, length));
  }
  fdatasync(_fd: number, waiter: Waiter, token: number): void {
    after(this.#later, this.slow(), () => {
      this.synced = this.now.slice();
      waiter.completed(token, 0);
    });
  }
  fallocate(): void {
    throw new Error('not asked of a journal');
  }
}

/** Fails when told to, counts what is written, and can lose what was not flushed. */
export class Side extends MemoryVolume {
  failing = false;
  failFlush = false;
  /** Turns that a write takes. */
  slow: () => number = () => 0;
  written_bytes = 0;
  /** Does not grow when asked. */
  fixed = false;
  readErrorFrom = -1;
  override state: VolumeState = 'ok';
  #unflushed = new Map<number, Uint8Array>();
  readonly later: Later;

  constructor(size_bytes: number, later: Later) {
    super(size_bytes, later);
    this.later = later;
  }

  override grow(size_bytes: number): void {
    if (!this.fixed) super.grow(size_bytes);
  }
  /** What lies behind is gone, also when it grows again. */
  cut(size_bytes: number): void {
    super.trim(size_bytes, this.size_bytes - size_bytes, { completed: () => undefined }, 0);
    this.size_bytes = size_bytes;
  }
  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    if (this.failing) return -5;
    const bad = this.readErrorFrom;
    if (bad >= 0 && offset < bad + 4096 && bad < offset + length) return -5;
    return super.tryRead(offset, length, memory, at);
  }
  override tryWrite(offset: number, length: number, memory: Memory, at: number): number {
    return this.slow() > 0 ? -11 : this.#write(offset, length, memory, at);
  }
  #write(offset: number, length: number, memory: Memory, at: number): number {
    if (this.failing) return -5;
    this.#remember(offset, length);
    this.written_bytes += length;
    if (this.readErrorFrom >= offset && this.readErrorFrom + 4096 <= offset + length) this.readErrorFrom = -1;
    return super.tryWrite(offset, length, memory, at);
  }
  override write(...args: Parameters<MemoryVolume['write']>): void {
    const [offset, length, memory, at, waiter, token] = args;
    after(this.later, this.slow(), () => waiter.completed(token, this.#write(offset, length, memory, at)));
  }
  override zero(...args: Parameters<MemoryVolume['zero']>): void {
    if (this.failing) return this.later.answer(args[3], args[4], -5);
    this.#remember(args[0], args[1]);
    super.zero(...args);
  }
  override trim(...args: Parameters<MemoryVolume['trim']>): void {
    if (this.failing) return this.later.answer(args[2], args[3], -5);
    this.#remember(args[0], args[1]);
    super.trim(...args);
  }
  override flush(waiter: Waiter, token: number): void {
    if (this.failing || this.failFlush) return this.later.answer(waiter, token, -5);
    this.#unflushed.clear();
    super.flush(waiter, token);
  }

  all(): Buffer {
    const memory = { address: 0, bytes: new Uint8Array(this.size_bytes) };
    super.tryRead(0, this.size_bytes, memory, 0);
    return Buffer.from(memory.bytes);
  }

  /** A crash: each block that was not flushed is as it is, or as it was at the last flush. */
  crash(keep: () => boolean): void {
    for (const [block, before] of this.#unflushed)
      if (!keep()) super.tryWrite(block * 4096, 4096, { address: 0, bytes: before }, 0);
    this.#unflushed.clear();
  }

  #remember(offset: number, length: number): void {
    for (let block = Math.floor(offset / 4096); block * 4096 < offset + length; block++) {
      if (this.#unflushed.has(block)) continue;
      const memory = { address: 0, bytes: new Uint8Array(4096) };
      super.tryRead(block * 4096, 4096, memory, 0);
      this.#unflushed.set(block, memory.bytes);
    }
  }
}

export class Rig implements Examined {
  readonly later = new Later();
  now_ms = 0;
  first: Side;
  second: Side;
  file: MemoryFile;
  volume!: MirrorVolume;
  /** Who the second side is. */
  partner = 'one';
  readonly states: string[] = [];

  constructor(size_bytes = EXAM_BYTES) {
    this.first = new Side(size_bytes, this.later);
    this.second = new Side(size_bytes, this.later);
    this.file = new MemoryFile(this.later);
    this.open();
  }

  open(): void {
    this.volume = new MirrorVolume({
      first: this.first,
      second: this.second,
      journalFd: 9,
      partner: this.partner,
      io: this.file,
      allocate: mapAnonymous,
      later: this.later,
      now_ms: () => this.now_ms,
      onState: volume => void this.states.push(volume.state),
    });
  }

  /** Turns until the machine goes down. */
  crashIn = Infinity;

  turn = (): void => {
    if (this.crashIn-- <= 0) throw new Error('crash');
    this.later.turn();
    if (++this.now_ms % 50 === 0) this.volume.tick(this.now_ms);
  };
  turns(count: number): void {
    for (let i = 0; i < count; i++) this.turn();
  }
  /** Until both sides are the same by its own account. */
  synced(): this {
    for (let i = 0; this.volume.mirrorStatus.state !== 'in-sync'; i++) {
      if (i > 1_000_000) throw new Error(`never in sync: ${JSON.stringify(this.volume.mirrorStatus)}`);
      this.turn();
    }
    return this;
  }
  grow(size_bytes: number): void {
    this.first.grow(size_bytes);
    this.second.grow(size_bytes);
    this.volume.grow(size_bytes);
  }
  close(): void {
    this.volume.close();
  }
}
