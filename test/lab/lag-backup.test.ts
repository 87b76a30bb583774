/**
 * Active-backup into the kernel's bridge; and two switches of weft, with LACP and a member that stands by, and static.
 *
 *                        +-- m0 ==== k0 --+                                 +-- s0 ==== r0 --+
 *   hostA [hosta]-- lan -+                +-- br0 --[hostb] hostB    far ---+                +--- near
 *                        +-- m1 ==== k1 --+ (kernel)                        +-- s1 ==== r1 --+
 *
 * Each ==== is a veth pair; taking down its far end is pulling the cable. With active-backup the bridge knows hostA
 * behind k0, and would go on sending there: what it learns at the change it learns from our announcements.
 *
 * lab: alone (it counts lost frames).
 */
import t from 'tap';
import { LagSettings } from '../../dataplane/contract.js';
import type { LagView, PortConfig, SwitchConfig } from '../../dataplane/contract.js';
import { Beats } from './harness/beats.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'bridge', 'nsenter', 'iperf3'],
  paths: ['/dev/net/tun'],
});
const [ADDRESS_A, ADDRESS_B] = ['10.96.0.1', '10.96.0.2'];

const access = (name: string, device: PortConfig['device']): PortConfig => ({
  name,
  vlan: { mode: 'access', vlan: 1 },
  device,
});

const aggregate = (settings: object, ...members: string[]): PortConfig =>
  access('up', {
    kind: 'lag',
    settings: LagSettings.parse(settings),
    members: members.map(ifname => ({ name: ifname, device: { kind: 'packet', ifname }, priority: 32_768 })),
  });

const tap = (ifname: string): PortConfig => access(ifname, { kind: 'tap', ifname });

async function shown(plane: Dataplane, name: string): Promise<LagView['aggregates'][number]> {
  return (await plane.get<LagView>(`/switches/${name}/show/lag`)).aggregates[0]!;
}

const roles = async (plane: Dataplane, name: string): Promise<string[]> =>
  (await shown(plane, name)).members.map(({ role }) => role);

t.setTimeout(280_000);

await t.test('active-backup into a bridge of the kernel', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const [mid, far] = [await lab.namespace('lag-ab'), await lab.namespace('lag-br')];
  const [hostA, hostB] = [await lab.namespace('lag-a'), await lab.namespace('lag-b')];
  await far.ip('link', 'add', 'name', 'br0', 'type', 'bridge');
  await far.ip('link', 'set', 'br0', 'up');
  for (const n of [0, 1]) {
    await lab.veth(mid, `m${n}`, far, `k${n}`);
    await far.ip('link', 'set', `k${n}`, 'master', 'br0', 'up');
    await mid.up(`m${n}`);
  }
  await lab.veth(far, 'toB', hostB, 'hostb');
  await far.ip('link', 'set', 'toB', 'master', 'br0', 'up');
  await hostB.up('hostb', `${ADDRESS_B}/24`);
  const plane = await Dataplane.start(lab, { netns: mid.path });
  const lan = (settings: object): SwitchConfig =>
    switchOf('lan', [tap('hosta'), aggregate({ mode: 'activeBackup', ...settings }, 'm0', 'm1')]);
  await plane.configure([lan({ primary: 'm0', revertDelay_ms: 1000 })]);
  await mid.moveLink('hosta', hostA);
  await hostA.up('hosta', `${ADDRESS_A}/24`);
  const mac = await hostA.macOf('hosta');

  const behind = async (): Promise<string> => {
    const { stdout } = await far.run(['bridge', '-j', 'fdb', 'show', 'br', 'br0']);
    const entries = JSON.parse(stdout) as { mac: string; ifname: string }[];
    return entries.find(entry => entry.mac === mac)?.ifname ?? 'nobody';
  };
  // Both directions: the bridge must send its answers to where hostA is.
  const beats = await Beats.start(hostB, hostA, ADDRESS_A, 5);
  t.same(await roles(plane, 'lan'), ['distributing', 'standby']);
  t.equal(await behind(), 'k0');
  await far.ip('link', 'set', 'k0', 'down');
  await beats.arrive();
  t.same(await roles(plane, 'lan'), ['down', 'distributing']);
  t.equal(await behind(), 'k1', 'the bridge knows where hostA is now');
  const { members } = await shown(plane, 'lan');
  t.ok(members[1]!.counters['announcementsOut']! >= 1, 'since it was announced');
  await far.ip('link', 'set', 'k0', 'up');
  await eventually('the primary to carry again', async () =>
    (await roles(plane, 'lan'))[0] === 'distributing' ? true : null,
  );
  await beats.arrive();
  t.equal(await behind(), 'k0');
  t.pass(
    `the longest time without a datagram in two changes: ${(await beats.stop()).toFixed(0)} ms (5 ms between two)`,
  );

  await plane.configure([lan({ primary: 'm0', revertDelay_ms: null })]);
  await far.ip('link', 'set', 'k0', 'down');
  await eventually('the backup to carry', async () =>
    (await roles(plane, 'lan'))[1] === 'distributing' ? true : null,
  );
  await far.ip('link', 'set', 'k0', 'up');
  await eventually('the primary to be back', async () =>
    (await roles(plane, 'lan'))[0] === 'standby' ? true : null,
  );
  t.same(await roles(plane, 'lan'), ['standby', 'distributing'], 'and it stays so: revertDelay never');
});

interface Pair {
  readonly near: Dataplane;
  readonly other: Dataplane;
  readonly far: Namespace;
  readonly hostA: Namespace;
  readonly hostB: Namespace;
}

/** Two switches of weft, each with a host, and two cables between them. */
async function pairOf(lab: Lab, nearSettings: object, farSettings: object): Promise<Pair> {
  const [mid, far] = [await lab.namespace('lag-near'), await lab.namespace('lag-far')];
  const [hostA, hostB] = [await lab.namespace('lag-a'), await lab.namespace('lag-b')];
  for (const n of [0, 1]) {
    await lab.veth(mid, `s${n}`, far, `r${n}`);
    await mid.up(`s${n}`);
    await far.up(`r${n}`);
  }
  const near = await Dataplane.start(lab, { netns: mid.path, socket: lab.path('near.sock') });
  const other = await Dataplane.start(lab, { netns: far.path, socket: lab.path('far.sock') });
  await near.configure([switchOf('near', [tap('hosta'), aggregate(nearSettings, 's0', 's1')])]);
  await other.configure([switchOf('far', [tap('hostb'), aggregate(farSettings, 'r0', 'r1')])]);
  await mid.moveLink('hosta', hostA);
  await far.moveLink('hostb', hostB);
  await hostA.up('hosta', `${ADDRESS_A}/24`);
  await hostB.up('hostb', `${ADDRESS_B}/24`);
  return { near, other, far, hostA, hostB };
}

await t.test('LACP between two switches: one carries, the other stands by', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const lacp = { timeout: 'fast' };
  const { near, other, far, hostA, hostB } = await pairOf(
    lab,
    { mode: 'lacp', maxLinks: 1, lacp },
    { mode: 'lacp', lacp },
  );
  const until = async (plane: Dataplane, name: string, wanted: string): Promise<unknown> =>
    eventually(`${name} to be ${wanted}`, async () =>
      (await roles(plane, name)).join() === wanted ? true : null,
    );
  await until(near, 'near', 'distributing,standby');
  await until(other, 'far', 'distributing,waiting');
  const beats = await Beats.start(hostA, hostB, ADDRESS_B, 5);
  await far.ip('link', 'set', 'r0', 'down');
  await until(near, 'near', 'down,distributing');
  await beats.arrive();
  await far.ip('link', 'set', 'r0', 'up');
  await until(near, 'near', 'distributing,standby');
  await beats.arrive();
  t.pass(`a lost link and a swap back: ${(await beats.stop()).toFixed(0)} ms at most without a datagram`);
});

await t.test('static between two switches', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const { near, far, hostA, hostB } = await pairOf(lab, { mode: 'static' }, { mode: 'static' });
  hostB.start(['iperf3', '--server']);
  const tcp = async (streams: number): Promise<number> => {
    const words = ['--client', ADDRESS_B, '--parallel', String(streams), '--time', '2', '--json'];
    const { stdout } = await hostA.run(['iperf3', ...words, '--connect-timeout', '2000'], {
      timeout_ms: 30_000,
    });
    return (JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received
      .bits_per_second;
  };
  await eventually('TCP to pass', async () => tcp(1).catch(() => null), { timeout_ms: 40_000 });
  const rate = await tcp(16);
  t.pass(`16 flows of TCP over two members: ${(rate / 1e9).toFixed(1)} Gbit/s`);
  for (const { name, counters, buckets } of (await shown(near, 'near')).members) {
    t.equal(buckets, 512);
    t.ok(counters['ifHCOutUcastPkts']! > 100, `${name} carried ${counters['ifHCOutUcastPkts']} frames`);
  }
  await far.ip('link', 'set', 'r0', 'down');
  await eventually('the cut to be seen', async () =>
    (await roles(near, 'near'))[0] === 'down' ? true : null,
  );
  t.same(await roles(near, 'near'), ['down', 'distributing']);
  await tcp(4);
  t.match((await shown(near, 'near')).reason, /1 of 2 members carry; s0: its link is down/);
});
