/**
 * A layer that misbehaves on purpose, repeatably by seed: for tests of whatever sits above a volume, and for
 * operators who want to rehearse a bad disk. With every rate at zero it is invisible.
 *
 *   again_ppm   tryRead / tryWrite answer -EAGAIN though the layer below could answer
 *   delay_ppm   an answer is held back for 1 to `delayTurns` turns of the loop (so answers change order)
 *   error_ppm   a read, write, zero or trim answers `error` and does nothing
 *   flushError_ppm   a flush answers EIO and the volume is failed from then on
 */
import { CACHE, changes, FLUSH, handOn, type AskedKind } from './asked.js';
import type { Later } from './later.js';
import { ERRNO, type Memory, type Volume, type VolumeState, type Waiter, type ZeroHow } from './volume.js';
import { WrapperVolume } from './wrapper.js';

export interface Faults {
  readonly seed: number;
  readonly again_ppm?: number;
  readonly delay_ppm?: number;
  readonly delayTurns?: number;
  readonly error_ppm?: number;
  readonly error?: number;
  readonly flushError_ppm?: number;
}

export class FaultyVolume extends WrapperVolume {
  #later: Later;
  #faults: Required<Faults>;
  #random: number;
  #failed = false;

  constructor(below: Volume, later: Later, faults: Faults) {
    super(below);
    this.#later = later;
    this.#faults = {
      again_ppm: 0,
      delay_ppm: 0,
      delayTurns: 8,
      error_ppm: 0,
      error: ERRNO.EIO,
      flushError_ppm: 0,
      ...faults,
    };
    this.#random = faults.seed >>> 0 || 1;
  }

  override get state(): VolumeState {
    return this.#failed ? 'failed' : this.below.state;
  }
  override get reason(): string | null {
    return this.#failed ? 'a flush failed on purpose' : this.below.reason;
  }

  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    const fault = this.#tryFault();
    return fault !== 0 ? fault : this.below.tryRead(offset, length, memory, at);
  }

  override tryWrite(offset: number, length: number, memory: Memory, at: number): number {
    if (this.#failed) return -ERRNO.EIO;
    const fault = this.#tryFault();
    return fault !== 0 ? fault : this.below.tryWrite(offset, length, memory, at);
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
    if (kind === FLUSH && this.#hit(this.#faults.flushError_ppm)) this.#failed = true;
    if (this.#failed && (kind === FLUSH || changes(kind)))
      return this.#later.answer(waiter, token, -ERRNO.EIO);
    if (kind !== FLUSH && kind !== CACHE && this.#hit(this.#faults.error_ppm))
      return this.#later.answer(waiter, token, -this.#faults.error);
    handOn(this.below, kind, offset, length, memory, at, how, this.#through(waiter), token);
  }

  override sendableFrom(): number {
    return -1;
  }
  override sendFailed(): void {}

  #tryFault(): number {
    if (this.#hit(this.#faults.again_ppm)) return -ERRNO.EAGAIN;
    // What is to be delayed cannot be answered at once.
    if (this.#hit(this.#faults.delay_ppm)) return -ERRNO.EAGAIN;
    if (this.#hit(this.#faults.error_ppm)) return -this.#faults.error;
    return 0;
  }

  #through(waiter: Waiter): Waiter {
    if (!this.#hit(this.#faults.delay_ppm)) return waiter;
    return new Delay(waiter, this.#later, 1 + (this.#next() % this.#faults.delayTurns));
  }

  #hit(rate_ppm: number): boolean {
    return rate_ppm > 0 && this.#next() % 1_000_000 < rate_ppm;
  }

  /** xorshift32 (Marsaglia 2003): small, seeded, good enough to choose faults. */
  #next(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x >>> 0;
    return this.#random;
  }
}

/** Passes an answer on after so many turns. */
class Delay implements Waiter {
  #waiter: Waiter;
  #later: Later;
  #turns: number;

  constructor(waiter: Waiter, later: Later, turns: number) {
    this.#waiter = waiter;
    this.#later = later;
    this.#turns = turns;
  }

  completed(token: number, result: number): void {
    if (this.#turns-- > 0) this.#later.answer(this, token, result);
    else this.#waiter.completed(token, result);
  }
}
