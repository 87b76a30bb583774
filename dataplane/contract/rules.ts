/** Flow rules and meters of a switch. */
import { z } from 'zod';

export const FlowRules = z.strictObject({});
export type FlowRules = z.infer<typeof FlowRules>;
