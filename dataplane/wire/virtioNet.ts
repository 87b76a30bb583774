/**
 * The virtio-net header (virtio 1.2 5.1.6), which goes before a frame at tap devices and virtqueues and says
 * what is still to be done to it. Little-endian.
 *
 *   0       1          2         4          6            8             10            12
 *   +-------+----------+---------+----------+------------+-------------+-------------+
 *   | flags | gso type | hdr len | gso size | csum start | csum offset | num buffers |
 *   +-------+----------+---------+----------+------------+-------------+-------------+
 *
 * Inside the engine a frame's header travels as the first three 32-bit words of it: `word0` (flags, gso type,
 * hdr len), `word1` (gso size, csum start) and `word2` (csum offset).
 */

// Specification constants.
export const FLAGS = 0;
export const GSO_TYPE = 1;
export const HDR_LEN = 2;
export const GSO_SIZE = 4;
export const CSUM_START = 6;
export const CSUM_OFFSET = 8;
export const NUM_BUFFERS = 10;
export const LENGTH = 10;
export const LENGTH_MERGEABLE = 12;

export const F_NEEDS_CSUM = 1;
export const F_DATA_VALID = 2;
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
/** Or-ed to the type: the segments carry explicit congestion notification. */
export const GSO_ECN = 0x80;

export interface Header {
  flags: number;
  gsoType: number;
  hdrLen: number;
  gsoSize: number;
  csumStart: number;
  csumOffset: number;
}

export function word0(header: Header): number {
  return header.flags | (header.gsoType << 8) | (header.hdrLen << 16);
}
export function word1(header: Header): number {
  return header.gsoSize | (header.csumStart << 16);
}
export function word2(header: Header): number {
  return header.csumOffset;
}

export function flagsOf(w0: number): number {
  return w0 & 0xff;
}
/** Without the congestion bit. */
export function gsoTypeOf(w0: number): number {
  return (w0 >>> 8) & 0x7f;
}
export function hdrLenOf(w0: number): number {
  return w0 >>> 16;
}
export function gsoSizeOf(w1: number): number {
  return w1 & 0xffff;
}
export function csumStartOf(w1: number): number {
  return w1 >>> 16;
}
export function csumOffsetOf(w2: number): number {
  return w2 & 0xffff;
}

/** The words after the frame grew by `growth_bytes` before its transport header (a tag added or removed). */
export function moveWord0(w0: number, growth_bytes: number): number {
  return hdrLenOf(w0) === 0 ? w0 : (w0 + (growth_bytes << 16)) | 0;
}
export function moveWord1(w0: number, w1: number, growth_bytes: number): number {
  return (w0 & F_NEEDS_CSUM) === 0 ? w1 : (w1 + (growth_bytes << 16)) | 0;
}

export function check(at: number, end: number): boolean {
  return end - at >= LENGTH;
}

export function parse(view: DataView, at: number, out: Header): void {
  out.flags = view.getUint8(at + FLAGS);
  out.gsoType = view.getUint8(at + GSO_TYPE);
  out.hdrLen = view.getUint16(at + HDR_LEN, true);
  out.gsoSize = view.getUint16(at + GSO_SIZE, true);
  out.csumStart = view.getUint16(at + CSUM_START, true);
  out.csumOffset = view.getUint16(at + CSUM_OFFSET, true);
}

export function emit(view: DataView, at: number, header: Header): number {
  view.setUint8(at + FLAGS, header.flags);
  view.setUint8(at + GSO_TYPE, header.gsoType);
  view.setUint16(at + HDR_LEN, header.hdrLen, true);
  view.setUint16(at + GSO_SIZE, header.gsoSize, true);
  view.setUint16(at + CSUM_START, header.csumStart, true);
  view.setUint16(at + CSUM_OFFSET, header.csumOffset, true);
  return LENGTH;
}
