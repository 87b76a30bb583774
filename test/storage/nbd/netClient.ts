/**
 * An NBD client over a real socket, for tests of the whole process: promises, one for each request. Knows the
 * protocol as little as it needs to, and checks what it gets.
 */
import * as net from 'node:net';
import * as wire from '../../../storage/nbd/wire.js';
import { flags, option, requestBytes } from './talk.js';

interface Pending {
  length: number;
  resolve: (reply: { error: number; data: Buffer }) => void;
  reject: (error: Error) => void;
}

export interface ClientOptions {
  structured?: boolean;
}

export class NetClient {
  readonly socket: net.Socket;
  size_bytes = 0;
  transmissionFlags = 0;
  /** Resolves when the server has closed. */
  readonly closed: Promise<void>;
  isClosed = false;
  #structured: boolean;
  #buffer: Buffer = Buffer.alloc(0);
  #wanted: { bytes: number; resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | null = null;
  #serving = false;
  #pending = new Map<number, Pending>();
  #cookie = 0;

  private constructor(socket: net.Socket, structured: boolean) {
    this.socket = socket;
    this.#structured = structured;
    socket.on('data', data => this.#data(data));
    socket.on('error', () => undefined);
    this.closed = new Promise(resolve =>
      socket.on('close', () => {
        this.isClosed = true;
        const gone = new Error('the server closed the connection');
        this.#wanted?.reject(gone);
        for (const pending of this.#pending.values()) pending.reject(gone);
        this.#pending.clear();
        resolve();
      }),
    );
  }

  /** Rejects when the server refuses, in its words. */
  static async connect(
    where: net.NetConnectOpts,
    exportName: string,
    { structured = true }: ClientOptions = {},
  ): Promise<NetClient> {
    const client = new NetClient(net.connect(where), structured);
    try {
      await client.#handshake(exportName);
    } catch (error) {
      client.socket.destroy();
      throw error;
    }
    return client;
  }

  async #handshake(exportName: string): Promise<void> {
    const hello = await this.#take(18);
    if (!hello.subarray(0, 16).equals(Buffer.from('NBDMAGICIHAVEOPT'))) throw new Error('no NBD server');
    this.socket.write(flags(3));
    if (this.#structured) {
      this.socket.write(option(wire.NBD_OPT.STRUCTURED_REPLY));
      await this.#optionReply();
    }
    this.socket.write(option(wire.NBD_OPT.GO, wire.emitGo(exportName, [])));
    for (;;) {
      const { type, data } = await this.#optionReply();
      if (type === wire.NBD_REP.ACK) break;
      if (type >= 0x8000_0000) throw new Error(`refused: ${data.toString()}`);
      if (type !== wire.NBD_REP.INFO || data.readUInt16BE(0) !== wire.NBD_INFO.EXPORT) continue;
      this.size_bytes = Number(data.readBigUInt64BE(2));
      this.transmissionFlags = data.readUInt16BE(10);
    }
    this.#serving = true;
    this.#parse();
  }

  async #optionReply(): Promise<{ type: number; data: Buffer }> {
    const header = await this.#take(20);
    const data = await this.#take(header.readUInt32BE(16));
    return { type: header.readUInt32BE(12), data };
  }

  #take(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.isClosed) return reject(new Error('the server closed the connection'));
      this.#wanted = { bytes, resolve, reject };
      this.#satisfy();
    });
  }

  #satisfy(): void {
    if (this.#wanted === null || this.#buffer.length < this.#wanted.bytes) return;
    const { bytes, resolve } = this.#wanted;
    this.#wanted = null;
    const taken = this.#buffer.subarray(0, bytes);
    this.#buffer = this.#buffer.subarray(bytes);
    resolve(taken);
  }

  #data(data: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? data : Buffer.concat([this.#buffer, data]);
    if (this.#serving) this.#parse();
    else this.#satisfy();
  }

  #parse(): void {
    for (;;) {
      const b = this.#buffer;
      if (b.length < 16) return;
      const cookie = b.readUInt32BE(12);
      const pending = this.#pending.get(cookie);
      if (pending === undefined) return void this.socket.destroy(new Error(`reply to nothing: ${cookie}`));
      if (b.readUInt32BE(0) === wire.NBD_SIMPLE_REPLY_MAGIC) {
        const error = b.readUInt32BE(4);
        const length = error === 0 ? pending.length : 0;
        if (b.length < 16 + length) return;
        this.#finish(cookie, pending, error, b.subarray(16, 16 + length), 16 + length);
        continue;
      }
      if (b.length < 20) return;
      const length = b.readUInt32BE(16);
      if (b.length < 20 + length) return;
      const isError = b.readUInt16BE(6) >= 0x8000;
      const data = isError ? Buffer.alloc(0) : b.subarray(28, 20 + length);
      this.#finish(cookie, pending, isError ? b.readUInt32BE(20) : 0, data, 20 + length);
    }
  }

  #finish(cookie: number, pending: Pending, error: number, data: Buffer, used: number): void {
    this.#pending.delete(cookie);
    this.#buffer = this.#buffer.subarray(used);
    pending.resolve({ error, data });
  }

  request(
    type: number,
    offset: number,
    length: number,
    commandFlags = 0,
    payload?: Uint8Array,
  ): Promise<{ error: number; data: Buffer }> {
    const cookie = ++this.#cookie;
    return new Promise((resolve, reject) => {
      if (this.isClosed) return reject(new Error('the server closed the connection'));
      this.#pending.set(cookie, { length: type === wire.NBD_CMD_READ ? length : 0, resolve, reject });
      this.socket.write(requestBytes(type, cookie, offset, length, commandFlags));
      if (payload !== undefined) this.socket.write(payload);
    });
  }

  /** The error, 0 for none. */
  async write(offset: number, payload: Uint8Array, fua = false): Promise<number> {
    const commandFlags = fua ? wire.NBD_CMD_FLAG_FUA : 0;
    return (await this.request(wire.NBD_CMD_WRITE, offset, payload.length, commandFlags, payload)).error;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const { error, data } = await this.request(wire.NBD_CMD_READ, offset, length);
    if (error !== 0) throw new Error(`read of ${length} at ${offset}: error ${error}`);
    return data;
  }

  async flush(): Promise<number> {
    return (await this.request(wire.NBD_CMD_FLUSH, 0, 0)).error;
  }

  async disconnect(): Promise<void> {
    this.socket.write(requestBytes(wire.NBD_CMD_DISC, 0, 0, 0));
    await this.closed;
  }
}
