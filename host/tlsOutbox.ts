/**
 * Where several TLS records wait to be sent by one call. OpenSSL gives each record of 16 KiB to its BIO by itself, and a socket's BIO
 * is a system call, a packet and a wake-up of the peer. Here its BIO is one end of a pair (BIO_s_bio): a ring in memory, whose
 * other end gives the address of what lies in it.
 *
 *   SSL_write, SSL_write, ... --> inner ~~ring~~ outer --drain: send--> socket
 *
 * A session has one only while it sends: outboxes of a thread are used again, so that idle sessions cost nothing.
 */
import { EAGAIN, EINTR } from './errno.js';
import { mapAnonymous, type Mapping } from './memory.js';
import { openssl } from './openssl.js';
import { MSG_NOSIGNAL, send } from './raw.js';

export const RECORD_BYTES = 16_384;
/** More at once gains little, and what a socket does not take is kept in an outbox. */
export const OUTBOX_RECORDS = 4;
/** RFC 8446, 5.2: a record has at most 256 bytes around what it carries. */
const ROOM_BYTES = OUTBOX_RECORDS * (RECORD_BYTES + 256);
/** Kept for the next who sends. */
const SPARE_LIMIT = 16;

const spare: Outbox[] = [];
/** OpenSSL tells an address by writing it to one. */
let told: Mapping | null = null;

export class Outbox {
  /** For SSL_set0_wbio, which takes a reference. */
  readonly inner: number;
  #outer: number;

  private constructor(inner: number, outer: number) {
    this.inner = inner;
    this.#outer = outer;
  }

  /** Null: no memory. */
  static take(): Outbox | null {
    const used = spare.pop();
    if (used !== undefined) return used;
    told ??= mapAnonymous(16);
    const made = openssl().newPair(told.address, ROOM_BYTES, told.address + 8, 1);
    if (made !== 1) return null;
    return new Outbox(tellAddress(0), tellAddress(8));
  }

  get isEmpty(): boolean {
    return openssl().pending(this.#outer) === 0;
  }

  /** Sends all that is in it: 0, or -errno; -EAGAIN: the socket takes no more. */
  drain(fd: number): number {
    const ssl = openssl();
    for (;;) {
      const length_bytes = ssl.peek(this.#outer, told!.address);
      if (length_bytes <= 0) return 0;
      const sent = send(fd, tellAddress(0), length_bytes, MSG_NOSIGNAL);
      if (sent === -EINTR) continue;
      if (sent < 0) return sent;
      ssl.skip(this.#outer, told!.address, sent);
      if (sent < length_bytes) return -EAGAIN;
    }
  }

  /** For the next; what is in it is forgotten. No session has it any more. */
  give(): void {
    const ssl = openssl();
    if (spare.length >= SPARE_LIMIT) {
      ssl.freeBio(this.inner);
      ssl.freeBio(this.#outer);
      return;
    }
    for (let left; (left = ssl.peek(this.#outer, told!.address)) > 0;)
      ssl.skip(this.#outer, told!.address, left);
    spare.push(this);
  }
}

function tellAddress(at: number): number {
  return told!.view.getUint32(at, true) + told!.view.getUint32(at + 4, true) * 2 ** 32;
}
