/**
 * The switches that are measured against each other, each with the same two namespaces behind it. All are
 * started by hand, with their sockets and data in the lab's directory and inside a namespace of their own: a
 * system's own Open vSwitch is not touched.
 */
import type { Lab } from '../../lab/harness/lab.js';
import { missing } from '../../lab/harness/needs.js';
import type { Needs } from '../../lab/harness/needs.js';
import { cpuTime_s, eventually, run } from '../../lab/harness/processes.js';
import type { RunningProgram } from '../../lab/harness/processes.js';
import type { Namespace } from '../../lab/harness/network.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS } from '../bench.js';
import type { ContenderSource } from '../bench.js';
import { ADDRESS_A, ADDRESS_B, switchContender } from './load.js';
import type { Joined, SwitchCase } from './load.js';

const NEEDS: Needs = { root: true, programs: ['ip', 'nsenter', 'iperf3'], paths: ['/dev/net/tun'] };

interface Rooms {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly s: Namespace;
}

/** Interface names are the contender's own, so that a mix-up would show. */
const interfaces = (label: string): [string, string] => [`${label}A`, `${label}B`];

function source(
  name: string,
  label: string,
  programs: readonly string[],
  join: (lab: Lab, rooms: Rooms, ifA: string, ifB: string) => Promise<RunningProgram | null>,
): ContenderSource<SwitchCase> {
  return {
    name,
    missing: () => missing({ ...NEEDS, programs: [...(NEEDS.programs ?? []), ...programs] }),
    start: async lab => {
      const rooms: Rooms = {
        a: await lab.namespace(`${label}-a`),
        b: await lab.namespace(`${label}-b`),
        s: await lab.namespace(`${label}-s`),
      };
      const [ifA, ifB] = interfaces(label);
      const program = await join(lab, rooms, ifA, ifB);
      await rooms.a.up(ifA, `${ADDRESS_A}/24`);
      await rooms.b.up(ifB, `${ADDRESS_B}/24`);
      rooms.b.start(['iperf3', '--server']);
      await meet(rooms.a, name);
      return switchContender(name, joined(rooms, ifA, ifB, program));
    },
  };
}

const joined = ({ a, b }: Rooms, ifA: string, ifB: string, program: RunningProgram | null): Joined => ({
  a,
  ifA,
  b,
  ifB,
  processCpu_s: program === null ? null : () => cpuTime_s(program.pid),
});

/** Both ends know each other and the server listens: bytes have been through. */
async function meet(a: Namespace, name: string): Promise<void> {
  const once = ['iperf3', '--client', ADDRESS_B, '--bytes', '64K', '--connect-timeout', '2000'];
  await eventually(
    `${name} to pass TCP`,
    async () => ((await a.run(once, { mayFail: true, timeout_ms: 10_000 })).status === 0 ? true : null),
    { timeout_ms: 30_000, every_ms: 200 },
  );
}

async function moveTaps({ a, b, s }: Rooms, ifA: string, ifB: string): Promise<void> {
  await s.moveLink(ifA, a);
  await s.moveLink(ifB, b);
}

const weft = source(OURS, 'weft', [], async (lab, rooms, ifA, ifB) => {
  const plane = await Dataplane.start(lab, { netns: rooms.s.path });
  const tap = (name: string, ifname: string) =>
    ({ name, vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname } }) as const;
  await plane.configure([switchOf('bench', [tap('a', ifA), tap('b', ifB)])]);
  await moveTaps(rooms, ifA, ifB);
  return plane.program;
});

const linuxBridge = source('linux-bridge', 'lbr', [], async (lab, rooms, ifA, ifB) => {
  await rooms.s.ip('link', 'add', 'name', 'br0', 'type', 'bridge');
  await lab.veth(rooms.a, ifA, rooms.s, 'toA');
  await lab.veth(rooms.b, ifB, rooms.s, 'toB');
  for (const cable of ['toA', 'toB']) await rooms.s.ip('link', 'set', cable, 'master', 'br0', 'up');
  await rooms.s.ip('link', 'set', 'br0', 'up');
  return null;
});

const OVS_PROGRAMS = ['ovsdb-tool', 'ovsdb-server', 'ovs-vsctl', 'ovs-vswitchd'];
const OVS_SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

/** Its userspace datapath, as in a container without the kernel's module. */
async function ovs(
  lab: Lab,
  { a, b, s }: Rooms,
  ifA: string,
  ifB: string,
  settings: readonly string[],
): Promise<RunningProgram> {
  const directory = lab.path(s.label);
  await run(['mkdir', directory]);
  const env = Object.fromEntries(
    ['OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR'].map(name => [name, directory]),
  );
  const quiet = ['-vconsole:warn', '-vsyslog:off', '-vfile:off', '--no-chdir'];
  const database = `unix:${directory}/db.sock`;
  const vsctl = async (...args: string[]) =>
    run(['ovs-vsctl', `--db=${database}`, '--timeout=10', ...args], { env });

  await run(['ovsdb-tool', 'create', `${directory}/conf.db`, OVS_SCHEMA], { env });
  const remote = [`--remote=p${database}`, `--unixctl=${directory}/db.ctl`];
  s.start(['ovsdb-server', `${directory}/conf.db`, ...remote, ...quiet], env);
  await eventually('ovsdb-server to answer', async () => vsctl('--no-wait', 'init').catch(() => null));
  if (settings.length > 0) await vsctl('--no-wait', 'set', 'Open_vSwitch', '.', ...settings);
  const program = s.start(['ovs-vswitchd', database, `--unixctl=${directory}/vs.ctl`, ...quiet], env);
  const port = (ifname: string) => [
    '--',
    'add-port',
    'br0',
    ifname,
    '--',
    'set',
    'interface',
    ifname,
    'type=tap',
  ];
  await vsctl(
    'add-br',
    'br0',
    '--',
    'set',
    'bridge',
    'br0',
    'datapath_type=netdev',
    ...port(ifA),
    ...port(ifB),
  );
  await moveTaps({ a, b, s }, ifA, ifB);
  return program;
}

const ovsNetdev = source('ovs-netdev', 'ovs', OVS_PROGRAMS, async (lab, rooms, ifA, ifB) =>
  ovs(lab, rooms, ifA, ifB, []),
);

const ovsNetdevTso = source('ovs-netdev-tso', 'tso', OVS_PROGRAMS, async (lab, rooms, ifA, ifB) =>
  ovs(lab, rooms, ifA, ifB, ['other_config:userspace-tso-enable=true']),
);

const vde = source('vde', 'vde', ['vde_switch'], async (lab, rooms, ifA, ifB) => {
  const program = rooms.s.start(['vde_switch', '--sock', lab.path('vde.ctl'), '--tap', ifA, '--tap', ifB]);
  for (const ifname of [ifA, ifB]) {
    await eventually(`vde_switch to make ${ifname}; it says: ${program.stderr}`, async () =>
      rooms.s.ip('link', 'show', ifname).catch(() => null),
    );
  }
  await moveTaps(rooms, ifA, ifB);
  return program;
});

export const switchContenders = [weft, linuxBridge, ovsNetdev, ovsNetdevTso, vde];
