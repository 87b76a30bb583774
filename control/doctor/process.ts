/** The facts that the doctor judges, looked up on this machine. Nothing is changed, nothing waits long. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import { release, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { judgeKvmDevice } from '../vmm/accel/choose.js';
import { PROBE_USER } from '../vmm/user.js';
import type { Facts, Program } from './checks.js';

const VERSION_DEADLINE_MS = 5_000;
/** Administrators' programs, often not in an ordinary user's PATH; and where some distributions keep QEMU. */
const OTHER_PLACES = ['/usr/sbin', '/sbin', '/usr/local/sbin', '/usr/libexec'];

function findProgram(name: string): string | undefined {
  const places = [...(process.env['PATH'] ?? '').split(delimiter), ...OTHER_PLACES];
  for (const place of places) {
    const path = join(place, name);
    try {
      fs.accessSync(path, fs.constants.X_OK);
      return path;
    } catch {
      // Not there.
    }
  }
  return undefined;
}

/** First line of what it says of itself; its path when it says nothing. */
async function lookUp(name: string, versionArgument: string): Promise<Program> {
  const path = findProgram(name);
  if (path === undefined) return { version: null };
  return new Promise(resolve => {
    execFile(path, [versionArgument], { timeout: VERSION_DEADLINE_MS }, (_error, stdout, stderr) => {
      const [line = ''] = `${stdout}\n${stderr}`.split('\n').filter(one => one.trim() !== '');
      resolve({ version: line === '' ? path : line.trim().slice(0, 200) });
    });
  });
}

function openable(path: string): 'ok' | 'missing' | 'denied' {
  try {
    fs.closeSync(fs.openSync(path, fs.constants.O_RDWR));
    return 'ok';
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    return code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO' ? 'missing' : 'denied';
  }
}

function capabilities(): bigint {
  try {
    const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'));
    return BigInt(`0x${match?.[1] ?? '0'}`);
  } catch {
    return 0n;
  }
}

/** As whom guests run: users of their own when we are root (control/vmm/README.md). */
function kvmDevice(): Facts['kvm'] {
  const stat = fs.statSync('/dev/kvm', { throwIfNoEntry: false }) ?? null;
  const user =
    process.getuid?.() === 0
      ? { uid: PROBE_USER, groups: [], mayHaveGroups: findProgram('setpriv') !== undefined }
      : { uid: process.getuid?.() ?? 0, groups: process.getgroups?.() ?? [], mayHaveGroups: false };
  const { usable, reason } = judgeKvmDevice(stat, user);
  return { usable, reason };
}

function kvmProbe(state: string): Facts['kvmProbe'] {
  try {
    const told = JSON.parse(fs.readFileSync(join(state, 'accel.json'), 'utf8')) as {
      works?: unknown;
      reason?: unknown;
    };
    if (typeof told.works !== 'boolean' || typeof told.reason !== 'string') return null;
    return { works: told.works, reason: told.reason };
  } catch {
    return null;
  }
}

/** The nearest directory that is there: the state directory itself may not be made yet. */
function existing(path: string): string {
  let here = path;
  while (here !== '/' && !fs.existsSync(here)) here = join(here, '..');
  return here;
}

function stateFacts(state: string): Facts['state'] {
  const here = existing(state);
  let writable = true;
  try {
    fs.accessSync(here, fs.constants.W_OK);
  } catch {
    writable = false;
  }
  const { bavail, bsize } = fs.statfsSync(here);
  return { path: state, writable, free_bytes: bavail * bsize, fileSystem: here };
}

export async function collectFacts(
  state: string,
  ioUring: () => { available: boolean; reason: string },
): Promise<Facts> {
  const qemuBinary = process.arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
  const [qemu, qemuImg, passt, busybox, dpkgDeb, aptGet] = await Promise.all([
    lookUp(qemuBinary, '--version'),
    lookUp('qemu-img', '--version'),
    lookUp('passt', '--version'),
    lookUp('busybox', '--help'),
    lookUp('dpkg-deb', '--version'),
    lookUp('apt-get', '--version'),
  ]);
  return {
    nodeVersion: process.version,
    platform: process.platform,
    arch: process.arch,
    uid: process.getuid?.() ?? -1,
    capabilities: capabilities(),
    tun: openable('/dev/net/tun'),
    kvm: kvmDevice(),
    kvmProbe: kvmProbe(state),
    ioUring: ioUring(),
    kernelVersion: release(),
    programs: { qemu, qemuImg, passt, busybox, dpkgDeb, aptGet },
    qemuBinary,
    state: stateFacts(state),
    memory_bytes: totalmem(),
  };
}
