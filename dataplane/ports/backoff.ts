/** Waiting longer after each failure: doubles from `first_ms` to `last_ms`, and starts over after a success. */
export class Backoff {
  readonly #first_ms: number;
  readonly #last_ms: number;
  #next_ms: number;

  constructor(first_ms: number, last_ms: number) {
    this.#first_ms = first_ms;
    this.#last_ms = last_ms;
    this.#next_ms = first_ms;
  }

  next_ms(): number {
    const wait_ms = this.#next_ms;
    this.#next_ms = Math.min(this.#last_ms, wait_ms * 2);
    return wait_ms;
  }

  reset(): void {
    this.#next_ms = this.#first_ms;
  }
}
