/**
 * What weft-storage is to have: pools, how volumes are opened, and every export, those of machines' disks and of fills
 * included. Like planes.ts, whose second half it is: pure, and the same for the same input.
 */
import type { ExportConfig, PoolConfig, StorageConfig, VolumeConfig } from '../../storage/contract.js';
import { exportSocket } from '../model/layout.js';
import type { Layout } from '../model/layout.js';
import type { SpecOf } from '../model/spec.js';
import { exportToPlane } from '../model/storage/export.js';
import { poolKind, poolToPlane } from '../model/storage/pool.js';
import { legOf, toOpen } from '../model/storage/volume.js';
import type { Block } from '../model/storage/volume.js';
import { diskSerial } from '../vmm/arguments.js';
import type { BootPlan } from '../vmm/host.js';
import { vhostOf } from './boot.js';
import type { Sockets } from './boot.js';
import { fillFact } from './desired.js';
import type { Desired } from './desired.js';
import { carriedOut, isCut, moveTarget, volumeOfDisk } from './moving.js';
import { isActive } from './observed.js';
import type { Observed, SeenGuest } from './observed.js';
import {
  bootedWith,
  diskExportName,
  exportNameOf,
  fillExportName,
  fillSocket,
  generationOf,
  moveExportName,
  moveSocket,
  wanted,
  withNeeded,
} from './planes.js';
import type { IsStarting } from './planes.js';

/** Whether what the plane lists of this pool is all there is in it. */
export function isPoolOpen(observed: Observed, pool: string): boolean {
  const state = observed.storage?.pools.get(pool)?.state;
  return state === 'open' || state === 'low';
}

/**
 * Whether a volume may be shown to anyone: not while it is half filled from its image, and not when the plane
 * says that it is not there. Unknown (the pool is not open yet) counts as there: a plane that has just started
 * must be told of all disks that it is to serve, not of those that it has already seen.
 */
export function isServable(desired: Desired, observed: Observed, pool: string, volume: string): boolean {
  if (fillFact(desired, pool, volume)?.state === 'filling' || isCut(desired, volume)) return false;
  // Its predecessor's data is still to be destroyed, which a plane refuses while it is exported.
  if (desired.burials.get(`volume/${volume}`)?.destroyData === true) return false;
  if (!isPoolOpen(observed, pool)) return true;
  return isMade(observed, pool, volume);
}

/** Likewise of a snapshot. */
export function hasSnapshot(observed: Observed, pool: string, volume: string, snapshot: string): boolean {
  if (!isPoolOpen(observed, pool)) return true;
  const seen = observed.storage?.volumes.get(`${pool}/${volume}`);
  return seen?.snapshots?.some(({ name }) => name === snapshot) === true;
}

/**
 * How volumes are opened. Also those on their way out: a guest that lives goes on with an encrypted disk under its key.
 * A second side of a mirror that is not made yet is not spoken of.
 */
function toVolumes(desired: Desired, observed: Observed): VolumeConfig[] {
  const configs: VolumeConfig[] = [];
  const isNamed = (pool: string): boolean => {
    const spec = desired.specs.pool.get(pool);
    return spec !== undefined && poolKind(spec) !== 'directory';
  };
  for (const [name, asked] of withNeeded(desired, 'volume', () => true)) {
    const spec = carriedOut(desired, name, asked);
    const leg = legOf(spec);
    const withMirror =
      leg !== undefined &&
      (isNamed(leg.pool) || !isPoolOpen(observed, leg.pool) || isMade(observed, leg.pool, name));
    const all = [
      toOpen(name, spec, { isNamed: isNamed(spec.pool), withMirror }),
      leg === undefined ? undefined : toOpen(name, leg, { isNamed: isNamed(leg.pool), withMirror: false }),
    ];
    configs.push(...all.filter(config => config !== undefined));
  }
  return configs;
}

function disksOf(desired: Desired, name: string, plan: BootPlan, seen: SeenGuest): ExportConfig[] {
  return plan.disks.flatMap((disk, index) => {
    const volume = volumeOfDisk(desired, disk.nbdName);
    if (volume === undefined || isCut(desired, volume.volume)) return [];
    return [diskExport(name, index, { ...volume, ...disk }, seen)];
  });
}

function diskExport(
  name: string,
  index: number,
  disk: {
    pool: string;
    volume: string;
    nbdName: string;
    readOnly: boolean;
    socketPath: string;
    block?: Block | undefined;
    vhost?: { queues: number } | undefined;
  },
  seen: SeenGuest,
): ExportConfig {
  const at = { path: disk.socketPath, ...(seen.owner === null ? {} : { owner: seen.owner }) };
  return {
    name: diskExportName(name, index),
    nbdName: disk.nbdName,
    pool: disk.pool,
    volume: disk.volume,
    readOnly: disk.readOnly,
    ...(disk.block === undefined ? {} : { minimumBlock_bytes: disk.block }),
    // QEMU does so; growth.ts tells it to look then.
    ...(disk.vhost === undefined ? { redialWhenGrown: true } : {}),
    listen: [
      disk.vhost === undefined
        ? { kind: 'unix', ...at }
        : { kind: 'vhost-user', ...at, ...disk.vhost, serial: diskSerial(disk.nbdName, index) },
    ],
  };
}

export function toStorageConfig(
  desired: Desired,
  observed: Observed,
  sockets: Sockets,
  layout: Layout,
  isStarting: IsStarting,
): StorageConfig {
  const exports: ExportConfig[] = [];
  const servable = (pool: string, volume: string): boolean => isServable(desired, observed, pool, volume);
  for (const [name, spec] of desired.specs.export) {
    const volume = desired.specs.volume.get(spec.volume);
    if (volume === undefined || !servable(volume.pool, spec.volume)) continue;
    const { pool, block } = volume;
    if (spec.snapshot !== undefined && !hasSnapshot(observed, pool, spec.volume, spec.snapshot)) continue;
    const socketPath = exportSocket(layout, name, spec.unix);
    const nbdName = spec.exportName ?? name;
    exports.push(exportToPlane(spec, { name: exportNameOf(name), nbdName, pool, socketPath, block }));
  }
  // A running guest keeps the disks that it was booted with; its spec counts from the next start.
  for (const [name, seen] of observed.guests) {
    const plan = bootedWith(name, seen.guest, isStarting);
    if (plan !== null) exports.push(...disksOf(desired, name, plan, seen));
  }
  for (const [name, spec] of desired.specs.machine) {
    const seen = observed.guests.get(name);
    if (seen === undefined || bootedWith(name, seen.guest, isStarting) !== null) continue;
    if (!isActive(seen.guest) && !wanted(desired, name)) continue;
    for (const [index, disk] of spec.disks.entries()) {
      const volume = desired.specs.volume.get(disk.volume);
      if (volume === undefined || !servable(volume.pool, disk.volume)) continue;
      const nbdName = `${volume.pool}/${disk.volume}`;
      const socketPath = sockets.diskSocket(name, index);
      const block = disk.block ?? volume.block;
      const vhost = vhostOf(disk, spec);
      exports.push(
        diskExport(name, index, { pool: volume.pool, nbdName, socketPath, ...disk, block, ...vhost }, seen),
      );
    }
  }
  for (const [name, spec] of desired.specs.volume)
    if (fillFact(desired, spec.pool, name)?.state === 'filling' && isMade(observed, spec.pool, name))
      exports.push({
        name: fillExportName(name),
        nbdName: name,
        pool: spec.pool,
        volume: name,
        readOnly: false,
        listen: [{ kind: 'unix', path: fillSocket(layout, name) }],
      });
  for (const [name, spec] of desired.specs.volume)
    if (moveTarget(desired, name) !== undefined && servable(spec.pool, name))
      exports.push({
        name: moveExportName(name),
        nbdName: name,
        pool: spec.pool,
        volume: name,
        readOnly: true,
        listen: [{ kind: 'unix', path: moveSocket(layout, name) }],
      });
  exports.sort((a, b) => (a.name < b.name ? -1 : 1));
  const volumes = toVolumes(desired, observed);
  const needed = new Set(exports.map(one => one.pool));
  for (const [key, burial] of desired.burials)
    if (key.startsWith('volume/')) {
      const { pool, mirror } = burial.spec as SpecOf['volume'];
      needed.add(pool);
      if (mirror !== undefined) needed.add(mirror.pool);
    }
  const pools: PoolConfig[] = withNeeded(desired, 'pool', name => needed.has(name)).map(([name, spec]) =>
    poolToPlane(layout, name, spec),
  );
  // A guest whose machine and pool nobody knows any more: we could not say where its disk is.
  const known = new Set(pools.map(({ name }) => name));
  const all = {
    pools,
    volumes: volumes.filter(one => known.has(one.pool)),
    exports: exports.filter(one => known.has(one.pool)),
  };
  return { generation: generationOf(all), ...all };
}

function isMade(observed: Observed, pool: string, volume: string): boolean {
  return observed.storage?.volumes.has(`${pool}/${volume}`) ?? false;
}
