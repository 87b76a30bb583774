/**
 * Reads all that layers hold, from the disk where it can be had past the page cache, and compares it with what is kept about it.
 * Never stops at the first fault. What the data thread writes meanwhile is not taken for one: its regions are marked open before
 * it writes over anything, and what does not match is looked at again.
 */
import type { Checksum } from '../checksum/checksum.js';
import {
  ABSENT,
  BLOCK_BYTES,
  DATA,
  GROUP_BYTES,
  GROUP_MAP_BYTES,
  GROUP_REGIONS,
  PAGE_BYTES,
  REGION_BLOCKS,
  REGION_BYTES,
  REGION_OPEN,
  blockWord,
  checksumPageAt,
  mapBytesOf,
  newGroupState,
  newestOf,
  parseStatePage,
  stateOf,
  statePageAt,
  type GroupState,
} from '../layers/map.js';
import type { ScrubLayer } from './desk.js';
import { closeFile, readAt, reopenDirect, seekData, seekHole, sizeOf } from './file.js';
import { wordsIn } from './mapFile.js';
import { SLICE_BYTES, type Slices } from './slices.js';

/** Something that changes under us is looked at so often. */
const LOOKS = 3;
const SLICE_BLOCKS = SLICE_BYTES / BLOCK_BYTES;
/** Are counted in one turn. */
const EXTENTS_AT_ONCE = 1024;

export interface Scrubbed {
  layers: number;
  checked_bytes: number;
  /** Read, but nothing is known to compare it with. */
  unchecked_bytes: number;
  /** In regions that are being written, or were when the power went. */
  open_bytes: number;
  /** Allocated where the map has nothing: space, not content, is lost. */
  leaked_bytes: number;
  faults: number;
}

export async function scrubLayers(
  layers: readonly ScrubLayer[],
  checksum: Checksum,
  buffer: Uint8Array,
  slices: Slices,
): Promise<Scrubbed> {
  const scrubbed: Scrubbed = {
    layers: layers.length,
    checked_bytes: 0,
    unchecked_bytes: 0,
    open_bytes: 0,
    leaked_bytes: 0,
    faults: 0,
  };
  let total_bytes = 0;
  for (const { layer } of layers) total_bytes += await allocatedOf(layer.dataFd, slices);
  slices.expect(total_bytes);
  for (const one of layers) await new LayerScrub(one, checksum, buffer, slices, scrubbed).run();
  return scrubbed;
}

/** By its extents, which may be millions. */
async function allocatedOf(fd: number, slices: Slices): Promise<number> {
  let sum = 0;
  for (let at = seekData(fd, 0), count = 1; at >= 0; count++) {
    const hole = seekHole(fd, at);
    if (hole <= at) break;
    sum += hole - at;
    at = seekData(fd, hole);
    if (count % EXTENTS_AT_ONCE === 0) await slices.moved(0);
  }
  return sum;
}

class LayerScrub {
  #one: ScrubLayer;
  #checksum: Checksum;
  #buffer: Uint8Array;
  #slices: Slices;
  #totals: Scrubbed;
  #page = new Uint8Array(PAGE_BYTES);
  #a = newGroupState();
  #b = newGroupState();
  #directFd = -1;

  constructor(one: ScrubLayer, checksum: Checksum, buffer: Uint8Array, slices: Slices, totals: Scrubbed) {
    this.#one = one;
    this.#checksum = checksum;
    this.#buffer = buffer;
    this.#slices = slices;
    this.#totals = totals;
  }

  async run(): Promise<void> {
    const { layer, live } = this.#one;
    const length = sizeOf(layer.dataFd);
    if (length < layer.size_bytes && !live)
      this.#fault('its data file is too short', length, layer.size_bytes - length);
    this.#directFd = reopenDirect(layer.dataFd);
    try {
      if (layer.mapFd < 0) return await this.#plain();
      if (sizeOf(layer.mapFd) < mapBytesOf(layer.size_bytes) && !live)
        this.#fault('its map file is too short', sizeOf(layer.mapFd));
      // What was never written is not looked at.
      for (let at = seekData(layer.mapFd, 0); at >= 0 && at < mapBytesOf(layer.size_bytes);) {
        const group = Math.floor(at / GROUP_MAP_BYTES);
        await this.#group(group);
        await this.#slices.moved(0);
        at = seekData(layer.mapFd, (group + 1) * GROUP_MAP_BYTES);
      }
    } finally {
      if (this.#directFd >= 0) closeFile(this.#directFd);
    }
  }

  async #plain(): Promise<void> {
    const { layer } = this.#one;
    for (let at = seekData(layer.dataFd, 0); at >= 0 && at < layer.size_bytes;) {
      const hole = seekHole(layer.dataFd, at);
      const begin = Math.floor(at / BLOCK_BYTES) * BLOCK_BYTES;
      const end = Math.min(layer.size_bytes, hole);
      for (let from = begin; from < end; from += SLICE_BYTES) {
        const length = Math.min(SLICE_BYTES, Math.ceil((end - from) / BLOCK_BYTES) * BLOCK_BYTES);
        this.#read(from, length);
        this.#totals.unchecked_bytes += length;
        await this.#slices.moved(length);
      }
      at = hole <= at ? -1 : seekData(layer.dataFd, hole);
    }
  }

  async #group(group: number): Promise<void> {
    const state = this.#stateOf(group);
    if (state === null) return;
    for (let r = 0; r < GROUP_REGIONS; r++) {
      const region = group * GROUP_REGIONS + r;
      if (region * REGION_BYTES >= this.#one.layer.size_bytes) break;
      await this.#region(region, state);
    }
    this.#leaks(group, state);
  }

  /** The newest whole state of a group; null: nothing is there, or the map is lost. */
  #stateOf(group: number): GroupState | null {
    const { layer, live } = this.#one;
    for (let look = 1; ; look++) {
      const aIs = this.#parse(group, 0, this.#a);
      const bIs = this.#parse(group, 1, this.#b);
      const isWhole = aIs !== 'damaged' && bIs !== 'damaged';
      if (!isWhole && live && look < LOOKS) continue;
      const which = newestOf(aIs, this.#a.sequence, bIs, this.#b.sequence);
      const at = group * GROUP_BYTES;
      const length = Math.min(GROUP_BYTES, layer.size_bytes - at);
      if (which === 'damaged')
        this.#fault('both pages of its map are damaged: what was there is lost', at, length);
      else if (!isWhole)
        this.#fault('one of two pages of its map is damaged; the other one serves', at, length);
      if (typeof which === 'string') return null;
      return which === 0 ? this.#a : this.#b;
    }
  }

  #parse(group: number, which: number, into: GroupState): 'ok' | 'blank' | 'damaged' {
    try {
      const n = readAt(this.#one.layer.mapFd, this.#page, statePageAt(group, which));
      if (n < PAGE_BYTES) return n === 0 ? 'blank' : 'damaged';
      // What a process left that died: it counts in its own boot only, and is no commit.
      if (Buffer.from(this.#page.subarray(0, 4)).toString('latin1') === 'WSFT') return 'blank';
      return parseStatePage(this.#page, group, into, this.#checksum.pageSum);
    } catch {
      return 'damaged';
    }
  }

  async #region(region: number, state: GroupState): Promise<void> {
    const { layer } = this.#one;
    const first = (region % GROUP_REGIONS) * REGION_BLOCKS;
    const isOpen = (state.flags[region % GROUP_REGIONS]! & REGION_OPEN) !== 0;
    const words = layer.checksums && !isOpen ? this.#wordsOf(region, state) : null;
    for (let i = 0; i < REGION_BLOCKS;) {
      if (stateOf(state.states, first + i) !== DATA) {
        i++;
        continue;
      }
      let end = i + 1;
      while (end < REGION_BLOCKS && end - i < SLICE_BLOCKS && stateOf(state.states, first + end) === DATA)
        end++;
      const length = (end - i) * BLOCK_BYTES;
      if (isOpen && layer.checksums) this.#totals.open_bytes += length;
      else this.#compare(region, i, end - i, words, state);
      await this.#slices.moved(length);
      i = end;
    }
  }

  #wordsOf(region: number, state: GroupState): Uint32Array | null {
    const sum = state.pageSums[region % GROUP_REGIONS]!;
    if (sum === 0) return null;
    let isWhole = false;
    try {
      isWhole =
        readAt(this.#one.layer.mapFd, this.#page, checksumPageAt(region)) === PAGE_BYTES &&
        this.#checksum.pageSum(this.#page) === sum;
    } catch {
      // An unreadable page is a damaged one.
    }
    if (!isWhole) {
      if (!this.#changed(region, state))
        this.#fault('a page of its checksums is damaged', region * REGION_BYTES, REGION_BYTES);
      return null;
    }
    return wordsIn(this.#page);
  }

  #compare(region: number, from: number, count: number, words: Uint32Array | null, state: GroupState): void {
    const offset = region * REGION_BYTES + from * BLOCK_BYTES;
    if (!this.#read(offset, count * BLOCK_BYTES)) return;
    const kind = this.#one.layer.sum ?? 'xxh3';
    for (let i = 0; i < count; i++) {
      const word = words === null ? 0 : words[from + i]!;
      if (word === 0) {
        this.#totals.unchecked_bytes += BLOCK_BYTES;
        continue;
      }
      const block = region * REGION_BLOCKS + from + i;
      this.#totals.checked_bytes += BLOCK_BYTES;
      const sum = this.#checksum.sum(kind, { bytes: this.#buffer }, i * BLOCK_BYTES);
      if (blockWord(sum, block) === word) continue;
      if (this.#changed(region, state)) return;
      this.#fault('a block does not match its checksum', block * BLOCK_BYTES, BLOCK_BYTES);
    }
  }

  /** Somebody wrote there meanwhile, so what was compared did not belong together. */
  #changed(region: number, state: GroupState): boolean {
    if (!this.#one.live) return false;
    const { sequence } = state;
    const group = Math.floor(region / GROUP_REGIONS);
    const [a, b] = [newGroupState(), newGroupState()];
    const which = newestOf(this.#parse(group, 0, a), a.sequence, this.#parse(group, 1, b), b.sequence);
    return typeof which === 'string' || (which === 0 ? a : b).sequence !== sequence;
  }

  /** Into the buffer. What cannot be read is told block by block; false then. */
  #read(offset: number, length: number): boolean {
    const into = this.#buffer.subarray(0, length);
    const fd = this.#directFd >= 0 ? this.#directFd : this.#one.layer.dataFd;
    try {
      const n = readAt(fd, into, offset);
      if (n < length) into.fill(0, n);
      return true;
    } catch {
      for (let at = 0; at < length; at += BLOCK_BYTES) {
        try {
          readAt(fd, into.subarray(at, at + BLOCK_BYTES), offset + at);
        } catch (error) {
          this.#fault(`a block cannot be read (${(error as Error).message})`, offset + at, BLOCK_BYTES);
        }
      }
      return false;
    }
  }

  #leaks(group: number, state: GroupState): void {
    const { layer, live } = this.#one;
    // The top is written before its map is: what looks lost there is on its way.
    if (live) return;
    const begin = group * GROUP_BYTES;
    const end = Math.min(begin + GROUP_BYTES, layer.size_bytes);
    let leaked = 0;
    for (let at = seekData(layer.dataFd, begin); at >= 0 && at < end;) {
      const hole = Math.min(end, seekHole(layer.dataFd, at));
      for (let b = Math.floor((at - begin) / BLOCK_BYTES); b * BLOCK_BYTES + begin < hole; b++)
        if (stateOf(state.states, b) === ABSENT) leaked += BLOCK_BYTES;
      at = hole <= at || hole >= end ? -1 : seekData(layer.dataFd, hole);
    }
    this.#totals.leaked_bytes += leaked;
  }

  #fault(what: string, offset: number, length?: number): void {
    const { layer, usedBy, mirrored } = this.#one;
    this.#totals.faults++;
    const users = usedBy.length === 0 ? 'used by nobody' : `of ${usedBy.slice(0, 10).join(', ')}`;
    const cure = mirrored ? '; a mirror has it: reading it repairs it' : '';
    this.#slices.found(`layer ${layer.uuid} (${users}): ${what}${cure}`, offset, length);
  }
}
