/** Offload of decided flows to the kernel. */
import { z } from 'zod';

export const SwitchOffload = z.strictObject({
  /** `auto`: flows between ports that are the kernel's (taps, interfaces) are handed to it where it can take them. */
  mode: z.enum(['auto', 'off']).default('auto'),
});
export type SwitchOffload = z.infer<typeof SwitchOffload>;

/** What `GET /switches/:switch/show/offload` answers. */
export const OffloadView = z.object({
  mode: z.enum(['auto', 'off']),
  /** Why no flow of the switch can be offloaded; null when that is not so. */
  reason: z.string().nullable(),
  ports: z.array(
    z.object({
      port: z.string(),
      /** Why its flows are not offloaded; null when they are. */
      reason: z.string().nullable(),
      /** Hooks, in words: where the kernel takes the port's frames. */
      where: z.string().nullable(),
    }),
  ),
  flows: z.array(
    z.object({
      from: z.string(),
      to: z.string(),
      vlan: z.int(),
      source: z.string(),
      destination: z.string(),
      frames: z.number(),
      octets: z.number(),
      /** Since frames were last seen of it, as counted once a second. */
      idle_ms: z.number(),
    }),
  ),
});
export type OffloadView = z.infer<typeof OffloadView>;
