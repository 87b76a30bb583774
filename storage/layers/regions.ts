/**
 * The index of a volume: for each region that is in use, who has each block and its checksum's word. Loaded when first
 * touched; forgotten, oldest first, when all volumes of the thread together hold more than the limit. So memory is bounded
 * whatever the size of the volumes, and a read costs the same whatever the length of the chain.
 */
import { LOST, newOwners, type Chain, type Owners } from './chain.js';
import { REGION_BLOCKS } from './map.js';

export interface Region {
  readonly index: number;
  /** As Chain.resolve fills them in. */
  readonly owners: Uint16Array;
  /** 0: not known, so not verified. */
  readonly words: Uint32Array;
  /** Blocks of the top may be written over: the disk says that their checksums cannot be believed, or will before their states do. */
  open: boolean;
  /** Changes so far, and when the last was: who closes a region must know that nothing came between. */
  writes: number;
  lastWrite_ms: number;
  /** Operations that are with the kernel, and how many of them write. */
  busy: number;
  writers: number;
}

/** 6 KiB of arrays and some. */
const REGION_COST_BYTES = 6400;

/** Shared by the volumes of a thread. */
export class RegionBudget {
  #left: number;
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
  #regions = new Map<number, Region>();
  #last: Region | null = null;

  constructor(chain: Chain, budget: RegionBudget) {
    this.#chain = chain;
    this.#budget = budget;
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
    this.#regions.clear();
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
      chain.layer(owner).readWords(index, words, owners, owner);
    }
    const { top } = chain;
    const region: Region = {
      index,
      owners,
      words,
      open: !top.plain && (top.open.has(index) || top.isOpenOnDisk(index)),
      writes: 0,
      lastWrite_ms: 0,
      busy: 0,
      writers: 0,
    };
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
