/**
 * Volumes that are open in the data thread, and who uses them: exports, and operations that need one open for a moment. A
 * volume is opened for its first user and closed after its last.
 */
import { createHash } from 'node:crypto';
import type { LayerOpening, LayersOpening, MirrorOpening, SingleOpening } from '../volume/opening.js';
import { placeOf, type VolumeConfig } from '../contract.js';
import { limitsOf } from '../openings.js';
import { JOURNAL_BYTES } from '../volume/mirrorJournal.js';
import { keyOf } from './keys.js';
import type { Store } from './stores.js';
import { newCounters } from '../nbd/counters.js';
import type { NbdServer } from '../nbd/server.js';
import type { VolumeRecord } from '../pool/catalog.js';
import type { Pool } from '../pool/pool.js';
import { StorageError } from '../volume/errors.js';
import type { MirrorStatus } from '../volume/mirrorParts.js';
import type { VolumeState } from '../volume/volume.js';

export class UsedVolume {
  readonly key: string;
  readonly store: Store;
  /** Of the volume's record, or that of its pool's place: it may be renamed, never exchanged. */
  readonly uuid: string;
  name: string;
  /** It is this snapshot of it. */
  readonly snapshot: string | null;
  volumeId = 0;
  readonly users = new Set<string>();
  /** Of a volume that is an export of another server. */
  exportName: string | null = null;
  /** Of its chain, the newest first; none for what is no directory's. */
  layers: LayerOpening[] = [];
  /** The second side of its mirror, where it has layers too. */
  second: SecondSide | null = null;
  /** What else is to be let go of when it is closed. */
  others: (() => void)[] = [];
  state: VolumeState = 'ok';
  reason: string | null = null;
  checksumErrors = 0;
  /** What is offered of it may be written: not where a part of it is lost. */
  writable = true;
  mirror: MirrorStatus | null = null;
  /** See VolumeOpening. */
  readonly throttled = newCounters(['count', 'ms']);

  constructor(key: string, store: Store, uuid: string, name: string, snapshot: string | null) {
    this.key = key;
    this.store = store;
    this.uuid = uuid;
    this.name = name;
    this.snapshot = snapshot;
  }

  get poolName(): string {
    return this.store.config.name;
  }

  /** Throws for what is no directory's. */
  get pool(): Pool {
    return this.store.directory();
  }
}

export interface SecondSide {
  readonly pool: Pool;
  readonly name: string;
  layers: LayerOpening[];
}

export interface UsedVolumesParts {
  readonly nbd: NbdServer;
  /** Throws where it is not in the configuration. */
  readonly store: (pool: string) => Store;
  readonly settings: (pool: string, volume: string) => VolumeConfig | undefined;
}

export function volumeKey(pool: string, volume: string, snapshot: string | null = null): string {
  return snapshot === null ? `${pool}/${volume}` : `${pool}/${volume}@${snapshot}`;
}

export class UsedVolumes {
  #parts: UsedVolumesParts;
  #volumes = new Map<string, UsedVolume>();
  /** Those that are open, and were since they were opened last. */
  #byId = new Map<number, UsedVolume>();
  /** Volumes that are the second side of a mirror now, and whose. */
  #sides = new Map<string, string>();

  constructor(parts: UsedVolumesParts) {
    this.#parts = parts;
  }

  /** Known since this process began; it need not be open. */
  get(pool: string, volume: string, snapshot: string | null = null): UsedVolume | undefined {
    return this.#volumes.get(volumeKey(pool, volume, snapshot));
  }

  isOpen(pool: string, volume: string): boolean {
    return (this.get(pool, volume)?.users.size ?? 0) > 0;
  }

  /** The open volume of whose mirror it is the second side now. */
  mirrorOf(pool: string, volume: string): UsedVolume | undefined {
    const first = this.#sides.get(volumeKey(pool, volume));
    return first === undefined ? undefined : this.#volumes.get(first);
  }

  all(): IterableIterator<UsedVolume> {
    return this.#volumes.values();
  }

  byId(volumeId: number): UsedVolume | undefined {
    return this.#byId.get(volumeId);
  }

  /** Throws StorageError. */
  use(poolName: string, name: string, snapshot: string | null, user: string): UsedVolume {
    const store = this.#parts.store(poolName);
    const key = volumeKey(poolName, name, snapshot);
    const uuid =
      store.kind === 'directory' ? soundRecord(store.directory(), name).uuid : placeOf(store.config);
    let used = this.#volumes.get(key);
    if (used === undefined || used.uuid !== uuid || used.store !== store) {
      if (used !== undefined) this.#byId.delete(used.volumeId);
      used = new UsedVolume(key, store, uuid, name, snapshot);
      this.#volumes.set(key, used);
    }
    if (used.users.size === 0) this.#open(used);
    used.users.add(user);
    return used;
  }

  async leave(used: UsedVolume, user: string): Promise<void> {
    if (!used.users.delete(user) || used.users.size > 0) return;
    await this.#parts.nbd.closeVolume(used.volumeId);
    this.#letGo(used);
    if (used.state === 'full') used.state = 'ok';
    used.store.pool?.collect();
  }

  /** What its pool says of the volume as it is now, with these layers. */
  opening(
    used: UsedVolume | SecondSide,
    record: VolumeRecord,
    layers: readonly LayerOpening[],
  ): LayersOpening {
    return openingOf(used.pool, record, layers);
  }

  /** Takes other layers: what is in both stays open, what is new was acquired by the caller. */
  exchange(used: UsedVolume, layers: LayerOpening[]): void {
    const before = used.layers;
    used.layers = layers;
    for (const { uuid } of before) used.pool.release(uuid);
    used.pool.collect();
  }

  forget(used: UsedVolume): void {
    this.#volumes.delete(used.key);
    this.#byId.delete(used.volumeId);
  }

  #open(used: UsedVolume): void {
    // A new object for the same file would know nothing of what was lost.
    if (used.state === 'failed')
      throw new StorageError('VOLUME_DAMAGED', `volume ${used.name}: ${used.reason ?? 'it has failed'}`);
    const { nbd, settings } = this.#parts;
    const mirrorOf = this.#sides.get(used.key);
    if (mirrorOf !== undefined) throw inMirror(used.name, mirrorOf);
    const { limits, encryption, mirror, remoteName } = settings(used.poolName, used.name) ?? {};
    try {
      const first = this.#side(used, used.store, used.name, used.snapshot, remoteName);
      used.writable = first.kind === 'remote' || first.writable;
      let encryptionKey: Uint8Array | null = null;
      if (used.store.kind === 'directory')
        encryptionKey = keyOf(used.pool, used.pool.require(used.name), encryption?.keyFile);
      else if (encryption !== undefined)
        throw new StorageError(
          'VOLUME_KEY',
          `volume ${used.name} is not in a directory of ours, where its key could be checked: it cannot be encrypted here`,
        );
      const isMirrored = mirror !== undefined && used.snapshot === null;
      const base = isMirrored ? this.#mirror(used, first, mirror) : first;
      if (!isMirrored && used.snapshot === null && used.store.kind === 'directory' && used.writable)
        used.pool.mirrors.usedAlone(used.uuid);
      this.#byId.delete(used.volumeId);
      used.volumeId = nbd.newId();
      this.#byId.set(used.volumeId, used);
      used.checksumErrors = 0;
      const { throttled } = used;
      nbd.openVolume(used.volumeId, { base, encryptionKey, limits: limitsOf(limits), throttled });
    } catch (error) {
      this.#letGo(used);
      throw error;
    }
  }

  /** One volume at the bottom; what it holds is let go of with `used`. */
  #side(
    used: UsedVolume,
    store: Store,
    name: string,
    snapshot: string | null,
    remoteName: string | undefined,
  ): SingleOpening {
    const { device, remote } = store;
    if (device !== null) {
      used.others.push(() => device.release(name));
      return device.acquire(name);
    }
    if (remote !== null) {
      if (store === used.store) used.exportName = remoteName ?? name;
      return remote.opening(remoteName ?? name);
    }
    const pool = store.directory();
    const record = soundRecord(pool, name);
    const named = snapshot === null ? null : pool.requireSnapshot(record, snapshot);
    const layers = pool.acquireChain(named?.layer ?? record.top, true);
    if (store === used.store) used.layers = layers;
    else {
      const side = { pool, name, layers };
      used.second = side;
      used.others.push(() => side.layers.forEach(({ uuid }) => pool.release(uuid)));
    }
    const opening = openingOf(pool, record, layers);
    return named === null ? opening : { ...opening, size_bytes: named.size_bytes, writable: false };
  }

  #mirror(
    used: UsedVolume,
    first: SingleOpening,
    { pool, volume }: NonNullable<VolumeConfig['mirror']>,
  ): MirrorOpening {
    const key = volumeKey(pool, volume);
    if (this.isOpen(pool, volume) || this.#sides.has(key))
      throw new StorageError(
        'VOLUME_EXPORTED',
        `volume ${volume} of pool ${pool} is in use and cannot be the second side of ${used.name}`,
      );
    const store = this.#parts.store(pool);
    const exportName = this.#parts.settings(pool, volume)?.remoteName ?? volume;
    const second = this.#side(used, store, volume, null, exportName);
    const { mirrors } = used.pool;
    // It is longer when the first was made shorter and this one was not yet.
    const isKnown = second.size_bytes > first.size_bytes && mirrors.hasJournal(used.uuid);
    if (second.size_bytes !== first.size_bytes && !isKnown)
      throw new StorageError(
        'VOLUME_DIFFERS',
        `the sides of mirror ${used.name} have ${first.size_bytes} and ${second.size_bytes} bytes: make them equal`,
      );
    const partner =
      store.kind === 'directory'
        ? store.directory().mirrors.nameOfSide(store.directory().require(volume).uuid)
        : sha256(`${placeOf(store.config)} ${exportName}`);
    const journalFd = mirrors.openJournal(used.uuid, JOURNAL_BYTES);
    this.#sides.set(key, used.key);
    used.others.push(() => {
      mirrors.closeJournal(journalFd);
      this.#sides.delete(key);
    });
    return { kind: 'mirror', first, second, journalFd, partner };
  }

  #letGo(used: UsedVolume): void {
    for (const { uuid } of used.layers) used.pool.release(uuid);
    used.layers = [];
    used.second = null;
    used.mirror = null;
    for (const release of used.others) release();
    used.others = [];
  }
}

export function inMirror(name: string, first: string): StorageError {
  return new StorageError(
    'VOLUME_EXPORTED',
    `volume ${name} is the second side of ${first}: use that, or take the mirror away`,
  );
}

/** Throws VOLUME_UNKNOWN, VOLUME_DAMAGED. */
function soundRecord(pool: Pool, name: string): VolumeRecord {
  const record = pool.require(name);
  const fault = pool.fault(name);
  if (fault !== null) throw new StorageError('VOLUME_DAMAGED', `volume ${name}: ${fault}`);
  return record;
}

function openingOf(pool: Pool, record: VolumeRecord, layers: readonly LayerOpening[]): LayersOpening {
  return pool.opening(record, layers, quotaLeft_bytes(pool, record));
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** What its layers and its snapshots' may still allocate; a shared layer counts for the oldest volume that reaches it. */
function quotaLeft_bytes(pool: Pool, record: VolumeRecord): number {
  if (record.quota_bytes === null) return Infinity;
  return Math.max(0, record.quota_bytes - allocated_bytes(pool, record));
}

/** Of the layers that count as its own, those of its snapshots among them. */
function allocated_bytes(pool: Pool, record: VolumeRecord): number {
  return pool.view(record).own.reduce((sum, layer) => sum + pool.allocated_bytes(layer), 0);
}
