/**
 * QEMU as a program of this machine: where it is, what it can do, how it is started and ended.
 *
 * It is spawned detached, in a session of its own, with its output in a file, so that it outlives weftd. Not by
 * -daemonize: that forks, which the sandbox's spawn=deny forbids. Rights are dropped by us before it starts,
 * not by -runas, which elevateprivileges=deny forbids.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { Arch } from '../arguments.js';
import { VmmError } from '../errors.js';
import { isAlive, parseStat, type ProcessIdentity, type ProcessStat } from '../identity.js';
import { isNewEnough, OLDEST_VERSION, parseMachineType, parseVersion, qemuArch } from './describe.js';
import type { Owner } from '../files/process.js';

const run = promisify(execFile);
const ASK_DEADLINE_ms = 20_000;

export interface Qemu {
  binary: string;
  version: string;
  arch: Arch;
  machineType: string;
}

/** Red Hat and its kin keep it out of PATH. */
const OTHER_PLACES = ['/usr/libexec/qemu-kvm'];

const known = new Map<string, Promise<Qemu>>();

/** The QEMU for guests of this machine's own kind. Asked once for each binary that is found. */
export async function findQemu(): Promise<Qemu> {
  const arch = qemuArch(process.arch);
  if (arch === undefined)
    throw new VmmError(
      'VMM_NO_QEMU',
      `weft knows no machine for guests on ${process.arch}, only x64 and arm64`,
    );
  const name = `qemu-system-${arch}`;
  const binary = findProgram(name) ?? OTHER_PLACES.find(isExecutable);
  if (binary === undefined) {
    const debian = arch === 'x86_64' ? 'qemu-system-x86' : 'qemu-system-arm';
    throw new VmmError('VMM_NO_QEMU', `${name} is not in PATH; on Debian: apt-get install ${debian}`);
  }
  const stat = fs.statSync(binary);
  const key = `${binary} ${stat.mtimeMs} ${stat.size}`;
  let asked = known.get(key);
  if (asked === undefined) {
    asked = describe(binary, arch);
    known.set(key, asked);
    // One failure is not for ever.
    asked.catch(() => known.delete(key));
  }
  return asked;
}

async function describe(binary: string, arch: Arch): Promise<Qemu> {
  const ask = async (args: string[]): Promise<string> => {
    try {
      return (await run(binary, args, { timeout: ASK_DEADLINE_ms, maxBuffer: 2 ** 20 })).stdout;
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      throw new VmmError('VMM_NO_QEMU', `${binary} does not run: ${words}`, { cause: error });
    }
  };
  const version = parseVersion(await ask(['--version']));
  if (version === undefined || !isNewEnough(version))
    throw new VmmError(
      'VMM_NO_QEMU',
      `${binary} is version ${version ?? 'unknown'}; ${OLDEST_VERSION} or later is needed`,
    );
  const machineType = parseMachineType(await ask(['-machine', 'help']), arch);
  if (machineType === undefined)
    throw new VmmError('VMM_NO_QEMU', `${binary} offers no ${arch === 'x86_64' ? 'q35' : 'virt'} machine`);
  return { binary, version, arch, machineType };
}

export function findProgram(name: string): string | undefined {
  const directories = (process.env['PATH'] ?? '/usr/bin:/bin').split(delimiter).filter(Boolean);
  return directories.map(directory => join(directory, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    fs.accessSync(path, fs.constants.X_OK);
    return fs.statSync(path).isFile();
  } catch {
    return false;
  }
}

export interface Spawned {
  child: ChildProcess;
  identity: ProcessIdentity;
}

/**
 * Start it. `group`: one more group that it needs (that of /dev/kvm); Node can set none beside the first, so
 * setpriv(1) does, which then becomes QEMU: pid and start time stay the same.
 */
export async function spawnQemu(
  binary: string,
  argv: readonly string[],
  options: { owner: Owner | null; group: number | null; logFd: number },
): Promise<Spawned> {
  const { owner, group, logFd } = options;
  let command = binary;
  let args = [...argv];
  let identityOptions = owner === null ? {} : { uid: owner.uid, gid: owner.gid };
  if (owner !== null && group !== null) {
    const setpriv = findProgram('setpriv');
    if (setpriv === undefined)
      throw new VmmError('VMM_ACCEL', 'setpriv (util-linux) is needed to give a guest the group of /dev/kvm');
    args = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, `--groups=${group}`, '--', command, ...args];
    command = setpriv;
    identityOptions = {};
  }
  const child = spawn(command, args, {
    ...identityOptions,
    cwd: '/',
    detached: true,
    stdio: ['ignore', logFd, logFd],
    // Nothing of weftd's environment is QEMU's business.
    env: { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' },
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', error =>
      reject(new VmmError('VMM_START_FAILED', `cannot start ${command}: ${error.message}`, { cause: error })),
    );
  });
  child.unref();
  const pid = child.pid!;
  return {
    child,
    identity: { pid, startTicks: processStat(pid)?.startTicks ?? '0', hostBootId: hostBootId() },
  };
}

export function processStat(pid: number): ProcessStat | undefined {
  try {
    return parseStat(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return undefined;
  }
}

let bootId: string | undefined;
export function hostBootId(): string {
  bootId ??= fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return bootId;
}

/** Whether this very process is still there. */
export function isRunning(identity: ProcessIdentity): boolean {
  if (identity.hostBootId !== hostBootId()) return false;
  const stat = processStat(identity.pid);
  return isAlive(stat) && stat?.startTicks === identity.startTicks;
}

/** False when it was not there any more. */
export function signal(identity: ProcessIdentity, name: NodeJS.Signals): boolean {
  if (!isRunning(identity)) return false;
  try {
    process.kill(identity.pid, name);
    return true;
  } catch {
    return false;
  }
}

/** Whose rights it has (its effective user); undefined when it is gone. */
export function processUser(pid: number): number | undefined {
  try {
    const match = /^Uid:\s+\d+\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'));
    return match === null ? undefined : Number(match[1]);
  } catch {
    return undefined;
  }
}

/**
 * A QEMU of ours whose pid was never written down, because weftd ended between starting it and writing: found
 * by its monitor's path in its arguments.
 */
export function findByArgument(text: string, uid: number): ProcessIdentity | undefined {
  for (const entry of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const pid = Number(entry);
    if (pid === process.pid || processUser(pid) !== uid) continue;
    let commandLine;
    try {
      commandLine = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      continue;
    }
    const [program = '', ...args] = commandLine.split('\0');
    if (!/qemu/.test(program) || !args.some(argument => argument.includes(text))) continue;
    const stat = processStat(pid);
    if (isAlive(stat)) return { pid, startTicks: stat!.startTicks, hostBootId: hostBootId() };
  }
  return undefined;
}
