/**
 * What another NBD server offers, asked in its own handshake: bytes of the server in, bytes for it out, the list or why not.
 * Pure, and of the same shape as clientNegotiation.ts, whose sibling it is.
 *
 *   greeting -> [STARTTLS -> (TLS by the caller) ->] LIST -> INFO for each of the first so many -> ABORT
 *
 * A server need not answer LIST (it is "forbidden by its rules" then), nor INFO: then names are told without sizes. Of what it
 * sends everything is bounded: how long a reply is, how many there are to an option, how many names are kept.
 */
import * as wire from '../nbd/wire.js';
import { OPTION_REPLIES_LIMIT, OPTION_REPLY_LIMIT_BYTES, reasonOf } from './clientNegotiation.js';

/** Ours: names that are kept; a server with more is told to have more. */
export const NAMES_LIMIT = 10_000;
/** Ours: replies to LIST that are read at all. */
const LIST_REPLIES_LIMIT = 4 * NAMES_LIMIT;
/** Ours: names that are asked about one by one; the rest is listed without size. */
export const INFO_LIMIT = 256;
const DESCRIPTION_LIMIT_BYTES = 1024;
const GREETING_BYTES = 18;

export interface OfferedExport {
  readonly name: string;
  /** '' when it has none. */
  readonly description: string;
  /** null: not asked, or not told. */
  readonly size_bytes: number | null;
  readonly readOnly: boolean | null;
  /** Why its size is not known, in words. */
  readonly reason: string | null;
}

export interface Listing {
  readonly exports: readonly OfferedExport[];
  /** There are more, or some whose names are no UTF-8. */
  readonly isCut: boolean;
}

type Phase = 'greeting' | 'tls' | 'list' | 'info';

const OPTION_OF: Readonly<Record<Phase, number>> = {
  greeting: -1,
  tls: wire.NBD_OPT.STARTTLS,
  list: wire.NBD_OPT.LIST,
  info: wire.NBD_OPT.INFO,
};

type Writable = { -readonly [K in keyof OfferedExport]: OfferedExport[K] };

export class ClientListing {
  agreed: Listing | null = null;
  /** In words, for people; then nothing more is to be said. */
  refused: string | null = null;
  /** Begin TLS now, then call `tlsBegan`. */
  wantsTls = false;
  #tls: boolean;
  #phase: Phase = 'greeting';
  #replies = 0;
  #exports: Writable[] = [];
  #isCut = false;
  #asked = 0;

  constructor(wishes: { readonly tls: boolean }) {
    this.#tls = wishes.tls;
  }

  /** As of ClientNegotiation. */
  step(input: Uint8Array, out: Uint8Array[]): number {
    let used = 0;
    while (this.agreed === null && this.refused === null && !this.wantsTls) {
      const rest = input.subarray(used);
      const taken = this.#phase === 'greeting' ? this.#greeting(rest, out) : this.#optionReply(rest, out);
      if (taken === 0) break;
      used += taken;
    }
    if (this.wantsTls && used < input.length)
      this.#refuse('it sent bytes in plain text where TLS was to begin: someone may sit in between');
    return used;
  }

  tlsBegan(out: Uint8Array[]): void {
    this.wantsTls = false;
    this.#ask('list', out);
  }

  #refuse(why: string): void {
    this.wantsTls = false;
    this.refused ??= why;
  }

  #greeting(input: Uint8Array, out: Uint8Array[]): number {
    const v = viewOf(input);
    const isNbd = (high: number, low: number, at: number): boolean =>
      v.getUint32(at) === high && v.getUint32(at + 4) === low;
    if (input.length >= 8 && !isNbd(wire.NBDMAGIC_HIGH, wire.NBDMAGIC_LOW, 0)) {
      this.#refuse('it is no NBD server');
      return 0;
    }
    if (input.length < GREETING_BYTES) return 0;
    if (
      !isNbd(wire.IHAVEOPT_HIGH, wire.IHAVEOPT_LOW, 8) ||
      (v.getUint16(16) & wire.NBD_FLAG_FIXED_NEWSTYLE) === 0
    ) {
      this.#refuse('it does not speak fixed newstyle, and so cannot say what it offers');
      return 0;
    }
    const answer = new Uint8Array(wire.CLIENT_FLAGS_BYTES);
    const noZeroes = (v.getUint16(16) & wire.NBD_FLAG_NO_ZEROES) === 0 ? 0 : wire.NBD_FLAG_C_NO_ZEROES;
    viewOf(answer).setUint32(0, wire.NBD_FLAG_C_FIXED_NEWSTYLE | noZeroes);
    out.push(answer);
    this.#ask(this.#tls ? 'tls' : 'list', out);
    return GREETING_BYTES;
  }

  #ask(phase: Phase, out: Uint8Array[], data: Uint8Array = new Uint8Array(0)): void {
    this.#phase = phase;
    this.#replies = 0;
    out.push(emitOption(OPTION_OF[phase], data));
  }

  #optionReply(input: Uint8Array, out: Uint8Array[]): number {
    if (input.length < wire.OPTION_REPLY_HEADER_BYTES) return 0;
    const v = viewOf(input);
    const type = v.getUint32(12);
    const length = v.getUint32(16);
    const limit = this.#phase === 'list' ? LIST_REPLIES_LIMIT : OPTION_REPLIES_LIMIT;
    if (
      v.getUint32(0) !== wire.OPTION_REPLY_MAGIC_HIGH ||
      v.getUint32(4) !== wire.OPTION_REPLY_MAGIC_LOW ||
      v.getUint32(8) !== OPTION_OF[this.#phase]
    )
      this.#refuse('what should be a reply to an option is none');
    else if (length > OPTION_REPLY_LIMIT_BYTES)
      this.#refuse(`its reply to an option has ${length} bytes, more than ${OPTION_REPLY_LIMIT_BYTES}`);
    if (this.refused !== null) return 0;
    const end = wire.OPTION_REPLY_HEADER_BYTES + length;
    if (input.length < end) return 0;
    if (++this.#replies > limit) this.#refuse('its replies to an option do not end');
    else this.#reply(type, input.subarray(wire.OPTION_REPLY_HEADER_BYTES, end), out);
    return end;
  }

  #reply(type: number, data: Uint8Array, out: Uint8Array[]): void {
    const ack = type === wire.NBD_REP.ACK;
    const failed = type >= 0x8000_0000;
    if (this.#phase === 'tls') {
      if (ack) this.wantsTls = true;
      else this.#refuse(`TLS was asked for: ${failed ? reasonOf(type, data) : 'it does not answer that'}`);
    } else if (this.#phase === 'list') {
      if (type === wire.NBD_REP.SERVER) this.#server(data);
      else if (ack) this.#askNext(out);
      else this.#refuse(failed ? `it does not list its exports: ${reasonOf(type, data)}` : STRANGE);
    } else this.#infoReply(type, data, out);
  }

  #server(data: Uint8Array): void {
    const length = data.length < 4 ? -1 : viewOf(data).getUint32(0);
    if (length < 0 || length > data.length - 4) return this.#refuse('its list of exports is cut short');
    const name = wire.textOf(data.subarray(4, 4 + length));
    if (name === null || length > wire.STRING_LIMIT_BYTES || this.#exports.length >= NAMES_LIMIT)
      this.#isCut = true;
    else {
      const said = data.subarray(4 + length, 4 + length + DESCRIPTION_LIMIT_BYTES);
      const description = wire.textOf(said) ?? '';
      this.#exports.push({ name, description, size_bytes: null, readOnly: null, reason: null });
    }
  }

  #infoReply(type: number, data: Uint8Array, out: Uint8Array[]): void {
    const about = this.#exports[this.#asked - 1]!;
    if (type === wire.NBD_REP.INFO) {
      const v = viewOf(data);
      if (data.length < 12 || v.getUint16(0) !== wire.NBD_INFO.EXPORT) return;
      const size = v.getBigUint64(2);
      const flags = v.getUint16(10);
      if (size <= BigInt(Number.MAX_SAFE_INTEGER)) about.size_bytes = Number(size);
      const isTold = (flags & wire.NBD_FLAG_HAS_FLAGS) !== 0;
      about.readOnly = isTold ? (flags & wire.NBD_FLAG_READ_ONLY) !== 0 : null;
    } else if (type === wire.NBD_REP.ACK) this.#askNext(out);
    // Whoever does not know the option does not know it for the next name either.
    else if (type === wire.NBD_REP.ERR_UNSUP) this.#end(out);
    else if (type >= 0x8000_0000) {
      about.reason = reasonOf(type, data);
      this.#askNext(out);
    } else this.#refuse(STRANGE);
  }

  #askNext(out: Uint8Array[]): void {
    const next = this.#exports[this.#asked];
    if (next === undefined || this.#asked >= INFO_LIMIT) return this.#end(out);
    this.#asked += 1;
    this.#ask('info', out, wire.emitGo(next.name, []));
  }

  #end(out: Uint8Array[]): void {
    out.push(emitOption(wire.NBD_OPT.ABORT, new Uint8Array(0)));
    this.agreed = { exports: this.#exports, isCut: this.#isCut };
  }
}

const STRANGE = 'its reply to an option has a type that does not belong there';

function emitOption(option: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(wire.OPTION_HEADER_BYTES + data.length);
  const v = viewOf(bytes);
  v.setUint32(0, wire.IHAVEOPT_HIGH);
  v.setUint32(4, wire.IHAVEOPT_LOW);
  v.setUint32(8, option);
  v.setUint32(12, data.length);
  bytes.set(data, wire.OPTION_HEADER_BYTES);
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
