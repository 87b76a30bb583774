/** Volumes, snapshots, sizes, rates, labels and backup targets as people type them. Pure. */
import { InvalidArgumentError } from 'commander';
import type { storage } from '../../control/api/contract.js';
import { parseSize } from '../../control/model/spec.js';
import { UsageError } from '../errors.js';

export interface VolumeName {
  pool: string;
  volume: string;
}

export interface SnapshotName extends VolumeName {
  snapshot: string;
}

/** `POOL/VOLUME`. */
export function parseVolume(text: string): VolumeName {
  const { snapshot, ...name } = parseTarget(text);
  if (snapshot === undefined) return name;
  throw new UsageError(`"${text}" names a snapshot`, 'Say POOL/VOLUME alone.');
}

/** `POOL/VOLUME@SNAPSHOT`. */
export function parseSnapshot(text: string): SnapshotName {
  const { snapshot, ...name } = parseTarget(text);
  if (snapshot !== undefined) return { ...name, snapshot };
  throw new UsageError(
    `"${text}" does not name a snapshot`,
    `Say POOL/VOLUME@SNAPSHOT, as "weft volume snapshots ${text}" shows them.`,
  );
}

/** `POOL/VOLUME` or `POOL/VOLUME@SNAPSHOT`. */
export function parseTarget(text: string): VolumeName & { snapshot?: string } {
  const match = /^([^/@]+)\/([^/@]+)(?:@([^/@]+))?$/.exec(text);
  if (match === null)
    throw new UsageError(
      `"${text}" does not name a volume`,
      'Say POOL/VOLUME, as "weft volume list" shows them; of a snapshot POOL/VOLUME@SNAPSHOT.',
    );
  const [, pool = '', volume = '', snapshot] = match;
  return { pool, volume, ...(snapshot === undefined ? {} : { snapshot }) };
}

export function volumePath({ pool, volume }: VolumeName, more = ''): string {
  return `/v1/volumes/${encodeURIComponent(pool)}/${encodeURIComponent(volume)}${more}`;
}

/** `20GiB` as in the configuration. */
export function size_bytes(text: string): number {
  const value = parseSize(text);
  if (value === undefined)
    throw new InvalidArgumentError('a size is a number and a unit: B, KiB, MiB, GiB or TiB.');
  return value;
}

/** `200MiB`, per second. */
export function rate_bytes_per_s(text: string): number {
  const value = parseSize(text.replace(/\/s$/, ''));
  if (value === undefined || value <= 0)
    throw new InvalidArgumentError('a rate is a size per second: 50MiB or 50MiB/s.');
  return value;
}

/** `--label KEY=VALUE`, many times. */
export function label(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('a label is KEY=VALUE.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** `snap-20261121-083000`, in UTC, so that names sort by age wherever they are made. */
export function timedName(prefix: string, now_ms: number): string {
  const [day = '', time = ''] = new Date(now_ms).toISOString().split('T');
  return `${prefix}-${day.replaceAll('-', '')}-${time.slice(0, 8).replaceAll(':', '')}`;
}

/** What the names in a target stand for on this machine. */
export interface Place {
  /** Makes a path absolute. */
  resolve: (path: string) => string;
  isThere: (path: string) => boolean;
}

/**
 * A directory, or the NBD URI of one export, in libnbd's words:
 *
 *   nbd://HOST:PORT/NAME     nbd+unix:///NAME?socket=PATH
 *   nbds://HOST:PORT/NAME?tls-certificates=DIR     DIR/ca-cert.pem, and client-cert.pem with client-key.pem if there are
 *   nbds://IDENTITY@HOST:PORT/NAME?tls-psk-file=FILE
 */
export function backupTarget(text: string, place: Place): storage.BackupTarget {
  if (!/^nbds?(\+unix)?:/i.test(text)) return { directory: place.resolve(text) };
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw badTarget(text);
  }
  const exportName = decodeURIComponent(url.pathname.replace(/^\//, ''));
  if (url.protocol.endsWith('+unix:')) {
    const path = url.searchParams.get('socket');
    if (path === null || !path.startsWith('/')) throw badTarget(text);
    if (url.protocol.startsWith('nbds'))
      throw new UsageError('TLS is spoken over TCP only', 'Say nbd+unix:.');
    return { server: { kind: 'unix', path }, exportName };
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (host === '') throw badTarget(text);
  return {
    server: { kind: 'tcp', host, port: url.port === '' ? 10_809 : Number(url.port) },
    exportName,
    ...(url.protocol.startsWith('nbds') ? { tls: tlsOf(url, place) } : {}),
  };
}

function tlsOf(url: URL, { resolve, isThere }: Place): NonNullable<TargetTls> {
  const directory = url.searchParams.get('tls-certificates');
  const keys = url.searchParams.get('tls-psk-file');
  const tls: NonNullable<TargetTls> = {};
  if (directory !== null) {
    const file = (name: string): string => resolve(`${directory}/${name}`);
    tls.authority = file('ca-cert.pem');
    if (isThere(file('client-cert.pem'))) {
      tls.certificate = file('client-cert.pem');
      tls.key = file('client-key.pem');
    }
  }
  if (keys !== null) tls.psk = resolve(keys);
  if (url.username !== '') tls.pskIdentity = decodeURIComponent(url.username);
  return tls;
}

type TargetTls = Extract<storage.BackupTarget, { exportName: string }>['tls'];

function badTarget(text: string): UsageError {
  return new UsageError(
    `"${text}" is not a place for backups`,
    'Say a directory, nbd://HOST:PORT/NAME (nbds: with TLS), or nbd+unix:///NAME?socket=PATH.',
  );
}
