/**
 * Port security, as users say it, and in the plane's words. On a port or a machine's card:
 *
 *   guard: { trusted: true }                    towards routers and DHCP servers
 *   guard: {}                                   of a machine's card: its own MAC address, no servers, no routers
 *   guard: { addresses: [10.0.0.5], ... }       only these may speak; ARP and neighbour discovery are held to it
 *   guard: { leases: true }                     only what a DHCP server behind a trusted port leased to this port
 */
import { z } from 'zod';
import type { PortConfig, PortGuard } from '../../../dataplane/contract.js';
import { parseCidr } from '../../../host/ip.js';
import type { Fault } from '../fault.js';
import type { Specs } from '../resource.js';
import type { SwitchSpec } from '../spec.js';
import { StationMac } from '../words.js';

const Prefix = z
  .string()
  .refine(
    text => parseCidr(text) !== undefined,
    'an address or a prefix is expected: 10.0.0.5, 2001:db8::/64',
  );
const Address = z.union([Prefix, z.strictObject({ address: Prefix, mac: StationMac })]);
const Rate = z.strictObject({
  rate: z.int().min(1).max(1_000_000).meta({ description: 'packets a second; more are dropped' }),
});

/** Twenty stations behind one port, all renewing at once, stay below it. */
const DEFAULT_RATE_PPS = 100;

/** On a port or a machine's card. */
export const PortWords = z
  .strictObject({
    trusted: z
      .boolean()
      .default(false)
      .meta({ description: 'nothing is refused here; servers are listened to' }),
    mac: z
      .union([z.enum(['own', 'any']), StationMac, z.array(StationMac).min(1).max(64)])
      .optional()
      .meta({ description: "sources that may speak; default: a machine's card its own, a port any" }),
    addresses: z
      .array(Address)
      .min(1)
      .max(64)
      .optional()
      .meta({ description: 'IP addresses that may speak, each with a MAC address if it is bound to one' }),
    leases: z
      .boolean()
      .default(false)
      .meta({ description: 'what a DHCP server behind a trusted port leased to this port may speak' }),
    linkLocal: z
      .enum(['any', 'listed'])
      .default('any')
      .meta({ description: 'IPv6 link-local addresses: all, or only those of addresses' }),
    arp: z
      .union([z.boolean(), Rate])
      .default(true)
      .meta({ description: 'ARP inspection; { rate: 100 } for another limit' }),
    nd: z
      .union([z.boolean(), Rate])
      .default(true)
      .meta({ description: 'the same of IPv6 neighbour discovery' }),
    dhcpServer: z.boolean().default(false).meta({ description: 'a DHCP server may answer from here' }),
    router: z
      .boolean()
      .default(false)
      .meta({ description: 'IPv6 routers may advertise themselves from here' }),
  })
  .superRefine((words, context) => {
    if (!words.trusted) return;
    for (const key of ['mac', 'addresses'] as const)
      if (words[key] !== undefined)
        context.addIssue({
          code: 'custom',
          path: [key],
          message: 'nothing is refused on a trusted port: leave out trusted, or this',
        });
    if (words.leases)
      context.addIssue({ code: 'custom', path: ['leases'], message: 'a trusted port needs no leases' });
  });
export type PortWords = z.infer<typeof PortWords>;

function rateOf(words: boolean | { rate: number }): { rate_pps: number } | undefined {
  if (words === false) return undefined;
  return { rate_pps: words === true ? DEFAULT_RATE_PPS : words.rate };
}

export function portToPlane(words: PortWords): PortGuard {
  const { mac, addresses } = words;
  const arp = rateOf(words.arp);
  const nd = rateOf(words.nd);
  const macs = mac === undefined || mac === 'own' || mac === 'any' ? undefined : [mac].flat();
  return {
    trusted: words.trusted,
    ...(macs === undefined ? {} : { macs }),
    ...(addresses === undefined
      ? {}
      : {
          addresses: addresses.map(one =>
            typeof one === 'string' ? { prefix: one } : { prefix: one.address, mac: one.mac },
          ),
        }),
    leases: words.leases,
    linkLocal: words.linkLocal,
    ...(arp === undefined ? {} : { arp }),
    ...(nd === undefined ? {} : { nd }),
    dhcpServer: words.dhcpServer,
    router: words.router,
  };
}

/** A machine's card speaks with its own address, unless something else was said. */
export function withOwnMac<P extends Pick<PortConfig, 'guard'>>(
  port: P,
  words: PortWords | undefined,
  mac: string,
): P {
  if (port.guard === undefined || words === undefined || words.trusted) return port;
  if (words.mac !== undefined && words.mac !== 'own') return port;
  return { ...port, guard: { ...port.guard, macs: [mac] } };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(spec: SwitchSpec): Generator<Fault> {
  for (const [name, { guard }] of Object.entries(spec.ports))
    if (guard?.mac === 'own')
      yield {
        path: ['ports', name, 'guard', 'mac'],
        blame: 'value',
        message: "only a machine's card has an address of its own: write the addresses that may speak here",
      };
}

/** Who lives by leases hears nothing unless servers are listened to somewhere: on a port or a machine's card. */
export function* leaseFaults(specs: Specs): Generator<Fault> {
  const places: { on: string; path: (string | number)[]; guard: PortWords | undefined }[] = [];
  for (const [on, { ports }] of specs.switch)
    for (const [port, { guard }] of Object.entries(ports))
      places.push({ on, path: ['switch', on, 'ports', port, 'guard', 'leases'], guard });
  for (const [name, { nics }] of specs.machine)
    for (const [index, { switch: on, guard }] of nics.entries())
      places.push({ on, path: ['machine', name, 'nics', index, 'guard', 'leases'], guard });
  const served = new Set(
    places.filter(({ guard }) => guard?.trusted === true || guard?.dhcpServer === true).map(({ on }) => on),
  );
  for (const { on, path, guard } of places)
    if (guard?.leases === true && !served.has(on))
      yield {
        path,
        blame: 'value',
        message: `no port of switch "${on}" is trusted: set guard: { trusted: true } on the one towards the DHCP server`,
      };
}
