/** Storm control: what passes, what is counted, and a port that is put down. */
import t from 'tap';
import { Bucket } from '../../../dataplane/storm/bucket.js';
import type { PortStorm } from '../../../dataplane/contract.js';
import { ALL, SwitchBench, frame, station } from '../switch/bench.js';

const storm = (words: Partial<PortStorm>): { storm: PortStorm } => ({
  storm: { action: 'drop', recovery_s: null, ...words },
});
const frames10 = { unit: 'frames' as const, rate_per_s: 10, burst: 5 };
const many = (to: string, count: number, length = 60): Uint8Array[] =>
  Array.from({ length: count }, () => frame(to, station(1), length));

await t.test('a bucket: a burst, then the rate, and no more for having waited longer', async t => {
  const bucket = new Bucket(1000, 10, 0);
  const taken = (at_ms: number, tries: number): number =>
    Array.from({ length: tries }, () => bucket.takes(1, at_ms)).filter(Boolean).length;
  t.equal(taken(0, 100), 10);
  t.equal(taken(5, 100), 5);
  t.equal(taken(1_000_000, 100), 10);
  t.ok(bucket.takes(50, 2_000_000), 'more than it holds passes when it is not empty');
  t.notOk(bucket.takes(1, 2_000_040), 'and is paid for');
  t.ok(bucket.takes(1, 2_000_041));
  t.notOk(bucket.takes(1, 0), 'a clock that goes back brings nothing');
});

await t.test('each kind has its limit', async t => {
  const bench = new SwitchBench({
    a: storm({
      broadcast: frames10,
      multicast: { ...frames10, burst: 2 },
      unknown: { ...frames10, burst: 3 },
    }),
    b: {},
  });
  t.same(bench.arrive('a', ...many(ALL, 20)), { b: 5 });
  t.same(bench.arrive('a', ...many('01:00:5e:01:01:01', 20)), { b: 2 });
  t.same(bench.arrive('a', ...many(station(77), 20)), { b: 3 });
  const a = bench.port('a');
  t.same(
    [a.count('dropStormBroadcast'), a.count('dropStormMulticast'), a.count('dropStormUnknown')],
    [15, 18, 17],
  );
  bench.arrive('b', frame(ALL, station(77)));
  t.same(bench.arrive('a', ...many(station(77), 20)), { b: 20 }, 'a known station is no storm');
  t.same(bench.arrive('b', ...many(ALL, 20)), { a: 20 }, 'the other port has no limit');
  bench.pass(200);
  t.same(bench.arrive('a', ...many(ALL, 20)), { b: 2 }, 'ten a second');
});

await t.test('bits', async t => {
  const bits = { unit: 'bits' as const, rate_per_s: 80_000, burst: 8000 };
  const bench = new SwitchBench({ a: storm({ broadcast: bits }), b: {} });
  t.same(bench.arrive('a', ...many(ALL, 10, 500)), { b: 2 });
  bench.pass(100);
  t.same(bench.arrive('a', ...many(ALL, 10, 100)), { b: 10 });
});

await t.test('put down, and back', async t => {
  const words = storm({ broadcast: frames10, action: 'shutdown', recovery_s: 5 });
  const bench = new SwitchBench({ a: words, b: {} });
  t.same(bench.arrive('a', ...many(ALL, 20)), { b: 5 });
  t.match(bench.port('a').link.fault, /storm control: more broadcasts than 10 frames a second/);
  t.same(bench.told, ['storm.shutdown a']);
  t.equal(bench.port('a').count('dropPortFault'), 14);
  bench.pass(5000);
  t.ok(bench.port('a').link.isUp);
  t.same(bench.arrive('a', ...many(ALL, 1)), { b: 1 });
});
