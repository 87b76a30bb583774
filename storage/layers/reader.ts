/**
 * A frozen layer, read by a thread that may wait: states and checksums region by region, and blocks that are verified.
 * For merges, backups, scrubs, diffs. The file descriptors stay the caller's.
 */
import { SEEK_DATA, mapAnonymous, type Mapping } from '../pool/file.js';
import { ERRNO, type Memory } from '../volume/volume.js';
import type { LayerFiles } from './files.js';
import {
  ABSENT,
  BLOCK_BYTES,
  DATA,
  GROUP_MAP_BYTES,
  GROUP_REGIONS,
  PAGE_BYTES,
  REGION_BLOCKS,
  REGION_BYTES,
  REGION_OPEN,
  blockWord,
  blocksOf,
  checksumPageAt,
  loadGroup,
  newLoadedGroup,
  stateOf,
  statePageAt,
} from './map.js';

const ENXIO = 6;
/** A writer may have closed the region between our two looks; then looking again helps. */
const LOOKS = 4;

/** What a layer says of 1024 blocks. */
export interface LayerRegion {
  /** ABSENT, DATA or ZERO. */
  readonly states: Uint8Array;
  /** blockWord(), 0: not known. Only that of DATA means anything. */
  readonly words: Uint32Array;
  /** At least one block is not ABSENT. */
  some: boolean;
}

export function newLayerRegion(): LayerRegion {
  return { states: new Uint8Array(REGION_BLOCKS), words: new Uint32Array(REGION_BLOCKS), some: false };
}

export class LayerReader {
  readonly files: LayerFiles;
  readonly regionCount: number;
  readonly blockCount: number;
  #page: Mapping = mapAnonymous(3 * PAGE_BYTES);
  #words: Uint32Array;
  #group = newLoadedGroup();

  constructor(files: LayerFiles) {
    this.files = files;
    this.blockCount = blocksOf(files.size_bytes);
    this.regionCount = Math.ceil(this.blockCount / REGION_BLOCKS);
    this.#words = new Uint32Array(this.#page.bytes.buffer, 2 * PAGE_BYTES, REGION_BLOCKS);
  }

  /** Gives the reader's own memory back; nothing else may be called then. */
  close(): void {
    this.#page.unmap();
  }

  /** The next region, from this one on, that may hold something; -1: none. -errno below -1 where the file system errs. */
  nextRegion(from: number): number {
    const { io, dataFd, mapFd } = this.files;
    if (from >= this.regionCount) return -1;
    if (mapFd < 0) {
      const at = io.seek(dataFd, from * REGION_BYTES, SEEK_DATA);
      if (at === -ENXIO) return -1;
      if (at < 0) return from; // it cannot tell
      const region = Math.floor(at / REGION_BYTES);
      return region < this.regionCount ? Math.max(from, region) : -1;
    }
    const at = io.seek(mapFd, statePageAt(Math.floor(from / GROUP_REGIONS), 0), SEEK_DATA);
    if (at === -ENXIO) return -1;
    if (at < 0) return from;
    const region = Math.floor(at / GROUP_MAP_BYTES) * GROUP_REGIONS;
    return region < this.regionCount ? Math.max(from, region) : -1;
  }

  /**
   * 'damaged': the states are lost. 'unsummed': states are good, but the page of checksums is not what it was, so all words are
   * 0. A negative number: -errno of a read.
   */
  readRegion(region: number, into: LayerRegion): 'ok' | 'damaged' | 'unsummed' | number {
    const { io, mapFd, checksums, sums } = this.files;
    into.words.fill(0);
    const first = region * REGION_BLOCKS;
    const count = Math.min(REGION_BLOCKS, this.blockCount - first);
    if (mapFd < 0) {
      into.states.fill(DATA, 0, count).fill(ABSENT, count);
      into.some = true;
      return 'ok';
    }
    const group = Math.floor(region / GROUP_REGIONS);
    const inGroup = region % GROUP_REGIONS;
    let sequence = -1;
    for (let look = 0; look < LOOKS; look++) {
      let n = io.pread(mapFd, this.#page.address, 2 * PAGE_BYTES, statePageAt(group, 0));
      if (n < 0) return n;
      if (n < 2 * PAGE_BYTES) return 'damaged';
      const loaded = this.#group;
      if (!loadGroup(this.#page.bytes, group, loaded, sums.pageSum, io.bootId)) {
        if (look + 1 < LOOKS) continue;
        return 'damaged';
      }
      const state = loaded.hasSoft ? loaded.soft : loaded.committed;
      const at = inGroup * REGION_BLOCKS;
      let data = false;
      into.some = false;
      for (let i = 0; i < REGION_BLOCKS; i++) {
        const s = i < count ? stateOf(state.states, at + i) : ABSENT;
        into.states[i] = s;
        if (s === DATA) data = true;
        if (s !== ABSENT) into.some = true;
      }
      if (!data || !checksums || (state.flags[inGroup]! & REGION_OPEN) !== 0) return 'ok';
      n = io.pread(mapFd, this.#page.address + 2 * PAGE_BYTES, PAGE_BYTES, checksumPageAt(region));
      if (n < 0) return n;
      const page = this.#page.bytes.subarray(2 * PAGE_BYTES, 3 * PAGE_BYTES);
      if (n === PAGE_BYTES && sums.pageSum(page) === state.pageSums[inGroup]) {
        into.words.set(this.#words);
        return 'ok';
      }
      if (state.sequence === sequence) return 'unsummed';
      sequence = state.sequence;
    }
    return 'unsummed';
  }

  /**
   * Reads `count` blocks of one region, from `block` (counted from the layer's beginning) on, into memory, and verifies those that have a
   * word in `region`. `count`: all is well; less: the block that many further is not what was written; -errno.
   */
  readBlocks(block: number, count: number, memory: Memory, at: number, region: LayerRegion): number {
    const { io, dataFd, sums } = this.files;
    const length = count * BLOCK_BYTES;
    const n = io.pread(dataFd, memory.address + at, length, block * BLOCK_BYTES);
    if (n < 0) return n;
    if (n < length) {
      // Only a plain layer's last block may be cut short.
      if (this.files.mapFd >= 0 || block * BLOCK_BYTES + n < this.files.size_bytes) return -ERRNO.EIO;
      memory.bytes.fill(0, at + n, at + length);
    }
    for (let i = 0; i < count; i++) {
      const word = region.words[(block + i) % REGION_BLOCKS]!;
      if (word !== 0 && blockWord(sums.sum(memory, at + i * BLOCK_BYTES), block + i) !== word) return i;
    }
    return count;
  }
}
