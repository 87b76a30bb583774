/**
 * LACPDUs (IEEE 802.1AX-2014 6.4.2.3), version 1, behind the header of slowProtocols.ts:
 *
 *   16 TLV_type 1 Actor      17 length 20   18 System_Priority 2 | 20 System 6 | 26 Key 2 | 28 Port_Priority 2
 *                                           30 Port 2 | 32 State 1 | 33 reserved 3
 *   36 TLV_type 2 Partner    37 length 20   38 … as the actor's
 *   56 TLV_type 3 Collector  57 length 16   58 CollectorMaxDelay 2 | 60 reserved 12
 *   72 terminator 0          73 length 0    74 reserved 50
 *
 * A system is two numbers, octets 0-1 and octets 2-5 of its address, so that nothing is allocated for one.
 */
import { FRAME_LENGTH, SUBTYPE_AT, SUBTYPE_LACP, VERSION_AT, emitHeader } from './slowProtocols.js';

// Specification constants.
export const VERSION = 1;
export const LENGTH = FRAME_LENGTH;

/** 6.4.2.3 l): bits of Actor_State and Partner_State. */
export const LACP_ACTIVITY = 0x01;
export const LACP_TIMEOUT = 0x02;
export const AGGREGATION = 0x04;
export const SYNCHRONIZATION = 0x08;
export const COLLECTING = 0x10;
export const DISTRIBUTING = 0x20;
export const DEFAULTED = 0x40;
export const EXPIRED = 0x80;

const ACTOR_AT = 16;
const PARTNER_AT = 36;
const COLLECTOR_AT = 56;
const INFORMATION_LENGTH = 20;
const COLLECTOR_LENGTH = 16;

/** What one end says of itself, or believes of the other. */
export interface Info {
  systemPriority: number;
  systemHigh16: number;
  systemLow32: number;
  key: number;
  portPriority: number;
  port: number;
  state: number;
}

export interface Lacpdu {
  version: number;
  actor: Info;
  partner: Info;
  /** In tens of microseconds (6.4.2.3 w). */
  collectorMaxDelay_10us: number;
}

export function blankInfo(): Info {
  return {
    systemPriority: 0,
    systemHigh16: 0,
    systemLow32: 0,
    key: 0,
    portPriority: 0,
    port: 0,
    state: 0,
  };
}

export function blank(): Lacpdu {
  return { version: VERSION, actor: blankInfo(), partner: blankInfo(), collectorMaxDelay_10us: 0 };
}

export function copyInfo(from: Info, to: Info): void {
  to.systemPriority = from.systemPriority;
  to.systemHigh16 = from.systemHigh16;
  to.systemLow32 = from.systemLow32;
  to.key = from.key;
  to.portPriority = from.portPriority;
  to.port = from.port;
  to.state = from.state;
}

/**
 * 6.4.2.4 and 6.4.12: the version is not looked at; TLVs that every version has must stand where version 1 has
 * them, with their length. Lengths that a peer says are compared, never followed.
 */
export function check(view: DataView, at: number, end: number): boolean {
  return (
    end - at >= LENGTH &&
    view.getUint8(at + SUBTYPE_AT) === SUBTYPE_LACP &&
    view.getUint8(at + VERSION_AT) >= VERSION &&
    view.getUint8(at + ACTOR_AT) === 1 &&
    view.getUint8(at + ACTOR_AT + 1) === INFORMATION_LENGTH &&
    view.getUint8(at + PARTNER_AT) === 2 &&
    view.getUint8(at + PARTNER_AT + 1) === INFORMATION_LENGTH
  );
}

function parseInfo(view: DataView, at: number, out: Info): void {
  out.systemPriority = view.getUint16(at + 2);
  out.systemHigh16 = view.getUint16(at + 4);
  out.systemLow32 = view.getUint32(at + 6);
  out.key = view.getUint16(at + 10);
  out.portPriority = view.getUint16(at + 12);
  out.port = view.getUint16(at + 14);
  out.state = view.getUint8(at + 16);
}

function emitInfo(view: DataView, at: number, type: number, info: Info): void {
  view.setUint8(at, type);
  view.setUint8(at + 1, INFORMATION_LENGTH);
  view.setUint16(at + 2, info.systemPriority);
  view.setUint16(at + 4, info.systemHigh16);
  view.setUint32(at + 6, info.systemLow32);
  view.setUint16(at + 10, info.key);
  view.setUint16(at + 12, info.portPriority);
  view.setUint16(at + 14, info.port);
  view.setUint8(at + 16, info.state);
}

/** Reads what `check` approved. */
export function parse(view: DataView, at: number, out: Lacpdu): void {
  out.version = view.getUint8(at + VERSION_AT);
  parseInfo(view, at + ACTOR_AT, out.actor);
  parseInfo(view, at + PARTNER_AT, out.partner);
  // 6.4.2.3 v): only what says it is a collector's has a delay.
  out.collectorMaxDelay_10us =
    view.getUint8(at + COLLECTOR_AT) === 3 ? view.getUint16(at + COLLECTOR_AT + 2) : 0;
}

/** Writes a whole frame. Returns LENGTH. */
export function emit(view: DataView, at: number, pdu: Lacpdu, source: Uint8Array): number {
  emitHeader(view, at, source, SUBTYPE_LACP, VERSION);
  emitInfo(view, at + ACTOR_AT, 1, pdu.actor);
  emitInfo(view, at + PARTNER_AT, 2, pdu.partner);
  view.setUint8(at + COLLECTOR_AT, 3);
  view.setUint8(at + COLLECTOR_AT + 1, COLLECTOR_LENGTH);
  view.setUint16(at + COLLECTOR_AT + 2, pdu.collectorMaxDelay_10us);
  return LENGTH;
}
