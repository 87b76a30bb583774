/**
 * What this machine has and lacks, judged: pure, from facts that process.ts collects. Each check says what was found,
 * and when something is missing, what does not work without it and what brings it.
 */
import type { Doctor } from '../api/contract.js';

type Check = Doctor['checks'][number];

export interface Program {
  /** First line of its version, or null when it is not there. */
  version: string | null;
}

export interface Facts {
  nodeVersion: string;
  platform: string;
  arch: string;
  uid: number;
  /** Effective capabilities as a bit mask. */
  capabilities: bigint;
  tun: 'ok' | 'missing' | 'denied';
  /** Whether the user as whom guests run may use it. */
  kvm: { usable: boolean; reason: string | null };
  /** What an earlier probe found; null when there was none. */
  kvmProbe: { works: boolean; reason: string } | null;
  ioUring: { available: boolean; reason: string };
  /** As `uname -r` tells it. */
  kernelVersion: string;
  programs: Readonly<Record<'qemu' | 'qemuImg' | 'passt' | 'busybox' | 'dpkgDeb' | 'aptGet', Program>>;
  qemuBinary: string;
  state: { path: string; writable: boolean; free_bytes: number; fileSystem: string };
  memory_bytes: number;
}

const CAP_NET_ADMIN = 12n;
const NODE_OLDEST: readonly [number, number] = [20, 19];
/** The first with tcx hooks, where the kernel forwards what a switch has decided. */
const KERNEL_WITH_OFFLOAD: readonly [number, number] = [6, 6];
const QEMU_OLDEST: readonly [number, number] = [7, 2];
const GIB = 2 ** 30;
const FREE_LITTLE_BYTES = 2 * GIB;
/** run/machines/ + a name of 40 + serial.sock, of the 107 bytes of a socket's path. */
const STATE_PATH_SHORT = 107 - '/run/machines/'.length - 40 - '/serial.sock'.length;

function ok(name: string, found: string): Check {
  return { name, status: 'ok', found, advice: null, debianPackage: null };
}

function lacking(
  name: string,
  status: 'warning' | 'missing',
  found: string,
  advice: string,
  debianPackage: string | null = null,
): Check {
  return { name, status, found, advice, debianPackage };
}

export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const match = /(\d+)\.(\d+)/.exec(version);
  if (match === null) return false;
  const [ours, theirs] = [Number(match[1]), Number(match[2])];
  return ours > major || (ours === major && theirs >= minor);
}

function install(packageName: string): string {
  return `on Debian: apt-get install ${packageName}`;
}

function node({ nodeVersion }: Facts): Check {
  if (isAtLeast(nodeVersion, NODE_OLDEST)) return ok('node', nodeVersion);
  return lacking(
    'node',
    'missing',
    nodeVersion,
    `weft needs Node ${NODE_OLDEST.join('.')} or newer`,
    'nodejs',
  );
}

function rights({ uid, capabilities }: Facts): Check {
  const canNet = (capabilities >> CAP_NET_ADMIN) & 1n;
  if (uid === 0 && canNet === 1n) return ok('rights', 'root');
  if (canNet === 1n) return ok('rights', `user ${uid} with CAP_NET_ADMIN`);
  return lacking(
    'rights',
    'warning',
    uid === 0 ? 'root without CAP_NET_ADMIN' : `user ${uid}`,
    'switch ports of kind tap need CAP_NET_ADMIN, and guests get no users of their own; all else works. Run weftd as root for those',
  );
}

function tun({ tun: found }: Facts): Check {
  if (found === 'ok') return ok('/dev/net/tun', 'can be opened');
  return lacking(
    '/dev/net/tun',
    'warning',
    found === 'missing' ? 'is not there' : 'may not be opened',
    found === 'missing'
      ? 'no switch port of kind tap without it: modprobe tun'
      : 'no switch port of kind tap without it: run weftd as root, or give its user the right to open it',
  );
}

function kvm({ kvm: found, kvmProbe }: Facts): Check {
  if (!found.usable)
    return lacking(
      'kvm',
      'warning',
      found.reason ?? '/dev/kvm cannot be used',
      'guests are emulated (TCG): they work, several times slower',
    );
  if (kvmProbe === null)
    return ok('kvm', '/dev/kvm can be opened; whether a guest boots under it is tried with the first one');
  if (kvmProbe.works) return ok('kvm', `works: ${kvmProbe.reason}`);
  return lacking(
    'kvm',
    'warning',
    `/dev/kvm is there, but no guest boots under it: ${kvmProbe.reason}`,
    'guests are emulated (TCG), several times slower; remove accel.json from the state directory to have it tried again',
  );
}

function qemu({ programs, qemuBinary, arch }: Facts): Check {
  const debianPackage = arch === 'arm64' ? 'qemu-system-arm' : 'qemu-system-x86';
  const { version } = programs.qemu;
  if (version === null)
    return lacking(
      'qemu',
      'missing',
      `${qemuBinary} is not there`,
      `no machine runs without it; ${install(debianPackage)}`,
      debianPackage,
    );
  if (isAtLeast(version, QEMU_OLDEST)) return ok('qemu', version);
  return lacking(
    'qemu',
    'missing',
    version,
    `weft needs QEMU ${QEMU_OLDEST.join('.')} or newer`,
    debianPackage,
  );
}

function program(
  name: string,
  { version }: Program,
  status: 'warning' | 'missing',
  without: string,
  debianPackage: string,
): Check {
  if (version !== null) return ok(name, version);
  return lacking(name, status, 'is not there', `${without}; ${install(debianPackage)}`, debianPackage);
}

function ioUring({ ioUring: { available, reason } }: Facts): Check {
  if (available) return ok('io_uring', 'available');
  return lacking(
    'io_uring',
    'warning',
    `not available: ${reason}`,
    'disks are served all the same; a slow disk below them holds up the others more',
  );
}

function offload({ kernelVersion }: Facts): Check {
  if (isAtLeast(kernelVersion, KERNEL_WITH_OFFLOAD)) return ok('offload', `Linux ${kernelVersion} can`);
  return lacking(
    'offload',
    'warning',
    `Linux ${kernelVersion}`,
    `flows between taps and interfaces of the host go through weft-dataplane; from Linux ${KERNEL_WITH_OFFLOAD.join('.')} on the kernel forwards them itself, twice as fast`,
  );
}

function stateDirectory({ state }: Facts): Check[] {
  const checks: Check[] = [];
  const free = `${(state.free_bytes / GIB).toFixed(1)} GiB free on ${state.fileSystem}`;
  if (!state.writable)
    checks.push(
      lacking(
        'state directory',
        'missing',
        `${state.path} cannot be written`,
        'choose another with --state DIR or WEFT_STATE',
      ),
    );
  else if (state.free_bytes < FREE_LITTLE_BYTES)
    checks.push(
      lacking(
        'state directory',
        'warning',
        `${state.path}: ${free}`,
        'disks and images fill this file system; when it is full, guests get ENOSPC',
      ),
    );
  else checks.push(ok('state directory', `${state.path}: ${free}`));
  const length = Buffer.byteLength(state.path);
  if (length > STATE_PATH_SHORT)
    checks.push(
      lacking(
        'socket paths',
        'warning',
        `the state directory's path has ${length} bytes`,
        `a Unix socket's path holds 107: names of machines can have ${Math.max(0, 40 - (length - STATE_PATH_SHORT))} characters instead of 40. Choose a shorter directory`,
      ),
    );
  else checks.push(ok('socket paths', 'short enough for all names'));
  return checks;
}

export function judge(facts: Facts): Doctor {
  const { programs } = facts;
  return {
    checks: [
      node(facts),
      rights(facts),
      ...stateDirectory(facts),
      tun(facts),
      kvm(facts),
      qemu(facts),
      program(
        'qemu-img',
        programs.qemuImg,
        'warning',
        'volumes cannot be filled from disk images, imported or exported',
        'qemu-utils',
      ),
      program(
        'busybox',
        programs.busybox,
        'warning',
        'an image of kind tiny fetches it as a package when it is built',
        'busybox-static',
      ),
      program(
        'dpkg-deb',
        programs.dpkgDeb,
        'warning',
        'no image of kind tiny can be built; use images of your own',
        'dpkg',
      ),
      program(
        'apt-get',
        programs.aptGet,
        'warning',
        'no image of kind tiny can be built; use images of your own',
        'apt',
      ),
      program(
        'passt',
        programs.passt,
        'warning',
        'no way to the outside for networks of an ordinary user',
        'passt',
      ),
      ioUring(facts),
      offload(facts),
    ],
  };
}
