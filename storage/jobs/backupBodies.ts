/**
 * Backups, as the main thread conducts them. What changed since the last backup is what lies between two snapshots, so the
 * snapshot that the target has is kept on the volume:
 *
 *   weft.backup.TARGET   = `held`: the target has it; `writing`: it is on its way there
 *   weft.backup          = `made`: by a backup, for backups; `unneeded`: no target needs it any more, it goes
 *
 * TARGET is the first 16 digits of the place's uuid, or of a hash of the export's address: several targets may be in use at once.
 * In a directory the manifest says which snapshot that was; an export cannot say, so there the label is what counts.
 *
 * A backup that is cut short keeps its snapshot `writing`. The next one to that target first brings that to its end (in a
 * directory with what is there of it already; on an export by writing the same difference again), then makes its own.
 */
import type { BackupTarget, JobRequest } from '../contract/jobs.js';
import type { Labels, SnapshotStatus } from '../contract/volumes.js';
import { prune, type JobContext } from './bodies.js';
import type { HeldChain, JobDesk } from './desk.js';
import { JobError, type JobErrorCode } from './errors.js';
import { sha256 } from './file.js';
import { bytesText, timeName } from './text.js';

type Request = Extract<JobRequest, { kind: 'backup' }>;

const MADE_LABEL = 'weft.backup';
const MADE = 'made';
const TARGET_LABEL = 'weft.backup.';
/** No target needs it any more; it goes. */
const UNNEEDED = 'unneeded';
const HELD = 'held';
const WRITING = 'writing';
const NAME_TRIES = 100;
const NEW_MS = 3_600_000;
/** Ends of a backup that another one goes on from. */
const RESUMED: ReadonlySet<JobErrorCode> = new Set(['JOB_IO', 'JOB_STOPPED', 'JOB_THREAD_GONE']);

export async function backupToDirectory(
  request: Request,
  directory: string,
  context: JobContext,
): Promise<string> {
  const { desk, ask } = context;
  const { pool, volume, full, keep } = request;
  const { uuid } = desk.volume(pool, volume);
  return withSnapshot(request, context, async wanted => {
    const { placeUuid, incomplete } = await ask('place', { directory, volume, volumeUuid: uuid });
    const label = TARGET_LABEL + placeUuid.replaceAll('-', '').slice(0, 16);
    const said: string[] = [];
    for (const one of desk.snapshots(pool, volume)) {
      if (one.uuid === wanted.uuid || one.labels[label] !== WRITING) continue;
      if (full || !incomplete.includes(one.uuid)) await setLabel(desk, pool, volume, one.name, label, null);
      else said.push(await oneToDirectory(request, directory, label, one, context));
    }
    said.push(await oneToDirectory(request, directory, label, wanted, context));
    if (keep !== undefined) said.push(await prune(directory, volume, keep, context));
    return said.join('; ');
  });
}

async function oneToDirectory(
  request: Request,
  directory: string,
  label: string,
  snapshot: SnapshotStatus,
  { desk, ask, now_ms }: JobContext,
): Promise<string> {
  const { pool, volume, plaintext } = request;
  const held = await desk.holdSnapshot(pool, volume, snapshot.name);
  let older: HeldChain | null = null;
  let own: ReturnType<JobDesk['keyOf']> = null;
  try {
    const { uuid, encryption: encrypted } = desk.volume(pool, volume);
    const encryption = plaintext ? null : encrypted;
    own = plaintext && encrypted !== null ? desk.keyOf(pool, volume) : null;
    const { last, lastSequence, incomplete, problems } = await ask('place', {
      directory,
      volume,
      volumeUuid: uuid,
    });
    const full = request.full && !incomplete.includes(snapshot.uuid);
    if (last !== null && last.snapshotUuid === snapshot.uuid && !full) {
      await keepOnly(desk, pool, volume, snapshot, label);
      return `snapshot ${snapshot.name} is there already, as backup ${last.name}`;
    }
    const isAlike = last === null || last.encryption?.keyCheck === encryption?.keyCheck;
    const snapshots = desk.snapshots(pool, volume);
    const base = last === null ? null : (snapshots.find(one => one.uuid === last.snapshotUuid) ?? null);
    const incremental = base !== null && last !== null && !full && isAlike;
    const why = full
      ? 'full, as asked for'
      : last === null
        ? ['full, as it is the first there', ...problems.slice(0, 3)].join('; ')
        : !isAlike
          ? `full, as backup ${last.name} is ${last.encryption === null ? 'not ' : ''}encrypted`
          : base === null
            ? `full, as the snapshot of backup ${last.name} is no more on the volume`
            : `what changed since ${last.name}`;
    older = incremental ? await desk.holdSnapshot(pool, volume, base.name) : null;
    // Before anything is written: whoever finds it there after a crash finds its snapshot, too.
    await setLabel(desk, pool, volume, snapshot.name, label, WRITING);
    try {
      const { name, data_bytes, resumed_bytes } = await ask('backup', {
        chain: held.layers,
        from: older?.layers ?? null,
        directory,
        name: snapshot.name,
        volume: { uuid, name: volume, size_bytes: snapshot.size_bytes },
        snapshot: { name: snapshot.name, uuid: snapshot.uuid },
        sequence: lastSequence + 1,
        base: incremental
          ? { name: last.name, snapshotUuid: last.snapshotUuid, manifestSha256: last.manifestSha256 }
          : null,
        createdAt_ms: now_ms(),
        encryption,
        key: own?.key ?? null,
      });
      older?.release();
      await keepOnly(desk, pool, volume, snapshot, label);
      const there = resumed_bytes === 0 ? '' : `, of which ${bytesText(resumed_bytes)} were there already`;
      return `backup ${name}: ${bytesText(data_bytes)} (${why}${there})`;
    } catch (error) {
      if (!isWorthResuming(error)) await setLabel(desk, pool, volume, snapshot.name, label, null);
      throw error;
    }
  } finally {
    own?.key.fill(0);
    older?.release();
    held.release();
  }
}

/** The jobs thread has kept what there is of it (tasks.ts), or is gone. */
function isWorthResuming(error: unknown): boolean {
  return error instanceof JobError && RESUMED.has(error.code);
}

export async function backupToServer(
  request: Request,
  target: Extract<BackupTarget, { exportName: string }>,
  context: JobContext,
): Promise<string> {
  const { desk } = context;
  const { pool, volume, full } = request;
  if (request.keep !== undefined)
    throw new JobError('BACKUP_PLACE', 'an export has one backup: keep is for directories');
  return withSnapshot(request, context, async wanted => {
    const { server, exportName } = target;
    const address = server.kind === 'unix' ? server.path : `${server.host}:${server.port}`;
    const form = request.plaintext ? ' plaintext' : '';
    const label = TARGET_LABEL + sha256(`nbd ${address} ${exportName}${form}`).slice(0, 16);
    const where = `${exportName || 'the export'} of ${address}`;
    const labelled = (): SnapshotStatus[] => desk.snapshots(pool, volume).filter(one => label in one.labels);
    const said: string[] = [];
    const isHeld = labelled().some(one => one.labels[label] === HELD);
    for (const one of labelled()) {
      if (one.labels[label] !== WRITING || one.uuid === wanted.uuid) continue;
      // Without one that it held before there is nothing that this could end: the next writes all of it.
      if (!full && isHeld) said.push(await oneToServer(request, target, where, label, one, context));
    }
    said.push(await oneToServer(request, target, where, label, wanted, context));
    return said.join('; ');
  });
}

async function oneToServer(
  request: Request,
  target: Extract<BackupTarget, { exportName: string }>,
  where: string,
  label: string,
  snapshot: SnapshotStatus,
  { desk, ask }: JobContext,
): Promise<string> {
  const { pool, volume, full, plaintext } = request;
  const { server, exportName } = target;
  const held = await desk.holdSnapshot(pool, volume, snapshot.name);
  let older: HeldChain | null = null;
  let own: ReturnType<JobDesk['keyOf']> = null;
  try {
    own = plaintext ? desk.keyOf(pool, volume) : null;
    const labelled = desk.snapshots(pool, volume).filter(one => label in one.labels);
    const base = labelled.find(one => one.labels[label] === HELD) ?? null;
    if (base?.uuid === snapshot.uuid && !full) return `the target has snapshot ${snapshot.name} already`;
    const isCutShort = labelled.some(one => one.labels[label] === WRITING);
    const why = full
      ? 'all of it, as asked for'
      : base !== null
        ? `what changed since snapshot ${base.name}`
        : isCutShort
          ? 'all of it, as the last backup was cut short'
          : 'all of it, as nothing tells what the target has';
    older = base !== null && !full ? await desk.holdSnapshot(pool, volume, base.name) : null;
    const tls =
      target.tls === undefined ? null : desk.tlsOf(target.tls, server.kind === 'tcp' ? server.host : null);
    // From now on the target is what it held, and parts of this. Of all of it, nothing that can be gone on from.
    if (older === null) for (const one of labelled) await setLabel(desk, pool, volume, one.name, label, null);
    await setLabel(desk, pool, volume, snapshot.name, label, WRITING);
    const { data_bytes } = await ask('remoteBackup', {
      chain: held.layers,
      from: older?.layers ?? null,
      target: { address: server, exportName, tls },
      key: own?.key ?? null,
    });
    older?.release();
    await keepOnly(desk, pool, volume, snapshot, label);
    return `${bytesText(data_bytes)} written to ${where} (${why})`;
  } finally {
    own?.key.fill(0);
    older?.release();
    held.release();
  }
}

/** With the snapshot that is asked for, or a new one; which goes again when nothing came of it. */
async function withSnapshot(
  { pool, volume, snapshot: wanted }: Request,
  { desk, now_ms, isWanted }: JobContext,
  then: (snapshot: SnapshotStatus) => Promise<string>,
): Promise<string> {
  const snapshot =
    wanted === undefined ? await newSnapshot(desk, pool, volume, now_ms()) : find(desk, pool, volume, wanted);
  try {
    return await then(snapshot);
  } finally {
    const isOthers = (name: string): boolean => isWanted(pool, volume, name);
    await deleteUnneeded(desk, pool, volume, snapshot.uuid, now_ms(), isOthers);
  }
}

function find(desk: JobDesk, pool: string, volume: string, name: string): SnapshotStatus {
  const found = desk.snapshots(pool, volume).find(one => one.name === name);
  if (found === undefined)
    throw new JobError('JOB_SNAPSHOT', `volume ${volume} of pool ${pool} has no snapshot ${name}`);
  return found;
}

async function newSnapshot(
  desk: JobDesk,
  pool: string,
  volume: string,
  now_ms: number,
): Promise<SnapshotStatus> {
  const taken = new Set(desk.snapshots(pool, volume).map(one => one.name));
  const wanted = timeName(now_ms);
  for (let number = 1; number <= NAME_TRIES; number++) {
    const name = number === 1 ? wanted : `${wanted}-${number}`;
    if (!taken.has(name)) return desk.snapshot(pool, volume, name, { [MADE_LABEL]: MADE });
  }
  throw new JobError('JOB_SNAPSHOT', `volume ${volume} has ${NAME_TRIES} snapshots named ${wanted}`);
}

async function setLabel(
  desk: JobDesk,
  pool: string,
  volume: string,
  snapshot: string,
  label: string,
  value: string | null,
): Promise<void> {
  const found = desk.snapshots(pool, volume).find(one => one.name === snapshot);
  if (found === undefined) return;
  const { [label]: _old, ...labels } = found.labels;
  if (value !== null) labels[label] = value;
  if (MADE_LABEL in labels) labels[MADE_LABEL] = isNeeded(labels) ? MADE : UNNEEDED;
  await desk.labelSnapshot(pool, volume, snapshot, labels);
}

function isNeeded(labels: Labels): boolean {
  return Object.keys(labels).some(label => label.startsWith(TARGET_LABEL));
}

/** The target has this one, and needs no other any more. */
async function keepOnly(
  desk: JobDesk,
  pool: string,
  volume: string,
  snapshot: SnapshotStatus,
  label: string,
): Promise<void> {
  await setLabel(desk, pool, volume, snapshot.name, label, HELD);
  for (const one of desk.snapshots(pool, volume))
    if (one.uuid !== snapshot.uuid && label in one.labels)
      await setLabel(desk, pool, volume, one.name, label, null);
}

/**
 * Snapshots that were made for backups and serve none: not those of jobs that wait, nor those that somebody has made just now, to
 * ask for backups of them. A crash may leave one, which goes when it is an hour old.
 */
async function deleteUnneeded(
  desk: JobDesk,
  pool: string,
  volume: string,
  own: string,
  now_ms: number,
  isOthers: (name: string) => boolean,
): Promise<void> {
  for (const { name, uuid, labels, clones, createdAt_ms } of desk.snapshots(pool, volume)) {
    if (!(MADE_LABEL in labels) || isNeeded(labels) || clones.length > 0 || isOthers(name)) continue;
    const isNew = labels[MADE_LABEL] === MADE && Math.abs(now_ms - createdAt_ms) < NEW_MS;
    if (uuid === own || !isNew) await desk.deleteSnapshot(pool, volume, name);
  }
}
