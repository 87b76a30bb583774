/**
 * Files of certificates and keys that are looked at again, as they are exchanged while servers and clients go on (certificates of
 * a month, keys of someone who left). What cannot be used leaves what was there before, and says why.
 */
import { isDeepStrictEqual } from 'node:util';
import type { TlsFiles } from '../contract.js';
import { StorageError } from '../volume/errors.js';
import type { TlsOpening } from '../volume/opening.js';
import { readTls } from './files.js';
import { TlsSecrets, type TlsSide } from './secrets.js';

/** Who keeps one asks it so often. */
export const RENEW_MS = 30_000;

export class TlsWatch {
  /** What the files held when they could be used last; a new object when that changed. */
  opening: TlsOpening;
  /** Why what they hold now cannot be used; null: it can. */
  reason: string | null = null;
  #side: TlsSide;
  #files: TlsFiles;
  #serverName: string | null;

  /** `serverName`: as of readTls. Throws StorageError. */
  constructor(side: TlsSide, files: TlsFiles, serverName: string | null) {
    this.#side = side;
    this.#files = files;
    this.#serverName = serverName;
    this.opening = this.#read();
  }

  /** True: `opening` is another one now. `files`: others from now on. */
  look(files: TlsFiles = this.#files): boolean {
    this.#files = files;
    try {
      const now = this.#read();
      this.reason = null;
      if (isDeepStrictEqual(now, this.opening)) return false;
      this.opening = now;
      return true;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.reason = error.message;
      return false;
    }
  }

  #read(): TlsOpening {
    const opening = readTls(this.#files, this.#serverName);
    const { reason } = tried(this.#side, opening);
    if (reason !== '') throw new StorageError('REMOTE_REFUSED', reason);
    return opening;
  }
}

function tried(side: TlsSide, opening: TlsOpening): TlsSecrets {
  const secrets = new TlsSecrets(side, opening);
  secrets.close();
  return secrets;
}
