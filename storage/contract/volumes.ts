/** What volumes and snapshots are, and what can be done with them; see ../contract.ts for the routes. */
import { z } from 'zod';
import { SnapshotName } from './config.js';

/** Whatever people want to find it by. */
export const Labels = z.record(z.string().min(1).max(63), z.string().max(255));
export type Labels = z.infer<typeof Labels>;

const Size = z
  .int()
  .min(4096)
  .max(2 ** 46);

export const VolumeSpec = z.strictObject({
  /** A multiple of 4096; at most 64 TiB. Growing is done online. */
  size_bytes: Size,
  /** A smaller size is refused without this; what lies behind is gone. Only while no client is connected. */
  shrink: z.boolean().default(false),
  /** These count when it is made; later others are refused (VOLUME_DIFFERS), except labels and quota. */
  preallocated: z.boolean().optional(),
  /** A checksum of each 4 KiB, verified on read. Default: yes. */
  checksums: z.boolean().optional(),
  /** Made as a clone: of a snapshot, or of the volume as it is now. Of the same pool. */
  from: z.strictObject({ volume: z.string().min(1).max(40), snapshot: SnapshotName.optional() }).optional(),
  labels: Labels.optional(),
  /** Most bytes that it and its snapshots may allocate; then writes to new blocks answer ENOSPC. null: no limit. */
  quota_bytes: z.int().min(4096).nullable().optional(),
});
export type VolumeSpec = z.infer<typeof VolumeSpec>;

/** `uuid` stays with a snapshot for its life, `generation` counts the snapshots of a volume from 1. */
export const SnapshotStatus = z.object({
  name: z.string(),
  uuid: z.string(),
  createdAt_ms: z.number(),
  size_bytes: z.number(),
  /** Of the layer that belongs to it alone: about what deleting it would free. */
  allocated_bytes: z.number(),
  labels: Labels,
  /** Volumes of this pool that were cloned from it. */
  clones: z.array(z.string()),
});
export type SnapshotStatus = z.infer<typeof SnapshotStatus>;

/**
 * `full`: a write met a full file system, or its quota; the next one that succeeds clears it. `failed`: see reason.
 * `damaged`: a part of it is lost; what is left can be read, nothing written. `degraded`: a mirror with one side away,
 * or a remote server that does not answer.
 */
export const VolumeState = z.enum(['ok', 'full', 'failed', 'damaged', 'degraded']);

export const VolumeStatus = z.object({
  pool: z.string(),
  name: z.string(),
  uuid: z.string(),
  size_bytes: z.number(),
  /** Of its own layers, snapshots included; shared ones are counted at the volume that they belong to. */
  allocated_bytes: z.number(),
  createdAt_ms: z.number(),
  state: VolumeState,
  reason: z.string().nullable(),
  preallocated: z.boolean().optional(),
  checksums: z.boolean().optional(),
  labels: Labels.optional(),
  quota_bytes: z.number().nullable().optional(),
  /** What it was cloned from, while that is still shared. */
  parent: z.object({ volume: z.string(), snapshot: z.string() }).nullable().optional(),
  /** Layers that a read may come from. */
  depth: z.int().optional(),
  snapshots: z.array(SnapshotStatus).optional(),
  /** Blocks whose checksum did not match, since this process began. */
  checksumErrors: z.number().optional(),
  /** Requests that waited for one of its limits, and how long altogether, since this process began. */
  throttledCount: z.number().optional(),
  throttled_ms: z.number().optional(),
  mirror: z
    .object({
      state: z.enum(['in-sync', 'resyncing', 'degraded']),
      left_bytes: z.number(),
      reason: z.string().nullable(),
    })
    .nullable()
    .optional(),
});
export type VolumeStatus = z.infer<typeof VolumeStatus>;

/** Of a mirror that is not open: whether its journal knows of no difference to the volume of this name in another pool. */
export const MirrorAtRest = z.object({
  inSync: z.boolean(),
  reason: z.string().nullable(),
  snapshotCount: z.int(),
});
export type MirrorAtRest = z.infer<typeof MirrorAtRest>;

/** Of several volumes at one instant, when more are named: no write that began after another's ended is in one without the other. */
export const SnapshotRequest = z.strictObject({
  name: SnapshotName,
  volumes: z
    .array(z.strictObject({ pool: z.string(), volume: z.string() }))
    .min(1)
    .max(1000),
  labels: Labels.optional(),
});
export type SnapshotRequest = z.infer<typeof SnapshotRequest>;

export const RollbackRequest = z.strictObject({ snapshot: SnapshotName });
export type RollbackRequest = z.infer<typeof RollbackRequest>;

export const RenameRequest = z.strictObject({ to: z.string().min(1).max(40) });
export type RenameRequest = z.infer<typeof RenameRequest>;

/** What differs: blocks that were written or zeroed after `from` (from the beginning, when left out) and by `to` (by now). */
export const Diff = z.object({
  size_bytes: z.number(),
  /** In order. `zero`: reads as zeroes now. */
  extents: z.array(z.object({ offset_bytes: z.number(), length_bytes: z.number(), zero: z.boolean() })),
  /** Ask again with `offset=` this; null: that was all. */
  next_bytes: z.number().nullable(),
});
export type Diff = z.infer<typeof Diff>;

/** An export that is not in the configuration, for something that moves data now; gone when the plane restarts. */
export const Lease = z.strictObject({
  pool: z.string(),
  volume: z.string(),
  snapshot: SnapshotName.optional(),
  readOnly: z.boolean().default(true),
  /** A Unix socket, mode 0600. The export there has the lease's name, and clients go when it ends. */
  path: z.string().startsWith('/').max(107),
});
export type Lease = z.infer<typeof Lease>;
