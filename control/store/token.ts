/**
 * The token that TCP clients must show: made when TCP is first asked for, readable by weftd's user only, never
 * logged. Compared by hashes of equal length, so that neither length nor content shows in the time it takes.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import * as fs from 'node:fs';

const TOKEN_BYTES = 32;

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Checks `Authorization: Bearer TOKEN`. */
export type Check = (authorization: string | undefined) => boolean;

export function checkOf(token: string): Check {
  const expected = digest(token);
  return authorization => {
    const match = /^Bearer +(\S+)$/i.exec(authorization ?? '');
    return timingSafeEqual(digest(match?.[1] ?? ''), expected) && match !== null;
  };
}

export function readOrMakeToken(path: string): string {
  try {
    const token = fs.readFileSync(path, 'utf8').trim();
    if (token.length >= 32) return token;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  const draft = `${path}.${process.pid}`;
  fs.writeFileSync(draft, `${token}\n`, { mode: 0o600 });
  fs.renameSync(draft, path);
  return token;
}
