/**
 * The TCP header (RFC 9293 3.1), as far as offloads need it.
 *
 *   0 source port | 2 destination port | 4 sequence | 8 acknowledgment | 12 data offset | 13 flags
 *   14 window     | 16 checksum        | 18 urgent  | 20 options …
 */
export const SOURCE_PORT = 0;
export const DESTINATION_PORT = 2;
export const SEQUENCE = 4;
export const ACKNOWLEDGMENT = 8;
export const DATA_OFFSET = 12;
export const FLAGS = 13;
export const WINDOW = 14;
export const CHECKSUM = 16;
export const URGENT = 18;
export const LENGTH = 20;
export const LENGTH_MAX = 60;

export const FIN = 0x01;
export const PSH = 0x08;
/** RFC 3168 6.1.2: congestion window reduced; said once, in the first segment. */
export const CWR = 0x80;

export interface Header {
  sourcePort: number;
  destinationPort: number;
  sequence: number;
  acknowledgment: number;
  flags: number;
  window: number;
  checksum: number;
  urgent: number;
}

export function headerLength(view: DataView, at: number): number {
  return (view.getUint8(at + DATA_OFFSET) >>> 4) * 4;
}

export function check(view: DataView, at: number, end: number): boolean {
  if (end - at < LENGTH) return false;
  const header_bytes = headerLength(view, at);
  return header_bytes >= LENGTH && header_bytes <= end - at;
}

export function parse(view: DataView, at: number, out: Header): void {
  out.sourcePort = view.getUint16(at + SOURCE_PORT);
  out.destinationPort = view.getUint16(at + DESTINATION_PORT);
  out.sequence = view.getUint32(at + SEQUENCE);
  out.acknowledgment = view.getUint32(at + ACKNOWLEDGMENT);
  out.flags = view.getUint8(at + FLAGS);
  out.window = view.getUint16(at + WINDOW);
  out.checksum = view.getUint16(at + CHECKSUM);
  out.urgent = view.getUint16(at + URGENT);
}

/** A header without options; the checksum is the caller's. */
export function emit(view: DataView, at: number, header: Header): number {
  view.setUint16(at + SOURCE_PORT, header.sourcePort);
  view.setUint16(at + DESTINATION_PORT, header.destinationPort);
  view.setUint32(at + SEQUENCE, header.sequence);
  view.setUint32(at + ACKNOWLEDGMENT, header.acknowledgment);
  view.setUint8(at + DATA_OFFSET, (LENGTH / 4) << 4);
  view.setUint8(at + FLAGS, header.flags);
  view.setUint16(at + WINDOW, header.window);
  view.setUint16(at + CHECKSUM, header.checksum);
  view.setUint16(at + URGENT, header.urgent);
  return LENGTH;
}
