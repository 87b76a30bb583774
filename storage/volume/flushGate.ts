/**
 * Decides when a volume's file is synced: one sync at a time, shared by everyone who may share it.
 *
 *             ask                     sync ends
 *   idle ------------> syncing -------------------> idle, or syncing again for those who came meanwhile
 *                         |  ask: wait for the NEXT sync
 *
 * Who asks while a sync runs must not be answered by it: a write may have completed after the kernel had
 * passed its pages. So askers are in two lists, those of the running sync and those of the next one. A thousand
 * concurrent flushes cost two syncs.
 *
 * After a failed sync everybody, now and later, gets -EIO (see VolumeState in volume.ts). Pure: who really
 * syncs is told by `start`, and answers through `ended`.
 */
import { ERRNO, type Waiter } from './volume.js';

export class FlushGate {
  #running: Asker[] = [];
  #next: Asker[] = [];
  #syncing = false;
  #failed = false;
  #start: () => void;
  /** Syncs begun. */
  syncCount = 0;

  /** `start` begins a sync and returns; its end is told by `ended`, never from within `start`. */
  constructor(start: () => void) {
    this.#start = start;
  }

  get busy(): boolean {
    return this.#syncing;
  }

  ask(waiter: Waiter, token: number): void {
    this.#next.push({ waiter, token });
    if (!this.#syncing) this.#begin();
  }

  /** `result` is 0 or -errno. True when it was the first failure. */
  ended(result: number): boolean {
    const first = result < 0 && !this.#failed;
    if (result < 0) this.#failed = true;
    const answer = this.#failed ? -ERRNO.EIO : 0;
    const done = this.#running;
    this.#running = [];
    this.#syncing = false;
    // Before the answers: whoever asks again from within its answer joins the next sync.
    if (this.#next.length > 0) {
      if (this.#failed) {
        done.push(...this.#next);
        this.#next = [];
      } else this.#begin();
    }
    for (const asker of done) asker.waiter.completed(asker.token, answer);
    return first;
  }

  #begin(): void {
    this.#running = this.#next;
    this.#next = [];
    this.#syncing = true;
    this.syncCount++;
    this.#start();
  }
}

interface Asker {
  readonly waiter: Waiter;
  readonly token: number;
}
