/**
 * The part of the storage plane's contract that is about volumes, for FakePlane: snapshots, clones, leases and jobs as
 * words in memory. No data: what a transfer moves is not its business.
 */
import { randomUUID } from 'node:crypto';
import type { JobStatus, Lease, SnapshotStatus, VolumeSpec, VolumeStatus } from '../../storage/contract.js';

export type Answer = { status?: number; body: unknown };

export interface FakeVolume {
  size_bytes: number;
  labels?: Record<string, string>;
  snapshots?: SnapshotStatus[];
  parent?: { volume: string; snapshot: string } | null;
}

const refused = (status: number, code: string, message = code): Answer => ({
  status,
  body: { error: { code, message } },
});

export class FakeVolumes {
  /** By `POOL/VOLUME`. */
  readonly volumes = new Map<string, FakeVolume>();
  readonly leases = new Map<string, Lease>();
  readonly jobs = new Map<string, JobStatus>();
  /** A test that wants bytes behind a lease serves them. */
  onLease: ((name: string, lease: Lease | null) => Promise<void> | void) | undefined;
  /** Answers that it cannot. */
  refusing = false;
  /** What was done to volumes, in order. */
  readonly done: string[] = [];
  readonly #isExported: (key: string) => boolean;

  constructor(isExported: (key: string) => boolean) {
    this.#isExported = isExported;
  }

  /** Undefined: not about volumes. */
  answer(method: string, path: string, query: URLSearchParams, text: string): Answer | undefined {
    if (this.refusing) return refused(503, 'PLANE_BUSY');
    const parts = path.split('/').slice(1).map(decodeURIComponent);
    const body = text === '' ? {} : (JSON.parse(text) as unknown);
    if (parts[0] === 'pools' && parts[2] === 'volumes' && parts[3] !== undefined) {
      const [, pool = '', , volume = '', verb, snapshot] = parts;
      return this.#volume(method, `${pool}/${volume}`, verb, snapshot, query, body);
    }
    if (parts[0] === 'snapshots') return this.#snapshot(body as never);
    if (parts[0] === 'leases') return this.#lease(method, parts[1] ?? '', body as Lease);
    if (parts[0] === 'jobs') return this.#job(method, parts[1], body as JobStatus['request']);
    if (parts[0] === 'backups') return { body: { backups: [] } };
    return undefined;
  }

  status(key: string): VolumeStatus {
    const [pool = '', name = ''] = key.split('/');
    return {
      pool,
      name,
      uuid: name,
      allocated_bytes: 4096,
      createdAt_ms: 0,
      state: 'ok',
      reason: null,
      ...(this.volumes.get(key) ?? { size_bytes: 0 }),
    };
  }

  #volume(
    method: string,
    key: string,
    verb: string | undefined,
    snapshot: string | undefined,
    query: URLSearchParams,
    body: unknown,
  ): Answer {
    const known = this.volumes.get(key);
    if (method === 'PUT') return this.#put(key, known, body as VolumeSpec);
    if (known === undefined) return refused(404, 'VOLUME_UNKNOWN', `no ${key}`);
    this.done.push([method, key, verb, snapshot].filter(Boolean).join(' '));
    if (verb === 'snapshots') {
      const left = known.snapshots?.filter(({ name }) => name !== snapshot) ?? [];
      if (left.length === (known.snapshots?.length ?? 0)) return refused(404, 'SNAPSHOT_UNKNOWN');
      known.snapshots = left;
      return { body: { deleted: true } };
    }
    if (verb === 'rename') {
      const to = `${key.split('/')[0]}/${(body as { to: string }).to}`;
      if (this.volumes.has(to)) return refused(409, 'VOLUME_EXISTS');
      this.volumes.delete(key);
      this.volumes.set(to, known);
      return { body: this.status(to) };
    }
    if (verb === 'rollback') {
      const { snapshot: to } = body as { snapshot: string };
      if (!known.snapshots?.some(({ name }) => name === to)) return refused(404, 'SNAPSHOT_UNKNOWN');
      return { body: this.status(key) };
    }
    if (verb === 'diff')
      return { body: { size_bytes: known.size_bytes, extents: [], next_bytes: null, of: query.get('from') } };
    if (this.#isExported(key)) return refused(409, 'VOLUME_EXPORTED', 'it is exported');
    if ((known.snapshots?.length ?? 0) > 0 && query.get('snapshots') !== 'true')
      return refused(409, 'VOLUME_HAS_SNAPSHOTS');
    this.volumes.delete(key);
    return { body: { deleted: true } };
  }

  #put(key: string, known: FakeVolume | undefined, { size_bytes, labels, from }: VolumeSpec): Answer {
    this.volumes.set(key, {
      ...known,
      size_bytes,
      ...(labels === undefined ? {} : { labels }),
      ...(from === undefined ? {} : { parent: { volume: from.volume, snapshot: from.snapshot ?? '' } }),
    });
    return { body: this.status(key) };
  }

  #snapshot({
    name,
    volumes,
    labels = {},
  }: {
    name: string;
    volumes: { pool: string; volume: string }[];
    labels?: Record<string, string>;
  }): Answer {
    const keys = volumes.map(({ pool, volume }) => `${pool}/${volume}`);
    for (const key of keys) if (!this.volumes.has(key)) return refused(404, 'VOLUME_UNKNOWN', `no ${key}`);
    this.done.push(`snapshot ${name} ${keys.join(' ')}`);
    const made = keys.map(key => {
      const volume = this.volumes.get(key)!;
      const snapshot: SnapshotStatus = {
        name,
        uuid: randomUUID(),
        createdAt_ms: 1,
        size_bytes: volume.size_bytes,
        allocated_bytes: 0,
        labels,
        clones: [],
      };
      (volume.snapshots ??= []).push(snapshot);
      return snapshot;
    });
    return { body: { snapshots: made } };
  }

  #lease(method: string, name: string, lease: Lease): Answer {
    if (method === 'DELETE') {
      if (!this.leases.delete(name)) return refused(404, 'LEASE_UNKNOWN');
      void this.onLease?.(name, null);
      return { body: {} };
    }
    if (!this.volumes.has(`${lease.pool}/${lease.volume}`)) return refused(404, 'VOLUME_UNKNOWN');
    this.leases.set(name, lease);
    void this.onLease?.(name, lease);
    return { body: {} };
  }

  #job(method: string, id: string | undefined, request: JobStatus['request']): Answer {
    if (method === 'POST') {
      const job: JobStatus = {
        id: String(this.jobs.size + 1),
        request,
        state: 'running',
        startedAt_ms: 1,
        endedAt_ms: null,
        done_bytes: 0,
        total_bytes: 100,
        message: null,
        findings: [],
      };
      this.jobs.set(job.id, job);
      return { body: job };
    }
    if (id === undefined) return { body: { jobs: [...this.jobs.values()] } };
    const job = this.jobs.get(id);
    if (job === undefined) return refused(404, 'JOB_UNKNOWN');
    if (method === 'DELETE') Object.assign(job, { state: 'cancelled', endedAt_ms: 2 });
    return { body: job };
  }
}
