/**
 * What a chain of layers is made of, block by block, and what differs between two of them: from their maps alone. Pure; the
 * maps come from whoever can read them. A group (8192 blocks, 32 MiB) at a time, so a volume of 64 TiB needs no more memory
 * than a small one, and only those that were written, so that it needs no more time.
 *
 * Two chains of a volume, or of a clone and what it was cloned from, share layers. A block is the same in both when the same
 * layer answers for it, or when it reads as zeroes in both; nothing is compared byte by byte.
 */
import { ABSENT, BLOCK_BYTES, DATA, GROUP_BLOCKS, GROUP_BYTES, stateOf } from '../layers/map.js';

/** A layer as its map tells it. */
export interface LayerStates {
  readonly uuid: string;
  readonly size_bytes: number;
  /** Blocks from here on are not looked for in the layers below. */
  readonly inherits_bytes: number;
  /** 2 bits a block, as in map.ts; good until asked again. null: nothing of this group is here. Throws where the map is damaged. */
  states(group: number): Uint8Array | null;
  /** The first group from `group` on that can have anything; Infinity: none. */
  nextGroup(group: number): number;
}

/** Whole blocks; the last one may reach beyond a volume whose size is no multiple of 4096. */
export interface Extent {
  offset_bytes: number;
  length_bytes: number;
  /** Reads as zeroes. */
  zero: boolean;
}

/** Who answers for each block of a group. */
export interface ResolvedGroup {
  /** ABSENT, DATA or ZERO; ABSENT reads as zeroes. */
  readonly states: Uint8Array;
  /** Index in the chain; meaningless where absent. */
  readonly owners: Uint16Array;
  /** Blocks that have data. */
  dataCount: number;
}

export function newResolvedGroup(): ResolvedGroup {
  return { states: new Uint8Array(GROUP_BLOCKS), owners: new Uint16Array(GROUP_BLOCKS), dataCount: 0 };
}

export function groupsOf(size_bytes: number): number {
  return Math.ceil(size_bytes / GROUP_BYTES);
}

/** `chain`: the newest first. `reach_bytes`: nothing is looked for from here on; default: the size of the first. */
export function resolveGroup(
  chain: readonly LayerStates[],
  group: number,
  into: ResolvedGroup,
  reach_bytes: number = chain[0]?.size_bytes ?? 0,
): void {
  const { states, owners } = into;
  states.fill(ABSENT);
  into.dataCount = 0;
  const first = group * GROUP_BLOCKS;
  let reach = reach_bytes;
  for (let at = 0; at < chain.length; at++) {
    const layer = chain[at]!;
    reach = Math.min(reach, layer.size_bytes);
    const count = Math.min(GROUP_BLOCKS, Math.ceil(reach / BLOCK_BYTES) - first);
    if (count <= 0) return;
    const own = layer.states(group);
    if (own !== null)
      for (let i = 0; i < count; i++) {
        if (states[i] !== ABSENT) continue;
        const state = stateOf(own, i);
        if (state === ABSENT) continue;
        states[i] = state;
        owners[i] = at;
        if (state === DATA) into.dataCount++;
      }
    reach = Math.min(reach, layer.inherits_bytes);
  }
}

/** Adds an extent, joined to the last one where they touch and are alike. */
export function pushExtent(
  extents: Extent[],
  offset_bytes: number,
  length_bytes: number,
  zero: boolean,
): void {
  const last = extents.at(-1);
  if (last !== undefined && last.zero === zero && last.offset_bytes + last.length_bytes === offset_bytes)
    last.length_bytes += length_bytes;
  else extents.push({ offset_bytes, length_bytes, zero });
}

/** The groups in which some layers can have something, in order: what it costs is what they have. */
export class WrittenGroups {
  #layers: { readonly layer: LayerStates; readonly from: number; next: number }[];
  #asked = 0;

  /** Each layer, and the group from which on it is looked at. */
  constructor(layers: readonly (readonly [LayerStates, number])[]) {
    this.#layers = layers.map(([layer, from]) => ({ layer, from, next: -1 }));
  }

  /** The first one from `group` on; Infinity: none. */
  next(group: number): number {
    if (group < this.#asked) for (const one of this.#layers) one.next = -1;
    this.#asked = group;
    let first = Infinity;
    for (const one of this.#layers) {
      const from = Math.max(group, one.from);
      if (one.next < from) one.next = from === Infinity ? Infinity : one.layer.nextGroup(from);
      if (one.next < first) first = one.next;
    }
    return first;
  }
}

/**
 * Tells what differs, a group at a time: `from` null is a volume of zeroes. Extents are clipped to the size of `to`; what
 * only `from` had behind it is not told.
 */
export class Difference {
  readonly size_bytes: number;
  #from: readonly LayerStates[];
  #to: readonly LayerStates[];
  /** Of layers that are in one of the chains only; of those in both, from where on one chain does not look for them. */
  #written: WrittenGroups;
  #a = newResolvedGroup();
  #b = newResolvedGroup();

  constructor(from: readonly LayerStates[] | null, to: readonly LayerStates[]) {
    this.#from = from ?? [];
    this.#to = to;
    this.size_bytes = to[0]!.size_bytes;
    const inFrom = new Set(this.#from.map(({ uuid }) => uuid));
    const shared = to.filter(({ uuid }) => inFrom.has(uuid));
    const inBoth = new Set(shared.map(({ uuid }) => uuid));
    const own = [...to, ...this.#from].filter(({ uuid }) => !inBoth.has(uuid));
    let reach_bytes = Infinity;
    for (const { size_bytes, inherits_bytes } of own)
      reach_bytes = Math.min(reach_bytes, size_bytes, inherits_bytes);
    const reach = Math.floor(reach_bytes / GROUP_BYTES);
    this.#written = new WrittenGroups([
      ...own.map(layer => [layer, 0] as const),
      ...shared.map(layer => [layer, reach] as const),
    ]);
  }

  /** The first group from `group` on in which something can differ; Infinity: none. */
  nextGroup(group: number): number {
    const next = this.#written.next(group);
    return next < this.groupCount ? next : Infinity;
  }

  get groupCount(): number {
    return groupsOf(this.size_bytes);
  }

  /** Adds what differs in this group to `extents`, joined to the last one where they touch. Returns how many bytes of data that is. */
  group(group: number, extents: Extent[]): number {
    const [a, b] = [this.#a, this.#b];
    resolveGroup(this.#to, group, b);
    resolveGroup(this.#from, group, a);
    let data_bytes = 0;
    const first = group * GROUP_BLOCKS;
    const count = Math.min(GROUP_BLOCKS, Math.ceil(this.size_bytes / BLOCK_BYTES) - first);
    for (let i = 0; i < count; i++) {
      const before = a.states[i]!;
      const now = b.states[i]!;
      const zero = now !== DATA;
      if (before !== DATA ? zero : !zero && this.#sameOwner(i)) continue;
      const offset_bytes = (first + i) * BLOCK_BYTES;
      const length_bytes = Math.min(BLOCK_BYTES, this.size_bytes - offset_bytes);
      pushExtent(extents, offset_bytes, length_bytes, zero);
      if (!zero) data_bytes += length_bytes;
    }
    return data_bytes;
  }

  #sameOwner(block: number): boolean {
    return this.#from[this.#a.owners[block]!]!.uuid === this.#to[this.#b.owners[block]!]!.uuid;
  }
}

/** One page of a difference: as many extents as `limit` from `offset_bytes` on, of at most `groupLimit` groups, and where the next page begins. */
export function differencePage(
  difference: Difference,
  offset_bytes: number,
  limit: number,
  groupLimit: number = Infinity,
): { extents: Extent[]; next_bytes: number | null } {
  const extents: Extent[] = [];
  const from = Math.floor(offset_bytes / GROUP_BYTES);
  let group = difference.nextGroup(from);
  for (let count = 0; group !== Infinity && extents.length <= limit && count < groupLimit; count++) {
    difference.group(group, extents);
    group = difference.nextGroup(group + 1);
  }
  const cut = extents
    .map(({ offset_bytes: at, length_bytes, zero }) => {
      const begin = Math.max(at, offset_bytes);
      return { offset_bytes: begin, length_bytes: at + length_bytes - begin, zero };
    })
    .filter(extent => extent.length_bytes > 0);
  // The last one may go on in the next group: it is told whole, or from where the next page begins.
  if (cut.length > limit) return { extents: cut.slice(0, limit), next_bytes: cut[limit]!.offset_bytes };
  return { extents: cut, next_bytes: group === Infinity ? null : group * GROUP_BYTES };
}

/**
 * The same in coarser steps, so that there are few: each cell of `grain_bytes` that has any data, or is zero and untouched in
 * parts, becomes data whole (its bytes are read from the volume, so that is as right); cells of zeroes stay zero.
 */
export function coarsen(extents: readonly Extent[], grain_bytes: number, size_bytes: number): Extent[] {
  const coarse: Extent[] = [];
  /** The cell that is being filled: how much of it is zero, how much is data. */
  let cell = -1;
  let zero_bytes = 0;
  let data_bytes = 0;
  const close = (): void => {
    if (cell < 0) return;
    const offset_bytes = cell * grain_bytes;
    const length_bytes = Math.min(grain_bytes, size_bytes - offset_bytes);
    pushExtent(coarse, offset_bytes, length_bytes, data_bytes === 0 && zero_bytes === length_bytes);
  };
  for (const { offset_bytes, length_bytes, zero } of extents) {
    const end = offset_bytes + length_bytes;
    for (let at = offset_bytes; at < end;) {
      const here = Math.floor(at / grain_bytes);
      if (here !== cell) {
        close();
        cell = here;
        zero_bytes = data_bytes = 0;
      }
      // Whole cells in one step.
      const until =
        at === here * grain_bytes && end - at >= 2 * grain_bytes
          ? at + Math.floor((end - at) / grain_bytes) * grain_bytes
          : Math.min(end, (here + 1) * grain_bytes);
      if (until > (here + 1) * grain_bytes) {
        pushExtent(coarse, at, until - at, zero);
        cell = -1;
      } else if (zero) zero_bytes += until - at;
      else data_bytes += until - at;
      at = until;
    }
  }
  close();
  return coarse;
}
