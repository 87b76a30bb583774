/** Work of minutes or hours: it goes on in the background, says how far it is, and survives a restart or begins again. */
import { z } from 'zod';
import { NbdAddress, SnapshotName, TlsFiles } from './config.js';

/** Where backups are kept: a directory of any file system, or exports of another NBD server. */
export const BackupTarget = z.union([
  z.strictObject({ directory: z.string().startsWith('/').max(4096) }),
  z.strictObject({
    server: NbdAddress,
    exportName: z.string().max(4096),
    tls: TlsFiles.optional(),
  }),
]);
export type BackupTarget = z.infer<typeof BackupTarget>;

/**
 * Which backups of a volume are kept: those that any of these rules keeps, the newest, and all that they build upon. A chain goes
 * when nothing in it is kept any more, so a full backup is needed now and then.
 */
export const BackupKeep = z
  .strictObject({
    /** So many of the newest. */
    last: z.int().min(1).max(10_000).optional(),
    /** All that are not older. */
    age_ms: z.number().positive().optional(),
  })
  .refine(({ last, age_ms }) => last !== undefined || age_ms !== undefined, 'say how many, or how old');
export type BackupKeep = z.infer<typeof BackupKeep>;

/** Bytes per second at most; absent: as fast as it goes beside clients. */
const rate_bytes_per_s = z.number().positive().optional();

export const JobRequest = z.discriminatedUnion('kind', [
  /** Reads everything that is there and compares checksums. Of one volume, or of the whole pool. */
  z.strictObject({
    kind: z.literal('scrub'),
    pool: z.string(),
    volume: z.string().optional(),
    rate_bytes_per_s,
  }),
  /** Copies into a clone what it shares, so that it needs its parent no more. */
  z.strictObject({ kind: z.literal('flatten'), pool: z.string(), volume: z.string(), rate_bytes_per_s }),
  /** Joins layers that nobody needs apart. The plane begins these by itself. */
  z.strictObject({ kind: z.literal('merge'), pool: z.string(), layer: z.string(), rate_bytes_per_s }),
  /** Of a snapshot (one is made when left out): the first time all of it, then what changed since the last. */
  z.strictObject({
    kind: z.literal('backup'),
    pool: z.string(),
    volume: z.string(),
    snapshot: SnapshotName.optional(),
    target: BackupTarget,
    full: z.boolean().default(false),
    /**
     * Of an encrypted volume a backup has the encrypted blocks, and needs the same key file to be of use. true: decrypted on the
     * way, so that whoever reads the backup reads the volume.
     */
    plaintext: z.boolean().default(false),
    /** Of a directory: afterwards what is older goes, as by `prune`. */
    keep: BackupKeep.optional(),
    rate_bytes_per_s,
  }),
  /**
   * Into a volume that is there, has the size, is not in use, and is empty or may be overwritten. An encrypted backup goes into a
   * volume whose configured key file is the same; any other is encrypted on the way where the volume has a key. `backup`: its
   * name; the newest when left out.
   */
  z.strictObject({
    kind: z.literal('restore'),
    pool: z.string(),
    volume: z.string(),
    source: z.strictObject({ directory: z.string().startsWith('/').max(4096) }),
    /** As it was named when it was backed up; default: the volume's name. */
    sourceVolume: z.string().optional(),
    backup: z.string().optional(),
    overwrite: z.boolean().default(false),
    rate_bytes_per_s,
  }),
  /** Reads a backup and compares its checksums. */
  z.strictObject({
    kind: z.literal('verify'),
    source: z.strictObject({ directory: z.string().startsWith('/').max(4096) }),
    sourceVolume: z.string().optional(),
    backup: z.string().optional(),
    rate_bytes_per_s,
  }),
  /** Removes backups that are not to be kept. Of one volume, or of all that are there. */
  z.strictObject({
    kind: z.literal('prune'),
    source: z.strictObject({ directory: z.string().startsWith('/').max(4096) }),
    sourceVolume: z.string().optional(),
    keep: BackupKeep,
  }),
]);
export type JobRequest = z.infer<typeof JobRequest>;
/** As it is sent: what has a default may be left out. */
export type JobRequestInput = z.input<typeof JobRequest>;

export const JobStatus = z.object({
  id: z.string(),
  request: JobRequest,
  state: z.enum(['waiting', 'running', 'done', 'failed', 'cancelled']),
  startedAt_ms: z.number(),
  endedAt_ms: z.number().nullable(),
  done_bytes: z.number(),
  /** null while it is not known. */
  total_bytes: z.number().nullable(),
  /** How long it will go on, if it goes on as it does; null or absent while that cannot be told. */
  left_ms: z.number().nullable().optional(),
  /** What it found or did, in words; or why it failed. */
  message: z.string().nullable(),
  /** What is wrong with what was read (of scrub and verify; merge and flatten tell what they copied all the same), the first thousand. */
  findings: z.array(
    z.object({ what: z.string(), offset_bytes: z.number().nullable(), length_bytes: z.number().nullable() }),
  ),
});
export type JobStatus = z.infer<typeof JobStatus>;

/** One backup in a directory. */
export const BackupEntry = z.object({
  volume: z.string(),
  name: z.string(),
  kind: z.enum(['full', 'incremental']),
  /** The one that it builds upon. */
  base: z.string().nullable(),
  createdAt_ms: z.number(),
  size_bytes: z.number(),
  stored_bytes: z.number(),
  /** `incomplete`: being made, or cut short; the next backup of the volume goes on with it. It cannot be restored. */
  state: z.enum(['whole', 'incomplete']).default('whole'),
  /** Of an encrypted volume, as it lies on disk. */
  encrypted: z.boolean().default(false),
});
export type BackupEntry = z.infer<typeof BackupEntry>;
