/** A pool, as users say it: a directory, one device or file as it is, or another NBD server. */
import { z } from 'zod';
import type { PoolConfig } from '../../../storage/contract.js';
import { poolDirectory } from '../layout.js';
import type { Layout } from '../layout.js';
import { Duration, parseDuration_ms } from '../words.js';
import { ClientTls, FilePath, TcpAddress, tlsToPlane } from './network.js';

/** `10%` -> 10; undefined when it is not a part of a hundred. */
export function parsePercent(text: string): number | undefined {
  const percent = Number(/^(\d{1,3}(?:\.\d+)?)%$/.exec(text)?.[1] ?? Number.NaN);
  return percent >= 0 && percent <= 100 ? percent : undefined;
}

const RemoteWords = z
  .strictObject({
    tcp: TcpAddress.optional(),
    unix: FilePath.max(107).optional().meta({ description: "path of the server's Unix socket" }),
    tls: ClientTls.optional().meta({ description: 'begin TLS; {} trusts the authorities of this system' }),
    connections: z.int().min(1).max(16).optional().meta({
      description: 'to one volume, when the server says that they see each other; default 1',
    }),
    patience: Duration.default('30s').meta({
      description: 'how long requests wait for a server that is away; 0s: for ever',
    }),
  })
  .superRefine(({ tcp, unix, tls }, context) => {
    if ((tcp === undefined) === (unix === undefined))
      context.addIssue({ code: 'custom', message: 'a server is at tcp: { host, port } or at unix: say one' });
    if (tls !== undefined && tcp === undefined && unix !== undefined)
      context.addIssue({ code: 'custom', path: ['tls'], message: 'tls is spoken over tcp only' });
  });

export const PoolSpec = z
  .strictObject({
    directory: z
      .string()
      .startsWith('/', 'a directory is an absolute path')
      .optional()
      .meta({ description: "default: pools/NAME in weft's state directory" }),
    device: FilePath.optional().meta({
      description: 'a block device or a raw file: the one volume of this pool, as it is',
    }),
    remote: RemoteWords.optional().meta({ description: 'another NBD server; its exports are the volumes' }),
    overcommit: z.number().min(0.1).max(1000).optional().meta({
      description: 'sizes of all volumes together are at most so many times the capacity; default: no bound',
    }),
    lowSpace: z
      .string()
      .refine(text => parsePercent(text) !== undefined, 'a part of the capacity is expected: 10%')
      .default('10%')
      .meta({ description: 'tell when less than this is free' }),
  })
  .superRefine(({ directory, device, remote, overcommit }, context) => {
    const places = [directory, device, remote].filter(place => place !== undefined);
    if (places.length > 1)
      context.addIssue({ code: 'custom', message: 'a pool is a directory, a device or remote: say one' });
    if (overcommit !== undefined && (device !== undefined || remote !== undefined))
      context.addIssue({
        code: 'custom',
        path: ['overcommit'],
        message: 'volumes are made in directories only: overcommit says nothing here',
      });
  });
export type PoolSpec = z.infer<typeof PoolSpec>;

/** Volumes are made, snapshotted and deleted in pools of kind `directory` only. */
export function poolKind({ device, remote }: PoolSpec): 'directory' | 'device' | 'remote' {
  if (remote !== undefined) return 'remote';
  return device === undefined ? 'directory' : 'device';
}

export function placeInWords(layout: Layout, name: string, spec: PoolSpec): string {
  if (spec.remote === undefined) return spec.device ?? poolDirectory(layout, name, spec.directory);
  const { tcp, unix } = spec.remote;
  return tcp === undefined ? (unix ?? '') : `${tcp.host}:${tcp.port}`;
}

export function poolToPlane(layout: Layout, name: string, spec: PoolSpec): PoolConfig {
  const lowSpace_percent = parsePercent(spec.lowSpace) ?? 10;
  if (spec.remote === undefined)
    return {
      name,
      ...(spec.device === undefined
        ? { directory: poolDirectory(layout, name, spec.directory) }
        : { device: spec.device }),
      ...(spec.overcommit === undefined ? {} : { overcommitMax: spec.overcommit }),
      lowSpace_percent,
    };
  const { tcp, unix, tls, connections, patience } = spec.remote;
  return {
    name,
    remote: {
      server: tcp === undefined ? { kind: 'unix', path: unix ?? '' } : { kind: 'tcp', ...tcp },
      ...(tls === undefined ? {} : { tls: tlsToPlane(tls) }),
      ...(connections === undefined ? {} : { connections }),
      patience_ms: parseDuration_ms(patience) ?? 0,
    },
  };
}
