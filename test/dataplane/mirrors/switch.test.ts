/** Mirror sessions and spanning tree on a whole switch: what the pipeline makes of them together. */
import t from 'tap';
import type { SwitchConfig } from '../../../dataplane/contract.js';
import { SINK_COUNTERS_AT } from '../../../dataplane/engine/counters.js';
import { MemoryPort } from '../../../dataplane/ports/memory.js';
import { SwitchApp } from '../../../dataplane/switch/app.js';
import { PORT_COUNTERS } from '../../../dataplane/switch/counters.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import { makeRig } from '../engine/rig.js';

function frame(to: string, from: string): Uint8Array {
  const bytes = new Uint8Array(60);
  ethernet.emit(new DataView(bytes.buffer), 0, { destination: to, source: from, type: 0x0800 });
  return bytes;
}
const ALL = 'ff:ff:ff:ff:ff:ff';
const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';

function make(more: Partial<SwitchConfig>) {
  const rig = makeRig(1024);
  const ports = ['a', 'b', 'probe'].map(name => ({
    name,
    vlan: { mode: 'access', vlan: 1 } as const,
    device: { kind: 'loopback' } as const,
  }));
  const config: SwitchConfig = { name: 's', macLimit: 100, ageingTime_s: 300, ports, ...more };
  const app = new SwitchApp(
    rig.loop,
    config,
    { addressOf: () => Uint8Array.of(2, 0, 0, 0, 0, 0x99), tell: () => {}, export: () => {} },
    () => {},
  );
  rig.loop.onState = link => app.linkChanged(link);
  const links = ports.map(port => app.addLink(port));
  const memory = links.map(link => {
    const port = new MemoryPort(link);
    link.port = port;
    return port;
  });
  app.configure(config);
  for (const port of memory) port.open();
  const [a, b, probe] = memory as [MemoryPort, MemoryPort, MemoryPort];
  const turn = (): void => rig.loop.turn(0);
  return { rig, app, config, a, b, probe, links, turn };
}

const mirror = (over: object): SwitchConfig['mirrors'] => [
  { name: 'm', in: [], out: [], vlans: [], destination: { port: 'probe' }, ...over },
];

await t.test(
  'a port watched on the way out: whoever sends there, and what the switch sends itself',
  async t => {
    const { app, a, b, probe, turn, rig } = make({ mirrors: mirror({ out: ['b'] }) });
    a.arrive(frame(ALL, A));
    turn();
    t.same([b.sent.length, probe.sent.length], [1, 1]);
    b.arrive(frame(A, B));
    turn();
    t.same([a.sent.length, probe.sent.length], [1, 1], 'what b sends is not watched');
    a.arrive(frame(B, A));
    turn();
    t.same([b.sent.length, probe.sent.length], [2, 2], 'unicast');
    t.equal(app.sendInto(1, frame(ALL, '02:00:00:00:00:99')), true);
    rig.loop.flush();
    t.same([b.sent.length, probe.sent.length], [3, 3]);
    t.same(probe.sent.at(-1)!.bytes, frame(ALL, '02:00:00:00:00:99'), 'that frame, not the one before');
    t.equal(rig.pool.usedCount, 0, 'all slots were let go');
  },
);

await t.test('the probe: nothing floods to it, and what it says is dropped', async t => {
  const { a, b, probe, links, turn } = make({ mirrors: mirror({ in: ['b'] }) });
  a.arrive(frame(ALL, A));
  probe.arrive(frame(ALL, B));
  turn();
  t.same([a.sent.length, b.sent.length, probe.sent.length], [0, 1, 0]);
  const row = links[2]!.counters;
  t.equal(row[SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('dropPortDiscarding')], 1);
});

await t.test('with spanning tree: ports open after three seconds of silence, the probe never', async t => {
  const spanningTree = {
    mode: 'rstp',
    priority: 0,
    maxAge_s: 20,
    helloTime_s: 2,
    forwardDelay_s: 15,
    transmitHoldCount: 6,
  } as const;
  const { rig, app, config, a, b, probe, turn } = make({ spanningTree, mirrors: mirror({ in: ['a'] }) });
  const isBpdu = ({ bytes }: { bytes: Uint8Array }): boolean => bytes[0] === 1;
  turn();
  t.ok(a.sent.some(isBpdu), 'proposes at once');
  a.arrive(frame(ALL, A));
  turn();
  t.notOk(
    b.sent.some(each => !isBpdu(each)),
    'nothing passes yet',
  );
  t.equal(probe.sent.length, 1, 'the mirror shows it all the same');
  for (let i = 0; i < 8; i++) {
    rig.clock.now_ms += 1000;
    turn();
  }
  a.arrive(frame(ALL, A));
  turn();
  t.equal(b.sent.filter(each => !isBpdu(each)).length, 1);
  t.equal(probe.sent.length, 2);
  t.notOk(probe.sent.some(isBpdu), 'no BPDU goes there');
  app.configure({ ...config, mirrors: [] });
  for (let i = 0; i < 8; i++) {
    rig.clock.now_ms += 1000;
    turn();
  }
  t.ok(probe.sent.some(isBpdu), 'given back: a port of the tree');
  b.arrive(frame(ALL, B));
  turn();
  t.ok(probe.sent.some(each => each.bytes[11] === 0x0b));
});
