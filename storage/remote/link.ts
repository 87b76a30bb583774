/**
 * One connection to an NBD server in the data thread: joins a socket to the handshake and to transmission, and keeps what is
 * to be sent. Decides nothing about requests: remoteVolume.ts says what to ask, and what to do when a link is down.
 *
 *   connecting -> shaking -> [tls -> shaking ->] up -> down          (down is for good: another try is another link)
 *
 * Requests of a turn are laid one behind the other in one chunk and leave by one send; a longer payload is not copied but
 * sent from where it lies, behind everything that was asked before it. A long read is received into its place.
 */
import type { Chunk } from '../nbd/chunks.js';
import type { Later } from '../volume/later.js';
import type { Memory, Waiter } from '../volume/volume.js';
import { ClientNegotiation, type Agreed } from './clientNegotiation.js';
import { ClientTransmission, type Answers } from './clientTransmission.js';

/** A socket that never blocks. Results are 0 or more, or -errno. */
export interface RemoteSocket {
  /** How the connect ended: 0, or -EAGAIN while it has not. */
  connected(): number;
  recv(address: number, length_bytes: number): number;
  send(address: number, length_bytes: number): number;
  /** Goes on with the TLS handshake: 0 when it is over, -EAGAIN: when the socket is ready again. What failed is in `reason`. */
  shakeTls(): number;
  /** More may be there that readiness will not tell of: it is with TLS. */
  readonly hasInput: boolean;
  /** Why the last call failed, where an errno says too little. */
  readonly reason: string | null;
  /** What to be told. */
  want(input: boolean, output: boolean): void;
  close(): void;
}

/** `ready` is told from now on. A text: why it cannot be. */
export type Dial = (ready: (input: boolean, output: boolean) => void) => RemoteSocket | string;

export interface LinkOwner extends Answers {
  linkUp(link: Link, agreed: Agreed): void;
  /** It may take more than it could. */
  linkRoom(): void;
  /** Its socket is closed; what it had asked is in `link.abandoned`. */
  linkDown(link: Link, why: string): void;
}

export interface LinkParts {
  readonly owner: LinkOwner;
  readonly dial: Dial;
  readonly exportName: string;
  readonly tls: boolean;
  /** Two for each link; given back when it is down, and not to be unmapped before this turn has ended. */
  readonly take: (length_bytes: number) => Chunk;
  readonly give: (chunk: Chunk) => void;
  readonly later: Later;
  readonly now_ms: () => number;
}

const EAGAIN = -11;
const EINTR = -4;
/** Requests on one connection that are not answered yet. */
const LINK_REQUESTS_LIMIT = 64;
export const LINK_CHUNK_BYTES = 132 * 1024;
const IN_BYTES = LINK_CHUNK_BYTES;
const OUT_BYTES = LINK_CHUNK_BYTES;
/** A payload up to here is copied behind its header. */
const COPIED_BYTES = 16 * 1024;
/** From here on data of a read are received into their place. */
const DIRECT_BYTES = 16 * 1024;
/** Receives before others have their turn. */
const RECEIVES_LIMIT = 16;

export class Link implements Waiter {
  state: 'connecting' | 'shaking' | 'tls' | 'up' | 'down' = 'connecting';
  /** Since when the server owes us something and has said nothing. */
  waitingSince_ms: number;
  /** What the server told, once it is up; stays when it is down. */
  agreed: Agreed | null = null;
  /** Tags of requests that were not answered when it went down. */
  abandoned: number[] = [];
  #parts: LinkParts;
  #socket: RemoteSocket | null = null;
  #negotiation: ClientNegotiation;
  #transmission: ClientTransmission | null = null;
  #in: Chunk | null = null;
  #inStart = 0;
  #inEnd = 0;
  #out: Chunk | null = null;
  #outStart = 0;
  #outEnd = 0;
  #directAddress = 0;
  #direct_bytes = 0;
  #blocked = false;
  #resumes = false;
  #texts: Uint8Array[] = [];

  constructor(parts: LinkParts) {
    this.#parts = parts;
    this.waitingSince_ms = parts.now_ms();
    this.#negotiation = new ClientNegotiation({ exportName: parts.exportName, tls: parts.tls });
    const socket = parts.dial((input, output) => this.#ready(input, output));
    if (typeof socket === 'string') {
      this.state = 'down';
      this.reason = socket;
      return;
    }
    this.#socket = socket;
    this.#in = parts.take(IN_BYTES);
    this.#out = parts.take(OUT_BYTES);
    socket.want(true, true);
  }

  /** Why it is down. */
  reason: string | null = null;

  get inFlight(): number {
    return this.#transmission?.inFlight ?? 0;
  }

  /** Takes another request now. */
  get hasRoom(): boolean {
    return (
      this.state === 'up' &&
      this.#direct_bytes === 0 &&
      !this.#blocked &&
      this.#transmission!.inFlight < LINK_REQUESTS_LIMIT
    );
  }

  /**
   * Only when `hasRoom`. A write's payload is memory[at, at + length), which stays as it is until the answer; a read's data
   * go there. False: no room after all, nothing was asked.
   */
  ask(
    type: number,
    flags: number,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    isWrite: boolean,
    tag: number,
  ): boolean {
    const transmission = this.#transmission!;
    const header_bytes = transmission.requestBytes;
    const copied_bytes = isWrite && length <= COPIED_BYTES ? length : 0;
    if (this.#outEnd + header_bytes + copied_bytes > OUT_BYTES) {
      this.flush();
      if (this.state !== 'up' || this.#outEnd + header_bytes + copied_bytes > OUT_BYTES) return false;
    }
    if (transmission.inFlight === 0) this.waitingSince_ms = this.#parts.now_ms();
    const out = this.#out!;
    transmission.ask(out.view, this.#outEnd, type, flags, offset, length, isWrite ? null : memory, at, tag);
    this.#outEnd += header_bytes;
    if (!isWrite) return true;
    if (copied_bytes > 0) {
      out.bytes.set(memory!.bytes.subarray(at, at + length), this.#outEnd);
      this.#outEnd += length;
    } else {
      this.#directAddress = memory!.address + at;
      this.#direct_bytes = length;
      this.flush();
    }
    return true;
  }

  /** Sends what the socket takes. */
  flush(): void {
    if (this.state === 'down' || this.#socket === null) return;
    this.#blocked = false;
    while (this.#outStart < this.#outEnd) {
      const sent = this.#send(this.#out!.address + this.#outStart, this.#outEnd - this.#outStart);
      if (sent === 0) return;
      this.#outStart += sent;
    }
    this.#outStart = this.#outEnd = 0;
    while (this.#direct_bytes > 0) {
      const sent = this.#send(this.#directAddress, this.#direct_bytes);
      if (sent === 0) return;
      this.#directAddress += sent;
      this.#direct_bytes -= sent;
    }
    this.#want();
  }

  /** Says goodbye when it can, and closes. `linkDown` is not told. */
  close(): void {
    if (this.state === 'up' && !this.#blocked && this.#direct_bytes === 0) {
      if (this.#outEnd + this.#transmission!.requestBytes <= OUT_BYTES)
        this.#outEnd += this.#transmission!.disconnect(this.#out!.view, this.#outEnd);
      this.flush();
    }
    this.#end('closed');
  }

  /** At once. `linkDown` is not told. */
  abort(why: string): void {
    this.#end(why);
  }

  /** As if the connection had ended. */
  drop(why: string): void {
    if (this.state === 'down') return;
    this.#end(why);
    this.#parts.owner.linkDown(this, why);
  }

  #end(why: string): void {
    if (this.state === 'down') return;
    this.state = 'down';
    this.reason = why;
    this.#socket?.close();
    this.abandoned = this.#transmission?.abandoned() ?? [];
    if (this.#in !== null) this.#parts.give(this.#in);
    if (this.#out !== null) this.#parts.give(this.#out);
    this.#in = this.#out = null;
    this.#direct_bytes = 0;
  }

  /** 0: not now, or it is down. */
  #send(address: number, length_bytes: number): number {
    for (;;) {
      const sent = this.#socket!.send(address, length_bytes);
      if (sent > 0) return sent;
      if (sent === EINTR) continue;
      if (sent === EAGAIN || sent === 0) {
        this.#blocked = true;
        this.#want();
      } else this.drop(this.#why(sent, 'sending to it failed'));
      return 0;
    }
  }

  #why(result: number, what: string): string {
    return this.#socket?.reason ?? (result < 0 ? `${what} (errno ${-result})` : what);
  }

  #want(): void {
    this.#socket!.want(true, this.#blocked || this.state === 'connecting');
  }

  #ready(input: boolean, output: boolean): void {
    if (this.state === 'connecting') this.#connect();
    if (this.state === 'tls') this.#shakeTls();
    if (this.state === 'down') return;
    if (output && this.#blocked) {
      this.flush();
      this.#parts.owner.linkRoom();
    }
    if (input && this.state !== 'connecting' && this.state !== 'tls') this.#receive();
  }

  #connect(): void {
    const result = this.#socket!.connected();
    if (result === EAGAIN) return;
    if (result < 0) return this.drop(this.#why(result, 'connecting failed'));
    this.state = 'shaking';
    this.#want();
  }

  #shakeTls(): void {
    const result = this.#socket!.shakeTls();
    if (result === EAGAIN) return;
    if (result < 0) return this.drop(this.#why(result, 'TLS could not be begun'));
    this.state = 'shaking';
    this.#negotiation.tlsBegan(this.#texts);
    this.#sendTexts();
    // The server may have said more within the bytes that ended the handshake.
    if ((this.state as string) === 'shaking') this.#receive();
  }

  #receive(): void {
    const { tls } = this.#parts;
    for (let count = 0; count < RECEIVES_LIMIT; count++) {
      if (this.state === 'down' || this.state === 'tls') return;
      const direct_bytes = this.#inStart === this.#inEnd ? (this.#transmission?.direct_bytes ?? 0) : 0;
      const direct = direct_bytes >= DIRECT_BYTES;
      if (!direct) this.#compact();
      const room = direct ? direct_bytes : IN_BYTES - this.#inEnd;
      const address = direct ? this.#directPlace() : this.#in!.address + this.#inEnd;
      const received = this.#socket!.recv(address, room);
      if (received === EINTR) continue;
      if (received === EAGAIN) return;
      if (received <= 0) return this.drop(this.#why(received, 'the server closed the connection'));
      this.waitingSince_ms = this.#parts.now_ms();
      if (direct) this.#transmission!.received(received);
      else {
        this.#inEnd += received;
        this.#consume();
      }
      if (received < room && !direct && !tls) return;
    }
    if (this.#socket!.hasInput && !this.#resumes) {
      this.#resumes = true;
      this.#parts.later.answer(this, 0, 0);
    }
  }

  /** Goes on receiving in another turn. */
  completed(): void {
    this.#resumes = false;
    this.#receive();
  }

  /** Where a read's data are in memory, for the kernel. */
  #directPlace(): number {
    const { direct, directAt } = this.#transmission!;
    return direct.address + directAt;
  }

  #compact(): void {
    if (this.#inStart === this.#inEnd) this.#inStart = this.#inEnd = 0;
    else if (this.#inStart > 0) {
      this.#in!.bytes.copyWithin(0, this.#inStart, this.#inEnd);
      this.#inEnd -= this.#inStart;
      this.#inStart = 0;
    }
  }

  #consume(): void {
    if (this.#transmission === null) this.#negotiate();
    if (this.#transmission === null || this.state !== 'up') return;
    const { bytes, view } = this.#in!;
    const transmission = this.#transmission;
    this.#inStart = transmission.consume(bytes, view, this.#inStart, this.#inEnd);
    if (transmission.broken !== null && this.state === 'up')
      this.drop(`the server breaks the protocol: ${transmission.broken}`);
  }

  #negotiate(): void {
    const negotiation = this.#negotiation;
    this.#inStart += negotiation.step(this.#in!.bytes.subarray(this.#inStart, this.#inEnd), this.#texts);
    this.#sendTexts();
    if (this.state === 'down') return;
    if (negotiation.refused !== null) return this.drop(negotiation.refused);
    if (negotiation.wantsTls) {
      this.state = 'tls';
      return this.#shakeTls();
    }
    if (negotiation.agreed === null) {
      // Its replies are shorter than this, so it waits for nothing.
      if (this.#inEnd - this.#inStart >= IN_BYTES) this.drop('its handshake does not end');
      return;
    }
    this.#transmission = new ClientTransmission(negotiation.agreed, this.#parts.owner);
    this.state = 'up';
    this.agreed = negotiation.agreed;
    this.#parts.owner.linkUp(this, negotiation.agreed);
  }

  #sendTexts(): void {
    for (const text of this.#texts) {
      // A client's handshake is shorter than the chunk.
      this.#out!.bytes.set(text, this.#outEnd);
      this.#outEnd += text.length;
    }
    this.#texts.length = 0;
    this.flush();
  }
}
