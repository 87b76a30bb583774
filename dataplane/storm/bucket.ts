/** A token bucket that is asked for each frame: no timer, no allocation. Time is passed in. */

export class Bucket {
  readonly rate_per_ms: number;
  readonly burst: number;
  #tokens: number;
  #at_ms: number;

  constructor(rate_per_s: number, burst: number, now_ms: number) {
    this.rate_per_ms = rate_per_s / 1000;
    this.burst = burst;
    this.#tokens = burst;
    this.#at_ms = now_ms;
  }

  /**
   * Whether so much may pass now. As long as there is anything left, it may, even if it is more than there is (a
   * super-frame is one frame): the debt is paid before the next.
   */
  takes(amount: number, now_ms: number): boolean {
    if (!this.hasAny(now_ms)) return false;
    this.#tokens -= amount;
    return true;
  }

  /** Whether `takes` would answer yes. */
  hasAny(now_ms: number): boolean {
    if (now_ms > this.#at_ms) {
      this.#tokens = Math.min(this.burst, this.#tokens + (now_ms - this.#at_ms) * this.rate_per_ms);
      this.#at_ms = now_ms;
    }
    return this.#tokens > 0;
  }
}
