/**
 * A pool mended as far as that goes: pool.json and the catalogue written anew from what could be found (examine.ts), and what no
 * record names put aside. Nobody has the pool open meanwhile. No data file is ever removed, nor the catalogue as it was: they
 * move to POOL/lost+found/, from where they can be taken by hand.
 *
 *   the old catalogue gets a second name in lost+found -> the new one takes its place -> pool.json -> notes -> what is left over
 *   moves. A crash in between: the next repair goes on. Volumes with a missing layer stay as they are, read-only: whether what
 *   is left of them is worth something is not for us to say. "weft volume delete" removes them.
 */
import { randomUUID } from 'node:crypto';
import * as path from 'node:path';
import { StorageError } from '../volume/errors.js';
import { batchLine, headLine, noteOf } from './catalogText.js';
import { toStorageError } from './errors.js';
import { CATALOG_FILE, POOL_FILE, examine, strangersIn, type Examined } from './examine.js';
import { kernelFiles, namesIn, type PoolFiles } from './files.js';
import { LAYERS, LayerFiles } from './layerFiles.js';
import { lockPool, unlockPool } from './lock.js';
import { FORMAT, formatPool } from './meta.js';

const LOST_AND_FOUND = 'lost+found';

export interface RepairWish {
  /** Only look: nothing is changed, and somebody may have the pool open. */
  readonly dryRun: boolean;
  /** It is a copy of another pool, and is to be one of its own. */
  readonly newIdentity: boolean;
}

export interface Repaired {
  /** Its uuid, afterwards. */
  readonly pool: string;
  /** What is wrong, in words. */
  readonly found: readonly string[];
  /** What was done about it, or would be. */
  readonly actions: readonly string[];
}

/** Throws StorageError: in use, a newer weft's, no pool, or what the kernel refused. */
export function repair(
  directory: string,
  wish: RepairWish,
  now_ms: () => number,
  files: PoolFiles = kernelFiles,
): Repaired {
  try {
    if (!files.exists(path.join(directory, LAYERS)))
      throw new StorageError(
        'POOL_NOT_A_POOL',
        `${directory} has no directory ${LAYERS}: it is no pool of layers`,
      );
    strangersIn(directory, files);
    const lock = wish.dryRun ? -1 : lockPool(directory);
    try {
      return repairLocked(directory, wish, now_ms, files);
    } finally {
      unlockPool(lock);
    }
  } catch (error) {
    throw toStorageError(error, `pool ${directory}`);
  }
}

function repairLocked(
  directory: string,
  { dryRun, newIdentity }: RepairWish,
  now_ms: () => number,
  files: PoolFiles,
): Repaired {
  const layers = new LayerFiles(directory, files);
  const at = (...names: string[]): string => path.join(directory, ...names);
  const found = examine(directory, files, layers, now_ms);
  const { catalog } = found.log;
  found.log.close();
  const uuid = newIdentity ? randomUUID() : found.uuid;
  const writesCatalog = found.damage.length > 0 || newIdentity;
  if (found.format < FORMAT)
    throw new StorageError(
      'POOL_DAMAGED',
      `${directory} is of format ${found.format}: open it first, which takes it over`,
    );
  const actions = actionsOf(found, newIdentity);
  const report = { pool: uuid, found: wordsOf(found), actions };
  if (dryRun || actions.length === 0) return { ...report, pool: dryRun ? found.uuid : uuid };
  files.makeDirectory(at(LOST_AND_FOUND));
  if (writesCatalog) {
    if (found.damage.length > 0 && files.exists(at(CATALOG_FILE)))
      files.link(at(CATALOG_FILE), freeName(at(LOST_AND_FOUND), `${CATALOG_FILE}-${now_ms()}`));
    // A number that no note has, so that what was found counts from now on.
    const n = found.last + 1;
    files.replace(at(CATALOG_FILE), headLine(uuid, n - 1) + batchLine(n, catalog.changes()));
    if (found.poolFileProblem !== null || newIdentity)
      files.replace(at(POOL_FILE), formatPool({ uuid, createdAt_ms: now_ms() }));
    for (const layer of catalog.layers.keys()) {
      const note = noteOf(catalog, uuid, n, layer);
      if (note !== null) layers.note(layer, note);
    }
  }
  for (const orphan of found.orphans) files.rename(at(LAYERS, orphan), freeName(at(LOST_AND_FOUND), orphan));
  return report;
}

function wordsOf({ damage, missing, orphans }: Examined): string[] {
  return [
    ...damage,
    ...missing.map(uuid => `layer ${uuid} has no directory: volumes above it stay read-only`),
    ...orphans.map(uuid => `layer ${uuid} is in no record`),
  ];
}

function actionsOf(found: Examined, newIdentity: boolean): string[] {
  const { catalog } = found.log;
  const { damage, poolFileProblem, changed, orphans } = found;
  const count = (one: { size: number }, what: string): string => `${one.size} ${what}`;
  return [
    ...(damage.length === 0
      ? []
      : [
          `the catalogue is written anew: ${count(catalog.volumes, 'volumes')}, ${count(catalog.snapshots, 'snapshots')}, ${count(catalog.layers, 'layers')}; the old one goes to ${LOST_AND_FOUND}`,
        ]),
    ...(poolFileProblem === null ? [] : [`${POOL_FILE} is written anew`]),
    ...(newIdentity ? ['the pool gets a new identity'] : []),
    ...changed.map(what => `dropped or renamed: ${what}`),
    ...orphans.map(uuid => `layer ${uuid} is moved to ${LOST_AND_FOUND}/${uuid}`),
  ];
}

function freeName(directory: string, name: string): string {
  const taken = new Set(namesIn(directory));
  let free = name;
  for (let i = 2; taken.has(free); i++) free = `${name}.${i}`;
  return path.join(directory, free);
}
