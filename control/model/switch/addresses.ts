/** The filtering database, as users say it: static entries, limits per port, private VLANs. */
import { z } from 'zod';
import type { PortAddresses, PrivateVlan, StaticAddress } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';

/** On a port or a machine's card. */
export const PortWords = z.strictObject({});
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane(_words: PortWords): PortAddresses {
  return {};
}

export const StaticWords = z.strictObject({});
export const PrivateVlanWords = z.strictObject({});

export function staticsToPlane(_words: readonly z.infer<typeof StaticWords>[]): StaticAddress[] {
  return [];
}

export function privateVlansToPlane(_words: readonly z.infer<typeof PrivateVlanWords>[]): PrivateVlan[] {
  return [];
}

export function* faults(_spec: SwitchSpec): Generator<Fault> {}
