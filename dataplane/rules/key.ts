/**
 * What rules can look at, as sixteen 32-bit words: the key of a frame. A rule is a set of (value, mask) over the
 * same words; a frame matches when `key & mask` equals `value` for one of them.
 *
 *   0  etherType 16 | in-port 16            7       IPv4 source; IPv6 source 7-10; ARP sender IP
 *   1  dscp 6 | priority 3 | vlan 12        8, 9    ARP sender MAC: octets 0-1, octets 2-5
 *   2  dst MAC 0-1 | src MAC 0-1            11      IPv4 destination; IPv6 11-14; ARP target IP
 *   3  dst MAC 2-5                          12, 13  ARP target MAC
 *   4  src MAC 2-5                          15      unused
 *   5  shown 1 | fragment 2 | IP version 3 | TCP flags 8 | protocol (ARP: operation) 8
 *   6  source port (ICMP type) 16 | destination port (ICMP code) 16
 *
 * Bit 2 of the version alone says "IP of either version". `shown` is set when what word 6, flags and ARP's fields say
 * was really read: of a later fragment it is not, so a rule about ports has it in its mask.
 */
import { parse } from '../switch/headers.js';
import type { Packet } from '../switch/packet.js';
import * as arp from '../wire/arp.js';
import * as ethernet from '../wire/ethernet.js';

export const KEY_WORDS = 16;

export const W_PORT_TYPE = 0;
export const W_VLAN = 1;
export const W_MAC_HIGH = 2;
export const W_DESTINATION_LOW = 3;
export const W_SOURCE_LOW = 4;
export const W_IP = 5;
export const W_L4 = 6;
export const W_SOURCE = 7;
export const W_DESTINATION = 11;

export const TYPE_SHIFT = 16;
export const PRIORITY_SHIFT = 12;
export const DSCP_SHIFT = 16;
export const FLAGS_SHIFT = 8;
export const VERSION_SHIFT = 16;
export const FRAGMENT_SHIFT = 19;
export const SHOWN = 1 << 21;

export const FRAGMENT_NONE = 0;
export const FRAGMENT_FIRST = 1;
export const FRAGMENT_LATER = 3;

/** Frames whose keys have the same words in use. Rules are sorted by which kinds they could match. */
export const KIND_OTHER = 0;
export const KIND_ARP = 1;
export const KIND_IPV4 = 2;
export const KIND_IPV6 = 7;
/** Behind KIND_IPV4 and KIND_IPV6. */
export const OF_OTHER = 0;
export const OF_TCP = 1;
export const OF_UDP = 2;
export const OF_ICMP = 3;
export const OF_SCTP = 4;
export const KINDS = 12;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMP6 = 58;
export const PROTOCOL_SCTP = 132;
export const PROTOCOL_DCCP = 33;
export const PROTOCOL_UDP_LITE = 136;

export function kindOfProtocol(protocol: number, isIpv6: boolean): number {
  if (protocol === PROTOCOL_TCP) return OF_TCP;
  if (protocol === PROTOCOL_UDP) return OF_UDP;
  if (protocol === PROTOCOL_SCTP) return OF_SCTP;
  if (protocol === (isIpv6 ? PROTOCOL_ICMP6 : PROTOCOL_ICMP)) return OF_ICMP;
  return OF_OTHER;
}

/** Writes the key of the frame in hand, and returns its kind. Words that its kind does not have are stale. */
export function fill(packet: Packet, key: Int32Array): number {
  parse(packet);
  const view = packet.view;
  const at = packet.at;
  const type = packet.etherType;
  key[W_PORT_TYPE] = (type << TYPE_SHIFT) | packet.port;
  key[W_VLAN] = packet.vlan | (packet.priority << PRIORITY_SHIFT) | (packet.dscp << DSCP_SHIFT);
  key[W_MAC_HIGH] = (view.getUint16(at) << 16) | view.getUint16(at + ethernet.SOURCE);
  key[W_DESTINATION_LOW] = view.getInt32(at + 2);
  key[W_SOURCE_LOW] = view.getInt32(at + ethernet.SOURCE + 2);
  const version = packet.ipVersion;
  if (version === 0) return type === ethernet.TYPE_ARP ? fillArp(packet, key) : fillNone(key);

  const l3At = packet.l3At;
  const isIpv6 = version === 6;
  const protocol = packet.protocol;
  const of = kindOfProtocol(protocol, isIpv6);
  let word = protocol | (version << VERSION_SHIFT);
  if (packet.isFragment) word |= (packet.isFirstFragment ? FRAGMENT_FIRST : FRAGMENT_LATER) << FRAGMENT_SHIFT;
  let l4 = 0;
  const l4At = packet.l4At;
  if (l4At !== 0) {
    if (of === OF_ICMP) {
      if (l4At + 2 <= packet.end) {
        word |= SHOWN;
        l4 = (view.getUint8(l4At) << 16) | view.getUint8(l4At + 1);
      }
    } else if (of !== OF_OTHER || protocol === PROTOCOL_DCCP || protocol === PROTOCOL_UDP_LITE) {
      word |= SHOWN;
      l4 = (packet.sourcePort << 16) | packet.destinationPort;
    }
    if (of === OF_TCP) word |= view.getUint8(l4At + 13) << FLAGS_SHIFT;
  }
  key[W_IP] = word;
  key[W_L4] = l4;
  if (isIpv6) {
    for (let i = 0; i < 4; i++) {
      key[W_SOURCE + i] = view.getInt32(l3At + 8 + 4 * i);
      key[W_DESTINATION + i] = view.getInt32(l3At + 24 + 4 * i);
    }
    return KIND_IPV6 + of;
  }
  key[W_SOURCE] = view.getInt32(l3At + 12);
  key[W_DESTINATION] = view.getInt32(l3At + 16);
  return KIND_IPV4 + of;
}

function fillNone(key: Int32Array): number {
  key[W_IP] = 0;
  return KIND_OTHER;
}

function fillArp(packet: Packet, key: Int32Array): number {
  const view = packet.view;
  const at = packet.l3At;
  if (!arp.check(view, at, packet.end)) return fillNone(key);
  const operation = view.getUint16(at + arp.OPERATION);
  key[W_IP] = (operation > 255 ? 0 : operation) | SHOWN;
  key[W_SOURCE] = view.getInt32(at + arp.SENDER_IP);
  key[W_SOURCE + 1] = view.getUint16(at + arp.SENDER_MAC);
  key[W_SOURCE + 2] = view.getInt32(at + arp.SENDER_MAC + 2);
  key[W_DESTINATION] = view.getInt32(at + arp.TARGET_IP);
  key[W_DESTINATION + 1] = view.getUint16(at + arp.TARGET_MAC);
  key[W_DESTINATION + 2] = view.getInt32(at + arp.TARGET_MAC + 2);
  return KIND_ARP;
}
