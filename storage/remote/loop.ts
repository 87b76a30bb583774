/**
 * Remote volumes' edge to the kernel: sockets that the data thread's loop watches, and how a volume is put together from its
 * opening. The addresses of `server.host` are looked up by the main thread, because this one cannot wait for an answer: each
 * dial takes what is known by then, one after the other where there are several.
 */
import { isIP } from 'node:net';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../../host/epoll.js';
import { HostError } from '../../host/errno.js';
import { connectTcp, setKeepAlive, setNoDelay } from '../../host/inet.js';
import { mapAnonymous } from '../../host/memory.js';
import { MSG_NOSIGNAL, close, recv, send } from '../../host/raw.js';
import { connectResult, setOption, setSockBuf } from '../../host/socket.js';
import { TlsError, type TlsSession } from '../../host/tls.js';
import { connectUnix } from '../../host/unix.js';
import { TlsSecrets } from '../tls/secrets.js';
import type { RemoteOpening } from '../volume/opening.js';
import type { Reactor, Watcher } from '../volume/reactor.js';
import { AlignedVolume } from './aligned.js';
import type { Dial, RemoteSocket } from './link.js';
import { RemoteVolume } from './remoteVolume.js';

const EAGAIN = -11;
const EPROTO = -71;
const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;
/** A server whose machine is gone is noticed after so long, whether we are sending or waiting. */
const SILENCE_LIMIT_MS = 30_000;
const KEEPALIVE_IDLE_S = 15;
const KEEPALIVE_INTERVAL_S = 5;
const SEND_BUFFER_BYTES = 1024 * 1024;

/** With TLS a recv may have to wait until the socket can be written, and a send until it can be read: `#needs…` of the last. */
class HostSocket implements RemoteSocket, Watcher {
  reason: string | null = null;
  #fd: number;
  #reactor: Reactor;
  #told: (input: boolean, output: boolean) => void;
  #secrets: TlsSecrets | null;
  #session: TlsSession | null = null;
  #writable = false;
  #events = 0;
  #wantsInput = false;
  #wantsOutput = false;
  #inputNeedsOutput = false;
  #outputNeedsInput = false;

  constructor(
    fd: number,
    reactor: Reactor,
    told: (input: boolean, output: boolean) => void,
    secrets: TlsSecrets | null,
  ) {
    this.#fd = fd;
    this.#reactor = reactor;
    this.#told = told;
    this.#secrets = secrets;
  }

  ready(events: number): void {
    const gone = (events & (EPOLLERR | EPOLLHUP)) !== 0;
    const readable = gone || (events & EPOLLIN) !== 0;
    const writable = gone || (events & EPOLLOUT) !== 0;
    if (writable) this.#writable = true;
    this.#told(
      readable || (writable && this.#inputNeedsOutput),
      this.#writable && (writable || (readable && this.#outputNeedsInput)),
    );
  }

  get hasInput(): boolean {
    return this.#session?.hasInput === true;
  }

  connected(): number {
    return this.#writable ? connectResult(this.#fd) : EAGAIN;
  }

  recv(address: number, length_bytes: number): number {
    const session = this.#session;
    if (session === null) return recv(this.#fd, address, length_bytes, 0);
    const received = session.recv(address, length_bytes);
    if (received > 0) return received;
    if (received < 0) this.#tlsFailed(session, received);
    if (received === EAGAIN) this.#needs(session.wantsOutput, this.#outputNeedsInput);
    return received;
  }

  send(address: number, length_bytes: number): number {
    const session = this.#session;
    if (session === null) return send(this.#fd, address, length_bytes, MSG_NOSIGNAL);
    const sent = session.send(address, length_bytes);
    if (sent < 0) this.#tlsFailed(session, sent);
    if (sent === EAGAIN) this.#needs(this.#inputNeedsOutput, session.wantsInput);
    return sent;
  }

  shakeTls(): number {
    try {
      this.#session ??= this.#secrets!.session(this.#fd);
    } catch (error) {
      if (!(error instanceof TlsError)) throw error;
      this.reason = `TLS: ${error.message}`;
      return EPROTO;
    }
    const result = this.#session.shake();
    if (result < 0) this.#tlsFailed(this.#session, result);
    this.#needs(result === EAGAIN && this.#session.wantsOutput, false);
    return result;
  }

  want(input: boolean, output: boolean): void {
    this.#wantsInput = input;
    this.#wantsOutput = output;
    const waitsForOutput = (output && !this.#outputNeedsInput) || this.#inputNeedsOutput;
    const events = (input || this.#outputNeedsInput ? EPOLLIN : 0) | (waitsForOutput ? EPOLLOUT : 0);
    if (events === this.#events || this.#fd < 0) return;
    this.#events = events;
    this.#reactor.watch(this.#fd, events, this);
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#session?.end();
    this.#session?.close();
    this.#session = null;
    this.#reactor.unwatch(this.#fd);
    close(this.#fd);
    this.#fd = -1;
  }

  #needs(inputNeedsOutput: boolean, outputNeedsInput: boolean): void {
    if (inputNeedsOutput === this.#inputNeedsOutput && outputNeedsInput === this.#outputNeedsInput) return;
    this.#inputNeedsOutput = inputNeedsOutput;
    this.#outputNeedsInput = outputNeedsInput;
    this.want(this.#wantsInput, this.#wantsOutput);
  }

  #tlsFailed(session: TlsSession, result: number): void {
    this.reason = result === EAGAIN ? null : `TLS: ${session.reason}`;
  }
}

/** To a server; nothing waits. */
function dialer({ server, pool }: RemoteOpening, reactor: Reactor, secrets: TlsSecrets | null): Dial {
  let dialCount = 0;
  const connect = (): number | string => {
    if (server.kind === 'unix') return connectUnix(server.path);
    const addresses = reactor.addresses.get(server.host) ?? (isIP(server.host) === 0 ? [] : [server.host]);
    const address = addresses[dialCount++ % addresses.length];
    return address === undefined ? 'its name has no address' : connectTcp(address, server.port);
  };
  return told => {
    try {
      const renewed = reactor.remoteTls.get(pool);
      if (renewed !== undefined) secrets?.renew(renewed);
      const fd = connect();
      if (typeof fd === 'string') return fd;
      if (server.kind === 'tcp') {
        setNoDelay(fd);
        setKeepAlive(fd, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S);
        setOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_LIMIT_MS);
      }
      setSockBuf(fd, { send_bytes: SEND_BUFFER_BYTES });
      return new HostSocket(fd, reactor, told, secrets);
    } catch (error) {
      if (error instanceof HostError) return error.message;
      throw error;
    }
  };
}

/** What build.ts needs: `onState` is told the outer volume. */
export function openRemote(
  opening: RemoteOpening,
  reactor: Reactor,
  onState: (volume: AlignedVolume) => void,
): AlignedVolume {
  const { server, exportName, size_bytes, connections, patience_ms, tls, pool } = opening;
  // No state is told before the constructor has returned.
  let outer: AlignedVolume | null = null;
  const secrets = tls === null ? null : new TlsSecrets('client', reactor.remoteTls.get(pool) ?? tls);
  const inner = new RemoteVolume({
    exportName,
    size_bytes,
    connections,
    patience_ms,
    tls: tls !== null,
    where: server.kind === 'unix' ? server.path : `${server.host}:${server.port}`,
    dial: dialer(opening, reactor, secrets),
    closed: () => secrets?.close(),
    allocate: mapAnonymous,
    later: reactor.later,
    now_ms: reactor.now_ms,
    touch: volume => reactor.touch(volume),
    onState: () => {
      if (outer !== null) onState(outer);
    },
  });
  outer = new AlignedVolume(inner, mapAnonymous, reactor.later);
  return outer;
}
