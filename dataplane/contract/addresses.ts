/** The filtering database: static entries, limits per port, private VLANs. */
import { z } from 'zod';

export const PortAddresses = z.strictObject({});
export type PortAddresses = z.infer<typeof PortAddresses>;

export const StaticAddress = z.strictObject({});
export type StaticAddress = z.infer<typeof StaticAddress>;

export const PrivateVlan = z.strictObject({});
export type PrivateVlan = z.infer<typeof PrivateVlan>;
