/** Storm control of a port. */
import { z } from 'zod';

export const PortStorm = z.strictObject({});
export type PortStorm = z.infer<typeof PortStorm>;
