/** LLDP of a switch and its ports. */
import { z } from 'zod';

export const LldpMode = z.enum(['off', 'rx', 'tx', 'both']);
export type LldpMode = z.infer<typeof LldpMode>;

/** 802.1AB-2016 8.5.5 to 8.5.7. */
const LldpText = z.string().max(255);

export const SwitchLldp = z.strictObject({
  /** Of ports that say nothing of LLDP themselves, and that no guest hangs on. */
  mode: LldpMode.default('both'),
  systemName: LldpText.optional(),
  systemDescription: LldpText.optional(),
  /** IPv4 or IPv6. */
  managementAddresses: z.array(z.string()).max(8).optional(),
  /** 802.1AB-2016 9.2.5.7: msgTxInterval. */
  interval_s: z.int().min(1).max(3600).default(30),
  /** 9.2.5.6: msgTxHold. */
  hold: z.int().min(1).max(100).default(4),
  /** Remembered on one link; one more is counted and told. */
  neighboursMax: z.int().min(1).max(256).default(16),
});
export type SwitchLldp = z.infer<typeof SwitchLldp>;

export const PortLldp = z.strictObject({
  mode: LldpMode.optional(),
  description: LldpText.optional(),
});
export type PortLldp = z.infer<typeof PortLldp>;

export const LldpNeighbour = z.object({
  port: z.string(),
  /** Of an aggregate: on which of its links. */
  member: z.string().nullable(),
  /** Subtypes by name; the text of what is text, else hexadecimal octets with colons. */
  chassisIdKind: z.string(),
  chassisId: z.string(),
  portIdKind: z.string(),
  portId: z.string(),
  portDescription: z.string().nullable(),
  systemName: z.string().nullable(),
  systemDescription: z.string().nullable(),
  capabilities: z.array(z.string()),
  enabledCapabilities: z.array(z.string()),
  managementAddresses: z.array(z.string()),
  portVlan: z.int().nullable(),
  linkAggregation: z.object({ isCapable: z.boolean(), isActive: z.boolean(), port: z.int() }).nullable(),
  maximumFrameSize_bytes: z.int().nullable(),
  ttl_s: z.int(),
  /** Known for so long. */
  age_ms: z.number(),
  expiresIn_ms: z.number(),
});
export type LldpNeighbour = z.infer<typeof LldpNeighbour>;

/** GET /switches/:switch/show/neighbours */
export const LldpView = z.object({
  neighbours: z.array(LldpNeighbour),
  links: z.array(
    z.object({
      port: z.string(),
      member: z.string().nullable(),
      mode: LldpMode,
      tooManyNeighbours: z.boolean(),
      /** 802.1AB-2016 9.2.6. */
      counters: z.record(z.string(), z.number()),
    }),
  ),
});
export type LldpView = z.infer<typeof LldpView>;
