/**
 * (configuration now, files) -> what would change: the plan that a user sees, and what is stored when it is
 * applied. Pure. A configuration with a problem changes nothing at all.
 *
 * Files add to the configuration; what they do not mention stays, unless `prune`. All rules are applied to the
 * configuration that would result, so a file is judged together with what is there already.
 */
import { KINDS } from './spec.js';
import type { Kind, SpecOf } from './spec.js';
import { differences, sizeOf } from './meaning.js';
import type { Difference } from './meaning.js';
import { parse, inOrder } from './parse.js';
import type { Parsed, Problem } from './parse.js';
import { dotted, emptySpecs, setSpec, splitKey } from './resource.js';
import type { AnySpec, Key, MutableSpecs } from './resource.js';
import { poolKind } from './storage/pool.js';
import { validate } from './validate.js';
import type { Fault } from './validate.js';
import type { Layout } from './layout.js';
import { summaryOf } from './summary.js';

export interface Current {
  kind: Kind;
  name: string;
  generation: number;
  written: unknown;
  spec: AnySpec;
}

export interface PlannedChange {
  verb: 'create' | 'update' | 'delete';
  kind: Kind;
  name: string;
  summary: string;
  changes: { path: string; from: unknown; to: unknown }[];
}

export interface ChangeContext {
  layout: Layout;
  /** Size of each volume that is there, by `pool/volume`, whether a resource names it or not. */
  volumeSizes: ReadonlyMap<string, number>;
  /** Whether a machine's QEMU lives: then some changes wait for its restart. */
  isActive(machine: string): boolean;
  /** Resources still being deleted: their generations go on counting. */
  buriedGeneration(key: Key): number | undefined;
}

export interface PlannedChanges {
  problems: Problem[];
  /** Creations and updates in the order of need, then deletions in reverse. */
  actions: PlannedChange[];
  put: { kind: Kind; name: string; generation: number; written: unknown }[];
  remove: Key[];
  /** The whole configuration that results. */
  resources: { kind: Kind; name: string; written: unknown }[];
}

/** What cannot be changed once it is made, or only in one direction. */
function changeFaults(
  key: Key,
  before: AnySpec | undefined,
  after: AnySpec,
  context: ChangeContext,
): Fault[] {
  const { kind, name } = splitKey(key);
  if (kind !== 'volume') return [];
  const volume = after as SpecOf['volume'];
  const old = before as SpecOf['volume'] | undefined;
  if (old !== undefined && old.pool !== volume.pool)
    return [
      {
        path: [kind, name, 'pool'],
        blame: 'value',
        message: `volume "${name}" is in pool "${old.pool}", and stays there: weft volume move ${old.pool}/${name} ${volume.pool} moves it, also while it is used`,
      },
    ];
  return [...madeFaults(name, old, volume), ...shrinkFaults(name, old, volume, context)];
}

/** What a volume was made with. */
function madeFaults(name: string, old: SpecOf['volume'] | undefined, volume: SpecOf['volume']): Fault[] {
  if (old === undefined) return [];
  const faults: Fault[] = [];
  const fault = (word: string, message: string): void => {
    faults.push({
      path: ['volume', name, ...(volume[word as 'from'] === undefined ? [] : [word])],
      blame: 'key',
      message: `volume "${name}" ${message}; make a volume of another name`,
    });
  };
  const { from } = volume;
  // A clone that was flattened needs its source no more: `from` may go.
  if (from !== undefined && (old.from?.volume !== from.volume || old.from.snapshot !== from.snapshot))
    fault('from', 'is made already and cannot become a clone of something else');
  if ((old.encryption === undefined) !== (volume.encryption === undefined))
    fault(
      'encryption',
      old.encryption === undefined
        ? 'is not encrypted and cannot be encrypted where it lies'
        : 'is encrypted: without its key it reads as noise',
    );
  if ((old.preallocated ?? false) !== (volume.preallocated ?? false))
    fault('preallocated', `was made ${old.preallocated === true ? '' : 'not '}preallocated`);
  if ((old.checksums ?? true) !== (volume.checksums ?? true))
    fault('checksums', `was made with${old.checksums === false ? 'out' : ''} checksums`);
  if ((old.remoteName ?? name) !== (volume.remoteName ?? name))
    fault('remoteName', `is export "${old.remoteName ?? name}" of its server`);
  return faults;
}

function shrinkFaults(
  name: string,
  old: SpecOf['volume'] | undefined,
  volume: SpecOf['volume'],
  context: ChangeContext,
): Fault[] {
  if (volume.size === undefined || volume.shrink === true) return [];
  const there_bytes = Math.max(
    context.volumeSizes.get(`${volume.pool}/${name}`) ?? 0,
    old?.size === undefined ? 0 : sizeOf(old.size),
  );
  if (sizeOf(volume.size) >= there_bytes) return [];
  const is =
    old?.size === undefined ? `is there already with ${there_bytes / 2 ** 20}MiB` : `is ${old.size} large`;
  return [
    {
      path: ['volume', name, 'size'],
      blame: 'value',
      message: `volume "${name}" ${is} and cannot shrink to ${volume.size}; keep its size, or copy its data to a new volume; shrink: true beside the size cuts off what lies behind`,
    },
  ];
}

function toChange({ path, from, to }: Difference): { path: string; from: unknown; to: unknown } {
  return { path: dotted(path), from: from ?? null, to: to ?? null };
}

/** Current resources first, so that a conflict is blamed on the newcomer. */
function resulting(current: ReadonlyMap<Key, Current>, parsed: Parsed, gone: ReadonlySet<Key>): MutableSpecs {
  const specs = emptySpecs();
  for (const [key, { kind, name, spec }] of current)
    if (!gone.has(key) && !parsed.mentioned.has(key)) setSpec(specs, kind, name, spec);
  for (const { kind, name, spec } of parsed.declared.values()) setSpec(specs, kind, name, spec);
  return specs;
}

function toProblem(fault: Fault, parsed: Parsed): Problem {
  return {
    ...parsed.locate(fault.path, fault.blame),
    at: dotted(fault.path),
    message: fault.message,
  };
}

export function planFiles(
  current: ReadonlyMap<Key, Current>,
  files: readonly { path: string; text: string }[],
  prune: boolean,
  context: ChangeContext,
): PlannedChanges {
  const parsed = parse(files);
  const gone = new Set<Key>();
  if (prune) for (const key of current.keys()) if (!parsed.mentioned.has(key)) gone.add(key);
  const problems = [...parsed.problems];
  // After a syntax error, what seems missing may merely be unreadable.
  if (parsed.whole) {
    const specs = resulting(current, parsed, gone);
    for (const fault of validate(specs, { layout: context.layout, mentioned: parsed.mentioned }))
      if (!fault.isWarning) problems.push(toProblem(fault, parsed));
    for (const [key, { spec }] of parsed.declared)
      for (const fault of changeFaults(key, current.get(key)?.spec, spec, context))
        problems.push(toProblem(fault, parsed));
  }
  if (problems.length > 0)
    return { problems: inOrder(problems, files), actions: [], put: [], remove: [], resources: [] };
  return toChanges(current, parsed, gone, context);
}

function toChanges(
  current: ReadonlyMap<Key, Current>,
  parsed: Parsed,
  gone: ReadonlySet<Key>,
  context: ChangeContext,
): PlannedChanges {
  const actions: PlannedChange[] = [];
  const put: PlannedChanges['put'] = [];
  const resources = new Map<Key, { kind: Kind; name: string; written: unknown }>();
  for (const [key, { kind, name, written }] of current)
    if (!gone.has(key)) resources.set(key, { kind, name, written });
  for (const [key, { kind, name, written, spec }] of parsed.declared) {
    const before = current.get(key);
    const changes = before === undefined ? [] : differences(kind, name, before.spec, spec);
    // Equal meaning: the spelling that is stored stays.
    if (before !== undefined && changes.length === 0) continue;
    const generation = (before?.generation ?? context.buriedGeneration(key) ?? 0) + 1;
    put.push({ kind, name, generation, written });
    resources.set(key, { kind, name, written });
    const verb = before === undefined ? 'create' : 'update';
    actions.push({
      verb,
      kind,
      name,
      summary: summaryOf(verb, kind, name, spec, changes, context),
      changes: changes.map(toChange),
    });
  }
  const rank = (kind: Kind): number => KINDS.indexOf(kind);
  actions.sort((a, b) => rank(a.kind) - rank(b.kind));
  const deletions = [...gone].map(key => deletionOf(key, current.get(key)!.spec, context));
  deletions.sort((a, b) => rank(b.kind) - rank(a.kind));
  return {
    problems: [],
    actions: [...actions, ...deletions],
    put,
    remove: [...gone],
    resources: [...resources.values()],
  };
}

function deletionOf(key: Key, spec: AnySpec, context: ChangeContext): PlannedChange {
  const { kind, name } = splitKey(key);
  return {
    verb: 'delete',
    kind,
    name,
    summary: summaryOf('delete', kind, name, spec, [], context),
    changes: [],
  };
}

/** Taking one resource out; refused while others refer to it. */
export function planRemoval(
  current: ReadonlyMap<Key, Current>,
  key: Key,
  context: ChangeContext,
  destroyData = false,
): PlannedChanges {
  const kept = new Map(current);
  kept.delete(key);
  const specs = emptySpecs();
  for (const { kind, name, spec } of kept.values()) setSpec(specs, kind, name, spec);
  const { kind, name } = splitKey(key);
  const refusal = whyKept(specs, kind, name) ?? (destroyData ? whyNotDestroyed(current, key) : undefined);
  if (refusal !== undefined)
    return {
      problems: [{ path: '', line: 0, column: 0, at: dotted([kind, name]), message: refusal }],
      actions: [],
      put: [],
      remove: [],
      resources: [],
    };
  return {
    problems: [],
    actions: [deletionOf(key, current.get(key)!.spec, context)],
    put: [],
    remove: [key],
    resources: [...kept.values()].map(({ kind: itsKind, name: itsName, written }) => ({
      kind: itsKind,
      name: itsName,
      written,
    })),
  };
}

function whyKept(specs: MutableSpecs, kind: Kind, name: string): string | undefined {
  const users = usersOf(specs, kind, name);
  if (users.length === 0) return undefined;
  return `${kind} "${name}" is used by ${users.slice(0, 5).join(', ')}${users.length > 5 ? ` and ${users.length - 5} more` : ''}: change or delete that first`;
}

/** What weft did not make. */
function whyNotDestroyed(current: ReadonlyMap<Key, Current>, key: Key): string | undefined {
  const { kind, name } = splitKey(key);
  if (kind !== 'volume') return undefined;
  const { pool } = current.get(key)!.spec as SpecOf['volume'];
  const spec = current.get(`pool/${pool}`)?.spec as SpecOf['pool'] | undefined;
  if (spec === undefined || poolKind(spec) === 'directory') return undefined;
  return `volume "${name}" is in pool "${pool}" of kind ${poolKind(spec)}: weft has not made its data and does not destroy it`;
}

/** Who refers to a resource, in words. */
export function usersOf(specs: MutableSpecs, kind: Kind, name: string): string[] {
  const users: string[] = [];
  for (const [user, volume] of specs.volume)
    if (
      (kind === 'pool' && (volume.pool === name || volume.mirror?.pool === name)) ||
      (kind === 'image' && volume.image === name) ||
      (kind === 'volume' && volume.from?.volume === name)
    )
      users.push(`volume "${user}"`);
  for (const [user, spec] of specs.export)
    if (kind === 'volume' && spec.volume === name) users.push(`export "${user}"`);
  for (const [user, machine] of specs.machine)
    if (
      (kind === 'switch' && machine.nics.some(nic => nic.switch === name)) ||
      (kind === 'image' && machine.image === name) ||
      (kind === 'volume' && machine.disks.some(disk => disk.volume === name))
    )
      users.push(`machine "${user}"`);
  return users;
}
