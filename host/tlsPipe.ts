/**
 * Both ways of a TlsSession without a socket of its own: what the peer sent is put in, what is to be sent is taken out. For threads that
 * have JavaScript's event loop, whose sockets are node's. OpenSSL's pair of BIOs, as those of tlsOutbox.ts.
 */
import { mapAnonymous } from './memory.js';
import { openssl } from './openssl.js';

/** Each way: a few records. */
const ROOM_BYTES = 4 * (16_384 + 256);

export class TlsPipe {
  #outer = 0;
  #memory = mapAnonymous(ROOM_BYTES);

  /** For TlsSession, with the address of its SSL. False: no memory. */
  attach(session: number): boolean {
    const ssl = openssl();
    const { address, view } = this.#memory;
    if (ssl.newPair(address, ROOM_BYTES, address + 8, ROOM_BYTES) !== 1) return false;
    const inner = Number(view.getBigUint64(0, true));
    this.#outer = Number(view.getBigUint64(8, true));
    // The session owns that end from now on.
    ssl.setBio(session, inner, inner);
    return true;
  }

  /** How many of these bytes of the peer there was room for: the session must receive before there is more. */
  put(bytes: Uint8Array): number {
    const length_bytes = Math.min(bytes.length, ROOM_BYTES);
    this.#memory.bytes.set(bytes.subarray(0, length_bytes));
    return Math.max(0, openssl().writeBio(this.#outer, this.#memory.address, length_bytes));
  }

  /** Bytes for the peer, a copy of them; null: none now. */
  take(): Uint8Array | null {
    const length_bytes = openssl().readFromBio(this.#outer, this.#memory.address, ROOM_BYTES);
    return length_bytes > 0 ? this.#memory.bytes.slice(0, length_bytes) : null;
  }

  /** After the session was closed. */
  close(): void {
    if (this.#outer !== 0) openssl().freeBio(this.#outer);
    this.#outer = 0;
    this.#memory.unmap();
  }
}
