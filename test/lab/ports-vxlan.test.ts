/**
 * VXLAN with the kernel's own tunnel device and with Open vSwitch's at the far end:
 *
 *   a [a0]---[tap] switch [vxlan]  ==== underlay, a veth ====  [vx0 of the kernel, or br0 of Open vSwitch] b
 *                   10.96.0.1                                  10.96.0.2
 */
import t from 'tap';
import type { PortConfig } from '../../dataplane/contract.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { OVS_PROGRAMS, startOvs } from './harness/ovs.js';
import { eventually } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const NEEDS = { root: true, programs: ['ip', 'nsenter', 'iperf3', 'busybox'], paths: ['/dev/net/tun'] };
const skip = missing(NEEDS);
const VNI = 4242;

async function ping(room: Namespace, address: string, size = 56): Promise<boolean> {
  const argv = ['busybox', 'ping', '-c', '2', '-i', '0.2', '-W', '2', '-s', String(size), address];
  return (await room.run(argv, { mayFail: true })).status === 0;
}

let nextPort = 5300;

/** Bytes that the receiver got. */
async function tcp(from: Namespace, to: Namespace, address: string): Promise<number> {
  const port = String(nextPort++);
  const server = to.start(['iperf3', '--server', '--port', port]);
  const bytes = await eventually('iperf3 to have its second', async () => {
    const client = ['iperf3', '--json', '--client', address, '--port', port, '--time', '1'];
    const { stdout } = await from.run(client, { mayFail: true });
    // Killed, when it hung, it has said nothing.
    if (stdout === '') return null;
    const { end } = JSON.parse(stdout) as { end: { sum_received?: { bytes: number } } };
    return end.sum_received?.bytes ?? null;
  });
  await server.stop();
  return bytes;
}

interface Site {
  a: Namespace;
  s: Namespace;
  b: Namespace;
  plane: Dataplane;
}

async function site(lab: Lab, isIpv6: boolean, mtu_bytes: number): Promise<Site> {
  const [near, far] = isIpv6 ? ['fd96::1', 'fd96::2'] : ['10.96.0.1', '10.96.0.2'];
  const bits = isIpv6 ? 64 : 24;
  const [a, s, b] = [
    await lab.namespace('va'),
    await lab.namespace('vs', { ipv6: isIpv6 }),
    await lab.namespace('vb', { ipv6: isIpv6 }),
  ];
  await lab.veth(s, 'under0', b, 'under1');
  for (const [room, ifname, address] of [
    [s, 'under0', near],
    [b, 'under1', far],
  ] as const) {
    await room.ip('link', 'set', ifname, 'mtu', String(mtu_bytes));
    await room.up(ifname, `${address}/${bits}`);
  }
  const plane = await Dataplane.start(lab, { netns: s.path });
  const ports: PortConfig[] = [
    { name: 'tap', vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname: 'a0' } },
    {
      name: 'tunnel',
      vlan: { mode: 'access', vlan: 1 },
      device: { kind: 'vxlan', vni: VNI, port: 4789, local: near, remotes: [{ address: far, port: 4789 }] },
    },
  ];
  await plane.configure([switchOf('lan', ports)]);
  await s.moveLink('a0', a);
  await a.up('a0', '10.95.0.1/24');
  return { a, s, b, plane };
}

for (const [what, isIpv6, mtu_bytes] of [
  ['IPv4, room for the headers', false, 1600],
  ['IPv4, no more than 1500 between', false, 1500],
  ['IPv6', true, 1600],
] as const) {
  await t.test(`the kernel's vxlan over ${what}`, { skip }, async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const { a, b, plane } = await site(lab, isIpv6, mtu_bytes);
    const [near, far] = isIpv6 ? ['fd96::1', 'fd96::2'] : ['10.96.0.1', '10.96.0.2'];
    await b.ip(
      'link',
      'add',
      'vx0',
      'type',
      'vxlan',
      'id',
      String(VNI),
      'local',
      far,
      'remote',
      near,
      'dstport',
      '4789',
    );
    await b.ip('link', 'set', 'vx0', 'mtu', '1500');
    await b.up('vx0', '10.95.0.2/24');
    t.ok(await ping(a, '10.95.0.2'));
    t.ok(await ping(b, '10.95.0.1', 1472), 'whole frames');
    t.ok(await ping(a, '10.95.0.2', 1472), 'whole frames');
    t.ok((await tcp(a, b, '10.95.0.2')) > 1_000_000, 'TCP to the kernel');
    t.ok((await tcp(b, a, '10.95.0.1')) > 1_000_000, 'TCP from the kernel');
    for (const room of [a, b]) t.equal(room.snmp('Tcp', 'InCsumErrors'), 0);
    const [, tunnel] = (await plane.status()).switches[0]!.ports;
    t.equal(tunnel!.state, 'up');
    if (mtu_bytes === 1500) t.match(tunnel!.reason, /packets of 1450 bytes.*sent in fragments/);
    else t.equal(tunnel!.reason, null);
    t.equal(tunnel!.counters['dropTunnelHeader'], 0);
    t.equal(tunnel!.counters['dropTunnelSender'], 0);
  });
}

await t.test(
  "Open vSwitch's vxlan in its userspace datapath",
  {
    skip: missing({ ...NEEDS, programs: [...NEEDS.programs, ...OVS_PROGRAMS, 'ethtool'] }),
    timeout: 90_000,
  },
  async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const { a, s, b } = await site(lab, false, 1600);
    const c = await lab.namespace('vc');
    const ovs = await startOvs(lab, b);
    // The underlay belongs to a bridge of its own, with the address, as its userspace tunnels want it.
    await ovs.vsctl('add-br', 'br1', '--', 'set', 'bridge', 'br1', 'datapath_type=netdev');
    await b.ip('address', 'flush', 'dev', 'under1');
    // A veth leaves checksums to others, which its packet sockets do not complete: as a card would send them.
    await b.run(['ethtool', '--offload', 'under1', 'tx', 'off']);
    await s.run(['ethtool', '--offload', 'under0', 'tx', 'off']);
    await ovs.vsctl('add-port', 'br1', 'under1');
    await b.up('br1', '10.96.0.2/24');
    await b.ip('link', 'set', 'br0', 'up');
    await lab.veth(c, 'c0', b, 'c1');
    await b.ip('link', 'set', 'c1', 'up');
    await c.run(['ethtool', '--offload', 'c0', 'tx', 'off']);
    await c.up('c0', '10.95.0.2/24');
    await ovs.vsctl('add-port', 'br0', 'c1');
    await ovs.vsctl(
      'add-port',
      'br0',
      'vx1',
      '--',
      'set',
      'interface',
      'vx1',
      'type=vxlan',
      'options:remote_ip=10.96.0.1',
      `options:key=${VNI}`,
    );
    await eventually('a ping through both', async () => ((await ping(a, '10.95.0.2')) ? true : null), {
      timeout_ms: 30_000,
    });
    t.ok((await tcp(a, c, '10.95.0.2')) > 100_000, 'TCP to it');
    t.ok((await tcp(c, a, '10.95.0.1')) > 100_000, 'TCP from it');
    for (const room of [a, c]) t.equal(room.snmp('Tcp', 'InCsumErrors'), 0);
  },
);
t.setTimeout(270_000);
