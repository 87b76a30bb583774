/**
 * The NBD protocol's layout and constants, and nothing else: no state, no I/O, no decisions.
 *
 * Names and numbers are those of the protocol's specification (doc/proto.md of the NetworkBlockDevice/nbd
 * project; of extended headers: its branch extension-ext-header). Everything on the wire is big-endian. Two levels, as in the dataplane's wire/: accessors at fixed
 * offsets for the transmission phase, which is hot (no object per request), and small readers and writers for the
 * handshake, which is not.
 *
 * 64-bit fields: a cookie is two 32-bit halves and never interpreted; an offset is two halves too, and becomes a
 * number only below 2^53 (`request.offset`), which is far beyond the largest volume.
 *
 *   request          0 magic(4) 4 flags(2) 6 type(2) 8 cookie(8) 16 offset(8) 24 length(4)           28 bytes
 *   simple reply     0 magic(4) 4 error(4) 8 cookie(8)                                               16 bytes
 *   structured chunk 0 magic(4) 4 flags(2) 6 type(2) 8 cookie(8) 16 length(4)                        20 bytes
 *   extended request 0 magic(4) 4 flags(2) 6 type(2) 8 cookie(8) 16 offset(8) 24 length(8)           32 bytes
 *   extended chunk   0 magic(4) 4 flags(2) 6 type(2) 8 cookie(8) 16 offset(8) 24 length(8)           32 bytes
 *   option           0 IHAVEOPT(8) 8 option(4) 12 length(4)                                          16 bytes
 *   option reply     0 magic(8) 8 option(4) 12 type(4) 16 length(4)                                  20 bytes
 */

// ---- specification constants ----

/** "NBDMAGIC", "IHAVEOPT" and the option reply's magic, as 32-bit halves. */
export const NBDMAGIC_HIGH = 0x4e42444d;
export const NBDMAGIC_LOW = 0x41474943;
export const IHAVEOPT_HIGH = 0x49484156;
export const IHAVEOPT_LOW = 0x454f5054;
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;

export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Handshake flags, and the client's answer to them. */
export const NBD_FLAG_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_NO_ZEROES = 1 << 1;
export const NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_C_NO_ZEROES = 1 << 1;

/** Transmission flags. */
export const NBD_FLAG_HAS_FLAGS = 1 << 0;
export const NBD_FLAG_READ_ONLY = 1 << 1;
export const NBD_FLAG_SEND_FLUSH = 1 << 2;
export const NBD_FLAG_SEND_FUA = 1 << 3;
export const NBD_FLAG_ROTATIONAL = 1 << 4;
export const NBD_FLAG_SEND_TRIM = 1 << 5;
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
export const NBD_FLAG_SEND_DF = 1 << 7;
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8;
export const NBD_FLAG_SEND_RESIZE = 1 << 9;
export const NBD_FLAG_SEND_CACHE = 1 << 10;
export const NBD_FLAG_SEND_FAST_ZERO = 1 << 11;
export const NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12;

export const NBD_OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

export const NBD_REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_INVALID: 0x80000003,
  ERR_PLATFORM: 0x80000004,
  ERR_TLS_REQD: 0x80000005,
  ERR_UNKNOWN: 0x80000006,
  ERR_SHUTDOWN: 0x80000007,
  ERR_BLOCK_SIZE_REQD: 0x80000008,
  ERR_TOO_BIG: 0x80000009,
  ERR_EXT_HEADER_REQD: 0x8000000a,
} as const;

export const NBD_INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_CACHE = 5;
export const NBD_CMD_WRITE_ZEROES = 6;
export const NBD_CMD_BLOCK_STATUS = 7;
export const NBD_CMD_RESIZE = 8;

export const NBD_CMD_FLAG_FUA = 1 << 0;
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1;
export const NBD_CMD_FLAG_DF = 1 << 2;
export const NBD_CMD_FLAG_REQ_ONE = 1 << 3;
export const NBD_CMD_FLAG_FAST_ZERO = 1 << 4;
export const NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5;

export const NBD_REPLY_FLAG_DONE = 1 << 0;
export const NBD_REPLY_TYPE_NONE = 0;
export const NBD_REPLY_TYPE_OFFSET_DATA = 1;
export const NBD_REPLY_TYPE_OFFSET_HOLE = 2;
export const NBD_REPLY_TYPE_BLOCK_STATUS = 5;
export const NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6;
export const NBD_REPLY_TYPE_ERROR = 0x8001;
export const NBD_REPLY_TYPE_ERROR_OFFSET = 0x8002;

export const NBD_STATE_HOLE = 1 << 0;
export const NBD_STATE_ZERO = 1 << 1;

/** The only values that the error field of a reply may have. */
export const NBD_EPERM = 1;
export const NBD_EIO = 5;
export const NBD_ENOMEM = 12;
export const NBD_EINVAL = 22;
export const NBD_ENOSPC = 28;
export const NBD_EOVERFLOW = 75;
export const NBD_ENOTSUP = 95;
export const NBD_ESHUTDOWN = 108;

/** The longest string (export name, message) that may be sent. */
export const STRING_LIMIT_BYTES = 4096;
export const META_CONTEXT_BASE_ALLOCATION = 'base:allocation';

// ---- transmission: accessors ----

export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
export const EXTENDED_REQUEST_BYTES = 32;
export const EXTENDED_CHUNK_HEADER_BYTES = 32;
/** What stands in an OFFSET_DATA chunk before its data, and in an OFFSET_HOLE chunk. */
export const DATA_DETAIL_BYTES = 8;
export const HOLE_DETAIL_BYTES = 12;
/** Of a BLOCK_STATUS chunk: before its descriptors, and one of them. */
export const STATUS_DETAIL_BYTES = 4;
export const STATUS_DESCRIPTOR_BYTES = 8;
export const EXTENDED_STATUS_DETAIL_BYTES = 8;
export const EXTENDED_STATUS_DESCRIPTOR_BYTES = 16;
/** Of an ERROR chunk before its message; an ERROR_OFFSET chunk has the offset behind it. */
export const ERROR_DETAIL_BYTES = 6;

const TWO_32 = 0x1_0000_0000;

export const request = {
  magic: (v: DataView, at: number): number => v.getUint32(at),
  flags: (v: DataView, at: number): number => v.getUint16(at + 4),
  type: (v: DataView, at: number): number => v.getUint16(at + 6),
  cookieHigh: (v: DataView, at: number): number => v.getInt32(at + 8),
  cookieLow: (v: DataView, at: number): number => v.getInt32(at + 12),
  /** Infinity at 2^53 and above: beyond every volume, and not a wrong number. */
  offset: (v: DataView, at: number): number => number64(v, at + 16),
  length: (v: DataView, at: number): number => v.getUint32(at + 24),
  /** Of an extended request, which is otherwise the same. Infinity as for an offset. */
  length64: (v: DataView, at: number): number => number64(v, at + 24),
} as const;

/** 64 bits as a number; Infinity at 2^53 and above. */
export function number64(v: DataView, at: number): number {
  const high = v.getUint32(at);
  return high < 0x20_0000 ? high * TWO_32 + v.getUint32(at + 4) : Infinity;
}

/** For tests and clients. */
export interface RequestRecord {
  flags: number;
  type: number;
  cookieHigh: number;
  cookieLow: number;
  offset: bigint;
  length: number;
}

export function emitRequest(v: DataView, at: number, r: RequestRecord): number {
  v.setUint32(at, NBD_REQUEST_MAGIC);
  v.setUint16(at + 4, r.flags);
  v.setUint16(at + 6, r.type);
  v.setInt32(at + 8, r.cookieHigh);
  v.setInt32(at + 12, r.cookieLow);
  v.setBigUint64(at + 16, r.offset);
  v.setUint32(at + 24, r.length);
  return REQUEST_BYTES;
}

/** As emitRequest, with a length of 64 bits. */
export function emitExtendedRequest(
  v: DataView,
  at: number,
  r: Omit<RequestRecord, 'length'> & { length: bigint },
): number {
  v.setUint32(at, NBD_EXTENDED_REQUEST_MAGIC);
  v.setUint16(at + 4, r.flags);
  v.setUint16(at + 6, r.type);
  v.setInt32(at + 8, r.cookieHigh);
  v.setInt32(at + 12, r.cookieLow);
  v.setBigUint64(at + 16, r.offset);
  v.setBigUint64(at + 24, r.length);
  return EXTENDED_REQUEST_BYTES;
}

export function emitSimpleReply(
  v: DataView,
  at: number,
  error: number,
  cookieHigh: number,
  cookieLow: number,
): number {
  v.setUint32(at, NBD_SIMPLE_REPLY_MAGIC);
  v.setUint32(at + 4, error);
  v.setInt32(at + 8, cookieHigh);
  v.setInt32(at + 12, cookieLow);
  return SIMPLE_REPLY_BYTES;
}

function beginChunk(
  v: DataView,
  at: number,
  magic: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
): void {
  v.setUint32(at, magic);
  v.setUint16(at + 4, flags);
  v.setUint16(at + 6, type);
  v.setInt32(at + 8, cookieHigh);
  v.setInt32(at + 12, cookieLow);
}

/** Structured reply chunk header; `length` is that of the payload behind it. */
export function emitChunk(
  v: DataView,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  length: number,
): number {
  beginChunk(v, at, NBD_STRUCTURED_REPLY_MAGIC, flags, type, cookieHigh, cookieLow);
  v.setUint32(at + 16, length);
  return CHUNK_HEADER_BYTES;
}

/** Extended reply chunk header; `offset` is that of the request, in the same halves as the cookie. */
export function emitExtendedChunk(
  v: DataView,
  at: number,
  flags: number,
  type: number,
  cookieHigh: number,
  cookieLow: number,
  offsetHigh: number,
  offsetLow: number,
  length: number,
): number {
  beginChunk(v, at, NBD_EXTENDED_REPLY_MAGIC, flags, type, cookieHigh, cookieLow);
  v.setInt32(at + 16, offsetHigh);
  v.setInt32(at + 20, offsetLow);
  putOffset(v, at + 24, length);
  return EXTENDED_CHUNK_HEADER_BYTES;
}

/** A 64-bit number below 2^53 at any place. */
export function putOffset(v: DataView, at: number, value: number): void {
  v.setUint32(at, Math.floor(value / TWO_32));
  v.setUint32(at + 4, value % TWO_32);
}

// ---- handshake: readers and writers ----

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const EXPORT_NAME_ZEROES_BYTES = 124;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** null where the bytes are no UTF-8, hold a NUL, or are too long for a string of this protocol. */
export function textOf(bytes: Uint8Array): string | null {
  if (bytes.length > STRING_LIMIT_BYTES || bytes.includes(0)) return null;
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** What the server says first. */
export function greeting(): Uint8Array {
  const out = new Uint8Array(18);
  const v = new DataView(out.buffer);
  v.setUint32(0, NBDMAGIC_HIGH);
  v.setUint32(4, NBDMAGIC_LOW);
  v.setUint32(8, IHAVEOPT_HIGH);
  v.setUint32(12, IHAVEOPT_LOW);
  v.setUint16(16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
  return out;
}

export function optionReply(option: number, type: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const out = new Uint8Array(OPTION_REPLY_HEADER_BYTES + data.length);
  const v = new DataView(out.buffer);
  v.setUint32(0, OPTION_REPLY_MAGIC_HIGH);
  v.setUint32(4, OPTION_REPLY_MAGIC_LOW);
  v.setUint32(8, option);
  v.setUint32(12, type);
  v.setUint32(16, data.length);
  out.set(data, OPTION_REPLY_HEADER_BYTES);
  return out;
}

/** Answer to NBD_OPT_EXPORT_NAME, which is no option reply. */
export function exportNameReply(size_bytes: number, transmissionFlags: number, zeroes: boolean): Uint8Array {
  const out = new Uint8Array(10 + (zeroes ? EXPORT_NAME_ZEROES_BYTES : 0));
  const v = new DataView(out.buffer);
  putOffset(v, 0, size_bytes);
  v.setUint16(8, transmissionFlags);
  return out;
}

/** Data of NBD_REP_SERVER: the name with its length before it, and words for people behind. */
export function serverRecord(name: string, description = ''): Uint8Array {
  const text = utf8(name);
  const words = utf8(description);
  const out = new Uint8Array(4 + text.length + words.length);
  new DataView(out.buffer).setUint32(0, text.length);
  out.set(text, 4);
  out.set(words, 4 + text.length);
  return out;
}

/** Data of NBD_REP_META_CONTEXT. */
export function metaContextRecord(id: number, name: string): Uint8Array {
  const text = utf8(name);
  const out = new Uint8Array(4 + text.length);
  new DataView(out.buffer).setUint32(0, id);
  out.set(text, 4);
  return out;
}

/** Data of NBD_REP_INFO of type NBD_INFO_EXPORT. */
export function infoExport(size_bytes: number, transmissionFlags: number): Uint8Array {
  const out = new Uint8Array(12);
  const v = new DataView(out.buffer);
  v.setUint16(0, NBD_INFO.EXPORT);
  putOffset(v, 2, size_bytes);
  v.setUint16(10, transmissionFlags);
  return out;
}

/** Data of NBD_REP_INFO of type NBD_INFO_NAME or NBD_INFO_DESCRIPTION. */
export function infoText(type: number, text: string): Uint8Array {
  const bytes = utf8(text);
  const out = new Uint8Array(2 + bytes.length);
  new DataView(out.buffer).setUint16(0, type);
  out.set(bytes, 2);
  return out;
}

/** Data of NBD_REP_INFO of type NBD_INFO_BLOCK_SIZE. */
export function infoBlockSize(minimum: number, preferred: number, maximum: number): Uint8Array {
  const out = new Uint8Array(14);
  const v = new DataView(out.buffer);
  v.setUint16(0, NBD_INFO.BLOCK_SIZE);
  v.setUint32(2, minimum);
  v.setUint32(6, preferred);
  v.setUint32(10, maximum);
  return out;
}

/** Data of NBD_OPT_INFO and NBD_OPT_GO; null where it is malformed. */
export function parseGo(data: Uint8Array): { name: string; infos: number[] } | null {
  if (data.length < 6) return null;
  const v = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nameLength = v.getUint32(0);
  if (nameLength > data.length - 6) return null;
  const name = textOf(data.subarray(4, 4 + nameLength));
  const count = v.getUint16(4 + nameLength);
  if (name === null || data.length !== 6 + nameLength + 2 * count) return null;
  const infos: number[] = [];
  for (let i = 0; i < count; i++) infos.push(v.getUint16(6 + nameLength + 2 * i));
  return { name, infos };
}

export function emitGo(name: string, infos: readonly number[]): Uint8Array {
  const text = utf8(name);
  const out = new Uint8Array(6 + text.length + 2 * infos.length);
  const v = new DataView(out.buffer);
  v.setUint32(0, text.length);
  out.set(text, 4);
  v.setUint16(4 + text.length, infos.length);
  infos.forEach((info, i) => v.setUint16(6 + text.length + 2 * i, info));
  return out;
}

/** Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT; null where it is malformed. */
export function parseMetaContext(data: Uint8Array): { name: string; queries: string[] } | null {
  if (data.length < 8) return null;
  const v = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nameLength = v.getUint32(0);
  if (nameLength > data.length - 8) return null;
  const name = textOf(data.subarray(4, 4 + nameLength));
  const count = v.getUint32(4 + nameLength);
  let at = 8 + nameLength;
  // Each query takes 4 bytes at least, so the data bound the count.
  if (name === null || count > (data.length - at) / 4) return null;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    if (data.length - at < 4) return null;
    const length = v.getUint32(at);
    at += 4;
    if (length > data.length - at) return null;
    const query = textOf(data.subarray(at, at + length));
    if (query === null) return null;
    queries.push(query);
    at += length;
  }
  return at === data.length ? { name, queries } : null;
}

export function emitMetaContext(name: string, queries: readonly string[]): Uint8Array {
  const parts = queries.map(utf8);
  const text = utf8(name);
  const out = new Uint8Array(8 + text.length + parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const v = new DataView(out.buffer);
  v.setUint32(0, text.length);
  out.set(text, 4);
  v.setUint32(4 + text.length, parts.length);
  let at = 8 + text.length;
  for (const part of parts) {
    v.setUint32(at, part.length);
    out.set(part, at + 4);
    at += 4 + part.length;
  }
  return out;
}
