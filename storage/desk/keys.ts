/**
 * Keys of encrypted volumes: from the key file that the configuration names, by the volume's own uuid or, for a clone, that
 * of the volume whose layers it shares. What a volume was first written with is remembered by a check value, so that neither
 * another key nor none is ever used on it.
 */
import * as fs from 'node:fs';
import { KEY_FILE_MAXIMUM_BYTES, deriveKey, keyCheck, keyMatches } from '../cipher/key.js';
import type { VolumeRecord } from '../pool/catalog.js';
import type { Pool } from '../pool/pool.js';
import { StorageError } from '../volume/errors.js';

/** The key, which the receiver wipes; null: it is not encrypted. Throws VOLUME_KEY. */
export function keyOf(pool: Pool, record: VolumeRecord, keyFile: string | undefined): Uint8Array | null {
  const { name, keyCheck: check } = record;
  if (keyFile === undefined) {
    if (check === null) return null;
    throw new StorageError(
      'VOLUME_KEY',
      `volume ${name} is encrypted: name its key file (encryption.keyFile)`,
    );
  }
  const key = deriveKey(readKeyFile(name, keyFile), record.keyUuid ?? record.uuid);
  if (check === null) {
    // Bytes that were written without a key would read as noise.
    if (!pool.isBlank(record))
      throw new StorageError(
        'VOLUME_KEY',
        `volume ${name} holds data that is not encrypted: make a new volume with encryption and copy it there`,
      );
    pool.keepKeyCheck(record, keyCheck(key));
  } else if (!keyMatches(key, check)) {
    key.fill(0);
    throw new StorageError(
      'VOLUME_KEY',
      `${keyFile} is not the key that volume ${name} was encrypted with: nothing was read or written`,
    );
  }
  return key;
}

/** Of a file alone, by this uuid: whether it is the volume's is the caller's to check. Throws VOLUME_KEY. */
export function keyBy(volume: string, keyFile: string, uuid: string): Uint8Array {
  const bytes = readKeyFile(volume, keyFile);
  try {
    return deriveKey(bytes, uuid);
  } finally {
    bytes.fill(0);
  }
}

function readKeyFile(volume: string, file: string): Uint8Array {
  try {
    const stat = fs.statSync(file);
    if ((stat.mode & 0o077) !== 0)
      throw new StorageError('VOLUME_KEY', `${file} can be read by others than its owner: chmod 600 ${file}`);
    if (!stat.isFile() || stat.size > KEY_FILE_MAXIMUM_BYTES)
      throw new StorageError('VOLUME_KEY', `${file} is no file of at most ${KEY_FILE_MAXIMUM_BYTES} bytes`);
    return fs.readFileSync(file);
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    throw new StorageError('VOLUME_KEY', `the key file ${file} of volume ${volume} cannot be read: ${code}`, {
      cause: error,
    });
  }
}
