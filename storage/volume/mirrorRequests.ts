/**
 * What clients ask of a mirror, and the mirror itself for its flushes; see mirror.ts for the states of sides.
 *
 *   write, zero, trim   lock of the range (shared) -> regions marked durably -> both sides -> answer when both have it
 *   read                the good side, or the first while both are the same; after an error there the other, and the blocks
 *                       are written back where they could not be read (repairs)
 *   flush               both sides
 *
 * Nothing is answered that only one side has before the journal says durably that this one is good.
 */
import { changes, FLUSH, handOn, READ, WRITE, ZERO, type Asked } from './asked.js';
import type { Later } from './later.js';
import type { MirrorVolume } from './mirror.js';
import type { Operation } from './mirrorParts.js';
import type { LockWaiter } from './rangeLock.js';
import { ERRNO, type Waiter } from './volume.js';

export class MirrorRequests implements Waiter, LockWaiter {
  #mirror: MirrorVolume;
  #later: Later;
  #operations: (Operation | null)[] = [];
  #free: number[] = [];
  /** Until the journal has been read. */
  #before: number[] = [];
  #forJournal: number[] = [];
  #byLock = new Map<number, number>();

  constructor(mirror: MirrorVolume, later: Later) {
    this.#mirror = mirror;
    this.#later = later;
  }

  /** Not answered yet. */
  get count(): number {
    return this.#operations.length - this.#free.length;
  }

  begin(asked: Asked): void {
    const index = this.#free.pop() ?? this.#operations.push(null) - 1;
    const state = { lock: -1, open: 0, results: [1, 1] as [number, number], waitsForGood: false };
    this.#operations[index] = { ...asked, ...state };
    if (this.#mirror.ready) this.#start(index);
    else this.#before.push(index);
  }

  journalLoaded(): void {
    const before = this.#before;
    this.#before = [];
    for (const index of before) this.#start(index);
  }

  journalCommitted(): void {
    const waiting = this.#forJournal;
    this.#forJournal = [];
    for (const index of waiting) {
      const operation = this.#operations[index]!;
      if (operation.waitsForGood) this.#answerWhenGood(index);
      else this.#markAndIssue(index);
    }
  }

  /** What is being written now, or waits for it. */
  eachChange(tell: (offset: number, length: number) => void): void {
    for (const operation of this.#operations)
      if (operation !== null && changes(operation.kind)) tell(operation.offset, operation.length);
  }

  #start(index: number): void {
    const operation = this.#operations[index]!;
    const { kind, offset, length } = operation;
    if (this.#mirror.failed !== null && (kind !== READ || this.#mirror.blind))
      return this.#refuse(index, -ERRNO.EIO);
    if (kind === READ) return this.#read(index, this.#mirror.sides.readableIndex);
    if (kind === FLUSH) return this.#issue(index);
    const lock = this.#mirror.locks.acquire(offset, offset + length, false, this);
    operation.lock = lock;
    this.#byLock.set(lock, index);
    if (this.#mirror.locks.held(lock)) this.#markAndIssue(index);
  }

  granted(lock: number): void {
    this.#markAndIssue(this.#byLock.get(lock)!);
  }

  #markAndIssue(index: number): void {
    const { offset, length } = this.#operations[index]!;
    if (this.#mirror.failed !== null) return this.#refuse(index, -ERRNO.EIO);
    this.#mirror.touchRegions(offset, length);
    if (!this.#mirror.journal.mark(offset, length) || !this.#mirror.journal.goodIsDurable) {
      this.#forJournal.push(index);
      return;
    }
    if (this.#mirror.sides.anyOut) this.#mirror.spoil(offset, length);
    this.#issue(index);
  }

  #issue(index: number): void {
    const operation = this.#operations[index]!;
    operation.open = 0;
    for (const leg of [0, 1] as const) if (this.#mirror.sides.legs[leg].state !== 'out') operation.open++;
    // `open` is complete before the first may answer.
    const asked = this.#mirror.sides.legs.map(leg => leg.state !== 'out');
    for (const leg of [0, 1] as const) if (asked[leg] === true) this.#askLeg(index, leg);
  }

  #askLeg(index: number, leg: 0 | 1): void {
    const { kind, offset, length, memory, at, how } = this.#operations[index]!;
    const { volume } = this.#mirror.sides.legs[leg];
    const token = index * 2 + leg;
    const tried = kind === WRITE ? volume.tryWrite(offset, length, memory!, at) : -ERRNO.EAGAIN;
    if (tried === -ERRNO.EAGAIN) handOn(volume, kind, offset, length, memory, at, how, this, token);
    else this.#later.answer(this, token, tried);
  }

  #read(index: number, leg: 0 | 1): void {
    const { offset, length, memory, at } = this.#operations[index]!;
    this.#operations[index]!.open = 1;
    this.#mirror.sides.legs[leg].volume.read(offset, length, memory!, at, this, index * 2 + leg);
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
      if (wasBad && this.#mirror.failed === null)
        this.#mirror.copier.repair(other, operation.offset, operation.length);
      return this.#answer(index, 0);
    }
    this.#mirror.readErrors++;
    // A side that may differ there is not asked.
    const second = operation.results[other] < 0;
    if (second || !this.#mirror.sides.readableThere(other, operation.offset, operation.length))
      return this.#answer(index, second ? operation.results[other] : result);
    this.#read(index, other);
  }

  /** All sides that were asked have answered a change or a flush. */
  #haveAll(index: number): void {
    const operation = this.#operations[index]!;
    const { kind, results } = operation;
    if (kind === ZERO && this.#zeroAgain(index)) return;
    const failed = ([0, 1] as const).filter(leg => results[leg] < 0);
    const { good } = this.#mirror.sides;
    const other = good === 0 ? 1 : 0;
    if (kind !== FLUSH) this.#mirror.touchRegions(operation.offset, operation.length);
    if (failed.length === 0) return this.#answerWhenGood(index);
    if (
      failed.length === 2 ||
      (failed.includes(good) && (results[other] === 1 || this.#mirror.sides.legs[other].state !== 'in-sync'))
    ) {
      // Nobody has it for sure, or only who is not good: they may differ there now.
      const refused = failed.every(leg => results[leg] === -ERRNO.EOPNOTSUPP);
      if (kind !== FLUSH && !refused) {
        this.#mirror.spoil(operation.offset, operation.length);
        if (this.#mirror.sides.legs[other].state === 'in-sync')
          this.#mirror.sides.legs[other].state = 'resyncing';
      }
      if (kind === FLUSH && this.#mirror.sides.legs[good].volume.state === 'failed') this.#mirror.tell();
      this.#answer(index, results[good] < 0 ? results[good] : results[other]);
      this.#mirror.copier.proceed();
      return;
    }
    const leg = failed[0]!;
    const what = kind === FLUSH ? 'a flush' : kind === WRITE ? 'a write' : 'zeroing';
    this.#mirror.sides.takeOut(leg, `${what} failed there with errno ${-results[leg]}`);
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
    if (this.#mirror.failed !== null) return this.#answer(index, -ERRNO.EIO);
    if (!this.#mirror.journal.goodIsDurable) {
      operation.waitsForGood = true;
      this.#forJournal.push(index);
      return;
    }
    this.#answer(index, 0);
  }

  #refuse(index: number, result: number): void {
    const { waiter, token } = this.#operations[index]!;
    this.#end(index);
    this.#later.answer(waiter, token, result);
  }

  #answer(index: number, result: number): void {
    const { waiter, token } = this.#operations[index]!;
    this.#end(index);
    this.#mirror.clientCount++;
    waiter.completed(token, result);
    this.#mirror.copier.proceed();
  }

  #end(index: number): void {
    const { lock } = this.#operations[index]!;
    this.#operations[index] = null;
    this.#free.push(index);
    if (lock < 0) return;
    this.#byLock.delete(lock);
    this.#mirror.locks.release(lock);
  }
}
