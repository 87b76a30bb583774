/** Link aggregation: a port made of several. */
import { z } from 'zod';

export const LacpSettings = z.strictObject({
  activity: z.enum(['active', 'passive']).default('active'),
  /** How often the partner is to speak: each second, and is given up after 3 s; or each 30 s, and after 90 s. */
  timeout: z.enum(['fast', 'slow']).default('slow'),
  systemPriority: z.int().min(0).max(65_535).default(32_768),
  /** The LACP system; else the switch's own address. */
  system: z
    .string()
    .regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/)
    .optional(),
  /** The actor's key; else the number of the port within its switch. */
  key: z.int().min(1).max(65_535).optional(),
  /** 802.1AX-2014 6.4.15: `independent` sends only to a partner that says it collects. */
  control: z.enum(['independent', 'coupled']).default('independent'),
  /** With no partner on any member, one of them carries alone, as without LACP. */
  fallback: z.boolean().default(false),
});
export type LacpSettings = z.infer<typeof LacpSettings>;

export const LagSettings = z.strictObject({
  mode: z.enum(['lacp', 'static', 'activeBackup']),
  /** What a flow is: addresses and VLAN, or with IP addresses, protocol and ports. */
  balance: z.enum(['l2', 'l34']).default('l34'),
  /** The port is down with fewer members than these able to carry. */
  minLinks: z.int().min(1).max(32).default(1),
  /** LACP: the best so many carry, the others stand by. */
  maxLinks: z.int().min(1).max(32).optional(),
  /** A member carries nothing before its link has been up for so long. */
  upDelay_ms: z.int().min(0).max(3_600_000).default(0),
  lacp: LacpSettings.optional(),
  /** activeBackup: the member that carries whenever it can. */
  primary: z.string().optional(),
  /** activeBackup: how long the primary must have been back before it carries again; null: not by itself. */
  revertDelay_ms: z.int().min(0).max(3_600_000).nullable().default(0),
  /** activeBackup: frames of the learned stations tell the network of a move. */
  announce: z.boolean().default(true),
});
export type LagSettings = z.infer<typeof LagSettings>;

/** One end of a link, as LACP knows it. */
export const LacpEnd = z.object({
  systemPriority: z.int(),
  system: z.string(),
  key: z.int(),
  portPriority: z.int(),
  port: z.int(),
  /** 802.1AX-2014 6.4.2.3 l): the bits that are set, by name. */
  state: z.array(z.string()),
});
export type LacpEnd = z.infer<typeof LacpEnd>;

export const LagMemberView = z.object({
  name: z.string(),
  /** Of its own link: up, connecting, error. */
  link: z.string(),
  /** `distributing`, `collecting`, `standby`, `waiting`, `down`, `looped`, …: what it does, in one word. */
  role: z.string(),
  /** Why, in words, when there is something to say. */
  reason: z.string().nullable(),
  /** Flows by share: buckets of 1024. */
  buckets: z.int(),
  lacp: z
    .object({
      receive: z.string(),
      mux: z.string(),
      periodic: z.string(),
      selected: z.string(),
      actorChurn: z.boolean(),
      partnerChurn: z.boolean(),
      actor: LacpEnd,
      /** Null: no partner has been heard. */
      partner: LacpEnd.nullable(),
    })
    .nullable(),
  /** Of this member's link; with `lacpPdusIn`, `lacpPdusOut`, … of LACP. */
  counters: z.record(z.string(), z.number()),
});
export type LagMemberView = z.infer<typeof LagMemberView>;

/** GET /switches/:switch/show/lag */
export const LagView = z.object({
  aggregates: z.array(
    z.object({
      port: z.string(),
      mode: z.string(),
      state: z.string(),
      reason: z.string().nullable(),
      balance: z.string(),
      minLinks: z.int(),
      maxLinks: z.int().nullable(),
      /** Buckets that changed hands since the port was made. */
      bucketsMoved: z.number(),
      members: z.array(LagMemberView),
    }),
  ),
});
export type LagView = z.infer<typeof LagView>;
