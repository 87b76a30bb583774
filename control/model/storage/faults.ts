/**
 * What can only be judged of storage by looking at the whole configuration: which pools make volumes, what a clone has
 * in common with its source, that nothing lies in two places that are one. Rules of validate.ts; pure.
 */
import type { Fault } from '../fault.js';
import { durationOf_ms, sizeOf } from '../meaning.js';
import { someOf } from '../nearest.js';
import type { Specs } from '../resource.js';
import { tcpOf, isOpenToStrangers, isReadOnly } from './export.js';
import { poolKind } from './pool.js';
import type { VolumeSpec } from './volume.js';

const UNIT_BYTES = 4096;
const MAX_BYTES = 2 ** 46;
const EVERY_MIN_MS = 60_000;
const EVERY_MAX_MS = 366 * 24 * 3_600_000;
const IDLE_MIN_MS = 1000;
const PATIENCE_MAX_MS = 24 * 3_600_000;

type Path = (string | number)[];

function value(path: Path, message: string): Fault {
  return { path, blame: 'value', message };
}

function key(path: Path, message: string): Fault {
  return { path, blame: 'key', message };
}

function* sizeFaults(word: string, path: Path): Generator<Fault> {
  const size_bytes = sizeOf(word);
  if (size_bytes < UNIT_BYTES) yield value(path, `"${word}" is too small: the least is 4KiB`);
  else if (size_bytes > MAX_BYTES) yield value(path, `"${word}" is too big: the most is 64TiB`);
  else if (size_bytes % UNIT_BYTES !== 0)
    yield value(
      path,
      `"${word}" is not a multiple of 4KiB; the next is ${Math.ceil(size_bytes / UNIT_BYTES) * 4}KiB`,
    );
}

function* timeFaults(word: string, path: Path, [least_ms, most_ms]: readonly [number, number], says: string) {
  const time_ms = durationOf_ms(word);
  if (time_ms < least_ms || time_ms > most_ms) yield value(path, `"${word}" is out of range: ${says}`);
}

/** Sizes and times of volumes, pools and exports. */
export function* storageSizes(specs: Specs): Generator<Fault> {
  for (const [name, { size, quota, snapshots }] of specs.volume) {
    if (size !== undefined) yield* sizeFaults(size, ['volume', name, 'size']);
    if (quota !== undefined && sizeOf(quota) < UNIT_BYTES)
      yield value(['volume', name, 'quota'], `"${quota}" is too small: the least is 4KiB`);
    if (snapshots !== undefined)
      yield* timeFaults(
        snapshots.every,
        ['volume', name, 'snapshots', 'every'],
        [EVERY_MIN_MS, EVERY_MAX_MS],
        'from 1m to 8784h',
      );
  }
  for (const [name, { remote }] of specs.pool)
    if (remote !== undefined)
      yield* timeFaults(
        remote.patience,
        ['pool', name, 'remote', 'patience'],
        [0, PATIENCE_MAX_MS],
        'at most 24h; 0s waits for ever',
      );
  for (const [name, { idleTimeout }] of specs.export)
    if (idleTimeout !== undefined)
      yield* timeFaults(
        idleTimeout,
        ['export', name, 'idleTimeout'],
        [IDLE_MIN_MS, Number.MAX_SAFE_INTEGER],
        'from 1s on',
      );
}

/** Words that say how a volume is made, or that need snapshots: for pools that make volumes. */
const OF_DIRECTORIES = [
  'image',
  'from',
  'preallocated',
  'checksums',
  'quota',
  'labels',
  'snapshots',
] as const;

/** What a volume may say in the kind of pool that it is in. */
export function* volumePlaces(specs: Specs): Generator<Fault> {
  for (const [name, volume] of specs.volume) {
    const pool = specs.pool.get(volume.pool);
    if (pool === undefined) continue;
    const kind = poolKind(pool);
    const at = (...more: Path): Path => ['volume', name, ...more];
    if (kind === 'directory') {
      if (volume.size === undefined && volume.from === undefined)
        yield key(at(), `it has no size: pool "${volume.pool}" makes it, and must know how large`);
    } else {
      const what = kind === 'device' ? 'is one device as it is' : 'is another server, which says';
      if (volume.size !== undefined)
        yield key(at('size'), `pool "${volume.pool}" ${what}: its size is what is there; leave size out`);
      for (const word of OF_DIRECTORIES)
        if (volume[word] !== undefined)
          yield key(
            at(word),
            `${word} is for volumes in a directory; pool "${volume.pool}" is of kind ${kind}`,
          );
    }
    if (volume.remoteName !== undefined && kind !== 'remote')
      yield key(at('remoteName'), `pool "${volume.pool}" is not remote: its volumes have their own names`);
    if (volume.image !== undefined && volume.from !== undefined)
      yield key(at('image'), 'a clone has the data of its source: say image or from, not both');
    if (volume.shrink === true && volume.size === undefined)
      yield key(at('shrink'), 'to shrink, say the new size as well');
    yield* mirrorFaults(specs, name, volume);
  }
}

function* mirrorFaults(specs: Specs, name: string, { pool, mirror }: VolumeSpec): Generator<Fault> {
  if (mirror === undefined) return;
  const at = ['volume', name, 'mirror'];
  if (mirror.pool === pool)
    yield value([...at, 'pool'], `both sides would lie in pool "${pool}": a mirror needs a second one`);
  const second = specs.pool.get(mirror.pool);
  if (second === undefined) return;
  if (mirror.remoteName !== undefined && poolKind(second) !== 'remote')
    yield key(
      [...at, 'remoteName'],
      `pool "${mirror.pool}" is not remote: the second side has this volume's name`,
    );
}

/** One thing below has one volume above: a device, an export of another server. */
export function* volumeClaims(specs: Specs): Generator<Fault> {
  const holders = new Map<string, string>();
  const claim = function* (poolName: string, remoteName: string, who: string, at: Path): Generator<Fault> {
    const pool = specs.pool.get(poolName);
    if (pool === undefined) return;
    const kind = poolKind(pool);
    if (kind === 'directory') return;
    const { tcp, unix } = pool.remote ?? {};
    const thing =
      kind === 'device'
        ? `device ${pool.device}`
        : `export "${remoteName}" of ${tcp === undefined ? unix : `${tcp.host}:${tcp.port}`}`;
    const holder = holders.get(thing);
    if (holder === undefined) holders.set(thing, who);
    else yield value(at, `${thing} is ${holder} already: two would destroy each other's data`);
  };
  for (const [name, volume] of specs.volume) {
    const who = `volume "${name}"`;
    yield* claim(volume.pool, volume.remoteName ?? name, who, ['volume', name, 'pool']);
    const { mirror } = volume;
    if (mirror !== undefined)
      yield* claim(mirror.pool, mirror.remoteName ?? name, `the second side of ${who}`, [
        'volume',
        name,
        'mirror',
        'pool',
      ]);
  }
}

/** A clone shares its source's blocks: it lies beside them, and reads them with the same key. */
export function* clones(specs: Specs): Generator<Fault> {
  for (const [name, volume] of specs.volume) {
    const { from } = volume;
    if (from === undefined) continue;
    const at = ['volume', name, 'from', 'volume'];
    const source = specs.volume.get(from.volume);
    if (from.volume === name) yield value(at, 'it would be a clone of itself');
    else if (source === undefined) continue;
    else if (source.pool !== volume.pool)
      yield value(
        at,
        `volume "${from.volume}" is in pool "${source.pool}": a clone lies in the pool of its source`,
      );
    else if (source.encryption?.keyFile !== volume.encryption?.keyFile)
      yield value(
        at,
        source.encryption === undefined
          ? `volume "${from.volume}" is not encrypted, so its clone cannot be: it shares its data`
          : `volume "${from.volume}" is encrypted: its clone needs the same encryption: { keyFile: ${source.encryption.keyFile} }`,
      );
    else if (
      volume.size !== undefined &&
      source.size !== undefined &&
      sizeOf(volume.size) < sizeOf(source.size)
    )
      yield value(
        ['volume', name, 'size'],
        `a clone is as large as its source (${source.size}) or larger; leave size out`,
      );
    if (cloneCircle(specs, name)) yield value(at, 'these volumes are clones of each other in a circle');
  }
}

function cloneCircle(specs: Specs, name: string): boolean {
  let here = specs.volume.get(name)?.from?.volume;
  for (let steps = 0; here !== undefined && here !== name; steps++) {
    if (steps > specs.volume.size) return false;
    here = specs.volume.get(here)?.from?.volume;
  }
  return here === name && specs.volume.get(name)?.from?.volume !== name;
}

/** Disks with undo need a pool with snapshots, and a volume of their own. */
export function* undoDisks(specs: Specs): Generator<Fault> {
  const owner = new Map<string, string>();
  for (const [name, { disks }] of specs.machine)
    for (const [index, { volume, undo }] of disks.entries()) {
      if (undo !== 'discard') continue;
      const at = ['machine', name, 'disks', index, 'undo'];
      const pool = specs.pool.get(specs.volume.get(volume)?.pool ?? '');
      if (pool !== undefined && poolKind(pool) !== 'directory')
        yield value(at, `volume "${volume}" is in a pool of kind ${poolKind(pool)}, which has no snapshots`);
      if (specs.volume.get(volume)?.mirror !== undefined)
        yield value(at, `volume "${volume}" is mirrored: going back would concern one side only`);
      owner.set(volume, name);
    }
  for (const [name, spec] of specs.export) {
    const machine = owner.get(spec.volume);
    if (machine !== undefined && spec.snapshot === undefined)
      yield value(
        ['export', name, 'volume'],
        `machine "${machine}" goes back on volume "${spec.volume}" at power-off (undo: discard), which nobody else may have open; export a snapshot of it`,
      );
  }
}

/** Exports: where snapshots are, who shares an address, and who is let in. */
export function* exportFaults(specs: Specs): Generator<Fault> {
  const tlsAt = new Map<string, { who: string; tls: string }>();
  for (const [name, spec] of specs.export) {
    const volume = specs.volume.get(spec.volume);
    const pool = specs.pool.get(volume?.pool ?? '');
    if (spec.snapshot !== undefined && pool !== undefined && poolKind(pool) !== 'directory')
      yield value(
        ['export', name, 'snapshot'],
        `pool "${volume?.pool}" is of kind ${poolKind(pool)} and has no snapshots`,
      );
    const tls = JSON.stringify(spec.tls ?? null);
    for (const { host, port } of tcpOf(spec)) {
      const address = `${host}:${port}`;
      const other = tlsAt.get(address);
      if (other === undefined) tlsAt.set(address, { who: `export "${name}"`, tls });
      else if (other.tls !== tls)
        yield key(
          ['export', name, ...(spec.tls === undefined ? ['tcp'] : ['tls'])],
          `exports at one address have the same tls: ${other.who} says another at ${address}`,
        );
    }
    if (isOpenToStrangers(spec))
      yield {
        path: ['export', name, 'tcp'],
        blame: 'key',
        isWarning: true,
        message: `whoever reaches ${someOf(tcpOf(spec).map(({ host, port }) => `${host}:${port}`))} may read ${isReadOnly(spec) ? '' : 'and write '}volume "${spec.volume}": give the export tls, or allow: { addresses }`,
      };
  }
}
