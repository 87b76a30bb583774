/**
 * Port security: which addresses may speak on a port, and which servers may answer there. A port without it is not
 * looked at. One that is `trusted` is not either, but leases are learned from what its servers say.
 */
import { z } from 'zod';

const Mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);

export const PortGuard = z.strictObject({
  trusted: z.boolean(),
  /** Ethernet sources that may speak here; absent: any. */
  macs: z.array(Mac).max(64).optional(),
  /** Of IP packets, ARP and neighbour discovery; absent and no `leases`: any. `mac`: only together with it. */
  addresses: z
    .array(z.strictObject({ prefix: z.string().min(2).max(49), mac: Mac.optional() }))
    .max(64)
    .optional(),
  /** Addresses that a DHCP server was seen to lease to this port may speak here, and no others but `addresses`. */
  leases: z.boolean(),
  /** IPv6 link-local addresses, which nobody leases: all of them, or only those of `addresses`. */
  linkLocal: z.enum(['any', 'listed']),
  /** Inspect ARP: sender's MAC is the Ethernet source, its IP one that may speak here; at most so many a second. */
  arp: z.strictObject({ rate_pps: z.int().min(1).max(1_000_000) }).optional(),
  /** The same of IPv6 neighbour discovery. */
  nd: z.strictObject({ rate_pps: z.int().min(1).max(1_000_000) }).optional(),
  /** DHCP servers may answer from here. */
  dhcpServer: z.boolean(),
  /** Routers may advertise themselves and redirect from here. */
  router: z.boolean(),
});
export type PortGuard = z.infer<typeof PortGuard>;

/** GET /switches/:switch/show/guard */
export const GuardView = z.object({
  ports: z.array(
    z.object({
      port: z.string(),
      trusted: z.boolean(),
      /** Empty: any. */
      macs: z.array(z.string()),
      addresses: z.array(z.string()),
      leases: z.boolean(),
      /** Frames refused so far, by the counter's name; only those that are not zero. */
      refused: z.record(z.string(), z.number()),
    }),
  ),
  leases: z.array(
    z.object({
      address: z.string(),
      mac: z.string(),
      vlan: z.int(),
      port: z.string(),
      /** Null: for ever. */
      expiresIn_s: z.number().nullable(),
    }),
  ),
  leasesMax: z.int(),
});
export type GuardView = z.infer<typeof GuardView>;
