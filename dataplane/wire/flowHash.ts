/**
 * A number that is the same for all frames of a flow (addresses, IP addresses, protocol, ports), for who spreads
 * flows over paths: the outer source port of a tunnel (RFC 7348 5), a queue of a tap. The frame has an Ethernet
 * header; anything behind it may be cut short.
 */
import * as ethernet from './ethernet.js';
import * as ipv4 from './ipv4.js';
import * as ipv6 from './ipv6.js';
import { networkOffset } from './offload.js';

const FRAGMENT_MASK = 0x3fff;

function mix(hash: number, word: number): number {
  const h = Math.imul(hash ^ word, 0x9e37_79b1);
  // The high bits depend on all of the word: they come down, twice.
  const g = Math.imul(h ^ (h >>> 15), 0x85eb_ca6b);
  return g ^ (g >>> 13);
}

const hasPorts = (protocol: number): boolean =>
  protocol === ipv4.PROTOCOL_TCP || protocol === ipv4.PROTOCOL_UDP;

export function flowHash(view: DataView, at: number, length_bytes: number): number {
  let hash = mix(mix(mix(0, view.getInt32(at)), view.getInt32(at + 4)), view.getInt32(at + 8));
  const l3 = networkOffset(view, at, length_bytes);
  if (l3 === 0) return hash >>> 0;
  const type = view.getUint16(at + l3 - 2);
  const end = at + length_bytes;
  let l4 = 0;
  if (type === ethernet.TYPE_IPV4 && ipv4.check(view, at + l3, end)) {
    const protocol = ipv4.protocol(view, at + l3);
    hash = mix(mix(hash, view.getInt32(at + l3 + ipv4.SOURCE)), view.getInt32(at + l3 + ipv4.DESTINATION));
    hash = mix(hash, protocol);
    // Of fragments only the first shows ports: none of them is asked.
    if (hasPorts(protocol) && (view.getUint16(at + l3 + ipv4.FRAGMENT) & FRAGMENT_MASK) === 0)
      l4 = l3 + ipv4.headerLength(view, at + l3);
  } else if (type === ethernet.TYPE_IPV6 && ipv6.check(view, at + l3, end)) {
    for (let i = 0; i < 32; i += 4) hash = mix(hash, view.getInt32(at + l3 + ipv6.SOURCE + i));
    const protocol = view.getUint8(at + l3 + ipv6.NEXT_HEADER);
    hash = mix(hash, protocol);
    if (hasPorts(protocol)) l4 = l3 + ipv6.LENGTH;
  }
  if (l4 !== 0 && at + l4 + 4 <= end) hash = mix(hash, view.getInt32(at + l4));
  return hash >>> 0;
}
