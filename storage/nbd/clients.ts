/**
 * Who is connected: listening sockets, clients from accept to close, and what time does to them. Of the loop it knows how a
 * socket is watched; what a client says is its Connection's.
 *
 *   accepted --handshake within HANDSHAKE_LIMIT_MS--> served --draining: LINGER_LIMIT_MS, or DRAIN_LIMIT_MS--> closed
 */
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../../host/epoll.js';
import { HostError } from '../../host/errno.js';
import { setKeepAlive, setNoDelay, setSockBuf } from '../../host/inet.js';
import { MSG_NOSIGNAL, accept, close, recv, send } from '../../host/raw.js';
import { sendFile } from '../../host/sendFile.js';
import { TlsError } from '../../host/tls.js';
import type { Budget, ChunkPool } from './chunks.js';
import { Connection, type TlsDoor } from './connection.js';
import { AT_EXPORT, AT_SERVER } from './counters.js';
import { ADDRESS_CONNECTION_LIMIT, CONNECTION_LIMIT, HANDSHAKE_LIMIT_MS, LINGER_LIMIT_MS } from './limits.js';
import type { OfferList } from './negotiation.js';
import type { ListenerOffers, Offered } from './offers.js';
import type { Channel } from './output.js';
import { peerOf } from './peer.js';
import { LOCAL_PEER, type Peer } from './rules.js';
import { TlsSecrets } from '../tls/secrets.js';
import { SecureSocket } from './tls.js';
import type { TlsOpening } from '../volume/opening.js';
import type { Reactor, Watcher } from '../volume/reactor.js';

const ACCEPTS_LIMIT = 64;
/** Steps of TLS handshakes in a turn: one takes a millisecond or more, and those who are served wait meanwhile. */
const SHAKES_LIMIT = 4;
/** Failed TLS handshakes are told so often at most. */
const TLS_FAILURE_INTERVAL_MS = 1000;
/** After accept failed for want of descriptors or memory, listeners rest so long. */
const ACCEPT_PAUSE_MS = 200;
/** A send buffer that takes a burst of replies whole. The kernel cuts it to what wmem_max allows. */
const SEND_BUFFER_BYTES = 1024 * 1024;
/** A TCP client whose machine is gone is noticed after about two minutes. */
const KEEPALIVE_IDLE_S = 60;
const KEEPALIVE_INTERVAL_S = 15;
const EAGAIN = -11;
const EINTR = -4;
const ECONNABORTED = -103;

export class Listener implements Watcher {
  readonly id: number;
  readonly fd: number;
  readonly tcp: boolean;
  readonly offers: ListenerOffers;
  /** Not null: nobody is served without it. */
  readonly tls: TlsSecrets | null;
  pausedUntil_ms = 0;
  #clients: Clients;

  constructor(
    parts: { id: number; fd: number; tcp: boolean; offers: ListenerOffers; tls: TlsSecrets | null },
    clients: Clients,
  ) {
    this.id = parts.id;
    this.fd = parts.fd;
    this.tcp = parts.tcp;
    this.offers = parts.offers;
    this.tls = parts.tls;
    this.#clients = clients;
  }

  ready(): void {
    this.#clients.acceptAll(this);
  }
}

/** A connection with its socket. */
export class Client implements Channel, TlsDoor<Offered>, Watcher {
  readonly fd: number;
  readonly listener: Listener;
  readonly peer: Peer;
  secure: SecureSocket | null = null;
  /** Among those who have input of which epoll does not tell. */
  readsOn = false;
  connection!: Connection<Offered>;
  interest = 0;
  /** In the epoll set. Taken out when only a hang-up is left to be told, which would be told for ever. */
  watched = false;
  /** End of handshake, or of draining. */
  deadline_ms = Infinity;
  /** Bytes came or went since the last tick; and when that was seen. */
  moved = false;
  movedAt_ms = 0;
  #clients: Clients;

  constructor(fd: number, listener: Listener, clients: Clients) {
    this.fd = fd;
    this.listener = listener;
    this.peer = peerOf(fd, listener.tcp);
    this.#clients = clients;
  }

  begin(): SecureSocket | null {
    try {
      this.secure = new SecureSocket(this.listener.tls!.session(this.fd));
      return this.secure;
    } catch (error) {
      if (!(error instanceof TlsError)) throw error;
      return null;
    }
  }
  offersTo(identity: string | null): OfferList<Offered> {
    return this.listener.offers.seenBy(this.peer, this.#clients.forbidden, identity);
  }
  failed(): void {
    this.#clients.tlsFailed(this, this.secure?.reason ?? this.listener.tls!.reason);
  }

  recv(address: number, length_bytes: number): number {
    const received = recv(this.fd, address, length_bytes, 0);
    if (received > 0) this.moved = true;
    return received;
  }
  send(address: number, length_bytes: number): number {
    const sent = send(this.fd, address, length_bytes, MSG_NOSIGNAL);
    if (sent > 0) this.moved = true;
    return sent;
  }
  sendFile(fileFd: number, offset_bytes: number, length_bytes: number): number {
    const sent = sendFile(this.fd, fileFd, offset_bytes, length_bytes);
    if (sent > 0) this.moved = true;
    return sent;
  }

  /** What the socket is to be watched for. */
  get wishes(): number {
    const { connection, secure } = this;
    const input = connection.wantsInput;
    const output = connection.wantsOutput;
    if (secure === null) return (input ? EPOLLIN : 0) | (output ? EPOLLOUT : 0);
    const { inputNeedsOutput, outputNeedsInput } = secure;
    return (
      ((input && !inputNeedsOutput) || (output && outputNeedsInput) ? EPOLLIN : 0) |
      ((output && !outputNeedsInput) || (input && inputNeedsOutput) ? EPOLLOUT : 0)
    );
  }

  ready(events: number): void {
    const { connection, secure } = this;
    // epoll tells of it again in the next turn.
    if (connection.shaking && !this.#clients.mayShake()) return;
    const gone = (events & (EPOLLHUP | EPOLLERR)) !== 0;
    const canRead = (events & EPOLLIN) !== 0;
    const canWrite = (events & EPOLLOUT) !== 0;
    if (canWrite || (canRead && secure?.outputNeedsInput === true)) connection.writable();
    if (!gone && !canRead && !(canWrite && secure?.inputNeedsOutput === true)) return;
    if (connection.wantsInput) connection.readable();
    else if (gone) {
      // Both directions are gone, but we are not reading now: nothing more will be told but this, again and again.
      connection.writable();
      this.#clients.unwatch(this);
    }
  }
}

export interface ClientsParts {
  readonly reactor: Reactor;
  readonly pool: ChunkPool;
  readonly budget: Budget;
  readonly serverCounters: Float64Array;
  /** CONNECTION_LIMIT or less. */
  readonly connectionLimit: number;
  readonly tlsFailed: (listenerId: number, peer: Peer, reason: string, others: number) => void;
}

export class Clients {
  /** Whoever comes now is refused. */
  stopping = false;
  /** To be called when a client asks for what it may not use. */
  readonly forbidden: () => void;
  #parts: ClientsParts;
  #clients = new Set<Client>();
  #touched: Client[] = [];
  #readOn: Client[] = [];
  #readsOnNow: Client[] = [];
  #listeners = new Map<number, Listener>();
  /** Clients from the network, by address. */
  #perAddress = new Map<string, number>();

  /** Steps of TLS handshakes in this turn. */
  #shakes = 0;
  /** TLS handshakes that failed and were not told. */
  #untold = 0;
  #nextTold_ms = -Infinity;

  constructor(parts: ClientsParts) {
    this.#parts = parts;
    this.forbidden = () => {
      parts.serverCounters[AT_SERVER.forbiddenExport]!++;
    };
  }

  get count(): number {
    return this.#clients.size;
  }
  get listenerIds(): number[] {
    return [...this.#listeners.keys()];
  }
  /** Some are to be settled, or have input that no event will tell of. */
  get restless(): boolean {
    return this.#touched.length > 0 || this.#readOn.length > 0;
  }

  listen(id: number, fd: number, tcp: boolean, offers: ListenerOffers, opening: TlsOpening | null): void {
    const tls = opening === null ? null : new TlsSecrets('server', opening);
    const listener = new Listener({ id, fd, tcp, offers, tls }, this);
    this.#listeners.set(id, listener);
    this.#parts.reactor.watch(fd, EPOLLIN, listener);
  }

  renewTls(listenerId: number, opening: TlsOpening): void {
    this.#listeners.get(listenerId)?.tls?.renew(opening);
  }

  mayShake(): boolean {
    return this.#shakes++ < SHAKES_LIMIT;
  }

  tlsFailed(client: Client, reason: string): void {
    const now_ms = this.#parts.reactor.now_ms();
    if (now_ms < this.#nextTold_ms) {
      this.#untold++;
      return;
    }
    this.#nextTold_ms = now_ms + TLS_FAILURE_INTERVAL_MS;
    this.#parts.tlsFailed(client.listener.id, client.peer, reason, this.#untold);
    this.#untold = 0;
  }

  /** Its clients stay. */
  unlisten(listenerId: number): Listener | undefined {
    const listener = this.#listeners.get(listenerId);
    if (listener === undefined) return undefined;
    this.#listeners.delete(listenerId);
    this.#parts.reactor.unwatch(listener.fd);
    close(listener.fd);
    listener.tls?.close();
    return listener;
  }

  /** Whom `which` tells has until `deadline_ms` for what is in flight. */
  drain(which: (client: Client) => boolean, deadline_ms: number): Client[] {
    const drained = [...this.#clients].filter(which);
    for (const client of drained) {
      client.deadline_ms = Math.min(client.deadline_ms, deadline_ms);
      client.connection.drain();
    }
    return drained;
  }

  /** Those of this volume that dial again for its new size. */
  hangUpForSize(volumeId: number): void {
    for (const { connection } of this.#clients)
      if (connection.offer?.volumeId === volumeId && connection.offer.rules.redialWhenGrown)
        connection.hangUp();
  }

  acceptAll(listener: Listener): void {
    const { reactor, serverCounters } = this.#parts;
    for (let count = 0; count < ACCEPTS_LIMIT; count++) {
      const fd = accept(listener.fd);
      if (fd === EAGAIN) return;
      if (fd === EINTR || fd === ECONNABORTED) continue;
      if (fd < 0) {
        // No descriptors, no memory: the client stays in the kernel's queue until there are.
        serverCounters[AT_SERVER.acceptErrors]!++;
        listener.pausedUntil_ms = reactor.now_ms() + ACCEPT_PAUSE_MS;
        reactor.watch(listener.fd, 0, listener);
        return;
      }
      serverCounters[AT_SERVER.connectionsTotal]!++;
      if (this.#clients.size < this.#parts.connectionLimit && !this.stopping) {
        const client = new Client(fd, listener, this);
        if (this.#mayCome(client)) {
          this.#welcome(client);
          continue;
        }
        serverCounters[AT_SERVER.fullAddress]!++;
      }
      serverCounters[AT_SERVER.refusedConnections]!++;
      close(fd);
    }
  }

  /** One address cannot take the places of all others. */
  #mayCome({ peer }: Client): boolean {
    if (peer === null || peer === LOCAL_PEER) return true;
    const limit = (this.#parts.connectionLimit * ADDRESS_CONNECTION_LIMIT) / CONNECTION_LIMIT;
    const count = this.#perAddress.get(peer) ?? 0;
    if (count >= limit) return false;
    this.#perAddress.set(peer, count + 1);
    return true;
  }

  #leaveAddress({ peer }: Client): void {
    const count = peer === null ? undefined : this.#perAddress.get(peer);
    if (count === undefined) return;
    if (count > 1) this.#perAddress.set(peer!, count - 1);
    else this.#perAddress.delete(peer!);
  }

  #welcome(client: Client): void {
    const { reactor, pool, budget, serverCounters } = this.#parts;
    const { fd, listener } = client;
    try {
      if (listener.tcp) {
        setNoDelay(fd);
        setKeepAlive(fd, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S);
      }
      setSockBuf(fd, { send_bytes: SEND_BUFFER_BYTES });
    } catch (error) {
      // The client is gone already; the first send says so.
      if (!(error instanceof HostError)) throw error;
    }
    client.connection = new Connection<Offered>({
      channel: client,
      offers: client.offersTo(null),
      tls: listener.tls === null ? null : client,
      pool,
      budget,
      serverCounters,
      touch: () => this.#touch(client),
    });
    client.deadline_ms = reactor.now_ms() + HANDSHAKE_LIMIT_MS;
    this.#clients.add(client);
    serverCounters[AT_SERVER.connections] = this.#clients.size;
    this.#touch(client);
  }

  #touch(client: Client): void {
    if (client.connection.touched) return;
    client.connection.touched = true;
    this.#touched.push(client);
  }

  /** At the end of a turn: everybody who was touched in it. */
  settle(): void {
    this.#shakes = 0;
    for (let i = 0; i < this.#touched.length; i++) this.#settle(this.#touched[i]!);
    this.#touched.length = 0;
  }

  /** Those who have input of which epoll does not tell. */
  readOn(): void {
    if (this.#readOn.length === 0) return;
    const now = this.#readOn;
    this.#readOn = this.#readsOnNow;
    this.#readsOnNow = now;
    for (let i = 0; i < now.length; i++) {
      const client = now[i]!;
      client.readsOn = false;
      if (client.connection.hasInput) client.connection.readable();
    }
    now.length = 0;
  }

  #settle(client: Client): void {
    const { connection } = client;
    connection.touched = false;
    if (connection.closed) return;
    connection.settle();
    if (connection.closed) return this.#farewell(client);
    // The handshake is over in time; and who has said all must read what is left within another.
    if (connection.draining)
      client.deadline_ms = Math.min(client.deadline_ms, this.#parts.reactor.now_ms() + LINGER_LIMIT_MS);
    else if (connection.offer !== null) client.deadline_ms = Infinity;
    if (!client.readsOn && connection.hasInput) {
      client.readsOn = true;
      this.#readOn.push(client);
    }
    const interest = client.wishes;
    if (!client.watched) {
      // Of a socket that hung up only a wish is worth watching it again.
      if (interest === 0) return;
      if (!this.#watch(client, interest)) return;
    } else if (interest !== client.interest) this.#parts.reactor.watch(client.fd, interest, client);
    client.interest = interest;
  }

  #watch(client: Client, interest: number): boolean {
    try {
      this.#parts.reactor.watch(client.fd, interest, client);
    } catch (error) {
      // No memory, or the user's limit of watches: this client cannot be served.
      if (!(error instanceof HostError)) throw error;
      this.#parts.serverCounters[AT_SERVER.acceptErrors]!++;
      client.connection.abandon();
      return false;
    }
    client.watched = true;
    return true;
  }

  unwatch(client: Client): void {
    if (!client.watched) return;
    this.#parts.reactor.unwatch(client.fd);
    client.watched = false;
    client.interest = 0;
  }

  #farewell(client: Client): void {
    this.unwatch(client);
    client.secure?.close();
    close(client.fd);
    this.#leaveAddress(client);
    this.#clients.delete(client);
    this.#parts.serverCounters[AT_SERVER.connections] = this.#clients.size;
  }

  /** A few times a second. */
  tick(now_ms: number): void {
    const { serverCounters, reactor } = this.#parts;
    for (const client of this.#clients) {
      const { secure } = client;
      if (client.moved || secure?.moved === true || !client.connection.idle) client.movedAt_ms = now_ms;
      client.moved = false;
      if (secure !== null) secure.moved = false;
      const { offer } = client.connection;
      if (offer !== null && now_ms - client.movedAt_ms > offer.rules.idleLimit_ms) {
        offer.counters[AT_EXPORT.idleDisconnects]!++;
        client.movedAt_ms = now_ms;
        client.connection.drain();
      }
      if (client.deadline_ms > now_ms) continue;
      const name = client.connection.handshaking ? 'handshakeTimeouts' : 'drainTimeouts';
      serverCounters[AT_SERVER[name]]!++;
      client.deadline_ms = Infinity;
      client.connection.abandon();
      this.#settle(client);
    }
    for (const listener of this.#listeners.values()) {
      if (listener.pausedUntil_ms === 0 || listener.pausedUntil_ms > now_ms) continue;
      listener.pausedUntil_ms = 0;
      reactor.watch(listener.fd, EPOLLIN, listener);
    }
  }
}
