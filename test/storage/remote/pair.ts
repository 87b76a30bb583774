/**
 * A remote volume with our own server at the other end of a made-up socket: no kernel, and time is wound by hand. The server
 * can be killed (it loses what was not flushed, if told so) and started again, and a pipe can be cut or stopped.
 */
import { mapAnonymous, viewAt } from '../../../host/memory.js';
import { Budget, ChunkPool } from '../../../storage/nbd/chunks.js';
import { Connection, type ServedOffer } from '../../../storage/nbd/connection.js';
import { EXPORT_COUNTERS, SERVER_COUNTERS, newCounters } from '../../../storage/nbd/counters.js';
import type { Channel } from '../../../storage/nbd/output.js';
import { AlignedVolume } from '../../../storage/remote/aligned.js';
import type { Dial, RemoteSocket } from '../../../storage/remote/link.js';
import { RemoteVolume } from '../../../storage/remote/remoteVolume.js';
import type { Later } from '../../../storage/volume/later.js';
import type { Volume } from '../../../storage/volume/volume.js';

const EAGAIN = -11;

/** One connection: both ends of it. */
class Pipe implements Channel {
  toServer: Buffer[] = [];
  toClient: Buffer[] = [];
  cut = false;
  /** Nothing gets through. */
  stopped = false;
  clientClosed = false;
  readonly #limit: () => number;

  constructor(limit: () => number) {
    this.#limit = limit;
  }

  // the server's end
  recv(address: number, length_bytes: number): number {
    return this.#take(this.toServer, address, length_bytes, this.clientClosed);
  }
  send(address: number, length_bytes: number): number {
    if (this.cut || this.clientClosed) return -32;
    return this.#put(this.toClient, address, length_bytes);
  }

  // the client's end
  readonly client: RemoteSocket = {
    reason: null,
    hasInput: false,
    connected: () => (this.cut ? -111 : 0),
    recv: (address, length_bytes) => this.#take(this.toClient, address, length_bytes, this.cut),
    send: (address, length_bytes) => (this.cut ? -32 : this.#put(this.toServer, address, length_bytes)),
    shakeTls: () => -95,
    want: () => undefined,
    close: () => void (this.clientClosed = true),
  };
  #put(queue: Buffer[], address: number, length_bytes: number): number {
    const n = Math.min(length_bytes, this.#limit());
    if (n === 0 || this.stopped) return EAGAIN;
    queue.push(Buffer.from(viewAt(address, n).bytes));
    return n;
  }

  #take(queue: Buffer[], address: number, length_bytes: number, ended: boolean): number {
    const first = this.stopped ? undefined : queue[0];
    if (first === undefined) return ended ? 0 : EAGAIN;
    const n = Math.min(length_bytes, first.length, Math.max(1, this.#limit()));
    viewAt(address, n).bytes.set(first.subarray(0, n));
    if (n === first.length) queue.shift();
    else queue[0] = first.subarray(n);
    return n;
  }
}

interface Session {
  pipe: Pipe;
  connection: Connection;
  told: (input: boolean, output: boolean) => void;
  touched: boolean;
}

export interface PairOptions {
  readonly connections?: number;
  readonly patience_ms?: number;
  readonly readOnly?: boolean;
  /** Bytes that one call moves at most. */
  readonly limit?: () => number;
}

export class Pair {
  now_ms = 0;
  /** Refuses connections. */
  down = false;
  dialCount = 0;
  readonly states: string[] = [];
  readonly remote: RemoteVolume;
  readonly volume: AlignedVolume;
  readonly sessions: Session[] = [];
  served: Volume;
  #later: Later;
  #touched: RemoteVolume[] = [];
  #options: PairOptions;
  #pool = new ChunkPool(length => mapAnonymous(length));
  #budget = new Budget();

  constructor(served: Volume, later: Later, size_bytes: number, options: PairOptions = {}) {
    this.served = served;
    this.#later = later;
    this.#options = options;
    this.remote = new RemoteVolume({
      exportName: 'disk',
      size_bytes,
      connections: options.connections ?? 1,
      patience_ms: options.patience_ms ?? 0,
      tls: false,
      where: 'pair',
      dial: this.#dial,
      closed: () => undefined,
      allocate: mapAnonymous,
      later,
      now_ms: () => this.now_ms,
      touch: volume => void this.#touched.push(volume),
      onState: volume => void this.states.push(volume.state),
    });
    this.volume = new AlignedVolume(this.remote, mapAnonymous, later);
  }

  #dial: Dial = told => {
    this.dialCount++;
    if (this.down) return 'connection refused';
    const pipe = new Pipe(this.#options.limit ?? (() => Infinity));
    const { served } = this;
    const offer: ServedOffer = {
      name: 'disk',
      readOnly: this.#options.readOnly ?? false,
      volume: served,
      counters: newCounters(EXPORT_COUNTERS),
      get size_bytes() {
        return served.size_bytes;
      },
    };
    const session: Session = { pipe, told, touched: false, connection: null as unknown as Connection };
    session.connection = new Connection({
      channel: pipe,
      offers: { find: name => (name === 'disk' ? offer : null), listReply: () => new Uint8Array(0) },
      pool: this.#pool,
      budget: this.#budget,
      serverCounters: newCounters(SERVER_COUNTERS),
      touch: () => (session.touched = true),
    });
    session.connection.settle();
    this.sessions.push(session);
    return pipe.client;
  };

  /** The server is gone, and refuses until `down` is false again. */
  kill(): void {
    this.down = true;
    for (const { pipe } of this.sessions) {
      pipe.cut = true;
      pipe.toServer = [];
      pipe.toClient = [];
    }
  }

  turn = (): void => {
    // A turn takes a millisecond here, and a tick is due every 50.
    if (++this.now_ms % 50 === 0) this.volume.tick(this.now_ms);
    // A copy: sessions end and begin meanwhile.
    for (const session of this.sessions.slice()) {
      const { pipe, connection, told } = session;
      if (!pipe.cut) this.#serve(session);
      if (!pipe.clientClosed) told(true, true);
      if (pipe.cut || pipe.clientClosed || connection.closed)
        this.sessions.splice(this.sessions.indexOf(session), 1);
    }
    this.#later.turn();
    this.#budget.turn();
    for (let i = 0; i < this.#touched.length; i++) this.#touched[i]!.settle();
    this.#touched.length = 0;
  };

  #serve(session: Session): void {
    const { connection, pipe } = session;
    if (connection.closed) {
      pipe.cut = true;
      return;
    }
    if (connection.wantsOutput) connection.writable();
    if (connection.wantsInput && (pipe.toServer.length > 0 || pipe.clientClosed)) connection.readable();
    session.touched = false;
    connection.settle();
  }
}
