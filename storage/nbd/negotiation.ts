/**
 * The handshake (fixed newstyle) as a pure machine: bytes in, bytes out, and in the end an export or the door.
 *
 *   greeting sent --client flags--> haggling --NBD_OPT_GO, NBD_OPT_EXPORT_NAME--> entered
 *        |                             |  any other option: answered, haggling goes on
 *        |                             +--NBD_OPT_STARTTLS--> startsTls --resumeWithTls--> haggling
 *        |                             +--NBD_OPT_ABORT, a breach of the protocol--> ended
 *        +--unknown flags--> ended
 *
 * `step` takes what has come so far and says how much of it is used up; it never waits and never throws, whatever
 * the peer sends. Time is not its business: the connection has a deadline for the whole handshake.
 *
 * Every refusal that can carry words does. An option that nobody here knows is answered NBD_REP_ERR_UNSUP, also when its
 * data are too long to be looked at: they are passed over.
 */
import {
  CLIENT_FLAGS_BYTES,
  IHAVEOPT_HIGH,
  IHAVEOPT_LOW,
  META_CONTEXT_BASE_ALLOCATION,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_INFO,
  NBD_OPT,
  NBD_REP,
  OPTION_HEADER_BYTES,
  exportNameReply,
  infoBlockSize,
  infoExport,
  infoText,
  metaContextRecord,
  optionReply,
  parseGo,
  parseMetaContext,
  textOf,
  utf8,
} from './wire.js';
import { MAXIMUM_PAYLOAD_BYTES, MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES } from './limits.js';

// ---- our constants ----

/** Longer option data are not looked at. Two strings of 4096 bytes and some queries fit many times. */
export const OPTION_DATA_LIMIT_BYTES = 65_536;
/** Longer ones are not even passed over, but end the connection. */
export const SKIPPED_OPTION_LIMIT_BYTES = 1024 * 1024;
/** Options before the connection is ended: real clients need fewer than ten, and one more for each export listed. */
const OPTION_COUNT_LIMIT = 100_000;
/** The id under which base:allocation is known in the transmission phase. */
export const BASE_ALLOCATION_ID = 1;
export const FIRST_CONTEXT_ID = 2;
/** Selected by one client; each is a chunk of several KiB in an answer to NBD_CMD_BLOCK_STATUS. */
const CONTEXTS_LIMIT = 16;

export interface Offer {
  readonly name: string;
  readonly size_bytes: number;
  readonly readOnly: boolean;
  readonly description?: string;
  /** 1 when left out. */
  readonly minimumBlock_bytes?: number;
  /** It takes no more clients now. */
  readonly full?: boolean;
  /** Names of meta contexts beside base:allocation; '' is none. Their places stay. */
  contexts?(): readonly string[];
}

/** What a listener offers. `find` of an export that is going away answers null. */
export interface OfferList<O extends Offer> {
  find(name: string): O | null;
  /** The whole answer to NBD_OPT_LIST up to its ACK, made once for many clients. */
  listReply(): Uint8Array;
}

export interface Entered<O extends Offer> {
  readonly offer: O;
  /** Replies in chunks: by NBD_OPT_STRUCTURED_REPLY or by NBD_OPT_EXTENDED_HEADERS. */
  readonly structuredReplies: boolean;
  readonly extendedHeaders: boolean;
  readonly baseAllocation: boolean;
  /** Indices of the offer's `contexts()`; index + FIRST_CONTEXT_ID is the id on the wire. */
  readonly contexts: readonly number[];
}

/** Why a handshake ended without an export; each is a counter. */
export type HandshakeEnd =
  | 'aborted'
  | 'badClientFlags'
  | 'badOptionMagic'
  | 'oversizedOption'
  | 'tooManyOptions'
  | 'misplacedOptions'
  | 'plaintextRefused'
  | 'tlsInjections'
  | 'unknownExport'
  | 'fullExport';

/** The modes FORCEDTLS and NOTLS of the standard, and what has become of the first. */
export type TlsMode = 'none' | 'required' | 'active';

/** `statusPayload`: NBD_CMD_BLOCK_STATUS may name contexts. */
export function transmissionFlags(
  readOnly: boolean,
  structuredReplies: boolean,
  statusPayload = false,
): number {
  const always =
    NBD_FLAG_HAS_FLAGS |
    NBD_FLAG_SEND_FLUSH |
    NBD_FLAG_SEND_FUA |
    NBD_FLAG_CAN_MULTI_CONN |
    NBD_FLAG_SEND_CACHE;
  const writing = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
  return (
    always |
    (readOnly ? NBD_FLAG_READ_ONLY : writing) |
    (structuredReplies ? NBD_FLAG_SEND_DF : 0) |
    (statusPayload ? NBD_FLAG_BLOCK_STATUS_PAYLOAD : 0)
  );
}

export class Negotiation<O extends Offer> {
  entered: Entered<O> | null = null;
  ended: HandshakeEnd | null = null;
  /** NBD_OPT_STARTTLS was agreed: once the answer is sent, TLS begins. Nothing is taken before `resumeWithTls`. */
  startsTls = false;
  /** It asked for something else before TLS, where TLS is required. */
  refusedPlaintext = false;
  #offers: OfferList<O>;
  #tls: TlsMode;
  #gotFlags = false;
  #fixedNewstyle = false;
  #noZeroes = false;
  #structuredReplies = false;
  #extendedHeaders = false;
  /** Of an option's data that are passed over. */
  #skip_bytes = 0;
  /** Name of the export for which contexts were selected. */
  #contextFor: string | null = null;
  #baseAllocation = false;
  #contexts: readonly number[] = [];
  /** Name of the export whose block sizes were asked for. */
  #sizesFor: string | null = null;
  #optionCount = 0;

  constructor(offers: OfferList<O>, tls: 'none' | 'required' = 'none') {
    this.#offers = offers;
    this.#tls = tls;
  }

  /**
   * From here on all is under TLS, and nothing that was agreed before counts. Client flags are not sent again.
   * `offers`: as the client may see them, whose identity is known now.
   */
  resumeWithTls(offers: OfferList<O>): void {
    this.startsTls = false;
    this.#tls = 'active';
    this.#offers = offers;
    this.#structuredReplies = false;
    this.#extendedHeaders = false;
    this.#contextFor = null;
    this.#baseAllocation = false;
    this.#contexts = [];
    this.#sizesFor = null;
  }

  /** Uses up whole messages of `input` and returns how many bytes those were; answers are appended to `out`. */
  step(input: Uint8Array, out: Uint8Array[]): number {
    const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
    let at = 0;
    while (this.entered === null && this.ended === null && !this.startsTls) {
      const left = input.length - at;
      if (!this.#gotFlags) {
        if (left < CLIENT_FLAGS_BYTES) break;
        this.#clientFlags(view.getUint32(at));
        at += CLIENT_FLAGS_BYTES;
        continue;
      }
      if (this.#skip_bytes > 0) {
        const skipped = Math.min(left, this.#skip_bytes);
        if (skipped === 0) break;
        this.#skip_bytes -= skipped;
        at += skipped;
        continue;
      }
      // A wrong magic is told from as few bytes as tell it.
      if (left >= 8 && (view.getUint32(at) !== IHAVEOPT_HIGH || view.getUint32(at + 4) !== IHAVEOPT_LOW)) {
        this.ended = 'badOptionMagic';
        break;
      }
      if (left < OPTION_HEADER_BYTES) break;
      const option = view.getUint32(at + 8);
      const length = view.getUint32(at + 12);
      if (length > SKIPPED_OPTION_LIMIT_BYTES) {
        this.ended = 'oversizedOption';
        break;
      }
      if (length <= OPTION_DATA_LIMIT_BYTES && left < OPTION_HEADER_BYTES + length) break;
      if (++this.#optionCount > OPTION_COUNT_LIMIT) {
        this.ended = 'tooManyOptions';
        break;
      }
      if (length > OPTION_DATA_LIMIT_BYTES) {
        at += OPTION_HEADER_BYTES;
        this.#skip_bytes = length;
        this.#oversized(option, out);
        continue;
      }
      this.#option(option, input.subarray(at + OPTION_HEADER_BYTES, at + OPTION_HEADER_BYTES + length), out);
      at += OPTION_HEADER_BYTES + length;
    }
    // Whoever could put bytes before the session must not have them taken for its own (CVE-2021-3716 was this).
    if (this.startsTls && at < input.length) {
      out.pop();
      this.ended = 'tlsInjections';
    }
    return at;
  }

  #clientFlags(flags: number): void {
    this.#gotFlags = true;
    this.#fixedNewstyle = (flags & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
    this.#noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) !== 0;
    // "the server MUST drop the TCP connection if the client sets an unknown flag"
    if ((flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) !== 0) this.ended = 'badClientFlags';
  }

  /** An option whose data are too long to be looked at. */
  #oversized(option: number, out: Uint8Array[]): void {
    if (TAKES_NAME.includes(option) && this.#fixedNewstyle && this.#tls !== 'required')
      return refuse(out, option, NBD_REP.ERR_TOO_BIG, `at most ${OPTION_DATA_LIMIT_BYTES} bytes of data`);
    // None of the others has data that could be long: what is wrong with it is told from any.
    this.#option(option, SOME_DATA, out);
  }

  #option(option: number, data: Uint8Array, out: Uint8Array[]): void {
    if (!this.#fixedNewstyle && option !== NBD_OPT.EXPORT_NAME) {
      // Such a client understands no option reply.
      this.ended = 'badClientFlags';
      return;
    }
    if (this.#tls === 'required' && option !== NBD_OPT.STARTTLS && option !== NBD_OPT.ABORT) {
      this.refusedPlaintext = true;
      if (option === NBD_OPT.EXPORT_NAME) this.ended = 'plaintextRefused';
      else refuse(out, option, NBD_REP.ERR_TLS_REQD, 'NBD_OPT_STARTTLS must come first');
      return;
    }
    switch (option) {
      case NBD_OPT.EXPORT_NAME:
        return this.#exportName(data, out);
      case NBD_OPT.STARTTLS:
        return this.#startTls(data, out);
      case NBD_OPT.ABORT:
        out.push(optionReply(option, NBD_REP.ACK));
        this.ended = 'aborted';
        return;
      case NBD_OPT.LIST:
        if (data.length > 0) return refuse(out, option, NBD_REP.ERR_INVALID, 'NBD_OPT_LIST takes no data');
        out.push(this.#offers.listReply(), optionReply(option, NBD_REP.ACK));
        return;
      case NBD_OPT.INFO:
      case NBD_OPT.GO:
        return this.#go(option, data, out);
      case NBD_OPT.STRUCTURED_REPLY:
        if (data.length > 0)
          return refuse(out, option, NBD_REP.ERR_INVALID, 'NBD_OPT_STRUCTURED_REPLY takes no data');
        if (this.#extendedHeaders)
          return refuse(out, option, NBD_REP.ERR_EXT_HEADER_REQD, 'extended headers are agreed already');
        this.#structuredReplies = true;
        out.push(optionReply(option, NBD_REP.ACK));
        return;
      case NBD_OPT.EXTENDED_HEADERS:
        if (data.length > 0)
          return refuse(out, option, NBD_REP.ERR_INVALID, 'NBD_OPT_EXTENDED_HEADERS takes no data');
        this.#extendedHeaders = true;
        out.push(optionReply(option, NBD_REP.ACK));
        return;
      case NBD_OPT.LIST_META_CONTEXT:
      case NBD_OPT.SET_META_CONTEXT:
        return this.#metaContext(option, data, out);
      default:
        return refuse(out, option, NBD_REP.ERR_UNSUP, `option ${option} is not known to this server`);
    }
  }

  #startTls(data: Uint8Array, out: Uint8Array[]): void {
    const option = NBD_OPT.STARTTLS;
    if (data.length > 0) return refuse(out, option, NBD_REP.ERR_INVALID, 'NBD_OPT_STARTTLS takes no data');
    if (this.#tls === 'active') return refuse(out, option, NBD_REP.ERR_INVALID, 'TLS has begun already');
    if (this.#tls === 'none')
      return refuse(out, option, NBD_REP.ERR_POLICY, 'TLS is not configured on this address');
    this.startsTls = true;
    out.push(optionReply(option, NBD_REP.ACK));
  }

  #exportName(data: Uint8Array, out: Uint8Array[]): void {
    if (this.#extendedHeaders) {
      // "a client that has used NBD_OPT_EXTENDED_HEADERS to negotiate extended headers MUST NOT use this option"
      this.ended = 'misplacedOptions';
      return;
    }
    const name = textOf(data);
    const offer = name === null ? null : this.#offers.find(name);
    if (offer === null) {
      // This option has no way to answer an error.
      this.ended = 'unknownExport';
      return;
    }
    if (offer.full === true) {
      this.ended = 'fullExport';
      return;
    }
    const flags = this.#flagsOf(offer);
    out.push(exportNameReply(offer.size_bytes, flags, !this.#noZeroes));
    this.#enter(offer);
  }

  #go(option: number, data: Uint8Array, out: Uint8Array[]): void {
    const asked = parseGo(data);
    if (asked === null) return refuse(out, option, NBD_REP.ERR_INVALID, MALFORMED);
    const offer = this.#offers.find(asked.name);
    if (offer === null) return refuse(out, option, NBD_REP.ERR_UNKNOWN, NO_SUCH_EXPORT);
    if (option === NBD_OPT.GO && offer.full === true) {
      refuse(out, option, NBD_REP.ERR_POLICY, 'this export has as many clients as it may have');
      this.ended = 'fullExport';
      return;
    }
    const flags = this.#flagsOf(offer);
    out.push(optionReply(option, NBD_REP.INFO, infoExport(offer.size_bytes, flags)));
    if (asked.infos.includes(NBD_INFO.NAME))
      out.push(optionReply(option, NBD_REP.INFO, infoText(NBD_INFO.NAME, offer.name)));
    if (asked.infos.includes(NBD_INFO.DESCRIPTION) && (offer.description ?? '') !== '')
      out.push(optionReply(option, NBD_REP.INFO, infoText(NBD_INFO.DESCRIPTION, offer.description!)));
    // Asked for or not: a client must skip what it does not know.
    const minimum_bytes = offer.minimumBlock_bytes ?? MINIMUM_BLOCK_BYTES;
    const preferred_bytes = Math.max(minimum_bytes, PREFERRED_BLOCK_BYTES);
    const sizes = infoBlockSize(minimum_bytes, preferred_bytes, MAXIMUM_PAYLOAD_BYTES);
    out.push(optionReply(option, NBD_REP.INFO, sizes));
    if (asked.infos.includes(NBD_INFO.BLOCK_SIZE)) this.#sizesFor = offer.name;
    // Sent after the sizes, "in order to help avoid a potentially unnecessary round trip".
    if (minimum_bytes > 1 && this.#sizesFor !== offer.name)
      return refuse(out, option, NBD_REP.ERR_BLOCK_SIZE_REQD, `requests must be blocks of ${minimum_bytes}`);
    out.push(optionReply(option, NBD_REP.ACK));
    if (option === NBD_OPT.GO) this.#enter(offer);
  }

  #metaContext(option: number, data: Uint8Array, out: Uint8Array[]): void {
    const setting = option === NBD_OPT.SET_META_CONTEXT;
    // It replaces what was selected before, whether it succeeds or not.
    if (setting) {
      this.#contextFor = null;
      this.#baseAllocation = false;
      this.#contexts = [];
    }
    if (!this.#structuredReplies && !this.#extendedHeaders)
      return refuse(
        out,
        option,
        NBD_REP.ERR_INVALID,
        'NBD_OPT_STRUCTURED_REPLY or NBD_OPT_EXTENDED_HEADERS must come first',
      );
    const asked = parseMetaContext(data);
    if (asked === null) return refuse(out, option, NBD_REP.ERR_INVALID, MALFORMED);
    const offer = this.#offers.find(asked.name);
    if (offer === null) return refuse(out, option, NBD_REP.ERR_UNKNOWN, NO_SUCH_EXPORT);
    const all = !setting && asked.queries.length === 0;
    const wanted = (name: string): boolean =>
      all || asked.queries.some(query => query === name || (!setting && isWildcardOf(query, name)));
    const names = offer.contexts?.() ?? [];
    const selected = names
      .map((_, index) => index)
      .filter(index => names[index] !== '' && wanted(names[index]!));
    if (setting && selected.length > CONTEXTS_LIMIT)
      return refuse(out, option, NBD_REP.ERR_TOO_BIG, `at most ${CONTEXTS_LIMIT} contexts`);
    const tell = (id: number, name: string): void =>
      // "the server SHOULD set [the id] to zero" where nothing is selected.
      void out.push(optionReply(option, NBD_REP.META_CONTEXT, metaContextRecord(setting ? id : 0, name)));
    const base = wanted(META_CONTEXT_BASE_ALLOCATION);
    if (base) tell(BASE_ALLOCATION_ID, META_CONTEXT_BASE_ALLOCATION);
    for (const index of selected) tell(index + FIRST_CONTEXT_ID, names[index]!);
    if (setting && (base || selected.length > 0)) {
      this.#contextFor = offer.name;
      this.#baseAllocation = base;
      this.#contexts = selected;
    }
    out.push(optionReply(option, NBD_REP.ACK));
  }

  #flagsOf(offer: O): number {
    const { readOnly, name } = offer;
    // "SHOULD NOT advertise this bit in response to NBD_OPT_GO if the client does not negotiate metacontexts"
    const statusPayload = this.#extendedHeaders && this.#contextFor === name;
    return transmissionFlags(readOnly, this.#structuredReplies || this.#extendedHeaders, statusPayload);
  }

  #enter(offer: O): void {
    this.entered = {
      offer,
      structuredReplies: this.#structuredReplies || this.#extendedHeaders,
      extendedHeaders: this.#extendedHeaders,
      // Contexts hold for the export for which they were selected.
      baseAllocation: this.#contextFor === offer.name && this.#baseAllocation,
      contexts: this.#contextFor === offer.name ? this.#contexts : [],
    };
  }
}

const MALFORMED =
  'malformed: lengths do not fit, or a string is no UTF-8, holds a NUL or is longer than 4096 bytes';
const NO_SUCH_EXPORT = 'no such export here, or not for this client';
/** Options whose data hold names, of which a client could have many. */
const TAKES_NAME: readonly number[] = [
  NBD_OPT.INFO,
  NBD_OPT.GO,
  NBD_OPT.LIST_META_CONTEXT,
  NBD_OPT.SET_META_CONTEXT,
];
const SOME_DATA = new Uint8Array(1);

/** A namespace, or a namespace and a first part: `base:`, `qemu:`, `qemu:dirty-bitmap:`. */
function isWildcardOf(query: string, name: string): boolean {
  return query.endsWith(':') && name.startsWith(query);
}

function refuse(out: Uint8Array[], option: number, type: number, message: string): void {
  out.push(optionReply(option, type, utf8(message)));
}
