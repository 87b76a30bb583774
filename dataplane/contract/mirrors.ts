/** Mirror sessions. */
import { z } from 'zod';

export const MirrorSession = z.strictObject({});
export type MirrorSession = z.infer<typeof MirrorSession>;
