/**
 * The catalogue's file: read whole when a pool is opened, a line added and synced for each change, written anew when most of it
 * is history. A change that cannot be written is not made: what was added of it is cut off again, and where not even that can
 * be done the catalogue is closed to changes.
 */
import { StorageError } from '../volume/errors.js';
import type { Catalog, Change } from './catalog.js';
import { batchLine, headLine, replay } from './catalogText.js';
import { toStorageError } from './errors.js';
import type { PoolFiles } from './files.js';

/** Written anew beyond this many batches, when the records are fewer than half of them. */
const BATCHES_MIN = 1000;
const TEMPORARY = '.new';
/** Space that is taken ahead, so that also on a full disk something can be deleted. */
const RESERVE_BYTES = 1024 * 1024;
const RESERVE_LEFT_BYTES = 256 * 1024;
/** No pool has it. */
const UNKNOWN = '00000000-0000-0000-0000-000000000000';

export class CatalogLog {
  readonly pool: string;
  /** Why nothing can be changed, in words; null: it can. */
  closed: string | null = null;
  /** Layers that were dropped and have no record now. */
  readonly dropped: ReadonlySet<string>;
  #catalog: Catalog;
  #files: PoolFiles;
  #path: string;
  /** -1: there is no file. */
  #fd = -1;
  #length: number;
  /** Of the file: what is behind `#length` was cut short by a crash, and goes with the first change. */
  #found: number;
  #next: number;
  #batchCount: number;
  #reserved = 0;

  /**
   * Throws StorageError where the file cannot be read at all, or is a newer weft's. `pool` null: it is not known, the file may
   * tell. `mayBeNew`: nothing is there that it would have to tell of; one that is missing otherwise is lost.
   */
  constructor(files: PoolFiles, path: string, pool: string | null, mayBeNew = true) {
    this.#files = files;
    this.#path = path;
    const isThere = files.exists(path);
    if (!isThere && mayBeNew && pool !== null) files.replace(path, headLine(pool));
    const isMissing = !isThere && (!mayBeNew || pool === null);
    const bytes = isMissing ? new Uint8Array(0) : files.readAll(path);
    const replayed = replay(bytes);
    const { damage, newer } = replayed;
    if (newer !== null)
      throw new StorageError(
        'POOL_DAMAGED',
        `${path}: ${newer}: a newer weft wrote it. Open the pool with that one; nothing was touched`,
      );
    this.#catalog = replayed.catalog;
    this.dropped = replayed.dropped;
    this.#next = Math.max(1, replayed.next);
    this.#batchCount = replayed.batchCount;
    this.#length = replayed.length_bytes;
    this.#found = bytes.length;
    this.pool = pool ?? replayed.pool ?? UNKNOWN;
    if (isMissing) damage.push('it is missing');
    else if (replayed.pool !== null && replayed.pool !== this.pool)
      damage.push(`it belongs to pool ${replayed.pool}`);
    // It is only ever put there whole.
    else if (replayed.pool === null && damage.length === 0)
      damage.push('it is empty, or its beginning is lost');
    if (damage.length > 0) this.closed = damage.join('; ');
    if (this.closed !== null) return;
    this.#fd = files.open(path);
    this.#reserve();
  }

  get catalog(): Catalog {
    return this.#catalog;
  }

  /** Number of the newest batch. */
  get last(): number {
    return this.#next - 1;
  }

  /** What could be found instead of a catalogue that is damaged. Nothing is changed any more. */
  standIn(catalog: Catalog, why: string): void {
    this.#catalog = catalog;
    this.closed = why;
  }

  /** Throws POOL_DAMAGED where nothing may be changed. */
  requireOpen(): void {
    if (this.closed !== null)
      throw new StorageError(
        'POOL_DAMAGED',
        `the catalogue ${this.#path} is not changed any more: ${this.closed}. What is there can be read; "weft pool repair" mends it`,
      );
  }

  /** Durable when it returns. Throws StorageError, and then nothing has changed. */
  commit(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    this.requireOpen();
    const text = Buffer.from(batchLine(this.#next, changes));
    try {
      if (this.#found > this.#length) this.#cut();
      this.#files.write(this.#fd, text, this.#length);
      this.#files.sync(this.#fd);
    } catch (error) {
      this.#undo();
      throw toStorageError(error, `catalogue ${this.#path}`);
    }
    this.#length += text.length;
    this.#found = this.#length;
    this.#next++;
    this.#batchCount++;
    this.#catalog.apply(changes);
    const records = this.#catalog.layers.size + this.#catalog.volumes.size + this.#catalog.snapshots.size;
    if (this.#batchCount > BATCHES_MIN && this.#batchCount > 2 * records) this.#compact();
    this.#reserve();
  }

  close(): void {
    if (this.#fd >= 0) this.#files.close(this.#fd);
    this.#fd = -1;
  }

  /** What is behind was never acknowledged: a batch that a crash cut short. */
  #cut(): void {
    this.#files.truncate(this.#fd, this.#length);
    this.#files.sync(this.#fd);
    this.#found = this.#length;
  }

  #reserve(): void {
    if (this.#reserved - this.#length > RESERVE_LEFT_BYTES) return;
    try {
      this.#files.reserve(this.#fd, this.#length, RESERVE_BYTES);
      this.#reserved = this.#length + RESERVE_BYTES;
    } catch {
      // Then a change may meet the full disk, and says so.
    }
  }

  /** A batch may be in the file of which we say that it was not made. */
  #undo(): void {
    this.#reserved = 0;
    try {
      this.#files.truncate(this.#fd, this.#length);
      this.#files.sync(this.#fd);
    } catch (error) {
      this.closed = `a change could neither be written nor taken back (${wordsOf(error)}); open the pool again`;
    }
  }

  #compact(): void {
    const text = headLine(this.pool, this.last - 1) + batchLine(this.last, this.#catalog.changes());
    try {
      this.#files.replace(this.#path, text, TEMPORARY);
      const fd = this.#files.open(this.#path);
      this.#files.close(this.#fd);
      this.#fd = fd;
    } catch (error) {
      // The long one is as good, while it has the name. What is added to one without a name is lost.
      if (!this.#hasName())
        this.closed = `it could not be written anew (${wordsOf(error)}); open the pool again`;
      return;
    }
    this.#reserved = 0;
    this.#length = this.#found = Buffer.byteLength(text);
    this.#batchCount = 1;
  }

  /** The file that is open is the one at the path still: the shorter one would be in its place. */
  #hasName(): boolean {
    try {
      return this.#files.readAll(this.#path).length === this.#length;
    } catch {
      return false;
    }
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
