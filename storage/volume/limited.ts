/**
 * Limits: so many operations and bytes per second of a volume, in each direction and in both together, for all its clients
 * in common. What is over a limit waits and is never refused: by -EAGAIN of the quick calls, then in a queue.
 *
 *   queues    one for reads, one for writes, each first in, first out; where both could go, the older one does. So reads
 *             that wait for a read limit do not hold up writes, and nobody is passed over for ever
 *   cost      a read or write: one operation and its bytes. Zero and trim: one write operation, as they carry nothing.
 *             cache: as a read. Flush: nothing; to hold it up would make durability slower than writing
 *
 * bucket.ts says how a bucket works. `Limits` holds all the limited volumes of a thread and tells the loop when to wake.
 */
import { Bucket } from './bucket.js';
import type { LimitsOpening, RateOpening } from './opening.js';
import {
  ERRNO,
  type BlockMeta,
  type ExtentList,
  type Memory,
  type Volume,
  type VolumeState,
  type Waiter,
  type ZeroHow,
} from './volume.js';

/** The limited volumes of one thread; nbd/loop.ts has it as `timed`. */
export class Limits {
  readonly now_ms: () => number;
  #waiting = new Set<LimitedVolume>();
  wakeAt_ms = Infinity;

  constructor(now_ms: () => number) {
    this.now_ms = now_ms;
  }

  /** Lets go whatever may. */
  turn(now_ms: number): void {
    if (now_ms < this.wakeAt_ms) return;
    this.wakeAt_ms = Infinity;
    for (const volume of this.#waiting) {
      const next_ms = volume.release(now_ms);
      if (next_ms === Infinity) this.#waiting.delete(volume);
      else this.wakeAt_ms = Math.min(this.wakeAt_ms, next_ms);
    }
  }

  /** `volume` has something in its queues; it is asked at `at_ms` or earlier. */
  wait(volume: LimitedVolume, at_ms: number): void {
    this.#waiting.add(volume);
    this.wakeAt_ms = Math.min(this.wakeAt_ms, at_ms);
  }
}

const READ = 0;
const WRITE = 1;
type Direction = typeof READ | typeof WRITE;

type Kind = 'read' | 'write' | 'zero' | 'trim' | 'cache';

interface Waiting {
  readonly kind: Kind;
  readonly offset_bytes: number;
  readonly length_bytes: number;
  readonly memory: Memory | null;
  readonly at: number;
  readonly how: ZeroHow | null;
  readonly waiter: Waiter;
  readonly token: number;
  readonly order: number;
  readonly since_ms: number;
}

export class LimitedVolume implements Volume {
  #below: Volume;
  #limits: Limits;
  /** [read, write, both] x [operations, bytes]. */
  #operations: (Bucket | null)[] = [null, null, null];
  #bytes: (Bucket | null)[] = [null, null, null];
  #queues: [Queue, Queue] = [new Queue(), new Queue()];
  #order = 0;
  #unlimited = true;
  /** See VolumeOpening. */
  #throttled: Float64Array;

  constructor(
    below: Volume,
    limits: Limits,
    opening: LimitsOpening | null,
    throttled: Float64Array = new Float64Array(2),
  ) {
    this.#throttled = throttled;
    this.#below = below;
    this.#limits = limits;
    this.limit(opening);
  }

  /** Other limits from now on; null: none. */
  limit(opening: LimitsOpening | null): void {
    const now_ms = this.#limits.now_ms();
    const changed = (old: Bucket | null | undefined, rate: RateOpening | null | undefined): Bucket | null => {
      if (rate === null || rate === undefined) return null;
      if (old === null || old === undefined) return new Bucket(rate, now_ms);
      old.change(rate, now_ms);
      return old;
    };
    const operations = [opening?.readOperations, opening?.writeOperations, opening?.operations];
    const bytes = [opening?.readBytes, opening?.writeBytes, opening?.bytes];
    this.#operations = operations.map((rate, i) => changed(this.#operations[i], rate));
    this.#bytes = bytes.map((rate, i) => changed(this.#bytes[i], rate));
    this.#unlimited = [...this.#operations, ...this.#bytes].every(bucket => bucket === null);
    if (this.busy) this.#limits.wait(this, now_ms);
  }

  /** Everything goes now: the volume is about to be shut. */
  lift(): void {
    this.limit(null);
    this.release(this.#limits.now_ms());
  }

  /** Something waits here for its time. */
  get busy(): boolean {
    return this.#queues[READ].count + this.#queues[WRITE].count > 0;
  }

  /** Requests that had to wait, and how long altogether those that have gone since. */
  get throttledCount(): number {
    return this.#throttled[0]!;
  }
  get throttled_ms(): number {
    return this.#throttled[1]!;
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
  get meta(): BlockMeta | null {
    return this.#below.meta ?? null;
  }

  tryRead(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    if (!this.#mayPass(READ)) return -ERRNO.EAGAIN;
    const result = this.#below.tryRead(offset_bytes, length_bytes, memory, at);
    if (result !== -ERRNO.EAGAIN) this.#take(READ, length_bytes);
    return result;
  }

  tryWrite(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    if (!this.#mayPass(WRITE)) return -ERRNO.EAGAIN;
    const result = this.#below.tryWrite(offset_bytes, length_bytes, memory, at);
    if (result !== -ERRNO.EAGAIN) this.#take(WRITE, length_bytes);
    return result;
  }

  read(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    if (!this.#mayPass(READ))
      return this.#wait('read', offset_bytes, length_bytes, memory, at, null, waiter, token);
    this.#take(READ, length_bytes);
    this.#below.read(offset_bytes, length_bytes, memory, at, waiter, token);
  }

  write(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    if (!this.#mayPass(WRITE))
      return this.#wait('write', offset_bytes, length_bytes, memory, at, null, waiter, token);
    this.#take(WRITE, length_bytes);
    this.#below.write(offset_bytes, length_bytes, memory, at, waiter, token);
  }

  trim(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    if (!this.#mayPass(WRITE))
      return this.#wait('trim', offset_bytes, length_bytes, null, 0, null, waiter, token);
    this.#take(WRITE, 0);
    this.#below.trim(offset_bytes, length_bytes, waiter, token);
  }

  zero(offset_bytes: number, length_bytes: number, how: ZeroHow, waiter: Waiter, token: number): void {
    if (!this.#mayPass(WRITE))
      return this.#wait('zero', offset_bytes, length_bytes, null, 0, how, waiter, token);
    this.#take(WRITE, 0);
    this.#below.zero(offset_bytes, length_bytes, how, waiter, token);
  }

  cache(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    if (!this.#mayPass(READ))
      return this.#wait('cache', offset_bytes, length_bytes, null, 0, null, waiter, token);
    this.#take(READ, length_bytes);
    this.#below.cache(offset_bytes, length_bytes, waiter, token);
  }

  flush(waiter: Waiter, token: number): void {
    this.#below.flush(waiter, token);
  }

  extents(offset_bytes: number, length_bytes: number, into: ExtentList): number {
    return this.#below.extents(offset_bytes, length_bytes, into);
  }

  /** Who asks sends it: that is a read, and is counted as one. */
  sendableFrom(offset_bytes: number, length_bytes: number): number {
    // A range may be asked for again when its socket was full: it must not be charged twice.
    return this.#unlimited ? this.#below.sendableFrom(offset_bytes, length_bytes) : -1;
  }

  sendFailed(): void {
    this.#below.sendFailed();
  }

  /** Lets go what may; when to be asked again, Infinity when nothing waits. */
  release(now_ms: number): number {
    for (;;) {
      const reads = this.#queues[READ].first;
      const writes = this.#queues[WRITE].first;
      const readAt_ms = reads === null ? Infinity : this.#readyAt_ms(READ, now_ms);
      const writeAt_ms = writes === null ? Infinity : this.#readyAt_ms(WRITE, now_ms);
      if (readAt_ms > now_ms && writeAt_ms > now_ms) return Math.min(readAt_ms, writeAt_ms);
      const readGoes =
        readAt_ms <= now_ms && (writeAt_ms > now_ms || reads!.order < writes!.order) ? READ : WRITE;
      this.#go(this.#queues[readGoes].shift(), readGoes, now_ms);
    }
  }

  #go(waiting: Waiting, direction: Direction, now_ms: number): void {
    const { kind, offset_bytes, length_bytes, memory, at, how, waiter, token } = waiting;
    this.#throttled[1]! += now_ms - waiting.since_ms;
    const carries = kind === 'zero' || kind === 'trim' ? 0 : length_bytes;
    this.#take(direction, carries);
    const below = this.#below;
    switch (kind) {
      case 'read': {
        const result = below.tryRead(offset_bytes, length_bytes, memory!, at);
        if (result === -ERRNO.EAGAIN) below.read(offset_bytes, length_bytes, memory!, at, waiter, token);
        else waiter.completed(token, result);
        return;
      }
      case 'write': {
        const result = below.tryWrite(offset_bytes, length_bytes, memory!, at);
        if (result === -ERRNO.EAGAIN) below.write(offset_bytes, length_bytes, memory!, at, waiter, token);
        else waiter.completed(token, result);
        return;
      }
      case 'zero':
        return below.zero(offset_bytes, length_bytes, how!, waiter, token);
      case 'trim':
        return below.trim(offset_bytes, length_bytes, waiter, token);
      case 'cache':
        return below.cache(offset_bytes, length_bytes, waiter, token);
    }
  }

  /** Nobody waits before it, and no bucket is empty. */
  #mayPass(direction: Direction): boolean {
    if (this.#unlimited) return !this.busy;
    if (this.busy) {
      const shared = this.#operations[2] !== null || this.#bytes[2] !== null;
      if (shared || this.#queues[direction].count > 0) return false;
    }
    const now_ms = this.#limits.now_ms();
    return this.#readyAt_ms(direction, now_ms) <= now_ms;
  }

  #readyAt_ms(direction: Direction, now_ms: number): number {
    let at_ms = now_ms;
    for (let i = direction; i < 3; i += 2 - direction) {
      const operations = this.#operations[i];
      const bytes = this.#bytes[i];
      if (operations) at_ms = Math.max(at_ms, operations.readyAt_ms(now_ms));
      if (bytes) at_ms = Math.max(at_ms, bytes.readyAt_ms(now_ms));
    }
    return at_ms;
  }

  #take(direction: Direction, length_bytes: number): void {
    this.#operations[direction]?.take(1);
    this.#operations[2]?.take(1);
    this.#bytes[direction]?.take(length_bytes);
    this.#bytes[2]?.take(length_bytes);
  }

  #wait(
    kind: Kind,
    offset_bytes: number,
    length_bytes: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    const now_ms = this.#limits.now_ms();
    const direction = kind === 'read' || kind === 'cache' ? READ : WRITE;
    const asked = { order: this.#order++, since_ms: now_ms };
    this.#queues[direction].push({
      ...asked,
      kind,
      offset_bytes,
      length_bytes,
      memory,
      at,
      how,
      waiter,
      token,
    });
    this.#throttled[0]!++;
    this.#limits.wait(this, this.#readyAt_ms(direction, now_ms));
  }
}

/** First in, first out; taking costs nothing however many wait. */
class Queue {
  #entries: Waiting[] = [];
  #head = 0;

  get count(): number {
    return this.#entries.length - this.#head;
  }

  get first(): Waiting | null {
    return this.#entries[this.#head] ?? null;
  }

  push(waiting: Waiting): void {
    this.#entries.push(waiting);
  }

  shift(): Waiting {
    const first = this.#entries[this.#head++]!;
    if (this.#head > 1024 || this.#head === this.#entries.length) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
    return first;
  }
}
