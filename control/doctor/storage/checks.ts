/** What is made of what was found where volumes, certificates and keys lie: pure, like ../checks.ts, whose second half it is. */
import type { Doctor } from '../../api/contract.js';
import type { NamedFile, NamedPool } from './named.js';

type Check = Doctor['checks'][number];

export interface PoolFacts extends NamedPool {
  /** Why it cannot be used; null: it can. */
  problem: string | null;
  /** In statfs(2)'s words: `ext4`, or its magic number. */
  fileSystem: string;
  free_bytes: number;
  capacity_bytes: number;
  /** Whether holes take no room, and room can be given back. Null: not tried, since nothing could be written. */
  sparse: boolean | null;
  punchHole: boolean | null;
  /** Others who may look into it. */
  isOpenToOthers: boolean;
  /** Null: it is not there yet, and will be ours. */
  ownerUid: number | null;
}

export interface FileFacts extends NamedFile {
  /** Why it cannot be read, or is not what it should be; null: it is. */
  problem: string | null;
  /** Permission bits. */
  mode: number;
  ownerUid: number;
  /** Of the certificate in it that ends first. */
  endsAt_ms: number | null;
}

export interface StorageFacts {
  uid: number;
  now_ms: number;
  /** The newest thing that weft itself has written; null: nothing yet. */
  lastWritten_ms: number | null;
  openFilesMax: number;
  pools: readonly PoolFacts[];
  files: readonly FileFacts[];
}

const GIB = 2 ** 30;
const DAY_MS = 86_400_000;
/** Before this was written no clock can be right. */
const CLOCK_OLDEST_MS = Date.UTC(2025, 0, 1);
const CLOCK_SLACK_MS = 60_000;
/** 12,288 clients (weft-storage takes three quarters of the limit for them), two files for each layer in use, and some. */
const OPEN_FILES_LITTLE = 16_384;
const ENDS_SOON_DAYS = 30;

export function judgeStorage(facts: StorageFacts): Check[] {
  return [
    ...facts.pools.map(pool => judgePool(pool, facts)),
    ...facts.files.map(file => judgeFile(file, facts)),
    clock(facts),
    openFiles(facts),
  ];
}

function check(name: string, status: Check['status'], found: string, advice: string | null): Check {
  return { name, status, found, advice, debianPackage: null };
}

function judgePool(pool: PoolFacts, { uid }: StorageFacts): Check {
  const name = `pool ${pool.name}`;
  const { directory, problem } = pool;
  if (problem !== null)
    return check(
      name,
      'missing',
      `${directory}: ${problem}`,
      'its volumes cannot be used until that is mended',
    );
  const free_percent = (pool.free_bytes / Math.max(1, pool.capacity_bytes)) * 100;
  const found = `${directory}: ${pool.fileSystem}, ${(pool.free_bytes / GIB).toFixed(1)} GiB free`;
  const warn = (advice: string): Check => check(name, 'warning', found, advice);
  if (pool.ownerUid !== null && pool.ownerUid !== uid && uid !== 0)
    return warn(`the directory is user ${pool.ownerUid}'s, and weft runs as user ${uid}: chown it`);
  if (pool.isOpenToOthers)
    return warn(`others may look into it, and so at every disk: chmod o= ${directory}`);
  if (pool.sparse === false)
    return warn('holes take room there: every volume takes its whole size. Use ext4, XFS or btrfs');
  if (pool.punchHole === false)
    return warn('room is not given back there when guests trim their disks. Use ext4, XFS or btrfs');
  if (free_percent < pool.lowSpace_percent)
    return warn(
      `${free_percent.toFixed(1)} % are free, and lowSpace says ${pool.lowSpace_percent} %: docs/operations.md, "When a pool is full"`,
    );
  return check(name, 'ok', found, null);
}

const HOLDS: Readonly<Record<NamedFile['holds'], string>> = {
  certificate: 'certificate',
  authority: 'authority',
  key: 'private key',
  psk: 'pre-shared keys',
  secret: 'key of an encrypted volume',
};

function judgeFile(file: FileFacts, { uid, now_ms }: StorageFacts): Check {
  const name = `${HOLDS[file.holds]}`;
  const found = `${file.path} (${file.by})`;
  const warn = (advice: string): Check => check(name, 'warning', found, advice);
  if (file.problem !== null)
    return check(name, 'missing', `${found}: ${file.problem}`, `${file.by} cannot be served without it`);
  const isSecret = file.holds !== 'certificate' && file.holds !== 'authority';
  if (isSecret && (file.mode & 0o007) !== 0)
    return check(
      name,
      'missing',
      `${found}: everybody may read it`,
      `it is refused so: chmod o= ${file.path}`,
    );
  if (isSecret && (file.mode & 0o070) !== 0) return warn(`its group may read it: chmod 600 ${file.path}`);
  if (isSecret && file.ownerUid !== uid && file.ownerUid !== 0)
    return warn(`it is user ${file.ownerUid}'s, who can replace it: chown it`);
  if (file.endsAt_ms === null) return check(name, 'ok', found, null);
  const left_days = Math.floor((file.endsAt_ms - now_ms) / DAY_MS);
  const end = new Date(file.endsAt_ms).toISOString().slice(0, 10);
  if (file.endsAt_ms <= now_ms)
    return check(name, 'missing', `${found}: ended on ${end}`, 'nobody believes it any more: make another');
  if (left_days < ENDS_SOON_DAYS) return warn(`it ends on ${end}, in ${left_days} days: make another`);
  return check(name, 'ok', `${found}, good until ${end}`, null);
}

function clock({ now_ms, lastWritten_ms }: StorageFacts): Check {
  const found = new Date(now_ms).toISOString();
  if (now_ms < CLOCK_OLDEST_MS)
    return check(
      'clock',
      'warning',
      found,
      'it was never set: certificates are not good yet, snapshots have wrong dates',
    );
  if (lastWritten_ms !== null && lastWritten_ms > now_ms + CLOCK_SLACK_MS)
    return check(
      'clock',
      'warning',
      `${found}, and weft has written something at ${new Date(lastWritten_ms).toISOString()}`,
      'it has gone back: snapshots by the clock come by the new time, and dates of old ones lie ahead. Run NTP (chrony, systemd-timesyncd)',
    );
  return check('clock', 'ok', found, null);
}

function openFiles({ openFilesMax }: StorageFacts): Check {
  const found = openFilesMax === Number.POSITIVE_INFINITY ? 'no bound' : `${openFilesMax} at most`;
  if (openFilesMax >= OPEN_FILES_LITTLE) return check('open files', 'ok', found, null);
  return check(
    'open files',
    'warning',
    found,
    `weft-storage has one for each client, and two for each layer that is in use: raise the limit to ${OPEN_FILES_LITTLE} or more (ulimit -Hn, LimitNOFILE= of a unit)`,
  );
}
