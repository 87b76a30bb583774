/** Port security: which addresses may speak on a port, and which servers may answer there. */
import { z } from 'zod';

export const PortGuard = z.strictObject({});
export type PortGuard = z.infer<typeof PortGuard>;
