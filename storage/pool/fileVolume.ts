/**
 * A volume on one sparse file: volume offset = file offset, and the file system is the allocator.
 *
 *   tryRead    preadv2(RWF_NOWAIT): what the page cache holds, else -EAGAIN. A file system that does not know the
 *              flag (tmpfs) has everything in memory anyway: plain pread
 *   tryWrite   pwrite into the page cache. It may be held up by the kernel when there is too much unwritten data;
 *              then this volume's writes go the slow way for a while (writeWatch.ts), so that other clients
 *              do not stand still with it
 *   sendableFrom  the file itself, where cachestat says that the range is in the page cache
 *   flush      fdatasync, through the FlushGate
 *   trim, zero fallocate: punch a hole, or zero a range; whole blocks for trim
 *   extents    SEEK_DATA and SEEK_HOLE. That tells what reads as zeroes for sure; an allocated but unwritten range
 *              is told as a hole, which is allowed (a hole MAY meet ENOSPC) but not exact. A later pool will know
 *              its own allocation
 *
 * Lives in the data thread. The fd belongs to the pool; whoever closes it has waited for `busy` to be false.
 */
import { FlushGate } from '../volume/flushGate.js';
import type { Later } from '../volume/later.js';
import type { SlowIo } from '../volume/slowIo.js';
import { WriteWatch } from '../volume/writeWatch.js';
import {
  ERRNO,
  EXTENT_DATA,
  EXTENT_HOLE,
  EXTENT_ZERO,
  pushExtent,
  type ExtentList,
  type Memory,
  type Volume,
  type VolumeState,
  type Waiter,
  type ZeroHow,
} from '../volume/volume.js';
import {
  IoVector,
  mapAnonymous,
  PUNCH,
  RWF_NOWAIT,
  SEEK_DATA,
  SEEK_HOLE,
  ZERO_RANGE,
  isCached,
  isUnsupported,
  lseek,
  pread,
  preadv2,
  pwrite,
  voluntarySwitches,
  type Mapping,
} from './file.js';

const BLOCK_BYTES = 4096;
const EINTR = 4;
const ENXIO = 6;

/** A cache hint is followed so far, in pieces of this length. */
const CACHE_LIMIT_BYTES = 8 * 1024 * 1024;
const SCRATCH_BYTES = 256 * 1024;

/** For all volumes of a thread: used up within one call. */
const iov = new IoVector(1);
/** Where cache hints read to (nobody looks), and a range of zeroes to write where the file system cannot zero. */
let scratch: Mapping | null = null;
let zeroes: Mapping | null = null;

const SYNC_TOKEN = -1;

type Kind = 'read' | 'write' | 'punch' | 'zeroRange' | 'zeroWrite' | 'cache';

/** A request on its way through SlowIo. */
interface Operation {
  kind: Kind;
  address: number;
  offset: number;
  left: number;
  how: ZeroHow | null;
  waiter: Waiter;
  token: number;
}

export interface FileVolumeParts {
  readonly fd: number;
  readonly size_bytes: number;
  readonly slow: SlowIo;
  readonly later: Later;
  readonly now_ms: () => number;
  /** `state` or `reason` changed. */
  readonly onState: (volume: FileVolume) => void;
  readonly watch?: WriteWatch;
}

export class FileVolume implements Volume {
  size_bytes: number;
  state: VolumeState = 'ok';
  reason: string | null = null;
  #fd: number;
  #slow: SlowIo;
  #later: Later;
  #now_ms: () => number;
  #onState: (volume: FileVolume) => void;
  #noWait = RWF_NOWAIT;
  #canPunch = true;
  #canZeroRange = true;
  #canSend = true;
  #watch: WriteWatch;
  #gate: FlushGate;
  #operations: Operation[] = [];
  #free: number[] = [];

  constructor(parts: FileVolumeParts) {
    this.#fd = parts.fd;
    this.size_bytes = parts.size_bytes;
    this.#slow = parts.slow;
    this.#later = parts.later;
    this.#now_ms = parts.now_ms;
    this.#onState = parts.onState;
    this.#watch = parts.watch ?? new WriteWatch(voluntarySwitches);
    this.#gate = new FlushGate(() => this.#slow.fdatasync(this.#fd, this, SYNC_TOKEN));
  }

  /** Something is with the kernel: the fd must stay open. */
  get busy(): boolean {
    return this.#gate.busy || this.#free.length < this.#operations.length;
  }

  /** The file has been made so long, durably. */
  grow(size_bytes: number): void {
    this.size_bytes = Math.max(this.size_bytes, size_bytes);
  }

  tryRead(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const address = memory.address + at;
    if (this.#noWait !== 0) {
      iov.set(0, address, length_bytes);
      const n = preadv2(this.#fd, iov.address, 1, offset_bytes, RWF_NOWAIT);
      if (n === length_bytes) return 0;
      // A part of it: the rest has to be waited for, and then it is as well to read all.
      if (n >= 0 || n === -ERRNO.EAGAIN || n === -EINTR) return -ERRNO.EAGAIN;
      if (!isUnsupported(n)) return n;
      this.#noWait = 0;
    }
    for (let done = 0; done < length_bytes;) {
      const n = pread(this.#fd, address + done, length_bytes - done, offset_bytes + done);
      if (n === -EINTR) continue;
      if (n <= 0) return n === 0 ? -ERRNO.EIO : n;
      done += n;
    }
    return 0;
  }

  tryWrite(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    if (this.state === 'failed') return -ERRNO.EIO;
    if (!this.#watch.begin(this.#now_ms())) return -ERRNO.EAGAIN;
    const address = memory.address + at;
    for (let done = 0; done < length_bytes;) {
      const n = pwrite(this.#fd, address + done, length_bytes - done, offset_bytes + done);
      if (n === -EINTR) continue;
      if (n <= 0) return this.#wrote(n === 0 ? -ERRNO.EIO : n);
      done += n;
    }
    this.#watch.end(this.#now_ms());
    return this.#wrote(0);
  }

  read(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#go(this.#begin('read', memory.address + at, offset_bytes, length_bytes, null, waiter, token));
  }

  write(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    if (this.state === 'failed') return this.#later.answer(waiter, token, -ERRNO.EIO);
    this.#go(this.#begin('write', memory.address + at, offset_bytes, length_bytes, null, waiter, token));
  }

  flush(waiter: Waiter, token: number): void {
    if (this.state === 'failed') return this.#later.answer(waiter, token, -ERRNO.EIO);
    this.#gate.ask(waiter, token);
  }

  trim(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    if (this.state === 'failed') return this.#later.answer(waiter, token, -ERRNO.EIO);
    const first = Math.ceil(offset_bytes / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.floor((offset_bytes + length_bytes) / BLOCK_BYTES) * BLOCK_BYTES;
    if (end <= first || !this.#canPunch) return this.#later.answer(waiter, token, 0);
    this.#go(this.#begin('punch', 0, first, end - first, null, waiter, token));
  }

  zero(offset_bytes: number, length_bytes: number, how: ZeroHow, waiter: Waiter, token: number): void {
    if (this.state === 'failed') return this.#later.answer(waiter, token, -ERRNO.EIO);
    const kind = how.mayUnmap ? 'punch' : 'zeroRange';
    const index = this.#begin(kind, 0, offset_bytes, length_bytes, how, waiter, token);
    const able = how.mayUnmap ? this.#canPunch : this.#canZeroRange;
    if (able) this.#go(index);
    else this.#zeroOtherwise(index);
  }

  cache(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    const length = Math.min(length_bytes, CACHE_LIMIT_BYTES);
    scratch ??= mapAnonymous(SCRATCH_BYTES);
    this.#go(this.#begin('cache', scratch.address, offset_bytes, length, null, waiter, token));
  }

  extents(offset_bytes: number, length_bytes: number, into: ExtentList): number {
    into.count = 0;
    const end = offset_bytes + length_bytes;
    let at = offset_bytes;
    while (at < end) {
      let data = lseek(this.#fd, at, SEEK_DATA);
      if (data === -ENXIO) data = end;
      if (data < 0) return data;
      data = Math.min(data, end);
      if (data > at && !pushExtent(into, data - at, EXTENT_HOLE | EXTENT_ZERO)) break;
      if (data === end) break;
      let hole = lseek(this.#fd, data, SEEK_HOLE);
      // The file was shortened under us: what follows is no hole that we know of.
      if (hole === -ENXIO) hole = end;
      if (hole < 0) return hole;
      hole = Math.min(hole, end);
      if (!pushExtent(into, hole - data, EXTENT_DATA)) break;
      at = hole;
    }
    return 0;
  }

  sendableFrom(offset_bytes: number, length_bytes: number): number {
    if (!this.#canSend) return -1;
    const cached = isCached(this.#fd, offset_bytes, length_bytes);
    // A kernel or file system that cannot tell will not learn it.
    if (cached < 0) this.#canSend = false;
    return cached === 1 ? this.#fd : -1;
  }

  sendFailed(): void {
    this.#canSend = false;
  }

  /** From SlowIo. */
  completed(token: number, result: number): void {
    if (token === SYNC_TOKEN) {
      if (result < 0) this.#fail(result);
      this.#gate.ended(result);
      return;
    }
    const operation = this.#operations[token]!;
    if (result === -EINTR || result === -ERRNO.EAGAIN) return this.#go(token);
    switch (operation.kind) {
      case 'read':
        if (result <= 0) return this.#end(token, result === 0 ? -ERRNO.EIO : result);
        return this.#moved(token, result);
      case 'cache':
        // A hint: nothing went wrong that would matter.
        return result <= 0 ? this.#end(token, 0) : this.#moved(token, result);
      case 'write':
      case 'zeroWrite':
        if (result <= 0) return this.#end(token, this.#wrote(result === 0 ? -ERRNO.EIO : result));
        return this.#moved(token, result);
      case 'punch':
      case 'zeroRange':
        if (!isUnsupported(result))
          return this.#end(token, operation.how === null ? result : this.#wrote(result));
        if (operation.kind === 'punch') this.#canPunch = false;
        else this.#canZeroRange = false;
        if (operation.how === null) return this.#end(token, 0); // a trim is a hint
        return this.#zeroOtherwise(token);
    }
  }

  /** The file system cannot do it as asked: zeroes are written, unless only a fast way was wanted. */
  #zeroOtherwise(index: number): void {
    const operation = this.#operations[index]!;
    if (operation.how!.fastOnly) {
      this.#later.answer(operation.waiter, operation.token, -ERRNO.EOPNOTSUPP);
      this.#release(index);
      return;
    }
    zeroes ??= mapAnonymous(SCRATCH_BYTES);
    operation.kind = 'zeroWrite';
    operation.address = zeroes.address;
    this.#go(index);
  }

  #begin(
    kind: Kind,
    address: number,
    offset: number,
    left: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): number {
    const free = this.#free.pop();
    if (free === undefined)
      return this.#operations.push({ kind, address, offset, left, how, waiter, token }) - 1;
    const operation = this.#operations[free]!;
    operation.kind = kind;
    operation.address = address;
    operation.offset = offset;
    operation.left = left;
    operation.how = how;
    operation.waiter = waiter;
    operation.token = token;
    return free;
  }

  #go(index: number): void {
    const { kind, address, offset, left } = this.#operations[index]!;
    switch (kind) {
      case 'read':
        return this.#slow.read(this.#fd, address, left, offset, this, index);
      case 'write':
        return this.#slow.write(this.#fd, address, left, offset, this, index);
      case 'cache':
        return this.#slow.read(this.#fd, address, Math.min(left, SCRATCH_BYTES), offset, this, index);
      case 'zeroWrite':
        return this.#slow.write(this.#fd, address, Math.min(left, SCRATCH_BYTES), offset, this, index);
      case 'punch':
        return this.#slow.fallocate(this.#fd, PUNCH, offset, left, this, index);
      case 'zeroRange':
        return this.#slow.fallocate(this.#fd, ZERO_RANGE, offset, left, this, index);
    }
  }

  #moved(index: number, bytes: number): void {
    const operation = this.#operations[index]!;
    operation.left -= bytes;
    operation.offset += bytes;
    if (operation.kind === 'read' || operation.kind === 'write') operation.address += bytes;
    if (operation.left > 0) return this.#go(index);
    const writes = operation.kind === 'write' || operation.kind === 'zeroWrite';
    this.#end(index, writes ? this.#wrote(0) : 0);
  }

  #end(index: number, result: number): void {
    const { waiter, token } = this.#operations[index]!;
    this.#release(index);
    waiter.completed(token, result);
  }

  #release(index: number): void {
    this.#operations[index]!.waiter = NOBODY;
    this.#free.push(index);
  }

  /** Keeps `state` after a write; returns its result. */
  #wrote(result: number): number {
    if (result === 0) {
      if (this.state === 'full') this.#become('ok', null);
    } else if (result === -ERRNO.ENOSPC || result === -ERRNO.EDQUOT) {
      if (this.state === 'ok')
        this.#become('full', 'the file system under the pool is full: make room there, or move the pool');
    }
    return result;
  }

  #fail(result: number): void {
    if (this.state === 'failed') return;
    this.#become(
      'failed',
      `fdatasync failed with errno ${-result}: data that was taken may be lost. Check the disk, restart weft-storage, ` +
        'and check the guest file system',
    );
  }

  #become(state: VolumeState, reason: string | null): void {
    this.state = state;
    this.reason = reason;
    this.#onState(this);
  }
}

const NOBODY: Waiter = { completed: () => undefined };
