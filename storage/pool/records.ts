/** What a catalogue is made of: layers, volumes, snapshots, and the changes of them. A record is whole in each change. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { VOLUME_NAME } from './meta.js';

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
  /** Which (checksum/checksum.ts); left out: XXH3, as all had it that were made before there was another. */
  sum: z.literal('products').optional(),
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

export const Change = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('layer'), layer: LayerRecord }),
  z.strictObject({ do: z.literal('volume'), volume: VolumeRecord }),
  z.strictObject({ do: z.literal('snapshot'), snapshot: SnapshotRecord }),
  z.strictObject({ do: z.literal('drop'), kind: z.enum(['layer', 'volume', 'snapshot']), uuid: z.uuid() }),
]);
export type Change = z.infer<typeof Change>;

export interface VolumeWish {
  readonly size_bytes: number;
  readonly preallocated?: boolean | undefined;
  readonly checksums?: boolean | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly quota_bytes?: number | null | undefined;
}

/** A volume of which this layer is all there is. */
export function newVolume(name: string, wish: VolumeWish, layer: LayerRecord): VolumeRecord {
  const { size_bytes, checksums, preallocated, createdAt_ms, uuid: top } = layer;
  return {
    uuid: randomUUID(),
    name,
    top,
    size_bytes,
    createdAt_ms,
    checksums,
    preallocated,
    labels: { ...wish.labels },
    quota_bytes: wish.quota_bytes ?? null,
    keyCheck: null,
    keyUuid: null,
  };
}
