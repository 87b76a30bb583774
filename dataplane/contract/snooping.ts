/** IGMP and MLD snooping. */
import { z } from 'zod';

export const SwitchSnooping = z.strictObject({});
export type SwitchSnooping = z.infer<typeof SwitchSnooping>;

export const PortSnooping = z.strictObject({});
export type PortSnooping = z.infer<typeof PortSnooping>;
