/**
 * The IPv6 header (RFC 8200 3), as far as offloads need it. Extension headers are not walked: whoever asks
 * for an offload says where the transport header begins.
 *
 *   0 version, class, flow label | 4 payload length | 6 next header | 7 hop limit | 8 source | 24 destination | 40
 */
import * as checksum from './checksum.js';

export const PAYLOAD_LENGTH = 4;
export const NEXT_HEADER = 6;
export const HOP_LIMIT = 7;
export const SOURCE = 8;
export const DESTINATION = 24;
export const LENGTH = 40;

export interface Header {
  /** Version, traffic class and flow label as they stand; the version is put in by `emit`. */
  classAndFlow: number;
  payloadLength: number;
  nextHeader: number;
  hopLimit: number;
  source: Uint8Array;
  destination: Uint8Array;
}

export function check(view: DataView, at: number, end: number): boolean {
  if (end - at < LENGTH || view.getUint8(at) >>> 4 !== 6) return false;
  return view.getUint16(at + PAYLOAD_LENGTH) <= end - at - LENGTH;
}

/** RFC 8200 8.1: addresses, upper-layer length and next header. */
export function pseudoHeaderSum(
  view: DataView,
  at: number,
  nextHeader: number,
  length_bytes: number,
): number {
  const addresses = checksum.sum(view, at + SOURCE, 32, 0);
  return checksum.fold(addresses + checksum.swap(nextHeader) + checksum.swap(length_bytes));
}

export function parse(view: DataView, at: number, out: Header): void {
  out.classAndFlow = view.getUint32(at) & 0x0fff_ffff;
  out.payloadLength = view.getUint16(at + PAYLOAD_LENGTH);
  out.nextHeader = view.getUint8(at + NEXT_HEADER);
  out.hopLimit = view.getUint8(at + HOP_LIMIT);
  for (let i = 0; i < 16; i++) {
    out.source[i] = view.getUint8(at + SOURCE + i);
    out.destination[i] = view.getUint8(at + DESTINATION + i);
  }
}

export function emit(view: DataView, at: number, header: Header): number {
  view.setUint32(at, 0x6000_0000 | header.classAndFlow);
  view.setUint16(at + PAYLOAD_LENGTH, header.payloadLength);
  view.setUint8(at + NEXT_HEADER, header.nextHeader);
  view.setUint8(at + HOP_LIMIT, header.hopLimit);
  for (let i = 0; i < 16; i++) {
    view.setUint8(at + SOURCE + i, header.source[i]!);
    view.setUint8(at + DESTINATION + i, header.destination[i]!);
  }
  return LENGTH;
}
