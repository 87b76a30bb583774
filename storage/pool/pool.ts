/**
 * A pool: a directory of volumes made of layers, opened by one process at a time.
 *
 *   POOL/pool.json            which pool this is (uuid), and its format
 *   POOL/lock                 flock, held while open
 *   POOL/catalog              layers, volumes and snapshots: catalog.ts
 *   POOL/layers/UUID/data     a layer's bytes, a sparse file, volume offset = file offset
 *   POOL/layers/UUID/map      which of them it has, and their checksums: layers/map.ts. A plain layer has none
 *   POOL/layers/UUID/note     what the catalogue says of it, in case that is lost: catalogText.ts
 *   POOL/lost+found/          what a repair put aside: repair.ts
 *   POOL/mirrors/UUID         of mirrored volumes: mirrorMarks.ts
 *   POOL/deleting/UUID/       a layer being destroyed; one left over is removed at open
 *
 * Files first, then the catalogue, and for what goes away the other way round: so after a crash there is the old state or the
 * new one, and at most files that no record names, which are removed at open. What we did not make is not touched: it is
 * listed in `problems`. What is lost is listed there too, and the rest is served read-only:
 *
 *   pool.json or part of the catalogue       all volumes are read-only, as far as they can be found: examine.ts
 *   files of a layer, or parts of them       volumes above it are read-only; what it held answers EIO
 *   the record of a layer                    volumes above it are not served, as not even what lies below is known
 *
 * Opening reads the catalogue and the names of layers, and no volume. Calls are synchronous and take milliseconds (they sync); only the freeing of a
 * destroyed layer's blocks goes on in the background.
 */
import { MirrorMarks } from './mirrorMarks.js';
import { randomUUID } from 'node:crypto';
import * as path from 'node:path';
import type { LayerOpening, LayersOpening } from '../volume/opening.js';
import { StorageError } from '../volume/errors.js';
import { LAYERS_MAX_COUNT } from '../layers/chain.js';
import type { CatalogLog } from './catalogLog.js';
import {
  SNAPSHOT_NAME,
  newVolume,
  type Change,
  type LayerRecord,
  type SnapshotRecord,
  type VolumeRecord,
  type VolumeView,
  type VolumeWish,
} from './catalog.js';
import { requireSize, toStorageError } from './errors.js';
import { examine, listed, problemsOf, strangersIn, type Examined } from './examine.js';
import { noteOf, touchedBy } from './catalogText.js';
import { statfs } from './file.js';
import { kernelFiles, type PoolFiles } from './files.js';
import { takeOver } from './formatOne.js';
import { LayerFiles } from './layerFiles.js';
import { lockPool, unlockPool } from './lock.js';
import { FORMAT, VOLUME_NAME } from './meta.js';

export class Pool {
  readonly directory: string;
  readonly uuid: string;
  /** In words: foreign files, damage. */
  readonly problems: string[] = [];
  readonly log: CatalogLog;
  /** The files of layers, whoever they belong to. */
  readonly layers: LayerFiles;
  readonly mirrors: MirrorMarks;
  #files: PoolFiles;
  #lockFd: number;
  #now_ms: () => number;
  #faults: Map<string, string>;

  /** Opens the pool, or makes it where there is nothing. Throws StorageError. */
  static open(directory: string, now_ms: () => number, files: PoolFiles = kernelFiles): Pool {
    try {
      return new Pool(directory, now_ms, files);
    } catch (error) {
      throw toStorageError(error, `pool ${directory}`);
    }
  }

  private constructor(directory: string, now_ms: () => number, files: PoolFiles) {
    if (!path.isAbsolute(directory))
      throw new StorageError('POOL_NOT_A_POOL', `pool directory ${directory}: an absolute path is needed`);
    this.directory = directory;
    this.#now_ms = now_ms;
    this.#files = files;
    files.makeDirectory(directory);
    const foreign = strangersIn(directory, files);
    this.#lockFd = lockPool(directory);
    try {
      if (foreign.length > 0) this.problems.push(`not ours, left alone: ${listed(foreign)}`);
      this.layers = new LayerFiles(directory, files);
      this.mirrors = new MirrorMarks(directory, files);
      const found = examine(directory, files, this.layers, now_ms);
      this.uuid = found.uuid;
      this.log = found.log;
      this.#faults = this.#take(found);
    } catch (error) {
      unlockPool(this.#lockFd);
      throw error;
    }
  }

  #take(found: Examined): Map<string, string> {
    const { directory, problems, log, layers } = this;
    const { format, damage, leftovers, missing } = found;
    problems.push(...problemsOf(found));
    if (damage.length === 0 && format < FORMAT) {
      takeOver({ directory, files: this.#files, log, problems, now_ms: this.#now_ms });
      this.#jot(this.#catalog.layers.keys());
    }
    layers.setMissing(missing);
    const faults = this.#catalog.faults();
    if (damage.length === 0) {
      for (const uuid of leftovers) layers.remove(uuid);
      layers.resumeFreeing();
      this.collect();
    }
    for (const [name, fault] of faults) problems.push(`volume ${name} is not served: ${fault}`);
    if (missing.length > 0)
      for (const { name, top } of this.#catalog.volumes.values()) {
        const lost = this.#lostBelow(top);
        if (lost !== null && !faults.has(name))
          problems.push(`volume ${name} is read-only and has lost a part: ${lost}`);
      }
    return faults;
  }

  /** Freeing is waited for, but not long: what is left is done at the next open. Files still open are closed. */
  async close(): Promise<void> {
    await this.layers.close();
    this.log.close();
    unlockPool(this.#lockFd);
  }

  get #catalog() {
    return this.log.catalog;
  }

  names(): string[] {
    return [...this.#catalog.volumes.values()].map(({ name }) => name);
  }

  find(name: string): VolumeRecord | undefined {
    return this.#catalog.volumeNamed(name);
  }

  /** Throws VOLUME_UNKNOWN. */
  require(name: string): VolumeRecord {
    const volume = this.find(name);
    if (volume === undefined)
      throw new StorageError('VOLUME_UNKNOWN', `there is no volume ${name} in ${this.directory}`);
    return volume;
  }

  /** What is wrong with it, in words; null: nothing that the catalogue knows. */
  fault(name: string): string | null {
    return this.#faults.get(name) ?? null;
  }

  /**
   * Why it can only be read, in words; null: it can be written. Of its files, what was found when the pool was opened, or when
   * they were.
   */
  damage(volume: VolumeRecord): string | null {
    if (this.log.closed !== null) return `pool ${this.directory} is damaged, read-only: ${this.log.closed}`;
    const lost = this.#lostBelow(volume.top);
    return lost === null
      ? null
      : `${lost}. What it held answers EIO, the rest is read-only: copy that, roll back to a snapshot, or restore a backup`;
  }

  snapshots(volume: VolumeRecord): SnapshotRecord[] {
    return this.#catalog.snapshotsOf(volume.uuid);
  }

  requireSnapshot(volume: VolumeRecord, name: string): SnapshotRecord {
    const found = this.#catalog.snapshotNamed(volume.uuid, name);
    if (found === undefined)
      throw new StorageError('SNAPSHOT_UNKNOWN', `volume ${volume.name} has no snapshot ${name}`);
    return found;
  }

  chain(layer: string): LayerRecord[] {
    return this.#catalog.chain(layer);
  }

  /** What a layer's files take. */
  allocated_bytes(layer: string): number {
    return this.layers.allocated_bytes(layer, this.#catalog.volumeAt(layer) !== undefined);
  }

  view(volume: VolumeRecord): VolumeView {
    return this.#catalog.view(volume);
  }

  space(): { capacity_bytes: number; free_bytes: number } {
    const { capacity_bytes, free_bytes } = statfs(this.directory);
    return { capacity_bytes, free_bytes };
  }

  /** A new volume, empty. */
  make(name: string, wish: VolumeWish): VolumeRecord {
    this.#requireFree(name);
    const { size_bytes } = wish;
    requireSize(name, size_bytes);
    const checksums = wish.checksums ?? true;
    const preallocated = wish.preallocated ?? false;
    const layer = this.#record({ size_bytes, parent: null, inherits_bytes: 0, checksums, preallocated });
    const volume = newVolume(name, wish, layer);
    this.#withLayer(layer, `volume ${name} of ${size_bytes} bytes in ${this.directory}`, [
      { do: 'volume', volume },
    ]);
    return volume;
  }

  /** A new volume above a frozen layer. A larger one than what it is made from has zeroes behind. */
  clone(
    name: string,
    wish: VolumeWish,
    parent: string,
    from: VolumeRecord,
    inherits_bytes: number,
  ): VolumeRecord {
    this.#requireFree(name);
    requireSize(name, wish.size_bytes);
    this.#requireWhole(parent, `volume ${from.name} cannot be cloned`);
    if (wish.size_bytes < inherits_bytes)
      throw new StorageError(
        'VOLUME_SHRINK',
        `volume ${name}: a clone of ${from.name} has ${inherits_bytes} bytes at least, ${wish.size_bytes} are fewer`,
      );
    const checksums = wish.checksums ?? from.checksums;
    const preallocated = wish.preallocated ?? false;
    const { size_bytes } = wish;
    const layer = this.#record({ size_bytes, parent, inherits_bytes, checksums, preallocated });
    const volume = {
      ...newVolume(name, wish, layer),
      keyCheck: from.keyCheck,
      keyUuid: from.keyUuid ?? from.uuid,
    };
    this.#withLayer(layer, `volume ${name} in ${this.directory}`, [{ do: 'volume', volume }]);
    return volume;
  }

  /** Labels and quota; size is `resize`. */
  describe(volume: VolumeRecord, wish: Pick<VolumeWish, 'labels' | 'quota_bytes'>): VolumeRecord {
    const changed = {
      ...volume,
      labels: wish.labels === undefined ? volume.labels : { ...wish.labels },
      quota_bytes: wish.quota_bytes === undefined ? volume.quota_bytes : wish.quota_bytes,
    };
    if (JSON.stringify(changed) !== JSON.stringify(volume)) this.#commit([{ do: 'volume', volume: changed }]);
    return changed;
  }

  keepKeyCheck(volume: VolumeRecord, keyCheck: string): void {
    this.#commit([{ do: 'volume', volume: { ...volume, keyCheck } }]);
  }

  /** Nothing was ever written to it. */
  isBlank(volume: VolumeRecord): boolean {
    const chain = this.chain(volume.top);
    return chain.length === 1 && this.layers.isBlank(chain[0]!);
  }

  rename(volume: VolumeRecord, to: string): VolumeRecord {
    this.#requireFree(to);
    const renamed = { ...volume, name: to };
    this.#commit([{ do: 'volume', volume: renamed }]);
    return renamed;
  }

  /** The top's files get another length, then the catalogue says so. Shrinking cuts data off. */
  resize(volume: VolumeRecord, size_bytes: number): VolumeRecord {
    requireSize(volume.name, size_bytes);
    this.log.requireOpen();
    const top = this.#layer(volume.top);
    const resized = { ...volume, size_bytes };
    // What is cut off must not come back from below when it grows again.
    const inherits_bytes = Math.min(top.inherits_bytes, size_bytes);
    const layer = { ...top, size_bytes, inherits_bytes };
    const changes: Change[] = [
      { do: 'layer', layer },
      { do: 'volume', volume: resized },
    ];
    const what = `volume ${volume.name} of ${size_bytes} bytes in ${this.directory}`;
    try {
      if (size_bytes < volume.size_bytes) {
        this.#commit(changes);
        this.layers.setLength(top, size_bytes);
      } else {
        this.layers.setLength(top, size_bytes);
        this.#commit(changes);
      }
    } catch (error) {
      throw toStorageError(error, what);
    }
    return resized;
  }

  /** An empty layer on top of the volume, of which what was its top is frozen from then on. `done` may name it at once. */
  addTop(volume: VolumeRecord, also: readonly Change[] = []): { volume: VolumeRecord; frozen: LayerRecord } {
    const frozen = this.#layer(volume.top);
    this.#requireWhole(volume.top, `volume ${volume.name} cannot be frozen`);
    const { size_bytes, checksums, preallocated } = volume;
    const layer = this.#record({
      size_bytes,
      parent: frozen.uuid,
      inherits_bytes: Math.min(size_bytes, frozen.size_bytes),
      checksums,
      preallocated,
    });
    const changed = { ...volume, top: layer.uuid };
    this.#withLayer(layer, `volume ${volume.name} in ${this.directory}`, [
      { do: 'volume', volume: changed },
      ...also,
    ]);
    return { volume: changed, frozen };
  }

  snapshotRecord(
    volume: VolumeRecord,
    name: string,
    layer: string,
    labels: Readonly<Record<string, string>>,
  ): SnapshotRecord {
    if (!SNAPSHOT_NAME.test(name))
      throw new StorageError(
        'SNAPSHOT_NAME_INVALID',
        `"${name}" cannot name a snapshot: 1 to 63 letters, digits, dots, hyphens and underscores, no dot first`,
      );
    if (this.#catalog.snapshotNamed(volume.uuid, name) !== undefined)
      throw new StorageError('SNAPSHOT_EXISTS', `volume ${volume.name} has a snapshot ${name} already`);
    const { uuid, size_bytes } = volume;
    const createdAt_ms = this.#now_ms();
    return { uuid: randomUUID(), volume: uuid, name, layer, size_bytes, createdAt_ms, labels: { ...labels } };
  }

  commit(changes: readonly Change[]): void {
    this.#commit(changes);
  }

  /** Its content is that of the snapshot again; later snapshots stay. */
  rollback(volume: VolumeRecord, snapshot: SnapshotRecord): VolumeRecord {
    const { size_bytes } = snapshot;
    const { checksums, preallocated } = volume;
    this.#requireWhole(snapshot.layer, `volume ${volume.name} cannot be rolled back to ${snapshot.name}`);
    const layer = this.#record({
      size_bytes,
      parent: snapshot.layer,
      inherits_bytes: size_bytes,
      checksums,
      preallocated,
    });
    const changed = { ...volume, size_bytes, top: layer.uuid };
    this.#withLayer(layer, `volume ${volume.name} in ${this.directory}`, [{ do: 'volume', volume: changed }]);
    return changed;
  }

  dropSnapshot(snapshot: SnapshotRecord): void {
    this.#commit([{ do: 'drop', kind: 'snapshot', uuid: snapshot.uuid }]);
  }

  /** Destroys its data, but for layers that others share. When this returns, the name is free and stays so; the blocks follow. */
  destroy(volume: VolumeRecord): void {
    this.#commit([
      ...this.snapshots(volume).map(({ uuid }): Change => ({ do: 'drop', kind: 'snapshot', uuid })),
      { do: 'drop', kind: 'volume', uuid: volume.uuid },
    ]);
    this.collect();
  }

  /** Frees layers that nobody reaches and nobody has open. */
  collect(): void {
    const gone = this.#catalog.unreachable().filter(({ uuid }) => !this.layers.isNeeded(uuid));
    if (gone.length === 0 || this.log.closed !== null) return;
    this.#commit(gone.map(({ uuid }): Change => ({ do: 'drop', kind: 'layer', uuid })));
    for (const { uuid } of gone) this.layers.remove(uuid);
  }

  /** A layer's files, open until `release`. */
  acquire(uuid: string, rest = false): LayerOpening {
    return this.layers.acquire(this.#layer(uuid), rest);
  }

  release(uuid: string): void {
    this.layers.release(uuid);
  }

  /**
   * All of a chain, the newest first; each is to be released. Throws VOLUME_DAMAGED where something is lost, and then none is
   * open; `rest`: only where it is not known what it stands on, see `damage`.
   */
  acquireChain(layer: string, rest = false): LayerOpening[] {
    const chain = this.chain(layer);
    const last = chain[chain.length - 1];
    if (last === undefined || last.parent !== null)
      throw new StorageError(
        'VOLUME_DAMAGED',
        `layer ${last?.parent ?? layer} is in no record of ${this.directory}`,
      );
    const openings: LayerOpening[] = [];
    try {
      for (const { uuid } of chain) openings.push(this.acquire(uuid, rest));
    } catch (error) {
      for (const { uuid } of openings) this.release(uuid);
      throw error;
    }
    return openings;
  }

  hold(uuid: string): void {
    this.layers.hold(uuid);
  }

  unhold(uuid: string): void {
    this.layers.unhold(uuid);
  }

  /** Files for a layer that is in no chain; what `commit`s must name it before `collect` is called. */
  newLayer(like: VolumeRecord): LayerRecord {
    const { size_bytes, checksums } = like;
    const layer = this.#record({
      size_bytes,
      parent: null,
      inherits_bytes: 0,
      checksums,
      preallocated: false,
    });
    const withMap = { ...layer, plain: false };
    this.hold(layer.uuid);
    try {
      this.#withLayer(withMap, `a layer in ${this.directory}`, []);
    } catch (error) {
      this.unhold(layer.uuid);
      throw error;
    }
    return withMap;
  }

  /** What of a volume's opening the pool knows. The caller has acquired the chain. */
  opening(volume: VolumeRecord, layers: readonly LayerOpening[], quotaLeft_bytes: number): LayersOpening {
    const places = new Map(layers.map(({ uuid }, index) => [uuid, index]));
    return {
      kind: 'layers',
      layers,
      size_bytes: volume.size_bytes,
      writable: this.damage(volume) === null,
      preallocated: volume.preallocated,
      quotaLeft_bytes,
      checkpoints: this.snapshots(volume).flatMap(({ name, layer }) => {
        const newerLayers = places.get(layer);
        return newerLayers === undefined ? [] : [{ name, newerLayers }];
      }),
    };
  }

  #at(...names: string[]): string {
    return path.join(this.directory, ...names);
  }

  /** What is lost of the chain from this layer down, in words. */
  #lostBelow(layer: string): string | null {
    if (!this.layers.hasLosses) return null;
    for (const { uuid } of this.chain(layer)) {
      const lost = this.layers.lost(uuid);
      if (lost !== null) return lost;
    }
    return null;
  }

  #requireWhole(layer: string, what: string): void {
    const lost = this.#lostBelow(layer);
    if (lost !== null) throw new StorageError('VOLUME_DAMAGED', `${what}: ${lost}`);
  }

  #requireFree(name: string): void {
    if (!VOLUME_NAME.test(name))
      throw new StorageError(
        'VOLUME_NAME_INVALID',
        `"${name.slice(0, 100)}" cannot name a volume: 1 to 40 letters, digits, dots, hyphens and underscores, no dot first`,
      );
    if (this.#files.exists(this.#at('volumes', name)))
      throw new StorageError(
        'VOLUME_DAMAGED',
        `${this.directory} has a damaged volume ${name} of an older format: its files are in volumes/${name}. Move them away first`,
      );
    if (this.find(name) !== undefined)
      throw new StorageError('VOLUME_EXISTS', `there is a volume ${name} in ${this.directory} already`);
  }

  #layer(uuid: string): LayerRecord {
    const layer = this.#catalog.layers.get(uuid);
    if (layer === undefined)
      throw new StorageError('VOLUME_DAMAGED', `layer ${uuid} is in no record of ${this.directory}`);
    return layer;
  }

  #record(parts: {
    size_bytes: number;
    parent: string | null;
    inherits_bytes: number;
    checksums: boolean;
    preallocated: boolean;
  }): LayerRecord {
    if (parts.parent !== null && this.#catalog.depthOf(parts.parent) >= LAYERS_MAX_COUNT)
      throw new StorageError(
        'SNAPSHOT_FAILED',
        `a chain of more than ${LAYERS_MAX_COUNT} layers cannot be kept: delete snapshots, and wait until they are merged`,
      );
    // Without checksums and with nothing below, a file needs no map to say what is in it.
    const plain = parts.parent === null && !parts.checksums;
    const sum = parts.checksums ? ({ sum: 'products' } as const) : {};
    return { uuid: randomUUID(), ...parts, ...sum, plain, createdAt_ms: this.#now_ms() };
  }

  /** Makes the layer's files, then commits it with what else comes with it. Nothing is left when that fails. */
  #withLayer(layer: LayerRecord, what: string, also: readonly Change[]): void {
    this.log.requireOpen();
    try {
      this.layers.make(layer);
      try {
        this.#commit([{ do: 'layer', layer }, ...also]);
      } catch (error) {
        // Unless the catalogue cannot tell whether it was taken.
        if (this.log.closed === null) this.layers.unmake(layer.uuid);
        throw error;
      }
    } catch (error) {
      throw toStorageError(error, what);
    }
  }

  #commit(changes: readonly Change[]): void {
    const before = touchedBy(this.#catalog, changes);
    this.log.commit(changes);
    this.#jot(new Set([...before, ...touchedBy(this.#catalog, changes)]));
  }

  #jot(layers: Iterable<string>): void {
    for (const uuid of layers) {
      const text = noteOf(this.#catalog, this.uuid, this.log.last, uuid);
      if (text !== null) this.layers.note(uuid, text);
    }
  }
}
