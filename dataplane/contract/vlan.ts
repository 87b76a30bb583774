/** How a port stands to VLANs. */
import { z } from 'zod';

/** IEEE 802.1Q-2022 table 9-2: 0 is the null VLAN, 4095 is reserved. */
export const VlanId = z.int().min(1).max(4094);

/** Inclusive at both ends. */
export const VlanRanges = z.array(z.tuple([VlanId, VlanId])).max(4094);

/** 802.1Q-2022 table 9-1: customer 0x8100, service 0x88a8; 0x9100 is what older equipment uses for the outer tag. */
export const Tpid = z.union([z.literal(0x8100), z.literal(0x88a8), z.literal(0x9100)]);

/** Pairs [on the wire, in the switch], both ways; a VLAN stands once on each side. */
export const VlanTranslation = z.array(z.tuple([VlanId, VlanId])).max(4094);

export const PortVlan = z.discriminatedUnion('mode', [
  /** Untagged frames belong to `vlan`; frames leave untagged. Tagged frames of another VLAN are dropped. */
  z.strictObject({ mode: z.literal('access'), vlan: VlanId }),
  /** Frames of the `allowed` VLANs pass tagged, those of `native` (if any) untagged. */
  z.strictObject({
    mode: z.literal('trunk'),
    allowed: VlanRanges,
    native: VlanId.nullable(),
    tpid: Tpid.optional(),
    translate: VlanTranslation.optional(),
  }),
  /** Untagged frames belong to `pvid`; those of `untagged` leave without a tag, those of `tagged` with it. */
  z.strictObject({
    mode: z.literal('hybrid'),
    pvid: VlanId,
    untagged: VlanRanges,
    tagged: VlanRanges,
    translate: VlanTranslation.optional(),
  }),
  /** 802.1Q-2022 15.3, a customer network port: whatever comes, tagged or not, belongs to the service VLAN `vlan`. */
  z.strictObject({ mode: z.literal('tunnel'), vlan: VlanId }),
]);
export type PortVlan = z.infer<typeof PortVlan>;

/** GET /switches/:switch/show/vlans: those that a port has untagged, or that somebody has spoken in. */
export const VlansView = z.object({
  vlans: z.array(
    z.object({
      vlan: z.int(),
      /** 802.1Q-2022 8.8.8: VLANs of one FID share what was learned. */
      fid: z.int(),
      /** Names of the ports by which its frames may leave. */
      untagged: z.array(z.string()),
      tagged: z.array(z.string()),
      /** Taken in since the switch was made; flows that the kernel forwards are not among them. */
      frames: z.number(),
      octets: z.number(),
      /** Of those, sent to all. */
      floodedFrames: z.number(),
    }),
  ),
});
export type VlansView = z.infer<typeof VlansView>;
