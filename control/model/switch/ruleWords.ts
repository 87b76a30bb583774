/** Single words of flow rules and what they mean: names of protocols, ranges, patterns. Pure. */
import { parseCidr } from '../../../host/ip.js';
import type { MacPattern } from '../../../dataplane/contract.js';

/** IEEE's and IANA's registers, as far as people filter by them. */
export const ETHER_TYPES = {
  ipv4: 0x0800,
  arp: 0x0806,
  ipv6: 0x86dd,
  mpls: 0x8847,
  pppoe: 0x8864,
  lldp: 0x88cc,
  ptp: 0x88f7,
} as const;
export const ARP_OPERATIONS = { request: 1, reply: 2 } as const;
export const PROTOCOLS = {
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  dccp: 33,
  gre: 47,
  esp: 50,
  ah: 51,
  icmp6: 58,
  ospf: 89,
  pim: 103,
  vrrp: 112,
  sctp: 132,
  udplite: 136,
} as const;
export const PROTOCOLS_WITH_PORTS: readonly number[] = [6, 17, 33, 132, 136];
/** By the same word, ICMPv6 has numbers of its own. */
export const ICMP6_TYPES = {
  'echo-reply': 129,
  unreachable: 1,
  redirect: 137,
  'echo-request': 128,
  'time-exceeded': 3,
  'router-solicitation': 133,
  'router-advertisement': 134,
  'neighbour-solicitation': 135,
  'neighbour-advertisement': 136,
} as const;
export const ICMP_TYPES = {
  ...ICMP6_TYPES,
  'echo-reply': 0,
  unreachable: 3,
  redirect: 5,
  'echo-request': 8,
  'time-exceeded': 11,
  'router-solicitation': 10,
  'router-advertisement': 9,
} as const;
/** RFC 2474, RFC 2597, RFC 3246, RFC 5865, RFC 8622. */
export const DSCPS = {
  be: 0,
  le: 1,
  cs1: 8,
  cs2: 16,
  cs3: 24,
  cs4: 32,
  cs5: 40,
  cs6: 48,
  cs7: 56,
  af11: 10,
  af12: 12,
  af13: 14,
  af21: 18,
  af22: 20,
  af23: 22,
  af31: 26,
  af32: 28,
  af33: 30,
  af41: 34,
  af42: 36,
  af43: 38,
  va: 44,
  ef: 46,
} as const;
/** RFC 9293 3.1, from the lowest bit up. */
export const TCP_FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'] as const;

/** `tcp`, `6` or `0x88cc`; undefined when it is none, or beyond `max`. */
export function named(
  table: Readonly<Record<string, number>>,
  value: string | number,
  max: number,
): number | undefined {
  if (typeof value === 'string' && Object.hasOwn(table, value)) return table[value];
  const number =
    typeof value === 'number' ? value : /^(0x[0-9a-f]+|\d+)$/i.test(value) ? Number(value) : Number.NaN;
  return Number.isInteger(number) && number >= 0 && number <= max ? number : undefined;
}

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/** `02:00:00:00:00:01`, or with a mask behind a slash. */
export function macPattern(text: string): MacPattern | undefined {
  const [address = '', mask = 'ff:ff:ff:ff:ff:ff', ...more] = text.toLowerCase().split('/');
  return more.length === 0 && MAC.test(address) && MAC.test(mask) ? { address, mask } : undefined;
}

export function isPrefix(text: string): boolean {
  return parseCidr(text) !== undefined;
}

/** `80` or `"1024-65535"`, inclusive. */
export function portRange(value: number | string): [number, number] | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(value));
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first <= last && last <= 65_535 ? [first, last] : undefined;
}

/** `syn !ack`. */
export function tcpFlags(text: string): { value: number; mask: number } | undefined {
  const flags = { value: 0, mask: 0 };
  for (const word of text.toLowerCase().split(/[\s,]+/)) {
    const bit = TCP_FLAGS.indexOf(word.replace(/^!/, '') as (typeof TCP_FLAGS)[number]);
    if (bit < 0) return undefined;
    flags.mask |= 1 << bit;
    if (!word.startsWith('!')) flags.value |= 1 << bit;
  }
  return flags;
}
