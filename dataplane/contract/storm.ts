/** Storm control: how much a port may bring of what goes to everybody. */
import { z } from 'zod';
import { Recovery_s } from './addresses.js';

export const StormLimit = z.strictObject({
  /** One of the two. */
  unit: z.enum(['frames', 'bits']),
  rate_per_s: z.number().min(1).max(1e12),
  /** In the same unit: what may come at once after a silence. */
  burst: z.number().min(1).max(1e12),
});
export type StormLimit = z.infer<typeof StormLimit>;

export const PortStorm = z.strictObject({
  broadcast: StormLimit.optional(),
  /** To groups that nobody is known to have joined, or all when nobody looks. */
  multicast: StormLimit.optional(),
  /** To stations that are not known. */
  unknown: StormLimit.optional(),
  action: z.enum(['drop', 'shutdown']),
  recovery_s: Recovery_s,
});
export type PortStorm = z.infer<typeof PortStorm>;
