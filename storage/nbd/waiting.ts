/**
 * How the loop waits for events: asleep in the kernel, unless what it waited for last came so quickly that going to sleep and
 * being woken cost more than looking a few times does. A client with one request in flight asks the next some microseconds after
 * our reply; a wake-up costs as much as the request, and several times that on a virtual processor.
 *
 *   sleeps <--came later than EAGER_LIMIT_MS, or not at all-- looks for EAGER_LIMIT_MS at most, then sleeps
 *      '---------------- came within EAGER_LIMIT_MS -------------------^
 *
 * For each time that it looks in vain there was one when it did not, so what has little to do hardly ever looks twice, and a thread
 * without clients never does. Where processors are short (the kernel tells how long this thread waited for one), looking would
 * hold up others, perhaps those who are waited for, and cost us our turn later: then it sleeps.
 */

/** KVM does the same for guests that halt (halt_poll_ns), for four times as long. */
const EAGER_LIMIT_MS = 0.05;
/** A clock that stands still does not keep us from sleeping. */
const LOOKS_LIMIT = 1000;
/** Of the time: 0.002 where there are processors for all, 0.2 and more where they are short. */
const CROWDED_SHARE = 0.02;

export class Waiting {
  #look: (timeout_ms: number) => number;
  #now_ms: () => number;
  #delayed_ms: () => number | null;
  /** Until the first ticks tell. */
  #crowded = true;
  #eager = false;
  #delayAtTick_ms = Infinity;
  #tickedAt_ms = 0;

  /**
   * `look`: as epoll_wait, the number of events that came within `timeout_ms`; 0 does not sleep. `delayed_ms`: how long this thread
   * has waited for a processor, as waitedForProcessor_ms; null: it must not look.
   */
  constructor(look: (timeout_ms: number) => number, now_ms: () => number, delayed_ms: () => number | null) {
    this.#look = look;
    this.#now_ms = now_ms;
    this.#delayed_ms = delayed_ms;
  }

  /** A few times a second. */
  tick(now_ms: number): void {
    const delay_ms = this.#delayed_ms() ?? Infinity;
    const share = (delay_ms - this.#delayAtTick_ms) / (now_ms - this.#tickedAt_ms);
    this.#crowded = !(share >= 0 && share < CROWDED_SHARE);
    this.#delayAtTick_ms = delay_ms;
    this.#tickedAt_ms = now_ms;
  }

  /** The number of events, after `timeout_ms` at most. */
  wait(timeout_ms: number): number {
    if (this.#crowded || timeout_ms === 0) return this.#look(timeout_ms);
    const until_ms = this.#now_ms() + EAGER_LIMIT_MS;
    let count = 0;
    if (this.#eager) {
      for (let looks = 0; looks < LOOKS_LIMIT; looks++) {
        count = this.#look(0);
        if (count > 0) return count;
        if (this.#now_ms() >= until_ms) break;
      }
    }
    count = this.#look(timeout_ms);
    this.#eager = count > 0 && this.#now_ms() < until_ms;
    return count;
  }
}
