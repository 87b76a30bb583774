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
 *   requests of clients   mirrorRequests.ts
 *   copying               one chunk at a time under an exclusive lock (mirrorCopier.ts): repairs, then what may differ
 *
 * `stale` are the regions in which the side that is not good may differ: all that are marked when it goes out, those
 * written while it is out, those marked when the mirror is opened after a crash. Marks are cleared by
 * mirrorCleaner.ts some seconds after the last write.
 *
 * The mirror is as long as its first side; what a longer second one has behind that is looked at by nobody.
 *
 * A trim is a hint to both; a side that has come back, or that has taken over, may show trimmed blocks as they were.
 */
import { AskedVolume, CACHE, type AskedKind } from './asked.js';
import { MirrorCleaner } from './mirrorCleaner.js';
import { MirrorCopier } from './mirrorCopier.js';
import { Bits, JOURNAL_BYTES, MirrorJournal, regionBytesOf, type JournalCopy } from './mirrorJournal.js';
import type { Leg, MirrorParts, MirrorStatus } from './mirrorParts.js';
import { MirrorRequests } from './mirrorRequests.js';
import { MirrorSides, type SidesOwner } from './mirrorSides.js';
import { RangeLock } from './rangeLock.js';
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

export class MirrorVolume extends AskedVolume implements SidesOwner {
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
  /** The journal has been read. */
  ready = false;
  /** What of the first side is about to be exchanged, and since when; null: nothing. */
  #exchange: { what: Exchange; since_ms: number } | null = null;
  /** For good, and why. */
  failed: string | null = null;
  #requests: MirrorRequests;
  /** Which side is good is not known: nothing is read. */
  blind = false;
  #cleaner: MirrorCleaner;
  /** Of the mirror's status, as it was last told. */
  #told: MirrorStatus['state'] = 'resyncing';
  readonly copier: MirrorCopier;
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
    this.copier = new MirrorCopier(this, this.#chunk, parts.now_ms);
    this.#cleaner = new MirrorCleaner(this, parts.now_ms());
    this.#requests = new MirrorRequests(this, parts.later);
    this.journal.load();
  }

  get busy(): boolean {
    return (
      !this.ready ||
      this.#requests.count > 0 ||
      this.journal.busy ||
      this.copier.busy ||
      this.sides.legs.some(leg => leg.volume.busy === true)
    );
  }

  /** That may still differ. */
  get left_bytes(): number {
    return Math.min(this.stale.count() * this.journal.region_bytes, this.size_bytes);
  }

  get mirrorStatus(): MirrorStatus {
    // Which of them is good, and what may differ, is not known yet.
    if (!this.ready) return { state: 'resyncing', left_bytes: 0, reason: null };
    const { other } = this.sides;
    const state = other.state === 'in-sync' ? 'in-sync' : other.state === 'out' ? 'degraded' : 'resyncing';
    return {
      state: this.failed === null ? state : 'degraded',
      left_bytes: this.left_bytes,
      reason: this.failed ?? other.reason,
    };
  }

  get meta(): BlockMeta | null {
    return this.sides.good === 0 ? (this.sides.legs[0].volume.meta ?? null) : null;
  }

  // ---- what clients ask ----

  tryRead(offset: number, length: number, memory: Memory, at: number): number {
    if (!this.ready || this.blind) return -ERRNO.EAGAIN;
    // Whatever it is, read() deals with it.
    return this.sides.readable.tryRead(offset, length, memory, at) === 0 ? 0 : -ERRNO.EAGAIN;
  }
  tryWrite(): number {
    return -ERRNO.EAGAIN;
  }
  extents(offset: number, length: number, into: ExtentList): number {
    if (this.ready && !this.blind) return this.sides.readable.extents(offset, length, into);
    into.count = 0;
    pushExtent(into, length, EXTENT_DATA);
    return 0;
  }
  override sendableFrom(offset: number, length: number): number {
    return this.ready && !this.blind ? this.sides.readable.sendableFrom(offset, length) : -1;
  }
  override sendFailed(): void {
    this.sides.readable.sendFailed();
  }

  grow(size_bytes: number): void {
    if (size_bytes <= this.size_bytes) return;
    const before_bytes = this.size_bytes;
    for (const { volume } of this.sides.legs) volume.grow?.(size_bytes);
    this.size_bytes = size_bytes;
    if (!this.ready) return;
    this.journal.grow(size_bytes, this.stale);
    this.#cleaner.regionsChanged();
    this.spoil(before_bytes, size_bytes - before_bytes);
    this.journal.commit();
    this.sides.checkSizes();
    if (this.failed === null) this.sides.resync();
  }

  /** 0 when the first side has what was written last, -EBUSY when only the other has, -EAGAIN while that is not known. */
  get firstHasAll(): number {
    if (!this.ready) return -ERRNO.EAGAIN;
    if (this.failed !== null) return -ERRNO.EIO;
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
    if (!this.ready) return -ERRNO.EAGAIN;
    if (this.failed !== null) return -ERRNO.EIO;
    const { journal, sides } = this;
    if (journal.good === 'second' || sides.legs[0].state !== 'in-sync') {
      this.contentChanged();
      return -ERRNO.EBUSY;
    }
    const now_ms = this.#parts.now_ms();
    if (this.#exchange === null) {
      this.#exchange = { what, since_ms: now_ms };
      this.copier.hold(true);
      this.#mayDiffer(what);
      journal.setGood('first');
    }
    const durable = what === 'cut' || journal.mark(0, this.size_bytes);
    // What is still on its way to a side could write behind the new end.
    const atRest = what === 'all' || (!this.copier.busy && this.#requests.count === 0);
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
    this.copier.hold(false);
  }

  #cut(size_bytes: number): void {
    this.size_bytes = size_bytes;
    this.#cleaner.regionsChanged();
    this.copier.resized();
    this.journal.cut(size_bytes, this.stale);
  }

  #mayDiffer(what: Exchange): void {
    const { other } = this.sides;
    this.#cleaner.cancel();
    if (what === 'all') this.spoil(0, this.size_bytes);
    if (other.state === 'in-sync') other.state = 'resyncing';
    this.tell();
  }

  /** A few times a second. */
  tick(now_ms: number): void {
    for (const { volume } of this.sides.legs) volume.tick?.(now_ms);
    if (!this.ready || this.failed !== null) return;
    this.sides.tick(now_ms);
    this.#cleaner.tick(now_ms);
    this.copier.proceed();
    this.tell();
  }

  /** Nobody asks any more: both sides flushed and closed, and nothing marked that is the same. */
  shut(done: (result: number) => void): void {
    this.copier.stop();
    this.flush({ completed: (_token, result) => this.#flushedToShut(result, done) }, 0);
  }

  #flushedToShut(result: number, done: (result: number) => void): void {
    if (result === 0 && !this.copier.busy) this.#cleaner.clearAll();
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
    this.copier.stop();
    if (this.busy) return;
    this.#chunk.unmap();
    this.#journalChunk.unmap();
  }

  // ---- the journal ----

  journalLoaded(found: JournalCopy | 'new' | 'damaged' | 'unreadable'): void {
    this.ready = true;
    if (found === 'damaged' || found === 'unreadable') {
      this.blind = true;
      this.#fail(
        `the mirror's journal is ${found}, so which side is good is not known; without the file the first one is taken`,
      );
    } else if (found === 'new') this.#adoptNew(0);
    else if (found.partner !== '' && found.partner !== this.#parts.partner) this.#adoptOther(found);
    else if (found.size_bytes > this.size_bytes && found.good === 'second')
      this.#fail(`the mirror's good side has ${found.size_bytes} bytes, the first has ${this.size_bytes}`);
    else this.#adopt(found);
    this.#requests.journalLoaded();
  }

  /** The journal tells of another second side than this one. */
  #adoptOther({ good, sequence }: JournalCopy): void {
    if (good !== 'second') return this.#adoptNew(sequence);
    this.blind = true;
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
      this.spoil(copy.size_bytes, this.size_bytes - copy.size_bytes);
    }
    journal.partner = this.#parts.partner;
    journal.cut(this.size_bytes, this.stale);
    const { other } = this.sides;
    if (this.stale.next(0) >= 0 || copy.good !== 'both') other.state = 'resyncing';
    this.sides.checkSizes();
    this.tell();
    this.copier.proceed();
  }

  journalCommitted(): void {
    if (this.journal.failed) this.#fail("the mirror's journal could not be written");
    this.#requests.journalCommitted();
    this.copier.journalCommitted();
  }

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
    this.#requests.begin({ kind, offset, length, memory, at, how, waiter, token });
  }

  // ---- sides ----

  sidesFailed(why: string): void {
    this.#fail(why);
  }

  sideOut(): void {
    this.#cleaner.cancel();
    this.copier.restart();
  }

  sidesChanged(): void {
    this.tell();
    this.copier.proceed();
  }

  spoil(offset: number, length: number): void {
    this.copier.restart();
    this.journal.spread(this.stale, offset, length);
    this.journal.spread(this.journal.marks, offset, length);
  }

  /** Something is being written there, or was until now. */
  touchRegions(offset: number, length: number): void {
    this.#cleaner.wrote(offset, length);
  }

  eachChange(tell: (offset: number, length: number) => void): void {
    this.#requests.eachChange(tell);
    this.copier.eachChange(tell);
  }

  #fail(why: string): void {
    this.failed ??= why;
    this.tell();
  }

  tell(): void {
    const { state, reason } =
      this.failed === null ? this.sides.stateOf() : { state: 'failed' as const, reason: this.failed };
    const mirror = this.mirrorStatus.state;
    // That a mirror which is the same on both sides has looked at its journal is news too.
    if (state === this.state && reason === this.reason && mirror === this.#told) return;
    this.#told = mirror;
    this.state = state;
    this.reason = reason;
    this.#parts.onState(this);
  }
}
