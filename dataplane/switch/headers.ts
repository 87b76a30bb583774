/**
 * Looks beyond the Ethernet header of the frame in hand: `parse` fills the third group of Packet. Pure, bounded,
 * never throws, and reads nothing behind the frame's end, whatever the frame says about its own lengths.
 *
 *   addresses | tags (two at most) | type | IPv4 + options            | TCP UDP SCTP DCCP UDP-Lite: ports
 *                                         | IPv6 + extension headers  | others: where they begin
 *                                         | anything else: only where it begins
 *
 * What a frame does not have is 0 (`l4At` too: no transport header that could be read). A packet whose headers
 * contradict themselves, are cut short, or are made to hide what they carry is told by `isMalformed`; a plain switch
 * forwards it (802.1Q knows no IP), while who filters by what `parse` found must not let it through unseen.
 */
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import type { Packet } from './packet.js';

// Specification constants.
/** RFC 8200 4.1, RFC 4302, RFC 7401, RFC 5533: extension headers, each telling its length in its second octet. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;
const MOBILITY = 135;
const HIP = 139;
const SHIM6 = 140;
const TCP = 6;
const UDP = 17;
const DCCP = 33;
const SCTP = 132;
const UDP_LITE = 136;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const TYPE_QINQ_OLD = 0x9100;

// Our constants.
/** RFC 8504 5.3 lets a node limit extension headers; nobody honest sends more. */
const EXTENSIONS_MAX_COUNT = 8;
const EXTENSIONS_MAX_BYTES = 512;
/** RFC 1858 3.2: a first fragment that ends before TCP's flags hides them from whoever filters by them. */
const TCP_FLAGS_END_BYTES = 14;

/** Once per frame; the second call costs a look at `isParsed`. Whoever changes headers clears that. */
export function parse(packet: Packet): void {
  if (packet.isParsed) return;
  packet.isParsed = true;
  packet.isMalformed = false;
  packet.etherType = 0;
  packet.l3At = 0;
  packet.ipVersion = 0;
  packet.protocol = 0;
  packet.isFragment = false;
  packet.isFirstFragment = true;
  packet.l4At = 0;
  packet.sourcePort = 0;
  packet.destinationPort = 0;
  packet.dscp = 0;
  const view = packet.view;
  const end = packet.at + packet.length_bytes;
  packet.end = end;
  let typeAt = packet.at + ethernet.TYPE;
  for (let tags = 0; tags <= 2; tags++) {
    if (typeAt + 2 > end) {
      packet.isMalformed = true;
      return;
    }
    const type = view.getUint16(typeAt);
    if (
      tags < 2 &&
      (type === ethernet.TYPE_CVLAN || type === ethernet.TYPE_SVLAN || type === TYPE_QINQ_OLD)
    ) {
      typeAt += vlan.LENGTH;
      continue;
    }
    packet.etherType = type;
    packet.l3At = typeAt + 2;
    break;
  }
  if (packet.etherType === ethernet.TYPE_IPV4) parseIpv4(packet, view, packet.l3At, end);
  else if (packet.etherType === ethernet.TYPE_IPV6) parseIpv6(packet, view, packet.l3At, end);
}

function parseIpv4(packet: Packet, view: DataView, at: number, end: number): void {
  if (end - at < IPV4_BYTES) {
    packet.isMalformed = true;
    return;
  }
  const first = view.getUint8(at);
  const header_bytes = (first & 15) * 4;
  if (first >>> 4 !== 4 || header_bytes < IPV4_BYTES || header_bytes > end - at) {
    packet.isMalformed = true;
    return;
  }
  packet.ipVersion = 4;
  packet.dscp = view.getUint8(at + 1) >>> 2;
  packet.protocol = view.getUint8(at + 9);
  const total_bytes = view.getUint16(at + 2);
  // Zero is what a super-frame longer than 65,535 bytes says (BIG TCP); its end is the frame's.
  if (total_bytes !== 0 || (packet.w0 & 0xff00) === 0) {
    if (total_bytes < header_bytes || total_bytes > end - at) packet.isMalformed = true;
    else packet.end = at + total_bytes;
  }
  const fragment = view.getUint16(at + 6);
  const offset = fragment & 0x1fff;
  packet.isFragment = (fragment & 0x3fff) !== 0;
  if (offset !== 0) {
    packet.isFirstFragment = false;
    // RFC 3128: a second fragment that overlays the first one's flags.
    if (offset === 1 && packet.protocol === TCP) packet.isMalformed = true;
    return;
  }
  parseTransport(packet, view, at + header_bytes);
}

function parseIpv6(packet: Packet, view: DataView, at: number, end: number): void {
  if (end - at < IPV6_BYTES || view.getUint8(at) >>> 4 !== 6) {
    packet.isMalformed = true;
    return;
  }
  packet.ipVersion = 6;
  packet.dscp = (view.getUint16(at) >>> 6) & 0x3f;
  const payload_bytes = view.getUint16(at + 4);
  // Zero: a jumbogram (RFC 2675), as a super-frame may be.
  if (payload_bytes !== 0 || (packet.w0 & 0xff00) === 0) {
    if (payload_bytes > end - at - IPV6_BYTES) packet.isMalformed = true;
    else packet.end = at + IPV6_BYTES + payload_bytes;
  }
  const packetEnd = packet.end;
  const extensionsMaxAt = at + IPV6_BYTES + EXTENSIONS_MAX_BYTES;
  let next = view.getUint8(at + 6);
  let nextAt = at + IPV6_BYTES;
  for (let count = 0; ; count++) {
    let header_bytes = 0;
    if (next === FRAGMENT) header_bytes = 8;
    else if (isExtension(next)) {
      if (nextAt + 2 > packetEnd) break;
      const units = view.getUint8(nextAt + 1);
      header_bytes = next === AUTHENTICATION ? (units + 2) * 4 : (units + 1) * 8;
    } else {
      packet.protocol = next;
      parseTransport(packet, view, nextAt);
      return;
    }
    packet.protocol = next;
    if (count >= EXTENSIONS_MAX_COUNT || nextAt + header_bytes > packetEnd) break;
    if (nextAt + header_bytes > extensionsMaxAt) break;
    if (next === FRAGMENT) {
      const fragment = view.getUint16(nextAt + 2);
      // RFC 6946: an atomic fragment (offset 0, none to follow) is no fragment.
      if ((fragment & 0xfff9) !== 0) packet.isFragment = true;
      if (fragment >>> 3 !== 0) {
        packet.isFirstFragment = false;
        packet.protocol = view.getUint8(nextAt);
        return;
      }
    }
    next = view.getUint8(nextAt);
    nextAt += header_bytes;
  }
  // RFC 7112 5: the whole chain belongs into the first fragment; and ours is bounded.
  packet.isMalformed = true;
}

function isExtension(next: number): boolean {
  return (
    next === HOP_BY_HOP ||
    next === DESTINATION_OPTIONS ||
    next === ROUTING ||
    next === AUTHENTICATION ||
    next === MOBILITY ||
    next === HIP ||
    next === SHIM6
  );
}

/** Protocols that have ports have them in the same four bytes. */
function parseTransport(packet: Packet, view: DataView, at: number): void {
  const protocol = packet.protocol;
  const end = packet.end;
  if (at < end) packet.l4At = at;
  if (protocol !== TCP && protocol !== UDP && protocol !== SCTP && protocol !== DCCP && protocol !== UDP_LITE)
    return;
  if (at + (protocol === TCP ? TCP_FLAGS_END_BYTES : 4) > end) {
    packet.isMalformed = true;
    packet.l4At = 0;
    return;
  }
  packet.sourcePort = view.getUint16(at);
  packet.destinationPort = view.getUint16(at + 2);
}
