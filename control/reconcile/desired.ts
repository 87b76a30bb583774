/**
 * What the reconciler works towards: the configuration with defaults, what is being deleted, and the facts that
 * weftd remembers because they cannot be observed. A plain value, made anew after each change, never mutated.
 */
import { z } from 'zod';
import { keyOf, mapOf, setSpec, emptySpecs } from '../model/resource.js';
import type { AnySpec, Key, MutableSpecs, Specs } from '../model/resource.js';
import { KINDS } from '../model/spec.js';
import type { Kind, SpecOf } from '../model/spec.js';

export interface Burial {
  spec: AnySpec;
  generation: number;
  destroyData: boolean;
}

/**
 * `intent`: the last word of `weft machine start|stop|kill`; it outweighs the spec's `running` until the spec's
 * `running` changes. `halted`: it ended by itself in a way that its restart policy lets be. `dismissed`: the boot
 * whose end was answered by `weft machine start`, so that it does not halt the machine again.
 */
export const MachineFact = z.object({
  intent: z.enum(['started', 'stopped']).optional(),
  halted: z.enum(['poweroff', 'crashed']).optional(),
  dismissed: z.string().optional(),
});
export type MachineFact = z.infer<typeof MachineFact>;

/** Written before a volume is made that is to be filled from an image, and again when it is full. */
export const FillFact = z.object({ state: z.enum(['filling', 'filled']), image: z.string() });
export type FillFact = z.infer<typeof FillFact>;

export interface DiskOf {
  pool: string;
  volume: string;
}

/**
 * Disks whose changes are to be thrown away at power-off, each with a snapshot to go back to. `armed`: the snapshots are
 * there and the machine has not been started since. Written before a start as `ran`: whatever is found after that,
 * without a guest that lives, is gone back on.
 */
export const UndoFact = z.object({
  state: z.enum(['armed', 'ran']),
  disks: z.array(z.object({ pool: z.string(), volume: z.string() })),
});
export type UndoFact = z.infer<typeof UndoFact>;

/**
 * See moving.ts. `to`, `cutting`: on its way. `drop`: the pool where its remains are to be destroyed. `was`: pools it came from,
 * and `at` where it arrived.
 */
export const MoveFact = z.object({
  to: z.string().optional(),
  cutting: z.boolean().optional(),
  notBefore_ms: z.number().optional(),
  keepSource: z.boolean().optional(),
  drop: z.string().optional(),
  at: z.string().optional(),
  was: z.array(z.string()),
});
export type MoveFact = z.infer<typeof MoveFact>;

export function moveFactName(volume: string): string {
  return `move/${volume}`;
}

export function undoFactName(machine: string): string {
  return `undo/${machine}`;
}

export function machineFactName(name: string): string {
  return `machine/${name}`;
}

export function fillFactName(pool: string, volume: string): string {
  return `fill/${pool}/${volume}`;
}

export interface Desired {
  revision: number;
  specs: Specs;
  generations: ReadonlyMap<Key, number>;
  burials: ReadonlyMap<Key, Burial>;
  machineFacts: ReadonlyMap<string, MachineFact>;
  fillFacts: ReadonlyMap<string, FillFact>;
  /** By machine. */
  undoFacts: ReadonlyMap<string, UndoFact>;
  /** By volume. */
  moveFacts: ReadonlyMap<string, MoveFact>;
}

const NO_FACT: MachineFact = {};

export function machineFact(desired: Desired, name: string): MachineFact {
  return desired.machineFacts.get(name) ?? NO_FACT;
}

export function fillFact(desired: Desired, pool: string, volume: string): FillFact | undefined {
  return desired.fillFacts.get(fillFactName(pool, volume));
}

/** Whether weft is to keep it running. */
export function shouldRun(spec: SpecOf['machine'], fact: MachineFact): boolean {
  if (fact.intent !== undefined) return fact.intent === 'started';
  return spec.running;
}

/** What a resource needs before it can be, in the order of need. */
export function referencesOf(kind: Kind, spec: AnySpec): Key[] {
  switch (kind) {
    case 'switch':
    case 'pool':
    case 'image':
      return [];
    case 'volume': {
      const volume = spec as SpecOf['volume'];
      return [
        keyOf('pool', volume.pool),
        ...(volume.mirror === undefined ? [] : [keyOf('pool', volume.mirror.pool)]),
        ...(volume.image === undefined ? [] : [keyOf('image', volume.image)]),
      ];
    }
    case 'export':
      return [keyOf('volume', (spec as SpecOf['export']).volume)];
    case 'machine': {
      const machine = spec as SpecOf['machine'];
      return [
        ...machine.nics.map(nic => keyOf('switch', nic.switch)),
        ...(machine.image === undefined ? [] : [keyOf('image', machine.image)]),
        ...machine.disks.map(disk => keyOf('volume', disk.volume)),
      ];
    }
  }
}

interface Kept {
  revision: number;
  resources: Iterable<{ kind: Kind; name: string; generation: number; spec: AnySpec }>;
  tombstones: Iterable<Burial & { kind: Kind; name: string }>;
  facts: ReadonlyMap<string, unknown>;
}

/** From what the store holds. Kinds and names are in an order that does not depend on the history of changes. */
export function toDesired(kept: Kept): Desired {
  const unsorted = emptySpecs();
  const generations = new Map<Key, number>();
  for (const { kind, name, generation, spec } of kept.resources) {
    setSpec(unsorted, kind, name, spec);
    generations.set(keyOf(kind, name), generation);
  }
  const specs: MutableSpecs = emptySpecs();
  for (const kind of KINDS)
    for (const [name, spec] of [...mapOf(unsorted, kind)].sort(([a], [b]) => (a < b ? -1 : 1)))
      setSpec(specs, kind, name, spec);
  const burials = new Map<Key, Burial>();
  for (const { kind, name, generation, spec, destroyData } of kept.tombstones)
    burials.set(keyOf(kind, name), { spec, generation, destroyData });
  const machineFacts = new Map<string, MachineFact>();
  const fillFacts = new Map<string, FillFact>();
  const undoFacts = new Map<string, UndoFact>();
  const moveFacts = new Map<string, MoveFact>();
  for (const [name, fact] of kept.facts) {
    if (name.startsWith('machine/')) machineFacts.set(name.slice('machine/'.length), MachineFact.parse(fact));
    if (name.startsWith('undo/')) undoFacts.set(name.slice('undo/'.length), UndoFact.parse(fact));
    if (name.startsWith('move/')) moveFacts.set(name.slice('move/'.length), MoveFact.parse(fact));
    if (name.startsWith('fill/')) fillFacts.set(name, FillFact.parse(fact));
  }
  return {
    revision: kept.revision,
    specs,
    generations,
    burials,
    machineFacts,
    fillFacts,
    undoFacts,
    moveFacts,
  };
}
