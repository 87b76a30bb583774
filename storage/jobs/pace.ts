/**
 * How fast a job goes: what its next slice has to wait for. Pure; time is handed in.
 *
 * With a rate, a slice waits until what was moved before it fits the rate. Without one, the job yields to clients: when a slice
 * took long, the disk has others to serve, and the job rests as long as that took (at most REST_MAX_MS).
 *
 * And how long it will go on, by how fast it went lately.
 */

/** A slice that takes longer found the disk, or the processor, busy. */
const BUSY_MS = 25;
const REST_MAX_MS = 500;
/** What a rate may save up. */
const SAVED_MS = 100;

export class Pace {
  #rate_bytes_per_s: number | null;
  /** When what was moved so far is paid for. */
  #paid_ms: number;

  constructor(rate_bytes_per_s: number | null, now_ms: number) {
    this.#rate_bytes_per_s = rate_bytes_per_s;
    this.#paid_ms = now_ms;
  }

  /** After a slice: how long to rest before the next one, in ms. */
  after(moved_bytes: number, began_ms: number, now_ms: number): number {
    if (this.#rate_bytes_per_s === null) {
      const took_ms = now_ms - began_ms;
      return took_ms < BUSY_MS ? 0 : Math.min(took_ms, REST_MAX_MS);
    }
    const cost_ms = (moved_bytes / this.#rate_bytes_per_s) * 1000;
    this.#paid_ms = Math.max(this.#paid_ms, now_ms - SAVED_MS) + cost_ms;
    return Math.max(0, this.#paid_ms - now_ms);
  }
}

const SAMPLES_LIMIT = 30;
const SAMPLE_MS = 1000;

/** How much is done, seen from time to time. */
export class Remaining {
  #samples: { readonly at_ms: number; readonly done_bytes: number }[] = [];
  #total_bytes: number | null = null;

  /** null: cannot be told (yet). By what was done in the last 30 s, or in the last 30 times that it was asked if that is longer. */
  left_ms(at_ms: number, done_bytes: number, total_bytes: number | null): number | null {
    const samples = this.#samples;
    // Another part of the work begins, which may go at another speed.
    if (total_bytes !== this.#total_bytes || done_bytes < (samples.at(-1)?.done_bytes ?? 0))
      samples.length = 0;
    this.#total_bytes = total_bytes;
    if (samples.length === 0 || at_ms - samples.at(-1)!.at_ms >= SAMPLE_MS)
      samples.push({ at_ms, done_bytes });
    if (samples.length > SAMPLES_LIMIT) samples.shift();
    const [first] = samples;
    const took_ms = at_ms - first!.at_ms;
    const moved_bytes = done_bytes - first!.done_bytes;
    if (total_bytes === null || took_ms < SAMPLE_MS || moved_bytes <= 0) return null;
    return Math.round((Math.max(0, total_bytes - done_bytes) / moved_bytes) * took_ms);
  }
}
