/**
 * What a lab test needs of the machine, so that it can skip aloud when that is not there:
 *
 *   t.test('…', { skip: missing({ root: true, programs: ['tshark'] }) }, async t => …)
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs that Debian keeps out of an ordinary user's PATH. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Debian packages of the programs that lab and benchmarks use; `.ci/run` reads this table's twin in bash. */
export const PACKAGE_OF: Readonly<Record<string, string>> = {
  busybox: 'busybox-static',
  ethtool: 'ethtool',
  fio: 'fio',
  ip: 'iproute2',
  iperf3: 'iperf3',
  nbdcopy: 'libnbd-bin',
  nbdinfo: 'libnbd-bin',
  nbdkit: 'nbdkit',
  nsenter: 'util-linux',
  'ovs-vsctl': 'openvswitch-switch',
  'ovs-vswitchd': 'openvswitch-switch',
  'ovsdb-server': 'openvswitch-switch',
  'ovsdb-tool': 'openvswitch-switch',
  ping: 'iputils-ping',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  'qemu-system-x86_64': 'qemu-system-x86',
  tcpdump: 'tcpdump',
  tshark: 'tshark',
  vde_switch: 'vde2',
};

export function findProgram(name: string): string | null {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_DIRECTORIES];
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there; look on.
    }
  }
  return null;
}

export interface Needs {
  readonly root?: boolean;
  readonly programs?: readonly string[];
  /** Paths that must exist, such as `/dev/net/tun`. */
  readonly paths?: readonly string[];
}

/** In words what is missing; false when all is there. */
export function missing(needs: Needs): string | false {
  const lacks: string[] = [];
  if (needs.root === true && process.getuid?.() !== 0) lacks.push('root');
  for (const program of needs.programs ?? []) {
    if (findProgram(program) !== null) continue;
    const from = PACKAGE_OF[program];
    lacks.push(from === undefined ? program : `${program} (Debian package ${from})`);
  }
  for (const path of needs.paths ?? []) if (!existsSync(path)) lacks.push(path);
  return lacks.length === 0 ? false : `needs ${lacks.join(', ')}`;
}
