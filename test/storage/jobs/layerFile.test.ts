/** A layer with more groups than are kept in memory, in one batch: what each says gets to the map. */
import * as fs from 'node:fs';
import t from 'tap';
import {
  BLOCK_BYTES,
  DATA,
  GROUP_BLOCKS,
  GROUP_BYTES,
  GROUP_REGIONS,
  stateOf,
} from '../../../storage/layers/map.js';
import { Rig } from './rig.js';

const GROUPS = 4200;

void t.test('a batch across more groups than are kept in memory', async t => {
  const rig = new Rig(fs.mkdtempSync('/dev/shm/weft-jobs-'));
  t.teardown(() => rig.close());
  const uuid = rig.addLayer(GROUPS * GROUP_BYTES, null);
  const layer = rig.file(uuid);
  const bytes = new Uint8Array(BLOCK_BYTES).fill(7);
  for (let round = 0; round < 2; round++) {
    layer.begin(Array.from({ length: GROUPS }, (_, group) => group * GROUP_REGIONS));
    for (let group = 0; group < GROUPS; group++) {
      const block = group * GROUP_BLOCKS + round;
      layer.write(bytes, block * BLOCK_BYTES);
      layer.setData(block, layer.wordOf(bytes, 0, block));
    }
    layer.commit();
  }
  layer.finish();
  const again = rig.file(uuid);
  let wrong = 0;
  for (let group = 0; group < GROUPS; group++) {
    const states = again.states(group);
    const words = again.words(group * GROUP_REGIONS);
    for (let round = 0; round < 2; round++) {
      const block = group * GROUP_BLOCKS + round;
      const isRight =
        states !== null &&
        stateOf(states, round) === DATA &&
        words?.[round] === again.wordOf(bytes, 0, block);
      if (!isRight) wrong++;
    }
    if (again.isOpen(group * GROUP_REGIONS)) wrong++;
  }
  t.equal(wrong, 0);
});
