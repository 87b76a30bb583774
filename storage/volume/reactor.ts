/**
 * What a volume that lives on sockets needs of the data thread's loop; nbd/loop.ts is one, tests bring their own.
 *
 * Time comes by `tick` of the volume (a few times a second), so there are no timers here.
 */
import type { Later } from './later.js';
import type { TlsOpening } from './opening.js';

export interface Watcher {
  /** `events` of epoll. Told again in each turn while it stays so. */
  ready(events: number): void;
}

export interface Settler {
  settle(): void;
}

export interface Reactor {
  readonly later: Later;
  readonly now_ms: () => number;
  /** From now on; again with other events changes them. */
  watch(fd: number, events: number, watcher: Watcher): void;
  /** Before the fd is closed. */
  unwatch(fd: number): void;
  /** `settle` is called once before this turn ends, when requests of the whole turn are there: so they leave by one send. */
  touch(settler: Settler): void;
  /** Of hosts' names, as they were found last. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  /** By name of the pool: what is newer than its openings. */
  readonly remoteTls: ReadonlyMap<string, TlsOpening>;
}
