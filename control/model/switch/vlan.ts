/**
 * How a port stands to VLANs, as users say it: `vlan` (access), `trunk`, `hybrid` or `tunnel`; access to VLAN 1 when
 * none is said.
 */
import { z } from 'zod';
import { Tpid, VlanId } from '../../../dataplane/contract.js';
import type { PortVlan } from '../../../dataplane/contract.js';
import { vlanRanges } from '../ranges.js';
import { VlanRange } from '../words.js';

const Translation = z
  .array(
    z.strictObject({
      wire: VlanId.meta({ description: 'the VLAN in tags on the wire' }),
      vlan: VlanId.meta({ description: 'the VLAN that it means in the switch' }),
    }),
  )
  .max(4094);

export const Trunk = z.strictObject({
  allowed: z.array(VlanRange).min(1).meta({ description: 'VLANs that pass with their tag' }),
  native: VlanId.optional().meta({ description: 'the VLAN of untagged frames; none when left out' }),
  tpid: Tpid.optional().meta({
    description:
      'type of the tags: 0x8100 (customer, the default), 0x88a8 (service), 0x9100 (older outer tags)',
  }),
  translate: Translation.optional().meta({
    description: 'VLANs that have another number on the wire, in both directions',
  }),
});

export const Hybrid = z.strictObject({
  pvid: VlanId.meta({ description: 'the VLAN of untagged frames that come in' }),
  untagged: z.array(VlanRange).default([]).meta({ description: 'VLANs that leave without a tag' }),
  tagged: z.array(VlanRange).default([]).meta({ description: 'VLANs that leave with their tag' }),
  translate: Translation.optional().meta({
    description: 'VLANs that have another number on the wire, in both directions',
  }),
});

export const vlanWords = {
  vlan: VlanId.optional().meta({ description: 'access port: the one VLAN of this port, untagged' }),
  trunk: Trunk.optional(),
  hybrid: Hybrid.optional(),
  tunnel: VlanId.optional().meta({
    description: "QinQ: all of the customer's frames, tagged or not, belong to this service VLAN",
  }),
};

const VlanPort = z.strictObject(vlanWords);
type VlanPort = z.infer<typeof VlanPort>;
type Ranges = [number, number][];

const isIn = (ranges: Ranges, vid: number): boolean =>
  ranges.some(([first, last]) => first <= vid && vid <= last);

/** What is wrong with what a port says of VLANs, by itself; undefined: nothing. */
export function vlanProblem(port: VlanPort): string | undefined {
  const said = (['vlan', 'trunk', 'hybrid', 'tunnel'] as const).filter(word => port[word] !== undefined);
  if (said.length > 1)
    return `either ${said.join(' or ')}, not ${said.length === 2 ? 'both' : 'all of them'}`;
  if (port.trunk !== undefined) {
    const { allowed, native, translate } = port.trunk;
    const members = vlanRanges(allowed);
    return translationProblem(translate, native === undefined ? members : [...members, [native, native]]);
  }
  if (port.hybrid === undefined) return undefined;
  const { pvid, untagged, tagged, translate } = port.hybrid;
  const [bare, marked] = [vlanRanges(untagged), vlanRanges(tagged)];
  for (const [first, last] of bare)
    for (let vid = first; vid <= last; vid++)
      if (isIn(marked, vid)) return `VLAN ${vid} is among untagged and tagged: it can leave in one way only`;
  return translationProblem(translate, [...bare, ...marked, [pvid, pvid]]);
}

function translationProblem(
  translate: z.infer<typeof Translation> | undefined,
  members: Ranges,
): string | undefined {
  const wires = new Set<number>();
  const inside = new Set<number>();
  for (const { wire, vlan } of translate ?? []) {
    if (wires.has(wire)) return `translate: VLAN ${wire} on the wire is said twice`;
    if (inside.has(vlan)) return `translate: VLAN ${vlan} of the switch is said twice`;
    if (!isIn(members, vlan)) return `translate: VLAN ${vlan} is not one of this port's VLANs`;
    wires.add(wire);
    inside.add(vlan);
  }
  return undefined;
}

const pairs = (translate: z.infer<typeof Translation> | undefined): { translate?: Ranges } =>
  translate === undefined || translate.length === 0
    ? {}
    : { translate: translate.map(({ wire, vlan }) => [wire, vlan]) };

export function vlanToPlane({ vlan, trunk, hybrid, tunnel }: VlanPort): PortVlan {
  if (trunk !== undefined)
    return {
      mode: 'trunk',
      allowed: vlanRanges(trunk.allowed),
      native: trunk.native ?? null,
      ...(trunk.tpid === undefined ? {} : { tpid: trunk.tpid }),
      ...pairs(trunk.translate),
    };
  if (hybrid !== undefined)
    return {
      mode: 'hybrid',
      pvid: hybrid.pvid,
      untagged: vlanRanges(hybrid.untagged),
      tagged: vlanRanges(hybrid.tagged),
      ...pairs(hybrid.translate),
    };
  if (tunnel !== undefined) return { mode: 'tunnel', vlan: tunnel };
  return { mode: 'access', vlan: vlan ?? 1 };
}
