/**
 * Operations on what is stored: pools, volumes, snapshots, jobs, backups. The plane does the work and refuses what it
 * cannot do; here is what only weftd knows: which volumes the configuration names, and which a machine runs on.
 */
import { z } from 'zod';
import {
  BackupEntry,
  Diff,
  JobRequest,
  JobStatus,
  RemoteExports,
  RenameRequest,
  RepairReport,
  RepairRequest,
  RollbackRequest,
  SnapshotStatus,
  VolumeSpec,
  VolumeStatus,
} from '../../storage/contract.js';
import { legOf } from '../model/storage/volume.js';
import { isPartOfMove, outOfConfiguration, volumeOfDisk } from '../reconcile/moving.js';
import { isActive } from '../reconcile/observed.js';
import type { Handlers } from './app.js';
import { MoveRequest, SnapshotOrder } from './contract.js';
import { ApiError } from './errors.js';
import { Flag, body, eventStream, query } from './http.js';
import { PageQuery, compareKeys, globMatches, labelsMatch, pageByIdentity, pageByKey } from './paging.js';
import type { System } from './system.js';
import { whyNotMoved } from './moving.js';
import { volumeRows, volumeView } from './views.js';

const Deleted = z.object({ deleted: z.literal(true) });
const Snapshots = z.object({ snapshots: z.array(SnapshotStatus) });
const Jobs = z.object({ jobs: z.array(JobStatus) });
const Backups = z.object({ backups: z.array(BackupEntry) });
const DestroyQuery = z.object({ snapshots: Flag.optional() });
const SnapshotQuery = PageQuery.extend({ name: z.string().optional(), label: z.string().optional() });
const VolumeQuery = SnapshotQuery.extend({ pool: z.string().optional() });
const BackupQuery = z.object({ directory: z.string().startsWith('/').max(4096) });

/** What waits for disks: a snapshot syncs what it freezes, a deletion frees blocks. */
const DEADLINE_MS = 60_000;
const WATCH_EVERY_MS = 300;
/** So long the pages of a list may be of one moment. */
const PAGES_FRESH_MS = 5_000;
const volumeKey = ({ pool, name }: VolumeStatus): [pool: string, name: string] => [pool, name];
const DEFAULT_LABELS = {};

const pathOf = (pool: string, volume: string, more = ''): string =>
  `/pools/${encodeURIComponent(pool)}/volumes/${encodeURIComponent(volume)}${more}`;

/** The machine that has the volume as a disk now. */
export function machineOn(system: System, pool: string, volume: string): string | null {
  for (const guest of system.guests.list())
    for (const disk of isActive(guest) ? (guest.plan?.disks ?? []) : []) {
      const used = volumeOfDisk(system.keeper.desired, disk.nbdName);
      if (used?.pool === pool && used.volume === volume) return guest.name;
    }
  return null;
}

/** Whether a resource names it. */
export function isConfigured(system: System, pool: string, volume: string): boolean {
  const spec = system.keeper.desired.specs.volume.get(volume);
  // The second side of a mirror is as much the configuration's as the first.
  return (
    spec?.pool === pool || spec?.mirror?.pool === pool || isPartOfMove(system.keeper.desired, pool, volume)
  );
}

export function mustBeUnused(system: System, pool: string, volume: string): void {
  const { moveFacts } = system.keeper.desired;
  if (moveFacts.get(volume)?.to !== undefined)
    throw new ApiError(
      409,
      'VOLUME_IN_USE',
      `volume ${volume} is being moved to another pool: wait for its end, or weft volume move ${pool}/${volume} --cancel`,
    );
  const machine = machineOn(system, pool, volume);
  if (machine !== null)
    throw new ApiError(
      409,
      'VOLUME_IN_USE',
      `machine "${machine}" still runs on ${pool}/${volume}: stop it first (weft machine stop ${machine})`,
    );
}

export function storingHandlers(system: System) {
  const { keeper, storage, clock } = system;
  const { client } = storage;

  const mustBeFree = (pool: string, volume: string, instead: string): void => {
    if (isConfigured(system, pool, volume))
      throw new ApiError(
        409,
        'VOLUME_CONFIGURED',
        `volume "${volume}" is in the configuration${instead === '' ? '' : `: ${instead}`}`,
      );
  };
  const jobPath = (id: string): string => `/jobs/${encodeURIComponent(id)}`;

  /** All disks of a machine by its configuration, or by what it runs with. */
  const disksOf = (machine: string): { pool: string; volume: string }[] => {
    const guest = system.guests.list().find(one => one.name === machine);
    const running = isActive(guest) ? (guest.plan?.disks ?? []) : null;
    const spec = keeper.desired.specs.machine.get(machine);
    if (spec === undefined && running === null)
      throw new ApiError(404, 'RESOURCE_UNKNOWN', `there is no machine "${machine}"`);
    const found =
      running?.map(({ nbdName }) => volumeOfDisk(keeper.desired, nbdName)) ??
      spec?.disks.map(({ volume }) => {
        const pool = keeper.desired.specs.volume.get(volume)?.pool;
        return pool === undefined ? undefined : { pool, volume };
      }) ??
      [];
    const disks = found.filter(disk => disk !== undefined);
    if (disks.length === 0)
      throw new ApiError(409, 'MACHINE_WITHOUT_DISKS', `machine "${machine}" has no disks`);
    return disks;
  };

  /** What the pages of one list are taken from: the first asks the plane, those that follow at once need not. */
  let last: { volumes: readonly VolumeStatus[]; until_ms: number } | null = null;
  const listed = async (cursor: string | undefined): Promise<readonly VolumeStatus[]> => {
    if (cursor !== undefined && last !== null && clock.now_ms() < last.until_ms) return last.volumes;
    last = null;
    const { volumes } = await storage.status();
    volumes.sort((a, b) => compareKeys(volumeKey(a), volumeKey(b)));
    return volumes;
  };
  const keepForNext = (volumes: readonly VolumeStatus[], next: string | null): void => {
    if (next === null) last = null;
    else last ??= { volumes, until_ms: clock.now_ms() + PAGES_FRESH_MS };
  };
  const volumeOf = async (pool: string, volume: string, cursor?: string): Promise<VolumeStatus> => {
    const found = (await listed(cursor)).find(one => one.pool === pool && one.name === volume);
    if (found !== undefined) return found;
    throw new ApiError(404, 'VOLUME_UNKNOWN', `there is no volume ${pool}/${volume}`);
  };

  return {
    listPools: async ctx => {
      ctx.body = { pools: (await storage.status()).pools };
    },
    listRemoteExports: async (ctx, { pool = '' }) => {
      const path = `/pools/${encodeURIComponent(pool)}/exports`;
      const { exports, isCut } = await client.call({
        method: 'GET',
        path,
        reply: RemoteExports,
        deadline_ms: DEADLINE_MS,
      });
      const volumes = new Map<string, string>();
      for (const [name, spec] of keeper.desired.specs.volume)
        if (spec.pool === pool || spec.mirror?.pool === pool) {
          const leg = spec.pool === pool ? spec : legOf(spec);
          volumes.set(leg?.remoteName ?? name, name);
        }
      ctx.body = { exports: exports.map(one => ({ ...one, volume: volumes.get(one.name) ?? null })), isCut };
    },
    listVolumes: async ctx => {
      const { pool, name, label, ...asked } = query(ctx, VolumeQuery);
      const all = await listed(asked.cursor);
      const volumes = all.filter(
        one =>
          (pool === undefined || one.pool === pool) &&
          (name === undefined || globMatches(name, one.name)) &&
          (label === undefined || labelsMatch(label, one.labels)),
      );
      const { rows, next } = pageByKey(volumes, volumeKey, asked);
      keepForNext(all, next);
      ctx.body = { volumes: volumeRows(keeper, rows), next };
    },
    getVolume: async (ctx, { pool = '', volume = '' }) => {
      const found = await volumeOf(pool, volume);
      ctx.body = volumeView(keeper, found, machineOn(system, pool, volume));
    },
    listSnapshots: async (ctx, { pool = '', volume = '' }) => {
      const { name, label, ...asked } = query(ctx, SnapshotQuery);
      const { snapshots = [] } = await volumeOf(pool, volume, asked.cursor);
      const { rows, next } = pageByIdentity(
        snapshots.filter(
          one =>
            (name === undefined || globMatches(name, one.name)) &&
            (label === undefined || labelsMatch(label, one.labels)),
        ),
        one => one.uuid,
        asked,
      );
      ctx.body = { snapshots: rows, next };
    },
    putVolume: async (ctx, { pool = '', volume = '' }) => {
      mustBeFree(pool, volume, 'change it there (size, quota, labels) and apply');
      const spec = await body(ctx, VolumeSpec);
      const path = pathOf(pool, volume);
      ctx.body = await client.call({
        method: 'PUT',
        path,
        body: spec,
        reply: VolumeStatus,
        deadline_ms: DEADLINE_MS,
      });
    },
    destroyVolume: async (ctx, { pool = '', volume = '' }) => {
      mustBeFree(pool, volume, `weft delete volume ${volume} --destroy-data takes it out with its data`);
      mustBeUnused(system, pool, volume);
      const { snapshots = false } = query(ctx, DestroyQuery);
      const path = pathOf(pool, volume, snapshots ? '?snapshots=true' : '');
      ctx.body = await client.call({ method: 'DELETE', path, reply: Deleted, deadline_ms: DEADLINE_MS });
      await keeper.rememberFill(pool, volume, null);
    },
    renameVolume: async (ctx, { pool = '', volume = '' }) => {
      const { to } = await body(ctx, RenameRequest);
      mustBeFree(
        pool,
        volume,
        `take it out (weft delete volume ${volume}; the data stays), rename it, and apply a configuration that says "${to}"`,
      );
      if (isConfigured(system, pool, to)) mustBeFree(pool, to, 'choose another name');
      mustBeUnused(system, pool, volume);
      const path = pathOf(pool, volume, '/rename');
      ctx.body = await client.call({ method: 'POST', path, body: { to }, reply: VolumeStatus });
    },
    /** The plane refuses it while machines use the pool. */
    repairPool: async (ctx, { pool = '' }) => {
      ctx.body = await client.call({
        method: 'POST',
        path: `/pools/${encodeURIComponent(pool)}/repair`,
        body: await body(ctx, RepairRequest),
        reply: RepairReport,
        deadline_ms: DEADLINE_MS,
      });
    },
    moveVolume: async (ctx, { pool = '', volume = '' }) => {
      const asked = await body(ctx, MoveRequest);
      const refusal = whyNotMoved(keeper.desired, await storage.status(), pool, volume, asked);
      if (refusal !== null) throw new ApiError(409, 'VOLUME_NOT_MOVED', refusal);
      const { to, keepSource } = asked;
      const { was, at } = keeper.desired.moveFacts.get(volume) ?? { was: [] };
      await keeper.rememberMove(volume, { to, keepSource, was, ...(at === undefined ? {} : { at }) });
      ctx.body = {};
    },
    cancelMove: async (ctx, { pool = '', volume = '' }) => {
      const fact = keeper.desired.moveFacts.get(volume);
      if (fact?.to === undefined || keeper.desired.specs.volume.get(volume)?.pool !== pool)
        throw new ApiError(409, 'VOLUME_NOT_MOVED', `volume ${pool}/${volume} is not being moved`);
      await keeper.rememberMove(volume, outOfConfiguration(fact));
      ctx.body = {};
    },
    rollbackVolume: async (ctx, { pool = '', volume = '' }) => {
      const asked = await body(ctx, RollbackRequest);
      mustBeUnused(system, pool, volume);
      const path = pathOf(pool, volume, '/rollback');
      ctx.body = await client.call({
        method: 'POST',
        path,
        body: asked,
        reply: VolumeStatus,
        deadline_ms: DEADLINE_MS,
      });
    },
    diffVolume: async (ctx, { pool = '', volume = '' }) => {
      const path = pathOf(pool, volume, `/diff${ctx.querystring === '' ? '' : `?${ctx.querystring}`}`);
      ctx.body = await client.call({ method: 'GET', path, reply: Diff, deadline_ms: DEADLINE_MS });
    },
    deleteSnapshot: async (ctx, { pool = '', volume = '', snapshot = '' }) => {
      const path = pathOf(pool, volume, `/snapshots/${encodeURIComponent(snapshot)}`);
      ctx.body = await client.call({ method: 'DELETE', path, reply: Deleted, deadline_ms: DEADLINE_MS });
    },
    makeSnapshots: async ctx => {
      const { name, volumes = [], machine, labels = DEFAULT_LABELS } = await body(ctx, SnapshotOrder);
      const wanted = [...volumes, ...(machine === undefined ? [] : disksOf(machine))];
      if (wanted.length === 0)
        throw new ApiError(400, 'BAD_BODY', 'say of which volumes, or of which machine');
      // A machine may have a volume that is named as well, or twice.
      const once = new Map(wanted.map(one => [`${one.pool}/${one.volume}`, one]));
      ctx.body = await client.call({
        method: 'POST',
        path: '/snapshots',
        body: { name, volumes: [...once.values()], labels },
        reply: Snapshots,
        deadline_ms: DEADLINE_MS,
      });
    },
    listJobs: async ctx => {
      ctx.body = await client.call({ method: 'GET', path: '/jobs', reply: Jobs });
    },
    beginJob: async ctx => {
      const asked = await body(ctx, JobRequest);
      if (asked.kind === 'restore') mustBeUnused(system, asked.pool, asked.volume);
      ctx.body = await client.call({
        method: 'POST',
        path: '/jobs',
        body: asked,
        reply: JobStatus,
        deadline_ms: DEADLINE_MS,
      });
    },
    getJob: async (ctx, { id = '' }) => {
      ctx.body = await client.call({ method: 'GET', path: jobPath(id), reply: JobStatus });
    },
    cancelJob: async (ctx, { id = '' }) => {
      ctx.body = await client.call({
        method: 'DELETE',
        path: jobPath(id),
        reply: JobStatus,
        deadline_ms: DEADLINE_MS,
      });
    },
    watchJob: async (ctx, { id = '' }) => {
      const ask = () => client.call({ method: 'GET', path: jobPath(id), reply: JobStatus });
      const first = await ask();
      const stream = eventStream(ctx, clock);
      let told = '';
      /** Whether it goes on. */
      const tell = (job: JobStatus): boolean => {
        const text = JSON.stringify(job);
        if (text !== told && !stream.send(job)) return false;
        told = text;
        return job.endedAt_ms === null;
      };
      const later = (): void => {
        const cancel = clock.after(WATCH_EVERY_MS, () => {
          ask().then(
            job => (tell(job) ? later() : stream.end()),
            // The plane went away; whoever watches asks again.
            () => stream.end(),
          );
        });
        stream.signal.addEventListener('abort', cancel, { once: true });
      };
      if (tell(first)) later();
      else stream.end();
    },
    listBackups: async ctx => {
      const { directory } = query(ctx, BackupQuery);
      const path = `/backups?directory=${encodeURIComponent(directory)}`;
      ctx.body = await client.call({ method: 'GET', path, reply: Backups, deadline_ms: DEADLINE_MS });
    },
  } satisfies Handlers;
}
