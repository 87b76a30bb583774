/**
 * (desired, observed) -> ordered actions and a verdict on each resource. Pure: no I/O, no clock, nothing mutated.
 * When what is agrees with what is desired it plans nothing, which the tests hold it to from random states.
 *
 *   1. what each plane is to have as a whole (planes.ts); a plane that has something else is told
 *   2. each resource in the order of need: switch, pool, image, volume, export, machine; one that waits for
 *      another says so and holds back only those that need it
 *   3. what is being deleted, in reverse order: machines first; what something still needs, waits
 *
 * The actions of one plan need nothing of each other, so all may run at once; what comes after them is planned
 * when they have been seen to work.
 */
import { keyOf, splitKey } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import { KINDS } from '../model/spec.js';
import type { SpecOf } from '../model/spec.js';
import { poolKind } from '../model/storage/pool.js';
import { idOf } from './action.js';
import { volumeOfDisk } from './moving.js';
import { fillFact, referencesOf } from './desired.js';
import type { Burial } from './desired.js';
import { judgeExport, judgeImage, judgePool, judgeSwitch } from './judges.js';
import { buryMachine, judgeMachine } from './machines.js';
import { isActive } from './observed.js';
import { toDataplaneConfig } from './planes.js';
import { isPoolOpen, toStorageConfig } from './storagePlane.js';
import { bad } from './report.js';
import type { Planned } from './report.js';
import { Turn } from './turn.js';
import type { Situation } from './turn.js';
import { judgeVolume, sourcesFirst } from './volumes.js';

export function plan(situation: Situation): Planned {
  const turn = new Turn(situation);
  configurePlanes(turn);
  const { specs } = situation.desired;
  for (const [name, spec] of specs.switch) judgeSwitch(turn, name, spec);
  for (const [name, spec] of specs.pool) judgePool(turn, name, spec);
  for (const [name, spec] of specs.image) judgeImage(turn, name, spec);
  for (const [name, spec] of sourcesFirst(specs.volume)) judgeVolume(turn, name, spec);
  for (const [name, spec] of specs.export) judgeExport(turn, name, spec);
  for (const [name, spec] of specs.machine) judgeMachine(turn, name, spec);
  buryAll(turn);
  return {
    actions: turn.actions,
    inEffect: inEffect(turn),
    reports: turn.reports,
    configs: turn.configs,
    planesHaveTheirs:
      (turn.configs.dataplane === null || turn.dataplaneInSync) &&
      (turn.configs.storage === null || turn.storageInSync),
    wakeAt_ms: turn.wakeAt_ms,
  };
}

function inEffect(turn: Turn): Key[] {
  const keys: Key[] = [];
  for (const key of turn.reports.keys()) {
    const { kind } = splitKey(key);
    if (kind === 'switch' || kind === 'machine' ? turn.dataplaneInSync : turn.storageInSync) keys.push(key);
  }
  return keys;
}

function configurePlanes(turn: Turn): void {
  const { desired, observed, sockets, layout, attempts } = turn.at;
  const isStarting = (name: string): boolean => attempts.isRunning(idOf('startMachine', name));
  // Nothing was ever asked for: a new store beside planes that serve, after the old one was lost. What they serve
  // stays until the configuration is applied again.
  if (desired.revision === 0) return;
  if (observed.dataplane !== null) {
    const config = toDataplaneConfig(desired, observed, sockets, isStarting);
    turn.configs.dataplane = config;
    turn.dataplaneInSync = observed.dataplane.generation === config.generation;
    if (!turn.dataplaneInSync) turn.act({ type: 'configureDataplane', config }, config.generation);
  }
  if (observed.storage !== null) {
    const config = toStorageConfig(desired, observed, sockets, layout, isStarting);
    turn.configs.storage = config;
    turn.storageInSync = observed.storage.generation === config.generation;
    if (!turn.storageInSync) turn.act({ type: 'configureStorage', config }, config.generation);
  }
}

/** Everything that something on its way out, or a guest that lives, still needs. */
function neededKeys(turn: Turn): Set<Key> {
  const { desired, observed } = turn.at;
  const needed = new Set<Key>();
  for (const [key, burial] of desired.burials)
    for (const reference of referencesOf(splitKey(key).kind, burial.spec)) needed.add(reference);
  for (const { guest } of observed.guests.values()) {
    if (!isActive(guest)) continue;
    for (const disk of guest.plan?.disks ?? []) {
      const volume = volumeOfDisk(desired, disk.nbdName);
      if (volume === undefined) continue;
      needed.add(keyOf('pool', volume.pool));
      needed.add(keyOf('volume', volume.volume));
    }
  }
  return needed;
}

function buryAll(turn: Turn): void {
  const { burials } = turn.at.desired;
  if (burials.size === 0) return;
  const needed = neededKeys(turn);
  for (const kind of KINDS.toReversed())
    for (const [key, burial] of burials) {
      if (splitKey(key).kind !== kind) continue;
      // A volume whose data is kept has nothing to wait for, unless a guest needs to be told how it is opened.
      const isKept =
        kind === 'volume' &&
        !burial.destroyData &&
        (burial.spec as SpecOf['volume']).encryption === undefined;
      if (needed.has(key) && !isKept) {
        if (!turn.reports.has(key))
          turn.report(key, { ready: bad('Deleting', 'waits for what still uses it') });
        continue;
      }
      if (bury(turn, key, burial)) turn.act({ type: 'unbury', key }, 0);
      if (!turn.reports.has(key)) turn.report(key, { ready: bad('Deleting', 'being removed') });
    }
}

/** What another server or a device holds is not weft's to destroy. */
function isDirectory({ at: { desired } }: Turn, pool: string): boolean {
  const spec =
    desired.specs.pool.get(pool) ?? (desired.burials.get(`pool/${pool}`)?.spec as SpecOf['pool'] | undefined);
  return spec === undefined || poolKind(spec) === 'directory';
}

/** True when nothing is left of it but the tombstone. */
function bury(turn: Turn, key: Key, burial: Burial): boolean {
  const { kind, name } = splitKey(key);
  const { observed, desired } = turn.at;
  switch (kind) {
    case 'machine':
      return buryMachine(turn, name, burial.spec as SpecOf['machine']);
    case 'switch':
      return turn.dataplaneInSync;
    case 'export':
    case 'pool':
      return turn.storageInSync;
    case 'image': {
      // A file of the user's is not ours to remove; what we built is.
      if (desired.specs.image.has(name) || !('tiny' in burial.spec)) return true;
      if (observed.images.get(name)?.image.state === 'absent') return true;
      turn.act({ type: 'forgetImage', name }, burial.generation);
      return false;
    }
    case 'volume': {
      if (!burial.destroyData) return true;
      // Not before the plane has let go of its exports, and not on a guess that it is gone.
      if (observed.storage === null || !turn.storageInSync) return false;
      const spec = burial.spec as SpecOf['volume'];
      const sides = [spec.pool, ...(spec.mirror === undefined ? [] : [spec.mirror.pool])].filter(side =>
        isDirectory(turn, side),
      );
      if (sides.some(side => !isPoolOpen(observed, side))) return false;
      const { volumes } = observed.storage;
      const pool = sides.find(
        side => volumes.has(`${side}/${name}`) || fillFact(desired, side, name) !== undefined,
      );
      if (pool === undefined) return true;
      const [ready, lastError] = turn.acting(
        { type: 'destroyVolume', pool, name },
        burial.generation,
        ['Destroying', 'DestroyFailed'],
        'its data is being destroyed',
      );
      turn.report(key, { ready, lastError });
      return false;
    }
  }
}
