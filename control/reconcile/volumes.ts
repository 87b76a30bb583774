/**
 * The life of a volume:
 *
 *   missing --putVolume--> there                                   (no image)
 *   missing --remember "filling", putVolume--> there, filling --fillVolume, remember "filled"--> there
 *
 * "filling" is remembered before the volume is made, so a volume that was found half filled after any death is
 * filled from the start again, and one that was there before (its resource was deleted, its data kept) is
 * never written over. While it is being filled it is shown to nobody else.
 */
import { keyOf } from '../model/resource.js';
import { sizeOf } from '../model/meaning.js';
import type { SpecOf } from '../model/spec.js';
import type { VolumeStatus } from '../../storage/contract.js';
import { fillFact } from './desired.js';
import { fillExportName } from './planes.js';
import { bad, good, unknown } from './report.js';
import type { Verdict } from './report.js';
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
  const { uuid, size_bytes, allocated_bytes, createdAt_ms, state, reason } = seen;
  return { uuid, size_bytes, allocated_bytes, createdAt_ms, state, reason };
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
  if (seen === undefined) makeVolume(turn, name, spec);
  else judgeMade(turn, name, spec, seen, observed);
}

function makeVolume(turn: Turn, name: string, spec: SpecOf['volume']): void {
  const key = keyOf('volume', name);
  const size_bytes = sizeOf(spec.size);
  if (spec.image !== undefined) {
    const imageKey = keyOf('image', spec.image);
    const blocked = turn.blockedBy([imageKey]);
    const needs_bytes = turn.at.observed.images.get(spec.image)?.image.virtualSize_bytes ?? 0;
    const small = bad(
      'TooSmall',
      `image "${spec.image}" needs ${inWords(needs_bytes)}, size is ${spec.size}: make it larger`,
    );
    const refused = blocked ?? (needs_bytes > size_bytes ? small : undefined);
    if (refused !== undefined) {
      turn.report(key, { ready: refused, usable: false });
      return;
    }
  }
  const mark = spec.image === undefined ? undefined : { state: 'filling' as const, image: spec.image };
  const [ready, lastError] = turn.acting(
    { type: 'putVolume', pool: spec.pool, name, size_bytes, mark },
    turn.generation(key),
    ['Creating', 'CreateFailed'],
    'being made',
  );
  turn.report(key, { ready, usable: false, lastError });
}

function judgeMade(
  turn: Turn,
  name: string,
  spec: SpecOf['volume'],
  seen: VolumeStatus,
  observed: Record<string, unknown>,
): void {
  const key = keyOf('volume', name);
  const size_bytes = sizeOf(spec.size);
  if (fillFact(turn.at.desired, spec.pool, name)?.state === 'filling') {
    fillVolume(turn, name, spec, observed);
    return;
  }
  const usable = seen.state !== 'failed';
  let ready: Verdict;
  let lastError: string | null = seen.reason;
  if (seen.size_bytes < size_bytes)
    [ready, lastError] = turn.acting(
      { type: 'putVolume', pool: spec.pool, name, size_bytes, mark: undefined },
      turn.generation(key),
      ['Growing', 'GrowFailed'],
      `from ${inWords(seen.size_bytes)} to ${spec.size}`,
    );
  else if (seen.size_bytes > size_bytes)
    ready = bad(
      'ShrinkRefused',
      `it is ${inWords(seen.size_bytes)} large and holds data; a volume cannot shrink. Write size: ${inWords(seen.size_bytes)}, or copy its data to a new volume`,
    );
  else if (seen.state === 'full')
    ready = bad('PoolFull', seen.reason ?? `pool "${spec.pool}" has no space left: free some`);
  else if (seen.state === 'failed') ready = bad('VolumeFailed', seen.reason ?? 'failed');
  else ready = good('Available', `${inWords(seen.allocated_bytes)} of ${inWords(seen.size_bytes)} allocated`);
  turn.report(key, { ready, usable, observed, lastError });
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
