/**
 * One connection to a vhost-user peer: bytes and fds from the socket to whole messages, and replies back. A header is
 * read first, with the fds that came beside it, then as much as it announces; so no message's fds can be taken for
 * another's. What a peer sends is bounded before it is read.
 */
import { EAGAIN, HostError } from '../errno.js';
import * as raw from '../raw.js';
import { recvFds, sendFds } from '../unix.js';
import {
  FLAG_REPLY,
  HEADER_LENGTH,
  PAYLOAD_MAX_BYTES,
  REGIONS_MAX_COUNT,
  VERSION,
  emitHeader,
  headerProblem,
  parseHeader,
} from './wire.js';
import { Refused } from './session.js';
import type { Session } from './session.js';

/** Messages taken in a row, so that a peer that talks without end does not hold up everybody's frames. */
const MESSAGES_PER_TURN = 32;

export class Connection {
  readonly fd: number;
  readonly #session: Session;
  readonly #bytes = new Uint8Array(HEADER_LENGTH + PAYLOAD_MAX_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #header = { request: 0, flags: 0, size: 0 };
  #have = 0;
  #fds: number[] = [];

  constructor(fd: number, session: Session) {
    this.fd = fd;
    this.#session = session;
  }

  /** A whole message waits for `Session.mayHandle`. */
  get holdsBack(): boolean {
    return this.#have >= HEADER_LENGTH && this.#have === HEADER_LENGTH + this.#header.size;
  }

  /** Takes what is there. In words why the connection is over, or undefined. Throws Refused for a peer's nonsense. */
  receive(): string | undefined {
    for (let i = 0; i < MESSAGES_PER_TURN; i++) {
      const end = this.#receiveOne();
      if (end === 'more') continue;
      return end === 'later' ? undefined : end;
    }
    return undefined;
  }

  #receiveOne(): string {
    const header = this.#header;
    const want = this.#have < HEADER_LENGTH ? HEADER_LENGTH : HEADER_LENGTH + header.size;
    if (this.#have < want) {
      const room = this.#bytes.subarray(this.#have, want);
      let n: number;
      try {
        const got = recvFds(this.fd, room, REGIONS_MAX_COUNT);
        n = got.length_bytes;
        this.#fds.push(...got.fds);
        if (got.truncated || this.#fds.length > REGIONS_MAX_COUNT)
          throw new Refused(`the peer sent more than ${REGIONS_MAX_COUNT} fds with a message`);
      } catch (error) {
        if (error instanceof HostError) return error.message;
        throw error;
      }
      if (n === -EAGAIN) return 'later';
      if (n === 0) return 'the peer has gone';
      const wasHeader = this.#have < HEADER_LENGTH;
      this.#have += n;
      if (this.#have < want) return 'more';
      if (wasHeader) {
        parseHeader(this.#view, 0, header);
        const problem = headerProblem(header);
        if (problem !== undefined) throw new Refused(`the peer sent a message with ${problem}`);
        if (header.size > 0) return 'more';
      }
    }
    // It lies whole in #bytes, and the next call comes here again.
    if (!this.#session.mayHandle(header.request)) return 'later';
    this.#have = 0;
    const fds = this.#fds;
    this.#fds = [];
    const reply = this.#session.handle(header, this.#view, HEADER_LENGTH, HEADER_LENGTH + header.size, fds);
    return reply === undefined ? 'more' : this.#send(header.request, reply);
  }

  #send(request: number, payload: Uint8Array): string {
    const bytes = new Uint8Array(HEADER_LENGTH + payload.length);
    emitHeader(new DataView(bytes.buffer), 0, { request, flags: VERSION | FLAG_REPLY, size: payload.length });
    bytes.set(payload, HEADER_LENGTH);
    try {
      // It asked and waits for the answer, so there is room; a peer that never reads is none to serve.
      return sendFds(this.fd, bytes, this.#session.replyFds) === bytes.length
        ? 'more'
        : 'the peer does not read its replies';
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      for (const fd of this.#session.replyFds) raw.close(fd);
      this.#session.replyFds.length = 0;
    }
  }

  close(): void {
    for (const fd of this.#fds) raw.close(fd);
    this.#fds = [];
    raw.close(this.fd);
  }
}
