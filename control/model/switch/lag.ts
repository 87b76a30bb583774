/** Link aggregation: LagWords is the body of the word `lag` of a port (switch/devices.ts), as users say it, and in the plane's words. */
import { z } from 'zod';

export const LagWords = z.strictObject({});
