/**
 * Groups "xdp" and "packet": interfaces that the host has already, as ports.
 *
 *      namespace a               namespace s                  namespace b
 *   iperf3 -c / sender  [ifA]---[toA]====( switch )====[toB]---[ifB]  iperf3 -s / counted at the interface
 *
 * Both cables are pairs of veth. In group "xdp" the switch takes toA and toB by AF_XDP (native, with a copy: veth has no
 * zero-copy), in "packet" by packet sockets. Open vSwitch's AF_XDP has a thread that polls; Debian's build has it.
 */
import { readFileSync } from 'node:fs';
import type { PortDevice } from '../../../dataplane/contract.js';
import type { Lab } from '../../lab/harness/lab.js';
import { OVS_PROGRAMS, startOvs } from '../../lab/harness/ovs.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS, group } from '../bench.js';
import type { ContenderSource } from '../bench.js';
import type { SwitchCase } from './load.js';
import { source } from './rooms.js';
import type { Rooms } from './rooms.js';

const XDP_CASES: readonly SwitchCase[] = [
  { name: 'xdp-64b', unit: 'kpps', better: 'higher', per: 'Mframe', load: 'frames' },
];
const PACKET_CASES: readonly SwitchCase[] = [
  { name: 'packet-tcp', unit: 'Gb/s', better: 'higher', per: 'Gb', load: 'tcp' },
  { name: 'packet-64b', unit: 'kpps', better: 'higher', per: 'Mframe', load: 'frames' },
];

/** The switch's ends, which are named for the contender's own. */
const near = (ifname: string): string => `${ifname}s`;

async function cables(lab: Lab, { a, b, s }: Rooms, ifA: string, ifB: string): Promise<void> {
  await lab.veth(a, ifA, s, near(ifA));
  await lab.veth(b, ifB, s, near(ifB));
  for (const ifname of [ifA, ifB]) await s.ip('link', 'set', near(ifname), 'up');
}

const weft = (name: string, label: string, device: (ifname: string) => PortDevice) =>
  source(name, label, [], async (lab, rooms, ifA, ifB) => {
    await cables(lab, rooms, ifA, ifB);
    const plane = await Dataplane.start(lab, { netns: rooms.s.path, socket: lab.path(`${label}.sock`) });
    const port = (portName: string, ifname: string) => ({
      name: portName,
      vlan: { mode: 'access', vlan: 1 } as const,
      device: device(near(ifname)),
    });
    await plane.configure([switchOf('bench', [port('a', ifA), port('b', ifB)])]);
    return plane.program;
  });

const linuxBridge = source('linux-bridge', 'hbr', [], async (lab, rooms, ifA, ifB) => {
  await cables(lab, rooms, ifA, ifB);
  await rooms.s.ip('link', 'add', 'name', 'br0', 'type', 'bridge');
  for (const ifname of [ifA, ifB]) await rooms.s.ip('link', 'set', near(ifname), 'master', 'br0');
  await rooms.s.ip('link', 'set', 'br0', 'up');
  return null;
});

const TSO = 'other_config:userspace-tso-enable=true';

/** Open vSwitch with these ends; `type` as `ovs-vsctl set interface` has it. */
const openVswitch = (
  name: string,
  label: string,
  settings: readonly string[],
  type: readonly string[],
): ContenderSource<SwitchCase> =>
  source(name, label, [...OVS_PROGRAMS, 'ethtool'], async (lab, rooms, ifA, ifB) => {
    await cables(lab, rooms, ifA, ifB);
    const { program, ...bridge } = await startOvs(lab, rooms.s);
    if (settings.length > 0) await bridge.vsctl('set', 'Open_vSwitch', '.', ...settings);
    for (const ifname of [near(ifA), near(ifB)])
      await bridge.vsctl('add-port', 'br0', ifname, '--', 'set', 'interface', ifname, ...type);
    // Checksums and super-frames that a veth leaves to others stop it, but with TSO enabled: no TCP passes at all.
    if (!settings.includes(TSO))
      for (const [room, ifname] of [
        [rooms.a, ifA],
        [rooms.b, ifB],
      ] as const)
        await room.run(['ethtool', '--offload', ifname, 'tx', 'off']);
    return program;
  });

/** In words why this machine's Open vSwitch has no AF_XDP; false when it has. */
function withoutAfxdp(): string | false {
  try {
    return readFileSync('/usr/sbin/ovs-vswitchd').includes('afxdp-nonpmd')
      ? false
      : 'this build of Open vSwitch has no AF_XDP';
  } catch {
    return 'there is no /usr/sbin/ovs-vswitchd';
  }
}

const ovsAfxdp = openVswitch(
  'ovs-netdev-afxdp',
  'oxd',
  ['other_config:pmd-cpu-mask=0x2'],
  ['type=afxdp', 'options:xdp-mode=native', 'options:n_rxq=1'],
);

export const xdpGroup = group<SwitchCase>({
  name: 'xdp',
  cases: XDP_CASES,
  contenders: [
    weft(OURS, 'wxd', ifname => ({ kind: 'xdp', ifname, mode: 'auto' })),
    linuxBridge,
    { ...ovsAfxdp, missing: () => withoutAfxdp() || ovsAfxdp.missing() },
  ],
});

export const packetGroup = group<SwitchCase>({
  name: 'packet',
  cases: PACKET_CASES,
  contenders: [
    weft(OURS, 'wpk', ifname => ({ kind: 'packet', ifname })),
    linuxBridge,
    openVswitch('ovs-netdev', 'opk', [], ['type=system']),
    openVswitch('ovs-netdev-tso', 'ots', [TSO], ['type=system']),
  ],
});
