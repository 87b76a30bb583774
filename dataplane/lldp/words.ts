/** A neighbour's LLDPDU as people read it. Pure. */
import { formatIp } from '../../host/ip.js';
import type { LldpNeighbour } from '../contract/lldp.js';
import { CAPABILITY_WORDS, TEXT_OF_FAMILY } from '../wire/lldp.js';
import type { Identifier, ManagementAddress } from '../wire/lldp.js';
import type { Neighbour } from './agent.js';

/** 802.1AB-2016 tables 8-2 and 8-3, by subtype. */
const CHASSIS_KINDS = ['', 'component', 'interfaceAlias', 'port', 'mac', 'network', 'interfaceName', 'local'];
const PORT_KINDS = ['', 'interfaceAlias', 'port', 'mac', 'network', 'interfaceName', 'agentCircuit', 'local'];

const hex = (octets: Uint8Array): string =>
  [...octets].map(octet => octet.toString(16).padStart(2, '0')).join(':');

/** Text if it is text; a terminal must not be told anything by a neighbour. */
function textOr(octets: Uint8Array): string {
  const isText = octets.every(octet => octet >= 0x20 && octet < 0x7f);
  return isText ? String.fromCharCode(...octets) : hex(octets);
}

function address(family: number, octets: Uint8Array): string {
  const word = TEXT_OF_FAMILY[family];
  if ((word === 'ipv4' && octets.length === 4) || (word === 'ipv6' && octets.length === 16))
    return formatIp(octets);
  return hex(octets);
}

function identifierText({ octets }: Identifier, kind: string): string {
  if (kind === 'mac') return hex(octets);
  if (kind === 'network') return address(octets[0] ?? 0, octets.slice(1));
  return textOr(octets);
}

export function capabilityWords(bits: number | null): string[] {
  return CAPABILITY_WORDS.filter((_, bit) => ((bits ?? 0) & (1 << bit)) !== 0);
}

export function neighbourView(
  port: string,
  member: string | null,
  { pdu, since_ms, expiresAt_ms }: Neighbour,
  now_ms: number,
): LldpNeighbour {
  const chassisIdKind = CHASSIS_KINDS[pdu.chassisId.subtype] || 'reserved';
  const portIdKind = PORT_KINDS[pdu.portId.subtype] || 'reserved';
  return {
    port,
    member,
    chassisIdKind,
    chassisId: identifierText(pdu.chassisId, chassisIdKind),
    portIdKind,
    portId: identifierText(pdu.portId, portIdKind),
    portDescription: pdu.portDescription,
    systemName: pdu.systemName,
    systemDescription: pdu.systemDescription,
    capabilities: capabilityWords(pdu.capabilities),
    enabledCapabilities: capabilityWords(pdu.enabledCapabilities),
    managementAddresses: pdu.managementAddresses.map(({ family, octets }: ManagementAddress) =>
      address(family, octets),
    ),
    portVlan: pdu.portVlan,
    linkAggregation: pdu.linkAggregation,
    maximumFrameSize_bytes: pdu.maximumFrameSize_bytes,
    ttl_s: pdu.ttl_s,
    age_ms: now_ms - since_ms,
    expiresIn_ms: Math.max(0, expiresAt_ms - now_ms),
  };
}
