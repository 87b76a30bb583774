/**
 * One layer with its map, for whoever reads or writes it: the data thread (layeredVolume.ts), or a job that works on it
 * alone. Knows what is on disk and what will be; decides nothing about when.
 *
 *   group.disk      what the newest page on disk says                     \  flags, page sums, states
 *   group.current   states as they are for readers; differs while dirty   /
 *   soft page       current, so that it outlives this process: put unsynced where the next page will go
 *
 * While a page of a group is on its way to the disk (`committing`) its states stay as they are: so the page says all that was
 * answered, and the soft page that it replaces is not missed.
 *
 * A page of the map that is not in memory (4 KiB for 32 MiB of the volume, states, or for 4 MiB, checksums) is brought by
 * mapReads.ts while others go on, for those who look by `groupNow` first; `group` waits for it.
 */
import type { SumKind } from '../checksum/checksum.js';
import { mapAnonymous, type Mapping } from '../pool/file.js';
import type { LayerIo } from './io.js';
import {
  BLOCK_BYTES,
  DATA,
  GROUP_BYTES,
  GROUP_MAP_BYTES,
  GROUP_REGIONS,
  PAGE_BYTES,
  REGION_BLOCKS,
  REGION_BYTES,
  REGION_OPEN,
  checksumPageAt,
  copyGroupState,
  AT_STATES,
  emitSoftPage,
  emitStatePage,
  isUnsettled,
  loadGroup,
  newGroupState,
  newLoadedGroup,
  setState,
  stateOf,
  statePageAt,
  type GroupState,
  type PageSum,
} from './map.js';

/** Of groups in memory, those that are as on disk are forgotten beyond so many (2 KiB each). */
const GROUPS_KEPT = 2048;
const SEEK_END = 2;
const SEEK_DATA = 3;
const ENXIO = 6;

export interface LayerParts {
  readonly uuid: string;
  readonly dataFd: number;
  readonly mapFd: number;
  readonly size_bytes: number;
  readonly inherits_bytes: number;
  readonly checksums: boolean;
  readonly sum?: SumKind | undefined;
  /** A job works on it: nothing of it is to be written here. */
  readonly held?: boolean;
}

export interface Group {
  readonly disk: GroupState;
  /** Which of the two pages that is; -1: neither was ever written. */
  which: number;
  /** The same array as disk.states until something changes. */
  current: Uint8Array;
  dirty: boolean;
  /** A page with these states is on its way: they may not change. */
  committing: boolean;
  /** A soft page lies in the other place, with the marks of now. */
  soft: boolean;
  /** Nothing is known of these blocks. */
  damaged: boolean;
}

/** Pages on their way to and from the file; used up within one call. Thread by thread. */
let pages: Mapping | null = null;
const loaded = newLoadedGroup();
const softState = newGroupState();

export class Layer {
  readonly uuid: string;
  readonly dataFd: number;
  readonly mapFd: number;
  readonly inherits_bytes: number;
  readonly checksums: boolean;
  /** What words are made of. */
  readonly sumKind: SumKind;
  size_bytes: number;
  /** Written since the last fdatasync of the data. */
  unsynced = false;
  /** All is known that a process which died has left in it: soft pages are in `dirty`, what is not settled is `touched`. */
  swept = false;
  /** Others write to it: a job, or another volume that closes it. Then this one only reads. */
  foreign: boolean;
  /** What was found wrong with the map, in words. */
  damage: string | null = null;
  /** Groups whose states differ from what the disk says. */
  readonly dirty = new Set<number>();
  /** Regions that are marked open with the next page of their group, or are already. */
  readonly open = new Set<number>();
  #io: LayerIo;
  #sum: PageSum;
  #groups = new Map<number, Group>();
  /** Groups whose pages are on their way; false: what comes is not to be used, since it may have been written since. */
  #expected = new Map<number, boolean>();
  /** A bit for each group that may have open regions, or two pages that differ. */
  #touched = new Uint8Array(0);
  #clean: boolean | null = null;

  constructor(parts: LayerParts, io: LayerIo, sum: PageSum) {
    this.uuid = parts.uuid;
    this.dataFd = parts.dataFd;
    this.mapFd = parts.mapFd;
    this.inherits_bytes = parts.inherits_bytes;
    this.checksums = parts.checksums;
    this.sumKind = parts.sum ?? 'xxh3';
    this.size_bytes = parts.size_bytes;
    this.foreign = parts.held === true;
    this.#io = io;
    this.#sum = sum;
    pages ??= mapAnonymous(3 * PAGE_BYTES);
  }

  get plain(): boolean {
    return this.mapFd < 0;
  }

  /** The disk says so: see map.ts. False from the first change on, and of a new one. */
  get clean(): boolean {
    if (this.plain) return false;
    this.#clean ??= this.group(0).disk.clean;
    return this.#clean;
  }

  /** With the next page of group 0. */
  markClean(clean: boolean): void {
    this.#clean = clean;
    this.group(0).disk.clean = clean;
  }

  /** Just made: nothing is in it. */
  isNew(): void {
    this.#clean = false;
    this.swept = true;
  }

  /** The first group from `index` on that is to be looked at before the layer is clean; Infinity: none. */
  nextTouched(index: number): number {
    const end = this.#touched.length * 8;
    for (let i = index; i < end; i++) {
      const byte = this.#touched[i >>> 3]!;
      if (byte === 0) i |= 7;
      else if ((byte & (1 << (i & 7))) !== 0) return i;
    }
    return Infinity;
  }

  /** No region of the group is open, both its pages are alike, durably. */
  settled(index: number): void {
    if (index >>> 3 < this.#touched.length) this.#touched[index >>> 3]! &= ~(1 << (index & 7));
  }

  #touch(index: number): void {
    if (index >>> 3 >= this.#touched.length) {
      const longer = new Uint8Array(Math.max(64, 2 * this.#touched.length, (index >>> 3) + 1));
      longer.set(this.#touched);
      this.#touched = longer;
    }
    this.#touched[index >>> 3]! |= 1 << (index & 7);
  }

  group(index: number): Group {
    const group = this.#groups.get(index);
    if (group !== undefined) return group;
    const { address, bytes } = pages!;
    const n = this.#io.pread(this.mapFd, address, 2 * PAGE_BYTES, statePageAt(index, 0));
    return this.#keep(index, n === 2 * PAGE_BYTES ? bytes.subarray(0, n) : null);
  }

  /** As group, from memory or the page cache; null: it must be brought first. */
  groupNow(index: number): Group | null {
    const group = this.#groups.get(index);
    if (group !== undefined) return group;
    const { address, bytes } = pages!;
    const from = statePageAt(index, 0);
    const n = this.#io.preadNoWait(this.mapFd, address, 2 * PAGE_BYTES, from);
    if (n !== 2 * PAGE_BYTES) {
      if (!this.#isHole(from, from + 2 * PAGE_BYTES)) return null;
      bytes.fill(0, 0, 2 * PAGE_BYTES);
    }
    return this.#keep(index, bytes.subarray(0, 2 * PAGE_BYTES));
  }

  /** The pages of this group are being read. */
  expect(index: number): void {
    this.#expected.set(index, !this.#groups.has(index));
  }

  /** Here they are; null: they cannot be read. */
  came(index: number, bytes: Uint8Array | null): void {
    const isWanted = this.#expected.get(index) === true;
    this.#expected.delete(index);
    if (isWanted) this.#keep(index, bytes);
  }

  /** A map has holes where nothing was ever written: they need not be read. */
  #isHole(from: number, end: number): boolean {
    const data = this.#io.seek(this.mapFd, from, SEEK_DATA);
    if (data === -ENXIO) return this.#io.seek(this.mapFd, 0, SEEK_END) >= end;
    return data >= end;
  }

  /** State of a block of a region, as readers see it. */
  state(region: number, block: number): number {
    const group = this.group(Math.floor(region / GROUP_REGIONS));
    return stateOf(group.current, (region % GROUP_REGIONS) * REGION_BLOCKS + block);
  }

  isData(offset_bytes: number): boolean {
    const region = Math.floor(offset_bytes / REGION_BYTES);
    return this.state(region, (offset_bytes - region * REGION_BYTES) / BLOCK_BYTES) === DATA;
  }

  /** The first whole block from `offset_bytes` on that is data, or `end_bytes`. What was never written is not looked at. */
  nextData(offset_bytes: number, end_bytes: number): number {
    let at = offset_bytes;
    while (at < end_bytes) {
      const written = at % GROUP_BYTES === 0 ? this.nextWritten(at / GROUP_BYTES) * GROUP_BYTES : at;
      if (written > at) at = Math.min(end_bytes, written);
      else if (this.isData(at)) return at;
      else at += BLOCK_BYTES;
    }
    return end_bytes;
  }

  /** States of this region may not change now. */
  isCommitting(region: number): boolean {
    // What is being committed is not forgotten.
    return this.#groups.get(Math.floor(region / GROUP_REGIONS))?.committing === true;
  }

  /** A commit is under way that must end before states of these blocks may change. */
  isHeld(offset_bytes: number, length_bytes: number): boolean {
    const last = Math.floor((offset_bytes + length_bytes - 1) / REGION_BYTES);
    for (let region = Math.floor(offset_bytes / REGION_BYTES); region <= last; region++)
      if (this.isCommitting(region)) return true;
    return false;
  }

  hasInMemory(group: number): boolean {
    return this.#groups.has(group);
  }

  /** The next page of its group says that the words of this region cannot be believed. */
  markOpen(region: number): void {
    if (this.open.has(region)) return;
    this.open.add(region);
    this.group(Math.floor(region / GROUP_REGIONS)).soft = false;
  }

  setState(region: number, block: number, state: number): void {
    const index = Math.floor(region / GROUP_REGIONS);
    const group = this.group(index);
    const at = (region % GROUP_REGIONS) * REGION_BLOCKS + block;
    if (stateOf(group.current, at) === state) return;
    if (group.current === group.disk.states) group.current = group.disk.states.slice();
    setState(group.current, at, state);
    group.dirty = true;
    this.dirty.add(index);
  }

  /** Whether the disk says that a block of this region is data: then its old checksum could be believed after a crash. */
  hasCommittedData(region: number): boolean {
    const { disk } = this.group(Math.floor(region / GROUP_REGIONS));
    const first = (region % GROUP_REGIONS) * (REGION_BLOCKS / 4);
    for (let i = first; i < first + REGION_BLOCKS / 4; i++) if ((disk.states[i]! & 0x55) !== 0) return true;
    return false;
  }

  /** Regions of a group that are open, or are marked so with its next page. */
  openRegionsOf(index: number): number[] {
    const { disk } = this.group(index);
    const regions: number[] = [];
    for (let i = 0; i < GROUP_REGIONS; i++) {
      const region = index * GROUP_REGIONS + i;
      if ((disk.flags[i]! & REGION_OPEN) !== 0 || this.open.has(region)) regions.push(region);
    }
    return regions;
  }

  isOpenOnDisk(region: number): boolean {
    const { disk } = this.group(Math.floor(region / GROUP_REGIONS));
    return (disk.flags[region % GROUP_REGIONS]! & REGION_OPEN) !== 0;
  }

  /** The sum of a region's checksum page; 0: there is none that counts, so no word is known. */
  wordsSum(region: number): number {
    if (!this.checksums || this.plain || this.open.has(region) || this.isOpenOnDisk(region)) return 0;
    return this.group(Math.floor(region / GROUP_REGIONS)).disk.pageSums[region % GROUP_REGIONS]!;
  }

  /**
   * Words of a region's checksum page into `words`, for blocks that `owners` gives to `owner`; 0 where nothing is known. 'lost': the
   * page should be good and is not. 'missing': the page cache lacks it, and it is not to be waited for.
   */
  readWords(
    region: number,
    words: Uint32Array,
    owners: Uint16Array,
    owner: number,
    wait: boolean,
  ): 'read' | 'lost' | 'missing' {
    if (this.wordsSum(region) === 0) return 'read';
    const { address, bytes } = pages!;
    const at = checksumPageAt(region);
    const n = wait
      ? this.#io.pread(this.mapFd, address, PAGE_BYTES, at)
      : this.#io.preadNoWait(this.mapFd, address, PAGE_BYTES, at);
    if (!wait && n !== PAGE_BYTES) return 'missing';
    const page = bytes.subarray(0, PAGE_BYTES);
    return n === PAGE_BYTES && this.takeWords(page, region, words, owners, owner) ? 'read' : 'lost';
  }

  /** As readWords, from a page that was brought. False: it is not what it should be. */
  takeWords(
    page: Uint8Array,
    region: number,
    words: Uint32Array,
    owners: Uint16Array,
    owner: number,
  ): boolean {
    if ((this.#sum(page) || 1) !== this.wordsSum(region)) return false;
    const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
    for (let i = 0; i < REGION_BLOCKS; i++) if (owners[i] === owner) words[i] = view.getUint32(4 * i, true);
    return true;
  }

  /** Writes a region's checksum page; returns its sum, or -errno. Not durable yet. */
  writeWords(region: number, words: Uint32Array): number {
    const { address, bytes, view } = pages!;
    for (let i = 0; i < REGION_BLOCKS; i++) view.setUint32(4 * i, words[i]!, true);
    const sum = this.#sum(bytes.subarray(0, PAGE_BYTES)) || 1;
    const n = this.#io.pwrite(this.mapFd, address, PAGE_BYTES, checksumPageAt(region));
    return n === PAGE_BYTES ? sum : n < 0 ? n : -5;
  }

  /**
   * What changed of a region's states outlives this process from now on, and no power cut. 0 or -errno. Costs a page once for
   * each commit, then a few bytes.
   */
  soften(region: number, first: number, count: number): number {
    const index = Math.floor(region / GROUP_REGIONS);
    const group = this.group(index);
    if (!group.dirty) return 0;
    const { address, bytes } = pages!;
    const at = statePageAt(index, group.which === 0 ? 1 : 0);
    if (group.soft) {
      const from = ((region % GROUP_REGIONS) * REGION_BLOCKS + first) >>> 2;
      const to = ((region % GROUP_REGIONS) * REGION_BLOCKS + first + count + 3) >>> 2;
      for (let i = from; i < to; i++) bytes[i - from] = group.current[i]!;
      const n = this.#io.pwrite(this.mapFd, address, to - from, at + AT_STATES + from);
      return n < 0 ? n : 0;
    }
    softState.sequence = group.disk.sequence + 1;
    softState.states.set(group.current);
    for (let i = 0; i < GROUP_REGIONS; i++) {
      const open = this.open.has(index * GROUP_REGIONS + i);
      softState.flags[i] = open ? REGION_OPEN : group.disk.flags[i]!;
      softState.pageSums[i] = open ? 0 : group.disk.pageSums[i]!;
    }
    emitSoftPage(bytes.subarray(0, PAGE_BYTES), index, softState, this.#io.bootId);
    const n = this.#io.pwrite(this.mapFd, address, PAGE_BYTES, at);
    if (n < 0) return n;
    group.soft = true;
    return 0;
  }

  /** From now until `settle` the states of this group stay. */
  hold(index: number): void {
    this.group(index).committing = true;
  }

  /**
   * Writes a group's next state page: the states of now, and the flags and sums that `disk` has by now. 0 or -errno. Not durable
   * until the map is synced; no other page of this group may be written before.
   */
  writePage(index: number): number {
    const group = this.group(index);
    const { disk } = group;
    if (disk.states !== group.current) disk.states.set(group.current);
    for (let i = 0; i < GROUP_REGIONS; i++) {
      if (!this.open.has(index * GROUP_REGIONS + i)) continue;
      disk.flags[i] = REGION_OPEN;
      disk.pageSums[i] = 0;
    }
    disk.sequence++;
    const which = group.which === 0 ? 1 : 0;
    const result = this.#put(index, disk, which);
    if (result === 0) group.which = which;
    this.#touch(index);
    group.soft = false;
    return result;
  }

  /** The checksum page of a region is durable and counts from the next state page on. */
  close(region: number, pageSum: number): void {
    this.open.delete(region);
    const { disk } = this.group(Math.floor(region / GROUP_REGIONS));
    disk.flags[region % GROUP_REGIONS] = 0;
    disk.pageSums[region % GROUP_REGIONS] = pageSum;
  }

  /** The other page made like the newest, which is durable: so that the loss of one is found and does no harm. */
  writeTwin(index: number): number {
    const group = this.group(index);
    return group.which < 0 ? 0 : this.#put(index, group.disk, 1 - group.which);
  }

  /** The page that was written is durable. */
  settle(index: number): void {
    const group = this.group(index);
    group.current = group.disk.states;
    group.dirty = false;
    group.committing = false;
    this.dirty.delete(index);
  }

  /**
   * Looks at what a process left behind, from group `from` on: groups with soft pages are dirty then, those that are not settled
   * touched. Returns where to go on, Infinity at the end. Looks at `most` groups, fewer when `missing` had to be told where the
   * page cache lacks one (it is read again when it has come); true: wait for it instead.
   */
  sweep(from: number, most: number, missing: (offset_bytes: number) => boolean): number {
    const { address, bytes } = pages!;
    let left = most;
    let group = this.nextWritten(from);
    for (; group !== Infinity && left > 0; group = this.nextWritten(group + 1)) {
      left--;
      const at = statePageAt(group, 0);
      let n = this.#io.preadNoWait(this.mapFd, address, 2 * PAGE_BYTES, at);
      if (n !== 2 * PAGE_BYTES) {
        if (!missing(at)) return group;
        n = this.#io.pread(this.mapFd, address, 2 * PAGE_BYTES, at);
      }
      if (n === 2 * PAGE_BYTES && !isUnsettled(bytes)) continue;
      this.#touch(group);
      // With its soft page, if there is one.
      this.group(group);
    }
    if (group === Infinity) this.swept = true;
    return group;
  }

  /** The first group from `index` on whose map was written, on disk or in memory; Infinity: none. */
  nextWritten(index: number): number {
    if (this.plain) return index * GROUP_BYTES < this.size_bytes ? index : Infinity;
    const at = this.#io.seek(this.mapFd, index * GROUP_MAP_BYTES, SEEK_DATA);
    let next = at < 0 ? this.#lostFrom(index) : Math.max(index, Math.floor(at / GROUP_MAP_BYTES));
    for (const dirty of this.dirty) if (dirty >= index && dirty < next) next = dirty;
    return next;
  }

  /** The first group from `index` on for which the map's file is too short, so that nothing is known of it; Infinity: none. */
  #lostFrom(index: number): number {
    const end = this.#io.seek(this.mapFd, 0, SEEK_END);
    const lost = Math.max(index, Math.floor(end / GROUP_MAP_BYTES));
    return lost * GROUP_BYTES < this.size_bytes ? lost : Infinity;
  }

  #forgetSome(): void {
    let count = GROUPS_KEPT / 4;
    for (const [index, group] of this.#groups) {
      if (group.dirty || group.committing) continue;
      this.#groups.delete(index);
      if (--count === 0) return;
    }
  }

  /** Takes a group into memory, as these pages say; null: they cannot be read. */
  #keep(index: number, bytes: Uint8Array | null): Group {
    if (this.#groups.size >= GROUPS_KEPT) this.#forgetSome();
    if (this.#expected.has(index)) this.#expected.set(index, false);
    const good = bytes !== null && loadGroup(bytes, index, loaded, this.#sum, this.#io.bootId);
    if (!good)
      this.damage = `the map of bytes ${index * GROUP_BYTES} to ${(index + 1) * GROUP_BYTES} is lost`;
    const disk = newGroupState();
    if (good) copyGroupState(loaded.committed, disk);
    const group: Group = {
      disk,
      which: good ? loaded.which : -1,
      current: disk.states,
      dirty: false,
      committing: false,
      soft: false,
      damaged: !good,
    };
    if (good && loaded.hasSoft) {
      group.current = loaded.soft.states.slice();
      if (!this.foreign) this.#inherit(index, group);
    }
    this.#groups.set(index, group);
    return group;
  }

  /** What a process that died had answered. */
  #inherit(index: number, group: Group): void {
    group.dirty = true;
    this.dirty.add(index);
    this.unsynced = true;
    for (let i = 0; i < GROUP_REGIONS; i++)
      if ((loaded.soft.flags[i]! & REGION_OPEN) !== 0) this.open.add(index * GROUP_REGIONS + i);
  }

  #put(index: number, state: GroupState, which: number): number {
    const { address, bytes } = pages!;
    emitStatePage(bytes.subarray(0, PAGE_BYTES), index, state, this.#sum);
    const n = this.#io.pwrite(this.mapFd, address, PAGE_BYTES, statePageAt(index, which));
    return n === PAGE_BYTES ? 0 : n < 0 ? n : -5;
  }
}
