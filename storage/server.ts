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
  Diff,
  ExportConfig,
  ExportStatus,
  Lease,
  MirrorAtRest,
  RemoteExports,
  RepairReport,
  RepairRequest,
  SnapshotRequest,
  SnapshotStatus,
  StorageConfig,
  StorageEvent,
  StorageStatus,
  VolumeConfig,
  VolumeSpec,
  VolumeStatus,
} from './contract.js';
import { placeOf } from './contract.js';
import { PoolDesk } from './jobs/poolDesk.js';
import { Jobs } from './jobs/server.js';
import { readTls } from './tls/files.js';
import { conflictsOf } from './conflicts.js';
import { AT_EXPORT, EXPORT_COUNTERS, SERVER_COUNTERS, newCounters, spellCounters } from './nbd/counters.js';
import type { VolumeTold } from './nbd/messages.js';
import { limitsOf, rulesOf } from './openings.js';
import { NbdServer } from './nbd/server.js';
import { StorageError } from './volume/errors.js';
import type { Pool } from './pool/pool.js';
import type { VolumeRecord } from './pool/catalog.js';
import { jobHost } from './desk/jobs.js';
import { leaseExport, leaseName, refusedStatus, sameService } from './desk/exports.js';
import { Operations, snapshotStatus } from './desk/operations.js';
import { busyJobs, repairStore } from './desk/repairs.js';
import { Store } from './desk/stores.js';
import { diffOf } from './desk/diff.js';
import { Telling } from './desk/telling.js';
import { statusAsItIs, volumeStatus } from './desk/statuses.js';
import { UsedVolumes, volumeKey, type UsedVolume } from './desk/volumes.js';

/** Pools that could not be opened are tried again so often. */
const RETRY_MS = 2000;

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

export class StorageServer {
  generation = -1;
  #parts: StorageServerParts;
  #nbd: NbdServer;
  #pools = new Map<string, Store>();
  #settings = new Map<string, VolumeConfig>();
  #used: UsedVolumes;
  #operations: Operations;
  readonly jobs: Jobs;
  #leases = new Map<string, Lease>();
  #exports = new Map<string, ExportEntry>();
  #wish: readonly ExportConfig[] = [];
  #refused = new Map<string, string>();
  #telling: Telling;
  #work: Promise<unknown> = Promise.resolve();
  #retry: NodeJS.Timeout;
  #stopping = false;

  constructor(parts: StorageServerParts) {
    this.#parts = parts;
    this.#telling = new Telling(parts.now_ms, parts.onEvent);
    this.#nbd = new NbdServer(
      {
        volumeState: told => this.#volumeState(told),
        listenerChanged: () => void this.#inTurn(() => this.#tellChanges()),
        tlsFailed: (at, peer, reason, others) =>
          parts.log('a client did not begin TLS', { at, peer, reason, others }),
        threadGone: parts.threadGone,
      },
      { ioUring: parts.ioUring },
    );
    this.#used = new UsedVolumes({
      nbd: this.#nbd,
      store: name => this.#store(name),
      settings: (pool, volume) => this.#settings.get(volumeKey(pool, volume)),
    });
    this.#operations = new Operations({
      nbd: this.#nbd,
      used: this.#used,
      poolOf: name => this.#openPool(name),
      clients: (pool, volume) => this.#clientsOf(pool, volume),
      exportOf: (pool, volume) => this.#exportOf(pool, volume),
      isMirrored: (pool, volume) => this.#settings.get(volumeKey(pool, volume))?.mirror !== undefined,
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
      keyFile: (pool, volume) => this.#settings.get(volumeKey(pool, volume))?.encryption?.keyFile,
    });
    this.jobs = new Jobs(new PoolDesk(host), {
      now_ms: parts.now_ms,
      onJob: job => parts.onEvent({ type: 'job', at_ms: parts.now_ms(), job }),
      log: parts.log,
    });
    this.#retry = setInterval(() => {
      for (const store of this.#pools.values()) store.look(this.#used.all(), parts.now_ms());
      if (this.#isIncomplete()) void this.#inTurn(() => this.#settle());
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
        const store = this.#pools.get(pool.name);
        if (store === undefined) this.#pools.set(pool.name, new Store(pool, reason, this.#nbd));
        else store.config = pool;
      }
      this.#takeSettings(config.volumes ?? []);
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
      this.#store(poolName).requireRoom(spec.size_bytes - (before ?? 0));
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
      this.#telling.forget('volume', volumeKey(poolName, volumeName));
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
      this.#telling.forget('volume', volumeKey(poolName, volumeName));
      this.#settle(wanted => wanted.pool === poolName && wanted.volume === to);
      return this.#volumeStatus(poolName, record);
    });
  }

  /** Also of a pool that cannot be opened. See desk/repairs.ts. */
  repairPool(name: string, request: RepairRequest): Promise<RepairReport> {
    return this.#inTurn(() => {
      const store = this.#configured(name);
      const users = [...this.#exports.values()].filter(one => this.#touches(one.config, name));
      const close = async (): Promise<void> => {
        await Promise.all(users.map(entry => this.#drop(entry)));
        await this.#closePools([name]);
        this.#pools.set(name, new Store(store.config, null, this.#nbd));
      };
      const busy = (): string[] => [
        ...users.filter(one => one.counters[AT_EXPORT.connections]! > 0).map(one => one.config.name),
        ...busyJobs(this.jobs.list(), name),
      ];
      const { now_ms } = this.#parts;
      return repairStore({ store, now_ms, busy, close, reopen: () => this.#settle() }, request);
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

  mirrorAtRest(pool: string, volume: string, secondPool: string): Promise<MirrorAtRest> {
    return this.#inTurn(() => this.#operations.mirrorAtRest(pool, volume, secondPool));
  }

  diff(pool: string, volume: string, from: string | null, to: string | null, offset_bytes: number): Diff {
    return diffOf(this.#openPool(pool), volume, from, to, offset_bytes);
  }

  endLease(name: string): Promise<void> {
    return this.#inTurn(() => this.#endLease(name));
  }

  /** What the server behind a pool offers; not in turn, since it may take long to answer. */
  remoteExports(poolName: string): Promise<RemoteExports> {
    return this.#configured(poolName).exports();
  }

  volumesOf(poolName: string): VolumeStatus[] {
    return this.#statusesOf(this.#store(poolName));
  }

  status(): StorageStatus {
    const stores = [...this.#pools.values()].map(store => ({ store, volumes: this.#statusesOf(store) }));
    return {
      generation: this.generation,
      pools: stores.map(({ store, volumes }) => store.status(volumes)),
      volumes: stores.flatMap(({ volumes }) => volumes),
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
    const pools = new Map(config.pools.map(pool => [pool.name, pool]));
    const closing = [...this.#pools.values()]
      .filter(store => {
        const wanted = pools.get(store.config.name);
        return wanted === undefined || store.differs(wanted);
      })
      .map(store => store.config.name);
    const settings = new Map((config.volumes ?? []).map(one => [volumeKey(one.pool, one.name), one]));
    const leases = [...this.#leases].map(([name, lease]) => leaseExport(name, lease));
    const wanted = new Map([...config.exports, ...leases].map(one => [one.name, one]));
    const dropped = [...this.#exports.values()].filter(
      entry =>
        closing.includes(entry.config.pool) ||
        this.#opensOtherwise(entry.config, settings) ||
        !sameService(entry.config, wanted.get(entry.config.name)),
    );
    await Promise.all(dropped.map(entry => this.#drop(entry)));
    return closing;
  }

  async #drop(entry: ExportEntry): Promise<void> {
    const { name } = entry.config;
    this.#exports.delete(name);
    this.#telling.forget('export', name);
    if (!entry.offered) return;
    await this.#nbd.withdraw(entry.exportId);
    this.#parts.log('export withdrawn', { export: name });
    if (entry.used !== null) await this.#used.leave(entry.used, name);
  }

  async #closePools(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await this.#pools.get(name)?.close();
      this.#pools.delete(name);
      this.#telling.forget('pool', name);
    }
  }

  /** Does what is missing towards the wish, and tells what changed. Never throws for what is not ours to mend. */
  #settle(which: ((wanted: ExportConfig) => boolean) | null = null): void {
    if (this.#stopping) return;
    for (const store of this.#pools.values()) this.#tryPool(store);
    const touched = this.#wished()
      .filter(which ?? (() => true))
      .map(wanted => {
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
        return entry;
      });
    this.#tellChanges(which === null ? null : touched);
  }

  #tryPool(store: Store): void {
    if (store.kind === 'remote') return this.#reach(store);
    if (store.isOpen) return;
    const place = placeOf(store.config);
    try {
      store.open(this.#parts.now_ms, this.#pools.values());
      this.jobs.look();
      const { uuid, problems } = store.pool ?? {};
      this.#parts.log('pool open', { pool: store.config.name, kind: store.kind, place, uuid, problems });
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      store.reason = error.message;
    }
  }

  /** Asks another server for what is not known of its exports; not in turn, since it may take long to answer. */
  #reach(store: Store): void {
    const unknown = [...this.#settings.values()]
      .filter(one => one.pool === store.config.name)
      .map(one => one.remoteName ?? one.name)
      .filter(name => (store.remote?.size_bytes(name) ?? null) === null);
    if (store.isOpen && unknown.length === 0) return;
    void store.reach(unknown).then(() => {
      const isKnown = unknown.some(name => (store.remote?.size_bytes(name) ?? null) !== null);
      return isKnown
        ? this.#inTurn(() => this.#settle(wanted => wanted.pool === store.config.name))
        : undefined;
    });
  }

  /** Limits count at once; how a volume is opened otherwise, counts when it is opened. */
  #takeSettings(volumes: readonly VolumeConfig[]): void {
    this.#settings = new Map(volumes.map(one => [volumeKey(one.pool, one.name), one]));
    for (const used of this.#used.all())
      if (used.users.size > 0)
        this.#nbd.limitVolume(used.volumeId, limitsOf(this.#settings.get(used.key)?.limits));
  }

  #opensOtherwise({ pool, volume }: ExportConfig, settings: ReadonlyMap<string, VolumeConfig>): boolean {
    const essence = (one: VolumeConfig | undefined): string =>
      JSON.stringify([one?.encryption, one?.mirror, one?.remoteName]);
    const key = volumeKey(pool, volume);
    return essence(this.#settings.get(key)) !== essence(settings.get(key));
  }

  /** Something that is wanted may be had later. */
  #isIncomplete(): boolean {
    return (
      [...this.#pools.values()].some(store => !store.isOpen) ||
      [...this.#settings.values()].some(
        ({ pool, name, remoteName }) =>
          this.#pools.get(pool)?.remote?.size_bytes(remoteName ?? name) === null,
      )
    );
  }

  #tryExport(entry: ExportEntry): void {
    const { name, nbdName, pool, volume, snapshot, readOnly, listen } = entry.config;
    try {
      entry.used = this.#used.use(pool, volume, snapshot ?? null, name);
      this.#nbd.offer({
        exportId: entry.exportId,
        nbdName,
        volumeId: entry.used.volumeId,
        readOnly: readOnly || snapshot !== undefined || !entry.used.writable,
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

  /** It uses a volume of this pool, if only as the second side of a mirror. */
  #touches({ pool, volume }: ExportConfig, name: string): boolean {
    return pool === name || this.#settings.get(volumeKey(pool, volume))?.mirror?.pool === name;
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

  #configured(name: string): Store {
    const store = this.#pools.get(name);
    if (store !== undefined) return store;
    throw new StorageError('POOL_UNKNOWN', `there is no pool ${name} in the configuration`);
  }

  #store(name: string): Store {
    const store = this.#configured(name);
    if (!store.isOpen)
      throw new StorageError('POOL_IO', `pool ${name} is not open: ${store.reason ?? 'not yet'}`);
    return store;
  }

  /** Of a directory. */
  #openPool(name: string): Pool {
    return this.#store(name).directory();
  }

  #volumeState(told: VolumeTold): void {
    const used = this.#used.byId(told.volumeId);
    if (used === undefined) return;
    const { state, reason, checksumErrors, mirror } = told;
    used.state = state;
    used.reason = reason;
    used.checksumErrors = checksumErrors;
    used.mirror = mirror;
    used.store.exportIs(used, told.serverSize_bytes);
    this.#parts.log(`volume is ${state}`, { pool: used.poolName, volume: used.name, reason, checksumErrors });
    this.#telling.volume(used);
  }

  #volumeStatus(poolName: string, record: VolumeRecord): VolumeStatus {
    return volumeStatus(this.#store(poolName), record, this.#used.get(poolName, record.name));
  }

  #statusesOf(store: Store): VolumeStatus[] {
    const { pool, config } = store;
    if (pool !== null) return pool.names().map(name => this.#volumeStatus(config.name, pool.require(name)));
    return [...this.#settings.values()]
      .filter(one => one.pool === config.name)
      .flatMap(one => statusAsItIs(store, one, this.#used.get(one.pool, one.name)));
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
    return [...offered, ...[...this.#refused].map(([name, reason]) => refusedStatus(name, reason))];
  }

  /** Of these, null: of all, also of those that were refused: why each cannot be had; null: it can. */
  #exportReasons(touched: readonly ExportEntry[] | null = null): [string, string | null][] {
    const entries = touched ?? [...this.#exports.values()];
    const offered = entries.map(
      entry => [entry.config.name, this.#exportReason(entry)] as [string, string | null],
    );
    return touched === null ? [...offered, ...this.#refused] : offered;
  }

  #exportReason(entry: ExportEntry): string | null {
    if (entry.reason !== null) return entry.reason;
    const problems = entry.config.listen.map(listen => this.#nbd.problem(listen)).filter(one => one !== null);
    return problems.length === 0 ? null : problems.join('; ');
  }

  #problems(): Applied['problems'] {
    const pools = [...this.#pools.values()]
      .filter(store => !store.isOpen)
      .map(entry => ({ pool: entry.config.name, export: null, reason: entry.reason ?? 'not open' }));
    const exports = this.#exportReasons().flatMap(([name, reason]) =>
      reason === null ? [] : [{ pool: null, export: name, reason }],
    );
    return [...pools, ...exports];
  }

  /** Of pools, and of these exports and their volumes; null: of all. */
  #tellChanges(touched: readonly ExportEntry[] | null = null): void {
    for (const store of this.#pools.values()) this.#telling.pool(store);
    for (const used of touched === null ? this.#used.all() : touched.flatMap(entry => entry.used ?? []))
      this.#telling.volume(used);
    for (const [name, reason] of this.#exportReasons(touched)) this.#telling.export(name, reason);
  }
}
