/**
 * The IPv4 header (RFC 791 3.1), as far as offloads need it.
 *
 *   0  version ihl | 1 tos | 2 total length | 4 identification | 6 flags fragment | 8 ttl | 9 protocol
 *   10 checksum    | 12 source              | 16 destination   | 20 options …
 */
import * as checksum from './checksum.js';

export const TOTAL_LENGTH = 2;
export const IDENTIFICATION = 4;
export const FRAGMENT = 6;
export const TTL = 8;
export const PROTOCOL = 9;
export const CHECKSUM = 10;
export const SOURCE = 12;
export const DESTINATION = 16;
export const LENGTH = 20;

export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

export interface Header {
  totalLength: number;
  identification: number;
  fragment: number;
  ttl: number;
  protocol: number;
  source: number;
  destination: number;
}

export function headerLength(view: DataView, at: number): number {
  return (view.getUint8(at) & 15) * 4;
}

export function protocol(view: DataView, at: number): number {
  return view.getUint8(at + PROTOCOL);
}

/** Version, header length and total length agree with what is there. */
export function check(view: DataView, at: number, end: number): boolean {
  if (end - at < LENGTH || view.getUint8(at) >>> 4 !== 4) return false;
  const header_bytes = headerLength(view, at);
  const total_bytes = view.getUint16(at + TOTAL_LENGTH);
  return header_bytes >= LENGTH && header_bytes <= total_bytes && total_bytes <= end - at;
}

/** Puts the header checksum right after a change. */
export function writeChecksum(view: DataView, at: number, header_bytes: number): void {
  view.setUint16(at + CHECKSUM, 0);
  checksum.write(view, at + CHECKSUM, checksum.sum(view, at, header_bytes, 0));
}

/** The part of the transport's sum that comes from addresses, protocol and length (RFC 9293 3.1, RFC 768). */
export function pseudoHeaderSum(
  view: DataView,
  at: number,
  protocolNumber: number,
  length_bytes: number,
): number {
  const addresses = checksum.sum(view, at + SOURCE, 8, 0);
  return checksum.fold(addresses + checksum.swap(protocolNumber) + checksum.swap(length_bytes));
}

export function parse(view: DataView, at: number, out: Header): void {
  out.totalLength = view.getUint16(at + TOTAL_LENGTH);
  out.identification = view.getUint16(at + IDENTIFICATION);
  out.fragment = view.getUint16(at + FRAGMENT);
  out.ttl = view.getUint8(at + TTL);
  out.protocol = protocol(view, at);
  out.source = view.getUint32(at + SOURCE);
  out.destination = view.getUint32(at + DESTINATION);
}

/** A header without options, its checksum included. */
export function emit(view: DataView, at: number, header: Header): number {
  view.setUint16(at, 0x4500);
  view.setUint16(at + TOTAL_LENGTH, header.totalLength);
  view.setUint16(at + IDENTIFICATION, header.identification);
  view.setUint16(at + FRAGMENT, header.fragment);
  view.setUint8(at + TTL, header.ttl);
  view.setUint8(at + PROTOCOL, header.protocol);
  view.setUint32(at + SOURCE, header.source);
  view.setUint32(at + DESTINATION, header.destination);
  writeChecksum(view, at, LENGTH);
  return LENGTH;
}
