/**
 * Who a process is: its own limits, the peer of a socket, and whether a pid still means the process it meant.
 */
import * as fs from 'node:fs';
import { EPERM, ESRCH, check } from './errno.js';
import { bind, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import { SOL_SOCKET, SO_PEERCRED, getOptionBytes } from './socket.js';

const PR_SET_PDEATHSIG = 1;
const PR_SET_DUMPABLE = 4;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_GET_NO_NEW_PRIVS = 39;
const PR_SET_NAME = 15;

// C declares prctl variadic with unsigned long arguments; the kernel checks that the unused ones are zero.
const cPrctl = bind<(option: number, a: number, b: number, c: number, d: number) => number>('prctl', 'int', [
  'int',
  'ulong',
  'ulong',
  'ulong',
  'ulong',
]);
const cPrctlName = bind<(option: number, name: string) => number>('prctl', 'int', ['int', 'str']);
/** From getrusage(2): of the calling thread; struct rusage, whose ru_nvcsw is its fifteenth word. */
const RUSAGE_THREAD = 1;
const RUSAGE_BYTES = 144;
const NVCSW_I32 = 32;
const cGetrusage = bind<(who: number, usage: number) => number>('getrusage', 'int', ['int', 'uintptr_t']);
const usage = mapAnonymous(RUSAGE_BYTES);
const cKill = bind<(pid: number, signal: number) => number>('kill', 'int', ['int', 'int']);

export interface Credentials {
  pid: number;
  uid: number;
  gid: number;
}

/** Of who connected (or, on the connecting side, who called listen) to a Unix socket. */
export function peerCredentials(fd: number): Credentials {
  const view = new DataView(getOptionBytes(fd, SOL_SOCKET, SO_PEERCRED, 12).buffer);
  return { pid: view.getInt32(0, true), uid: view.getUint32(4, true), gid: view.getUint32(8, true) };
}

export function ownIds(): { uid: number; gid: number; euid: number; egid: number } {
  const { getuid, getgid, geteuid, getegid } = process;
  return { uid: getuid?.() ?? -1, gid: getgid?.() ?? -1, euid: geteuid?.() ?? -1, egid: getegid?.() ?? -1 };
}

/** From now on exec cannot gain rights (setuid programs run as us). Of this thread and what it starts. */
export function setNoNewPrivs(): void {
  check(orErrno(cPrctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)), 'prctl', 'PR_SET_NO_NEW_PRIVS');
}

export function getNoNewPrivs(): boolean {
  return check(orErrno(cPrctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)), 'prctl', 'PR_GET_NO_NEW_PRIVS') === 1;
}

/** This process is sent the signal when the thread that started it ends. 0 takes it back. */
export function setParentDeathSignal(signal: number): void {
  check(orErrno(cPrctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)), 'prctl', 'PR_SET_PDEATHSIG');
}

/** Without it no core dump and no ptrace by the same user: for processes that hold keys. */
export function setDumpable(dumpable: boolean): void {
  check(orErrno(cPrctl(PR_SET_DUMPABLE, dumpable ? 1 : 0, 0, 0, 0)), 'prctl', 'PR_SET_DUMPABLE');
}

/** How often this thread gave up the processor by itself, which is to say slept: below 2^32, and then again from 0. */
export function voluntarySwitches(): number {
  check(orErrno(cGetrusage(RUSAGE_THREAD, usage.address)), 'getrusage');
  return usage.i32[NVCSW_I32]! >>> 0;
}

/** How long this thread was ready to run and had to wait for a processor, since it began; null: this kernel does not say. */
export function waitedForProcessor_ms(): number | null {
  try {
    const waited_ns = Number(fs.readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[1]);
    return Number.isFinite(waited_ns) ? waited_ns / 1e6 : null;
  } catch {
    return null;
  }
}

/** What `top -H` and `ps -L` show for the calling thread; the kernel keeps 15 bytes. */
export function setThreadName(name: string): void {
  check(orErrno(cPrctlName(PR_SET_NAME, name)), 'prctl', 'PR_SET_NAME');
}

/** Whether some process has this pid. One that may not be signalled is alive, too. */
export function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  const result = orErrno(cKill(pid, 0));
  if (result === -ESRCH) return false;
  return result === 0 || result === -EPERM || check(result, 'kill', `pid ${pid}`) === 0;
}

/**
 * When the process started, in clock ticks since boot; undefined when there is none. Together with the pid it
 * names a process for good: pids are used again, and whoever keeps one in a file must keep this beside it.
 * A zombie, dead but not yet waited for, counts as gone.
 */
export function startTime_ticks(pid: number): number | undefined {
  let stat: string;
  try {
    stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command's name is in parentheses and may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, start] = [fields[0], fields[19]];
  return state === 'Z' || state === 'X' || start === undefined ? undefined : Number(start);
}
