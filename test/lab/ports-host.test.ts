/**
 * Ports on interfaces that the host has already, with real stacks at both ends:
 *
 *   a [a0]---veth---[s0] switch [s1]---veth---[b0] b
 *
 * once by packet sockets, once by AF_XDP, once by both. The judge is the kernel's TCP and UDP in a and b, which
 * drops what has a wrong checksum, and counts it.
 */
import t from 'tap';
import type { PortConfig } from '../../dataplane/contract.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({ root: true, programs: ['ip', 'nsenter', 'iperf3', 'busybox'] });

type Kind = 'packet' | 'xdp';

const port = (name: string, kind: Kind, ifname: string, vlan: PortConfig['vlan']): PortConfig => ({
  name,
  vlan,
  device: kind === 'packet' ? { kind, ifname } : { kind, ifname, mode: 'auto' },
});
const access = (vlan: number): PortConfig['vlan'] => ({ mode: 'access', vlan });

interface Ends {
  a: Namespace;
  b: Namespace;
  s: Namespace;
  plane: Dataplane;
}

async function wire(lab: Lab, kinds: [Kind, Kind], mtu_bytes = 1500): Promise<Ends> {
  const [a, b, s] = [await lab.namespace('pa'), await lab.namespace('pb'), await lab.namespace('ps')];
  await lab.veth(a, 'a0', s, 's0');
  await lab.veth(b, 'b0', s, 's1');
  for (const [room, ifname] of [
    [a, 'a0'],
    [b, 'b0'],
    [s, 's0'],
    [s, 's1'],
  ] as const)
    await room.ip('link', 'set', ifname, 'mtu', String(mtu_bytes));
  await a.up('a0', '10.97.0.1/24');
  await b.up('b0', '10.97.0.2/24');
  for (const ifname of ['s0', 's1']) await s.ip('link', 'set', ifname, 'up');
  const plane = await Dataplane.start(lab, { netns: s.path });
  await plane.configure([
    switchOf('lan', [port('p0', kinds[0], 's0', access(1)), port('p1', kinds[1], 's1', access(1))]),
  ]);
  return { a, b, s, plane };
}

async function ping(room: Namespace, address: string, size = 56): Promise<boolean> {
  const argv = ['busybox', 'ping', '-c', '2', '-i', '0.2', '-W', '2', '-s', String(size), address];
  return (await room.run(argv, { mayFail: true })).status === 0;
}

let nextPort = 5300;

/** Bytes that the receiver got. */
async function iperf(from: Namespace, to: Namespace, address: string, ...more: string[]): Promise<number> {
  const port = String(nextPort++);
  const server = to.start(['iperf3', '--server', '--port', port]);
  const bytes = await eventually('iperf3 to have its second', async () => {
    const client = ['iperf3', '--json', '--client', address, '--port', port, '--time', '1', ...more];
    const { stdout } = await from.run(client, { mayFail: true });
    // Killed, when it hung, it has said nothing.
    if (stdout === '') return null;
    const { end } = JSON.parse(stdout) as {
      end: { sum_received?: { bytes: number }; sum?: { bytes: number; lost_percent: number } };
    };
    return end.sum_received?.bytes ?? end.sum?.bytes ?? null;
  });
  await server.stop();
  return bytes;
}

for (const kinds of [
  ['packet', 'packet'],
  ['xdp', 'xdp'],
  ['xdp', 'packet'],
] as [Kind, Kind][]) {
  await t.test(`${kinds.join(' to ')}: ping, TCP and UDP, right to the last checksum`, { skip }, async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const { a, b, plane } = await wire(lab, kinds);
    t.ok(await ping(a, '10.97.0.2'));
    t.ok(await ping(a, '10.97.0.2', 1472), 'as much as the MTU holds');
    for (const [from, to, address] of [
      [a, b, '10.97.0.2'],
      [b, a, '10.97.0.1'],
    ] as const) {
      t.ok((await iperf(from, to, address)) > 1_000_000, 'TCP');
      t.ok((await iperf(from, to, address, '--udp', '--bitrate', '20M')) > 1_000_000, 'UDP');
    }
    for (const room of [a, b])
      for (const protocol of ['Tcp', 'Udp']) t.equal(room.snmp(protocol, 'InCsumErrors'), 0);
    const { switches } = await plane.status();
    for (const each of switches[0]!.ports) {
      t.equal(each.state, 'up');
      t.equal(each.counters['ifInErrors'], 0);
      t.equal(each.counters['ifOutErrors'], 0);
    }
  });
}

await t.test('tags pass a trunk; jumbo frames pass by packet socket', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const { a, plane } = await wire(lab, ['packet', 'packet'], 9000);
  t.ok(await ping(a, '10.97.0.2', 8972));
  const trunk: PortConfig['vlan'] = { mode: 'trunk', allowed: [[10, 20]], native: 1 };
  await plane.configure([
    switchOf('lan', [port('p0', 'packet', 's0', trunk), port('p1', 'xdp', 's1', access(1))]),
  ]);
  const { switches } = await plane.status();
  t.match(switches[0]!.ports[1]!.reason, /by packet socket, not by AF_XDP: its MTU of 9000/);
  t.ok(await ping(a, '10.97.0.2', 8972), 'the native VLAN of the trunk');
});

for (const kind of ['packet', 'xdp'] as const) {
  await t.test(`${kind}: the interface goes and comes back while all runs`, { skip }, async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const { a, s, plane } = await wire(lab, [kind, kind]);
    t.ok(await ping(a, '10.97.0.2'));
    const state = async () => (await plane.status()).switches[0]!.ports[0]!;
    for (let round = 0; round < 3; round++) {
      await s.ip('link', 'delete', 's0');
      await eventually('the port to say so', async () => ((await state()).state === 'error' ? true : null));
      t.match((await state()).reason, /no interface s0/);
      await lab.veth(a, 'a0', s, 's0');
      await a.up('a0', '10.97.0.1/24');
      await s.ip('link', 'set', 's0', 'up');
      await eventually('the port to be up', async () => ((await state()).state === 'up' ? true : null));
      t.ok(await ping(a, '10.97.0.2'), `round ${round}`);
    }
    await s.ip('link', 'set', 's0', 'down');
    await eventually('the port to say so', async () => ((await state()).state === 'error' ? true : null));
    t.match((await state()).reason, /s0 is down: ip link set s0 up/);
    // A plane that dies leaves nothing behind on the interface.
    process.kill(plane.pid, 'SIGKILL');
    await eventually('the program to be gone', async () =>
      (await s.ip('link', 'show', 's1')).stdout.includes('xdp') ? null : true,
    );
  });
}
t.setTimeout(270_000);
