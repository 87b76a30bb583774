/** Reads what a chain of frozen layers reads as, verified; for backups. */
import { BLOCK_BYTES, DATA, GROUP_BLOCKS, REGION_BLOCKS } from '../layers/map.js';
import { JobError } from './errors.js';
import { newResolvedGroup, resolveGroup } from './extents.js';
import { readFilled } from './file.js';
import type { LayerFile } from './layerFile.js';

export class ChainReader {
  #chain: readonly LayerFile[];
  #resolved = newResolvedGroup();
  #group = -1;
  /** Of the run that was read last. */
  #words: { layer: LayerFile; region: number; words: Uint32Array | null } | null = null;

  constructor(chain: readonly LayerFile[]) {
    this.#chain = chain;
  }

  /** Fills `into`, of whole blocks but for the end of the volume. A block that is not what was written throws JOB_DAMAGED: it must not get into a backup. */
  read(offset_bytes: number, into: Uint8Array): void {
    const first = offset_bytes / BLOCK_BYTES;
    const end = first + Math.ceil(into.length / BLOCK_BYTES);
    for (let block = first; block < end;) {
      const { states, owners } = this.#resolve(Math.floor(block / GROUP_BLOCKS));
      const at = block % GROUP_BLOCKS;
      // A run has one owner and one page of words.
      const limit = Math.min(at + end - block, (Math.floor(at / REGION_BLOCKS) + 1) * REGION_BLOCKS);
      let to = at + 1;
      while (to < limit && states[to] === states[at] && (states[at] !== DATA || owners[to] === owners[at]))
        to++;
      const from = (block - first) * BLOCK_BYTES;
      const run = into.subarray(from, Math.min(into.length, from + (to - at) * BLOCK_BYTES));
      if (states[at] === DATA) this.#readRun(this.#chain[owners[at]!]!, block, run);
      else run.fill(0);
      block += to - at;
    }
  }

  #resolve(group: number): { states: Uint8Array; owners: Uint16Array } {
    if (group !== this.#group) {
      resolveGroup(this.#chain, group, this.#resolved);
      this.#group = group;
    }
    return this.#resolved;
  }

  #readRun(layer: LayerFile, block: number, run: Uint8Array): void {
    readFilled(layer.dataFd, run, block * BLOCK_BYTES);
    const region = Math.floor(block / REGION_BLOCKS);
    if (!layer.checksums) return;
    if (this.#words?.layer !== layer || this.#words.region !== region) {
      const words = layer.words(region);
      if (words === null && !layer.isOpen(region))
        throw new JobError(
          'JOB_DAMAGED',
          `layer ${layer.uuid}: the checksums of bytes from ${region * REGION_BLOCKS * BLOCK_BYTES} on are damaged`,
        );
      this.#words = { layer, region, words };
    }
    const { words } = this.#words;
    for (let i = 0; words !== null && i * BLOCK_BYTES < run.length; i++) {
      const word = words[(block + i) % REGION_BLOCKS]!;
      if (word !== 0 && layer.wordOf(run, i * BLOCK_BYTES, block + i) !== word)
        throw new JobError(
          'JOB_DAMAGED',
          `the block at ${(block + i) * BLOCK_BYTES} does not match its checksum (layer ${layer.uuid}): scrub the volume, and write or trim that block`,
        );
    }
  }
}
