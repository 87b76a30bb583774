/**
 * eventfd(2): how one thread wakes another that sleeps in epoll. The fd is a number that may travel in a
 * message; the other side makes its own EventFd from it with `EventFd.of`.
 */
import { EAGAIN, EINTR, check } from './errno.js';
import { bind, negativeErrno, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import { close, read } from './raw.js';

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;

const cEventfd = bind<(initial: number, flags: number) => number>('eventfd', 'int', ['uint', 'int']);
const cEventfdWrite = bind<(fd: number, value: number) => number>('eventfd_write', 'int', [
  'int',
  'uint64_t',
]);

/** One for the thread: its content is used up before anything else can run. */
const count = mapAnonymous(8);

/** For hot paths: adds one. 0, or -errno; -EAGAIN says that the counter is full, so whoever waits is awake. */
export function signalEventFd(fd: number): number {
  return cEventfdWrite(fd, 1) < 0 ? negativeErrno() : 0;
}

/** What a waker needs; `double/poller.ts` has one without a kernel. */
export interface Signal {
  readonly fd: number;
  signal(): void;
  /** How often it was signalled since the last drain; 0 when it was not. */
  drain(): number;
  close(): void;
}

export class EventFd implements Signal {
  readonly fd: number;
  readonly #owned: boolean;
  #closed = false;

  private constructor(fd: number, owned: boolean) {
    this.fd = fd;
    this.#owned = owned;
  }

  static create(): EventFd {
    return new EventFd(check(orErrno(cEventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), 'eventfd'), true);
  }

  /** One that another thread of this process made and closes. */
  static of(fd: number): EventFd {
    return new EventFd(fd, false);
  }

  /** Never blocks, never allocates. EAGAIN means that the counter is full, so the waiter is awake anyway. */
  signal(): void {
    const result = orErrno(cEventfdWrite(this.fd, 1));
    if (result < 0 && result !== -EAGAIN) check(result, 'eventfd_write', `fd ${this.fd}`);
  }

  drain(): number {
    const result = read(this.fd, count.address, 8);
    if (result === -EAGAIN || result === -EINTR) return 0;
    check(result, 'read', `eventfd ${this.fd}`);
    return (count.i32[1]! >>> 0) * 2 ** 32 + (count.i32[0]! >>> 0);
  }

  close(): void {
    if (this.#closed || !this.#owned) return;
    this.#closed = true;
    close(this.fd);
  }
}
