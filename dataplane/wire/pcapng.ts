/**
 * pcapng capture files (draft-ietf-opsawg-pcapng): the four blocks that a recorder writes. Little-endian.
 *
 *   Section Header, then an Interface Description per port (numbered in order), then Enhanced Packets, and an
 *   Interface Statistics block when frames were lost. Every block: type, length, body padded to 4, length again.
 *
 * Frames are recorded as they passed: a GSO frame of 64 KiB stays one packet, a checksum that was left to
 * hardware is not filled in.
 */

// Specification constants.
export const SECTION_HEADER = 0x0a0d_0d0a;
export const INTERFACE_DESCRIPTION = 1;
export const INTERFACE_STATISTICS = 5;
export const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET = 1;
const OPTION_END = 0;
const OPTION_IF_NAME = 2;
const OPTION_IF_TSRESOL = 9;
const OPTION_EPB_FLAGS = 2;
const OPTION_ISB_IFDROP = 5;

// epb_flags, bits 0-1.
export const DIRECTION_IN = 1;
export const DIRECTION_OUT = 2;

// Our constants.
export const SECTION_HEADER_LENGTH = 28;
/** What an Enhanced Packet block has beside the padded frame. */
export const ENHANCED_PACKET_OVERHEAD = 28 + 8 + 4 + 4;
/** Where the frame's bytes go in an Enhanced Packet block. */
export const ENHANCED_PACKET_DATA = 28;
export const INTERFACE_STATISTICS_LENGTH = 20 + 12 + 4 + 4;
const NAME_MAX_BYTES = 128;

function padded(length_bytes: number): number {
  return (length_bytes + 3) & ~3;
}

export function emitSectionHeader(view: DataView, at: number): number {
  view.setUint32(at, SECTION_HEADER, true);
  view.setUint32(at + 4, SECTION_HEADER_LENGTH, true);
  view.setUint32(at + 8, BYTE_ORDER_MAGIC, true);
  view.setUint32(at + 12, 1, true); // version 1.0
  view.setInt32(at + 16, -1, true); // section length not said: 64 ones
  view.setInt32(at + 20, -1, true);
  view.setUint32(at + 24, SECTION_HEADER_LENGTH, true);
  return SECTION_HEADER_LENGTH;
}

export function interfaceDescriptionLength(name: Uint8Array): number {
  return 16 + 4 + padded(Math.min(name.length, NAME_MAX_BYTES)) + 8 + 4 + 4;
}

/** An interface named after a port; time stamps in microseconds. The name is UTF-8, cut at 128 bytes. */
export function emitInterfaceDescription(
  view: DataView,
  at: number,
  name: Uint8Array,
  snapLength: number,
): number {
  const length = interfaceDescriptionLength(name);
  const name_bytes = Math.min(name.length, NAME_MAX_BYTES);
  view.setUint32(at, INTERFACE_DESCRIPTION, true);
  view.setUint32(at + 4, length, true);
  view.setUint16(at + 8, LINKTYPE_ETHERNET, true);
  view.setUint16(at + 10, 0, true);
  view.setUint32(at + 12, snapLength, true);
  let p = at + 16;
  view.setUint16(p, OPTION_IF_NAME, true);
  view.setUint16(p + 2, name_bytes, true);
  p += 4;
  for (let i = 0; i < padded(name_bytes); i++) view.setUint8(p + i, i < name_bytes ? name[i]! : 0);
  p += padded(name_bytes);
  view.setUint16(p, OPTION_IF_TSRESOL, true);
  view.setUint16(p + 2, 1, true);
  view.setUint32(p + 4, 6, true); // 10^-6 s, then padding
  view.setUint32(p + 8, OPTION_END, true);
  view.setUint32(p + 12, length, true);
  return length;
}

/** Bytes that an Enhanced Packet block with so much of a frame takes. */
export function enhancedPacketLength(captured_bytes: number): number {
  return ENHANCED_PACKET_OVERHEAD + padded(captured_bytes);
}

/**
 * All of an Enhanced Packet block but the frame's bytes, which the caller puts at `at + ENHANCED_PACKET_DATA`,
 * `captured_bytes` of them.
 */
export function emitEnhancedPacket(
  view: DataView,
  at: number,
  interfaceId: number,
  time_us: number,
  captured_bytes: number,
  original_bytes: number,
  direction: number,
): number {
  const length = enhancedPacketLength(captured_bytes);
  view.setUint32(at, ENHANCED_PACKET, true);
  view.setUint32(at + 4, length, true);
  view.setUint32(at + 8, interfaceId, true);
  view.setUint32(at + 12, Math.floor(time_us / 0x1_0000_0000), true);
  view.setUint32(at + 16, time_us % 0x1_0000_0000, true);
  view.setUint32(at + 20, captured_bytes, true);
  view.setUint32(at + 24, original_bytes, true);
  let p = at + ENHANCED_PACKET_DATA + captured_bytes;
  for (const end = at + ENHANCED_PACKET_DATA + padded(captured_bytes); p < end; p++) view.setUint8(p, 0);
  view.setUint16(p, OPTION_EPB_FLAGS, true);
  view.setUint16(p + 2, 4, true);
  view.setUint32(p + 4, direction, true);
  view.setUint32(p + 8, OPTION_END, true);
  view.setUint32(p + 12, length, true);
  return length;
}

export function emitInterfaceStatistics(
  view: DataView,
  at: number,
  interfaceId: number,
  time_us: number,
  dropped: number,
): number {
  view.setUint32(at, INTERFACE_STATISTICS, true);
  view.setUint32(at + 4, INTERFACE_STATISTICS_LENGTH, true);
  view.setUint32(at + 8, interfaceId, true);
  view.setUint32(at + 12, Math.floor(time_us / 0x1_0000_0000), true);
  view.setUint32(at + 16, time_us % 0x1_0000_0000, true);
  view.setUint16(at + 20, OPTION_ISB_IFDROP, true);
  view.setUint16(at + 22, 8, true);
  view.setUint32(at + 24, dropped % 0x1_0000_0000, true);
  view.setUint32(at + 28, Math.floor(dropped / 0x1_0000_0000), true);
  view.setUint32(at + 32, OPTION_END, true);
  view.setUint32(at + 36, INTERFACE_STATISTICS_LENGTH, true);
  return INTERFACE_STATISTICS_LENGTH;
}

/** What a reader of our own recordings wants of a block. `length` 0: there is no whole block at `at`. */
export interface Block {
  type: number;
  length: number;
  interfaceId: number;
  time_us: number;
  captured_bytes: number;
  original_bytes: number;
  direction: number;
}

export function parse(view: DataView, at: number, end: number, out: Block): void {
  out.length = 0;
  if (end - at < 12) return;
  const length = view.getUint32(at + 4, true);
  if (length < 12 || (length & 3) !== 0 || length > end - at) return;
  if (view.getUint32(at + length - 4, true) !== length) return;
  out.type = view.getUint32(at, true);
  if (out.type === ENHANCED_PACKET) {
    if (length < ENHANCED_PACKET_DATA + 4) return;
    out.interfaceId = view.getUint32(at + 8, true);
    out.time_us = view.getUint32(at + 12, true) * 0x1_0000_0000 + view.getUint32(at + 16, true);
    out.captured_bytes = view.getUint32(at + 20, true);
    out.original_bytes = view.getUint32(at + 24, true);
    const options = ENHANCED_PACKET_DATA + padded(out.captured_bytes);
    if (out.captured_bytes > length || options + 4 > length) return;
    out.direction =
      options + 12 <= length && view.getUint16(at + options, true) === OPTION_EPB_FLAGS
        ? view.getUint32(at + options + 4, true) & 3
        : 0;
  }
  out.length = length;
}
