/**
 * Group "pools": a plane beside many volumes of 1 GiB in one pool.
 *
 *   open-N     ms from the start of the process until a client of the first volume is greeted, by way of the configuration
 *   status-N   ms of GET /status, which has every volume
 *   rss-N      MB of resident memory then
 *   fds-N      file descriptors then
 *   idle-N     % of a core, while nobody asks anything
 *
 *   -snapshots  each volume has a snapshot        -exported  each volume is exported, not only the first: two descriptors each,
 *   so that 10,000 would need a limit of more than the usual 20,000
 *
 * Pools are made by the pool's own code without syncs, before anything is measured. There is nobody to compare this with.
 */
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { Pool } from '../../../storage/pool/pool.js';
import { kernelFiles, type PoolFiles } from '../../../storage/pool/files.js';
import { O_CREAT, O_EXCL, O_RDWR, closeFile, ftruncate, openFile } from '../../../storage/pool/file.js';
import type { Lab } from '../../lab/harness/lab.js';
import { cpuTimeOfAll_s } from '../../lab/harness/processes.js';
import { OURS, group, median, meter } from '../bench.js';
import type { Case, Contender, ContenderSource, Group } from '../bench.js';
import { GIB, Place, resident_bytes, timed_ms } from './plane.js';

type What = 'open' | 'status' | 'rss' | 'fds' | 'idle';
type How = '' | '-snapshots' | '-exported';

interface PoolCase extends Case {
  readonly what: What;
  readonly count: number;
  readonly how: How;
}

const UNITS = { open: 'ms', status: 'ms', rss: 'MB', fds: 'descriptors', idle: '% of a core' } as const;

function cases(count: number, how: How, whats: readonly What[]): PoolCase[] {
  return whats.map(what => ({
    name: `${what}-${count}${how}`,
    unit: UNITS[what],
    better: 'lower',
    what,
    count,
    how,
  }));
}

/** Durable is nothing of it, and need not be. */
const unsyncedFiles: PoolFiles = {
  ...kernelFiles,
  sync: () => {},
  syncDirectory: () => {},
  makeFile: (file, length_bytes) => {
    const fd = openFile(file, O_RDWR | O_CREAT | O_EXCL, 0o600);
    ftruncate(fd, length_bytes);
    closeFile(fd);
  },
};

async function makePool(directory: string, count: number, withSnapshots: boolean): Promise<void> {
  const pool = Pool.open(directory, () => Date.now(), unsyncedFiles);
  for (let i = 0; i < count; i++) {
    const made = pool.make(`v${i}`, { size_bytes: GIB });
    if (!withSnapshots) continue;
    const { volume, frozen } = pool.addTop(made);
    pool.commit([{ do: 'snapshot', snapshot: pool.snapshotRecord(volume, 's', frozen.uuid, {}) }]);
  }
  await pool.close();
}

/** Until the server's first bytes are there. */
async function greeted(socket: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const client = connect(socket);
    client.on('data', () => {
      client.destroy();
      resolve();
    });
    client.on('error', reject);
  });
}

class Many implements Contender<PoolCase> {
  readonly name = OURS;
  #lab: Lab;
  #made = new Set<string>();
  #up: { readonly key: string; readonly place: Place; readonly opened_ms: number } | null = null;
  #runs = 0;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  async measure(useCase: PoolCase, seconds: number) {
    const key = `${useCase.count}${useCase.how}`;
    if (useCase.what === 'open' || this.#up?.key !== key) await this.#start(useCase, key);
    const { place, opened_ms } = this.#up!;
    return meter(
      () => cpuTimeOfAll_s(place.pid),
      async () => {
        const from_ms = performance.now();
        const value = useCase.what === 'open' ? opened_ms : await this.#look(useCase.what, place, seconds);
        return { value, seconds: (performance.now() - from_ms) / 1000 };
      },
    );
  }

  async #start({ count, how }: PoolCase, key: string): Promise<void> {
    await this.#up?.place.stop();
    this.#up = null;
    const pool = `pool${count}${how === '-snapshots' ? how : ''}`;
    if (!this.#made.has(pool)) await makePool(this.#lab.path(pool), count, how === '-snapshots');
    this.#made.add(pool);
    const volumes = Array.from({ length: how === '-exported' ? count : 1 }, (_, i) => `v${i}`);
    const from_ms = performance.now();
    const place = await Place.start(this.#lab, `p${this.#runs++}`, pool);
    try {
      await place.serve(volumes);
      await greeted(place.socket);
    } catch (error) {
      await place.stop();
      throw error;
    }
    this.#up = { key, place, opened_ms: performance.now() - from_ms };
  }

  async #look(what: Exclude<What, 'open'>, place: Place, seconds: number): Promise<number> {
    switch (what) {
      case 'status': {
        const times_ms: number[] = [];
        for (let i = 0; i < 5; i++) times_ms.push(await timed_ms(() => place.plane.status()));
        return median(times_ms);
      }
      case 'rss':
        return resident_bytes(place.pid) / 1e6;
      case 'fds':
        return readdirSync(`/proc/${place.pid}/fd`).length;
      case 'idle': {
        const window_s = Math.max(seconds, 2);
        const before_s = cpuTimeOfAll_s(place.pid) ?? NaN;
        await new Promise(resolve => setTimeout(resolve, window_s * 1000));
        return (((cpuTimeOfAll_s(place.pid) ?? NaN) - before_s) / window_s) * 100;
      }
    }
  }
}

const weft: ContenderSource<PoolCase> = {
  name: OURS,
  missing: () => false,
  start: lab => Promise.resolve(new Many(lab)),
};

export const poolsGroup: Group = group({
  name: 'pools',
  cases: [
    ...[10, 1000, 10_000].flatMap(count => cases(count, '', ['open', 'status', 'rss'])),
    ...[10, 1000, 10_000].flatMap(count => cases(count, '-snapshots', ['open', 'status', 'rss'])),
    ...[1000, 5000].flatMap(count => cases(count, '-exported', ['open', 'status', 'rss', 'fds', 'idle'])),
  ],
  contenders: [weft],
});
