/**
 * The whole desired state of each plane, from the resources: pure, and the same for the same input, so that its
 * hash can be the generation by which a plane says whether it has our latest word. (A counter would have to be
 * remembered across weftd's death, and would tell nothing about equality.)
 */
import { createHash } from 'node:crypto';
import type { DataplaneConfig, PortConfig, SwitchConfig } from '../../dataplane/contract.js';
import type { ExportConfig, PoolConfig, StorageConfig } from '../../storage/contract.js';
import { exportSocket, nicPortName, poolDirectory } from '../model/layout.js';
import type { Layout } from '../model/layout.js';
import { macOf } from '../model/mac.js';
import { durationOf_ms } from '../model/meaning.js';
import type { Kind, SpecOf } from '../model/spec.js';
import { deviceToPlane } from '../model/switch/devices.js';
import { withOwnMac } from '../model/switch/guard.js';
import { portToPlane, switchToPlane } from '../model/switch/words.js';
import { volumeOfNbdName } from './boot.js';
import type { Sockets } from './boot.js';
import type { BootPlan, ObservedGuest } from '../vmm/host.js';
import { fillFact, machineFact, shouldRun } from './desired.js';
import type { Desired } from './desired.js';
import { isActive } from './observed.js';
import type { Observed, SeenGuest } from './observed.js';

/** 48 bits of the hash: a whole number that JSON carries exactly. */
export function generationOf(config: unknown): number {
  return createHash('sha256').update(JSON.stringify(config)).digest().readUIntBE(0, 6);
}

export function exportNameOf(name: string): string {
  return `export/${name}`;
}

export function diskExportName(machine: string, index: number): string {
  return `machine/${machine}/disk${index}`;
}

export function fillExportName(volume: string): string {
  return `fill/${volume}`;
}

export function fillSocket(layout: Layout, volume: string): string {
  return `${layout.run}/fill/${volume}.sock`;
}

/** Those in the configuration and those that are on their way out; the former first. */
export function* allMachines(desired: Desired): Generator<[name: string, spec: SpecOf['machine']]> {
  yield* desired.specs.machine;
  for (const [key, burial] of desired.burials)
    if (key.startsWith('machine/')) {
      const name = key.slice('machine/'.length);
      if (!desired.specs.machine.has(name)) yield [name, burial.spec as SpecOf['machine']];
    }
}

function wanted(desired: Desired, name: string): boolean {
  const spec = desired.specs.machine.get(name);
  return (
    spec !== undefined &&
    !desired.burials.has(`machine/${name}`) &&
    shouldRun(spec, machineFact(desired, name))
  );
}

/** Specs of a kind, and those being deleted that something on its way out still needs. */
function withNeeded<K extends Kind>(
  desired: Desired,
  kind: K,
  isNeeded: (name: string) => boolean,
): [string, SpecOf[K]][] {
  const all: [string, SpecOf[K]][] = [...(desired.specs[kind] as ReadonlyMap<string, SpecOf[K]>)];
  for (const [key, burial] of desired.burials) {
    if (!key.startsWith(`${kind}/`)) continue;
    const name = key.slice(kind.length + 1);
    if (!desired.specs[kind].has(name) && isNeeded(name)) all.push([name, burial.spec as SpecOf[K]]);
  }
  return all;
}

/** Whether we are starting it right now: then what counts is the spec, not the plan of the run before. */
export type IsStarting = (machine: string) => boolean;

/** The plan that a live QEMU was booted with. */
function bootedWith(name: string, guest: ObservedGuest | undefined, isStarting: IsStarting): BootPlan | null {
  return isActive(guest) && !isStarting(name) ? guest.plan : null;
}

/** The plane dials either way: so it finds a guest again after its own restart, and no guest dials anything. */
function nicDevice(
  { transport, queues }: { transport?: 'vhost' | 'stream' | undefined; queues?: number | undefined },
  path: string,
): PortConfig['device'] {
  if (transport === 'stream') return { kind: 'stream', path, role: 'connect' };
  return { kind: 'vhost', path, role: 'client', queues: queues ?? 1 };
}

export function toDataplaneConfig(
  desired: Desired,
  observed: Observed,
  sockets: Sockets,
  isStarting: IsStarting,
): DataplaneConfig {
  const ports = new Map<string, PortConfig[]>();
  const portsOf = (name: string): PortConfig[] => {
    let list = ports.get(name);
    if (list === undefined) ports.set(name, (list = []));
    return list;
  };
  const neededSwitches = new Set<string>();
  for (const [name, spec] of allMachines(desired)) {
    const guest = observed.guests.get(name)?.guest;
    const active = isActive(guest);
    // A stopped machine has no ports: nobody would ever listen at the other end.
    if (!active && !wanted(desired, name)) continue;
    // A card that a running QEMU does not have comes with the next start.
    const plan = bootedWith(name, guest, isStarting);
    const count = plan?.nics.length ?? spec.nics.length;
    for (const [index, nic] of spec.nics.slice(0, count).entries()) {
      neededSwitches.add(nic.switch);
      portsOf(nic.switch).push({
        name: nicPortName(name, index),
        device: nicDevice(plan?.nics[index] ?? nic, sockets.nicSocket(name, index)),
        ...withOwnMac(portToPlane(nic), nic.guard, macOf(name, index, nic.mac)),
      });
    }
  }
  const switches: SwitchConfig[] = [];
  for (const [name, spec] of withNeeded(desired, 'switch', candidate => neededSwitches.has(candidate))) {
    // One that is on its way out serves its machines to their end; its own ports may be another's already.
    const ownPorts = desired.specs.switch.has(name) ? spec.ports : {};
    const own = Object.entries(ownPorts).map(([portName, port]): PortConfig => ({
      name: portName,
      device: deviceToPlane(port),
      ...portToPlane(port),
    }));
    switches.push({
      name,
      ageingTime_s: durationOf_ms(spec.ageing) / 1000,
      macLimit: spec.macLimit,
      ...(spec.address === undefined ? {} : { address: spec.address }),
      ...switchToPlane(spec),
      ports: [...own, ...(ports.get(name) ?? [])],
    });
  }
  return { generation: generationOf(switches), switches };
}

/**
 * Whether a volume may be shown to anyone: not while it is half filled from its image, and not when the plane
 * says that it is not there. Unknown (the pool is not open yet) counts as there: a plane that has just started
 * must be told of all disks that it is to serve, not of those that it has already seen.
 */
export function isServable(desired: Desired, observed: Observed, pool: string, volume: string): boolean {
  if (fillFact(desired, pool, volume)?.state === 'filling') return false;
  // Its predecessor's data is still to be destroyed, which a plane refuses while it is exported.
  if (desired.burials.get(`volume/${volume}`)?.destroyData === true) return false;
  const storage = observed.storage;
  if (storage === null || storage.pools.get(pool)?.state !== 'open') return true;
  return storage.volumes.has(`${pool}/${volume}`);
}

function disksOf(name: string, plan: BootPlan, seen: SeenGuest): ExportConfig[] {
  return plan.disks.flatMap((disk, index) => {
    const volume = volumeOfNbdName(disk.nbdName);
    if (volume === undefined) return [];
    return [diskExport(name, index, { ...volume, ...disk }, seen)];
  });
}

function diskExport(
  name: string,
  index: number,
  disk: { pool: string; volume: string; nbdName: string; readOnly: boolean; socketPath: string },
  seen: SeenGuest,
): ExportConfig {
  return {
    name: diskExportName(name, index),
    nbdName: disk.nbdName,
    pool: disk.pool,
    volume: disk.volume,
    readOnly: disk.readOnly,
    listen: [
      {
        kind: 'unix',
        path: disk.socketPath,
        ...(seen.owner === null ? {} : { owner: seen.owner }),
      },
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
    exports.push({
      name: exportNameOf(name),
      nbdName: spec.exportName ?? name,
      pool: volume.pool,
      volume: spec.volume,
      readOnly: spec.readOnly,
      listen: [
        { kind: 'unix', path: exportSocket(layout, name, spec.unix) },
        ...(spec.tcp === undefined ? [] : [{ kind: 'tcp' as const, ...spec.tcp }]),
      ],
    });
  }
  // A running guest keeps the disks that it was booted with; its spec counts from the next start.
  for (const [name, seen] of observed.guests) {
    const plan = bootedWith(name, seen.guest, isStarting);
    if (plan !== null) exports.push(...disksOf(name, plan, seen));
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
      exports.push(diskExport(name, index, { pool: volume.pool, nbdName, socketPath, ...disk }, seen));
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
  exports.sort((a, b) => (a.name < b.name ? -1 : 1));
  const needed = new Set(exports.map(one => one.pool));
  for (const [key, burial] of desired.burials)
    if (key.startsWith('volume/')) needed.add((burial.spec as SpecOf['volume']).pool);
  const pools: PoolConfig[] = withNeeded(desired, 'pool', name => needed.has(name)).map(([name, spec]) => ({
    name,
    directory: poolDirectory(layout, name, spec.directory),
  }));
  // A guest whose machine and pool nobody knows any more: we could not say where its disk is.
  const known = new Set(pools.map(({ name }) => name));
  const inKnownPools = exports.filter(one => known.has(one.pool));
  return { generation: generationOf([pools, inKnownPools]), pools, exports: inKnownPools };
}

function isMade(observed: Observed, pool: string, volume: string): boolean {
  return observed.storage?.volumes.has(`${pool}/${volume}`) ?? false;
}
