/** What jobs see of frozen layers on the disk of disk.ts: states and sums agree. */
import { kernelCalls, useCalls } from '../../../storage/jobs/calls.js';
import { LayerFile } from '../../../storage/jobs/layerFile.js';
import { readFilled } from '../../../storage/jobs/file.js';
import {
  BLOCK_BYTES,
  DATA,
  GROUP_BLOCKS,
  GROUP_BYTES,
  REGION_BLOCKS,
  stateOf,
} from '../../../storage/layers/map.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';
import { sums, type Rig } from './rig.js';

/** The first fault, in words. */
export function verifyFrozen(
  { disk, layers: all }: Rig,
  layers: readonly LayerOpening[] = all,
): string | null {
  useCalls({ ...kernelCalls, read: (fd, into, at, offset) => disk.get(fd, into.subarray(at), offset) });
  try {
    for (const opening of layers) {
      const wrong = verify(new LayerFile(opening, sums));
      if (wrong !== null) return wrong;
    }
    return null;
  } catch (error) {
    return (error as Error).message;
  } finally {
    useCalls(kernelCalls);
  }
}

function verify(layer: LayerFile): string | null {
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (let group = 0; group * GROUP_BYTES < layer.size_bytes; group++) {
    const states = layer.states(group);
    if (states === null) continue;
    for (let i = 0; i < GROUP_BLOCKS; i++) {
      if (stateOf(states, i) !== DATA) continue;
      const block = group * GROUP_BLOCKS + i;
      const region = Math.floor(block / REGION_BLOCKS);
      const words = layer.words(region);
      const where = `block ${block} of ${layer.uuid}`;
      if (!layer.checksums) continue;
      if (layer.isOpen(region)) return `${where}: its region is open`;
      if (words === null) return `${where}: its page of checksums is damaged`;
      const word = words[block % REGION_BLOCKS]!;
      if (word === 0) return `${where} has no sum`;
      readFilled(layer.dataFd, bytes, block * BLOCK_BYTES);
      if (layer.wordOf(bytes, 0, block) !== word) return `${where} does not verify`;
    }
  }
  return null;
}
