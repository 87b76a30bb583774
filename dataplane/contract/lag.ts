/** Link aggregation: a port made of several. */
import { z } from 'zod';

export const LagSettings = z.strictObject({});
export type LagSettings = z.infer<typeof LagSettings>;
