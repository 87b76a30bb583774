/**
 * copy_file_range(2): the kernel copies between files, and shares the blocks where the file system can (btrfs, XFS), so that
 * nothing is copied and no space is used. Raw as in raw.ts: numbers in, `-errno` out.
 */
import { ENOSYS } from './errno.js';
import { setWord } from './iovec.js';
import { bindIfPresent, negativeErrno } from './libc.js';
import { mapAnonymous } from './memory.js';

const cCopyFileRange = bindIfPresent<
  (from: number, fromAt: number, to: number, toAt: number, length: number, flags: number) => number
>('copy_file_range', 'intptr_t', ['int', 'uintptr_t', 'int', 'uintptr_t', 'size_t', 'uint']);

/** One for the thread; filled and used up within one call. */
const scratch = mapAnonymous(64);

/** Bytes copied (maybe fewer than asked for; 0 at the end of the source), at the same offset in both. -EXDEV, -EOPNOTSUPP, -ENOSYS: not here. */
export function copyFileRange(
  fromFd: number,
  toFd: number,
  offset_bytes: number,
  length_bytes: number,
): number {
  if (cCopyFileRange === undefined) return -ENOSYS;
  setWord(scratch.i32, 0, offset_bytes);
  setWord(scratch.i32, 2, offset_bytes);
  const { address } = scratch;
  const n = cCopyFileRange(fromFd, address, toFd, address + 8, length_bytes, 0);
  return n < 0 ? negativeErrno() : n;
}
