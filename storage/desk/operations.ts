/**
 * What can be done with volumes: made, changed, snapshots taken, cloned, rolled back, destroyed. Each is one order of steps in
 * which a crash at any point leaves a pool that opens with the old state or the new one:
 *
 *   snapshot   an empty top is committed (the chain reads the same) -> the data thread writes to it from one instant on, for all
 *              volumes of the request -> what was frozen is durable -> the name is committed -> answer
 *   rollback   an empty top above the snapshot's layer is committed -> the data thread takes it. Of a mirror: its journal says before
 *              that everything may differ, and afterwards the other side gets all of it anew
 *   shrink     as a snapshot without a name, with a shorter top: what is cut off cannot come back. Of a mirror: its first side, whose
 *              length is the mirror's, while the journal says that this one is good; then the second, of which nobody looks at what
 *              is behind that. A crash in between leaves it longer until it is asked for again
 *
 * The caller sees to it that one operation is done after the other.
 */
import type { Labels, MirrorAtRest, SnapshotStatus, VolumeSpec } from '../contract/volumes.js';
import type { NbdServer } from '../nbd/server.js';
import type { Change, SnapshotRecord, VolumeRecord } from '../pool/catalog.js';
import type { Pool } from '../pool/pool.js';
import { StorageError } from '../volume/errors.js';
import type { LayerOpening, LayersOpening } from '../volume/opening.js';
import { mirrorAtRest } from './mirrorAtRest.js';
import { inMirror, type UsedVolume, type UsedVolumes } from './volumes.js';

export interface OperationsParts {
  readonly nbd: NbdServer;
  readonly used: UsedVolumes;
  readonly poolOf: (name: string) => Pool;
  /** Clients that are connected to the volume or a snapshot of it. */
  readonly clients: (pool: string, volume: string) => number;
  /** It has a second side, which knows nothing of snapshots. */
  readonly isMirrored: (pool: string, volume: string) => boolean;
  /** The export that the configuration makes of it; null: none. */
  readonly exportOf: (pool: string, volume: string) => string | null;
}

export interface Frozen {
  readonly used: UsedVolume;
  readonly record: VolumeRecord;
  /** Uuid of the layer that is frozen now. */
  readonly layer: string;
}

const USER = 'operation';
const SHRINKING = 'shrink';

export class Operations {
  #parts: OperationsParts;

  constructor(parts: OperationsParts) {
    this.#parts = parts;
  }

  /** Makes it, or makes it as it should be. */
  async ensure(poolName: string, name: string, spec: VolumeSpec): Promise<VolumeRecord> {
    const pool = this.#parts.poolOf(poolName);
    const found = pool.find(name);
    if (found === undefined) return this.#make(poolName, name, spec);
    const { preallocated, checksums, from, size_bytes } = spec;
    const differs = [
      preallocated !== undefined && preallocated !== found.preallocated ? 'preallocated' : null,
      checksums !== undefined && checksums !== found.checksums ? 'checksums' : null,
    ].filter(word => word !== null);
    if (differs.length > 0 && from === undefined)
      throw new StorageError(
        'VOLUME_DIFFERS',
        `volume ${name} was made otherwise (${differs.join(', ')}), which cannot be changed: make another one and copy it`,
      );
    let record = pool.describe(found, spec);
    if (size_bytes > record.size_bytes) {
      record = pool.resize(record, size_bytes);
      const used = this.#parts.used.get(poolName, name);
      if (used !== undefined && used.users.size > 0) this.#parts.nbd.growVolume(used.volumeId, size_bytes);
    } else if (size_bytes < record.size_bytes) {
      if (!spec.shrink)
        throw new StorageError(
          'VOLUME_SHRINK',
          `volume ${name} has ${record.size_bytes} bytes and would lose what lies behind ${size_bytes}: say shrink as well if that is meant`,
        );
      this.#requireIdle(poolName, name, 'made smaller');
      await this.#shrink(poolName, record, size_bytes);
      record = pool.require(name);
    } else if (spec.shrink) {
      // A crash may have left the second side of its mirror longer.
      const open = this.#parts.used.get(poolName, name);
      if (open !== undefined && open.users.size > 0) await this.#cutSecond(open, size_bytes);
    }
    return record;
  }

  /** Of several volumes at one instant. */
  async snapshot(
    name: string,
    volumes: readonly { pool: string; volume: string }[],
    labels: Labels,
  ): Promise<{ pool: Pool; record: VolumeRecord; snapshot: SnapshotRecord }[]> {
    const { poolOf } = this.#parts;
    // Everything that can be refused is refused before anything is done.
    for (const { pool, volume } of volumes)
      poolOf(pool).snapshotRecord(poolOf(pool).require(volume), name, '', labels);
    for (const { pool, volume } of volumes)
      if (this.#parts.isMirrored(pool, volume)) await this.#requireFirstSide(pool, volume);
    const frozen = await this.freeze(volumes, name);
    const taken = frozen.map(({ used, record, layer }) => ({
      pool: used.pool,
      record,
      snapshot: used.pool.snapshotRecord(record, name, layer, labels),
    }));
    for (const pool of new Set(taken.map(one => one.pool)))
      pool.commit(
        taken.filter(one => one.pool === pool).map(({ snapshot }): Change => ({ do: 'snapshot', snapshot })),
      );
    return taken;
  }

  /** Snapshots are of a mirror's first side: it must have what was written last. */
  async #requireFirstSide(poolName: string, name: string): Promise<void> {
    const { used, nbd } = this.#parts;
    const open = used.use(poolName, name, null, USER);
    try {
      const base = used.opening(open, open.pool.require(name), open.layers);
      if ((await nbd.changeLayers('look', [{ volumeId: open.volumeId, base }])) === 0) return;
      throw new StorageError(
        'SNAPSHOT_FAILED',
        `volume ${name} of pool ${poolName}: the first side of its mirror, of which a snapshot would be, lacks what was written last (${open.mirror?.reason ?? 'it is being made good'}): wait until both sides are the same`,
      );
    } finally {
      await used.leave(open, USER);
    }
  }

  /** Each gets an empty top; what was the top is durable and frozen when this returns. `name`: the snapshot it is for. */
  async freeze(
    volumes: readonly { pool: string; volume: string }[],
    name: string | null,
    size_bytes: number | null = null,
  ): Promise<Frozen[]> {
    const { used, nbd } = this.#parts;
    const held: UsedVolume[] = [];
    try {
      for (const { pool, volume } of volumes) held.push(used.use(pool, volume, null, USER));
      const frozen: Frozen[] = [];
      const changes: { volumeId: number; base: LayersOpening }[] = [];
      /** Those that have their top already must get it in the data thread too, or it would write to what counts as frozen. */
      let refused: StorageError | null = null;
      for (const one of held) {
        const { pool } = one;
        const before = pool.require(one.name);
        const shorter = size_bytes === null ? before : { ...before, size_bytes };
        let layers: LayerOpening[];
        let record: VolumeRecord;
        try {
          const added = pool.addTop(shorter);
          record = added.volume;
          try {
            layers = [pool.acquire(record.top), ...one.layers];
          } catch (error) {
            pool.commit([{ do: 'volume', volume: before }]);
            throw error;
          }
          frozen.push({ used: one, record, layer: added.frozen.uuid });
        } catch (error) {
          if (!(error instanceof StorageError)) throw error;
          refused = error;
          break;
        }
        const base = used.opening(one, record, layers);
        one.layers = layers;
        const checkpoints = base.checkpoints.concat(name === null ? [] : [{ name, newerLayers: 1 }]);
        changes.push({ volumeId: one.volumeId, base: { ...base, checkpoints } });
      }
      const result = changes.length === 0 ? 0 : await nbd.changeLayers('snapshot', changes);
      if (result < 0)
        throw new StorageError(
          'SNAPSHOT_FAILED',
          `what was written could not be made durable (errno ${-result}): no snapshot was taken. See the state of the volumes`,
        );
      if (refused !== null) throw refused;
      return frozen;
    } finally {
      for (const one of held) await used.leave(one, USER);
    }
  }

  async rollback(poolName: string, name: string, snapshotName: string): Promise<VolumeRecord> {
    const pool = this.#parts.poolOf(poolName);
    const record = pool.require(name);
    const snapshot = pool.requireSnapshot(record, snapshotName);
    this.#requireIdle(poolName, name, 'rolled back');
    const mirror = this.#parts.used.mirrorOf(poolName, name);
    if (mirror !== undefined) throw inMirror(name, mirror.key);
    if (!this.#parts.isMirrored(poolName, name)) {
      pool.mirrors.usedAlone(record.uuid);
      const changed = pool.rollback(record, snapshot);
      await this.takeContent(poolName, changed);
      return changed;
    }
    const { used, nbd } = this.#parts;
    const open = used.use(poolName, name, null, USER);
    try {
      const base = used.opening(open, record, open.layers);
      const result = await nbd.changeLayers('expect', [{ volumeId: open.volumeId, base }]);
      if (result < 0) throw firstIsNotGood(open, 'rolled back', result);
      return pool.rollback(record, snapshot);
    } finally {
      // Also when nothing came of it: the mirror waits for it.
      await this.takeContent(poolName, pool.require(name));
      await used.leave(open, USER);
    }
  }

  /** The catalogue says that the volume has other layers: the data thread takes them, where it has the volume open. */
  async takeContent(
    poolName: string,
    record: VolumeRecord,
    how: 'content' | 'replace' = 'content',
  ): Promise<void> {
    const { used, nbd } = this.#parts;
    const open = used.get(poolName, record.name);
    if (open !== undefined && open.users.size > 0) {
      const layers = open.pool.acquireChain(record.top);
      const base = used.opening(open, record, layers);
      await nbd.changeLayers(how, [{ volumeId: open.volumeId, base }]);
      used.exchange(open, layers);
    }
    this.#parts.poolOf(poolName).collect();
  }

  deleteSnapshot(poolName: string, name: string, snapshotName: string): void {
    const pool = this.#parts.poolOf(poolName);
    const snapshot = pool.requireSnapshot(pool.require(name), snapshotName);
    if ((this.#parts.used.get(poolName, name, snapshotName)?.users.size ?? 0) > 0)
      throw new StorageError(
        'VOLUME_EXPORTED',
        `snapshot ${snapshotName} of volume ${name} is exported: remove that export first`,
      );
    pool.dropSnapshot(snapshot);
    pool.collect();
  }

  /** Of a mirror that nobody has open. */
  mirrorAtRest(poolName: string, name: string, secondPool: string): MirrorAtRest {
    const { used, poolOf } = this.#parts;
    const isOpen = used.isOpen(poolName, name) || used.isOpen(secondPool, name);
    return mirrorAtRest(poolOf(poolName), poolOf(secondPool), name, isOpen);
  }

  rename(poolName: string, name: string, to: string): VolumeRecord {
    const { poolOf, used, exportOf } = this.#parts;
    const pool = poolOf(poolName);
    const record = pool.require(name);
    const user = exportOf(poolName, name);
    const mirror = used.mirrorOf(poolName, name);
    if (mirror !== undefined) throw inMirror(name, mirror.key);
    if (user !== null || used.isOpen(poolName, name))
      throw new StorageError(
        'VOLUME_EXPORTED',
        `volume ${name} is exported${user === null ? '' : ` as ${user}`} by this name: remove that export first`,
      );
    const known = used.get(poolName, name);
    if (known !== undefined) used.forget(known);
    return pool.rename(record, to);
  }

  destroy(poolName: string, name: string, withSnapshots: boolean): void {
    const { poolOf, used, exportOf } = this.#parts;
    const pool = poolOf(poolName);
    const record = pool.require(name);
    const user = exportOf(poolName, name);
    const mirror = used.mirrorOf(poolName, name);
    if (mirror !== undefined) throw inMirror(name, mirror.key);
    if (user !== null || used.isOpen(poolName, name))
      throw new StorageError(
        'VOLUME_EXPORTED',
        `volume ${name} of pool ${poolName} is ${user === null ? 'in use' : `exported as ${user}`}: remove its exports first`,
      );
    const snapshots = pool.snapshots(record);
    if (snapshots.length > 0 && !withSnapshots)
      throw new StorageError(
        'VOLUME_HAS_SNAPSHOTS',
        `volume ${name} of pool ${poolName} has ${snapshots.length} snapshots, which would be destroyed with it: delete them first, or say that they may go`,
      );
    pool.destroy(record);
    const known = used.get(poolName, name);
    if (known !== undefined) used.forget(known);
  }

  async #make(poolName: string, name: string, spec: VolumeSpec): Promise<VolumeRecord> {
    const pool = this.#parts.poolOf(poolName);
    const { from } = spec;
    if (from === undefined) return pool.make(name, spec);
    const source = pool.require(from.volume);
    if (from.snapshot !== undefined) {
      const { layer, size_bytes } = pool.requireSnapshot(source, from.snapshot);
      return pool.clone(name, spec, layer, source, size_bytes);
    }
    const [frozen] = await this.freeze([{ pool: poolName, volume: from.volume }], null);
    return pool.clone(name, spec, frozen!.layer, source, source.size_bytes);
  }

  async #shrink(poolName: string, record: VolumeRecord, size_bytes: number): Promise<void> {
    const { used } = this.#parts;
    const { name } = record;
    const mirror = used.mirrorOf(poolName, name);
    if (mirror !== undefined) {
      if (size_bytes < mirror.pool.require(mirror.name).size_bytes) throw inMirror(name, mirror.key);
      return this.#cutSecond(mirror, size_bytes);
    }
    if (this.#parts.isMirrored(poolName, name)) return this.#shrinkMirror(poolName, record, size_bytes);
    const open = used.isOpen(poolName, name);
    await this.freeze([{ pool: poolName, volume: name }], null, size_bytes);
    // A snapshot changes no size; now it is other content.
    if (open) await this.takeContent(poolName, this.#parts.poolOf(poolName).require(name));
  }

  async #shrinkMirror(poolName: string, record: VolumeRecord, size_bytes: number): Promise<void> {
    const { used, nbd, poolOf } = this.#parts;
    const { name } = record;
    // `freeze` is a user of its own, whose end must not close it.
    const open = used.use(poolName, name, null, SHRINKING);
    try {
      const base = used.opening(open, record, open.layers);
      const result = await nbd.changeLayers('expectCut', [{ volumeId: open.volumeId, base }]);
      if (result < 0) throw firstIsNotGood(open, 'made smaller', result);
      try {
        await this.freeze([{ pool: poolName, volume: name }], null, size_bytes);
      } finally {
        // Also when nothing came of it: the mirror waits for it.
        await this.takeContent(poolName, poolOf(poolName).require(name));
      }
      await this.#cutSecond(open, size_bytes);
    } finally {
      await used.leave(open, SHRINKING);
    }
  }

  /** The second side of an open mirror becomes as short as the first is already. */
  async #cutSecond({ second, volumeId }: UsedVolume, size_bytes: number): Promise<void> {
    if (second === null) return;
    const { used, nbd } = this.#parts;
    const { pool, name } = second;
    const before = pool.require(name);
    if (before.size_bytes <= size_bytes) return;
    const { volume } = pool.addTop({ ...before, size_bytes });
    second.layers = [pool.acquire(volume.top), ...second.layers];
    const base = used.opening(second, volume, second.layers);
    const result = await nbd.changeLayers('secondSnapshot', [{ volumeId, base }]);
    if (result < 0)
      throw new StorageError(
        'SNAPSHOT_FAILED',
        `what was written to volume ${name} could not be made durable (errno ${-result}): see its state`,
      );
    await nbd.changeLayers('secondReplace', [{ volumeId, base }]);
    pool.collect();
  }

  #requireIdle(pool: string, name: string, what: string): void {
    const count = this.#parts.clients(pool, name);
    if (count > 0)
      throw new StorageError(
        'VOLUME_EXPORTED',
        `volume ${name} of pool ${pool} has ${count} clients connected and cannot be ${what} under them: stop the machine, or disconnect them`,
      );
  }
}

function firstIsNotGood({ name, poolName, reason }: UsedVolume, what: string, result: number): StorageError {
  return new StorageError(
    'VOLUME_EXPORTED',
    `volume ${name} of pool ${poolName} cannot be ${what}, as the first side of its mirror is not the good one now, or is at work (${reason ?? `errno ${-result}`}): wait until both are the same`,
  );
}

export function snapshotStatus(
  pool: Pool,
  { name, uuid, createdAt_ms, size_bytes, labels, layer }: SnapshotRecord,
  clones: readonly string[] = [],
): SnapshotStatus {
  const allocated_bytes = pool.allocated_bytes(layer);
  return { name, uuid, createdAt_ms, size_bytes, labels, allocated_bytes, clones: [...clones] };
}

/** The oldest first. */
export function snapshotStatuses(pool: Pool, volume: VolumeRecord): SnapshotStatus[] {
  return pool.view(volume).snapshots.map(({ record, clones }) => snapshotStatus(pool, record, clones));
}
