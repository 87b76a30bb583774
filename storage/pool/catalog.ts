/**
 * What is in a pool, by uuid: state, and what follows from it. Pure; records.ts has the records, catalogText.ts their text.
 *
 * What is asked of one volume costs its own length and not that of the pool, however many volumes and snapshots there are.
 * Only who of several volumes owns a layer that they share needs all of it: that is found once for each state of the
 * catalogue (`#shares`). Order is that of the catalogue, in which things were made: clocks go backwards.
 */
import type { Change, LayerRecord, SnapshotRecord, VolumeRecord } from './records.js';

export * from './records.js';

/** What there is to say of a volume beyond its record. */
export interface VolumeView {
  /** Layers that count as its own: each is reached by it or a snapshot of it, and by no older volume. */
  readonly own: readonly string[];
  /** The oldest first. `clones`: names of volumes that stand on it. */
  readonly snapshots: readonly { readonly record: SnapshotRecord; readonly clones: readonly string[] }[];
  /** The snapshot of another volume that this one stands on; null: it stands alone, or on what has no name. */
  readonly parent: { readonly volume: string; readonly snapshot: string } | null;
  /** Layers of its chain. */
  readonly depth: number;
}

interface Shares {
  readonly own: ReadonlyMap<string, readonly string[]>;
  /** By snapshot. */
  readonly clones: ReadonlyMap<string, readonly string[]>;
}

const NONE: readonly string[] = [];

export class Catalog {
  /** Map keeps the place of what is set again: so these are in the order in which things were made. */
  readonly layers = new Map<string, LayerRecord>();
  readonly volumes = new Map<string, VolumeRecord>();
  readonly snapshots = new Map<string, SnapshotRecord>();
  #byName = new Map<string, VolumeRecord>();
  #atTop = new Map<string, VolumeRecord>();
  #ofVolume = new Map<string, Map<string, SnapshotRecord>>();
  #ofLayer = new Map<string, Map<string, SnapshotRecord>>();
  /** How many layers, volumes and snapshots stand on a layer, whether it is known or not. */
  #uses = new Map<string, number>();
  /** Layers on which nothing stands. */
  #loose = new Set<string>();
  #shares: Shares | null = null;
  /** Of chains, as far as they were asked for; forgotten when one is shortened. */
  #depths = new Map<string, number>();
  /** Which volume was made before which. */
  #age = new Map<string, number>();
  #madeCount = 0;
  #names = new Map<string, Map<string, SnapshotRecord>>();

  apply(changes: readonly Change[]): void {
    this.#shares = null;
    for (const change of changes) {
      switch (change.do) {
        case 'layer':
          this.#setLayer(change.layer);
          break;
        case 'volume':
          this.#setVolume(change.volume);
          break;
        case 'snapshot':
          this.#setSnapshot(change.snapshot);
          break;
        case 'drop':
          this.#drop(change.kind, change.uuid);
      }
    }
  }

  volumeNamed(name: string): VolumeRecord | undefined {
    return this.#byName.get(name);
  }

  /** The one that writes to this layer. */
  volumeAt(layer: string): VolumeRecord | undefined {
    return this.#atTop.get(layer);
  }

  /** The oldest first. */
  snapshotsOf(volume: string): SnapshotRecord[] {
    return [...(this.#ofVolume.get(volume)?.values() ?? [])];
  }

  /** Those of any volume that have this layer. */
  snapshotsAt(layer: string): SnapshotRecord[] {
    return [...(this.#ofLayer.get(layer)?.values() ?? [])];
  }

  /** The layers of a chain from this one down. Ends where a parent is not known. */
  chain(layer: string): LayerRecord[] {
    const out: LayerRecord[] = [];
    const seen = new Set<string>();
    for (let next: string | null = layer; next !== null && !seen.has(next);) {
      seen.add(next);
      const record = this.layers.get(next);
      if (record === undefined) break;
      out.push(record);
      next = record.parent;
    }
    return out;
  }

  snapshotNamed(volume: string, name: string): SnapshotRecord | undefined {
    return this.#names.get(volume)?.get(name);
  }

  /** How many layers `chain` has. */
  depthOf(layer: string): number {
    const path: string[] = [];
    const seen = new Set<string>();
    let below = 0;
    for (let next: string | null = layer; next !== null && !seen.has(next);) {
      const known = this.#depths.get(next);
      const record = this.layers.get(next);
      if (known !== undefined || record === undefined) {
        below = known ?? 0;
        break;
      }
      seen.add(next);
      path.push(next);
      next = record.parent;
    }
    for (let i = path.length - 1; i >= 0; i--) this.#depths.set(path[i]!, ++below);
    return below;
  }

  view(volume: VolumeRecord): VolumeView {
    const alone = this.#ownIfAlone(volume);
    const shares = alone === null ? this.#findShares() : null;
    const snapshots = this.snapshotsOf(volume.uuid).map(record => ({
      record,
      clones: shares?.clones.get(record.uuid) ?? NONE,
    }));
    const own = alone ?? shares?.own.get(volume.uuid) ?? NONE;
    return { own, snapshots, parent: this.#parentOf(volume), depth: this.depthOf(volume.top) };
  }

  /** Layers that no volume and no snapshot reaches. Costs no more than there are. */
  unreachable(): LayerRecord[] {
    const out: LayerRecord[] = [];
    const left = new Map<string, number>();
    const next = [...this.#loose];
    for (let uuid = next.pop(); uuid !== undefined; uuid = next.pop()) {
      const record = this.layers.get(uuid)!;
      out.push(record);
      const { parent } = record;
      if (parent === null || !this.layers.has(parent)) continue;
      const uses = (left.get(parent) ?? this.#uses.get(parent)!) - 1;
      left.set(parent, uses);
      if (uses === 0) next.push(parent);
    }
    return out;
  }

  /** What contradicts itself, by volume name. */
  faults(): Map<string, string> {
    const faults = new Map<string, string>();
    const tops = new Map<string, string>();
    /** What is wrong below a layer; null: nothing. */
    const known = new Map<string, string | null>();
    for (const { name, top } of this.volumes.values()) {
      const path = new Set<string>();
      let found: string | null | undefined;
      for (let next: string | null = top; found === undefined;) {
        if (next === null) found = null;
        else if (path.has(next)) found = `layer ${next} stands on itself`;
        else if (known.has(next)) found = known.get(next);
        else {
          const record: LayerRecord | undefined = this.layers.get(next);
          if (record === undefined)
            found =
              next === top ? `its layer ${top} is in no record` : `layer ${next} below it is in no record`;
          else {
            path.add(next);
            next = record.parent;
          }
        }
      }
      for (const uuid of path) known.set(uuid, found);
      if (found !== null) faults.set(name, found);
      const other = tops.get(top);
      if (other !== undefined) faults.set(name, `its layer ${top} is that of volume ${other} too`);
      tops.set(top, name);
    }
    return faults;
  }

  /** The shortest way to say all of it. */
  changes(): Change[] {
    return [
      ...[...this.layers.values()].map((layer): Change => ({ do: 'layer', layer })),
      ...[...this.volumes.values()].map((volume): Change => ({ do: 'volume', volume })),
      ...[...this.snapshots.values()].map((snapshot): Change => ({ do: 'snapshot', snapshot })),
    ];
  }

  #setLayer(layer: LayerRecord): void {
    const before = this.layers.get(layer.uuid);
    // Also where one becomes known that others stand on.
    if (before === undefined ? this.#uses.has(layer.uuid) : before.parent !== layer.parent)
      this.#depths.clear();
    this.#move(before?.parent ?? null, layer.parent);
    this.layers.set(layer.uuid, layer);
    if ((this.#uses.get(layer.uuid) ?? 0) === 0) this.#loose.add(layer.uuid);
  }

  #setVolume(volume: VolumeRecord): void {
    const before = this.volumes.get(volume.uuid);
    if (before !== undefined && this.#byName.get(before.name) === before) this.#byName.delete(before.name);
    if (before === undefined) this.#age.set(volume.uuid, this.#madeCount++);
    this.#leaveTop(before);
    this.#move(before?.top ?? null, volume.top);
    this.#atTop.set(volume.top, volume);
    this.volumes.set(volume.uuid, volume);
    this.#byName.set(volume.name, volume);
  }

  #setSnapshot(snapshot: SnapshotRecord): void {
    const before = this.snapshots.get(snapshot.uuid);
    if (before !== undefined && before.volume !== snapshot.volume)
      removeFrom(this.#ofVolume, before.volume, snapshot.uuid);
    if (before !== undefined && before.layer !== snapshot.layer)
      removeFrom(this.#ofLayer, before.layer, snapshot.uuid);
    this.#move(before?.layer ?? null, snapshot.layer);
    this.snapshots.set(snapshot.uuid, snapshot);
    addTo(this.#ofVolume, snapshot.volume, snapshot);
    addTo(this.#ofLayer, snapshot.layer, snapshot);
    if (before !== undefined) this.#forgetName(before);
    const names = this.#names.get(snapshot.volume);
    if (names === undefined) this.#names.set(snapshot.volume, new Map([[snapshot.name, snapshot]]));
    else names.set(snapshot.name, snapshot);
  }

  #drop(kind: 'layer' | 'volume' | 'snapshot', uuid: string): void {
    if (kind === 'layer') {
      if ((this.#uses.get(uuid) ?? 0) > 0) this.#depths.clear();
      this.#depths.delete(uuid);
      this.#move(this.layers.get(uuid)?.parent ?? null, null);
      this.layers.delete(uuid);
      this.#loose.delete(uuid);
    } else if (kind === 'snapshot') {
      const snapshot = this.snapshots.get(uuid);
      if (snapshot === undefined) return;
      this.#move(snapshot.layer, null);
      this.#forgetName(snapshot);
      removeFrom(this.#ofVolume, snapshot.volume, uuid);
      removeFrom(this.#ofLayer, snapshot.layer, uuid);
      this.snapshots.delete(uuid);
    } else {
      const volume = this.volumes.get(uuid);
      if (volume === undefined) return;
      this.#leaveTop(volume);
      this.#move(volume.top, null);
      if (this.#byName.get(volume.name) === volume) this.#byName.delete(volume.name);
      this.volumes.delete(uuid);
      this.#age.delete(uuid);
    }
  }

  #forgetName(snapshot: SnapshotRecord): void {
    const names = this.#names.get(snapshot.volume);
    if (names?.get(snapshot.name) === snapshot) names.delete(snapshot.name);
    if (names?.size === 0) this.#names.delete(snapshot.volume);
  }

  #leaveTop(volume: VolumeRecord | undefined): void {
    if (volume !== undefined && this.#atTop.get(volume.top) === volume) this.#atTop.delete(volume.top);
  }

  /** What stood on the one layer stands on the other. */
  #move(from: string | null, to: string | null): void {
    if (from === to) return;
    if (to !== null) {
      this.#uses.set(to, (this.#uses.get(to) ?? 0) + 1);
      this.#loose.delete(to);
    }
    if (from === null) return;
    const left = this.#uses.get(from)! - 1;
    if (left > 0) this.#uses.set(from, left);
    else {
      this.#uses.delete(from);
      if (this.layers.has(from)) this.#loose.add(from);
    }
  }

  #roots({ uuid, top }: VolumeRecord): string[] {
    return [top, ...this.snapshotsOf(uuid).map(({ layer }) => layer)];
  }

  /**
   * Layers that count as the volume's, where that is seen without looking at others: above what is the snapshot of an older one,
   * nothing of others stands on them. null: it is not.
   */
  #ownIfAlone(volume: VolumeRecord): string[] | null {
    /** Uses of a layer that come from this volume. */
    const ours = new Map<string, number>();
    for (const root of this.#roots(volume)) {
      for (let next: string | null = root; next !== null && !this.#isOlders(next, volume);) {
        const uses = ours.get(next);
        ours.set(next, (uses ?? 0) + 1);
        if (uses !== undefined) break;
        next = this.layers.get(next)?.parent ?? null;
      }
    }
    for (const [uuid, uses] of ours) if (uses !== this.#uses.get(uuid)) return null;
    return [...ours.keys()].filter(uuid => this.layers.has(uuid));
  }

  /** It is a snapshot of a volume that was made before. */
  #isOlders(layer: string, { uuid }: VolumeRecord): boolean {
    const at = this.#ofLayer.get(layer);
    if (at === undefined) return false;
    for (const { volume } of at.values())
      if (this.volumes.has(volume) && this.#age.get(volume)! < this.#age.get(uuid)!) return true;
    return false;
  }

  #findShares(): Shares {
    if (this.#shares !== null) return this.#shares;
    const owned = new Set<string>();
    const own = new Map<string, string[]>();
    const clones = new Map<string, string[]>();
    for (const volume of this.volumes.values()) {
      const layers: string[] = [];
      for (const root of this.#roots(volume))
        for (let next: string | null = root; next !== null && !owned.has(next);) {
          const record = this.layers.get(next);
          if (record === undefined) break;
          owned.add(next);
          layers.push(next);
          next = record.parent;
        }
      own.set(volume.uuid, layers);
      for (const { uuid } of this.#below(volume)) {
        const others = clones.get(uuid);
        if (others === undefined) clones.set(uuid, [volume.name]);
        else others.push(volume.name);
      }
    }
    this.#shares = { own, clones };
    return this.#shares;
  }

  #parentOf(volume: VolumeRecord): { volume: string; snapshot: string } | null {
    const snapshot = this.#below(volume)[0];
    if (snapshot === undefined) return null;
    return { volume: this.volumes.get(snapshot.volume)!.name, snapshot: snapshot.name };
  }

  /** The nearest snapshots of other volumes in its chain: more than one, when they were taken without a write between them. */
  #below(volume: VolumeRecord): SnapshotRecord[] {
    const seen = new Set<string>();
    for (let next: string | null = volume.top; next !== null && !seen.has(next);) {
      seen.add(next);
      const at = this.#ofLayer.get(next);
      if (at !== undefined && (at.size > 1 || !isOf(at, volume))) {
        const found = [...at.values()].filter(
          one => one.volume !== volume.uuid && this.volumes.has(one.volume),
        );
        if (found.length > 0) return found;
      }
      next = this.layers.get(next)?.parent ?? null;
    }
    return [];
  }
}

function addTo(map: Map<string, Map<string, SnapshotRecord>>, key: string, snapshot: SnapshotRecord): void {
  const some = map.get(key);
  if (some === undefined) map.set(key, new Map([[snapshot.uuid, snapshot]]));
  else some.set(snapshot.uuid, snapshot);
}

function removeFrom(map: Map<string, Map<string, SnapshotRecord>>, key: string, uuid: string): void {
  const some = map.get(key);
  some?.delete(uuid);
  if (some?.size === 0) map.delete(key);
}

function isOf(at: ReadonlyMap<string, SnapshotRecord>, { uuid }: VolumeRecord): boolean {
  for (const { volume } of at.values()) if (volume !== uuid) return false;
  return true;
}
