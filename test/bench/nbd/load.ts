/**
 * The load that is put on a disk server: fio with its nbd engine. See bench.ts for the picture.
 *
 * fio takes a whole core and is often what holds up the fastest, so a case has a second figure: the server's own processor
 * time for each million requests, or each gigabyte, that it served. And some cases are put by leanClient.ts instead.
 */
import { run } from '../../lab/harness/processes.js';
import { meter } from '../bench.js';
import type { Case, Contender } from '../bench.js';
import { leanClient } from './leanClient.js';

export interface NbdCase extends Case {
  readonly rw: 'randread' | 'randwrite' | 'randrw' | 'read' | 'write';
  readonly block: string;
  readonly depth: number;
  /** Connections, each with this depth; 1 if it does not say. */
  readonly jobs?: number;
  /** Nothing of the files is in the page cache when a run begins. */
  readonly cold?: boolean;
  /** By the client that does hardly anything, instead of fio: blocks of 4k, one connection, no TLS. */
  readonly lean?: boolean;
}

/** A server that is up and has the volume filled. */
export interface Served {
  readonly uri: string;
  /** Its Unix socket, where it has one, and the export. */
  readonly socket: string;
  readonly nbdName: string;
  /** Where fio's libnbd finds certificates; null: it needs none. */
  readonly home: string | null;
  readonly processCpu_s: () => number | null;
  /** Whose file system the volume lies on. */
  readonly directory: string;
}

interface FioDirection {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly runtime: number;
  readonly total_ios: number;
  readonly io_bytes: number;
  readonly lat_ns: { readonly max: number };
}

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    readonly read: FioDirection;
    readonly write: FioDirection;
  }[];
}

/** fio prints notes before its JSON. */
export function parseFio(stdout: string): FioReport {
  const at = stdout.indexOf('{');
  if (at < 0) throw new Error(`fio printed no JSON: ${stdout.slice(0, 500)}`);
  return JSON.parse(stdout.slice(at)) as FioReport;
}

export function fio(
  uri: string,
  size_bytes: number,
  options: Readonly<Record<string, string | number>>,
): string[] {
  const all = { name: 'bench', ioengine: 'nbd', uri, size: size_bytes, 'output-format': 'json', ...options };
  return ['fio', ...Object.entries(all).map(([name, value]) => `--${name}=${value}`)];
}

export const VOLUME_BYTES = 2 ** 30;

/** libnbd looks into nobody's home when it runs as root. */
function at(home: string | null, argv: readonly string[]): string[] {
  if (home === null) return [...argv];
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  return [...(process.getuid?.() === 0 ? nobody : []), 'env', `HOME=${home}`, ...argv];
}

/** Every block with its own bytes, by sequential writes, and flushed. */
export async function fill(uri: string, home: string | null = null): Promise<void> {
  const whole = { rw: 'write', bs: '1M', iodepth: 4, end_fsync: 1, refill_buffers: 1 };
  await run(at(home, fio(uri, VOLUME_BYTES, whole)), { timeout_ms: 120_000 });
}

/** Of all large files in the directory: what is clean is dropped (POSIX_FADV_DONTNEED by dd). */
async function dropCaches(directory: string): Promise<void> {
  const { stdout } = await run(['find', directory, '-type', 'f', '-size', '+1M']);
  for (const file of stdout.split('\n').filter(name => name !== ''))
    await run(['dd', `of=${file}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
}

export function nbdContender(name: string, served: Served): Contender<NbdCase> {
  return {
    name,
    measure: async ({ rw, block, depth, jobs = 1, cold = false, lean = false }, seconds) => {
      await run(['sync', '--file-system', served.directory]);
      if (cold) await dropCaches(served.directory);
      return meter(served.processCpu_s, async () => {
        if (lean) {
          const { socket, nbdName } = served;
          const how = { depth, seconds, size_bytes: VOLUME_BYTES, writes: rw === 'randwrite' };
          const { stdout } = await run(leanClient({ socket, nbdName, ...how }));
          const did = JSON.parse(stdout) as { seconds: number; count: number };
          return { value: did.count / did.seconds / 1e3, seconds: did.seconds, work: did.count / 1e6 };
        }
        const timed = { time_based: 1, runtime: `${Math.round(seconds * 1000)}ms` };
        // Random offsets with repetition: fio's map of blocks done costs more than some servers.
        const how = { rw, bs: block, iodepth: depth, norandommap: 1, randrepeat: 0, ...timed };
        const together = jobs === 1 ? {} : { numjobs: jobs, group_reporting: 1 };
        const { stdout } = await run(
          at(served.home, fio(served.uri, VOLUME_BYTES, { ...how, ...together })),
          {
            timeout_ms: (seconds + 60) * 1000,
          },
        );
        const done = parseFio(stdout).jobs[0];
        const directions = done === undefined ? [] : [done.read, done.write];
        const sum = (of: (direction: FioDirection) => number): number =>
          directions.reduce((total, direction) => total + of(direction), 0);
        const count = sum(direction => direction.total_ios);
        if (done === undefined || done.error !== 0 || count === 0)
          throw new Error(`fio against ${name}: error ${done?.error}, ${count} requests done`);
        const value = block === '4k' ? sum(one => one.iops) / 1e3 : sum(one => one.bw_bytes) / 1e6;
        const work = block === '4k' ? count / 1e6 : sum(one => one.io_bytes) / 1e9;
        return { value, seconds: Math.max(...directions.map(one => one.runtime)) / 1000, work };
      });
    },
  };
}
