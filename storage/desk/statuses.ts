/** What is told of a volume: of its record, its files, and of the data thread's side where it is open. */
import { placeOf, type VolumeConfig, type VolumeStatus } from '../contract.js';
import type { VolumeRecord } from '../pool/catalog.js';
import { snapshotStatus } from './operations.js';
import type { Store } from './stores.js';
import type { UsedVolume } from './volumes.js';

export function volumeStatus(store: Store, record: VolumeRecord, used: UsedVolume | undefined): VolumeStatus {
  const pool = store.directory();
  const { name, uuid, size_bytes, createdAt_ms, preallocated, checksums, labels, quota_bytes } = record;
  const { own, snapshots, parent, depth } = pool.view(record);
  const fault = pool.fault(name) ?? pool.damage(record);
  return {
    pool: store.config.name,
    name,
    uuid,
    size_bytes,
    allocated_bytes: own.reduce((sum, layer) => sum + pool.allocated_bytes(layer), 0),
    createdAt_ms,
    state: fault === null ? (used?.state ?? 'ok') : 'damaged',
    reason: fault ?? used?.reason ?? null,
    preallocated,
    checksums,
    labels,
    quota_bytes,
    parent,
    depth,
    snapshots: snapshots.map(one => snapshotStatus(pool, one.record, one.clones)),
    checksumErrors: used?.checksumErrors ?? 0,
    ...throttledOf(used),
    mirror: used?.mirror ?? null,
  };
}

/** A volume of a device or of another server, as the configuration names it; none while its size is not known. */
export function statusAsItIs(
  store: Store,
  { name, remoteName }: VolumeConfig,
  used: UsedVolume | undefined,
): VolumeStatus[] {
  const { device, remote, config } = store;
  const size_bytes = device?.size_bytes ?? remote?.size_bytes(remoteName ?? name) ?? null;
  if (size_bytes === null) return [];
  return [
    {
      pool: config.name,
      name,
      uuid: placeOf(config),
      size_bytes,
      allocated_bytes: device?.allocated_bytes ?? 0,
      createdAt_ms: 0,
      state: used?.state ?? 'ok',
      reason: used?.reason ?? null,
      ...throttledOf(used),
      mirror: used?.mirror ?? null,
    },
  ];
}

function throttledOf(used: UsedVolume | undefined): { throttledCount: number; throttled_ms: number } {
  return { throttledCount: used?.throttled[0] ?? 0, throttled_ms: Math.round(used?.throttled[1] ?? 0) };
}
