/**
 * The plane's desk: knows which pools are open, which volumes are in use and what is exported, and makes that what
 * the configuration says. Level-driven: `apply` keeps the wish, `#settle` does what is missing towards it, and is
 * called again whenever something changed that may have been in the way (a volume was made, an address came free, a
 * pool could be opened after all).
 *
 * Changes are done one after the other. What is the same before and after is not touched, and its clients notice
 * nothing.
 */
import type {
  Applied,
  ExportConfig,
  ExportStatus,
  Lease,
  PoolConfig,
  PoolStatus,
  SnapshotRequest,
  SnapshotStatus,
  StorageConfig,
  StorageEvent,
  StorageStatus,
  VolumeSpec,
  VolumeStatus,
} from './contract.js';
import { placeOf } from './contract.js';
import { PoolDesk } from './jobs/poolDesk.js';
import { Jobs } from './jobs/server.js';
import { readTls } from './remote/file.js';
import { conflictsOf } from './conflicts.js';
import { AT_EXPORT, EXPORT_COUNTERS, SERVER_COUNTERS, newCounters, spellCounters } from './nbd/counters.js';
import type { VolumeTold } from './nbd/messages.js';
import { rulesOf } from './nbd/rules.js';
import { NbdServer } from './nbd/server.js';
import { StorageError } from './volume/errors.js';
import { Pool } from './pool/pool.js';
import type { VolumeRecord } from './pool/catalog.js';
import { jobHost } from './desk/jobs.js';
import { Operations, snapshotStatus } from './desk/operations.js';
import { UsedVolumes, allocated_bytes, volumeKey, type UsedVolume } from './desk/volumes.js';

/** Pools that could not be opened are tried again so often. */
const RETRY_MS = 2000;

interface PoolEntry {
  readonly config: PoolConfig;
  pool: Pool | null;
  reason: string | null;
}

interface ExportEntry {
  readonly config: ExportConfig;
  readonly exportId: number;
  readonly counters: Float64Array;
  offered: boolean;
  used: UsedVolume | null;
  reason: string | null;
}

export interface StorageServerParts {
  readonly now_ms: () => number;
  readonly onEvent: (event: StorageEvent) => void;
  readonly log: (message: string, details: object) => void;
  readonly threadGone: (error: Error) => void;
  readonly ioUring: boolean;
}

type Told = { state: string; reason: string | null };

export class StorageServer {
  generation = -1;
  #parts: StorageServerParts;
  #nbd: NbdServer;
  #pools = new Map<string, PoolEntry>();
  #used: UsedVolumes;
  #operations: Operations;
  readonly jobs: Jobs;
  #leases = new Map<string, Lease>();
  #exports = new Map<string, ExportEntry>();
  #wish: readonly ExportConfig[] = [];
  #refused = new Map<string, string>();
  /** What was last told in events, by kind and name. */
  #told = new Map<string, Told>();
  #work: Promise<unknown> = Promise.resolve();
  #retry: NodeJS.Timeout;
  #stopping = false;

  constructor(parts: StorageServerParts) {
    this.#parts = parts;
    this.#nbd = new NbdServer(
      {
        volumeState: told => this.#volumeState(told),
        listenerChanged: () => void this.#inTurn(() => this.#tellChanges()),
        threadGone: parts.threadGone,
      },
      { ioUring: parts.ioUring },
    );
    this.#used = new UsedVolumes(this.#nbd, name => this.#openPool(name));
    this.#operations = new Operations({
      nbd: this.#nbd,
      used: this.#used,
      poolOf: name => this.#openPool(name),
      clients: (pool, volume) => this.#clientsOf(pool, volume),
      exportOf: (pool, volume) => this.#exportOf(pool, volume),
    });
    const host = jobHost({
      nbd: this.#nbd,
      used: this.#used,
      operations: this.#operations,
      inTurn: change => this.#inTurn(change),
      pool: name => this.#openPool(name),
      pools: () => [...this.#pools].flatMap(([name, { pool }]) => (pool === null ? [] : [{ name, pool }])),
      snapshot: async (pool, volume, name, labels) =>
        (await this.snapshot({ name, volumes: [{ pool, volume }], labels }))[0]!,
      deleteSnapshot: (pool, volume, name) => this.deleteSnapshot(pool, volume, name),
      clients: (pool, volume) => this.#clientsOf(pool, volume),
      isMirrored: (pool, volume) => (this.#used.get(pool, volume)?.mirror ?? null) !== null,
      tlsOf: readTls,
    });
    this.jobs = new Jobs(new PoolDesk(host), {
      now_ms: parts.now_ms,
      onJob: job => parts.onEvent({ type: 'job', at_ms: parts.now_ms(), job }),
      log: parts.log,
    });
    this.#retry = setInterval(() => {
      if ([...this.#pools.values()].some(entry => entry.pool === null))
        void this.#inTurn(() => this.#settle());
    }, RETRY_MS).unref();
  }

  get ioUring(): boolean {
    return this.#nbd.ioUring;
  }

  async ready(): Promise<void> {
    await this.#nbd.ready();
    if (!this.#nbd.ioUring)
      this.#parts.log('io_uring is not used: a slow disk holds up all clients', {
        reason: this.#nbd.ioUringReason,
      });
  }

  apply(config: StorageConfig): Promise<Applied> {
    return this.#inTurn(async () => {
      const { poolConflicts, exportConflicts } = conflictsOf(config);
      const changedPools = await this.#dropExports(config);
      await this.#closePools(changedPools);
      for (const pool of config.pools) {
        const reason = poolConflicts.get(pool.name) ?? null;
        if (!this.#pools.has(pool.name)) this.#pools.set(pool.name, { config: pool, pool: null, reason });
      }
      this.#wish = config.exports.filter(wanted => !exportConflicts.has(wanted.name));
      this.#refused = exportConflicts;
      await this.#nbd.keepListeners(this.#wished().flatMap(wanted => wanted.listen));
      this.#settle();
      this.generation = config.generation;
      return { generation: config.generation, problems: this.#problems() };
    });
  }

  ensureVolume(poolName: string, volumeName: string, spec: VolumeSpec): Promise<VolumeStatus> {
    return this.#inTurn(async () => {
      const before = this.#openPool(poolName).find(volumeName)?.size_bytes;
      const record = await this.#operations.ensure(poolName, volumeName, spec);
      if (before !== record.size_bytes)
        this.#parts.log(before === undefined ? 'volume made' : 'volume resized', {
          pool: poolName,
          volume: volumeName,
          size_bytes: record.size_bytes,
        });
      // Exports may have waited for it.
      if (before === undefined)
        this.#settle(wanted => wanted.pool === poolName && wanted.volume === volumeName);
      return this.#volumeStatus(poolName, record);
    });
  }

  destroyVolume(poolName: string, volumeName: string, withSnapshots: boolean): Promise<void> {
    return this.#inTurn(() => {
      this.#operations.destroy(poolName, volumeName, withSnapshots);
      this.#told.delete(`volume ${volumeKey(poolName, volumeName)}`);
      this.jobs.look();
      this.#parts.log('volume destroyed', { pool: poolName, volume: volumeName });
    });
  }

  snapshot({ name, volumes, labels = {} }: SnapshotRequest): Promise<SnapshotStatus[]> {
    return this.#inTurn(async () => {
      const taken = await this.#operations.snapshot(name, volumes, labels);
      this.#parts.log('snapshot taken', { snapshot: name, volumes });
      this.#settle(wanted => wanted.snapshot === name);
      return taken.map(({ pool, snapshot }) => snapshotStatus(pool, snapshot));
    });
  }

  deleteSnapshot(poolName: string, volumeName: string, snapshot: string): Promise<void> {
    return this.#inTurn(() => {
      const user = this.#wish.find(
        wanted => wanted.pool === poolName && wanted.volume === volumeName && wanted.snapshot === snapshot,
      );
      if (user !== undefined)
        throw new StorageError(
          'VOLUME_EXPORTED',
          `snapshot ${snapshot} of volume ${volumeName} is exported as ${user.name}: remove that export first`,
        );
      this.#operations.deleteSnapshot(poolName, volumeName, snapshot);
      this.jobs.look();
      this.#parts.log('snapshot deleted', { pool: poolName, volume: volumeName, snapshot });
    });
  }

  rollback(poolName: string, volumeName: string, snapshot: string): Promise<VolumeStatus> {
    return this.#inTurn(async () => {
      const record = await this.#operations.rollback(poolName, volumeName, snapshot);
      this.#parts.log('volume rolled back', { pool: poolName, volume: volumeName, snapshot });
      return this.#volumeStatus(poolName, record);
    });
  }

  renameVolume(poolName: string, volumeName: string, to: string): Promise<VolumeStatus> {
    return this.#inTurn(() => {
      const record = this.#operations.rename(poolName, volumeName, to);
      this.#told.delete(`volume ${volumeKey(poolName, volumeName)}`);
      this.#settle(wanted => wanted.pool === poolName && wanted.volume === to);
      return this.#volumeStatus(poolName, record);
    });
  }

  /** See Lease; the export is named `lease/NAME` in the status, NAME to clients. */
  lease(name: string, lease: Lease): Promise<void> {
    return this.#inTurn(() => {
      if (this.#leases.has(name))
        throw new StorageError(
          'LEASE_EXISTS',
          `there is a lease ${name} already: end it first, or take another name`,
        );
      this.#leases.set(name, lease);
      this.#settle(wanted => wanted.name === leaseName(name));
      const reason = this.#exportReason(this.#exports.get(leaseName(name))!);
      if (reason === null) return;
      void this.#inTurn(() => this.#endLease(name));
      throw new StorageError('LEASE_FAILED', reason);
    });
  }

  endLease(name: string): Promise<void> {
    return this.#inTurn(() => this.#endLease(name));
  }

  volumesOf(poolName: string): VolumeStatus[] {
    const pool = this.#openPool(poolName);
    return pool.names().map(name => this.#volumeStatus(poolName, pool.require(name)));
  }

  status(): StorageStatus {
    const volumes = [...this.#pools.values()].flatMap(({ config, pool }) =>
      pool === null ? [] : pool.names().map(name => this.#volumeStatus(config.name, pool.require(name))),
    );
    return {
      generation: this.generation,
      pools: [...this.#pools.values()].map(entry => this.#poolStatus(entry, volumes)),
      volumes,
      exports: this.#exportStatuses(),
      server: spellCounters(SERVER_COUNTERS, this.#nbd.serverCounters),
      jobs: this.jobs.list(),
    };
  }

  /** Drains, flushes, closes. */
  async stop(): Promise<void> {
    // Before, not within, a turn: what jobs end with is a turn of its own.
    await this.jobs.stop();
    return this.#inTurn(async () => {
      this.#stopping = true;
      clearInterval(this.#retry);
      await this.#nbd.stop();
      for (const { pool } of this.#pools.values()) await pool?.close();
      this.#pools.clear();
    });
  }

  /** One change at a time. */
  #inTurn<T>(change: () => T | Promise<T>): Promise<T> {
    const done = this.#work.then(change);
    this.#work = done.catch(() => undefined);
    return done;
  }

  /** Withdraws what is not wanted any more, or otherwise; returns the pools that are to be closed. */
  async #dropExports(config: StorageConfig): Promise<string[]> {
    const directories = new Map(config.pools.map(pool => [pool.name, pool.directory]));
    const closing = [...this.#pools.values()]
      .filter(entry => directories.get(entry.config.name) !== entry.config.directory)
      .map(entry => entry.config.name);
    const leases = [...this.#leases].map(([name, lease]) => leaseExport(name, lease));
    const wanted = new Map([...config.exports, ...leases].map(one => [one.name, one]));
    const dropped = [...this.#exports.values()].filter(
      entry =>
        closing.includes(entry.config.pool) || !sameService(entry.config, wanted.get(entry.config.name)),
    );
    await Promise.all(dropped.map(entry => this.#drop(entry)));
    return closing;
  }

  async #drop(entry: ExportEntry): Promise<void> {
    const { name } = entry.config;
    this.#exports.delete(name);
    this.#told.delete(`export ${name}`);
    if (!entry.offered) return;
    await this.#nbd.withdraw(entry.exportId);
    this.#parts.log('export withdrawn', { export: name });
    if (entry.used !== null) await this.#used.leave(entry.used, name);
  }

  async #closePools(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.#pools.get(name)?.pool?.close();
      this.#pools.delete(name);
      this.#told.delete(`pool ${name}`);
    }
  }

  /** Does what is missing towards the wish, and tells what changed. Never throws for what is not ours to mend. */
  #settle(which: (wanted: ExportConfig) => boolean = () => true): void {
    if (this.#stopping) return;
    for (const entry of this.#pools.values()) this.#tryPool(entry);
    for (const wanted of this.#wished()) {
      if (!which(wanted)) continue;
      const before = this.#exports.get(wanted.name);
      const entry: ExportEntry = {
        config: wanted,
        exportId: before?.exportId ?? this.#nbd.newId(),
        counters: before?.counters ?? newCounters(EXPORT_COUNTERS),
        offered: before?.offered ?? false,
        used: before?.used ?? null,
        reason: null,
      };
      this.#exports.set(wanted.name, entry);
      this.#tryExport(entry);
    }
    this.#tellChanges();
  }

  #tryPool(entry: PoolEntry): void {
    if (entry.pool !== null) return;
    const { name, directory = '' } = entry.config;
    const other = [...this.#pools.values()].find(one => one.pool?.directory === directory);
    try {
      if (other !== undefined)
        throw new StorageError('POOL_IN_USE', `${directory} is the directory of pool ${other.config.name}`);
      entry.pool = Pool.open(directory, this.#parts.now_ms);
      entry.reason = null;
      this.jobs.look();
      this.#parts.log('pool open', {
        pool: name,
        directory,
        uuid: entry.pool.uuid,
        problems: entry.pool.problems,
      });
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      entry.reason = error.message;
    }
  }

  #tryExport(entry: ExportEntry): void {
    const { name, nbdName, pool, volume, snapshot, readOnly, listen } = entry.config;
    try {
      entry.used = this.#used.use(pool, volume, snapshot ?? null, name);
      this.#nbd.offer({
        exportId: entry.exportId,
        nbdName,
        volumeId: entry.used.volumeId,
        readOnly: readOnly || snapshot !== undefined,
        counters: entry.counters,
        rules: rulesOf(entry.config),
        listen,
      });
      entry.offered = true;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      entry.reason = error.message;
    }
  }

  /** What the configuration wants exported, and the leases. */
  #wished(): ExportConfig[] {
    return [...this.#wish, ...[...this.#leases].map(([name, lease]) => leaseExport(name, lease))];
  }

  async #endLease(name: string): Promise<void> {
    if (!this.#leases.delete(name)) throw new StorageError('LEASE_UNKNOWN', `there is no lease ${name}`);
    const entry = this.#exports.get(leaseName(name));
    if (entry !== undefined) await this.#drop(entry);
    await this.#nbd.keepListeners(this.#wished().flatMap(wanted => wanted.listen));
  }

  #clientsOf(pool: string, volume: string): number {
    let count = 0;
    for (const { config, counters } of this.#exports.values())
      if (config.pool === pool && config.volume === volume && config.snapshot === undefined)
        count += counters[AT_EXPORT.connections]!;
    return count;
  }

  #exportOf(pool: string, volume: string): string | null {
    return this.#wished().find(wanted => wanted.pool === pool && wanted.volume === volume)?.name ?? null;
  }

  #openPool(name: string): Pool {
    const entry = this.#pools.get(name);
    if (entry === undefined)
      throw new StorageError('POOL_UNKNOWN', `there is no pool ${name} in the configuration`);
    if (entry.pool === null) throw new StorageError('POOL_IO', `pool ${name} is not open: ${entry.reason}`);
    return entry.pool;
  }

  #volumeState(told: VolumeTold): void {
    const used = this.#used.byId(told.volumeId);
    if (used === undefined) return;
    const { state, reason, checksumErrors, mirror } = told;
    used.state = state;
    used.reason = reason;
    used.checksumErrors = checksumErrors;
    used.mirror = mirror;
    this.#parts.log(`volume is ${state}`, { pool: used.poolName, volume: used.name, reason, checksumErrors });
    this.#tellChanges();
  }

  #volumeStatus(poolName: string, record: VolumeRecord): VolumeStatus {
    const pool = this.#openPool(poolName);
    const { name, uuid, size_bytes, createdAt_ms, preallocated, checksums, labels, quota_bytes } = record;
    const used = this.#used.get(poolName, name);
    const fault = pool.fault(name);
    return {
      ...{
        pool: poolName,
        name,
        uuid,
        size_bytes,
        createdAt_ms,
        preallocated,
        checksums,
        labels,
        quota_bytes,
      },
      allocated_bytes: allocated_bytes(pool, record),
      state: fault === null ? (used?.state ?? 'ok') : 'damaged',
      reason: fault ?? used?.reason ?? null,
      parent: pool.parentOf(record),
      depth: pool.chain(record.top).length,
      snapshots: pool.snapshots(record).map(snapshot => snapshotStatus(pool, snapshot)),
      checksumErrors: used?.checksumErrors ?? 0,
      mirror: used?.mirror ?? null,
    };
  }

  #poolStatus({ config, pool, reason }: PoolEntry, volumes: readonly VolumeStatus[]): PoolStatus {
    const own = volumes.filter(volume => volume.pool === config.name);
    return {
      name: config.name,
      directory: placeOf(config),
      state: pool === null ? 'error' : 'open',
      reason: pool === null ? reason : pool.problems.length === 0 ? null : pool.problems.join('; '),
      ...(pool === null ? { capacity_bytes: 0, free_bytes: 0 } : pool.space()),
      allocated_bytes: own.reduce((sum, volume) => sum + volume.allocated_bytes, 0),
      provisioned_bytes: own.reduce((sum, volume) => sum + volume.size_bytes, 0),
      volumeCount: own.length,
    };
  }

  #exportStatuses(): ExportStatus[] {
    const offered = [...this.#exports.values()].map((entry): ExportStatus => {
      const reason = this.#exportReason(entry);
      return {
        name: entry.config.name,
        state: reason === null ? 'listening' : 'error',
        reason,
        connectionCount: entry.counters[AT_EXPORT.connections]!,
        counters: spellCounters(EXPORT_COUNTERS, entry.counters),
      };
    });
    const refused = [...this.#refused].map(([name, reason]): ExportStatus => ({
      name,
      state: 'error',
      reason,
      connectionCount: 0,
      counters: {},
    }));
    return [...offered, ...refused];
  }

  #exportReason(entry: ExportEntry): string | null {
    if (entry.reason !== null) return entry.reason;
    const problems = entry.config.listen.map(listen => this.#nbd.problem(listen)).filter(one => one !== null);
    return problems.length === 0 ? null : problems.join('; ');
  }

  #problems(): Applied['problems'] {
    const pools = [...this.#pools.values()]
      .filter(entry => entry.pool === null)
      .map(entry => ({ pool: entry.config.name, export: null, reason: entry.reason ?? 'not open' }));
    const exports = this.#exportStatuses()
      .filter(status => status.state === 'error')
      .map(status => ({ pool: null, export: status.name, reason: status.reason ?? 'not offered' }));
    return [...pools, ...exports];
  }

  #tellChanges(): void {
    const at_ms = this.#parts.now_ms();
    for (const { config, pool, reason } of this.#pools.values()) {
      const state = pool === null ? 'error' : 'open';
      if (this.#isNews(`pool ${config.name}`, { state, reason }))
        this.#parts.onEvent({ type: 'pool', at_ms, pool: config.name, state, reason });
    }
    for (const { key, poolName, name, state, reason } of this.#used.all())
      if (this.#isNews(`volume ${key}`, { state, reason }))
        this.#parts.onEvent({ type: 'volume', at_ms, pool: poolName, volume: name, state, reason });
    for (const { name, state, reason } of this.#exportStatuses())
      if (this.#isNews(`export ${name}`, { state, reason }))
        this.#parts.onEvent({ type: 'export', at_ms, export: name, state, reason });
  }

  #isNews(key: string, now: Told): boolean {
    const before = this.#told.get(key);
    this.#told.set(key, now);
    return before === undefined || before.state !== now.state || before.reason !== now.reason;
  }
}

function leaseName(name: string): string {
  return `lease/${name}`;
}

function leaseExport(name: string, { pool, volume, snapshot, readOnly, path }: Lease): ExportConfig {
  return {
    ...{ name: leaseName(name), nbdName: name, pool, volume, readOnly, listen: [{ kind: 'unix', path }] },
    ...(snapshot === undefined ? {} : { snapshot }),
  };
}

/** Whether clients of the one can stay with the other. Listeners may differ. */
function sameService(one: ExportConfig, other: ExportConfig | undefined): boolean {
  return (
    other !== undefined &&
    one.nbdName === other.nbdName &&
    one.pool === other.pool &&
    one.volume === other.volume &&
    one.snapshot === other.snapshot &&
    one.readOnly === other.readOnly &&
    JSON.stringify(rulesOf(one)) === JSON.stringify(rulesOf(other))
  );
}
