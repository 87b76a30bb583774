/** Looks at where volumes, certificates and keys lie. Secrets are opened, never kept: what is told is whether they can be read. */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import type { Layout } from '../../model/layout.js';
import type { Specs } from '../../model/resource.js';
import type { FileFacts, PoolFacts, StorageFacts } from './checks.js';
import { filesOf, poolsOf, type NamedFile, type NamedPool } from './named.js';

/** statfs(2), f_type. */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0xef53: 'ext4',
  0x58465342: 'XFS',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x2fc12fc1: 'ZFS',
  0x6969: 'NFS',
  0x65735546: 'FUSE',
  0x794c7630: 'overlayfs',
  0x4d44: 'FAT',
};
/** open(2): a file without a name, gone when it is closed. */
const O_TMPFILE = 0o20200000;
const TRIAL_BYTES = 1024 * 1024;
const FILE_LIMIT_BYTES = 1024 * 1024;
const PEM = /-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs;

/** Takes room for the beginning of a file and gives it back: whether that can be done there. Throws when even the first cannot. */
export type GiveBack = (fd: number, length_bytes: number) => boolean;

export function collectStorageFacts(layout: Layout, specs: Specs, giveBack: GiveBack): StorageFacts {
  return {
    uid: process.getuid?.() ?? -1,
    now_ms: Date.now(),
    lastWritten_ms: newest(layout.store),
    openFilesMax: openFilesMax(),
    pools: poolsOf(layout, specs).map(pool => lookAtPool(pool, giveBack)),
    files: filesOf(specs).map(lookAtFile),
  };
}

function lookAtPool(pool: NamedPool, giveBack: GiveBack): PoolFacts {
  const nothing = { fileSystem: '', free_bytes: 0, capacity_bytes: 0, sparse: null, punchHole: null };
  try {
    const own = fs.statSync(pool.directory, { throwIfNoEntry: false });
    let here = pool.directory;
    while (here !== '/' && !fs.existsSync(here)) here = dirname(here);
    const { type, bsize, bavail, blocks } = fs.statfsSync(here);
    const isDirectory = (own ?? fs.statSync(here)).isDirectory();
    return {
      ...pool,
      problem: isDirectory ? null : 'is not a directory',
      fileSystem: FILE_SYSTEMS[type] ?? `file system ${type.toString(16)}`,
      free_bytes: bavail * bsize,
      capacity_bytes: blocks * bsize,
      ...(own?.isDirectory() ? trial(pool.directory, giveBack) : { sparse: null, punchHole: null }),
      isOpenToOthers: own !== undefined && (own.mode & 0o007) !== 0,
      ownerUid: own?.uid ?? null,
    };
  } catch (error) {
    return { ...pool, ...nothing, problem: codeOf(error), isOpenToOthers: false, ownerUid: null };
  }
}

/** On a file that has no name and is gone at once. */
function trial(directory: string, giveBack: GiveBack): { sparse: boolean | null; punchHole: boolean | null } {
  let fd: number;
  try {
    fd = fs.openSync(directory, fs.constants.O_RDWR | O_TMPFILE, 0o600);
  } catch {
    return { sparse: null, punchHole: null };
  }
  try {
    fs.ftruncateSync(fd, TRIAL_BYTES);
    const sparse = fs.fstatSync(fd).blocks * 512 < TRIAL_BYTES;
    return { sparse, punchHole: giveBack(fd, TRIAL_BYTES) };
  } catch {
    return { sparse: null, punchHole: null };
  } finally {
    fs.closeSync(fd);
  }
}

function lookAtFile(file: NamedFile): FileFacts {
  const facts = { ...file, problem: null, mode: 0, ownerUid: 0, endsAt_ms: null };
  try {
    const { mode, uid, size } = fs.statSync(file.path);
    const seen = { ...facts, mode: mode & 0o777, ownerUid: uid };
    if (size > FILE_LIMIT_BYTES) return { ...seen, problem: 'is too large to be one' };
    const text = fs.readFileSync(file.path, 'latin1');
    return { ...seen, ...contents(file, text) };
  } catch (error) {
    return { ...facts, problem: codeOf(error) };
  }
}

function contents(file: NamedFile, text: string): Pick<FileFacts, 'problem' | 'endsAt_ms'> {
  const fine = { problem: null, endsAt_ms: null };
  try {
    switch (file.holds) {
      case 'certificate':
      case 'authority': {
        const all = [...text.matchAll(PEM)].map(([pem]) => new X509Certificate(pem));
        if (all.length === 0) return { ...fine, problem: 'there is no certificate in it' };
        return { problem: null, endsAt_ms: Math.min(...all.map(one => Date.parse(one.validTo))) };
      }
      case 'key': {
        const key = createPrivateKey(text);
        if (file.certificate === undefined) return fine;
        const certificate = new X509Certificate(fs.readFileSync(file.certificate));
        return certificate.checkPrivateKey(key)
          ? fine
          : { ...fine, problem: `does not belong to ${file.certificate}` };
      }
      case 'psk':
        return /^[^#:\n][^:\n]*:([0-9a-f]{2})+\r?$/im.test(text)
          ? fine
          : { ...fine, problem: 'there is no line "identity:hex" in it' };
      case 'secret':
        return text.length < 32 ? { ...fine, problem: 'is shorter than 32 bytes' } : fine;
    }
  } catch {
    // OpenSSL's words say nothing to people, and might quote.
    return { ...fine, problem: `is not a ${file.holds} in PEM, without a passphrase` };
  }
}

/** Of the files in a directory. */
function newest(directory: string): number | null {
  try {
    const times = fs.readdirSync(directory).map(name => fs.statSync(join(directory, name)).mtimeMs);
    return times.length === 0 ? null : Math.max(...times);
  } catch {
    return null;
  }
}

/** The hard limit: Node takes all of it. */
function openFilesMax(): number {
  const match = /^Max open files\s+\S+\s+(\S+)/m.exec(fs.readFileSync('/proc/self/limits', 'utf8'));
  return match?.[1] === undefined || match[1] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(match[1]);
}

function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'error';
  return code === 'ENOENT' ? 'is not there' : code === 'EACCES' ? 'may not be opened' : code;
}
