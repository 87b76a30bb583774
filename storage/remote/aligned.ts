/**
 * Any offset and length above a volume that takes whole blocks only (a remote server's smallest block): what is not whole is
 * read, changed and written again, under a lock of its blocks, so that nobody else's change of the same block is lost.
 *
 *   write  [head part of a block] [whole blocks] [tail part of a block]     one after the other
 *
 * A trim shrinks to the whole blocks in it; zeroes are written into the parts. With blocks of 1 everything passes through.
 */
import type { Chunk } from '../nbd/chunks.js';
import type { Later } from '../volume/later.js';
import { RangeLock, type LockWaiter } from '../volume/rangeLock.js';
import type { ExtentList, Memory, Volume, VolumeState, Waiter, ZeroHow } from '../volume/volume.js';

/** What it stands above. */
export interface BlockVolume extends Volume {
  readonly minimumBlock_bytes: number;
  /** As its server says; null: not known yet. */
  readonly serverSize_bytes: number | null;
  readonly busy: boolean;
  grow(size_bytes: number): void;
  tick(now_ms: number): void;
  shut(done: (result: number) => void): void;
  close(): void;
}

/** The largest block that NBD knows. */
const BLOCK_LIMIT_BYTES = 65_536;

const READ = 0;
const WRITE = 1;
const ZERO = 2;
const TRIM = 3;

interface Operation {
  kind: number;
  offset: number;
  length: number;
  memory: Memory | null;
  at: number;
  how: ZeroHow | null;
  waiter: Waiter;
  token: number;
  lock: number;
  block: number;
  /** Where the part or the whole blocks that are being done begin and end, within the volume. */
  from: number;
  to: number;
  writing: boolean;
  bounce: Chunk | null;
}

export class AlignedVolume implements Volume, LockWaiter, Waiter {
  #below: BlockVolume;
  #allocate: (length_bytes: number) => Chunk & { unmap(): void };
  #later: Later;
  #locks = new RangeLock();
  #operations: (Operation | null)[] = [];
  #free: number[] = [];
  #byLock = new Map<number, number>();
  #bounces: Chunk[] = [];
  #mapped: (Chunk & { unmap(): void })[] = [];

  constructor(
    below: BlockVolume,
    allocate: (length_bytes: number) => Chunk & { unmap(): void },
    later: Later,
  ) {
    this.#below = below;
    this.#allocate = allocate;
    this.#later = later;
  }

  get size_bytes(): number {
    return this.#below.size_bytes;
  }
  get state(): VolumeState {
    return this.#below.state;
  }
  get reason(): string | null {
    return this.#below.reason;
  }
  get serverSize_bytes(): number | null {
    return this.#below.serverSize_bytes;
  }
  get busy(): boolean {
    return this.#below.busy || this.#free.length < this.#operations.length;
  }

  grow(size_bytes: number): void {
    this.#below.grow(size_bytes);
  }
  tick(now_ms: number): void {
    this.#below.tick(now_ms);
  }
  shut(done: (result: number) => void): void {
    this.#below.shut(done);
  }
  close(): void {
    this.#below.close();
    for (const chunk of this.#mapped) chunk.unmap();
    this.#mapped = [];
    this.#bounces = [];
  }

  tryRead(offset: number, length: number, memory: Memory, at: number): number {
    return this.#isWhole(offset, length) ? this.#below.tryRead(offset, length, memory, at) : -11;
  }
  tryWrite(): number {
    return -11;
  }

  read(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    if (this.#isWhole(offset, length)) this.#below.read(offset, length, memory, at, waiter, token);
    else this.#begin(READ, offset, length, memory, at, null, waiter, token);
  }

  write(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    if (this.#below.minimumBlock_bytes === 1) this.#below.write(offset, length, memory, at, waiter, token);
    else this.#begin(WRITE, offset, length, memory, at, null, waiter, token);
  }

  zero(offset: number, length: number, how: ZeroHow, waiter: Waiter, token: number): void {
    if (this.#below.minimumBlock_bytes === 1) this.#below.zero(offset, length, how, waiter, token);
    else this.#begin(ZERO, offset, length, null, 0, how, waiter, token);
  }

  trim(offset: number, length: number, waiter: Waiter, token: number): void {
    const block = this.#below.minimumBlock_bytes;
    const from = Math.ceil(offset / block) * block;
    const to = offset + length - ((offset + length) % block);
    if (to <= from) this.#later.answer(waiter, token, 0);
    else if (block === 1) this.#below.trim(offset, length, waiter, token);
    else this.#begin(TRIM, from, to - from, null, 0, null, waiter, token);
  }

  flush(waiter: Waiter, token: number): void {
    this.#below.flush(waiter, token);
  }

  cache(offset: number, length: number, waiter: Waiter, token: number): void {
    const block = this.#below.minimumBlock_bytes;
    const from = offset - (offset % block);
    const to = Math.min(Math.ceil((offset + length) / block) * block, this.size_bytes);
    this.#below.cache(from, to - from, waiter, token);
  }

  extents(offset: number, length: number, into: ExtentList): number {
    return this.#below.extents(offset, length, into);
  }
  sendableFrom(): number {
    return -1;
  }
  sendFailed(): void {}

  #isWhole(offset: number, length: number): boolean {
    const block = this.#below.minimumBlock_bytes;
    return offset % block === 0 && length % block === 0;
  }

  #begin(
    kind: number,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    const block = this.#below.minimumBlock_bytes;
    const index = this.#free.pop() ?? this.#operations.push(null) - 1;
    const from = offset - (offset % block);
    const to = Math.min(Math.ceil((offset + length) / block) * block, this.size_bytes);
    const isWhole = from === offset && to === offset + length;
    // A read takes no lock: beside a write of the same bytes it may see either.
    const lock = kind === READ ? -1 : this.#locks.acquire(from, to, !isWhole, this);
    this.#operations[index] = {
      kind,
      offset,
      length,
      memory,
      at,
      how,
      waiter,
      token,
      lock,
      block,
      from: offset,
      to: offset,
      writing: false,
      bounce: null,
    };
    if (lock >= 0) this.#byLock.set(lock, index);
    if (lock < 0 || this.#locks.held(lock)) this.#next(index);
  }

  granted(lock: number): void {
    this.#next(this.#byLock.get(lock)!);
  }

  /** The next part or run of whole blocks; ends the operation when there is none. */
  #next(index: number): void {
    const operation = this.#operations[index]!;
    const { kind, block, offset, length, memory, at } = operation;
    const end = offset + length;
    operation.from = operation.to;
    if (operation.from === end) return this.#end(index, 0);
    const within = operation.from % block;
    const wholeTo = end - (end % block);
    const isPart = within !== 0 || operation.from >= wholeTo;
    if (isPart) {
      operation.to = Math.min(operation.from - within + block, end);
      operation.bounce = this.#takeBounce();
      operation.writing = false;
      return this.#below.read(
        operation.from - within,
        this.#blockLength(operation.from - within, block),
        operation.bounce,
        0,
        this,
        index,
      );
    }
    operation.to = wholeTo;
    const run = wholeTo - operation.from;
    const place = at + operation.from - offset;
    if (kind === READ) this.#below.read(operation.from, run, memory!, place, this, index);
    else if (kind === WRITE) this.#below.write(operation.from, run, memory!, place, this, index);
    else if (kind === ZERO) this.#below.zero(operation.from, run, operation.how!, this, index);
    else this.#below.trim(operation.from, run, this, index);
  }

  #blockLength(begin: number, block: number): number {
    return Math.min(block, this.size_bytes - begin);
  }

  completed(index: number, result: number): void {
    const operation = this.#operations[index]!;
    if (result < 0) return this.#end(index, result);
    const { bounce, from, to, block, kind, memory, at, offset } = operation;
    if (bounce === null) return this.#next(index);
    const begin = from - (from % block);
    const place = at + from - offset;
    if (kind === READ) memory!.bytes.set(bounce.bytes.subarray(from - begin, to - begin), place);
    else if (!operation.writing) {
      operation.writing = true;
      if (kind === WRITE) bounce.bytes.set(memory!.bytes.subarray(place, place + to - from), from - begin);
      else bounce.bytes.fill(0, from - begin, to - begin);
      return this.#below.write(begin, this.#blockLength(begin, block), bounce, 0, this, index);
    }
    this.#bounces.push(bounce);
    operation.bounce = null;
    this.#next(index);
  }

  #end(index: number, result: number): void {
    const { bounce, lock, waiter, token } = this.#operations[index]!;
    if (bounce !== null) this.#bounces.push(bounce);
    this.#operations[index] = null;
    this.#free.push(index);
    if (lock >= 0) {
      this.#byLock.delete(lock);
      this.#locks.release(lock);
    }
    waiter.completed(token, result);
  }

  #takeBounce(): Chunk {
    const spare = this.#bounces.pop();
    if (spare !== undefined) return spare;
    const chunk = this.#allocate(BLOCK_LIMIT_BYTES);
    this.#mapped.push(chunk);
    return chunk;
  }
}
