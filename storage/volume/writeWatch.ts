/**
 * Whether a file's writes have to wait for its disk. The kernel takes them into its memory at once, until too much of that
 * is not on disk yet; then it makes who writes sleep. From then on writes go the slow way for a while, so that the other
 * clients of this thread go on.
 *
 * A write takes long, too, when another process has the processor in the middle of it, and then the slow way would be slower
 * still. So a long write only makes that the next ones are watched: a thread that slept gave the processor up by itself.
 */
const LONG_MS = 5;
const PERIOD_MS = 500;

export class WriteWatch {
  #switches: () => number;
  #slowUntil_ms = 0;
  #watchedUntil_ms = 0;
  #begin_ms = 0;
  /** When the write began; -1: it is not watched. */
  #switchesThen = -1;

  /** `switches`: how often this thread slept. */
  constructor(switches: () => number) {
    this.#switches = switches;
  }

  /** False: writes go the slow way now. Otherwise one begins. */
  begin(now_ms: number): boolean {
    if (now_ms < this.#slowUntil_ms) return false;
    this.#begin_ms = now_ms;
    this.#switchesThen = now_ms < this.#watchedUntil_ms ? this.#switches() : -1;
    return true;
  }

  end(now_ms: number): void {
    if (now_ms - this.#begin_ms <= LONG_MS) return;
    this.#watchedUntil_ms = now_ms + PERIOD_MS;
    if (this.#switchesThen === -1 || this.#switches() === this.#switchesThen) return;
    this.#slowUntil_ms = now_ms + PERIOD_MS;
    // The first write after that may find the disk as it was.
    this.#watchedUntil_ms = this.#slowUntil_ms + PERIOD_MS;
  }
}
