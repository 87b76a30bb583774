/** A frame in a line, for the log of a rule: who to whom, and what. */
import { formatIp } from '../../host/ip.js';
import type { Packet } from '../switch/packet.js';
import * as ethernet from '../wire/ethernet.js';

const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'icmp',
  2: 'igmp',
  6: 'tcp',
  17: 'udp',
  47: 'gre',
  50: 'esp',
  58: 'icmp6',
  132: 'sctp',
};

/** Of a parsed packet. */
export function describe(packet: Packet): string {
  const { view, at } = packet;
  const ends = `${ethernet.addressAt(view, at + ethernet.SOURCE)} > ${ethernet.addressAt(view, at)}`;
  const place = `VLAN ${packet.vlan}, ${ends}`;
  if (packet.ipVersion === 0) return `${place}, type 0x${packet.etherType.toString(16).padStart(4, '0')}`;
  const isIpv6 = packet.ipVersion === 6;
  const address = (offset: number): string => {
    const length = isIpv6 ? 16 : 4;
    const bytes = Uint8Array.from({ length }, (_, i) => view.getUint8(packet.l3At + offset + i));
    return formatIp(bytes);
  };
  const hasPorts = (packet.sourcePort | packet.destinationPort) !== 0;
  const end = (text: string, port: number): string =>
    hasPorts ? (isIpv6 ? `[${text}]:${port}` : `${text}:${port}`) : text;
  const from = end(address(isIpv6 ? 8 : 12), packet.sourcePort);
  const to = end(address(isIpv6 ? 24 : 16), packet.destinationPort);
  return `${place}, ${PROTOCOLS[packet.protocol] ?? `protocol ${packet.protocol}`} ${from} > ${to}`;
}
