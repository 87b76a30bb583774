/**
 * Volumes that are open in the data thread, and who uses them: exports, and operations that need one open for a moment. A
 * volume is opened for its first user and closed after its last.
 */
import type { LayerOpening, LayersOpening } from '../volume/opening.js';
import type { NbdServer } from '../nbd/server.js';
import type { VolumeRecord } from '../pool/catalog.js';
import type { Pool } from '../pool/pool.js';
import { StorageError } from '../volume/errors.js';
import type { MirrorStatus } from '../volume/mirrorParts.js';
import type { VolumeState } from '../volume/volume.js';

export interface UsedVolume {
  readonly key: string;
  readonly poolName: string;
  readonly pool: Pool;
  /** Of the volume record: it may be renamed, never exchanged. */
  readonly uuid: string;
  name: string;
  /** It is this snapshot of it. */
  readonly snapshot: string | null;
  volumeId: number;
  readonly users: Set<string>;
  layers: LayerOpening[];
  state: VolumeState;
  reason: string | null;
  checksumErrors: number;
  mirror: MirrorStatus | null;
}

export function volumeKey(pool: string, volume: string, snapshot: string | null = null): string {
  return snapshot === null ? `${pool}/${volume}` : `${pool}/${volume}@${snapshot}`;
}

export class UsedVolumes {
  readonly #nbd: NbdServer;
  readonly #poolOf: (name: string) => Pool;
  #volumes = new Map<string, UsedVolume>();

  constructor(nbd: NbdServer, poolOf: (name: string) => Pool) {
    this.#nbd = nbd;
    this.#poolOf = poolOf;
  }

  /** Known since this process began; it need not be open. */
  get(pool: string, volume: string, snapshot: string | null = null): UsedVolume | undefined {
    return this.#volumes.get(volumeKey(pool, volume, snapshot));
  }

  isOpen(pool: string, volume: string): boolean {
    return (this.get(pool, volume)?.users.size ?? 0) > 0;
  }

  all(): IterableIterator<UsedVolume> {
    return this.#volumes.values();
  }

  byId(volumeId: number): UsedVolume | undefined {
    for (const used of this.#volumes.values()) if (used.volumeId === volumeId) return used;
    return undefined;
  }

  /** Throws StorageError. */
  use(poolName: string, name: string, snapshot: string | null, user: string): UsedVolume {
    const pool = this.#poolOf(poolName);
    const record = pool.require(name);
    const fault = pool.fault(name);
    if (fault !== null) throw new StorageError('VOLUME_DAMAGED', `volume ${name}: ${fault}`);
    const key = volumeKey(poolName, name, snapshot);
    let used = this.#volumes.get(key);
    if (used === undefined || used.uuid !== record.uuid) {
      used = {
        key,
        poolName,
        pool,
        uuid: record.uuid,
        name,
        snapshot,
        volumeId: 0,
        users: new Set<string>(),
        layers: [],
        state: 'ok',
        reason: null,
        checksumErrors: 0,
        mirror: null,
      };
      this.#volumes.set(key, used);
    }
    if (used.users.size === 0) this.#open(used, record);
    used.users.add(user);
    return used;
  }

  async leave(used: UsedVolume, user: string): Promise<void> {
    if (!used.users.delete(user) || used.users.size > 0) return;
    await this.#nbd.closeVolume(used.volumeId);
    this.#release(used, used.layers);
    used.layers = [];
    if (used.state === 'full') used.state = 'ok';
    used.pool.collect();
  }

  /** What its pool says of the volume as it is now, with these layers. */
  opening(used: UsedVolume, record: VolumeRecord, layers: readonly LayerOpening[]): LayersOpening {
    return used.pool.opening(record, layers, quotaLeft_bytes(used.pool, record));
  }

  /** Layers that are used no more. */
  #release(used: UsedVolume, layers: readonly LayerOpening[]): void {
    for (const { uuid } of layers) used.pool.release(uuid);
  }

  /** Takes other layers: what is in both stays open, what is new was acquired by the caller. */
  exchange(used: UsedVolume, layers: LayerOpening[]): void {
    const before = used.layers;
    used.layers = layers;
    this.#release(used, before);
    used.pool.collect();
  }

  forget(used: UsedVolume): void {
    this.#volumes.delete(used.key);
  }

  #open(used: UsedVolume, record: VolumeRecord): void {
    // A new object for the same file would know nothing of what was lost.
    if (used.state === 'failed')
      throw new StorageError('VOLUME_DAMAGED', `volume ${used.name}: ${used.reason ?? 'it has failed'}`);
    const { pool, snapshot } = used;
    const named = snapshot === null ? null : pool.requireSnapshot(record, snapshot);
    used.layers = pool.acquireChain(named?.layer ?? record.top);
    used.volumeId = this.#nbd.newId();
    used.checksumErrors = 0;
    const opening = this.opening(used, record, used.layers);
    const base: LayersOpening =
      named === null ? opening : { ...opening, size_bytes: named.size_bytes, writable: false };
    this.#nbd.openVolume(used.volumeId, { base, encryptionKey: null, limits: null });
  }
}

/** What its layers and its snapshots' may still allocate; shared layers count for whom they were made. */
function quotaLeft_bytes(pool: Pool, record: VolumeRecord): number {
  if (record.quota_bytes === null) return Infinity;
  return Math.max(0, record.quota_bytes - allocated_bytes(pool, record));
}

/** Of all layers that the volume or a snapshot of it reaches, down to what it was cloned from. */
export function allocated_bytes(pool: Pool, record: VolumeRecord): number {
  const own = new Set<string>();
  for (const root of [record.top, ...pool.snapshots(record).map(({ layer }) => layer)])
    for (const { uuid, createdAt_ms } of pool.chain(root))
      if (createdAt_ms >= record.createdAt_ms) own.add(uuid);
  let sum = 0;
  for (const uuid of own) sum += pool.allocated_bytes(uuid);
  return sum;
}
