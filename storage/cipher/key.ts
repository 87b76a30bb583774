/**
 * From a key file to the key of one volume. Every volume has a key of its own, so that the same blocks in two volumes are not
 * the same bytes on disk; clones keep that of the volume whose layers they share, so `uuid` is that of the first one.
 *
 *   key    = HKDF-SHA-512 (RFC 5869) of the file's bytes, salt uuid, info "weft volume AES-256-XTS", 64 bytes
 *   check  = HMAC-SHA-256 of a fixed text by that key, 16 bytes: kept in the catalogue, so that a wrong file is refused
 *            before anything is read or written. It tells nothing of the key
 */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { StorageError } from '../volume/errors.js';

/** A file of fewer bytes holds no key worth the name. */
const KEY_FILE_MINIMUM_BYTES = 32;
export const KEY_FILE_MAXIMUM_BYTES = 64 * 1024;
const KEY_BYTES = 64;
const INFO = 'weft volume AES-256-XTS';
const CHECKED_TEXT = 'weft volume key check';
const CHECK_BYTES = 16;

/** Throws a StorageError for a file that is too short or too long. `fileBytes` are neither kept nor wiped. */
export function deriveKey(fileBytes: Uint8Array, uuid: string): Uint8Array {
  const length = fileBytes.length;
  if (length < KEY_FILE_MINIMUM_BYTES || length > KEY_FILE_MAXIMUM_BYTES)
    throw new StorageError(
      'VOLUME_KEY',
      `the key file has ${length} bytes: give one of ${KEY_FILE_MINIMUM_BYTES} to ${KEY_FILE_MAXIMUM_BYTES} random bytes`,
    );
  return new Uint8Array(hkdfSync('sha512', fileBytes, Buffer.from(uuid), INFO, KEY_BYTES));
}

export function keyCheck(key: Uint8Array): string {
  return createHmac('sha256', key).update(CHECKED_TEXT).digest().subarray(0, CHECK_BYTES).toString('hex');
}

/** Is this the key that the check was made of? */
export function keyMatches(key: Uint8Array, check: string): boolean {
  const wanted = Buffer.from(check, 'hex');
  const found = Buffer.from(keyCheck(key), 'hex');
  return wanted.length === found.length && timingSafeEqual(wanted, found);
}
