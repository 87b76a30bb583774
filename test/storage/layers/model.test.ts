/**
 * A model check: random histories of everything that can be done to a volume, with depth, clones, rollbacks and growing, on
 * disks that are warm and cold; after each step every block is what a Map says. WEFT_SEED=n runs one history again.
 */
import t from 'tap';
import { mapBytesOf } from '../../../storage/layers/map.js';
import { random } from './disk.js';
import { BLOCK, History, readBlock, type Step } from './history.js';
import { verifyFrozen } from './frozen.js';
import { Rig } from './rig.js';
import { firstSeed } from '../../seed.js';

const SIZE = 34 * 1024 * 1024;
const BLOCKS = [0, 1, 2, 3, 1022, 1023, 1024, 8191, 8192, 8200, SIZE / BLOCK - 1];

function step(pick: (n: number) => number): Step {
  const block = BLOCKS[pick(BLOCKS.length)]!;
  switch (pick(12)) {
    case 0:
    case 1:
    case 2:
      return { kind: 'write', sector: block * 8, count: 8 };
    case 3:
    case 4:
      return { kind: 'write', sector: block * 8 + pick(8), count: 1 };
    case 5:
      return { kind: 'write', sector: 1022 * 8 + pick(8), count: 12 };
    case 6:
      return { kind: 'zero', block: pick(3), count: 1 + pick(3) };
    case 7:
      return { kind: 'trim', block, count: 1 };
    case 8:
      return { kind: 'flush' };
    case 9:
      return { kind: 'snapshot' };
    case 10:
      return { kind: pick(3) === 0 ? 'kill' : 'idle' };
    default:
      return { kind: 'reopen' };
  }
}

/** All is as acknowledged; a snapshot's chain too, opened alone. */
function check(history: History, finished: boolean): string | null {
  const fault = history.judge(history.rig, history.now, true);
  if (fault !== null) return fault;
  if (finished) history.rig.until(() => !history.rig.volume.busy, 'the frozen layers');
  const snapshot = history.snapshots.at(-1);
  if (snapshot === undefined) return null;
  const { disk, shape } = history.rig;
  const clone = Rig.after(disk.killed(disk.events.length), snapshot.layers, shape, 3, 2, false);
  const wrong = history.judgeSnapshot(clone, snapshot);
  return wrong ?? (finished ? verifyFrozen(clone) : null);
}

void t.test('random histories against a model', async t => {
  const only = process.env['WEFT_SEED'];
  const first = only === undefined ? firstSeed : Number(only);
  const until = first + (only === undefined ? 25 : 1);
  for (let seed = first; seed < until; seed++) {
    const pick = random(seed);
    const rig = Rig.make(seed, { size_bytes: SIZE, checksums: seed % 4 !== 0 });
    rig.disk.cold_percent = seed % 2 === 0 ? 0 : 30;
    // Pages of maps come late and in any order.
    rig.coldMaps = seed % 3 === 0;
    const history = new History(rig, BLOCKS);
    for (let n = 0; n < 40; n++) {
      const failed = history.run(step(pick));
      const fault = failed.length > 0 ? `answers ${failed.join()}` : check(history, pick(2) === 0);
      if (fault !== null) return t.fail(`WEFT_SEED=${seed}: ${history.steps.join(' ')}: ${fault}`);
    }
  }
  t.pass(`seeds ${first} to ${until - 1}`);
});

void t.test(
  'a volume that was shrunk and grown again has zeroes there, and a clone may be larger',
  async t => {
    const rig = Rig.make(1, { size_bytes: SIZE, checksums: true });
    const last = SIZE / BLOCK - 1;
    const history = new History(rig, [0, last]);
    history.run({ kind: 'write', sector: 0, count: 8 });
    history.run({ kind: 'write', sector: last * 8, count: 8 });
    history.run({ kind: 'snapshot' });
    // What is inherited ends before the last block.
    const [, below] = rig.layers;
    rig.layers = [rig.newLayer(SIZE + BLOCK, last * BLOCK), below!];
    rig.open();
    t.equal(rig.volume.size_bytes, SIZE + BLOCK);
    for (const [block, value] of [
      [0, 1],
      [last, 0],
      [last + 1, 0],
    ] as const)
      t.equal(
        readBlock(rig, rig.volume, block, bytes => t.equal(bytes[9], value, `block ${block}`)),
        0,
      );
    t.equal(mapBytesOf(SIZE + BLOCK), mapBytesOf(SIZE));
  },
);

void t.test('a quota holds, and trims give back', async t => {
  const rig = Rig.make(1, { size_bytes: SIZE, checksums: true, quotaLeft_bytes: 2 * BLOCK });
  const history = new History(rig, [0, 1, 2]);
  t.same(history.run({ kind: 'write', sector: 0, count: 16 }), []);
  t.same(history.run({ kind: 'write', sector: 0, count: 16 }), [], 'written over it costs nothing');
  const [refused] = history.run({ kind: 'write', sector: 16, count: 8 });
  t.ok(refused === -122 || refused === -28, `${refused}`);
  t.equal(rig.volume.state, 'full');
  t.same(history.run({ kind: 'trim', block: 0, count: 1 }), []);
  t.same(history.run({ kind: 'write', sector: 16, count: 8 }), []);
  t.equal(rig.volume.state, 'ok');
});
