/**
 * Rates, classes and queues: of a switch, of its ports, and what is shown of them.
 *
 * Lengths are those of Ethernet frames without FCS, and `overhead_bytes` more for each. A super-frame counts as the
 * segments that it will be on a wire, headers included.
 */
import { z } from 'zod';
import { VlanId, VlanRanges } from './vlan.js';

/** 802.1Q-2022 6.9.4: 802.1p values and what stands for them inside. */
const Priority = z.int().min(0).max(7);

export const Rate = z.strictObject({
  unit: z.enum(['bits', 'frames']),
  per_s: z.number().min(1).max(1e12),
  /** Octets, or frames: what may pass at once after a silence. */
  burst: z
    .number()
    .min(1)
    .max(2 ** 31),
});
export type Rate = z.infer<typeof Rate>;

/** What comes in beyond the rate is dropped, or goes on with another priority. */
export const Policer = z.strictObject({
  rate: Rate,
  exceed: z.union([z.literal('drop'), z.strictObject({ setPriority: Priority })]),
});
export type Policer = z.infer<typeof Policer>;

export const SwitchQos = z.strictObject({
  overhead_bytes: z.int().min(0).max(256).default(0),
  /** By 802.1p value: the priority it stands for. Eight. */
  pcp: z.array(Priority).length(8).optional(),
  /** By DSCP: the priority it stands for. Sixty-four; default: its upper three bits (RFC 2474 4.2.2.1). */
  dscp: z.array(Priority).length(64).optional(),
  /** For all ports together, what comes in by a VLAN. */
  vlans: z
    .array(z.strictObject({ vlan: VlanId, ingress: Policer }))
    .max(4094)
    .optional(),
});
export type SwitchQos = z.infer<typeof SwitchQos>;

export const QosClass = z.strictObject({
  name: z.string().min(1).max(40),
  /** Priorities whose frames it takes; those of no class go to the last one. */
  priorities: z.array(Priority).max(8),
  /** Frames of these VLANs, whatever their priority. */
  vlans: VlanRanges.optional(),
  /** Before all weighted classes; of several the one written first. */
  strict: z.boolean().default(false),
  /** Of weighted ones: its share of what is left, by octets. */
  weight: z.int().min(1).max(1000).default(1),
  /** It gets so much before anybody else gets anything. */
  guarantee: Rate.optional(),
  /** It never gets more. */
  max: Rate.optional(),
  limit_bytes: z
    .int()
    .min(1)
    .max(64 * 2 ** 20),
  limit_frames: z.int().min(1).max(16_384),
  /** 802.1p value of its frames when they leave tagged. */
  remark: Priority.optional(),
});
export type QosClass = z.infer<typeof QosClass>;

export const PortQos = z.strictObject({
  /** What its frames' priority is taken from; `none`, and frames that do not tell: `priority`. */
  trust: z.enum(['pcp', 'dscp', 'none']).default('pcp'),
  priority: Priority.default(0),
  ingress: Policer.optional(),
  egress: z
    .strictObject({
      rate: Rate.optional(),
      classes: z.array(QosClass).min(1).max(8),
    })
    .optional(),
});
export type PortQos = z.infer<typeof PortQos>;

/** `show queues`. */
export const QueuesView = z.object({
  ports: z.array(
    z.object({
      port: z.string(),
      rate: Rate.nullable(),
      classes: z.array(
        z.object({
          name: z.string(),
          kind: z.enum(['strict', 'weighted']),
          weight: z.int(),
          depthFrames: z.int(),
          depthOctets: z.number(),
          maxDepthOctets: z.number(),
          frames: z.number(),
          octets: z.number(),
          /** Over the second before this was asked, or since it was last asked when that is longer ago. */
          rate_bps: z.number(),
          dropsLimit: z.number(),
          dropsPool: z.number(),
        }),
      ),
    }),
  ),
  policers: z.array(
    z.object({
      port: z.string().nullable(),
      vlan: z.int().nullable(),
      rate: Rate,
      conformedFrames: z.number(),
      conformedOctets: z.number(),
      exceededFrames: z.number(),
      exceededOctets: z.number(),
    }),
  ),
  /** Buffers that queues hold, of so many that they all may. */
  buffersHeld: z.int(),
  buffersMax: z.int(),
});
export type QueuesView = z.infer<typeof QueuesView>;
