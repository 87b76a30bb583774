/**
 * A layer's map as a file that nobody else writes: pages in and out, by the codec of layers/map.ts. (The data thread's way to
 * a map, which has to serve readers while it changes, is layers/.) Blocking; throws JobError.
 */
import {
  GROUP_BYTES,
  GROUP_MAP_BYTES,
  GROUP_REGIONS,
  PAGE_BYTES,
  REGION_BLOCKS,
  REGION_OPEN,
  checksumPageAt,
  emitStatePage,
  copyGroupState,
  loadGroup,
  newGroupState,
  newLoadedGroup,
  statePageAt,
  type GroupState,
  type PageSum,
} from '../layers/map.js';
import { JobError } from './errors.js';
import { bootId, readAt, seekData, writeAt } from './file.js';

/** Groups in memory (2 KiB each); when there are so many, those that are not pinned are forgotten. */
const GROUPS_KEPT = 4096;

/** Of the group that is being loaded. */
const pages = new Uint8Array(2 * PAGE_BYTES);
const loaded = newLoadedGroup();

export interface MapGroup {
  readonly state: GroupState;
  /** Which of the two pages that is; -1: neither was ever written. */
  which: number;
  /** Of a process that died in this boot: the data that it speaks of may not be on the disk yet. */
  soft: boolean;
}

export class MapFile {
  #fd: number;
  #layer: string;
  #sum: PageSum;
  #bootId = bootId();
  #groups = new Map<number, MapGroup>();
  /** What they say in memory is to be written. */
  #pinned = new Set<number>();
  #page = new Uint8Array(PAGE_BYTES);

  /** `layer`: its uuid, for messages. */
  constructor(fd: number, layer: string, sum: PageSum) {
    this.#fd = fd;
    this.#layer = layer;
    this.#sum = sum;
  }

  /** Throws JOB_DAMAGED when both pages are lost. */
  group(index: number): MapGroup {
    const known = this.#groups.get(index);
    if (known !== undefined) return known;
    if (this.#groups.size >= GROUPS_KEPT + this.#pinned.size)
      for (const one of this.#groups.keys()) if (!this.#pinned.has(one)) this.#groups.delete(one);
    const group = this.#load(index);
    this.#groups.set(index, group);
    return group;
  }

  /** Until `unpin` it is changed in memory. */
  pin(index: number): MapGroup {
    this.#pinned.add(index);
    return this.group(index);
  }

  unpin(): void {
    this.#pinned.clear();
  }

  isOpen(region: number): boolean {
    const { state } = this.group(Math.floor(region / GROUP_REGIONS));
    return (state.flags[region % GROUP_REGIONS]! & REGION_OPEN) !== 0;
  }

  /** 0 where nothing is known of a block. null: the page is damaged, or the region is open. */
  words(region: number): Uint32Array | null {
    if (this.isOpen(region)) return null;
    const sum = this.group(Math.floor(region / GROUP_REGIONS)).state.pageSums[region % GROUP_REGIONS]!;
    if (sum === 0) return new Uint32Array(REGION_BLOCKS);
    const n = readAt(this.#fd, this.#page, checksumPageAt(region));
    if (n !== PAGE_BYTES || this.#sumOf() !== sum) return null;
    return wordsIn(this.#page);
  }

  /** Returns the page's sum, for the group's state. Not durable yet. */
  writeWords(region: number, words: Uint32Array): number {
    const view = new DataView(this.#page.buffer);
    for (let i = 0; i < REGION_BLOCKS; i++) view.setUint32(4 * i, words[i]!, true);
    writeAt(this.#fd, this.#page, checksumPageAt(region));
    return this.#sumOf();
  }

  /** The group's state into the page that is not the newest. Synced by the caller before this is called for it again. */
  writePage(index: number): void {
    const group = this.group(index);
    group.state.sequence++;
    const which = group.which === 0 ? 1 : 0;
    this.#put(index, group.state, which);
    group.which = which;
    group.soft = false;
  }

  /** The other page made like the newest, which is durable: so that the loss of one is found and does no harm. */
  writeTwin(index: number): void {
    const { state, which } = this.group(index);
    if (which >= 0) this.#put(index, state, 1 - which);
  }

  /** The first group from `index` on that was ever written; Infinity: none. */
  nextWritten(index: number): number {
    const at = seekData(this.#fd, index * GROUP_MAP_BYTES);
    return at < 0 ? Infinity : Math.max(index, Math.floor(at / GROUP_MAP_BYTES));
  }

  #load(index: number): MapGroup {
    const n = readAt(this.#fd, pages, statePageAt(index, 0));
    pages.fill(0, n);
    // Behind the end of the file, where the layer was shorter once, nothing was ever written.
    if (n < pages.length && n > 0) this.#lost(index);
    if (!loadGroup(pages, index, loaded, this.#sum, this.#bootId)) this.#lost(index);
    const state = newGroupState();
    copyGroupState(loaded.hasSoft ? loaded.soft : loaded.committed, state);
    state.sequence = loaded.committed.sequence;
    return { state, which: loaded.which, soft: loaded.hasSoft };
  }

  #lost(index: number): never {
    const from = index * GROUP_BYTES;
    throw new JobError(
      'JOB_DAMAGED',
      `layer ${this.#layer}: the map of bytes ${from} to ${from + GROUP_BYTES} is lost; restore what uses it from a backup`,
    );
  }

  #put(index: number, state: GroupState, which: number): void {
    emitStatePage(this.#page, index, state, this.#sum);
    writeAt(this.#fd, this.#page, statePageAt(index, which));
  }

  #sumOf(): number {
    return this.#sum(this.#page);
  }
}

/** What a page of checksums says; a copy. */
export function wordsIn(page: Uint8Array): Uint32Array {
  const words = new Uint32Array(REGION_BLOCKS);
  const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  for (let i = 0; i < REGION_BLOCKS; i++) words[i] = view.getUint32(4 * i, true);
  return words;
}
