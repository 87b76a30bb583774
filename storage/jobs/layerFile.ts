/**
 * A layer for a job that works on it beside the data thread: its map, plain layers as if they had one, and changes made in batches. Only frozen layers, or new ones that nobody has yet, are changed.
 *
 * A batch costs four syncs whatever is in it, in the order of layers/map.ts:
 *
 *   begin   regions whose words will change are marked open     (map synced)
 *           the data is written
 *   commit  data synced; checksum pages, synced; state pages without the mark, synced; then holes are punched
 *
 * and before the first and after the last (finish) the word that the layer is clean is taken back and given again.
 *
 * Whoever reads the layer meanwhile has its map in memory, and blocks that it had are not touched by a pull; a crash leaves
 * regions open at worst.
 */
import type { Checksum, SumKind } from '../checksum/checksum.js';
import {
  type ABSENT,
  BLOCK_BYTES,
  DATA,
  GROUP_BLOCKS,
  GROUP_BYTES,
  GROUP_REGIONS,
  REGION_BLOCKS,
  REGION_BYTES,
  REGION_OPEN,
  type ZERO,
  blockWord,
  mapBytesOf,
  setState,
  stateOf,
} from '../layers/map.js';
import type { LayerOpening } from '../volume/opening.js';
import type { LayerStates } from './extents.js';
import { MapFile } from './mapFile.js';
import { ftruncate, readFilled, seekData, seekHole, sizeOf, syncData, writeAt, zeroAt } from './file.js';

export class LayerFile implements LayerStates {
  readonly uuid: string;
  readonly inherits_bytes: number;
  readonly checksums: boolean;
  /** What its words are made of. */
  readonly sumKind: SumKind;
  readonly dataFd: number;
  readonly mapFd: number;
  size_bytes: number;
  #map: MapFile;
  #checksum: Checksum;
  #scratch = new Uint8Array(GROUP_BLOCKS / 4);
  #block = new Uint8Array(BLOCK_BYTES);
  /** Of the batch: words by region, new states by group, what is to be punched after the commit. */
  #words = new Map<number, Uint32Array>();
  #states = new Map<number, Uint8Array>();
  #holes: { offset_bytes: number; length_bytes: number }[] = [];
  #twins = new Set<number>();
  #resummed: number[] = [];
  /** The layer was clean (layers/map.ts), or new, when the first batch began: so it will be. null: nothing was begun. */
  #endsClean: boolean | null = null;

  constructor(opening: LayerOpening, checksum: Checksum) {
    this.uuid = opening.uuid;
    this.inherits_bytes = opening.inherits_bytes;
    this.size_bytes = opening.size_bytes;
    this.dataFd = opening.dataFd;
    this.mapFd = opening.mapFd;
    this.checksums = opening.checksums && opening.mapFd >= 0;
    this.sumKind = opening.sum ?? 'xxh3';
    this.#map = new MapFile(opening.mapFd, opening.uuid, checksum.pageSum);
    this.#checksum = checksum;
  }

  get plain(): boolean {
    return this.mapFd < 0;
  }

  states(group: number): Uint8Array | null {
    if (group * GROUP_BYTES >= this.size_bytes) return null;
    if (this.plain) return this.#plainStates(group);
    const { which, soft, state } = this.#map.group(group);
    return which < 0 && !soft ? null : state.states;
  }

  /** The first group from `group` on that can have anything; Infinity: none. Skips what was never written. */
  nextGroup(group: number): number {
    if (group * GROUP_BYTES >= this.size_bytes) return Infinity;
    if (!this.plain) return this.#map.nextWritten(group);
    const at = seekData(this.dataFd, group * GROUP_BYTES);
    return at < 0 ? Infinity : Math.max(group, Math.floor(at / GROUP_BYTES));
  }

  isOpen(region: number): boolean {
    return !this.plain && this.#map.isOpen(region);
  }

  /** 0 where nothing is known of a block. null: the page is damaged, or the region is open. */
  words(region: number): Uint32Array | null {
    return this.#map.words(region);
  }

  /** What is kept of these 4096 bytes. */
  wordOf(bytes: Uint8Array, at: number, block: number): number {
    return blockWord(this.#checksum.sum(this.sumKind, { bytes }, at), block);
  }

  /** Regions that a batch will change. Nothing of it is written before. */
  begin(regions: readonly number[]): void {
    if (this.plain) return;
    const groups = new Set<number>();
    if (this.#endsClean === null) {
      const first = this.#map.pin(0).state;
      this.#endsClean = first.clean || this.#map.nextWritten(0) === Infinity;
      // Taken back before anything is changed, durably; who finds the layer after a crash looks through it.
      if (first.clean) {
        first.clean = false;
        if (this.#map.group(0).soft) syncData(this.dataFd);
        this.#map.writePage(0);
        syncData(this.mapFd);
      }
    }
    for (const region of regions) {
      const index = Math.floor(region / GROUP_REGIONS);
      if (!this.#states.has(index)) this.#states.set(index, this.#map.pin(index).state.states.slice());
      if (!this.checksums || this.#words.has(region)) continue;
      this.#words.set(region, this.#wordsToKeep(region));
      this.#map.group(index).state.flags[region % GROUP_REGIONS] = REGION_OPEN;
      groups.add(index);
    }
    if ([...groups].some(index => this.#map.group(index).soft)) syncData(this.dataFd);
    for (const index of groups) this.#map.writePage(index);
    if (groups.size > 0) syncData(this.mapFd);
  }

  /** The block's bytes are written already. `word`: 0 when not known. */
  setData(block: number, word: number): void {
    this.#set(block, DATA);
    const words = this.#words.get(Math.floor(block / REGION_BLOCKS));
    if (words !== undefined) words[block % REGION_BLOCKS] = word;
  }

  /** Reads as zeroes (ZERO) or as what is below (ABSENT) once the batch is committed; the data goes after that. */
  setEmpty(block: number, state: typeof ABSENT | typeof ZERO): void {
    this.#set(block, state);
    const last = this.#holes.at(-1);
    const offset_bytes = block * BLOCK_BYTES;
    if (last !== undefined && last.offset_bytes + last.length_bytes === offset_bytes)
      last.length_bytes += BLOCK_BYTES;
    else this.#holes.push({ offset_bytes, length_bytes: BLOCK_BYTES });
  }

  commit(): void {
    syncData(this.dataFd);
    if (!this.plain) this.#commitMap();
    for (const { offset_bytes, length_bytes } of this.#holes) zeroAt(this.dataFd, offset_bytes, length_bytes);
    this.#holes.length = 0;
  }

  /** After the last batch: both state pages alike, everything durable. */
  finish(): void {
    for (const index of this.#twins) this.#map.writeTwin(index);
    this.#twins.clear();
    if (!this.plain) syncData(this.mapFd);
    syncData(this.dataFd);
    if (this.#endsClean !== true) return;
    this.#endsClean = null;
    this.#map.group(0).state.clean = true;
    this.#map.writePage(0);
    syncData(this.mapFd);
    this.#map.writeTwin(0);
    syncData(this.mapFd);
  }

  /** Of a layer that is to stand for a larger one. Longer only; see mergeLayers. */
  growFiles(size_bytes: number): void {
    if (sizeOf(this.dataFd) < size_bytes) ftruncate(this.dataFd, size_bytes);
    if (!this.plain && sizeOf(this.mapFd) < mapBytesOf(size_bytes))
      ftruncate(this.mapFd, mapBytesOf(size_bytes));
    this.size_bytes = Math.max(this.size_bytes, size_bytes);
  }

  write(bytes: Uint8Array, offset_bytes: number): void {
    writeAt(this.dataFd, bytes, offset_bytes);
  }

  #commitMap(): void {
    const sums = new Map<number, number>();
    for (const [region, words] of this.#words) sums.set(region, this.#map.writeWords(region, words));
    if (sums.size > 0) syncData(this.mapFd);
    for (const [region, sum] of sums) {
      const { state } = this.#map.group(Math.floor(region / GROUP_REGIONS));
      state.flags[region % GROUP_REGIONS] = 0;
      state.pageSums[region % GROUP_REGIONS] = sum;
    }
    for (const [index, states] of this.#states) {
      this.#map.group(index).state.states.set(states);
      this.#map.writePage(index);
      this.#twins.add(index);
    }
    if (this.#states.size > 0) syncData(this.mapFd);
    this.#words.clear();
    this.#states.clear();
    this.#map.unpin();
  }

  #set(block: number, state: number): void {
    if (this.plain) return;
    setState(this.#states.get(Math.floor(block / GROUP_BLOCKS))!, block % GROUP_BLOCKS, state);
  }

  /** Regions that batches began with, since this was asked last, whose checksums were lost: they are of what was there then. */
  takeResummed(): readonly number[] {
    const regions = this.#resummed;
    this.#resummed = [];
    return regions;
  }

  /**
   * The words of a region that goes on. Of one that a crash left open they are summed again from what is there, as layers/ does it
   * for such a region too; so are those of one whose page was lost, which is told (takeResummed): from now on at least it is known.
   */
  #wordsToKeep(region: number): Uint32Array {
    const isOpen = this.isOpen(region);
    const words = isOpen ? null : this.words(region);
    if (words !== null) return words;
    if (!isOpen) this.#resummed.push(region);
    const fresh = new Uint32Array(REGION_BLOCKS);
    const { states } = this.#map.group(Math.floor(region / GROUP_REGIONS)).state;
    for (let i = 0; i < REGION_BLOCKS; i++) {
      if (stateOf(states, (region % GROUP_REGIONS) * REGION_BLOCKS + i) !== DATA) continue;
      readFilled(this.dataFd, this.#block, region * REGION_BYTES + i * BLOCK_BYTES);
      fresh[i] = this.wordOf(this.#block, 0, region * REGION_BLOCKS + i);
    }
    return fresh;
  }

  /** Holes read as zeroes; the rest is data, as far as the file system tells. */
  #plainStates(group: number): Uint8Array {
    const states = this.#scratch.fill(0);
    const begin = group * GROUP_BYTES;
    const end = Math.min(begin + GROUP_BYTES, this.size_bytes);
    for (let at = begin; at < end;) {
      const data = seekData(this.dataFd, at);
      if (data < 0 || data >= end) break;
      const hole = Math.min(end, Math.max(data + 1, seekHole(this.dataFd, data)));
      const last = Math.ceil((hole - begin) / BLOCK_BYTES);
      for (let i = Math.floor((data - begin) / BLOCK_BYTES); i < last; i++) setState(states, i, DATA);
      at = begin + last * BLOCK_BYTES;
    }
    // Only a lowest layer is plain: what it does not have reads as zeroes.
    return states;
  }
}
