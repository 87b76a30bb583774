/**
 * Repair of a pool, as the desk does it: nobody uses it meanwhile. Its exports are withdrawn, it is closed, mended, and tried
 * again as if it had just been configured. A repair that would do nothing disturbs nobody.
 */
import { placeOf } from '../contract.js';
import type { JobStatus, RepairReport, RepairRequest } from '../contract.js';
import { repair } from '../pool/repair.js';
import { StorageError } from '../volume/errors.js';
import type { Store } from './stores.js';

interface RepairParts {
  readonly store: Store;
  readonly now_ms: () => number;
  /** Clients of its volumes, and jobs, which may work on them. */
  readonly busy: () => readonly string[];
  /** Withdraws what uses it and closes it. */
  readonly close: () => Promise<void>;
  /** It may be opened again. */
  readonly reopen: () => void;
}

/** Throws StorageError. */
export async function repairStore(
  { store, now_ms, busy, close, reopen }: RepairParts,
  { dryRun, newIdentity }: RepairRequest,
): Promise<RepairReport> {
  const { name } = store.config;
  if (store.kind !== 'directory')
    throw new StorageError(
      'POOL_KIND',
      `pool ${name} is no directory of volumes: there is nothing to repair`,
    );
  const directory = placeOf(store.config);
  const planned = repair(directory, { dryRun: true, newIdentity }, now_ms);
  const report = { name, uuid: planned.pool, found: [...planned.found], actions: [...planned.actions] };
  if (dryRun || planned.actions.length === 0) return report;
  const users = busy();
  if (users.length > 0)
    throw new StorageError(
      'VOLUME_EXPORTED',
      `pool ${name} is in use (${users.join(', ')}) and cannot be repaired meanwhile: stop what uses it first`,
    );
  await close();
  try {
    const done = repair(directory, { dryRun: false, newIdentity }, now_ms);
    return { name, uuid: done.pool, found: [...done.found], actions: [...done.actions] };
  } finally {
    reopen();
  }
}

/** Those that run and may touch the pool. */
export function busyJobs(jobs: readonly JobStatus[], pool: string): string[] {
  return jobs
    .filter(({ endedAt_ms, request }) => endedAt_ms === null && !('pool' in request && request.pool !== pool))
    .map(({ id }) => `job ${id}`);
}
