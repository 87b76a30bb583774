/**
 * The life of a volume in a directory (one of a device or another server is there, or is not):
 *
 *   missing --putVolume--> there                                   (no image)
 *   missing --remember "filling", putVolume--> there, filling --fillVolume, remember "filled"--> there
 *
 * "filling" is remembered before the volume is made, so a volume that was found half filled after any death is
 * filled from the start again, and one that was there before (its resource was deleted, its data kept) is
 * never written over. While it is being filled it is shown to nobody else.
 *
 * Then it is kept as its spec says: size, labels, quota (`putVolume`), the second side of its mirror, snapshots by the
 * clock (schedule.ts).
 */
import { keyOf } from '../model/resource.js';
import { durationOf_ms } from '../model/meaning.js';
import type { SpecOf } from '../model/spec.js';
import type { VolumeSpec, VolumeStatus } from '../../storage/contract.js';
import { poolKind } from '../model/storage/pool.js';
import { legOf, quotaOf, sizeOfVolume, toMake } from '../model/storage/volume.js';
import { fillFact } from './desired.js';
import { carriedOut, keepMove, volumeOfDisk } from './moving.js';
import { isActive } from './observed.js';
import { fillExportName } from './planes.js';
import { bad, good, unknown } from './report.js';
import type { Verdict } from './report.js';
import { SCHEDULE_LABEL, scheduleOf } from './schedule.js';
import { isPoolOpen } from './storagePlane.js';
import type { Turn } from './turn.js';

function inWords(size_bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let size = size_bytes;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${Math.round(size * 100) / 100}${units[unit]}`;
}

function observedOf(seen: VolumeStatus | undefined): Record<string, unknown> {
  if (seen === undefined) return {};
  const { snapshots, ...rest } = seen;
  return { ...rest, ...(snapshots === undefined ? {} : { snapshotCount: snapshots.length }) };
}

export function judgeVolume(turn: Turn, name: string, spec: SpecOf['volume']): void {
  const key = keyOf('volume', name);
  const { storage, storageReason } = turn.at.observed;
  if (storage === null) {
    turn.report(key, { ready: unknown('PlaneDown', storageReason) });
    return;
  }
  const seen = storage.volumes.get(`${spec.pool}/${name}`);
  const observed = observedOf(seen);
  const burial = turn.at.desired.burials.get(key);
  if (burial?.destroyData === true) {
    turn.report(key, {
      ready: bad('Deleting', 'its predecessor is still being destroyed'),
      usable: false,
      observed,
    });
    return;
  }
  const blocked = turn.blockedBy([keyOf('pool', spec.pool)]);
  if (blocked !== undefined) {
    turn.report(key, { ready: blocked, usable: false, observed });
    return;
  }
  const pool = turn.at.desired.specs.pool.get(spec.pool);
  if (pool !== undefined && poolKind(pool) !== 'directory') judgeFound(turn, name, spec, seen, observed);
  else if (seen === undefined) makeVolume(turn, name, spec);
  else judgeMade(turn, name, spec, seen, observed);
}

/** Clones after what they are made from; the rest as it comes. */
export function sourcesFirst(
  volumes: ReadonlyMap<string, SpecOf['volume']>,
): [name: string, spec: SpecOf['volume']][] {
  const depthOf = (name: string): number => {
    let depth = 0;
    let here = volumes.get(name)?.from?.volume;
    // A circle is refused before it comes here; a bound all the same.
    for (; here !== undefined && depth < volumes.size; depth++) here = volumes.get(here)?.from?.volume;
    return depth;
  };
  const all = [...volumes];
  if (all.every(([, { from }]) => from === undefined)) return all;
  const depths = new Map(all.map(([name]) => [name, depthOf(name)]));
  return all.sort(([a], [b]) => (depths.get(a) ?? 0) - (depths.get(b) ?? 0));
}

/** Of a device, or of another server. */
function judgeFound(
  turn: Turn,
  name: string,
  spec: SpecOf['volume'],
  seen: VolumeStatus | undefined,
  observed: Record<string, unknown>,
): void {
  const key = keyOf('volume', name);
  let ready: Verdict;
  if (!turn.inEffect(key, turn.storageInSync)) ready = turn.applying('storage');
  else if (seen === undefined) ready = bad('Opening', `pool "${spec.pool}" does not show it yet`);
  else ready = keepMirror(turn, name, spec, seen)?.[0] ?? stateInWords(spec, seen);
  turn.report(key, { ready, usable: seen !== undefined && seen.state !== 'failed', observed });
}

function makeVolume(turn: Turn, name: string, spec: SpecOf['volume']): void {
  const key = keyOf('volume', name);
  const ready = whyNotMade(turn, spec);
  if (ready !== undefined) {
    turn.report(key, { ready, usable: false });
    return;
  }
  const source = spec.from === undefined ? undefined : sourceOf(turn, spec);
  const size_bytes = sizeOfVolume(spec) ?? source?.size_bytes ?? Number.NaN;
  const mark = spec.image === undefined ? undefined : { state: 'filling' as const, image: spec.image };
  const [made, lastError] = turn.acting(
    { type: 'putVolume', pool: spec.pool, name, spec: toMake(spec, size_bytes), mark },
    turn.generation(key),
    ['Creating', 'CreateFailed'],
    'being made',
  );
  turn.report(key, { ready: made, usable: false, lastError });
}

/** The volume, or the snapshot of it, that this is to be a clone of. */
function sourceOf(turn: Turn, { pool, from }: SpecOf['volume']): { size_bytes: number } | undefined {
  const source = turn.at.observed.storage?.volumes.get(`${pool}/${from?.volume}`);
  if (from?.snapshot === undefined) return source;
  return source?.snapshots?.find(({ name }) => name === from.snapshot);
}

/** Snapshots that others make are not told of. */
const LOOK_AGAIN_MS = 5_000;

function whyNotMade(turn: Turn, spec: SpecOf['volume']): Verdict | undefined {
  const { image, from } = spec;
  if (image !== undefined) {
    const blocked = turn.blockedBy([keyOf('image', image)]);
    if (blocked !== undefined) return blocked;
    const needs_bytes = turn.at.observed.images.get(image)?.image.virtualSize_bytes ?? 0;
    if (needs_bytes > (sizeOfVolume(spec) ?? 0))
      return bad(
        'TooSmall',
        `image "${image}" needs ${inWords(needs_bytes)}, size is ${spec.size}: make it larger`,
      );
  }
  if (from === undefined) return undefined;
  const blocked = turn.blockedBy([keyOf('volume', from.volume)]);
  if (blocked !== undefined) return blocked;
  const source = sourceOf(turn, spec);
  if (source === undefined) {
    turn.wakeBy(turn.at.now_ms + LOOK_AGAIN_MS);
    return bad(
      'DependencyNotReady',
      `waits for snapshot "${from.snapshot}" of volume "${from.volume}": weft volume snapshot ${spec.pool}/${from.volume}@${from.snapshot} makes it`,
    );
  }
  if (source.size_bytes > (sizeOfVolume(spec) ?? source.size_bytes))
    return bad(
      'TooSmall',
      `its source has ${inWords(source.size_bytes)}, size is ${spec.size}: make it as large, or leave size out`,
    );
  return undefined;
}

/** The machine that has it as a disk now. */
function machineOn(turn: Turn, pool: string, volume: string): string | undefined {
  for (const [machine, { guest }] of turn.at.observed.guests)
    for (const { nbdName } of isActive(guest) ? (guest.plan?.disks ?? []) : []) {
      const used = volumeOfDisk(turn.at.desired, nbdName);
      if (used?.pool === pool && used.volume === volume) return machine;
    }
  return undefined;
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every(key => a[key] === b[key]);
}

interface Wanted {
  put: VolumeSpec;
  words: readonly [reason: string, failed: string];
  message: string;
}

/** What is to be changed of a volume that is there; a verdict when it cannot be. */
function changeOf(
  turn: Turn,
  name: string,
  spec: SpecOf['volume'],
  seen: VolumeStatus,
): Wanted | Verdict | undefined {
  const size_bytes = sizeOfVolume(spec) ?? seen.size_bytes;
  const labels = spec.labels ?? {};
  const quota_bytes = quotaOf(spec);
  // What a plane does not tell is not compared, or it would be told again for ever.
  const isOtherLabels = seen.labels !== undefined && !sameLabels(seen.labels, labels);
  const isOtherQuota = seen.quota_bytes !== undefined && seen.quota_bytes !== quota_bytes;
  const put: VolumeSpec = {
    size_bytes,
    shrink: false,
    ...(isOtherLabels ? { labels } : {}),
    ...(isOtherQuota ? { quota_bytes } : {}),
  };
  const from = inWords(seen.size_bytes);
  if (size_bytes > seen.size_bytes)
    return { put, words: ['Growing', 'GrowFailed'], message: `from ${from} to ${spec.size}` };
  if (size_bytes < seen.size_bytes) {
    if (spec.shrink !== true)
      return bad(
        'ShrinkRefused',
        `it is ${from} large and holds data; a volume cannot shrink unasked. Write size: ${from}, or copy its data to a new volume; shrink: true cuts off what lies behind`,
      );
    const machine = machineOn(turn, spec.pool, name);
    if (machine !== undefined)
      return bad('ShrinkWaits', `machine "${machine}" runs on it: it shrinks when that is stopped`);
    return {
      put: { ...put, shrink: true },
      words: ['Shrinking', 'ShrinkFailed'],
      message: `from ${from} to ${spec.size}`,
    };
  }
  if (isOtherLabels || isOtherQuota)
    return { put, words: ['Changing', 'ChangeFailed'], message: 'its labels or quota are being changed' };
  return differs(spec, seen);
}

/** What cannot be changed of a volume that was there before its resource was. */
function differs(spec: SpecOf['volume'], seen: VolumeStatus): Verdict | undefined {
  for (const word of ['preallocated', 'checksums'] as const)
    if (spec[word] !== undefined && seen[word] !== undefined && spec[word] !== seen[word])
      return bad(
        'VolumeDiffers',
        `it was made with ${word}: ${seen[word]}, which cannot be changed: say so, or make a volume of another name`,
      );
  return undefined;
}

function isVerdict(change: Wanted | Verdict): change is Verdict {
  return 'status' in change;
}

function stateInWords(spec: SpecOf['volume'], seen: VolumeStatus): Verdict {
  const { state, reason, mirror, checksumErrors = 0 } = seen;
  switch (state) {
    case 'full':
      return bad('PoolFull', reason ?? `pool "${spec.pool}" has no space left: free some`);
    case 'failed':
      return bad('VolumeFailed', reason ?? 'failed');
    case 'damaged':
      return bad('Damaged', `${reason ?? 'a part of it is lost'}; what is left can be read, nothing written`);
    case 'degraded':
      return bad('Degraded', mirror?.reason ?? reason ?? 'one side of it is away');
    case 'ok':
  }
  const errors = checksumErrors > 0 ? `; ${checksumErrors} blocks were found damaged` : '';
  const copying =
    mirror?.state === 'resyncing'
      ? `; its mirror is being brought up to date, ${inWords(mirror.left_bytes)} left`
      : '';
  return good(
    'Available',
    `${inWords(seen.allocated_bytes)} of ${inWords(seen.size_bytes)} allocated${copying}${errors}`,
  );
}

function judgeMade(
  turn: Turn,
  name: string,
  spec: SpecOf['volume'],
  seen: VolumeStatus,
  observed: Record<string, unknown>,
): void {
  const key = keyOf('volume', name);
  if (fillFact(turn.at.desired, spec.pool, name)?.state === 'filling') {
    fillVolume(turn, name, spec, observed);
    return;
  }
  const usable = seen.state !== 'failed';
  let ready: Verdict;
  let lastError: string | null = seen.reason;
  const change = changeOf(turn, name, spec, seen);
  if (change === undefined) {
    const mirrored = keepMirror(turn, name, carriedOut(turn.at.desired, name, spec), seen);
    const moving = mirrored === undefined ? keepMove(turn, name, spec) : undefined;
    [ready, lastError] = mirrored ?? [stateInWords(spec, seen), lastError];
    if (moving !== undefined) ready = { ...ready, message: `${ready.message}; ${moving}` };
    if (usable && seen.state !== 'damaged') keepSchedule(turn, name, spec, seen);
  } else if (isVerdict(change)) ready = change;
  else
    [ready, lastError] = turn.acting(
      { type: 'putVolume', pool: spec.pool, name, spec: change.put, mark: undefined },
      turn.generation(key),
      change.words,
      change.message,
    );
  turn.report(key, { ready, usable, observed, lastError });
}

/** The second side is made, and as large as the first. While its pool is away the plane says so itself. */
function keepMirror(
  turn: Turn,
  name: string,
  spec: SpecOf['volume'],
  { size_bytes }: VolumeStatus,
): [Verdict, string | null] | undefined {
  const leg = legOf(spec);
  if (leg === undefined) return undefined;
  const pool = turn.at.desired.specs.pool.get(leg.pool);
  if (pool === undefined || poolKind(pool) !== 'directory' || !isPoolOpen(turn.at.observed, leg.pool))
    return undefined;
  const seen = turn.at.observed.storage?.volumes.get(`${leg.pool}/${name}`);
  if (seen?.size_bytes === size_bytes) return undefined;
  const put =
    seen === undefined
      ? toMake(leg, size_bytes)
      : { size_bytes, shrink: seen.size_bytes > size_bytes && spec.shrink === true };
  return turn.acting(
    { type: 'putVolume', pool: leg.pool, name, spec: put, mark: undefined },
    turn.generation(keyOf('volume', name)),
    ['Degraded', 'MirrorFailed'],
    `the second side of its mirror is being made in pool "${leg.pool}"`,
  );
}

function keepSchedule(turn: Turn, name: string, spec: SpecOf['volume'], seen: VolumeStatus): void {
  const schedule = spec.snapshots;
  // A plane that tells of no snapshots would be asked for them without end.
  if (schedule === undefined || seen.snapshots === undefined) return;
  const { specs } = turn.at.desired;
  const exported = new Set<string>();
  for (const { volume, snapshot } of specs.export.values())
    if (volume === name && snapshot !== undefined) exported.add(snapshot);
  for (const { from, pool } of specs.volume.values())
    if (pool === spec.pool && from?.volume === name && from.snapshot !== undefined)
      exported.add(from.snapshot);
  const { make, prune, wakeAt_ms } = scheduleOf(
    turn.at.now_ms,
    { every_ms: durationOf_ms(schedule.every), keep: schedule.keep },
    seen.snapshots,
    one => one.clones.length > 0 || exported.has(one.name),
  );
  const generation = turn.generation(keyOf('volume', name));
  const { pool } = spec;
  if (make !== null)
    turn.act(
      { type: 'snapshotVolume', pool, name, snapshot: make, labels: { [SCHEDULE_LABEL]: schedule.every } },
      generation,
    );
  // Only when the newest is there: nothing is deleted for one that could not be made.
  else for (const snapshot of prune) turn.act({ type: 'deleteSnapshot', pool, name, snapshot }, generation);
  turn.wakeBy(wakeAt_ms);
}

function fillVolume(
  turn: Turn,
  name: string,
  spec: SpecOf['volume'],
  observed: Record<string, unknown>,
): void {
  const key = keyOf('volume', name);
  const image = spec.image;
  const imageSpec = image === undefined ? undefined : turn.at.desired.specs.image.get(image);
  if (image === undefined || imageSpec === undefined) {
    turn.report(key, {
      ready: bad(
        'FillInterrupted',
        `it was being filled from an image that its spec no longer names, and holds a part of it: name the image again, or delete it with its data`,
      ),
      usable: false,
      observed,
    });
    return;
  }
  const blocked = turn.blockedBy([keyOf('image', image)]);
  const served = turn.at.observed.storage?.exports.get(fillExportName(name));
  if (blocked !== undefined || served?.state !== 'listening' || !turn.storageInSync) {
    const waits = bad('Filling', served?.reason ?? 'waits for its export');
    turn.report(key, { ready: blocked ?? waits, usable: false, observed });
    return;
  }
  const [ready, lastError] = turn.acting(
    { type: 'fillVolume', pool: spec.pool, name, image, imageSpec },
    turn.generation(key),
    ['Filling', 'FillFailed'],
    `from image "${image}"`,
  );
  turn.report(key, { ready, usable: false, observed, lastError });
}
