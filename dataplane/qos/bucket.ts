/**
 * A token bucket that may go into debt: as long as there is anything in it, a frame may pass, whatever its length, and
 * what it took too much is waited for before the next. So a burst smaller than a super-frame starves nobody, and the
 * rate is kept over time. Amounts are octets or frames; time is passed in.
 *
 * The loop sleeps in whole milliseconds: a bucket that held less than it gains in two of them would never reach its
 * rate, so it holds that much at least.
 */
import type { Rate } from '../contract.js';

const GRAIN_MS = 2;

export class TokenBucket {
  rate: Rate;
  #perMs: number;
  #size: number;
  #tokens: number;
  #at_ms: number;

  constructor(rate: Rate, now_ms: number) {
    this.rate = rate;
    [this.#perMs, this.#size] = TokenBucket.#meaning(rate);
    this.#tokens = this.#size;
    this.#at_ms = now_ms;
  }

  static #meaning({ unit, per_s, burst }: Rate): [number, number] {
    const perMs = unit === 'bits' ? per_s / 8000 : per_s / 1000;
    return [perMs, Math.max(burst, perMs * GRAIN_MS)];
  }

  get countsFrames(): boolean {
    return this.rate.unit === 'frames';
  }

  /** Goes on with another rate; what it holds or owes stays, as far as it fits: a debt must not outlive its rate. */
  configure(rate: Rate, now_ms: number): void {
    this.refill(now_ms);
    const isOtherUnit = rate.unit !== this.rate.unit;
    this.rate = rate;
    [this.#perMs, this.#size] = TokenBucket.#meaning(rate);
    this.#tokens = isOtherUnit ? this.#size : Math.max(-this.#size, Math.min(this.#tokens, this.#size));
  }

  refill(now_ms: number): void {
    if (now_ms <= this.#at_ms) return;
    this.#tokens = Math.min(this.#size, this.#tokens + (now_ms - this.#at_ms) * this.#perMs);
    this.#at_ms = now_ms;
  }

  /** After `refill`. */
  get hasAny(): boolean {
    return this.#tokens > 0;
  }

  /** In debt by no more than it can hold, where `isForgiving`. */
  take(bytes: number, frames: number, isForgiving = false): void {
    this.#tokens -= this.rate.unit === 'frames' ? frames : bytes;
    if (isForgiving && this.#tokens < -this.#size) this.#tokens = -this.#size;
  }

  /** Whether it may pass; then it has been taken. */
  takes(bytes: number, frames: number, now_ms: number): boolean {
    this.refill(now_ms);
    if (this.#tokens <= 0) return false;
    this.take(bytes, frames);
    return true;
  }

  /** How long until there is something in it again; 0: now. After `refill`. */
  get wait_ms(): number {
    return this.#tokens > 0 ? 0 : -this.#tokens / this.#perMs + 1e-6;
  }
}
