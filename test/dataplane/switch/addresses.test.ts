/** Static entries, limits and moves per port. */
import t from 'tap';
import type { PortAddresses } from '../../../dataplane/contract.js';
import { ALL, SwitchBench, frame, station } from './bench.js';

const addresses = (words: Partial<PortAddresses>): PortAddresses => ({
  limit: null,
  onFull: 'drop',
  moves: null,
  recovery_s: null,
  ...words,
});
/** `count` frames, each from a station of its own. */
const crowd = (first: number, count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => frame(ALL, station(first + i)));

await t.test('static entries', async t => {
  const statics = [
    { mac: station(1), vlan: 1, port: 'b' },
    { mac: station(2), vlan: 1, port: null },
    { mac: station(3), vlan: 1, port: 'gone' },
  ];
  const bench = new SwitchBench({ a: {}, b: {}, c: {} }, { staticAddresses: statics });
  t.same(bench.arrive('a', frame(station(1), station(9))), { b: 1 }, 'known without having spoken');
  t.same(bench.arrive('a', frame(station(2), station(9))), {}, 'to nowhere');
  t.equal(bench.port('a').count('dropStaticNowhere'), 1);
  t.same(bench.arrive('c', frame(station(9), station(1))), { a: 1 });
  t.equal(bench.port('c').count('sourceElsewhereStatic'), 1);
  t.same(bench.arrive('a', frame(station(1), station(9))), { b: 1 }, 'it cannot be lured away');
  bench.pass(1_000_000);
  bench.app.flushMacs();
  t.same(bench.arrive('a', frame(station(1), station(9))), { b: 1 }, 'neither ages nor is flushed');
  t.same(
    bench.app
      .macs()
      .filter(entry => entry.isStatic)
      .map(({ mac, port }) => `${mac} ${port}`)
      .sort(),
    [`${station(1)} b`, `${station(2)} `],
  );
  bench.configure({ a: {}, b: {}, c: {} }, { staticAddresses: [] });
  t.same(bench.arrive('a', frame(station(1), station(9))), { b: 1, c: 1 }, 'taken out, it is unknown');
});

await t.test('a limit: frames of further stations', async t => {
  for (const [onFull, wanted] of [
    ['drop', 0],
    ['flood', 1],
  ] as const) {
    const bench = new SwitchBench({ a: { addresses: addresses({ limit: 3, onFull }) }, b: {} });
    t.same(bench.arrive('a', ...crowd(1, 3)), { b: 3 });
    const left = bench.arrive('a', ...crowd(4, 1));
    t.equal(left['b'] ?? 0, wanted, onFull);
    t.equal(bench.port('a').count('macsNotLearnedPortFull'), 1);
    t.equal(bench.port('a').count('dropAddressLimit'), 1 - wanted);
    t.same(bench.arrive('a', ...crowd(1, 3)), { b: 3 }, 'those that are known go on');
    t.equal(bench.app.macs().length, 3);
    t.same(bench.arrive('b', ...crowd(100, 50)), { a: 50 }, 'other ports have no limit');
  }
});

await t.test('a limit: the port is put down, and tried again', async t => {
  const ports = { a: { addresses: addresses({ limit: 2, onFull: 'shutdown', recovery_s: 30 }) }, b: {} };
  const bench = new SwitchBench(ports);
  t.same(bench.arrive('a', ...crowd(1, 4)), { b: 2 });
  const { link } = bench.port('a');
  t.notOk(link.isUp);
  t.match(link.fault, /more than 2 addresses came in here; tried again in 30 s/);
  t.same(bench.told, ['addressLimit.shutdown a']);
  t.same(bench.arrive('a', ...crowd(1, 1)), {}, 'it takes nothing');
  t.same(bench.arrive('b', frame(ALL, station(50))), {}, 'and is sent nothing');
  bench.pass(29_999);
  t.notOk(link.isUp);
  bench.pass(1);
  t.ok(link.isUp);
  t.same(bench.arrive('a', ...crowd(1, 1)), { b: 1 });
});

await t.test('a lifted limit brings the port back at once', async t => {
  const bench = new SwitchBench({ a: { addresses: addresses({ limit: 1, onFull: 'shutdown' }) }, b: {} });
  bench.arrive('a', ...crowd(1, 2));
  bench.pass(1_000_000);
  t.notOk(bench.port('a').link.isUp, 'without a recovery time it stays down');
  bench.configure({ a: {}, b: {} });
  t.ok(bench.port('a').link.isUp);
});

await t.test('a station that moves too often', async t => {
  const moves = { most: 2, within_s: 10, action: 'hold' as const };
  const bench = new SwitchBench({ a: { addresses: addresses({ moves }) }, b: {}, c: {} });
  const roam = (name: string): Record<string, number> => bench.arrive(name, frame(station(7), station(1)));
  roam('b');
  for (let i = 0; i < 2; i++) {
    t.same(roam('a'), { b: 1, c: 1 });
    roam('b');
  }
  t.same(roam('a'), {}, 'the third move in ten seconds is held');
  t.equal(bench.port('a').count('dropStationMoved'), 1);
  t.same(bench.arrive('c', frame(station(1), station(7))), { b: 1 }, 'it is still where it was');
  bench.pass(10_001);
  t.same(roam('a'), { c: 1 }, 'a new ten seconds');
});

await t.test('flushing one port, one VLAN', async t => {
  const bench = new SwitchBench({
    a: {},
    b: {},
    c: { vlan: { mode: 'access', vlan: 2 } },
  });
  bench.arrive('a', ...crowd(1, 5));
  bench.arrive('b', ...crowd(10, 7));
  bench.arrive('c', ...crowd(20, 3));
  t.equal(bench.app.flushMacs('b'), 7);
  t.equal(bench.app.flushMacs(undefined, 2), 3);
  t.equal(bench.app.flushMacs('nobody'), undefined);
  t.equal(bench.app.flushMacs(), 5);
});
