import t from 'tap';
import type { Lab } from '../lab/harness/lab.js';
import { group, median, runCase } from './bench.js';
import type { Case, Contender, ContenderSource, Sample } from './bench.js';
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
    { progress: () => {}, leftOut: () => {} },
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

await t.test('processor time for each piece of work', async t => {
  const withWork = {
    case: { ...useCase, per: 'Gb' },
    rows: [
      {
        name: 'weft',
        samples: [
          { ...sample(9), work: 10 },
          { ...sample(10), work: 20 },
        ],
      },
      { name: 'linux-bridge', samples: [{ ...sample(9), work: 60 }] },
    ],
  };
  t.match(table(withWork, { rounds: 2, seconds: 2 }).split('\n')[2], /0\.400$/);
  t.same(resultOf('switch', [withWork])?.cases[0]?.cpu_s, {
    of: 'machine',
    per: 'Gb',
    weft: 0.4,
    peers: { 'linux-bridge': 0.1 },
  });
});

await t.test('a group runs its chosen cases with those who take part', async t => {
  const started: string[] = [];
  const source = (name: string, only?: string): ContenderSource<Case> => ({
    name,
    missing: () => (name === 'absent' ? 'it is not here' : false),
    ...(only === undefined ? {} : { takes: ({ name: of }) => of === only }),
    start: async () => {
      started.push(name);
      return { name, measure: async () => sample(1) };
    },
  });
  const tapCases = group({
    name: 'tap',
    cases: [useCase, { ...useCase, name: 'other' }, { ...useCase, name: 'third' }],
    contenders: [source('weft'), source('a', 'other'), source('b'), source('absent'), source('c', 'third')],
  });
  t.same(tapCases.peers, ['a', 'b', 'absent', 'c']);
  const told: string[] = [];
  const results = await tapCases.run(
    {} as Lab,
    {
      cases: ['other', 'tap-tcp', 'of another group'],
      peers: ['a', 'absent', 'c'],
      quick: true,
      rounds: { rounds: 1, seconds: 1 },
    },
    {
      progress: () => {},
      leftOut: (name, why) => told.push(`${name}: ${why}`),
      result: result => told.push(result.case.name),
    },
  );
  t.same(started, ['weft', 'a'], 'c has no case that was asked for');
  t.same(told, ['absent: it is not here', 'tap-tcp', 'other']);
  t.same(
    results.map(({ rows }) => rows.map(row => row.name)),
    [['weft'], ['weft', 'a']],
  );
});

await t.test('without figures of ours there is no RESULT', async t => {
  t.equal(resultOf('switch', [{ case: useCase, rows: result.rows.slice(1) }]), null);
  t.equal(resultOf('switch', []), null);
});
