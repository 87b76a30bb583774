/**
 * IGMP (RFC 1112, 2236, 3376): who wants which IPv4 group. A message is what an IPv4 packet of protocol 2 carries.
 *
 *   query    0x11 | max resp | checksum | group          | v3: resv S QRV | QQIC | n | sources …
 *   v1, v2   0x12, 0x16 report, 0x17 leave               | group
 *   v3       0x22 report | checksum | n records: type, aux words, n sources, group, sources …, aux …
 */
import * as checksum from './checksum.js';
import * as ethernet from './ethernet.js';
import * as ipv4 from './ipv4.js';

// Specification constants.
export const PROTOCOL = 2;
const QUERY = 0x11;
const V1_REPORT = 0x12;
const V2_REPORT = 0x16;
const LEAVE = 0x17;
const V3_REPORT = 0x22;
const SHORT_BYTES = 8;
const V3_QUERY_BYTES = 12;
const RECORD_BYTES = 8;
/** RFC 2113: router alert, which every IGMPv2 and v3 message carries. */
const ROUTER_ALERT = 0x9404_0000;
/** 224.0.0.1 by RFC 1112 6.4. */
const ALL_SYSTEMS_MAC = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01];
const ALL_SYSTEMS = 0xe000_0001;
const TOS_INTERNETWORK_CONTROL = 0xc0;

// Our constants.
/** Records of one report that are looked at; a report of 1500 octets has 183. */
const RECORDS_MAX_COUNT = 256;

/** RFC 3376 4.2.12, RFC 3810 5.2.12: what a record says of its group. */
export const MODE_IS_INCLUDE = 1;
export const MODE_IS_EXCLUDE = 2;
export const CHANGE_TO_INCLUDE = 3;
export const CHANGE_TO_EXCLUDE = 4;
export const ALLOW_NEW_SOURCES = 5;
export const BLOCK_OLD_SOURCES = 6;

/** IGMP and MLD in the same words. Addresses are 4 or 16 octets. */
export type Heard =
  | {
      kind: 'query';
      /** Null: a general query. */
      group: Uint8Array | null;
      maxResponse_ms: number;
      /** It asks for the whole group, and wants timers lowered (RFC 3376 6.6.1): no sources named, S not set. */
      lowersTimers: boolean;
      /** Of version 3 (MLD: 2); null where it does not say. */
      robustness: number | null;
      interval_s: number | null;
    }
  | { kind: 'report'; joins: Uint8Array[]; leaves: Uint8Array[] };

/** What a record comes to when sources are not told apart: whoever wants some of a group is sent the group. */
export function takeRecord(
  type: number,
  sources: number,
  group: Uint8Array,
  joins: Uint8Array[],
  leaves: Uint8Array[],
): void {
  const excludes = type === MODE_IS_EXCLUDE || type === CHANGE_TO_EXCLUDE;
  const includes = type === MODE_IS_INCLUDE || type === CHANGE_TO_INCLUDE || type === ALLOW_NEW_SOURCES;
  if (excludes || (includes && sources > 0)) joins.push(group);
  else if (type === CHANGE_TO_INCLUDE) leaves.push(group);
}

/** RFC 3376 4.1.1 and 4.1.7: 1 to 127 as they are, beyond that a mantissa and an exponent. */
export function codeToValue(code: number): number {
  return code < 128 ? code : ((code & 15) | 16) << (((code >>> 4) & 7) + 3);
}

export function valueToCode(value: number): number {
  if (value < 128) return value;
  let exponent = 0;
  let mantissa = value >>> 3;
  while (mantissa > 31 && exponent < 7) {
    mantissa >>>= 1;
    exponent++;
  }
  return 0x80 | (exponent << 4) | (Math.min(mantissa, 31) & 15);
}

/** Undefined: malformed, or no message that says anything of groups. The checksum counts (RFC 3376 4). */
export function parse(view: DataView, at: number, end: number): Heard | 'malformed' | undefined {
  const length = end - at;
  if (length < SHORT_BYTES) return 'malformed';
  if (checksum.fold(checksum.sum(view, at, length, 0)) !== 0xffff) return 'malformed';
  const type = view.getUint8(at);
  if (type === QUERY) return query(view, at, length);
  if (type === V3_REPORT) return report(view, at, end);
  if (type !== V1_REPORT && type !== V2_REPORT && type !== LEAVE) return undefined;
  const group = groupAt(view, at + 4);
  if (group === undefined) return 'malformed';
  return type === LEAVE
    ? { kind: 'report', joins: [], leaves: [group] }
    : { kind: 'report', joins: [group], leaves: [] };
}

function query(view: DataView, at: number, length: number): Heard | 'malformed' {
  const group = view.getUint32(at + 4) === 0 ? null : groupAt(view, at + 4);
  if (group === undefined || (length !== SHORT_BYTES && length < V3_QUERY_BYTES)) return 'malformed';
  const code = view.getUint8(at + 1);
  if (length === SHORT_BYTES)
    // RFC 2236 2.2: tenths of a second; a version 1 query says 0 and means ten seconds.
    return {
      kind: 'query',
      group,
      lowersTimers: true,
      maxResponse_ms: (code === 0 ? 100 : code) * 100,
      robustness: null,
      interval_s: null,
    };
  return {
    kind: 'query',
    group,
    lowersTimers: (view.getUint8(at + 8) & 8) === 0 && view.getUint16(at + 10) === 0,
    maxResponse_ms: codeToValue(code) * 100,
    robustness: view.getUint8(at + 8) & 7,
    interval_s: codeToValue(view.getUint8(at + 9)),
  };
}

function report(view: DataView, at: number, end: number): Heard | 'malformed' {
  const count = Math.min(view.getUint16(at + 6), RECORDS_MAX_COUNT);
  const joins: Uint8Array[] = [];
  const leaves: Uint8Array[] = [];
  let next = at + SHORT_BYTES;
  for (let i = 0; i < count; i++) {
    if (next + RECORD_BYTES > end) return 'malformed';
    const sources = view.getUint16(next + 2);
    const length = RECORD_BYTES + sources * 4 + view.getUint8(next + 1) * 4;
    const group = groupAt(view, next + 4);
    if (group === undefined || next + length > end) return 'malformed';
    takeRecord(view.getUint8(next), sources, group, joins, leaves);
    next += length;
  }
  return { kind: 'report', joins, leaves };
}

/** Undefined: not a group's address. */
function groupAt(view: DataView, at: number): Uint8Array | undefined {
  if (view.getUint8(at) >>> 4 !== 0xe) return undefined;
  return Uint8Array.from({ length: 4 }, (_, i) => view.getUint8(at + i));
}

export interface Query {
  /** Six octets, and four. */
  mac: Uint8Array;
  source: Uint8Array;
  group: Uint8Array | null;
  maxResponse_ms: number;
  robustness: number;
  interval_s: number;
}

/** A whole frame with a version 3 query, which older hosts understand as theirs (RFC 3376 7.2.1). */
export function queryFrame({
  mac,
  source,
  group,
  maxResponse_ms,
  robustness,
  interval_s,
}: Query): Uint8Array {
  const headerBytes = ipv4.LENGTH + 4;
  const bytes = new Uint8Array(ethernet.LENGTH + headerBytes + V3_QUERY_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(group === null ? ALL_SYSTEMS_MAC : groupMac(group), 0);
  bytes.set(mac, ethernet.SOURCE);
  view.setUint16(ethernet.TYPE, ethernet.TYPE_IPV4);
  const l3 = ethernet.LENGTH;
  view.setUint8(l3, 0x40 | (headerBytes / 4));
  view.setUint8(l3 + 1, TOS_INTERNETWORK_CONTROL);
  view.setUint16(l3 + ipv4.TOTAL_LENGTH, headerBytes + V3_QUERY_BYTES);
  view.setUint8(l3 + ipv4.TTL, 1);
  view.setUint8(l3 + ipv4.PROTOCOL, PROTOCOL);
  bytes.set(source, l3 + ipv4.SOURCE);
  if (group === null) view.setUint32(l3 + ipv4.DESTINATION, ALL_SYSTEMS);
  else bytes.set(group, l3 + ipv4.DESTINATION);
  view.setUint32(l3 + ipv4.LENGTH, ROUTER_ALERT);
  ipv4.writeChecksum(view, l3, headerBytes);
  const at = l3 + headerBytes;
  view.setUint8(at, QUERY);
  view.setUint8(at + 1, valueToCode(Math.round(maxResponse_ms / 100)));
  if (group !== null) bytes.set(group, at + 4);
  view.setUint8(at + 8, robustness & 7);
  view.setUint8(at + 9, valueToCode(interval_s));
  checksum.write(view, at + 2, checksum.sum(view, at, V3_QUERY_BYTES, 0));
  return bytes;
}

/** RFC 1112 6.4: the lower 23 bits; 32 groups have the same. */
export function groupMac(group: Uint8Array): Uint8Array {
  return Uint8Array.of(0x01, 0x00, 0x5e, group[1]! & 0x7f, group[2]!, group[3]!);
}
