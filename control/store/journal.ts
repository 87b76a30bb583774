/**
 * The events: the newest EVENTS_MAX in memory for whoever asks, and on their way to the store in the background.
 * Numbers go on rising across restarts of weftd, so `since` means the same to a client that reconnects.
 */
import { EVENTS_MAX } from './store.js';
import type { Store, StoredEvent } from './store.js';

/** After a power cut the last events may be lost: their numbers must not be given out again. */
const SKIP_ON_OPEN = 1000;

export class Journal {
  readonly #store: Store;
  readonly #now: () => string;
  readonly #onError: (error: unknown) => void;
  readonly #listeners = new Set<(event: StoredEvent) => void>();
  #events: StoredEvent[];
  #nextSeq: number;
  #unwritten: StoredEvent[] = [];
  #writing: Promise<void> | undefined;

  constructor(
    store: Store,
    kept: readonly StoredEvent[],
    now: () => string,
    onError: (error: unknown) => void,
  ) {
    this.#store = store;
    this.#now = now;
    this.#onError = onError;
    this.#events = [...kept];
    this.#nextSeq = kept.length === 0 ? 1 : kept.at(-1)!.seq + SKIP_ON_OPEN;
  }

  add(event: Omit<StoredEvent, 'seq' | 'at'>): void {
    const full: StoredEvent = { seq: this.#nextSeq++, at: this.#now(), ...event };
    this.#events.push(full);
    // Trimmed in strides, so that an event costs the same however many there are.
    if (this.#events.length > EVENTS_MAX * 1.1) this.#events = this.#events.slice(-EVENTS_MAX);
    for (const listener of this.#listeners) listener(full);
    this.#unwritten.push(full);
    this.#writing ??= this.#write();
  }

  /** Those after `since`, oldest first. */
  after(since: number): StoredEvent[] {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#events[middle]!.seq <= since) low = middle + 1;
      else high = middle;
    }
    return this.#events.slice(low);
  }

  listen(listener: (event: StoredEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All that was added is in the store. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  async #write(): Promise<void> {
    try {
      // Yield first: what happens together is written together.
      await Promise.resolve();
      while (this.#unwritten.length > 0) {
        const batch = this.#unwritten;
        this.#unwritten = [];
        await this.#store.log(batch);
      }
    } catch (error) {
      this.#onError(error);
    } finally {
      this.#writing = undefined;
    }
  }
}
