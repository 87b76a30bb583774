/** IGMP and MLD snooping (RFC 4541). */
import { z } from 'zod';

export const SwitchSnooping = z.strictObject({
  igmp: z.boolean(),
  mld: z.boolean(),
  /** Where frames go to a group that nobody is known to have joined. Link-local groups always go everywhere. */
  unknown: z.enum(['flood', 'routers']),
  /** Ask by ourselves wherever nobody with a lower address does; null: never. */
  querier: z
    .strictObject({
      /** Senders of our queries; null: 0.0.0.0, and the link-local address that follows from the switch's own. */
      ipv4: z.string().nullable(),
      ipv6: z.string().nullable(),
      interval_s: z.int().min(10).max(3600),
      response_s: z.int().min(1).max(25),
    })
    .nullable(),
  /** RFC 3376 8.1: how many queries may be lost. */
  robustness: z.int().min(1).max(7),
  /** Pairs of group and port at most. */
  limit: z.int().min(1).max(100_000),
});
export type SwitchSnooping = z.infer<typeof SwitchSnooping>;

export const PortSnooping = z.strictObject({
  /** `auto`: while a querier is heard on it. */
  router: z.enum(['auto', 'always', 'never']),
  /** A leave is believed at once: for ports with one station behind them. */
  fastLeave: z.boolean(),
  /** Groups joined on the port at most; beyond it the port is sent all groups. */
  limit: z.int().min(1).max(100_000),
});
export type PortSnooping = z.infer<typeof PortSnooping>;

/** `show groups`. */
export const GroupsView = z.object({
  groups: z.array(z.object({ vlan: z.int(), group: z.string(), port: z.string(), expires_s: z.number() })),
  /** `expires_s` null: configured. */
  routers: z.array(
    z.object({ vlan: z.int().nullable(), port: z.string(), expires_s: z.number().nullable() }),
  ),
  queriers: z.array(
    z.object({ vlan: z.int(), family: z.enum(['igmp', 'mld']), address: z.string(), own: z.boolean() }),
  ),
  counters: z.record(z.string(), z.number()),
});
export type GroupsView = z.infer<typeof GroupsView>;
