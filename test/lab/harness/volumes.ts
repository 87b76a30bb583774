/** What tests of volumes share: a plane with a pool, exports that come and go, and the clients that look at them. */
import { createHash } from 'node:crypto';
import type { Test } from 'tap';
import type { JobStatus, SnapshotStatus, VolumeStatus } from '../../../storage/contract.js';
import { askJson } from './http.js';
import { Lab } from './lab.js';
import { missing } from './needs.js';
import { eventually, killSync, run } from './processes.js';
import { Storage } from './weft.js';

export const MIB = 2 ** 20;
export const SIZE_BYTES = 64 * MIB;
export const skip = (...programs: string[]): string | false => missing({ programs });

type Config = Parameters<Storage['configure']>[0];

/** libnbd's module belongs to Debian's Python, whichever comes first elsewhere. */
export const PYTHON = { env: { PATH: `/usr/bin:${process.env['PATH'] ?? ''}` } };

/** A pool, and an export of whatever is named, each at a socket of its own. */
export class House {
  readonly lab: Lab;
  plane: Storage;
  readonly #exports: Config['exports'] = [];
  #pools: Config['pools'];
  #volumes: NonNullable<Config['volumes']> = [];

  private constructor(lab: Lab, plane: Storage) {
    this.lab = lab;
    this.plane = plane;
    this.#pools = [{ name: 'p', directory: lab.path('pool') }];
  }

  static async open(t: Test): Promise<House> {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const house = new House(lab, await Storage.start(lab));
    await house.#configure();
    await house.plane.makeVolume('p', 'v', SIZE_BYTES);
    return house;
  }

  async #configure(): Promise<void> {
    const config = { pools: this.#pools, exports: this.#exports };
    await this.plane.configure(this.#volumes.length === 0 ? config : { ...config, volumes: this.#volumes });
  }

  async openedAs(volumes: NonNullable<Config['volumes']>, more: Config['pools'] = []): Promise<void> {
    this.#volumes = volumes;
    this.#pools = [...this.#pools, ...more];
    await this.#configure();
  }

  /** SIGKILL, and a new one that is told the same. */
  async killAndRestart(): Promise<void> {
    killSync(this.plane.pid);
    await this.plane.program.ended;
    this.plane = await Storage.start(this.lab);
    await this.#configure();
  }

  /** Its NBD URI. */
  async export(volume: string, options: { snapshot?: string; pool?: string } = {}): Promise<string> {
    const { snapshot, pool = 'p' } = options;
    const name = `e${this.#exports.length}`;
    const path = this.lab.path(`${name}.sock`);
    this.#exports.push({
      name,
      nbdName: name,
      pool,
      volume,
      readOnly: snapshot !== undefined,
      ...(snapshot === undefined ? {} : { snapshot }),
      listen: [{ kind: 'unix', path }],
    });
    await this.#configure();
    return `nbd+unix:///${name}?socket=${path}`;
  }

  /** Nothing is exported any more, and no client is left. */
  async withdraw(): Promise<void> {
    this.#exports.length = 0;
    await this.#configure();
  }

  async volume(name = 'v', pool = 'p'): Promise<VolumeStatus> {
    const found = (await this.plane.status()).volumes.find(one => one.name === name && one.pool === pool);
    if (found === undefined) throw new Error(`no volume ${name}`);
    return found;
  }

  async snapshot(name: string, ...volumes: string[]): Promise<SnapshotStatus[]> {
    const body = {
      name,
      volumes: (volumes.length === 0 ? ['v'] : volumes).map(volume => ({ pool: 'p', volume })),
    };
    const reply = await askJson<{ snapshots: SnapshotStatus[] }>(
      this.plane.socket,
      'POST',
      '/snapshots',
      body,
    );
    return reply.snapshots;
  }

  async clone(
    name: string,
    from: { volume: string; snapshot?: string },
    size_bytes = SIZE_BYTES,
  ): Promise<void> {
    await this.plane.put(`/pools/p/volumes/${name}`, { size_bytes, from });
  }

  /** A job's end. */
  async job(request: object): Promise<JobStatus> {
    const { id } = await askJson<JobStatus>(this.plane.socket, 'POST', '/jobs', request);
    return eventually(
      `job ${id} to end`,
      async () => {
        const job = await this.plane.get<JobStatus>(`/jobs/${id}`);
        return job.endedAt_ms === null ? null : job;
      },
      { timeout_ms: 60_000 },
    );
  }
}

export const nbdsh = (script: string): string[] => ['nbdsh', '-n', '-c', `exec(open("${script}").read())`];

export const qemuIo = async (uri: string, ...commands: string[]) =>
  run(
    [
      'qemu-io',
      '-f',
      'raw',
      // A snapshot can only be opened so.
      ...(commands.every(command => command.startsWith('read')) ? ['-r'] : []),
      ...commands.flatMap(command => ['-c', command]),
      uri,
    ],
    { mayFail: true },
  );

export async function mustIo(t: Test, uri: string, ...commands: string[]): Promise<void> {
  const { status, stdout, stderr } = await qemuIo(uri, ...commands);
  t.equal(status, 0, `${commands.join('; ')}: ${status === 0 ? 'ok' : stdout + stderr}`);
  t.notMatch(stdout, /Pattern verification failed/);
}

export const same = async (a: string, b: string): Promise<boolean> =>
  (await run(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', a, b], { mayFail: true })).status === 0;

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
