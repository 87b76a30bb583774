/**
 * The VXLAN header (RFC 7348 5), which stands between UDP and the inner Ethernet frame.
 *
 *   0       1                4          7
 *   +-------+----------------+----------+----------+
 *   | flags | reserved 24    | VNI 24   | reserved |     flags: I (0x08) must be set, the others are ignored
 *   +-------+----------------+----------+----------+
 */
import * as ethernet from './ethernet.js';

// Specification constants.
export const FLAGS = 0;
export const VNI = 4;
export const LENGTH = 8;
export const FLAG_I = 0x08;
export const PORT = 4789;

/** A header with the I flag, and behind it room for an Ethernet header. */
export function check(view: DataView, at: number, end: number): boolean {
  return end - at >= LENGTH + ethernet.LENGTH && (view.getUint8(at) & FLAG_I) !== 0;
}

export function vni(view: DataView, at: number): number {
  return view.getUint32(at + VNI) >>> 8;
}

export function emit(view: DataView, at: number, vniNumber: number): number {
  view.setUint32(at, FLAG_I << 24);
  view.setUint32(at + VNI, (vniNumber << 8) >>> 0);
  return LENGTH;
}
