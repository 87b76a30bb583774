/**
 * What merge and flatten do with files: blocks are copied from one layer into another with the checksums they have. Each is
 * verified while it is read; one that is wrong is copied with its old word, so it stays wrong, and is told. Where the checksums
 * of a region are lost they are made anew of what is there, which is told, too: whether that is what was written nobody knows.
 */
import { BLOCK_BYTES, DATA, GROUP_BLOCKS, GROUP_BYTES, REGION_BLOCKS, ZERO, ABSENT } from '../layers/map.js';
import { WrittenGroups, groupsOf, newResolvedGroup, resolveGroup } from './extents.js';
import { copyAt, readFilled } from './file.js';
import type { LayerFile } from './layerFile.js';
import {
  COPY,
  KEEP,
  MAKE_ZERO,
  blocksIn,
  chooseWay,
  planPull,
  planPush,
  type MergeGroup,
  type MergeWay,
} from './mergePlan.js';
import { SLICE_BYTES, type Slices } from './slices.js';

const SLICE_BLOCKS = SLICE_BYTES / BLOCK_BYTES;

/** Groups of one batch: its syncs are shared by so much at most. */
const BATCH_BLOCKS = 16_384;

/** Copies blocks of several layers into one, batch by batch. */
class Copier {
  #into: LayerFile;
  #buffer: Uint8Array;
  #slices: Slices;
  #batch: { group: number; steps: Uint8Array; sources: readonly LayerFile[]; owners: Uint16Array | null }[] =
    [];
  #blocks = 0;
  /** Whose checksums could not be read. */
  lostRegions = 0;
  /** Blocks that were copied though they do not match theirs. */
  wrongBlocks = 0;

  constructor(into: LayerFile, buffer: Uint8Array, slices: Slices) {
    this.#into = into;
    this.#buffer = buffer;
    this.#slices = slices;
  }

  /** `owners` null: all from the first source. The arrays are kept until the batch is done. */
  async add(
    group: number,
    steps: Uint8Array,
    sources: readonly LayerFile[],
    owners: Uint16Array | null,
  ): Promise<void> {
    this.#batch.push({ group, steps, sources, owners });
    for (const step of steps) if (step === COPY) this.#blocks++;
    if (this.#blocks >= BATCH_BLOCKS || this.#batch.length >= 64) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#batch.length === 0) return;
    const regions = new Set<number>();
    for (const { group, steps } of this.#batch)
      for (let i = 0; i < GROUP_BLOCKS; i++)
        if (steps[i] !== KEEP) regions.add(Math.floor((group * GROUP_BLOCKS + i) / REGION_BLOCKS));
    this.#into.begin([...regions]);
    for (const region of this.#into.takeResummed()) this.#tellLost(this.#into, region);
    for (const { group, steps, sources, owners } of this.#batch)
      await this.#copyGroup(group, steps, sources, owners);
    this.#into.commit();
    this.#batch = [];
    this.#blocks = 0;
    await this.#slices.moved(0);
  }

  async #copyGroup(
    group: number,
    steps: Uint8Array,
    sources: readonly LayerFile[],
    owners: Uint16Array | null,
  ): Promise<void> {
    const first = group * GROUP_BLOCKS;
    for (let i = 0; i < GROUP_BLOCKS;) {
      const step = steps[i]!;
      if (step !== COPY) {
        if (step !== KEEP) this.#into.setEmpty(first + i, step === MAKE_ZERO ? ZERO : ABSENT);
        i++;
        continue;
      }
      const owner = owners === null ? 0 : owners[i]!;
      // A run ends with its region, so that it has one page of words.
      const limit = Math.min(i + SLICE_BLOCKS, (Math.floor(i / REGION_BLOCKS) + 1) * REGION_BLOCKS);
      let end = i + 1;
      while (end < limit && steps[end] === COPY && (owners === null || owners[end] === owner)) end++;
      this.#copyRun(sources[owner]!, first + i, end - i);
      await this.#slices.moved((end - i) * BLOCK_BYTES);
      i = end;
    }
  }

  #copyRun(from: LayerFile, block: number, count: number): void {
    const into = this.#into;
    const bytes = this.#buffer.subarray(0, count * BLOCK_BYTES);
    const region = Math.floor(block / REGION_BLOCKS);
    readFilled(from.dataFd, bytes, block * BLOCK_BYTES);
    const known = from.checksums && !from.isOpen(region) ? this.#wordsOf(from, region) : null;
    for (let i = 0; i < count; i++) {
      const kept = known === null ? 0 : known[(block + i) % REGION_BLOCKS]!;
      if (kept === 0 && !into.checksums) {
        into.setData(block + i, 0);
        continue;
      }
      const found = from.wordOf(bytes, i * BLOCK_BYTES, block + i);
      const isSame = from.sumKind === into.sumKind;
      let word = isSame ? found : into.wordOf(bytes, i * BLOCK_BYTES, block + i);
      if (kept !== 0 && kept !== found) {
        // In words of another kind it has any wrong one.
        word = isSame ? kept : ~word >>> 0 || 1;
        this.wrongBlocks++;
        this.#slices.found(
          `layer ${from.uuid}: a block does not match its checksum; it is kept as it is, with the checksum`,
          (block + i) * BLOCK_BYTES,
          BLOCK_BYTES,
        );
      }
      into.setData(block + i, word);
    }
    copyAt(from.dataFd, into.dataFd, bytes, block * BLOCK_BYTES);
  }

  #tellLost({ uuid }: LayerFile, region: number): void {
    this.lostRegions++;
    this.#slices.found(
      `layer ${uuid}: the checksums of a region are lost; they were made anew of what is there, unverified`,
      region * REGION_BLOCKS * BLOCK_BYTES,
      REGION_BLOCKS * BLOCK_BYTES,
    );
  }

  #lastWords: { uuid: string; region: number; words: Uint32Array | null } | null = null;
  #wordsOf(from: LayerFile, region: number): Uint32Array | null {
    if (this.#lastWords?.uuid === from.uuid && this.#lastWords.region === region)
      return this.#lastWords.words;
    const words = from.words(region);
    if (words === null) this.#tellLost(from, region);
    this.#lastWords = { uuid: from.uuid, region, words };
    return words;
  }
}

export interface Copied {
  readonly copied_bytes: number;
  /** Whose checksums were lost, and made anew. */
  readonly lostRegions: number;
  /** Blocks that do not match their checksum, now as before. */
  readonly wrongBlocks: number;
}

/** One way to join two layers, group by group. */
class Walk {
  /** Of the groups that were passed. */
  counted_bytes = 0;
  /** The next one; Infinity: there is none. */
  at = 0;
  #layers: readonly (readonly [LayerFile, number])[];
  #plan: (group: number, steps: Uint8Array) => number;
  #groups!: WrittenGroups;
  #steps = new Uint8Array(GROUP_BLOCKS);

  /** `layers`: in whose groups there may be something to do, and from which group on. */
  constructor(
    layers: readonly (readonly [LayerFile, number])[],
    plan: (group: number, steps: Uint8Array) => number,
  ) {
    this.#layers = layers;
    this.#plan = plan;
    this.begin();
  }

  get isOver(): boolean {
    return this.at === Infinity;
  }

  begin(): void {
    this.counted_bytes = 0;
    this.#groups = new WrittenGroups(this.#layers);
    this.at = this.#groups.next(0);
  }

  /** What is to be done in the group `at`, good until the next step; null: nothing. Goes on to the next one. */
  step(): Uint8Array | null {
    this.counted_bytes += this.#plan(this.at, this.#steps) * BLOCK_BYTES;
    this.at = this.#groups.next(this.at + 1);
    return this.#steps.some(step => step !== KEEP) ? this.#steps : null;
  }
}

export interface Merged extends Copied {
  readonly kept: 'lower' | 'upper';
  readonly size_bytes: number;
  readonly inherits_bytes: number;
}

/** Durable when it resolves; what is not kept can go once the catalogue says so. `way`: for tests; else whichever moves less. */
export async function mergeLayers(
  lower: LayerFile,
  upper: LayerFile,
  lowest: boolean,
  buffer: Uint8Array,
  slices: Slices,
  way?: MergeWay,
): Promise<Merged> {
  const { size_bytes } = upper;
  const inherits_bytes = Math.min(upper.inherits_bytes, lower.inherits_bytes);
  const [lowerBlocks, upperBlocks] = [blocksIn(lower.size_bytes), blocksIn(upper.size_bytes)];
  const inheritsBlocks = blocksIn(upper.inherits_bytes);
  /** A layer gives its states in memory of its own; ours are copies, as groups wait for their batch. */
  const partsOf = (group: number): MergeGroup => ({
    group,
    lower: lower.states(group),
    upper: upper.states(group),
    lowerBlocks,
    upperBlocks,
    inheritsBlocks,
    lowest,
  });
  /** The lower one loses what the upper one does not look for in it: from this group on. */
  const behind = Math.floor(Math.min(upper.inherits_bytes, size_bytes) / GROUP_BYTES);
  const pull = new Walk([[lower, 0]], (group, steps) => planPull(partsOf(group), steps));
  const pushed = [
    [upper, 0],
    [lower, behind],
  ] as const;
  const push = new Walk(pushed, (group, steps) => planPush(partsOf(group), steps));
  const losesChecksums = upper.checksums && !lower.checksums;
  // Side by side, always the one that is cheaper so far: what is certain to cost more is not looked at to its end.
  const cheaper = (): MergeWay =>
    way ?? chooseWay({ pull_bytes: pull.counted_bytes, push_bytes: push.counted_bytes }, losesChecksums);
  let chosen = cheaper();
  for (; !(chosen === 'pull' ? pull : push).isOver; chosen = cheaper()) {
    (chosen === 'pull' ? pull : push).step();
    await slices.moved(0);
  }
  const walk = chosen === 'pull' ? pull : push;
  const copied_bytes = walk.counted_bytes;
  slices.expect(copied_bytes);
  const [from, into] = chosen === 'pull' ? [lower, upper] : [upper, lower];
  if (chosen === 'push') lower.growFiles(size_bytes);
  const copier = new Copier(into, buffer, slices);
  for (walk.begin(); !walk.isOver;) {
    const group = walk.at;
    const steps = walk.step();
    if (steps === null) await slices.moved(0);
    else await copier.add(group, steps.slice(), [from], null);
  }
  await copier.flush();
  // Where it is to be shorter its files stay as long as they are, without anything there: until the catalogue says so, they are
  // too short to be what it says.
  into.finish();
  const { lostRegions, wrongBlocks } = copier;
  const kept = chosen === 'pull' ? 'upper' : 'lower';
  return { kept, size_bytes, inherits_bytes, copied_bytes, lostRegions, wrongBlocks };
}

/** Copies what a chain reads as, up to `reach_bytes`, into an empty layer. */
export async function copyChain(
  chain: readonly LayerFile[],
  reach_bytes: number,
  into: LayerFile,
  buffer: Uint8Array,
  slices: Slices,
): Promise<Copied> {
  const resolved = newResolvedGroup();
  let total_bytes = 0;
  const groups: number[] = [];
  const written = new WrittenGroups(chain.map(layer => [layer, 0]));
  for (let at = written.next(0); at < groupsOf(reach_bytes); at = written.next(at + 1)) {
    resolveGroup(chain, at, resolved, reach_bytes);
    await slices.moved(0);
    if (resolved.dataCount === 0) continue;
    total_bytes += resolved.dataCount * BLOCK_BYTES;
    groups.push(at);
  }
  slices.expect(total_bytes);
  const copier = new Copier(into, buffer, slices);
  for (const group of groups) {
    resolveGroup(chain, group, resolved, reach_bytes);
    const steps = resolved.states.map(state => (state === DATA ? COPY : KEEP));
    await copier.add(group, steps, chain, resolved.owners.slice());
  }
  await copier.flush();
  into.finish();
  const { lostRegions, wrongBlocks } = copier;
  return { copied_bytes: total_bytes, lostRegions, wrongBlocks };
}
