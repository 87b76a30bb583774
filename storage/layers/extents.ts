/**
 * What a layered volume is made of, told in extents: allocation, depth, and what changed since a snapshot. Looks at maps only,
 * and passes over what no layer has ever written, so a sparse terabyte is told at once. Fills no index: a listing must not drive
 * out what clients use.
 */
import { SEEK_DATA, SEEK_END, SEEK_HOLE } from '../pool/file.js';
import {
  EXTENT_DATA,
  EXTENT_HOLE,
  EXTENT_ZERO,
  pushContextExtent,
  pushExtent,
  type BlockMeta,
  type ContextExtentList,
  type ExtentList,
  type Waiter,
} from '../volume/volume.js';
import { newOwners } from './chain.js';
import type { LayeredVolume } from './layeredVolume.js';
import { BLOCK_BYTES, GROUP_BYTES, REGION_BLOCKS, REGION_BYTES } from './map.js';

const ENXIO = 6;
const DEPTH = 'qemu:allocation-depth';
const CHANGED = 'qemu:dirty-bitmap:';
/** State pages that are brought for one answer; what else it needs is waited for. */
const BRING_LIMIT = 1024;

const resolved = newOwners();

/** A value for a run of blocks; false: no more is wanted. */
type Take = (length_bytes: number, value: number) => boolean;

export class Extents implements BlockMeta {
  #volume: LayeredVolume;
  #contexts: string[] = [];

  constructor(volume: LayeredVolume) {
    this.#volume = volume;
    this.changed();
  }

  /** Snapshots came or went: names keep their places. */
  changed(): void {
    const now = [DEPTH, ...this.#volume.checkpoints.map(({ name }) => CHANGED + name)];
    this.#contexts = this.#contexts.map(name => (now.includes(name) ? name : ''));
    for (const name of now) if (!this.#contexts.includes(name)) this.#contexts.push(name);
  }

  contexts(): readonly string[] {
    return this.#contexts;
  }

  contextExtents(context: number, offset: number, length: number, into: ContextExtentList): number {
    into.count = 0;
    const name = this.#contexts[context] ?? '';
    const take: Take = (length_bytes, value) => pushContextExtent(into, length_bytes, value);
    const { layers } = this.#volume.chain;
    if (name === DEPTH) {
      this.#walk(
        offset,
        length,
        i => {
          const decider = resolved.deciders[i]!;
          return decider === 0 ? 0 : layers.length - decider + 1;
        },
        take,
      );
      return 0;
    }
    const checkpoint = this.#volume.checkpoints.find(one => CHANGED + one.name === name);
    // A snapshot that is gone: everything may have changed.
    const newer = checkpoint?.newerLayers ?? layers.length;
    const oldest = layers.length - newer;
    this.#walk(
      offset,
      length,
      i => (checkpoint === undefined || resolved.deciders[i]! > oldest ? 1 : 0),
      take,
    );
    return 0;
  }

  bring(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): boolean {
    const { chain, mapReads } = this.#volume;
    const last = Math.floor((offset_bytes + length_bytes - 1) / GROUP_BYTES);
    let left = 0;
    const arrived = (): void => void (--left === 0 && waiter.completed(token, 0));
    let group = chain.nextWritten(Math.floor(offset_bytes / GROUP_BYTES));
    for (; group <= last; group = chain.nextWritten(group + 1))
      for (const layer of chain.layers) {
        if (layer.plain || left === BRING_LIMIT || layer.groupNow(group) !== null) continue;
        left++;
        mapReads.bringGroup(layer, group, arrived);
      }
    return left > 0;
  }

  allocation(offset_bytes: number, length_bytes: number, into: ExtentList): number {
    into.count = 0;
    const { layers } = this.#volume.chain;
    const plain = layers[0]!.plain;
    let pos = offset_bytes;
    let error = 0;
    this.#walk(
      offset_bytes,
      length_bytes,
      i => resolved.owners[i]!,
      (length, owner) => {
        const from = pos;
        pos += length;
        if (owner === 0) return pushExtent(into, length, EXTENT_HOLE | EXTENT_ZERO);
        if (!plain || owner !== 1) return pushExtent(into, length, EXTENT_DATA);
        const result = this.#plainRun(from, length, into);
        if (result < 0) error = result;
        return result === 0;
      },
    );
    return error;
  }

  /** A plain layer's file system knows where its holes are: 0, 1 when the list is full, or -errno. */
  #plainRun(from: number, length: number, into: ExtentList): number {
    const { io, chain } = this.#volume;
    const { dataFd } = chain.layers[0]!;
    const end = from + length;
    for (let at = from; at < end;) {
      let data = io.seek(dataFd, at, SEEK_DATA);
      // What is behind the end of a file that is too short is lost, not zeroes.
      if (data === -ENXIO) data = Math.max(at, io.seek(dataFd, 0, SEEK_END));
      if (data < 0) return data;
      data = Math.min(data, end);
      if (data > at && !pushExtent(into, data - at, EXTENT_HOLE | EXTENT_ZERO)) return 1;
      if (data === end) break;
      let hole = io.seek(dataFd, data, SEEK_HOLE);
      if (hole === -ENXIO) hole = end;
      if (hole < 0) return hole;
      hole = Math.min(hole, end);
      if (!pushExtent(into, hole - data, EXTENT_DATA)) return 1;
      at = hole;
    }
    return 0;
  }

  /** Gives runs of equal value, in order, until there are enough. `valueOf` is asked of a block of the region that is resolved. */
  #walk(offset_bytes: number, length_bytes: number, valueOf: (block: number) => number, take: Take): void {
    const { chain } = this.#volume;
    const end = offset_bytes + length_bytes;
    let runValue = -1;
    let run = 0;
    const push = (length: number, value: number): boolean => {
      if (value === runValue) {
        run += length;
        return true;
      }
      const goesOn = run === 0 || take(run, runValue);
      runValue = value;
      run = length;
      return goesOn;
    };
    for (let pos = offset_bytes; pos < end;) {
      const group = Math.floor(pos / GROUP_BYTES);
      const written = chain.nextWritten(group);
      if (written > group) {
        // Nobody has written here. What is not decided by any layer has the value of nothing.
        resolved.owners[0] = 0;
        resolved.deciders[0] = 0;
        const to = Math.min(end, written * GROUP_BYTES);
        if (!push(to - pos, valueOf(0))) return;
        pos = to;
        continue;
      }
      const groupEnd = Math.min(end, (group + 1) * GROUP_BYTES);
      for (let region = Math.floor(pos / REGION_BYTES); pos < groupEnd; region++) {
        chain.resolve(region, resolved);
        for (
          let i = Math.floor((pos % REGION_BYTES) / BLOCK_BYTES);
          i < REGION_BLOCKS && pos < groupEnd;
          i++
        ) {
          const length = Math.min(BLOCK_BYTES - (pos % BLOCK_BYTES), groupEnd - pos);
          if (!push(length, valueOf(i))) return;
          pos += length;
        }
      }
    }
    if (run > 0) take(run, runValue);
  }
}
