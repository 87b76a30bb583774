/**
 * A layer's map: for every block of 4096 bytes whether this layer has it, and its checksum. Layout and codec only; pure.
 *
 * The volume is divided in groups of 8 regions of 1024 blocks (32 MiB and 4 MiB). A group has 40 KiB in the map:
 *
 *   0 state page A (4096)   4096 state page B (4096)   8192 checksum pages of regions 0..7 (8 x 4096)
 *
 * State pages are written alternately, never the one that is newest on disk, and synced before the other is written
 * again: so there is always a whole one, whatever a power cut leaves of the other. The valid one with the higher sequence
 * counts. A page of zeroes has never been written (a hole of the map file reads so): everything is absent.
 *
 *   state page   0 magic "WMAP"(4)  4 checksum of the page with these 4 bytes zero (4)  8 sequence (8)  16 group (4)
 *                20 clean(4) 24 spare(8)  32 regions, 8 x { flags(4) checksumPageSum(4) }  96 spare  2048 states, 2 bits a block
 *   checksum page   1024 x word(4): 0 when not known, else blockWord()
 *
 * A region is open while its checksum page cannot be believed: it is marked so, durably, before the first block in it is
 * written over, and closed lazily: data synced, checksum page written and synced, then the mark is taken away with the sum
 * of that page. After a crash the blocks of an open region have no known checksum until they are read and summed again.
 *
 * The layer is clean, which its group 0 says for all groups, while no region is open, both state pages of each group are alike
 * and no soft page counts: so one that was closed in good order need not be looked through when it is opened again. The word
 * is taken back, durably, before the first change. A layer of which nothing is said is not clean.
 *
 * A soft page is what makes an answered write survive the death of the process (not of the machine) before its flush: the
 * states as they are in RAM, put unsynced where the next commit will go, with the kernel's boot id. While that boot lasts,
 * the page cache has it and the data it speaks of; after another boot it counts as never written.
 *
 *   soft page    as a state page, but magic "WSFT", no checksum, and at 96 the boot id (16)
 *
 * All numbers little-endian.
 */

export const BLOCK_BYTES = 4096;
export const REGION_BLOCKS = 1024;
export const REGION_BYTES = REGION_BLOCKS * BLOCK_BYTES;
export const GROUP_REGIONS = 8;
export const GROUP_BLOCKS = GROUP_REGIONS * REGION_BLOCKS;
export const GROUP_BYTES = GROUP_BLOCKS * BLOCK_BYTES;
export const PAGE_BYTES = 4096;
/** Of one group in the map file. */
export const GROUP_MAP_BYTES = (2 + GROUP_REGIONS) * PAGE_BYTES;

/** Not in this layer: look below; in the lowest layer it is zeroes. */
export const ABSENT = 0;
export const DATA = 1;
/** Reads as zeroes, whatever is below. */
export const ZERO = 2;

export const REGION_OPEN = 1;

const MAGIC = 0x50414d57;
const AT_CHECKSUM = 4;
const AT_SEQUENCE = 8;
const AT_GROUP = 16;
const AT_CLEAN = 20;
const AT_REGIONS = 32;
const AT_BOOT = 96;
export const AT_STATES = 2048;
const SOFT_MAGIC = 0x54465357;
const BOOT_ID_BYTES = 16;
const STATE_BYTES = GROUP_BLOCKS / 4;

/** Blocks that a volume of this size has; the last one may be cut short only in a plain layer. */
export function blocksOf(size_bytes: number): number {
  return Math.ceil(size_bytes / BLOCK_BYTES);
}

/** How long the map file of a layer is. */
export function mapBytesOf(size_bytes: number): number {
  return Math.ceil(size_bytes / GROUP_BYTES) * GROUP_MAP_BYTES;
}

/** Where a state page lies: `which` is 0 or 1. */
export function statePageAt(group: number, which: number): number {
  return group * GROUP_MAP_BYTES + which * PAGE_BYTES;
}

/** Where a region's checksum page lies; `region` counts from the beginning of the volume. */
export function checksumPageAt(region: number): number {
  const group = Math.floor(region / GROUP_REGIONS);
  return group * GROUP_MAP_BYTES + (2 + (region % GROUP_REGIONS)) * PAGE_BYTES;
}

/**
 * What is kept of a block's sum (of the kind that its layer has, see checksum/): mixed with its place, so that a block that was
 * written to the wrong one is found too; never 0.
 */
export function blockWord(sum: number, block: number): number {
  return (sum ^ Math.imul(block, 0x9e3779b1)) >>> 0 || 1;
}

/** A group's state, as it is or will be on disk. */
export interface GroupState {
  /** Below 2^53. 0: never written. */
  sequence: number;
  /** Of group 0: the whole layer is; see the head. */
  clean: boolean;
  /** REGION_OPEN or 0, for each region. */
  readonly flags: Uint32Array;
  /** Sum of each region's checksum page; meaningless while it is open, 0 when it has none. */
  readonly pageSums: Uint32Array;
  /** 2 bits a block, the first in the low bits. */
  readonly states: Uint8Array;
}

export function newGroupState(): GroupState {
  return {
    sequence: 0,
    clean: false,
    flags: new Uint32Array(GROUP_REGIONS),
    pageSums: new Uint32Array(GROUP_REGIONS),
    states: new Uint8Array(STATE_BYTES),
  };
}

export function stateOf(states: Uint8Array, block: number): number {
  return (states[block >>> 2]! >>> ((block & 3) * 2)) & 3;
}

export function setState(states: Uint8Array, block: number, state: number): void {
  const shift = (block & 3) * 2;
  const at = block >>> 2;
  states[at] = (states[at]! & ~(3 << shift)) | (state << shift);
}

/** Sums a page of 4096 bytes: XXH3 of storage/checksum/, or anything in a test. */
export type PageSum = (page: Uint8Array) => number;

/** `page` has 4096 bytes. */
export function emitStatePage(page: Uint8Array, group: number, state: GroupState, sum: PageSum): void {
  const v = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  page.fill(0, 0, PAGE_BYTES);
  v.setUint32(0, MAGIC, true);
  v.setUint32(AT_SEQUENCE, state.sequence % 2 ** 32, true);
  v.setUint32(AT_SEQUENCE + 4, Math.floor(state.sequence / 2 ** 32), true);
  v.setUint32(AT_GROUP, group, true);
  v.setUint32(AT_CLEAN, state.clean ? 1 : 0, true);
  for (let i = 0; i < GROUP_REGIONS; i++) {
    v.setUint32(AT_REGIONS + i * 8, state.flags[i]!, true);
    v.setUint32(AT_REGIONS + i * 8 + 4, state.pageSums[i]!, true);
  }
  page.set(state.states, AT_STATES);
  v.setUint32(AT_CHECKSUM, sum(page), true);
}

/** 'blank': never written. 'damaged': it was written, and this is not what. Otherwise `into` is filled. */
export function parseStatePage(
  page: Uint8Array,
  group: number,
  into: GroupState,
  sum: PageSum,
): 'ok' | 'blank' | 'damaged' {
  const v = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  if (v.getUint32(0, true) !== MAGIC) return isZero(page) ? 'blank' : 'damaged';
  const wanted = v.getUint32(AT_CHECKSUM, true);
  v.setUint32(AT_CHECKSUM, 0, true);
  const found = sum(page);
  v.setUint32(AT_CHECKSUM, wanted, true);
  if (found !== wanted || !parseBody(page, v, group, into)) return 'damaged';
  return 'ok';
}

/** The states as they are, for the time until the next commit; see the head. */
export function emitSoftPage(page: Uint8Array, group: number, state: GroupState, bootId: Uint8Array): void {
  emitStatePage(page, group, state, () => 0);
  new DataView(page.buffer, page.byteOffset, PAGE_BYTES).setUint32(0, SOFT_MAGIC, true);
  page.set(bootId, AT_BOOT);
}

/** True: a soft page of this boot; `into` is filled. */
function parseSoftPage(page: Uint8Array, group: number, into: GroupState, bootId: Uint8Array): boolean {
  const v = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  if (v.getUint32(0, true) !== SOFT_MAGIC) return false;
  for (let i = 0; i < BOOT_ID_BYTES; i++) if (page[AT_BOOT + i] !== bootId[i]) return false;
  return parseBody(page, v, group, into);
}

function parseBody(page: Uint8Array, v: DataView, group: number, into: GroupState): boolean {
  const high = v.getUint32(AT_SEQUENCE + 4, true);
  if (v.getUint32(AT_GROUP, true) !== group || high >= 2 ** 21) return false;
  const states = page.subarray(AT_STATES, AT_STATES + STATE_BYTES);
  // 3 is no state: two neighbouring bits set, the lower one at an even place.
  for (let i = 0; i < STATE_BYTES; i++) if ((states[i]! & (states[i]! >>> 1) & 0x55) !== 0) return false;
  into.sequence = high * 2 ** 32 + v.getUint32(AT_SEQUENCE, true);
  into.clean = v.getUint32(AT_CLEAN, true) === 1;
  for (let i = 0; i < GROUP_REGIONS; i++) {
    into.flags[i] = v.getUint32(AT_REGIONS + i * 8, true);
    into.pageSums[i] = v.getUint32(AT_REGIONS + i * 8 + 4, true);
  }
  into.states.set(states);
  return true;
}

/** Two state pages as they lie in the map file, and what they say. */
export interface LoadedGroup {
  /** As committed. */
  readonly committed: GroupState;
  /** Where the newest committed page lies; -1: none was ever. */
  which: number;
  /** The other page holds the same, so one may rot. */
  alike: boolean;
  /** A soft page of this boot says more: `soft` is filled. */
  hasSoft: boolean;
  readonly soft: GroupState;
}

export function newLoadedGroup(): LoadedGroup {
  return {
    committed: newGroupState(),
    which: -1,
    alike: true,
    hasSoft: false,
    soft: newGroupState(),
  };
}

/** Whether a closing has to look at a group with these two pages: they differ, or say that a region is open. */
export function isUnsettled(pages: Uint8Array): boolean {
  if (!equal(pages.subarray(0, PAGE_BYTES), pages.subarray(PAGE_BYTES, 2 * PAGE_BYTES))) return true;
  for (let i = 0; i < GROUP_REGIONS; i++) if ((pages[AT_REGIONS + i * 8]! & REGION_OPEN) !== 0) return true;
  return false;
}

const other = newGroupState();

/** `pages` are both, 8192 bytes. False: damaged, see newestOf. */
export function loadGroup(
  pages: Uint8Array,
  group: number,
  into: LoadedGroup,
  sum: PageSum,
  bootId: Uint8Array,
): boolean {
  const a = pages.subarray(0, PAGE_BYTES);
  const b = pages.subarray(PAGE_BYTES, 2 * PAGE_BYTES);
  into.hasSoft = false;
  const first = parseStatePage(a, group, into.committed, sum);
  const second = parseStatePage(b, group, other, sum);
  const which = newestOf(first, into.committed.sequence, second, other.sequence);
  if (which === 'damaged') return false;
  into.which = which === 'blank' ? -1 : which;
  into.alike = first === second && first !== 'damaged' && equal(a, b);
  if (which === 1) copyGroupState(other, into.committed);
  else if (which === 'blank') clearGroupState(into.committed);
  const soft = which === 0 ? b : a;
  if (parseSoftPage(soft, group, into.soft, bootId))
    into.hasSoft = into.soft.sequence === into.committed.sequence + 1;
  return true;
}

export function copyGroupState(from: GroupState, to: GroupState): void {
  to.sequence = from.sequence;
  to.clean = from.clean;
  to.flags.set(from.flags);
  to.pageSums.set(from.pageSums);
  to.states.set(from.states);
}

function clearGroupState(state: GroupState): void {
  state.sequence = 0;
  state.clean = false;
  state.flags.fill(0);
  state.pageSums.fill(0);
  state.states.fill(0);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < PAGE_BYTES; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * Which of the two pages counts. A page cut short by a crash is damaged and the other, whole one is taken: that is no loss,
 * as it was never acknowledged. Both damaged, or one damaged beside one that was never written after the first commit, cannot
 * come from a crash alone: the map is lost there.
 */
export function newestOf(
  a: 'ok' | 'blank' | 'damaged',
  aSequence: number,
  b: 'ok' | 'blank' | 'damaged',
  bSequence: number,
): 0 | 1 | 'blank' | 'damaged' {
  if (a === 'ok' && b === 'ok') return aSequence >= bSequence ? 0 : 1;
  if (a === 'ok') return 0;
  if (b === 'ok') return 1;
  // The very first write of a group may have been cut short: nothing of it was acknowledged.
  return a === 'damaged' && b === 'damaged' ? 'damaged' : 'blank';
}

function isZero(page: Uint8Array): boolean {
  for (let i = 0; i < PAGE_BYTES; i++) if (page[i] !== 0) return false;
  return true;
}
