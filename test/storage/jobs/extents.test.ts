/** What chains are made of and how they differ, against block-by-block loops; coarser steps; pages of a difference. */
import fc from 'fast-check';
import t from 'tap';
import {
  Difference,
  coarsen,
  differencePage,
  pushExtent,
  type Extent,
  type LayerStates,
} from '../../../storage/jobs/extents.js';
import { ABSENT, BLOCK_BYTES, DATA, GROUP_BLOCKS, setState } from '../../../storage/layers/map.js';
import { firstSeed } from '../../seed.js';

const seed = Number(process.env['SEED'] ?? firstSeed);
t.comment(`seed ${seed}; the same again by SEED=${seed}`);

interface Toy extends LayerStates {
  readonly at: ReadonlyMap<number, number>;
}

/** Blocks near the edge of two groups. */
const FIRST = GROUP_BLOCKS - 20;
const BLOCKS = GROUP_BLOCKS + 20;

const toy = (uuid: string, at: ReadonlyMap<number, number>, blocks: number, inherits: number): Toy => ({
  uuid,
  at,
  size_bytes: blocks * BLOCK_BYTES,
  inherits_bytes: inherits * BLOCK_BYTES,
  states: group => {
    const states = new Uint8Array(GROUP_BLOCKS / 4);
    for (const [block, state] of at)
      if (Math.floor(block / GROUP_BLOCKS) === group) setState(states, block % GROUP_BLOCKS, state);
    return states;
  },
  nextGroup: group => {
    const groups = [...at.keys()].map(block => Math.floor(block / GROUP_BLOCKS));
    return Math.min(Infinity, ...groups.filter(one => one >= group));
  },
});

/** Who answers for a block, and with what; slow and obvious. */
function ask(chain: readonly Toy[], block: number): { by: string; state: number } {
  for (const layer of chain) {
    if (block >= layer.size_bytes / BLOCK_BYTES) break;
    const state = layer.at.get(block) ?? ABSENT;
    if (state !== ABSENT) return { by: layer.uuid, state };
    if (block >= layer.inherits_bytes / BLOCK_BYTES) break;
  }
  return { by: '', state: ABSENT };
}

const layer = fc
  .tuple(
    fc.array(fc.tuple(fc.integer({ min: FIRST, max: BLOCKS - 1 }), fc.integer({ min: 1, max: 2 })), {
      maxLength: 20,
    }),
    fc.integer({ min: FIRST, max: BLOCKS }),
    fc.integer({ min: FIRST, max: BLOCKS }),
  )
  .map(([states, blocks, inherits]) => ({ at: new Map(states), blocks, inherits }));

void t.test('a difference is what a loop over blocks finds', async t => {
  const chains = fc.record({
    shared: fc.array(layer, { maxLength: 2 }),
    a: fc.array(layer, { minLength: 1, maxLength: 2 }),
    b: fc.array(layer, { minLength: 1, maxLength: 2 }),
    limit: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(chains, ({ shared, a, b, limit }) => {
      const below = shared.map((one, i) => toy(`s${i}`, one.at, one.blocks, one.inherits));
      const from = [...a.map((one, i) => toy(`a${i}`, one.at, one.blocks, one.inherits)), ...below];
      const to = [...b.map((one, i) => toy(`b${i}`, one.at, one.blocks, one.inherits)), ...below];
      const difference = new Difference(from, to);
      const expected: Extent[] = [];
      for (let block = FIRST; block < difference.size_bytes / BLOCK_BYTES; block++) {
        const [x, y] = [ask(from, block), ask(to, block)];
        const same = x.state === DATA ? y.state === DATA && x.by === y.by : y.state !== DATA;
        if (!same) pushExtent(expected, block * BLOCK_BYTES, BLOCK_BYTES, y.state !== DATA);
      }
      const found: Extent[] = [];
      let next: number | null = 0;
      while (next !== null) {
        const page: ReturnType<typeof differencePage> = differencePage(difference, next, limit, 1);
        for (const { offset_bytes, length_bytes, zero } of page.extents)
          pushExtent(found, offset_bytes, length_bytes, zero);
        if (page.next_bytes !== null && page.next_bytes <= next) throw new Error('no progress');
        next = page.next_bytes;
      }
      if (JSON.stringify(found) !== JSON.stringify(expected))
        throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`);
    }),
    { seed, numRuns: 300 },
  );
  t.pass();
});

void t.test('coarser steps cover what was there, and zeroes stay only where all is zero', async t => {
  const pieces = fc.array(fc.tuple(fc.nat(6), fc.integer({ min: 1, max: 9 }), fc.boolean()), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(pieces, fc.constantFrom(2, 4, 8), (list, cells) => {
      const extents: Extent[] = [];
      let at = 0;
      for (const [gap, length, zero] of list) {
        at += gap;
        pushExtent(extents, at * BLOCK_BYTES, length * BLOCK_BYTES, zero);
        at += length;
      }
      const size = at + 3;
      const blocksOf = (of: readonly Extent[]): (boolean | null)[] => {
        const blocks: (boolean | null)[] = Array.from({ length: size }, () => null);
        for (const { offset_bytes, length_bytes, zero } of of)
          blocks.fill(zero, offset_bytes / BLOCK_BYTES, (offset_bytes + length_bytes) / BLOCK_BYTES);
        return blocks;
      };
      const fine = blocksOf(extents);
      const coarse = blocksOf(coarsen(extents, cells * BLOCK_BYTES, size * BLOCK_BYTES));
      for (let cell = 0; cell * cells < size; cell++) {
        const inCell = fine.slice(cell * cells, (cell + 1) * cells);
        const wanted = inCell.every(one => one === null) ? null : inCell.every(one => one === true);
        for (const is of coarse.slice(cell * cells, (cell + 1) * cells))
          if (is !== wanted) throw new Error(`cell ${cell} of ${cells} is ${is}, not ${wanted}`);
      }
    }),
    { seed, numRuns: 500 },
  );
  t.pass();
});
