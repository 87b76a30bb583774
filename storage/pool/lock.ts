/** POOL/lock: held by flock while a process has the pool open, or repairs it. */
import * as path from 'node:path';
import { StorageError } from '../volume/errors.js';
import { HostError, MODE_FILE, O_CREAT, O_NOFOLLOW, O_RDWR, closeFile, flock, openFile } from './file.js';

export const LOCK_FILE = 'lock';

/** Answers what `unlockPool` wants. Throws POOL_IN_USE. */
export function lockPool(directory: string): number {
  const file = path.join(directory, LOCK_FILE);
  const fd = openFile(file, O_RDWR | O_CREAT | O_NOFOLLOW, MODE_FILE);
  try {
    flock(fd, true, file);
    return fd;
  } catch (error) {
    closeFile(fd);
    if (!(error instanceof HostError) || error.code !== 'EAGAIN') throw error;
    throw new StorageError('POOL_IN_USE', `pool ${directory} is open already: ${error.message}`, {
      cause: error,
    });
  }
}

export function unlockPool(fd: number): void {
  if (fd >= 0) closeFile(fd);
}
