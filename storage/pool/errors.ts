/** What the kernel refused, in the words of a pool. */
import { StorageError } from '../volume/errors.js';
import { fromNodeError } from './file.js';

const SIZE_MAX_BYTES = 2 ** 46;

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

/** Throws VOLUME_TOO_LARGE for what no volume can have. */
export function requireSize(name: string, size_bytes: number): void {
  if (size_bytes % 4096 !== 0 || size_bytes < 4096 || size_bytes > SIZE_MAX_BYTES)
    throw new StorageError(
      'VOLUME_TOO_LARGE',
      `volume ${name}: ${size_bytes} bytes is no multiple of 4096 between 4096 and ${SIZE_MAX_BYTES}`,
    );
}
