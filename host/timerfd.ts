/**
 * timerfd(2): a deadline that shows as a readable fd, for loops that sleep in epoll and need more than its
 * milliseconds, or that want the timer beside the other fds.
 *
 * The clock is CLOCK_MONOTONIC, of which `monotonicNow_ms()` tells the present: the clock of
 * process.hrtime(), not of performance.now(), which starts at zero in every thread.
 *
 *   struct itimerspec  32 bytes  0 interval seconds(i64)  8 interval nanoseconds(i64)  16 value s  24 value ns
 */
import { EAGAIN, EINTR, EINVAL, HostError, check } from './errno.js';
import { setWord } from './iovec.js';
import { bind, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import { close, read } from './raw.js';

const CLOCK_MONOTONIC = 1;
const TFD_NONBLOCK = 0x800;
const TFD_CLOEXEC = 0x80000;
const TFD_TIMER_ABSTIME = 1;

const cCreate = bind<(clock: number, flags: number) => number>('timerfd_create', 'int', ['int', 'int']);
const cSettime = bind<(fd: number, flags: number, value: number, old: number) => number>(
  'timerfd_settime',
  'int',
  ['int', 'int', 'uintptr_t', 'uintptr_t'],
);

/** itimerspec at 0, the count of expirations at 32. One for the thread. */
const scratch = mapAnonymous(64);
const COUNT_AT = 32;

const NS_PER_S = 1e9;
const NS_PER_MS = 1e6;

/** What performance.now() lacks to be the kernel's monotonic clock; constant for the thread. */
const origin_ms = Number(process.hrtime.bigint()) / NS_PER_MS - performance.now();

/** CLOCK_MONOTONIC in milliseconds, with a fraction. Allocates nothing. */
export function monotonicNow_ms(): number {
  return origin_ms + performance.now();
}

/** What a loop needs of it; `double/poller.ts` has one that is wound by hand. */
export interface Timer {
  readonly fd: number;
  /** Once, at this time of monotonicNow_ms(); at once when that has passed. Replaces what was armed. */
  armAt_ms(at_ms: number): void;
  armIn_ns(delay_ns: number): void;
  disarm(): void;
  /** Expirations since the last drain. */
  drain(): number;
  close(): void;
}

export class TimerFd implements Timer {
  readonly fd: number;
  #closed = false;

  constructor() {
    this.fd = check(orErrno(cCreate(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)), 'timerfd_create');
  }

  armAt_ms(at_ms: number): void {
    this.#set(TFD_TIMER_ABSTIME, Math.floor(at_ms / 1000), Math.floor((at_ms % 1000) * NS_PER_MS));
  }

  armIn_ns(delay_ns: number): void {
    this.#set(0, Math.floor(delay_ns / NS_PER_S), Math.floor(delay_ns % NS_PER_S));
  }

  disarm(): void {
    this.#settime(0, 0, 0);
  }

  #set(flags: number, seconds: number, nanoseconds: number): void {
    if (!Number.isFinite(seconds)) throw new HostError('timerfd_settime', EINVAL, `${seconds} s`);
    // Zero or less would disarm, or be refused; what is due already fires in a nanosecond.
    const due = seconds < 0 || (seconds === 0 && nanoseconds < 1);
    this.#settime(flags, due ? 0 : seconds, due ? 1 : nanoseconds);
  }

  #settime(flags: number, seconds: number, nanoseconds: number): void {
    const { i32 } = scratch;
    i32.fill(0, 0, 4);
    setWord(i32, 4, seconds);
    setWord(i32, 6, nanoseconds);
    check(orErrno(cSettime(this.fd, flags, scratch.address, 0)), 'timerfd_settime', `fd ${this.fd}`);
  }

  drain(): number {
    const result = read(this.fd, scratch.address + COUNT_AT, 8);
    if (result === -EAGAIN || result === -EINTR) return 0;
    check(result, 'read', `timerfd ${this.fd}`);
    return scratch.i32[COUNT_AT >>> 2]! >>> 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.fd);
  }
}
