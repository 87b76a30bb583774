/**
 * TLS of clients: what a listener begins sessions with, and a client's socket once it has one (NBD_OPT_STARTTLS). host/tls.ts
 * does the work.
 *
 * TLS may have to write in order to read, and the other way round: the `...Needs...` say so, and clients.ts watches the
 * socket accordingly. OpenSSL reads ahead: `hasInput` tells of bytes of which epoll will not.
 */
import { TlsContext, TlsError, TlsSession } from '../../host/tls.js';
import type { TlsOpening } from '../volume/opening.js';
import type { SecureChannel } from './connection.js';

const EAGAIN = -11;

/** Of one listener. Sessions that are there keep what they began with when it is renewed. */
export class ServerTls {
  /** Why there is none: then nobody is served. */
  reason = '';
  #context: TlsContext | null = null;

  constructor(opening: TlsOpening) {
    this.renew(opening);
  }

  renew(opening: TlsOpening): void {
    this.close();
    try {
      this.#context = TlsContext.server(opening);
    } catch (error) {
      if (!(error instanceof TlsError)) throw error;
      this.reason = error.message;
    }
  }

  /** Throws TlsError. */
  session(fd: number): TlsSession {
    if (this.#context === null) throw new TlsError(this.reason);
    return new TlsSession(this.#context, fd, null);
  }

  close(): void {
    this.#context?.close();
    this.#context = null;
  }
}

/** Files cannot be sent through it. */
export class SecureSocket implements SecureChannel {
  /** Bytes went through since somebody made it false. */
  moved = false;
  inputNeedsOutput = false;
  outputNeedsInput = false;
  #session: TlsSession;

  constructor(session: TlsSession) {
    this.#session = session;
  }

  get reason(): string {
    return this.#session.reason;
  }
  get identity(): string | null {
    return this.#session.peerIdentity;
  }
  get hasInput(): boolean {
    return this.#session.hasInput;
  }

  shake(): number {
    const result = this.#session.shake();
    this.inputNeedsOutput = result === EAGAIN && this.#session.wantsOutput;
    return result;
  }

  recv(address: number, length_bytes: number): number {
    const received = this.#session.recv(address, length_bytes);
    this.inputNeedsOutput = received === EAGAIN && this.#session.wantsOutput;
    if (received > 0) this.moved = true;
    return received;
  }

  send(address: number, length_bytes: number): number {
    const sent = this.#session.send(address, length_bytes);
    this.outputNeedsInput = sent === EAGAIN && this.#session.wantsInput;
    if (sent > 0) this.moved = true;
    return sent;
  }

  /** Says goodbye, as far as the socket takes it now. Before the fd is closed. */
  close(): void {
    this.#session.end();
    this.#session.close();
  }
}
