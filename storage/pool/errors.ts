/** What the kernel refused, in the words of a pool. */
import { StorageError } from '../volume/errors.js';
import { fromNodeError } from './file.js';

export function toStorageError(error: unknown, what: string): StorageError {
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
