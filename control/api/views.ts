/** What the API shows, from what weftd holds: translations only, no decision. */
import type { PlannedChanges } from '../model/change.js';
import { specsOf } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import { KINDS } from '../model/spec.js';
import type { Kind } from '../model/spec.js';
import { usersOf } from '../model/change.js';
import { readSpec } from '../model/resource.js';
import type { StatusNow } from '../reconcile/status.js';
import type { Keeper } from '../store/keeper.js';
import type { PlaneInfo } from '../supervise/process.js';
import type { StorageStatus, VolumeStatus } from '../../storage/contract.js';
import type { Plan, PlaneStatus, Resource, VolumeRow, VolumeView } from './contract.js';

/** The status of a resource, if a turn of the loop has reported on it. */
export type StatusOf = (key: Key) => StatusNow | undefined;

const UNSEEN: Resource['status'] = { observedGeneration: 0, conditions: [], lastError: null, observed: {} };

function statusView(status: StatusNow | undefined): Resource['status'] {
  if (status === undefined) return UNSEEN;
  return { ...status, conditions: status.conditions.map(condition => ({ ...condition })) };
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
  const rank = (kind: Kind): number => KINDS.indexOf(kind);
  return views.sort((a, b) => rank(a.kind) - rank(b.kind) || (a.name < b.name ? -1 : 1));
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

export function volumeRows(keeper: Keeper, status: StorageStatus): VolumeRow[] {
  const specs = specsOf(keeper.resources.values());
  return status.volumes.map(one => {
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
      usedBy: configured ? usersOf(specs, 'volume', name).map(user => user.replaceAll('"', '')) : [],
    };
  });
}

export function volumeView(
  keeper: Keeper,
  status: StorageStatus,
  volume: VolumeStatus,
  runningOn: string | null,
): VolumeView {
  const [row] = volumeRows(keeper, { ...status, volumes: [volume] });
  return {
    ...volume,
    configured: row?.configured ?? false,
    usedBy: row?.usedBy ?? [],
    runningOn,
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
