/**
 * The VXLAN header (RFC 7348 5), which stands between UDP and the inner Ethernet frame.
 *
 *   0       1                4          7
 *   +-------+----------------+----------+----------+
 *   | flags | reserved 24    | VNI 24   | reserved |     flags: I (0x08) must be set, the others are ignored
 *   +-------+----------------+----------+----------+
 */
import * as ethernet from './ethernet.js';
import * as ipv4 from './ipv4.js';
import * as ipv6 from './ipv6.js';
import { networkOffset } from './offload.js';

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

const mix = (hash: number, word: number): number => {
  const h = Math.imul(hash ^ word, 0x9e37_79b1);
  // The high bits depend on all of the word: they come down, twice.
  const g = Math.imul(h ^ (h >>> 15), 0x85eb_ca6b);
  return g ^ (g >>> 13);
};

/** RFC 7348 5: a number that is the same for all frames of a flow, by which the outer source port is chosen. */
export function flowHash(view: DataView, at: number, length_bytes: number): number {
  let hash = mix(mix(mix(0, view.getInt32(at)), view.getInt32(at + 4)), view.getInt32(at + 8));
  const l3 = networkOffset(view, at, length_bytes);
  if (l3 === 0) return hash >>> 0;
  const type = view.getUint16(at + l3 - 2);
  const end = at + length_bytes;
  let l4 = 0;
  if (type === ethernet.TYPE_IPV4 && ipv4.check(view, at + l3, end)) {
    hash = mix(mix(hash, view.getInt32(at + l3 + ipv4.SOURCE)), view.getInt32(at + l3 + ipv4.DESTINATION));
    hash = mix(hash, ipv4.protocol(view, at + l3));
    // Of fragments only the first shows ports: none of them is asked.
    if ((view.getUint16(at + l3 + ipv4.FRAGMENT) & 0x3fff) === 0) l4 = l3 + ipv4.headerLength(view, at + l3);
    const protocol = ipv4.protocol(view, at + l3);
    if (protocol !== ipv4.PROTOCOL_TCP && protocol !== ipv4.PROTOCOL_UDP) l4 = 0;
  } else if (type === ethernet.TYPE_IPV6 && ipv6.check(view, at + l3, end)) {
    for (let i = 0; i < 32; i += 4) hash = mix(hash, view.getInt32(at + l3 + ipv6.SOURCE + i));
    const protocol = view.getUint8(at + l3 + ipv6.NEXT_HEADER);
    hash = mix(hash, protocol);
    if (protocol === ipv4.PROTOCOL_TCP || protocol === ipv4.PROTOCOL_UDP) l4 = l3 + ipv6.LENGTH;
  }
  if (l4 !== 0 && at + l4 + 4 <= end) hash = mix(hash, view.getInt32(at + l4));
  return hash >>> 0;
}
