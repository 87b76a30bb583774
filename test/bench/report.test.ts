import t from 'tap';
import { median, runCase } from './bench.js';
import type { Case, Contender, Sample } from './bench.js';
import { resultOf, table } from './report.js';

const sample = (value: number, processCpu_s: number | null = 1): Sample => ({
  value,
  seconds: 2,
  elapsed_s: 4,
  processCpu_s,
  machineCpu_s: 6,
});

const useCase: Case = { name: 'tap-tcp', unit: 'Gb/s', better: 'higher' };

const result = {
  case: useCase,
  rows: [
    { name: 'weft', samples: [sample(9), sample(11), sample(10)] },
    { name: 'linux-bridge', samples: [sample(20, null), sample(19, null), sample(40, null)] },
  ],
};

await t.test('the median does not care for one wild run', async t => {
  t.equal(median([3, 1, 1000]), 3);
  t.equal(median([4, 1, 2, 3]), 2.5);
});

await t.test('runs are taken in turn', async t => {
  const order: string[] = [];
  const contender = (name: string): Contender<Case> => ({
    name,
    measure: async () => {
      order.push(name);
      return sample(order.length);
    },
  });
  const { rows } = await runCase(
    useCase,
    [contender('weft'), contender('peer')],
    { rounds: 2, seconds: 1 },
    () => {},
  );
  t.same(order, ['weft', 'peer', 'weft', 'peer']);
  t.same(
    rows.map(row => row.samples.map(one => one.value)),
    [
      [1, 3],
      [2, 4],
    ],
  );
});

await t.test('the table has medians, spread, ratios and processor time', async t => {
  const lines = table(result, { rounds: 3, seconds: 2 }).split('\n');
  t.equal(lines[0], 'tap-tcp, Gb/s, higher is better; 3 runs of 2 s each');
  t.match(lines[2], /^weft +10\.00 +9\.00 - 11\.00 +0\.50 +1\.50$/);
  t.match(lines[3], /^linux-bridge +20\.00 +19\.00 - 40\.00 +0\.50 x +n\/a +1\.50$/);
});

await t.test('RESULT has the shape that programs rely on', async t => {
  t.same(resultOf('switch', [result]), {
    bench: 'switch',
    cases: [{ name: 'tap-tcp', unit: 'Gb/s', better: 'higher', weft: 10, peers: { 'linux-bridge': 20 } }],
  });
});

await t.test('without figures of ours there is no RESULT', async t => {
  t.equal(resultOf('switch', [{ case: useCase, rows: result.rows.slice(1) }]), null);
  t.equal(resultOf('switch', []), null);
});
