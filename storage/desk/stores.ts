/**
 * Pools of all kinds as the desk holds them: directories of volumes, devices that are one volume, and other servers. One that
 * cannot be opened says why, and is tried again.
 */
import { placeOf, type PoolConfig, type PoolStatus, type RemoteExports } from '../contract.js';
import { DevicePool } from '../pool/device.js';
import { Pool } from '../pool/pool.js';
import { isSame, uuidOf } from '../pool/examine.js';
import { RemotePool } from '../remote/remotePool.js';
import { resolveHost } from '../remote/file.js';
import { listExports } from '../remote/session.js';
import type { NbdServer } from '../nbd/server.js';
import { readTls } from '../tls/files.js';
import { RENEW_MS, TlsWatch } from '../tls/watch.js';
import { StorageError } from '../volume/errors.js';
import type { UsedVolume } from './volumes.js';

const LOW_SPACE_PERCENT = 10;
/** Names of servers that answer are looked up again so often. */
const RESOLVE_MS = 60_000;

export class Store {
  config: PoolConfig;
  pool: Pool | null = null;
  device: DevicePool | null = null;
  remote: RemotePool | null = null;
  reason: string | null;
  #nbd: NbdServer;
  #reaching = false;
  /** Of another server, as they were told to the data thread. */
  #addresses = '';
  #resolvedAt_ms = -Infinity;
  #tls: TlsWatch | null = null;
  #readAt_ms = -Infinity;

  constructor(config: PoolConfig, reason: string | null, nbd: NbdServer) {
    this.config = config;
    this.reason = reason;
    this.#nbd = nbd;
  }

  get isOpen(): boolean {
    return this.pool !== null || this.device !== null || this.remote !== null;
  }

  get kind(): 'directory' | 'device' | 'remote' {
    if (this.config.remote !== undefined) return 'remote';
    return this.config.device === undefined ? 'directory' : 'device';
  }

  /** Whether these settings are those of another pool: then this one is to be closed first. */
  differs(config: PoolConfig): boolean {
    const essence = ({ directory, device, remote }: PoolConfig): string =>
      JSON.stringify([directory, device, remote]);
    return essence(this.config) !== essence(config);
  }

  /** Directories and devices. Throws StorageError, where another one has the same place or identity too. */
  open(now_ms: () => number, others: Iterable<Store>): void {
    const { directory, device } = this.config;
    for (const other of others) if (other !== this && other.isOpen) this.#requireOther(other);
    if (device !== undefined) this.device = new DevicePool(device);
    else this.pool = Pool.open(directory ?? '', now_ms);
    this.reason = null;
  }

  #requireOther(other: Store): void {
    const { kind, config } = this;
    if (other.kind !== kind) return;
    const place = placeOf(config);
    if (isSame(place, placeOf(other.config)))
      throw new StorageError('POOL_IN_USE', `${place} is the ${kind} of pool ${other.config.name} too`);
    if (other.pool !== null && uuidOf(place) === other.pool.uuid)
      throw new StorageError(
        'POOL_IN_USE',
        `${place} is a copy of pool ${other.config.name}, with the same uuid ${other.pool.uuid}: take one of them away, or make it a pool of its own: weft pool repair ${config.name} --new-identity`,
      );
  }

  /** Another server: its address, and the sizes of these exports, as far as it answers. Never rejects. */
  async reach(exportNames: readonly string[]): Promise<void> {
    const { remote } = this.config;
    if (remote === undefined || this.#reaching) return;
    this.#reaching = true;
    try {
      if (this.remote === null) {
        const { server, connections, patience_ms } = remote;
        // A path needs no looking up, and so this pool is open at once.
        if (server.kind === 'tcp') await this.#resolve();
        const serverName = server.kind === 'tcp' ? server.host : null;
        const { name } = this.config;
        this.#tls = remote.tls === undefined ? null : new TlsWatch('client', remote.tls, serverName);
        const tls = this.#tls?.opening ?? null;
        if (tls !== null) this.#nbd.remoteTls(name, tls);
        this.remote = new RemotePool({ name, server, tls, connections, patience_ms });
        this.reason = null;
      }
      const pool = this.remote;
      await Promise.all(exportNames.map(name => pool.learn(name)));
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.reason = error.message;
    } finally {
      this.#reaching = false;
    }
  }

  /**
   * Called every now and then: the name of another server is looked up again, at once when a volume of this machine is not well,
   * as the server may have moved; and files of certificates and keys. What is told then counts from the next connection on.
   */
  look(volumes: Iterable<UsedVolume>, now_ms: number): void {
    if (this.remote === null) return;
    this.#lookAtTls(this.remote, now_ms);
    if (this.#reaching) return;
    const away = [...volumes].some(({ users, state }) => users.size > 0 && state === 'degraded');
    if (now_ms - this.#resolvedAt_ms < (away ? 0 : RESOLVE_MS)) return;
    this.#resolvedAt_ms = now_ms;
    this.#reaching = true;
    // A name that is not found now keeps the addresses it had.
    void this.#resolve()
      .catch(() => undefined)
      .finally(() => (this.#reaching = false));
  }

  #lookAtTls(pool: RemotePool, now_ms: number): void {
    const tls = this.#tls;
    if (tls === null || now_ms - this.#readAt_ms < RENEW_MS) return;
    this.#readAt_ms = now_ms;
    if (!tls.look()) return;
    pool.renewTls(tls.opening);
    this.#nbd.remoteTls(this.config.name, tls.opening);
  }

  /** Its export is told to be so long: a volume that is nothing but that grows with it. */
  exportIs(used: UsedVolume, size_bytes: number | null): void {
    const { exportName, volumeId } = used;
    if (size_bytes === null || exportName === null) return;
    if (this.remote?.grew(exportName, size_bytes) === true) this.#nbd.growVolume(volumeId, size_bytes);
  }

  async #resolve(): Promise<void> {
    const server = this.config.remote?.server;
    if (server?.kind !== 'tcp') return;
    const addresses = await resolveHost(server.host);
    // Told in the order of the answer, which some name servers turn each time: only other addresses are news.
    const key = addresses.toSorted().join(' ');
    if (key === this.#addresses) return;
    this.#addresses = key;
    this.#nbd.hostAddresses(server.host, addresses);
  }

  /** What its server offers now. Throws POOL_KIND where there is none, REMOTE_… where it does not say. */
  async exports(): Promise<RemoteExports> {
    const { remote, name } = this.config;
    if (remote === undefined)
      throw new StorageError('POOL_KIND', `pool ${name} is no other server: its volumes are what it has`);
    const { server } = remote;
    const serverName = server.kind === 'tcp' ? server.host : null;
    const tls = remote.tls === undefined ? null : readTls(remote.tls, serverName);
    const { exports, isCut } = await listExports(server, tls);
    return { exports: [...exports], isCut };
  }

  async close(): Promise<void> {
    await this.pool?.close();
    this.device?.close();
    this.pool = null;
    this.device = null;
    this.remote = null;
    this.#tls = null;
  }

  /** Throws: it is not open, or keeps no volumes of ours. */
  directory(): Pool {
    if (this.pool !== null) return this.pool;
    const { name } = this.config;
    if (!this.isOpen)
      throw new StorageError('POOL_IO', `pool ${name} is not open: ${this.reason ?? 'not yet'}`);
    throw new StorageError(
      'POOL_KIND',
      `pool ${name} is a ${this.kind === 'device' ? 'device' : 'server of others'}: its volume is as it is, without snapshots, and is neither made nor destroyed here`,
    );
  }

  /** Throws VOLUME_NO_SPACE where so many more bytes would be promised beyond what the configuration allows. */
  requireRoom(more_bytes: number): void {
    const { overcommitMax, name } = this.config;
    if (overcommitMax === undefined || more_bytes <= 0) return;
    const pool = this.directory();
    const promised_bytes = pool.names().reduce((sum, volume) => sum + pool.require(volume).size_bytes, 0);
    const limit_bytes = overcommitMax * pool.space().capacity_bytes;
    if (promised_bytes + more_bytes <= limit_bytes) return;
    throw new StorageError(
      'VOLUME_NO_SPACE',
      `pool ${name} has promised ${promised_bytes} bytes and may promise ${Math.floor(limit_bytes)} (overcommit ${overcommitMax}): ${more_bytes} more are too many`,
    );
  }

  /** `own` are the volumes of this pool. */
  status(own: readonly { allocated_bytes: number; size_bytes: number }[]): PoolStatus {
    const { config, pool, device } = this;
    const space = pool?.space() ?? device?.space() ?? { capacity_bytes: 0, free_bytes: 0 };
    const problems = pool?.problems ?? [];
    const low = config.lowSpace_percent ?? LOW_SPACE_PERCENT;
    const isLow = pool !== null && space.free_bytes * 100 < low * space.capacity_bytes;
    const words = [...problems];
    if (isLow) words.unshift(`less than ${low} % of its file system is free: make room, or writes will fail`);
    if (this.#tls !== null && this.#tls.reason !== null)
      words.push(`it goes on with the certificates and keys that it had: ${this.#tls.reason}`);
    return {
      name: config.name,
      directory: placeOf(config),
      kind: this.kind,
      state: !this.isOpen ? 'error' : isLow ? 'low' : 'open',
      reason: !this.isOpen ? this.reason : words.length === 0 ? null : words.join('; '),
      capacity_bytes: space.capacity_bytes,
      free_bytes: space.free_bytes,
      allocated_bytes: own.reduce((sum, volume) => sum + volume.allocated_bytes, 0),
      provisioned_bytes: own.reduce((sum, volume) => sum + volume.size_bytes, 0),
      volumeCount: own.length,
      problems,
    };
  }
}
