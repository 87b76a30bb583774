/**
 * A directory of backups:
 *
 *   DIR/weft-backups.json              the place's uuid: so that it is known again wherever it is mounted
 *   DIR/VOLUME/NAME/{manifest.json,data}
 *   DIR/VOLUME/.making-UUID/           one that is being written; left over by a crash, removed by the next backup
 *
 * What else lies there is left alone. A backup whose manifest is damaged is told, and is no base for anything.
 */
import * as path from 'node:path';
import { z } from 'zod';
import type { BackupEntry } from '../contract/jobs.js';
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
  renameDurably,
  sha256,
  writeText,
} from './file.js';
import { BACKUP_NAME, MANIFEST_LIMIT_BYTES, entryOf, parseManifest, type Manifest } from './manifest.js';

const PLACE_FILE = 'weft-backups.json';
const MAKING = '.making-';
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
  const all = volumesIn(directory).map(volume => manifestsOf(directory, volume));
  return {
    backups: all.flatMap(({ manifests }) => manifests.map(entryOf)),
    problems: all.flatMap(({ problems }) => problems),
  };
}

export function dataFileOf(directory: string, volume: string, name: string): string {
  return path.join(directory, volume, name, 'data');
}

/** One that is being made: becomes visible by `publish`, or is gone. */
export interface Making {
  readonly directory: string;
  readonly dataFile: string;
  readonly manifestFile: string;
  publish(name: string): void;
  /** May be called after publish; then it only lets others in. */
  close(): void;
}

export function beginMaking(directory: string, volume: string): Making {
  requireName(volume);
  const room = path.join(directory, volume);
  if (!exists(room)) makeDirectory(room);
  const unlock = lockDirectory(room);
  try {
    for (const name of directoriesIn(room))
      if (name.startsWith(MAKING)) removeDirectory(path.join(room, name));
    const making = path.join(room, MAKING + newUuid());
    makeDirectory(making);
    return {
      directory: making,
      dataFile: path.join(making, 'data'),
      manifestFile: path.join(making, 'manifest.json'),
      publish: name => renameDurably(making, path.join(room, name)),
      close: () => {
        removeDirectory(making);
        unlock();
      },
    };
  } catch (error) {
    unlock();
    throw error;
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
