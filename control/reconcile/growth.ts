/**
 * Guests are told that their disks have become longer. NBD says a size once, so weft-storage hangs up on QEMU when a volume has
 * grown (`redialWhenGrown`): whatever it dials from then on has the new size, whoever died in between. What QEMU takes its disks
 * for is compared with what there is, in each turn; one by vhost-user is told by the plane, and has no size here.
 */
import { keyOf } from '../model/resource.js';
import type { ObservedGuest } from '../vmm/host.js';
import { nbdNameOf } from './boot.js';
import { volumeOfDisk } from './moving.js';
import { diskExportName } from './planes.js';
import type { Turn } from './turn.js';

/** Why the guest could not be told, if so. */
export function growDisks(turn: Turn, name: string, guest: ObservedGuest): string | null {
  const { desired, observed } = turn.at;
  const sizes_bytes = new Map<number, number>();
  for (const [index, disk] of (guest.plan?.disks ?? []).entries()) {
    const seen_bytes = guest.diskSizes_bytes[index] ?? null;
    const volume = volumeOfDisk(desired, disk.nbdName);
    if (seen_bytes === null || volume === undefined) continue;
    if (observed.storage?.exports.get(diskExportName(name, index))?.state !== 'listening') continue;
    const size_bytes = observed.storage.volumes.get(nbdNameOf(volume.pool, volume.volume))?.size_bytes;
    if (size_bytes !== undefined && size_bytes > seen_bytes) sizes_bytes.set(index, size_bytes);
  }
  if (sizes_bytes.size === 0) return null;
  const last = turn.act({ type: 'growDisks', name, sizes_bytes }, turn.generation(keyOf('machine', name)));
  return last === undefined ? null : `the guest was not told that its disk has grown: ${last.error}`;
}
