/** Events of what changed: of pools, volumes and exports, each told when it is otherwise than it was told last. */
import type { StorageEvent } from '../contract.js';
import type { Store } from './stores.js';
import type { UsedVolume } from './volumes.js';

interface Told {
  readonly state: string;
  readonly reason: string | null;
}

export class Telling {
  #now_ms: () => number;
  #onEvent: (event: StorageEvent) => void;
  /** By kind and name. */
  #told = new Map<string, Told>();

  constructor(now_ms: () => number, onEvent: (event: StorageEvent) => void) {
    this.#now_ms = now_ms;
    this.#onEvent = onEvent;
  }

  pool(store: Store): void {
    const { name } = store.config;
    const { state, reason } = store.status([]);
    if (this.#isNews(`pool ${name}`, state, reason))
      this.#onEvent({ type: 'pool', at_ms: this.#now_ms(), pool: name, state, reason });
  }

  volume({ key, poolName, name, state, reason }: UsedVolume): void {
    if (this.#isNews(`volume ${key}`, state, reason))
      this.#onEvent({ type: 'volume', at_ms: this.#now_ms(), pool: poolName, volume: name, state, reason });
  }

  /** `reason`: why it cannot be had; null: it can. */
  export(name: string, reason: string | null): void {
    const state = reason === null ? 'listening' : 'error';
    if (this.#isNews(`export ${name}`, state, reason))
      this.#onEvent({ type: 'export', at_ms: this.#now_ms(), export: name, state, reason });
  }

  /** It is not there any more. `volume`: its key. */
  forget(kind: 'pool' | 'volume' | 'export', name: string): void {
    this.#told.delete(`${kind} ${name}`);
  }

  #isNews(key: string, state: string, reason: string | null): boolean {
    const before = this.#told.get(key);
    if (before !== undefined && before.state === state && before.reason === reason) return false;
    this.#told.set(key, { state, reason });
    return true;
  }
}
