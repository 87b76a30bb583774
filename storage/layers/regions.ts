/**
 * The index of a volume: for each region that is in use, who has each block and its checksum's word. Loaded when first
 * touched; forgotten, oldest first, when all volumes of the thread together hold more than the limit. So memory is bounded
 * whatever the size of the volumes, and a read costs the same whatever the length of the chain.
 */
import { LOST, newOwners, type Chain, type Owners } from './chain.js';
import type { Closing } from './commits.js';
import { REGION_BLOCKS, REGION_BYTES } from './map.js';

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

export class Regions {
  #chain: Chain;
  #budget: RegionBudget;
  #tell: (reason: string) => void;
  #regions = new Map<number, Region>();
  #last: Region | null = null;
  /** In the order in which they were opened. */
  readonly open = new Set<Region>();

  /** `tell` takes, in words, that checksums are lost. */
  constructor(chain: Chain, budget: RegionBudget, tell: (reason: string) => void) {
    this.#chain = chain;
    this.#budget = budget;
    this.#tell = tell;
  }

  get(index: number): Region {
    const last = this.#last;
    if (last !== null && last.index === index) return last;
    const region = this.#regions.get(index) ?? this.#load(index);
    this.#last = region;
    return region;
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

  #load(index: number): Region {
    if (this.#budget.exhausted) this.#forgetSome();
    this.#budget.take();
    const chain = this.#chain;
    chain.resolve(index, scratch);
    const owners = scratch.owners.slice();
    const words = new Uint32Array(REGION_BLOCKS);
    const seen: number[] = [];
    let before = 0;
    for (let i = 0; i < REGION_BLOCKS; i++) {
      const owner = owners[i]!;
      if (owner === 0 || owner === before || owner === LOST) continue;
      before = owner;
      if (seen.includes(owner)) continue;
      seen.push(owner);
      const layer = chain.layer(owner);
      if (layer.readWords(index, words, owners, owner)) continue;
      // What is there is served: it is likely what was written.
      this.#tell(
        `the checksums of the bytes ${index * REGION_BYTES} to ${(index + 1) * REGION_BYTES} are lost (layer ${layer.uuid}): they are served unverified. Scrub tells of all such places; a merge makes new ones`,
      );
    }
    const { top } = chain;
    const region = new Region(index, owners, words, this.open);
    region.open = !top.plain && (top.open.has(index) || top.isOpenOnDisk(index));
    this.#regions.set(index, region);
    return region;
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
