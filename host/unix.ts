/**
 * Unix-domain sockets: listening with the right owner from the first moment, connecting, and passing fds.
 * All fds are non-blocking and close-on-exec.
 *
 * Why listenUnix goes in the order it does. A socket file takes its mode from the socket's own inode at
 * bind(2), lessened by the umask. So the mode is set on the unbound socket first (fchmod), and the file never
 * exists with more rights than asked for; the process's umask, which other threads share, is left alone.
 * The directory may belong to a guest's user, who could put a symbolic link in the file's place before it is
 * given away; so chown and chmod go through an O_PATH fd of what was just made, checked to be a socket of
 * ours, and never by name. listen(2) comes last: until then every connect is refused.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import {
  EADDRINUSE,
  EAGAIN,
  ECONNREFUSED,
  EEXIST,
  EINTR,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  EPERM,
} from './errno.js';
import { HostError, check, fromNodeError } from './errno.js';
import { O_NOFOLLOW, lstat, openFile } from './file.js';
import { bind, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import { MSGHDR_BYTES, setWord } from './iovec.js';
import * as raw from './raw.js';
import { AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET } from './socket.js';
import { bindAddress, connectAddress, failClosing, listen, socket, socketPair } from './socket.js';

export { accept } from './socket.js';

/** sizeof(sun_path) less the zero that ends it. */
export const UNIX_PATH_MAX_BYTES = 107;

const O_PATH = 0o10000000;
const AT_EMPTY_PATH = 0x1000;
const SCM_RIGHTS = 1;

const cFchmod = bind<(fd: number, mode: number) => number>('fchmod', 'int', ['int', 'uint']);
const cFchownat = bind<(fd: number, path: string, uid: number, gid: number, flags: number) => number>(
  'fchownat',
  'int',
  ['int', 'str', 'uint', 'uint', 'int'],
);

export type UnixType = 'stream' | 'seqpacket' | 'dgram';

const TYPES = { stream: SOCK_STREAM, seqpacket: SOCK_SEQPACKET, dgram: SOCK_DGRAM } as const;

export interface ListenUnixOptions {
  /** Exactly this, whatever the umask. */
  mode?: number;
  /** Who is given the socket file. Needs CAP_CHOWN unless it is ourselves. */
  owner?: { uid: number; gid: number };
  backlog?: number;
  type?: UnixType;
  /**
   * A socket file that no one serves is removed first. One that is served is refused with EADDRINUSE, and
   * anything that is no socket with EEXIST. Two processes replacing one path at the same moment may both
   * succeed, and the later one is found: who must not be doubled takes an flock as well.
   */
  replaceStale?: boolean;
}

/** struct sockaddr_un: family(u16), path, zero. */
function unixAddress(path: string, syscall: string): Uint8Array {
  const name = Buffer.from(path);
  if (name.length === 0 || name.includes(0)) throw new HostError(syscall, EINVAL, JSON.stringify(path));
  if (name.length > UNIX_PATH_MAX_BYTES)
    throw new HostError(
      syscall,
      ENAMETOOLONG,
      path,
      `a socket's path holds ${UNIX_PATH_MAX_BYTES} bytes and this has ${name.length}: use a shorter directory`,
    );
  const address = new Uint8Array(2 + name.length + 1);
  address[0] = AF_UNIX;
  address.set(name, 2);
  return address;
}

export function listenUnix(path: string, options: ListenUnixOptions = {}): number {
  const { mode = 0o600, owner, backlog = 128, type = 'stream', replaceStale = false } = options;
  const address = unixAddress(path, 'bind');
  if (replaceStale) removeStale(path, type);
  const fd = socket(AF_UNIX, TYPES[type]);
  let result = orErrno(cFchmod(fd, mode));
  if (result < 0) failClosing(fd, 'fchmod', -result, path);
  result = bindAddress(fd, address);
  if (result === -EADDRINUSE) failClosing(fd, 'bind', EADDRINUSE, path, 'the file exists already');
  if (result < 0) failClosing(fd, 'bind', -result, path);
  try {
    settle(path, mode, owner);
    if (type !== 'dgram') listen(fd, backlog, path);
  } catch (error) {
    raw.close(fd);
    fs.rmSync(path, { force: true });
    throw error;
  }
  return fd;
}

/** Mode and owner of the socket file just made, through an fd that cannot be pointed elsewhere. */
function settle(path: string, mode: number, owner: { uid: number; gid: number } | undefined): void {
  let fd = -1;
  try {
    fd = openFile(path, O_PATH | O_NOFOLLOW);
    const stats = fs.fstatSync(fd);
    if (!stats.isSocket() || stats.uid !== process.geteuid?.())
      throw new HostError('bind', EPERM, path, 'someone else replaced the socket while it was being made');
    if ((stats.mode & 0o777) !== mode) fs.chmodSync(`/proc/self/fd/${fd}`, mode);
    if (owner !== undefined)
      check(orErrno(cFchownat(fd, '', owner.uid, owner.gid, AT_EMPTY_PATH)), 'fchownat', path);
  } catch (error) {
    throw fromNodeError(error, path);
  } finally {
    if (fd >= 0) raw.close(fd);
  }
}

/** Whether someone listens there. The served process sees one connection that ends at once. */
export function isServed(path: string, type: UnixType = 'stream'): boolean {
  const fd = socket(AF_UNIX, TYPES[type]);
  const result = connectAddress(fd, unixAddress(path, 'connect'));
  raw.close(fd);
  if (result === -ECONNREFUSED || result === -ENOENT) return false;
  // EAGAIN: its queue of connections is full, so there is one.
  if (result >= 0 || result === -EAGAIN) return true;
  throw new HostError('connect', -result, path);
}

function removeStale(path: string, type: UnixType): void {
  const status = lstat(path);
  if (status === undefined) return;
  if (!status.isSocket)
    throw new HostError('bind', EEXIST, path, 'there is something else than a socket; move it away');
  if (isServed(path, type))
    throw new HostError('bind', EADDRINUSE, path, 'another process serves it; stop that one first');
  try {
    fs.unlinkSync(path);
  } catch (error) {
    const told = fromNodeError(error, path);
    if (told.errno !== ENOENT) throw told;
  }
}

/** Connected at once or not at all: EAGAIN says that the listener's queue is full. */
export function connectUnix(path: string, type: UnixType = 'stream'): number {
  const address = unixAddress(path, 'connect');
  const fd = socket(AF_UNIX, TYPES[type]);
  const result = connectAddress(fd, address);
  if (result === -ECONNREFUSED) failClosing(fd, 'connect', ECONNREFUSED, path, 'nobody serves it');
  if (result < 0) failClosing(fd, 'connect', -result, path);
  return fd;
}

/** Makes a datagram socket take from, and send to, that peer only. May be called again for another, or the same anew. */
export function connectDgram(fd: number, path: string): void {
  check(connectAddress(fd, unixAddress(path, 'connect')), 'connect', path);
}

/** Two ends of one connection. */
export function unixPair(type: UnixType = 'stream'): [number, number] {
  return socketPair(AF_UNIX, TYPES[type]);
}

/** A name for a socket in the directory that nobody else has, short enough to leave room for the directory. */
export function uniqueSocketPath(directory: string): string {
  return `${directory}/${randomBytes(4).toString('hex')}.sock`;
}

// ---------------------------------------------------------------------------------------------------------
// Passing fds: one message with one SCM_RIGHTS control message.
//
//   struct cmsghdr   0 len(u64)   8 level(i32)   12 type(i32)   16 fds(i32 each)   padded to 8 bytes

/** The kernel's SCM_MAX_FD. */
export const FDS_MAX_COUNT = 253;

/** Most that one sendFds or recvFds carries beside the fds. */
export const FD_MESSAGE_MAX_BYTES = 65_536;

const CMSG_HEADER_BYTES = 16;
const IOV_AT = MSGHDR_BYTES;
const CONTROL_AT = 80;
const CONTROL_BYTES = (CMSG_HEADER_BYTES + FDS_MAX_COUNT * 4 + 7) & ~7;
const PAYLOAD_AT = (CONTROL_AT + CONTROL_BYTES + 63) & ~63;

/** One for the thread; filled and used up within one call. */
const message = mapAnonymous(PAYLOAD_AT + FD_MESSAGE_MAX_BYTES);

function layMessage(payload_bytes: number, control_bytes: number): void {
  const { i32, address } = message;
  i32.fill(0, 0, CONTROL_AT >>> 2);
  setWord(i32, 16 >>> 2, address + IOV_AT);
  setWord(i32, 24 >>> 2, 1);
  setWord(i32, 32 >>> 2, control_bytes === 0 ? 0 : address + CONTROL_AT);
  setWord(i32, 40 >>> 2, control_bytes);
  setWord(i32, IOV_AT >>> 2, address + PAYLOAD_AT);
  setWord(i32, (IOV_AT >>> 2) + 2, payload_bytes);
}

/**
 * Sends bytes with copies of the fds; ours stay open. At least one byte, since a stream carries no fd without.
 * Returns the bytes sent (the fds travel with the first) or -EAGAIN.
 */
export function sendFds(socketFd: number, bytes: Uint8Array, fds: readonly number[]): number {
  if (bytes.length === 0 || bytes.length > FD_MESSAGE_MAX_BYTES || fds.length > FDS_MAX_COUNT)
    throw new HostError('sendmsg', EINVAL, `${bytes.length} bytes with ${fds.length} fds`);
  const control = fds.length === 0 ? 0 : CMSG_HEADER_BYTES + fds.length * 4;
  layMessage(bytes.length, control);
  message.bytes.set(bytes, PAYLOAD_AT);
  const at = CONTROL_AT >>> 2;
  setWord(message.i32, at, control);
  message.i32[at + 2] = SOL_SOCKET;
  message.i32[at + 3] = SCM_RIGHTS;
  for (const [index, fd] of fds.entries()) message.i32[at + 4 + index] = fd;
  const result = raw.sendmsg(socketFd, message.address, raw.MSG_NOSIGNAL);
  return result === -EAGAIN || result === -EINTR ? -EAGAIN : check(result, 'sendmsg', `fd ${socketFd}`);
}

export interface Received {
  /** Bytes put into the caller's array; 0 when the peer has gone, -EAGAIN when nothing was there. */
  length_bytes: number;
  /** Now ours to close. Close-on-exec. */
  fds: number[];
  /** The peer sent more fds than `maxFds`, or a longer message than fits: what was too much is closed and lost. */
  truncated: boolean;
}

/** The peer decides how many fds come: those beyond `maxFds` are closed here, and `truncated` says so. */
export function recvFds(socketFd: number, into: Uint8Array, maxFds: number): Received {
  if (into.length === 0 || into.length > FD_MESSAGE_MAX_BYTES || maxFds < 0 || maxFds > FDS_MAX_COUNT)
    throw new HostError('recvmsg', EINVAL, `${into.length} bytes with ${maxFds} fds`);
  // The kernel fills what room there is, which padding makes one fd more than asked for: hence the bound below.
  layMessage(into.length, maxFds === 0 ? 0 : (CMSG_HEADER_BYTES + maxFds * 4 + 7) & ~7);
  const result = raw.recvmsg(socketFd, message.address, raw.MSG_CMSG_CLOEXEC);
  if (result === -EAGAIN || result === -EINTR) return { length_bytes: -EAGAIN, fds: [], truncated: false };
  check(result, 'recvmsg', `fd ${socketFd}`);
  into.set(message.bytes.subarray(PAYLOAD_AT, PAYLOAD_AT + result));

  const { i32 } = message;
  const fds: number[] = [];
  let truncated = (i32[48 >>> 2]! & (raw.MSG_CTRUNC | raw.MSG_TRUNC)) !== 0;
  const end = CONTROL_AT + i32[40 >>> 2]!;
  for (let at = CONTROL_AT; at + CMSG_HEADER_BYTES <= end;) {
    const length = i32[at >>> 2]!;
    if (length < CMSG_HEADER_BYTES || at + length > end) break;
    if (i32[(at >>> 2) + 2] === SOL_SOCKET && i32[(at >>> 2) + 3] === SCM_RIGHTS)
      for (let fdAt = at + CMSG_HEADER_BYTES; fdAt + 4 <= at + length; fdAt += 4) {
        const fd = i32[fdAt >>> 2]!;
        if (fds.length < maxFds) fds.push(fd);
        else {
          raw.close(fd);
          truncated = true;
        }
      }
    at += (length + 7) & ~7;
  }
  return { length_bytes: result, fds, truncated };
}
