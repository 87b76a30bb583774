/** Flow export: sFlow and IPFIX. */
import { z } from 'zod';

export const SwitchSampling = z.strictObject({});
export type SwitchSampling = z.infer<typeof SwitchSampling>;
