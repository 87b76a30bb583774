/**
 * The switches that are measured against each other, each between the same two rooms (rooms.ts). All are
 * started by hand, with their sockets and data in the lab's directory and inside a namespace of their own: a
 * system's own Open vSwitch is not touched.
 */
import type { OffloadView } from '../../../dataplane/contract.js';
import type { Lab } from '../../lab/harness/lab.js';
import { eventually, run } from '../../lab/harness/processes.js';
import type { RunningProgram } from '../../lab/harness/processes.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS } from '../bench.js';
import { source } from './rooms.js';
import type { Rooms } from './rooms.js';

async function moveTaps({ a, b, s }: Rooms, ifA: string, ifB: string): Promise<void> {
  await s.moveLink(ifA, a);
  await s.moveLink(ifB, b);
}

/** `name` may be ours or stand among the peers; `label` begins its interfaces' names. */
export const weftSource = (name: string, label: string, mode: 'auto' | 'off') =>
  source(name, label, [], async (lab, rooms, ifA, ifB) => {
    const plane = await Dataplane.start(lab, { netns: rooms.s.path, socket: lab.path(`${label}.sock`) });
    const tap = (port: string, ifname: string) =>
      ({ name: port, vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname } }) as const;
    const lan = switchOf('bench', [tap('a', ifA), tap('b', ifB)]);
    await plane.configure([{ ...lan, macLimit: 200_000, offload: { mode } }]);
    await moveTaps(rooms, ifA, ifB);
    if (mode === 'auto') await offloaded(plane);
    return plane.program;
  });

/** Hooks are tied within a second or two; where the kernel cannot, the reason is told and all goes by the engine. */
async function offloaded(plane: Dataplane): Promise<void> {
  await eventually('the hooks of both ports to be tied', async () => {
    const { ports } = await plane.get<OffloadView>('/switches/bench/show/offload');
    return ports.every(port => port.reason === null) ? true : null;
  }).catch(async () => {
    const { ports } = await plane.get<OffloadView>('/switches/bench/show/offload');
    process.stdout.write(`not offloaded: ${ports.map(port => port.reason).join('; ')}\n`);
  });
}

const weft = weftSource(OURS, 'weft', 'auto');
const weftEngine = weftSource('weft-engine', 'wen', 'off');

export const linuxBridge = source('linux-bridge', 'lbr', [], async (lab, rooms, ifA, ifB) => {
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

export const ovsNetdev = source('ovs-netdev', 'ovs', OVS_PROGRAMS, async (lab, rooms, ifA, ifB) =>
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

export const tapContenders = [weft, weftEngine, linuxBridge, ovsNetdev, ovsNetdevTso, vde];
