/**
 * Certificates and keys in the hands of OpenSSL: what one listener, or one client's pool, begins its sessions with. Sessions that
 * are there keep what they began with when it is renewed.
 */
import { TlsContext, TlsError, TlsSession } from '../../host/tls.js';
import type { TlsPipe } from '../../host/tlsPipe.js';
import type { TlsOpening } from '../volume/opening.js';

export type TlsSide = 'server' | 'client';

export class TlsSecrets {
  /** Why there are none: then no session begins. */
  reason = '';
  #side: TlsSide;
  #opening: TlsOpening;
  #context: TlsContext | null = null;

  constructor(side: TlsSide, opening: TlsOpening) {
    this.#side = side;
    this.#opening = opening;
    this.#take();
  }

  /** Nothing happens where it is the same object. */
  renew(opening: TlsOpening): void {
    if (opening === this.#opening) return;
    this.#opening = opening;
    this.#take();
  }

  #take(): void {
    this.close();
    try {
      this.#context =
        this.#side === 'server' ? TlsContext.server(this.#opening) : TlsContext.client(this.#opening);
    } catch (error) {
      if (!(error instanceof TlsError)) throw error;
      this.reason = error.message;
    }
  }

  /** Throws TlsError. */
  session(transport: number | TlsPipe): TlsSession {
    if (this.#context === null) throw new TlsError(this.reason);
    return new TlsSession(
      this.#context,
      transport,
      this.#side === 'server' ? null : this.#opening.serverName,
    );
  }

  close(): void {
    this.#context?.close();
    this.#context = null;
  }
}
