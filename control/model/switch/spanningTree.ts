/** Spanning tree, as users say it, and in the plane's words. */
import { z } from 'zod';
import type { PortSpanningTree, SwitchSpanningTree } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';

/** On a port or a machine's card. */
export const PortWords = z.strictObject({});
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane(_words: PortWords): PortSpanningTree {
  return {};
}

/** On a switch. */
export const SwitchWords = z.strictObject({});
export type SwitchWords = z.infer<typeof SwitchWords>;

export function switchToPlane(_words: SwitchWords): SwitchSpanningTree {
  return {};
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(_spec: SwitchSpec): Generator<Fault> {}
