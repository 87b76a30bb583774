/**
 * TLS of a client in a thread that has JavaScript's event loop: a stream above one of node's sockets, by the same OpenSSL sessions as
 * everywhere here. node:tls would be a second client, with other words, and speaks pre-shared keys in TLS 1.2 only.
 *
 *   plain socket --bytes--> TlsPipe --> TlsSession --> readable side
 *                <--bytes---         <--            <-- writable side
 *
 * Emits 'secure' when the handshake is over. Errors are TlsError or the socket's own. Its end is that of the socket.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { EAGAIN } from '../../host/errno.js';
import { mapAnonymous } from '../../host/memory.js';
import { TlsError, type TlsSession } from '../../host/tls.js';
import { TlsPipe } from '../../host/tlsPipe.js';
import type { TlsOpening } from '../volume/opening.js';
import { TlsSecrets } from './secrets.js';

/** A record: no more goes into a pipe at once. */
const PIECE_BYTES = 16_384;

type Done = (error?: Error | null) => void;

export class SecureStream extends Duplex {
  #socket: Socket;
  #secrets: TlsSecrets;
  #pipe = new TlsPipe();
  #session: TlsSession;
  #memory = mapAnonymous(PIECE_BYTES);
  #isSecure = false;
  #isClosed = false;
  /** Waits until the handshake is over. */
  #began: (() => void) | null = null;
  /** Waits until the socket takes more. */
  #drained: (() => void) | null = null;

  /** The socket is this stream's from now on. Throws TlsError. */
  constructor(socket: Socket, opening: TlsOpening) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    this.#secrets = new TlsSecrets('client', opening);
    try {
      this.#session = this.#secrets.session(this.#pipe);
    } catch (error) {
      this.#isClosed = true;
      this.#letGo();
      throw error;
    }
    socket.on('data', (bytes: Buffer) => this.#input(bytes));
    socket.on('error', error => this.destroy(error));
    socket.on('close', () =>
      this.destroy(
        this.#isSecure
          ? undefined
          : new TlsError(
              'the peer ended the connection within the handshake: it may not accept our certificate or key',
            ),
      ),
    );
    socket.on('drain', () => {
      const drained = this.#drained;
      this.#drained = null;
      drained?.();
    });
    this.#proceed();
  }

  /** TLS 1.2 or 1.3. */
  get version(): string {
    return this.#session.version;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Uint8Array, _encoding: string, done: Done): void {
    this.#send(bytes, 0, done);
  }

  override _final(done: Done): void {
    if (!this.#isClosed) this.#session.end();
    this.#output();
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    this.#release();
    done(error);
  }

  #release(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#session.close();
    this.#letGo();
  }

  #letGo(): void {
    this.#secrets.close();
    this.#pipe.close();
    this.#memory.bytes.fill(0);
    this.#memory.unmap();
  }

  #input(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#isClosed;) {
      const taken = this.#pipe.put(bytes.subarray(at));
      at += taken;
      if (!this.#proceed() && taken === 0)
        return void this.destroy(new TlsError('the peer sends without end'));
    }
  }

  /** Does what the bytes that are there allow. True: some of them were taken. */
  #proceed(): boolean {
    if (!this.#isSecure) {
      const result = this.#session.shake();
      this.#output();
      if (result === -EAGAIN) return true;
      if (result < 0) return this.#fail();
      this.#isSecure = true;
      this.#began?.();
      this.emit('secure');
    }
    let some = false;
    while (!this.#isClosed) {
      const received = this.#session.recv(this.#memory.address, PIECE_BYTES);
      this.#output();
      if (received === -EAGAIN) return some;
      if (received < 0) return this.#fail();
      if (received === 0) {
        this.push(null);
        return true;
      }
      some = true;
      if (!this.push(Buffer.from(this.#memory.bytes.slice(0, received)))) this.#socket.pause();
    }
    return true;
  }

  #fail(): boolean {
    this.destroy(new TlsError(this.#session.reason));
    return true;
  }

  /** Piece by piece, as the socket takes them. */
  #send(bytes: Uint8Array, at: number, done: Done): void {
    if (!this.#isSecure) {
      this.#began = () => this.#send(bytes, at, done);
      return;
    }
    while (at < bytes.length) {
      if (this.#isClosed) return done(new TlsError('the connection was closed'));
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      this.#memory.bytes.set(piece);
      const sent = this.#session.send(this.#memory.address, piece.length);
      if (sent < 0) return done(new TlsError(this.#session.reason));
      at += sent;
      if (this.#output()) continue;
      this.#drained = () => this.#send(bytes, at, done);
      return;
    }
    done();
  }

  /** False: the socket wants no more now. */
  #output(): boolean {
    let wants = true;
    for (let bytes; !this.#isClosed && (bytes = this.#pipe.take()) !== null;)
      wants = this.#socket.write(bytes);
    return wants;
  }
}
