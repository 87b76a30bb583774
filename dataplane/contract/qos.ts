/** Rates, classes and queues. */
import { z } from 'zod';

export const SwitchQos = z.strictObject({});
export type SwitchQos = z.infer<typeof SwitchQos>;

export const PortQos = z.strictObject({});
export type PortQos = z.infer<typeof PortQos>;
