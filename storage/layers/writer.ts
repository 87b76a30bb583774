/**
 * A layer that is no volume's top, written by a thread that may wait: the target of a merge, of a flattening, of a restore.
 *
 *   writeBlocks, setState ...   data and states in RAM; what was committed stays what a reader finds
 *   commit                      data synced, states written and synced: durable
 *   finish                      commit, then all regions closed and both state pages alike: as a frozen layer has to be
 *
 * It keeps the rules of map.ts: before a committed, checksummed block is written over, its region is marked open, durably. One
 * group is held in RAM at a time, so work in order of offset. Nothing else may write the layer meanwhile; readers may read it.
 */
import { SEEK_DATA, mapAnonymous, type Mapping } from '../pool/file.js';
import { ERRNO, type Memory } from '../volume/volume.js';
import type { LayerFiles } from './files.js';
import {
  BLOCK_BYTES,
  DATA,
  GROUP_BLOCKS,
  GROUP_MAP_BYTES,
  GROUP_REGIONS,
  PAGE_BYTES,
  REGION_BLOCKS,
  REGION_OPEN,
  blockWord,
  checksumPageAt,
  copyGroupState,
  emitStatePage,
  loadGroup,
  newGroupState,
  newLoadedGroup,
  setState,
  stateOf,
  statePageAt,
} from './map.js';

/** Every call answers 0 or -errno; after an error nothing more may be written: the layer is as it was last committed. */
export class LayerWriter {
  readonly files: LayerFiles;
  #page: Mapping = mapAnonymous(2 * PAGE_BYTES);
  #block: Mapping = mapAnonymous(BLOCK_BYTES);
  #group = -1;
  #loaded = newLoadedGroup();
  #current = newGroupState();
  /** Words of the group at hand. */
  #words = Array.from({ length: GROUP_REGIONS }, () => new Uint32Array(REGION_BLOCKS));
  #dirty = false;
  #unsynced = false;

  constructor(files: LayerFiles) {
    if (files.mapFd < 0) throw new Error('a plain layer is never written');
    this.files = files;
  }

  /** Blocks of one region; `words` as of a LayerRegion where they are known already (copied from another layer, same place). */
  writeBlocks(block: number, count: number, memory: Memory, at: number, words?: Uint32Array): number {
    const { io, dataFd, sums, checksums } = this.files;
    let result = this.#goTo(block);
    if (result < 0) return result;
    if (checksums) {
      result = this.#open(block, count);
      if (result < 0) return result;
    }
    result = io.pwrite(dataFd, memory.address + at, count * BLOCK_BYTES, block * BLOCK_BYTES);
    if (result < 0) return result;
    this.#unsynced = true;
    const inGroup = block % GROUP_BLOCKS;
    const region = this.#words[Math.floor(inGroup / REGION_BLOCKS)]!;
    for (let i = 0; i < count; i++) {
      setState(this.#current.states, inGroup + i, DATA);
      if (!checksums) continue;
      const known = words?.[(block + i) % REGION_BLOCKS] ?? 0;
      region[(block + i) % REGION_BLOCKS] =
        known !== 0 ? known : blockWord(sums.sum(memory, at + i * BLOCK_BYTES), block + i);
    }
    this.#dirty = true;
    return 0;
  }

  /** ZERO or ABSENT, for blocks of one region. The data stay where they are until `punch`. */
  setState(block: number, count: number, state: number): number {
    const result = this.#goTo(block);
    if (result < 0) return result;
    for (let i = 0; i < count; i++) setState(this.#current.states, (block + i) % GROUP_BLOCKS, state);
    this.#dirty = true;
    return 0;
  }

  /** What it is now, committed or not. */
  stateOf(block: number): number {
    const result = this.#goTo(block);
    return result < 0 ? result : stateOf(this.#current.states, block % GROUP_BLOCKS);
  }

  /** Durable, all of it. */
  commit(): number {
    let result = this.#sync();
    if (result < 0 || !this.#dirty) return result;
    result = this.#writeStates();
    if (result < 0) return result;
    result = this.files.io.syncNow(this.files.mapFd);
    if (result < 0) return result;
    this.#committed();
    return 0;
  }

  /** Commits, and makes the layer what a frozen one has to be. `mayStop` is asked between groups; true: -EINTR. */
  finish(mayStop: () => boolean = () => false): number {
    let result = this.commit();
    const { io, mapFd, size_bytes } = this.files;
    const groups = Math.ceil(size_bytes / (GROUP_BLOCKS * BLOCK_BYTES));
    for (let group = 0; result === 0 && group < groups; group++) {
      if (mayStop()) return -4;
      const at = io.seek(mapFd, statePageAt(group, 0), SEEK_DATA);
      if (at === -6) break;
      if (at > 0) group = Math.max(group, Math.floor(at / GROUP_MAP_BYTES));
      if (group >= groups) break;
      result = this.#goTo(group * GROUP_BLOCKS);
      if (result === 0) result = this.#closeGroup();
    }
    return result;
  }

  /** Gives memory back; nothing is written. */
  close(): void {
    this.#page.unmap();
    this.#block.unmap();
  }

  #sync(): number {
    if (!this.#unsynced) return 0;
    const result = this.files.io.syncNow(this.files.dataFd);
    if (result === 0) this.#unsynced = false;
    return result;
  }

  #writeStates(): number {
    const { io, mapFd, sums } = this.files;
    this.#current.sequence = this.#loaded.committed.sequence + 1;
    emitStatePage(this.#page.bytes, this.#group, this.#current, sums.pageSum);
    const which = this.#loaded.which === 0 ? 1 : 0;
    return Math.min(0, io.pwrite(mapFd, this.#page.address, PAGE_BYTES, statePageAt(this.#group, which)));
  }

  #committed(): void {
    this.#loaded.which = this.#loaded.which === 0 ? 1 : 0;
    copyGroupState(this.#current, this.#loaded.committed);
    this.#loaded.alike = false;
    this.#dirty = false;
  }

  #goTo(block: number): number {
    const group = Math.floor(block / GROUP_BLOCKS);
    if (group === this.#group) return 0;
    let result = this.#group < 0 ? 0 : this.commit();
    if (result < 0) return result;
    const { io, mapFd, sums, checksums } = this.files;
    result = io.pread(mapFd, this.#page.address, 2 * PAGE_BYTES, statePageAt(group, 0));
    if (result < 0) return result;
    const loaded = this.#loaded;
    this.#group = -1;
    if (result < 2 * PAGE_BYTES || !loadGroup(this.#page.bytes, group, loaded, sums.pageSum, io.bootId))
      return -ERRNO.EIO;
    copyGroupState(loaded.hasSoft ? loaded.soft : loaded.committed, this.#current);
    this.#dirty = loaded.hasSoft;
    // What a soft page speaks of is in the page cache, and not yet on the disk.
    if (loaded.hasSoft) this.#unsynced = true;
    for (let i = 0; i < GROUP_REGIONS; i++) {
      this.#words[i]!.fill(0);
      if (!checksums || (this.#current.flags[i]! & REGION_OPEN) !== 0 || this.#current.pageSums[i] === 0)
        continue;
      const at = checksumPageAt(group * GROUP_REGIONS + i);
      result = io.pread(mapFd, this.#page.address, PAGE_BYTES, at);
      if (result < 0) return result;
      const page = this.#page.bytes.subarray(0, PAGE_BYTES);
      // Lost checksums must not be made anew of what may be wrong: a scrub tells, this refuses.
      if (result < PAGE_BYTES || sums.pageSum(page) !== this.#current.pageSums[i]) return -ERRNO.EIO;
      this.#words[i]!.set(new Uint32Array(page.buffer, page.byteOffset, REGION_BLOCKS));
    }
    this.#group = group;
    return 0;
  }

  /** Marks the region open: durably where a committed block is among these. */
  #open(block: number, count: number): number {
    const inGroup = block % GROUP_BLOCKS;
    const region = Math.floor(inGroup / REGION_BLOCKS);
    const { committed } = this.#loaded;
    this.#current.flags[region]! |= REGION_OPEN;
    if ((committed.flags[region]! & REGION_OPEN) !== 0) return 0;
    for (let i = 0; i < count; i++) {
      if (stateOf(committed.states, inGroup + i) !== DATA) continue;
      this.#dirty = true;
      return this.commit();
    }
    return 0;
  }

  #closeGroup(): number {
    const { io, mapFd, checksums } = this.files;
    let result = this.commit();
    let closing = false;
    for (let i = 0; result === 0 && i < GROUP_REGIONS; i++) {
      if (!checksums || (this.#current.flags[i]! & REGION_OPEN) === 0) continue;
      result = this.#closeRegion(i);
      closing = true;
    }
    if (result < 0) return result;
    if (closing) {
      result = io.syncNow(mapFd);
      this.#dirty = true;
      if (result === 0) result = this.commit();
      if (result < 0) return result;
    }
    if (this.#loaded.which < 0 || this.#loaded.alike) return 0;
    emitStatePage(this.#page.bytes, this.#group, this.#loaded.committed, this.files.sums.pageSum);
    const at = statePageAt(this.#group, 1 - this.#loaded.which);
    result = io.pwrite(mapFd, this.#page.address, PAGE_BYTES, at);
    if (result >= 0) result = io.syncNow(mapFd);
    if (result === 0) this.#loaded.alike = true;
    return result;
  }

  /** Words that are not known (an open region of before a crash) are made of what is there. */
  #closeRegion(region: number): number {
    const { io, dataFd, mapFd, sums } = this.files;
    const words = this.#words[region]!;
    const first = this.#group * GROUP_BLOCKS + region * REGION_BLOCKS;
    for (let i = 0; i < REGION_BLOCKS; i++) {
      if (stateOf(this.#current.states, region * REGION_BLOCKS + i) !== DATA) words[i] = 0;
      else if (words[i] === 0) {
        const n = io.pread(dataFd, this.#block.address, BLOCK_BYTES, (first + i) * BLOCK_BYTES);
        if (n < BLOCK_BYTES) return n < 0 ? n : -ERRNO.EIO;
        words[i] = blockWord(sums.sum(this.#block, 0), first + i);
      }
    }
    const page = this.#page.bytes.subarray(0, PAGE_BYTES);
    page.set(new Uint8Array(words.buffer, words.byteOffset, PAGE_BYTES));
    const at = checksumPageAt(this.#group * GROUP_REGIONS + region);
    const result = Math.min(0, io.pwrite(mapFd, this.#page.address, PAGE_BYTES, at));
    this.#current.flags[region]! &= ~REGION_OPEN;
    this.#current.pageSums[region] = sums.pageSum(page);
    return result;
  }
}
