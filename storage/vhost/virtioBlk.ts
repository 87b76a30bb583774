/**
 * The block device of virtio (virtio 1.2, 5.2): bits, codes, and the layout of its configuration. Little-endian.
 *
 *   request   type u32, reserved u32, sector u64 | data to be written | … | data that is read | status u8
 *   segment   sector u64, number of sectors u32, flags u32              of DISCARD and WRITE_ZEROES, in place of data
 */

// Specification constants.
export const SECTOR_BYTES = 512;
export const HEADER_LENGTH = 16;
export const SEGMENT_LENGTH = 16;
/** Of VIRTIO_BLK_T_GET_ID; shorter ones end in zeroes. */
export const ID_LENGTH = 20;

/** 5.2.3. Bit numbers. */
export const F = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;

/** 5.2.6 */
export const T = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  WRITE_ZEROES: 13,
} as const;

export const S = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

export const SEGMENT_F_UNMAP = 1;

/** 5.2.4: struct virtio_blk_config, up to where version 1.2 ends. */
export const CONFIG_LENGTH = 72;

export interface Shape {
  readonly size_bytes: number;
  readonly block_bytes: number;
  readonly queues: number;
}

// Our constants.
/** Of a descriptor, and how many of them in a request: as many as a ring of 128 has, less header and status. */
export const SIZE_MAX_BYTES = 1024 * 1024;
export const SEG_MAX = 126;
/** Of one segment: 1 GiB. It is done in slices. */
export const SEGMENT_MAX_SECTORS = 2_097_152;
export const SEGMENTS_MAX = 16;
/** What layers are made of. */
const PHYSICAL_BLOCK_BYTES = 4096;

/** The last sector may be a part: it is not told. With blocks of 4096 bytes, the last block likewise. */
export function capacity_sectors({
  size_bytes,
  block_bytes,
}: Pick<Shape, 'size_bytes' | 'block_bytes'>): number {
  return Math.floor(size_bytes / block_bytes) * (block_bytes / SECTOR_BYTES);
}

export function emitConfig(view: DataView, at: number, shape: Shape): number {
  for (let i = 0; i < CONFIG_LENGTH; i++) view.setUint8(at + i, 0);
  const capacity = capacity_sectors(shape);
  view.setUint32(at, capacity >>> 0, true);
  view.setUint32(at + 4, Math.floor(capacity / 2 ** 32), true);
  view.setUint32(at + 8, SIZE_MAX_BYTES, true);
  view.setUint32(at + 12, SEG_MAX, true);
  // 16: geometry, which nobody needs
  view.setUint32(at + 20, shape.block_bytes, true);
  // Topology: the exponent of a physical block, in logical ones; at + 25 alignment_offset.
  view.setUint8(at + 24, Math.log2(PHYSICAL_BLOCK_BYTES / shape.block_bytes));
  view.setUint16(at + 26, PHYSICAL_BLOCK_BYTES / shape.block_bytes, true);
  // 28: opt_io_size
  // 32: writeback, of CONFIG_WCE
  view.setUint16(at + 34, shape.queues, true);
  view.setUint32(at + 36, SEGMENT_MAX_SECTORS, true);
  view.setUint32(at + 40, SEGMENTS_MAX, true);
  view.setUint32(at + 44, PHYSICAL_BLOCK_BYTES / SECTOR_BYTES, true);
  view.setUint32(at + 48, SEGMENT_MAX_SECTORS, true);
  view.setUint32(at + 52, SEGMENTS_MAX, true);
  // write_zeroes_may_unmap
  view.setUint8(at + 56, 1);
  return CONFIG_LENGTH;
}
