/**
 * epoll(7) with 32-bit tokens instead of fds, and results in typed arrays that are made once.
 *
 * struct epoll_event is packed to 12 bytes on x86-64 and has its natural 16 everywhere else:
 *
 *   x86-64   0 events(u32)   4 data(u64)              arm64   0 events(u32)   8 data(u64)
 *
 * `wait` blocks the thread in the kernel. worker.terminate() and process.exit() cannot interrupt it: whoever
 * runs such a loop gives it an EventFd to be stopped by. A signal ends it early with count 0.
 */
import { EINTR, EINVAL, HostError, check } from './errno.js';
import { architecture, bind, negativeErrno, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import type { Mapping } from './memory.js';
import { close } from './raw.js';

export const EPOLLIN = 0x001;
export const EPOLLPRI = 0x002;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
export const EPOLLEXCLUSIVE = 1 << 28;
export const EPOLLONESHOT = 1 << 30;
export const EPOLLET = 1 << 31;

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;

const EVENT_WORDS = architecture() === 'x64' ? 3 : 4;
const TOKEN_WORD = architecture() === 'x64' ? 1 : 2;

const cCreate = bind<(flags: number) => number>('epoll_create1', 'int', ['int']);
const cCtl = bind<(ep: number, op: number, fd: number, event: number) => number>('epoll_ctl', 'int', [
  'int',
  'int',
  'int',
  'uintptr_t',
]);
const cWait = bind<(ep: number, events: number, max: number, timeout_ms: number) => number>(
  'epoll_wait',
  'int',
  ['int', 'uintptr_t', 'int', 'int'],
);

/** What a loop needs of it; `double/poller.ts` has one that is wound by hand. */
export interface Poller {
  /** Of the last wait: `tokens[i]` is ready for `events[i]`. */
  readonly tokens: Int32Array;
  readonly events: Int32Array;
  add(fd: number, events: number, token: number): void;
  modify(fd: number, events: number, token: number): void;
  remove(fd: number): void;
  /** Entries filled in `tokens` and `events`. -1 waits for ever, 0 only looks. */
  wait(timeout_ms: number): number;
  close(): void;
}

/** More than this many ready fds are told by the next wait. */
export const EVENTS_MAX_COUNT = 4096;

export class Epoll implements Poller {
  readonly fd: number;
  readonly tokens: Int32Array;
  readonly events: Int32Array;
  readonly #capacity: number;
  readonly #memory: Mapping;
  readonly #i32: Int32Array;
  readonly #address: number;
  #closed = false;

  constructor(capacity = 256) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > EVENTS_MAX_COUNT)
      throw new HostError('epoll_create1', EINVAL, `capacity ${capacity}`, `1 to ${EVENTS_MAX_COUNT}`);
    this.fd = check(orErrno(cCreate(EPOLL_CLOEXEC)), 'epoll_create1');
    this.#capacity = capacity;
    this.tokens = new Int32Array(capacity);
    this.events = new Int32Array(capacity);
    // One element more: the argument of epoll_ctl lives behind the results.
    this.#memory = mapAnonymous((capacity + 1) * EVENT_WORDS * 4);
    this.#i32 = this.#memory.i32;
    this.#address = this.#memory.address;
  }

  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events, token);
  }

  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token);
  }

  /** Before the fd is closed: afterwards a duplicate of it elsewhere keeps it in the set, out of reach. */
  remove(fd: number): void {
    this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  #control(op: number, fd: number, events: number, token: number): void {
    if (this.#closed) throw new HostError('epoll_ctl', EINVAL, `fd ${fd}`, 'this Epoll was closed');
    const at = this.#capacity * EVENT_WORDS;
    this.#i32[at] = events;
    this.#i32[at + TOKEN_WORD] = token;
    this.#i32[at + TOKEN_WORD + 1] = 0;
    if (cCtl(this.fd, op, fd, this.#address + at * 4) < 0)
      throw new HostError('epoll_ctl', -negativeErrno(), `fd ${fd}`);
  }

  wait(timeout_ms: number): number {
    if (this.#closed) throw new HostError('epoll_wait', EINVAL, '', 'this Epoll was closed');
    const count = cWait(this.fd, this.#address, this.#capacity, timeout_ms);
    if (count < 0) {
      const errno = -negativeErrno();
      if (errno === EINTR) return 0;
      throw new HostError('epoll_wait', errno);
    }
    const i32 = this.#i32;
    for (let index = 0, at = 0; index < count; index++, at += EVENT_WORDS) {
      this.events[index] = i32[at]!;
      this.tokens[index] = i32[at + TOKEN_WORD]!;
    }
    return count;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.fd);
    this.#memory.unmap();
  }
}
