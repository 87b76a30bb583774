/**
 * Changes of a frame's own bytes, in memory that is nobody else's: addresses, and the code point. Neither is part
 * of a transport's checksum, so one that is still to be completed stays right; IPv4's own is mended by the
 * difference (RFC 1624 eqn. 3).
 */
import { parse } from '../switch/headers.js';
import type { Packet } from '../switch/packet.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';

export function setSourceMac(packet: Packet, high16: number, low32: number): void {
  packet.view.setUint16(packet.at + ethernet.SOURCE, high16);
  packet.view.setInt32(packet.at + ethernet.SOURCE + 2, low32);
}

export function setDestinationMac(packet: Packet, high16: number, low32: number): void {
  packet.view.setUint16(packet.at + ethernet.DESTINATION, high16);
  packet.view.setInt32(packet.at + ethernet.DESTINATION + 2, low32);
}

/** Of what is no IP packet nothing changes. Congestion bits (RFC 3168) stay. */
export function setDscp(packet: Packet, dscp: number): void {
  parse(packet);
  const view = packet.view;
  const at = packet.l3At;
  if (packet.ipVersion === 4) {
    const before = view.getUint16(at);
    const after = (before & 0xff03) | (dscp << 2);
    view.setUint16(at, after);
    let sum = (~view.getUint16(at + ipv4.CHECKSUM) & 0xffff) + (~before & 0xffff) + after;
    sum = (sum & 0xffff) + (sum >>> 16);
    sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(at + ipv4.CHECKSUM, ~sum & 0xffff);
  } else if (packet.ipVersion === 6) {
    view.setUint16(at, (view.getUint16(at) & 0xf03f) | (dscp << 6));
  } else {
    return;
  }
  packet.dscp = dscp;
}
