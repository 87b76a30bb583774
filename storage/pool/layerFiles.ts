/**
 * The files of a pool's layers: made, opened once for all who use them, made longer, and removed. Knows no catalogue; whoever
 * calls says what a layer is.
 *
 *   POOL/layers/UUID/{data,map}     POOL/deleting/UUID/
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { mapBytesOf } from '../layers/map.js';
import { StorageError } from '../volume/errors.js';
import type { LayerOpening } from '../volume/opening.js';
import type { LayerRecord } from './catalog.js';
import { toStorageError } from './errors.js';
import { closeFile } from './file.js';
import { makeOwnDirectory, namesIn, type PoolFiles } from './files.js';

export const LAYERS = 'layers';
export const DELETING = 'deleting';
const DATA_FILE = 'data';
const MAP_FILE = 'map';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const FREEING_PATIENCE_MS = 2000;

/** Files of a layer that is open, and for how many. */
interface OpenLayer {
  readonly dataFd: number;
  readonly mapFd: number;
  users: number;
}

export class LayerFiles {
  #pool: string;
  #files: PoolFiles;
  #open = new Map<string, OpenLayer>();
  /** Layers that a job works on: they are not removed, whoever else lets go of them. */
  #held = new Map<string, number>();
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

  /** Open until `release`. Throws VOLUME_DAMAGED where they are missing or too short. */
  acquire(layer: LayerRecord): LayerOpening {
    const { uuid, size_bytes, inherits_bytes, checksums } = layer;
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
    return { uuid, dataFd: open.dataFd, mapFd: open.mapFd, size_bytes, inherits_bytes, checksums };
  }

  release(uuid: string): void {
    const open = this.#open.get(uuid);
    if (open === undefined || --open.users > 0) return;
    closeBoth(open.dataFd, open.mapFd);
    this.#open.delete(uuid);
  }

  hold(uuid: string): void {
    this.#held.set(uuid, (this.#held.get(uuid) ?? 0) + 1);
  }

  unhold(uuid: string): void {
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

  /** 0 where they cannot be seen. */
  allocated_bytes(uuid: string): number {
    let sum = 0;
    for (const file of [DATA_FILE, MAP_FILE])
      sum += (fs.statSync(path.join(this.#at(uuid), file), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
    return sum;
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

  /** What a crash left: layers half destroyed, and those that `isKnown` does not know. Answers what is not ours. */
  removeLeftovers(isKnown: (uuid: string) => boolean): string[] {
    const foreign: string[] = [];
    for (const name of namesIn(path.join(this.#pool, DELETING))) {
      if (UUID.test(name)) this.#free(path.join(this.#pool, DELETING, name));
      else foreign.push(`${DELETING}/${name}`);
    }
    for (const name of namesIn(path.join(this.#pool, LAYERS))) {
      if (!UUID.test(name)) foreign.push(`${LAYERS}/${name}`);
      else if (!isKnown(name)) this.remove(name);
    }
    return foreign;
  }

  #at(uuid: string): string {
    return path.join(this.#pool, LAYERS, uuid);
  }

  #openBoth(layer: LayerRecord): OpenLayer {
    const directory = this.#at(layer.uuid);
    const dataFd = this.#openFile(path.join(directory, DATA_FILE), layer.size_bytes);
    if (layer.plain) return { dataFd, mapFd: -1, users: 0 };
    try {
      const mapFd = this.#openFile(path.join(directory, MAP_FILE), mapBytesOf(layer.size_bytes));
      return { dataFd, mapFd, users: 0 };
    } catch (error) {
      closeFile(dataFd);
      throw error;
    }
  }

  #openFile(file: string, size_bytes: number): number {
    if (!this.#files.exists(file)) throw new StorageError('VOLUME_DAMAGED', `${file} is missing`);
    const fd = this.#files.open(file);
    const found = fs.fstatSync(fd).size;
    if (found >= size_bytes) return fd;
    this.#files.close(fd);
    throw new StorageError(
      'VOLUME_DAMAGED',
      `${file} has ${found} bytes of ${size_bytes}: its end is lost. Restore it from a backup`,
    );
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
