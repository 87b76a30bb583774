/** What would become of a frame: a trial of it goes the way of all frames, and leaves no trace. */
import { z } from 'zod';

/** POST /switches/:switch/trace */
export const TraceRequest = z.strictObject({
  /** Where it comes in. */
  port: z.string().min(1).max(64),
  /** From the destination address on, without a checksum, as hexadecimal digits. */
  frame: z
    .string()
    .max(131_114)
    .regex(/^([0-9a-fA-F]{2})+$/, 'pairs of hexadecimal digits'),
});
export type TraceRequest = z.infer<typeof TraceRequest>;

export const TraceStage = z.object({
  stage: z.string(),
  verdict: z.enum(['pass', 'drop', 'note']),
  /** In words. */
  why: z.string(),
});
export type TraceStage = z.infer<typeof TraceStage>;

export const TraceView = z.object({
  port: z.string(),
  length_bytes: z.int(),
  /** Null: it did not come so far that this was known. */
  vlan: z.int().nullable(),
  priority: z.int().nullable(),
  /** In the order in which they were asked. */
  stages: z.array(TraceStage),
  /** `control`: for the switch's own protocols. */
  outcome: z.enum(['forwarded', 'flooded', 'dropped', 'control']),
  /** The counter that would go up; null when it is not dropped. */
  reason: z.string().nullable(),
  egress: z.array(
    z.object({
      port: z.string(),
      /** What stands in front of its payload there, outermost first: `untagged`, `tag 10`, `service tag 100, tag 10`. */
      tags: z.string(),
      /** The queue that it waits in; null: the port has one only. */
      queue: z.string().nullable(),
    }),
  ),
  /** Ports of the VLAN that it does not leave by. */
  withheld: z.array(z.object({ port: z.string(), why: z.string() })),
  /** Whether the kernel may be told to decide the next frames of the flow. */
  isOffloadable: z.boolean(),
});
export type TraceView = z.infer<typeof TraceView>;
