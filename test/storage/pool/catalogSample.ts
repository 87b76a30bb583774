/** Records of a small catalogue, by numbers, for its tests and its fuzz target. */
import type { Change, LayerRecord, SnapshotRecord, VolumeRecord } from '../../../storage/pool/catalog.js';

const SIZE_BYTES = 8192;

export const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

export const layer = (n: number, parent: number | null): LayerRecord => ({
  uuid: uuid(n),
  parent: parent === null ? null : uuid(parent),
  size_bytes: SIZE_BYTES,
  inherits_bytes: SIZE_BYTES,
  plain: false,
  checksums: true,
  preallocated: false,
  createdAt_ms: n,
});

export const volume = (n: number, name: string, top: number): VolumeRecord => ({
  uuid: uuid(n),
  name,
  top: uuid(top),
  size_bytes: SIZE_BYTES,
  createdAt_ms: n,
  checksums: true,
  preallocated: false,
  labels: {},
  quota_bytes: null,
  keyCheck: null,
  keyUuid: null,
});

/** Of volume 10, which has this layer for it. */
export const snapshot = (n: number, name: string, of: number): SnapshotRecord => ({
  uuid: uuid(n),
  volume: uuid(10),
  name,
  layer: uuid(of),
  size_bytes: SIZE_BYTES,
  createdAt_ms: 3,
  labels: {},
});

/** A layer, and the volume of which it is the top. */
export const topped = (top: LayerRecord, of: VolumeRecord): Change[] => [
  { do: 'layer', layer: top },
  { do: 'volume', volume: of },
];
