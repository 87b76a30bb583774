/**
 * An NBD client with promises, for threads that have JavaScript's event loop: jobs (backup to another server), and the main
 * thread, which asks how large a remote export is. The data thread's client is remoteVolume.ts; both share the pure halves
 * clientNegotiation.ts and clientTransmission.ts.
 *
 * One connection, several requests at a time, each split at what the server takes. No reconnecting: when the connection ends,
 * everything in flight is rejected with REMOTE_GONE and the caller begins again where it was. Requests smaller than the
 * server's smallest block are the caller's to avoid (`minimumBlock_bytes`).
 */
import * as net from 'node:net';
import type { Duplex } from 'node:stream';
import * as wire from '../nbd/wire.js';
import { StorageError } from '../volume/errors.js';
import { SecureStream } from '../tls/stream.js';
import type { RemoteOpening, TlsOpening } from '../volume/opening.js';
import { ClientListing, type Listing } from './clientListing.js';
import { ClientNegotiation, type Agreed } from './clientNegotiation.js';
import { ClientTransmission, type Answers } from './clientTransmission.js';

export type RemoteAddress = RemoteOpening['server'];

export interface RemoteExtent {
  readonly length_bytes: number;
  /** Not allocated there. */
  readonly hole: boolean;
  /** Reads as zeroes. */
  readonly zero: boolean;
}

/** Ranges are the caller's to keep within size_bytes. All reject with StorageError REMOTE_IO or REMOTE_GONE. */
export interface Session {
  readonly size_bytes: number;
  readonly readOnly: boolean;
  readonly minimumBlock_bytes: number;
  /** More than one connection sees the same. */
  readonly multiConn: boolean;
  /** Fills all of `into`. */
  read(offset_bytes: number, into: Uint8Array): Promise<void>;
  /** `bytes` must not change until it is done. */
  write(offset_bytes: number, bytes: Uint8Array): Promise<void>;
  /** Written out where the server cannot zero. */
  zero(offset_bytes: number, length_bytes: number): Promise<void>;
  /** Resolves at once where the server has no such thing. */
  flush(): Promise<void>;
  /** From the offset on, at least one, together not beyond the range: ask again for the rest. All data where the server cannot tell. */
  blockStatus(offset_bytes: number, length_bytes: number): Promise<RemoteExtent[]>;
  /** Says goodbye. Never rejects. */
  close(): Promise<void>;
}

export interface ConnectOptions {
  /** From the first packet to the end of the handshake; 10 s when left out. */
  readonly timeout_ms?: number;
}

/** Rejects with StorageError REMOTE_UNREACHABLE (worth trying again) or REMOTE_REFUSED (the server, or we, said no). */
export async function connect(
  address: RemoteAddress,
  exportName: string,
  tlsOpening: TlsOpening | null,
  { timeout_ms = HANDSHAKE_LIMIT_MS }: ConnectOptions = {},
): Promise<Session> {
  const machine = new ClientNegotiation({ exportName, tls: tlsOpening !== null });
  const shaken = await shake(address, machine, tlsOpening, timeout_ms);
  return new NetSession(shaken.socket, shaken.agreed, shaken.rest, textOf(address));
}

/** What the server offers. Rejects as `connect`; the time counts until all of it is told. */
export async function listExports(
  address: RemoteAddress,
  tlsOpening: TlsOpening | null,
  { timeout_ms = HANDSHAKE_LIMIT_MS }: ConnectOptions = {},
): Promise<Listing> {
  const machine = new ClientListing({ tls: tlsOpening !== null });
  const { socket, agreed } = await shake(address, machine, tlsOpening, timeout_ms);
  // Its answer to our goodbye is of no interest, nor how the connection ends.
  socket.on('error', () => undefined);
  socket.end();
  socket.resume();
  setTimeout(() => socket.destroy(), GOODBYE_LIMIT_MS).unref();
  return agreed;
}

async function shake<T>(
  address: RemoteAddress,
  machine: Machine<T>,
  tlsOpening: TlsOpening | null,
  timeout_ms: number,
): Promise<Shaken<T>> {
  const socket =
    address.kind === 'unix' ? net.connect(address.path) : net.connect(address.port, address.host);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 60_000);
  const timer = setTimeout(
    () => socket.destroy(new Error(`no answer within ${timeout_ms / 1000} s`)),
    timeout_ms,
  );
  try {
    return await new Handshake(socket, machine, tlsOpening, textOf(address)).done;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

const HANDSHAKE_LIMIT_MS = 10_000;
const GOODBYE_LIMIT_MS = 1000;
/** One request; more are split. */
const PIECE_BYTES = 1024 * 1024;
const ZERO_PIECE_BYTES = 256 * 1024 * 1024;
/** Pieces in flight. */
const PIECES_LIMIT = 16;
const STATUS_LENGTH_BYTES = 1024 * 1024 * 1024;

function textOf(address: RemoteAddress): string {
  return address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
}

/** Of OpenSSL's errors only what it says in words: the rest of the line is numbers and its source files. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { reason } = error as { reason?: unknown };
  return typeof reason === 'string' ? reason : error.message;
}

/** What a handshake is for: transmission (clientNegotiation.ts), or a list (clientListing.ts). */
interface Machine<T> {
  readonly agreed: T | null;
  readonly refused: string | null;
  readonly wantsTls: boolean;
  step(input: Uint8Array, out: Uint8Array[]): number;
  tlsBegan(out: Uint8Array[]): void;
}

interface Shaken<T> {
  socket: Duplex;
  agreed: T;
  rest: Buffer;
}

class Handshake<T> {
  readonly done: Promise<Shaken<T>>;
  #negotiation: Machine<T>;
  #input: Buffer = Buffer.alloc(0);
  #plain: net.Socket;
  #tls: TlsOpening | null;
  #where: string;
  #resolve!: (shaken: Shaken<T>) => void;
  #reject!: (error: Error) => void;

  constructor(socket: net.Socket, machine: Machine<T>, tlsOpening: TlsOpening | null, where: string) {
    this.#negotiation = machine;
    this.#plain = socket;
    this.#tls = tlsOpening;
    this.#where = where;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#listen(socket);
  }

  #listen(socket: Duplex): void {
    const unreachable = (why: string): void =>
      this.#reject(new StorageError('REMOTE_UNREACHABLE', `NBD server ${this.#where}: ${why}`));
    socket.on('error', error => unreachable(messageOf(error)));
    socket.on('close', () => unreachable('it closed the connection before the handshake was over'));
    socket.on('data', (data: Buffer) => this.#data(socket, data));
  }

  #data(socket: Duplex, data: Buffer): void {
    const negotiation = this.#negotiation;
    this.#input = this.#input.length === 0 ? data : Buffer.concat([this.#input, data]);
    const out: Uint8Array[] = [];
    this.#input = this.#input.subarray(negotiation.step(this.#input, out));
    for (const bytes of out) socket.write(bytes);
    if (negotiation.refused !== null)
      return this.#reject(
        new StorageError('REMOTE_REFUSED', `NBD server ${this.#where}: ${negotiation.refused}`),
      );
    if (negotiation.wantsTls) return this.#beginTls();
    if (negotiation.agreed === null) return;
    socket.removeAllListeners('data').removeAllListeners('close').removeAllListeners('error');
    socket.pause();
    this.#resolve({ socket, agreed: negotiation.agreed, rest: this.#input });
  }

  #beginTls(): void {
    const plain = this.#plain
      .removeAllListeners('data')
      .removeAllListeners('close')
      .removeAllListeners('error');
    const refused = (error: Error): void =>
      this.#reject(new StorageError('REMOTE_REFUSED', `NBD server ${this.#where}: TLS: ${messageOf(error)}`));
    let secure: SecureStream;
    try {
      secure = new SecureStream(plain, this.#tls!);
    } catch (error) {
      return refused(error as Error);
    }
    secure.on('secure', () => {
      const out: Uint8Array[] = [];
      this.#negotiation.tlsBegan(out);
      for (const bytes of out) secure.write(bytes);
    });
    secure.on('error', refused);
    this.#listen(secure);
  }
}

interface Piece {
  resolve: () => void;
  reject: (error: Error) => void;
  extents: RemoteExtent[];
  left_bytes: number;
  what: string;
}

class NetSession implements Session, Answers {
  readonly size_bytes: number;
  readonly readOnly: boolean;
  readonly minimumBlock_bytes: number;
  readonly multiConn: boolean;
  #socket: Duplex;
  #agreed: Agreed;
  #transmission: ClientTransmission;
  #where: string;
  #rest: Buffer;
  #pieces = new Map<number, Piece>();
  #tag = 0;
  #waiting: (() => void)[] = [];
  #gone: StorageError | null = null;
  #closed: Promise<void>;

  constructor(socket: Duplex, agreed: Agreed, rest: Buffer, where: string) {
    this.#socket = socket;
    this.#agreed = agreed;
    this.#where = where;
    this.#rest = rest;
    this.#transmission = new ClientTransmission(agreed, this);
    this.size_bytes = agreed.size_bytes;
    this.readOnly = this.#can(wire.NBD_FLAG_READ_ONLY);
    this.multiConn = this.#can(wire.NBD_FLAG_CAN_MULTI_CONN);
    this.minimumBlock_bytes = agreed.minimumBlock_bytes;
    this.#closed = new Promise(resolve => {
      socket.on('error', error => this.#lost(messageOf(error)));
      socket.on('close', () => {
        this.#lost('it closed the connection');
        resolve();
      });
    });
    socket.on('data', (data: Buffer) => this.#data(data));
    socket.resume();
  }

  async read(offset_bytes: number, into: Uint8Array): Promise<void> {
    await this.#split(into.length, this.#piece_bytes, (from, length) =>
      this.#ask(wire.NBD_CMD_READ, 0, offset_bytes + from, length, { into, at: from }),
    );
  }

  async write(offset_bytes: number, bytes: Uint8Array): Promise<void> {
    await this.#split(bytes.length, this.#piece_bytes, (from, length) =>
      this.#ask(wire.NBD_CMD_WRITE, 0, offset_bytes + from, length, {
        payload: bytes.subarray(from, from + length),
      }),
    );
  }

  async zero(offset_bytes: number, length_bytes: number): Promise<void> {
    if (this.#can(wire.NBD_FLAG_SEND_WRITE_ZEROES)) {
      await this.#split(length_bytes, ZERO_PIECE_BYTES, (from, length) =>
        this.#ask(wire.NBD_CMD_WRITE_ZEROES, 0, offset_bytes + from, length, {}),
      );
      return;
    }
    const zeroes = new Uint8Array(Math.min(length_bytes, this.#piece_bytes));
    await this.#split(length_bytes, zeroes.length, (from, length) =>
      this.#ask(wire.NBD_CMD_WRITE, 0, offset_bytes + from, length, { payload: zeroes.subarray(0, length) }),
    );
  }

  async flush(): Promise<void> {
    if (this.#can(wire.NBD_FLAG_SEND_FLUSH)) await this.#ask(wire.NBD_CMD_FLUSH, 0, 0, 0, {});
  }

  async blockStatus(offset_bytes: number, length_bytes: number): Promise<RemoteExtent[]> {
    const data: RemoteExtent = { length_bytes, hole: false, zero: false };
    if (this.#agreed.contextId < 0) return [data];
    const length = Math.min(length_bytes, STATUS_LENGTH_BYTES);
    const piece = await this.#ask(wire.NBD_CMD_BLOCK_STATUS, 0, offset_bytes, length, {});
    return piece.extents;
  }

  async close(): Promise<void> {
    if (this.#gone === null) {
      const view = new DataView(new ArrayBuffer(this.#transmission.requestBytes));
      this.#transmission.disconnect(view, 0);
      this.#socket.end(new Uint8Array(view.buffer));
    }
    const timer = setTimeout(() => this.#socket.destroy(), GOODBYE_LIMIT_MS);
    await this.#closed;
    clearTimeout(timer);
  }

  answered(tag: number, error: number): void {
    const piece = this.#pieces.get(tag)!;
    this.#pieces.delete(tag);
    this.#waiting.shift()?.();
    if (error === 0) piece.resolve();
    else
      piece.reject(new StorageError('REMOTE_IO', `NBD server ${this.#where}: ${piece.what}: error ${error}`));
  }

  extent(tag: number, length_bytes: number, flags: number): void {
    const piece = this.#pieces.get(tag)!;
    const length = Math.min(length_bytes, piece.left_bytes);
    piece.left_bytes -= length;
    const hole = (flags & wire.NBD_STATE_HOLE) !== 0;
    const zero = (flags & wire.NBD_STATE_ZERO) !== 0;
    piece.extents.push({ length_bytes: length, hole, zero });
  }

  #can(flag: number): boolean {
    return (this.#agreed.flags & flag) !== 0;
  }

  get #piece_bytes(): number {
    const { minimumBlock_bytes, maximumBlock_bytes } = this.#agreed;
    const limit = Math.min(PIECE_BYTES, maximumBlock_bytes);
    return Math.max(minimumBlock_bytes, limit - (limit % minimumBlock_bytes));
  }

  async #split(
    length_bytes: number,
    piece_bytes: number,
    ask: (from: number, length: number) => Promise<unknown>,
  ): Promise<void> {
    const pieces: Promise<unknown>[] = [];
    for (let from = 0; from < length_bytes; from += piece_bytes)
      pieces.push(ask(from, Math.min(piece_bytes, length_bytes - from)));
    // Not one is left behind unheard when another fails.
    const failed = (await Promise.allSettled(pieces)).find(result => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async #ask(
    type: number,
    flags: number,
    offset: number,
    length: number,
    { into, at, payload }: { into?: Uint8Array; at?: number; payload?: Uint8Array },
  ): Promise<Piece> {
    while (this.#gone === null && this.#pieces.size >= PIECES_LIMIT)
      await new Promise<void>(resolve => this.#waiting.push(resolve));
    if (this.#gone !== null) throw this.#gone;
    const piece: Piece = {
      resolve: () => undefined,
      reject: () => undefined,
      extents: [],
      left_bytes: length,
      what: `request ${type} of ${length} bytes at ${offset}`,
    };
    const done = new Promise<void>((resolve, reject) => {
      piece.resolve = resolve;
      piece.reject = reject;
    });
    const tag = ++this.#tag;
    this.#pieces.set(tag, piece);
    const view = new DataView(new ArrayBuffer(this.#transmission.requestBytes));
    const memory = into === undefined ? null : { address: 0, bytes: into };
    this.#transmission.ask(view, 0, type, flags, offset, length, memory, at ?? 0, tag);
    this.#socket.cork();
    this.#socket.write(new Uint8Array(view.buffer));
    if (payload !== undefined) this.#socket.write(payload);
    this.#socket.uncork();
    await done;
    return piece;
  }

  #data(data: Buffer): void {
    const bytes = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#rest = bytes.subarray(this.#transmission.consume(bytes, view, 0, bytes.length));
    if (this.#transmission.broken !== null)
      this.#lost(`its answers make no sense: ${this.#transmission.broken}`);
  }

  #lost(why: string): void {
    if (this.#gone !== null) return;
    this.#gone = new StorageError('REMOTE_GONE', `NBD server ${this.#where}: ${why}`);
    this.#socket.destroy();
    for (const piece of this.#pieces.values()) piece.reject(this.#gone);
    this.#pieces.clear();
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
