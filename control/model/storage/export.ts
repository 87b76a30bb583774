/** An export, as users say it: what of a volume is served, where, and to whom. */
import { z } from 'zod';
import { parseCidr, parseIp } from '../../../host/ip.js';
import { SnapshotName } from '../../../storage/contract.js';
import type { ExportConfig } from '../../../storage/contract.js';
import { Duration, Name, parseDuration_ms } from '../words.js';
import { ServerTls, TcpAddress, tlsToPlane } from './network.js';
import type { Block } from './volume.js';

const Prefix = z
  .string()
  .refine(
    text => parseCidr(text) !== undefined,
    'an address or a prefix is expected: 10.0.0.5, 10.0.0.0/24, 2001:db8::/64',
  );

export const ExportSpec = z
  .strictObject({
    volume: Name,
    snapshot: SnapshotName.optional().meta({ description: 'serve this snapshot of it, read-only, instead' }),
    readOnly: z.boolean().default(false),
    description: z.string().max(4096).optional().meta({ description: 'in words, told to clients that ask' }),
    unix: z.string().startsWith('/').max(107).optional().meta({
      description: 'path of the Unix socket; default: run/exports/NAME.sock in the state directory',
    }),
    tcp: z
      .union([TcpAddress, z.array(TcpAddress).min(1).max(15)])
      .optional()
      .meta({ description: 'serve on the network as well, at one address or several; off when left out' }),
    tls: ServerTls.optional().meta({ description: 'clients on the network must begin TLS' }),
    allow: z
      .strictObject({
        addresses: z.array(Prefix).min(1).max(1000).optional().meta({
          description: 'of clients on the network, as addresses and prefixes',
        }),
        identities: z.array(z.string().min(1).max(256)).min(1).max(1000).optional().meta({
          description: "common names of clients' certificates, or identities of pre-shared keys",
        }),
      })
      .optional()
      .meta({ description: 'who may use it; left out: whoever can connect' }),
    connections: z.int().min(1).max(16_384).optional().meta({ description: 'at once, at most' }),
    idleTimeout: Duration.optional().meta({
      description: 'a client that asks nothing for so long is disconnected; from 1s on, default: never',
    }),
    exportName: z
      .string()
      .max(4096)
      .optional()
      .meta({ description: "NBD export name; default: the resource's name" }),
  })
  .superRefine(({ tcp, tls, allow }, context) => {
    if (tls !== undefined && tcp === undefined)
      context.addIssue({
        code: 'custom',
        path: ['tls'],
        message: 'tls is for tcp, which this export has not',
      });
    if (allow?.identities !== undefined && tls === undefined)
      context.addIssue({
        code: 'custom',
        path: ['allow', 'identities'],
        message: 'without tls a client has no identity: give the export tls, or allow addresses',
      });
  })
  .meta({ description: 'a volume served by NBD' });
export type ExportSpec = z.infer<typeof ExportSpec>;

export function tcpOf({ tcp }: ExportSpec): TcpAddress[] {
  return tcp === undefined ? [] : Array.isArray(tcp) ? tcp : [tcp];
}

export function isReadOnly({ readOnly, snapshot }: ExportSpec): boolean {
  return readOnly || snapshot !== undefined;
}

/** Whether strangers may reach it: a name is taken for the network, but for `localhost`. */
export function isOpenToStrangers(spec: ExportSpec): boolean {
  if (spec.tls !== undefined || spec.allow?.addresses !== undefined) return false;
  return tcpOf(spec).some(({ host }) => !isLoopback(host));
}

function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const address = parseIp(host);
  if (address === undefined) return false;
  if (address.length === 4) return address[0] === 127;
  return address.every((byte, index) => byte === (index === 15 ? 1 : 0));
}

export function exportToPlane(
  spec: ExportSpec,
  at: { name: string; nbdName: string; pool: string; socketPath: string; block: Block | undefined },
): ExportConfig {
  const { snapshot, description, tls, allow, connections, idleTimeout } = spec;
  return {
    name: at.name,
    nbdName: at.nbdName,
    ...(description === undefined ? {} : { description }),
    pool: at.pool,
    volume: spec.volume,
    ...(snapshot === undefined ? {} : { snapshot }),
    readOnly: isReadOnly(spec),
    ...(at.block === undefined ? {} : { minimumBlock_bytes: at.block }),
    ...(allow === undefined ? {} : { allow: JSON.parse(JSON.stringify(allow)) as typeof allow }),
    ...(connections === undefined ? {} : { connectionLimit: connections }),
    ...(idleTimeout === undefined ? {} : { idleLimit_ms: parseDuration_ms(idleTimeout) ?? 0 }),
    listen: [
      { kind: 'unix', path: at.socketPath },
      ...tcpOf(spec).map(({ host, port }) => ({
        kind: 'tcp' as const,
        host,
        port,
        ...(tls === undefined ? {} : { tls: tlsToPlane(tls) }),
      })),
    ],
  };
}
