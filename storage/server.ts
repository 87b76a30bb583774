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
  PoolConfig,
  PoolStatus,
  StorageConfig,
  StorageEvent,
  StorageStatus,
  VolumeStatus,
} from './contract.js';
import { placeOf } from './contract.js';
import { conflictsOf } from './conflicts.js';
import { AT_EXPORT, EXPORT_COUNTERS, SERVER_COUNTERS, newCounters, spellCounters } from './nbd/counters.js';
import { NbdServer } from './nbd/server.js';
import { StorageError } from './volume/errors.js';
import { Pool, type PoolVolume } from './pool/pool.js';
import type { VolumeState } from './volume/volume.js';

/** Pools that could not be opened are tried again so often. */
const RETRY_MS = 2000;

interface PoolEntry {
  readonly config: PoolConfig;
  pool: Pool | null;
  reason: string | null;
}

/** A volume that is in use, or was, since this process began. */
interface VolumeEntry {
  readonly pool: string;
  readonly name: string;
  volumeId: number;
  /** Names of the exports that are offered on it. */
  readonly users: Set<string>;
  state: VolumeState;
  reason: string | null;
}

interface ExportEntry {
  readonly config: ExportConfig;
  readonly exportId: number;
  readonly counters: Float64Array;
  offered: boolean;
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
  #volumes = new Map<string, VolumeEntry>();
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
        volumeState: (volumeId, state, reason) => this.#volumeState(volumeId, state, reason),
        listenerChanged: () => void this.#inTurn(() => this.#tellChanges()),
        threadGone: parts.threadGone,
      },
      { ioUring: parts.ioUring },
    );
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
      await this.#nbd.keepListeners(this.#wish.flatMap(wanted => wanted.listen));
      this.#settle();
      this.generation = config.generation;
      return { generation: config.generation, problems: this.#problems() };
    });
  }

  ensureVolume(poolName: string, volumeName: string, size_bytes: number): Promise<VolumeStatus> {
    return this.#inTurn(() => {
      const pool = this.#openPool(poolName);
      const before = pool.volume(volumeName);
      const volume = pool.ensure(volumeName, size_bytes);
      const entry = this.#volumes.get(volumeKey(poolName, volumeName));
      if (entry !== undefined && entry.users.size > 0)
        this.#nbd.growVolume(entry.volumeId, volume.size_bytes);
      if (before?.size_bytes !== volume.size_bytes)
        this.#parts.log(before === null ? 'volume made' : 'volume grown', {
          pool: poolName,
          volume: volumeName,
          size_bytes: volume.size_bytes,
        });
      // Exports may have waited for it.
      if (before === null) this.#settle(wanted => wanted.pool === poolName && wanted.volume === volumeName);
      return this.#volumeStatus(poolName, volume);
    });
  }

  destroyVolume(poolName: string, volumeName: string): Promise<void> {
    return this.#inTurn(() => {
      const pool = this.#openPool(poolName);
      pool.require(volumeName);
      const user = this.#wish.find(wanted => wanted.pool === poolName && wanted.volume === volumeName);
      if (user !== undefined)
        throw new StorageError(
          'VOLUME_EXPORTED',
          `volume ${volumeName} of pool ${poolName} is exported as ${user.name}: remove that export first`,
        );
      pool.destroy(volumeName);
      this.#volumes.delete(volumeKey(poolName, volumeName));
      this.#told.delete(`volume ${volumeKey(poolName, volumeName)}`);
      this.#parts.log('volume destroyed', { pool: poolName, volume: volumeName });
    });
  }

  volumesOf(poolName: string): VolumeStatus[] {
    return this.#openPool(poolName)
      .volumes()
      .map(volume => this.#volumeStatus(poolName, volume));
  }

  status(): StorageStatus {
    const volumes = [...this.#pools.values()].flatMap(({ config, pool }) =>
      pool === null ? [] : pool.volumes().map(volume => this.#volumeStatus(config.name, volume)),
    );
    return {
      generation: this.generation,
      pools: [...this.#pools.values()].map(entry => this.#poolStatus(entry, volumes)),
      volumes,
      exports: this.#exportStatuses(),
      server: spellCounters(SERVER_COUNTERS, this.#nbd.serverCounters),
    };
  }

  /** Drains, flushes, closes. */
  stop(): Promise<void> {
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
    const wanted = new Map(config.exports.map(one => [one.name, one]));
    const dropped = [...this.#exports.values()].filter(
      entry =>
        closing.includes(entry.config.pool) || !sameService(entry.config, wanted.get(entry.config.name)),
    );
    await Promise.all(dropped.map(entry => this.#drop(entry)));
    return closing;
  }

  async #drop(entry: ExportEntry): Promise<void> {
    const { name, pool, volume } = entry.config;
    this.#exports.delete(name);
    this.#told.delete(`export ${name}`);
    if (!entry.offered) return;
    await this.#nbd.withdraw(entry.exportId);
    this.#parts.log('export withdrawn', { export: name });
    const used = this.#volumes.get(volumeKey(pool, volume))!;
    used.users.delete(name);
    if (used.users.size > 0) return;
    await this.#nbd.closeVolume(used.volumeId);
    this.#pools.get(pool)?.pool?.release(volume);
    if (used.state === 'full') used.state = 'ok';
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
    for (const wanted of this.#wish) {
      if (!which(wanted)) continue;
      const before = this.#exports.get(wanted.name);
      const entry: ExportEntry = {
        config: wanted,
        exportId: before?.exportId ?? this.#nbd.newId(),
        counters: before?.counters ?? newCounters(EXPORT_COUNTERS),
        offered: before?.offered ?? false,
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
    const { name, nbdName, pool: poolName, volume: volumeName, readOnly, listen } = entry.config;
    try {
      const used = this.#use(poolName, volumeName, name);
      this.#nbd.offer({
        exportId: entry.exportId,
        nbdName,
        volumeId: used.volumeId,
        readOnly,
        counters: entry.counters,
        listen,
      });
      entry.offered = true;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      entry.reason = error.message;
    }
  }

  /** The volume, open in the data thread. */
  #use(poolName: string, volumeName: string, exportName: string): VolumeEntry {
    const pool = this.#openPool(poolName);
    const { size_bytes } = pool.require(volumeName);
    const key = volumeKey(poolName, volumeName);
    let entry = this.#volumes.get(key);
    if (entry === undefined) {
      entry = { pool: poolName, name: volumeName, volumeId: 0, users: new Set(), state: 'ok', reason: null };
      this.#volumes.set(key, entry);
    }
    if (entry.users.size === 0) {
      // A new object for the same file would know nothing of what was lost.
      if (entry.state === 'failed')
        throw new StorageError('VOLUME_DAMAGED', `volume ${volumeName}: ${entry.reason}`);
      entry.volumeId = this.#nbd.newId();
      const base = { kind: 'file', fd: pool.acquire(volumeName), size_bytes, writable: true } as const;
      this.#nbd.openVolume(entry.volumeId, { base, encryptionKey: null, limits: null });
    }
    entry.users.add(exportName);
    return entry;
  }

  #openPool(name: string): Pool {
    const entry = this.#pools.get(name);
    if (entry === undefined)
      throw new StorageError('POOL_UNKNOWN', `there is no pool ${name} in the configuration`);
    if (entry.pool === null) throw new StorageError('POOL_IO', `pool ${name} is not open: ${entry.reason}`);
    return entry.pool;
  }

  #volumeState(volumeId: number, state: VolumeState, reason: string | null): void {
    const entry = [...this.#volumes.values()].find(one => one.volumeId === volumeId);
    if (entry === undefined) return;
    entry.state = state;
    entry.reason = reason;
    this.#parts.log(`volume is ${state}`, { pool: entry.pool, volume: entry.name, reason });
    this.#tellChanges();
  }

  #volumeStatus(poolName: string, volume: PoolVolume): VolumeStatus {
    const entry = this.#volumes.get(volumeKey(poolName, volume.name));
    return { pool: poolName, ...volume, state: entry?.state ?? 'ok', reason: entry?.reason ?? null };
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
    for (const [key, { pool, name, state, reason }] of this.#volumes)
      if (this.#isNews(`volume ${key}`, { state, reason }))
        this.#parts.onEvent({ type: 'volume', at_ms, pool, volume: name, state, reason });
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

function volumeKey(pool: string, volume: string): string {
  return `${pool}/${volume}`;
}

/** Whether clients of the one can stay with the other. Listeners may differ. */
function sameService(one: ExportConfig, other: ExportConfig | undefined): boolean {
  return (
    other !== undefined &&
    one.nbdName === other.nbdName &&
    one.pool === other.pool &&
    one.volume === other.volume &&
    one.readOnly === other.readOnly
  );
}
