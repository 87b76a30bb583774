/**
 * io_uring driven from JS: the two rings are mapped, entries are written as 32-bit words, and only
 * io_uring_enter(2) is a call. One thread owns a ring. No allocation per request.
 *
 *   prep…(token, fd, …)   an entry into the submission ring; false when the ring, or the room for answers, is full
 *   submit()              hands over what was prepared
 *   reap(done)            done(token, result) for each answer: bytes or -errno, as the raw call would return
 *
 * Order matters in four places only, and there Atomics stand: our tail before the kernel reads entries, the
 * kernel's head before we reuse them, the kernel's tail before we read answers, our head before it reuses
 * those. More requests in flight than the completion ring holds are refused at `prep…`, so it cannot overflow.
 *
 * With `eventFd` given, each answer signals it, so a loop that sleeps in epoll wakes.
 *
 * The buffers of a request belong to the kernel until its answer is reaped: closing a file, or leaving the
 * ring to itself, does not change that; `close()` therefore waits for what is in flight.
 *
 *   struct io_uring_sqe   64 bytes   0 opcode(u8) 1 flags(u8) 2 ioprio(u16)   4 fd(i32)   8 off(u64)   16 addr(u64)
 *                                    24 len(u32)   28 op_flags(u32)   32 user_data(u64)   40 zero
 *   struct io_uring_cqe   16 bytes   0 user_data(u64)   8 res(i32)   12 flags(u32)
 */
import * as fs from 'node:fs';
import { EBUSY, EINTR, EINVAL, ENOMEM, ENOSYS, EPERM, HostError, check } from './errno.js';
import type { Signal } from './eventfd.js';
import { syscall } from './libc.js';
import { mapAnonymous, mapFile } from './memory.js';
import type { Mapping } from './memory.js';
import { close } from './raw.js';

// The same on every architecture.
const NR_SETUP = 425;
const NR_ENTER = 426;
const NR_REGISTER = 427;

const IORING_OFF_SQ_RING = 0;
const IORING_OFF_SQES = 0x10000000;
const IORING_SETUP_CLAMP = 1 << 4;
/** Linux 5.19: answers wait for our next call instead of interrupting the thread. */
const IORING_SETUP_COOP_TASKRUN = 1 << 8;
const IORING_FEAT_SINGLE_MMAP = 1 << 0;
const IORING_FEAT_NODROP = 1 << 1;
const IORING_ENTER_GETEVENTS = 1 << 0;
const IORING_REGISTER_EVENTFD = 4;
const IORING_REGISTER_PROBE = 8;
const IORING_FSYNC_DATASYNC = 1;
const IO_URING_OP_SUPPORTED = 1;

const OP_NOP = 0;
const OP_READV = 1;
const OP_WRITEV = 2;
const OP_FSYNC = 3;
const OP_FALLOCATE = 17;
const OP_READ = 22;
const OP_WRITE = 23;
const OPS_NEEDED = [OP_NOP, OP_READV, OP_WRITEV, OP_FSYNC, OP_FALLOCATE, OP_READ, OP_WRITE];

const SQE_WORDS = 16;
const CQE_WORDS = 4;
const PARAMS_BYTES = 120;
const TWO_32 = 2 ** 32;

/** Our constant; the kernel's own is 32768. */
export const ENTRIES_MAX_COUNT = 4096;

export type Availability = { available: true } | { available: false; reason: string };

function reasonOf(errno: number): string {
  if (errno === ENOSYS) return 'this kernel has no io_uring, or a seccomp filter (a container) hides it';
  if (errno === EPERM) {
    let disabled = '';
    try {
      disabled = fs.readFileSync('/proc/sys/kernel/io_uring_disabled', 'utf8').trim();
    } catch {
      // Before Linux 6.6 there is no such switch: then it is a seccomp filter.
    }
    return disabled === '1' || disabled === '2'
      ? `sysctl kernel.io_uring_disabled is ${disabled}: set it to 0`
      : 'a seccomp filter (a container) forbids io_uring';
  }
  if (errno === ENOMEM) return 'the limit on locked memory (ulimit -l) is too low for a ring';
  return new HostError('io_uring_setup', errno).message;
}

let known: Availability | undefined;

function probe(): Availability {
  try {
    const ring = new IoUring(2);
    try {
      const missing = ring.missingOps();
      return missing.length === 0
        ? { available: true }
        : { available: false, reason: `this kernel's io_uring lacks operations ${missing.join(', ')}` };
    } finally {
      ring.close();
    }
  } catch (error) {
    if (error instanceof HostError) return { available: false, reason: reasonOf(error.errno) };
    throw error;
  }
}

export class IoUring {
  readonly fd: number;
  /** Of the submission ring; a power of two, at least what was asked for. */
  readonly entries: number;
  /** Of the completion ring: the bound on requests in flight. */
  readonly capacity: number;
  readonly #rings: Mapping;
  readonly #sqes: Mapping;
  /** The words of both, taken out of the mappings, which saves a load in each use. Not touched once closed. */
  readonly #ring: Int32Array;
  readonly #sqe: Int32Array;
  readonly #sqHead: number;
  readonly #sqTail: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  /** Our own copy of the submission tail; the kernel sees it at submit. Wraps as the kernel's u32 does. */
  #tail: number;
  #inFlight = 0;
  #closed = false;
  #reaping = false;

  /** Whether rings can be had here, and if not, why. Asked of the kernel once. */
  static available(): Availability {
    known ??= probe();
    return known;
  }

  constructor(entries: number, eventFd?: Signal) {
    if (!Number.isInteger(entries) || entries < 1 || entries > ENTRIES_MAX_COUNT)
      throw new HostError('io_uring_setup', EINVAL, `${entries} entries`, `1 to ${ENTRIES_MAX_COUNT}`);
    const params = mapAnonymous(PARAMS_BYTES);
    const word = (at_bytes: number) => params.i32[at_bytes >>> 2]!;
    const setup = (flags: number) => {
      params.i32.fill(0);
      params.i32[2] = flags;
      return syscall(NR_SETUP, entries, params.address);
    };
    let fd = setup(IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN);
    if (fd === -EINVAL) fd = setup(IORING_SETUP_CLAMP);
    this.fd = check(fd, 'io_uring_setup', `${entries} entries`);
    try {
      const needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
      if ((word(20) & needed) !== needed)
        throw new HostError('io_uring_setup', ENOSYS, '', 'Linux 5.6 or newer is needed');
      this.entries = word(0);
      this.capacity = word(4);
      const [sqOff, cqOff] = [40, 80];
      const sqEnd = word(sqOff + 24) + this.entries * 4;
      const cqEnd = word(cqOff + 20) + this.capacity * CQE_WORDS * 4;
      this.#rings = mapFile(this.fd, IORING_OFF_SQ_RING, Math.max(sqEnd, cqEnd), { write: true });
      this.#sqes = mapFile(this.fd, IORING_OFF_SQES, this.entries * SQE_WORDS * 4, { write: true });
      this.#ring = this.#rings.i32;
      this.#sqe = this.#sqes.i32;
      this.#sqHead = word(sqOff) >>> 2;
      this.#sqTail = word(sqOff + 4) >>> 2;
      this.#cqHead = word(cqOff) >>> 2;
      this.#cqTail = word(cqOff + 4) >>> 2;
      this.#cqes = word(cqOff + 20) >>> 2;
      this.#sqMask = this.entries - 1;
      this.#cqMask = this.capacity - 1;
      // The kernel allows entries out of order through this table; here entry i is always in slot i.
      const table = word(sqOff + 24) >>> 2;
      for (let index = 0; index < this.entries; index++) this.#ring[table + index] = index;
      this.#tail = this.#ring[this.#sqTail]!;
      if (eventFd !== undefined) {
        params.i32[0] = eventFd.fd;
        const result = syscall(NR_REGISTER, this.fd, IORING_REGISTER_EVENTFD, params.address, 1);
        check(result, 'io_uring_register', `eventfd ${eventFd.fd}`);
      }
    } catch (error) {
      close(this.fd);
      throw error;
    } finally {
      params.unmap();
    }
  }

  /** Requests prepared or with the kernel, whose answers have not been reaped. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether the next prep… will be taken. */
  get hasRoom(): boolean {
    // First of all: the words below are unmapped then.
    if (this.#closed) return false;
    const used = (this.#tail - Atomics.load(this.#ring, this.#sqHead)) >>> 0;
    return used < this.entries && this.#inFlight < this.capacity;
  }

  /** Of the next free entry in words, laid with what all requests have; -1 when there is none. */
  #next(opcode: number, token: number, fd: number): number {
    if (!this.hasRoom) return -1;
    const sqe = this.#sqe;
    const at = (this.#tail & this.#sqMask) * SQE_WORDS;
    sqe[at] = opcode;
    sqe[at + 1] = fd;
    sqe[at + 8] = token;
    sqe[at + 9] = 0;
    sqe[at + 10] = 0;
    sqe[at + 11] = 0;
    sqe[at + 12] = 0;
    sqe[at + 13] = 0;
    this.#tail = (this.#tail + 1) | 0;
    this.#inFlight++;
    return at;
  }

  #prep(
    op: number,
    token: number,
    fd: number,
    off: number,
    addr: number,
    len: number,
    flags: number,
  ): boolean {
    const at = this.#next(op, token, fd);
    if (at < 0) return false;
    const sqe = this.#sqe;
    sqe[at + 2] = off;
    sqe[at + 3] = off / TWO_32;
    sqe[at + 4] = addr;
    sqe[at + 5] = addr / TWO_32;
    sqe[at + 6] = len;
    sqe[at + 7] = flags;
    return true;
  }

  // `token` is any 32-bit integer and comes back with the answer. rwFlags: RWF_… of raw.ts.

  prepNop(token: number): boolean {
    return this.#prep(OP_NOP, token, -1, 0, 0, 0, 0);
  }

  prepRead(
    token: number,
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    rwFlags = 0,
  ): boolean {
    return this.#prep(OP_READ, token, fd, offset_bytes, address, length_bytes, rwFlags);
  }

  /** With RWF_DSYNC: answered when it is durable. */
  prepWrite(
    token: number,
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    rwFlags = 0,
  ): boolean {
    return this.#prep(OP_WRITE, token, fd, offset_bytes, address, length_bytes, rwFlags);
  }

  /** The iovecs are read at submit; only the buffers they name must stay. */
  prepReadv(
    token: number,
    fd: number,
    iovAddress: number,
    count: number,
    offset_bytes: number,
    rwFlags = 0,
  ): boolean {
    return this.#prep(OP_READV, token, fd, offset_bytes, iovAddress, count, rwFlags);
  }

  prepWritev(
    token: number,
    fd: number,
    iovAddress: number,
    count: number,
    offset_bytes: number,
    rwFlags = 0,
  ): boolean {
    return this.#prep(OP_WRITEV, token, fd, offset_bytes, iovAddress, count, rwFlags);
  }

  /** Covers writes whose answers were reaped before; not others in flight, which may run at the same time. */
  prepFsync(token: number, fd: number, dataOnly: boolean): boolean {
    return this.#prep(OP_FSYNC, token, fd, 0, 0, 0, dataOnly ? IORING_FSYNC_DATASYNC : 0);
  }

  /** `mode`: FALLOC_FL_… of raw.ts. */
  prepFallocate(
    token: number,
    fd: number,
    mode: number,
    offset_bytes: number,
    length_bytes: number,
  ): boolean {
    return this.#prep(OP_FALLOCATE, token, fd, offset_bytes, length_bytes, mode, 0);
  }

  /**
   * Hands what was prepared to the kernel. Returns how many it took, or -errno: -EBUSY and -EAGAIN mean reap
   * first and submit again (nothing is lost). Cached reads are often answered before this returns.
   */
  submit(): number {
    return this.#enter(0, 0);
  }

  /** As submit, and sleeps until at least `count` answers are there. */
  submitAndWait(count: number): number {
    return this.#enter(count, IORING_ENTER_GETEVENTS);
  }

  #enter(wait: number, flags: number): number {
    if (this.#closed) return -EINVAL;
    const count = (this.#tail - Atomics.load(this.#ring, this.#sqHead)) >>> 0;
    if (count === 0 && flags === 0) return 0;
    Atomics.store(this.#ring, this.#sqTail, this.#tail);
    return syscall(NR_ENTER, this.fd, count, wait, flags, 0, 0);
  }

  /**
   * Calls `done` for each answer that is there and returns their number. `done` may prepare further requests;
   * what it throws leaves the ring intact and the answers behind it unreaped.
   */
  reap(done: (token: number, result: number) => void): number {
    if (this.#closed) return 0;
    if (this.#reaping)
      throw new HostError('reap', EBUSY, `ring ${this.fd}`, 'called by its own answer handler');
    const ring = this.#ring;
    const tail = Atomics.load(ring, this.#cqTail);
    let head = ring[this.#cqHead]!;
    const first = head;
    this.#reaping = true;
    try {
      while (head !== tail) {
        const at = this.#cqes + (head & this.#cqMask) * CQE_WORDS;
        head = (head + 1) | 0;
        this.#inFlight--;
        done(ring[at]!, ring[at + 2]!);
      }
    } finally {
      this.#reaping = false;
      Atomics.store(ring, this.#cqHead, head);
    }
    return (head - first) >>> 0;
  }

  /** Numbers of operations that we use and this kernel does not know. */
  missingOps(): number[] {
    const [headerBytes, opBytes, opCount] = [16, 8, 64];
    const table = mapAnonymous(headerBytes + opBytes * opCount);
    try {
      const result = syscall(NR_REGISTER, this.fd, IORING_REGISTER_PROBE, table.address, opCount);
      check(result, 'io_uring_register', 'probe');
      return OPS_NEEDED.filter(
        op => (table.view.getUint16(headerBytes + op * opBytes + 2, true) & IO_URING_OP_SUPPORTED) === 0,
      );
    } finally {
      table.unmap();
    }
  }

  /** Waits for all answers (they are dropped), since their buffers are the kernel's until then. */
  close(): void {
    if (this.#closed) return;
    if (this.#reaping)
      throw new HostError('close', EBUSY, `ring ${this.fd}`, 'called by its own answer handler');
    while (this.#inFlight > 0) {
      const result = this.submitAndWait(1);
      if (this.reap(() => {}) === 0 && result < 0 && result !== -EINTR) break;
    }
    this.#closed = true;
    close(this.fd);
    this.#sqes.unmap();
    this.#rings.unmap();
  }
}
