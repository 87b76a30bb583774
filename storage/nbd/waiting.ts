/**
 * How the loop waits for events: asleep in the kernel, unless what it waited for last came so quickly that going to sleep and
 * being woken cost more than looking a few times does. A client with one request in flight asks the next some microseconds after
 * our reply; a wake-up costs as much as the request, and several times that on a virtual processor.
 *
 *   sleeps <--came later than EAGER_LIMIT_MS, or not at all-- looks for EAGER_LIMIT_MS at most, then sleeps
 *      '---------------- came within EAGER_LIMIT_MS -------------------^
 *
 * For each time that it looks in vain there was one when it did not, so what has little to do hardly ever looks twice, and a thread
 * without clients never does. Where there is but one processor, looking would only hold up whom it waits for.
 */

/** KVM does the same for guests that halt (halt_poll_ns), for four times as long. */
const EAGER_LIMIT_MS = 0.05;
/** A clock that stands still does not keep us from sleeping. */
const LOOKS_LIMIT = 1000;

export class Waiting {
  #look: (timeout_ms: number) => number;
  #now_ms: () => number;
  #mayLook: boolean;
  #eager = false;

  /** `look`: as epoll_wait, the number of events that came within `timeout_ms`; 0 does not sleep. */
  constructor(look: (timeout_ms: number) => number, now_ms: () => number, processorCount: number) {
    this.#look = look;
    this.#now_ms = now_ms;
    this.#mayLook = processorCount > 1;
  }

  /** The number of events, after `timeout_ms` at most. */
  wait(timeout_ms: number): number {
    if (!this.#mayLook || timeout_ms === 0) return this.#look(timeout_ms);
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
