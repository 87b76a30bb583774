/**
 * What a pool keeps beside volumes that are sides of mirrors, so that a mirror knows what it left:
 *
 *   mirrors/UUID        of a first side: the write-intent journal (volume/mirrorJournal.ts); empty, or zeroes: a new mirror
 *   mirrors/UUID.side   of a second side: its name for the mirror's journal
 *
 * Both are made void before the volume is written by itself: then the sides differ by more than the journal tells.
 */
import { randomUUID } from 'node:crypto';
import * as path from 'node:path';
import { toStorageError } from './errors.js';
import type { PoolFiles } from './files.js';

export class MirrorMarks {
  #directory: string;
  #files: PoolFiles;

  constructor(pool: string, files: PoolFiles) {
    this.#directory = path.join(pool, 'mirrors');
    this.#files = files;
  }

  /** A descriptor for `closeJournal`. Throws StorageError, as all of these. */
  openJournal(volume: string, length_bytes: number): number {
    return this.#do(volume, file => {
      if (!this.#files.exists(file)) {
        this.#files.makeDirectory(this.#directory);
        this.#files.makeFile(file, length_bytes, false);
        this.#files.syncDirectory(this.#directory);
      }
      return this.#files.open(file);
    });
  }

  closeJournal(fd: number): void {
    this.#files.close(fd);
  }

  /** Empty: there is none. */
  readJournal(volume: string): Uint8Array {
    return this.#do(volume, file =>
      // A copy of its own, and no Buffer: slices of those are no copies.
      Uint8Array.from(this.#files.exists(file) ? this.#files.readAll(file) : []),
    );
  }

  /** It was the first side of a mirror, and has not been used otherwise since. */
  hasJournal(volume: string): boolean {
    return this.#do(volume, file => this.#isThere(file));
  }

  /** What a mirror calls the volume as its second side. */
  nameOfSide(volume: string): string {
    return this.#do(`${volume}.side`, file => {
      if (this.#isThere(file)) return Buffer.from(this.#files.readAll(file)).toString('utf8', 0, 36);
      const name = randomUUID();
      this.#files.makeDirectory(this.#directory);
      this.#files.replace(file, name);
      return name;
    });
  }

  /** Before it is written by itself. */
  usedAlone(volume: string): void {
    for (const name of [volume, `${volume}.side`])
      this.#do(name, file => {
        if (this.#isThere(file)) this.#files.replace(file, '');
      });
  }

  #isThere(file: string): boolean {
    return this.#files.exists(file) && this.#files.readAll(file).length > 0;
  }

  #do<T>(name: string, act: (file: string) => T): T {
    const file = path.join(this.#directory, name);
    try {
      return act(file);
    } catch (error) {
      throw toStorageError(error, `journal ${file}`);
    }
  }
}
