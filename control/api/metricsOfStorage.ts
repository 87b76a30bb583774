/**
 * What Prometheus is told of pools, volumes, exports and jobs. Pure. What a rule for an alarm asks: `weft_pool_ok` and
 * `weft_pool_free_bytes`, `weft_volume_state`, `weft_volume_checksum_errors_total`, `weft_volume_mirror_left_bytes`.
 */
import type { JobStatus, PoolStatus, StorageStatus, VolumeStatus } from '../../storage/contract.js';
import { VolumeState } from '../../storage/contract.js';
import type { Exposition } from './exposition.js';
import { counters } from './exposition.js';

export function planeOfBlocks(
  out: Exposition,
  { pools, volumes, exports, server, jobs }: StorageStatus,
): void {
  ofPools(out, pools);
  ofVolumes(out, volumes);
  out.family(
    'weft_export_connections',
    'gauge',
    'NBD connections.',
    exports.map(({ name, connectionCount }) => [{ export: name }, connectionCount] as const),
  );
  out.family(
    'weft_export_counter_total',
    'counter',
    'Counters of an export.',
    exports.flatMap(one => [...counters({ export: one.name }, one.counters)]),
  );
  ofJobs(out, jobs ?? []);
  out.family('weft_storage_server', 'gauge', "The NBD server's own figures.", counters({}, server));
}

function ofPools(out: Exposition, pools: readonly PoolStatus[]): void {
  const each = (field: 'capacity_bytes' | 'free_bytes' | 'allocated_bytes' | 'provisioned_bytes') =>
    pools.map(pool => [{ pool: pool.name }, pool[field]] as const);
  out.family('weft_pool_capacity_bytes', 'gauge', 'Of the file system below.', each('capacity_bytes'));
  out.family('weft_pool_free_bytes', 'gauge', 'Of the file system below.', each('free_bytes'));
  out.family('weft_pool_allocated_bytes', 'gauge', 'Of its volumes.', each('allocated_bytes'));
  out.family('weft_pool_provisioned_bytes', 'gauge', 'Sizes of its volumes.', each('provisioned_bytes'));
  out.family(
    'weft_pool_ok',
    'gauge',
    'Whether a pool is open and has room.',
    pools.map(({ name, state }) => [{ pool: name }, Number(state === 'open')] as const),
  );
  out.family(
    'weft_pool_problems',
    'gauge',
    'Damaged volumes, foreign files and the like.',
    pools.map(({ name, problems }) => [{ pool: name }, problems?.length ?? 0] as const),
  );
}

function ofVolumes(out: Exposition, volumes: readonly VolumeStatus[]): void {
  const labels = ({ pool, name }: VolumeStatus) => ({ pool, volume: name });
  const each = (field: (volume: VolumeStatus) => number | null | undefined) =>
    volumes.flatMap(volume => {
      const value = field(volume);
      return value === undefined || value === null ? [] : [[labels(volume), value] as const];
    });
  const family = (
    name: string,
    type: 'gauge' | 'counter',
    help: string,
    field: (volume: VolumeStatus) => number | null | undefined,
  ) => out.family(`weft_volume_${name}`, type, help, each(field));
  family('size_bytes', 'gauge', 'Size of a volume.', volume => volume.size_bytes);
  family('allocated_bytes', 'gauge', 'Allocated to a volume and its snapshots.', one => one.allocated_bytes);
  family('quota_bytes', 'gauge', 'Most that a volume may allocate.', volume => volume.quota_bytes);
  family('ok', 'gauge', 'Whether a volume is as it should be.', volume => Number(volume.state === 'ok'));
  out.family(
    'weft_volume_state',
    'gauge',
    '1 for the state that a volume is in.',
    volumes.flatMap(volume =>
      VolumeState.options.map(
        state => [{ ...labels(volume), state }, Number(volume.state === state)] as const,
      ),
    ),
  );
  family('snapshots', 'gauge', 'Snapshots of a volume.', volume => volume.snapshots?.length);
  family('depth', 'gauge', 'Layers that a read may come from.', volume => volume.depth);
  family(
    'checksum_errors_total',
    'counter',
    'Blocks found damaged since the plane began.',
    one => one.checksumErrors,
  );
  family(
    'throttled_total',
    'counter',
    'Requests that waited for a limit of the volume.',
    one => one.throttledCount,
  );
  family(
    'throttled_seconds_total',
    'counter',
    'How long requests waited for a limit of the volume, altogether.',
    ({ throttled_ms }) => (throttled_ms === undefined ? undefined : throttled_ms / 1000),
  );
  family('mirror_in_sync', 'gauge', 'Whether both sides of a mirror are the same.', ({ mirror }) =>
    mirror === undefined || mirror === null ? null : Number(mirror.state === 'in-sync'),
  );
  family(
    'mirror_left_bytes',
    'gauge',
    'What a mirror has still to copy.',
    ({ mirror }) => mirror?.left_bytes,
  );
}

function ofJobs(out: Exposition, jobs: readonly JobStatus[]): void {
  const running = jobs.filter(job => job.endedAt_ms === null);
  const labels = (job: JobStatus) => {
    const { request } = job;
    const about = 'volume' in request ? request.volume : undefined;
    return {
      job: job.id,
      kind: request.kind,
      ...('pool' in request ? { pool: request.pool } : {}),
      ...(about === undefined ? {} : { volume: about }),
    };
  };
  out.family(
    'weft_job_done_bytes',
    'gauge',
    'How far a job that goes on is.',
    running.map(job => [labels(job), job.done_bytes] as const),
  );
  out.family(
    'weft_job_total_bytes',
    'gauge',
    'What a job that goes on has to do, once that is known.',
    running.flatMap(job => (job.total_bytes === null ? [] : [[labels(job), job.total_bytes] as const])),
  );
  out.family(
    'weft_jobs',
    'gauge',
    'Jobs by state: those that go on, and the last hundred that ended.',
    ['waiting', 'running', 'done', 'failed', 'cancelled'].map(
      state => [{ state }, jobs.filter(job => job.state === state).length] as const,
    ),
  );
}
