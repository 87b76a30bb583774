/**
 * TLS (RFC 8446, RFC 5246 with ECDHE or DHE) over non-blocking sockets, by OpenSSL on addresses: for loops that keep their bytes
 * in mapped memory and resolve no promises. node:tls would need JavaScript's event loop and a Buffer for every record.
 *
 *   TlsContext   certificates, keys, authorities, pre-shared keys: made once, for many sessions
 *   TlsSession   one connection: shake, then recv and send as their namesakes of raw.ts do
 *
 * Both are of one thread. Neither closes the socket. OpenSSL reads ahead, so that epoll may be silent while a session has bytes:
 * read until -EAGAIN, or ask `hasInput` before waiting again. A send is cut into records of 16 KiB, several of which go out by one
 * call (tlsOutbox.ts).
 *
 * Not spoken: renegotiation (RFC 5746 is refused), compression, session tickets and resumption, anything below TLS 1.2.
 */
import * as fs from 'node:fs';
import { isIP } from 'node:net';
import { rootCertificates } from 'node:tls';
import { EAGAIN, ECONNRESET, EPROTO } from './errno.js';
import { callable, negativeErrno } from './libc.js';
import { PAGE_BYTES, hideFromChildren, mapAnonymous, viewAt, type Mapping } from './memory.js';
import { TlsError, lastReason, openssl } from './openssl.js';
import type { TlsPipe } from './tlsPipe.js';
import { OUTBOX_RECORDS, Outbox, RECORD_BYTES } from './tlsOutbox.js';

export { TlsError } from './openssl.js';

export interface TlsSettings {
  /** PEM, the chain behind it. */
  readonly certificate: string | null;
  /** PEM, without a passphrase. */
  readonly key: string | null;
  /** PEM, one or more. Server: clients must show a certificate of it. Client: the server must; null: the system's authorities. */
  readonly authority: string | null;
  /** Identity to key, hex; a client uses one of them. */
  readonly psk: ReadonlyMap<string, string>;
  /** A client's; null: the first of `psk`. */
  readonly pskIdentity: string | null;
}

/** Numbers of openssl/ssl.h and tls1.h. */
const SSL_CTRL_EXTRA_CHAIN_CERT = 14;
const SSL_CTRL_MODE = 33;
const SSL_CTRL_SET_READ_AHEAD = 41;
const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
const SSL_CTRL_SET_TLSEXT_HOSTNAME = 55;
const SSL_CTRL_SET_DH_AUTO = 118;
const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
const TLS1_2_VERSION = 0x0303;
/** A peer that is gone says no more; NBD and iSCSI know where their messages end. */
const SSL_OP_IGNORE_UNEXPECTED_EOF = 2 ** 7;
const SSL_OP_NO_TICKET = 2 ** 14;
const SSL_OP_NO_RENEGOTIATION = 2 ** 30;
const SSL_OP_CIPHER_SERVER_PREFERENCE = 2 ** 22;
/** Part of a send may be done; the rest may be sent from another place; idle sessions hold no buffers. */
const MODES = 0x1 | 0x2 | 0x10;
const SSL_VERIFY_PEER = 1;
const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
const SSL_ERROR_WANT_READ = 2;
const SSL_ERROR_WANT_WRITE = 3;
const SSL_ERROR_SYSCALL = 5;
const SSL_ERROR_ZERO_RETURN = 6;
const NID_commonName = 13;
/** Of TLS 1.3. Those with SHA-256 first: it is the hash of pre-shared keys (RFC 8446, 4.2.11), which are of no use with another. */
const SUITES = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384';
/** Of TLS 1.2. */
const CIPHERS =
  'ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:' +
  'DHE-PSK-AES128-GCM-SHA256:DHE-PSK-CHACHA20-POLY1305:!aNULL:!eNULL:!SHA1';
/** Reads four records at a time. */
const READ_BUFFER_BYTES = 4 * (16_384 + 256);
const COMMON_NAME_LIMIT_BYTES = 256;
const SYSTEM_AUTHORITIES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/cert.pem',
];

/** A session of this thread by the address of its SSL: what OpenSSL's callbacks are told. */
const sessions = new Map<number, TlsSession>();
/** Made when first needed, once in a thread. */
let pskServer = 0;
let pskClient = 0;

export class TlsContext {
  readonly isServer: boolean;
  /** Bytes of each key, in memory that children do not get. */
  readonly keys: ReadonlyMap<string, { at: number; length_bytes: number }>;
  readonly pskIdentity: string | null;
  /** A client must be known by certificate or key. */
  readonly mustBeKnown: boolean;
  #address: number;
  #memory: Mapping | null = null;
  #users = 0;
  #closing = false;

  private constructor(isServer: boolean, settings: TlsSettings) {
    const ssl = openssl();
    const { certificate, key, authority, psk } = settings;
    if (isServer && certificate === null && psk.size === 0)
      throw new TlsError('a server needs a certificate or pre-shared keys');
    this.isServer = isServer;
    this.mustBeKnown = isServer && (authority !== null || psk.size > 0);
    this.pskIdentity = isServer ? null : (settings.pskIdentity ?? psk.keys().next().value ?? null);
    if (this.pskIdentity !== null && !psk.has(this.pskIdentity))
      throw new TlsError(`no pre-shared key is of identity "${this.pskIdentity}"`);
    this.keys = this.#keep(psk);
    this.#address = ssl.newContext(isServer ? ssl.serverMethod() : ssl.clientMethod());
    try {
      if (this.#address === 0) throw new TlsError(`no TLS: ${lastReason('out of memory')}`);
      this.#prepare();
      if (certificate !== null && key !== null) this.#identify(certificate, key);
      this.#trust(authority);
      if (psk.size > 0) this.#share();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Throws TlsError. */
  static server(settings: TlsSettings): TlsContext {
    return new TlsContext(true, settings);
  }

  /** Throws TlsError. */
  static client(settings: TlsSettings): TlsContext {
    return new TlsContext(false, settings);
  }

  /** Sessions that are there go on. Idempotent. */
  close(): void {
    this.#closing = true;
    if (this.#users > 0) return;
    if (this.#address !== 0) openssl().freeContext(this.#address);
    this.#address = 0;
    this.#memory?.bytes.fill(0);
    this.#memory?.unmap();
    this.#memory = null;
  }

  /** For TlsSession. */
  enter(): number {
    if (this.#closing) throw new TlsError('this TLS context is closed');
    this.#users++;
    return this.#address;
  }

  /** For TlsSession. */
  leave(): void {
    this.#users--;
    if (this.#closing) this.close();
  }

  #keep(psk: ReadonlyMap<string, string>): Map<string, { at: number; length_bytes: number }> {
    const kept = new Map<string, { at: number; length_bytes: number }>();
    if (psk.size === 0) return kept;
    const length_bytes = [...psk.values()].reduce((sum, hex) => sum + hex.length / 2, 0);
    this.#memory = mapAnonymous(Math.ceil(length_bytes / PAGE_BYTES) * PAGE_BYTES);
    hideFromChildren(this.#memory);
    let at = 0;
    for (const [identity, hex] of psk) {
      const key = Buffer.from(hex, 'hex');
      this.#memory.bytes.set(key, at);
      kept.set(identity, { at: this.#memory.address + at, length_bytes: key.length });
      at += key.length;
      key.fill(0);
    }
    return kept;
  }

  #prepare(): void {
    const ssl = openssl();
    const ctx = this.#address;
    ssl.controlContext(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, 0);
    ssl.controlContext(ctx, SSL_CTRL_MODE, MODES, 0);
    ssl.controlContext(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, 0, 0);
    ssl.controlContext(ctx, SSL_CTRL_SET_READ_AHEAD, 1, 0);
    ssl.controlContext(ctx, SSL_CTRL_SET_DH_AUTO, 1, 0);
    ssl.setReadBuffer(ctx, READ_BUFFER_BYTES);
    ssl.setTickets(ctx, 0);
    ssl.setOptions(
      ctx,
      SSL_OP_IGNORE_UNEXPECTED_EOF +
        SSL_OP_NO_TICKET +
        SSL_OP_NO_RENEGOTIATION +
        SSL_OP_CIPHER_SERVER_PREFERENCE,
    );
    if (ssl.setCiphers(ctx, CIPHERS) !== 1 || ssl.setSuites(ctx, SUITES) !== 1)
      throw new TlsError(`no ciphers: ${lastReason('OpenSSL has none of ours')}`);
  }

  #identify(certificate: string, key: string): void {
    const ssl = openssl();
    const [own, ...chain] = readCertificates(certificate, 'the certificate');
    if (ssl.useCertificate(this.#address, own!) !== 1)
      throw new TlsError(`the certificate is refused: ${lastReason('unusable')}`);
    ssl.freeX509(own!);
    // The context owns what is behind it.
    for (const x509 of chain) ssl.controlContext(this.#address, SSL_CTRL_EXTRA_CHAIN_CERT, 0, x509);
    const read = withPem(key, (bio, noPassphrase) => ssl.readKey(bio, 0, 0, noPassphrase));
    if (read === 0)
      throw new TlsError(`the private key is no PEM without passphrase: ${lastReason('nothing in it')}`);
    const used = ssl.usePrivateKey(this.#address, read);
    ssl.freeKey(read);
    if (used !== 1 || ssl.checkPrivateKey(this.#address) !== 1)
      throw new TlsError(`the private key is not that of the certificate: ${lastReason('unusable')}`);
  }

  #trust(authority: string | null): void {
    const ssl = openssl();
    if (this.isServer && authority === null) return;
    const texts = authority ?? systemAuthorities();
    for (const x509 of readCertificates(texts, 'the authority')) {
      ssl.addToStore(ssl.store(this.#address), x509);
      if (this.isServer) ssl.addClientAuthority(this.#address, x509);
      ssl.freeX509(x509);
    }
    // A certificate that is there twice is told as an error.
    ssl.clearErrors();
    // Without one a pre-shared key may do; shake() sees to it.
    const must = this.isServer && this.keys.size === 0 ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
    ssl.setVerify(this.#address, SSL_VERIFY_PEER | must, 0);
  }

  #share(): void {
    if (this.isServer) {
      pskServer ||= callable('uint', ['uintptr_t', 'str', 'uintptr_t', 'uint'], serverKey);
      openssl().setPskServer(this.#address, pskServer);
    } else {
      pskClient ||= callable(
        'uint',
        ['uintptr_t', 'uintptr_t', 'uintptr_t', 'uint', 'uintptr_t', 'uint'],
        clientKey,
      );
      openssl().setPskClient(this.#address, pskClient);
    }
  }
}

export class TlsSession {
  readonly context: TlsContext;
  /** What the last -EAGAIN waits for. */
  wantsInput = false;
  wantsOutput = false;
  /** Bytes may be there of which epoll does not tell. */
  hasInput = false;
  /** Common name of the peer's verified certificate, or its PSK identity; after shake() was 0. */
  peerIdentity: string | null = null;
  /** Why a call failed, in words. */
  reason = '';
  /** The identity whose key OpenSSL was given. Whether the handshake used it is another question. */
  claimedIdentity: string | null = null;
  /** How reading ended, once it has. */
  #ended: number | null = null;
  #address: number;
  /** -1: a pipe, which needs no outbox. */
  #fd: number;
  /** While records are in it, or about to be. */
  #outbox: Outbox | null = null;
  /** The last byte of what was to be sent is in the outbox, but was not told to be sent: the socket has not taken all. */
  #owesByte = false;

  /**
   * `transport`: a socket, or what stands for one. `serverName`: a client's, whom its server's certificate must name (also told by SNI,
   * RFC 6066); null: any name will do.
   */
  constructor(context: TlsContext, transport: number | TlsPipe, serverName: string | null) {
    const ssl = openssl();
    this.context = context;
    this.#fd = typeof transport === 'number' ? transport : -1;
    this.#address = ssl.newSession(context.enter());
    if (this.#address === 0 || !attach(this.#address, transport)) {
      this.close();
      throw new TlsError(`no TLS: ${lastReason('out of memory')}`);
    }
    sessions.set(this.#address, this);
    if (context.isServer) {
      ssl.accepting(this.#address);
      return;
    }
    ssl.connecting(this.#address);
    if (serverName === null) return;
    const known =
      isIP(serverName) === 0
        ? ssl.controlSession(this.#address, SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, serverName) === 1 &&
          ssl.expectName(this.#address, serverName) === 1
        : ssl.expectAddress(ssl.parameters(this.#address), serverName) === 1;
    if (known) return;
    this.close();
    throw new TlsError(`${JSON.stringify(serverName)} can be no server's name: ${lastReason('unusable')}`);
  }

  /** The handshake, as far as it goes now: 0 when it is over, -EAGAIN, or another -errno (see `reason`). */
  shake(): number {
    const ssl = openssl();
    ssl.clearErrors();
    const result = ssl.handshake(this.#address);
    if (result !== 1) {
      const failure = this.#failed(result);
      if (failure !== 0) return failure;
      this.reason =
        'the peer ended the connection within the handshake: it may not accept our certificate or key';
      return -ECONNRESET;
    }
    this.hasInput = true;
    this.peerIdentity = this.#provenKey() ?? this.#certifiedName();
    if (this.peerIdentity !== null || !this.context.mustBeKnown) return 0;
    this.reason =
      'the client has neither a certificate of the authority with a common name nor a pre-shared key';
    return -EPROTO;
  }

  /**
   * As recv(2): bytes, 0 at the end, -EAGAIN or another -errno. All the records that are there, as far as there is room: a peer's
   * burst of small requests is as many records.
   */
  recv(address: number, length_bytes: number): number {
    const ssl = openssl();
    if (this.#ended !== null) return this.#ended;
    ssl.clearErrors();
    let received_bytes = 0;
    this.hasInput = true;
    while (received_bytes < length_bytes) {
      const result = ssl.read(this.#address, address + received_bytes, length_bytes - received_bytes);
      if (result <= 0) {
        this.hasInput = false;
        const failure = this.#failed(result);
        // Told when the bytes before it have been taken.
        if (failure !== -EAGAIN) this.#ended = failure;
        if (received_bytes === 0) return failure;
        if (this.#ended !== null) this.hasInput = true;
        break;
      }
      received_bytes += result;
      if (ssl.hasPending(this.#address) === 0) {
        // What else there may be is with the kernel.
        this.hasInput = false;
        break;
      }
    }
    return received_bytes;
  }

  /**
   * As send(2). After -EAGAIN, or less than all, the same bytes must come next, perhaps with more behind them. Through a TlsPipe, a
   * record at most.
   */
  send(address: number, length_bytes: number): number {
    if (length_bytes > RECORD_BYTES && this.#outbox === null && this.#fd >= 0) this.#takeOutbox();
    if (this.#outbox !== null) return this.#sendByOutbox(this.#outbox, address, length_bytes);
    const ssl = openssl();
    ssl.clearErrors();
    const result = ssl.write(this.#address, address, length_bytes);
    return result > 0 ? result : this.#failed(result);
  }

  #sendByOutbox(outbox: Outbox, address: number, length_bytes: number): number {
    const ssl = openssl();
    ssl.clearErrors();
    let taken_bytes = this.#owesByte ? 1 : 0;
    for (;;) {
      const drained = outbox.drain(this.#fd);
      if (drained === -EAGAIN) return this.#blocked(taken_bytes, length_bytes);
      if (drained < 0) {
        this.reason = 'the connection was lost';
        return drained;
      }
      if (taken_bytes >= length_bytes) break;
      for (let count = 0; count < OUTBOX_RECORDS && taken_bytes < length_bytes; count++) {
        const result = ssl.write(this.#address, address + taken_bytes, length_bytes - taken_bytes);
        if (result > 0) taken_bytes += result;
        else {
          const failure = this.#failed(result);
          if (failure !== -EAGAIN || outbox.isEmpty) return failure;
          break;
        }
      }
    }
    this.#owesByte = false;
    this.#giveOutbox();
    return length_bytes;
  }

  /** Whoever sent all would not come again: of what OpenSSL took and the socket did not, the last byte is not told. */
  #blocked(taken_bytes: number, length_bytes: number): number {
    this.wantsInput = false;
    this.wantsOutput = true;
    this.#owesByte = taken_bytes === length_bytes;
    const told_bytes = this.#owesByte ? taken_bytes - 1 : taken_bytes;
    return told_bytes > 0 ? told_bytes : -EAGAIN;
  }

  #takeOutbox(): void {
    this.#outbox = Outbox.take();
    if (this.#outbox === null) return;
    openssl().holdBio(this.#outbox.inner);
    openssl().setWriteBio(this.#address, this.#outbox.inner);
  }

  #giveOutbox(): void {
    const ssl = openssl();
    const socket = ssl.readBio(this.#address);
    ssl.holdBio(socket);
    ssl.setWriteBio(this.#address, socket);
    this.#outbox!.give();
    this.#outbox = null;
  }

  /** TLS 1.2 or 1.3. */
  get version(): string {
    return openssl().version(this.#address) ?? '';
  }

  /** close_notify, as far as it can be sent now. */
  end(): void {
    // Nothing may overtake what is in it.
    if (this.#outbox !== null) {
      if (this.#outbox.drain(this.#fd) !== 0) return;
      this.#giveOutbox();
    }
    openssl().clearErrors();
    openssl().shutdown(this.#address);
    openssl().clearErrors();
  }

  /** Idempotent. */
  close(): void {
    if (this.#address === 0) return;
    sessions.delete(this.#address);
    openssl().freeSession(this.#address);
    this.#address = 0;
    this.#outbox?.give();
    this.#outbox = null;
    this.context.leave();
  }

  #failed(result: number): number {
    // First of all: whatever comes next may change it.
    const errno = negativeErrno();
    const ssl = openssl();
    this.wantsInput = false;
    this.wantsOutput = false;
    switch (ssl.error(this.#address, result)) {
      case SSL_ERROR_WANT_READ:
        this.wantsInput = true;
        return -EAGAIN;
      case SSL_ERROR_WANT_WRITE:
        this.wantsOutput = true;
        return -EAGAIN;
      case SSL_ERROR_ZERO_RETURN:
        this.reason = 'the peer ended the connection';
        return 0;
      case SSL_ERROR_SYSCALL:
        this.reason = 'the connection was lost';
        ssl.clearErrors();
        return errno === -EAGAIN ? -ECONNRESET : errno;
      default: {
        const verified = ssl.verifyResult(this.#address);
        const reason = lastReason('protocol error');
        this.reason = verified === 0 ? reason : `${reason}: ${ssl.verifyText(verified) ?? verified}`;
        return -EPROTO;
      }
    }
  }

  /**
   * In TLS 1.3 OpenSSL asks for a key and may then not use it (its hash is not that of the cipher) and go on with certificates:
   * only a handshake that counts as resumed was bound to the key. In TLS 1.2 the key is asked for when its cipher was chosen.
   */
  #provenKey(): string | null {
    const ssl = openssl();
    if (this.claimedIdentity === null) return null;
    const proven =
      this.version === 'TLSv1.3' ? ssl.reused(this.#address) === 1 : ssl.pskIdentity(this.#address) !== null;
    return proven ? this.claimedIdentity : null;
  }

  /** RFC 5280: the last common name of the subject is the most specific one. Null: no certificate that was verified, or no name. */
  #certifiedName(): string | null {
    const ssl = openssl();
    if (ssl.verifyResult(this.#address) !== 0) return null;
    const x509 = ssl.peerCertificate(this.#address);
    if (x509 === 0) return null;
    const name = ssl.subject(x509);
    let last = -1;
    for (let at; (at = ssl.indexOf(name, NID_commonName, last)) >= 0;) last = at;
    const text = last < 0 ? null : textOf(ssl.entryData(ssl.entry(name, last)));
    ssl.freeX509(x509);
    return text;
  }
}

function attach(session: number, transport: number | TlsPipe): boolean {
  return typeof transport === 'number'
    ? openssl().setFd(session, transport) === 1
    : transport.attach(session);
}

/** Of an ASN1_STRING. Null: too long, or nothing that a name can be. */
function textOf(asn1: number): string | null {
  const ssl = openssl();
  const pointer = mapAnonymous(PAGE_BYTES);
  const length_bytes = ssl.toUtf8(pointer.address, asn1);
  const at = Number(pointer.view.getBigUint64(0, true));
  pointer.unmap();
  if (length_bytes < 0) return null;
  let text: string | null = null;
  if (length_bytes > 0 && length_bytes <= COMMON_NAME_LIMIT_BYTES) {
    text = Buffer.from(viewAt(at, length_bytes).bytes).toString('utf8');
    if (text.includes('\0')) text = null;
  }
  ssl.free(at, 0, 0);
  return text;
}

function withPem(pem: string, use: (bio: number, emptyString: number) => number): number {
  const ssl = openssl();
  const bytes = Buffer.from(pem);
  const memory = mapAnonymous(bytes.length + 1);
  hideFromChildren(memory);
  memory.bytes.set(bytes);
  const bio = ssl.memoryBio(memory.address, bytes.length);
  try {
    // An empty passphrase, so that OpenSSL does not ask the terminal for one.
    return bio === 0 ? 0 : use(bio, memory.address + bytes.length);
  } finally {
    ssl.freeBio(bio);
    bytes.fill(0);
    memory.bytes.fill(0);
    memory.unmap();
  }
}

/** At least one, or TlsError. The caller frees them. */
function readCertificates(pem: string, what: string): number[] {
  const ssl = openssl();
  const read: number[] = [];
  withPem(pem, (bio, noPassphrase) => {
    for (let x509; (x509 = ssl.readX509(bio, 0, 0, noPassphrase)) !== 0;) read.push(x509);
    return 0;
  });
  const reason = lastReason('nothing in it');
  if (read.length === 0) throw new TlsError(`${what} is no certificate in PEM: ${reason}`);
  return read;
}

let systemTexts: string | null = null;

function systemAuthorities(): string {
  if (systemTexts !== null) return systemTexts;
  for (const file of SYSTEM_AUTHORITIES)
    if (fs.existsSync(file)) return (systemTexts = fs.readFileSync(file, 'utf8'));
  return (systemTexts = rootCertificates.join('\n'));
}

/** SSL_psk_server_cb_func: the key of this identity, its length as the answer; 0: there is none. */
function serverKey(
  address: number | bigint,
  identity: string | null,
  to: number | bigint,
  limit: number,
): number {
  const session = sessions.get(Number(address));
  const key = identity === null ? undefined : session?.context.keys.get(identity);
  if (session === undefined || identity === null || key === undefined || key.length_bytes > limit) return 0;
  openssl().copy(Number(to), key.at, key.length_bytes);
  session.claimedIdentity = identity;
  return key.length_bytes;
}

/** SSL_psk_client_cb_func: our identity with its zero, our key, its length as the answer. */
function clientKey(
  address: number | bigint,
  _hint: number | bigint,
  identityTo: number | bigint,
  identityLimit: number,
  to: number | bigint,
  limit: number,
): number {
  const context = sessions.get(Number(address))?.context;
  const identity = context?.pskIdentity ?? null;
  const key = identity === null ? undefined : context?.keys.get(identity);
  if (identity === null || key === undefined) return 0;
  const name = Buffer.from(identity + '\0');
  if (key.length_bytes > limit || name.length > identityLimit) return 0;
  viewAt(Number(identityTo), name.length).bytes.set(name);
  openssl().copy(Number(to), key.at, key.length_bytes);
  return key.length_bytes;
}
