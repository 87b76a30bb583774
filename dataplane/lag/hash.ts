/**
 * The hash that spreads flows over the members of an aggregate: equal for all frames of a flow, which so keep their
 * order (IEEE 802.1AX-2014 6.6). Reads what it needs and nothing more; allocates nothing.
 *
 *   l2   addresses, VLAN
 *   l34  IPv4 and IPv6: addresses, protocol, ports; of a fragment, first or not, the addresses alone, since only one
 *        fragment has the ports. What is neither: as l2.
 *
 * Tags are skipped, two at most; the VLAN counts by the frame's own outer tag or by the tag that it is about to get.
 */
import { BUCKETS_MASK } from './buckets.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';

const TYPE_OLD_SERVICE_TAG = 0x9100;
const PROTOCOL_SCTP = 132;
const PROTOCOL_UDPLITE = 136;
/** RFC 8200 4.5. */
const NEXT_FRAGMENT = 44;
/** IPv4 flags and offset without "don't fragment": not zero in every fragment. */
const FRAGMENT_MASK = 0x3fff;
const VID_MASK = 0x0fff;
const TAG_BITS = 0xffff;

/** One round of a 32-bit mixer. */
function mix(hash: number, word: number): number {
  const x = Math.imul(hash ^ word, 0x85eb_ca6b);
  return Math.imul(x ^ (x >>> 15), 0xc2b2_ae35);
}

function finish(hash: number): number {
  const x = Math.imul(hash ^ (hash >>> 16), 0x7feb_352d);
  const y = Math.imul(x ^ (x >>> 15), 0x846c_a68b);
  return (y ^ (y >>> 16)) & BUCKETS_MASK;
}

function isTag(type: number): boolean {
  return type === ethernet.TYPE_CVLAN || type === ethernet.TYPE_SVLAN || type === TYPE_OLD_SERVICE_TAG;
}

function addressesHash(view: DataView, at: number, vlan: number): number {
  let hash = mix(vlan, view.getInt32(at));
  hash = mix(hash, view.getInt32(at + 4));
  return mix(hash, view.getInt32(at + 8));
}

function vlanOf(view: DataView, at: number, length_bytes: number, edit: number): number {
  if ((edit & TAG_BITS) !== 0) return edit & VID_MASK;
  return length_bytes >= 16 && isTag(view.getUint16(at + ethernet.TYPE))
    ? view.getUint16(at + 14) & VID_MASK
    : 0;
}

function hasPorts(protocol: number): boolean {
  return (
    protocol === ipv4.PROTOCOL_TCP ||
    protocol === ipv4.PROTOCOL_UDP ||
    protocol === PROTOCOL_SCTP ||
    protocol === PROTOCOL_UDPLITE
  );
}

/** The bucket of a frame of 14 bytes or more. */
export function l2(view: DataView, at: number, length_bytes: number, edit: number): number {
  return finish(addressesHash(view, at, vlanOf(view, at, length_bytes, edit)));
}

export function l34(view: DataView, at: number, length_bytes: number, edit: number): number {
  const end = at + length_bytes;
  let typeAt = at + ethernet.TYPE;
  let type = view.getUint16(typeAt);
  for (let tags = 0; tags < 2 && isTag(type) && typeAt + 6 <= end; tags++) {
    typeAt += 4;
    type = view.getUint16(typeAt);
  }
  const l3At = typeAt + 2;
  if (type === ethernet.TYPE_IPV4 && end - l3At >= ipv4.LENGTH && view.getUint8(l3At) >>> 4 === 4)
    return ipv4Hash(view, l3At, end, vlanOf(view, at, length_bytes, edit));
  if (type === ethernet.TYPE_IPV6 && end - l3At >= ipv6.LENGTH && view.getUint8(l3At) >>> 4 === 6)
    return ipv6Hash(view, l3At, end, vlanOf(view, at, length_bytes, edit));
  return l2(view, at, length_bytes, edit);
}

function ipv4Hash(view: DataView, at: number, end: number, vlan: number): number {
  let hash = mix(vlan, view.getInt32(at + ipv4.SOURCE));
  hash = mix(hash, view.getInt32(at + ipv4.DESTINATION));
  if ((view.getUint16(at + ipv4.FRAGMENT) & FRAGMENT_MASK) !== 0) return finish(hash);
  const protocol = view.getUint8(at + ipv4.PROTOCOL);
  hash = mix(hash, protocol);
  const l4At = at + ipv4.headerLength(view, at);
  if (hasPorts(protocol) && l4At >= at + ipv4.LENGTH && end - l4At >= 4)
    hash = mix(hash, view.getInt32(l4At));
  return finish(hash);
}

/** The flow label is not used: who changes it in the middle of a flow would have its order changed. */
function ipv6Hash(view: DataView, at: number, end: number, vlan: number): number {
  let hash = vlan;
  for (let i = ipv6.SOURCE; i < ipv6.LENGTH; i += 4) hash = mix(hash, view.getInt32(at + i));
  const protocol = view.getUint8(at + ipv6.NEXT_HEADER);
  if (protocol === NEXT_FRAGMENT) return finish(hash);
  hash = mix(hash, protocol);
  const l4At = at + ipv6.LENGTH;
  if (hasPorts(protocol) && end - l4At >= 4) hash = mix(hash, view.getInt32(l4At));
  return finish(hash);
}
