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
  /** What an error chunk said, and where. */
  message: string;
  errorsAt: number[];
  /** Of a read: what its data came in, from where it began. */
  chunks: { type: number; from: number; length: number }[];
  /** Of base:allocation: [length, flags]. */
  extents: [number, number][];
  /** Of every context, by id. */
  contexts: Map<number, [number, number][]>;
  structured: boolean;
}

export interface TalkOptions {
  structured?: boolean;
  /** Extended headers. */
  extended?: boolean;
  /** True: base:allocation. */
  contexts?: boolean | readonly string[];
  minimumBlock_bytes?: number;
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
  /** By cookie: a simple reply does not tell what it answers. */
  #asked = new Map<number, Asked>();
  /** Replies of which chunks are still to come. */
  #begun = new Map<number, Reply>();
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
      minimumBlock_bytes: options.minimumBlock_bytes ?? 1,
      contexts: () => volume.meta?.contexts() ?? [],
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
    const { structured = true, extended = false, contexts = true } = this.#options;
    if (extended) parts.push(option(wire.NBD_OPT.EXTENDED_HEADERS));
    else if (structured) parts.push(option(wire.NBD_OPT.STRUCTURED_REPLY));
    if ((structured || extended) && contexts !== false) {
      const names = contexts === true ? ['base:allocation'] : contexts;
      parts.push(option(wire.NBD_OPT.SET_META_CONTEXT, wire.emitMetaContext('disk', names)));
    }
    parts.push(option(wire.NBD_OPT.GO, wire.emitGo('disk', [wire.NBD_INFO.BLOCK_SIZE])));
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
    length: number | bigint,
    commandFlags = 0,
    payload?: Uint8Array,
  ): void {
    const isRead = type === wire.NBD_CMD_READ;
    const { extended = false, structured = true } = this.#options;
    if (isRead || extended || structured)
      this.#asked.set(cookie, { isRead, offset: BigInt(offset), length: isRead ? Number(length) : 0 });
    if (extended && type === wire.NBD_CMD_WRITE) commandFlags |= wire.NBD_CMD_FLAG_PAYLOAD_LEN;
    this.say(requestBytes(type, cookie, offset, length, commandFlags, extended));
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
    const { structured = true, extended = false } = this.#options;
    if (b.readUInt32BE(0) === wire.NBD_SIMPLE_REPLY_MAGIC) {
      if (extended) throw new Error('a simple reply where extended headers are agreed');
      const error = b.readUInt32BE(4);
      const length = error === 0 ? (this.#asked.get(cookie)?.length ?? 0) : 0;
      if (b.length < 16 + length) return null;
      if (length > 0 && structured) throw new Error('a read answered by a simple reply');
      this.#received = b.subarray(16 + length);
      this.#asked.delete(cookie);
      return { ...newReply(cookie), error, data: b.subarray(16, 16 + length), structured: false };
    }
    if (!structured && !extended) throw new Error('a structured reply that was not agreed');
    const magic = extended ? wire.NBD_EXTENDED_REPLY_MAGIC : wire.NBD_STRUCTURED_REPLY_MAGIC;
    if (b.readUInt32BE(0) !== magic) throw new Error(`no reply: ${b.subarray(0, 16).toString('hex')}`);
    const header = extended ? 32 : 20;
    if (b.length < header) return null;
    const length = extended ? Number(b.readBigUInt64BE(24)) : b.readUInt32BE(16);
    if (b.length < header + length) return null;
    const asked = this.#asked.get(cookie);
    if (extended && asked !== undefined && b.readBigUInt64BE(16) !== BigInt.asUintN(64, asked.offset))
      throw new Error('the offset of another request');
    this.#received = b.subarray(header + length);
    const reply = this.#begun.get(cookie) ?? newReply(cookie);
    this.#begun.set(cookie, reply);
    this.#chunk(reply, b.readUInt16BE(6), b.subarray(header, header + length), asked);
    if ((b.readUInt16BE(4) & wire.NBD_REPLY_FLAG_DONE) === 0) return this.#parse();
    this.#begun.delete(cookie);
    this.#asked.delete(cookie);
    const told = reply.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (asked?.isRead === true && reply.error === 0 && told !== asked.length)
      throw new Error(`${told} bytes for a read of ${asked.length}`);
    return reply;
  }

  #chunk(reply: Reply, type: number, payload: Buffer, asked: Asked | undefined): void {
    const take = (at: number, length: number): number => {
      if (asked === undefined || !asked.isRead) throw new Error('data of no read');
      const from = Number(BigInt(at) - asked.offset);
      if (length === 0 || from < 0 || from + length > asked.length) throw new Error('data beside the read');
      for (const other of reply.chunks)
        if (from < other.from + other.length && other.from < from + length) throw new Error('data twice');
      if (reply.data.length === 0) reply.data = Buffer.alloc(asked.length, 0xee);
      reply.chunks.push({ type, from, length });
      return from;
    };
    const errorIn = (behind: number): void => {
      const length = payload.readUInt16BE(4);
      if (length !== payload.length - 6 - behind) throw new Error('message length');
      if (reply.error === 0) reply.error = payload.readUInt32BE(0);
      reply.message = payload.subarray(6, 6 + length).toString();
      if (reply.error === 0) throw new Error('an error that is none');
    };
    switch (type) {
      case wire.NBD_REPLY_TYPE_NONE:
        if (payload.length !== 0) throw new Error('NONE with a payload');
        return;
      case wire.NBD_REPLY_TYPE_OFFSET_DATA: {
        const from = take(Number(payload.readBigUInt64BE(0)), payload.length - 8);
        payload.copy(reply.data, from, 8);
        return;
      }
      case wire.NBD_REPLY_TYPE_OFFSET_HOLE: {
        if (payload.length !== 12) throw new Error('the length of a hole');
        const length = payload.readUInt32BE(8);
        const from = take(Number(payload.readBigUInt64BE(0)), length);
        reply.data.fill(0, from, from + length);
        return;
      }
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS: {
        if (this.#options.extended === true) throw new Error('block status of 32 bits');
        const extents: [number, number][] = [];
        for (let at = 4; at < payload.length; at += 8)
          extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
        this.#status(reply, payload.readUInt32BE(0), extents);
        return;
      }
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS_EXT: {
        if (this.#options.extended !== true) throw new Error('block status of 64 bits');
        const extents: [number, number][] = [];
        for (let at = 8; at < payload.length; at += 16)
          extents.push([Number(payload.readBigUInt64BE(at)), Number(payload.readBigUInt64BE(at + 8))]);
        if (payload.readUInt32BE(4) !== extents.length) throw new Error('descriptors are miscounted');
        this.#status(reply, payload.readUInt32BE(0), extents);
        return;
      }
      case wire.NBD_REPLY_TYPE_ERROR:
        return errorIn(0);
      case wire.NBD_REPLY_TYPE_ERROR_OFFSET:
        reply.errorsAt.push(Number(payload.readBigUInt64BE(payload.length - 8)));
        return errorIn(8);
      default:
        throw new Error(`chunk type ${type}`);
    }
  }

  #status(reply: Reply, context: number, extents: [number, number][]): void {
    if (extents.length === 0 || reply.contexts.has(context)) throw new Error('a context twice, or empty');
    reply.contexts.set(context, extents);
    if (context === 1) reply.extents = extents;
  }
}

interface Asked {
  isRead: boolean;
  offset: bigint;
  length: number;
}

function newReply(cookie: number): Reply {
  const none = { cookie, error: 0, message: '', errorsAt: [], data: Buffer.alloc(0), chunks: [] };
  return { ...none, extents: [], contexts: new Map(), structured: true };
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
  length: number | bigint,
  commandFlags = 0,
  extended = false,
): Uint8Array {
  const bytes = new Uint8Array(extended ? wire.EXTENDED_REQUEST_BYTES : wire.REQUEST_BYTES);
  const view = new DataView(bytes.buffer);
  const record = {
    flags: commandFlags,
    type,
    cookieHigh: 0x77,
    cookieLow: cookie,
    offset: BigInt(offset),
  };
  if (extended) wire.emitExtendedRequest(view, 0, { ...record, length: BigInt(length) });
  else wire.emitRequest(view, 0, { ...record, length: Number(length) });
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
