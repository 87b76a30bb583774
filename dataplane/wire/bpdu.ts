/**
 * Bridge protocol data units (IEEE 802.1D-2004 clause 9), with the 802.3 length and LLC header they travel behind:
 *
 *   0            6        12       14          17
 *   +------------+--------+--------+-----------+--------------------------------
 *   | 01-80-C2-  | source | length | 42 42 03  | BPDU …  (then padding to 60 bytes)
 *   | 00-00-00   |        | (802.3)| (LLC)     |
 *   +------------+--------+--------+-----------+--------------------------------
 *
 *   BPDU  0 protocol identifier 2 | 2 version 1 | 3 type 1 | 4 flags 1 | 5 root identifier 8 | 13 root path cost 4
 *         17 bridge identifier 8 | 25 port identifier 2 | 27 message age 2 | 29 max age 2 | 31 hello time 2
 *         33 forward delay 2 | 35 version 1 length 1 (RST only)
 *
 * A bridge identifier is two 32-bit halves: priority and octets 0-1 of the address, then octets 2-5. Times are in
 * units of 1/256 s on the wire and here; who believes them bounds them (spanningTree/receive.ts).
 */
import { emitAddress } from './ethernet.js';

// Specification constants.
/** 802.1D-2004 table 7-10: the Bridge Group Address. */
export const GROUP_ADDRESS = '01:80:c2:00:00:00';
/** 9.3.1: Configuration; 9.3.2: Topology Change Notification; 9.3.3: Rapid Spanning Tree. */
export const TYPE_CONFIGURATION = 0x00;
export const TYPE_RST = 0x02;
export const TYPE_TCN = 0x80;
export const VERSION_STP = 0;
export const VERSION_RSTP = 2;

export const FLAG_TOPOLOGY_CHANGE = 0x01;
export const FLAG_PROPOSAL = 0x02;
export const FLAG_LEARNING = 0x10;
export const FLAG_FORWARDING = 0x20;
export const FLAG_AGREEMENT = 0x40;
export const FLAG_TOPOLOGY_CHANGE_ACK = 0x80;
/** 9.2.9: where the port role stands in the flags, and its values. */
export const ROLE_SHIFT = 2;
export const ROLE_UNKNOWN = 0;
export const ROLE_ALTERNATE_OR_BACKUP = 1;
export const ROLE_ROOT = 2;
export const ROLE_DESIGNATED = 3;

export const LENGTH_TCN = 4;
export const LENGTH_CONFIGURATION = 35;
export const LENGTH_RST = 36;
/** Ethernet header with its length field, and LLC. */
export const BPDU_AT = 17;
const LENGTH_FIELD_AT = 12;
const LLC_AT = 14;
const LLC_LENGTH = 3;
const LLC_SAP_PAIR = 0x4242;
const LLC_UI = 0x03;
/** 802.3-2018 3.2.7: no frame is shorter, without its FCS. */
export const FRAME_LENGTH = 60;

/** What `check` says. */
export const BPDU_OK = 0;
export const NOT_A_BPDU = -1;
/** 9.3.4: to be discarded: cut short, of an unknown type, or of another protocol. */
export const BPDU_INVALID = -2;

export interface Bpdu {
  version: number;
  /** TYPE_CONFIGURATION, TYPE_TCN or TYPE_RST; of a TCN nothing below counts. */
  type: number;
  flags: number;
  rootHigh: number;
  rootLow: number;
  rootPathCost: number;
  bridgeHigh: number;
  bridgeLow: number;
  portId: number;
  messageAge_256: number;
  maxAge_256: number;
  helloTime_256: number;
  forwardDelay_256: number;
}

export function blank(): Bpdu {
  return {
    version: 0,
    type: TYPE_TCN,
    flags: 0,
    rootHigh: 0,
    rootLow: 0,
    rootPathCost: 0,
    bridgeHigh: 0,
    bridgeLow: 0,
    portId: 0,
    messageAge_256: 0,
    maxAge_256: 0,
    helloTime_256: 0,
    forwardDelay_256: 0,
  };
}

/**
 * Whether a frame from `at` to `end` (its address has been looked at) carries a BPDU as 9.3.4 wants it. Of a version
 * above ours as much is believed as ours has (9.3.4: an MST BPDU is an RST BPDU to us).
 */
export function check(view: DataView, at: number, end: number): number {
  if (end - at < BPDU_AT) return NOT_A_BPDU;
  if (view.getUint16(at + LLC_AT) !== LLC_SAP_PAIR || view.getUint8(at + LLC_AT + 2) !== LLC_UI)
    return NOT_A_BPDU;
  const claimed = view.getUint16(at + LENGTH_FIELD_AT);
  if (claimed > end - at - LLC_AT || claimed < LLC_LENGTH + LENGTH_TCN) return BPDU_INVALID;
  const length = claimed - LLC_LENGTH;
  const bpduAt = at + BPDU_AT;
  if (view.getUint16(bpduAt) !== 0) return BPDU_INVALID;
  const type = view.getUint8(bpduAt + 3);
  if (type === TYPE_TCN) return BPDU_OK;
  if (type === TYPE_CONFIGURATION) {
    if (length < LENGTH_CONFIGURATION) return BPDU_INVALID;
    // 9.3.4 a): information that is older than it may become.
    return view.getUint16(bpduAt + 27) < view.getUint16(bpduAt + 29) ? BPDU_OK : BPDU_INVALID;
  }
  if (type === TYPE_RST)
    return length >= LENGTH_RST && view.getUint8(bpduAt + 2) >= VERSION_RSTP ? BPDU_OK : BPDU_INVALID;
  return BPDU_INVALID;
}

/** Reads what `check` approved. */
export function parse(view: DataView, at: number, out: Bpdu): void {
  const bpduAt = at + BPDU_AT;
  out.version = view.getUint8(bpduAt + 2);
  out.type = view.getUint8(bpduAt + 3);
  if (out.type === TYPE_TCN) {
    out.flags = 0;
    out.rootHigh = out.rootLow = out.rootPathCost = out.bridgeHigh = out.bridgeLow = out.portId = 0;
    out.messageAge_256 = out.maxAge_256 = out.helloTime_256 = out.forwardDelay_256 = 0;
    return;
  }
  out.flags = view.getUint8(bpduAt + 4);
  out.rootHigh = view.getUint32(bpduAt + 5);
  out.rootLow = view.getUint32(bpduAt + 9);
  out.rootPathCost = view.getUint32(bpduAt + 13);
  out.bridgeHigh = view.getUint32(bpduAt + 17);
  out.bridgeLow = view.getUint32(bpduAt + 21);
  out.portId = view.getUint16(bpduAt + 25);
  out.messageAge_256 = view.getUint16(bpduAt + 27);
  out.maxAge_256 = view.getUint16(bpduAt + 29);
  out.helloTime_256 = view.getUint16(bpduAt + 31);
  out.forwardDelay_256 = view.getUint16(bpduAt + 33);
}

/** Writes a whole frame, padded; `source` is the address of the port or bridge. Returns FRAME_LENGTH. */
export function emit(view: DataView, at: number, bpdu: Bpdu, source: Uint8Array): number {
  for (let i = 0; i < FRAME_LENGTH; i++) view.setUint8(at + i, 0);
  emitAddress(view, at, GROUP_ADDRESS);
  for (let i = 0; i < 6; i++) view.setUint8(at + 6 + i, source[i] ?? 0);
  const length =
    bpdu.type === TYPE_TCN
      ? LENGTH_TCN
      : bpdu.type === TYPE_CONFIGURATION
        ? LENGTH_CONFIGURATION
        : LENGTH_RST;
  view.setUint16(at + LENGTH_FIELD_AT, LLC_LENGTH + length);
  view.setUint16(at + LLC_AT, LLC_SAP_PAIR);
  view.setUint8(at + LLC_AT + 2, LLC_UI);
  const bpduAt = at + BPDU_AT;
  view.setUint8(bpduAt + 2, bpdu.version);
  view.setUint8(bpduAt + 3, bpdu.type);
  if (bpdu.type === TYPE_TCN) return FRAME_LENGTH;
  view.setUint8(bpduAt + 4, bpdu.flags);
  view.setUint32(bpduAt + 5, bpdu.rootHigh);
  view.setUint32(bpduAt + 9, bpdu.rootLow);
  view.setUint32(bpduAt + 13, bpdu.rootPathCost);
  view.setUint32(bpduAt + 17, bpdu.bridgeHigh);
  view.setUint32(bpduAt + 21, bpdu.bridgeLow);
  view.setUint16(bpduAt + 25, bpdu.portId);
  view.setUint16(bpduAt + 27, bpdu.messageAge_256);
  view.setUint16(bpduAt + 29, bpdu.maxAge_256);
  view.setUint16(bpduAt + 31, bpdu.helloTime_256);
  view.setUint16(bpduAt + 33, bpdu.forwardDelay_256);
  return FRAME_LENGTH;
}

/** The port role that the flags convey: 9.2.9. A Configuration BPDU conveys Designated. */
export function roleOf(bpdu: Bpdu): number {
  return bpdu.type === TYPE_CONFIGURATION ? ROLE_DESIGNATED : (bpdu.flags >>> ROLE_SHIFT) & 3;
}
