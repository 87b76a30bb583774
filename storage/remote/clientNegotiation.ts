/**
 * The client's half of the handshake, fixed newstyle only: bytes of the server in, bytes for it out, what was agreed or
 * why not. Pure. The server's half is ../nbd/negotiation.ts.
 *
 *   greeting -> [STARTTLS -> (TLS by the caller) ->] EXTENDED_HEADERS -> [STRUCTURED_REPLY ->] [SET_META_CONTEXT ->] GO
 *                                                                               GO unknown to the server -> EXPORT_NAME
 *
 * An option that a server does not know costs one round trip and is done without; only STARTTLS, when asked for, and GO
 * have to succeed. TLS is never done without when it was asked for, and nothing that came before it is believed after it:
 * a server that sends on behind its ACK in plain text is refused, or else whoever sits between could have said it.
 *
 * Lengths that a server announces are checked before anything waits for so many bytes.
 */
import * as wire from '../nbd/wire.js';

/** What is known of an export when transmission begins. */
export interface Agreed {
  readonly size_bytes: number;
  /** NBD_FLAG_… of transmission. */
  readonly flags: number;
  readonly minimumBlock_bytes: number;
  /** Of reads and writes. */
  readonly maximumBlock_bytes: number;
  readonly structured: boolean;
  readonly extended: boolean;
  /** Id of base:allocation; -1: block status cannot be asked. */
  readonly contextId: number;
}

export interface Wishes {
  readonly exportName: string;
  readonly tls: boolean;
  /** For tests: do without. */
  readonly extended?: boolean;
  readonly structured?: boolean;
}

const GREETING_BYTES = 18;
/** Second word of an oldstyle greeting. */
const OLDSTYLE_HIGH = 0x00004202;
const OLDSTYLE_LOW = 0x81861253;

/** Ours: a reply to an option is not longer (the protocol's strings are 4096 at most). */
export const OPTION_REPLY_LIMIT_BYTES = 16_384;
/** Ours: replies to one option. */
export const OPTION_REPLIES_LIMIT = 256;

/** Doc/proto.md, "Block size constraints": what a client keeps to with a server that tells none. */
const DEFAULT_MINIMUM_BLOCK_BYTES = 512;
const DEFAULT_MAXIMUM_BLOCK_BYTES = 32 * 1024 * 1024;
const MINIMUM_BLOCK_LIMIT_BYTES = 65_536;

const ERRORS: Readonly<Record<number, string>> = {
  [wire.NBD_REP.ERR_UNSUP]: 'it does not know the request',
  [wire.NBD_REP.ERR_POLICY]: 'its rules forbid it',
  [wire.NBD_REP.ERR_INVALID]: 'it calls the request malformed',
  [wire.NBD_REP.ERR_PLATFORM]: 'it cannot do that on its platform',
  [wire.NBD_REP.ERR_TLS_REQD]: 'it wants TLS: configure tls for this server',
  [wire.NBD_REP.ERR_UNKNOWN]: 'it has no export of this name',
  [wire.NBD_REP.ERR_SHUTDOWN]: 'it is shutting down',
  [wire.NBD_REP.ERR_BLOCK_SIZE_REQD]: 'it wants block sizes agreed',
  [wire.NBD_REP.ERR_TOO_BIG]: 'it calls the request too big',
};

type Phase = 'greeting' | 'tls' | 'extended' | 'structured' | 'context' | 'go' | 'exportName';

export class ClientNegotiation {
  agreed: Agreed | null = null;
  /** In words, for people; then nothing more is to be said. */
  refused: string | null = null;
  /** Begin TLS now, then call `tlsBegan`. */
  wantsTls = false;
  #wishes: Wishes;
  #phase: Phase = 'greeting';
  #noZeroes = false;
  #replies = 0;
  #structured = false;
  #extended = false;
  #contextId = -1;
  #size_bytes = -1;
  #flags = 0;
  #blocks: { minimum: number; maximum: number } | null = null;

  constructor(wishes: Wishes) {
    this.#wishes = wishes;
  }

  /**
   * Takes what it can of the server's bytes and appends answers; returns how many were taken. The rest is to be offered
   * again with more behind it, unless `agreed` (then it is the beginning of transmission) or `refused`.
   */
  step(input: Uint8Array, out: Uint8Array[]): number {
    let used = 0;
    while (this.agreed === null && this.refused === null && !this.wantsTls) {
      const rest = input.subarray(used);
      const taken =
        this.#phase === 'greeting'
          ? this.#greeting(rest, out)
          : this.#phase === 'exportName'
            ? this.#exportName(rest)
            : this.#optionReply(rest, out);
      if (taken === 0) break;
      used += taken;
    }
    if (this.wantsTls && used < input.length)
      this.#refuse('it sent bytes in plain text where TLS was to begin: someone may sit in between');
    return used;
  }

  tlsBegan(out: Uint8Array[]): void {
    this.wantsTls = false;
    this.#beginOptions(out);
  }

  #refuse(why: string): void {
    this.wantsTls = false;
    this.refused ??= why;
  }

  #greeting(input: Uint8Array, out: Uint8Array[]): number {
    if (input.length < GREETING_BYTES) {
      // Who is no NBD server may have said all it says first.
      if (input.length >= 8 && !isMagic(input, 0, wire.NBDMAGIC_HIGH, wire.NBDMAGIC_LOW))
        this.#refuse('it is no NBD server');
      return 0;
    }
    if (!isMagic(input, 0, wire.NBDMAGIC_HIGH, wire.NBDMAGIC_LOW)) this.#refuse('it is no NBD server');
    else if (isMagic(input, 8, OLDSTYLE_HIGH, OLDSTYLE_LOW))
      this.#refuse('it speaks the oldstyle protocol, which has no names and no errors');
    else if (!isMagic(input, 8, wire.IHAVEOPT_HIGH, wire.IHAVEOPT_LOW)) this.#refuse('it is no NBD server');
    if (this.refused !== null) return 0;
    const flags = viewOf(input).getUint16(16);
    if ((flags & wire.NBD_FLAG_FIXED_NEWSTYLE) === 0) {
      this.#refuse('it does not speak fixed newstyle');
      return 0;
    }
    this.#noZeroes = (flags & wire.NBD_FLAG_NO_ZEROES) !== 0;
    const answer = new Uint8Array(wire.CLIENT_FLAGS_BYTES);
    const noZeroes = this.#noZeroes ? wire.NBD_FLAG_C_NO_ZEROES : 0;
    viewOf(answer).setUint32(0, wire.NBD_FLAG_C_FIXED_NEWSTYLE | noZeroes);
    out.push(answer);
    if (this.#wishes.tls) this.#ask('tls', wire.NBD_OPT.STARTTLS, out);
    else this.#beginOptions(out);
    return GREETING_BYTES;
  }

  #beginOptions(out: Uint8Array[]): void {
    if (this.#wishes.extended !== false) this.#ask('extended', wire.NBD_OPT.EXTENDED_HEADERS, out);
    else this.#askStructured(out);
  }

  #askStructured(out: Uint8Array[]): void {
    if (this.#wishes.structured !== false) this.#ask('structured', wire.NBD_OPT.STRUCTURED_REPLY, out);
    else this.#askGo(out);
  }

  #askContext(out: Uint8Array[]): void {
    const data = wire.emitMetaContext(this.#wishes.exportName, [wire.META_CONTEXT_BASE_ALLOCATION]);
    this.#ask('context', wire.NBD_OPT.SET_META_CONTEXT, out, data);
  }

  #askGo(out: Uint8Array[]): void {
    this.#ask('go', wire.NBD_OPT.GO, out, wire.emitGo(this.#wishes.exportName, [wire.NBD_INFO.BLOCK_SIZE]));
  }

  #ask(phase: Phase, option: number, out: Uint8Array[], data: Uint8Array = new Uint8Array(0)): void {
    this.#phase = phase;
    this.#replies = 0;
    const bytes = new Uint8Array(wire.OPTION_HEADER_BYTES + data.length);
    const v = viewOf(bytes);
    v.setUint32(0, wire.IHAVEOPT_HIGH);
    v.setUint32(4, wire.IHAVEOPT_LOW);
    v.setUint32(8, option);
    v.setUint32(12, data.length);
    bytes.set(data, wire.OPTION_HEADER_BYTES);
    out.push(bytes);
  }

  #optionReply(input: Uint8Array, out: Uint8Array[]): number {
    if (input.length < wire.OPTION_REPLY_HEADER_BYTES) return 0;
    const v = viewOf(input);
    const type = v.getUint32(12);
    const length = v.getUint32(16);
    if (!isMagic(input, 0, wire.OPTION_REPLY_MAGIC_HIGH, wire.OPTION_REPLY_MAGIC_LOW))
      this.#refuse('what should be a reply to an option is none');
    else if (v.getUint32(8) !== OPTION_OF[this.#phase])
      this.#refuse('it answers an option that was not asked');
    else if (length > OPTION_REPLY_LIMIT_BYTES)
      this.#refuse(`its reply to an option has ${length} bytes, more than ${OPTION_REPLY_LIMIT_BYTES}`);
    else if (++this.#replies > OPTION_REPLIES_LIMIT) this.#refuse('its replies to an option do not end');
    if (this.refused !== null) return 0;
    const end = wire.OPTION_REPLY_HEADER_BYTES + length;
    if (input.length < end) {
      this.#replies--;
      return 0;
    }
    this.#reply(type, input.subarray(wire.OPTION_REPLY_HEADER_BYTES, end), out);
    return end;
  }

  #reply(type: number, data: Uint8Array, out: Uint8Array[]): void {
    const ack = type === wire.NBD_REP.ACK;
    const failed = type >= 0x8000_0000;
    switch (this.#phase) {
      case 'tls':
        if (ack) this.wantsTls = true;
        else this.#refuse(`TLS was asked for: ${failed ? reasonOf(type, data) : 'it does not answer that'}`);
        return;
      case 'extended':
        if (this.#mustHaveTls(type, data) || this.#strange(ack || failed)) return;
        this.#extended = this.#structured = ack;
        if (ack) this.#askContext(out);
        else this.#askStructured(out);
        return;
      case 'structured':
        if (this.#mustHaveTls(type, data) || this.#strange(ack || failed)) return;
        this.#structured = ack;
        if (ack) this.#askContext(out);
        else this.#askGo(out);
        return;
      case 'context':
        if (this.#mustHaveTls(type, data)) return;
        if (type === wire.NBD_REP.META_CONTEXT) return this.#context(data);
        if (failed) this.#contextId = -1;
        if (!this.#strange(ack || failed)) this.#askGo(out);
        return;
      default:
        return this.#goReply(type, data, out);
    }
  }

  /** A server that wants TLS says so to the first option; it is no use to go on. */
  #mustHaveTls(type: number, data: Uint8Array): boolean {
    if (type !== wire.NBD_REP.ERR_TLS_REQD) return false;
    this.#refuse(reasonOf(type, data));
    return true;
  }

  #strange(known: boolean): boolean {
    if (!known) this.#refuse('its reply to an option has a type that does not belong there');
    return !known;
  }

  #context(data: Uint8Array): void {
    if (data.length < 4) return this.#refuse('its reply about block status is cut short');
    if (wire.textOf(data.subarray(4)) === wire.META_CONTEXT_BASE_ALLOCATION)
      this.#contextId = viewOf(data).getUint32(0);
  }

  #goReply(type: number, data: Uint8Array, out: Uint8Array[]): void {
    if (type === wire.NBD_REP.ACK) {
      if (this.#size_bytes < 0) this.#refuse('it did not tell the size of the export');
      else this.#agree();
    } else if (type === wire.NBD_REP.ERR_UNSUP) {
      // Answered by no option reply; a server that has no such export closes the connection.
      this.#ask('exportName', wire.NBD_OPT.EXPORT_NAME, out, wire.utf8(this.#wishes.exportName));
    } else if (type >= 0x8000_0000) this.#refuse(reasonOf(type, data));
    else if (!this.#strange(type === wire.NBD_REP.INFO)) this.#info(data);
  }

  #info(data: Uint8Array): void {
    const v = viewOf(data);
    const kind = data.length >= 2 ? v.getUint16(0) : -1;
    if (kind === wire.NBD_INFO.EXPORT) {
      if (data.length !== 12) return this.#refuse('what it tells of the export is cut short');
      this.#export(v, 2);
    } else if (kind === wire.NBD_INFO.BLOCK_SIZE) {
      if (data.length !== 14) return this.#refuse('what it tells of block sizes is cut short');
      const [minimum, maximum] = [v.getUint32(2), v.getUint32(10)];
      const isPower = minimum > 0 && (minimum & (minimum - 1)) === 0;
      if (!isPower || minimum > MINIMUM_BLOCK_LIMIT_BYTES || maximum < minimum)
        return this.#refuse(`its block sizes make no sense: at least ${minimum}, at most ${maximum}`);
      this.#blocks = { minimum, maximum };
    }
    // Names, descriptions and what is not known yet: let it say them.
  }

  #export(v: DataView, at: number): void {
    const size = v.getBigUint64(at);
    if (size > BigInt(Number.MAX_SAFE_INTEGER)) return this.#refuse('the export is larger than 2^53 bytes');
    this.#size_bytes = Number(size);
    this.#flags = v.getUint16(at + 8);
    if ((this.#flags & wire.NBD_FLAG_HAS_FLAGS) === 0) this.#flags = 0;
  }

  #exportName(input: Uint8Array): number {
    const length = 10 + (this.#noZeroes ? 0 : wire.EXPORT_NAME_ZEROES_BYTES);
    if (input.length < length) return 0;
    this.#export(viewOf(input), 0);
    if (this.refused !== null) return 0;
    this.#agree();
    return length;
  }

  #agree(): void {
    const told = this.#blocks;
    const whole = this.#size_bytes % DEFAULT_MINIMUM_BLOCK_BYTES === 0;
    this.agreed = {
      size_bytes: this.#size_bytes,
      flags: this.#flags,
      minimumBlock_bytes: told?.minimum ?? (whole ? DEFAULT_MINIMUM_BLOCK_BYTES : 1),
      maximumBlock_bytes: told?.maximum ?? DEFAULT_MAXIMUM_BLOCK_BYTES,
      structured: this.#structured,
      extended: this.#extended,
      contextId: this.#structured ? this.#contextId : -1,
    };
  }
}

/** EXPORT_NAME and the greeting are not answered by option replies. */
const OPTION_OF: Readonly<Record<Phase, number>> = {
  greeting: -1,
  tls: wire.NBD_OPT.STARTTLS,
  extended: wire.NBD_OPT.EXTENDED_HEADERS,
  structured: wire.NBD_OPT.STRUCTURED_REPLY,
  context: wire.NBD_OPT.SET_META_CONTEXT,
  go: wire.NBD_OPT.GO,
  exportName: -1,
};

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isMagic(bytes: Uint8Array, at: number, high: number, low: number): boolean {
  const v = viewOf(bytes);
  return v.getUint32(at) === high && v.getUint32(at + 4) === low;
}

/** Our words first: what the server says is only believed to be printable. */
export function reasonOf(type: number, data: Uint8Array): string {
  const reason = ERRORS[type] ?? `error ${(type - 0x8000_0000).toString()}`;
  const text = wire.textOf(data.subarray(0, 300)) ?? '';
  const said = text.replace(/[^\x20-\x7e]/g, '?').trim();
  return said === '' ? reason : `${reason} ("${said}")`;
}
