/** The protocol entity on a switch: who is told what, and when; two switches by the frames they send each other. */
import t from 'tap';
import type { PortConfig, SwitchConfig } from '../../../dataplane/contract.js';
import { SpanningTreeApp } from '../../../dataplane/spanningTree/app.js';
import { pathCost, portSettings } from '../../../dataplane/spanningTree/defaults.js';
import { SINK_COUNTERS_AT } from '../../../dataplane/engine/counters.js';
import { PORT_COUNTERS } from '../../../dataplane/switch/counters.js';
import { DISCARDING, FORWARDING } from '../../../dataplane/switch/feature.js';
import { Packet } from '../../../dataplane/switch/packet.js';
import * as wire from '../../../dataplane/wire/bpdu.js';
import { FakeHost } from '../switch/fakeHost.js';

const TREE = {
  mode: 'rstp',
  priority: 32_768,
  maxAge_s: 20,
  helloTime_s: 2,
  forwardDelay_s: 15,
  transmitHoldCount: 6,
} as const;

class Switch {
  readonly host = new FakeHost();
  readonly app: SpanningTreeApp;
  readonly #packet = new Packet(new DataView(new ArrayBuffer(2048)));

  constructor(last: number, names: Record<string, Partial<PortConfig>>) {
    this.host.address[5] = last;
    for (const [name, config] of Object.entries(names)) this.host.addPort({ name, ...config });
    this.app = new SpanningTreeApp(this.host, this.host.stages);
  }

  configure(more: Partial<SwitchConfig> = {}): void {
    const ports = this.host.ports.map(each => each.config);
    this.app.configure(
      { name: 'sw', ageingTime_s: 300, macLimit: 100, ports, spanningTree: TREE, ...more },
      this.host.ports,
    );
  }

  hear(port: number, frame: Uint8Array): boolean {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    Object.assign(this.#packet, { view, at: 0, length_bytes: frame.length, port });
    return this.app.control(this.#packet, this.host.ports[port]!.link);
  }

  second(): void {
    this.host.rig.clock.now_ms += 1000;
    this.host.loop.turn(0);
  }
}

/** Frames between port 0 of the one and of the other, until neither has anything to say. */
function talk(a: Switch, b: Switch): void {
  for (let i = 0; i < 100 && a.host.sent.length + b.host.sent.length > 0; i++) {
    for (const { port, frame } of a.host.sent.splice(0)) if (port === 0) b.hear(0, frame);
    for (const { port, frame } of b.host.sent.splice(0)) if (port === 0) a.hear(0, frame);
  }
}

await t.test('two switches agree within a moment; addresses are flushed', async t => {
  const [a, b] = [new Switch(1, { up: {}, host: {} }), new Switch(2, { up: {} })];
  a.configure();
  b.configure();
  t.equal(a.host.states.get(0), DISCARDING, 'from the beginning');
  talk(a, b);
  t.equal(a.host.states.get(0), FORWARDING);
  t.equal(b.host.states.get(0), FORWARDING);
  const [seenA, seenB] = [a.app.show('stp')!, b.app.show('stp')!];
  t.equal(seenA.isRoot, true);
  t.match(seenB, { isRoot: false, rootId: seenA.bridgeId, rootPort: 'up', rootPathCost: 2000 });
  t.match(seenB.ports[0], { role: 'root', state: 'forwarding', speaks: 'rstp', designatedPort: '128.1' });
  t.ok(b.host.told.includes('spanningTree.rootChanged up'));
  t.equal(a.app.show('something else'), undefined);

  for (let i = 0; i < 5; i++) {
    a.second();
    b.second();
    talk(a, b);
  }
  t.equal(a.host.states.get(1), FORWARDING, 'the host is found to be no switch');
  t.ok(a.app.show('stp')!.ports[0]!.counters['rstBpdusOut']! >= 3, 'a hello every two seconds');
  const row = a.host.ports[0]!.link.counters;
  t.ok(row[SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('bpdusOut')]! >= 3, 'counted for everybody to see');
  const flushed = a.host.flushed.length;
  b.host.ports[0]!.link.setState('error', 'unplugged');
  b.app.portChanged(b.host.ports[0]!);
  t.equal(b.app.show('stp')!.isRoot, true);
  t.equal(b.host.states.get(0), DISCARDING);
  t.equal(a.host.flushed.length, flushed, 'the other does not know yet');
});

await t.test('off: every port forwards, BPDUs are left to be dropped; on again', async t => {
  const a = new Switch(1, { up: {} });
  a.configure({ spanningTree: { ...TREE, mode: 'off' } });
  t.equal(a.hear(0, new Uint8Array(60)), false);
  t.same(a.app.show('stp'), { ...a.app.show('stp'), mode: 'off', bridgeId: null, ports: [] });
  a.configure();
  t.equal(a.host.states.get(0), DISCARDING);
  t.ok(a.host.loop.timers.next_ms < Infinity);
  a.configure({ spanningTree: { ...TREE, mode: 'off' } });
  t.equal(a.host.states.get(0), FORWARDING);
  t.equal(a.host.loop.timers.next_ms, Infinity, 'no timer is left');
  a.configure();
  a.app.close();
  t.equal(a.host.loop.timers.next_ms, Infinity);
});

await t.test("a guest's port: edge, and the guard; the fault goes with the port", async t => {
  const guest = { device: { kind: 'stream', path: '/x', role: 'listen' } } as const;
  const [a, b] = [new Switch(1, { guest }), new Switch(2, { up: {} })];
  a.configure();
  b.configure();
  t.equal(a.host.states.get(0), FORWARDING, 'at once');
  talk(a, b);
  t.match(a.host.faults.get(0), /BPDU guard/);
  t.match(a.app.show('stp')!.ports[0], { role: 'disabled', heldBackBy: /BPDU guard/ });
  t.ok(a.host.told.includes('spanningTree.bpduGuard guest'));
  for (let i = 0; i < 301; i++) a.second();
  t.equal(a.host.faults.size, 0, 'tried again');
  t.equal(a.host.states.get(0), FORWARDING);
  for (let i = 0; i < 3; i++) b.second();
  talk(a, b);
  t.equal(a.host.faults.size, 1);
  a.app.portRemoved(a.host.ports[0]!);
  t.equal(a.host.faults.size, 0);
  t.equal(a.app.show('stp')!.ports.length, 0);
});

await t.test('the same configuration again disturbs nothing; another touches what differs', async t => {
  const a = new Switch(1, { up: {}, other: {} });
  a.configure();
  for (let i = 0; i < 5; i++) a.second();
  t.equal(a.host.states.get(0), FORWARDING);
  a.host.states.clear();
  a.host.sent.length = 0;
  a.host.flushed.length = 0;
  a.configure();
  t.equal(a.host.states.size + a.host.sent.length + a.host.flushed.length, 0);
  a.host.ports[1]!.config = { ...a.host.ports[1]!.config, spanningTree: { pathCost: 5 } };
  a.configure();
  t.equal(a.app.show('stp')!.ports[1]!.pathCost, 5);
  a.configure({ spanningTree: { ...TREE, priority: 0, helloTime_s: 1 } });
  t.equal(a.host.states.size, 0, 'nothing stopped forwarding for it');
  t.match(a.app.show('stp'), { bridgeId: /^0\./, helloTime_s: 1 });
});

await t.test('a port without a number is kept out, and says why', async t => {
  const a = new Switch(1, { up: {} });
  const far = { ...a.host.ports[0]!, port: 4095 };
  a.configure();
  a.app.portAdded(far);
  t.match(a.host.faults.get(4095), /4095 ports/);
  a.configure({ spanningTree: { ...TREE, mode: 'off' } });
});

await t.test('a port that mirrored frames go to takes no part', async t => {
  const a = new Switch(1, { up: {}, probe: {} });
  const mirrors = [{ name: 'm', in: ['up'], out: [], vlans: [], destination: { port: 'probe' } }];
  a.configure();
  a.host.states.clear();
  a.configure({ mirrors });
  t.same(
    a.app.show('stp')!.ports.map(each => each.port),
    ['up'],
  );
  t.equal(a.host.states.get(1), undefined, 'its state is the business of the mirror');
  a.configure();
  t.equal(a.app.show('stp')!.ports.length, 2);
});

await t.test('noise to the group address is counted, and left to be dropped', async t => {
  const a = new Switch(1, { up: {} });
  a.configure();
  t.equal(a.hear(0, new Uint8Array(60)), false);
  t.equal(a.app.show('stp')!.ports[0]!.counters['invalidBpdusIn'], 1);
  const frame = a.host.sent[0]!.frame;
  t.equal(frame.length, wire.FRAME_LENGTH);
  t.same([...frame.subarray(6, 12)], [2, 0, 0, 0, 0, 1], 'sent from the address of the switch');
});

await t.test('what settings follow from what a port is', async t => {
  const tap = { kind: 'tap', ifname: 'x' } as const;
  const member = { name: 'm', device: tap };
  t.match(portSettings(tap), { adminEdge: false, autoEdge: true, bpduGuard: false, pathCost: 2000 });
  t.match(portSettings({ kind: 'vhost', path: '/x', role: 'client' }), {
    adminEdge: true,
    bpduGuard: true,
    guardRecovery_s: 300,
  });
  t.match(portSettings({ kind: 'stream', path: '/x', role: 'listen' }, { rootGuard: true }), {
    bpduGuard: false,
    restrictedRole: true,
  });
  t.match(portSettings({ kind: 'stream', path: '/x', role: 'listen' }, { edge: 'auto' }), {
    adminEdge: false,
    bpduGuard: false,
  });
  t.match(portSettings(tap, { speed_bps: 1e9, edge: false, pointToPoint: false }), {
    pathCost: 20_000,
    autoEdge: false,
    pointToPoint: false,
  });
  const lag = { kind: 'lag', members: [member, member], settings: {} } as unknown as PortConfig['device'];
  t.equal(portSettings(lag).pathCost, 1000);
  const vxlan = { kind: 'vxlan', vni: 1, port: 4789 } as const;
  const remote = { address: '192.0.2.1', port: 4789 };
  t.equal(portSettings({ ...vxlan, remotes: [remote] }).pointToPoint, true);
  t.equal(portSettings({ ...vxlan, remotes: [remote, remote] }).pointToPoint, false);
  // 802.1D-2004 table 17-3.
  t.same(
    [1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13].map(pathCost),
    [2e8, 2e7, 2e6, 2e5, 2e4, 2e3, 200, 20, 2],
  );
  t.equal(pathCost(1), 200_000_000);
  t.equal(pathCost(1e15), 1);
});
