/** Rates, classes and queues of a switch on memory ports, with a clock wound by hand. */
import t from 'tap';
import type { PortConfig, PortQos, QosClass, QueuesView, SwitchQos } from '../../../dataplane/contract.js';
import { BufferShare } from '../../../dataplane/qos/appShare.js';
import { SwitchBench, frame, station } from '../switch/bench.js';

const bits = (per_s: number, burst: number) => ({ unit: 'bits' as const, per_s, burst });
const trafficClass = (name: string, more: Partial<QosClass>): QosClass => ({
  name,
  priorities: [],
  strict: false,
  weight: 1,
  limit_bytes: 1_000_000,
  limit_frames: 1000,
  ...more,
});
const qos = (more: Partial<PortQos>): Partial<PortConfig> => ({
  qos: { trust: 'pcp', priority: 0, ...more },
});
const many = (from: number, count: number, length = 1000): Uint8Array[] =>
  Array.from({ length: count }, () => frame(station(9), station(from), length));
const onSwitch = (more: Partial<SwitchQos>): { qos: SwitchQos } => ({ qos: { overhead_bytes: 0, ...more } });
const queues = (bench: SwitchBench): QueuesView => bench.app.show('queues', {}) as QueuesView;
/** Of the frames that port sent, how many came from each station. */
const bySource = (bench: SwitchBench, name: string): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { bytes } of bench.port(name).port.sent) counts[bytes[11]!] = (counts[bytes[11]!] ?? 0) + 1;
  return counts;
};
const learn = (bench: SwitchBench): void => void bench.arrive('out', frame(station(1), station(9)));

await t.test('shaping: what is beyond the rate waits, and comes in order', async t => {
  const egress = { rate: bits(8_000_000, 2000), classes: [trafficClass('all', {})] };
  const bench = new SwitchBench({ a: {}, out: qos({ egress }) });
  learn(bench);
  const used = bench.rig.pool.usedCount;
  const frames = many(1, 50).map((bytes, i) => bytes.fill(i, 14));
  t.same(bench.arrive('a', ...frames), { out: 2 });
  t.equal(queues(bench).ports[0]!.classes[0]!.depthFrames, 48);
  t.equal(queues(bench).buffersHeld, 1, 'small frames share a buffer');
  for (let ms = 0; ms < 10; ms++) bench.pass(1);
  t.equal(bench.port('out').port.sent.length, 12, 'a megabyte a second is a frame of 1000 each ms');
  for (let ms = 0; ms < 60; ms++) bench.pass(1);
  t.same(
    bench.port('out').port.sent.map(({ bytes }) => bytes[20]),
    Array.from({ length: 50 }, (_, i) => i),
  );
  t.equal(queues(bench).buffersHeld, 0);
  t.equal(bench.rig.pool.usedCount, used, 'no buffer is lost');
});

for (const [weights, total] of [
  [[3, 1], 4],
  [[7, 2], 9],
] as const)
  await t.test(`two flows of weights ${weights.join(':')} under contention`, async t => {
    const classes = [
      trafficClass('gold', { priorities: [5], weight: weights[0] }),
      trafficClass('rest', { weight: weights[1] }),
    ];
    const bench = new SwitchBench({
      a: qos({ trust: 'none', priority: 5 }),
      b: {},
      out: qos({ egress: { rate: bits(80_000_000, 20_000), classes } }),
    });
    learn(bench);
    const counts = [0, 0];
    for (let ms = 0; ms < 300; ms++) {
      bench.port('out').port.sent.length = 0;
      for (const bytes of many(1, 20)) bench.port('a').port.arrive(bytes);
      for (const bytes of many(2, 20, 500)) bench.port('b').port.arrive(bytes);
      bench.pass(1);
      const sent = bySource(bench, 'out');
      // Octets, when both have been waiting for a while.
      if (ms < 100) continue;
      counts[0]! += (sent[1] ?? 0) * 1000;
      counts[1]! += (sent[2] ?? 0) * 500;
    }
    const share = counts[0]! / (counts[0]! + counts[1]!);
    t.ok(Math.abs(share - weights[0] / total) < 0.01, `${share}`);
    t.ok(Math.abs(counts[0]! + counts[1]! - 2_000_000) < 40_000, 'and the rate of both is that of the port');
    const [gold, rest] = queues(bench).ports[0]!.classes;
    t.ok(gold!.dropsLimit + rest!.dropsLimit > 0, 'queues are bounded');
  });

await t.test('strict before weighted, a guarantee before both, and a maximum', async t => {
  const classes = [
    trafficClass('voice', { priorities: [5], strict: true }),
    trafficClass('slow', { priorities: [3], max: bits(800_000, 1000) }),
    trafficClass('sure', { priorities: [2], guarantee: bits(1_600_000, 1000) }),
    trafficClass('rest', {}),
  ];
  const bench = new SwitchBench({
    v: qos({ trust: 'none', priority: 5 }),
    s: qos({ trust: 'none', priority: 3 }),
    g: qos({ trust: 'none', priority: 2 }),
    r: {},
    out: qos({ egress: { rate: bits(8_000_000, 2000), classes } }),
  });
  learn(bench);
  bench.port('out').port.sent.length = 0;
  for (let ms = 0; ms < 200; ms++) {
    for (const [name, from] of [
      ['v', 1],
      ['s', 2],
      ['g', 3],
      ['r', 4],
    ] as const)
      // prettier-ignore
      for (const bytes of many(from, 2)) bench.port(name).port.arrive(bytes);
    bench.pass(1);
  }
  const sent = bySource(bench, 'out');
  t.ok(Math.abs(sent[3]! - 40) <= 3, `its guarantee although a strict class floods: ${sent[3]}`);
  t.ok(sent[1]! > 155, `the strict one has the rest: ${sent[1]}`);
  t.equal(sent[4] ?? 0, 0);
  bench.port('out').port.sent.length = 0;
  // The strict one falls silent and its queue empties.
  for (let ms = 0; ms < 400; ms++) bench.pass(1);
  for (let ms = 0; ms < 200; ms++) {
    bench.port('out').port.sent.length = ms === 0 ? 0 : bench.port('out').port.sent.length;
    for (const bytes of many(2, 2)) bench.port('s').port.arrive(bytes);
    bench.pass(1);
  }
  t.ok(bySource(bench, 'out')[2]! <= 23, 'a maximum holds although nobody else wants anything');
});

await t.test('a super-frame: counted as its segments, and not starved by a small burst', async t => {
  const egress = { rate: bits(8_000_000, 100), classes: [trafficClass('all', {})] };
  const bench = new SwitchBench({ a: {}, out: qos({ egress }) });
  learn(bench);
  const big = frame(station(9), station(1), 14 + 20 + 20 + 10_000);
  big[46] = 0x50;
  const w0 = 1 | (1 << 8);
  const w1 = 1000 | (34 << 16);
  for (let i = 0; i < 2; i++) bench.port('a').port.arrive(big, w0, w1, 16);
  bench.rig.loop.turn(0);
  const { sent } = bench.port('out').port;
  t.equal(sent.filter(({ bytes }) => bytes.length > 10_000).length, 1);
  bench.pass(8);
  t.equal(
    sent.filter(({ bytes }) => bytes.length > 10_000).length,
    1,
    'ten segments of 1054 are not paid yet',
  );
  bench.pass(4);
  t.equal(sent.filter(({ bytes }) => bytes.length > 10_000).length, 2);
  t.equal(queues(bench).ports[0]!.classes[0]!.octets, 2 * 10_540);
});

await t.test('policing by port and by VLAN: dropped, or marked down', async t => {
  const dropping = { rate: { unit: 'frames' as const, per_s: 1000, burst: 5 }, exceed: 'drop' as const };
  const bench = new SwitchBench({ a: qos({ ingress: dropping }), b: {}, out: {} });
  learn(bench);
  t.same(bench.arrive('a', ...many(1, 20)), { out: 5 });
  t.equal(bench.port('a').count('dropPortRate'), 15);
  bench.pass(3);
  t.same(bench.arrive('a', ...many(1, 20)), { out: 3 });
  t.same(bench.arrive('b', ...many(2, 20)), { out: 20 });
  const ingress = { rate: bits(8_000_000, 3000), exceed: { setPriority: 1 } };
  const trunk = { vlan: { mode: 'trunk' as const, allowed: [[1, 10]] as [number, number][], native: null } };
  const marking = new SwitchBench(
    { a: qos({ trust: 'none', priority: 6 }), out: trunk },
    onSwitch({ vlans: [{ vlan: 1, ingress }] }),
  );
  marking.arrive('a', ...many(1, 5));
  const tags = marking.port('out').port.sent.map(({ bytes }) => bytes[14]! >> 5);
  t.same(tags, [6, 6, 6, 1, 1], 'the priority stands in the tag');
  t.equal(marking.port('a').count('policedRemarked'), 2);
});

await t.test('trust: tag, DSCP, or nobody; remarked as it leaves', async t => {
  const trunk = { vlan: { mode: 'trunk' as const, allowed: [[1, 10]] as [number, number][], native: null } };
  const priorityOf = (words: Partial<PortQos>, settings: Partial<SwitchQos>, more: Partial<QosClass>) => {
    const out = { ...trunk, ...qos({ egress: { classes: [trafficClass('all', more)] } }) };
    const bench = new SwitchBench({ a: { ...trunk, ...qos(words) }, out }, onSwitch(settings));
    const bytes = frame(station(9), station(1), 100);
    bytes.set([0x81, 0, 0xa0, 1, 8, 0, 0x45, 46 << 2, 0, 82], 12);
    bench.arrive('a', bytes);
    return bench.port('out').port.sent[0]!.bytes[14]! >> 5;
  };
  t.equal(priorityOf({}, {}, {}), 5);
  t.equal(priorityOf({ trust: 'none', priority: 2 }, {}, {}), 2);
  t.equal(
    priorityOf({ trust: 'dscp' }, { dscp: Array.from({ length: 64 }, (_, i) => (i === 46 ? 4 : 0)) }, {}),
    4,
  );
  t.equal(priorityOf({}, { pcp: [0, 1, 2, 3, 4, 7, 6, 7] }, {}), 7);
  t.equal(priorityOf({}, {}, { remark: 3 }), 3);
});

await t.test('limits, the shared pool, and a port that goes away', async t => {
  const egress = {
    rate: bits(8000, 1),
    classes: [trafficClass('all', { limit_frames: 10, limit_bytes: 1e7 })],
  };
  const bench = new SwitchBench({ a: {}, out: qos({ egress }), other: qos({ egress }) });
  learn(bench);
  const used = bench.rig.pool.usedCount;
  bench.arrive('a', ...many(1, 50));
  t.equal(queues(bench).ports[0]!.classes[0]!.depthFrames, 9, 'one has left');
  t.equal(bench.port('out').count('dropEgressQueue'), 40);
  const huge = { ...egress, classes: [trafficClass('all', { limit_frames: 16_384, limit_bytes: 1e9 })] };
  bench.configure({ a: {}, out: qos({ egress: huge }), other: qos({ egress }) });
  t.equal(queues(bench).ports[0]!.classes[0]!.depthFrames, 9, 'a change drops nothing');
  for (let i = 0; i < 600; i++) bench.arrive('a', ...many(1, 1, 60_000));
  const share = BufferShare.of(bench.rig.pool);
  t.equal(share.held, share.max / 2, 'one port has half of what queues may have');
  t.ok(bench.port('out').count('dropEgressPool') > 100);
  bench.configure({ a: {}, out: {}, other: {} });
  t.equal(share.held, 0);
  t.equal(bench.rig.pool.usedCount, used);
});

await t.test('two frames in one pool of small and large: buffers come back whatever the order', async t => {
  const classes = [trafficClass('a', { priorities: [1], strict: true }), trafficClass('b', {})];
  const bench = new SwitchBench({
    a: qos({ trust: 'none', priority: 1 }),
    b: {},
    out: qos({ egress: { rate: bits(80_000_000, 1000), classes } }),
  });
  learn(bench);
  const used = bench.rig.pool.usedCount;
  let seed = 1;
  const random = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n;
  let count = 0;
  for (let i = 0; i < 500; i++) {
    for (const [name, from] of [
      ['a', 1],
      ['b', 2],
    ] as const)
      // prettier-ignore
      for (let k = random(4); k > 0; k--) {
        const length = [60, 1514, 9000, 20_000, 60_000][random(5)]!;
        bench.port(name).port.arrive(frame(station(9), station(from), length).fill(count++ & 255, 14));
      }
    bench.pass(1);
  }
  for (let i = 0; i < 20_000 && queues(bench).ports[0]!.classes.some(each => each.depthFrames > 0); i++)
    bench.pass(5);
  t.equal(queues(bench).buffersHeld, 0);
  t.equal(bench.rig.pool.usedCount, used);
  for (const { bytes } of bench.port('out').port.sent)
    if (bytes.subarray(14).some(byte => byte !== bytes[14]))
      t.fail('a frame was overwritten while it waited');
});

await t.test('a guest that floods keeps no other waiting', async t => {
  const bench = new SwitchBench({ flood: {}, calm: {}, out: {} });
  learn(bench);
  for (const bytes of many(1, 1000)) bench.port('flood').port.arrive(bytes);
  for (const bytes of many(2, 3)) bench.port('calm').port.arrive(bytes);
  bench.port('out').port.sent.length = 0;
  bench.rig.loop.turn(0);
  t.same(bySource(bench, 'out'), { 1: 64, 2: 3 }, 'a burst of one, and all of the other');
});
