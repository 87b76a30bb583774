/**
 * What a pool's directory holds when nobody has looked at it yet: which pool it is, its catalogue, and what does not fit. Opening
 * (pool.ts) and repair (repair.ts) begin here. Nothing that is there is changed; a directory with nothing in it becomes a pool.
 *
 * The rule: while anything of pool.json or of the catalogue is lost, all volumes can be read and none can be written, since a
 * record that is lost may say that what looks like a volume's top is frozen by now, below writes that came later. Then what the
 * layers' notes tell stands in for what is lost. Files that no record names may go only where that is certain: they were never
 * written to, or the catalogue says that they were dropped.
 *
 * That the catalogue's end is lost, with whole lines, shows in a layer that was written and whose note is of a later batch.
 */
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { StorageError } from '../volume/errors.js';
import { CatalogLog } from './catalogLog.js';
import type { Note } from './catalogText.js';
import { TEMPORARY, readSmall } from './file.js';
import type { PoolFiles } from './files.js';
import { DELETING, LAYERS, type LayerFiles } from './layerFiles.js';
import { LOCK_FILE } from './lock.js';
import { FORMAT, formatPool, parsePool } from './meta.js';
import { recover } from './recovery.js';

export const POOL_FILE = 'pool.json';
export const CATALOG_FILE = 'catalog';
const OURS = new Set([
  POOL_FILE,
  POOL_FILE + TEMPORARY,
  LOCK_FILE,
  CATALOG_FILE,
  CATALOG_FILE + TEMPORARY,
  LAYERS,
  DELETING,
  'mirrors',
  // At the root of a file system of its own; and where a repair puts things.
  'lost+found',
  // Of format 1.
  'volumes',
  'making',
]);

export interface Examined {
  readonly uuid: string;
  readonly format: number;
  /** Open. Where there is damage, it is closed to changes, and its catalogue is what could be found. */
  readonly log: CatalogLog;
  /** What is lost of pool.json and of the catalogue, in words; empty: nothing. */
  readonly damage: readonly string[];
  /** What pool.json needs; null: it is as it should be. */
  readonly poolFileProblem: string | null;
  /** Beyond damage: what could not be found again, in words. */
  readonly changed: readonly string[];
  /** Layers that no record names and that hold something. */
  readonly orphans: readonly string[];
  /** Layers that no record names and that may go. */
  readonly leftovers: readonly string[];
  readonly foreign: readonly string[];
  /** Records whose layer has no directory. */
  readonly missing: readonly string[];
  /** Number of the newest batch that anything tells of. */
  readonly last: number;
}

/** What is in the directory that is not ours. Throws POOL_NOT_A_POOL where nothing is. */
export function strangersIn(directory: string, files: PoolFiles): string[] {
  const foreign = fs.readdirSync(directory).filter(name => !OURS.has(name));
  const isPool = [POOL_FILE, CATALOG_FILE].some(name => files.exists(path.join(directory, name)));
  if (foreign.length > 0 && !isPool)
    throw new StorageError(
      'POOL_NOT_A_POOL',
      `${directory} is no pool and not empty (${listed(foreign)}): choose an empty directory`,
    );
  return foreign;
}

/** Of a pool that nobody has opened yet; null: it does not say. */
export function uuidOf(directory: string): string | null {
  const file = path.join(directory, POOL_FILE);
  return fs.existsSync(file) ? (parsePool(readSmall(file)).meta?.uuid ?? null) : null;
}

/** In words, with what to do. */
export function problemsOf({ damage, changed, foreign, orphans }: Examined): string[] {
  return [
    ...(damage.length === 0
      ? []
      : [
          `${damage.join('; ')}. All its volumes are read-only, and some may be older than they were: see what "weft pool repair --dry-run" would do`,
        ]),
    ...changed.map(what => `not found again: ${what}`),
    ...foreign.map(name => `not ours, left alone: ${name}`),
    ...(orphans.length === 0
      ? []
      : [
          `${orphans.length} layers hold data and are in no record, left alone: ${listed(orphans)}. "weft pool repair" puts them aside`,
        ]),
  ];
}

/** Throws StorageError: a newer weft's, or not to be read at all. */
export function examine(
  directory: string,
  files: PoolFiles,
  layers: LayerFiles,
  now_ms: () => number,
): Examined {
  const catalogFile = path.join(directory, CATALOG_FILE);
  const { uuids: present, foreign } = layers.list();
  const isNew = present.size === 0 && !files.exists(catalogFile);
  const { uuid, format, problem } = identity(directory, files, isNew, now_ms);
  const log = new CatalogLog(files, catalogFile, uuid, present.size === 0);
  try {
    const damage = problem === null ? [] : [`${POOL_FILE} ${problem}`];
    if (log.closed !== null) damage.push(`the catalogue: ${log.closed}`);
    const unheard = [...present].filter(one => !log.catalog.layers.has(one));
    const held = unheard.filter(one => !log.dropped.has(one) && !layers.isUntouched(one));
    const newer = held.filter(one => {
      const note = layers.readNote(one);
      return note !== null && note.pool === log.pool && note.n > log.last;
    });
    if (damage.length === 0 && newer.length > 0)
      damage.push(`the catalogue: its end is lost, ${newer.length} layers are newer than all that it says`);
    if (damage.length === 0) {
      const kept = new Set(held);
      return {
        uuid: log.pool,
        format,
        log,
        damage,
        poolFileProblem: null,
        changed: [],
        orphans: held,
        leftovers: unheard.filter(one => !kept.has(one)),
        foreign,
        missing: [...log.catalog.layers.keys()].filter(one => !present.has(one)),
        last: log.last,
      };
    }
    const notes = new Map<string, Note>();
    for (const one of present) {
      const note = layers.readNote(one);
      if (note !== null) notes.set(one, note);
    }
    const text = files.exists(catalogFile) ? files.readAll(catalogFile) : new Uint8Array(0);
    const found = recover(text, notes, present, uuid);
    log.standIn(found.catalog, damage.join('; '));
    return {
      uuid: found.pool ?? log.pool,
      format,
      log,
      damage,
      poolFileProblem: problem,
      changed: found.changed,
      orphans: found.orphans,
      leftovers: [],
      foreign,
      missing: [...found.catalog.layers.keys()].filter(one => !present.has(one)),
      last: Math.max(found.last, log.last),
    };
  } catch (error) {
    log.close();
    throw error;
  }
}

/** Of pool.json; where that is lost, the rest may tell. */
function identity(
  directory: string,
  files: PoolFiles,
  isNew: boolean,
  now_ms: () => number,
): { uuid: string | null; format: number; problem: string | null } {
  const file = path.join(directory, POOL_FILE);
  if (!files.exists(file)) {
    if (!isNew || files.exists(path.join(directory, 'volumes')))
      return { uuid: null, format: FORMAT, problem: 'is missing' };
    const uuid = randomUUID();
    files.replace(file, formatPool({ uuid, createdAt_ms: now_ms() }));
    return { uuid, format: FORMAT, problem: null };
  }
  const { meta, problem } = parsePool(readSmall(file));
  if (meta !== null) return { uuid: meta.uuid, format: meta.format, problem: null };
  if (problem.startsWith('format'))
    throw new StorageError('POOL_DAMAGED', `${file}: ${problem}. Its volumes are untouched`);
  return { uuid: null, format: FORMAT, problem: `is damaged: ${problem}` };
}

export function listed(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

/** One place under two names, too. */
export function isSame(one: string, other: string): boolean {
  if (one === other) return true;
  const [a, b] = [one, other].map(place => fs.statSync(place, { throwIfNoEntry: false }));
  return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
}
