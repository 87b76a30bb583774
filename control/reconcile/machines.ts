/**
 * The verdict on machines and what is done for them.
 *
 *   wanted, not there       prepare its place; when its image, disks and switches are ready: start
 *   wanted, ended by itself its restart policy decides: start again (with backoff), or let be and remember that
 *   not wanted, there       ask it to power off; what does not react is reported, never killed unasked
 *   being deleted           ask it to power off; what does not react is killed; then forget it
 *
 * A running guest is never restarted for a changed spec: RestartRequired says what a restart would change.
 */
import { keyOf } from '../model/resource.js';
import { durationOf_ms } from '../model/meaning.js';
import { macOf } from '../model/mac.js';
import type { SpecOf } from '../model/spec.js';
import type { ObservedGuest } from '../vmm/host.js';
import { idOf } from './action.js';
import { ENDED_BY_ITSELF } from './attempts.js';
import { bootPlanOf, nbdNameOf, restartReasons } from './boot.js';
import { growDisks } from './growth.js';
import { volumeOfDisk } from './moving.js';
import { machineFact, referencesOf, shouldRun } from './desired.js';
import type { MachineFact } from './desired.js';
import { isActive } from './observed.js';
import { nicPortName } from '../model/layout.js';
import { diskExportName } from './planes.js';
import { bad, good, unknown } from './report.js';
import type { Report, Verdict } from './report.js';
import type { Turn } from './turn.js';
import { armDisks, undoDisks } from './undo.js';

type Spec = SpecOf['machine'];

export function judgeMachine(turn: Turn, name: string, spec: Spec): void {
  const key = keyOf('machine', name);
  const guest = turn.at.observed.guests.get(name)?.guest;
  const observed = observedOf(turn, name, spec, guest);
  if (turn.at.desired.burials.has(key)) {
    turn.report(key, { ready: bad('Deleting', 'its predecessor is still being removed'), observed });
    return;
  }
  const fact = machineFact(turn.at.desired, name);
  const wanted = shouldRun(spec, fact);
  let verdict: Partial<Report> & { ready: Verdict };
  const undo = isActive(guest) ? undefined : undoDisks(turn, name, spec, wanted);
  if (undo !== undefined) verdict = undo;
  else if (wanted)
    verdict = isActive(guest)
      ? judgeActive(turn, name, spec, guest)
      : judgeEnded(turn, name, spec, guest, fact);
  else if (isActive(guest)) verdict = stop(turn, name, spec, false);
  else
    verdict = {
      ready: good('Stopped', fact.intent === 'stopped' ? 'stopped by hand' : 'running: false'),
    };
  turn.report(key, {
    ...verdict,
    observed,
    restartRequired: judgeRestart(turn, name, spec, guest),
  });
}

function judgeRestart(turn: Turn, name: string, spec: Spec, guest: ObservedGuest | undefined): Verdict {
  if (!isActive(guest) || guest.plan === null)
    return bad('UpToDate', 'the next start takes the spec as it is');
  const image = spec.image === undefined ? undefined : turn.at.observed.images.get(spec.image);
  const plan = bootPlanOf(name, spec, turn.at.desired, image, turn.at.sockets);
  if (plan === undefined)
    return unknown('ImageNotReady', 'its image or a volume is not ready to compare with');
  // A disk that was moved under the guest is known to it by the name that it was booted with.
  const disks = guest.plan.disks.map(disk => {
    const volume = volumeOfDisk(turn.at.desired, disk.nbdName);
    return volume === undefined ? disk : { ...disk, nbdName: nbdNameOf(volume.pool, volume.volume) };
  });
  const reasons = restartReasons({ ...guest.plan, disks }, plan);
  if (reasons.length === 0) return bad('UpToDate', 'it runs as its spec says');
  return good(
    'SpecChanged',
    `${reasons.join('; ')}: takes effect after weft machine stop ${name} and weft machine start ${name}`,
  );
}

function judgeActive(
  turn: Turn,
  name: string,
  spec: Spec,
  guest: ObservedGuest,
): Partial<Report> & { ready: Verdict } {
  const key = keyOf('machine', name);
  switch (guest.state) {
    case 'starting':
      return { ready: bad('Starting', guest.reason ?? 'QEMU is coming up') };
    case 'stopping':
      return {
        ready: bad('Stopping', guest.reason ?? 'it was asked to power off; it will be started again'),
      };
    case 'paused':
      return {
        ready: bad('Paused', guest.reason ?? `weft machine resume ${name} lets it go on`),
        usable: true,
      };
    case 'unresponsive':
      return {
        ready: unknown(
          'Unresponsive',
          guest.reason ?? `QEMU does not answer; weft machine kill ${name} ends it`,
        ),
        lastError: guest.reason,
      };
    default:
  }
  const broken = brokenNic(turn, name, spec);
  if (broken !== undefined) return { ready: bad('NicError', broken), usable: true, lastError: broken };
  if (spec.nics.length > 0 && !turn.inEffect(key, turn.dataplaneInSync))
    return { ready: turn.applying('dataplane'), usable: true };
  const ready = good('Running', guest.reason ?? `with ${guest.accel ?? 'an unknown accelerator'}`);
  return { ready, lastError: growDisks(turn, name, guest) };
}

function portOf(turn: Turn, nic: Spec['nics'][number], name: string, index: number) {
  const portName = nicPortName(name, index);
  return turn.portsOf(nic.switch)?.get(portName);
}

function brokenNic(turn: Turn, name: string, spec: Spec): string | undefined {
  for (const [index, nic] of spec.nics.entries()) {
    const port = portOf(turn, nic, name, index);
    if (port?.state === 'error') return `nic ${index} on switch "${nic.switch}": ${port.reason ?? 'error'}`;
  }
  return undefined;
}

/** Wanted, but QEMU is not there. */
function judgeEnded(
  turn: Turn,
  name: string,
  spec: Spec,
  guest: ObservedGuest | undefined,
  fact: MachineFact,
): Partial<Report> & { ready: Verdict } {
  const halt = respected(
    spec,
    fact.halted ?? (failedToStart(turn, name, guest) ? undefined : haltOf(guest, fact)),
  );
  if (halt !== undefined) {
    // Remembered, since a later weftd may find no trace of how it ended.
    if (fact.halted !== halt) turn.act({ type: 'rememberMachine', name, fact: { ...fact, halted: halt } }, 0);
    const words =
      halt === 'poweroff'
        ? `the guest powered off by itself, and restart is ${spec.restart}`
        : `${guest?.reason ?? 'it died'}, and restart is ${spec.restart}`;
    return {
      ready: bad(
        halt === 'poweroff' ? 'PoweredOff' : 'Crashed',
        `${words}; weft machine start ${name} starts it`,
      ),
      lastError: halt === 'crashed' ? (guest?.reason ?? null) : null,
    };
  }
  return start(turn, name, spec, guest);
}

/** It never ran: that is no end that a restart policy speaks of, and is tried again whatever it says. */
function failedToStart(turn: Turn, name: string, guest: ObservedGuest | undefined): boolean {
  if (turn.at.attempts.isRunning(idOf('startMachine', name))) return true;
  return guest !== undefined && turn.at.failedBoots.get(name) === guest.bootId;
}

/** How it ended by itself, if it did and nobody has answered that yet. */
export function haltOf(guest: ObservedGuest | undefined, fact: MachineFact): MachineFact['halted'] {
  if (guest === undefined || (guest.bootId !== null && guest.bootId === fact.dismissed)) return undefined;
  if (guest.ended === 'guest-poweroff') return 'poweroff';
  return guest.state === 'crashed' || guest.ended === 'crashed' ? 'crashed' : undefined;
}

/** Nothing when the restart policy says to start it again. */
function respected(spec: Spec, halt: MachineFact['halted']): MachineFact['halted'] {
  if (spec.restart === 'always') return undefined;
  return halt === 'crashed' && spec.restart === 'on-failure' ? undefined : halt;
}

function start(
  turn: Turn,
  name: string,
  spec: Spec,
  guest: ObservedGuest | undefined,
): Partial<Report> & { ready: Verdict } {
  const generation = turn.generation(keyOf('machine', name));
  if (guest === undefined) {
    const [ready, lastError] = turn.acting(
      { type: 'prepareMachine', name },
      generation,
      ['Preparing', 'PrepareFailed'],
      'its place is being prepared',
    );
    return { ready, lastError };
  }
  const blocked = turn.blockedBy(referencesOf('machine', spec));
  if (blocked !== undefined) return { ready: blocked };
  const image = spec.image === undefined ? undefined : turn.at.observed.images.get(spec.image);
  const plan = bootPlanOf(name, spec, turn.at.desired, image, turn.at.sockets);
  if (plan === undefined)
    return {
      ready: bad('DependencyNotReady', `waits for image "${spec.image ?? ''}": not a kernel to boot`),
    };
  const waits = disksWait(turn, name, spec);
  if (waits !== undefined) return { ready: bad('DependencyNotReady', waits) };
  const arming = armDisks(turn, name, spec);
  if (arming !== undefined) return arming;
  const ended = turn.at.attempts.last(idOf('startMachine', name), generation)?.code === ENDED_BY_ITSELF;
  const [ready, lastError] = turn.acting(
    { type: 'startMachine', plan },
    generation,
    ['Starting', ended ? 'Restarting' : 'StartFailed'],
    'QEMU is being started',
  );
  return { ready, lastError };
}

/** Why its disks cannot be opened yet. The plane must have our latest word: a socket may still serve another volume. */
function disksWait(turn: Turn, name: string, spec: Spec): string | undefined {
  if (spec.disks.length === 0) return undefined;
  const storage = turn.at.observed.storage;
  if (storage === null) return turn.at.observed.storageReason;
  for (const [index, disk] of spec.disks.entries()) {
    const seen = storage.exports.get(diskExportName(name, index));
    if (seen?.state !== 'listening')
      return `waits for disk ${index} (volume "${disk.volume}"): ${seen?.reason ?? 'not served yet'}`;
  }
  return turn.storageInSync ? undefined : 'waits for weft-storage to take the newest configuration';
}

function stop(
  turn: Turn,
  name: string,
  spec: Spec,
  killAfter: boolean,
): Partial<Report> & { ready: Verdict } {
  const generation = turn.generation(keyOf('machine', name));
  const timeout_ms = durationOf_ms(spec.stopTimeout);
  const last = turn.at.attempts.last(idOf('stopMachine', name), generation);
  if (killAfter && last !== undefined) {
    const [ready, lastError] = turn.acting(
      { type: 'killMachine', name },
      generation,
      ['Killing', 'KillFailed'],
      `it did not power off: ${last.error}`,
    );
    return { ready, lastError };
  }
  turn.act({ type: 'stopMachine', name, timeout_ms }, generation);
  if (last === undefined) return { ready: bad('Stopping', 'the guest was asked to power off') };
  return {
    ready: bad('StopTimeout', `${last.error}; weft machine kill ${name} ends it at once`),
    lastError: last.error,
  };
}

/** A machine on its way out. True when nothing of it is left to be done. */
export function buryMachine(turn: Turn, name: string, spec: Spec): boolean {
  const key = keyOf('machine', name);
  const guest = turn.at.observed.guests.get(name)?.guest;
  const undo = isActive(guest) ? undefined : undoDisks(turn, name, spec, false);
  if (undo !== undefined) {
    turn.report(key, undo);
    return false;
  }
  if (guest === undefined) return true;
  if (isActive(guest)) {
    const verdict = stop(turn, name, spec, true);
    turn.report(key, { ...verdict, observed: observedOf(turn, name, spec, guest) });
    return false;
  }
  const [ready, lastError] = turn.acting(
    { type: 'forgetMachine', name },
    turn.generation(key),
    ['Deleting', 'DeleteFailed'],
    'its run directory is being removed',
  );
  turn.report(key, { ready, lastError, observed: observedOf(turn, name, spec, guest) });
  return false;
}

function observedOf(
  turn: Turn,
  name: string,
  spec: Spec,
  guest: ObservedGuest | undefined,
): Record<string, unknown> {
  return {
    state: guest?.state ?? 'stopped',
    reason: guest?.reason ?? null,
    ended: guest?.ended ?? null,
    pid: guest?.pid ?? null,
    bootId: guest?.bootId ?? null,
    startedAt_ms: guest?.startedAt_ms ?? null,
    accel: guest?.accel ?? null,
    accelReason: guest?.accelReason ?? null,
    qemuStatus: guest?.qemuStatus ?? null,
    diskErrors: guest?.diskErrors ?? null,
    disks: spec.disks.map((disk, index) => {
      const served = turn.at.observed.storage?.exports.get(diskExportName(name, index));
      return {
        volume: disk.volume,
        state: served?.state ?? null,
        attach: disk.attach ?? 'nbd',
        guestSize_bytes: guest?.diskSizes_bytes[index] ?? null,
        reason: served?.reason ?? null,
        counters: served === undefined ? null : diskCounters(served.counters),
      };
    }),
    nics: spec.nics.map((nic, index) => ({
      switch: nic.switch,
      mac: macOf(name, index, nic.mac),
      state: portOf(turn, nic, name, index)?.state ?? null,
    })),
  };
}

/** What a guest did with a disk since it is served, whichever way. */
function diskCounters(counters: Readonly<Record<string, number>>): Record<string, number> {
  const names = [
    'reads',
    'readBytes',
    'writes',
    'writtenBytes',
    'flushes',
    'trims',
    'zeroes',
    'errorReplies',
  ];
  // Of vhost-user.
  const ofGuests = ['guestQueues', 'guestFaults', 'guestRefused', 'resubmitted'];
  return Object.fromEntries([...names, ...ofGuests].map(name => [name, counters[name] ?? 0]));
}
