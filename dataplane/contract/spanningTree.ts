/** Spanning tree of a switch and its ports. */
import { z } from 'zod';

export const SwitchSpanningTree = z.strictObject({});
export type SwitchSpanningTree = z.infer<typeof SwitchSpanningTree>;

export const PortSpanningTree = z.strictObject({});
export type PortSpanningTree = z.infer<typeof PortSpanningTree>;
