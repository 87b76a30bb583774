/**
 * The index of a volume: for each region that is in use, who has each block and its checksum's word. Loaded when first
 * touched; forgotten, oldest first, when all volumes of the thread together hold more than the limit. So memory is bounded
 * whatever the size of the volumes, and a read costs the same whatever the length of the chain.
 *
 *   now     from memory, or made from pages of maps that the page cache has; null: `bring` it first
 *   bring   pages that are missing are read while others go on (mapReads.ts), then the region is made: one work for all who ask
 *   get     waits for the disk where it must, which is seldom: for those who asked `now` before, within the same call
 */
import { LOST, newOwners, type Chain, type Owners } from './chain.js';
import type { Closing } from './commits.js';
import type { Layer } from './layer.js';
import { GROUP_REGIONS, REGION_BLOCKS, REGION_BYTES } from './map.js';
import { PageRoom, type MapReads } from './mapReads.js';
import type { Later } from '../volume/later.js';

export class Region {
  readonly index: number;
  /** As Chain.resolve fills them in. */
  owners: Uint16Array;
  /** 0: not known, so not verified. */
  words: Uint32Array;
  /** Changes so far, and when the last was: who closes a region must know that nothing came between. */
  writes = 0;
  lastWrite_ms = 0;
  /** Operations that are with the kernel, and how many of them write. */
  busy = 0;
  writers = 0;
  /** When this is written, those from here on are to be opened; 0: none. See ahead.ts. */
  opensFrom = 0;
  #openOnes: Set<Region>;
  #isOpen = false;
  /** Both arrays are kept by who finishes a layer that was frozen: they are copied before they change. */
  #lent = false;

  constructor(index: number, owners: Uint16Array, words: Uint32Array, openOnes: Set<Region>) {
    this.index = index;
    this.owners = owners;
    this.words = words;
    this.#openOnes = openOnes;
  }

  /** Blocks of the top may be written over: the disk says that their checksums cannot be believed, or will before their states do. */
  get open(): boolean {
    return this.#isOpen;
  }
  set open(open: boolean) {
    if (open === this.#isOpen) return;
    this.#isOpen = open;
    if (open) this.#openOnes.add(this);
    else this.#openOnes.delete(this);
  }

  /** Owners or words will change. */
  change(): void {
    this.writes++;
    this.#own();
  }

  /** As they are now. */
  lend(number: number): Closing {
    this.#lent = true;
    this.open = false;
    // Who is closing it now would close it for another top.
    this.writes++;
    return { index: this.index, owners: this.owners, words: this.words, number, live: null };
  }

  /** With the words that were summed for it. */
  closed(words: Uint32Array): void {
    this.open = false;
    this.#own();
    for (let i = 0; i < REGION_BLOCKS; i++) if (this.words[i] === 0) this.words[i] = words[i]!;
  }

  #own(): void {
    if (!this.#lent) return;
    this.#lent = false;
    this.owners = this.owners.slice();
    this.words = this.words.slice();
  }
}

/** 6 KiB of arrays and some. */
const REGION_COST_BYTES = 6400;

/** Shared by the volumes of a thread. */
export class RegionBudget {
  #left: number;
  readonly pageRoom = new PageRoom();
  /** Layers that are being finished, by uuid: by one volume of the thread at a time. */
  readonly finishing = new Set<string>();
  constructor(limit_bytes: number = 128 * 1024 * 1024) {
    this.#left = Math.floor(limit_bytes / REGION_COST_BYTES);
  }
  get exhausted(): boolean {
    return this.#left <= 0;
  }
  take(): void {
    this.#left--;
  }
  give(count: number): void {
    this.#left += count;
  }
}

const scratch: Owners = newOwners();
/** Layers whose states, or whose words, have to be brought; filled and used up within a call. */
const lackStates: Layer[] = [];
const lackWords: Layer[] = [];

/** A region that is being brought. */
interface Bringing {
  readonly waiters: (() => void)[];
  /** Pages that are on their way. */
  left: number;
  rounds: number;
  /** Pages of words that have come; null: cannot be read. With the sum that was expected when they were asked for. */
  readonly words: Map<Layer, { readonly sum: number; readonly page: Uint8Array | null }>;
}

/** Words of so many layers are asked for at a time, and kept until the region is made. */
const WORDS_LIMIT = 16;
/** Beyond so many rounds, and what long chains need, memory forgets pages faster than they come: then they are waited for. */
const ROUNDS_LIMIT = 8;

export interface RegionsParts {
  readonly chain: Chain;
  readonly mapReads: MapReads;
  readonly later: Later;
  readonly budget: RegionBudget;
  /** Takes, in words, that checksums are lost. */
  readonly tell: (reason: string) => void;
}

export class Regions {
  #chain: Chain;
  #mapReads: MapReads;
  #later: Later;
  #bringing = new Map<number, Bringing>();
  #budget: RegionBudget;
  #tell: (reason: string) => void;
  #regions = new Map<number, Region>();
  #last: Region | null = null;
  /** In the order in which they were opened. */
  readonly open = new Set<Region>();

  constructor({ chain, mapReads, later, budget, tell }: RegionsParts) {
    this.#chain = chain;
    this.#mapReads = mapReads;
    this.#later = later;
    this.#budget = budget;
    this.#tell = tell;
  }

  get(index: number): Region {
    const last = this.#last;
    if (last !== null && last.index === index) return last;
    const region = this.#regions.get(index) ?? this.#make(index, true, null)!;
    this.#last = region;
    return region;
  }

  now(index: number): Region | null {
    const last = this.#last;
    if (last !== null && last.index === index) return last;
    let region = this.#regions.get(index) ?? null;
    if (region === null && !this.#bringing.has(index)) region = this.#make(index, false, null);
    if (region !== null) this.#last = region;
    return region;
  }

  /** As now, with what a write has to know of the top: its states, from which nothing must be read then. */
  nowToWrite(index: number): Region | null {
    const region = this.now(index);
    const { top } = this.#chain;
    if (region === null || top.plain) return region;
    return top.groupNow(Math.floor(index / GROUP_REGIONS)) === null ? null : region;
  }

  /** Whether a write finds all in memory that it has to know. Loads nothing. */
  isReady(index: number): boolean {
    const { top } = this.#chain;
    return this.#regions.has(index) && (top.plain || top.hasInMemory(Math.floor(index / GROUP_REGIONS)));
  }

  /** `then` is called when it is worth to ask again; never from within this call. */
  bring(index: number, then: () => void): void {
    const bringing = this.#bringing.get(index);
    if (bringing !== undefined) {
      bringing.waiters.push(then);
      return;
    }
    const begun: Bringing = { waiters: [then], left: 0, rounds: 0, words: new Map() };
    this.#bringing.set(index, begun);
    this.#bringOn(index, begun);
  }

  #bringOn(index: number, bringing: Bringing): void {
    const wait = ++bringing.rounds > ROUNDS_LIMIT + this.#chain.layers.length / 4;
    lackStates.length = 0;
    lackWords.length = 0;
    const region = this.#regions.get(index) ?? this.#make(index, wait, bringing);
    const group = Math.floor(index / GROUP_REGIONS);
    const { top } = this.#chain;
    if (region !== null && (top.plain || wait || top.groupNow(group) !== null)) {
      const completed = (): void => {
        this.#bringing.delete(index);
        for (const then of bringing.waiters) then();
      };
      // Not from within the call that asked.
      if (bringing.rounds === 1) return this.#later.answer({ completed }, 0, 0);
      return completed();
    }
    if (region !== null) lackStates.push(top);
    bringing.left = lackStates.length + lackWords.length;
    const arrived = (): void => {
      if (--bringing.left === 0) this.#bringOn(index, bringing);
    };
    for (const layer of lackStates) this.#mapReads.bringGroup(layer, group, arrived);
    for (const layer of lackWords) {
      const sum = layer.wordsSum(index);
      this.#mapReads.bringWords(layer, index, page => {
        // Beyond the limit it is in the page cache.
        if (bringing.words.size < WORDS_LIMIT)
          bringing.words.set(layer, { sum, page: page?.slice() ?? null });
        arrived();
      });
    }
  }

  peek(index: number): Region | undefined {
    return this.#regions.get(index);
  }

  loaded(): IterableIterator<Region> {
    return this.#regions.values();
  }

  /** Everything is looked up anew. */
  clear(): void {
    this.#budget.give(this.#regions.size);
    // Who is closing one of these does not know what comes after it.
    for (const region of this.#regions.values()) region.writes++;
    this.#regions.clear();
    this.open.clear();
    this.#last = null;
  }

  /** Null, unless it waits: pages are missing, `lackStates` and `lackWords` say of which layers. */
  #make(index: number, wait: boolean, bringing: Bringing | null): Region | null {
    const chain = this.#chain;
    lackStates.length = 0;
    lackWords.length = 0;
    chain.resolve(index, scratch, wait ? null : lackStates);
    if (lackStates.length > 0) return null;
    const owners = scratch.owners.slice();
    const words = new Uint32Array(REGION_BLOCKS);
    const seen: number[] = [];
    const lost: Layer[] = [];
    let before = 0;
    for (let i = 0; i < REGION_BLOCKS; i++) {
      const owner = owners[i]!;
      if (owner === 0 || owner === before || owner === LOST) continue;
      before = owner;
      if (seen.includes(owner)) continue;
      seen.push(owner);
      const layer = chain.layer(owner);
      const came = bringing?.words.get(layer);
      // One that was written anew since it was asked for is read again.
      const result =
        came === undefined || came.sum !== layer.wordsSum(index)
          ? layer.readWords(index, words, owners, owner, wait)
          : came.page !== null && layer.takeWords(came.page, index, words, owners, owner)
            ? 'read'
            : 'lost';
      if (result === 'missing' && lackWords.push(layer) === WORDS_LIMIT) return null;
      if (result === 'lost') lost.push(layer);
    }
    if (lackWords.length > 0) return null;
    for (const { uuid } of lost) this.#tellLost(index, uuid);
    if (this.#budget.exhausted) this.#forgetSome();
    this.#budget.take();
    const { top } = chain;
    const region = new Region(index, owners, words, this.open);
    region.open = !top.plain && (top.open.has(index) || top.isOpenOnDisk(index));
    this.#regions.set(index, region);
    return region;
  }

  /** What is there is served: it is likely what was written. */
  #tellLost(index: number, uuid: string): void {
    this.#tell(
      `the checksums of the bytes ${index * REGION_BYTES} to ${(index + 1) * REGION_BYTES} are lost (layer ${uuid}): they are served unverified. Scrub tells of all such places; a merge makes new ones`,
    );
  }

  /** An eighth of them, the longest loaded first. What only memory knows (words of an open region) stays. */
  #forgetSome(): void {
    let count = Math.ceil(this.#regions.size / 8);
    for (const [index, region] of this.#regions) {
      if (count === 0) break;
      if (region.open || region.busy > 0) continue;
      this.#regions.delete(index);
      this.#budget.give(1);
      count--;
    }
    this.#last = null;
  }
}
