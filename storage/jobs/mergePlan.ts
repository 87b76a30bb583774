/**
 * Which way two layers are joined, and what that is in blocks. Pure.
 *
 *   pull   the upper one gets what it lacks of the lower one
 *   push   the lower one gets all of the upper one; what it had there was hidden under it all the time
 *
 * Either may be cut anywhere: until the catalogue says otherwise both are read one above the other, and that reads the same at
 * every moment.
 */
import { ABSENT, BLOCK_BYTES, DATA, GROUP_BLOCKS, ZERO, stateOf } from '../layers/map.js';

/** A push into a layer without checksums gives up those that there are: it has to spare so many times the work. */
const UNCHECKED_COST = 4;

interface MergeCost {
  pull_bytes: number;
  push_bytes: number;
}

export type MergeWay = 'pull' | 'push';

export function chooseWay(cost: MergeCost, losesChecksums: boolean): MergeWay {
  return cost.push_bytes * (losesChecksums ? UNCHECKED_COST : 1) < cost.pull_bytes ? 'push' : 'pull';
}

/** What happens to each block of a group: codes are in the caller's array of GROUP_BLOCKS. */
export const KEEP = 0;
export const COPY = 1;
export const MAKE_ZERO = 2;
const MAKE_ABSENT = 3;

export interface MergeGroup {
  readonly group: number;
  /** null: nothing is there. */
  readonly lower: Uint8Array | null;
  readonly upper: Uint8Array | null;
  /** In blocks: how far each reaches, and how far the upper one looks below. */
  readonly lowerBlocks: number;
  readonly upperBlocks: number;
  readonly inheritsBlocks: number;
  /** Nothing is below the lower one: absent reads as zeroes there. */
  readonly lowest: boolean;
}

/** What the upper one lacks. Returns how many blocks are to be copied. */
export function planPull(parts: MergeGroup, steps: Uint8Array): number {
  steps.fill(KEEP);
  if (parts.lower === null) return 0;
  const first = parts.group * GROUP_BLOCKS;
  const reach = Math.min(parts.lowerBlocks, parts.upperBlocks, parts.inheritsBlocks) - first;
  let count = 0;
  for (let i = 0; i < Math.min(GROUP_BLOCKS, reach); i++) {
    if (parts.upper !== null && stateOf(parts.upper, i) !== ABSENT) continue;
    const state = stateOf(parts.lower, i);
    if (state === DATA) {
      steps[i] = COPY;
      count++;
    } else if (state === ZERO && !parts.lowest) steps[i] = MAKE_ZERO;
  }
  return count;
}

/** What the lower one has to become. Returns how many blocks are to be copied. */
export function planPush(parts: MergeGroup, steps: Uint8Array): number {
  steps.fill(KEEP);
  const first = parts.group * GROUP_BLOCKS;
  let count = 0;
  for (let i = 0; i < GROUP_BLOCKS; i++) {
    const block = first + i;
    const state = block >= parts.upperBlocks || parts.upper === null ? ABSENT : stateOf(parts.upper, i);
    const below = block >= parts.lowerBlocks || parts.lower === null ? ABSENT : stateOf(parts.lower, i);
    if (state === DATA) {
      steps[i] = COPY;
      count++;
    } else if (state === ZERO) {
      const wanted = parts.lowest ? ABSENT : ZERO;
      if (below !== wanted) steps[i] = parts.lowest ? MAKE_ABSENT : MAKE_ZERO;
    } else if (below !== ABSENT && block >= Math.min(parts.inheritsBlocks, parts.upperBlocks))
      steps[i] = MAKE_ABSENT;
  }
  return count;
}

export function blocksIn(size_bytes: number): number {
  return Math.ceil(size_bytes / BLOCK_BYTES);
}
