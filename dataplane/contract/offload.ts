/** Offload of decided flows to the kernel. */
import { z } from 'zod';

export const SwitchOffload = z.strictObject({});
export type SwitchOffload = z.infer<typeof SwitchOffload>;
