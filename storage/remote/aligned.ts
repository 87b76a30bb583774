/**
 * Any offset and length above a volume that takes whole blocks only (a remote server's smallest block): what is not whole is
 * read, changed and written again, under a lock of its blocks, so that nobody else's change of the same block is lost.
 *
 *   write  [head part of a block] [whole blocks] [tail part of a block]     one after the other
 *
 * A trim shrinks to the whole blocks in it; zeroes are written into the parts. With blocks of 1 everything passes through.
 */
import type { Chunk } from '../nbd/chunks.js';
import {
  changes,
  FLUSH,
  CACHE,
  handOn,
  READ,
  TRIM,
  WRITE,
  type Asked,
  type AskedKind,
} from '../volume/asked.js';
import type { Later } from '../volume/later.js';
import { RangeLock, type LockWaiter } from '../volume/rangeLock.js';
import { ERRNO, type Memory, type Volume, type Waiter, type ZeroHow } from '../volume/volume.js';
import { WrapperVolume } from '../volume/wrapper.js';

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

interface Operation extends Asked {
  lock: number;
  block: number;
  /** Where the part or the whole blocks that are being done begin and end, within the volume. */
  from: number;
  to: number;
  writing: boolean;
  bounce: Chunk | null;
}

export class AlignedVolume extends WrapperVolume<BlockVolume> implements LockWaiter, Waiter {
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
    super(below);
    this.#allocate = allocate;
    this.#later = later;
  }

  get serverSize_bytes(): number | null {
    return this.below.serverSize_bytes;
  }
  get busy(): boolean {
    return this.below.busy || this.#free.length < this.#operations.length;
  }

  grow(size_bytes: number): void {
    this.below.grow(size_bytes);
  }
  tick(now_ms: number): void {
    this.below.tick(now_ms);
  }
  shut(done: (result: number) => void): void {
    this.below.shut(done);
  }
  close(): void {
    this.below.close();
    for (const chunk of this.#mapped) chunk.unmap();
    this.#mapped = [];
    this.#bounces = [];
  }

  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    return this.#isWhole(offset, length) ? this.below.tryRead(offset, length, memory, at) : -ERRNO.EAGAIN;
  }
  override tryWrite(): number {
    return -ERRNO.EAGAIN;
  }

  protected override ask(
    kind: AskedKind,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    const block = this.below.minimumBlock_bytes;
    if (block === 1 || kind === FLUSH || (kind === READ && this.#isWhole(offset, length)))
      return handOn(this.below, kind, offset, length, memory, at, how, waiter, token);
    const end = offset + length;
    if (kind === TRIM) {
      const first = Math.ceil(offset / block) * block;
      const last = end - (end % block);
      if (last <= first) return this.#later.answer(waiter, token, 0);
      return this.#begin(
        { kind, offset: first, length: last - first, memory, at, how, waiter, token },
        block,
      );
    }
    if (kind !== CACHE) return this.#begin({ kind, offset, length, memory, at, how, waiter, token }, block);
    const first = offset - (offset % block);
    const last = Math.min(Math.ceil(end / block) * block, this.size_bytes);
    this.below.cache(first, last - first, waiter, token);
  }

  #isWhole(offset: number, length: number): boolean {
    const block = this.below.minimumBlock_bytes;
    return offset % block === 0 && length % block === 0;
  }

  #begin(asked: Asked, block: number): void {
    const { kind, offset, length } = asked;
    const index = this.#free.pop() ?? this.#operations.push(null) - 1;
    const from = offset - (offset % block);
    const to = Math.min(Math.ceil((offset + length) / block) * block, this.size_bytes);
    const isWhole = from === offset && to === offset + length;
    // A read takes no lock: beside a write of the same bytes it may see either.
    const lock = changes(kind) ? this.#locks.acquire(from, to, !isWhole, this) : -1;
    const state = { lock, block, from: offset, to: offset, writing: false, bounce: null };
    this.#operations[index] = { ...asked, ...state };
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
      return this.below.read(
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
    handOn(this.below, kind, operation.from, run, memory, place, operation.how, this, index);
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
      return this.below.write(begin, this.#blockLength(begin, block), bounce, 0, this, index);
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
