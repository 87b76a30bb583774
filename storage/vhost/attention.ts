/**
 * Whether a ring is looked at a moment longer before its guest is asked for kicks again. A kick costs the guest an exit to its
 * hypervisor and us being woken; looking costs a processor, which the guest may be in want of.
 *
 *   kicks on --a kick within LOOK_ON_MS, and no chance to be let go by--> eager: looks on for LOOK_ON_MS after each request
 *       ^                                                                  |
 *       '------------ nothing came: twice as many chances are let go by ----'
 *
 * Where guest and server share a processor, looking keeps the guest from asking: then nearly all chances are let go by.
 * Pure: time is an argument.
 */
const LOOK_ON_MS = 0.05;
const CHANCES_MAX = 64;

export class Attention {
  #isEager = false;
  #until_ms = 0;
  /** That are let go by before the next look, and after the next that is in vain. */
  #chancesLeft = 0;
  #chances = 1;
  #kicksOnAt_ms = -Infinity;

  /** The next call of `wakes` is of something else than a kick. */
  forget(): void {
    this.#kicksOnAt_ms = -Infinity;
  }

  /** A kick. */
  wakes(now_ms: number): void {
    this.#isEager = now_ms < this.#kicksOnAt_ms + LOOK_ON_MS && --this.#chancesLeft < 0;
  }

  /** After a look that found something or not: whether to look on. */
  staysUp(found: boolean, now_ms: number): boolean {
    if (found) {
      // It came while it was looked for.
      if (now_ms < this.#until_ms) this.#chances = 1;
      this.#until_ms = this.#isEager ? now_ms + LOOK_ON_MS : 0;
    }
    return now_ms < this.#until_ms;
  }

  /** Kicks are on. */
  sleeps(now_ms: number): void {
    this.#kicksOnAt_ms = now_ms;
    if (!this.#isEager) return;
    this.#chancesLeft = this.#chances;
    this.#chances = Math.min(2 * this.#chances, CHANCES_MAX);
  }
}
