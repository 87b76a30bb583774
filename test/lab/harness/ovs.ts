/**
 * An Open vSwitch of the test's own, with the userspace datapath: its sockets and data in the lab's directory, its
 * processes in a namespace. What it is to do, it is told by `vsctl`; what it thinks, it says by `appctl`.
 */
import type { Lab } from './lab.js';
import type { Namespace } from './network.js';
import { eventually, run } from './processes.js';
import type { Ended, RunningProgram } from './processes.js';

export const OVS_PROGRAMS = ['ovsdb-tool', 'ovsdb-server', 'ovs-vsctl', 'ovs-appctl', 'ovs-vswitchd'];
const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

export interface OpenVSwitch {
  readonly program: RunningProgram;
  vsctl(...args: string[]): Promise<Ended>;
  appctl(...args: string[]): Promise<string>;
}

/** With a bridge `br0` without ports. */
export async function startOvs(lab: Lab, room: Namespace): Promise<OpenVSwitch> {
  const directory = lab.path(`${room.label}-ovs`);
  await run(['mkdir', directory]);
  const env = Object.fromEntries(
    ['OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR'].map(name => [name, directory]),
  );
  const quiet = ['-vconsole:warn', '-vsyslog:off', '-vfile:off', '--no-chdir'];
  const database = `unix:${directory}/db.sock`;
  const vsctl = async (...args: string[]) =>
    run(['ovs-vsctl', `--db=${database}`, '--timeout=20', ...args], { env });
  const appctl = async (...args: string[]) =>
    (await run(['ovs-appctl', '-t', `${directory}/vs.ctl`, ...args], { env })).stdout;

  await run(['ovsdb-tool', 'create', `${directory}/conf.db`, SCHEMA], { env });
  const remote = [`--remote=p${database}`, `--unixctl=${directory}/db.ctl`];
  room.start(['ovsdb-server', `${directory}/conf.db`, ...remote, ...quiet], env);
  await eventually('ovsdb-server to answer', async () => vsctl('--no-wait', 'init').catch(() => null));
  const program = room.start(['ovs-vswitchd', database, `--unixctl=${directory}/vs.ctl`, ...quiet], env);
  await vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev');
  return { program, vsctl, appctl };
}
