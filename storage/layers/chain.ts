/**
 * Layers one above the other, and which of them has a block. Layers are numbered from the bottom, from 1 on, so that a new
 * top changes no number; 0 stands for zeroes that no layer has.
 */
import type { Layer } from './layer.js';
import { ABSENT, BLOCK_BYTES, DATA, GROUP_REGIONS, REGION_BLOCKS, REGION_BYTES, stateOf } from './map.js';

/** Owner of a block of which the map is lost. */
export const LOST = 0xffff;
export const LAYERS_MAX_COUNT = 0xfff0;
/** Layers whose states are brought at a time, for one region. */
const LACKING_LIMIT = 16;

/** For each block of a region: who has its bytes (0: zeroes), and who said so (0: nobody, it was never written). */
export interface Owners {
  readonly owners: Uint16Array;
  readonly deciders: Uint16Array;
}

export function newOwners(): Owners {
  return { owners: new Uint16Array(REGION_BLOCKS), deciders: new Uint16Array(REGION_BLOCKS) };
}

export class Chain {
  /** The lowest first. */
  layers: Layer[];

  constructor(layers: Layer[]) {
    this.layers = layers;
  }

  get top(): Layer {
    return this.layers[this.layers.length - 1]!;
  }

  layer(number: number): Layer {
    return this.layers[number - 1]!;
  }

  /**
   * Fills in the owners of a region. With `lacking` nothing is waited for: layers whose states have to be brought first are added
   * to it, and what is filled in is good only where none was.
   */
  resolve(region: number, { owners, deciders }: Owners, lacking: Layer[] | null = null): void {
    owners.fill(0);
    deciders.fill(0);
    const first_bytes = region * REGION_BYTES;
    const groupIndex = Math.floor(region / GROUP_REGIONS);
    const at = (region % GROUP_REGIONS) * REGION_BLOCKS;
    /** Blocks that are looked for below: the first so many of the region. */
    let reach = REGION_BLOCKS;
    let open = REGION_BLOCKS;
    for (let number = this.layers.length; number > 0 && open > 0; number--) {
      const layer = this.layers[number - 1]!;
      const has = Math.min(reach, blocksBelow(layer.size_bytes, first_bytes));
      if (layer.plain) {
        for (let i = 0; i < has; i++) if (deciders[i] === 0) owners[i] = deciders[i] = number;
        return;
      }
      const group = lacking === null ? layer.group(groupIndex) : layer.groupNow(groupIndex);
      if (group === null) {
        lacking!.push(layer);
        if (lacking!.length === LACKING_LIMIT) return;
        reach = Math.min(reach, blocksBelow(layer.inherits_bytes, first_bytes));
        if (reach === 0) return;
        continue;
      }
      for (let i = 0; i < has; i++) {
        if (deciders[i] !== 0) continue;
        if (group.damaged) {
          owners[i] = LOST;
          deciders[i] = number;
          open--;
          continue;
        }
        const state = stateOf(group.current, at + i);
        if (state === ABSENT) continue;
        deciders[i] = number;
        if (state === DATA) owners[i] = number;
        open--;
      }
      reach = Math.min(reach, blocksBelow(layer.inherits_bytes, first_bytes));
      // What this layer had and what it does not inherit is zeroes, whatever is below.
      if (reach === 0) return;
    }
  }

  /** The first group from `index` on that any layer has written; Infinity: none. */
  nextWritten(index: number): number {
    let next = Infinity;
    for (const layer of this.layers) next = Math.min(next, layer.nextWritten(index));
    return next;
  }

  /** In words: what was found wrong with a layer's map; null: nothing so far. */
  get damage(): string | null {
    for (const layer of this.layers) if (layer.damage !== null) return `layer ${layer.uuid}: ${layer.damage}`;
    return null;
  }
}

/** How many blocks of the region that begins here lie below `limit_bytes`: 0 to REGION_BLOCKS. */
function blocksBelow(limit_bytes: number, first_bytes: number): number {
  return Math.max(0, Math.min(REGION_BLOCKS, Math.ceil((limit_bytes - first_bytes) / BLOCK_BYTES)));
}
