/**
 * The verdict on switches, pools, images and exports: what their plane or edge says of them. They need no
 * actions of their own but the building of an image: planes are configured as a whole (plan.ts).
 */
import type { PoolStatus } from '../../storage/contract.js';
import { exportSocket } from '../model/layout.js';
import { keyOf } from '../model/resource.js';
import { someOf } from '../model/nearest.js';
import type { SpecOf } from '../model/spec.js';
import { placeInWords } from '../model/storage/pool.js';
import { tcpOf } from '../model/storage/export.js';
import { exportNameOf } from './planes.js';
import { bad, good, unknown } from './report.js';
import type { Verdict } from './report.js';
import { hasSnapshot } from './storagePlane.js';
import type { Turn } from './turn.js';

export function judgeSwitch(turn: Turn, name: string, spec: SpecOf['switch']): void {
  const key = keyOf('switch', name);
  const { dataplane, dataplaneReason } = turn.at.observed;
  if (dataplane === null) {
    turn.report(key, { ready: unknown('PlaneDown', dataplaneReason) });
    return;
  }
  const seen = dataplane.switches.get(name);
  if (seen === undefined) {
    turn.report(key, { ready: turn.applying('dataplane') });
    return;
  }
  const own = new Set(Object.keys(spec.ports));
  const broken = seen.ports.filter(port => own.has(port.name) && port.state === 'error');
  // An aggregate that lost some of its links forwards, and somebody should look after it all the same.
  const worn = seen.ports.filter(port => own.has(port.name) && port.kind === 'lag' && port.reason !== null);
  const wear = worn.map(port => `; port "${port.name}": ${port.reason}`).join('');
  let ready: Verdict = good(
    'Forwarding',
    `${seen.ports.length} ports, ${seen.macCount} addresses learned${wear}`,
  );
  if (!turn.inEffect(key, turn.dataplaneInSync)) ready = turn.applying('dataplane');
  else if (broken.length > 0)
    ready = bad(
      'PortError',
      someOf(
        broken.map(port => `port "${port.name}": ${port.reason ?? 'error'}`),
        3,
      ),
    );
  turn.report(key, {
    ready,
    usable: true,
    observed: {
      macCount: seen.macCount,
      counters: seen.counters,
      ports: seen.ports.map(({ name: port, kind, state, reason, vlan, members }) => ({
        name: port,
        kind,
        state,
        reason,
        vlan,
        ...(members === undefined
          ? {}
          : { members: members.map(({ counters: _counters, ...member }) => member) }),
      })),
    },
    lastError: broken[0]?.reason ?? null,
  });
}

export function judgePool(turn: Turn, name: string, spec: SpecOf['pool']): void {
  const key = keyOf('pool', name);
  const { storage, storageReason } = turn.at.observed;
  if (storage === null) {
    turn.report(key, { ready: unknown('PlaneDown', storageReason) });
    return;
  }
  const seen = storage.pools.get(name);
  if (seen === undefined) {
    turn.report(key, { ready: turn.applying('storage') });
    return;
  }
  let ready: Verdict = good('Open', `${seen.volumeCount} volumes in ${seen.directory}`);
  if (!turn.inEffect(key, turn.storageInSync)) ready = turn.applying('storage');
  else if (seen.state === 'error')
    ready = bad('PoolError', seen.reason ?? `cannot open ${placeInWords(turn.at.layout, name, spec)}`);
  turn.report(key, {
    ready,
    usable: seen.state !== 'error',
    ...(seen.state === 'error' ? {} : { spaceLow: spaceLow(seen) }),
    observed: { ...seen },
    lastError: seen.state === 'error' ? seen.reason : null,
  });
}

function spaceLow({ state, reason, free_bytes, capacity_bytes }: PoolStatus): Verdict {
  const part = capacity_bytes === 0 ? '' : `${Math.floor((free_bytes / capacity_bytes) * 100)}% free`;
  if (state !== 'low') return bad('Enough', part);
  return good('Low', reason ?? `${part}: when it is full, writes fail`);
}

export function judgeImage(turn: Turn, name: string, spec: SpecOf['image']): void {
  const key = keyOf('image', name);
  const seen = turn.at.observed.images.get(name);
  if (seen === undefined) {
    turn.report(key, { ready: unknown('Looking', 'not looked at yet') });
    return;
  }
  const { image, boot } = seen;
  const observed = {
    state: image.state,
    made: image.made,
    virtualSize_bytes: image.virtualSize_bytes,
  };
  if (image.state === 'ready' && boot !== null) {
    turn.report(key, { ready: good('Available', image.made ?? image.reason ?? 'ready'), observed });
    return;
  }
  const canBuild = 'tiny' in spec;
  if (canBuild && image.state !== 'ready') {
    const [ready, lastError] = turn.acting(
      { type: 'buildImage', name, spec },
      turn.generation(key),
      ['Building', 'BuildFailed'],
      image.reason ?? 'being built',
    );
    turn.report(key, { ready, observed, lastError });
    return;
  }
  const why = image.reason ?? 'cannot be used';
  turn.report(key, { ready: bad('ImageError', why), observed, lastError: why });
}

/** Snapshots that others make are not told of. */
const LOOK_AGAIN_MS = 5_000;

function tcpWords(spec: SpecOf['export']): string | null {
  const all = tcpOf(spec).map(({ host, port }) => `${host}:${port}`);
  return all.length === 0 ? null : all.join(', ');
}

export function judgeExport(turn: Turn, name: string, spec: SpecOf['export']): void {
  const key = keyOf('export', name);
  const { storage, storageReason } = turn.at.observed;
  const observed: Record<string, unknown> = {
    unix: exportSocket(turn.at.layout, name, spec.unix),
    tcp: tcpWords(spec),
    exportName: spec.exportName ?? name,
  };
  if (storage === null) {
    turn.report(key, { ready: unknown('PlaneDown', storageReason), observed });
    return;
  }
  const blocked = turn.blockedBy([keyOf('volume', spec.volume)]);
  const seen = storage.exports.get(exportNameOf(name));
  if (seen !== undefined) {
    observed['connectionCount'] = seen.connectionCount;
    observed['counters'] = seen.counters;
  }
  let ready: Verdict;
  const pool = turn.at.desired.specs.volume.get(spec.volume)?.pool ?? '';
  if (blocked !== undefined) ready = blocked;
  else if (spec.snapshot !== undefined && !hasSnapshot(turn.at.observed, pool, spec.volume, spec.snapshot)) {
    ready = bad('DependencyNotReady', `waits for snapshot "${spec.snapshot}" of volume "${spec.volume}"`);
    turn.wakeBy(turn.at.now_ms + LOOK_AGAIN_MS);
  } else if (seen === undefined || !turn.inEffect(key, turn.storageInSync)) ready = turn.applying('storage');
  else if (seen.state === 'error') ready = bad('ListenFailed', seen.reason ?? 'cannot listen');
  else ready = good('Listening', `${seen.connectionCount} connections`);
  turn.report(key, {
    ready,
    observed,
    lastError: seen?.state === 'error' ? seen.reason : null,
  });
}
