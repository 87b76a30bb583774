/**
 * Poller, Signal and Timer without a kernel, wound by hand: for tests of loops, where a sleep must not sleep
 * and time passes when the test says so.
 *
 *   const kernel = new HandWoundPoller();
 *   const wake = kernel.signal(), timer = kernel.timer();       // have fds that add() takes
 *   loop = new Loop(kernel, wake, timer, …)                      // the code under test
 *   kernel.set(someFd, EPOLLIN); kernel.advance_ms(20); loop.turn(…)
 *
 * `wait` never blocks: it tells what is ready now, level-triggered, in the order in which fds were added, and
 * remembers in `waited_ms` how long the loop was willing to sleep. Edge-triggered and one-shot flags are
 * refused, since this would not behave as the kernel does.
 */
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT } from '../epoll.js';
import type { Poller } from '../epoll.js';
import { EBADF, EEXIST, EINVAL, ENOENT, HostError } from '../errno.js';
import type { Signal } from '../eventfd.js';
import type { Timer } from '../timerfd.js';

/** Far from any real fd, so that one that strays into a raw call is -EBADF. */
const FIRST_FD = 1_000_000;

interface Watch {
  events: number;
  token: number;
}

export class HandWoundPoller implements Poller {
  readonly tokens: Int32Array;
  readonly events: Int32Array;
  /** What each wait was called with, oldest first. */
  readonly waited_ms: number[] = [];
  now_ms = 0;
  readonly #watches = new Map<number, Watch>();
  readonly #levels = new Map<number, number>();
  readonly #timers = new Set<HandWoundTimer>();
  #nextFd = FIRST_FD;
  #closed = false;

  constructor(capacity = 256) {
    this.tokens = new Int32Array(capacity);
    this.events = new Int32Array(capacity);
  }

  /** An fd that is ready for nothing, until set. */
  fd(): number {
    const fd = this.#nextFd++;
    this.#levels.set(fd, 0);
    return fd;
  }

  /** What the fd is ready for from now on. */
  set(fd: number, events: number): void {
    if (!this.#levels.has(fd)) throw new HostError('set', EBADF, `fd ${fd}`);
    this.#levels.set(fd, events);
  }

  /** As close(2) of it: it leaves the set by itself. */
  closeFd(fd: number): void {
    this.#levels.delete(fd);
    this.#watches.delete(fd);
  }

  signal(): Signal {
    const fd = this.fd();
    let count = 0;
    return {
      fd,
      signal: () => {
        count++;
        this.set(fd, EPOLLIN);
      },
      drain: () => {
        const drained = count;
        count = 0;
        this.set(fd, 0);
        return drained;
      },
      close: () => this.closeFd(fd),
    };
  }

  timer(): Timer {
    const timer = new HandWoundTimer(this);
    this.#timers.add(timer);
    return timer;
  }

  forget(timer: HandWoundTimer): void {
    this.#timers.delete(timer);
    this.closeFd(timer.fd);
  }

  advance_ms(by_ms: number): void {
    this.now_ms += by_ms;
    for (const timer of this.#timers) timer.look();
  }

  add(fd: number, events: number, token: number): void {
    this.#check(fd, events);
    if (this.#watches.has(fd)) throw new HostError('epoll_ctl', EEXIST, `fd ${fd}`);
    this.#watches.set(fd, { events, token: token | 0 });
  }

  modify(fd: number, events: number, token: number): void {
    this.#check(fd, events);
    const watch = this.#watches.get(fd);
    if (watch === undefined) throw new HostError('epoll_ctl', ENOENT, `fd ${fd}`);
    watch.events = events;
    watch.token = token | 0;
  }

  remove(fd: number): void {
    this.#check(fd, 0);
    if (!this.#watches.delete(fd)) throw new HostError('epoll_ctl', ENOENT, `fd ${fd}`);
  }

  #check(fd: number, events: number): void {
    if (this.#closed) throw new HostError('epoll_ctl', EINVAL, `fd ${fd}`, 'this poller was closed');
    if (!this.#levels.has(fd)) throw new HostError('epoll_ctl', EBADF, `fd ${fd}`);
    if ((events & (EPOLLET | EPOLLONESHOT)) !== 0)
      throw new HostError('epoll_ctl', EINVAL, `fd ${fd}`, 'the hand-wound poller is level-triggered');
  }

  wait(timeout_ms: number): number {
    if (this.#closed) throw new HostError('epoll_wait', EINVAL, '', 'this poller was closed');
    this.waited_ms.push(timeout_ms);
    let count = 0;
    for (const [fd, { events, token }] of this.#watches) {
      // The kernel tells of errors and hang-ups unasked.
      const ready = (this.#levels.get(fd) ?? 0) & (events | EPOLLERR | EPOLLHUP);
      if (ready === 0 || count === this.tokens.length) continue;
      this.tokens[count] = token;
      this.events[count] = ready;
      count++;
    }
    return count;
  }

  close(): void {
    this.#closed = true;
  }
}

const NS_PER_MS = 1e6;

class HandWoundTimer implements Timer {
  readonly fd: number;
  readonly #poller: HandWoundPoller;
  #due_ms = Number.POSITIVE_INFINITY;
  #expirations = 0;

  constructor(poller: HandWoundPoller) {
    this.#poller = poller;
    this.fd = poller.fd();
  }

  armAt_ms(at_ms: number): void {
    this.#expirations = 0;
    this.#due_ms = at_ms;
    this.#poller.set(this.fd, 0);
    this.look();
  }

  armIn_ns(delay_ns: number): void {
    this.armAt_ms(this.#poller.now_ms + delay_ns / NS_PER_MS);
  }

  disarm(): void {
    this.armAt_ms(Number.POSITIVE_INFINITY);
  }

  /** Fires when its time has come. */
  look(): void {
    if (this.#due_ms > this.#poller.now_ms) return;
    this.#due_ms = Number.POSITIVE_INFINITY;
    this.#expirations = 1;
    this.#poller.set(this.fd, EPOLLIN);
  }

  drain(): number {
    const drained = this.#expirations;
    this.#expirations = 0;
    this.#poller.set(this.fd, 0);
    return drained;
  }

  close(): void {
    this.#poller.forget(this);
  }
}
