/**
 * The pool's edge to the kernel: what pool.ts and fileVolume.ts use of host/, and the few file operations that a pool
 * is built of, each durable when it returns.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fromNodeError } from '../../host/errno.js';
import {
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDWR,
  closeFile,
  fsync,
  openFile,
  renameDurably,
  syncDirectory,
} from '../../host/file.js';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
  fdatasync,
  pread,
  pwrite,
} from '../../host/raw.js';
import type { Later } from '../volume/later.js';
import type { SlowIo } from '../volume/slowIo.js';
import type { Waiter } from '../volume/volume.js';

export { voluntarySwitches } from '../../host/process.js';
export { HostError, fromNodeError } from '../../host/errno.js';
export {
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  closeFile,
  fallocate as allocateFile,
  flock,
  fstat,
  fsync,
  ftruncate,
  openFile,
  renameDurably,
  statfs,
  syncDirectory,
} from '../../host/file.js';
export { IoVector } from '../../host/iovec.js';
export { addressOf, mapAnonymous, type Mapping } from '../../host/memory.js';
export { isCached } from '../../host/sendFile.js';
export {
  RWF_NOWAIT,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  fallocate,
  fdatasync,
  isUnsupported,
  lseek,
  pread,
  preadv2,
  pwrite,
} from '../../host/raw.js';

/** Of fallocate(2): the range becomes a hole, or zeroes that have their space; the file stays as long as it is. */
export const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
export const ZERO_RANGE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

export const MODE_DIRECTORY = 0o700;
export const MODE_FILE = 0o600;
/** A file being written that will replace another; one left over is removed by the next write. */
export const TEMPORARY = '.new';
const SMALL_LIMIT_BYTES = 65_536;

/**
 * With its parents, durably. Step by step: mkdir's own `recursive` never returns where a parent exists and still
 * takes no directories (as /proc).
 */
export function makeDirectory(directory: string): void {
  if (fs.existsSync(directory)) return;
  const parent = path.dirname(directory);
  if (parent !== directory) makeDirectory(parent);
  try {
    fs.mkdirSync(directory, { mode: MODE_DIRECTORY });
  } catch (error) {
    throw fromNodeError(error, directory);
  }
  syncDirectory(parent);
}

/** Whole or not at all, also after a power cut. */
export function replaceFile(file: string, text: string): void {
  const temporary = file + TEMPORARY;
  fs.rmSync(temporary, { force: true });
  const fd = openFile(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE_FILE);
  try {
    fs.writeFileSync(fd, text);
    fsync(fd);
  } finally {
    closeFile(fd);
  }
  renameDurably(temporary, file);
}

/** A file of ours that cannot be longer; one that is, is not what we wrote, and reads as empty. */
export function readSmall(file: string): string {
  if (fs.statSync(file).size > SMALL_LIMIT_BYTES) return '';
  return fs.readFileSync(file, 'utf8');
}

/** Of this boot of the kernel, 16 bytes. Where it cannot be told: one that no other process will have. */
export function bootId(): Uint8Array {
  try {
    const text = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
    const bytes = Buffer.from(text.trim().replaceAll('-', ''), 'hex');
    if (bytes.length === 16) return new Uint8Array(bytes);
  } catch {
    // As below.
  }
  return crypto.getRandomValues(new Uint8Array(16));
}

/** Where io_uring is not to be had: the calls themselves, answered a turn later. Everyone waits meanwhile. */
export class BlockingIo implements SlowIo {
  #later: Later;

  constructor(later: Later) {
    this.#later = later;
  }

  read(
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, pread(fd, address, length_bytes, offset_bytes));
  }
  write(
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, pwrite(fd, address, length_bytes, offset_bytes));
  }
  fdatasync(fd: number, waiter: Waiter, token: number): void {
    this.#later.answer(waiter, token, fdatasync(fd));
  }
  fallocate(
    fd: number,
    mode: number,
    offset_bytes: number,
    length_bytes: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, fallocate(fd, mode, offset_bytes, length_bytes));
  }
}
