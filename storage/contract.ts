/**
 * What weft-storage can be asked and what it answers: the only file of this plane that control imports.
 *
 * The plane serves HTTP + JSON on a Unix socket:
 *
 *   GET    /health                          Health
 *   PUT    /config          StorageConfig   Applied       which pools are open and what is exported
 *   GET    /status                          StorageStatus
 *   GET    /pools/:pool/volumes             {volumes: VolumeStatus[]}
 *   PUT    /pools/:pool/volumes/:volume     VolumeSpec -> VolumeStatus   make it, or grow it; the same again is no change
 *   DELETE /pools/:pool/volumes/:volume     {deleted: true}   destroys its data; refused while exported
 *   GET    /events                          SSE of StorageEvent; the stream's end means that the plane is gone
 *
 * A volume that the configuration does not mention stays where it is: only DELETE destroys. Every error
 * reply is an ErrorReply.
 */
import { z } from 'zod';

export const PoolConfig = z.strictObject({
  name: z.string().min(1).max(40),
  /** Absolute; made if absent. Opened by one weft-storage at a time. */
  directory: z.string().min(1),
});
export type PoolConfig = z.infer<typeof PoolConfig>;

export const ExportListen = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('unix'),
    path: z.string().min(1).max(107),
    /** Who may connect besides ourselves: the socket is given to this user, mode 0600. */
    owner: z.strictObject({ uid: z.int().min(0), gid: z.int().min(0) }).optional(),
  }),
  z.strictObject({ kind: z.literal('tcp'), host: z.string().min(1), port: z.int().min(1).max(65_535) }),
]);
export type ExportListen = z.infer<typeof ExportListen>;

export const ExportConfig = z.strictObject({
  /** Unique in the configuration: names it in status and events. */
  name: z.string().min(1).max(200),
  /** What an NBD client asks for (NBD_OPT_GO); exports may share a listener when these differ. */
  nbdName: z.string().max(4096),
  pool: z.string().min(1).max(40),
  volume: z.string().min(1).max(40),
  readOnly: z.boolean().default(false),
  listen: z.array(ExportListen).min(1).max(16),
});
export type ExportConfig = z.infer<typeof ExportConfig>;

export const StorageConfig = z.strictObject({
  generation: z.int().min(0),
  pools: z.array(PoolConfig).max(256),
  exports: z.array(ExportConfig).max(20_000),
});
export type StorageConfig = z.infer<typeof StorageConfig>;

export const VolumeSpec = z.strictObject({
  /** A multiple of 4096; at most 64 TiB. Growing is done online; a smaller size is refused. */
  size_bytes: z
    .int()
    .min(4096)
    .max(2 ** 46),
});
export type VolumeSpec = z.infer<typeof VolumeSpec>;

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
  directory: z.string(),
  state: z.enum(['open', 'error']),
  reason: z.string().nullable(),
  /** Of the file system below. */
  capacity_bytes: z.number(),
  free_bytes: z.number(),
  /** Sum of the volumes' allocated bytes, and of their sizes: over-commitment is the quotient. */
  allocated_bytes: z.number(),
  provisioned_bytes: z.number(),
  volumeCount: z.int(),
});
export type PoolStatus = z.infer<typeof PoolStatus>;

export const VolumeStatus = z.object({
  pool: z.string(),
  name: z.string(),
  uuid: z.string(),
  size_bytes: z.number(),
  allocated_bytes: z.number(),
  createdAt_ms: z.number(),
  /** `full`: a write met a full file system; the next one that succeeds clears it. `failed`: see reason. */
  state: z.enum(['ok', 'full', 'failed']),
  reason: z.string().nullable(),
});
export type VolumeStatus = z.infer<typeof VolumeStatus>;

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
    state: z.enum(['open', 'error']),
    reason: z.string().nullable(),
  }),
  z.object({
    type: z.literal('volume'),
    at_ms: z.number(),
    pool: z.string(),
    volume: z.string(),
    state: VolumeStatus.shape.state,
    reason: z.string().nullable(),
  }),
  z.object({
    type: z.literal('export'),
    at_ms: z.number(),
    export: z.string(),
    state: z.enum(['listening', 'error']),
    reason: z.string().nullable(),
  }),
]);
export type StorageEvent = z.infer<typeof StorageEvent>;

export const ErrorReply = z.object({
  error: z.object({ code: z.string(), message: z.string() }),
});
export type ErrorReply = z.infer<typeof ErrorReply>;
