/** What the reconciler asks of weft-storage, as requests of its contract. */
import { z } from 'zod';
import { MirrorAtRest, SnapshotStatus, VolumeStatus } from '../../storage/contract.js';
import type { Applied, StorageConfig, StorageEvent, StorageStatus } from '../../storage/contract.js';
import type { StorageEdge } from '../reconcile/loop.js';
import type { Plane } from './process.js';

const Deleted = z.object({ deleted: z.literal(true) });
const Snapshots = z.object({ snapshots: z.array(SnapshotStatus) });

/** What waits for disks: making a preallocated volume, freezing what a snapshot holds, freeing blocks. */
const DEADLINE_MS = 60_000;

function pathOf(pool: string, name: string, more = ''): string {
  return `/pools/${encodeURIComponent(pool)}/volumes/${encodeURIComponent(name)}${more}`;
}

export function storageEdge(plane: Plane<StorageConfig, Applied, StorageStatus, StorageEvent>): StorageEdge {
  const call = async (
    method: 'PUT' | 'POST' | 'DELETE',
    path: string,
    reply: z.ZodType,
    body?: unknown,
  ): Promise<void> => {
    await plane.client.call({
      method,
      path,
      reply,
      deadline_ms: DEADLINE_MS,
      ...(body === undefined ? {} : { body }),
    });
  };
  return {
    get info() {
      return plane.info;
    },
    status: () => plane.status(),
    configure: config => plane.configure(config),
    remember: config => plane.remember(config),
    putVolume: (pool, name, spec) => call('PUT', pathOf(pool, name), VolumeStatus, spec),
    destroyVolume: (pool, name) => call('DELETE', pathOf(pool, name, '?snapshots=true'), Deleted),
    snapshot: request => call('POST', '/snapshots', Snapshots, request),
    deleteSnapshot: (pool, name, snapshot) =>
      call('DELETE', pathOf(pool, name, `/snapshots/${encodeURIComponent(snapshot)}`), Deleted),
    mirrorAtRest: (pool, name, second) =>
      plane.client.call({
        method: 'GET',
        path: pathOf(pool, name, `/mirror?pool=${encodeURIComponent(second)}`),
        reply: MirrorAtRest,
        deadline_ms: DEADLINE_MS,
      }),
    rollback: (pool, name, snapshot) =>
      call('POST', pathOf(pool, name, '/rollback'), VolumeStatus, { snapshot }),
  };
}
