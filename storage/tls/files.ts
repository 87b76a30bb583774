/** Certificates, keys and pre-shared keys from their files. What is in them is in no message and no log. */
import * as fs from 'node:fs';
import type { TlsFiles } from '../contract.js';
import { StorageError } from '../volume/errors.js';
import type { TlsOpening } from '../volume/opening.js';

const FILE_LIMIT_BYTES = 1024 * 1024;
const PSK_LINES_LIMIT = 10_000;
/** RFC 4279 5.3 and GnuTLS: identities have 128 bytes at most, keys 64. */
const PSK_LINE = /^([^:]{1,128}):([0-9a-fA-F]{2,128})$/;

/** Throws StorageError REMOTE_REFUSED, in words that name the file. `serverName`: whom a client expects; null: not checked. */
export function readTls(files: TlsFiles, serverName: string | null): TlsOpening {
  const { certificate, key, authority, psk, pskIdentity } = files;
  if ((certificate === undefined) !== (key === undefined))
    throw new StorageError('REMOTE_REFUSED', 'TLS: a certificate needs its key, and a key its certificate');
  return {
    certificate: certificate === undefined ? null : read(certificate, false),
    key: key === undefined ? null : read(key, true),
    authority: authority === undefined ? null : read(authority, false),
    psk: psk === undefined ? new Map() : pskOf(read(psk, true), psk),
    pskIdentity: pskIdentity ?? null,
    serverName,
  };
}

/** Lines `identity:hex`; empty ones and comments are passed over. */
function pskOf(text: string, file: string): Map<string, string> {
  const keys = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, identity, hex] = PSK_LINE.exec(line) ?? [];
    if (identity === undefined || hex === undefined || hex.length % 2 !== 0 || keys.size >= PSK_LINES_LIMIT)
      throw new StorageError('REMOTE_REFUSED', `${file}, line ${index + 1}: not "identity:hex"`);
    keys.set(identity, hex);
  }
  if (keys.size === 0) throw new StorageError('REMOTE_REFUSED', `${file}: there is no key in it`);
  return keys;
}

function read(file: string, secret: boolean): string {
  try {
    const stat = fs.statSync(file);
    if (!stat.isFile() || stat.size > FILE_LIMIT_BYTES)
      throw new StorageError('REMOTE_REFUSED', `${file}: not a file of at most ${FILE_LIMIT_BYTES} bytes`);
    if (secret && (stat.mode & 0o007) !== 0)
      throw new StorageError('REMOTE_REFUSED', `${file}: everyone may read it: chmod o= ${file}`);
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    throw new StorageError('REMOTE_REFUSED', `${file} cannot be read: ${code}`, { cause: error });
  }
}
