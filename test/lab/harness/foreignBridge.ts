/**
 * Switches by others, with a spanning tree of their own: the kernel's bridge (STP) and Open vSwitch (RSTP, its
 * userspace datapath). Both take interfaces of one namespace, and tell who they think is the root and what their
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

const KERNEL_STATES: Readonly<Record<string, ForeignState>> = {
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
        links.map(link => [link.ifname, KERNEL_STATES[link.linkinfo.info_slave_data.state] ?? 'disabled']),
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

export const OVS_PROGRAMS = ['ovsdb-tool', 'ovsdb-server', 'ovs-vsctl', 'ovs-appctl', 'ovs-vswitchd'];
const OVS_SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

export async function openVswitch(
  lab: Lab,
  room: Namespace,
  interfaces: readonly string[],
  { priority, forwardDelay_s, maxAge_s }: Settings,
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
    'rstp_enable=true',
    `other_config:rstp-priority=${priority}`,
    `other_config:rstp-forward-delay=${forwardDelay_s}`,
    `other_config:rstp-max-age=${maxAge_s}`,
    ...interfaces.flatMap(ifname => ['--', 'add-port', 'br0', ifname]),
  );
  const show = async (): Promise<string> => (await appctl('rstp/show', 'br0')).stdout;
  return {
    speaks: 'rstp',
    states: async () => {
      const states = new Map<string, ForeignState>();
      for (const line of (await show()).split('\n')) {
        const [ifname = '', , state = ''] = line.trim().split(/\s+/);
        if (interfaces.includes(ifname)) states.set(ifname, state.toLowerCase() as ForeignState);
      }
      return states;
    },
    isRoot: async () => (await show()).includes('This bridge is the root'),
  };
}
