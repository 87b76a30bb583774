/**
 * Two volumes kept the same. Read mirrorJournal.ts first: what is on disk about them, and why it is true.
 *
 *            in-sync  --it fails, or is too short-->  out  --it is well again-->  resyncing  --all copied, flushed--> in-sync
 *   one side:                                          ^------ it fails again --------'
 *
 * The other side is `good` then: nothing is answered without it, and it is never taken out while the first is not in-sync.
 * If both fail, the client gets the error. Which side is good changes only while both are in-sync, and is durable in the
 * journal before an answer rests on it, so a crash never makes the wrong side the good one.
 *
 *   write, zero, trim   lock of the range (shared) -> regions marked durably -> both sides -> answer when both have it
 *   read                the good side, or the first while both are the same; after an error there the other, and the blocks
 *                       are written back where they could not be read (repairs)
 *   flush               both sides
 *   copying             one chunk at a time under an exclusive lock (mirrorCopier.ts): repairs, then what may differ
 *
 * `stale` are the regions in which the side that is not good may differ: all that are marked when it goes out, those
 * written while it is out, those marked when the mirror is opened after a crash. Marks are cleared by
 * mirrorCleaner.ts some seconds after the last write.
 *
 * The mirror is as long as its first side; what a longer second one has behind that is looked at by nobody.
 *
 * A trim is a hint to both; a side that has come back, or that has taken over, may show trimmed blocks as they were.
 */
import { AskedVolume, CACHE, changes, FLUSH, handOn, READ, WRITE, ZERO, type AskedKind } from './asked.js';
import { MirrorCleaner } from './mirrorCleaner.js';
import { MirrorCopier } from './mirrorCopier.js';
import { Bits, JOURNAL_BYTES, MirrorJournal, regionBytesOf, type JournalCopy } from './mirrorJournal.js';
import type { Leg, MirrorParts, MirrorStatus, Operation } from './mirrorParts.js';
import { MirrorSides, type SidesOwner } from './mirrorSides.js';
import { RangeLock, type LockWaiter } from './rangeLock.js';
import {
  ERRNO,
  EXTENT_DATA,
  pushExtent,
  type BlockMeta,
  type ExtentList,
  type Memory,
  type VolumeState,
  type Waiter,
  type ZeroHow,
} from './volume.js';

/** What is exchanged below the first side; see `expectContent`. */
export type Exchange = 'all' | 'cut';
/** A mirror that is to be made shorter comes to rest within. */
const REST_LIMIT_MS = 10_000;

export class MirrorVolume extends AskedVolume implements Waiter, LockWaiter, SidesOwner {
  size_bytes: number;
  state: VolumeState = 'ok';
  reason: string | null = null;
  readonly sides: MirrorSides;
  readonly locks = new RangeLock();
  readonly journal: MirrorJournal;
  readonly stale = new Bits();
  /** Reads that the other side served, and blocks written back. */
  readErrors = 0;
  repairs = 0;
  copied_bytes = 0;
  /** Operations of clients that ended; the copier makes way when it grows. */
  clientCount = 0;
  #parts: MirrorParts;
  #ready = false;
  /** What of the first side is about to be exchanged, and since when; null: nothing. */
  #exchange: { what: Exchange; since_ms: number } | null = null;
  #failed: string | null = null;
  #operations: (Operation | null)[] = [];
  #free: number[] = [];
  /** Until the journal has been read. */
  #before: number[] = [];
  #forJournal: number[] = [];
  #byLock = new Map<number, number>();
  /** Which side is good is not known: nothing is read. */
  #blind = false;
  #cleaner: MirrorCleaner;
  /** Of the mirror's status, as it was last told. */
  #told: MirrorStatus['state'] = 'resyncing';
  #copier: MirrorCopier;
  #chunk: Memory & { unmap(): void };
  #journalChunk: Memory & { unmap(): void };

  constructor(parts: MirrorParts) {
    super();
    this.#parts = parts;
    this.size_bytes = parts.first.size_bytes;
    this.#journalChunk = parts.allocate(JOURNAL_BYTES);
    this.journal = new MirrorJournal(parts.io, parts.journalFd, this.#journalChunk, this);
    this.sides = new MirrorSides(parts.first, parts.second, this.journal, this.stale, parts.now_ms, this);
    this.#chunk = parts.allocate(MirrorCopier.CHUNK_BYTES);
    this.#copier = new MirrorCopier(this, this.#chunk, parts.now_ms);
    this.#cleaner = new MirrorCleaner(this, parts.now_ms());
    this.journal.load();
  }

  get busy(): boolean {
    const asked = this.#free.length < this.#operations.length;
    return (
      !this.#ready ||
      asked ||
      this.journal.busy ||
      this.#copier.busy ||
      this.sides.legs.some(leg => leg.volume.busy === true)
    );
  }

  /** That may still differ. */
  get left_bytes(): number {
    return Math.min(this.stale.count() * this.journal.region_bytes, this.size_bytes);
  }

  get mirrorStatus(): MirrorStatus {
    // Which of them is good, and what may differ, is not known yet.
    if (!this.#ready) return { state: 'resyncing', left_bytes: 0, reason: null };
    const { other } = this.sides;
    const state = other.state === 'in-sync' ? 'in-sync' : other.state === 'out' ? 'degraded' : 'resyncing';
    return {
      state: this.#failed === null ? state : 'degraded',
      left_bytes: this.left_bytes,
      reason: this.#failed ?? other.reason,
    };
  }

  get meta(): BlockMeta | null {
    return this.sides.good === 0 ? (this.sides.legs[0].volume.meta ?? null) : null;
  }

  // ---- what clients ask ----

  tryRead(offset: number, length: number, memory: Memory, at: number): number {
    if (!this.#ready || this.#blind) return -ERRNO.EAGAIN;
    // Whatever it is, read() deals with it.
    return this.sides.readable.tryRead(offset, length, memory, at) === 0 ? 0 : -ERRNO.EAGAIN;
  }
  tryWrite(): number {
    return -ERRNO.EAGAIN;
  }
  extents(offset: number, length: number, into: ExtentList): number {
    if (this.#ready && !this.#blind) return this.sides.readable.extents(offset, length, into);
    into.count = 0;
    pushExtent(into, length, EXTENT_DATA);
    return 0;
  }
  override sendableFrom(offset: number, length: number): number {
    return this.#ready && !this.#blind ? this.sides.readable.sendableFrom(offset, length) : -1;
  }
  override sendFailed(): void {
    this.sides.readable.sendFailed();
  }

  grow(size_bytes: number): void {
    if (size_bytes <= this.size_bytes) return;
    const before_bytes = this.size_bytes;
    for (const { volume } of this.sides.legs) volume.grow?.(size_bytes);
    this.size_bytes = size_bytes;
    if (!this.#ready) return;
    this.journal.grow(size_bytes, this.stale);
    this.#cleaner.regionsChanged();
    this.#spoil(before_bytes, size_bytes - before_bytes);
    this.journal.commit();
    this.sides.checkSizes();
    if (this.#failed === null) this.sides.resync();
  }

  /** 0 when the first side has what was written last, -EBUSY when only the other has, -EAGAIN while that is not known. */
  get firstHasAll(): number {
    if (!this.#ready) return -ERRNO.EAGAIN;
    if (this.#failed !== null) return -ERRNO.EIO;
    return this.sides.legs[0].state === 'in-sync' ? 0 : -ERRNO.EBUSY;
  }

  /**
   * What the first side holds is to be exchanged below it (a rollback), in two steps. This is the first: durably, everything may
   * differ and the first side is the good one, so a crash in between copies all of it again, whether it was exchanged or not. Called until it
   * does not answer -EAGAIN; -EBUSY: the first is not good, so what it holds would be lost, or the mirror does not come to rest.
   * Then nothing is copied until `contentChanged`. No client may write meanwhile.
   *
   *   all   what it holds may be any other content
   *   cut   the same without its end: nothing differs, but the second side knows less than the first until it is over
   */
  expectContent(what: Exchange): number {
    if (!this.#ready) return -ERRNO.EAGAIN;
    if (this.#failed !== null) return -ERRNO.EIO;
    const { journal, sides } = this;
    if (journal.good === 'second' || sides.legs[0].state !== 'in-sync') {
      this.contentChanged();
      return -ERRNO.EBUSY;
    }
    const now_ms = this.#parts.now_ms();
    if (this.#exchange === null) {
      this.#exchange = { what, since_ms: now_ms };
      this.#copier.hold(true);
      this.#mayDiffer(what);
      journal.setGood('first');
    }
    const durable = what === 'cut' || journal.mark(0, this.size_bytes);
    // What is still on its way to a side could write behind the new end.
    const atRest = what === 'all' || (!this.#copier.busy && this.#free.length === this.#operations.length);
    if (durable && atRest && journal.goodIsDurable) return 0;
    if (now_ms - this.#exchange.since_ms < REST_LIMIT_MS) return -ERRNO.EAGAIN;
    this.contentChanged();
    return -ERRNO.EBUSY;
  }

  /** The second: it has been exchanged, or nothing came of it. The mirror is as long as the first side is now. */
  contentChanged(): void {
    if (this.#exchange === null) return;
    const { what } = this.#exchange;
    this.#exchange = null;
    const { size_bytes } = this.sides.legs[0].volume;
    if (size_bytes < this.size_bytes) this.#cut(size_bytes);
    else this.grow(size_bytes);
    this.#mayDiffer(what);
    this.#copier.hold(false);
  }

  #cut(size_bytes: number): void {
    this.size_bytes = size_bytes;
    this.#cleaner.regionsChanged();
    this.#copier.resized();
    this.journal.cut(size_bytes, this.stale);
  }

  #mayDiffer(what: Exchange): void {
    const { other } = this.sides;
    this.#cleaner.cancel();
    if (what === 'all') this.#spoil(0, this.size_bytes);
    if (other.state === 'in-sync') other.state = 'resyncing';
    this.#tell();
  }

  /** A few times a second. */
  tick(now_ms: number): void {
    for (const { volume } of this.sides.legs) volume.tick?.(now_ms);
    if (!this.#ready || this.#failed !== null) return;
    this.sides.tick(now_ms);
    this.#cleaner.tick(now_ms);
    this.#copier.proceed();
    this.#tell();
  }

  /** Nobody asks any more: both sides flushed and closed, and nothing marked that is the same. */
  shut(done: (result: number) => void): void {
    this.#copier.stop();
    this.flush({ completed: (_token, result) => this.#flushedToShut(result, done) }, 0);
  }

  #flushedToShut(result: number, done: (result: number) => void): void {
    if (result === 0 && !this.#copier.busy) this.#cleaner.clearAll();
    let left = this.sides.legs.length;
    let worst = result;
    const one = (answer: number, leg: Leg): void => {
      if (answer < 0 && leg.state !== 'out') worst = answer;
      if (--left === 0) done(worst);
    };
    for (const leg of this.sides.legs) {
      const { volume } = leg;
      if (volume.shut !== undefined) volume.shut(answer => one(answer, leg));
      else volume.flush({ completed: (_token, answer) => one(answer, leg) }, 0);
    }
  }

  close(): void {
    for (const { volume } of this.sides.legs) volume.close?.();
    this.#copier.stop();
    if (this.busy) return;
    this.#chunk.unmap();
    this.#journalChunk.unmap();
  }

  // ---- the journal ----

  journalLoaded(found: JournalCopy | 'new' | 'damaged' | 'unreadable'): void {
    this.#ready = true;
    if (found === 'damaged' || found === 'unreadable') {
      this.#blind = true;
      this.#fail(
        `the mirror's journal is ${found}, so which side is good is not known; without the file the first one is taken`,
      );
    } else if (found === 'new') this.#adoptNew(0);
    else if (found.partner !== '' && found.partner !== this.#parts.partner) this.#adoptOther(found);
    else if (found.size_bytes > this.size_bytes && found.good === 'second')
      this.#fail(`the mirror's good side has ${found.size_bytes} bytes, the first has ${this.size_bytes}`);
    else this.#adopt(found);
    const before = this.#before;
    this.#before = [];
    for (const index of before) this.#start(index);
  }

  /** The journal tells of another second side than this one. */
  #adoptOther({ good, sequence }: JournalCopy): void {
    if (good !== 'second') return this.#adoptNew(sequence);
    this.#blind = true;
    this.#fail(
      'the second side of this mirror had what was written last, and another one is in its place, or it was used by itself since: name it as it was, or keep what it has by a mirror of which it is the first side; to go on with what the first side has, use that without a mirror once',
    );
  }

  #adoptNew(sequence: number): void {
    const region_bytes = regionBytesOf(this.size_bytes);
    const marks = new Bits();
    for (let i = 0; i < this.size_bytes / region_bytes; i++) marks.set(i);
    this.#adopt({
      sequence,
      size_bytes: this.size_bytes,
      region_bytes,
      good: 'first',
      partner: this.#parts.partner,
      marks: marks.bytes,
    });
  }

  #adopt(copy: JournalCopy): void {
    const { journal } = this;
    journal.adopt(copy);
    this.stale.bytes.set(copy.marks);
    if (this.size_bytes > copy.size_bytes) {
      journal.grow(this.size_bytes, this.stale);
      this.#spoil(copy.size_bytes, this.size_bytes - copy.size_bytes);
    }
    journal.partner = this.#parts.partner;
    journal.cut(this.size_bytes, this.stale);
    const { other } = this.sides;
    if (this.stale.next(0) >= 0 || copy.good !== 'both') other.state = 'resyncing';
    this.sides.checkSizes();
    this.#tell();
    this.#copier.proceed();
  }

  journalCommitted(): void {
    if (this.journal.failed) this.#fail("the mirror's journal could not be written");
    const waiting = this.#forJournal;
    this.#forJournal = [];
    for (const index of waiting) {
      const operation = this.#operations[index]!;
      if (operation.waitsForGood) this.#answerWhenGood(index);
      else this.#markAndIssue(index);
    }
    this.#copier.journalCommitted();
  }

  // ---- operations ----

  protected ask(
    kind: AskedKind,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    if (kind === CACHE) return this.sides.readable.cache(offset, length, waiter, token);
    const index = this.#free.pop() ?? this.#operations.push(null) - 1;
    const state = { lock: -1, open: 0, results: [1, 1] as [number, number], waitsForGood: false };
    this.#operations[index] = { kind, offset, length, memory, at, how, waiter, token, ...state };
    if (this.#ready) this.#start(index);
    else this.#before.push(index);
  }

  #start(index: number): void {
    const operation = this.#operations[index]!;
    const { kind, offset, length } = operation;
    if (this.#failed !== null && (kind !== READ || this.#blind)) return this.#later(index, -ERRNO.EIO);
    if (kind === READ) return this.#read(index, this.sides.readableIndex);
    if (kind === FLUSH) return this.#issue(index);
    const lock = this.locks.acquire(offset, offset + length, false, this);
    operation.lock = lock;
    this.#byLock.set(lock, index);
    if (this.locks.held(lock)) this.#markAndIssue(index);
  }

  granted(lock: number): void {
    this.#markAndIssue(this.#byLock.get(lock)!);
  }

  #markAndIssue(index: number): void {
    const { offset, length } = this.#operations[index]!;
    if (this.#failed !== null) return this.#later(index, -ERRNO.EIO);
    this.touchRegions(offset, length);
    if (!this.journal.mark(offset, length) || !this.journal.goodIsDurable) {
      this.#forJournal.push(index);
      return;
    }
    if (this.sides.anyOut) this.#spoil(offset, length);
    this.#issue(index);
  }

  #issue(index: number): void {
    const operation = this.#operations[index]!;
    operation.open = 0;
    for (const leg of [0, 1] as const) if (this.sides.legs[leg].state !== 'out') operation.open++;
    // `open` is complete before the first may answer.
    const asked = this.sides.legs.map(leg => leg.state !== 'out');
    for (const leg of [0, 1] as const) if (asked[leg] === true) this.#askLeg(index, leg);
  }

  #askLeg(index: number, leg: 0 | 1): void {
    const { kind, offset, length, memory, at, how } = this.#operations[index]!;
    const { volume } = this.sides.legs[leg];
    const token = index * 2 + leg;
    const tried = kind === WRITE ? volume.tryWrite(offset, length, memory!, at) : -ERRNO.EAGAIN;
    if (tried === -ERRNO.EAGAIN) handOn(volume, kind, offset, length, memory, at, how, this, token);
    else this.#parts.later.answer(this, token, tried);
  }

  #read(index: number, leg: 0 | 1): void {
    const { offset, length, memory, at } = this.#operations[index]!;
    this.#operations[index]!.open = 1;
    this.sides.legs[leg].volume.read(offset, length, memory!, at, this, index * 2 + leg);
  }

  completed(token: number, result: number): void {
    const index = Math.floor(token / 2);
    const leg = (token % 2) as 0 | 1;
    const operation = this.#operations[index]!;
    operation.results[leg] = result;
    if (--operation.open > 0) return;
    if (operation.kind === READ) this.#haveRead(index, leg, result);
    else this.#haveAll(index);
  }

  #haveRead(index: number, leg: 0 | 1, result: number): void {
    const operation = this.#operations[index]!;
    const other = leg === 0 ? 1 : 0;
    if (result === 0) {
      const wasBad = operation.results[other] < 0;
      if (wasBad && this.#failed === null) this.#copier.repair(other, operation.offset, operation.length);
      return this.#answer(index, 0);
    }
    this.readErrors++;
    // A side that may differ there is not asked.
    const second = operation.results[other] < 0;
    if (second || !this.sides.readableThere(other, operation.offset, operation.length))
      return this.#answer(index, second ? operation.results[other] : result);
    this.#read(index, other);
  }

  /** All sides that were asked have answered a change or a flush. */
  #haveAll(index: number): void {
    const operation = this.#operations[index]!;
    const { kind, results } = operation;
    if (kind === ZERO && this.#zeroAgain(index)) return;
    const failed = ([0, 1] as const).filter(leg => results[leg] < 0);
    const { good } = this.sides;
    const other = good === 0 ? 1 : 0;
    if (kind !== FLUSH) this.touchRegions(operation.offset, operation.length);
    if (failed.length === 0) return this.#answerWhenGood(index);
    if (
      failed.length === 2 ||
      (failed.includes(good) && (results[other] === 1 || this.sides.legs[other].state !== 'in-sync'))
    ) {
      // Nobody has it for sure, or only who is not good: they may differ there now.
      const refused = failed.every(leg => results[leg] === -ERRNO.EOPNOTSUPP);
      if (kind !== FLUSH && !refused) {
        this.#spoil(operation.offset, operation.length);
        if (this.sides.legs[other].state === 'in-sync') this.sides.legs[other].state = 'resyncing';
      }
      if (kind === FLUSH && this.sides.legs[good].volume.state === 'failed') this.#tell();
      this.#answer(index, results[good] < 0 ? results[good] : results[other]);
      this.#copier.proceed();
      return;
    }
    const leg = failed[0]!;
    const what = kind === FLUSH ? 'a flush' : kind === WRITE ? 'a write' : 'zeroing';
    this.sides.takeOut(leg, `${what} failed there with errno ${-results[leg]}`);
    this.#answerWhenGood(index);
  }

  /** Where one side has zeroed and the other has no fast way, the other takes the slow one. */
  #zeroAgain(index: number): boolean {
    const operation = this.#operations[index]!;
    const { results, how } = operation;
    const refused = ([0, 1] as const).find(leg => results[leg] === -ERRNO.EOPNOTSUPP);
    if (refused === undefined || how?.fastOnly !== true || results[refused === 0 ? 1 : 0] !== 0) return false;
    operation.open = 1;
    operation.how = { mayUnmap: how.mayUnmap, fastOnly: false };
    this.#askLeg(index, refused);
    return true;
  }

  #answerWhenGood(index: number): void {
    const operation = this.#operations[index]!;
    if (this.#failed !== null) return this.#answer(index, -ERRNO.EIO);
    if (!this.journal.goodIsDurable) {
      operation.waitsForGood = true;
      this.#forJournal.push(index);
      return;
    }
    this.#answer(index, 0);
  }

  #later(index: number, result: number): void {
    const { waiter, token } = this.#operations[index]!;
    this.#end(index);
    this.#parts.later.answer(waiter, token, result);
  }

  #answer(index: number, result: number): void {
    const { waiter, token } = this.#operations[index]!;
    this.#end(index);
    this.clientCount++;
    waiter.completed(token, result);
    this.#copier.proceed();
  }

  #end(index: number): void {
    const { lock } = this.#operations[index]!;
    this.#operations[index] = null;
    this.#free.push(index);
    if (lock < 0) return;
    this.#byLock.delete(lock);
    this.locks.release(lock);
  }

  // ---- sides ----

  sidesFailed(why: string): void {
    this.#fail(why);
  }

  sideOut(): void {
    this.#cleaner.cancel();
    this.#copier.restart();
  }

  sidesChanged(): void {
    this.#tell();
    this.#copier.proceed();
  }

  #spoil(offset: number, length: number): void {
    this.#copier.restart();
    this.journal.spread(this.stale, offset, length);
    this.journal.spread(this.journal.marks, offset, length);
  }

  /** Something is being written there, or was until now. */
  touchRegions(offset: number, length: number): void {
    this.#cleaner.wrote(offset, length);
  }

  eachChange(tell: (offset: number, length: number) => void): void {
    for (const operation of this.#operations)
      if (operation !== null && changes(operation.kind)) tell(operation.offset, operation.length);
    this.#copier.eachChange(tell);
  }

  #fail(why: string): void {
    this.#failed ??= why;
    this.#tell();
  }

  #tell(): void {
    const { state, reason } =
      this.#failed === null ? this.sides.stateOf() : { state: 'failed' as const, reason: this.#failed };
    const mirror = this.mirrorStatus.state;
    // That a mirror which is the same on both sides has looked at its journal is news too.
    if (state === this.state && reason === this.reason && mirror === this.#told) return;
    this.#told = mirror;
    this.state = state;
    this.reason = reason;
    this.#parts.onState(this);
  }
}
