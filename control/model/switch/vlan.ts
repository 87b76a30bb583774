/** How a port stands to VLANs, as users say it: `vlan` (access) or `trunk`; access to VLAN 1 when neither is said. */
import { z } from 'zod';
import { VlanId } from '../../../dataplane/contract.js';
import type { PortVlan } from '../../../dataplane/contract.js';
import { vlanRanges } from '../ranges.js';
import { VlanRange } from '../words.js';

export const Trunk = z.strictObject({
  allowed: z.array(VlanRange).min(1).meta({ description: 'VLANs that pass with their tag' }),
  native: VlanId.optional().meta({ description: 'the VLAN of untagged frames; none when left out' }),
});

export const vlanWords = {
  vlan: VlanId.optional().meta({ description: 'access port: the one VLAN of this port, untagged' }),
  trunk: Trunk.optional(),
};

const VlanPort = z.strictObject(vlanWords);
type VlanPort = z.infer<typeof VlanPort>;

/** What is wrong with what a port says of VLANs, by itself; undefined: nothing. */
export function vlanProblem(port: VlanPort): string | undefined {
  return port.vlan !== undefined && port.trunk !== undefined ? 'either vlan or trunk, not both' : undefined;
}

export function vlanToPlane(port: VlanPort): PortVlan {
  if (port.trunk !== undefined)
    return { mode: 'trunk', allowed: vlanRanges(port.trunk.allowed), native: port.trunk.native ?? null };
  return { mode: 'access', vlan: port.vlan ?? 1 };
}
