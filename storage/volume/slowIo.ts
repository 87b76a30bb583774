/**
 * File operations that may wait for a disk, as a volume on a file asks for them. Two bodies: io_uring, where
 * the thread goes on meanwhile (dataThread/ring.ts), and BlockingIo in pool/file.ts, where it stands still.
 */
import type { Waiter } from './volume.js';

export interface SlowIo {
  /** `completed(token, result)`: bytes moved (maybe fewer than asked for), or -errno. Never before the call returns. */
  read(
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    waiter: Waiter,
    token: number,
  ): void;
  write(
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    waiter: Waiter,
    token: number,
  ): void;
  /** `completed(token, 0 or -errno)`. */
  fdatasync(fd: number, waiter: Waiter, token: number): void;
  fallocate(
    fd: number,
    mode: number,
    offset_bytes: number,
    length_bytes: number,
    waiter: Waiter,
    token: number,
  ): void;
}
