/**
 * What is, as the planes, the guests' edge and the images' edge told it. Whoever does not answer is null here,
 * never empty: absence that was not seen must not be acted upon.
 */
import type { DataplaneStatus, SwitchStatus } from '../../dataplane/contract.js';
import type { ExportStatus, PoolStatus, StorageStatus, VolumeStatus } from '../../storage/contract.js';
import type { BootFiles, ObservedImage } from '../image/host.js';
import type { ObservedGuest } from '../vmm/host.js';

export interface SeenDataplane {
  generation: number;
  switches: ReadonlyMap<string, SwitchStatus>;
}

export interface SeenStorage {
  generation: number;
  pools: ReadonlyMap<string, PoolStatus>;
  /** By `pool/volume`. */
  volumes: ReadonlyMap<string, VolumeStatus>;
  exports: ReadonlyMap<string, ExportStatus>;
}

export interface SeenImage {
  image: ObservedImage;
  /** Null until it is ready. */
  boot: BootFiles | null;
}

export interface SeenGuest {
  guest: ObservedGuest;
  /** Whose QEMU it is: its disks' sockets are given to that user. */
  owner: { uid: number; gid: number } | null;
}

export interface Observed {
  /** Null while the plane is not up; then `dataplaneReason` says why. */
  dataplane: SeenDataplane | null;
  dataplaneReason: string;
  storage: SeenStorage | null;
  storageReason: string;
  images: ReadonlyMap<string, SeenImage>;
  /** Those whose place has been prepared. */
  guests: ReadonlyMap<string, SeenGuest>;
}

export function seenDataplane(status: DataplaneStatus): SeenDataplane {
  return {
    generation: status.generation,
    switches: new Map(status.switches.map(one => [one.name, one])),
  };
}

export function seenStorage(status: StorageStatus): SeenStorage {
  return {
    generation: status.generation,
    pools: new Map(status.pools.map(pool => [pool.name, pool])),
    volumes: new Map(status.volumes.map(volume => [`${volume.pool}/${volume.name}`, volume])),
    exports: new Map(status.exports.map(one => [one.name, one])),
  };
}

/** Whether its QEMU lives: its disks must be served, whatever the configuration says now. */
export function isAlive(guest: ObservedGuest): boolean {
  return guest.state !== 'stopped' && guest.state !== 'crashed';
}

export function isActive(guest: ObservedGuest | undefined): guest is ObservedGuest {
  return guest !== undefined && isAlive(guest);
}
