/**
 * MLD (RFC 2710, 3810): who wants which IPv6 group. A message is what ICMPv6 carries behind a hop-by-hop header.
 *
 *   query  130 | 0 | checksum | max response | 0 | group 16 | v2: resv S QRV | QQIC | n | sources …
 *   v1     131 report, 132 done                  | group 16
 *   v2     143 | 0 | checksum | 0 | n records: type, aux words, n sources, group 16, sources …, aux …
 */
import * as checksum from './checksum.js';
import * as ethernet from './ethernet.js';
import { codeToValue, takeRecord, valueToCode } from './igmp.js';
import type { Heard, Query } from './igmp.js';
import * as ipv6 from './ipv6.js';

// Specification constants.
export const ICMPV6 = 58;
export const QUERY = 130;
const V1_REPORT = 131;
const DONE = 132;
const V2_REPORT = 143;
const V1_BYTES = 24;
const V2_QUERY_BYTES = 28;
const V2_REPORT_BYTES = 8;
const RECORD_BYTES = 20;
/** RFC 2711 2.1 with PadN: next header ICMPv6, one unit, router alert "MLD". */
const HOP_BY_HOP = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const ALL_NODES = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

// Our constants.
const RECORDS_MAX_COUNT = 256;

export function isMld(type: number): boolean {
  return type === QUERY || type === V1_REPORT || type === DONE || type === V2_REPORT;
}

/** `l3At`: the IPv6 header, whose addresses are summed too; `at` to `end`: the ICMPv6 message. */
export function parse(
  view: DataView,
  l3At: number,
  at: number,
  end: number,
): Heard | 'malformed' | undefined {
  const length = end - at;
  if (length < V2_REPORT_BYTES) return 'malformed';
  const pseudo = ipv6.pseudoHeaderSum(view, l3At, ICMPV6, length);
  if (checksum.fold(checksum.sum(view, at, length, pseudo)) !== 0xffff) return 'malformed';
  const type = view.getUint8(at);
  if (type === V2_REPORT) return report(view, at, end);
  if (!isMld(type)) return undefined;
  if (length < V1_BYTES) return 'malformed';
  if (type === QUERY) return query(view, at, length);
  const group = groupAt(view, at + 8);
  if (group === undefined) return 'malformed';
  return type === DONE
    ? { kind: 'report', joins: [], leaves: [group] }
    : { kind: 'report', joins: [group], leaves: [] };
}

function query(view: DataView, at: number, length: number): Heard | 'malformed' {
  const isGeneral = [8, 12, 16, 20].every(offset => view.getInt32(at + offset) === 0);
  const group = isGeneral ? null : groupAt(view, at + 8);
  if (group === undefined || (length !== V1_BYTES && length < V2_QUERY_BYTES)) return 'malformed';
  const code = view.getUint16(at + 4);
  if (length === V1_BYTES)
    return {
      kind: 'query',
      group,
      lowersTimers: true,
      maxResponse_ms: code,
      robustness: null,
      interval_s: null,
    };
  // RFC 3810 5.1.3: from 32768 on a mantissa of 12 bits and an exponent.
  const maxResponse_ms = code < 0x8000 ? code : ((code & 0xfff) | 0x1000) << (((code >>> 12) & 7) + 3);
  return {
    kind: 'query',
    group,
    lowersTimers: (view.getUint8(at + 24) & 8) === 0 && view.getUint16(at + 26) === 0,
    maxResponse_ms,
    robustness: view.getUint8(at + 24) & 7,
    interval_s: codeToValue(view.getUint8(at + 25)),
  };
}

function report(view: DataView, at: number, end: number): Heard | 'malformed' {
  const count = Math.min(view.getUint16(at + 6), RECORDS_MAX_COUNT);
  const joins: Uint8Array[] = [];
  const leaves: Uint8Array[] = [];
  let next = at + V2_REPORT_BYTES;
  for (let i = 0; i < count; i++) {
    if (next + RECORD_BYTES > end) return 'malformed';
    const sources = view.getUint16(next + 2);
    const length = RECORD_BYTES + sources * 16 + view.getUint8(next + 1) * 4;
    const group = groupAt(view, next + 4);
    if (group === undefined || next + length > end) return 'malformed';
    takeRecord(view.getUint8(next), sources, group, joins, leaves);
    next += length;
  }
  return { kind: 'report', joins, leaves };
}

function groupAt(view: DataView, at: number): Uint8Array | undefined {
  if (view.getUint8(at) !== 0xff) return undefined;
  return Uint8Array.from({ length: 16 }, (_, i) => view.getUint8(at + i));
}

/** A whole frame with a version 2 query, which version 1 hosts understand as theirs (RFC 3810 8.2.1). */
export function queryFrame({
  mac,
  source,
  group,
  maxResponse_ms,
  robustness,
  interval_s,
}: Query): Uint8Array {
  const bytes = new Uint8Array(ethernet.LENGTH + ipv6.LENGTH + HOP_BY_HOP.length + V2_QUERY_BYTES);
  const view = new DataView(bytes.buffer);
  const destination = group ?? Uint8Array.from(ALL_NODES);
  bytes.set(groupMac(destination), 0);
  bytes.set(mac, ethernet.SOURCE);
  view.setUint16(ethernet.TYPE, ethernet.TYPE_IPV6);
  const l3 = ethernet.LENGTH;
  ipv6.emit(view, l3, {
    classAndFlow: 0,
    payloadLength: HOP_BY_HOP.length + V2_QUERY_BYTES,
    nextHeader: 0,
    hopLimit: 1,
    source,
    destination,
  });
  bytes.set(HOP_BY_HOP, l3 + ipv6.LENGTH);
  const at = l3 + ipv6.LENGTH + HOP_BY_HOP.length;
  view.setUint8(at, QUERY);
  view.setUint16(at + 4, Math.min(maxResponse_ms, 0x7fff));
  if (group !== null) bytes.set(group, at + 8);
  view.setUint8(at + 24, robustness & 7);
  view.setUint8(at + 25, valueToCode(interval_s));
  const pseudo = ipv6.pseudoHeaderSum(view, l3, ICMPV6, V2_QUERY_BYTES);
  checksum.write(view, at + 2, checksum.sum(view, at, V2_QUERY_BYTES, pseudo));
  return bytes;
}

/** RFC 2464 7: the lower 32 bits. */
export function groupMac(group: Uint8Array): Uint8Array {
  return Uint8Array.of(0x33, 0x33, group[12]!, group[13]!, group[14]!, group[15]!);
}

/** RFC 4291 2.5.1: fe80:: with the identifier that follows from a MAC address. */
export function linkLocalOf(mac: Uint8Array): Uint8Array {
  const address = new Uint8Array(16);
  address.set([0xfe, 0x80]);
  address.set([mac[0]! ^ 2, mac[1]!, mac[2]!, 0xff, 0xfe, mac[3]!, mac[4]!, mac[5]!], 8);
  return address;
}
