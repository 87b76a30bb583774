/**
 * What each kind of job asks of the desk and of the jobs thread, in which order. Whatever happens, what it holds is released; what
 * it changes, it changes by one commit at the end. Resolves to what was done, in words.
 */
import type { BackupKeep, JobRequest } from '../contract/jobs.js';
import { backupToDirectory, backupToServer } from './backupBodies.js';
import { bytesText } from './text.js';
import type { Copied } from './copyTask.js';
import type { JobDesk } from './desk.js';
import { JobError } from './errors.js';
import type { TaskKind, Tasks } from './messages.js';

export interface JobContext {
  readonly desk: JobDesk;
  readonly now_ms: () => number;
  /** Another job that goes on, or waits, is of this snapshot. */
  readonly isWanted: (pool: string, volume: string, snapshot: string) => boolean;
  /** Rejects with JobError; JOB_CANCELLED where the job was. */
  readonly ask: <K extends TaskKind>(kind: K, ask: Tasks[K]['ask']) => Promise<Tasks[K]['answer']>;
}

type Request<K extends JobRequest['kind']> = Extract<JobRequest, { kind: K }>;

export async function runJob(request: JobRequest, context: JobContext): Promise<string> {
  switch (request.kind) {
    case 'merge':
      return merge(request, context);
    case 'flatten':
      return flatten(request, context);
    case 'scrub':
      return scrub(request, context);
    case 'backup':
      return 'directory' in request.target
        ? backupToDirectory(request, request.target.directory, context)
        : backupToServer(request, request.target, context);
    case 'restore':
      return restore(request, context);
    case 'verify':
      return verify(request, context);
    case 'prune':
      return prune(request.source.directory, request.sourceVolume ?? null, request.keep, context);
  }
}

async function merge({ pool, layer }: Request<'merge'>, { desk, ask }: JobContext): Promise<string> {
  const held = await desk.holdMerge(pool, layer);
  if (held === null)
    throw new JobError(
      'JOB_NOT_NOW',
      'there is nothing to merge, or its layers are being read: try again later',
    );
  try {
    const { lower, upper, lowest } = held;
    const merged = await ask('merge', { lower, upper, lowest });
    const { kept, size_bytes, inherits_bytes, copied_bytes } = merged;
    await desk.commitMerge(held, kept, { size_bytes, inherits_bytes });
    const way = kept === 'upper' ? 'up into the newer' : 'down into the older';
    return `${bytesText(copied_bytes)} went ${way} layer${faultsOf(merged)}`;
  } catch (error) {
    if (error instanceof JobError && error.code === 'JOB_SYNC') held.spoil();
    throw error;
  } finally {
    held.release();
  }
}

/** What people have to know of a copy that is done all the same. */
function faultsOf({ lostRegions, wrongBlocks }: Copied): string {
  const lost = `; the checksums of ${lostRegions} regions (4 MiB each) were lost and made anew of what is there`;
  const wrong = `; ${wrongBlocks} blocks do not match their checksums, and are kept so`;
  return (lostRegions > 0 ? lost : '') + (wrongBlocks > 0 ? wrong : '');
}

async function flatten({ pool, volume }: Request<'flatten'>, { desk, ask }: JobContext): Promise<string> {
  const held = await desk.holdFlatten(pool, volume);
  try {
    if (held.shared.length === 0) return 'it shares nothing';
    const made = await desk.newLayer(pool, volume);
    try {
      const { shared, reach_bytes } = held;
      const copied = await ask('flatten', { shared, reach_bytes, into: made.layer });
      await desk.commitFlatten(held, made);
      return `${bytesText(copied.copied_bytes)} were copied; it shares nothing any more${faultsOf(copied)}`;
    } finally {
      made.release();
    }
  } finally {
    held.release();
  }
}

async function scrub({ pool, volume }: Request<'scrub'>, { desk, ask }: JobContext): Promise<string> {
  const held = await desk.holdScrub(pool, volume ?? null);
  try {
    const found = await ask('scrub', { layers: held.layers });
    const parts = [
      found.faults === 0 ? 'nothing is wrong' : `${found.faults} faults`,
      `${bytesText(found.checked_bytes)} verified in ${found.layers} layers`,
    ];
    if (found.unchecked_bytes > 0)
      parts.push(`${bytesText(found.unchecked_bytes)} read that have no checksum`);
    if (found.open_bytes > 0) parts.push(`${bytesText(found.open_bytes)} skipped as they are being written`);
    if (found.leaked_bytes > 0) parts.push(`${bytesText(found.leaked_bytes)} of space are held by nothing`);
    return parts.join('; ');
  } finally {
    held.release();
  }
}

async function restore(request: Request<'restore'>, { desk, ask }: JobContext): Promise<string> {
  const { pool, volume, source, sourceVolume, backup, overwrite } = request;
  const { directory } = source;
  const from = sourceVolume ?? volume;
  const { size_bytes, isBlank } = desk.requireIdle(pool, volume);
  if (!isBlank && !overwrite)
    throw new JobError(
      'JOB_NOT_NOW',
      `volume ${volume} of pool ${pool} is not empty: say that it may be overwritten, or choose another`,
    );
  const found = await ask('findBackup', { directory, volume: from, backup: backup ?? null });
  if (found.size_bytes !== size_bytes)
    throw new JobError(
      'JOB_SIZE',
      `backup ${found.name} is of ${found.size_bytes} bytes, volume ${volume} has ${size_bytes}: make one of that size`,
    );
  // An encrypted backup goes in as it is, any other as the volume has it.
  const own = found.encryption === null ? desk.keyOf(pool, volume) : null;
  const encryption = found.encryption ?? own?.encryption ?? null;
  try {
    desk.requireKey(pool, volume, encryption);
    const made = await desk.newLayer(pool, volume);
    try {
      const restored = await ask('restore', {
        directory,
        volume: from,
        backup: found.name,
        into: made.layer,
        key: own?.key ?? null,
      });
      await desk.commitContent(pool, volume, made, encryption);
      const more = restored.count === 1 ? '' : `, from ${restored.count} backups that build upon each other`;
      return `${volume} is as in backup ${found.name} of ${from}${more}`;
    } finally {
      made.release();
    }
  } finally {
    own?.key.fill(0);
  }
}

async function verify(
  { source, sourceVolume, backup }: Request<'verify'>,
  { ask }: JobContext,
): Promise<string> {
  const found = await ask('verify', {
    directory: source.directory,
    volume: sourceVolume ?? null,
    backup: backup ?? null,
  });
  const what = found.faults === 0 ? 'nothing is wrong' : `${found.faults} faults`;
  return `${what}; ${bytesText(found.checked_bytes)} verified in ${found.backups} backups`;
}

/** Also after a backup. */
export async function prune(
  directory: string,
  volume: string | null,
  keep: BackupKeep,
  { ask, now_ms }: Pick<JobContext, 'ask' | 'now_ms'>,
): Promise<string> {
  const { removed, kept, skipped } = await ask('prune', { directory, volume, keep, now_ms: now_ms() });
  const names = removed.slice(0, 10).join(', ') + (removed.length > 10 ? ' and others' : '');
  const went = removed.length === 0 ? 'nothing was old enough to go' : `${removed.length} went (${names})`;
  return [`${went}, ${kept} are kept`, ...skipped].join('; ');
}
