/**
 * Reads of a layered volume as far as the page cache goes: run by run, each verified. -EAGAIN is slowOps.ts's to carry on.
 */
import type { Checksum } from '../checksum/checksum.js';
import { addressOf, mapAnonymous, type Mapping } from '../pool/file.js';
import { ERRNO, type FileRuns, type Memory } from '../volume/volume.js';
import { LOST } from './chain.js';
import type { LayeredVolume } from './layeredVolume.js';
import { BLOCK_BYTES, REGION_BLOCKS, REGION_BYTES, blockWord } from './map.js';
import type { Region } from './regions.js';

/** What is compared before it is sent from its file. More than this is not sent so: others would wait for it. */
const COMPARED_LIMIT_BYTES = 1024 * 1024;
const COMPARED_BYTES = 64 * 1024;

/** A run that is sent from its file though what is around it is not: shorter ones are cheaper copied. */
const LONG_RUN_BYTES = 32 * 1024;

/** A block of which a part is asked for. */
let scratch: Mapping | null = null;
/** Bytes of a file that are only looked at; of the memory that sums are made in, if there is room. */
let looked: Memory | null = null;

export class Reads {
  #volume: LayeredVolume;
  #checksum: Checksum;

  constructor(volume: LayeredVolume, checksum: Checksum) {
    this.#volume = volume;
    this.#checksum = checksum;
    scratch ??= mapAnonymous(BLOCK_BYTES);
    looked ??= roomOf(checksum);
  }

  /** Reads the first run of a range, as far as it has one owner in one region: its length, or -errno. */
  readRun(pos: number, left: number, memory: Memory, at: number): number {
    const index = Math.floor(pos / REGION_BYTES);
    const region = this.#volume.regions.now(index);
    if (region === null) return -ERRNO.EAGAIN;
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

  /** Reads a range run by run, but for long runs that can be sent from their files: `into` has those. 0 or -errno. */
  readRuns(offset_bytes: number, length_bytes: number, memory: Memory, at: number, into: FileRuns): number {
    const end = offset_bytes + length_bytes;
    for (let pos = offset_bytes; pos < end;) {
      const length = into.count < into.fds.length ? this.#longRun(pos, end - pos) : 0;
      const fd = length > 0 ? this.sendableFrom(pos, length) : -1;
      if (fd < 0) {
        const done = this.readRun(pos, end - pos, memory, at + pos - offset_bytes);
        if (done < 0) return done;
        pos += done;
        continue;
      }
      into.fds[into.count] = fd;
      into.offsets_bytes[into.count] = pos;
      into.lengths_bytes[into.count] = length;
      into.count++;
      pos += length;
    }
    return 0;
  }

  /** How long the run of one owner is that begins here; 0: too short to be sent by itself, or nobody has it, or its map is not here. */
  #longRun(pos: number, left: number): number {
    const index = Math.floor(pos / REGION_BYTES);
    const region = this.#volume.regions.now(index);
    if (region === null) return 0;
    const { owners } = region;
    const inRegion = pos - index * REGION_BYTES;
    const first = Math.floor(inRegion / BLOCK_BYTES);
    const owner = owners[first]!;
    if (owner === 0 || owner === LOST) return 0;
    const most = Math.min(REGION_BLOCKS, Math.ceil((inRegion + left) / BLOCK_BYTES));
    let last = first + 1;
    while (last < most && owners[last] === owner) last++;
    const length = Math.min(last * BLOCK_BYTES - inRegion, left);
    return length >= LONG_RUN_BYTES ? length : 0;
  }

  /** Compares whole blocks that were read into memory; one that differs is read once more, since a write may have come between. */
  verify(region: Region, first: number, last: number, memory: Memory, at: number): boolean {
    const { words } = region;
    for (let i = first; i < last; i++) {
      const word = words[i]!;
      if (word === 0) continue;
      const place = at + (i - first) * BLOCK_BYTES;
      if (this.#wordOf(region, i, memory, place) === word) continue;
      if (!this.#readAgain(region, i, memory, place)) return false;
    }
    return true;
  }

  /** What the layer that has this block would keep of these bytes. */
  #wordOf(region: Region, block: number, memory: Memory, at: number): number {
    const { sumKind } = this.#volume.chain.layer(region.owners[block]!);
    return blockWord(this.#checksum.sum(sumKind, memory, at), region.index * REGION_BLOCKS + block);
  }

  #readAgain(region: Region, block: number, memory: Memory, at: number): boolean {
    const layer = this.#volume.chain.layer(region.owners[block]!);
    const pos = region.index * REGION_BYTES + block * BLOCK_BYTES;
    const n = this.#volume.io.pread(layer.dataFd, memory.address + at, BLOCK_BYTES, pos);
    const word = region.words[block];
    if (n === BLOCK_BYTES) {
      if (word === 0) return true;
      if (this.#wordOf(region, block, memory, at) === word) return true;
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

  /**
   * The fd to send a range from; -1: there is none. What has sums is compared first, as it lies in the page cache, from where
   * the kernel will send it: the copy that is looked at costs less than one that would be sent.
   */
  sendableFrom(offset_bytes: number, length_bytes: number): number {
    const from = Math.floor(offset_bytes / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.ceil((offset_bytes + length_bytes) / BLOCK_BYTES) * BLOCK_BYTES;
    if (end > this.#volume.size_bytes) return -1;
    let owner = 0;
    let summed = false;
    for (let pos = from; pos < end; pos += BLOCK_BYTES) {
      const index = Math.floor(pos / REGION_BYTES);
      const region = this.#volume.regions.now(index);
      if (region === null) return -1;
      const block = (pos - index * REGION_BYTES) / BLOCK_BYTES;
      if (region.owners[block] === 0 || region.owners[block] === LOST) return -1;
      if (owner === 0) owner = region.owners[block]!;
      else if (owner !== region.owners[block]) return -1;
      if (region.words[block] !== 0) summed = true;
    }
    const { dataFd } = this.#volume.chain.layer(owner);
    if (!summed) return this.#volume.io.isCached(dataFd, offset_bytes, length_bytes) === 1 ? dataFd : -1;
    if (end - from > COMPARED_LIMIT_BYTES) return -1;
    for (let pos = from; pos < end; pos += COMPARED_BYTES)
      if (!this.#isAsSummed(dataFd, pos, Math.min(COMPARED_BYTES, end - pos))) return -1;
    return dataFd;
  }

  /** Whole blocks of one layer, in the page cache: their bytes have the sums that they should have. */
  #isAsSummed(dataFd: number, from: number, length_bytes: number): boolean {
    const { address } = looked!;
    if (this.#volume.io.preadNoWait(dataFd, address, length_bytes, from) !== length_bytes) return false;
    for (let at = 0; at < length_bytes; at += BLOCK_BYTES) {
      const number = (from + at) / BLOCK_BYTES;
      const region = this.#volume.regions.get(Math.floor(number / REGION_BLOCKS));
      const block = number % REGION_BLOCKS;
      const word = region.words[block];
      // What differs is read again and told by tryRead.
      if (word !== 0 && this.#wordOf(region, block, looked!, at) !== word) return false;
    }
    return true;
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

function roomOf(checksum: Checksum): Memory {
  const bytes = checksum.take(COMPARED_BYTES);
  return bytes === null ? mapAnonymous(COMPARED_BYTES) : { address: addressOf(bytes), bytes };
}

/** Result of a read that brought less than was asked for. */
function short(n: number): number {
  return n >= 0 ? -ERRNO.EAGAIN : n;
}
