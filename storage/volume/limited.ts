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
import { changes, FLUSH, handOn, READ, TRIM, WRITE, ZERO, type Asked, type AskedKind } from './asked.js';
import { Bucket } from './bucket.js';
import type { LimitsOpening, RateOpening } from './opening.js';
import { ERRNO, type FileRuns, type Memory, type Volume, type Waiter, type ZeroHow } from './volume.js';
import { WrapperVolume } from './wrapper.js';

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

/** Of buckets and queues. What is common to both has index 2. */
const IN = 0;
const OUT = 1;
type Direction = typeof IN | typeof OUT;

interface Waiting extends Asked {
  readonly order: number;
  readonly since_ms: number;
}

export class LimitedVolume extends WrapperVolume {
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
    super(below);
    this.#throttled = throttled;
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
    return this.#queues[IN].count + this.#queues[OUT].count > 0;
  }

  /** Requests that had to wait, and how long altogether those that have gone since. */
  get throttledCount(): number {
    return this.#throttled[0]!;
  }
  get throttled_ms(): number {
    return this.#throttled[1]!;
  }

  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    if (!this.#mayPass(IN)) return -ERRNO.EAGAIN;
    const result = this.below.tryRead(offset, length, memory, at);
    if (result !== -ERRNO.EAGAIN) this.#take(IN, length);
    return result;
  }

  override tryWrite(offset: number, length: number, memory: Memory, at: number): number {
    if (!this.#mayPass(OUT)) return -ERRNO.EAGAIN;
    const result = this.below.tryWrite(offset, length, memory, at);
    if (result !== -ERRNO.EAGAIN) this.#take(OUT, length);
    return result;
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
    if (kind !== FLUSH) {
      const direction = directionOf(kind);
      if (!this.#mayPass(direction)) {
        const now_ms = this.#limits.now_ms();
        const when = { order: this.#order++, since_ms: now_ms };
        this.#queues[direction].push({ kind, offset, length, memory, at, how, waiter, token, ...when });
        this.#throttled[0]!++;
        return this.#limits.wait(this, this.#readyAt_ms(direction, now_ms));
      }
      this.#take(direction, carried(kind, length));
    }
    handOn(this.below, kind, offset, length, memory, at, how, waiter, token);
  }

  /** Who asks sends it: that is a read, and is counted as one. */
  override sendableFrom(offset: number, length: number): number {
    // A range may be asked for again when its socket was full: it must not be charged twice.
    return this.#unlimited ? this.below.sendableFrom(offset, length) : -1;
  }

  tryReadRuns(offset: number, length: number, memory: Memory, at: number, into: FileRuns): number {
    if (!this.#unlimited || this.below.tryReadRuns === undefined)
      return this.tryRead(offset, length, memory, at);
    if (!this.#mayPass(IN)) return -ERRNO.EAGAIN;
    return this.below.tryReadRuns(offset, length, memory, at, into);
  }

  /** Lets go what may; when to be asked again, Infinity when nothing waits. */
  release(now_ms: number): number {
    for (;;) {
      const reads = this.#queues[IN].first;
      const writes = this.#queues[OUT].first;
      const readAt_ms = reads === null ? Infinity : this.#readyAt_ms(IN, now_ms);
      const writeAt_ms = writes === null ? Infinity : this.#readyAt_ms(OUT, now_ms);
      if (readAt_ms > now_ms && writeAt_ms > now_ms) return Math.min(readAt_ms, writeAt_ms);
      const readGoes =
        readAt_ms <= now_ms && (writeAt_ms > now_ms || reads!.order < writes!.order) ? IN : OUT;
      this.#go(this.#queues[readGoes].shift(), readGoes, now_ms);
    }
  }

  #go(waiting: Waiting, direction: Direction, now_ms: number): void {
    const { kind, offset, length, memory, at, how, waiter, token } = waiting;
    const { below } = this;
    this.#throttled[1]! += now_ms - waiting.since_ms;
    this.#take(direction, carried(kind, length));
    let result: number = -ERRNO.EAGAIN;
    if (kind === READ) result = below.tryRead(offset, length, memory!, at);
    else if (kind === WRITE) result = below.tryWrite(offset, length, memory!, at);
    if (result === -ERRNO.EAGAIN) handOn(below, kind, offset, length, memory, at, how, waiter, token);
    else waiter.completed(token, result);
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
}

function directionOf(kind: AskedKind): Direction {
  return changes(kind) ? OUT : IN;
}

/** Bytes that count. */
function carried(kind: AskedKind, length: number): number {
  return kind === ZERO || kind === TRIM ? 0 : length;
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
