/**
 * A pool: a directory of thin volumes, opened by one process at a time.
 *
 *   POOL/pool.json              which pool this is (uuid)
 *   POOL/lock                   flock, held while open
 *   POOL/volumes/NAME/meta.json what the volume is: uuid, size
 *   POOL/volumes/NAME/data      its bytes, a sparse file, volume offset = file offset
 *   POOL/making/UUID/           a volume being made; one left over from a crash is removed at open
 *   POOL/deleting/UUID/         a volume being destroyed; likewise
 *
 * Every change of what exists is one rename of a directory, or of a file over its predecessor, with everything
 * synced before it and the directory synced after it. So after a crash there is the old state or the new one. Where
 * two files change, the order makes every state between them a good one: growing makes the data longer, syncs
 * that, and only then tells so in meta.json; data longer than meta.json says are left alone.
 *
 * What we did not make is not touched: it is listed in `problems`. A directory with other things in it is not made
 * a pool. A volume whose files are damaged is listed there too, keeps its name, and is not served.
 *
 * Calls are synchronous and take milliseconds (they sync); only the freeing of a destroyed volume's blocks, which
 * can take long, goes on in the background.
 */
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { StorageError } from '../volume/errors.js';
import {
  HostError,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDWR,
  MODE_DIRECTORY,
  MODE_FILE,
  TEMPORARY,
  closeFile,
  flock,
  fromNodeError,
  fstat,
  fsync,
  ftruncate,
  makeDirectory,
  openFile,
  readSmall,
  renameDurably,
  replaceFile,
  statfs,
} from './file.js';
import { VOLUME_NAME, formatPool, formatVolume, parsePool, parseVolume, type VolumeMeta } from './meta.js';

const POOL_FILE = 'pool.json';
const LOCK_FILE = 'lock';
const VOLUMES = 'volumes';
const MAKING = 'making';
const DELETING = 'deleting';
const META_FILE = 'meta.json';
const DATA_FILE = 'data';
const OURS = new Set([POOL_FILE, POOL_FILE + TEMPORARY, LOCK_FILE, VOLUMES, MAKING, DELETING]);
/** At the root of a file system of its own. */
const NOT_OURS_BUT_FINE = new Set(['lost+found']);

const FREEING_PATIENCE_MS = 2000;

export interface PoolVolume {
  readonly name: string;
  readonly uuid: string;
  readonly size_bytes: number;
  readonly createdAt_ms: number;
  readonly allocated_bytes: number;
}

interface Entry {
  meta: Omit<VolumeMeta, 'format' | 'kind'>;
  /** Open while someone uses it. */
  fd: number;
}

export class Pool {
  readonly directory: string;
  readonly uuid: string;
  /** In words: foreign files, damaged volumes. */
  readonly problems: string[] = [];
  #lockFd: number;
  #entries = new Map<string, Entry>();
  #damaged = new Map<string, string>();
  #now_ms: () => number;
  #freeing = new Set<Promise<void>>();

  /** Opens the pool, or makes it where there is nothing. Throws StorageError. */
  static open(directory: string, now_ms: () => number): Pool {
    try {
      return new Pool(directory, now_ms);
    } catch (error) {
      throw toStorageError(error, `pool ${directory}`);
    }
  }

  private constructor(directory: string, now_ms: () => number) {
    if (!path.isAbsolute(directory))
      throw new StorageError('POOL_NOT_A_POOL', `pool directory ${directory}: an absolute path is needed`);
    this.directory = directory;
    this.#now_ms = now_ms;
    makeDirectory(directory);
    const foreign = fs.readdirSync(directory).filter(name => !OURS.has(name) && !NOT_OURS_BUT_FINE.has(name));
    if (foreign.length > 0 && !fs.existsSync(this.#at(POOL_FILE)))
      throw new StorageError(
        'POOL_NOT_A_POOL',
        `${directory} is no pool and not empty (${listed(foreign)}): choose an empty directory`,
      );
    this.#lockFd = openFile(this.#at(LOCK_FILE), O_RDWR | O_CREAT | O_NOFOLLOW, MODE_FILE);
    try {
      this.#lock();
      if (foreign.length > 0) this.problems.push(`not ours, left alone: ${listed(foreign)}`);
      for (const name of [VOLUMES, MAKING, DELETING]) makeDirectory(this.#at(name));
      this.uuid = this.#identity();
      this.#removeLeftovers();
      this.#readVolumes();
      this.#tellDamaged();
    } catch (error) {
      closeFile(this.#lockFd);
      throw error;
    }
  }

  /** Freeing is waited for, but not long: what is left is done at the next open. Fds still open are closed. */
  async close(): Promise<void> {
    const patience = new Promise<void>(resolve => setTimeout(resolve, FREEING_PATIENCE_MS).unref());
    await Promise.race([Promise.all(this.#freeing), patience]);
    for (const entry of this.#entries.values()) if (entry.fd >= 0) closeFile(entry.fd);
    this.#entries.clear();
    closeFile(this.#lockFd);
  }

  volumes(): PoolVolume[] {
    return [...this.#entries.keys()].map(name => this.volume(name)!);
  }

  volume(name: string): PoolVolume | null {
    const entry = this.#entries.get(name);
    if (entry === undefined) return null;
    const { uuid, size_bytes, createdAt_ms } = entry.meta;
    return { name, uuid, size_bytes, createdAt_ms, allocated_bytes: this.#allocated_bytes(name, entry) };
  }

  /** Throws VOLUME_DAMAGED, VOLUME_UNKNOWN. */
  require(name: string): PoolVolume {
    const volume = this.volume(name);
    if (volume !== null) return volume;
    const damage = this.#damaged.get(name);
    if (damage !== undefined) throw new StorageError('VOLUME_DAMAGED', `volume ${name}: ${damage}`);
    throw new StorageError('VOLUME_UNKNOWN', `there is no volume ${name} in ${this.directory}`);
  }

  space(): { capacity_bytes: number; free_bytes: number } {
    const { capacity_bytes, free_bytes } = statfs(this.directory);
    return { capacity_bytes, free_bytes };
  }

  /** Makes the volume, or grows it; the same size again changes nothing. */
  ensure(name: string, size_bytes: number): PoolVolume {
    if (!VOLUME_NAME.test(name))
      throw new StorageError(
        'VOLUME_NAME_INVALID',
        `"${name}" cannot name a volume: 1 to 40 letters, digits, dots, hyphens and underscores, no dot first`,
      );
    if (size_bytes % 4096 !== 0)
      throw new StorageError(
        'VOLUME_TOO_LARGE',
        `volume ${name}: ${size_bytes} bytes is no multiple of 4096`,
      );
    const entry = this.#entries.get(name);
    try {
      if (entry !== undefined) this.#grow(name, entry, size_bytes);
      else if (this.#damaged.has(name)) this.require(name);
      else this.#make(name, size_bytes);
    } catch (error) {
      throw toStorageError(error, `volume ${name} of ${size_bytes} bytes in ${this.directory}`);
    }
    return this.require(name);
  }

  /** The volume's file, open until `release`. */
  acquire(name: string): number {
    this.require(name);
    const entry = this.#entries.get(name)!;
    try {
      if (entry.fd < 0) entry.fd = openFile(this.#at(VOLUMES, name, DATA_FILE), O_RDWR | O_NOFOLLOW);
    } catch (error) {
      throw toStorageError(error, `volume ${name}`);
    }
    return entry.fd;
  }

  release(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined || entry.fd < 0) return;
    closeFile(entry.fd);
    entry.fd = -1;
  }

  /** Destroys its data. When this returns, the name is free and stays so; the blocks follow. */
  destroy(name: string): void {
    this.require(name);
    if (this.#entries.get(name)!.fd >= 0)
      throw new StorageError('VOLUME_EXPORTED', `volume ${name} is in use: remove its exports first`);
    const grave = this.#at(DELETING, randomUUID());
    try {
      renameDurably(this.#at(VOLUMES, name), grave);
    } catch (error) {
      throw toStorageError(error, `volume ${name}`);
    }
    this.#entries.delete(name);
    this.#free(grave);
  }

  #at(...names: string[]): string {
    return path.join(this.directory, ...names);
  }

  #lock(): void {
    try {
      flock(this.#lockFd, true, this.#at(LOCK_FILE));
    } catch (error) {
      if (!(error instanceof HostError) || error.code !== 'EAGAIN') throw error;
      throw new StorageError('POOL_IN_USE', `pool ${this.directory} is open already: ${error.message}`, {
        cause: error,
      });
    }
  }

  #identity(): string {
    const file = this.#at(POOL_FILE);
    if (!fs.existsSync(file)) {
      const uuid = randomUUID();
      replaceFile(file, formatPool({ uuid, createdAt_ms: this.#now_ms() }));
      return uuid;
    }
    const { meta, problem } = parsePool(readSmall(file));
    if (meta === null)
      throw new StorageError('POOL_DAMAGED', `${file}: ${problem}. Its volumes are untouched`);
    return meta.uuid;
  }

  /** Volumes that a crash left half made or half destroyed: no one was ever told that they exist. */
  #removeLeftovers(): void {
    for (const room of [MAKING, DELETING]) {
      for (const name of fs.readdirSync(this.#at(room))) {
        if (/^[0-9a-f-]{36}$/.test(name)) this.#free(this.#at(room, name));
        else this.problems.push(`not ours, left alone: ${room}/${name}`);
      }
    }
  }

  #readVolumes(): void {
    for (const found of fs.readdirSync(this.#at(VOLUMES), { withFileTypes: true })) {
      if (!found.isDirectory() || !VOLUME_NAME.test(found.name)) {
        this.problems.push(`not ours, left alone: ${VOLUMES}/${found.name}`);
        continue;
      }
      const read = this.#readVolume(found.name);
      if (typeof read === 'string') this.#damaged.set(found.name, read);
      else this.#entries.set(found.name, { meta: read, fd: -1 });
    }
  }

  /** The volume's meta, or what is wrong with it. */
  #readVolume(name: string): VolumeMeta | string {
    const file = this.#at(VOLUMES, name, META_FILE);
    if (!fs.existsSync(file)) return `${META_FILE} is missing`;
    const { meta, problem } = parseVolume(readSmall(file));
    if (meta === null) return `${META_FILE} is damaged: ${problem}`;
    if (meta.name !== name) return `${META_FILE} belongs to a volume ${meta.name}`;
    const data = fs.lstatSync(this.#at(VOLUMES, name, DATA_FILE), { throwIfNoEntry: false });
    if (data === undefined || !data.isFile()) return `${DATA_FILE} is missing`;
    if (data.size < meta.size_bytes)
      return `${DATA_FILE} has ${data.size} bytes of ${meta.size_bytes}: its end is lost`;
    return meta;
  }

  #tellDamaged(): void {
    for (const [name, damage] of this.#damaged) this.problems.push(`volume ${name} is not served: ${damage}`);
  }

  #make(name: string, size_bytes: number): void {
    const meta = { name, uuid: randomUUID(), size_bytes, createdAt_ms: this.#now_ms() };
    const workshop = this.#at(MAKING, meta.uuid);
    fs.mkdirSync(workshop, { mode: MODE_DIRECTORY });
    try {
      const fd = openFile(path.join(workshop, DATA_FILE), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE_FILE);
      try {
        ftruncate(fd, size_bytes);
        fsync(fd);
      } finally {
        closeFile(fd);
      }
      replaceFile(path.join(workshop, META_FILE), formatVolume(meta));
      // What stands there is no volume of ours, or it would be known: rename fails and nothing is lost.
      renameDurably(workshop, this.#at(VOLUMES, name));
    } catch (error) {
      fs.rmSync(workshop, { recursive: true, force: true });
      throw error;
    }
    this.#entries.set(name, { meta, fd: -1 });
  }

  #grow(name: string, entry: Entry, size_bytes: number): void {
    const { meta } = entry;
    if (size_bytes === meta.size_bytes) return;
    if (size_bytes < meta.size_bytes)
      throw new StorageError(
        'VOLUME_SHRINK',
        `volume ${name} has ${meta.size_bytes} bytes and cannot shrink to ${size_bytes}: what lies behind would be lost`,
      );
    const wasOpen = entry.fd >= 0;
    const fd = this.acquire(name);
    try {
      if (fstat(fd).size_bytes < size_bytes) ftruncate(fd, size_bytes);
      fsync(fd);
    } finally {
      if (!wasOpen) this.release(name);
    }
    const grown = { ...meta, size_bytes };
    replaceFile(this.#at(VOLUMES, name, META_FILE), formatVolume(grown));
    entry.meta = grown;
  }

  #allocated_bytes(name: string, entry: Entry): number {
    try {
      if (entry.fd >= 0) return fstat(entry.fd).allocated_bytes;
      return fs.statSync(this.#at(VOLUMES, name, DATA_FILE)).blocks * 512;
    } catch {
      // It was taken away under us; the next use says so.
      return 0;
    }
  }

  #free(directory: string): void {
    const freeing = fs.promises
      .rm(directory, { recursive: true, force: true })
      .catch(() => undefined) // the next open tries again
      .finally(() => this.#freeing.delete(freeing));
    this.#freeing.add(freeing);
  }
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}

function toStorageError(error: unknown, what: string): StorageError {
  if (error instanceof StorageError) return error;
  const told = fromNodeError(error, what);
  switch (told.code) {
    case 'EFBIG':
      return new StorageError(
        'VOLUME_TOO_LARGE',
        `${what}: the file system has no files of that size (ext4 ends at 16 TiB): take a smaller size, or a pool on XFS`,
        { cause: error },
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return new StorageError('VOLUME_NO_SPACE', `${what}: the file system is full: make room there`, {
        cause: error,
      });
    default:
      return new StorageError('POOL_IO', `${what}: ${told.message}`, { cause: error });
  }
}
