/**
 * LLDPDUs (IEEE 802.1AB-2016 clause 8): what a station says of itself to its neighbour on a link.
 *
 *   0            6        12       14
 *   +------------+--------+--------+------------+---------+-----+------------+-----+
 *   | 01-80-C2-  | source | 88-CC  | Chassis ID | Port ID | TTL | optional … | End |
 *   | 00-00-0E   |        |        | TLV 1      | TLV 2   | 3   |            | 0   |
 *   +------------+--------+--------+------------+---------+-----+------------+-----+
 *
 *   TLV   type 7 bits, length 9 bits | information          organizationally specific: type 127 | OUI 3 | subtype 1 | …
 *
 * `parse` applies the rules of 9.2.7.7: which faults cost the frame, which cost one TLV. It reads at most what is
 * there, keeps bounded pieces (no identifier is longer than 255 octets, no list longer than its maximum), and allocates:
 * LLDP is a frame in half a minute, and who sends more is cut short before it comes here (lldp/agent.ts).
 */

// Specification constants.
export const GROUP_ADDRESS = Uint8Array.of(0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e);
export const TYPE_LLDP = 0x88cc;
export const HEADER_LENGTH = 14;
/** 802.3-2018 3.2.7, without FCS. */
const FRAME_MIN_LENGTH = 60;
/** An Ethernet frame without envelope. */
export const FRAME_MAX_LENGTH = 1514;

const TLV_END = 0;
const TLV_CHASSIS_ID = 1;
const TLV_PORT_ID = 2;
const TLV_TTL = 3;
const TLV_PORT_DESCRIPTION = 4;
const TLV_SYSTEM_NAME = 5;
const TLV_SYSTEM_DESCRIPTION = 6;
const TLV_SYSTEM_CAPABILITIES = 7;
const TLV_MANAGEMENT_ADDRESS = 8;
const TLV_ORGANIZATION = 127;

/** Tables 8-2 and 8-3. */
export const CHASSIS_ID_MAC_ADDRESS = 4;
export const PORT_ID_INTERFACE_NAME = 5;
/** Table 8-4, bits as sent. */
export const CAPABILITY_WORDS = [
  'other',
  'repeater',
  'bridge',
  'wlan',
  'router',
  'telephone',
  'docsis',
  'station',
  'cvlan',
  'svlan',
  'tpmr',
] as const;
export const CAPABILITY_BRIDGE = 1 << 2;

/** IANA address family numbers (8.5.9.3). */
const FAMILY_IPV4 = 1;
const FAMILY_IPV6 = 2;
const FAMILY_MAC = 6;
/** 8.5.9.5. */
const INTERFACE_UNKNOWN = 1;

const OUI_8021 = 0x00_80c2;
const OUI_8023 = 0x00_120f;
/** 802.1Q-2022 D.2.1. */
const SUBTYPE_PORT_VLAN = 1;
/** 802.1Q-2022 D.2.7: link aggregation, after it had moved here from 802.3. */
const SUBTYPE_LINK_AGGREGATION_8021 = 7;
/** 802.3-2018 79.3.3 and 79.3.4. */
const SUBTYPE_LINK_AGGREGATION = 3;
const SUBTYPE_MAXIMUM_FRAME_SIZE = 4;
const AGGREGATION_CAPABLE = 0x01;
const AGGREGATION_ACTIVE = 0x02;

// Our constants.
export const ADDRESSES_MAX_COUNT = 8;
const STRING_MAX_BYTES = 255;

export interface Identifier {
  subtype: number;
  /** 1 to 255 octets. */
  octets: Uint8Array;
}

export interface ManagementAddress {
  family: number;
  /** 1 to 31 octets. */
  octets: Uint8Array;
}

export interface LinkAggregation {
  isCapable: boolean;
  isActive: boolean;
  /** 0 unless active. */
  port: number;
}

export interface Lldpdu {
  chassisId: Identifier;
  portId: Identifier;
  /** 0: the neighbour takes its leave. */
  ttl_s: number;
  portDescription: string | null;
  systemName: string | null;
  systemDescription: string | null;
  /** Bits of CAPABILITY_WORDS. */
  capabilities: number | null;
  enabledCapabilities: number | null;
  managementAddresses: ManagementAddress[];
  /** 0: it has none. */
  portVlan: number | null;
  linkAggregation: LinkAggregation | null;
  maximumFrameSize_bytes: number | null;
}

/** What `parse` found to complain of (9.2.6). */
export interface ParseFaults {
  tlvsDiscarded: number;
  tlvsUnrecognized: number;
}

export const TEXT_OF_FAMILY: Readonly<Record<number, string>> = {
  [FAMILY_IPV4]: 'ipv4',
  [FAMILY_IPV6]: 'ipv6',
  [FAMILY_MAC]: 'mac',
};

export function blank(): Lldpdu {
  return {
    chassisId: { subtype: 0, octets: new Uint8Array() },
    portId: { subtype: 0, octets: new Uint8Array() },
    ttl_s: 0,
    portDescription: null,
    systemName: null,
    systemDescription: null,
    capabilities: null,
    enabledCapabilities: null,
    managementAddresses: [],
    portVlan: null,
    linkAggregation: null,
    maximumFrameSize_bytes: null,
  };
}

/** To the nearest bridge, and of the type. The caller has looked that 14 octets are there. */
export function isLldp(view: DataView, at: number): boolean {
  return (
    view.getInt32(at) === 0x0180_c200 &&
    view.getUint16(at + 4) === 0x000e &&
    view.getUint16(at + 12) === TYPE_LLDP
  );
}

const TEXT = new TextDecoder();

function octetsAt(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
}

/** 9.2.7.7: undefined when the whole LLDPDU is to be discarded. `faults` are added to. */
export function parse(view: DataView, at: number, end: number, faults: ParseFaults): Lldpdu | undefined {
  const pdu = blank();
  const seen = new Set<number>();
  let place = 0;
  let tlvAt = at + HEADER_LENGTH;
  for (;;) {
    // Frames end with their End TLV; one that has none just ends (9.2.7.7.2 allows for it).
    if (end - tlvAt < 2) break;
    const head = view.getUint16(tlvAt);
    const type = head >>> 9;
    const length = head & 0x1ff;
    const from = tlvAt + 2;
    if (type === TLV_END) break;
    if (from + length > end) {
      faults.tlvsDiscarded++;
      break;
    }
    if (place < 3) {
      // The first three are these, in this order.
      if (type !== place + 1 || !parseMandatory(view, type, from, length, pdu)) return undefined;
    } else if (type <= TLV_TTL) {
      return undefined;
    } else if (type <= TLV_SYSTEM_CAPABILITIES && seen.has(type)) {
      faults.tlvsDiscarded++;
    } else {
      parseOptional(view, type, from, length, pdu, faults);
    }
    seen.add(type);
    place++;
    tlvAt = from + length;
    if (place === 3 && pdu.ttl_s === 0) break;
  }
  return place < 3 ? undefined : pdu;
}

function parseMandatory(view: DataView, type: number, from: number, length: number, pdu: Lldpdu): boolean {
  if (type === TLV_TTL) {
    if (length < 2) return false;
    pdu.ttl_s = view.getUint16(from);
    return true;
  }
  // 8.5.2.1 and 8.5.3.1: subtype, and 1 to 255 octets.
  if (length < 2 || length > 256) return false;
  const identifier = type === TLV_CHASSIS_ID ? pdu.chassisId : pdu.portId;
  identifier.subtype = view.getUint8(from);
  identifier.octets = octetsAt(view, from + 1, length - 1);
  return true;
}

function parseOptional(
  view: DataView,
  type: number,
  from: number,
  length: number,
  pdu: Lldpdu,
  faults: ParseFaults,
): void {
  switch (type) {
    case TLV_PORT_DESCRIPTION:
    case TLV_SYSTEM_NAME:
    case TLV_SYSTEM_DESCRIPTION: {
      if (length > STRING_MAX_BYTES) break;
      const text = TEXT.decode(octetsAt(view, from, length));
      if (type === TLV_PORT_DESCRIPTION) pdu.portDescription = text;
      else if (type === TLV_SYSTEM_NAME) pdu.systemName = text;
      else pdu.systemDescription = text;
      return;
    }
    case TLV_SYSTEM_CAPABILITIES:
      if (length < 4) break;
      pdu.capabilities = view.getUint16(from);
      pdu.enabledCapabilities = view.getUint16(from + 2);
      return;
    case TLV_MANAGEMENT_ADDRESS:
      if (parseAddress(view, from, length, pdu)) return;
      break;
    case TLV_ORGANIZATION:
      if (length < 4) break;
      if (!parseOrganization(view, from, length, pdu)) faults.tlvsUnrecognized++;
      return;
    default:
      faults.tlvsUnrecognized++;
      return;
  }
  faults.tlvsDiscarded++;
}

/** 8.5.9: address string length (of subtype and address), subtype, address, interface subtype and number, OID. */
function parseAddress(view: DataView, from: number, length: number, pdu: Lldpdu): boolean {
  if (length < 9) return false;
  const string = view.getUint8(from);
  if (string < 2 || string > 32 || 1 + string + 6 > length) return false;
  if (pdu.managementAddresses.length < ADDRESSES_MAX_COUNT)
    pdu.managementAddresses.push({
      family: view.getUint8(from + 1),
      octets: octetsAt(view, from + 2, string - 1),
    });
  return true;
}

/** False: not one that we know. */
function parseOrganization(view: DataView, from: number, length: number, pdu: Lldpdu): boolean {
  const oui = (view.getUint16(from) << 8) | view.getUint8(from + 2);
  const subtype = view.getUint8(from + 3);
  const at = from + 4;
  const left = length - 4;
  if (oui === OUI_8021 && subtype === SUBTYPE_PORT_VLAN && left >= 2) {
    pdu.portVlan = view.getUint16(at);
    return true;
  }
  const isAggregation =
    (oui === OUI_8021 && subtype === SUBTYPE_LINK_AGGREGATION_8021) ||
    (oui === OUI_8023 && subtype === SUBTYPE_LINK_AGGREGATION);
  if (isAggregation && left >= 5) {
    const status = view.getUint8(at);
    pdu.linkAggregation = {
      isCapable: (status & AGGREGATION_CAPABLE) !== 0,
      isActive: (status & AGGREGATION_ACTIVE) !== 0,
      port: view.getUint32(at + 1),
    };
    return true;
  }
  if (oui === OUI_8023 && subtype === SUBTYPE_MAXIMUM_FRAME_SIZE && left >= 2) {
    pdu.maximumFrameSize_bytes = view.getUint16(at);
    return true;
  }
  return false;
}

/** Writes TLVs one behind the other; what does not fit into a frame is left out, and the End TLV always fits. */
class Writer {
  readonly #view: DataView;
  readonly #end: number;
  at: number;

  constructor(view: DataView, at: number, end: number) {
    this.#view = view;
    this.at = at;
    this.#end = end - 2;
  }

  tlv(type: number, ...parts: (number | Uint8Array)[]): void {
    const length = parts.reduce<number>((sum, part) => sum + (typeof part === 'number' ? 1 : part.length), 0);
    if (this.at + 2 + length > this.#end) return;
    this.#view.setUint16(this.at, (type << 9) | length);
    this.at += 2;
    for (const part of parts)
      for (const octet of typeof part === 'number' ? [part] : part) this.#view.setUint8(this.at++, octet);
  }

  end(): void {
    this.#view.setUint16(this.at, 0);
    this.at += 2;
  }
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value >>> 8, value);
const u32 = (value: number): Uint8Array => Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
const oui = (value: number): Uint8Array => Uint8Array.of(value >>> 16, value >>> 8, value);

/** The beginning of a text that has so many octets at most, cut between characters. */
function textOctets(text: string): Uint8Array {
  const octets = new TextEncoder().encode(text);
  if (octets.length <= STRING_MAX_BYTES) return octets;
  let length = STRING_MAX_BYTES;
  while ((octets[length]! & 0xc0) === 0x80) length--;
  return octets.slice(0, length);
}

/** Writes a whole frame, FRAME_MAX_LENGTH octets at most. Returns its length. */
export function emit(view: DataView, at: number, pdu: Lldpdu, source: Uint8Array): number {
  for (let i = 0; i < FRAME_MIN_LENGTH; i++) view.setUint8(at + i, 0);
  for (let i = 0; i < 6; i++) {
    view.setUint8(at + i, GROUP_ADDRESS[i]!);
    view.setUint8(at + 6 + i, source[i] ?? 0);
  }
  view.setUint16(at + 12, TYPE_LLDP);
  const writer = new Writer(view, at + HEADER_LENGTH, at + FRAME_MAX_LENGTH);
  writer.tlv(TLV_CHASSIS_ID, pdu.chassisId.subtype, pdu.chassisId.octets);
  writer.tlv(TLV_PORT_ID, pdu.portId.subtype, pdu.portId.octets);
  writer.tlv(TLV_TTL, u16(pdu.ttl_s));
  // 8.2: a shutdown LLDPDU has these three alone.
  if (pdu.ttl_s > 0) emitOptional(writer, pdu);
  writer.end();
  return Math.max(FRAME_MIN_LENGTH, writer.at - at);
}

function emitOptional(writer: Writer, pdu: Lldpdu): void {
  if (pdu.portDescription !== null) writer.tlv(TLV_PORT_DESCRIPTION, textOctets(pdu.portDescription));
  if (pdu.systemName !== null) writer.tlv(TLV_SYSTEM_NAME, textOctets(pdu.systemName));
  if (pdu.systemDescription !== null) writer.tlv(TLV_SYSTEM_DESCRIPTION, textOctets(pdu.systemDescription));
  if (pdu.capabilities !== null)
    writer.tlv(TLV_SYSTEM_CAPABILITIES, u16(pdu.capabilities), u16(pdu.enabledCapabilities ?? 0));
  for (const { family, octets } of pdu.managementAddresses)
    writer.tlv(TLV_MANAGEMENT_ADDRESS, octets.length + 1, family, octets, INTERFACE_UNKNOWN, u32(0), 0);
  if (pdu.portVlan !== null)
    writer.tlv(TLV_ORGANIZATION, oui(OUI_8021), SUBTYPE_PORT_VLAN, u16(pdu.portVlan));
  if (pdu.linkAggregation !== null) {
    const { isCapable, isActive, port } = pdu.linkAggregation;
    const status = (isCapable ? AGGREGATION_CAPABLE : 0) | (isActive ? AGGREGATION_ACTIVE : 0);
    writer.tlv(TLV_ORGANIZATION, oui(OUI_8023), SUBTYPE_LINK_AGGREGATION, status, u32(port));
  }
  if (pdu.maximumFrameSize_bytes !== null)
    writer.tlv(
      TLV_ORGANIZATION,
      oui(OUI_8023),
      SUBTYPE_MAXIMUM_FRAME_SIZE,
      u16(Math.min(0xffff, pdu.maximumFrameSize_bytes)),
    );
}
