/**
 * Backups, as the main thread conducts them. What changed since the last backup is what lies between two snapshots, so the
 * snapshot that the target has is kept on the volume:
 *
 *   weft.backup.TARGET   = name of the backup there (directories), or `held`, or `writing` (exports)
 *   weft.backup          = `made`: by a backup, for backups; deleted when no target needs it any more
 *
 * TARGET is the first 16 digits of the place's uuid, or of a hash of the export's address: several targets may be in use at once.
 * In a directory the manifest says which snapshot that was; an export cannot say, so there the label is what counts.
 */
import type { BackupTarget, JobRequest } from '../contract/jobs.js';
import type { SnapshotStatus } from '../contract/volumes.js';
import type { JobContext } from './bodies.js';
import type { HeldChain, JobDesk } from './desk.js';
import { JobError } from './errors.js';
import { sha256 } from './file.js';
import { bytesText, timeName } from './text.js';

type Request = Extract<JobRequest, { kind: 'backup' }>;

const MADE_LABEL = 'weft.backup';
const MADE = 'made';
const TARGET_LABEL = 'weft.backup.';
const HELD = 'held';
const WRITING = 'writing';
const NAME_TRIES = 100;

export async function backupToDirectory(
  request: Request,
  directory: string,
  context: JobContext,
): Promise<string> {
  return withSnapshot(request, context, async (snapshot, held) => {
    const { desk, ask, now_ms } = context;
    const { pool, volume, full } = request;
    const place = await ask('place', { directory, volume, volumeUuid: held.volume.uuid });
    const label = TARGET_LABEL + place.placeUuid.slice(0, 18).replaceAll('-', '').slice(0, 16);
    const { last } = place;
    if (last !== null && last.snapshotUuid === snapshot.uuid)
      return `snapshot ${snapshot.name} is there already, as backup ${last.name}`;
    const snapshots = desk.snapshots(pool, volume);
    const base = last === null ? null : (snapshots.find(one => one.uuid === last.snapshotUuid) ?? null);
    const why = full
      ? 'full, as asked for'
      : last === null
        ? ['full, as it is the first there', ...place.problems.slice(0, 3)].join('; ')
        : base === null
          ? `full, as the snapshot of backup ${last.name} is no more on the volume`
          : `what changed since ${last.name}`;
    const incremental = base !== null && last !== null && !full;
    const older = incremental ? await desk.holdSnapshot(pool, volume, base.name) : null;
    try {
      const { name, data_bytes } = await ask('backup', {
        chain: held.layers,
        from: older?.layers ?? null,
        directory,
        name: snapshot.name,
        volume: { ...held.volume, name: volume, size_bytes: snapshot.size_bytes },
        snapshot: { name: snapshot.name, uuid: snapshot.uuid },
        sequence: place.lastSequence + 1,
        base: incremental
          ? { name: last.name, snapshotUuid: last.snapshotUuid, manifestSha256: last.manifestSha256 }
          : null,
        createdAt_ms: now_ms(),
      });
      await keep(desk, pool, volume, snapshot, label, name);
      return `backup ${name}: ${bytesText(data_bytes)} (${why})`;
    } finally {
      older?.release();
      await drop(desk, pool, volume, snapshot, label);
    }
  });
}

export async function backupToServer(
  request: Request,
  target: Extract<BackupTarget, { exportName: string }>,
  context: JobContext,
): Promise<string> {
  return withSnapshot(request, context, async (snapshot, held) => {
    const { desk, ask } = context;
    const { pool, volume, full } = request;
    const { server, exportName } = target;
    const address = server.kind === 'unix' ? server.path : `${server.host}:${server.port}`;
    const label = TARGET_LABEL + sha256(`nbd ${address} ${exportName}`).slice(0, 16);
    const labelled = desk.snapshots(pool, volume).filter(one => label in one.labels);
    const base = labelled.find(one => one.labels[label] === HELD) ?? null;
    if (base?.uuid === snapshot.uuid && !full) return `the target has snapshot ${snapshot.name} already`;
    const why = full
      ? 'all of it, as asked for'
      : base !== null
        ? `what changed since snapshot ${base.name}`
        : labelled.length > 0
          ? 'all of it, as the last backup was cut short'
          : 'all of it, as nothing tells what the target has';
    const older = base !== null && !full ? await desk.holdSnapshot(pool, volume, base.name) : null;
    try {
      const tls =
        target.tls === undefined ? null : desk.tlsOf(target.tls, server.kind === 'tcp' ? server.host : null);
      // From now on the target is neither the one nor the other.
      for (const one of labelled) await setLabel(desk, pool, volume, one.name, label, WRITING);
      const { data_bytes } = await ask('remoteBackup', {
        chain: held.layers,
        from: older?.layers ?? null,
        target: { address: server, exportName, tls },
      });
      await keep(desk, pool, volume, snapshot, label, HELD);
      await drop(desk, pool, volume, snapshot, label, older);
      return `${bytesText(data_bytes)} written to ${exportName || 'the export'} of ${address} (${why})`;
    } finally {
      older?.release();
    }
  });
}

/** The snapshot that is asked for, or a new one; which goes again when nothing came of it. */
async function withSnapshot(
  { pool, volume, snapshot: wanted }: Request,
  { desk, now_ms }: JobContext,
  then: (snapshot: SnapshotStatus, held: HeldChain) => Promise<string>,
): Promise<string> {
  const snapshot =
    wanted === undefined ? await newSnapshot(desk, pool, volume, now_ms()) : find(desk, pool, volume, wanted);
  try {
    const held = await desk.holdSnapshot(pool, volume, snapshot.name);
    try {
      return await then(snapshot, held);
    } finally {
      held.release();
    }
  } finally {
    await deleteUnneeded(desk, pool, volume);
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
  const { [label]: _old, ...others } = found.labels;
  await desk.labelSnapshot(pool, volume, snapshot, value === null ? others : { ...others, [label]: value });
}

async function keep(
  desk: JobDesk,
  pool: string,
  volume: string,
  snapshot: SnapshotStatus,
  label: string,
  value: string,
): Promise<void> {
  await setLabel(desk, pool, volume, snapshot.name, label, value);
}

/** This target needs only `snapshot` from now on, if that came through. */
async function drop(
  desk: JobDesk,
  pool: string,
  volume: string,
  snapshot: SnapshotStatus,
  label: string,
  older: HeldChain | null = null,
): Promise<void> {
  const snapshots = desk.snapshots(pool, volume);
  if (!snapshots.some(one => one.uuid === snapshot.uuid && label in one.labels)) return;
  older?.release();
  for (const one of snapshots)
    if (one.uuid !== snapshot.uuid && label in one.labels)
      await setLabel(desk, pool, volume, one.name, label, null);
}

/** Snapshots that were made for backups and serve none. */
async function deleteUnneeded(desk: JobDesk, pool: string, volume: string): Promise<void> {
  for (const { name, labels, clones } of desk.snapshots(pool, volume)) {
    const isNeeded = Object.keys(labels).some(label => label.startsWith(TARGET_LABEL));
    if (labels[MADE_LABEL] !== MADE || isNeeded || clones.length > 0) continue;
    await desk.deleteSnapshot(pool, volume, name);
  }
}
