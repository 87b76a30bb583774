/**
 * LACP with Open vSwitch, whoever is active, fast or slow; and what a cut cable costs.
 *
 *                         +-- m0 ==== o0 --+
 *   hostA [hosta]-- "lan" ----+                +---- br0 --[hostb] hostB
 *               (weft)    +-- m1 ==== o1 --+    (Open vSwitch, userspace)
 *
 * Each ==== is a veth pair. Taking down o0 is pulling the cable: both ends lose their carrier. Stopping the process of
 * Open vSwitch is a peer that falls silent while the carrier stays. How long things take is printed, not judged.
 *
 * lab: alone (it counts lost frames).
 */
import t from 'tap';
import { writeFileSync } from 'node:fs';
import type { LagDevice, LagView, SwitchConfig } from '../../dataplane/contract.js';
import { LagSettings } from '../../dataplane/contract.js';
import { askBytes } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { OVS_PROGRAMS, startOvs } from './harness/ovs.js';
import type { OpenVSwitch } from './harness/ovs.js';
import { eventually, run } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'ethtool', 'iperf3', 'tshark', ...OVS_PROGRAMS],
  paths: ['/dev/net/tun'],
});

const ADDRESS_A = '10.97.0.1';
const ADDRESS_B = '10.97.0.2';
const STREAMS = 8;

type Aggregate = LagView['aggregates'][number];

interface Wiring {
  readonly plane: Dataplane;
  readonly ovs: OpenVSwitch;
  readonly hostA: Namespace;
  readonly peer: Namespace;
}

function lanOf(settings: object): SwitchConfig {
  const device: LagDevice = {
    kind: 'lag',
    settings: LagSettings.parse(settings),
    members: ['m0', 'm1'].map(ifname => ({
      name: ifname,
      device: { kind: 'packet', ifname },
      priority: 32_768,
    })),
  };
  return {
    ...switchOf('lan', [
      { name: 'a', vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname: 'hosta' } },
      { name: 'up', vlan: { mode: 'access', vlan: 1 }, device },
    ]),
    address: '02:00:00:00:aa:01',
  };
}

async function wire(lab: Lab): Promise<Wiring> {
  const [mid, peer] = [await lab.namespace('lag-weft'), await lab.namespace('lag-ovs')];
  const [hostA, hostB] = [await lab.namespace('lag-a'), await lab.namespace('lag-b')];
  for (const n of [0, 1]) {
    await lab.veth(mid, `m${n}`, peer, `o${n}`);
    await mid.up(`m${n}`);
    await peer.up(`o${n}`);
  }
  await lab.veth(peer, 'toB', hostB, 'hostb');
  await peer.up('toB');
  await hostB.up('hostb', `${ADDRESS_B}/24`);
  const ovs = await startOvs(lab, peer);
  await ovs.vsctl('add-port', 'br0', 'toB');
  const plane = await Dataplane.start(lab, { netns: mid.path });
  await plane.configure([lanOf({ mode: 'static' })]);
  await mid.moveLink('hosta', hostA);
  await hostA.up('hosta', `${ADDRESS_A}/24`);
  // Open vSwitch reads from a packet socket without a header that could tell it of unfinished checksums.
  for (const [room, ifname] of [
    [hostA, 'hosta'],
    [hostB, 'hostb'],
  ] as const)
    // prettier-ignore
    await room.run(['ethtool', '-K', ifname, 'tx', 'off', 'tso', 'off', 'gso', 'off']);
  hostB.start(['iperf3', '--server']);
  return { plane, ovs, hostA, peer };
}

const aggregateOf = async ({ plane }: Wiring): Promise<Aggregate> =>
  (await plane.get<LagView>('/switches/lan/show/lag')).aggregates[0]!;

async function bond({ ovs }: Wiring, lacp: 'active' | 'passive', time: 'fast' | 'slow'): Promise<void> {
  await ovs.vsctl('--if-exists', 'del-port', 'br0', 'bond0');
  const words = ['bond_mode=balance-tcp', `lacp=${lacp}`, `other_config:lacp-time=${time}`, 'bond_updelay=0'];
  await ovs.vsctl('add-bond', 'br0', 'bond0', 'o0', 'o1', ...words);
}

/** Milliseconds until so many members carry at our end, and may at theirs. */
async function settled(wiring: Wiring, count: number, timeout_ms = 60_000): Promise<number> {
  const begun = performance.now();
  await eventually(
    `${count} members to carry`,
    async () => {
      const { members } = await aggregateOf(wiring);
      if (members.filter(({ role }) => role === 'distributing').length !== count) return null;
      const shown = await wiring.ovs.appctl('bond/show', 'bond0');
      return shown.split('may_enable: true').length - 1 === count ? true : null;
    },
    { timeout_ms, every_ms: 50 },
  );
  return Math.round(performance.now() - begun);
}

async function reaches({ hostA }: Wiring): Promise<void> {
  const once = ['iperf3', '--client', ADDRESS_B, '--bytes', '64K', '--connect-timeout', '2000'];
  await eventually(
    'TCP to pass',
    async () => ((await hostA.run(once, { mayFail: true, timeout_ms: 10_000 })).status === 0 ? true : null),
    { timeout_ms: 30_000, every_ms: 100 },
  );
}

interface Poured {
  sent: number;
  lost: number;
  /** Datagrams that each stream brought through. */
  streams: number[];
}

/** Eight flows of datagrams from A to B, while something happens. */
async function pour({ hostA }: Wiring, seconds: number, meanwhile: () => Promise<void>): Promise<Poured> {
  const words = ['--udp', '--bitrate', '2M', '--length', '1000', '--parallel', String(STREAMS)];
  const client = hostA.run(['iperf3', '--client', ADDRESS_B, ...words, '--time', String(seconds), '--json'], {
    timeout_ms: 90_000,
  });
  await meanwhile();
  const { stdout } = await client;
  const { end } = JSON.parse(stdout) as {
    end: {
      sum: { packets: number; lost_packets: number };
      streams: { udp: { packets: number; lost_packets: number } }[];
    };
  };
  return {
    sent: end.sum.packets,
    lost: end.sum.lost_packets,
    streams: end.streams.map(({ udp }) => udp.packets - udp.lost_packets),
  };
}

const after = async (ms: number): Promise<void> =>
  new Promise(done => {
    setTimeout(done, ms);
  });

t.setTimeout(280_000);

await t.test('LACP with Open vSwitch', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  const { plane, peer, ovs } = wiring;

  const ways: [ours: object, lacp: 'active' | 'passive', time: 'fast' | 'slow'][] = [
    [{ activity: 'active', timeout: 'slow' }, 'passive', 'fast'],
    [{ activity: 'passive', timeout: 'fast' }, 'active', 'slow'],
    [{ activity: 'active', timeout: 'fast', control: 'coupled' }, 'active', 'slow'],
    [{ activity: 'active', timeout: 'fast' }, 'active', 'fast'],
  ];
  for (const [lacp, theirs, time] of ways) {
    await plane.configure([lanOf({ mode: 'static' })]);
    await plane.configure([lanOf({ mode: 'lacp', lacp: { ...lacp, key: 77 } })]);
    await bond(wiring, theirs, time);
    const took_ms = await settled(wiring, 2);
    const says = `we ${Object.values(lacp).join(' ')}, they ${theirs} ${time}`;
    t.pass(`${says}: settled after ${took_ms} ms`);
    const { members, state } = await aggregateOf(wiring);
    t.equal(state, 'up');
    for (const { lacp: known, buckets } of members) {
      t.equal(known?.partner?.key, members[0]?.lacp?.partner?.key);
      t.match(known?.partner?.state, ['activity'].slice(theirs === 'active' ? 0 : 1), 'the partner is known');
      t.equal(
        known?.periodic,
        time === 'fast' ? 'FAST_PERIODIC' : 'SLOW_PERIODIC',
        'we speak as they want it',
      );
      t.equal(buckets, 512);
    }
    const shown = await ovs.appctl('lacp/show', 'bond0');
    t.match(shown, /partner sys_id: 02:00:00:00:aa:01/, 'they know us');
    t.match(shown, /partner key: 77/);
    await reaches(wiring);
  }

  // What passes a member, and never reaches the switch, as another program reads it.
  const { bytes } = askBytes(plane.socket, '/switches/lan/capture?port=up/m0&count=4');
  const path = lab.path('member.pcapng');
  writeFileSync(path, await bytes);
  const { stdout } = await run(['tshark', '-n', '-r', path, '-V']);
  t.match(stdout, /Actor System ID: 02:00:00:00:aa:01/, 'tshark reads our LACPDUs');
  t.match(stdout, /Partner Key: 77/, 'and theirs');
  t.notMatch(stdout, /Malformed|Expert Info \(Error/);

  const before = await aggregateOf(wiring);
  const cut = await pour(wiring, 7, async () => {
    await after(2000);
    await peer.ip('link', 'set', 'o0', 'down');
    await after(2500);
    await peer.ip('link', 'set', 'o0', 'up');
  });
  t.equal(cut.streams.length, STREAMS);
  for (const through of cut.streams) t.ok(through > 600, `a flow brought ${through} of 1750 through`);
  t.ok(cut.lost < cut.sent / 3, `a cable pulled and put back cost ${cut.lost} of ${cut.sent} datagrams`);
  t.pass(`settled again ${await settled(wiring, 2)} ms after the end`);
  const now = await aggregateOf(wiring);
  for (const [index, { counters, name }] of now.members.entries())
    t.ok(
      counters['ifHCOutUcastPkts']! > before.members[index]!.counters['ifHCOutUcastPkts']! + 500,
      `${name} carried`,
    );

  ovs.program.signal('SIGSTOP');
  const begun = performance.now();
  await eventually(
    'the silent peer to be given up',
    async () => ((await aggregateOf(wiring)).state === 'up' ? null : true),
    {
      every_ms: 50,
    },
  );
  t.pass(`a peer that falls silent was given up after ${Math.round(performance.now() - begun)} ms (fast)`);
  t.match((await aggregateOf(wiring)).reason, /fallen silent|no LACP partner/);
  ovs.program.signal('SIGCONT');
  await settled(wiring, 2);

  await plane.configure([lanOf({ mode: 'lacp', minLinks: 2, lacp: { timeout: 'fast', key: 77 } })]);
  t.same(
    (await aggregateOf(wiring)).members.map(({ role }) => role),
    ['distributing', 'distributing'],
    'a new minimum disturbs nobody',
  );
  await peer.ip('link', 'set', 'o1', 'down');
  await eventually('too few members to be none', async () =>
    (await aggregateOf(wiring)).state === 'up' ? null : true,
  );
  t.match((await aggregateOf(wiring)).reason, /only 1 of 2 members can carry, and minLinks is 2/);
  await settled(wiring, 0);
  await peer.ip('link', 'set', 'o1', 'up');
  await settled(wiring, 2);
  await reaches(wiring);

  // Who is added and removed by a configuration disturbs nobody else.
  const opens = (await plane.status()).switches[0]!.ports.find(({ name }) => name === 'up')!;
  t.equal(opens.members?.length, 2, 'members are in the status of the port');
  const steady = await pour(wiring, 5, async () => {
    const device = lanOf({ mode: 'lacp', minLinks: 1, lacp: { timeout: 'fast', key: 77 } });
    const port = device.ports[1]!;
    if (port.device.kind !== 'lag') throw new Error('no aggregate');
    const only = { ...port.device, members: port.device.members.slice(0, 1) };
    await after(1500);
    await plane.configure([{ ...device, ports: [device.ports[0]!, { ...port, device: only }] }]);
    await after(1000);
    await plane.configure([device]);
  });
  t.ok(
    steady.lost < steady.sent / 4,
    `a member taken out and put in cost ${steady.lost} of ${steady.sent} datagrams`,
  );
  await settled(wiring, 2);
});
