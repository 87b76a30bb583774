/**
 * An NBD client for tests, with a server's Connection at the other end of a made-up socket: no kernel, no time.
 * The socket can be told to take or give only so many bytes at a time, or nothing, or to be gone.
 */
import { mapAnonymous, viewAt } from '../../../host/memory.js';
import { Budget, ChunkPool, type Chunk } from '../../../storage/nbd/chunks.js';
import { Connection, type ServedOffer } from '../../../storage/nbd/connection.js';
import {
  AT_EXPORT,
  AT_SERVER,
  EXPORT_COUNTERS,
  SERVER_COUNTERS,
  newCounters,
  type ExportCounter,
  type ServerCounter,
} from '../../../storage/nbd/counters.js';
import type { OfferList } from '../../../storage/nbd/negotiation.js';
import type { Channel } from '../../../storage/nbd/output.js';
import * as wire from '../../../storage/nbd/wire.js';
import type { Later } from '../../../storage/volume/later.js';
import type { Volume } from '../../../storage/volume/volume.js';

const EAGAIN = -11;
const EPIPE = -32;

class Wire implements Channel {
  toServer: Buffer = Buffer.alloc(0);
  fromServer: Buffer[] = [];
  clientClosed = false;
  /** Both directions are gone. */
  broken = false;
  /** Bytes that one recv gives, or one send takes, at most. */
  recvLimit: () => number = () => Infinity;
  sendLimit: () => number = () => Infinity;
  recvCount = 0;
  sendCount = 0;

  recv(address: number, length_bytes: number): number {
    this.recvCount++;
    const n = Math.min(length_bytes, this.toServer.length, Math.max(1, this.recvLimit()));
    if (n === 0) return this.clientClosed ? 0 : this.broken ? -104 : EAGAIN;
    viewAt(address, n).bytes.set(this.toServer.subarray(0, n));
    this.toServer = this.toServer.subarray(n);
    return n;
  }

  /** What sendFile reads from: by fd. Fewer bytes than asked for as sendLimit says; a missing file is an error. */
  files = new Map<number, Buffer>();

  sendFile(fileFd: number, offset_bytes: number, length_bytes: number): number {
    if (this.broken) return EPIPE;
    const file = this.files.get(fileFd);
    if (file === undefined) return -5;
    const n = Math.min(length_bytes, this.sendLimit(), 65_536);
    if (n === 0) return EAGAIN;
    this.fromServer.push(Buffer.from(file.subarray(offset_bytes, offset_bytes + n)));
    return n;
  }

  send(address: number, length_bytes: number): number {
    this.sendCount++;
    if (this.broken) return EPIPE;
    const n = Math.min(length_bytes, this.sendLimit());
    if (n === 0) return EAGAIN;
    this.fromServer.push(Buffer.from(viewAt(address, n).bytes));
    return n;
  }
}

export interface Reply {
  cookie: number;
  error: number;
  /** Of a read: its data. */
  data: Buffer;
  /** Of a block status: [length, flags]. */
  extents: [number, number][];
  structured: boolean;
}

export interface TalkOptions {
  structured?: boolean;
  contexts?: boolean;
  readOnly?: boolean;
  budget?: Budget;
}

export class Talk {
  readonly wire = new Wire();
  readonly pool = new CountingPool(length => mapAnonymous(length));
  readonly budget: Budget;
  readonly counters = newCounters(EXPORT_COUNTERS);
  readonly serverCounters = newCounters(SERVER_COUNTERS);
  readonly connection: Connection;
  /** Lengths of reads by cookie: a simple reply does not tell. */
  #reads = new Map<number, number>();
  #later: Later;
  #options: TalkOptions;
  touched = false;
  #received: Buffer = Buffer.alloc(0);

  constructor(volume: Volume, later: Later, options: TalkOptions = {}) {
    this.#later = later;
    this.#options = options;
    this.budget = options.budget ?? new Budget();
    const offer: ServedOffer = {
      name: 'disk',
      readOnly: options.readOnly ?? false,
      volume,
      counters: this.counters,
      get size_bytes() {
        return volume.size_bytes;
      },
    };
    const offers: OfferList<ServedOffer> = {
      find: name => (name === 'disk' ? offer : null),
      listReply: () => wire.optionReply(wire.NBD_OPT.LIST, wire.NBD_REP.SERVER, wire.serverRecord('disk')),
    };
    this.connection = new Connection({
      channel: this.wire,
      offers,
      pool: this.pool,
      budget: this.budget,
      serverCounters: this.serverCounters,
      touch: () => (this.touched = true),
    });
    this.connection.settle();
  }

  /** Chunks taken from the pool and not given back. */
  get outstanding(): number {
    return this.pool.outstanding;
  }

  counter(name: ExportCounter): number {
    return this.counters[AT_EXPORT[name]]!;
  }
  serverCounter(name: ServerCounter): number {
    return this.serverCounters[AT_SERVER[name]]!;
  }

  /** Through the handshake; afterwards only replies come. */
  enter(): this {
    const parts = [flags(3)];
    if (this.#options.structured !== false) {
      parts.push(option(wire.NBD_OPT.STRUCTURED_REPLY));
      if (this.#options.contexts !== false)
        parts.push(option(wire.NBD_OPT.SET_META_CONTEXT, wire.emitMetaContext('disk', ['base:allocation'])));
    }
    parts.push(option(wire.NBD_OPT.GO, wire.emitGo('disk', [])));
    this.say(Buffer.concat(parts));
    this.turns(10);
    if (this.connection.offer === null) throw new Error('the handshake failed');
    this.wire.fromServer = [];
    return this;
  }

  say(bytes: Uint8Array): void {
    this.wire.toServer = Buffer.concat([this.wire.toServer, bytes]);
  }

  request(
    type: number,
    cookie: number,
    offset: number | bigint,
    length: number,
    commandFlags = 0,
    payload?: Uint8Array,
  ): void {
    if (type === wire.NBD_CMD_READ) this.#reads.set(cookie, length);
    this.say(requestBytes(type, cookie, offset, length, commandFlags));
    if (payload !== undefined) this.say(payload);
  }

  /** What the loop does in a turn. */
  turn(): void {
    if (this.connection.closed) return;
    if (this.connection.wantsOutput) this.connection.writable();
    const something = this.wire.toServer.length > 0 || this.wire.clientClosed || this.wire.broken;
    if (something && this.connection.wantsInput) this.connection.readable();
    this.#later.turn();
    this.budget.turn();
    for (let i = 0; i < 100 && this.touched && !this.connection.closed; i++) {
      this.touched = false;
      this.connection.settle();
    }
  }

  turns(count: number): this {
    for (let i = 0; i < count; i++) this.turn();
    return this;
  }

  /** Turns until so many replies are there. */
  replies(count: number, turns = 100_000): Reply[] {
    const replies: Reply[] = [];
    for (let i = 0; i < turns && replies.length < count; i++) {
      this.turn();
      this.#received = Buffer.concat([this.#received, ...this.wire.fromServer.splice(0)]);
      for (let reply; (reply = this.#parse()) !== null;) replies.push(reply);
    }
    if (replies.length < count) throw new Error(`${replies.length} replies of ${count}`);
    return replies;
  }

  reply(): Reply {
    return this.replies(1)[0]!;
  }

  /** Bytes received that no reply was made of. */
  get unparsed_bytes(): number {
    return this.#received.length + this.wire.fromServer.reduce((sum, part) => sum + part.length, 0);
  }

  #parse(): Reply | null {
    const b = this.#received;
    if (b.length < wire.SIMPLE_REPLY_BYTES) return null;
    const cookie = b.readUInt32BE(12);
    if (b.readUInt32BE(8) !== 0x77)
      throw new Error(`cookie of no request: ${b.subarray(8, 16).toString('hex')}`);
    if (b.readUInt32BE(0) === wire.NBD_SIMPLE_REPLY_MAGIC) {
      const error = b.readUInt32BE(4);
      const length = error === 0 ? (this.#reads.get(cookie) ?? 0) : 0;
      if (b.length < 16 + length) return null;
      if (length > 0 && this.#options.structured !== false)
        throw new Error('a read answered by a simple reply');
      this.#received = b.subarray(16 + length);
      this.#reads.delete(cookie);
      return { cookie, error, data: b.subarray(16, 16 + length), extents: [], structured: false };
    }
    if (b.readUInt32BE(0) !== wire.NBD_STRUCTURED_REPLY_MAGIC)
      throw new Error(`no reply: ${b.subarray(0, 16).toString('hex')}`);
    if (this.#options.structured === false) throw new Error('a structured reply that was not agreed');
    if (b.length < 20) return null;
    const length = b.readUInt32BE(16);
    if (b.length < 20 + length) return null;
    if (b.readUInt16BE(4) !== wire.NBD_REPLY_FLAG_DONE) throw new Error('a chunk without DONE');
    const payload = b.subarray(20, 20 + length);
    this.#received = b.subarray(20 + length);
    const asked = this.#reads.get(cookie);
    this.#reads.delete(cookie);
    const reply: Reply = { cookie, error: 0, data: Buffer.alloc(0), extents: [], structured: true };
    switch (b.readUInt16BE(6)) {
      case wire.NBD_REPLY_TYPE_NONE:
        if (length !== 0) throw new Error('NONE with a payload');
        return reply;
      case wire.NBD_REPLY_TYPE_OFFSET_DATA:
        reply.data = payload.subarray(8);
        if (reply.data.length !== asked) throw new Error(`${reply.data.length} bytes for a read of ${asked}`);
        return reply;
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS:
        if (payload.readUInt32BE(0) !== 1) throw new Error('another context');
        for (let at = 4; at < length; at += 8)
          reply.extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
        return reply;
      case wire.NBD_REPLY_TYPE_ERROR:
        reply.error = payload.readUInt32BE(0);
        if (payload.readUInt16BE(4) !== length - 6) throw new Error('message length');
        return reply;
      default:
        throw new Error(`chunk type ${b.readUInt16BE(6)}`);
    }
  }
}

/** Knows how many chunks are out. */
class CountingPool extends ChunkPool {
  outstanding = 0;

  override takeLarge(): Chunk {
    this.outstanding++;
    return super.takeLarge();
  }
  override takeSmall(): Chunk {
    this.outstanding++;
    return super.takeSmall();
  }
  override give(chunk: Chunk): void {
    this.outstanding--;
    super.give(chunk);
  }
}

export function requestBytes(
  type: number,
  cookie: number,
  offset: number | bigint,
  length: number,
  commandFlags = 0,
): Uint8Array {
  const bytes = new Uint8Array(wire.REQUEST_BYTES);
  wire.emitRequest(new DataView(bytes.buffer), 0, {
    flags: commandFlags,
    type,
    cookieHigh: 0x77,
    cookieLow: cookie,
    offset: BigInt(offset),
    length,
  });
  return bytes;
}

export function flags(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}

export function option(number: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const out = new Uint8Array(16 + data.length);
  const v = new DataView(out.buffer);
  out.set(wire.utf8('IHAVEOPT'));
  v.setUint32(8, number);
  v.setUint32(12, data.length);
  out.set(data, 16);
  return out;
}
