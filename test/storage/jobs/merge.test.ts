/**
 * Layers on real files against a model: random volumes, snapshots and clones, snapshots deleted in any order, their layers merged
 * either way, each merge cut at every slice and begun again. What is left must read as before, after each step.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { GROUP_BLOCKS, checksumPageAt } from '../../../storage/layers/map.js';
import { copyChain, mergeLayers } from '../../../storage/jobs/copyTask.js';
import { BLOCK_BYTES } from '../../../storage/layers/map.js';
import { Rig, TestSlices, buffer, checksum } from './rig.js';
import { LayerFile } from '../../../storage/jobs/layerFile.js';
import { firstSeed } from '../../seed.js';

/** A group and a bit, so that writes can lie across their edges. */
const BLOCKS = GROUP_BLOCKS + 1100;
const seed = Number(process.env['SEED'] ?? firstSeed);
t.comment(`seed ${seed}; the same again by SEED=${seed}`);

type Step =
  | { kind: 'write'; block: number; count: number; value: number }
  | { kind: 'snapshot' }
  | { kind: 'clone'; which: number }
  | { kind: 'delete'; which: number; way: 'pull' | 'push'; dieAt: number }
  | { kind: 'resize'; blocks: number };

const edge = fc.constantFrom(1000, GROUP_BLOCKS - 15, BLOCKS - 60);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      block: fc.tuple(edge, fc.nat(20)).map(([a, b]) => a + b),
      count: fc.integer({ min: 1, max: 40 }),
      value: fc.oneof({ weight: 2, arbitrary: fc.integer({ min: 1, max: 1e9 }) }, fc.constant(0)),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ kind: 'snapshot' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('clone' as const), which: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('delete' as const),
      which: fc.nat(20),
      way: fc.constantFrom('pull' as const, 'push' as const),
      dieAt: fc.nat(6),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('resize' as const),
      blocks: fc.constantFrom(1010, GROUP_BLOCKS - 2, BLOCKS, BLOCKS + 2000),
    }),
  },
);

async function mergeAll(rig: Rig, way: 'pull' | 'push', dieAt: number): Promise<void> {
  for (let next = rig.mergeable()[0]; next !== undefined; next = rig.mergeable()[0]) {
    const held = (await rig.holdMerge('p', next.layer))!;
    const merge = (slices: TestSlices, how: 'pull' | 'push') =>
      mergeLayers(
        new LayerFile(held.lower, checksum),
        new LayerFile(held.upper, checksum),
        held.lowest,
        buffer,
        slices,
        how,
      );
    if (dieAt > 0) {
      await merge(new TestSlices(dieAt), way).catch((error: unknown) => {
        if ((error as Error).message !== 'died here') throw error;
      });
      const faults = rig.faults();
      if (faults.length > 0) throw new Error(`cut ${way} at ${dieAt}: ${faults.join('; ')}`);
    }
    // Begun again, maybe the other way.
    const how = dieAt % 2 === 0 ? way : way === 'pull' ? 'push' : 'pull';
    const merged = await merge(new TestSlices(), how);
    await rig.commitMerge(held, merged.kept, merged);
    held.release();
    const faults = rig.faults();
    if (faults.length > 0) throw new Error(`after ${how}: ${faults.join('; ')}`);
  }
}

async function play(rig: Rig, steps: readonly Step[]): Promise<void> {
  let number = 0;
  for (const one of steps) {
    const names = [...rig.volumes.keys()];
    const volume = names[number++ % names.length]!;
    const size = rig.volumes.get(volume)!.model.length;
    switch (one.kind) {
      case 'write': {
        const count = Math.min(one.count, size - one.block);
        if (count > 0) rig.write(volume, one.block, count, one.value);
        break;
      }
      case 'snapshot':
        await rig.snapshot('p', volume, `s${number}`);
        break;
      case 'clone':
        if (rig.snapshotList.length > 0 && rig.volumes.size < 3)
          rig.cloneOf(rig.snapshotList[one.which % rig.snapshotList.length]!.status.name, `clone${number}`);
        break;
      case 'delete': {
        const entry = rig.snapshotList[one.which % Math.max(1, rig.snapshotList.length)];
        if (entry === undefined) break;
        await rig.deleteSnapshot('p', entry.volume, entry.status.name);
        await mergeAll(rig, one.way, one.dieAt);
        break;
      }
      case 'resize':
        rig.resize(volume, one.blocks * BLOCK_BYTES);
        break;
    }
  }
  const faults = rig.faults();
  if (faults.length > 0) throw new Error(faults.join('; '));
  // All layers are as a scrub wants them.
  const { scrubLayers } = await import('../../../storage/jobs/scrubTask.js');
  const slices = new TestSlices();
  const scrubbed = await scrubLayers((await rig.holdScrub()).layers, checksum, buffer, slices);
  if (scrubbed.faults > 0 || scrubbed.leaked_bytes > 0)
    throw new Error(`${JSON.stringify(scrubbed)} ${JSON.stringify(slices.findings)}`);
}

for (const [name, options] of [
  ['checksummed', {}],
  ['without checksums', { checksums: false }],
  ['above a plain layer', { plain: true }],
] as const)
  void t.test(`merges change nothing: ${name}`, async t => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 12, maxLength: 40 }), async steps => {
        const rig = new Rig();
        try {
          rig.addVolume('disk', BLOCKS * BLOCK_BYTES, options);
          await play(rig, steps);
        } finally {
          rig.close();
        }
      }),
      { seed, numRuns: 8 },
    );
    t.pass('every snapshot and volume reads as before');
  });

void t.test('a flattened clone needs its parent no more', async t => {
  const rig = new Rig();
  t.teardown(() => rig.close());
  rig.addVolume('disk', BLOCKS * BLOCK_BYTES);
  rig.write('disk', GROUP_BLOCKS - 10, 300, 5);
  await rig.snapshot('p', 'disk', 'a');
  rig.write('disk', 3, 7, 77);
  rig.write('disk', GROUP_BLOCKS, 5, 0);
  await rig.snapshot('p', 'disk', 'b');
  rig.cloneOf('b', 'copy');
  rig.write('copy', 4, 2, 99);
  const held = await rig.holdFlatten('p', 'copy');
  const made = await rig.newLayer('p', 'copy');
  const shared = held.shared.map(opening => new LayerFile(opening, checksum));
  await t.rejects(
    copyChain(shared, held.reach_bytes, new LayerFile(made.layer, checksum), buffer, new TestSlices(2)),
  );
  t.same(rig.faults(), []);
  const again = await rig.newLayer('p', 'copy');
  const copied = await copyChain(
    shared,
    held.reach_bytes,
    new LayerFile(again.layer, checksum),
    buffer,
    new TestSlices(),
  );
  t.equal(
    copied.copied_bytes,
    (300 - 5 + 7) * BLOCK_BYTES,
    'what the parent shows, not what its layers hold',
  );
  await rig.commitFlatten(held, again);
  held.release();
  t.same(rig.faults(), []);
  t.equal(rig.chain(rig.volumes.get('copy')!.top).length, 2);
});

for (const way of ['pull', 'push'] as const)
  void t.test(`zeroes in the middle hide what is below: ${way}`, async t => {
    const rig = new Rig();
    t.teardown(() => rig.close());
    rig.addVolume('disk', BLOCKS * BLOCK_BYTES);
    rig.write('disk', 1000, 40, 5);
    await rig.snapshot('p', 'disk', 'bottom');
    rig.write('disk', 1010, 20, 0);
    rig.write('disk', 1005, 2, 8);
    await rig.snapshot('p', 'disk', 'middle');
    rig.write('disk', 1015, 2, 9);
    await rig.snapshot('p', 'disk', 'upper');
    await rig.deleteSnapshot('p', 'disk', 'middle');
    await mergeAll(rig, way, 2);
    t.same(rig.faults(), []);
    t.equal(rig.chain(rig.volumes.get('disk')!.top).length, 3, 'the middle one is gone');
    await rig.deleteSnapshot('p', 'disk', 'bottom');
    await mergeAll(rig, way, 2);
    t.same(rig.faults(), []);
  });

for (const [way, which] of [
  ['pull', 'lower'],
  ['pull', 'upper'],
  ['push', 'upper'],
] as const)
  void t.test(`a lost page of checksums is told, and made anew: ${way}, of the ${which} one`, async t => {
    const rig = new Rig();
    t.teardown(() => rig.close());
    rig.addVolume('disk', BLOCKS * BLOCK_BYTES);
    rig.write('disk', 1030, 40, 5);
    await rig.snapshot('p', 'disk', 'a');
    rig.write('disk', 1050, 40, 500);
    await rig.snapshot('p', 'disk', 'b');
    await rig.deleteSnapshot('p', 'disk', 'a');
    const held = (await rig.holdMerge('p', rig.mergeable()[0]!.layer))!;
    const { uuid } = held[which];
    const map = fs.openSync(path.join(rig.directory, 'layers', uuid, 'map'), 'r+');
    fs.writeSync(map, Buffer.alloc(40, 1), 0, 40, checksumPageAt(1));
    fs.closeSync(map);
    const slices = new TestSlices();
    const [lower, upper] = [held.lower, held.upper].map(opening => new LayerFile(opening, checksum));
    const merged = await mergeLayers(lower!, upper!, held.lowest, buffer, slices, way);
    t.match(merged, { lostRegions: 1, wrongBlocks: 0 });
    t.match(slices.findings, [
      { what: new RegExp(`${uuid}: the checksums of a region are lost`), offset_bytes: 4194304 },
    ]);
    await rig.commitMerge(held, merged.kept, merged);
    held.release();
    t.same(rig.faults(), []);
    const { scrubLayers } = await import('../../../storage/jobs/scrubTask.js');
    const scrubbed = await scrubLayers((await rig.holdScrub()).layers, checksum, buffer, new TestSlices());
    t.match(scrubbed, { faults: 0, unchecked_bytes: 0 });
  });

for (const way of ['pull', 'push'] as const)
  for (const olderBelow of [true, false])
    void t.test(
      `a block that the disk changed stays wrong: ${way}, older sums ${olderBelow ? 'below' : 'above'}`,
      async t => {
        const rig = new Rig();
        t.teardown(() => rig.close());
        // Sums are of both kinds in turn: one layer more below changes which is which.
        if (olderBelow) rig.addVolume('other', BLOCK_BYTES);
        rig.addVolume('disk', BLOCKS * BLOCK_BYTES);
        rig.write('disk', 1030, 40, 5);
        await rig.snapshot('p', 'disk', 'a');
        rig.write('disk', 1080, 40, 500);
        await rig.snapshot('p', 'disk', 'b');
        await rig.deleteSnapshot('p', 'disk', 'a');
        const held = (await rig.holdMerge('p', rig.mergeable()[0]!.layer))!;
        t.equal(held.lower.sum === undefined, olderBelow, 'the kinds are as they should be');
        t.not(held.lower.sum, held.upper.sum);
        const from = way === 'pull' ? held.lower : held.upper;
        const block = way === 'pull' ? 1040 : 1090;
        const data = fs.openSync(path.join(rig.directory, 'layers', from.uuid, 'data'), 'r+');
        fs.writeSync(data, Buffer.alloc(1, 99), 0, 1, block * BLOCK_BYTES + 77);
        fs.closeSync(data);
        const slices = new TestSlices();
        const [lower, upper] = [held.lower, held.upper].map(opening => new LayerFile(opening, checksum));
        const merged = await mergeLayers(lower!, upper!, held.lowest, buffer, slices, way);
        t.match(merged, { lostRegions: 0, wrongBlocks: 1 });
        await rig.commitMerge(held, merged.kept, merged);
        held.release();
        const { scrubLayers } = await import('../../../storage/jobs/scrubTask.js');
        const found = new TestSlices();
        t.match(await scrubLayers((await rig.holdScrub()).layers, checksum, buffer, found), { faults: 1 });
        t.match(found.findings, [{ offset_bytes: block * BLOCK_BYTES }]);
      },
    );
