/** The store's double: forgets everything with the process, unless the test opens another on the same `disk`. */
import { keyOf } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import { LIMITS, superfluous } from './store.js';
import type {
  Change,
  Contents,
  Revision,
  RevisionHead,
  Store,
  StoredEvent,
  StoredResource,
  StoreLimits,
  Tombstone,
} from './store.js';

/** What outlives a MemoryStore. */
export class MemoryDisk {
  revision = 0;
  resources = new Map<Key, StoredResource>();
  tombstones = new Map<Key, Tombstone>();
  facts = new Map<string, unknown>();
  revisions = new Map<number, string>();
  events: StoredEvent[] = [];
}

export class MemoryStore implements Store {
  readonly #disk: MemoryDisk;
  readonly #limits: StoreLimits;
  /** The next commit rejects with this, having changed nothing. */
  failNext: Error | undefined;

  constructor(disk = new MemoryDisk(), limits = LIMITS) {
    this.#disk = disk;
    this.#limits = limits;
  }

  async read(): Promise<Contents> {
    const { revision, resources, tombstones, facts, events } = this.#disk;
    return structuredClone({
      revision,
      resources: [...resources.values()],
      tombstones: [...tombstones.values()],
      facts,
      events,
    });
  }

  async commit(change: Change): Promise<void> {
    const failure = this.failNext;
    this.failNext = undefined;
    if (failure !== undefined) throw failure;
    const disk = this.#disk;
    const { revision, put, remove, bury, unbury, facts } = structuredClone(change);
    for (const resource of put ?? []) disk.resources.set(keyOf(resource.kind, resource.name), resource);
    for (const key of remove ?? []) disk.resources.delete(key);
    for (const tombstone of bury ?? []) disk.tombstones.set(keyOf(tombstone.kind, tombstone.name), tombstone);
    for (const key of unbury ?? []) disk.tombstones.delete(key);
    for (const [name, fact] of facts ?? [])
      if (fact === null) disk.facts.delete(name);
      else disk.facts.set(name, fact);
    if (revision === undefined) return;
    disk.revision = revision.revision;
    disk.revisions.set(revision.revision, JSON.stringify(revision));
    const kept = [...disk.revisions].map(([number, text]) => ({ revision: number, size_bytes: text.length }));
    for (const number of superfluous(kept, this.#limits)) disk.revisions.delete(number);
  }

  async log(events: readonly StoredEvent[]): Promise<void> {
    this.#disk.events.push(...structuredClone(events));
    this.#disk.events = this.#disk.events.slice(-this.#limits.events);
  }

  async revisions(): Promise<RevisionHead[]> {
    return [...this.#disk.revisions.values()]
      .map(text => {
        const { revision, at, why } = JSON.parse(text) as Revision;
        return { revision, at, why };
      })
      .reverse();
  }

  async revision(number: number): Promise<Revision | undefined> {
    const text = this.#disk.revisions.get(number);
    return text === undefined ? undefined : (JSON.parse(text) as Revision);
  }

  async close(): Promise<void> {}
}
