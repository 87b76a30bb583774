/**
 * TLS of clients: a client's socket once it has begun it (NBD_OPT_STARTTLS). What it is begun with is tls/secrets.ts.
 *
 * TLS may have to write in order to read, and the other way round: the `...Needs...` say so, and clients.ts watches the
 * socket accordingly. OpenSSL reads ahead: `hasInput` tells of bytes of which epoll will not.
 */
import type { TlsSession } from '../../host/tls.js';
import type { SecureChannel } from './connection.js';

const EAGAIN = -11;

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
