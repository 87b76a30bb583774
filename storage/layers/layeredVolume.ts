/**
 * A volume on a chain of layers: thin, with snapshots below it and checksums of what it reads. Read map.ts for what is on
 * disk, commits.ts for when, chain.ts and regions.ts for who has a block.
 *
 *   tryRead    runs of blocks of one owner, each one preadv2(RWF_NOWAIT); zeroes where nobody has anything; every whole block
 *              is compared with its word
 *   tryWrite   whole blocks: pwrite to the top, owner and word in memory. Parts of a block: the block is read, changed, and
 *              written whole (which is also how a block comes up from a layer below)
 *   -EAGAIN    slowOps.ts carries it out: the page cache lacks it, a region must be opened first, the disk is slow, or it
 *              meets an operation that is with the kernel
 *   trim, zero the state says zero (or nothing, in a lowest layer) at once; the hole is punched when that is durable
 *
 * While the chain is one plain layer all goes to a FileVolume, which it then is.
 *
 * Lives in the data thread. Time comes from the loop (`tick`).
 */
import { FileVolume } from '../pool/fileVolume.js';
import { mapAnonymous, voluntarySwitches, type Mapping } from '../pool/file.js';
import type { Checksum } from '../checksum/checksum.js';
import type { Later } from '../volume/later.js';
import type { LayerOpening, LayersOpening } from '../volume/opening.js';
import { FlushGate } from '../volume/flushGate.js';
import { WriteWatch } from '../volume/writeWatch.js';
import {
  ERRNO,
  type BlockMeta,
  type ExtentList,
  type FileRuns,
  type Memory,
  type Volume,
  type VolumeState,
  type Waiter,
  type ZeroHow,
} from '../volume/volume.js';
import { Ahead } from './ahead.js';
import { Chain, LOST } from './chain.js';
import { Commits } from './commits.js';
import { Extents } from './extents.js';
import type { LayerIo } from './io.js';
import { Layer } from './layer.js';
import {
  ABSENT,
  BLOCK_BYTES,
  DATA,
  GROUP_BYTES,
  REGION_BLOCKS,
  REGION_BYTES,
  ZERO,
  blockWord,
} from './map.js';
import { MapReads } from './mapReads.js';
import { Reads } from './reads.js';
import { Regions, type RegionBudget } from './regions.js';
import { SlowOps } from './slowOps.js';
import { Upkeep } from './upkeep.js';

let scratch: Mapping | null = null;

export interface LayeredParts {
  readonly opening: LayersOpening;
  readonly io: LayerIo;
  readonly later: Later;
  readonly checksum: Checksum;
  readonly budget: RegionBudget;
  readonly now_ms: () => number;
  /** `state`, `reason` or `checksumErrors` changed. */
  readonly onState: (volume: LayeredVolume) => void;
}

export class LayeredVolume implements Volume {
  size_bytes: number;
  state: VolumeState = 'ok';
  reason: string | null = null;
  /** Blocks that were read and not what they should be. */
  checksumErrors = 0;
  readonly chain: Chain;
  readonly mapReads: MapReads;
  readonly regions: Regions;
  readonly commits: Commits;
  readonly reads: Reads;
  readonly upkeep: Upkeep;
  readonly ahead: Ahead;
  readonly io: LayerIo;
  writable: boolean;
  preallocated: boolean;
  #parts: LayeredParts;
  #gate: FlushGate;
  #slow: SlowOps;
  #extents: Extents;
  #quotaLeft_bytes: number;
  #watch = new WriteWatch(voluntarySwitches);
  #checkpoints: LayersOpening['checkpoints'];
  /** Ranges whose states are zero or absent now, since the last flush began: to be punched when that is durable. */
  #punches: { layer: Layer; offset: number; length: number }[] = [];
  #changedAt_ms = Infinity;
  /** What the page cache lacked for the last tryRead: who asks to `read` that now need not look again. */
  #missedAt_bytes = -1;
  /** While the chain is one plain layer. */
  #plain: FileVolume | null = null;
  /** Changes of layers that are on their way. */
  #changing = 0;

  constructor(parts: LayeredParts) {
    const { opening, io, checksum, later, budget } = parts;
    this.#parts = parts;
    this.io = io;
    this.size_bytes = opening.size_bytes;
    this.writable = opening.writable;
    this.preallocated = opening.preallocated;
    this.#quotaLeft_bytes = opening.quotaLeft_bytes;
    this.#checkpoints = opening.checkpoints;
    this.chain = new Chain(opening.layers.map(layer => this.#layerOf(layer)).reverse());
    this.mapReads = new MapReads(io, parts.budget.pageRoom);
    const { chain, mapReads } = this;
    this.regions = new Regions({ chain, mapReads, later, budget, tell: reason => this.#tell(reason) });
    this.commits = new Commits({
      io,
      sum: (kind, memory, at) => checksum.sum(kind, memory, at),
      layers: () => this.chain.layers,
      later,
      mapReads,
      failed: result => this.#fail(result),
    });
    this.reads = new Reads(this, checksum);
    this.ahead = new Ahead(this);
    this.#gate = new FlushGate(() => this.#flush());
    this.#slow = new SlowOps(this, parts.later);
    this.upkeep = new Upkeep(this, parts.budget, this.#slow);
    this.#extents = new Extents(this);
    scratch ??= mapAnonymous(BLOCK_BYTES);
    this.#choosePlain();
    if (this.writable) {
      const result = this.upkeep.takeOver();
      if (result < 0) this.#fail(result);
    }
  }

  get busy(): boolean {
    const isChanging = this.#changing > 0 || this.commits.busy || this.upkeep.busy || this.mapReads.busy;
    return isChanging || this.#slow.busy || this.#gate.busy || this.#plain?.busy === true;
  }

  get meta(): BlockMeta | null {
    return this.#extents;
  }

  get checkpoints(): LayersOpening['checkpoints'] {
    return this.#checkpoints;
  }

  get now_ms(): number {
    return this.#parts.now_ms();
  }

  get later(): Later {
    return this.#parts.later;
  }

  tryRead(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    if (this.#plain !== null) return this.#plain.tryRead(offset_bytes, length_bytes, memory, at);
    const end = offset_bytes + length_bytes;
    for (let pos = offset_bytes; pos < end;) {
      const done = this.reads.readRun(pos, end - pos, memory, at + pos - offset_bytes);
      if (done === -ERRNO.EAGAIN) this.#missedAt_bytes = pos;
      if (done < 0) return done;
      pos += done;
    }
    return 0;
  }

  tryWrite(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    if (this.#plain !== null) return this.#plain.tryWrite(offset_bytes, length_bytes, memory, at);
    if (this.#slow.blocks(offset_bytes, length_bytes)) return -ERRNO.EAGAIN;
    if (!this.#watch.begin(this.#parts.now_ms())) return -ERRNO.EAGAIN;
    const result = this.writeNow(offset_bytes, length_bytes, memory, at);
    this.#watch.end(this.#parts.now_ms());
    return result;
  }

  /** Writes, unless something must be waited for: 0, or -errno. */
  writeNow(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const refused = this.mayWrite(offset_bytes, length_bytes);
    if (refused !== 0) return refused;
    const end = offset_bytes + length_bytes;
    const firstWhole = Math.ceil(offset_bytes / BLOCK_BYTES) * BLOCK_BYTES;
    const endWhole = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
    if (firstWhole >= endWhole && (firstWhole !== offset_bytes || endWhole !== end)) {
      // Parts of one block, or of two.
      const middle = Math.min(end, firstWhole);
      const head = middle - offset_bytes;
      const result = head > 0 ? this.#writePart(offset_bytes, head, memory, at) : 0;
      return result < 0 || middle === end ? result : this.#writePart(middle, end - middle, memory, at + head);
    }
    if (firstWhole > offset_bytes) {
      const result = this.#writePart(offset_bytes, firstWhole - offset_bytes, memory, at);
      if (result < 0) return result;
    }
    if (endWhole < end) {
      const result = this.#writePart(endWhole, end - endWhole, memory, at + endWhole - offset_bytes);
      if (result < 0) return result;
    }
    return this.#writeBlocks(firstWhole, endWhole - firstWhole, memory, at + firstWhole - offset_bytes);
  }

  /** Whether these bytes may be written now: 0, -EAGAIN (a region must be opened), or another -errno. */
  mayWrite(offset_bytes: number, length_bytes: number): number {
    if (this.state === 'failed') return -ERRNO.EIO;
    if (!this.writable) return -ERRNO.EPERM;
    const { top } = this.chain;
    if (top.clean) return -ERRNO.EAGAIN;
    const last = Math.floor((offset_bytes + length_bytes - 1) / REGION_BYTES);
    let added = 0;
    for (let index = Math.floor(offset_bytes / REGION_BYTES); index <= last; index++) {
      const region = this.regions.nowToWrite(index);
      if (region === null) return -ERRNO.EAGAIN;
      if (top.checksums && !region.open) {
        if (top.hasCommittedData(index)) return -ERRNO.EAGAIN;
      }
      const { owners } = region;
      const number = this.chain.layers.length;
      let changes = false;
      const from = Math.max(0, Math.floor((offset_bytes - index * REGION_BYTES) / BLOCK_BYTES));
      const to = Math.min(
        REGION_BLOCKS,
        Math.ceil((offset_bytes + length_bytes - index * REGION_BYTES) / BLOCK_BYTES),
      );
      for (let i = from; i < to; i++) {
        if (owners[i] === LOST) return this.lost();
        if (owners[i] === number) continue;
        changes = true;
        added++;
      }
      if (changes && top.isCommitting(index)) return -ERRNO.EAGAIN;
      if (!top.checksums || region.open) continue;
      if (!this.upkeep.mayOpen()) return -ERRNO.EAGAIN;
      // The mark goes to disk with the first states of this region, so it need not be waited for.
      top.markOpen(index);
      region.open = true;
    }
    if (added * BLOCK_BYTES > this.#quotaLeft_bytes) return this.wrote(-ERRNO.EDQUOT);
    return 0;
  }

  #writePart(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const index = Math.floor(offset_bytes / REGION_BYTES);
    const region = this.regions.get(index);
    const block = Math.floor((offset_bytes - index * REGION_BYTES) / BLOCK_BYTES);
    const result = this.reads.readBlock(region, block, scratch!, 0);
    if (result < 0) return result;
    scratch!.bytes.set(memory.bytes.subarray(at, at + length_bytes), offset_bytes % BLOCK_BYTES);
    return this.#writeBlocks(index * REGION_BYTES + block * BLOCK_BYTES, BLOCK_BYTES, scratch!, 0);
  }

  #writeBlocks(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const n = this.io.pwrite(this.chain.top.dataFd, memory.address + at, length_bytes, offset_bytes);
    if (n === length_bytes) {
      return this.wrote(this.written(offset_bytes, length_bytes, memory, at));
    }
    this.uncertain(offset_bytes, length_bytes);
    return this.wrote(n < 0 ? n : -ERRNO.EIO);
  }

  /** These whole blocks are the top's now, with the bytes in memory. 0, or -errno where that could not be noted for a successor. */
  written(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    let result = 0;
    const { top, layers } = this.chain;
    const number = layers.length;
    const { checksum } = this.#parts;
    const now_ms = this.#parts.now_ms();
    top.unsynced = true;
    for (let pos = offset_bytes; pos < offset_bytes + length_bytes;) {
      const index = Math.floor(pos / REGION_BYTES);
      const region = this.regions.get(index);
      const first = (pos - index * REGION_BYTES) / BLOCK_BYTES;
      const count = Math.min(REGION_BLOCKS - first, (offset_bytes + length_bytes - pos) / BLOCK_BYTES);
      let changed = false;
      region.change();
      for (let i = first; i < first + count; i++) {
        if (region.owners[i] !== number) {
          this.#quotaLeft_bytes -= BLOCK_BYTES;
          region.owners[i] = number;
          top.setState(index, i, DATA);
          changed = true;
        }
        const place = at + pos - offset_bytes + (i - first) * BLOCK_BYTES;
        region.words[i] = top.checksums
          ? blockWord(checksum.sum(top.sumKind, memory, place), index * REGION_BLOCKS + i)
          : 0;
      }
      if (changed) result = Math.min(result, top.soften(index, first, count));
      region.lastWrite_ms = now_ms;
      if (region.opensFrom > 0 && this.#changing === 0) this.ahead.reached(region);
      pos += count * BLOCK_BYTES;
    }
    this.#changedAt(now_ms);
    return result;
  }

  /** Nobody may flush for long; a snapshot would have to. */
  #changedAt(now_ms: number): void {
    if (this.#changedAt_ms === Infinity) this.#changedAt_ms = now_ms;
    else if (now_ms > this.#changedAt_ms + this.upkeep.commitAfter_ms && !this.#gate.busy)
      this.flush(NOBODY, 0);
  }

  /** These blocks of the top may hold anything now: whoever has them, nothing is known of their bytes. */
  uncertain(offset_bytes: number, length_bytes: number): void {
    const number = this.chain.layers.length;
    for (let pos = offset_bytes; pos < offset_bytes + length_bytes; pos += BLOCK_BYTES) {
      const index = Math.floor(pos / REGION_BYTES);
      const region = this.regions.get(index);
      const block = (pos - index * REGION_BYTES) / BLOCK_BYTES;
      region.change();
      if (region.owners[block] === number) region.words[block] = 0;
    }
    this.chain.top.unsynced = true;
  }

  read(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    if (this.#plain !== null) return this.#plain.read(offset, length, memory, at, waiter, token);
    this.#slow.read(offset, length, memory, at, waiter, token, offset === this.#missedAt_bytes);
    this.#missedAt_bytes = -1;
  }

  write(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    if (this.#plain !== null && this.#changing === 0)
      return this.#plain.write(offset, length, memory, at, waiter, token);
    this.#slow.write(offset, length, memory, at, waiter, token);
  }

  flush(waiter: Waiter, token: number): void {
    if (this.#plain !== null) return this.#plain.flush(waiter, token);
    if (this.state === 'failed') return this.later.answer(waiter, token, -ERRNO.EIO);
    this.#gate.ask(waiter, token);
  }

  trim(offset: number, length: number, waiter: Waiter, token: number): void {
    if (this.#plain !== null && this.#changing === 0) return this.#plain.trim(offset, length, waiter, token);
    const first = Math.ceil(offset / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.floor((offset + length) / BLOCK_BYTES) * BLOCK_BYTES;
    if (this.preallocated || first >= end) return this.later.answer(waiter, token, 0);
    this.#slow.clear(first, end - first, waiter, token);
  }

  zero(offset: number, length: number, how: ZeroHow, waiter: Waiter, token: number): void {
    if (this.#plain !== null && this.#changing === 0)
      return this.#plain.zero(offset, length, how, waiter, token);
    // A zero that is not to become a hole needs its space: it is written.
    if (this.preallocated || !how.mayUnmap) {
      if (how.fastOnly) return this.later.answer(waiter, token, -ERRNO.EOPNOTSUPP);
      return this.#slow.zeroes(offset, length, waiter, token);
    }
    this.#slow.zero(offset, length, waiter, token);
  }

  /** Whole blocks that read as zeroes from now on: how many bytes, or -errno; -EAGAIN: a commit has to end, or a map to come first. */
  clearNow(offset_bytes: number, length_bytes: number): number {
    if (this.state === 'failed') return -ERRNO.EIO;
    if (!this.writable) return -ERRNO.EPERM;
    if (this.chain.top.clean || this.chain.top.isHeld(offset_bytes, length_bytes)) return -ERRNO.EAGAIN;
    const { top, layers } = this.chain;
    const now_ms = this.#parts.now_ms();
    const state = layers.length === 1 ? ABSENT : ZERO;
    const end = offset_bytes + length_bytes;
    let pos = offset_bytes;
    while (pos < end) {
      const group = Math.floor(pos / GROUP_BYTES);
      // What no layer has ever written need not be looked at, and drives out nothing that clients use.
      const written = pos % GROUP_BYTES === 0 ? this.chain.nextWritten(group) : group;
      if (written > group) {
        pos = Math.min(end, written * GROUP_BYTES);
        continue;
      }
      const index = Math.floor(pos / REGION_BYTES);
      const first = (pos - index * REGION_BYTES) / BLOCK_BYTES;
      const count = Math.min(REGION_BLOCKS - first, (end - pos) / BLOCK_BYTES);
      const region = this.regions.nowToWrite(index);
      if (region === null) break;
      region.change();
      for (let i = first; i < first + count; i++) {
        const owner = region.owners[i]!;
        if (owner === LOST) continue;
        if (owner === layers.length) this.#quotaLeft_bytes += BLOCK_BYTES;
        // What reads as zeroes by nobody's word stays so: a map need not grow by trimming what was never written.
        if (owner !== 0) top.setState(index, i, state);
        region.owners[i] = 0;
        region.words[i] = 0;
      }
      const result = top.soften(index, first, count);
      if (result < 0) return result;
      pos += count * BLOCK_BYTES;
    }
    const cleared = pos - offset_bytes;
    if (cleared === 0) return -ERRNO.EAGAIN;
    this.#changedAt(now_ms);
    this.#punches.push({ layer: top, offset: offset_bytes, length: cleared });
    return cleared;
  }

  cache(offset: number, length: number, waiter: Waiter, token: number): void {
    if (this.#plain !== null) return this.#plain.cache(offset, length, waiter, token);
    this.#slow.cache(offset, length, waiter, token);
  }

  extents(offset_bytes: number, length_bytes: number, into: ExtentList): number {
    if (this.#plain !== null) return this.#plain.extents(offset_bytes, length_bytes, into);
    return this.#extents.allocation(offset_bytes, length_bytes, into);
  }

  sendableFrom(offset_bytes: number, length_bytes: number): number {
    if (this.#plain !== null) return this.#plain.sendableFrom(offset_bytes, length_bytes);
    return this.reads.sendableFrom(offset_bytes, length_bytes);
  }

  tryReadRuns(offset: number, length: number, memory: Memory, at: number, into: FileRuns): number {
    if (this.#plain !== null) return this.#plain.tryRead(offset, length, memory, at);
    return this.reads.readRuns(offset, length, memory, at, into);
  }

  sendFailed(): void {
    this.#plain?.sendFailed();
  }

  grow(size_bytes: number): void {
    this.size_bytes = Math.max(this.size_bytes, size_bytes);
    this.chain.top.size_bytes = Math.max(this.chain.top.size_bytes, size_bytes);
    this.#plain?.grow(size_bytes);
  }

  /** Once in a while, from the loop. */
  tick(now_ms: number): void {
    if (this.#plain !== null || !this.writable || this.state === 'failed') return;
    if (now_ms > this.#changedAt_ms + this.upkeep.commitAfter_ms && !this.#gate.busy) this.flush(NOBODY, 0);
    if (this.#changing === 0) this.upkeep.tick(now_ms);
  }

  /** Everything durable and closed, so that the next one to open it has nothing to look for; then the fds may be closed. */
  shut(done: (result: number) => void): void {
    if (this.#plain !== null) return this.#plain.flush({ completed: (_, result) => done(result) }, 0);
    if (!this.writable || this.state === 'failed') return done(0);
    this.#changing++;
    const over = (result: number): void => {
      this.#changing--;
      this.#slow.resume();
      done(result);
    };
    const finish = (result: number): void => {
      if (result < 0) return over(result);
      this.commits.finish(this.chain.top, this.upkeep.openClosings(), finished =>
        this.upkeep.whenFinished(() => over(finished)),
      );
    };
    this.ahead.rest(() => this.#slow.pause(() => this.commits.flush(finish)));
  }

  /** Holds back changes until `resume`; `paused` is called when none is with the kernel. */
  pause(paused: () => void): void {
    this.#changing++;
    const isBusy = (): boolean => this.#plain?.busy === true;
    const look = (): void =>
      isBusy() ? this.later.answer({ completed: look }, 0, 0) : this.#slow.pause(paused);
    this.ahead.rest(look);
  }

  /**
   * Another top, with what was the top frozen; `done` when all of that is durable. It is finished after that. Only while
   * paused.
   */
  push(opening: LayersOpening, done: (result: number) => void): void {
    const old = this.chain.top;
    if (this.#plain !== null) {
      old.unsynced = true;
      this.#plain = null;
    }
    this.upkeep.freeze(old, done);
    const top = this.#layerOf(opening.layers[0]!);
    top.isNew();
    this.chain.layers.push(top);
    this.#take(opening);
  }

  /** Other layers. Those that stay are the same objects. Only while paused. */
  replace(opening: LayersOpening): void {
    // Only these know more than their files say; another frozen one may have taken up one more, and has another map now.
    const known = new Map([this.chain.top, ...this.upkeep.finishing].map(layer => [layer.uuid, layer]));
    const { top } = this.chain;
    // Frozen ones are only read here: who had them first puts them in order.
    const layerOf = (one: LayerOpening, at: number): Layer =>
      known.get(one.uuid) ?? this.#layerOf(at === 0 ? one : { ...one, held: true });
    this.chain.layers = opening.layers.map(layerOf).reverse();
    this.#slow.keepPunches(this.chain.top.dataFd);
    if (this.chain.top !== top) this.upkeep.topChanged();
    this.regions.clear();
    this.#take(opening);
    this.size_bytes = opening.size_bytes;
    this.#plain = null;
    this.#choosePlain();
  }

  /** True when nothing that was being read before is read any more. */
  readersOfNow(): () => boolean {
    return this.#slow.readersOfNow();
  }

  resume(): void {
    this.#changing--;
    this.#slow.resume();
  }

  /** A block is not what was written, and reading it again did not help. */
  mismatch(pos: number, layer: Layer): void {
    this.checksumErrors++;
    this.#tell(
      `the 4096 bytes at ${pos} are not what was written (layer ${layer.uuid}): the disk has changed them. Restore them from a backup or a mirror; weft pool scrub finds all such places`,
    );
  }

  #tell(reason: string): void {
    this.reason ??= reason;
    this.#parts.onState(this);
  }

  /** Keeps `state` after a write; returns its result. */
  wrote(result: number): number {
    if (result === 0) {
      if (this.state === 'full') this.#become('ok', null);
    } else if (result === -ERRNO.ENOSPC && this.state === 'ok')
      this.#become('full', 'the file system under the pool is full: make room there, or move the pool');
    else if (result === -ERRNO.EDQUOT && this.state === 'ok')
      this.#become('full', 'its quota is used up: raise the quota, trim, or delete snapshots');
    return result;
  }

  #take(opening: LayersOpening): void {
    this.#checkpoints = opening.checkpoints;
    this.#quotaLeft_bytes = opening.quotaLeft_bytes;
    this.writable = opening.writable;
    this.#extents.changed();
  }

  #choosePlain(): void {
    const { layers } = this.chain;
    if (layers.length !== 1 || !layers[0]!.plain || !this.writable) return;
    const { io, later, now_ms } = this.#parts;
    this.#plain = new FileVolume({
      fd: layers[0]!.dataFd,
      size_bytes: this.size_bytes,
      slow: io,
      later,
      now_ms,
      onState: ({ state, reason }) => this.#become(state, reason),
    });
  }

  #flush(): void {
    const punches = this.#punches;
    this.#punches = [];
    this.#changedAt_ms = Infinity;
    const begin_ms = this.#parts.now_ms();
    this.commits.flush(result => {
      this.upkeep.committed(this.#parts.now_ms() - begin_ms);
      if (result === 0)
        for (const { layer, offset, length } of punches) this.upkeep.giveBack(layer, offset, length);
      this.#gate.ended(result);
    });
  }

  /** A block whose map is lost was asked for: from now on nothing is written. */
  lost(): number {
    if (this.state !== 'failed' && this.state !== 'damaged') {
      this.writable = false;
      this.#become(
        'damaged',
        `${this.chain.damage ?? 'its map is damaged'}: that part cannot be read, the rest can; nothing is written any more. Copy it, or restore it from a backup`,
      );
    }
    return -ERRNO.EIO;
  }

  #fail(result: number): void {
    if (this.state === 'failed') return;
    this.#become(
      'failed',
      `a sync failed with errno ${-result}: data that was taken may be lost. Check the disk, restart weft-storage, and check the guest file system`,
    );
  }

  #layerOf(opening: LayerOpening): Layer {
    return new Layer(opening, this.#parts.io, this.#parts.checksum.pageSum);
  }

  #become(state: VolumeState, reason: string | null): void {
    this.state = state;
    this.reason = reason;
    this.#parts.onState(this);
  }
}

const NOBODY: Waiter = { completed: () => undefined };
