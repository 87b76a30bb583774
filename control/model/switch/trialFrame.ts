/**
 * A frame made of what somebody says of it, to ask a switch what would become of it. Header checksums are right, since
 * a switch may look at them; there is no payload, but what makes up the least length of a frame.
 */
import { parseIp, parseMac } from '../../../host/ip.js';

export interface FrameFields {
  src: string;
  dst: string;
  /** Outermost first. */
  tags?: readonly { vlan: number; priority: number; tpid: number }[];
  type?: number | undefined;
  /** Both of one family, or neither. */
  ipSrc?: string | undefined;
  ipDst?: string | undefined;
  /** A name of PROTOCOLS, or a number. */
  protocol?: string | undefined;
  sport?: number | undefined;
  dport?: number | undefined;
  dscp?: number | undefined;
}

export class FrameFieldError extends Error {}

/** IANA protocol numbers. */
export const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  icmp6: 58,
  sctp: 132,
};
/** 802-2014 9.2.4: for experiments, nobody's. */
const TYPE_LOCAL = 0x88b5;
const MIN_BYTES = 60;
const word = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const zeros = (count: number): number[] => Array.from({ length: count }, () => 0);

/** Throws FrameFieldError. */
export function buildFrame(fields: FrameFields): Uint8Array {
  const tags = (fields.tags ?? []).flatMap(({ vlan, priority, tpid }) => {
    whole('vlan', vlan, 0, 4095);
    whole('priority', priority, 0, 7);
    return [...word(tpid), ...word((priority << 13) | vlan)];
  });
  const packet = packetOf(fields);
  const type = fields.type ?? packet.type;
  const bytes = [...mac('dst', fields.dst), ...mac('src', fields.src), ...tags];
  bytes.push(...word(whole('type', type, 0, 0xffff)), ...packet.bytes);
  return Uint8Array.from([...bytes, ...zeros(Math.max(0, MIN_BYTES - bytes.length))]);
}

function packetOf(fields: FrameFields): { type: number; bytes: number[] } {
  const { ipSrc, ipDst } = fields;
  if (ipSrc === undefined && ipDst === undefined) {
    if (fields.protocol !== undefined || fields.sport !== undefined || fields.dport !== undefined)
      throw new FrameFieldError('a protocol or port needs IP addresses: say ip-src and ip-dst');
    return { type: TYPE_LOCAL, bytes: [] };
  }
  if (ipSrc === undefined || ipDst === undefined) throw new FrameFieldError('say both ip-src and ip-dst');
  const source = ip('ip-src', ipSrc);
  const destination = ip('ip-dst', ipDst);
  if (source.length !== destination.length)
    throw new FrameFieldError('ip-src and ip-dst are of different families');
  const protocol = protocolOf(fields, source.length === 16);
  const segment = segmentOf(protocol, fields);
  const traffic = whole('dscp', fields.dscp ?? 0, 0, 63) << 2;
  if (source.length === 16) {
    const head = [0x60 | (traffic >>> 4), (traffic & 15) << 4, 0, 0, ...word(segment.length), protocol, 64];
    return { type: 0x86dd, bytes: [...head, ...source, ...destination, ...segment] };
  }
  const head = [0x45, traffic, ...word(20 + segment.length), 0, 0, 0, 0, 64, protocol, 0, 0];
  const whole4 = [...head, ...source, ...destination];
  const sum = checksum(whole4);
  whole4[10] = sum >>> 8;
  whole4[11] = sum & 0xff;
  return { type: 0x0800, bytes: [...whole4, ...segment] };
}

function protocolOf({ protocol, sport, dport }: FrameFields, isIpv6: boolean): number {
  if (protocol === undefined) {
    if (sport !== undefined || dport !== undefined)
      throw new FrameFieldError('a port needs a protocol: tcp, udp or sctp');
    return isIpv6 ? PROTOCOLS['icmp6']! : PROTOCOLS['icmp']!;
  }
  const known = PROTOCOLS[protocol];
  if (known !== undefined) return known;
  if (!/^\d+$/.test(protocol))
    throw new FrameFieldError(
      `"${protocol}" is no protocol: ${Object.keys(PROTOCOLS).join(', ')}, or a number`,
    );
  return whole('protocol', Number(protocol), 0, 255);
}

function segmentOf(protocol: number, { sport, dport }: FrameFields): number[] {
  const ports = [
    ...word(whole('sport', sport ?? 0, 0, 0xffff)),
    ...word(whole('dport', dport ?? 0, 0, 0xffff)),
  ];
  // RFC 9293: a SYN, 20 octets of header.
  if (protocol === PROTOCOLS['tcp']) return [...ports, ...zeros(8), 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
  if (protocol === PROTOCOLS['udp']) return [...ports, 0, 8, 0, 0];
  if (protocol === PROTOCOLS['sctp']) return [...ports, ...zeros(8)];
  // RFC 792, RFC 4443: echo request.
  if (protocol === PROTOCOLS['icmp']) return [8, 0, 0xf7, 0xff, ...zeros(4)];
  if (protocol === PROTOCOLS['icmp6']) return [128, ...zeros(7)];
  return [];
}

/** RFC 1071. */
function checksum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function mac(field: string, text: string): Uint8Array {
  const octets = parseMac(text);
  if (octets === undefined)
    throw new FrameFieldError(`${field} "${text}" is no MAC address: 02:00:00:00:00:01`);
  return octets;
}

function ip(field: string, text: string): Uint8Array {
  const octets = parseIp(text);
  if (octets === undefined) throw new FrameFieldError(`${field} "${text}" is no IP address`);
  return octets;
}

function whole(field: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new FrameFieldError(`${field} ${value}: a whole number from ${least} to ${most}`);
}
