/**
 * The files of a pool's layers: made, opened once for all who use them, made longer, and removed. Knows no catalogue; whoever
 * calls says what a layer is.
 *
 *   POOL/layers/UUID/{data,map,note}     POOL/deleting/UUID/
 *
 * What is lost of a layer (a file is missing, or too short) is remembered with it. Whoever would write, or work on it, is
 * refused; who reads gets the rest, and an empty file for what is missing, so that what it held answers EIO.
 */
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { mapBytesOf } from '../layers/map.js';
import { StorageError } from '../volume/errors.js';
import type { LayerOpening } from '../volume/opening.js';
import type { LayerRecord } from './catalog.js';
import { parseNote, type Note } from './catalogText.js';
import { toStorageError } from './errors.js';
import { MODE_FILE, SEEK_DATA, closeFile, lseek } from './file.js';
import { makeOwnDirectory, namesIn, type PoolFiles } from './files.js';

export const LAYERS = 'layers';
export const DELETING = 'deleting';
const DATA_FILE = 'data';
const MAP_FILE = 'map';
/** See catalogText.ts. */
const NOTE_FILE = 'note';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const FREEING_PATIENCE_MS = 2000;
/** What a layer takes that nobody writes to is asked for again after this, and up to twice of it, not all at once. */
const ALLOCATED_FOR_MS = 30_000;
const NOTE_LIMIT_BYTES = 1024 * 1024;

/** Files of a layer that is open, and for how many. */
interface OpenLayer {
  readonly dataFd: number;
  readonly mapFd: number;
  users: number;
  /** What is lost of it, in words. */
  readonly damage: string | null;
}

export class LayerFiles {
  #pool: string;
  #files: PoolFiles;
  #open = new Map<string, OpenLayer>();
  /** Layers that a job works on: they are not removed, whoever else lets go of them. */
  #held = new Map<string, number>();
  /** Of layers of which something is known to be lost, in words. */
  #lost = new Map<string, string>();
  #allocated = new Map<string, { readonly bytes: number; readonly until_ms: number }>();
  #freeing = new Set<Promise<void>>();

  constructor(pool: string, files: PoolFiles) {
    this.#pool = pool;
    this.#files = files;
    for (const name of [LAYERS, DELETING]) files.makeDirectory(path.join(pool, name));
  }

  /** Freeing is waited for, but not long: what is left is done at the next open. */
  async close(): Promise<void> {
    const patience = new Promise<void>(resolve => setTimeout(resolve, FREEING_PATIENCE_MS).unref());
    await Promise.race([Promise.all(this.#freeing), patience]);
    for (const { dataFd, mapFd } of this.#open.values()) closeBoth(dataFd, mapFd);
    this.#open.clear();
  }

  /** Files of zeroes, durable with their names. Nothing is left when that fails. */
  make(layer: LayerRecord): void {
    const directory = this.#at(layer.uuid);
    try {
      makeOwnDirectory(directory);
      this.#files.makeFile(path.join(directory, DATA_FILE), layer.size_bytes, layer.preallocated);
      if (!layer.plain)
        this.#files.makeFile(path.join(directory, MAP_FILE), mapBytesOf(layer.size_bytes), false);
      this.#files.syncDirectory(directory);
      this.#files.syncDirectory(path.join(this.#pool, LAYERS));
    } catch (error) {
      this.unmake(layer.uuid);
      throw error;
    }
  }

  /** Files that nobody was told of. */
  unmake(uuid: string): void {
    fs.rmSync(this.#at(uuid), { recursive: true, force: true });
  }

  /** Open until `release`. Throws VOLUME_DAMAGED where something of it is lost, unless `rest` is enough. */
  acquire(layer: LayerRecord, rest = false): LayerOpening {
    const { uuid, size_bytes, inherits_bytes, checksums, sum } = layer;
    let open = this.#open.get(uuid);
    if (open === undefined) {
      try {
        open = this.#openBoth(layer);
      } catch (error) {
        throw toStorageError(error, `layer ${uuid} in ${this.#pool}`);
      }
      this.#open.set(uuid, open);
    }
    open.users++;
    if (open.damage !== null && !rest) {
      this.release(uuid);
      throw new StorageError('VOLUME_DAMAGED', `${open.damage}. Restore it from a backup`);
    }
    const { dataFd, mapFd } = open;
    return { uuid, dataFd, mapFd, size_bytes, inherits_bytes, checksums, sum, held: this.#held.has(uuid) };
  }

  /** What is known to be lost of it, in words. */
  lost(uuid: string): string | null {
    return this.#lost.get(uuid) ?? null;
  }

  get hasLosses(): boolean {
    return this.#lost.size > 0;
  }

  release(uuid: string): void {
    const open = this.#open.get(uuid);
    if (open === undefined || --open.users > 0) return;
    closeBoth(open.dataFd, open.mapFd);
    this.#open.delete(uuid);
    this.#allocated.delete(uuid);
  }

  hold(uuid: string): void {
    this.#allocated.delete(uuid);
    this.#held.set(uuid, (this.#held.get(uuid) ?? 0) + 1);
  }

  unhold(uuid: string): void {
    this.#allocated.delete(uuid);
    const count = (this.#held.get(uuid) ?? 0) - 1;
    if (count > 0) this.#held.set(uuid, count);
    else this.#held.delete(uuid);
  }

  /** Somebody has it open, or holds it. */
  isNeeded(uuid: string): boolean {
    return this.#open.has(uuid) || this.#held.has(uuid);
  }

  /** The data file's length becomes this; the map's never becomes less, which does no harm. */
  setLength(layer: LayerRecord, size_bytes: number): void {
    const { dataFd, mapFd } = this.acquire(layer);
    try {
      this.#files.truncate(dataFd, size_bytes);
      this.#files.sync(dataFd);
      if (mapFd >= 0 && size_bytes > layer.size_bytes) {
        this.#files.truncate(mapFd, mapBytesOf(size_bytes));
        this.#files.sync(mapFd);
      }
    } finally {
      this.release(layer.uuid);
    }
  }

  /** Nothing was ever written: where there is a map, it would say so; else the file has no blocks, or was given all of them. */
  isBlank({ uuid, plain, preallocated }: LayerRecord): boolean {
    const file = path.join(this.#at(uuid), plain ? DATA_FILE : MAP_FILE);
    return (plain && preallocated) || fs.statSync(file, { throwIfNoEntry: false })?.blocks === 0;
  }

  /** 0 where they cannot be seen. `isWritten`: a volume writes to it while it is open. */
  allocated_bytes(uuid: string, isWritten: boolean): number {
    const now_ms = performance.now();
    const mayChange = this.#held.has(uuid) || (isWritten && this.#open.has(uuid));
    const known = this.#allocated.get(uuid);
    if (!mayChange && known !== undefined && now_ms < known.until_ms) return known.bytes;
    let bytes = 0;
    for (const file of [DATA_FILE, MAP_FILE])
      bytes += (fs.statSync(path.join(this.#at(uuid), file), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
    if (mayChange) this.#allocated.delete(uuid);
    else this.#allocated.set(uuid, { bytes, until_ms: now_ms + ALLOCATED_FOR_MS * (1 + Math.random()) });
    return bytes;
  }

  /** What the catalogue says of it, beside its files. A copy: that it cannot be written is no failure, and it is not synced. */
  note(uuid: string, text: string): void {
    try {
      this.#files.jot(path.join(this.#at(uuid), NOTE_FILE), text);
    } catch {
      // The catalogue has it.
    }
  }

  /** null: there is none, or none that could be read. */
  readNote(uuid: string): Note | null {
    const file = path.join(this.#at(uuid), NOTE_FILE);
    try {
      const found = fs.lstatSync(file);
      return found.isFile() && found.size <= NOTE_LIMIT_BYTES ? parseNote(fs.readFileSync(file), uuid) : null;
    } catch {
      return null;
    }
  }

  /** Its files are out of the way when this returns; the blocks follow. */
  remove(uuid: string): void {
    const grave = path.join(this.#pool, DELETING, uuid);
    try {
      this.#files.rename(this.#at(uuid), grave);
    } catch {
      return; // It is in no record; the next open tries again.
    }
    this.#free(grave);
  }

  /** Which layers have a directory, and what is not ours. */
  list(): { uuids: Set<string>; foreign: string[] } {
    const uuids = new Set<string>();
    const foreign: string[] = [];
    for (const name of namesIn(path.join(this.#pool, DELETING)))
      if (!UUID.test(name)) foreign.push(`${DELETING}/${name}`);
    for (const name of namesIn(path.join(this.#pool, LAYERS)))
      if (UUID.test(name)) uuids.add(name);
      else foreign.push(`${LAYERS}/${name}`);
    return { uuids, foreign };
  }

  /** Those whose directory is not there. */
  setMissing(uuids: Iterable<string>): void {
    for (const uuid of uuids) this.#lost.set(uuid, `${this.#at(uuid)} is missing`);
  }

  /** Nobody ever wrote to it, as far as its files tell, whatever it is. */
  isUntouched(uuid: string): boolean {
    const [map, data] = [MAP_FILE, DATA_FILE].map(file => hasContent(path.join(this.#at(uuid), file)));
    // What is in no map was never answered.
    return map === null ? data !== true : !map;
  }

  /** What a crash left half destroyed goes on to be. */
  resumeFreeing(): void {
    for (const name of namesIn(path.join(this.#pool, DELETING)))
      if (UUID.test(name)) this.#free(path.join(this.#pool, DELETING, name));
  }

  #at(uuid: string): string {
    return path.join(this.#pool, LAYERS, uuid);
  }

  #openBoth(layer: LayerRecord): OpenLayer {
    const directory = this.#at(layer.uuid);
    const lost: string[] = [];
    const dataFd = this.#openFile(path.join(directory, DATA_FILE), layer.size_bytes, lost);
    try {
      const mapFd = layer.plain
        ? -1
        : this.#openFile(path.join(directory, MAP_FILE), mapBytesOf(layer.size_bytes), lost);
      const damage = lost.length === 0 ? null : lost.join('; ');
      if (damage === null) this.#lost.delete(layer.uuid);
      else this.#lost.set(layer.uuid, damage);
      return { dataFd, mapFd, users: 0, damage };
    } catch (error) {
      closeFile(dataFd);
      throw error;
    }
  }

  #openFile(file: string, size_bytes: number, lost: string[]): number {
    if (!this.#files.exists(file)) {
      lost.push(`${file} is missing`);
      return openNothing();
    }
    const fd = this.#files.open(file);
    const found = fs.fstatSync(fd).size;
    if (found < size_bytes) lost.push(`${file} has ${found} bytes of ${size_bytes}: its end is lost`);
    return fd;
  }

  #free(directory: string): void {
    const freeing = fs.promises
      .rm(directory, { recursive: true, force: true })
      .catch(() => undefined) // the next open tries again
      .finally(() => this.#freeing.delete(freeing));
    this.#freeing.add(freeing);
  }
}

function closeBoth(dataFd: number, mapFd: number): void {
  closeFile(dataFd);
  if (mapFd >= 0) closeFile(mapFd);
}

/** An empty file without a name. */
function openNothing(): number {
  const file = path.join(os.tmpdir(), `weft-nothing-${randomUUID()}`);
  const fd = fs.openSync(file, 'wx+', MODE_FILE);
  fs.rmSync(file);
  return fd;
}

/** null: there is no such file. Space that was taken ahead is no content. */
function hasContent(file: string): boolean | null {
  if (!fs.existsSync(file)) return null;
  const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  try {
    return lseek(fd, 0, SEEK_DATA) >= 0;
  } finally {
    fs.closeSync(fd);
  }
}
