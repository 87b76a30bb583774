/**
 * What another process gave us by SCM_RIGHTS: memory and event fds. The giver may be hostile, so each is looked at
 * before it is believed:
 *
 *   memory      A page beyond the end of its file kills whoever touches it (SIGBUS), and Node cannot catch that. So
 *               the file must be long enough, and sealed against shrinking (F_SEAL_SHRINK, as QEMU's memfd is) so
 *               that it stays so. Unsealed memory (hugetlbfs files, as DPDK's) is taken only from who is trusted.
 *               What a seal does not stop: a peer whose memory is huge pages may free some of them, and when
 *               another takes the last one, touching the hole is a SIGBUS too.
 *   event fds   Anything else could block the writer for ever. The flag that keeps an event fd from blocking
 *               is shared with the giver, who could take it back and fill the counter: a write would then wait. That
 *               remains; it takes a peer that has already broken out of its guest, and it shows (the engine stands).
 *
 * A file may be larger than one typed array can be, and offsets should stay small integers: so a region is seen through
 * windows. Window k begins at k GiB and reaches up to 2 GiB, so a stretch of up to 1 GiB lies whole in
 * the window in which it begins.
 */
import * as fs from 'node:fs';
import { EINVAL, HostError, check, fromNodeError } from './errno.js';
import { bind, negativeErrno, orErrno } from './libc.js';
import { viewAt } from './memory.js';
import type { Mapping } from './memory.js';

export const WINDOW_STEP_BYTES = 2 ** 30;
/** A page less than 2 GiB: offsets in it fit 31 bits. */
const WINDOW_MAX_BYTES = 2 ** 31 - 4096;
/** Longer than the memory of any guest that we start; the address space has 128 TiB. */
export const REGION_MAX_BYTES = 2 ** 42;

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_NORESERVE = 0x4000;

const F_GETFL = 3;
const F_SETFL = 4;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const O_NONBLOCK = 0x800;
export const F_SEAL_SHRINK = 0x02;
const MFD_CLOEXEC = 0x01;
const MFD_ALLOW_SEALING = 0x02;

const cMmap = bind<
  (addr: number, length: number, prot: number, flags: number, fd: number, offset: number) => number
>('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
const cMunmap = bind<(addr: number, length: number) => number>('munmap', 'int', ['uintptr_t', 'size_t']);
// Variadic in C; one fixed word is passed alike by the calling conventions of x86-64 and arm64 Linux.
const cFcntl = bind<(fd: number, command: number, argument: number) => number>('fcntl', 'int', [
  'int',
  'int',
  'intptr_t',
]);
const cMemfdCreate = bind<(name: string, flags: number) => number>('memfd_create', 'int', ['str', 'uint']);
const cMemcpy = bind<(to: number, from: number, length: number) => void>('memcpy', 'void', [
  'uintptr_t',
  'uintptr_t',
  'size_t',
]);

/** memcpy(3) between two mapped addresses. That both are mapped for the length is the caller's word. */
export function copyMemory(to: number, from: number, length_bytes: number): void {
  cMemcpy(to, from, length_bytes);
}

/** What is wrong with an fd as shared memory of so many bytes; undefined: nothing. */
export function memoryProblem(fd: number, end_bytes: number, mayShrink: boolean): string | undefined {
  if (!mayShrink) {
    const seals = cFcntl(fd, F_GET_SEALS, 0);
    if (seals < 0 || (seals & F_SEAL_SHRINK) === 0)
      return 'it is not sealed against shrinking (F_SEAL_SHRINK)';
  }
  let stats: fs.Stats;
  try {
    stats = fs.fstatSync(fd);
  } catch (error) {
    return `it cannot be looked at: ${String(error)}`;
  }
  if (!stats.isFile()) return 'it is no file';
  return stats.size < end_bytes ? `its file has ${stats.size} bytes of the ${end_bytes} named` : undefined;
}

export class ForeignMemory {
  readonly length_bytes: number;
  /** Window k: from k * WINDOW_STEP_BYTES. Emptied by unmap. */
  readonly windows: Mapping[] = [];
  #mappedAddress: number;
  readonly #mapped_bytes: number;

  /** The fd may be closed afterwards. Throws HostError. Ask `memoryProblem` first. */
  constructor(fd: number, offset_bytes: number, length_bytes: number) {
    if (
      !Number.isSafeInteger(offset_bytes) ||
      offset_bytes < 0 ||
      length_bytes <= 0 ||
      !(length_bytes <= REGION_MAX_BYTES)
    )
      throw new HostError('mmap', EINVAL, `${length_bytes} bytes at ${offset_bytes} of fd ${fd}`);
    let page_bytes: number;
    try {
      // Of a file on hugetlbfs: the size of its pages, which mmap and munmap want multiples of.
      page_bytes = Math.max(4096, fs.fstatSync(fd).blksize);
    } catch (error) {
      throw fromNodeError(error, `fd ${fd}`);
    }
    const from = Math.floor(offset_bytes / page_bytes) * page_bytes;
    const mapped_bytes = Math.ceil((offset_bytes + length_bytes - from) / page_bytes) * page_bytes;
    const flags = MAP_SHARED | MAP_NORESERVE;
    const address = cMmap(0, mapped_bytes, PROT_READ | PROT_WRITE, flags, fd, from);
    if (address === -1)
      throw new HostError('mmap', -negativeErrno(), `${mapped_bytes} bytes at ${from} of fd ${fd}`);
    this.length_bytes = length_bytes;
    this.#mappedAddress = address;
    this.#mapped_bytes = mapped_bytes;
    for (let at = 0; at < length_bytes; at += WINDOW_STEP_BYTES)
      this.windows.push(
        viewAt(address + offset_bytes - from + at, Math.min(length_bytes - at, WINDOW_MAX_BYTES)),
      );
  }

  /** Idempotent. Nobody may keep a typed array of a window. */
  unmap(): void {
    for (const window of this.windows) window.unmap();
    if (this.#mappedAddress !== 0) cMunmap(this.#mappedAddress, this.#mapped_bytes);
    this.#mappedAddress = 0;
  }
}

/** Whether it is an event fd; if so it is made non-blocking. */
export function acceptEventFd(fd: number): boolean {
  try {
    if (fs.readlinkSync(`/proc/self/fd/${fd}`) !== 'anon_inode:[eventfd]') return false;
  } catch {
    return false;
  }
  const flags = cFcntl(fd, F_GETFL, 0);
  return flags >= 0 && cFcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0;
}

/** Zeroed memory as a file without a name, for giving away; sealed if `seals` says so. */
export function createMemfd(name: string, length_bytes: number, seals: number): number {
  const fd = check(orErrno(cMemfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)), 'memfd_create', name);
  fs.ftruncateSync(fd, length_bytes);
  if (seals !== 0) check(orErrno(cFcntl(fd, F_ADD_SEALS, seals)), 'fcntl', 'F_ADD_SEALS');
  return fd;
}
