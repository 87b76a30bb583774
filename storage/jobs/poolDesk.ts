/**
 * What jobs ask of the desk (desk.ts), in terms of pools: which layers may be joined, which are kept from changing, and how
 * the catalogue is changed when a job's work is done. What is in use, and how the data thread is told, is the server's
 * (DeskHost).
 *
 * A job reads layers, or makes one of two. Readers may share a layer; a merge has its two alone: it does not begin while
 * anyone reads one of them, and whoever wants to read one waits for its end. A change of the catalogue here only makes layers
 * unreachable; their files go when nobody has them open any more (Pool.collect), also after a crash in between.
 *
 * The live top is in no merge. It is frozen first, by an empty one above it, where its parent is to be joined with it: that
 * is worth it only when it has grown to be something, and each time so frozen it is empty again, so it cannot go on for ever.
 */
import type { Labels, SnapshotStatus } from '../contract/volumes.js';
import type { TlsFiles } from '../contract/config.js';
import { keyCheck, keyMatches } from '../cipher/key.js';
import type { Change, LayerRecord, VolumeRecord } from '../pool/catalog.js';
import type { Pool } from '../pool/pool.js';
import { StorageError } from '../volume/errors.js';
import type { LayerOpening, TlsOpening } from '../volume/opening.js';
import type { Encryption } from './manifest.js';
import type { HeldChain, HeldFlatten, HeldMerge, HeldScrub, JobDesk, NewLayer, ScrubLayer } from './desk.js';

/** A live top below this is not frozen for a merge. */
const WORTH_FREEZING_BYTES = 64 * 1024 * 1024;

export interface DeskHost {
  /** One change at a time; what is in it must not call it again. */
  inTurn<T>(change: () => T | Promise<T>): Promise<T>;
  /** Those that are open. */
  pools(): readonly { readonly name: string; readonly pool: Pool }[];
  /** Throws POOL_UNKNOWN, POOL_IO. */
  pool(name: string): Pool;
  snapshots(pool: string, volume: string): readonly SnapshotStatus[];
  snapshot(pool: string, volume: string, name: string, labels: Labels): Promise<SnapshotStatus>;
  deleteSnapshot(pool: string, volume: string, snapshot: string): Promise<void>;
  /** An empty top above what was the top, which is durable when this resolves. Within a turn. */
  freeze(pool: string, volume: VolumeRecord): Promise<void>;
  /** The data thread puts none of these layers in order any more, as it does after a snapshot or a crash. Not within a turn: it may take long. */
  finished(layers: readonly string[]): Promise<void>;
  /**
   * Everything in use that reads one of these layers is given its chain anew, as the catalogue has it now. Resolves when
   * nothing of the old chains is used. Within a turn. `content`: the caller knows that no client is connected.
   */
  exchange(pool: string, layers: ReadonlySet<string>, how: 'replace' | 'content'): Promise<void>;
  clients(pool: string, volume: string): number;
  isMirrored(pool: string, volume: string): boolean;
  tlsOf(files: TlsFiles, serverName: string | null): TlsOpening;
  /** Of the key file that is configured for it, by this uuid; null: none is. Throws VOLUME_KEY. The receiver wipes it. */
  keyBy(pool: string, volume: string, uuid: string): Uint8Array | null;
  /** Somebody has it open, with the key that it had then. */
  isOpen(pool: string, volume: string): boolean;
}

export class PoolDesk implements JobDesk {
  #host: DeskHost;
  /** Layers that jobs read, and how many do. */
  #readers = new Map<string, number>();
  /** Layers that a merge has, and its end. */
  #merging = new Map<string, Promise<void>>();
  /** Layers that were changed, and then could not be synced. */
  #spoilt = new Set<string>();
  #merges = new WeakMap<HeldMerge, { pool: string; lower: string; upper: string }>();
  #flattens = new WeakMap<HeldFlatten, { pool: string; volume: string; lowest: string }>();

  constructor(host: DeskHost) {
    this.#host = host;
  }

  mergeable(): readonly { readonly pool: string; readonly layer: string }[] {
    return this.#host.pools().flatMap(({ name, pool }) => {
      if (pool.log.closed !== null) return [];
      const plan = newShape(pool);
      const due = [...pool.log.catalog.layers.values()].filter(layer => {
        const child = onlyChildOf(plan, layer);
        if (child === null || this.#isTaken(layer.uuid) || this.#isTaken(child.uuid)) return false;
        // Of what has lost a part, what is left must not be mixed up.
        if (pool.layers.lost(layer.uuid) !== null || pool.layers.lost(child.uuid) !== null) return false;
        return !plan.tops.has(child.uuid) || isWorthFreezing(pool, layer, child);
      });
      return due.map(({ uuid }) => ({ pool: name, layer: uuid }));
    });
  }

  async holdMerge(poolName: string, layer: string): Promise<HeldMerge | null> {
    const held = await this.#holdMergeInTurn(poolName, layer);
    if (held === null) return null;
    try {
      // From now on nobody else begins to write to them.
      await this.#host.finished([held.lower.uuid, held.upper.uuid]);
    } catch (error) {
      held.release();
      throw error;
    }
    return held;
  }

  #holdMergeInTurn(poolName: string, layer: string): Promise<HeldMerge | null> {
    return this.#host.inTurn(async () => {
      const pool = this.#host.pool(poolName);
      const record = pool.log.catalog.layers.get(layer);
      if (record === undefined || this.#isTaken(layer)) return null;
      let plan = newShape(pool);
      const child = onlyChildOf(plan, record);
      if (child === null || this.#isTaken(child.uuid)) return null;
      const live = plan.tops.get(child.uuid);
      if (live !== undefined) {
        await this.#host.freeze(poolName, live);
        plan = newShape(pool);
        if (onlyChildOf(plan, record)?.uuid !== child.uuid || plan.tops.has(child.uuid)) return null;
      }
      return this.#holdTwo(poolName, pool, record.uuid, child.uuid, record.parent === null);
    });
  }

  commitMerge(
    held: HeldMerge,
    kept: 'lower' | 'upper',
    how: { readonly size_bytes: number; readonly inherits_bytes: number },
  ): Promise<void> {
    return this.#host.inTurn(async () => {
      const merge = this.#merges.get(held);
      if (merge === undefined) throw new Error('this merge is not held');
      const pool = this.#host.pool(merge.pool);
      const { layers, snapshots } = pool.log.catalog;
      const lower = layers.get(merge.lower);
      const upper = layers.get(merge.upper);
      // Their volumes were destroyed meanwhile: then there is nothing to say.
      if (lower === undefined || upper === undefined || upper.parent !== lower.uuid) return;
      const changes: Change[] =
        kept === 'upper'
          ? [{ do: 'layer', layer: { ...upper, ...how, parent: lower.parent } }]
          : [
              { do: 'layer', layer: { ...lower, ...how } },
              ...[...layers.values()]
                .filter(({ parent }) => parent === upper.uuid)
                .map((layer): Change => ({ do: 'layer', layer: { ...layer, parent: lower.uuid } })),
              ...[...snapshots.values()]
                .filter(snapshot => snapshot.layer === upper.uuid)
                .map((snapshot): Change => ({
                  do: 'snapshot',
                  snapshot: { ...snapshot, layer: lower.uuid },
                })),
            ];
      pool.commit(changes);
      await this.#host.exchange(merge.pool, new Set([lower.uuid, upper.uuid]), 'replace');
    });
  }

  holdFlatten(poolName: string, volumeName: string): Promise<HeldFlatten> {
    const parts = (): { pool: Pool; own: LayerRecord; shared: LayerRecord[] } => {
      const pool = this.#host.pool(poolName);
      const volume = pool.require(volumeName);
      const chain = pool.chain(volume.top);
      const others = reachedByOthers(pool, volume);
      const first = chain.findIndex(({ uuid }) => others.has(uuid));
      const end = first < 0 ? chain.length : first;
      return { pool, own: chain[end - 1]!, shared: chain.slice(end) };
    };
    return this.#unmerged(
      () => {
        const { own, shared } = parts();
        return [own, ...shared];
      },
      () => {
        const { pool, own, shared } = parts();
        const { layers, release } = this.#read(pool, [own, ...shared]);
        const held: HeldFlatten = { shared: layers.slice(1), reach_bytes: own.inherits_bytes, release };
        const { uuid } = pool.require(volumeName);
        this.#flattens.set(held, { pool: poolName, volume: uuid, lowest: own.uuid });
        return held;
      },
    );
  }

  commitFlatten(held: HeldFlatten, made: NewLayer): Promise<void> {
    return this.#host.inTurn(async () => {
      const flatten = this.#flattens.get(held);
      if (flatten === undefined) throw new Error('this flatten is not held');
      const pool = this.#host.pool(flatten.pool);
      const { layers, volumes } = pool.log.catalog;
      const own = layers.get(flatten.lowest);
      if (own === undefined || !volumes.has(flatten.volume))
        throw new StorageError('VOLUME_UNKNOWN', 'the volume was destroyed meanwhile');
      pool.commit([{ do: 'layer', layer: { ...own, parent: made.layer.uuid } }]);
      await this.#host.exchange(flatten.pool, new Set([own.uuid]), 'replace');
    });
  }

  newLayer(poolName: string, volume: string): Promise<NewLayer> {
    return this.#host.inTurn(() => {
      const pool = this.#host.pool(poolName);
      const { uuid } = pool.newLayer(pool.require(volume));
      const release = once(() => {
        pool.release(uuid);
        pool.unhold(uuid);
        pool.collect();
      });
      try {
        return { layer: pool.acquire(uuid), release };
      } catch (error) {
        pool.unhold(uuid);
        pool.collect();
        throw error;
      }
    });
  }

  commitContent(
    poolName: string,
    volumeName: string,
    made: NewLayer,
    encryption: Encryption | null,
  ): Promise<void> {
    return this.#host.inTurn(async () => {
      const pool = this.#host.pool(poolName);
      this.requireKey(poolName, volumeName, encryption);
      const { size_bytes } = this.requireIdle(poolName, volumeName);
      if (size_bytes !== made.layer.size_bytes)
        throw new StorageError(
          'VOLUME_SHRINK',
          `volume ${volumeName} has ${size_bytes} bytes now, what was restored has ${made.layer.size_bytes}: restore it again`,
        );
      const volume = pool.require(volumeName);
      const { keyCheck = null, keyUuid = null } = encryption ?? {};
      pool.commit([{ do: 'volume', volume: { ...volume, top: made.layer.uuid, keyCheck, keyUuid } }]);
      await this.#host.exchange(poolName, new Set([volume.top]), 'content');
      pool.collect();
    });
  }

  requireIdle(poolName: string, volume: string): { uuid: string; size_bytes: number; isBlank: boolean } {
    const pool = this.#host.pool(poolName);
    const record = pool.require(volume);
    const clients = this.#host.clients(poolName, volume);
    if (clients > 0)
      throw new StorageError(
        'VOLUME_EXPORTED',
        `volume ${volume} of pool ${poolName} is in use by ${clients} clients: disconnect them first`,
      );
    return { uuid: record.uuid, size_bytes: record.size_bytes, isBlank: pool.isBlank(record) };
  }

  volume(poolName: string, volume: string): { uuid: string; encryption: Encryption | null } {
    const record = this.#host.pool(poolName).require(volume);
    return { uuid: record.uuid, encryption: encryptionOf(record) };
  }

  keyOf(poolName: string, name: string): { key: Uint8Array; encryption: Encryption } | null {
    const record = this.#host.pool(poolName).require(name);
    const keyUuid = record.keyUuid ?? record.uuid;
    const key = this.#host.keyBy(poolName, name, keyUuid);
    if (key === null && record.keyCheck === null) return null;
    if (key === null)
      throw new StorageError(
        'VOLUME_KEY',
        `volume ${name} is encrypted: name its key file (encryption.keyFile)`,
      );
    if (record.keyCheck !== null && !keyMatches(key, record.keyCheck)) {
      key.fill(0);
      throw new StorageError(
        'VOLUME_KEY',
        `the key file of volume ${name} is not the one that it was encrypted with`,
      );
    }
    return { key, encryption: { cipher: 'aes-256-xts', keyUuid, keyCheck: keyCheck(key) } };
  }

  requireKey(poolName: string, name: string, encryption: Encryption | null): void {
    const pool = this.#host.pool(poolName);
    const record = pool.require(name);
    const key = this.#host.keyBy(poolName, name, encryption?.keyUuid ?? record.uuid);
    try {
      if (encryption === null && key !== null)
        throw new StorageError('VOLUME_KEY', `volume ${name} is encrypted, what it is to hold is not`);
      if (encryption !== null && key === null)
        throw new StorageError(
          'VOLUME_KEY',
          `what volume ${name} is to hold is encrypted: configure the volume with the same key file (encryption.keyFile) first`,
        );
      if (encryption !== null && !keyMatches(key!, encryption.keyCheck))
        throw new StorageError(
          'VOLUME_KEY',
          `what volume ${name} is to hold was encrypted with another key file than the one that is configured for it`,
        );
    } finally {
      key?.fill(0);
    }
    const now = encryptionOf(record);
    const isSame = now?.keyUuid === encryption?.keyUuid && now?.keyCheck === encryption?.keyCheck;
    if (isSame) return;
    // Both would go on with the key that it has: snapshots for ever, and whoever has it open until it is closed.
    if (pool.snapshots(record).length > 0)
      throw new StorageError(
        'VOLUME_KEY',
        `volume ${name} has snapshots that are encrypted otherwise: delete them, or choose another volume`,
      );
    if (this.#host.isOpen(poolName, name))
      throw new StorageError(
        'VOLUME_EXPORTED',
        `volume ${name} is exported, and would be encrypted otherwise than now: take its exports away first`,
      );
  }

  snapshots(pool: string, volume: string): readonly SnapshotStatus[] {
    return this.#host.snapshots(pool, volume);
  }

  snapshot(pool: string, volume: string, name: string, labels: Labels): Promise<SnapshotStatus> {
    return this.#host.snapshot(pool, volume, name, labels);
  }

  labelSnapshot(poolName: string, volume: string, snapshot: string, labels: Labels): Promise<void> {
    return this.#host.inTurn(() => {
      const pool = this.#host.pool(poolName);
      const found = pool.requireSnapshot(pool.require(volume), snapshot);
      pool.commit([{ do: 'snapshot', snapshot: { ...found, labels: { ...labels } } }]);
    });
  }

  deleteSnapshot(pool: string, volume: string, snapshot: string): Promise<void> {
    return this.#host.deleteSnapshot(pool, volume, snapshot);
  }

  holdSnapshot(poolName: string, volumeName: string, name: string): Promise<HeldChain> {
    const chain = (): LayerRecord[] => {
      const pool = this.#host.pool(poolName);
      return pool.chain(pool.requireSnapshot(pool.require(volumeName), name).layer);
    };
    return this.#unmerged(chain, () => {
      const pool = this.#host.pool(poolName);
      const { uuid, size_bytes } = pool.require(volumeName);
      const snapshot = this.snapshots(poolName, volumeName).find(one => one.name === name)!;
      const { layers, release } = this.#read(pool, chain());
      return { volume: { uuid, name: volumeName, size_bytes }, snapshot, layers, release };
    });
  }

  tlsOf(files: TlsFiles, serverName: string | null): TlsOpening {
    return this.#host.tlsOf(files, serverName);
  }

  holdScrub(poolName: string, volumeName: string | null): Promise<HeldScrub> {
    const users = (): Map<string, { record: LayerRecord; usedBy: string[]; mirrored: boolean }> => {
      const pool = this.#host.pool(poolName);
      const volumes =
        volumeName === null ? [...pool.log.catalog.volumes.values()] : [pool.require(volumeName)];
      const found = new Map<string, { record: LayerRecord; usedBy: string[]; mirrored: boolean }>();
      for (const volume of volumes) {
        const mirrored = this.#host.isMirrored(poolName, volume.name);
        const readers = [
          { name: volume.name, layer: volume.top },
          ...pool.snapshots(volume).map(({ name, layer }) => ({ name: `${volume.name}@${name}`, layer })),
        ];
        for (const { name, layer } of readers)
          for (const record of pool.chain(layer)) {
            const entry = found.get(record.uuid) ?? { record, usedBy: [], mirrored };
            entry.usedBy.push(name);
            found.set(record.uuid, entry);
          }
      }
      return found;
    };
    const records = (): LayerRecord[] => [...users().values()].map(({ record }) => record);
    return this.#unmerged(records, () => {
      const pool = this.#host.pool(poolName);
      const found = [...users().values()];
      const tops = new Set([...pool.log.catalog.volumes.values()].map(({ top }) => top));
      const { layers, release } = this.#read(pool, records());
      return {
        layers: layers.map((layer, index): ScrubLayer => {
          const { record, usedBy, mirrored } = found[index]!;
          const { uuid, parent } = record;
          return { layer, lowest: parent === null, live: tops.has(uuid), usedBy, mirrored };
        }),
        release,
      };
    });
  }

  #isTaken(layer: string): boolean {
    return this.#readers.has(layer) || this.#merging.has(layer) || this.#spoilt.has(layer);
  }

  #holdTwo(poolName: string, pool: Pool, lower: string, upper: string, lowest: boolean): HeldMerge {
    const opened = acquireAll(pool, [lower, upper]);
    let ended: () => void = () => undefined;
    const end = new Promise<void>(resolve => (ended = resolve));
    for (const uuid of [lower, upper]) {
      pool.hold(uuid);
      this.#merging.set(uuid, end);
    }
    const release = once(() => {
      for (const uuid of [lower, upper]) {
        pool.release(uuid);
        pool.unhold(uuid);
        this.#merging.delete(uuid);
      }
      pool.collect();
      ended();
    });
    const spoil = (): void => void this.#spoilt.add(lower).add(upper);
    const held: HeldMerge = { lower: opened[0]!, upper: opened[1]!, lowest, spoil, release };
    this.#merges.set(held, { pool: poolName, lower, upper });
    return held;
  }

  /** Does it when none of these layers is in a merge; they are asked for again after each, as it may have changed them. */
  async #unmerged<T>(layers: () => readonly LayerRecord[], then: () => T): Promise<T> {
    await this.#host.finished(layers().map(({ uuid }) => uuid));
    for (;;) {
      const busy = layers().find(({ uuid }) => this.#merging.has(uuid));
      if (busy === undefined) return then();
      await this.#merging.get(busy.uuid);
    }
  }

  #read(pool: Pool, records: readonly LayerRecord[]): { layers: LayerOpening[]; release: () => void } {
    const uuids = records.map(({ uuid }) => uuid);
    const layers = acquireAll(pool, uuids);
    for (const uuid of uuids) {
      pool.hold(uuid);
      this.#readers.set(uuid, (this.#readers.get(uuid) ?? 0) + 1);
    }
    const release = once(() => {
      for (const uuid of uuids) {
        pool.release(uuid);
        pool.unhold(uuid);
        const left = this.#readers.get(uuid)! - 1;
        if (left > 0) this.#readers.set(uuid, left);
        else this.#readers.delete(uuid);
      }
      pool.collect();
    });
    return { layers, release };
  }
}

function encryptionOf({ uuid, keyUuid, keyCheck }: VolumeRecord): Encryption | null {
  return keyCheck === null ? null : { cipher: 'aes-256-xts', keyUuid: keyUuid ?? uuid, keyCheck };
}

/** Of a pool's layers, what a merge asks. */
interface Shape {
  readonly children: Map<string, LayerRecord[]>;
  readonly named: Set<string>;
  readonly tops: Map<string, VolumeRecord>;
}

function newShape(pool: Pool): Shape {
  const { layers, volumes, snapshots } = pool.log.catalog;
  const children = new Map<string, LayerRecord[]>();
  const gone = new Set(pool.log.catalog.unreachable().map(({ uuid }) => uuid));
  for (const layer of layers.values()) {
    if (layer.parent === null || gone.has(layer.uuid)) continue;
    const siblings = children.get(layer.parent);
    if (siblings === undefined) children.set(layer.parent, [layer]);
    else siblings.push(layer);
  }
  return {
    children,
    named: new Set([...snapshots.values()].map(({ layer }) => layer)),
    tops: new Map([...volumes.values()].map(volume => [volume.top, volume])),
  };
}

/** The layer above one that has no name, when that is one; null otherwise. */
function onlyChildOf({ children, named, tops }: Shape, { uuid }: LayerRecord): LayerRecord | null {
  if (named.has(uuid) || tops.has(uuid)) return null;
  const above = children.get(uuid);
  return above?.length === 1 ? above[0]! : null;
}

function isWorthFreezing(pool: Pool, lower: LayerRecord, top: LayerRecord): boolean {
  const top_bytes = pool.allocated_bytes(top.uuid);
  return top_bytes >= WORTH_FREEZING_BYTES && 2 * top_bytes >= pool.allocated_bytes(lower.uuid);
}

/** Layers that other volumes of the pool, or their snapshots, read. */
function reachedByOthers(pool: Pool, volume: VolumeRecord): Set<string> {
  const { volumes, snapshots } = pool.log.catalog;
  const reached = new Set<string>();
  const roots = [
    ...[...volumes.values()].filter(({ uuid }) => uuid !== volume.uuid).map(({ top }) => top),
    ...[...snapshots.values()].filter(snapshot => snapshot.volume !== volume.uuid).map(({ layer }) => layer),
  ];
  for (const root of roots) {
    for (const { uuid } of pool.chain(root)) {
      if (reached.has(uuid)) break;
      reached.add(uuid);
    }
  }
  return reached;
}

/** All of them, or none. */
function acquireAll(pool: Pool, uuids: readonly string[]): LayerOpening[] {
  const opened: LayerOpening[] = [];
  try {
    for (const uuid of uuids) opened.push(pool.acquire(uuid));
  } catch (error) {
    for (const { uuid } of opened) pool.release(uuid);
    throw error;
  }
  return opened;
}

function once(release: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    release();
  };
}
