/**
 * Files: opening, space, durability, locks. What a data path calls per request is in raw.ts; this is the rest,
 * and throws.
 *
 * Files are opened and closed through libc, never through node:fs: in a worker, Node notes the fds that
 * fs.openSync gave out there and closes them when the worker ends, whoever has that number by then. For the same
 * reason do not mix: what openFile opened is closed by closeFile or raw.close. (Flags still come from node:fs,
 * which knows those of the architecture: O_DIRECT and O_DIRECTORY have other values on arm64 than on x86-64.)
 */
import * as fs from 'node:fs';
import { EAGAIN, EINTR, EINVAL, ENXIO, EOPNOTSUPP, HostError, check, fromNodeError } from './errno.js';
import { bind, cString, open, orErrno } from './libc.js';
import * as raw from './raw.js';

export const {
  O_RDONLY,
  O_WRONLY,
  O_RDWR,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_APPEND,
  O_DSYNC,
  O_DIRECT,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NOATIME,
  O_NONBLOCK,
} = fs.constants;

/** asm-generic/fcntl.h; node:fs does not name it. */
const O_CLOEXEC = 0o2000000;

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

const cFlock = bind<(fd: number, operation: number) => number>('flock', 'int', ['int', 'int']);

/** What fstat tells that we use. Sizes below 2^53. */
export interface FileStatus {
  size_bytes: number;
  /** What the file system gave to it: less than the size when it has holes. */
  allocated_bytes: number;
  mode: number;
  uid: number;
  gid: number;
  device: number;
  inode: number;
  modified_ms: number;
  isFile: boolean;
  isDirectory: boolean;
  isSocket: boolean;
  isBlockDevice: boolean;
}

/** A close-on-exec fd. With O_DIRECT: EINVAL from a file system that has no such thing (tmpfs before 6.6). */
export function openFile(path: string, flags: number, mode = 0o600): number {
  for (;;) {
    const result = open(cString(path, 'open'), flags | O_CLOEXEC, mode);
    if (result !== -EINTR) return check(result, 'open', path);
  }
}

export function closeFile(fd: number): void {
  check(raw.close(fd), 'close', `fd ${fd}`);
}

function toStatus(stats: fs.Stats): FileStatus {
  return {
    size_bytes: stats.size,
    // st_blocks counts 512-byte units whatever the block size is.
    allocated_bytes: stats.blocks * 512,
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    gid: stats.gid,
    device: stats.dev,
    inode: stats.ino,
    modified_ms: stats.mtimeMs,
    isFile: stats.isFile(),
    isDirectory: stats.isDirectory(),
    isSocket: stats.isSocket(),
    isBlockDevice: stats.isBlockDevice(),
  };
}

export function fstat(fd: number): FileStatus {
  try {
    return toStatus(fs.fstatSync(fd));
  } catch (error) {
    throw fromNodeError(error, `fd ${fd}`);
  }
}

/** Of the name itself, not of what a symbolic link points to; undefined when there is nothing. */
export function lstat(path: string): FileStatus | undefined {
  try {
    const stats = fs.lstatSync(path, { throwIfNoEntry: false });
    return stats === undefined ? undefined : toStatus(stats);
  } catch (error) {
    throw fromNodeError(error, path);
  }
}

/** Reserves blocks, so that a later write into the range cannot meet ENOSPC. `keepSize` leaves the length. */
export function fallocate(fd: number, offset_bytes: number, length_bytes: number, keepSize = false): void {
  const mode = keepSize ? raw.FALLOC_FL_KEEP_SIZE : 0;
  check(
    raw.fallocate(fd, mode, offset_bytes, length_bytes),
    'fallocate',
    rangeOf(fd, offset_bytes, length_bytes),
  );
}

/** Gives the range's blocks back; it reads as zeros. False when the file system cannot. */
export function punchHole(fd: number, offset_bytes: number, length_bytes: number): boolean {
  const mode = raw.FALLOC_FL_PUNCH_HOLE | raw.FALLOC_FL_KEEP_SIZE;
  return supported(raw.fallocate(fd, mode, offset_bytes, length_bytes), fd, offset_bytes, length_bytes);
}

/** Zeros the range and keeps its blocks reserved. False when the file system cannot (tmpfs). */
export function zeroRange(fd: number, offset_bytes: number, length_bytes: number): boolean {
  const mode = raw.FALLOC_FL_ZERO_RANGE | raw.FALLOC_FL_KEEP_SIZE;
  return supported(raw.fallocate(fd, mode, offset_bytes, length_bytes), fd, offset_bytes, length_bytes);
}

function rangeOf(fd: number, offset_bytes: number, length_bytes: number): string {
  return `fd ${fd} at ${offset_bytes}, ${length_bytes} bytes`;
}

function supported(result: number, fd: number, offset_bytes: number, length_bytes: number): boolean {
  if (raw.isUnsupported(result)) return false;
  check(result, 'fallocate', rangeOf(fd, offset_bytes, length_bytes));
  return true;
}

export function ftruncate(fd: number, length_bytes: number): void {
  check(raw.ftruncate(fd, length_bytes), 'ftruncate', `fd ${fd} to ${length_bytes} bytes`);
}

/** After an error here the pages may be marked clean though they were lost: do not retry, give up the file. */
export function fsync(fd: number): void {
  check(raw.fsync(fd), 'fsync', `fd ${fd}`);
}

export function fdatasync(fd: number): void {
  check(raw.fdatasync(fd), 'fdatasync', `fd ${fd}`);
}

/** Makes names made, renamed or removed in the directory durable. */
export function syncDirectory(path: string): void {
  const fd = openFile(path, O_RDONLY | O_DIRECTORY);
  try {
    const result = raw.fsync(fd);
    // Some file systems (FUSE) have nothing to sync in a directory and say so.
    if (result !== -EINVAL) check(result, 'fsync', path);
  } finally {
    raw.close(fd);
  }
}

/** rename(2), durable when it returns: replaces `to` atomically. Both in one directory or both synced. */
export function renameDurably(from: string, to: string): void {
  try {
    fs.renameSync(from, to);
  } catch (error) {
    throw fromNodeError(error, `${from} to ${to}`);
  }
  const [directoryFrom, directoryTo] = [directoryOf(from), directoryOf(to)];
  syncDirectory(directoryTo);
  if (directoryFrom !== directoryTo) syncDirectory(directoryFrom);
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '.' : slash === 0 ? '/' : path.slice(0, slash);
}

/** First byte of data at or after the offset; -1 when only a hole follows, or the end. */
export function seekData(fd: number, offset_bytes: number): number {
  return seek(fd, offset_bytes, raw.SEEK_DATA);
}

/** First hole at or after the offset; the end of the file counts as one. -1 when the offset is at or beyond it. */
export function seekHole(fd: number, offset_bytes: number): number {
  return seek(fd, offset_bytes, raw.SEEK_HOLE);
}

function seek(fd: number, offset_bytes: number, whence: number): number {
  const result = raw.lseek(fd, offset_bytes, whence);
  if (result === -ENXIO) return -1;
  return check(result, 'lseek', `fd ${fd} from ${offset_bytes}`);
}

/**
 * Takes the whole-file lock without waiting. Held by the open file, until the last duplicate of the fd is
 * closed; the kernel drops it when its process dies. Throws EAGAIN and names who holds it.
 */
export function flock(fd: number, exclusive: boolean, path = `fd ${fd}`): void {
  for (;;) {
    const result = orErrno(cFlock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB));
    if (result === -EINTR) continue;
    if (result === -EAGAIN) throw new HostError('flock', EAGAIN, path, `held by ${lockHolder(fd)}`);
    check(result, 'flock', path);
    return;
  }
}

export function unlock(fd: number): void {
  check(orErrno(cFlock(fd, LOCK_UN)), 'flock', `fd ${fd}`);
}

/** In words; from /proc/locks, which lists `1: FLOCK ADVISORY WRITE pid major:minor:inode 0 EOF`. */
function lockHolder(fd: number): string {
  try {
    const { inode } = fstat(fd);
    for (const line of fs.readFileSync('/proc/locks', 'utf8').split('\n')) {
      const [, kind, , , pid, file] = line.trim().split(/\s+/);
      if (kind !== 'FLOCK' || file?.split(':')[2] !== String(inode)) continue;
      const name = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, 3).join(' ').trim();
      return `process ${pid}${name === '' ? '' : ` (${name})`}`;
    }
  } catch {
    // The holder ended meanwhile, or /proc is not ours to read: the refusal itself still stands.
  }
  return 'another process';
}

export interface FileSystemStatus {
  capacity_bytes: number;
  /** For us: root may use the reserve as well. */
  free_bytes: number;
  free_files: number;
  /** Magic number of statfs(2). */
  type: number;
}

export function statfs(path: string): FileSystemStatus {
  try {
    const { blocks, bfree, bavail, bsize, ffree, type } = fs.statfsSync(path);
    const usable = process.getuid?.() === 0 ? bfree : bavail;
    return { capacity_bytes: blocks * bsize, free_bytes: usable * bsize, free_files: ffree, type };
  } catch (error) {
    throw fromNodeError(error, path);
  }
}

/** True when reads and writes may bypass the page cache there (O_DIRECT is accepted at open). */
export function directIoWorks(path: string): boolean {
  try {
    raw.close(openFile(path, O_RDONLY | O_DIRECT));
    return true;
  } catch (error) {
    if (error instanceof HostError && (error.errno === EINVAL || error.errno === EOPNOTSUPP)) return false;
    throw error;
  }
}
