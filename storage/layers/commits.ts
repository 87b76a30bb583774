/**
 * What makes a volume's layers durable, one piece of work at a time:
 *
 *   flush   fdatasync of data that was written -> state pages of groups that changed -> fdatasync of the map
 *   open    the same for the groups of these regions, with the mark; then the regions may be written over
 *   close   fdatasync of the data -> checksum pages -> fdatasync of the map -> as flush, without the mark
 *   finish  close of all that is open, both state pages of each group alike, then the word that the layer is clean
 *
 * A layer is frozen by a flush, and finished when there is time; a process that dies in between leaves it to the next one,
 * which finds that it is not clean. The order within each piece is what every crash state is safe by (map.ts); that they do not
 * overlap is what makes two pages a group enough. `failed` is told once: a sync that failed is never tried again.
 */
import type { SumKind } from '../checksum/checksum.js';
import { mapAnonymous, type Mapping } from '../pool/file.js';
import type { Later } from '../volume/later.js';
import { ERRNO, type Waiter } from '../volume/volume.js';
import type { LayerIo } from './io.js';
import type { Layer } from './layer.js';
import type { MapReads } from './mapReads.js';
import {
  BLOCK_BYTES,
  DATA,
  GROUP_REGIONS,
  PAGE_BYTES,
  REGION_BLOCKS,
  REGION_BYTES,
  blockWord,
  statePageAt,
} from './map.js';
import type { Region } from './regions.js';

/** Regions whose every block must be read to be closed (after a crash): so many at a time. */
const UNKNOWN_REGIONS_AT_ONCE = 4;
/** Groups that are looked at for what a dead process left, in one turn. */
const SWEEP_AT_ONCE = 512;
/** Pages that are brought together for it. */
const BRING_AT_ONCE = 128;
/** Groups that are written in one turn. */
const SLICE_GROUPS = 256;
/** Groups that are finished together: so few that a snapshot, which may have to wait for them, does not notice. */
const FINISH_GROUPS = 32;
/** Blocks are read so many at a time to be summed. */
const SUM_BLOCKS = 64;

const SYNCED = 0;
const READ = 1;
const EINTR = 4;

/** A region to close: who has its blocks as `number` is what its layer had then, and their words. */
export interface Closing {
  readonly index: number;
  readonly owners: Uint16Array;
  readonly words: Uint32Array;
  readonly number: number;
  /** Where the layer is still written. */
  readonly live: Region | null;
}

/** A region on its way to be closed. */
interface Work {
  readonly index: number;
  /** Of this layer's blocks; 0 elsewhere, and where they are not known. */
  readonly words: Uint32Array;
  readonly live: Region | null;
  readonly writes: number;
  unreadable: boolean;
}

export interface CommitsParts {
  readonly io: LayerIo;
  readonly sum: (kind: SumKind, memory: Mapping, at: number) => number;
  /** Everything that may have to be flushed, the lowest first. */
  readonly layers: () => readonly Layer[];
  readonly later: Later;
  readonly mapReads: MapReads;
  readonly failed: (result: number) => void;
}

type Done = (result: number) => void;
type Step = () => void;

/** Where pages are read to that are only to be in the page cache. */
let unread: Mapping | null = null;

export class Commits implements Waiter {
  #parts: CommitsParts;
  #queue: Step[] = [];
  #running = false;
  /** The last flush has passed others. */
  #jumped = false;
  /** What follows when the syncs that are with the kernel have ended. */
  #next: Step = () => undefined;
  #done: Done = () => undefined;
  #syncs = 0;
  #worst = 0;
  #failed = false;
  /** What is being summed: its layer, its blocks, the place in the file. */
  #summing: { layer: Layer; work: Work; first: number; room: Mapping; next: Step } | null = null;
  #waitedFor = -1;
  /** Syncs asked of the kernel. */
  syncCount = 0;

  constructor(parts: CommitsParts) {
    this.#parts = parts;
    unread ??= mapAnonymous(2 * PAGE_BYTES);
  }

  get busy(): boolean {
    return this.#running;
  }

  /** All that was answered is durable. */
  flush(done: Done): void {
    // Ahead of what nobody waits for; every second time only, so that this is done too.
    const jumps = !this.#jumped;
    this.#jumped = jumps && this.#queue.length > 0;
    this.#ask(done, () => this.#flush(() => this.#end(0)), jumps);
  }

  /** The layer is not clean and all these regions are open, durably. `regions` is read when its turn has come. */
  open(layer: Layer, regions: () => Iterable<number>, done: Done): void {
    const open = (): void => {
      const groups = new Set<number>();
      for (const region of regions()) {
        layer.markOpen(region);
        groups.add(Math.floor(region / GROUP_REGIONS));
      }
      this.#commit([{ layer, groups }], () => this.#end(0));
    };
    this.#ask(done, () => {
      if (!layer.clean) return open();
      // First and by itself: of pages that are not synced any may come to the disk.
      layer.markClean(false);
      this.#commit([{ layer, groups: new Set([0]) }], open);
    });
  }

  /** When what is under way now has ended. */
  after(done: Done): void {
    this.#ask(done, () => this.#end(0));
  }

  close(layer: Layer, closings: readonly Closing[], done: Done): void {
    this.#ask(done, () => this.#close(layer, closings, () => this.#end(0)));
  }

  /** Nobody writes this layer any more, and it was flushed. `closings`: of those regions that were open in memory. */
  finish(layer: Layer, closings: readonly Closing[], done: Done): void {
    if (layer.plain || layer.foreign || layer.clean) return this.after(done);
    const known = new Map(closings.map(one => [one.index, one]));
    this.#finishFrom(layer, known, 0, done);
  }

  completed(token: number, result: number): void {
    if (token === READ) return this.#summed(result);
    if (result < 0) this.#worst = result;
    if (--this.#syncs > 0) return;
    if (this.#worst < 0) this.#fail(this.#worst);
    else this.#next();
  }

  #ask(done: Done, begin: Step, jumps = false): void {
    const piece = (): void => {
      this.#done = done;
      // What a failed sync has lost must not be spoken of by states that are written later.
      if (this.#failed) return this.#end(-ERRNO.EIO);
      this.#worst = 0;
      begin();
    };
    if (jumps) this.#queue.unshift(piece);
    else this.#queue.push(piece);
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
    for (const fd of fds) this.#parts.io.fdatasync(fd, this, SYNCED);
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
    const pages = of.flatMap(({ layer, groups }) => [...groups].map(group => ({ layer, group })));
    const settle = (): void => {
      for (const { layer, group } of pages) layer.settle(group);
      next();
    };
    this.#sync(data, () => this.#writePages(pages, 0, () => this.#sync(maps, settle)));
  }

  #writePages(pages: readonly { layer: Layer; group: number }[], from: number, next: Step): void {
    const end = Math.min(pages.length, from + SLICE_GROUPS);
    for (let i = from; i < end; i++) {
      const result = pages[i]!.layer.writePage(pages[i]!.group);
      if (result < 0) return this.#fail(result);
    }
    if (end === pages.length) next();
    else this.#afterOthers(() => this.#writePages(pages, end, next));
  }

  #afterOthers(step: Step): void {
    this.#parts.later.answer({ completed: step }, 0, 0);
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
    if (layer.foreign || layer.clean) layer.swept = true;
    if (layer.swept) return next();
    let missing = -1;
    const rest = layer.sweep(from, SWEEP_AT_ONCE, at => {
      // It was brought already, and has left the page cache again.
      if (at === this.#waitedFor) return true;
      missing = at;
      return false;
    });
    if (layer.swept) return next();
    if (missing < 0) return this.#afterOthers(() => this.#sweep(layer, rest, next));
    this.#waitedFor = missing;
    this.#bringPages(layer, rest, () => this.#sweep(layer, rest, next));
  }

  /** State pages of the groups that come next, to the page cache: many at a time, since a disk does them in one go. */
  #bringPages(layer: Layer, from: number, next: Step): void {
    let left = 1;
    const waiter = { completed: () => void (--left === 0 && next()) };
    let group = from;
    for (let i = 0; i < BRING_AT_ONCE && group !== Infinity; i++) {
      left++;
      this.#parts.io.read(layer.mapFd, unread!.address, 2 * PAGE_BYTES, statePageAt(group, 0), waiter, 0);
      group = layer.nextWritten(group + 1);
    }
    this.#parts.later.answer(waiter, 0, 0);
  }

  #close(layer: Layer, closings: readonly (Closing | number)[], next: Step): void {
    const works = closings.map(workOf);
    const isSynced = !layer.unsynced;
    layer.unsynced = false;
    this.#sync(isSynced ? [] : [layer.dataFd], () =>
      this.#sumAll(layer, works, 0, () => {
        const written: { work: Work; sum: number }[] = [];
        for (const work of works) {
          if (work.unreadable || !isUntouched(work)) continue;
          const sum = layer.checksums ? layer.writeWords(work.index, work.words) : 0;
          // No room for it: the region stays open, which harms nothing.
          if (sum >= 0) written.push({ work, sum });
        }
        this.#sync(written.length === 0 ? [] : [layer.mapFd], () => {
          const groups = new Set<number>();
          for (const { work, sum } of written) {
            if (!isUntouched(work)) continue;
            layer.close(work.index, sum);
            work.live?.closed(work.words);
            groups.add(Math.floor(work.index / GROUP_REGIONS));
          }
          if (groups.size === 0) return next();
          this.#commit([{ layer, groups }], next);
        });
      }),
    );
  }

  /** Sums blocks whose word is not known, of works from `from` on. One that cannot be read keeps its region open. */
  #sumAll(layer: Layer, works: readonly Work[], from: number, next: Step): void {
    for (let i = from; i < works.length; i++) {
      const work = works[i]!;
      if (!layer.checksums) continue;
      for (let b = 0; b < REGION_BLOCKS; b++) {
        if (layer.state(work.index, b) !== DATA) work.words[b] = 0;
        else if (work.words[b] === 0) {
          this.#sumFrom(layer, work, b, () => this.#sumAll(layer, works, i + 1, next));
          return;
        }
      }
    }
    next();
  }

  /** Of one region, from this block on. */
  #sumFrom(layer: Layer, work: Work, from: number, next: Step): void {
    let first = from;
    const isWanted = (block: number): boolean =>
      layer.state(work.index, block) === DATA && work.words[block] === 0;
    while (first < REGION_BLOCKS && !isWanted(first)) {
      if (layer.state(work.index, first) !== DATA) work.words[first] = 0;
      first++;
    }
    const room = this.#summing?.room ?? mapAnonymous(SUM_BLOCKS * BLOCK_BYTES);
    if (first === REGION_BLOCKS || work.unreadable || !isUntouched(work)) {
      this.#summing = null;
      room.unmap();
      return next();
    }
    let count = 1;
    while (count < SUM_BLOCKS && first + count < REGION_BLOCKS && isWanted(first + count)) count++;
    this.#summing = { layer, work, first, room, next };
    const at = work.index * REGION_BYTES + first * BLOCK_BYTES;
    this.#parts.io.read(layer.dataFd, room.address, count * BLOCK_BYTES, at, this, READ);
  }

  #summed(result: number): void {
    const { layer, work, first, room, next } = this.#summing!;
    const count = Math.floor(result / BLOCK_BYTES);
    for (let i = 0; i < count; i++)
      work.words[first + i] = blockWord(
        this.#parts.sum(layer.sumKind, room, i * BLOCK_BYTES),
        work.index * REGION_BLOCKS + first + i,
      );
    if (count <= 0 && result !== -ERRNO.EAGAIN && result !== -EINTR) work.unreadable = true;
    this.#sumFrom(layer, work, first, next);
  }

  /**
   * From group `from` on, a slice at a time; what an earlier process left open too. Others have their turn between slices: a layer
   * of a terabyte must not hold up the flushes of everybody.
   */
  #finishFrom(layer: Layer, known: ReadonlyMap<number, Closing>, from: number, done: Done): void {
    this.#bringTouched(layer, from, () => this.#finishSlice(layer, known, from, done));
  }

  /** States that the next slice will look at, so that nobody waits for them then. */
  #bringTouched(layer: Layer, from: number, next: Step): void {
    let left = 1;
    const arrived = (): void => void (--left === 0 && next());
    let group = layer.nextTouched(from);
    for (let i = 0; i < FINISH_GROUPS && group !== Infinity; i++) {
      if (layer.groupNow(group) === null) {
        left++;
        this.#parts.mapReads.bringGroup(layer, group, arrived);
      }
      group = layer.nextTouched(group + 1);
    }
    arrived();
  }

  #finishSlice(layer: Layer, known: ReadonlyMap<number, Closing>, from: number, done: Done): void {
    let rest = Infinity;
    const next = (result: number): void => {
      if (result < 0) done(result);
      else if (rest === Infinity) this.#markClean(layer, done);
      else this.#afterOthers(() => this.#finishFrom(layer, known, rest, done));
    };
    this.#ask(next, () => {
      const groups: number[] = [];
      const some: (Closing | number)[] = [];
      let unknown = 0;
      rest = layer.nextTouched(from);
      while (rest !== Infinity && unknown < UNKNOWN_REGIONS_AT_ONCE && groups.length < FINISH_GROUPS) {
        groups.push(rest);
        for (const index of layer.openRegionsOf(rest)) {
          const closing = known.get(index);
          if (closing === undefined) unknown++;
          some.push(closing ?? index);
        }
        rest = layer.nextTouched(rest + 1);
      }
      if (groups.length === 0) return this.#end(0);
      this.#close(layer, some, () => {
        const alike = groups.filter(group => layer.writeTwin(group) === 0);
        this.#sync([layer.mapFd], () => {
          for (const group of alike) if (layer.openRegionsOf(group).length === 0) layer.settled(group);
          this.#end(0);
        });
      });
    });
  }

  /** When all is settled. Nobody waits for it to be durable but who finishes the layer. */
  #markClean(layer: Layer, done: Done): void {
    this.#ask(done, () => {
      const isSettled = layer.nextTouched(0) === Infinity && layer.swept && layer.damage === null;
      // Where nothing was ever written there is nothing to say.
      if (!isSettled || layer.nextWritten(0) === Infinity) return this.#end(0);
      layer.markClean(true);
      if (layer.writePage(0) < 0) {
        // No room: then it is looked through once more.
        layer.markClean(false);
        return this.#end(0);
      }
      this.#sync([layer.mapFd], () => {
        layer.writeTwin(0);
        this.#sync([layer.mapFd], () => {
          layer.settled(0);
          this.#end(0);
        });
      });
    });
  }
}

/** A number: of that region nothing is known. */
function workOf(closing: Closing | number): Work {
  const words = new Uint32Array(REGION_BLOCKS);
  if (typeof closing === 'number') return { index: closing, words, live: null, writes: 0, unreadable: false };
  const { index, live, owners, number } = closing;
  for (let i = 0; i < REGION_BLOCKS; i++) if (owners[i] === number) words[i] = closing.words[i]!;
  return { index, words, live, writes: live?.writes ?? 0, unreadable: false };
}

/** Its layer has not changed there since. */
function isUntouched({ live, writes }: Work): boolean {
  return live === null || (live.writes === writes && live.writers === 0);
}
