/**
 * Memory outside the JS heap that both the kernel and JS reach: mmap(2) plus `koffi.view`.
 *
 * A Mapping gives the same bytes as an address (for raw calls) and as typed arrays (for JS). Another worker
 * thread of the process gets at the same bytes by `viewAt(address, length_bytes)`; numbers travel in a message,
 * and `Atomics.load/store/add` on `i32` order the accesses. (`Atomics.wait` does not work on it: V8 does not
 * know that the buffer is shared. An EventFd wakes instead.)
 *
 * What koffi.view does not forgive is refused here: more than 4 GiB (it aborts the process), a null address
 * (likewise), and use after unmap (SIGSEGV): `unmap()` empties the mapping's own fields, so later use through
 * the Mapping reads and writes nothing. A typed array that was copied out of the fields before cannot be
 * emptied: whoever unmaps must know that no one keeps one.
 */
import koffi from 'koffi';
import { EINVAL, HostError } from './errno.js';
import { bind, negativeErrno } from './libc.js';

export interface Mapping {
  /** 0 after unmap. */
  readonly address: number;
  readonly length_bytes: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** The whole words of it. */
  readonly i32: Int32Array;
  readonly unmapped: boolean;
  /** Idempotent. Does nothing to memory that viewAt only looked at. */
  unmap(): void;
}

/** koffi.view aborts the process beyond this. Larger files are mapped in windows. */
export const MAPPING_MAX_BYTES = 2 ** 32 - 4096;

export const PAGE_BYTES = 4096;

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;
const MADV_DONTNEED = 4;
const MADV_DONTFORK = 10;
const MADV_HUGEPAGE = 14;

const cMmap = bind<
  (addr: number, length: number, prot: number, flags: number, fd: number, offset: number) => number
>('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
const cMunmap = bind<(addr: number, length: number) => number>('munmap', 'int', ['uintptr_t', 'size_t']);
const cMadvise = bind<(addr: number, length: number, advice: number) => number>('madvise', 'int', [
  'uintptr_t',
  'size_t',
  'int',
]);

const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(new ArrayBuffer(0));
const NO_I32 = new Int32Array(0);

class Mapped implements Mapping {
  address: number;
  length_bytes: number;
  bytes: Uint8Array;
  view: DataView;
  i32: Int32Array;
  unmapped = false;
  readonly #owned: boolean;

  constructor(address: number, length_bytes: number, owned: boolean) {
    const buffer = koffi.view(address, length_bytes);
    this.address = address;
    this.length_bytes = length_bytes;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.i32 = new Int32Array(buffer, 0, length_bytes >>> 2);
    this.#owned = owned;
  }

  unmap(): void {
    if (this.unmapped) return;
    const { address, length_bytes } = this;
    this.unmapped = true;
    this.address = 0;
    this.length_bytes = 0;
    this.bytes = NO_BYTES;
    this.view = NO_VIEW;
    this.i32 = NO_I32;
    if (this.#owned && cMunmap(address, length_bytes) < 0)
      throw new HostError('munmap', -negativeErrno(), `${length_bytes} bytes`);
  }
}

function checkLength(length_bytes: number, syscall: string): void {
  if (!Number.isSafeInteger(length_bytes) || length_bytes <= 0 || length_bytes > MAPPING_MAX_BYTES)
    throw new HostError(syscall, EINVAL, `${length_bytes} bytes`, `1 to ${MAPPING_MAX_BYTES} can be viewed`);
}

function map(length_bytes: number, prot: number, flags: number, fd: number, offset_bytes: number): number {
  const address = cMmap(0, length_bytes, prot, flags, fd, offset_bytes);
  if (address === -1) {
    const what = fd < 0 ? `${length_bytes} bytes` : `${length_bytes} bytes at ${offset_bytes} of fd ${fd}`;
    throw new HostError('mmap', -negativeErrno(), what);
  }
  return address;
}

export interface AnonymousOptions {
  /** MAP_SHARED: survives fork in common, and may be given away as vhost-user memory. */
  shared?: boolean;
  /** Ask for transparent huge pages; a kernel that has none just gives small ones. */
  hugePages?: boolean;
  /** Fault all pages in now instead of at first use. */
  populate?: boolean;
}

/** Zeroed memory of the process. The length is rounded up to whole pages by the kernel, not in the view. */
export function mapAnonymous(length_bytes: number, options: AnonymousOptions = {}): Mapping {
  checkLength(length_bytes, 'mmap');
  const huge = options.hugePages === true;
  // With MAP_POPULATE the pages would be there, small, before madvise could ask for large ones.
  const populate = options.populate === true && !huge;
  const flags =
    MAP_ANONYMOUS | (options.shared === true ? MAP_SHARED : MAP_PRIVATE) | (populate ? MAP_POPULATE : 0);
  const address = map(length_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (huge) cMadvise(address, length_bytes, MADV_HUGEPAGE);
  const mapped = new Mapped(address, length_bytes, true);
  if (huge && options.populate === true)
    for (let at = 0; at < length_bytes; at += PAGE_BYTES) mapped.bytes[at] = 0;
  return mapped;
}

/**
 * A window of a file, shared with it. `offset_bytes` must be a multiple of the page size. Touching a page
 * beyond the end of the file kills the process (SIGBUS): the caller checks the file's size first.
 */
export function mapFile(
  fd: number,
  offset_bytes: number,
  length_bytes: number,
  options: { write: boolean },
): Mapping {
  checkLength(length_bytes, 'mmap');
  const prot = options.write ? PROT_READ | PROT_WRITE : PROT_READ;
  return new Mapped(map(length_bytes, prot, MAP_SHARED, fd, offset_bytes), length_bytes, true);
}

/** Memory that another thread of this process mapped, or that is part of a Mapping. Never unmaps it. */
export function viewAt(address: number, length_bytes: number): Mapping {
  checkLength(length_bytes, 'view');
  if (!Number.isSafeInteger(address) || address < PAGE_BYTES)
    throw new HostError('view', EINVAL, `address ${address}`, 'not an address that mmap can have returned');
  return new Mapped(address, length_bytes, false);
}

/** Children of fork(2) do not get these pages. For pages that hold keys. */
export function hideFromChildren(mapping: Mapping): void {
  if (cMadvise(mapping.address, mapping.length_bytes, MADV_DONTFORK) < 0)
    throw new HostError('madvise', -negativeErrno(), 'MADV_DONTFORK');
}

/**
 * Where JavaScript's own bytes lie, for the kernel: good only for memory that V8 never moves and never frees while the
 * number is used, such as a WebAssembly.Memory that cannot grow.
 */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi.address(bytes));
}

/** Gives the pages back to the kernel; they read as zeroes afterwards. Whole pages of private anonymous memory only. */
export function discard(address: number, length_bytes: number): void {
  if (cMadvise(address, length_bytes, MADV_DONTNEED) < 0)
    throw new HostError('madvise', -negativeErrno(), 'MADV_DONTNEED');
}
