/**
 * An NBD client over a real socket, for tests of the whole process: promises, one for each request. Knows the
 * protocol as little as it needs to, and checks what it gets.
 */
import * as net from 'node:net';
import * as tls from 'node:tls';
import * as wire from '../../../storage/nbd/wire.js';
import { flags, option, requestBytes } from './talk.js';

interface Pending {
  offset: number;
  /** Of a read; what of it is a hole stays zero. */
  data: Buffer;
  error: number;
  resolve: (reply: { error: number; data: Buffer }) => void;
  reject: (error: Error) => void;
}

export interface ClientOptions {
  structured?: boolean;
  /** Begins TLS, by NBD_OPT_STARTTLS. */
  tls?: tls.ConnectionOptions;
}

export class NetClient {
  socket: net.Socket;
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
    this.#hear(socket);
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
    { structured = true, tls: secrets }: ClientOptions = {},
  ): Promise<NetClient> {
    const client = new NetClient(net.connect(where), structured);
    try {
      await client.#greet();
      if (secrets !== undefined) await client.#startTls(secrets);
      await client.#handshake(exportName);
    } catch (error) {
      client.socket.destroy();
      throw error;
    }
    return client;
  }

  #hear(socket: net.Socket): void {
    socket.on('data', data => this.#data(data));
    socket.on('error', () => undefined);
  }

  async #startTls(secrets: tls.ConnectionOptions): Promise<void> {
    this.socket.write(option(wire.NBD_OPT.STARTTLS));
    const { type, data } = await this.#optionReply();
    if (type !== wire.NBD_REP.ACK) throw new Error(`refused: ${data.toString()}`);
    this.socket.removeAllListeners('data');
    const socket = tls.connect({ socket: this.socket, ...secrets });
    this.#hear(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('the server closed the connection')));
    });
    this.socket = socket;
  }

  async #greet(): Promise<void> {
    const hello = await this.#take(18);
    if (!hello.subarray(0, 16).equals(Buffer.from('NBDMAGICIHAVEOPT'))) throw new Error('no NBD server');
    this.socket.write(flags(3));
  }

  async #handshake(exportName: string): Promise<void> {
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
        const length = error === 0 ? pending.data.length : 0;
        if (b.length < 16 + length) return;
        pending.error = error;
        b.copy(pending.data, 0, 16, 16 + length);
        this.#buffer = b.subarray(16 + length);
        this.#finish(cookie, pending);
        continue;
      }
      if (b.length < 20) return;
      const length = b.readUInt32BE(16);
      if (b.length < 20 + length) return;
      const type = b.readUInt16BE(6);
      if (type >= 0x8000) pending.error = b.readUInt32BE(20);
      if (type === wire.NBD_REPLY_TYPE_OFFSET_DATA)
        b.copy(pending.data, Number(b.readBigUInt64BE(20)) - pending.offset, 28, 20 + length);
      this.#buffer = b.subarray(20 + length);
      if ((b.readUInt16BE(4) & wire.NBD_REPLY_FLAG_DONE) !== 0) this.#finish(cookie, pending);
    }
  }

  #finish(cookie: number, { error, data, resolve }: Pending): void {
    this.#pending.delete(cookie);
    resolve({ error, data: error === 0 ? data : Buffer.alloc(0) });
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
      const data = Buffer.alloc(type === wire.NBD_CMD_READ ? length : 0);
      this.#pending.set(cookie, { offset, data, error: 0, resolve, reject });
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
