/**
 * Sending a file's pages to a socket without copying them to us: sendfile(2), and cachestat(2), which tells
 * whether it would have to wait for the disk. Raw calls as in raw.ts: numbers in, `-errno` out.
 *
 * What the receiver gets are the pages of the page cache themselves: bytes that someone writes to the file before
 * the receiver has taken them may be seen by it.
 *
 *   struct cachestat_range   0 off(u64)   8 len(u64)
 *   struct cachestat         0 nr_cache   8 nr_dirty   16 nr_writeback   24 nr_evicted   32 nr_recently_evicted
 */
import { ENOSYS } from './errno.js';
import { getWord, setWord } from './iovec.js';
import { bind, negativeErrno, syscall } from './libc.js';
import { PAGE_BYTES, mapAnonymous } from './memory.js';

/** Linux 6.5; the same on every architecture. */
const NR_CACHESTAT = 451;

const cSendfile = bind<(out: number, from: number, offset: number, length: number) => number>(
  'sendfile',
  'intptr_t',
  ['int', 'int', 'uintptr_t', 'size_t'],
);

/** One for the thread; filled and used up within one call. */
const scratch = mapAnonymous(64);
const RANGE_AT = 0;
const STAT_AT = 16;

/** Bytes sent (maybe fewer than asked for), -EAGAIN when the socket takes none now. 0 at the end of the file. */
export function sendFile(
  socketFd: number,
  fileFd: number,
  offset_bytes: number,
  length_bytes: number,
): number {
  setWord(scratch.i32, 0, offset_bytes);
  const n = cSendfile(socketFd, fileFd, scratch.address, length_bytes);
  return n < 0 ? negativeErrno() : n;
}

/**
 * 1 when every page of the range is in the page cache, 0 when not (a hole has none), or -errno: -ENOSYS before
 * Linux 6.5, -EOPNOTSUPP from some file systems. A page may leave the cache directly afterwards.
 */
export function isCached(fileFd: number, offset_bytes: number, length_bytes: number): number {
  setWord(scratch.i32, RANGE_AT >>> 2, offset_bytes);
  setWord(scratch.i32, (RANGE_AT + 8) >>> 2, length_bytes);
  const { address } = scratch;
  const result = syscall(NR_CACHESTAT, fileFd, address + RANGE_AT, address + STAT_AT, 0);
  if (result < 0) return result;
  const first = Math.floor(offset_bytes / PAGE_BYTES);
  const end = Math.ceil((offset_bytes + length_bytes) / PAGE_BYTES);
  return getWord(scratch.i32, STAT_AT >>> 2) >= end - first ? 1 : 0;
}

/** Whether this kernel has isCached at all. */
export function canTellCached(fileFd: number): boolean {
  return isCached(fileFd, 0, PAGE_BYTES) !== -ENOSYS;
}
