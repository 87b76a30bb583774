/**
 * Messages of vhost-user, the back-end's side (QEMU docs/interop/vhost-user.rst). Little-endian.
 *
 *   0         4       8        12
 *   +---------+-------+--------+------------
 *   | request | flags | size   | payload …          fds travel beside the first byte
 *   +---------+-------+--------+------------
 *
 *   u64            value
 *   vring state    index u32, num u32
 *   vring address  index u32, flags u32, descriptors u64, used u64, available u64, log u64
 *   configuration  offset u32, size u32, flags u32, bytes[size]
 *   in flight      mmap size u64, mmap offset u64, queues u16, queue size u16
 *   memory table   count u32, padding u32, regions: guest address u64, size u64, user address u64, mmap offset u64
 *
 * Feature words are bigints: they are read once per connection. Addresses and sizes come as numbers; those beyond
 * 2^53 come as NaN, which fits in no range.
 */

// Specification constants.
export const HEADER_LENGTH = 12;
export const VERSION = 1;
export const FLAG_VERSION_MASK = 3;
export const FLAG_REPLY = 4;
export const FLAG_NEED_REPLY = 8;

export const REQUEST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  RESET_DEVICE: 34,
  SET_STATUS: 39,
  GET_STATUS: 40,
} as const;

/** What a back-end asks of the front-end, on the socket of SET_BACKEND_REQ_FD. */
export const BACKEND_REQUEST = { CONFIG_CHANGE_MSG: 2 } as const;

const NAMES = new Map<number, string>(Object.entries(REQUEST).map(([name, id]) => [id, name]));
export function requestName(request: number): string {
  return NAMES.get(request) ?? `request ${request}`;
}

/** Bit numbers of the protocol's own features. */
export const PROTOCOL = {
  MQ: 0,
  REPLY_ACK: 3,
  NET_MTU: 4,
  BACKEND_REQ: 5,
  CONFIG: 9,
  INFLIGHT_SHMFD: 12,
  STATUS: 16,
} as const;

/** Bit numbers of virtio features (virtio 1.2 6, and 5.1.3 of network cards; 30 is vhost-user's own). */
export const FEATURE = {
  CSUM: 0,
  GUEST_CSUM: 1,
  MTU: 3,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  MRG_RXBUF: 15,
  MQ: 22,
  ANY_LAYOUT: 27,
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  PROTOCOL_FEATURES: 30,
  VERSION_1: 32,
  GUEST_USO4: 54,
  GUEST_USO6: 55,
  HOST_USO: 56,
} as const;

export const VRING_INDEX_MASK = 0xff;
/** In the u64 of KICK, CALL and ERR: no fd comes with it. */
export const VRING_NO_FD = 0x100;

export const REGIONS_MAX_COUNT = 8;
const REGION_LENGTH = 32;
const MEM_TABLE_LENGTH = 8;
const VRING_STATE_LENGTH = 8;
const VRING_ADDRESS_LENGTH = 40;
const U64_LENGTH = 8;

const CONFIG_HEADER_LENGTH = 12;
/** Of a device's configuration; in requests and replies. */
export const CONFIG_MAX_BYTES = 256;
const INFLIGHT_LENGTH = 20;
/** QEMU sends the structure as its compiler has it, which ends on a multiple of eight. */
const INFLIGHT_PADDED_LENGTH = 24;

/** The longest payload of any request that we know. */
export const PAYLOAD_MAX_BYTES = Math.max(
  MEM_TABLE_LENGTH + REGIONS_MAX_COUNT * REGION_LENGTH,
  CONFIG_HEADER_LENGTH + CONFIG_MAX_BYTES,
);

export interface Header {
  request: number;
  flags: number;
  size: number;
}

export function parseHeader(view: DataView, at: number, out: Header): void {
  out.request = view.getUint32(at, true);
  out.flags = view.getUint32(at + 4, true);
  out.size = view.getUint32(at + 8, true);
}

export function emitHeader(view: DataView, at: number, header: Header): number {
  view.setUint32(at, header.request, true);
  view.setUint32(at + 4, header.flags, true);
  view.setUint32(at + 8, header.size, true);
  return HEADER_LENGTH;
}

/** What is wrong with a header of a request; undefined: nothing. */
export function headerProblem(header: Header): string | undefined {
  if ((header.flags & FLAG_VERSION_MASK) !== VERSION) return `version ${header.flags & FLAG_VERSION_MASK}`;
  if ((header.flags & FLAG_REPLY) !== 0) return 'a reply, though nothing was asked';
  if (header.size > PAYLOAD_MAX_BYTES) return `${header.size} bytes of payload`;
  return undefined;
}

function number64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high >= 2 ** 21 ? NaN : high * 2 ** 32 + view.getUint32(at, true);
}

function setNumber64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** Each parser answers undefined when the payload is not as long as it must be. */
export function parseU64(view: DataView, at: number, end: number): bigint | undefined {
  return end - at === U64_LENGTH ? view.getBigUint64(at, true) : undefined;
}

export function emitU64(view: DataView, at: number, value: bigint): number {
  view.setBigUint64(at, value, true);
  return U64_LENGTH;
}

export interface VringState {
  index: number;
  num: number;
}

export function parseVringState(view: DataView, at: number, end: number): VringState | undefined {
  if (end - at !== VRING_STATE_LENGTH) return undefined;
  return { index: view.getUint32(at, true), num: view.getUint32(at + 4, true) };
}

export function emitVringState(view: DataView, at: number, state: VringState): number {
  view.setUint32(at, state.index, true);
  view.setUint32(at + 4, state.num, true);
  return VRING_STATE_LENGTH;
}

export interface VringAddress {
  index: number;
  flags: number;
  descriptors: number;
  used: number;
  available: number;
}

export function parseVringAddress(view: DataView, at: number, end: number): VringAddress | undefined {
  if (end - at !== VRING_ADDRESS_LENGTH) return undefined;
  return {
    index: view.getUint32(at, true),
    flags: view.getUint32(at + 4, true),
    descriptors: number64(view, at + 8),
    used: number64(view, at + 16),
    available: number64(view, at + 24),
  };
}

export function emitVringAddress(view: DataView, at: number, address: VringAddress): number {
  view.setUint32(at, address.index, true);
  view.setUint32(at + 4, address.flags, true);
  setNumber64(view, at + 8, address.descriptors);
  setNumber64(view, at + 16, address.used);
  setNumber64(view, at + 24, address.available);
  setNumber64(view, at + 32, 0);
  return VRING_ADDRESS_LENGTH;
}

export interface Region {
  guestAddress: number;
  size_bytes: number;
  userAddress: number;
  mmapOffset_bytes: number;
}

export function parseMemTable(view: DataView, at: number, end: number): Region[] | undefined {
  if (end - at < MEM_TABLE_LENGTH) return undefined;
  const count = view.getUint32(at, true);
  // QEMU sends room for all eight whatever it uses.
  if (count > REGIONS_MAX_COUNT || end - at < MEM_TABLE_LENGTH + count * REGION_LENGTH) return undefined;
  const regions: Region[] = [];
  for (let i = 0; i < count; i++) {
    const from = at + MEM_TABLE_LENGTH + i * REGION_LENGTH;
    regions.push({
      guestAddress: number64(view, from),
      size_bytes: number64(view, from + 8),
      userAddress: number64(view, from + 16),
      mmapOffset_bytes: number64(view, from + 24),
    });
  }
  return regions;
}

export function emitMemTable(view: DataView, at: number, regions: readonly Region[]): number {
  view.setUint32(at, regions.length, true);
  view.setUint32(at + 4, 0, true);
  for (const [i, region] of regions.entries()) {
    const from = at + MEM_TABLE_LENGTH + i * REGION_LENGTH;
    setNumber64(view, from, region.guestAddress);
    setNumber64(view, from + 8, region.size_bytes);
    setNumber64(view, from + 16, region.userAddress);
    setNumber64(view, from + 24, region.mmapOffset_bytes);
  }
  return MEM_TABLE_LENGTH + regions.length * REGION_LENGTH;
}

/** A part of a device's configuration; its bytes lie at `payloadAt`. */
export interface Config {
  offset_bytes: number;
  size_bytes: number;
  flags: number;
  payloadAt: number;
}

/** Also undefined when it reaches beyond CONFIG_MAX_BYTES. */
export function parseConfig(view: DataView, at: number, end: number): Config | undefined {
  if (end - at < CONFIG_HEADER_LENGTH) return undefined;
  const offset_bytes = view.getUint32(at, true);
  const size_bytes = view.getUint32(at + 4, true);
  if (size_bytes !== end - at - CONFIG_HEADER_LENGTH || offset_bytes + size_bytes > CONFIG_MAX_BYTES)
    return undefined;
  const flags = view.getUint32(at + 8, true);
  return { offset_bytes, size_bytes, flags, payloadAt: at + CONFIG_HEADER_LENGTH };
}

export function emitConfig(
  view: DataView,
  at: number,
  offset_bytes: number,
  bytes: Uint8Array,
  flags = 0,
): number {
  view.setUint32(at, offset_bytes, true);
  view.setUint32(at + 4, bytes.length, true);
  view.setUint32(at + 8, flags, true);
  for (let i = 0; i < bytes.length; i++) view.setUint8(at + CONFIG_HEADER_LENGTH + i, bytes[i]!);
  return CONFIG_HEADER_LENGTH + bytes.length;
}

/** The memory in which requests under way are noted, and of how many queues. */
export interface Inflight {
  mmapSize_bytes: number;
  mmapOffset_bytes: number;
  queues: number;
  queueSize: number;
}

export function parseInflight(view: DataView, at: number, end: number): Inflight | undefined {
  if (end - at !== INFLIGHT_LENGTH && end - at !== INFLIGHT_PADDED_LENGTH) return undefined;
  return {
    mmapSize_bytes: number64(view, at),
    mmapOffset_bytes: number64(view, at + 8),
    queues: view.getUint16(at + 16, true),
    queueSize: view.getUint16(at + 18, true),
  };
}

/** `length_bytes`: of the payload, with padding or without. */
export function emitInflight(
  view: DataView,
  at: number,
  inflight: Inflight,
  length_bytes = INFLIGHT_LENGTH,
): number {
  setNumber64(view, at, inflight.mmapSize_bytes);
  setNumber64(view, at + 8, inflight.mmapOffset_bytes);
  view.setUint16(at + 16, inflight.queues, true);
  view.setUint16(at + 18, inflight.queueSize, true);
  for (let i = INFLIGHT_LENGTH; i < length_bytes; i++) view.setUint8(at + i, 0);
  return length_bytes;
}
