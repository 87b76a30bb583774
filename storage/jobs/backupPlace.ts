/**
 * A directory of backups:
 *
 *   DIR/weft-backups.json              the place's uuid: so that it is known again wherever it is mounted
 *   DIR/VOLUME/NAME/{manifest.json,data}
 *   DIR/VOLUME/.making-UUID/           one that is being written, or was cut short (progress.ts): the next backup of that volume
 *                                      goes on with it where it is of the same snapshot, and removes it else
 *
 * What else lies there is left alone. A backup whose manifest is damaged is told, and is no base for anything.
 */
import * as path from 'node:path';
import { z } from 'zod';
import type { BackupEntry, BackupKeep } from '../contract/jobs.js';
import { VOLUME_NAME } from '../pool/meta.js';
import { JobError } from './errors.js';
import {
  directoriesIn,
  exists,
  isDirectory,
  lockDirectory,
  makeDirectory,
  newUuid,
  readText,
  removeDirectory,
  removeFile,
  renameDurably,
  sha256,
  syncDirectory,
  writeText,
} from './file.js';
import {
  BACKUP_NAME,
  MANIFEST_LIMIT_BYTES,
  entryOf,
  parseManifest,
  unkept,
  type Manifest,
} from './manifest.js';
import { parseProgress, type ProgressHead } from './progress.js';

const PLACE_FILE = 'weft-backups.json';
const MAKING = '.making-';
const PROGRESS_FILE = 'progress';
/** Backups of a volume in a place; more are not looked at. */
const BACKUPS_LIMIT = 10_000;
const Place = z.strictObject({ kind: z.literal('weft-backups'), format: z.literal(1), uuid: z.uuid() });

export interface Manifests {
  readonly manifests: Manifest[];
  /** In words: what looked like a backup and is none. */
  readonly problems: string[];
}

/** The uuid of the place, which becomes one if it is an empty or new directory below one that is there. */
export function openPlace(directory: string): string {
  const file = path.join(directory, PLACE_FILE);
  if (!exists(directory)) {
    if (!isDirectory(path.dirname(directory)))
      throw new JobError(
        'BACKUP_PLACE',
        `${path.dirname(directory)} is no directory: is what backups are kept on mounted?`,
      );
    makeDirectory(directory);
  }
  const text = readText(file, 65_536);
  if (text === null) {
    const uuid = newUuid();
    const temporary = path.join(directory, `.${PLACE_FILE}-${uuid}`);
    writeText(temporary, `${JSON.stringify({ kind: 'weft-backups', format: 1, uuid })}\n`);
    renameDurably(temporary, file);
    return uuid;
  }
  const place = Place.safeParse(jsonOf(text));
  if (!place.success)
    throw new JobError('BACKUP_PLACE', `${file} is damaged, or not ours: use another directory`);
  return place.data.uuid;
}

/** Of one volume; none where there is nothing. `volume` may come from anybody. */
export function manifestsOf(directory: string, volume: string): Manifests {
  requireName(volume);
  const manifests: Manifest[] = [];
  const problems: string[] = [];
  const names = directoriesIn(path.join(directory, volume)).filter(name => BACKUP_NAME.test(name));
  for (const name of names.slice(0, BACKUPS_LIMIT)) {
    const { manifest, problem } = readManifest(directory, volume, name);
    if (manifest === null) problems.push(`backup ${volume}/${name}: ${problem}`);
    else manifests.push(manifest);
  }
  return { manifests: manifests.sort((a, b) => a.sequence - b.sequence), problems };
}

function readManifest(
  directory: string,
  volume: string,
  name: string,
): { manifest: Manifest; problem: null } | { manifest: null; problem: string } {
  const text = readText(path.join(directory, volume, name, 'manifest.json'), MANIFEST_LIMIT_BYTES);
  if (text === null) return { manifest: null, problem: 'it has no manifest.json' };
  const parsed = parseManifest(text, sha256);
  if (parsed.manifest === null) return { manifest: null, problem: `manifest.json: ${parsed.problem}` };
  if (parsed.manifest.name !== name)
    return { manifest: null, problem: `its manifest is of ${parsed.manifest.name}` };
  return parsed;
}

export function volumesIn(directory: string): string[] {
  if (!isDirectory(directory))
    throw new JobError('BACKUP_PLACE', `${directory} is no directory: is what backups are kept on mounted?`);
  return directoriesIn(directory).filter(name => VOLUME_NAME.test(name));
}

export function listBackups(directory: string): { backups: BackupEntry[]; problems: string[] } {
  const volumes = volumesIn(directory);
  const all = volumes.map(volume => manifestsOf(directory, volume));
  return {
    backups: volumes.flatMap((volume, index) => [
      ...all[index]!.manifests.map(entryOf),
      ...incompletesOf(directory, volume).map(one => incompleteEntryOf(volume, one)),
    ]),
    problems: all.flatMap(({ problems }) => problems),
  };
}

function incompleteEntryOf(volume: string, { head, stored_bytes }: Incomplete): BackupEntry {
  const { snapshot, base, createdAt_ms, size_bytes, encrypted } = head;
  return {
    volume,
    name: snapshot.name,
    kind: base === null ? 'full' : 'incremental',
    base,
    createdAt_ms,
    size_bytes,
    stored_bytes,
    state: 'incomplete',
    encrypted,
  };
}

export function dataFileOf(directory: string, volume: string, name: string): string {
  return path.join(directory, volume, name, 'data');
}

/** One that is being made: becomes visible by `publish`. */
export interface Making {
  readonly dataFile: string;
  readonly manifestFile: string;
  readonly progressFile: string;
  /** Some of it is there already. */
  readonly isResumed: boolean;
  /** All of it is durable already, but for names. Removes what was needed only while it was made. */
  publish(name: string): void;
  /** Lets others in. `keep`: what is there is to be gone on with; ignored after publish. */
  close(keep: boolean): void;
}

export interface Incomplete {
  readonly room: string;
  readonly head: ProgressHead;
  readonly stored_bytes: number;
}

/** What was cut short, or is being made, of a volume. */
export function incompletesOf(directory: string, volume: string): Incomplete[] {
  const found: Incomplete[] = [];
  for (const name of directoriesIn(path.join(directory, volume))) {
    if (!name.startsWith(MAKING)) continue;
    const room = path.join(directory, volume, name);
    const text = readText(path.join(room, PROGRESS_FILE), MANIFEST_LIMIT_BYTES);
    const progress = text === null ? null : parseProgress(text);
    if (progress === null) continue;
    const stored_bytes = progress.pieces.reduce((sum, [, length_bytes]) => sum + length_bytes, 0);
    found.push({ room, head: progress.head, stored_bytes });
  }
  return found;
}

/** With what is there of the same snapshot of the same volume already. What else was cut short of that volume goes. */
export function beginMaking(
  directory: string,
  volume: string,
  volumeUuid: string,
  snapshotUuid: string,
): Making {
  requireName(volume);
  const room = path.join(directory, volume);
  if (!exists(room)) makeDirectory(room);
  const unlock = lockDirectory(room);
  try {
    const incompletes = incompletesOf(directory, volume);
    const resumed = incompletes.find(
      ({ head }) => head.volumeUuid === volumeUuid && head.snapshot.uuid === snapshotUuid,
    );
    const others = incompletes.filter(({ head }) => head.volumeUuid !== volumeUuid);
    for (const name of directoriesIn(room)) {
      const at = path.join(room, name);
      // Another volume that had this name may have something here.
      if (name.startsWith(MAKING) && at !== resumed?.room && !others.some(one => one.room === at))
        removeDirectory(at);
    }
    const making = resumed?.room ?? path.join(room, MAKING + newUuid());
    if (resumed === undefined) makeDirectory(making);
    const progressFile = path.join(making, PROGRESS_FILE);
    return {
      dataFile: path.join(making, 'data'),
      manifestFile: path.join(making, 'manifest.json'),
      progressFile,
      isResumed: resumed !== undefined,
      publish: name => {
        removeFile(progressFile);
        syncDirectory(making);
        renameDurably(making, path.join(room, name));
      },
      close: keep => {
        try {
          if (!keep) removeDirectory(making);
        } finally {
          unlock();
        }
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

/** Of one volume, or of all (`volume` null). Nothing goes of a volume of which a manifest is damaged: who knows what builds upon what. */
export function pruneBackups(
  directory: string,
  volume: string | null,
  keep: BackupKeep,
  now_ms: number,
): { removed: string[]; kept: number; skipped: string[] } {
  const removed: string[] = [];
  const skipped: string[] = [];
  let kept = 0;
  const volumes = volumesIn(directory);
  if (volume !== null) requireName(volume);
  for (const name of volume === null ? volumes : [volume]) {
    const { manifests, problems } = manifestsOf(directory, name);
    kept += manifests.length;
    if (problems.length > 0) {
      skipped.push(`${name}: nothing was removed, as ${problems[0]}`);
      continue;
    }
    // Of several volumes that had this name each has its own.
    for (const uuid of new Set(manifests.map(one => one.uuid))) {
      const own = manifests.filter(one => one.uuid === uuid);
      const going = unkept(own, keep, now_ms);
      removeBackups(directory, name, going);
      removed.push(...going.map(one => `${name}/${one.name}`));
      kept -= going.length;
    }
  }
  return { removed, kept, skipped };
}

/** One by one, each there or gone. */
function removeBackups(directory: string, volume: string, manifests: readonly Manifest[]): void {
  if (manifests.length === 0) return;
  const room = path.join(directory, volume);
  const unlock = lockDirectory(room);
  try {
    for (const { name } of manifests) {
      const going = path.join(room, MAKING + newUuid());
      // From here on it is no backup, so that none is ever half there. What a crash leaves of it, the next backup removes.
      renameDurably(path.join(room, name), going);
      removeDirectory(going);
    }
  } finally {
    unlock();
  }
}

/** `wanted`, or with a number behind it when there is one of that name, whole or not. */
export function freeName(directory: string, volume: string, wanted: string): string {
  for (let number = 1; ; number++) {
    const suffix = number === 1 ? '' : `-${number}`;
    const name = wanted.slice(0, 63 - suffix.length) + suffix;
    if (!exists(path.join(directory, volume, name))) return name;
  }
}

function requireName(volume: string): void {
  if (!VOLUME_NAME.test(volume))
    throw new JobError('BACKUP_UNKNOWN', `${JSON.stringify(volume.slice(0, 80))} is no name of a volume`);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
