/**
 * Raw calls, for hot paths: one kernel call each, numbers in, a number out.
 *
 * The result is what the kernel returns (>= 0) or `-errno` (`-EAGAIN`, …). Nothing here throws, allocates or
 * retries: a signal shows as `-EINTR`, a full socket as `-EAGAIN`, and the caller, who has a loop, decides.
 * An address is a JS number taken from a Mapping; that it is mapped for `length` bytes is the caller's word,
 * and a wrong one is `-EFAULT` at best. Calls block the thread when the fd does: use non-blocking fds.
 *
 * The measured cost of a call is in README.md.
 */
import { ENOSYS, EOPNOTSUPP } from './errno.js';
import { architecture, bind, bindIfPresent, negativeErrno } from './libc.js';

type Fd3 = (fd: number, address: number, length: number) => number;
type Fd4 = (fd: number, address: number, count: number, last: number) => number;
type Fd5 = (fd: number, address: number, count: number, offset: number, flags: number) => number;

const cRead = bind<Fd3>('read', 'intptr_t', ['int', 'uintptr_t', 'size_t']);
const cWrite = bind<Fd3>('write', 'intptr_t', ['int', 'uintptr_t', 'size_t']);
const cReadv = bind<Fd3>('readv', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cWritev = bind<Fd3>('writev', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cPread = bind<Fd4>('pread', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int64_t']);
const cPwrite = bind<Fd4>('pwrite', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int64_t']);
const cPreadv = bind<Fd4>('preadv', 'intptr_t', ['int', 'uintptr_t', 'int', 'int64_t']);
const cPwritev = bind<Fd4>('pwritev', 'intptr_t', ['int', 'uintptr_t', 'int', 'int64_t']);
const cRecv = bind<Fd4>('recv', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
const cSend = bind<Fd4>('send', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
const cRecvmsg = bind<Fd3>('recvmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cSendmsg = bind<Fd3>('sendmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cRecvmmsg = bind<Fd5>('recvmmsg', 'int', ['int', 'uintptr_t', 'uint', 'int', 'uintptr_t']);
const cSendmmsg = bind<Fd4>('sendmmsg', 'int', ['int', 'uintptr_t', 'uint', 'int']);
const cClose = bind<(fd: number) => number>('close', 'int', ['int']);
const cFsync = bind<(fd: number) => number>('fsync', 'int', ['int']);
const cFdatasync = bind<(fd: number) => number>('fdatasync', 'int', ['int']);
const cFtruncate = bind<(fd: number, length: number) => number>('ftruncate', 'int', ['int', 'int64_t']);
const cLseek = bind<Fd3>('lseek', 'int64_t', ['int', 'int64_t', 'int']);
const cFallocate = bind<(fd: number, mode: number, offset: number, length: number) => number>(
  'fallocate',
  'int',
  ['int', 'int', 'int64_t', 'int64_t'],
);
const cShutdown = bind<(fd: number, how: number) => number>('shutdown', 'int', ['int', 'int']);
const cAccept4 = bind<Fd4>('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);

/** musl got preadv2 and pwritev2 in 1.2.5; before, the kernel's own entry is taken: (fd, iov, count, low, high, flags). */
const NR_PREADV2 = { x64: 327, arm64: 286 }[architecture()];
const NR_PWRITEV2 = { x64: 328, arm64: 287 }[architecture()];
const PV2_ARGS: Parameters<typeof bind>[2] = ['int', 'uintptr_t', 'int', 'int64_t', 'int'];
const cPreadv2 = bindIfPresent<Fd5>('preadv2', 'intptr_t', PV2_ARGS) ?? positionedBySyscall(NR_PREADV2);
const cPwritev2 = bindIfPresent<Fd5>('pwritev2', 'intptr_t', PV2_ARGS) ?? positionedBySyscall(NR_PWRITEV2);

function positionedBySyscall(nr: number): Fd5 {
  type Syscall = (...words: [number, number, number, number, number, number, number]) => number;
  const words: Parameters<typeof bind>[2] = [
    'int64_t',
    'int64_t',
    'int64_t',
    'int64_t',
    'int64_t',
    'int64_t',
    'int64_t',
  ];
  const call = bind<Syscall>('syscall', 'intptr_t', words);
  return (fd, iov, count, offset, flags) => call(nr, fd, iov, count, offset, 0, flags);
}

// Flags of recv, send and their kin.
export const MSG_PEEK = 0x02;
export const MSG_CTRUNC = 0x08;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_ZEROCOPY = 0x4000000;
export const MSG_CMSG_CLOEXEC = 0x40000000;

// Flags of preadv2 and pwritev2.
export const RWF_HIPRI = 0x01;
export const RWF_DSYNC = 0x02;
export const RWF_SYNC = 0x04;
export const RWF_NOWAIT = 0x08;
export const RWF_APPEND = 0x10;

// Modes of fallocate.
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;

export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;

export function read(fd: number, address: number, length_bytes: number): number {
  const n = cRead(fd, address, length_bytes);
  return n < 0 ? negativeErrno() : n;
}

export function write(fd: number, address: number, length_bytes: number): number {
  const n = cWrite(fd, address, length_bytes);
  return n < 0 ? negativeErrno() : n;
}

export function readv(fd: number, iovAddress: number, count: number): number {
  const n = cReadv(fd, iovAddress, count);
  return n < 0 ? negativeErrno() : n;
}

export function writev(fd: number, iovAddress: number, count: number): number {
  const n = cWritev(fd, iovAddress, count);
  return n < 0 ? negativeErrno() : n;
}

export function pread(fd: number, address: number, length_bytes: number, offset_bytes: number): number {
  const n = cPread(fd, address, length_bytes, offset_bytes);
  return n < 0 ? negativeErrno() : n;
}

export function pwrite(fd: number, address: number, length_bytes: number, offset_bytes: number): number {
  const n = cPwrite(fd, address, length_bytes, offset_bytes);
  return n < 0 ? negativeErrno() : n;
}

export function preadv(fd: number, iovAddress: number, count: number, offset_bytes: number): number {
  const n = cPreadv(fd, iovAddress, count, offset_bytes);
  return n < 0 ? negativeErrno() : n;
}

export function pwritev(fd: number, iovAddress: number, count: number, offset_bytes: number): number {
  const n = cPwritev(fd, iovAddress, count, offset_bytes);
  return n < 0 ? negativeErrno() : n;
}

/** With RWF_NOWAIT: what the page cache holds, or -EAGAIN. tmpfs refuses that flag with -EOPNOTSUPP. */
export function preadv2(
  fd: number,
  iovAddress: number,
  count: number,
  offset_bytes: number,
  flags: number,
): number {
  const n = cPreadv2(fd, iovAddress, count, offset_bytes, flags);
  return n < 0 ? negativeErrno() : n;
}

/** With RWF_DSYNC: durable when it returns, for these bytes only. */
export function pwritev2(
  fd: number,
  iovAddress: number,
  count: number,
  offset_bytes: number,
  flags: number,
): number {
  const n = cPwritev2(fd, iovAddress, count, offset_bytes, flags);
  return n < 0 ? negativeErrno() : n;
}

export function recv(fd: number, address: number, length_bytes: number, flags: number): number {
  const n = cRecv(fd, address, length_bytes, flags);
  return n < 0 ? negativeErrno() : n;
}

/** Pass MSG_NOSIGNAL on a stream, or else be sure that SIGPIPE is ignored (Node ignores it). */
export function send(fd: number, address: number, length_bytes: number, flags: number): number {
  const n = cSend(fd, address, length_bytes, flags);
  return n < 0 ? negativeErrno() : n;
}

export function recvmsg(fd: number, msghdrAddress: number, flags: number): number {
  const n = cRecvmsg(fd, msghdrAddress, flags);
  return n < 0 ? negativeErrno() : n;
}

export function sendmsg(fd: number, msghdrAddress: number, flags: number): number {
  const n = cSendmsg(fd, msghdrAddress, flags);
  return n < 0 ? negativeErrno() : n;
}

/** Messages received, or -errno. Without a timeout: its semantics are broken (see recvmmsg(2), BUGS). */
export function recvmmsg(fd: number, mmsghdrAddress: number, count: number, flags: number): number {
  const n = cRecvmmsg(fd, mmsghdrAddress, count, flags, 0);
  return n < 0 ? negativeErrno() : n;
}

export function sendmmsg(fd: number, mmsghdrAddress: number, count: number, flags: number): number {
  const n = cSendmmsg(fd, mmsghdrAddress, count, flags);
  return n < 0 ? negativeErrno() : n;
}

/** The next connection as a non-blocking, close-on-exec fd; -EAGAIN when there is none. */
export function accept(fd: number): number {
  const n = cAccept4(fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return n < 0 ? negativeErrno() : n;
}

export function shutdown(fd: number, how: number): number {
  return cShutdown(fd, how) < 0 ? negativeErrno() : 0;
}

/** The fd is gone whatever this returns (Linux): never retry it. */
export function close(fd: number): number {
  return cClose(fd) < 0 ? negativeErrno() : 0;
}

export function fsync(fd: number): number {
  return cFsync(fd) < 0 ? negativeErrno() : 0;
}

export function fdatasync(fd: number): number {
  return cFdatasync(fd) < 0 ? negativeErrno() : 0;
}

export function ftruncate(fd: number, length_bytes: number): number {
  return cFtruncate(fd, length_bytes) < 0 ? negativeErrno() : 0;
}

export function fallocate(fd: number, mode: number, offset_bytes: number, length_bytes: number): number {
  return cFallocate(fd, mode, offset_bytes, length_bytes) < 0 ? negativeErrno() : 0;
}

export function lseek(fd: number, offset_bytes: number, whence: number): number {
  const n = cLseek(fd, offset_bytes, whence);
  return n < 0 ? negativeErrno() : n;
}

/** True when a result says "this kernel or file system has no such thing", as opposed to "it failed". */
export function isUnsupported(result: number): boolean {
  return result === -ENOSYS || result === -EOPNOTSUPP;
}
