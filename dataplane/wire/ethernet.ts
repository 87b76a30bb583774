/**
 * Ethernet II frames (IEEE 802.3 clause 3): where the fields lie and what an address means.
 *
 *   0            6            12          14
 *   +------------+------------+-----------+---------
 *   | destination| source     | type      | payload …      (a tag, see vlan.ts, stands at 12)
 *   +------------+------------+-----------+---------
 *
 * The frame path uses the accessors alone; records and text are for events, tests and tables.
 */

// Specification constants.
export const DESTINATION = 0;
export const SOURCE = 6;
export const TYPE = 12;
export const LENGTH = 14;
export const ADDRESS_LENGTH = 6;

export const TYPE_IPV4 = 0x0800;
export const TYPE_ARP = 0x0806;
export const TYPE_IPV6 = 0x86dd;
/** IEEE 802.1Q-2022 table 9-1: customer and service VLAN tags. */
export const TYPE_CVLAN = 0x8100;
export const TYPE_SVLAN = 0x88a8;

// Our constants.
/** Header, two tags and the largest IP packet: what a GSO frame can come to. Nothing longer is a frame to us. */
export const FRAME_MAX_BYTES = LENGTH + 8 + 65_535;
export const FRAME_MIN_BYTES = LENGTH;

export interface Header {
  destination: string;
  source: string;
  type: number;
}

export function type(view: DataView, at: number): number {
  return view.getUint16(at + TYPE);
}

/** IEEE 802-2014 8.2.2: the I/G bit, the least significant of the first octet. */
export function isGroup(view: DataView, addressAt: number): boolean {
  return (view.getUint8(addressAt) & 1) !== 0;
}

export function isBroadcast(view: DataView, addressAt: number): boolean {
  return view.getInt32(addressAt) === -1 && view.getUint16(addressAt + 4) === 0xffff;
}

export function isZero(view: DataView, addressAt: number): boolean {
  return view.getInt32(addressAt) === 0 && view.getUint16(addressAt + 4) === 0;
}

/** IEEE 802.1Q-2022 table 8-1: 01-80-C2-00-00-00 to -0F are for the bridge itself and never relayed. */
export function isReservedGroup(view: DataView, addressAt: number): boolean {
  return view.getInt32(addressAt) === 0x0180_c200 && (view.getUint16(addressAt + 4) & 0xfff0) === 0;
}

const HEX = '0123456789abcdef';

/** The six octets as `02:00:5e:00:00:01`, from the two numbers that tables keep: octets 0-1 and octets 2-5. */
export function formatAddress(high16: number, low32: number): string {
  let text = '';
  for (let i = 0; i < ADDRESS_LENGTH; i++) {
    const octet = i < 2 ? (high16 >>> (8 - 8 * i)) & 0xff : (low32 >>> (40 - 8 * i)) & 0xff;
    text += (i === 0 ? '' : ':') + HEX[octet >>> 4]! + HEX[octet & 15]!;
  }
  return text;
}

const ADDRESS_TEXT = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** Writes the six octets of a textual address; false when the text is none. */
export function emitAddress(view: DataView, at: number, text: string): boolean {
  if (!ADDRESS_TEXT.test(text)) return false;
  for (let i = 0; i < ADDRESS_LENGTH; i++) view.setUint8(at + i, parseInt(text.slice(i * 3, i * 3 + 2), 16));
  return true;
}

export function addressAt(view: DataView, at: number): string {
  return formatAddress(view.getUint16(at), view.getInt32(at + 2));
}

export function check(at: number, end: number): boolean {
  return end - at >= LENGTH;
}

export function parse(view: DataView, at: number, out: Header): void {
  out.destination = addressAt(view, at + DESTINATION);
  out.source = addressAt(view, at + SOURCE);
  out.type = type(view, at);
}

export function emit(view: DataView, at: number, header: Header): number {
  emitAddress(view, at + DESTINATION, header.destination);
  emitAddress(view, at + SOURCE, header.source);
  view.setUint16(at + TYPE, header.type);
  return LENGTH;
}
