/**
 * The catalogue's file: read whole when a pool is opened, a line added and synced for each change, written anew when most of it
 * is history. A change that cannot be written is not made: what was added of it is cut off again, and where not even that can
 * be done the catalogue is closed to changes.
 */
import { StorageError } from '../volume/errors.js';
import { batchLine, headLine, replay, type Catalog, type Change } from './catalog.js';
import { toStorageError } from './errors.js';
import type { PoolFiles } from './files.js';

/** Written anew beyond this many batches, when the records are fewer than half of them. */
const BATCHES_MIN = 1000;
const TEMPORARY = '.new';
/** Space that is taken ahead, so that also on a full disk something can be deleted. */
const RESERVE_BYTES = 1024 * 1024;
const RESERVE_LEFT_BYTES = 256 * 1024;

export class CatalogLog {
  readonly catalog: Catalog;
  readonly pool: string;
  /** Why nothing can be changed, in words; null: it can. */
  closed: string | null = null;
  #files: PoolFiles;
  #path: string;
  #fd: number;
  #length: number;
  #next: number;
  #batchCount: number;
  #reserved = 0;

  /**
   * Throws StorageError where the file cannot be read at all. `mayBeNew`: nothing is there that it would have to tell of; one
   * that is missing otherwise is lost, and an empty one in its place would make all layers left over.
   */
  constructor(files: PoolFiles, path: string, pool: string, mayBeNew = true) {
    this.#files = files;
    this.#path = path;
    this.pool = pool;
    if (!files.exists(path)) {
      if (!mayBeNew)
        throw new StorageError(
          'POOL_DAMAGED',
          `${path} is missing, so what the layers beside it are is not known: put it back from a copy. Nothing was touched`,
        );
      files.replace(path, headLine(pool));
    }
    const bytes = files.readAll(path);
    const replayed = replay(bytes);
    this.catalog = replayed.catalog;
    this.#next = Math.max(1, replayed.next);
    this.#batchCount = replayed.batchCount;
    this.#length = replayed.length_bytes;
    if (replayed.pool !== null && replayed.pool !== pool)
      replayed.damage.push(`it belongs to pool ${replayed.pool}`);
    // It is only ever put there whole.
    else if (replayed.pool === null && replayed.damage.length === 0)
      replayed.damage.push('it is empty, or its beginning is lost');
    if (replayed.damage.length > 0) this.closed = replayed.damage.join('; ');
    this.#fd = files.open(path);
    if (this.#length < bytes.length && this.closed === null) {
      // Never acknowledged: a batch that a crash cut short.
      files.truncate(this.#fd, this.#length);
      files.sync(this.#fd);
    }
    if (this.closed === null) this.#reserve();
  }

  /** Durable when it returns. Throws StorageError, and then nothing has changed. */
  commit(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    if (this.closed !== null)
      throw new StorageError(
        'POOL_DAMAGED',
        `the catalogue ${this.#path} is not changed any more: ${this.closed}. What is there can be read; copy it to a new pool`,
      );
    const text = Buffer.from(batchLine(this.#next, changes));
    try {
      this.#files.write(this.#fd, text, this.#length);
      this.#files.sync(this.#fd);
    } catch (error) {
      this.#undo();
      throw toStorageError(error, `catalogue ${this.#path}`);
    }
    this.#length += text.length;
    this.#next++;
    this.#batchCount++;
    this.catalog.apply(changes);
    const records = this.catalog.layers.size + this.catalog.volumes.size + this.catalog.snapshots.size;
    if (this.#batchCount > BATCHES_MIN && this.#batchCount > 2 * records) this.#compact();
    this.#reserve();
  }

  close(): void {
    this.#files.close(this.#fd);
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
    const text = headLine(this.pool) + batchLine(1, this.catalog.changes());
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
    this.#length = Buffer.byteLength(text);
    this.#next = 2;
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
