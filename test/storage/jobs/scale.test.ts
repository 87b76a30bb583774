/**
 * What jobs and differences cost is what was written, not how large a volume is, nor what it shares: pages that are read of the maps
 * of layers of 64 TiB are counted, never time.
 */
import t, { type Test } from 'tap';
import { extentsOf } from '../../../storage/jobs/backupTask.js';
import { kernelCalls, useCalls } from '../../../storage/jobs/calls.js';
import { copyChain, mergeLayers } from '../../../storage/jobs/copyTask.js';
import { Difference, differencePage } from '../../../storage/jobs/extents.js';
import { LayerFile } from '../../../storage/jobs/layerFile.js';
import { scrubLayers } from '../../../storage/jobs/scrubTask.js';
import { BLOCK_BYTES, GROUP_BLOCKS, REGION_BLOCKS } from '../../../storage/layers/map.js';
import { Rig, TestSlices, buffer, checksum } from './rig.js';
import { newDirectory } from './story.js';

const SIZE = 64 * 2 ** 40;
/** Groups of the lower layer in which something was written, all over it. */
const MANY = 300;
const far = (index: number): number => index * 6000 * GROUP_BLOCKS + 7;
/** Maps are read by two state pages at once; some more for what is really changed. */
const FEW = 30;

function write(layer: LayerFile, blocks: readonly number[]): void {
  layer.begin(blocks.map(block => Math.floor(block / REGION_BLOCKS)));
  const bytes = new Uint8Array(BLOCK_BYTES);
  for (const block of blocks) {
    bytes.fill(block % 251);
    layer.write(bytes, block * BLOCK_BYTES);
    layer.setData(block, layer.wordOf(bytes, 0, block));
  }
  layer.commit();
  layer.finish();
}

/** A layer with much in it, above it one with these blocks. `file` opens one, with nothing of it in memory. */
function two(t: Test, upper: readonly number[]): { lower: string; upper: string; rig: Rig } {
  const rig = new Rig(newDirectory());
  t.teardown(() => rig.close());
  const lower = rig.addLayer(SIZE, null);
  write(
    rig.file(lower),
    Array.from({ length: MANY }, (_, i) => far(i)),
  );
  const above = rig.addLayer(SIZE, lower);
  if (upper.length > 0) write(rig.file(above), upper);
  return { lower, upper: above, rig };
}

/** How many reads it takes. */
async function reads(work: () => Promise<unknown> | void): Promise<number> {
  let count = 0;
  useCalls({
    ...kernelCalls,
    read: (...how) => {
      count++;
      return kernelCalls.read(...how);
    },
  });
  try {
    await work();
  } finally {
    useCalls(kernelCalls);
  }
  return count;
}

void t.test('a merge costs what the smaller of two layers has', async t => {
  for (const blocks of [[], [far(3), far(4) + 1]]) {
    const { lower, upper, rig } = two(t, blocks);
    const slices = new TestSlices();
    const cost = await reads(async () => {
      const merged = await mergeLayers(rig.file(lower), rig.file(upper), true, buffer, slices);
      t.match(merged, { kept: 'lower', copied_bytes: blocks.length * BLOCK_BYTES });
    });
    t.ok(cost <= FEW, `${cost} reads into the one that has much`);
    t.ok(slices.moves > 0, 'others had their turn meanwhile');
  }
  // The other way round: nothing is below what has much.
  const { lower, rig } = two(t, []);
  const bottom = rig.addLayer(SIZE, null);
  const cost = await reads(async () => {
    const merged = await mergeLayers(rig.file(bottom), rig.file(lower), true, buffer, new TestSlices());
    t.match(merged, { kept: 'upper', copied_bytes: 0 });
  });
  t.ok(cost <= FEW, `${cost} reads of an empty one below`);
});

void t.test('a difference, and a backup of it, cost what is not shared', async t => {
  const { lower, upper, rig } = two(t, [far(100), far(100) + 1]);
  const files = (layer: string): LayerFile[] =>
    rig.chain(layer).map(opening => new LayerFile(opening, checksum));
  const changed = { offset_bytes: far(100) * BLOCK_BYTES, length_bytes: 2 * BLOCK_BYTES, zero: false };
  let cost = await reads(() => {
    const difference = new Difference(files(lower), files(upper));
    t.same(differencePage(difference, 0, 1000, 1000), { extents: [changed], next_bytes: null });
  });
  t.ok(cost <= FEW, `${cost} reads for a difference`);
  cost = await reads(async () => {
    t.same(await extentsOf(files(upper), files(lower), new TestSlices()), [changed]);
  });
  t.ok(cost <= FEW, `${cost} reads for what goes into a backup`);
  const all = new Difference(null, files(upper));
  let found = 0;
  for (let at: number | null = 0; at !== null;) {
    const { extents, next_bytes } = differencePage(all, at, 1000, 64);
    found += extents.length;
    at = next_bytes;
  }
  t.equal(found, MANY, 'all of it, in pages');
});

void t.test('a scrub and a flatten cost what was written', async t => {
  const rig = new Rig(newDirectory());
  t.teardown(() => rig.close());
  const layer = rig.addLayer(SIZE, null);
  write(rig.file(layer), [5, far(MANY)]);
  const opening = rig.layers.get(layer)!.opening;
  const slices = new TestSlices();
  const cost = await reads(async () => {
    const one = { layer: opening, lowest: true, live: false, usedBy: [], mirrored: false };
    const scrubbed = await scrubLayers([one], checksum, buffer, slices);
    t.match(scrubbed, { faults: 0, checked_bytes: 2 * BLOCK_BYTES });
  });
  t.ok(cost <= FEW, `${cost} reads for a scrub`);
  const into = rig.addLayer(SIZE, null);
  const copying = await reads(async () => {
    const copied = await copyChain([rig.file(layer)], SIZE, rig.file(into), buffer, new TestSlices());
    t.equal(copied.copied_bytes, 2 * BLOCK_BYTES);
  });
  t.ok(copying <= FEW, `${copying} reads for a flatten`);
});
