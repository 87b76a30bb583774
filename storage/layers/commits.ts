/**
 * What makes a volume's layers durable, one piece of work at a time:
 *
 *   flush   fdatasync of data that was written -> state pages of groups that changed -> fdatasync of the map
 *   open    the same for the groups of these regions, with the mark; then the regions may be written over
 *   close   fdatasync of the data -> checksum pages -> fdatasync of the map -> as flush, without the mark
 *   freeze  flush, close of all that is open, and both state pages of each group alike
 *
 * The order within each is what every crash state is safe by (map.ts); that they do not overlap is what makes two pages a
 * group enough. `failed` is told once: a sync that failed is never tried again.
 */
import { mapAnonymous, type Mapping } from '../pool/file.js';
import type { Later } from '../volume/later.js';
import { ERRNO, type Waiter } from '../volume/volume.js';
import type { LayerIo } from './io.js';
import type { Layer } from './layer.js';
import {
  BLOCK_BYTES,
  DATA,
  GROUP_REGIONS,
  REGION_BLOCKS,
  REGION_BYTES,
  REGION_OPEN,
  blockWord,
} from './map.js';
import type { Region } from './regions.js';

/** Regions whose every block must be read to be closed (after a crash): so many at a time. */
const UNKNOWN_REGIONS_AT_ONCE = 4;
/** Groups that are looked at for what a dead process left, in one turn. */
const SWEEP_AT_ONCE = 512;
/** Groups of a layer that is frozen, looked at in one turn. */
const SLICE_GROUPS = 256;

/** A region to close: with the words that its layer has in it, and where it is live the region itself. */
export interface Closing {
  readonly index: number;
  readonly words: Uint32Array;
  readonly live: Region | null;
}

export interface CommitsParts {
  readonly io: LayerIo;
  readonly sum: (memory: Mapping, at: number) => number;
  /** Everything that may have to be flushed, the lowest first. */
  readonly layers: () => readonly Layer[];
  readonly later: Later;
  readonly failed: (result: number) => void;
}

type Done = (result: number) => void;
type Step = () => void;

let scratch: Mapping | null = null;

export class Commits implements Waiter {
  #parts: CommitsParts;
  #queue: Step[] = [];
  #running = false;
  /** What follows when the syncs that are with the kernel have ended. */
  #next: Step = () => undefined;
  #done: Done = () => undefined;
  #syncs = 0;
  #worst = 0;
  #failed = false;
  /** Syncs asked of the kernel. */
  syncCount = 0;

  constructor(parts: CommitsParts) {
    this.#parts = parts;
    scratch ??= mapAnonymous(BLOCK_BYTES);
  }

  get busy(): boolean {
    return this.#running;
  }

  /** All that was answered is durable. */
  flush(done: Done): void {
    this.#ask(done, () => this.#flush(() => this.#end(0)));
  }

  /** All these regions are open, durably. `regions` is read when its turn has come. */
  open(layer: Layer, regions: () => Iterable<number>, done: Done): void {
    this.#ask(done, () => {
      const groups = new Set<number>();
      for (const region of regions()) {
        layer.markOpen(region);
        groups.add(Math.floor(region / GROUP_REGIONS));
      }
      this.#commit([{ layer, groups }], () => this.#end(0));
    });
  }

  /** When what is under way now has ended. */
  after(done: Done): void {
    this.#ask(done, () => this.#end(0));
  }

  close(layer: Layer, closings: readonly Closing[], done: Done): void {
    this.#ask(done, () => this.#close(layer, closings, () => this.#end(0)));
  }

  /** Nobody writes this layer any more, or not now. `closings`: of those regions that are open in memory. */
  freeze(layer: Layer, closings: readonly Closing[], done: Done): void {
    if (layer.plain) return this.flush(done);
    const known = new Map(closings.map(one => [one.index, one]));
    this.flush(result => (result < 0 ? done(result) : this.#closeFrom(layer, known, 0, done)));
  }

  completed(_token: number, result: number): void {
    if (result < 0) this.#worst = result;
    if (--this.#syncs > 0) return;
    if (this.#worst < 0) this.#fail(this.#worst);
    else this.#next();
  }

  #ask(done: Done, begin: Step): void {
    this.#queue.push(() => {
      this.#done = done;
      // What a failed sync has lost must not be spoken of by states that are written later.
      if (this.#failed) return this.#end(-ERRNO.EIO);
      this.#worst = 0;
      begin();
    });
    if (!this.#running) this.#turn();
  }

  #turn(): void {
    const begin = this.#queue.shift();
    this.#running = begin !== undefined;
    begin?.();
  }

  #end(result: number): void {
    const done = this.#done;
    // Before the answer: whoever asks again from within it is next in line.
    done(result);
    this.#turn();
  }

  #fail(result: number): void {
    this.#failed = true;
    this.#parts.failed(result);
    this.#end(-ERRNO.EIO);
  }

  #sync(fds: readonly number[], next: Step): void {
    if (fds.length === 0) return next();
    this.#next = next;
    this.#worst = 0;
    this.#syncs = fds.length;
    this.syncCount += fds.length;
    for (const fd of fds) this.#parts.io.fdatasync(fd, this, 0);
  }

  /** These groups as they are now, durably: nothing of them changes until `next`. */
  #commit(of: readonly { layer: Layer; groups: ReadonlySet<number> }[], next: Step): void {
    const data: number[] = [];
    const maps: number[] = [];
    for (const { layer, groups } of of) {
      if (groups.size > 0) maps.push(layer.mapFd);
      let changed = false;
      for (const group of groups) {
        layer.hold(group);
        if (layer.dirty.has(group)) changed = true;
      }
      if (!changed || !layer.unsynced) continue;
      data.push(layer.dataFd);
      layer.unsynced = false;
    }
    this.#sync(data, () => {
      for (const { layer, groups } of of) {
        for (const group of groups) {
          const result = layer.writePage(group);
          if (result < 0) return this.#fail(result);
        }
      }
      this.#sync(maps, () => {
        for (const { layer, groups } of of) for (const group of groups) layer.settle(group);
        next();
      });
    });
  }

  #flush(next: Step): void {
    const unswept = this.#parts.layers().find(layer => !layer.plain && !layer.swept);
    if (unswept !== undefined) return this.#sweep(unswept, 0, () => this.#flush(next));
    const data: number[] = [];
    const of = this.#parts.layers().map(layer => {
      const groups = new Set(layer.dirty);
      // Those with new states are synced by #commit, before the states.
      if (groups.size === 0 && layer.unsynced) {
        data.push(layer.dataFd);
        layer.unsynced = false;
      }
      return { layer, groups };
    });
    const some = of.filter(({ groups }) => groups.size > 0);
    if (some.length === 0) return this.#sync(data, next);
    if (data.length === 0) return this.#commit(some, next);
    this.#sync(data, () => this.#commit(some, next));
  }

  /** A piece in each turn: others go on. */
  #sweep(layer: Layer, from: number, next: Step): void {
    const rest = layer.sweep(from, SWEEP_AT_ONCE);
    if (rest === Infinity) return next();
    this.#parts.later.answer({ completed: () => this.#sweep(layer, rest, next) }, 0, 0);
  }

  #close(layer: Layer, closings: readonly Closing[], next: Step): void {
    const writes = closings.map(({ live }) => live?.writes);
    const untouched = closings.map(
      ({ live }, i) =>
        (): boolean =>
          live === null || (live.writes === writes[i] && live.writers === 0),
    );
    const isSynced = !layer.unsynced;
    layer.unsynced = false;
    this.#sync(isSynced ? [] : [layer.dataFd], () => {
      const written: { closing: Closing; sum: number; untouched: () => boolean }[] = [];
      for (const [i, closing] of closings.entries()) {
        if (!untouched[i]!() || !this.#complete(layer, closing)) continue;
        const sum = layer.checksums ? layer.writeWords(closing.index, closing.words) : 0;
        // No room for it: the region stays open, which harms nothing.
        if (sum < 0) continue;
        written.push({ closing, sum, untouched: untouched[i]! });
      }
      this.#sync([layer.mapFd], () => {
        const groups = new Set<number>();
        for (const { closing, sum, untouched: same } of written) {
          if (!same()) continue;
          layer.close(closing.index, sum);
          if (closing.live !== null) closing.live.open = false;
          groups.add(Math.floor(closing.index / GROUP_REGIONS));
        }
        if (groups.size === 0) return next();
        this.#commit([{ layer, groups }], next);
      });
    });
  }

  /** Sums blocks whose word is not known. False: one of them cannot be read, so the region stays open. */
  #complete(layer: Layer, { index, words }: Closing): boolean {
    if (!layer.checksums) return true;
    const memory = scratch!;
    for (let i = 0; i < REGION_BLOCKS; i++) {
      if (layer.state(index, i) !== DATA) words[i] = 0;
      else if (words[i] === 0) {
        const at = index * REGION_BYTES + i * BLOCK_BYTES;
        if (this.#parts.io.pread(layer.dataFd, memory.address, BLOCK_BYTES, at) !== BLOCK_BYTES) return false;
        words[i] = blockWord(this.#parts.sum(memory, 0), index * REGION_BLOCKS + i);
      }
    }
    return true;
  }

  /**
   * Closes from group `from` on, a slice at a time, those too that an earlier process left open; then makes twins. Others have
   * their turn between slices: a layer of a terabyte must not hold up the flushes of everybody.
   */
  #closeFrom(layer: Layer, known: ReadonlyMap<number, Closing>, from: number, done: Done): void {
    let rest = Infinity;
    const next = (result: number): void => {
      if (result < 0) done(result);
      else if (rest === Infinity) this.#twinsFrom(layer, 0, done);
      else this.#closeFrom(layer, known, rest, done);
    };
    this.#ask(next, () => {
      const some: Closing[] = [];
      let unknown = 0;
      let looked = 0;
      rest = layer.nextWritten(from);
      while (rest !== Infinity && unknown < UNKNOWN_REGIONS_AT_ONCE && looked++ < SLICE_GROUPS) {
        const { disk } = layer.group(rest);
        for (let i = 0; i < GROUP_REGIONS; i++) {
          const index = rest * GROUP_REGIONS + i;
          if ((disk.flags[i]! & REGION_OPEN) === 0 && !layer.open.has(index)) continue;
          const closing = known.get(index);
          if (closing === undefined) unknown++;
          some.push(closing ?? { index, words: new Uint32Array(REGION_BLOCKS), live: null });
        }
        rest = layer.nextWritten(rest + 1);
      }
      if (some.length === 0) this.#end(0);
      else this.#close(layer, some, () => this.#end(0));
    });
  }

  #twinsFrom(layer: Layer, from: number, done: Done): void {
    let rest = Infinity;
    const next = (result: number): void => {
      if (result < 0 || rest === Infinity) done(result);
      else this.#twinsFrom(layer, rest, done);
    };
    this.#ask(next, () => {
      rest = layer.nextWritten(from);
      for (let count = 0; rest !== Infinity && count < SLICE_GROUPS; count++) {
        // Where there is no room for a twin there is one page.
        layer.writeTwin(rest);
        rest = layer.nextWritten(rest + 1);
      }
      this.#sync([layer.mapFd], () => this.#end(0));
    });
  }
}
