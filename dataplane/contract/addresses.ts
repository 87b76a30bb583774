/** The filtering database: static entries, limits per port, private VLANs. */
import { z } from 'zod';
import { VlanId } from './vlan.js';

const Mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);

/** What becomes of a port that does what it may not: `recovery_s` later it is tried again; null: it stays down. */
export const Recovery_s = z.int().min(1).max(1_000_000).nullable();

export const PortAddresses = z.strictObject({
  /** Addresses learned on the port at most; null: as many as the switch keeps. */
  limit: z.int().min(1).max(1_000_000).nullable(),
  /** Frames of further stations: forwarded without being learned, dropped, or the port is put down. */
  onFull: z.enum(['flood', 'drop', 'shutdown']),
  /** Stations that move to this port more than `most` times in `within_s`; null: as often as they like. */
  moves: z
    .strictObject({
      most: z.int().min(1).max(1_000_000),
      within_s: z.int().min(1).max(3600),
      /** `hold`: the station stays where it was, and its frames are dropped here. */
      action: z.enum(['hold', 'shutdown']),
    })
    .nullable(),
  recovery_s: Recovery_s,
});
export type PortAddresses = z.infer<typeof PortAddresses>;

export const StaticAddress = z.strictObject({
  mac: Mac,
  vlan: VlanId,
  /** By its name; null: what goes to this station is dropped. */
  port: z.string().nullable(),
});
export type StaticAddress = z.infer<typeof StaticAddress>;

/** RFC 5517. A VLAN has one part in one private VLAN only. */
export const PrivateVlan = z.strictObject({
  primary: VlanId,
  /** Its stations speak with the primary's ports alone. */
  isolated: VlanId.nullable(),
  /** Stations of one of them speak with each other and with the primary's ports. */
  communities: z.array(VlanId).max(256),
});
export type PrivateVlan = z.infer<typeof PrivateVlan>;
