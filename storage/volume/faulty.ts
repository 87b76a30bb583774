/**
 * A layer that misbehaves on purpose, repeatably by seed: for tests of whatever sits above a volume, and for
 * operators who want to rehearse a bad disk. With every rate at zero it is invisible.
 *
 *   again_ppm   tryRead / tryWrite answer -EAGAIN though the layer below could answer
 *   delay_ppm   an answer is held back for 1 to `delayTurns` turns of the loop (so answers change order)
 *   error_ppm   a read, write, zero or trim answers `error` and does nothing
 *   flushError_ppm   a flush answers EIO and the volume is failed from then on
 */
import {
  ERRNO,
  type ExtentList,
  type Memory,
  type Volume,
  type VolumeState,
  type Waiter,
  type ZeroHow,
} from './volume.js';
import type { Later } from './later.js';

export interface Faults {
  readonly seed: number;
  readonly again_ppm?: number;
  readonly delay_ppm?: number;
  readonly delayTurns?: number;
  readonly error_ppm?: number;
  readonly error?: number;
  readonly flushError_ppm?: number;
}

export class FaultyVolume implements Volume {
  #below: Volume;
  #later: Later;
  #faults: Required<Faults>;
  #random: number;
  #failed = false;

  constructor(below: Volume, later: Later, faults: Faults) {
    this.#below = below;
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

  get size_bytes(): number {
    return this.#below.size_bytes;
  }
  get state(): VolumeState {
    return this.#failed ? 'failed' : this.#below.state;
  }
  get reason(): string | null {
    return this.#failed ? 'a flush failed on purpose' : this.#below.reason;
  }

  tryRead(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const fault = this.#tryFault();
    return fault !== 0 ? fault : this.#below.tryRead(offset_bytes, length_bytes, memory, at);
  }

  tryWrite(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    if (this.#failed) return -ERRNO.EIO;
    const fault = this.#tryFault();
    return fault !== 0 ? fault : this.#below.tryWrite(offset_bytes, length_bytes, memory, at);
  }

  read(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    if (this.#refused(waiter, token)) return;
    this.#below.read(offset_bytes, length_bytes, memory, at, this.#through(waiter), token);
  }

  write(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    if (this.#failed) return this.#later.answer(waiter, token, -ERRNO.EIO);
    if (this.#refused(waiter, token)) return;
    this.#below.write(offset_bytes, length_bytes, memory, at, this.#through(waiter), token);
  }

  flush(waiter: Waiter, token: number): void {
    if (this.#hit(this.#faults.flushError_ppm)) this.#failed = true;
    if (this.#failed) return this.#later.answer(waiter, token, -ERRNO.EIO);
    this.#below.flush(this.#through(waiter), token);
  }

  trim(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    if (this.#failed) return this.#later.answer(waiter, token, -ERRNO.EIO);
    if (this.#refused(waiter, token)) return;
    this.#below.trim(offset_bytes, length_bytes, this.#through(waiter), token);
  }

  zero(offset_bytes: number, length_bytes: number, how: ZeroHow, waiter: Waiter, token: number): void {
    if (this.#failed) return this.#later.answer(waiter, token, -ERRNO.EIO);
    if (this.#refused(waiter, token)) return;
    this.#below.zero(offset_bytes, length_bytes, how, this.#through(waiter), token);
  }

  cache(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void {
    this.#below.cache(offset_bytes, length_bytes, this.#through(waiter), token);
  }

  extents(offset_bytes: number, length_bytes: number, into: ExtentList): number {
    return this.#below.extents(offset_bytes, length_bytes, into);
  }

  sendableFrom(): number {
    return -1;
  }

  sendFailed(): void {}

  #tryFault(): number {
    if (this.#hit(this.#faults.again_ppm)) return -ERRNO.EAGAIN;
    // What is to be delayed cannot be answered at once.
    if (this.#hit(this.#faults.delay_ppm)) return -ERRNO.EAGAIN;
    if (this.#hit(this.#faults.error_ppm)) return -this.#faults.error;
    return 0;
  }

  #refused(waiter: Waiter, token: number): boolean {
    if (!this.#hit(this.#faults.error_ppm)) return false;
    this.#later.answer(waiter, token, -this.#faults.error);
    return true;
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
