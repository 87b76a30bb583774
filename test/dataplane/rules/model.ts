/**
 * The slow, obvious twin of the classifier: frames as descriptions, rules held against them field by field. Shares
 * no code with what it judges; frames are built from the same descriptions.
 */
import { isIPv4 } from 'node:net';
import type { FlowMatch, FlowRule } from '../../../dataplane/contract.js';

export interface Description {
  port: number;
  destination: string;
  source: string;
  vlan: number;
  priority: number;
  isTagged: boolean;
  what: 'ipv4' | 'ipv6' | 'arp' | 'other';
  /** Of `other`. */
  etherType: number;
  sourceIp: string;
  destinationIp: string;
  protocol: number;
  sourcePort: number;
  destinationPort: number;
  flags: number;
  dscp: number;
  fragment: 'none' | 'first' | 'later';
  /** IPv4 options or IPv6 extension headers. */
  hasOptions: boolean;
  /** ARP operation. */
  operation: number;
  targetMac: string;
}

const macBytes = (text: string): number[] => text.split(':').map(part => Number.parseInt(part, 16));

function ipBytes(text: string): number[] {
  if (isIPv4(text)) return text.split('.').map(Number);
  const [head = '', tail = ''] = text.split('::');
  const groups = (part: string): number[] =>
    part === ''
      ? []
      : part.split(':').flatMap(g => [Number.parseInt(g, 16) >> 8, Number.parseInt(g, 16) & 255]);
  const [a, b] = [groups(head), groups(tail)];
  return text.includes('::') ? [...a, ...Array.from({ length: 16 - a.length - b.length }, () => 0), ...b] : a;
}

const hasPorts = (protocol: number): boolean => [6, 17, 132, 33, 136].includes(protocol);
const isIcmp = (d: Description): boolean =>
  (d.what === 'ipv4' && d.protocol === 1) || (d.what === 'ipv6' && d.protocol === 58);

export function frameOf(d: Description): Uint8Array {
  const tag = d.isTagged ? [0x81, 0, (d.priority << 5) | (d.vlan >> 8), d.vlan & 255] : [];
  const head = [...macBytes(d.destination), ...macBytes(d.source), ...tag];
  const word = (n: number): number[] => [n >> 8, n & 255];
  if (d.what === 'other')
    return Uint8Array.from([...head, ...word(d.etherType), ...Array.from({ length: 46 }, () => 7)]);
  if (d.what === 'arp')
    return Uint8Array.from([
      ...head,
      8,
      6,
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      d.operation,
      ...macBytes(d.source),
      ...ipBytes(d.sourceIp),
      ...macBytes(d.targetMac),
      ...ipBytes(d.destinationIp),
    ]);
  const l4 = isIcmp(d)
    ? [d.sourcePort & 255, d.destinationPort & 255, 0, 0, 0, 0, 0, 0]
    : [
        ...word(d.sourcePort),
        ...word(d.destinationPort),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x50,
        d.flags,
        0,
        0,
        0,
        0,
        0,
        0,
      ];
  const payload = d.fragment === 'later' ? Array.from({ length: 32 }, () => 0xff) : l4;
  const fragment = { none: 0, first: 1, later: 2 }[d.fragment];
  if (d.what === 'ipv4') {
    const options = d.hasOptions ? [1, 1, 1, 0] : [];
    const total = 20 + options.length + payload.length;
    return Uint8Array.from([
      ...head,
      8,
      0,
      0x45 + options.length / 4,
      d.dscp << 2,
      ...word(total),
      0,
      1,
      ...[
        [0, 0],
        [0x20, 0],
        [0, 100],
      ][fragment]!,
      64,
      d.protocol,
      0,
      0,
      ...ipBytes(d.sourceIp),
      ...ipBytes(d.destinationIp),
      ...options,
      ...payload,
    ]);
  }
  const chain: number[][] = [];
  if (d.hasOptions) chain.push([0, 0, 1, 4, 0, 0, 0, 0]);
  if (fragment > 0) chain.push([0, 0, ...(fragment === 1 ? [0, 1] : [0x03, 0x20]), 0, 0, 0, 9]);
  const types = [...(d.hasOptions ? [0] : []), ...(fragment > 0 ? [44] : []), d.protocol];
  const extensions = chain.flatMap((one, i) => [types[i + 1]!, ...one.slice(1)]);
  const traffic = d.dscp << 2;
  return Uint8Array.from([
    ...head,
    0x86,
    0xdd,
    0x60 | (traffic >> 4),
    (traffic & 15) << 4,
    0,
    0,
    ...word(extensions.length + payload.length),
    types[0]!,
    64,
    ...ipBytes(d.sourceIp),
    ...ipBytes(d.destinationIp),
    ...extensions,
    ...payload,
  ]);
}

function inPrefix(address: string, prefix: string): boolean {
  const [net = '', bits] = prefix.split('/');
  const [a, b] = [ipBytes(address), ipBytes(net)];
  if (a.length !== b.length) return false;
  const count = bits === undefined ? a.length * 8 : Number(bits);
  for (let i = 0; i < count; i++)
    if ((a[i >> 3]! >> (7 - (i & 7))) % 2 !== (b[i >> 3]! >> (7 - (i & 7))) % 2) return false;
  return true;
}

const inMac = (mac: string, { address, mask }: { address: string; mask: string }): boolean =>
  macBytes(mac).every(
    (octet, i) => (octet & macBytes(mask)[i]!) === (macBytes(address)[i]! & macBytes(mask)[i]!),
  );

export function isMatch(match: FlowMatch, d: Description, portName: (port: number) => string): boolean {
  const isIp = d.what === 'ipv4' || d.what === 'ipv6';
  const type = { ipv4: 0x0800, ipv6: 0x86dd, arp: 0x0806, other: d.etherType }[d.what];
  const version = d.what === 'ipv4' ? 4 : 6;
  const within = (list: [number, number][], n: number): boolean => list.some(([a, b]) => a <= n && n <= b);
  if (match.inPorts !== undefined && !match.inPorts.includes(portName(d.port))) return false;
  if (match.sourceMacs !== undefined && !match.sourceMacs.some(one => inMac(d.source, one))) return false;
  if (match.destinationMacs !== undefined && !match.destinationMacs.some(one => inMac(d.destination, one)))
    return false;
  if (match.etherTypes !== undefined && !match.etherTypes.includes(type)) return false;
  if (match.vlans !== undefined && !within(match.vlans, d.vlan)) return false;
  if (match.priorities !== undefined && !match.priorities.includes(d.priority)) return false;
  if (match.arp !== undefined) {
    const { operations, senderMacs, targetMacs, senders, targets } = match.arp;
    if (d.what !== 'arp') return false;
    if (operations !== undefined && !operations.includes(d.operation)) return false;
    if (senderMacs !== undefined && !senderMacs.some(one => inMac(d.source, one))) return false;
    if (targetMacs !== undefined && !targetMacs.some(one => inMac(d.targetMac, one))) return false;
    if (senders !== undefined && !senders.some(one => inPrefix(d.sourceIp, one))) return false;
    if (targets !== undefined && !targets.some(one => inPrefix(d.destinationIp, one))) return false;
  }
  if (match.ipVersion !== undefined && (!isIp || match.ipVersion !== version)) return false;
  if (match.sources !== undefined && !(isIp && match.sources.some(one => inPrefix(d.sourceIp, one))))
    return false;
  if (
    match.destinations !== undefined &&
    !(isIp && match.destinations.some(one => inPrefix(d.destinationIp, one)))
  )
    return false;
  if (match.protocols !== undefined && !(isIp && match.protocols.includes(d.protocol))) return false;
  const portsShow = isIp && hasPorts(d.protocol) && d.fragment !== 'later';
  if (match.sourcePorts !== undefined && !(portsShow && within(match.sourcePorts, d.sourcePort)))
    return false;
  if (
    match.destinationPorts !== undefined &&
    !(portsShow && within(match.destinationPorts, d.destinationPort))
  )
    return false;
  if (match.tcpFlags !== undefined) {
    if (!isIp || d.protocol !== 6 || d.fragment === 'later') return false;
    if (!match.tcpFlags.some(({ value, mask }) => (d.flags & mask) === (value & mask))) return false;
  }
  if (match.icmp !== undefined) {
    if (!isIcmp(d) || d.fragment === 'later') return false;
    const [type, code] = [d.sourcePort & 255, d.destinationPort & 255];
    if (!match.icmp.some(one => one.version === version && one.type === type && (one.code ?? code) === code))
      return false;
  }
  if (match.dscps !== undefined && !(isIp && match.dscps.includes(d.dscp))) return false;
  if (match.fragment !== undefined) {
    if (!isIp) return false;
    if (match.fragment === 'any' ? d.fragment === 'none' : match.fragment !== d.fragment) return false;
  }
  return true;
}

/** Names of the rules that act, in order. */
export function acting(
  rules: readonly FlowRule[],
  d: Description,
  portName: (port: number) => string,
): string[] {
  const names: string[] = [];
  for (const rule of rules.toSorted((a, b) => b.priority - a.priority)) {
    if (!isMatch(rule.match, d, portName)) continue;
    names.push(rule.name);
    if (rule.actions.verdict !== 'continue') break;
  }
  return names;
}
