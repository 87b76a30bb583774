/** What the API shows, from what weftd holds: translations only, no decision. */
import type { PlannedChanges } from '../model/change.js';
import { specsOf } from '../model/resource.js';
import type { Key, MutableSpecs } from '../model/resource.js';
import { KINDS } from '../model/spec.js';
import type { Kind } from '../model/spec.js';
import { readSpec } from '../model/resource.js';
import { moveTarget } from '../reconcile/moving.js';
import type { StatusNow } from '../reconcile/status.js';
import type { Keeper } from '../store/keeper.js';
import type { PlaneInfo } from '../supervise/process.js';
import type { VolumeStatus } from '../../storage/contract.js';
import type { Plan, PlaneStatus, Resource, VolumeRow, VolumeView } from './contract.js';
import { PAGE_MAX, compareKeys } from './paging.js';

/** The status of a resource, if a turn of the loop has reported on it. */
export type StatusOf = (key: Key) => StatusNow | undefined;

const UNSEEN: Resource['status'] = { observedGeneration: 0, conditions: [], lastError: null, observed: {} };

function statusView(status: StatusNow | undefined): Resource['status'] {
  if (status === undefined) return UNSEEN;
  return { ...status, conditions: status.conditions.map(condition => ({ ...condition })) };
}

/** The key by which `resourceViews` sorts. */
export function resourceKey({ kind, name }: { kind: Kind; name: string }): [rank: string, name: string] {
  return [String.fromCharCode(KINDS.indexOf(kind) + 65), name];
}

/** In the order of need, then by name; what is being deleted among them. */
export function resourceViews(
  keeper: Keeper,
  statusOf: StatusOf,
  filter: { kind?: Kind | undefined; name?: string | undefined },
): Resource[] {
  const views: Resource[] = [];
  for (const [key, { kind, name, generation, spec }] of keeper.resources) {
    if (!matches(kind, name, filter)) continue;
    views.push({
      kind,
      name,
      generation,
      spec: { ...spec },
      status: statusView(statusOf(key)),
      deleting: false,
    });
  }
  for (const [key, { kind, name, generation, written }] of keeper.tombstones) {
    if (keeper.resources.has(key) || !matches(kind, name, filter)) continue;
    views.push({
      kind,
      name,
      generation,
      spec: { ...readSpec(kind, written) },
      status: statusView(statusOf(key)),
      deleting: true,
    });
  }
  return views.sort((a, b) => compareKeys(resourceKey(a), resourceKey(b)));
}

function matches(
  kind: Kind,
  name: string,
  filter: { kind?: Kind | undefined; name?: string | undefined },
): boolean {
  return (
    (filter.kind === undefined || filter.kind === kind) && (filter.name === undefined || filter.name === name)
  );
}

export function planView(revision: number, changes: PlannedChanges): Plan {
  return { revision, problems: changes.problems, actions: changes.actions };
}

export function planeView(info: PlaneInfo): PlaneStatus {
  const { startedAt_ms, ...rest } = info;
  return { ...rest, startedAt: startedAt_ms === null ? null : new Date(startedAt_ms).toISOString() };
}

/** Everything at its generation and Ready, and nothing on its way out. */
export function isSettled(keeper: Keeper, isReady: (key: Key, generation: number) => boolean): boolean {
  if (keeper.tombstones.size > 0) return false;
  for (const [key, { generation }] of keeper.resources) if (!isReady(key, generation)) return false;
  return true;
}

export function volumeRows(keeper: Keeper, volumes: readonly VolumeStatus[]): VolumeRow[] {
  const specs = specsOf(keeper.resources.values());
  const usersOf = volumeUsers(specs);
  return volumes.map(one => {
    const { pool, name, size_bytes, allocated_bytes, state, reason, labels, parent, snapshots } = one;
    const spec = specs.volume.get(name);
    const configured = spec?.pool === pool || spec?.mirror?.pool === pool;
    return {
      ...(labels === undefined ? {} : { labels }),
      ...(parent === undefined ? {} : { parent: parent && `${parent.volume}@${parent.snapshot}` }),
      ...(snapshots === undefined ? {} : { snapshotCount: snapshots.length }),
      pool,
      name,
      size_bytes,
      allocated_bytes,
      state,
      reason,
      configured,
      usedBy: configured ? (usersOf.get(name) ?? []) : [],
    };
  });
}

/** Who refers to each volume, in words: all of them at once, since lists are long. */
function volumeUsers(specs: MutableSpecs): Map<string, string[]> {
  const users = new Map<string, string[]>();
  const add = (volume: string | undefined, user: string): void => {
    if (volume === undefined) return;
    const known = users.get(volume);
    if (known === undefined) users.set(volume, [user]);
    else if (!known.includes(user)) known.push(user);
  };
  for (const [name, { from }] of specs.volume) add(from?.volume, `volume ${name}`);
  for (const [name, { volume }] of specs.export) add(volume, `export ${name}`);
  for (const [name, { disks }] of specs.machine)
    for (const { volume } of disks) add(volume, `machine ${name}`);
  return users;
}

export function volumeView(keeper: Keeper, volume: VolumeStatus, runningOn: string | null): VolumeView {
  const [row] = volumeRows(keeper, [volume]);
  const { snapshots } = volume;
  return {
    ...volume,
    ...(snapshots === undefined
      ? {}
      : { snapshots: snapshots.slice(0, PAGE_MAX), snapshotCount: snapshots.length }),
    configured: row?.configured ?? false,
    usedBy: row?.usedBy ?? [],
    runningOn,
    movingTo: moveTarget(keeper.desired, volume.name) ?? null,
  };
}

/** What a deletion left behind, and how to be rid of it. */
export function keptBy(key: Key, written: unknown, destroyData: boolean, poolDirectory: string): string[] {
  const [kind = '', name = ''] = key.split('/');
  if (kind === 'volume' && !destroyData) {
    const { pool, size } = readSpec('volume', written) as { pool: string; size: string };
    return [
      `the data of volume ${name} (${size}) in pool ${pool}; weft volume delete ${pool}/${name} --destroy-data destroys it`,
    ];
  }
  if (kind === 'pool') return [`everything in ${poolDirectory}`];
  return [];
}
