/** Networks of bridges come to a tree without loops that connects all that is cabled: known ones and random ones. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { Network, seeded } from './network.js';
import type { SimBridge } from './network.js';

const RUNS = 60;
/** What the slowest need: aged information (20 s), twice the forward delay (30 s), and some. */
const LONG_MS = 90_000;

function ring(count: number, settings = {}): { network: Network; bridges: SimBridge[] } {
  const network = new Network();
  const bridges = Array.from({ length: count }, () => network.bridge(settings));
  for (let i = 0; i < count; i++) network.join([[bridges[i]!], [bridges[(i + 1) % count]!]]);
  return { network, bridges };
}

const settled = (network: Network): string | null => network.loop() ?? network.disconnected();

await t.test('two bridges forward at once, by proposal and agreement', async t => {
  const { network, bridges } = ring(2);
  // Two cables between the same two: one of them is blocked.
  network.run(100);
  t.equal(settled(network), null);
  t.equal(bridges[0]!.tree.bridge.rootPortId, 0, 'the lower address is the root');
  const roles = bridges[1]!.tree.bridge.ports.map(p => p.role).sort();
  t.same(roles, ['alternate', 'root']);
});

await t.test('a ring of three: root by priority, one port blocked, a cut heals within a second', async t => {
  const network = new Network();
  const [a, b, c] = [network.bridge(), network.bridge(), network.bridge({ priority: 4096 })] as const;
  network.join([[a], [b]], 1);
  network.join([[b], [c]], 1);
  const ca = network.join([[c], [a]], 1);
  network.run(5000);
  t.equal(settled(network), null);
  t.equal(c.tree.bridge.rootPortId, 0);
  t.equal(a.tree.bridge.rootPriority.rootHigh, c.tree.bridge.identifierHigh);
  const blocked = network.bridges.flatMap(bridge =>
    [...bridge.states].filter(([, state]) => state === 'discarding'),
  );
  t.equal(blocked.length, 1);
  const flushed = [...b.flushes.values()].reduce((sum, count) => sum + count, 0);
  network.setUp(ca, false);
  network.run(1000);
  t.equal(settled(network), null, 'healed');
  t.ok([...b.flushes.values()].reduce((sum, count) => sum + count, 0) > flushed, 'addresses were forgotten');
  network.setUp(ca, true);
  network.run(3000);
  t.equal(settled(network), null);
});

await t.test(
  'STP among themselves: nothing forwards before twice the forward delay, then a tree',
  async t => {
    const { network } = ring(3, { forceVersion: 0 });
    network.run(29_000);
    t.ok(network.bridges.every(bridge => [...bridge.states.values()].every(state => state !== 'forwarding')));
    network.run(20_000);
    t.equal(settled(network), null);
  },
);

await t.test('RSTP and STP in one ring', async t => {
  const network = new Network();
  const bridges = [network.bridge(), network.bridge({ forceVersion: 0 }), network.bridge()];
  for (let i = 0; i < 3; i++) network.join([[bridges[i]!], [bridges[(i + 1) % 3]!]]);
  network.run(60_000);
  t.equal(settled(network), null);
  const toward = bridges[0]!.tree.bridge.ports[0]!;
  t.equal(toward.sendRstp, false, 'the port toward the STP bridge speaks STP');
  t.equal(bridges[0]!.tree.bridge.ports[1]!.sendRstp, true, 'the other does not');
});

await t.test('the root dies: the others find a new one, with no loop at rest', async t => {
  const { network, bridges } = ring(5);
  network.run(5000);
  for (const lan of bridges[0]!.lans.values()) network.setUp(lan, false);
  network.run(30_000);
  t.equal(settled(network), null);
  t.equal(bridges[3]!.tree.bridge.rootPriority.rootLow, bridges[1]!.tree.bridge.identifierLow);
});

await t.test('a chain as long as max age allows', async t => {
  const network = new Network();
  const bridges = Array.from({ length: 18 }, () => network.bridge());
  for (let i = 1; i < bridges.length; i++) network.join([[bridges[i - 1]!], [bridges[i]!]]);
  network.run(20_000);
  t.equal(settled(network), null);
});

interface Shape {
  seed: number;
  count: number;
  extra: number;
  hubs: number;
  stp: boolean;
}

/** A connected network of random cables, some doubled, some hubs; the same for the same shape. */
function randomNetwork({ seed, count, extra, hubs, stp }: Shape, delays: boolean): Network {
  const random = seeded(seed * 7919 + count);
  const network = new Network();
  const delay = (): number => (delays ? random(20) : 0);
  for (let i = 0; i < count; i++)
    network.bridge(
      { priority: random(16) * 4096, forceVersion: stp && random(3) === 0 ? 0 : 2 },
      delays ? random(1000) : 0,
    );
  const at = (i: number): SimBridge => network.bridges[i]!;
  const cost = (): { pathCost: number } => ({ pathCost: 2000 * (1 + random(3)) });
  for (let i = 1; i < count; i++)
    network.join(
      [
        [at(i), cost()],
        [at(random(i)), cost()],
      ],
      delay(),
    );
  for (let i = 0; i < extra; i++)
    network.join(
      [
        [at(random(count)), cost()],
        [at(random(count)), cost()],
      ],
      delay(),
    );
  for (let i = 0; i < hubs; i++)
    network.join(
      [0, 1, 2].map(() => [at(random(count)), { ...cost(), pointToPoint: false }] as [SimBridge, object]),
      delay(),
    );
  return network;
}

const shapes = (stp: boolean): fc.Arbitrary<Shape> =>
  fc.record(
    {
      seed: fc.nat({ max: 1_000_000 }),
      count: fc.integer({ min: 2, max: 9 }),
      extra: fc.nat({ max: 8 }),
      hubs: fc.nat({ max: 2 }),
      stp: fc.constant(stp),
    },
    { noNullPrototype: true },
  );

for (const stp of [false, true])
  await t.test(`random networks${stp ? ' with STP bridges' : ''}, delays and failures`, async t => {
    fc.assert(
      fc.property(shapes(stp), fc.array(fc.nat({ max: 99 }), { maxLength: 4 }), (shape, cuts) => {
        const network = randomNetwork(shape, true);
        network.run(LONG_MS);
        assert.equal(settled(network), null, 'at first');
        for (const cut of cuts) {
          const lan = network.lans[cut % network.lans.length]!;
          network.setUp(lan, !lan.isUp);
          network.run(cut % 2 === 0 ? LONG_MS : 700);
          if (cut % 2 === 0) assert.equal(settled(network), null, `after lan ${cut % network.lans.length}`);
        }
        network.run(LONG_MS);
        assert.equal(settled(network), null, 'at last');
        for (const bridge of network.bridges) assert.equal(bridge.tree.bridge.unrest, 0);
      }),
      { numRuns: RUNS },
    );
    t.pass('they all come to a tree');
  });

await t.test(
  'in synchrony there is no loop at any moment, from power-up and over a cut and its repair',
  async t => {
    fc.assert(
      fc.property(shapes(false), fc.nat({ max: 99 }), (shape, cut) => {
        const network = randomNetwork(shape, false);
        network.onEvent = () => assert.equal(network.loop(), null, `at ${network.now_ms} ms`);
        network.run(LONG_MS);
        const lan = network.lans[cut % network.lans.length]!;
        network.setUp(lan, false);
        network.run(LONG_MS);
        assert.equal(settled(network), null);
        network.setUp(lan, true);
        network.run(LONG_MS);
        assert.equal(settled(network), null);
      }),
      { numRuns: RUNS },
    );
    t.pass('none seen');
  },
);

await t.test('without hubs and old bridges, a network of RSTP bridges is a tree within seconds', async t => {
  let worst_ms = 0;
  fc.assert(
    fc.property(shapes(false), shape => {
      const network = randomNetwork({ ...shape, hubs: 0 }, true);
      let waited_ms = 0;
      // Cables to oneself and to a silent end wait for their edge delay; all others are done before.
      while (settled(network) !== null && waited_ms < 10_000) {
        network.run(100);
        waited_ms += 100;
      }
      worst_ms = Math.max(worst_ms, waited_ms);
      assert.equal(settled(network), null);
    }),
    { numRuns: RUNS },
  );
  t.comment(`the slowest took ${worst_ms} ms of simulated time`);
  t.ok(worst_ms < 10_000);
});
