/**
 * What is in a pool: layers, volumes, snapshots. State, the changes of it, and their text; pure. catalogLog.ts keeps the
 * text in a file.
 *
 *   <crc32, 8 hex> {"n":0,"catalog":2,"pool":UUID}
 *   <crc32, 8 hex> {"n":1,"changes":[...]}                 one line is one batch: all of it or nothing
 *
 * A record is whole in each change, so a line that is lost takes nothing with it but what it said. The last line may be cut
 * short by a crash: it was never acknowledged, and is cut off. A bad line before others is damage: it is told, the rest
 * counts, and nothing is changed any more.
 */
import * as zlib from 'node:zlib';
import { z } from 'zod';
import { VOLUME_NAME } from './meta.js';

export const CATALOG_FORMAT = 2;
export const SNAPSHOT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const Size = z
  .int()
  .min(4096)
  .max(2 ** 46)
  .multipleOf(4096);
const Labels = z.record(z.string().min(1).max(63), z.string().max(255));

export const LayerRecord = z.strictObject({
  uuid: z.uuid(),
  /** The layer below; null: none. */
  parent: z.uuid().nullable(),
  size_bytes: Size,
  /** Blocks from here on are not looked for below. */
  inherits_bytes: z.int().min(0),
  /** It has no map; see volume/opening.ts. */
  plain: z.boolean(),
  checksums: z.boolean(),
  preallocated: z.boolean(),
  createdAt_ms: z.number(),
});
export type LayerRecord = z.infer<typeof LayerRecord>;

export const VolumeRecord = z.strictObject({
  uuid: z.uuid(),
  name: z.string().regex(VOLUME_NAME),
  top: z.uuid(),
  size_bytes: Size,
  createdAt_ms: z.number(),
  checksums: z.boolean(),
  preallocated: z.boolean(),
  labels: Labels,
  quota_bytes: z.int().nullable(),
  /** Of its encryption key; null: it has none, or was never opened with one. */
  keyCheck: z.string().max(200).nullable(),
  /** By which its key is derived: of the volume that it was cloned from first; null: its own. */
  keyUuid: z.uuid().nullable(),
});
export type VolumeRecord = z.infer<typeof VolumeRecord>;

export const SnapshotRecord = z.strictObject({
  uuid: z.uuid(),
  /** Of the volume. */
  volume: z.uuid(),
  name: z.string().regex(SNAPSHOT_NAME),
  layer: z.uuid(),
  size_bytes: Size,
  createdAt_ms: z.number(),
  labels: Labels,
});
export type SnapshotRecord = z.infer<typeof SnapshotRecord>;

const Change = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('layer'), layer: LayerRecord }),
  z.strictObject({ do: z.literal('volume'), volume: VolumeRecord }),
  z.strictObject({ do: z.literal('snapshot'), snapshot: SnapshotRecord }),
  z.strictObject({ do: z.literal('drop'), kind: z.enum(['layer', 'volume', 'snapshot']), uuid: z.uuid() }),
]);
export type Change = z.infer<typeof Change>;

const Head = z.strictObject({ n: z.literal(0), catalog: z.literal(CATALOG_FORMAT), pool: z.uuid() });
const Batch = z.strictObject({ n: z.int().min(1), changes: z.array(Change) });

/** By uuid. */
export class Catalog {
  readonly layers = new Map<string, LayerRecord>();
  readonly volumes = new Map<string, VolumeRecord>();
  readonly snapshots = new Map<string, SnapshotRecord>();
  #byName = new Map<string, VolumeRecord>();

  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      switch (change.do) {
        case 'layer':
          this.layers.set(change.layer.uuid, change.layer);
          break;
        case 'volume': {
          const before = this.volumes.get(change.volume.uuid);
          if (before !== undefined) this.#byName.delete(before.name);
          this.volumes.set(change.volume.uuid, change.volume);
          this.#byName.set(change.volume.name, change.volume);
          break;
        }
        case 'snapshot':
          this.snapshots.set(change.snapshot.uuid, change.snapshot);
          break;
        case 'drop':
          this.#drop(change.kind, change.uuid);
      }
    }
  }

  volumeNamed(name: string): VolumeRecord | undefined {
    return this.#byName.get(name);
  }

  /** The oldest first. */
  snapshotsOf(volume: string): SnapshotRecord[] {
    const own = [...this.snapshots.values()].filter(snapshot => snapshot.volume === volume);
    // A clock may have gone backwards; the chain cannot.
    return own.sort(
      (a, b) => this.chain(a.layer).length - this.chain(b.layer).length || a.createdAt_ms - b.createdAt_ms,
    );
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

  /** The snapshot of another volume that this one stands on; null: it stands alone, or on what has no name. */
  parentOf(record: VolumeRecord): { volume: string; snapshot: string } | null {
    const below = this.chain(record.top).map(({ uuid }) => uuid);
    let found: { volume: string; snapshot: string } | null = null;
    let nearest = below.length;
    for (const { volume, name, layer } of this.snapshots.values()) {
      const depth = volume === record.uuid ? -1 : below.indexOf(layer);
      const owner = this.volumes.get(volume);
      if (depth < 0 || depth >= nearest || owner === undefined) continue;
      nearest = depth;
      found = { volume: owner.name, snapshot: name };
    }
    return found;
  }

  /** Names of other volumes that have this layer in their chain. */
  clonesOf(layer: string, volume: string): string[] {
    return [...this.volumes.values()]
      .filter(({ uuid, top }) => uuid !== volume && this.chain(top).some(one => one.uuid === layer))
      .map(({ name }) => name);
  }

  /** Layers that no volume and no snapshot reaches. */
  unreachable(): LayerRecord[] {
    const reached = new Set<string>();
    const roots = [...this.volumes.values()].map(({ top }) => top);
    for (const { layer } of this.snapshots.values()) roots.push(layer);
    for (const root of roots) {
      for (let next: string | null = root; next !== null && !reached.has(next);) {
        reached.add(next);
        next = this.layers.get(next)?.parent ?? null;
      }
    }
    return [...this.layers.values()].filter(({ uuid }) => !reached.has(uuid));
  }

  /** What contradicts itself, by volume name. */
  faults(): Map<string, string> {
    const faults = new Map<string, string>();
    const tops = new Map<string, string>();
    for (const { name, top } of this.volumes.values()) {
      const chain = this.chain(top);
      const last = chain[chain.length - 1];
      if (last === undefined) faults.set(name, `its layer ${top} is in no record`);
      else if (last.parent !== null) faults.set(name, `layer ${last.parent} below it is in no record`);
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

  #drop(kind: 'layer' | 'volume' | 'snapshot', uuid: string): void {
    if (kind === 'layer') this.layers.delete(uuid);
    else if (kind === 'snapshot') this.snapshots.delete(uuid);
    else {
      const volume = this.volumes.get(uuid);
      if (volume !== undefined && this.#byName.get(volume.name) === volume) this.#byName.delete(volume.name);
      this.volumes.delete(uuid);
    }
  }
}

export function headLine(pool: string): string {
  return line({ n: 0, catalog: CATALOG_FORMAT, pool });
}

export function batchLine(n: number, changes: readonly Change[]): string {
  return line({ n, changes });
}

function line(value: unknown): string {
  const text = JSON.stringify(value);
  return `${zlib.crc32(text).toString(16).padStart(8, '0')} ${text}\n`;
}

export interface Replayed {
  readonly catalog: Catalog;
  readonly pool: string | null;
  /** Number of the next batch. */
  readonly next: number;
  /** How much of the text counts; what is behind was cut short by a crash. */
  readonly length_bytes: number;
  readonly batchCount: number;
  /** In words; not empty: nothing must be changed. */
  readonly damage: string[];
}

/** Never throws, whatever the text. */
export function replay(bytes: Uint8Array): Replayed {
  const catalog = new Catalog();
  const damage: string[] = [];
  let pool: string | null = null;
  let next = 0;
  let length_bytes = 0;
  let batchCount = 0;
  let number = 0;
  const decoder = new TextDecoder();
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(10, at);
    number++;
    const isLast = end < 0 || end === bytes.length - 1;
    const value = end < 0 ? undefined : valueOf(decoder.decode(bytes.subarray(at, end)));
    if (value === undefined && isLast) break;
    at = end + 1;
    length_bytes = at;
    if (value === undefined) {
      damage.push(`line ${number} is damaged: what it said is lost`);
      continue;
    }
    if (number === 1) {
      const head = Head.safeParse(value);
      if (head.success) pool = head.data.pool;
      else damage.push('line 1 does not say that this is a catalogue of this format');
      next = 1;
      continue;
    }
    const batch = Batch.safeParse(value);
    if (!batch.success) {
      damage.push(`line ${number} says what this weft does not understand`);
      continue;
    }
    if (batch.data.n !== next && damage.length === 0)
      damage.push(`before line ${number} batches ${next} to ${batch.data.n - 1} are missing`);
    next = batch.data.n + 1;
    batchCount++;
    catalog.apply(batch.data.changes);
  }
  return { catalog, pool, next, length_bytes, batchCount, damage };
}

function valueOf(text: string): unknown {
  if (text[8] !== ' ') return undefined;
  const json = text.slice(9);
  if (zlib.crc32(json).toString(16).padStart(8, '0') !== text.slice(0, 8)) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}
