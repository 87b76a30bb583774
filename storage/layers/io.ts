/**
 * The file operations that layers are made of: all of them, so that a test that records them has seen everything that could
 * have reached the disk, and one that fails them has failed everything. kernelIo.ts is the body for the kernel.
 *
 * Results are bytes moved or 0, or -errno. What the SlowIo part takes is answered later.
 */
import type { SlowIo } from '../volume/slowIo.js';

export interface LayerIo extends SlowIo {
  /** Of this boot of the kernel: see the soft pages of map.ts. */
  readonly bootId: Uint8Array;
  /** Waits for the disk. Fewer bytes only where the file ends. */
  pread(fd: number, address: number, length_bytes: number, offset_bytes: number): number;
  /** What the page cache has: fewer bytes, or -EAGAIN, where it lacks some. */
  preadNoWait(fd: number, address: number, length_bytes: number, offset_bytes: number): number;
  /** All of it, or -errno. */
  pwrite(fd: number, address: number, length_bytes: number, offset_bytes: number): number;
  /** fdatasync, with the thread waiting. */
  syncNow(fd: number): number;
  /** As lseek(2). */
  seek(fd: number, offset_bytes: number, whence: number): number;
  /** 1: in the page cache; 0: not all of it; -errno: that cannot be told. */
  isCached(fd: number, offset_bytes: number, length_bytes: number): number;
}
