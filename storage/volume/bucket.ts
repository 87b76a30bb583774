/**
 * A token bucket. Who asks may go while there is anything in it, and takes all that it costs: what is missing is a debt
 * that those behind wait for. So a long request needs no larger bucket than a short one, and over time exactly the rate
 * gets through. Pure; time is an argument.
 */
import type { RateOpening } from './opening.js';

/** The loop wakes by the millisecond, and late when it is busy: a bucket that ran over meanwhile would lose rate. */
const BURST_MINIMUM_MS = 20;

function burstOf({ rate_per_s, burst }: RateOpening): number {
  return Math.max(burst, (rate_per_s * BURST_MINIMUM_MS) / 1000);
}

export class Bucket {
  #rate_per_ms: number;
  #burst: number;
  #level: number;
  #filledAt_ms: number;

  constructor(rate: RateOpening, now_ms: number) {
    this.#rate_per_ms = rate.rate_per_s / 1000;
    this.#burst = burstOf(rate);
    this.#level = this.#burst;
    this.#filledAt_ms = now_ms;
  }

  /** Another rate from now on; what was saved or owed stays, as far as the new burst holds it. */
  change(rate: RateOpening, now_ms: number): void {
    this.#fill(now_ms);
    this.#rate_per_ms = rate.rate_per_s / 1000;
    this.#burst = burstOf(rate);
    this.#level = Math.min(this.#level, this.#burst);
  }

  /** When the next one may go; now or earlier: at once. */
  readyAt_ms(now_ms: number): number {
    this.#fill(now_ms);
    return this.#level > 0 ? now_ms : now_ms + Math.max(-this.#level / this.#rate_per_ms, 1e-3);
  }

  take(cost: number): void {
    this.#level -= cost;
  }

  #fill(now_ms: number): void {
    // A clock that steps back fills nothing, and takes nothing.
    const passed_ms = Math.max(0, now_ms - this.#filledAt_ms);
    this.#filledAt_ms = now_ms;
    this.#level = Math.min(this.#burst, this.#level + passed_ms * this.#rate_per_ms);
  }
}
