/**
 * The data thread's loop: one epoll over all listeners, all clients, the mail of the main thread and the answers
 * of io_uring. Everything that a request needs happens in turns of this loop:
 *
 *   wait -> what is ready: mail, accepts, receives (requests are taken and mostly answered at once)
 *        -> answers of slow operations -> settle what was touched (send, go on, close) -> submit -> wait
 *
 * The thread sleeps in epoll_wait and never returns to JavaScript's event loop: no promise resolves here, no timer
 * fires, mail is fetched by `receiveMail`. It sleeps for SLEEP_LIMIT_MS at most, so that the process can end
 * even when the main thread died without saying stop.
 *
 * One thread serves all today. Nothing but Volume is shared between connections of an export, so that several
 * loops with a part of the connections each would need a Volume that may be used from several threads (a flush
 * gate in shared memory), and nothing else.
 */
import { Epoll, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../../host/epoll.js';
import type { Signal } from '../../host/eventfd.js';
import { HostError } from '../../host/errno.js';
import { setKeepAlive, setNoDelay, setSockBuf } from '../../host/inet.js';
import { mapAnonymous, type Mapping } from '../../host/memory.js';
import { MSG_NOSIGNAL, accept, close, recv, send } from '../../host/raw.js';
import { sendFile } from '../../host/sendFile.js';
import { Budget, ChunkPool, type Allocate } from './chunks.js';
import { Connection } from './connection.js';
import { AT_EXPORT, AT_SERVER } from './counters.js';
import { CONNECTION_LIMIT, DRAIN_LIMIT_MS, HANDSHAKE_LIMIT_MS, LINGER_LIMIT_MS } from './limits.js';
import type { FromLoop, ToLoop } from './messages.js';
import { ListenerOffers, Offered } from './offers.js';
import type { Channel } from './output.js';
import { peerOf } from './peer.js';
import { Shutting } from './shutting.js';
import type { Later } from '../volume/later.js';
import type { LayersOpening, LimitsOpening, VolumeOpening } from '../volume/opening.js';
import type { Reactor, Settler, Watcher } from '../volume/reactor.js';
import type { Volume } from '../volume/volume.js';

const SLEEP_LIMIT_MS = 1000;
const TICK_MS = 250;
const WAITING_SLEEP_MS = 2;
const ACCEPTS_LIMIT = 64;
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

const MAIL_TOKEN = 0;
const RING_TOKEN = 1;
const FIRST_TOKEN = 2;

/** A volume as the loop keeps it. */
export interface HeldVolume {
  /** What clients are served. */
  readonly volume: Volume;
  /** Its fds are with the kernel. */
  readonly busy: boolean;
  grow(size_bytes: number): void;
  /** Everything durable, as it is before the fds are closed. No client uses it any more. */
  shut(done: (result: number) => void): void;
}

/** Layers that are being exchanged. */
export interface LayersChange {
  /** 0 or -errno, when it is over. */
  readonly result: number;
  over(): boolean;
}

/** Slow operations with the kernel: RingIo, or nothing. */
export interface LoopRing {
  readonly idle: boolean;
  readonly requestCount: number;
  reap(): void;
  submit(): boolean;
}

export interface LoopParts {
  readonly mail: Signal;
  readonly receiveMail: () => ToLoop | undefined;
  readonly post: (message: FromLoop) => void;
  readonly serverCounters: Float64Array;
  readonly later: Later;
  readonly ring: LoopRing | null;
  readonly ringSignal: Signal | null;
  readonly now_ms: () => number;
  /** `reactor` is this loop, for volumes that live on sockets. */
  readonly openVolume: (volumeId: number, opening: VolumeOpening, reactor: Reactor) => HeldVolume;
  readonly closedVolume: (held: HeldVolume) => void;
  readonly changeLayers: (
    how: 'snapshot' | 'replace' | 'content',
    changes: readonly { held: HeldVolume; base: LayersOpening }[],
  ) => LayersChange;
  readonly limitVolume: (held: HeldVolume, limits: LimitsOpening | null) => void;
  /** Once per TICK_MS or so. */
  readonly tick: (now_ms: number) => void;
  /** What waits for a time and not for an event: requests over a limit. */
  readonly timed?: Timed;
  /** Where buffers come from; mapped memory, if it does not say. */
  readonly allocate?: Allocate;
}

export interface Timed {
  /** Infinity: nothing waits. */
  readonly wakeAt_ms: number;
  turn(now_ms: number): void;
}

class Listener {
  readonly fd: number;
  readonly tcp: boolean;
  readonly offers: ListenerOffers;
  token = 0;
  pausedUntil_ms = 0;

  constructor(fd: number, tcp: boolean, offers: ListenerOffers) {
    this.fd = fd;
    this.tcp = tcp;
    this.offers = offers;
  }
}

/** A connection with its socket. */
class Client implements Channel {
  readonly fd: number;
  readonly listener: Listener;
  connection!: Connection<Offered>;
  token = 0;
  interest = 0;
  /** In the epoll set. Taken out when only a hang-up is left to be told, which would be told for ever. */
  watched = false;
  /** End of handshake, or of draining. */
  deadline_ms = Infinity;
  /** It said something since the last tick; and when that was seen. */
  heard = false;
  heardAt_ms = 0;

  constructor(fd: number, listener: Listener) {
    this.fd = fd;
    this.listener = listener;
  }

  recv(address: number, length_bytes: number): number {
    this.heard = true;
    return recv(this.fd, address, length_bytes, 0);
  }
  send(address: number, length_bytes: number): number {
    return send(this.fd, address, length_bytes, MSG_NOSIGNAL);
  }
  sendFile(fileFd: number, offset_bytes: number, length_bytes: number): number {
    return sendFile(this.fd, fileFd, offset_bytes, length_bytes);
  }
}

/** A socket of a volume. */
class Foreign {
  readonly watcher: Watcher;
  readonly token: number;
  events: number;

  constructor(watcher: Watcher, token: number, events: number) {
    this.watcher = watcher;
    this.token = token;
    this.events = events;
  }
}

export class Loop implements Reactor {
  #parts: LoopParts;
  #epoll = new Epoll(512);
  #pool: ChunkPool;
  #budget = new Budget();
  #watched: (Listener | Client | Foreign | null)[] = [];
  /** By fd. */
  #foreign = new Map<number, Foreign>();
  #settlers: Settler[] = [];
  #freeTokens: number[] = [];
  /** Free from the next turn on: events of this turn may still carry them. */
  #freedTokens: number[] = [];
  #clients = new Set<Client>();
  #touched: Client[] = [];
  #volumes = new Map<number, HeldVolume>();
  #listeners = new Map<number, Listener>();
  #offered = new Map<number, Offered>();
  /** Who is to be offered on a listener, there already or not. */
  #offersOf = new Map<number, ListenerOffers>();
  /** Conditions that mail waits for. */
  #waits: { reply: number; over: () => boolean; result?: () => number }[] = [];
  #nextTick_ms = 0;
  #stopping = false;
  #stopped = false;
  #restless = false;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#pool = new ChunkPool(parts.allocate ?? ((length_bytes): Mapping => mapAnonymous(length_bytes)));
    this.#epoll.add(parts.mail.fd, EPOLLIN, MAIL_TOKEN);
    if (parts.ringSignal !== null) this.#epoll.add(parts.ringSignal.fd, EPOLLIN, RING_TOKEN);
  }

  /** Until a stop was asked for and is done. */
  run(): void {
    while (!this.#stopped) this.turn();
    this.#epoll.close();
  }

  /** One turn; `run` does nothing else. */
  turn(): void {
    const { later, ring, serverCounters } = this.#parts;
    const count = this.#epoll.wait(this.#sleep_ms());
    serverCounters[AT_SERVER.turns]!++;
    for (let i = 0; i < count; i++) this.#ready(this.#epoll.tokens[i]!, this.#epoll.events[i]!);
    ring?.reap();
    const timed = this.#parts.timed;
    if (timed !== undefined && timed.wakeAt_ms !== Infinity) timed.turn(this.#parts.now_ms());
    later.turn();
    this.#budget.turn();
    for (let i = 0; i < this.#touched.length; i++) this.#settle(this.#touched[i]!);
    this.#touched.length = 0;
    // A settler may touch another, or be touched again by an answer it gives.
    for (let i = 0; i < this.#settlers.length; i++) this.#settlers[i]!.settle();
    this.#settlers.length = 0;
    this.#restless = ring?.submit() === false;
    if (this.#freedTokens.length > 0) {
      this.#freeTokens.push(...this.#freedTokens);
      this.#freedTokens.length = 0;
    }
    const now_ms = this.#parts.now_ms();
    if (now_ms >= this.#nextTick_ms) this.#tick(now_ms);
    if (this.#waits.length > 0) this.#answerWaits();
  }

  #sleep_ms(): number {
    if (this.#restless || this.#parts.later.pending > 0 || this.#touched.length > 0) return 0;
    // What they wait for may end in a turn that no event begins.
    if (this.#waits.length > 0) return WAITING_SLEEP_MS;
    const sleep_ms = this.#clients.size > 0 ? TICK_MS : SLEEP_LIMIT_MS;
    const wakeAt_ms = this.#parts.timed?.wakeAt_ms ?? Infinity;
    if (wakeAt_ms === Infinity) return sleep_ms;
    return Math.max(0, Math.min(sleep_ms, Math.ceil(wakeAt_ms - this.#parts.now_ms())));
  }

  #ready(token: number, events: number): void {
    if (token === MAIL_TOKEN) return this.#readMail();
    if (token === RING_TOKEN) {
      this.#parts.ringSignal!.drain();
      return;
    }
    const watched = this.#watched[token - FIRST_TOKEN];
    if (watched instanceof Client) this.#clientReady(watched, events);
    else if (watched instanceof Listener) this.#acceptAll(watched);
    else if (watched instanceof Foreign) watched.watcher.ready(events);
  }

  get later(): Later {
    return this.#parts.later;
  }

  get now_ms(): () => number {
    return this.#parts.now_ms;
  }

  watch(fd: number, events: number, watcher: Watcher): void {
    const known = this.#foreign.get(fd);
    if (known !== undefined) {
      if (known.events !== events) this.#epoll.modify(fd, events, known.token);
      known.events = events;
      return;
    }
    const index = this.#freeTokens.pop() ?? this.#watched.length;
    const foreign = new Foreign(watcher, index + FIRST_TOKEN, events);
    this.#watched[index] = foreign;
    this.#foreign.set(fd, foreign);
    this.#epoll.add(fd, events, foreign.token);
  }

  unwatch(fd: number): void {
    const foreign = this.#foreign.get(fd);
    if (foreign === undefined) return;
    this.#foreign.delete(fd);
    this.#epoll.remove(fd);
    this.#freeToken(foreign.token);
  }

  touch(settler: Settler): void {
    this.#settlers.push(settler);
  }

  #clientReady(client: Client, events: number): void {
    const connection = client.connection;
    if ((events & EPOLLOUT) !== 0) connection.writable();
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) === 0) return;
    if (connection.wantsInput) connection.readable();
    else if ((events & (EPOLLHUP | EPOLLERR)) !== 0) {
      // Both directions are gone, but we are not reading now: nothing more will be told but this, again and again.
      connection.writable();
      this.#unwatch(client);
    }
  }

  #acceptAll(listener: Listener): void {
    const counters = this.#parts.serverCounters;
    for (let count = 0; count < ACCEPTS_LIMIT; count++) {
      const fd = accept(listener.fd);
      if (fd === EAGAIN) return;
      if (fd === EINTR || fd === ECONNABORTED) continue;
      if (fd < 0) {
        // No descriptors, no memory: the client stays in the kernel's queue until there are.
        counters[AT_SERVER.acceptErrors]!++;
        listener.pausedUntil_ms = this.#parts.now_ms() + ACCEPT_PAUSE_MS;
        this.#epoll.modify(listener.fd, 0, listener.token);
        return;
      }
      counters[AT_SERVER.connectionsTotal]!++;
      if (this.#clients.size >= CONNECTION_LIMIT || this.#stopping) {
        counters[AT_SERVER.refusedConnections]!++;
        close(fd);
        continue;
      }
      this.#welcome(fd, listener);
    }
  }

  #welcome(fd: number, listener: Listener): void {
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
    const client = new Client(fd, listener);
    client.connection = new Connection<Offered>({
      channel: client,
      offers: listener.offers.seenBy(peerOf(fd, listener.tcp), () => {
        this.#parts.serverCounters[AT_SERVER.forbiddenExport]!++;
      }),
      pool: this.#pool,
      budget: this.#budget,
      serverCounters: this.#parts.serverCounters,
      touch: () => this.#touch(client),
    });
    client.deadline_ms = this.#parts.now_ms() + HANDSHAKE_LIMIT_MS;
    client.token = this.#newToken(client);
    this.#clients.add(client);
    this.#parts.serverCounters[AT_SERVER.connections] = this.#clients.size;
    this.#touch(client);
  }

  #touch(client: Client): void {
    if (client.connection.touched) return;
    client.connection.touched = true;
    this.#touched.push(client);
  }

  #settle(client: Client): void {
    const connection = client.connection;
    connection.touched = false;
    if (connection.closed) return;
    connection.settle();
    if (connection.closed) return this.#farewell(client);
    // The handshake is over in time; and who has said all must read what is left within another.
    if (connection.draining)
      client.deadline_ms = Math.min(client.deadline_ms, this.#parts.now_ms() + LINGER_LIMIT_MS);
    else if (connection.offer !== null) client.deadline_ms = Infinity;
    const interest = (connection.wantsInput ? EPOLLIN : 0) | (connection.wantsOutput ? EPOLLOUT : 0);
    if (!client.watched) {
      // Of a socket that hung up only a wish is worth watching it again.
      if (interest === 0) return;
      if (!this.#watch(client, interest)) return;
    } else if (interest !== client.interest) this.#epoll.modify(client.fd, interest, client.token);
    client.interest = interest;
  }

  #watch(client: Client, interest: number): boolean {
    try {
      this.#epoll.add(client.fd, interest, client.token);
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

  #unwatch(client: Client): void {
    if (!client.watched) return;
    this.#epoll.remove(client.fd);
    client.watched = false;
    client.interest = 0;
  }

  #farewell(client: Client): void {
    this.#unwatch(client);
    close(client.fd);
    this.#freeToken(client.token);
    this.#clients.delete(client);
    this.#parts.serverCounters[AT_SERVER.connections] = this.#clients.size;
  }

  #newToken(watched: Listener | Client): number {
    const index = this.#freeTokens.pop() ?? this.#watched.length;
    this.#watched[index] = watched;
    return index + FIRST_TOKEN;
  }

  #freeToken(token: number): void {
    this.#watched[token - FIRST_TOKEN] = null;
    this.#freedTokens.push(token - FIRST_TOKEN);
  }

  #tick(now_ms: number): void {
    this.#nextTick_ms = now_ms + TICK_MS;
    const counters = this.#parts.serverCounters;
    for (const client of this.#clients) {
      if (client.heard || !client.connection.idle) client.heardAt_ms = now_ms;
      client.heard = false;
      const { offer } = client.connection;
      if (offer !== null && now_ms - client.heardAt_ms > offer.rules.idleLimit_ms) {
        offer.counters[AT_EXPORT.idleDisconnects]!++;
        client.heardAt_ms = now_ms;
        client.connection.drain();
      }
      if (client.deadline_ms > now_ms) continue;
      const name = client.connection.handshaking ? 'handshakeTimeouts' : 'drainTimeouts';
      counters[AT_SERVER[name]]!++;
      client.deadline_ms = Infinity;
      client.connection.abandon();
      this.#settle(client);
    }
    for (const listener of this.#listeners.values()) {
      if (listener.pausedUntil_ms === 0 || listener.pausedUntil_ms > now_ms) continue;
      listener.pausedUntil_ms = 0;
      this.#epoll.modify(listener.fd, EPOLLIN, listener.token);
    }
    counters[AT_SERVER.bufferBytes] = this.#pool.mapped_bytes;
    counters[AT_SERVER.ioUringRequests] = this.#parts.ring?.requestCount ?? 0;
    this.#parts.tick(now_ms);
  }

  #readMail(): void {
    this.#parts.mail.drain();
    for (let message; (message = this.#parts.receiveMail()) !== undefined;) this.#mail(message);
  }

  #mail(message: ToLoop): void {
    switch (message.type) {
      case 'openVolume':
        this.#volumes.set(message.volumeId, this.#parts.openVolume(message.volumeId, message.opening, this));
        return;
      case 'growVolume':
        this.#volumes.get(message.volumeId)?.grow(message.size_bytes);
        return;
      case 'changeLayers':
        return this.#changeLayers(message);
      case 'limitVolume': {
        const held = this.#volumes.get(message.volumeId);
        if (held !== undefined) this.#parts.limitVolume(held, message.limits);
        return;
      }
      case 'closeVolume':
        return this.#closeVolume(message.volumeId, message.reply);
      case 'listen':
        return this.#listen(message.listenerId, message.fd, message.tcp);
      case 'unlisten':
        return this.#unlisten(message.listenerId, message.reply);
      case 'offer':
        return this.#offer(message);
      case 'withdraw':
        return this.#withdraw(message.exportId, message.reply);
      case 'stop':
        return this.#stop(message.reply);
    }
  }

  #changeLayers({ how, changes, reply }: Extract<ToLoop, { type: 'changeLayers' }>): void {
    const held = changes.map(({ volumeId, base }) => {
      const volume = this.#volumes.get(volumeId);
      if (volume === undefined) throw new Error(`volume ${volumeId} is not open`);
      return { held: volume, base };
    });
    const change = this.#parts.changeLayers(how, held);
    this.#waits.push({ reply, over: () => change.over(), result: () => change.result });
  }

  #closeVolume(volumeId: number, reply: number): void {
    const held = this.#volumes.get(volumeId);
    this.#volumes.delete(volumeId);
    let shut = held === undefined;
    let result = 0;
    const over = (): boolean => {
      if (!shut || held?.busy === true) return false;
      if (held !== undefined) this.#parts.closedVolume(held);
      return true;
    };
    this.#waits.push({ reply, over, result: () => result });
    held?.shut(answer => {
      shut = true;
      result = answer;
    });
  }

  #listen(listenerId: number, fd: number, tcp: boolean): void {
    const listener = new Listener(fd, tcp, this.#offersAt(listenerId));
    listener.token = this.#newToken(listener);
    this.#listeners.set(listenerId, listener);
    this.#epoll.add(listener.fd, EPOLLIN, listener.token);
  }

  #unlisten(listenerId: number, reply: number): void {
    const listener = this.#listeners.get(listenerId);
    this.#offersOf.delete(listenerId);
    if (listener !== undefined) {
      this.#listeners.delete(listenerId);
      this.#epoll.remove(listener.fd);
      close(listener.fd);
      this.#freeToken(listener.token);
    }
    this.#drain(reply, client => client.listener === listener);
  }

  #offer(message: Extract<ToLoop, { type: 'offer' }>): void {
    let offered = this.#offered.get(message.exportId);
    if (offered === undefined) {
      const { exportId: id, nbdName: name, volumeId, readOnly, counters, rules } = message;
      const volume = this.#volumes.get(volumeId)?.volume;
      if (volume === undefined) throw new Error(`export ${name}: volume ${volumeId} was not opened`);
      offered = new Offered({ id, name, volume, volumeId, readOnly, counters, rules });
      this.#offered.set(id, offered);
    }
    for (const listenerId of offered.listenerIds) this.#offersAt(listenerId).remove(offered);
    offered.listenerIds = message.listenerIds;
    for (const listenerId of offered.listenerIds) this.#offersAt(listenerId).add(offered);
  }

  #offersAt(listenerId: number): ListenerOffers {
    let offers = this.#offersOf.get(listenerId);
    if (offers === undefined) this.#offersOf.set(listenerId, (offers = new ListenerOffers()));
    return offers;
  }

  #withdraw(exportId: number, reply: number): void {
    const offered = this.#offered.get(exportId);
    this.#offered.delete(exportId);
    for (const listenerId of offered?.listenerIds ?? []) this.#offersAt(listenerId).remove(offered!);
    this.#drain(reply, client => offered !== undefined && client.connection.offer === offered);
  }

  #stop(reply: number): void {
    this.#stopping = true;
    for (const listenerId of this.#listeners.keys()) this.#unlisten(listenerId, -1);
    this.#drain(-1, () => true);
    let shutting: Shutting | null = null;
    this.#waits.push({
      reply,
      over: () => {
        if (this.#clients.size > 0) return false;
        shutting ??= new Shutting([...this.#volumes.values()]);
        if (shutting.left > 0 || [...this.#volumes.values()].some(volume => volume.busy)) return false;
        this.#stopped = true;
        return true;
      },
    });
  }

  /** Drains the clients that `which` tells; `reply` (unless -1) is answered when they are gone. */
  #drain(reply: number, which: (client: Client) => boolean): void {
    const drained = [...this.#clients].filter(which);
    for (const client of drained) {
      client.deadline_ms = Math.min(client.deadline_ms, this.#parts.now_ms() + DRAIN_LIMIT_MS);
      client.connection.drain();
    }
    if (reply >= 0)
      this.#waits.push({ reply, over: () => drained.every(client => client.connection.closed) });
  }

  #answerWaits(): void {
    this.#waits = this.#waits.filter(({ reply, over, result }) => {
      if (!over()) return true;
      if (reply >= 0) this.#parts.post({ type: 'done', reply, result: result?.() ?? 0 });
      return false;
    });
  }
}
