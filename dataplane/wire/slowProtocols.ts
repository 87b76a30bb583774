/**
 * Slow protocols (IEEE 802.3-2018 annex 57A): what LACP and the marker protocol have in common; and the marker
 * protocol itself (IEEE 802.1AX-2014 6.5.3), since a whole marker PDU is hardly more than that.
 *
 *   0            6        12       14        15        16
 *   +------------+--------+--------+---------+---------+----------------
 *   | 01-80-C2-  | source | 88-09  | subtype | version | TLVs …           110 octets from the subtype on
 *   | 00-00-02   |        |        |         |         |
 *   +------------+--------+--------+---------+---------+----------------
 *
 *   Marker: 16 type 1 | 17 length 16 | 18 Requester_Port 2 | 20 Requester_System 6 | 26 Requester_Transaction_ID 4
 *           30 pad 2 | 32 terminator 0 0 | 34 reserved 90      A response differs in its type alone, which is 2.
 *
 * A frame with a VLAN tag is none of ours: these protocols live below the tag (802.1AX-2014 6.1.3).
 */

// Specification constants.
export const TYPE_SLOW = 0x8809;
/** 57A.4: octets 0-3 and 4-5 of the Slow_Protocols_Multicast address. */
export const GROUP_HIGH32 = 0x0180_c200;
export const GROUP_LOW16 = 0x0002;
/** Table 57A-3. */
export const SUBTYPE_LACP = 1;
export const SUBTYPE_MARKER = 2;
export const SUBTYPE_AT = 14;
export const VERSION_AT = 15;
/** 57A.3 a): frames of one slow protocol in any one second at most. */
export const FRAMES_MAX_PER_SECOND = 10;
/** LACPDUs and marker PDUs are of one fixed length, here without their FCS. */
export const FRAME_LENGTH = 124;

export const MARKER_INFORMATION = 1;
export const MARKER_RESPONSE = 2;
const MARKER_TLV_AT = 16;
const MARKER_TLV_LENGTH = 16;

/** To the slow protocols' own address, and of their type. The caller has looked that 15 octets are there. */
export function isSlow(view: DataView, at: number): boolean {
  return (
    view.getInt32(at) === GROUP_HIGH32 &&
    view.getUint16(at + 4) === GROUP_LOW16 &&
    view.getUint16(at + 12) === TYPE_SLOW
  );
}

/** Destination, source, type, subtype and version; the rest of the frame is made zero. */
export function emitHeader(
  view: DataView,
  at: number,
  source: Uint8Array,
  subtype: number,
  version: number,
): void {
  for (let i = 0; i < FRAME_LENGTH; i++) view.setUint8(at + i, 0);
  view.setInt32(at, GROUP_HIGH32);
  view.setUint16(at + 4, GROUP_LOW16);
  for (let i = 0; i < 6; i++) view.setUint8(at + 6 + i, source[i] ?? 0);
  view.setUint16(at + 12, TYPE_SLOW);
  view.setUint8(at + SUBTYPE_AT, subtype);
  view.setUint8(at + VERSION_AT, version);
}

export interface Marker {
  /** MARKER_INFORMATION or MARKER_RESPONSE. */
  type: number;
  requesterPort: number;
  /** Octets 0-1 and 2-5 of the requester's system. */
  requesterSystemHigh16: number;
  requesterSystemLow32: number;
  requesterTransactionId: number;
}

export function blankMarker(): Marker {
  return {
    type: 0,
    requesterPort: 0,
    requesterSystemHigh16: 0,
    requesterSystemLow32: 0,
    requesterTransactionId: 0,
  };
}

/** 6.5.3.3: the version is not looked at, as later ones keep what this one has. */
export function checkMarker(view: DataView, at: number, end: number): boolean {
  if (end - at < FRAME_LENGTH || view.getUint8(at + SUBTYPE_AT) !== SUBTYPE_MARKER) return false;
  const type = view.getUint8(at + MARKER_TLV_AT);
  return (
    (type === MARKER_INFORMATION || type === MARKER_RESPONSE) &&
    view.getUint8(at + MARKER_TLV_AT + 1) === MARKER_TLV_LENGTH
  );
}

export function parseMarker(view: DataView, at: number, out: Marker): void {
  out.type = view.getUint8(at + MARKER_TLV_AT);
  out.requesterPort = view.getUint16(at + 18);
  out.requesterSystemHigh16 = view.getUint16(at + 20);
  out.requesterSystemLow32 = view.getUint32(at + 22);
  out.requesterTransactionId = view.getUint32(at + 26);
}

export function emitMarker(view: DataView, at: number, marker: Marker, source: Uint8Array): number {
  emitHeader(view, at, source, SUBTYPE_MARKER, 1);
  view.setUint8(at + MARKER_TLV_AT, marker.type);
  view.setUint8(at + MARKER_TLV_AT + 1, MARKER_TLV_LENGTH);
  view.setUint16(at + 18, marker.requesterPort);
  view.setUint16(at + 20, marker.requesterSystemHigh16);
  view.setUint32(at + 22, marker.requesterSystemLow32);
  view.setUint32(at + 26, marker.requesterTransactionId);
  return FRAME_LENGTH;
}
