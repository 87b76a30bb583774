/**
 * What Unix and internet sockets share: making them, options, the outcome of a connect.
 * The numbers are those of asm-generic/socket.h, which x86-64 and arm64 use.
 */
import { EINTR, HostError, check } from './errno.js';
import { bind, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import * as raw from './raw.js';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_PEERCRED = 17;
export const SO_RCVTIMEO = 20;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;

type Address3 = (fd: number, address: number, length: number) => number;
type Option5 = (fd: number, level: number, name: number, value: number, length: number) => number;

const cSocket = bind<(domain: number, type: number, protocol: number) => number>('socket', 'int', [
  'int',
  'int',
  'int',
]);
const cSocketpair = bind<(domain: number, type: number, protocol: number, fds: number) => number>(
  'socketpair',
  'int',
  ['int', 'int', 'int', 'uintptr_t'],
);
const cBind = bind<Address3>('bind', 'int', ['int', 'uintptr_t', 'uint']);
const cConnect = bind<Address3>('connect', 'int', ['int', 'uintptr_t', 'uint']);
const cListen = bind<(fd: number, backlog: number) => number>('listen', 'int', ['int', 'int']);
const cSetsockopt = bind<Option5>('setsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uint']);
const cGetsockopt = bind<Option5>('getsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uintptr_t']);
const cGetsockname = bind<Address3>('getsockname', 'int', ['int', 'uintptr_t', 'uintptr_t']);
const cGetpeername = bind<Address3>('getpeername', 'int', ['int', 'uintptr_t', 'uintptr_t']);

/** sizeof(struct sockaddr_storage). */
export const ADDRESS_MAX_BYTES = 128;

/**
 * Room for one argument of the calls below, one for the thread. Bytes 0..127 an address or an option's value,
 * 128..131 its length. Used up within each function here.
 */
const scratch = mapAnonymous(256);
const LENGTH_AT = ADDRESS_MAX_BYTES;

export function socket(domain: number, type: number, protocol = 0, blocking = false): number {
  const flags = SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK);
  return check(orErrno(cSocket(domain, type | flags, protocol)), 'socket');
}

export function socketPair(domain: number, type: number): [number, number] {
  const flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
  check(orErrno(cSocketpair(domain, type | flags, 0, scratch.address)), 'socketpair');
  return [scratch.i32[0]!, scratch.i32[1]!];
}

function placeAddress(address: Uint8Array): void {
  scratch.bytes.set(address, 0);
}

/** 0 or -errno. */
export function bindAddress(fd: number, address: Uint8Array): number {
  placeAddress(address);
  return orErrno(cBind(fd, scratch.address, address.length));
}

/** 0, -EINPROGRESS (TCP: wait for EPOLLOUT, then ask connectResult) or another -errno. */
export function connectAddress(fd: number, address: Uint8Array): number {
  placeAddress(address);
  return orErrno(cConnect(fd, scratch.address, address.length));
}

export function listen(fd: number, backlog: number, what: string): void {
  check(orErrno(cListen(fd, backlog)), 'listen', what);
}

function addressBy(call: Address3, syscall: string, fd: number): Uint8Array {
  scratch.i32[LENGTH_AT >>> 2] = ADDRESS_MAX_BYTES;
  check(orErrno(call(fd, scratch.address, scratch.address + LENGTH_AT)), syscall, `fd ${fd}`);
  const length = Math.min(scratch.i32[LENGTH_AT >>> 2]!, ADDRESS_MAX_BYTES);
  return scratch.bytes.slice(0, length);
}

export function localAddressBytes(fd: number): Uint8Array {
  return addressBy(cGetsockname, 'getsockname', fd);
}

export function peerAddressBytes(fd: number): Uint8Array {
  return addressBy(cGetpeername, 'getpeername', fd);
}

/** 0 or -errno. */
export function setOption(fd: number, level: number, name: number, value: number): number {
  scratch.i32[0] = value;
  return orErrno(cSetsockopt(fd, level, name, scratch.address, 4));
}

/** For options whose value is not an int, such as struct timeval. */
export function setOptionBytes(fd: number, level: number, name: number, value: Uint8Array): number {
  scratch.bytes.set(value, 0);
  return orErrno(cSetsockopt(fd, level, name, scratch.address, value.length));
}

export function getOptionBytes(fd: number, level: number, name: number, length_bytes: number): Uint8Array {
  scratch.i32[LENGTH_AT >>> 2] = length_bytes;
  const result = orErrno(cGetsockopt(fd, level, name, scratch.address, scratch.address + LENGTH_AT));
  check(result, 'getsockopt', `fd ${fd}`);
  return scratch.bytes.slice(0, Math.min(scratch.i32[LENGTH_AT >>> 2]!, length_bytes));
}

export function getOption(fd: number, level: number, name: number): number {
  const value = getOptionBytes(fd, level, name, 4);
  return new DataView(value.buffer).getInt32(0, true);
}

/** How a connect that was in progress ended: 0, or -errno. Clears it. */
export function connectResult(fd: number): number {
  const errno = getOption(fd, SOL_SOCKET, SO_ERROR);
  return errno === 0 ? 0 : -errno;
}

/**
 * Asks for socket buffers of these sizes. Beyond net.core.{w,r}mem_max only root is given what it asks for;
 * others get the limit, which is no error: buffers are a matter of speed.
 */
export function setSockBuf(fd: number, sizes: { send_bytes?: number; receive_bytes?: number }): void {
  if (sizes.send_bytes !== undefined && setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, sizes.send_bytes) < 0)
    check(setOption(fd, SOL_SOCKET, SO_SNDBUF, sizes.send_bytes), 'setsockopt', `SO_SNDBUF of fd ${fd}`);
  if (sizes.receive_bytes !== undefined && setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, sizes.receive_bytes) < 0)
    check(setOption(fd, SOL_SOCKET, SO_RCVBUF, sizes.receive_bytes), 'setsockopt', `SO_RCVBUF of fd ${fd}`);
}

/** Throws after closing the fd: for the steps between socket() and handing the fd out. */
export function failClosing(fd: number, syscall: string, errno: number, what: string, advice = ''): never {
  raw.close(fd);
  throw new HostError(syscall, errno, what, advice);
}

/** The next connection: a non-blocking, close-on-exec fd, or -errno (-EAGAIN: none). Never throws. */
export function accept(fd: number): number {
  for (;;) {
    const result = raw.accept(fd);
    if (result !== -EINTR) return result;
  }
}
