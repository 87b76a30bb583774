/**
 * What weft-storage can be asked and what it answers: the only file of this plane that control imports.
 *
 * The plane serves HTTP + JSON on a Unix socket:
 *
 *   GET    /health                          Health
 *   PUT    /config          StorageConfig   Applied       which pools are open, how volumes are opened, what is exported
 *   GET    /status                          StorageStatus
 *   POST   /pools/:pool/repair  RepairRequest  RepairReport   not while it is used, unless there is nothing to do
 *   GET    /pools/:pool/exports             RemoteExports    what the server behind a pool of kind remote offers
 *   GET    /pools/:pool/volumes             {volumes: VolumeStatus[]}
 *   PUT    /pools/:pool/volumes/:volume     VolumeSpec -> VolumeStatus   make it, or change it; the same again is no change
 *   DELETE /pools/:pool/volumes/:volume     {deleted: true}   destroys its data, but for what clones share; refused while exported.
 *                                           With ?snapshots=true its snapshots too; refused while it has any, else
 *   POST   /pools/:pool/volumes/:volume/rename    RenameRequest -> VolumeStatus
 *   POST   /pools/:pool/volumes/:volume/rollback  RollbackRequest -> VolumeStatus   not while clients are connected
 *   DELETE /pools/:pool/volumes/:volume/snapshots/:snapshot   {deleted: true}   clones keep what they share
 *   GET    /pools/:pool/volumes/:volume/diff?from=&to=&offset=   Diff
 *   GET    /pools/:pool/volumes/:volume/mirror?pool=   MirrorAtRest   of a mirror with the volume of this name in that pool
 *   POST   /snapshots       SnapshotRequest {snapshots: SnapshotStatus[]}   durable when answered
 *   PUT    /leases/:name    Lease           {}            DELETE ends it
 *   POST   /jobs            JobRequest      JobStatus     GET /jobs {jobs}, GET /jobs/:id, DELETE /jobs/:id cancels
 *   GET    /backups?directory=              {backups: BackupEntry[]}
 *   GET    /events                          SSE of StorageEvent; the stream's end means that the plane is gone
 *
 * A volume that the configuration does not mention stays where it is: only DELETE destroys. Every error
 * reply is an ErrorReply.
 */
import { z } from 'zod';
import { JobStatus } from './contract/jobs.js';
import { VolumeState, VolumeStatus } from './contract/volumes.js';

export * from './contract/config.js';
export * from './contract/jobs.js';
export * from './contract/volumes.js';

export const Health = z.object({
  name: z.literal('weft-storage'),
  version: z.string(),
  pid: z.int(),
  startedAt_ms: z.number(),
  /** -1 until a configuration has been taken. */
  generation: z.int(),
});
export type Health = z.infer<typeof Health>;

export const PoolStatus = z.object({
  name: z.string(),
  /** Directory, device, or address of the server. */
  directory: z.string(),
  /** `low`: open, and less is free than is asked for. */
  state: z.enum(['open', 'low', 'error']),
  reason: z.string().nullable(),
  /** Of the file system below. */
  capacity_bytes: z.number(),
  free_bytes: z.number(),
  /** Sum of the volumes' allocated bytes, and of their sizes: over-commitment is the quotient. */
  allocated_bytes: z.number(),
  provisioned_bytes: z.number(),
  volumeCount: z.int(),
  kind: z.enum(['directory', 'device', 'remote']).optional(),
  /** Volumes of it that are damaged, foreign files, and the like, in words. */
  problems: z.array(z.string()).optional(),
});
export type PoolStatus = z.infer<typeof PoolStatus>;

/** What another NBD server says that it offers (NBD_OPT_LIST, and NBD_OPT_INFO of the first 256). */
export const RemoteExports = z.object({
  exports: z.array(
    z.object({
      name: z.string(),
      description: z.string(),
      /** null: not told. */
      size_bytes: z.number().nullable(),
      readOnly: z.boolean().nullable(),
      /** Why there is no size, in the server's words. */
      reason: z.string().nullable(),
    }),
  ),
  /** It has more than 10,000, or names that are no UTF-8. */
  isCut: z.boolean(),
});
export type RemoteExports = z.infer<typeof RemoteExports>;

export const RepairRequest = z.strictObject({
  /** Only tell what would be done. */
  dryRun: z.boolean().default(false),
  /** The directory is a copy of another pool's and is to be a pool of its own. */
  newIdentity: z.boolean().default(false),
});
export type RepairRequest = z.infer<typeof RepairRequest>;

/** What is wrong with a pool, and what was done about it, or would be: in words. No data is removed, see pool/repair.ts. */
export const RepairReport = z.object({
  name: z.string(),
  uuid: z.string(),
  found: z.array(z.string()),
  actions: z.array(z.string()),
});
export type RepairReport = z.infer<typeof RepairReport>;

export const ExportStatus = z.object({
  name: z.string(),
  state: z.enum(['listening', 'error']),
  reason: z.string().nullable(),
  connectionCount: z.int(),
  counters: z.record(z.string(), z.number()),
});
export type ExportStatus = z.infer<typeof ExportStatus>;

export const StorageStatus = z.object({
  generation: z.int(),
  pools: z.array(PoolStatus),
  volumes: z.array(VolumeStatus),
  exports: z.array(ExportStatus),
  server: z.record(z.string(), z.number()),
  /** Those that run, and the last hundred that ended. */
  jobs: z.array(JobStatus).optional(),
});
export type StorageStatus = z.infer<typeof StorageStatus>;

export const Applied = z.object({
  generation: z.int(),
  problems: z.array(
    z.object({ pool: z.string().nullable(), export: z.string().nullable(), reason: z.string() }),
  ),
});
export type Applied = z.infer<typeof Applied>;

export const StorageEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('pool'),
    at_ms: z.number(),
    pool: z.string(),
    state: z.enum(['open', 'low', 'error']),
    reason: z.string().nullable(),
  }),
  z.object({
    type: z.literal('volume'),
    at_ms: z.number(),
    pool: z.string(),
    volume: z.string(),
    state: VolumeState,
    reason: z.string().nullable(),
  }),
  z.object({
    type: z.literal('export'),
    at_ms: z.number(),
    export: z.string(),
    state: z.enum(['listening', 'error']),
    reason: z.string().nullable(),
  }),
  z.object({ type: z.literal('job'), at_ms: z.number(), job: JobStatus }),
]);
export type StorageEvent = z.infer<typeof StorageEvent>;

export const ErrorReply = z.object({
  error: z.object({ code: z.string(), message: z.string() }),
});
export type ErrorReply = z.infer<typeof ErrorReply>;
