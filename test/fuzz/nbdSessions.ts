/** What NBD clients send, whole sessions of it: the material of the nbd targets. */
import * as wire from '../../storage/nbd/wire.js';

const { NBD_OPT } = wire;

export const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

function flags(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}

export function option(number: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const out = new Uint8Array(wire.OPTION_HEADER_BYTES + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, wire.IHAVEOPT_HIGH);
  view.setUint32(4, wire.IHAVEOPT_LOW);
  view.setUint32(8, number);
  view.setUint32(12, data.length);
  out.set(data, wire.OPTION_HEADER_BYTES);
  return out;
}

let cookie = 0;

export function request(
  type: number,
  offset: number,
  length: number,
  commandFlags = 0,
  payload = 0,
): Uint8Array {
  const out = new Uint8Array(wire.REQUEST_BYTES + payload).fill(0x5a);
  const record = {
    flags: commandFlags,
    type,
    cookieHigh: 7,
    cookieLow: ++cookie,
    offset: BigInt(offset),
    length,
  };
  wire.emitRequest(new DataView(out.buffer), 0, record);
  return out;
}

/** The same by extended headers: a payload says so by its flag. */
export function extendedRequest(
  type: number,
  offset: number,
  length: number,
  commandFlags = 0,
  payload?: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(wire.EXTENDED_REQUEST_BYTES);
  const record = {
    flags: commandFlags | (payload === undefined ? 0 : wire.NBD_CMD_FLAG_PAYLOAD_LEN),
    type,
    cookieHigh: 7,
    cookieLow: ++cookie,
    offset: BigInt(offset),
    length: BigInt(payload?.length ?? length),
  };
  wire.emitExtendedRequest(new DataView(header.buffer), 0, record);
  return payload === undefined ? header : join(header, payload);
}

/** Payload of NBD_CMD_BLOCK_STATUS. */
function namedContexts(length: number, ids: readonly number[]): Uint8Array {
  const out = new Uint8Array(8 + 4 * ids.length);
  const view = new DataView(out.buffer);
  wire.putOffset(view, 0, length);
  ids.forEach((id, i) => view.setUint32(8 + 4 * i, id));
  return out;
}

const write = (offset: number, length: number, commandFlags = 0) =>
  request(wire.NBD_CMD_WRITE, offset, length, commandFlags, length);

export const FIXED = flags(wire.NBD_FLAG_C_FIXED_NEWSTYLE | wire.NBD_FLAG_C_NO_ZEROES);
const STRUCTURED = option(NBD_OPT.STRUCTURED_REPLY);
const CONTEXT = option(NBD_OPT.SET_META_CONTEXT, wire.emitMetaContext('disk', ['base:allocation']));
const EXTENDED = option(NBD_OPT.EXTENDED_HEADERS);
const CONTEXTS = option(
  NBD_OPT.SET_META_CONTEXT,
  wire.emitMetaContext('disk', ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:s']),
);
const GO = option(NBD_OPT.GO, wire.emitGo('disk', [wire.NBD_INFO.BLOCK_SIZE]));
const EXPORT_NAME = option(NBD_OPT.EXPORT_NAME, wire.utf8('disk'));

const REQUESTS = [
  write(0, 4096),
  request(wire.NBD_CMD_READ, 0, 8192),
  write(5000, 100, wire.NBD_CMD_FLAG_FUA),
  request(wire.NBD_CMD_BLOCK_STATUS, 0, 65_536),
  request(wire.NBD_CMD_WRITE_ZEROES, 0, 4096, wire.NBD_CMD_FLAG_NO_HOLE),
  request(wire.NBD_CMD_TRIM, 4096, 4096),
  request(wire.NBD_CMD_CACHE, 0, 4096),
  request(wire.NBD_CMD_READ, 1 << 20, 1),
  request(wire.NBD_CMD_FLUSH, 0, 0),
];
const DISC = request(wire.NBD_CMD_DISC, 0, 0);

const EXTENDED_REQUESTS = [
  extendedRequest(wire.NBD_CMD_WRITE, 0, 0, 0, new Uint8Array(8192).fill(0x5a)),
  extendedRequest(wire.NBD_CMD_READ, 0, 131_072),
  extendedRequest(wire.NBD_CMD_READ, 0, 600_000, wire.NBD_CMD_FLAG_DF),
  extendedRequest(wire.NBD_CMD_BLOCK_STATUS, 0, 1 << 20),
  extendedRequest(wire.NBD_CMD_BLOCK_STATUS, 0, 0, 0, namedContexts(65_536, [1, 4])),
  extendedRequest(wire.NBD_CMD_BLOCK_STATUS, 0, 0, wire.NBD_CMD_FLAG_REQ_ONE, namedContexts(65_536, [2])),
  extendedRequest(wire.NBD_CMD_WRITE_ZEROES, 4096, 8192, wire.NBD_CMD_FLAG_FAST_ZERO),
  extendedRequest(wire.NBD_CMD_TRIM, 0, 1 << 20, wire.NBD_CMD_FLAG_FUA),
  extendedRequest(wire.NBD_CMD_TRIM, 0, 2 ** 40),
  extendedRequest(wire.NBD_CMD_TRIM, 0, 0, 0, new Uint8Array(100)),
  extendedRequest(wire.NBD_CMD_CACHE, 0, 65_536),
  extendedRequest(wire.NBD_CMD_READ, 0, 600_000),
  extendedRequest(wire.NBD_CMD_FLUSH, 0, 0),
];
const EXTENDED_DISC = extendedRequest(wire.NBD_CMD_DISC, 0, 0);

export const SESSIONS: readonly Uint8Array[] = [
  join(FIXED, STRUCTURED, CONTEXT, GO, ...REQUESTS, DISC),
  join(FIXED, GO, ...REQUESTS, ...REQUESTS),
  join(flags(wire.NBD_FLAG_C_FIXED_NEWSTYLE), EXPORT_NAME, ...REQUESTS),
  // Longer than what is gathered before it is written: applied as it comes.
  join(FIXED, STRUCTURED, GO, request(wire.NBD_CMD_WRITE, 4096, 300_000), new Uint8Array(60_000)),
  join(FIXED, STRUCTURED, GO, request(wire.NBD_CMD_READ, 0, 600_000), DISC),
  join(FIXED, STRUCTURED, CONTEXTS, GO, ...REQUESTS, DISC),
  join(FIXED, EXTENDED, CONTEXTS, GO, ...EXTENDED_REQUESTS, EXTENDED_DISC),
  join(FIXED, EXTENDED, GO, ...EXTENDED_REQUESTS),
];

/** Longer than what is gathered before it is answered: applied or read past as it comes. */
export const LONG_SESSIONS: readonly Uint8Array[] = [
  join(FIXED, EXTENDED, CONTEXTS, GO, extendedRequest(wire.NBD_CMD_CACHE, 0, 0, 0, new Uint8Array(270_000))),
  join(FIXED, EXTENDED, GO, extendedRequest(wire.NBD_CMD_WRITE, 4096, 0, 0, new Uint8Array(300_000))),
  join(FIXED, option(NBD_OPT.LIST, new Uint8Array(65_537)), EXTENDED, STRUCTURED, GO, EXTENDED_DISC),
];
