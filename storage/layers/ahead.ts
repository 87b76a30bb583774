/**
 * Regions that will be written soon, opened before anyone waits for it.
 *
 * A committed region must be marked open, durably, before it is written over (map.ts). That is a sync of the map, and a client
 * that writes on and on would wait for one every 4 MiB. The mark of the other regions of a group (32 MiB) is in the same page and costs
 * nothing more: they are opened with the second one that is needed of it, or the first where the one before it is open. When the middle
 * one of these is written the next are opened, as many as are open before them, for which then nobody waits. Who writes far
 * apart opens no more than that.
 *
 * What is opened and not written costs that it is closed again, and after a crash that its blocks are read and summed anew.
 */
import type { LayeredVolume } from './layeredVolume.js';
import { GROUP_REGIONS, REGION_BYTES } from './map.js';
import type { Region } from './regions.js';

/** 64 MiB: some tens of milliseconds of a fast writer, in which a sync of the map ends. */
const AHEAD_LIMIT = 16;

export class Ahead {
  #volume: LayeredVolume;
  #isOpening = false;
  #rested: (() => void) | null = null;

  constructor(volume: LayeredVolume) {
    this.#volume = volume;
  }

  /** A region is being opened: those that are to be opened with it, held until `opened`. */
  together(index: number): Region[] {
    const { regions } = this.#volume;
    const first = index - (index % GROUP_REGIONS);
    let isOpen = index === first && regions.peek(first - 1)?.open === true;
    for (let i = first; i < first + GROUP_REGIONS && !isOpen; i++) isOpen = regions.peek(i)?.open === true;
    return isOpen ? this.#hold(first, GROUP_REGIONS) : [];
  }

  /** All these are open, durably, and are held no more; `result` < 0: they are not. */
  opened(held: readonly Region[], result: number): void {
    const { now_ms } = this.#volume;
    for (const region of held) {
      region.busy--;
      if (result < 0) continue;
      region.open = true;
      // It is to be written soon: else it would be closed at once.
      region.lastWrite_ms = now_ms;
    }
    const last = held[held.length - 1];
    if (last !== undefined && result === 0) held[held.length >>> 1]!.opensFrom = last.index + 1;
  }

  /** It is written, and says that those from `opensFrom` on will be. */
  reached(region: Region): void {
    const from = region.opensFrom;
    region.opensFrom = 0;
    if (this.#isOpening) return;
    const held = this.#hold(from, this.#openBefore(from));
    if (held.length === 0) return;
    this.#isOpening = true;
    const { commits, chain } = this.#volume;
    const indices = held.map(({ index }) => index);
    commits.open(
      chain.top,
      () => indices,
      result => {
        this.#isOpening = false;
        this.opened(held, result);
        const rested = this.#rested;
        this.#rested = null;
        rested?.();
      },
    );
  }

  /** `rested` when none is being opened by `reached`. Nothing must be written until then. */
  rest(rested: () => void): void {
    if (this.#isOpening) this.#rested = rested;
    else rested();
  }

  #openBefore(index: number): number {
    const { regions } = this.#volume;
    let count = 0;
    while (count < AHEAD_LIMIT && regions.peek(index - 1 - count)?.open === true) count++;
    return count;
  }

  /** Of the `count` regions from `first` on those that a write would have to wait for. */
  #hold(first: number, count: number): Region[] {
    const { chain, regions, upkeep, size_bytes } = this.#volume;
    const { top } = chain;
    const end = Math.min(first + count, Math.ceil(size_bytes / REGION_BYTES));
    const held: Region[] = [];
    if (!upkeep.hasRoom(count)) return held;
    for (let index = first; index < end; index++) {
      const region = regions.nowToWrite(index);
      // A cold map is not read for what may never be written.
      if (region === null) break;
      if (region.open || top.open.has(index) || !top.hasCommittedData(index)) continue;
      region.busy++;
      held.push(region);
    }
    return held;
  }
}
