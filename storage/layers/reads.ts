/**
 * Reads of a layered volume as far as the page cache goes: run by run, each verified. -EAGAIN is slowOps.ts's to carry on.
 */
import type { Checksum } from '../checksum/checksum.js';
import { mapAnonymous, type Mapping } from '../pool/file.js';
import { ERRNO, type Memory } from '../volume/volume.js';
import { LOST } from './chain.js';
import type { LayeredVolume } from './layeredVolume.js';
import { BLOCK_BYTES, REGION_BLOCKS, REGION_BYTES, blockWord } from './map.js';
import type { Region } from './regions.js';

/** A block of which a part is asked for. */
let scratch: Mapping | null = null;

export class Reads {
  #volume: LayeredVolume;
  #checksum: Checksum;

  constructor(volume: LayeredVolume, checksum: Checksum) {
    this.#volume = volume;
    this.#checksum = checksum;
    scratch ??= mapAnonymous(BLOCK_BYTES);
  }

  /** Reads the first run of a range, as far as it has one owner in one region: its length, or -errno. */
  readRun(pos: number, left: number, memory: Memory, at: number): number {
    const index = Math.floor(pos / REGION_BYTES);
    const region = this.#volume.regions.get(index);
    const inRegion = pos - index * REGION_BYTES;
    const first = Math.floor(inRegion / BLOCK_BYTES);
    const inBlock = inRegion % BLOCK_BYTES;
    const owner = region.owners[first]!;
    if (owner === LOST) return this.#volume.lost();
    if (owner !== 0 && (inBlock !== 0 || left < BLOCK_BYTES)) {
      const length = Math.min(BLOCK_BYTES - inBlock, left);
      if (region.words[first] === 0) {
        const n = this.#volume.io.preadNoWait(
          this.#volume.chain.layer(owner).dataFd,
          memory.address + at,
          length,
          pos,
        );
        return n === length ? n : short(n);
      }
      const result = this.readBlock(region, first, scratch!, 0);
      if (result < 0) return result;
      memory.bytes.set(scratch!.bytes.subarray(inBlock, inBlock + length), at);
      return length;
    }
    const { owners } = region;
    const whole = Math.min(REGION_BLOCKS, first + Math.max(1, Math.floor((inBlock + left) / BLOCK_BYTES)));
    let last = first + 1;
    while (last < whole && owners[last] === owner) last++;
    const length = Math.min((last - first) * BLOCK_BYTES - inBlock, left);
    if (owner === 0) {
      memory.bytes.fill(0, at, at + length);
      return length;
    }
    const n = this.#volume.io.preadNoWait(
      this.#volume.chain.layer(owner).dataFd,
      memory.address + at,
      length,
      pos,
    );
    if (n !== length) return short(n);
    return this.verify(region, first, last, memory, at) ? length : -ERRNO.EIO;
  }

  /** Compares whole blocks that were read into memory; one that differs is read once more, since a write may have come between. */
  verify(region: Region, first: number, last: number, memory: Memory, at: number): boolean {
    const { words } = region;
    for (let i = first; i < last; i++) {
      const word = words[i]!;
      if (word === 0) continue;
      const place = at + (i - first) * BLOCK_BYTES;
      if (blockWord(this.#checksum.sum(memory, place), region.index * REGION_BLOCKS + i) === word) continue;
      if (!this.#readAgain(region, i, memory, place)) return false;
    }
    return true;
  }

  #readAgain(region: Region, block: number, memory: Memory, at: number): boolean {
    const layer = this.#volume.chain.layer(region.owners[block]!);
    const pos = region.index * REGION_BYTES + block * BLOCK_BYTES;
    const n = this.#volume.io.pread(layer.dataFd, memory.address + at, BLOCK_BYTES, pos);
    const word = region.words[block];
    if (n === BLOCK_BYTES) {
      if (word === 0) return true;
      const found = blockWord(this.#checksum.sum(memory, at), region.index * REGION_BLOCKS + block);
      if (found === word) return true;
    }
    this.#volume.mismatch(pos, layer);
    return false;
  }

  /** A whole block, verified. */
  readBlock(region: Region, block: number, memory: Memory, at: number): number {
    const owner = region.owners[block]!;
    if (owner === 0) {
      memory.bytes.fill(0, at, at + BLOCK_BYTES);
      return BLOCK_BYTES;
    }
    if (owner === LOST) return this.#volume.lost();
    const pos = region.index * REGION_BYTES + block * BLOCK_BYTES;
    const n = this.#volume.io.preadNoWait(
      this.#volume.chain.layer(owner).dataFd,
      memory.address + at,
      BLOCK_BYTES,
      pos,
    );
    if (n !== BLOCK_BYTES) return short(n);
    return this.verify(region, block, block + 1, memory, at) ? BLOCK_BYTES : -ERRNO.EIO;
  }

  /** The fd to send a range from that nobody has to look at; -1: there is none. */
  sendableFrom(offset_bytes: number, length_bytes: number): number {
    if (offset_bytes % BLOCK_BYTES !== 0 || length_bytes % BLOCK_BYTES !== 0) return -1;
    let owner = 0;
    for (let pos = offset_bytes; pos < offset_bytes + length_bytes; pos += BLOCK_BYTES) {
      const index = Math.floor(pos / REGION_BYTES);
      const region = this.#volume.regions.get(index);
      const block = (pos - index * REGION_BYTES) / BLOCK_BYTES;
      // Bytes that are to be compared pass through our hands.
      if (region.words[block] !== 0 || region.owners[block] === 0 || region.owners[block] === LOST) return -1;
      if (owner === 0) owner = region.owners[block]!;
      else if (owner !== region.owners[block]) return -1;
    }
    const { dataFd } = this.#volume.chain.layer(owner);
    return this.#volume.io.isCached(dataFd, offset_bytes, length_bytes) === 1 ? dataFd : -1;
  }

  /** How far the bytes from `pos` on lie in one file, and its fd; -1: in none. */
  ownedRun(pos: number, most_bytes: number): { fd: number; length_bytes: number } {
    const index = Math.floor(pos / REGION_BYTES);
    const { owners } = this.#volume.regions.get(index);
    const first = Math.floor((pos - index * REGION_BYTES) / BLOCK_BYTES);
    const owner = owners[first]!;
    let last = first + 1;
    while (last < REGION_BLOCKS && owners[last] === owner) last++;
    const length_bytes = Math.min(index * REGION_BYTES + last * BLOCK_BYTES - pos, most_bytes);
    return { fd: owner === 0 || owner === LOST ? -1 : this.#volume.chain.layer(owner).dataFd, length_bytes };
  }
}

/** Result of a read that brought less than was asked for. */
function short(n: number): number {
  return n >= 0 ? -ERRNO.EAGAIN : n;
}
