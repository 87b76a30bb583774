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
    case 'EROFS':
      return new StorageError('POOL_IO', `${what}: the file system is read-only: mount it for writing`, {
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
      return new StorageError(
        'POOL_IO',
        `${what}: ${told.message}: it belongs to another user, or is protected: give it to the user of weft-storage (chown -R, mode 0700)`,
        { cause: error },
      );
    case 'EOPNOTSUPP':
      return new StorageError(
        'POOL_IO',
        `${what}: the file system cannot do that: take one with sparse files, as ext4, XFS, Btrfs`,
        { cause: error },
      );
    case 'EMFILE':
    case 'ENFILE':
      return new StorageError(
        'POOL_IO',
        `${what}: too many files are open (each layer in use takes two): raise the limit (LimitNOFILE=, ulimit -n), or export fewer volumes`,
        { cause: error },
      );
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
