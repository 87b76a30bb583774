/**
 * A desk for jobs with a catalogue in memory and layers on real files, and a model of what every volume and snapshot reads as:
 * a number for each block, 0 for zeroes. Volumes are written offline, batch by batch, as a job writes layers.
 */
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { O_CREAT, O_RDWR, closeFile, openFile } from '../../../host/file.js';
import { keyMatches } from '../../../storage/cipher/key.js';
import { Checksum } from '../../../storage/checksum/checksum.js';
import { ChainReader } from '../../../storage/jobs/chainReader.js';
import type { HeldChain, HeldFlatten, HeldMerge, JobDesk, NewLayer } from '../../../storage/jobs/desk.js';
import { Difference, type Extent } from '../../../storage/jobs/extents.js';
import { LayerFile } from '../../../storage/jobs/layerFile.js';
import type { Encryption } from '../../../storage/jobs/manifest.js';
import { SLICE_BYTES, type Finding, type Slices } from '../../../storage/jobs/slices.js';
import type { Labels, SnapshotStatus } from '../../../storage/contract.js';
import { BLOCK_BYTES, REGION_BLOCKS, ZERO, mapBytesOf } from '../../../storage/layers/map.js';
import { StorageError } from '../../../storage/volume/errors.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';

export const checksum = new Checksum(2 * SLICE_BYTES);
export const buffer = checksum.take(SLICE_BYTES)!;

export class TestSlices implements Slices {
  readonly findings: Finding[] = [];
  total_bytes = 0;
  moves = 0;
  #failAt: number;

  /** Ends as if the process had died at this slice; 0: never. */
  constructor(failAt: number = 0) {
    this.#failAt = failAt;
  }

  async moved(): Promise<void> {
    if (++this.moves === this.#failAt) throw new Error('died here');
  }
  expect(total_bytes: number): void {
    this.total_bytes = total_bytes;
  }
  found(what: string, offset_bytes?: number, length_bytes?: number): void {
    this.findings.push({ what, offset_bytes: offset_bytes ?? null, length_bytes: length_bytes ?? null });
  }
}

export type Model = Uint32Array;

export interface LayerEntry {
  opening: LayerOpening;
  parent: string | null;
}
export interface VolumeEntry {
  readonly uuid: string;
  size_bytes: number;
  top: string;
  model: Model;
  encryption: Encryption | null;
}
export interface SnapshotEntry {
  readonly volume: string;
  readonly status: SnapshotStatus;
  layer: string;
  readonly model: Model;
}

/** What a block of this number looks like. */
function fillBlock(bytes: Uint8Array, value: number): void {
  new Uint32Array(bytes.buffer, bytes.byteOffset, BLOCK_BYTES / 4).fill(value);
}

/** All that the catalogue says at one moment; nothing of it changes later. */
export interface Catalogue {
  readonly layers: ReadonlyMap<string, LayerEntry>;
  readonly volumes: ReadonlyMap<string, VolumeEntry>;
  readonly snapshots: readonly SnapshotEntry[];
  readonly content: Model | null;
}

export class Rig implements JobDesk {
  readonly directory: string;
  readonly layers = new Map<string, LayerEntry>();
  readonly volumes = new Map<string, VolumeEntry>();
  readonly snapshotList: SnapshotEntry[] = [];
  readonly removed: string[] = [];
  readonly spoilt = new Set<string>();
  used = false;
  /** Of all volumes that are encrypted. */
  key = new Uint8Array(64).map((_, i) => i);
  /** What a restore must bring; null: the test says so later. */
  content: Model | null = null;
  #fds: number[] = [];
  #written = new Set<string>();
  #holds = 0;
  #merging: Promise<void> = Promise.resolve();
  #merged: () => void = () => undefined;
  #isMerging = false;
  /** For who records: a layer's files were made; the catalogue was changed, durably. */
  onLayer: (opening: LayerOpening) => void = () => undefined;
  onCommit: () => void = () => undefined;
  onSnapshot: () => void = () => undefined;

  constructor(directory: string = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-jobs-'))) {
    this.directory = directory;
  }

  /** With the files of `directory`. */
  static after({ layers, volumes, snapshots, content }: Catalogue, directory: string): Rig {
    const rig = new Rig(directory);
    rig.content = content;
    for (const [uuid, { opening, parent }] of layers) {
      const open = (name: string): number => {
        const fd = openFile(path.join(directory, 'layers', uuid, name), O_RDWR);
        rig.#fds.push(fd);
        return fd;
      };
      const fds = { dataFd: open('data'), mapFd: opening.mapFd < 0 ? -1 : open('map') };
      rig.layers.set(uuid, { parent, opening: { ...opening, ...fds } });
      rig.#written.add(uuid);
    }
    for (const [name, volume] of volumes) rig.volumes.set(name, structuredClone(volume));
    rig.snapshotList.push(...structuredClone(snapshots));
    return rig;
  }

  catalogue(): Catalogue {
    return {
      layers: new Map([...this.layers].map(([uuid, entry]) => [uuid, structuredClone(entry)])),
      volumes: structuredClone(this.volumes),
      snapshots: structuredClone(this.snapshotList),
      content: this.content,
    };
  }

  close(): void {
    for (const fd of this.#fds) closeFile(fd);
    fs.rmSync(this.directory, { recursive: true });
  }

  addLayer(
    size_bytes: number,
    parent: string | null,
    options: { plain?: boolean; checksums?: boolean } = {},
  ): string {
    const uuid = crypto.randomUUID();
    const room = path.join(this.directory, 'layers', uuid);
    fs.mkdirSync(room, { recursive: true });
    const dataFd = openFile(path.join(room, 'data'), O_RDWR | O_CREAT);
    fs.ftruncateSync(dataFd, size_bytes);
    this.#fds.push(dataFd);
    let mapFd = -1;
    if (options.plain !== true) {
      mapFd = openFile(path.join(room, 'map'), O_RDWR | O_CREAT);
      fs.ftruncateSync(mapFd, mapBytesOf(size_bytes));
      this.#fds.push(mapFd);
    }
    const inherits_bytes =
      parent === null ? 0 : Math.min(size_bytes, this.layers.get(parent)!.opening.size_bytes);
    const checksums = options.checksums ?? mapFd >= 0;
    // Every other one has the sums of older layers.
    const sum = this.layers.size % 2 === 0 ? ('products' as const) : undefined;
    this.layers.set(uuid, {
      parent,
      opening: { uuid, dataFd, mapFd, size_bytes, inherits_bytes, checksums, sum },
    });
    this.onLayer(this.layers.get(uuid)!.opening);
    return uuid;
  }

  addVolume(name: string, size_bytes: number, options: { plain?: boolean; checksums?: boolean } = {}): void {
    const uuid = crypto.randomUUID();
    const top = this.addLayer(size_bytes, null, options);
    this.volumes.set(name, {
      uuid,
      size_bytes,
      top,
      model: new Uint32Array(size_bytes / BLOCK_BYTES),
      encryption: null,
    });
  }

  cloneOf(snapshot: string, name: string): void {
    const { layer, model } = this.entry(snapshot);
    const { size_bytes } = this.layers.get(layer)!.opening;
    const uuid = crypto.randomUUID();
    const top = this.addLayer(size_bytes, layer);
    this.volumes.set(name, { uuid, size_bytes, top, model: model.slice(), encryption: null });
  }

  /** `value` 0: zeroed. */
  write(volume: string, block: number, count: number, value: number): void {
    const entry = this.volumes.get(volume)!;
    const layer = this.file(entry.top);
    this.#written.add(entry.top);
    const regions = new Set<number>();
    for (let i = 0; i < count; i++) regions.add(Math.floor((block + i) / REGION_BLOCKS));
    layer.begin([...regions]);
    const bytes = new Uint8Array(BLOCK_BYTES);
    for (let i = 0; i < count; i++) {
      const at = block + i;
      entry.model[at] = value === 0 ? 0 : value + i;
      if (value === 0 && !layer.plain) layer.setEmpty(at, ZERO);
      else {
        fillBlock(bytes, entry.model[at]!);
        layer.write(bytes, at * BLOCK_BYTES);
        layer.setData(at, layer.checksums ? layer.wordOf(bytes, 0, at) : 0);
      }
    }
    layer.commit();
    layer.finish();
  }

  resize(volume: string, size_bytes: number): void {
    const entry = this.volumes.get(volume)!;
    const blocks = size_bytes / BLOCK_BYTES;
    const model = new Uint32Array(blocks);
    model.set(entry.model.subarray(0, blocks));
    // As the desk does it: what is behind goes with a new top, which inherits no more than there is.
    entry.top = this.addLayer(size_bytes, entry.top);
    entry.size_bytes = size_bytes;
    entry.model = model;
  }

  file(uuid: string): LayerFile {
    return new LayerFile(this.layers.get(uuid)!.opening, checksum);
  }

  chain(uuid: string): LayerOpening[] {
    const chain: LayerOpening[] = [];
    for (let at: string | null = uuid; at !== null; at = this.layers.get(at)!.parent)
      chain.push(this.layers.get(at)!.opening);
    return chain;
  }

  /** What does not read as the model says; verified against the checksums as well. */
  faults(): string[] {
    const faults = [...this.volumes].flatMap(([name, { top, model }]) => this.#compare(name, top, model));
    for (const { volume, status, layer, model } of this.snapshotList)
      faults.push(...this.#compare(`${volume}@${status.name}`, layer, model));
    return faults;
  }

  #compare(name: string, layer: string, model: Model): string[] {
    const chain = this.chain(layer).map(opening => new LayerFile(opening, checksum));
    const reader = new ChainReader(chain);
    const difference = new Difference(null, chain);
    const bytes = new Uint8Array(BLOCK_BYTES);
    const words = new Uint32Array(bytes.buffer);
    let block = 0;
    const fault = (is: number): string[] => [`${name}: block ${block} is ${is}, not ${model[block]}`];
    if (difference.size_bytes !== model.length * BLOCK_BYTES) return [`${name}: its size is wrong`];
    const extents: Extent[] = [];
    for (let group = 0; group < difference.groupCount; group++) difference.group(group, extents);
    for (const { offset_bytes, length_bytes } of extents) {
      for (; block < offset_bytes / BLOCK_BYTES; block++) if (model[block] !== 0) return fault(0);
      for (; block < (offset_bytes + length_bytes) / BLOCK_BYTES; block++) {
        reader.read(block * BLOCK_BYTES, bytes);
        if (words[0] !== model[block] || words[1023] !== model[block]) return fault(words[0]!);
      }
    }
    for (; block < model.length; block++) if (model[block] !== 0) return fault(0);
    return [];
  }

  allocated_bytes(uuid: string): number {
    return fs.fstatSync(this.layers.get(uuid)!.opening.dataFd).blocks * 512;
  }

  entry(snapshot: string): SnapshotEntry {
    return this.snapshotList.find(({ status }) => status.name === snapshot)!;
  }

  // --- the desk ---

  async #hold(): Promise<() => void> {
    while (this.#isMerging) await this.#merging;
    this.#holds++;
    let isHeld = true;
    return () => {
      if (isHeld) this.#holds--;
      isHeld = false;
    };
  }

  mergeable(): { pool: string; layer: string }[] {
    if (this.#holds > 0 || this.#isMerging) return [];
    const named = new Set(this.snapshotList.map(({ layer }) => layer));
    for (const { top } of this.volumes.values()) named.add(top);
    for (const layer of named)
      if (![...this.volumes.values()].some(({ top }) => top === layer)) this.#written.add(layer);
    return (
      [...this.layers.keys()]
        .filter(uuid => !named.has(uuid) && this.#children(uuid).length === 1)
        // A top that has nothing yet is not worth being frozen.
        .filter(uuid => this.#written.has(this.#children(uuid)[0]!))
        .filter(uuid => !this.spoilt.has(uuid) && !this.spoilt.has(this.#children(uuid)[0]!))
        .map(layer => ({ pool: 'p', layer }))
    );
  }

  #children(uuid: string): string[] {
    return [...this.layers].filter(([, { parent }]) => parent === uuid).map(([child]) => child);
  }

  async holdMerge(_pool: string, layer: string): Promise<HeldMerge | null> {
    if (!this.mergeable().some(one => one.layer === layer)) return null;
    let child = this.#children(layer)[0]!;
    for (const entry of this.volumes.values())
      if (entry.top === child) entry.top = this.addLayer(entry.size_bytes, child);
    child = this.#children(layer)[0]!;
    const lower = this.layers.get(layer)!;
    const upper = this.layers.get(child)!.opening;
    this.#isMerging = true;
    this.#merging = new Promise(resolve => (this.#merged = resolve));
    const release = (): void => {
      this.#isMerging = false;
      this.#merged();
    };
    const spoil = (): void => void this.spoilt.add(layer).add(child);
    return { lower: lower.opening, upper, lowest: lower.parent === null, spoil, release };
  }

  async commitMerge(
    { lower, upper }: HeldMerge,
    kept: 'lower' | 'upper',
    how: { size_bytes: number; inherits_bytes: number },
  ): Promise<void> {
    const { parent } = this.layers.get(lower.uuid)!;
    const [stays, goes] = kept === 'lower' ? [lower, upper] : [upper, lower];
    const heirs = this.#children(upper.uuid);
    this.layers.set(stays.uuid, { parent, opening: { ...stays, ...how } });
    for (const child of heirs) this.layers.get(child)!.parent = stays.uuid;
    for (const entry of this.snapshotList) if (entry.layer === upper.uuid) entry.layer = stays.uuid;
    this.layers.delete(goes.uuid);
    this.removed.push(goes.uuid);
    this.onCommit();
  }

  async holdFlatten(
    _pool: string,
    volume: string,
  ): Promise<{
    shared: LayerOpening[];
    reach_bytes: number;
    lowest: string;
    release: () => void;
  }> {
    const release = await this.#hold();
    const chain = this.chain(this.volumes.get(volume)!.top);
    const shared = chain.slice(1);
    return {
      shared,
      reach_bytes: chain[0]!.inherits_bytes,
      lowest: chain[0]!.uuid,
      release,
    };
  }

  async commitFlatten(held: HeldFlatten, { layer }: NewLayer): Promise<void> {
    const { lowest } = held as HeldFlatten & { lowest: string };
    this.layers.get(lowest)!.parent = layer.uuid;
    this.onCommit();
  }

  async newLayer(_pool: string, volume: string): Promise<NewLayer> {
    const uuid = this.addLayer(this.volumes.get(volume)!.size_bytes, null);
    return { layer: this.layers.get(uuid)!.opening, release: () => undefined };
  }

  async commitContent(
    _pool: string,
    volume: string,
    { layer }: NewLayer,
    encryption: Encryption | null,
  ): Promise<void> {
    const entry = this.volumes.get(volume)!;
    entry.encryption = encryption;
    if (this.content !== null) entry.model = this.content.slice();
    entry.top = this.addLayer(entry.size_bytes, layer.uuid);
    this.onCommit();
  }

  requireIdle(_pool: string, volume: string): { uuid: string; size_bytes: number; isBlank: boolean } {
    if (this.used) throw new StorageError('VOLUME_EXPORTED', `${volume} is in use`);
    const entry = this.volumes.get(volume)!;
    return {
      ...entry,
      isBlank: this.layers.get(entry.top)!.parent === null && !this.#written.has(entry.top),
    };
  }

  volume(_pool: string, volume: string): { uuid: string; encryption: Encryption | null } {
    return this.volumes.get(volume)!;
  }

  keyOf(_pool: string, volume: string): { key: Uint8Array; encryption: Encryption } | null {
    const { encryption } = this.volumes.get(volume)!;
    return encryption === null ? null : { key: this.key.slice(), encryption };
  }

  requireKey(_pool: string, volume: string, encryption: Encryption | null): void {
    if (encryption !== null && !keyMatches(this.key, encryption.keyCheck))
      throw new StorageError('VOLUME_KEY', `another key than that of ${volume}`);
  }

  snapshots(_pool: string, volume: string): SnapshotStatus[] {
    return this.snapshotList.filter(one => one.volume === volume).map(one => structuredClone(one.status));
  }

  async snapshot(_pool: string, volume: string, name: string, labels: Labels = {}): Promise<SnapshotStatus> {
    const entry = this.volumes.get(volume)!;
    const { size_bytes, top, model } = entry;
    const status = {
      name,
      uuid: crypto.randomUUID(),
      createdAt_ms: 0,
      size_bytes,
      allocated_bytes: 0,
      labels,
      clones: [],
    };
    this.snapshotList.push({ volume, status, layer: top, model: model.slice() });
    this.onSnapshot();
    entry.top = this.addLayer(size_bytes, top);
    this.onCommit();
    return structuredClone(status);
  }

  async labelSnapshot(_pool: string, volume: string, snapshot: string, labels: Labels): Promise<void> {
    const found = this.snapshotList.find(one => one.volume === volume && one.status.name === snapshot)!;
    found.status.labels = labels;
    this.onCommit();
  }

  async deleteSnapshot(_pool: string, volume: string, snapshot: string): Promise<void> {
    const at = this.snapshotList.findIndex(one => one.volume === volume && one.status.name === snapshot);
    this.snapshotList.splice(at, 1);
    this.onCommit();
  }

  async holdSnapshot(_pool: string, volume: string, snapshot: string): Promise<HeldChain> {
    const release = await this.#hold();
    const { status, layer } = this.snapshotList.find(
      one => one.volume === volume && one.status.name === snapshot,
    )!;
    const { uuid, size_bytes } = this.volumes.get(volume)!;
    return {
      volume: { uuid, name: volume, size_bytes },
      snapshot: status,
      layers: this.chain(layer),
      release,
    };
  }

  tlsOf(): never {
    throw new Error('no TLS in this test');
  }

  async holdScrub(): Promise<{
    layers: { layer: LayerOpening; lowest: boolean; live: boolean; usedBy: string[]; mirrored: boolean }[];
    release: () => void;
  }> {
    const release = await this.#hold();
    const layers = [...this.layers.values()].map(({ opening, parent }) => ({
      layer: opening,
      lowest: parent === null,
      live: false,
      usedBy: ['disk'],
      mirrored: false,
    }));
    return { layers, release };
  }
}
