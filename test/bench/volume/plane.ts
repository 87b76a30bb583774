/** What the groups of benchmark "volume" share: a plane with one pool, what it is asked, and fio as its client. */
import { askJson } from '../../lab/harness/http.js';
import type { Lab } from '../../lab/harness/lab.js';
import { run } from '../../lab/harness/processes.js';
import { Storage } from '../../lab/harness/weft.js';
import type { JobStatus, VolumeStatus } from '../../../storage/contract.js';
import { readFileSync } from 'node:fs';
import { fio } from '../nbd/load.js';

export const GIB = 2 ** 30;
export const TIB = 2 ** 40;

const POOL = 'bench';

/** proc(5): resident memory. */
export function resident_bytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(line?.[1] ?? 0) * 1024;
}

/** Milliseconds that it took. */
export async function timed_ms(work: () => Promise<unknown>): Promise<number> {
  const from_ms = performance.now();
  await work();
  return performance.now() - from_ms;
}

/** A pool, volumes in it, each exported by its own name at one socket. */
export class Place {
  readonly plane: Storage;
  readonly socket: string;
  #directory: string;
  #exported: string[] = [];

  private constructor(plane: Storage, directory: string) {
    this.plane = plane;
    this.#directory = directory;
    this.socket = `${directory}.nbd`;
  }

  /** A pool that is there already is taken. */
  static async start(lab: Lab, name: string, pool = name): Promise<Place> {
    const plane = await Storage.start(lab, { socket: lab.path(`${name}.http`) });
    return new Place(plane, lab.path(pool));
  }

  get pid(): number {
    return this.plane.pid;
  }

  /** These are exported, and no others. */
  async serve(volumes: readonly string[]): Promise<void> {
    this.#exported = [...volumes];
    const listen = [{ kind: 'unix' as const, path: this.socket }];
    await this.plane.configure({
      pools: [{ name: POOL, directory: this.#directory }],
      exports: this.#exported.map(volume => ({
        name: volume,
        nbdName: volume,
        pool: POOL,
        volume,
        readOnly: false,
        listen,
      })),
    });
  }

  async make(volume: string, size_bytes: number, from?: { volume: string; snapshot: string }): Promise<void> {
    const wish = from === undefined ? { size_bytes } : { size_bytes, from };
    await this.plane.put(`/pools/${POOL}/volumes/${volume}`, wish);
  }

  async destroy(volume: string): Promise<void> {
    await askJson(this.plane.socket, 'DELETE', `/pools/${POOL}/volumes/${volume}?snapshots=true`);
  }

  async snapshot(volume: string, name: string): Promise<void> {
    const volumes = [{ pool: POOL, volume }];
    await askJson(this.plane.socket, 'POST', '/snapshots', { name, volumes });
  }

  async deleteSnapshot(volume: string, name: string): Promise<void> {
    await askJson(this.plane.socket, 'DELETE', `/pools/${POOL}/volumes/${volume}/snapshots/${name}`);
  }

  async volumes(): Promise<VolumeStatus[]> {
    return (await this.plane.get<{ volumes: VolumeStatus[] }>(`/pools/${POOL}/volumes`)).volumes;
  }

  async depth(volume: string): Promise<number> {
    return (await this.volumes()).find(({ name }) => name === volume)?.depth ?? 0;
  }

  /**
   * Until no job runs and the next look finds none either: layers that nobody needs apart are merged one by one. At most so
   * long: with 1 TiB it takes minutes, gives way to whoever asks, and may go on beside what is measured next.
   */
  async settled(patience_ms: number): Promise<void> {
    const until_ms = performance.now() + patience_ms;
    for (let quiet = 0; quiet < 2 && performance.now() < until_ms;) {
      const { jobs } = await this.plane.get<{ jobs: JobStatus[] }>('/jobs');
      const works = jobs.some(({ state }) => state === 'running' || state === 'waiting');
      quiet = works ? 0 : quiet + 1;
      await new Promise(resolve => setTimeout(resolve, 10));
    }
  }

  fio(volume: string, size_bytes: number, how: Readonly<Record<string, string | number>>): string[] {
    return fio(`nbd+unix:///${volume}?socket=${this.socket}`, size_bytes, how);
  }

  /** One block in each of so many parts of the volume, at random. */
  async touch(volume: string, size_bytes: number, count: number): Promise<void> {
    const how = { rw: 'randwrite', bs: '4k', iodepth: 32, norandommap: 1, io_size: count * 4096 };
    await run(this.fio(volume, size_bytes, how), { timeout_ms: 600_000 });
  }

  async stop(): Promise<void> {
    await this.plane.program.stop(60_000);
  }
}
