/**
 * An orderly end of everything: guests first, while their disks and networks still work; then the planes; weftd
 * last. A guest that does not power off in time is killed. Asking again with less time hurries it.
 */
import type { Clock } from './clock.js';
import { isAlive } from './reconcile/observed.js';
import type { GuestHost } from './vmm/host.js';

export interface Ending {
  guests: GuestHost;
  /** No guest is started any more. */
  holdReconciler(): void;
  stopPlanes(): Promise<void>;
  clock: Clock;
  note(level: 'info' | 'warning', name: string, reason: string, message: string): void;
}

/** After which even a kill is given up: a process in uninterruptible sleep must not keep weftd. */
const KILL_DEADLINE_MS = 10_000;

export class EverythingEnds {
  readonly #ending: Ending;
  #deadline_ms = Number.POSITIVE_INFINITY;
  #hurry = new Set<() => void>();
  #done: Promise<void> | undefined;

  constructor(ending: Ending) {
    this.#ending = ending;
  }

  /** Resolves when all is down. A second call may shorten the time, never lengthen it. */
  run(timeout_ms: number): Promise<void> {
    const deadline_ms = this.#ending.clock.now_ms() + timeout_ms;
    if (deadline_ms < this.#deadline_ms) {
      this.#deadline_ms = deadline_ms;
      for (const hurry of this.#hurry) hurry();
    }
    this.#done ??= this.#end();
    return this.#done;
  }

  async #end(): Promise<void> {
    this.#ending.holdReconciler();
    const alive = this.#ending.guests.list().filter(isAlive);
    await Promise.all(alive.map(guest => this.#endGuest(guest.name)));
    await this.#ending.stopPlanes();
  }

  async #endGuest(name: string): Promise<void> {
    const { guests, clock } = this.#ending;
    const left_ms = this.#deadline_ms - clock.now_ms();
    if (left_ms > 0) {
      const stopped = guests.stop(name, left_ms).then(
        () => true,
        () => false,
      );
      if ((await this.#before(stopped)) === true) return;
    }
    this.#ending.note('warning', name, 'Killed', 'it did not power off in time and was killed');
    let cancel = (): void => {};
    const late = new Promise<void>(resolve => {
      cancel = clock.after(KILL_DEADLINE_MS, resolve);
    });
    await Promise.race([guests.kill(name).catch(() => {}), late]);
    cancel();
  }

  /** Undefined when the time is up first; the time may be shortened meanwhile. */
  #before<T>(work: Promise<T>): Promise<T | undefined> {
    return new Promise(resolve => {
      let cancel = (): void => {};
      const arm = (): void => {
        cancel();
        const left_ms = Math.max(0, this.#deadline_ms - this.#ending.clock.now_ms());
        cancel = this.#ending.clock.after(left_ms, () => finish(undefined));
      };
      const finish = (value: T | undefined): void => {
        cancel();
        this.#hurry.delete(arm);
        resolve(value);
      };
      this.#hurry.add(arm);
      arm();
      void work.then(finish);
    });
  }
}
