/**
 * What of a volume's layers is put in order when there is time, so that the next process has nothing to look for:
 *
 *   regions of the top that are open are closed: those that nobody writes any more, the longest open where there are too many,
 *   and those that a dead process left open
 *   layers that were frozen are finished (commits.ts): the one that a snapshot has just frozen, and those that a process which
 *   died has not finished
 *   space of what was trimmed is given back, when it is durable that nothing is there
 *
 * A layer is finished by one volume of the thread at a time; a job that wants to write to it waits (RegionBudget.finishing).
 */
import { PUNCH } from '../pool/file.js';
import type { Closing } from './commits.js';
import type { Layer } from './layer.js';
import type { LayeredVolume } from './layeredVolume.js';
import { BLOCK_BYTES } from './map.js';
import type { Region, RegionBudget } from './regions.js';
import type { SlowOps } from './slowOps.js';

/**
 * Changes that nobody flushed are committed, so that a snapshot finds little to do: after so long as ten commits of now take, which
 * is a tenth of what the disk can do, within these bounds.
 */
const COMMIT_AFTER_MIN_MS = 100;
const COMMIT_AFTER_MAX_MS = 5000;
const COMMIT_SHARE = 10;
/** A region that was not written for so long is closed. */
const CLOSE_IDLE_MS = 3000;
const CLOSE_AT_ONCE = 64;
/** Open regions of a volume (4 KiB of words each that only memory has): from the first number on they are closed, beyond the second a write that would open one more waits. */
const OPEN_SOFT_COUNT = 4096;
const OPEN_HARD_COUNT = 8192;
/** So many are closed together where there are too many. */
const CLOSE_MANY = 512;
/** Regions that are looked for in one tick, of those that a dead process left open. */
const RECOVER_AT_ONCE = 4;

export class Upkeep {
  /** When changes that nobody flushed are committed, after the first of them. */
  commitAfter_ms = COMMIT_AFTER_MIN_MS;
  #volume: LayeredVolume;
  #budget: RegionBudget;
  #slow: SlowOps;
  #isClosing = false;
  /** Layers that are frozen and not finished yet. They may be in the chain no more. */
  #finishing = new Set<Layer>();
  /** Where regions are looked for that a dead process left open in the top; Infinity: they are known. */
  #recoverFrom = Infinity;

  constructor(volume: LayeredVolume, budget: RegionBudget, slow: SlowOps) {
    this.#volume = volume;
    this.#budget = budget;
    this.#slow = slow;
  }

  get busy(): boolean {
    return this.#finishing.size > 0;
  }

  get finishing(): ReadonlySet<Layer> {
    return this.#finishing;
  }

  /** Layers that were this volume's and are no more are not finished yet. */
  get isLeaving(): boolean {
    for (const layer of this.#finishing) if (!this.#volume.chain.layers.includes(layer)) return true;
    return false;
  }

  /** A commit took so long. */
  committed(took_ms: number): void {
    const after_ms = Math.max(COMMIT_AFTER_MIN_MS, COMMIT_SHARE * took_ms);
    this.commitAfter_ms = Math.min(COMMIT_AFTER_MAX_MS, after_ms);
  }

  /** Once in a while, when nothing is being changed about the layers. */
  tick(now_ms: number): void {
    if (this.#isClosing) return;
    if (this.#recoverFrom !== Infinity) this.#recover();
    const closings: Closing[] = [];
    for (const region of this.#volume.regions.open) {
      if (region.busy > 0 || now_ms < region.lastWrite_ms + CLOSE_IDLE_MS) continue;
      if (closings.push(this.closingOf(region)) === CLOSE_AT_ONCE) break;
    }
    this.#close(closings);
  }

  /** A region is to be opened. False: too many are; it has to wait until some are closed. */
  mayOpen(): boolean {
    const { open } = this.#volume.regions;
    if (open.size < OPEN_SOFT_COUNT) return true;
    if (!this.#isClosing) this.#close(this.#longestOpen());
    return open.size < OPEN_HARD_COUNT || !this.#isClosing;
  }

  /** So many more may be opened, of which nobody knows whether they will be written. */
  hasRoom(count: number): boolean {
    return this.#volume.regions.open.size + count < OPEN_SOFT_COUNT;
  }

  closingOf(region: Region): Closing {
    const { index, owners, words } = region;
    return { index, owners, words, number: this.#volume.chain.layers.length, live: region };
  }

  /** All that is open of the top; nobody writes it. */
  openClosings(): Closing[] {
    return [...this.#volume.regions.open].map(region => this.closingOf(region));
  }

  /** This layer was the top until now, nothing has been written since: `done` when it is durable. */
  freeze(layer: Layer, done: (result: number) => void): void {
    const { regions, chain, commits } = this.#volume;
    const closings = [...regions.open].map(region => region.lend(chain.layers.length));
    this.#recoverFrom = Infinity;
    this.#begin(layer);
    commits.flush(result => {
      done(result);
      if (result < 0) this.#ended(layer);
      else commits.finish(layer, closings, () => this.#ended(layer));
    });
  }

  /**
   * When a volume is opened: what a process that died has left. It may be pages in memory that no sync has reached. What the map
   * says is durable from here on, or the next page might replace the last one that is; data are, with the first flush. Layers
   * below the top that it froze and did not finish are finished. 0 or -errno.
   */
  takeOver(): number {
    const { chain, commits, later, io } = this.#volume;
    for (const layer of chain.layers) {
      layer.unsynced = true;
      // Before it is asked for anything: what it takes over from the dead process it would write.
      if (layer !== chain.top && this.#budget.finishing.has(layer.uuid)) layer.foreign = true;
      // It says whether the layer is clean, which the first write has to know.
      if (!layer.plain) layer.group(0);
      const result = layer.plain ? 0 : io.syncNow(layer.mapFd);
      if (result < 0) return result;
    }
    this.topChanged();
    const left: Layer[] = [];
    for (const layer of chain.layers.slice(0, -1)) {
      if (layer.plain || layer.foreign || layer.clean) continue;
      this.#begin(layer);
      left.push(layer);
    }
    if (left.length === 0) return 0;
    const begin = (): void =>
      commits.flush(result => {
        for (const layer of left) {
          if (result < 0) this.#ended(layer);
          else commits.finish(layer, [], () => this.#ended(layer));
        }
      });
    // Who opens it is served first.
    later.answer({ completed: begin }, 0, 0);
    return 0;
  }

  /** The top is one that others may have written. */
  topChanged(): void {
    this.#recoverFrom = 0;
  }

  /** `over` when nothing is being finished. */
  whenFinished(over: () => void): void {
    if (this.#finishing.size === 0) over();
    else this.#volume.later.answer({ completed: () => this.whenFinished(over) }, 0, 0);
  }

  /** The space of what is still not data in that layer. */
  giveBack(layer: Layer, offset_bytes: number, length_bytes: number): void {
    if (layer !== this.#volume.chain.top) return;
    const end = offset_bytes + length_bytes;
    for (let pos = offset_bytes; pos < end;) {
      const from = pos;
      pos = layer.nextData(pos, end);
      if (pos > from) this.#slow.punch(layer.dataFd, PUNCH, from, pos - from);
      while (pos < end && layer.isData(pos)) pos += BLOCK_BYTES;
    }
  }

  #begin(layer: Layer): void {
    this.#finishing.add(layer);
    this.#budget.finishing.add(layer.uuid);
  }

  #ended(layer: Layer): void {
    // Space that is still being given back: others may write there when this is over.
    if (this.#slow.punches(layer.dataFd))
      return this.#volume.later.answer({ completed: () => this.#ended(layer) }, 0, 0);
    this.#finishing.delete(layer);
    this.#budget.finishing.delete(layer.uuid);
  }

  #close(closings: readonly Closing[]): void {
    if (closings.length === 0) return;
    const { commits, chain } = this.#volume;
    this.#isClosing = true;
    commits.close(chain.top, closings, () => (this.#isClosing = false));
  }

  /** Those that are written still go to the end, once; then it is their turn too. */
  #longestOpen(): Closing[] {
    const { open } = this.#volume.regions;
    const now_ms = this.#volume.now_ms;
    const closings: Closing[] = [];
    let passes = open.size;
    for (const region of open) {
      if (closings.length === CLOSE_MANY) break;
      if (passes-- > 0 && (region.busy > 0 || now_ms < region.lastWrite_ms + CLOSE_IDLE_MS)) {
        open.delete(region);
        open.add(region);
      } else if (region.busy === 0) closings.push(this.closingOf(region));
      else if (passes < -OPEN_HARD_COUNT) break;
    }
    return closings;
  }

  /** Regions that a dead process left open, a few at a time: they are closed then as others are. */
  #recover(): void {
    const { chain, regions, mapReads } = this.#volume;
    const { top } = chain;
    if (!top.swept) return;
    for (let count = 0; count < RECOVER_AT_ONCE;) {
      const group = top.nextTouched(this.#recoverFrom);
      this.#recoverFrom = group;
      if (group === Infinity) return;
      if (top.groupNow(group) === null) return mapReads.bringGroup(top, group, () => undefined);
      const left = top.openRegionsOf(group).filter(index => regions.peek(index) === undefined);
      for (const index of left.slice(0, RECOVER_AT_ONCE - count))
        if (regions.now(index) === null) regions.bring(index, () => undefined);
      if (left.length > RECOVER_AT_ONCE - count) return;
      count += left.length;
      this.#recoverFrom = group + 1;
    }
  }
}
