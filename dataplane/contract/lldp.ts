/** LLDP of a switch and its ports. */
import { z } from 'zod';

export const SwitchLldp = z.strictObject({});
export type SwitchLldp = z.infer<typeof SwitchLldp>;

export const PortLldp = z.strictObject({});
export type PortLldp = z.infer<typeof PortLldp>;
