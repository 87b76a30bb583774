/**
 * One client, from accept to close: joins its socket (a Channel), the handshake and the transmission phase, and
 * decides when to read, when to write and when it is over. Knows no epoll and no clock: loop.ts tells it what the
 * socket is ready for, and asks it for what it wants to be told next.
 *
 *   handshake --entered--> serving --DISC, end of stream, breach--> draining --nothing in flight or unsent--> closed
 *    |  ^ |                   |                                        ^
 *    | TLS|                   +--export withdrawn, server stops--> leaving: requests are refused until no more are there
 *    +----+--ended, hangup, timeout--> draining (what was said is still sent)
 *
 * An end of stream ends only what comes from the client: replies to what it had asked are still sent (it may have
 * shut down one direction only).
 *
 * Input is one chunk, held only while bytes lie in it.
 */
import type { Budget, Chunk, ChunkPool } from './chunks.js';
import { AT_EXPORT, AT_SERVER, type ServerCounter } from './counters.js';
import { LARGE_CHUNK_BYTES, PIECE_BYTES } from './limits.js';
import { Negotiation, type Entered, type Offer, type OfferList } from './negotiation.js';
import { Output, type Channel } from './output.js';
import { Transmission } from './transmission.js';
import type { Volume } from '../volume/volume.js';
import { greeting } from './wire.js';

/** An export as a connection sees it. */
export interface ServedOffer extends Offer {
  readonly volume: Volume;
  readonly counters: Float64Array;
}

/** A socket under TLS. What epoll tells is not all: `hasInput` may be true of bytes that were read ahead. */
export interface SecureChannel extends Channel {
  readonly hasInput: boolean;
  /** What the peer has proven to be, after the handshake; null: nothing. */
  readonly identity: string | null;
  /** The TLS handshake, as far as it goes now: 0, -EAGAIN, or another -errno. */
  shake(): number;
}

/** What NBD_OPT_STARTTLS needs. */
export interface TlsDoor<O extends ServedOffer> {
  /** From the next byte on. null: it cannot. */
  begin(): SecureChannel | null;
  /** What a client may see that has proven to be this. */
  offersTo(identity: string | null): OfferList<O>;
  /** The handshake failed. */
  failed(): void;
}

export interface ConnectionParts<O extends ServedOffer> {
  readonly channel: Channel;
  /** Clients must begin TLS; null or left out: they cannot. */
  readonly tls?: TlsDoor<O> | null;
  readonly offers: OfferList<O>;
  readonly pool: ChunkPool;
  readonly budget: Budget;
  readonly serverCounters: Float64Array;
  /** Call `settle` before this turn of the loop ends. */
  readonly touch: (connection: Connection<O>) => void;
}

const EINTR = -4;
const EAGAIN = -11;
/** Receives before another connection has its turn. */
const RECEIVES_LIMIT = 8;

export class Connection<O extends ServedOffer = ServedOffer> {
  /** null during the handshake. */
  offer: O | null = null;
  closed = false;
  /** Touched in this turn; kept by the loop. */
  touched = false;
  #parts: ConnectionParts<O>;
  #channel: Channel;
  #secure: SecureChannel | null = null;
  #shaking = false;
  #notedPlaintext = false;
  #out: Output;
  #negotiation: Negotiation<O> | null;
  #transmission: Transmission | null = null;
  #texts: Uint8Array[] = [greeting()];
  #textAt = 0;
  #in: Chunk | null = null;
  #start = 0;
  #end = 0;
  #draining = false;
  /** Takes requests only to refuse them. */
  #leaving = false;
  /** The socket had no more to give when it was asked last. */
  #dry = false;
  #stalled = false;

  constructor(parts: ConnectionParts<O>) {
    this.#parts = parts;
    this.#channel = parts.channel;
    this.#out = new Output(parts.channel, parts.pool, parts.budget);
    this.#negotiation = new Negotiation(parts.offers, (parts.tls ?? null) === null ? 'none' : 'required');
  }

  get handshaking(): boolean {
    return this.#negotiation !== null;
  }

  /** In the TLS handshake. */
  get shaking(): boolean {
    return this.#shaking;
  }

  /** It ends: nothing more is taken from the client, or only to be refused. */
  get draining(): boolean {
    return this.#draining || this.#leaving;
  }

  /** There is input of which the socket will not tell: call `readable` in the next turn. */
  get hasInput(): boolean {
    return this.#secure !== null && !this.#shaking && this.#secure.hasInput && this.wantsInput;
  }

  /** What the socket should be watched for. */
  get wantsInput(): boolean {
    return !this.#draining && !this.#out.broken && !this.#paused;
  }
  get wantsOutput(): boolean {
    return this.#out.blocked && !this.#out.waitsForFile && !this.#out.broken;
  }

  /** The socket has something: bytes, an end, or an error. */
  readable(): void {
    if (this.#shaking) this.#shake();
    if (!this.#shaking) this.#receive();
    this.#parts.touch(this);
  }

  writable(): void {
    if (this.#shaking) return this.readable();
    this.#out.writable();
    this.#parts.touch(this);
  }

  /** Past the handshake, with nothing of it in flight. It may have replies that it does not read. */
  get idle(): boolean {
    const transmission = this.#transmission;
    if (transmission === null || this.draining) return false;
    return transmission.inFlightCount === 0;
  }

  /** Answers what is in flight, refuses what else the client has asked already, and closes. */
  drain(): void {
    if (this.#transmission === null) this.#draining = true;
    else {
      this.#leaving = true;
      this.#transmission.shuttingDown = true;
    }
    this.#parts.touch(this);
  }

  /**
   * For a client that dials again and then asks again what got no answer: answers what is with the volume, takes nothing more,
   * not even to refuse it, and closes. Nothing of the client is under way when it comes back.
   */
  hangUp(): void {
    this.#draining = true;
    this.#parts.touch(this);
  }

  /** Gives up on the client: nothing more is sent. What is with the volume still has to end. */
  abandon(): void {
    this.#draining = true;
    this.#out.broken = true;
    this.#out.clear();
    this.#parts.touch(this);
  }

  /** At the end of a turn: sends, and goes on with input that had to wait. Afterwards `closed` may be true. */
  settle(): void {
    this.#sendAndGoOn();
    if (this.#leaving && !this.#draining && this.#isDone) {
      // What the client asked before it could know gets an answer, and not a reset of the connection.
      this.#receive();
      this.#sendAndGoOn();
      if (this.#dry && this.#isDone) this.#draining = true;
    }
    this.#noteStall();
    if (this.#out.broken && !this.#draining) this.#break();
    if (!this.#draining || this.closed) return;
    if (this.#transmission !== null && this.#transmission.inFlightCount > 0) return;
    if (!this.#out.broken && this.#hasToSend) return;
    this.#close();
  }

  /** Everything that was asked is answered and sent. */
  get #isDone(): boolean {
    return !this.#hasToSend && !this.#out.broken && (this.#transmission?.inFlightCount ?? 0) === 0;
  }

  #sendAndGoOn(): void {
    do {
      this.#pumpTexts();
      this.#out.flush();
      // What waited because of the output may go on now, and make new output.
    } while (!this.#paused && !this.#out.broken && (this.#consume() || this.#hasToSend));
    if (this.#startsTls && !this.#shaking && !this.#hasToSend && !this.#draining) this.#beginTls();
  }

  get #hasToSend(): boolean {
    return !this.#out.empty || this.#texts.length > 0;
  }

  get #paused(): boolean {
    if (this.#transmission !== null) return this.#transmission.stalled;
    // Between NBD_OPT_STARTTLS and TLS what comes is not for us to read.
    return this.#texts.length > 0 || this.#out.blocked || (this.#startsTls && !this.#shaking);
  }

  get #startsTls(): boolean {
    return this.#negotiation?.startsTls === true;
  }

  #receive(): void {
    this.#dry = false;
    for (let count = 0; count < RECEIVES_LIMIT; count++) {
      if (!this.wantsInput) return;
      const room = this.#room();
      const received = this.#channel.recv(this.#in!.address + this.#end, room);
      if (received === EINTR) continue;
      if (received === EAGAIN) {
        this.#dry = true;
        if (this.#start === this.#end) this.#giveInput();
        return;
      }
      if (received <= 0) return this.#endOfStream();
      this.#end += received;
      this.#consume();
      // A stream that gave less than there was room for is empty; epoll says when it is not.
      if (received < room && this.#secure?.hasInput !== true) {
        this.#dry = true;
        return;
      }
    }
  }

  #beginTls(): void {
    const { tls, pool, budget } = this.#parts;
    const secure = tls!.begin();
    if (secure === null) return this.#tlsFailed();
    this.#giveInput();
    this.#secure = secure;
    this.#channel = secure;
    // Everything was sent.
    this.#out = new Output(secure, pool, budget);
    this.#shaking = true;
  }

  #shake(): void {
    const result = this.#secure!.shake();
    if (result === EAGAIN || result === EINTR) return;
    if (result < 0) return this.#tlsFailed();
    this.#shaking = false;
    this.#countServer('tlsHandshakes');
    this.#negotiation!.resumeWithTls(this.#parts.tls!.offersTo(this.#secure!.identity));
  }

  #tlsFailed(): void {
    this.#countServer('tlsFailures');
    this.#parts.tls!.failed();
    this.abandon();
  }

  /** Makes room for what is wanted next; returns how much may be received at the end of the input. */
  #room(): number {
    const { wanted_bytes, welcome_bytes } = this.#transmission ?? HANDSHAKE_WISH;
    if (this.#in === null) this.#in = this.#parts.pool.takeLarge();
    if (this.#start === this.#end) this.#start = this.#end = 0;
    else if (this.#start > 0 && LARGE_CHUNK_BYTES - this.#end < Math.max(wanted_bytes, COMPACT_BYTES)) {
      this.#in.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    return Math.min(LARGE_CHUNK_BYTES - this.#end, welcome_bytes);
  }

  /** Takes what can be taken of the input. True when it took something. */
  #consume(): boolean {
    if (this.#draining || this.#in === null || this.#start === this.#end) return false;
    const before = this.#end - this.#start;
    if (this.#negotiation !== null) this.#negotiate(this.#negotiation);
    if (this.#transmission !== null) this.#transmit(this.#transmission);
    const took = this.#end - this.#start < before;
    if (this.#start === this.#end) this.#giveInput();
    return took;
  }

  #negotiate(negotiation: Negotiation<O>): void {
    const input = this.#in!.bytes.subarray(this.#start, this.#end);
    this.#start += negotiation.step(input, this.#texts);
    const { ended } = negotiation;
    if (negotiation.refusedPlaintext && !this.#notedPlaintext) {
      this.#notedPlaintext = true;
      if (ended !== 'plaintextRefused') this.#countServer('plaintextRefused');
    }
    if (negotiation.entered !== null) this.#enter(negotiation.entered);
    else if (ended !== null) {
      this.#countServer(ended);
      this.#negotiation = null;
      this.#draining = true;
    }
  }

  #enter(entered: Entered<O>): void {
    this.#negotiation = null;
    const { offer, structuredReplies, extendedHeaders, baseAllocation, contexts } = entered;
    const { readOnly, minimumBlock_bytes = 1 } = offer;
    this.offer = offer;
    offer.counters[AT_EXPORT.connections]!++;
    offer.counters[AT_EXPORT.connectionsTotal]!++;
    this.#transmission = new Transmission({
      volume: offer.volume,
      agreed: { readOnly, structuredReplies, extendedHeaders, baseAllocation, contexts, minimumBlock_bytes },
      output: this.#out,
      pool: this.#parts.pool,
      budget: this.#parts.budget,
      counters: offer.counters,
      touch: () => this.#parts.touch(this),
    });
  }

  #transmit(transmission: Transmission): void {
    // The end of the handshake goes out before the first reply.
    this.#pumpTexts();
    if (this.#texts.length > 0) return;
    do {
      transmission.tookInput = false;
      this.#start = transmission.consume(this.#in!, this.#start, this.#end);
      if (transmission.tookInput) this.#loseInput();
    } while (transmission.tookInput && this.#in !== null && transmission.ended === null);
    if (transmission.ended === null) return;
    this.offer!.counters[AT_EXPORT[transmission.ended]]!++;
    if (transmission.ended !== 'disconnects') this.offer!.counters[AT_EXPORT.abruptDisconnects]!++;
    this.#draining = true;
  }

  #pumpTexts(): void {
    while (this.#texts.length > 0 && !this.#out.blocked && !this.#out.broken) {
      const text = this.#texts[0]!;
      const length = Math.min(text.length - this.#textAt, PIECE_BYTES);
      const at = this.#out.reserve(length);
      this.#out.chunk!.bytes.set(text.subarray(this.#textAt, this.#textAt + length), at);
      this.#out.commit(length);
      this.#textAt += length;
      if (this.#textAt < text.length) continue;
      this.#texts.shift();
      this.#textAt = 0;
    }
  }

  #break(): void {
    if (this.#out.fileFailed && this.offer !== null) {
      // It will connect and ask again; then the error has to be an answer.
      this.offer.volume.sendFailed();
      this.offer.counters[AT_EXPORT.brokenReads]!++;
    }
    this.#endOfStream();
  }

  /** The client says nothing more, without NBD_CMD_DISC. */
  #endOfStream(): void {
    if (this.#draining) return;
    this.#draining = true;
    if (this.offer !== null) this.offer.counters[AT_EXPORT.abruptDisconnects]!++;
    else this.#countServer('handshakeHangups');
  }

  #noteStall(): void {
    const stalled = this.#transmission !== null && !this.draining && this.#transmission.stalled;
    if (stalled && !this.#stalled) this.offer!.counters[AT_EXPORT.stalls]!++;
    this.#stalled = stalled;
  }

  /** The chunk is a request's now, but for the end of what is in it. */
  #loseInput(): void {
    const taken = this.#in!;
    const left = this.#end - this.#start;
    this.#in = null;
    if (left > 0) {
      this.#in = this.#parts.pool.takeLarge();
      this.#in.bytes.set(taken.bytes.subarray(this.#start, this.#end));
    }
    this.#start = 0;
    this.#end = left;
  }

  #giveInput(): void {
    if (this.#in !== null) this.#parts.pool.give(this.#in);
    this.#in = null;
    this.#start = this.#end = 0;
  }

  #close(): void {
    this.closed = true;
    this.#transmission?.close();
    this.#giveInput();
    this.#out.clear();
    if (this.offer !== null) this.offer.counters[AT_EXPORT.connections]!--;
  }

  #countServer(name: ServerCounter): void {
    this.#parts.serverCounters[AT_SERVER[name]]!++;
  }
}

/** Less room than this at the end of the input is worth moving what is left to the beginning. */
const COMPACT_BYTES = 32_768;
const HANDSHAKE_WISH = { wanted_bytes: 1, welcome_bytes: Infinity };
