/**
 * Network namespaces, by thread: setns(2) and unshare(2) concern the calling thread only, so a synchronous
 * function run here is the only code that is inside. What it opens (a tap, a socket) stays in that namespace
 * for life. Node's pool threads (node:fs, node:dns) and other workers are not moved.
 *
 * A namespace lives as long as something refers to it: a process in it, a bind mount, or an fd as made here.
 * So tests get one that needs no clean-up.
 */
import { HostError, check } from './errno.js';
import { O_RDONLY, openFile } from './file.js';
import { bind, orErrno } from './libc.js';
import { close } from './raw.js';

const CLONE_NEWNET = 0x40000000;

const cSetns = bind<(fd: number, type: number) => number>('setns', 'int', ['int', 'int']);
const cUnshare = bind<(flags: number) => number>('unshare', 'int', ['int']);

// Node's own process.abort() is refused in workers.
const cAbort = bind<() => void>('abort', 'void', []);

const ADVICE = 'entering a network namespace needs CAP_SYS_ADMIN';

/** An fd of a new, empty namespace (its lo is down). Close it, and the namespace ends with what was in it. */
export function createNetns(): number {
  const home = openFile('/proc/thread-self/ns/net', O_RDONLY);
  try {
    check(orErrno(cUnshare(CLONE_NEWNET)), 'unshare', 'network', ADVICE);
    try {
      return openFile('/proc/thread-self/ns/net', O_RDONLY);
    } finally {
      goHome(home);
    }
  } finally {
    close(home);
  }
}

/**
 * Runs a synchronous function inside the namespace of an fd, or of a path such as /run/netns/NAME or
 * /proc/PID/ns/net, and returns to where the thread was, whatever the function does.
 */
export function inNetns<T>(namespace: string | number, run: () => T extends Promise<unknown> ? never : T): T {
  const home = openFile('/proc/thread-self/ns/net', O_RDONLY);
  try {
    const fd = typeof namespace === 'number' ? namespace : openFile(namespace, O_RDONLY);
    try {
      check(orErrno(cSetns(fd, CLONE_NEWNET)), 'setns', String(namespace), ADVICE);
    } finally {
      if (fd !== namespace) close(fd);
    }
    try {
      return run();
    } finally {
      goHome(home);
    }
  } finally {
    close(home);
  }
}

/** A thread that cannot return would act on the wrong network from now on: that ends the process. */
function goHome(home: number): void {
  const result = orErrno(cSetns(home, CLONE_NEWNET));
  if (result === 0) return;
  process.stderr.write(`${new HostError('setns', -result, 'back to our own network namespace').message}\n`);
  cAbort();
}
