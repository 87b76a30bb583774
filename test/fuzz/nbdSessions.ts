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

const write = (offset: number, length: number, commandFlags = 0) =>
  request(wire.NBD_CMD_WRITE, offset, length, commandFlags, length);

export const FIXED = flags(wire.NBD_FLAG_C_FIXED_NEWSTYLE | wire.NBD_FLAG_C_NO_ZEROES);
const STRUCTURED = option(NBD_OPT.STRUCTURED_REPLY);
const CONTEXT = option(NBD_OPT.SET_META_CONTEXT, wire.emitMetaContext('disk', ['base:allocation']));
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

export const SESSIONS: readonly Uint8Array[] = [
  join(FIXED, STRUCTURED, CONTEXT, GO, ...REQUESTS, DISC),
  join(FIXED, GO, ...REQUESTS, ...REQUESTS),
  join(flags(wire.NBD_FLAG_C_FIXED_NEWSTYLE), EXPORT_NAME, ...REQUESTS),
  // Longer than what is gathered before it is written: applied as it comes.
  join(FIXED, STRUCTURED, GO, request(wire.NBD_CMD_WRITE, 4096, 300_000), new Uint8Array(60_000)),
  join(FIXED, STRUCTURED, GO, request(wire.NBD_CMD_READ, 0, 600_000), DISC),
];
