/**
 * Switches by others, with a spanning tree of their own: the kernel's bridge (STP) and Open vSwitch (STP or RSTP, its
 * userspace datapath). All take interfaces of one namespace, and tell who they think is the root and what their
 * ports do.
 */
import type { Lab } from './lab.js';
import type { Namespace } from './network.js';
import { eventually, run } from './processes.js';

export type ForeignState = 'discarding' | 'learning' | 'forwarding' | 'disabled';

export interface ForeignBridge {
  readonly speaks: 'stp' | 'rstp';
  /** By interface. */
  states(): Promise<ReadonlyMap<string, ForeignState>>;
  isRoot(): Promise<boolean>;
}

interface Settings {
  /** In steps of 4096. */
  readonly priority: number;
  readonly forwardDelay_s: number;
  readonly maxAge_s: number;
}

const STP_STATES: Readonly<Record<string, ForeignState>> = {
  disabled: 'disabled',
  listening: 'discarding',
  blocking: 'discarding',
  learning: 'learning',
  forwarding: 'forwarding',
};

export async function kernelBridge(
  room: Namespace,
  interfaces: readonly string[],
  { priority, forwardDelay_s, maxAge_s }: Settings,
): Promise<ForeignBridge> {
  const cs = (seconds: number): string => String(seconds * 100);
  const times = ['forward_delay', cs(forwardDelay_s), 'max_age', cs(maxAge_s), 'hello_time', cs(2)];
  await room.ip('link', 'add', 'name', 'br0', 'type', 'bridge', 'priority', String(priority), ...times);
  for (const ifname of interfaces) await room.ip('link', 'set', ifname, 'master', 'br0', 'up');
  await room.ip('link', 'set', 'br0', 'type', 'bridge', 'stp_state', '1');
  await room.ip('link', 'set', 'br0', 'up');
  return {
    speaks: 'stp',
    states: async () => {
      const { stdout } = await room.ip('-j', '-d', 'link', 'show', 'master', 'br0');
      const links = JSON.parse(stdout) as {
        ifname: string;
        linkinfo: { info_slave_data: { state: string } };
      }[];
      return new Map(
        links.map(link => [link.ifname, STP_STATES[link.linkinfo.info_slave_data.state] ?? 'disabled']),
      );
    },
    isRoot: async () => {
      const { stdout } = await room.ip('-j', '-d', 'link', 'show', 'br0');
      const [bridge] = JSON.parse(stdout) as {
        linkinfo: { info_data: { root_id: string; bridge_id: string } };
      }[];
      return bridge!.linkinfo.info_data.root_id === bridge!.linkinfo.info_data.bridge_id;
    },
  };
}

/**
 * Whether the kernel's bridges hear each other's BPDUs in a namespace. They come up through LLC, which on some kernels
 * takes frames of the initial network namespace only: then a bridge in any other speaks, but is deaf.
 */
export async function kernelHears(room: Namespace): Promise<boolean> {
  for (const [name, cable, peer] of [
    ['brx', 'x', 'y'],
    ['bry', 'y', ''],
  ] as const) {
    await room.ip('link', 'add', 'name', name, 'type', 'bridge', 'stp_state', '1', 'hello_time', '100');
    if (peer !== '') await room.ip('link', 'add', 'name', cable, 'type', 'veth', 'peer', 'name', peer);
    await room.ip('link', 'set', cable, 'master', name, 'up');
    await room.ip('link', 'set', name, 'up');
  }
  const agree = async (): Promise<true | null> => {
    const roots = [];
    for (const name of ['brx', 'bry']) {
      const [bridge] = JSON.parse((await room.ip('-j', '-d', 'link', 'show', name)).stdout) as {
        linkinfo: { info_data: { root_id: string } };
      }[];
      roots.push(bridge!.linkinfo.info_data.root_id);
    }
    return roots[0] === roots[1] ? true : null;
  };
  const heard = await eventually('the bridges to agree', agree, { timeout_ms: 5000, every_ms: 200 }).catch(
    () => false,
  );
  for (const name of ['brx', 'bry', 'x']) await room.ip('link', 'delete', name);
  return heard;
}

export const OVS_PROGRAMS = ['ovsdb-tool', 'ovsdb-server', 'ovs-vsctl', 'ovs-appctl', 'ovs-vswitchd'];
const OVS_SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

export async function openVswitch(
  lab: Lab,
  room: Namespace,
  interfaces: readonly string[],
  { priority, forwardDelay_s, maxAge_s }: Settings,
  speaks: 'stp' | 'rstp',
): Promise<ForeignBridge> {
  const directory = lab.path(`${room.label}-ovs`);
  await run(['mkdir', directory]);
  const env = Object.fromEntries(
    ['OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR'].map(name => [name, directory]),
  );
  const quiet = ['-vconsole:warn', '-vsyslog:off', '-vfile:off', '--no-chdir'];
  const database = `unix:${directory}/db.sock`;
  const vsctl = async (...args: string[]) =>
    run(['ovs-vsctl', `--db=${database}`, '--timeout=10', ...args], { env });
  const appctl = async (...args: string[]) =>
    run(['ovs-appctl', '-t', `${directory}/vs.ctl`, ...args], { env });

  await run(['ovsdb-tool', 'create', `${directory}/conf.db`, OVS_SCHEMA], { env });
  const remote = [`--remote=p${database}`, `--unixctl=${directory}/db.ctl`];
  room.start(['ovsdb-server', `${directory}/conf.db`, ...remote, ...quiet], env);
  await eventually('ovsdb-server to answer', async () => vsctl('--no-wait', 'init').catch(() => null));
  room.start(['ovs-vswitchd', database, `--unixctl=${directory}/vs.ctl`, ...quiet], env);
  for (const ifname of interfaces) await room.up(ifname);
  await vsctl(
    'add-br',
    'br0',
    '--',
    'set',
    'bridge',
    'br0',
    'datapath_type=netdev',
    `${speaks}_enable=true`,
    `other_config:${speaks}-priority=${priority}`,
    `other_config:${speaks}-forward-delay=${forwardDelay_s}`,
    `other_config:${speaks}-max-age=${maxAge_s}`,
    ...interfaces.flatMap(ifname => ['--', 'add-port', 'br0', ifname]),
  );
  const show = async (): Promise<string> => (await appctl(`${speaks}/show`, 'br0')).stdout;
  return {
    speaks,
    states: async () => {
      const states = new Map<string, ForeignState>();
      for (const line of (await show()).split('\n')) {
        const [ifname = '', , state = ''] = line.trim().split(/\s+/);
        const known = STP_STATES[state.toLowerCase()] ?? (state.toLowerCase() as ForeignState);
        if (interfaces.includes(ifname)) states.set(ifname, known);
      }
      return states;
    },
    isRoot: async () => (await show()).includes('This bridge is the root'),
  };
}
