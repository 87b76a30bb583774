/**
 * The desired state in memory, always what the store holds on disk: every change is judged, written, and only
 * then seen by anyone. Changes happen one after another. What waits here for the disk is acknowledged to the
 * user afterwards, so a `kill -9` loses nothing that was acknowledged.
 */
import { planFiles, planRemoval } from '../model/change.js';
import type { ChangeContext, Current, PlannedChanges } from '../model/change.js';
import type { Layout } from '../model/layout.js';
import { keyOf, readSpec } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import type { Kind, SpecOf } from '../model/spec.js';
import {
  MachineFact,
  fillFactName,
  machineFactName,
  moveFactName,
  toDesired,
  undoFactName,
} from '../reconcile/desired.js';
import type { Desired, FillFact, MoveFact, UndoFact } from '../reconcile/desired.js';
import { outOfConfiguration } from '../reconcile/moving.js';
import type { Change, Contents, Revision, RevisionHead, Store, StoredResource, Tombstone } from './store.js';

/** What the keeper must know of the world to judge a change. */
export interface KeeperContext {
  layout: Layout;
  /** Size of each volume that is there, by `pool/volume`. */
  volumeSizes(): ReadonlyMap<string, number>;
  /** Machines whose QEMU lives. */
  activeMachines(): ReadonlySet<string>;
  /** The boot of a machine that has ended; null while it runs, or when there was none. */
  endedBoot(machine: string): string | null;
}

export class RevisionConflict extends Error {
  override readonly name = 'RevisionConflict';
  readonly code = 'REVISION_CONFLICT';
}

/** Kinds whose tombstone is dropped when the name is used again: the newcomer simply takes its place. */
const REPLACED_IN_PLACE: ReadonlySet<Kind> = new Set(['switch', 'pool', 'image', 'export']);

export class Keeper {
  readonly #store: Store;
  readonly #now: () => string;
  readonly #context: KeeperContext;
  readonly #resources = new Map<Key, Current>();
  readonly #tombstones = new Map<Key, Tombstone>();
  readonly #facts: Map<string, unknown>;
  readonly #listeners = new Set<() => void>();
  #revision: number;
  #desired: Desired | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(store: Store, contents: Contents, context: KeeperContext, now: () => string) {
    this.#store = store;
    this.#context = context;
    this.#now = now;
    this.#revision = contents.revision;
    this.#facts = contents.facts;
    for (const resource of contents.resources) this.#take(resource);
    for (const tombstone of contents.tombstones)
      this.#tombstones.set(keyOf(tombstone.kind, tombstone.name), tombstone);
  }

  get revision(): number {
    return this.#revision;
  }

  get resources(): ReadonlyMap<Key, Current> {
    return this.#resources;
  }

  get tombstones(): ReadonlyMap<Key, Tombstone> {
    return this.#tombstones;
  }

  /** Made anew after a change, the same object until the next. */
  get desired(): Desired {
    this.#desired ??= toDesired({
      revision: this.#revision,
      resources: this.#resources.values(),
      tombstones: [...this.#tombstones.values()].map(one => ({
        ...one,
        spec: readSpec(one.kind, one.written),
      })),
      facts: this.#facts,
    });
    return this.#desired;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  revisions(): Promise<RevisionHead[]> {
    return this.#store.revisions();
  }

  revisionAt(number: number): Promise<Revision | undefined> {
    return this.#store.revision(number);
  }

  plan(files: readonly { path: string; text: string }[], prune: boolean): PlannedChanges {
    return planFiles(this.#resources, files, prune, this.#fullContext());
  }

  /** With problems, nothing is changed. */
  apply(
    files: readonly { path: string; text: string }[],
    prune: boolean,
    ifRevision?: number,
  ): Promise<PlannedChanges> {
    return this.#inTurn(async () => {
      if (ifRevision !== undefined && ifRevision !== this.#revision)
        throw new RevisionConflict(
          `the configuration is at revision ${this.#revision} now, not ${ifRevision}: look at the plan again`,
        );
      const changes = this.plan(files, prune);
      await this.#commit(changes, 'apply', false);
      return changes;
    });
  }

  remove(key: Key, destroyData: boolean): Promise<PlannedChanges> {
    return this.#inTurn(async () => {
      const changes = planRemoval(this.#resources, key, this.#fullContext(), destroyData);
      await this.#commit(changes, `delete ${key}`, destroyData);
      return changes;
    });
  }

  machineFact(name: string): MachineFact {
    return MachineFact.parse(this.#facts.get(machineFactName(name)) ?? {});
  }

  rememberMachine(name: string, change: (before: MachineFact) => MachineFact): Promise<void> {
    return this.#inTurn(async () => {
      const fact = change(this.machineFact(name));
      const kept = Object.values(fact).some(value => value !== undefined) ? fact : null;
      await this.#write({ facts: new Map([[machineFactName(name), kept]]) });
    });
  }

  /** null: its data is gone, so there is nothing to remember. */
  rememberFill(pool: string, volume: string, fact: FillFact | null): Promise<void> {
    return this.#inTurn(async () => {
      const name = fillFactName(pool, volume);
      if (fact === null && !this.#facts.has(name)) return;
      await this.#write({ facts: new Map([[name, fact]]) });
    });
  }

  /** null: its disks are as they are to be. */
  rememberUndo(machine: string, fact: UndoFact | null): Promise<void> {
    return this.#inTurn(async () => {
      await this.#write({ facts: new Map([[undoFactName(machine), fact]]) });
    });
  }

  /** null: nothing of a move is left to be known. */
  rememberMove(volume: string, fact: MoveFact | null): Promise<void> {
    return this.#inTurn(async () => {
      await this.#write({ facts: new Map([[moveFactName(volume), fact]]) });
    });
  }

  /** From here on the configuration says the other pool; a clone that was moved shares nothing any more. */
  moved(volume: string, to: string, fact: MoveFact): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#resources.get(keyOf('volume', volume));
      if (before === undefined) return;
      const { from: _, ...written } = before.written as Record<string, unknown>;
      const { kind, name, generation } = before;
      const after = { kind, name, generation: generation + 1, written: { ...written, pool: to } };
      const resources = [...this.#resources.values()].map(one => (one === before ? after : one));
      await this.#write({
        revision: {
          revision: this.#revision + 1,
          at: this.#now(),
          why: `move volume/${volume} to pool ${to}`,
          resources: resources.map(one => ({ kind: one.kind, name: one.name, written: one.written })),
        },
        put: [after],
        facts: new Map([[moveFactName(volume), fact]]),
      });
    });
  }

  /** The deletion is complete. */
  unbury(key: Key): Promise<void> {
    return this.#inTurn(async () => {
      const tombstone = this.#tombstones.get(key);
      if (tombstone === undefined) return;
      const facts = new Map<string, unknown>();
      if (tombstone.kind === 'machine' && !this.#resources.has(key))
        facts.set(machineFactName(tombstone.name), null);
      await this.#write({ unbury: [key], facts });
    });
  }

  #fullContext(): ChangeContext {
    const active = this.#context.activeMachines();
    return {
      layout: this.#context.layout,
      volumeSizes: this.#context.volumeSizes(),
      isActive: name => active.has(name),
      buriedGeneration: key => this.#tombstones.get(key)?.generation,
    };
  }

  async #commit(changes: PlannedChanges, why: string, destroyData: boolean): Promise<void> {
    if (changes.put.length === 0 && changes.remove.length === 0) return;
    const change: Change & { facts: Map<string, unknown> } = {
      revision: {
        revision: this.#revision + 1,
        at: this.#now(),
        why,
        resources: changes.resources,
      },
      put: changes.put,
      remove: changes.remove,
      bury: changes.remove.map(key => toTombstone(this.#resources.get(key)!, destroyData)),
      unbury: changes.put.map(({ kind, name }) => keyOf(kind, name)).filter(key => this.#isReplaced(key)),
      facts: new Map(),
    };
    for (const { kind, name, written } of changes.put)
      if (kind === 'machine') this.#resetIntent(name, written, change.facts);
    for (const key of changes.remove) this.#endMove(key, change.facts);
    await this.#write(change);
  }

  /** Nobody is to go on with it for another volume of this name. */
  #endMove(key: Key, facts: Map<string, unknown>): void {
    const [kind, name = ''] = key.split('/');
    const fact = kind === 'volume' ? this.desired.moveFacts.get(name) : undefined;
    if (fact !== undefined) facts.set(moveFactName(name), outOfConfiguration(fact));
  }

  #isReplaced(key: Key): boolean {
    const tombstone = this.#tombstones.get(key);
    if (tombstone === undefined) return false;
    return REPLACED_IN_PLACE.has(tombstone.kind) || (tombstone.kind === 'volume' && !tombstone.destroyData);
  }

  /** `running` in the file is the newest word when it changed; a machine of a new name has no past. */
  #resetIntent(name: string, written: unknown, facts: Map<string, unknown>): void {
    const before = this.#resources.get(keyOf('machine', name))?.spec as SpecOf['machine'] | undefined;
    const after = readSpec('machine', written) as SpecOf['machine'];
    if (before !== undefined && before.running === after.running) return;
    // How it ended before is answered by this word, too.
    const dismissed = this.#context.endedBoot(name) ?? undefined;
    const factName = machineFactName(name);
    if (this.#facts.has(factName) || dismissed !== undefined)
      facts.set(factName, dismissed === undefined ? null : { dismissed });
  }

  async #write(change: Change): Promise<void> {
    await this.#store.commit(change);
    if (change.revision !== undefined) this.#revision = change.revision.revision;
    for (const resource of change.put ?? []) this.#take(resource);
    for (const key of change.remove ?? []) this.#resources.delete(key);
    for (const tombstone of change.bury ?? [])
      this.#tombstones.set(keyOf(tombstone.kind, tombstone.name), tombstone);
    for (const key of change.unbury ?? []) this.#tombstones.delete(key);
    for (const [name, fact] of change.facts ?? [])
      if (fact === null) this.#facts.delete(name);
      else this.#facts.set(name, fact);
    this.#desired = undefined;
    for (const listener of this.#listeners) listener();
  }

  #take(resource: StoredResource): void {
    const { kind, name, generation, written } = resource;
    this.#resources.set(keyOf(kind, name), {
      kind,
      name,
      generation,
      written,
      spec: readSpec(kind, written),
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => {});
    return result;
  }
}

function toTombstone(resource: Current, destroyData: boolean): Tombstone {
  const { kind, name, generation, written } = resource;
  return { kind, name, generation, written, destroyData: destroyData && kind === 'volume' };
}
