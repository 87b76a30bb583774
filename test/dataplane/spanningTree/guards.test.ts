/** What goes beyond the standard: guards, filters, edges, bounds; each by what it keeps from happening. */
import t from 'tap';
import * as wire from '../../../dataplane/wire/bpdu.js';
import { RECEIVED_PER_SECOND_MAX } from '../../../dataplane/spanningTree/variables.js';
import type { PortSettings } from '../../../dataplane/spanningTree/variables.js';
import {
  formatBridgeId,
  formatPortId,
  isSuperior,
  makeVector,
} from '../../../dataplane/spanningTree/vector.js';
import { Network } from './network.js';
import type { Lan, SimBridge } from './network.js';

/** A bridge, and one that hangs on its port with the settings; the second is the better root. */
function pair(settings: Partial<PortSettings>): [Network, SimBridge, SimBridge, Lan] {
  const network = new Network();
  const [a, b] = [network.bridge(), network.bridge({ priority: 4096 })];
  const lan = network.join([[a, settings], [b]]);
  return [network, a, b, lan];
}

const rst = (over: Partial<wire.Bpdu> = {}): wire.Bpdu => ({
  ...wire.blank(),
  version: 2,
  type: wire.TYPE_RST,
  flags: wire.ROLE_DESIGNATED << wire.ROLE_SHIFT,
  rootHigh: 0x1000_0200,
  rootLow: 7,
  bridgeHigh: 0x1000_0200,
  bridgeLow: 7,
  portId: 0x8001,
  maxAge_256: 20 * 256,
  helloTime_256: 2 * 256,
  forwardDelay_256: 15 * 256,
  ...over,
});

await t.test('an edge port forwards at once; a BPDU ends that', async t => {
  const network = new Network();
  const a = network.bridge();
  network.join([[a, { adminEdge: true }]]);
  t.equal(a.isForwarding(1), true);
  t.equal(
    a.told.filter(what => what.startsWith('topologyChange')).length,
    0,
    'an edge is no topology change',
  );
  a.tree.receive(1, rst());
  t.equal(a.tree.port(1)!.operEdge, false);
  network.run(10_000);
  t.equal(a.tree.port(1)!.role, 'designated', 'aged out');
});

await t.test('AutoEdge: a silent port is an edge after three seconds', async t => {
  const network = new Network();
  const a = network.bridge();
  network.join([[a]]);
  network.run(2500);
  t.equal(a.isForwarding(1), false);
  network.run(2000);
  t.equal(a.isForwarding(1), true);
  t.equal(a.tree.port(1)!.operEdge, true);
  const b = network.bridge();
  network.join([[b, { autoEdge: false }]]);
  network.run(5000);
  t.equal(b.isForwarding(1), false, 'without it, twice the hello time and more');
});

await t.test('BPDU guard puts the port down, and tries it again', async t => {
  const [network, a, b, lan] = pair({ adminEdge: true, bpduGuard: true, guardRecovery_s: 30 });
  network.run(1000);
  t.match(a.faults.get(1), /BPDU guard/);
  t.equal(a.isForwarding(1), false);
  t.equal(a.tree.bridge.rootPortId, 0, 'what it said was not believed');
  network.run(40_000);
  t.ok(a.told.includes('bpduGuardRecovered 1'));
  t.match(a.faults.get(1), /BPDU guard/, 'it spoke again');
  network.setUp(lan, false);
  network.setUp(lan, true);
  t.match(a.faults.get(1), /BPDU guard/, 'unplugging does not help');
  b.tree.removePort(1);
  network.run(40_000);
  t.equal(a.faults.get(1), undefined);
  t.equal(a.isForwarding(1), true);
});

await t.test('BPDU guard without recovery stays until the configuration changes', async t => {
  const [network, a, b] = pair({ bpduGuard: true, guardRecovery_s: 0 });
  network.run(100_000);
  t.equal(a.told.filter(what => what === 'bpduGuard 1').length, 1);
  a.tree.configurePort(1, { ...a.tree.port(1)!.settings, bpduGuard: false });
  network.run(5000);
  t.equal(a.faults.size, 0);
  t.equal(a.tree.bridge.rootPriority.rootHigh, b.tree.bridge.identifierHigh);
});

await t.test('a guest that bridges two cards: the guard cuts the loop', async t => {
  const network = new Network();
  const a = network.bridge();
  // One LAN with both ports is what a bridge without spanning tree makes of two cables.
  const edge = { adminEdge: true, bpduGuard: true, guardRecovery_s: 300 };
  network.join([
    [a, edge],
    [a, edge],
  ]);
  network.run(100);
  t.equal(network.loop(), null);
  t.ok(a.faults.size >= 1);
});

await t.test('BPDU filter: nothing sent, nothing minded', async t => {
  const [network, a] = pair({ bpduFilter: true });
  network.run(5000);
  t.equal(a.sent.length, 0);
  t.equal(a.tree.bridge.rootPortId, 0);
  t.ok(a.tree.port(1)!.counters.filteredBpdusIn > 0);
});

await t.test('root guard: blocks while a better root is told, and only so long', async t => {
  const [network, a, b] = pair({ restrictedRole: true });
  network.run(3000);
  t.equal(a.tree.bridge.rootPortId, 0, 'still the root itself');
  t.equal(a.isForwarding(1), false);
  t.ok(a.told.includes('rootInconsistent 1'));
  b.tree.configure({ ...b.tree.bridge.settings, priority: 61_440 });
  network.run(60_000);
  t.equal(a.isForwarding(1), true);
  t.ok(a.told.includes('rootConsistent 1'));
  t.equal(b.tree.bridge.rootPriority.rootHigh, a.tree.bridge.identifierHigh);
});

await t.test('loop guard: a way that falls silent in one direction is blocked, not opened', async t => {
  for (const loopGuard of [false, true]) {
    const network = new Network();
    const [root, a, b] = [network.bridge({ priority: 0 }), network.bridge(), network.bridge()] as const;
    network.join([[root], [a]]);
    network.join([[root], [b]]);
    // The lower address wins: a is designated toward b, b's port is the alternate one.
    const ab = network.join([[a], [b, { loopGuard }]]);
    network.run(10_000);
    t.equal(b.tree.port(2)!.role, 'alternate');
    // b hears nothing any more; and says nothing either, as old STP equipment would (no dispute to help).
    for (const end of ab.ends) ab.mute.add(end);
    network.run(60_000);
    t.equal(network.loop() === null, loopGuard, loopGuard ? 'kept from a loop' : 'without it there is one');
    if (!loopGuard) continue;
    t.ok(b.told.includes('loopInconsistent 2'));
    ab.mute.clear();
    network.run(10_000);
    t.ok(b.told.includes('loopConsistent 2'));
    t.equal(network.loop() ?? network.disconnected(), null);
  }
});

await t.test(
  'dispute: who is heard to learn beyond us, with worse news, keeps us from forwarding',
  async t => {
    const network = new Network();
    const [a, b] = [network.bridge({ priority: 0 }), network.bridge()];
    const lan = network.join([[a], [b]]);
    network.run(5000);
    // b does not hear a any more, thinks itself the root, and says so; a hears that.
    lan.mute.add(lan.ends[0]!);
    network.run(30_000);
    t.equal(a.isForwarding(1), false, 'one direction is not enough to forward');
    t.ok(a.tree.port(1)!.counters.disputes > 0);
  },
);

await t.test('a far end that gives back what it is sent is blocked, until it stops', async t => {
  const network = new Network();
  const a = network.bridge();
  network.join([[a, { adminEdge: true }]]);
  network.run(3000);
  a.tree.receive(1, a.sent.at(-1)!.bpdu);
  t.equal(a.isForwarding(1), false);
  t.ok(a.told.includes('ownBpdus 1'));
  network.run(10_000);
  t.equal(a.isForwarding(1), true);
});

await t.test('restricted TCN: changes noticed here go no further', async t => {
  for (const restrictedTcn of [false, true]) {
    const network = new Network();
    const [a, b, c] = [network.bridge({ priority: 0 }), network.bridge(), network.bridge()] as const;
    network.join([[a, { restrictedTcn }], [b]]);
    network.join([[a], [c]]);
    network.run(10_000);
    const before = a.flushes.get(2) ?? 0;
    network.join([[b], [network.bridge()]]);
    network.run(5000);
    t.equal((a.flushes.get(2) ?? 0) > before, !restrictedTcn);
  }
});

await t.test('a flood of BPDUs is bounded, and counted', async t => {
  const network = new Network();
  const a = network.bridge();
  network.join([[a]]);
  for (let i = 0; i < 1000; i++) a.tree.receive(1, rst({ rootPathCost: i }));
  t.equal(a.tree.port(1)!.counters.rstBpdusIn, RECEIVED_PER_SECOND_MAX);
  t.equal(a.tree.port(1)!.counters.excessBpdusIn, 1000 - RECEIVED_PER_SECOND_MAX);
  t.ok(a.sent.length <= 6, 'and we answer at most txHoldCount times');
});

await t.test('times out of the ranges of the standard are not believed', async t => {
  const network = new Network();
  const a = network.bridge();
  network.join([[a]]);
  a.tree.receive(1, rst({ helloTime_256: 0xffff, forwardDelay_256: 0xffff, maxAge_256: 0xffff }));
  t.match(a.tree.bridge.rootTimes, { maxAge_s: 40, forwardDelay_s: 30 });
  t.equal(a.tree.port(1)!.rcvdInfoWhile, 30);
});

await t.test('TCN from an STP bridge: acknowledged, and passed on', async t => {
  const network = new Network();
  const [a, b, old] = [
    network.bridge({ priority: 0 }),
    network.bridge(),
    network.bridge({ forceVersion: 0 }),
  ] as const;
  network.join([[a], [b]]);
  network.join([[b], [old]]);
  network.run(45_000);
  const before = a.tree.bridge.topologyChanges;
  network.join([[old], [network.bridge({ forceVersion: 0 })]]);
  network.run(45_000);
  t.ok(b.tree.port(2)!.counters.tcnBpdusIn > 0);
  t.ok(b.sent.length > 0);
  t.ok(a.tree.bridge.topologyChanges > before, 'the root knows');
  t.equal(old.tree.port(1)!.tcWhile, 0, 'acknowledged: it asks no more');
});

await t.test('settings that change while it runs', async t => {
  const network = new Network();
  const [a, b] = [network.bridge(), network.bridge()];
  network.join([[a], [b]]);
  network.join([[a], [b]]);
  network.run(5000);
  t.equal(b.tree.port(1)!.role, 'root');
  b.tree.configurePort(1, { ...b.tree.port(1)!.settings, pathCost: 200_000 });
  network.run(5000);
  t.equal(b.tree.port(2)!.role, 'root', 'the cheaper way');
  b.tree.configure({ ...b.tree.bridge.settings, priority: 0 });
  network.run(5000);
  t.equal(b.tree.bridge.rootPortId, 0);
  t.equal(a.tree.bridge.rootPriority.rootHigh, b.tree.bridge.identifierHigh);
  a.tree.configure({ ...a.tree.bridge.settings, forceVersion: 0 });
  network.run(60_000);
  t.equal(network.loop() ?? network.disconnected(), null);
  t.equal(b.tree.port(1)!.sendRstp, false);
  // The old one is made new: mcheck finds out.
  a.tree.configure({ ...a.tree.bridge.settings, forceVersion: 2 });
  network.run(5000);
  b.tree.setMcheck(1);
  b.tree.setMcheck(2);
  network.run(10_000);
  t.equal(b.tree.port(1)!.sendRstp, true);
});

await t.test('vectors and identifiers', async t => {
  const [a, b] = [makeVector(), makeVector()];
  t.equal(isSuperior(a, b), false, 'the same is not superior');
  b.rootHigh = 1;
  t.equal(isSuperior(a, b), true);
  t.equal(isSuperior(b, a), true, 'worse, but from the same bridge and port: it has changed');
  b.bridgeLow = 9;
  t.equal(isSuperior(b, a), false);
  t.equal(formatBridgeId(0x8000_0200, 0x5e00_0001), '32768.02:00:5e:00:00:01');
  t.equal(formatPortId(0x8007), '128.7');
});
