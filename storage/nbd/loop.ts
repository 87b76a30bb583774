/**
 * The data thread's loop: one epoll over all listeners, all clients, the sockets of volumes, the mail of the main thread
 * and the answers of io_uring. Everything that a request needs happens in turns of this loop:
 *
 *   wait -> what is ready: mail, accepts, receives (requests are taken and mostly answered at once)
 *        -> answers of slow operations -> settle what was touched (send, go on, close) -> submit -> wait
 *
 * clients.ts has those who are connected, mail.ts what the main thread asks, waiting.ts whether to sleep.
 *
 * The thread sleeps in epoll_wait and never returns to JavaScript's event loop: no promise resolves here, no timer
 * fires, mail is fetched by `receiveMail`. It sleeps for SLEEP_LIMIT_MS at most, so that the process can end
 * even when the main thread died without saying stop.
 *
 * One thread serves all today. Nothing but Volume is shared between connections of an export, so that several
 * loops with a part of the connections each would need a Volume that may be used from several threads (a flush
 * gate in shared memory), and nothing else.
 */
import { availableParallelism } from 'node:os';
import { EPOLLET, EPOLLIN, Epoll } from '../../host/epoll.js';
import type { Signal } from '../../host/eventfd.js';
import { mapAnonymous, type Mapping } from '../../host/memory.js';
import { waitedForProcessor_ms } from '../../host/process.js';
import { Budget, ChunkPool, type Allocate } from './chunks.js';
import { Clients } from './clients.js';
import { AT_SERVER } from './counters.js';
import { CONNECTION_LIMIT } from './limits.js';
import { Mail, type GuestDoor, type HeldVolume, type MailParts } from './mail.js';
import type { ToLoop } from './messages.js';
import { Waiting } from './waiting.js';
import type { Later } from '../volume/later.js';
import type { VolumeOpening, TlsOpening } from '../volume/opening.js';
import type { Reactor, Settler, Watcher } from '../volume/reactor.js';

const SLEEP_LIMIT_MS = 1000;
const TICK_MS = 250;
const WAITING_SLEEP_MS = 2;

/** Slow operations with the kernel: RingIo, or nothing. */
export interface LoopRing {
  readonly idle: boolean;
  readonly requestCount: number;
  reap(): void;
  submit(): boolean;
}

export interface LoopParts extends Omit<
  MailParts,
  'clients' | 'guests' | 'openVolume' | 'hostAddresses' | 'remoteTls'
> {
  readonly mail: Signal;
  readonly receiveMail: () => ToLoop | undefined;
  readonly serverCounters: Float64Array;
  readonly later: Later;
  readonly ring: LoopRing | null;
  readonly ringSignal: Signal | null;
  /** `reactor` is this loop, for volumes that live on sockets. */
  readonly openVolume: (volumeId: number, opening: VolumeOpening, reactor: Reactor) => HeldVolume;
  /** Once per TICK_MS or so. */
  readonly tick: (now_ms: number) => void;
  /** vhost-user beside NBD; nobody but NBD's clients is served, if it does not say. */
  readonly guests?: (reactor: Reactor, pool: ChunkPool, budget: Budget) => GuestDoor;
  /** What waits for a time and not for an event: requests over a limit. */
  readonly timed?: Timed;
  /** CONNECTION_LIMIT, if it does not say. */
  readonly connectionLimit?: number;
  /** Where buffers come from; mapped memory, if it does not say. */
  readonly allocate?: Allocate;
}

export interface Timed {
  /** Infinity: nothing waits. */
  readonly wakeAt_ms: number;
  turn(now_ms: number): void;
}

/** A socket in the epoll set. */
class Watched {
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
  #waiting: Waiting;
  #pool: ChunkPool;
  #budget = new Budget();
  /** Of servers' names. */
  readonly addresses = new Map<string, readonly string[]>();
  readonly remoteTls = new Map<string, TlsOpening>();
  #clients: Clients;
  #mail: Mail;
  #guests: GuestDoor | null;
  /** By token, and by fd. */
  #watched: (Watched | null)[] = [];
  #byFd = new Map<number, Watched>();
  #freeTokens: number[] = [];
  /** Free from the next turn on: events of this turn may still carry them. */
  #freedTokens: number[] = [];
  #settlers: Settler[] = [];
  #nextTick_ms = 0;
  #restless = false;

  constructor(parts: LoopParts) {
    const { mail, ringSignal, serverCounters } = parts;
    this.#parts = parts;
    const look = (timeout_ms: number): number => this.#epoll.wait(timeout_ms);
    // On the only processor looking would keep from working whoever we look for.
    const delayed_ms = availableParallelism() > 1 ? waitedForProcessor_ms : (): null => null;
    this.#waiting = new Waiting(look, parts.now_ms, delayed_ms);
    this.#pool = new ChunkPool(parts.allocate ?? ((length_bytes): Mapping => mapAnonymous(length_bytes)));
    const { post, now_ms, closedVolume, changeLayers, isFinishing, limitVolume } = parts;
    this.#clients = new Clients({
      reactor: this,
      pool: this.#pool,
      budget: this.#budget,
      serverCounters,
      connectionLimit: parts.connectionLimit ?? CONNECTION_LIMIT,
      tlsFailed: (listenerId, peer, reason, others) =>
        post({ type: 'tlsFailed', listenerId, peer, reason, others }),
    });
    this.#guests = parts.guests?.(this, this.#pool, this.#budget) ?? null;
    this.#mail = new Mail({
      clients: this.#clients,
      guests: this.#guests,
      post,
      now_ms,
      openVolume: (volumeId, opening) => parts.openVolume(volumeId, opening, this),
      hostAddresses: (host, addresses) => void this.addresses.set(host, addresses),
      remoteTls: (pool, tls) => void this.remoteTls.set(pool, tls),
      closedVolume,
      changeLayers,
      isFinishing,
      limitVolume,
    });
    this.watch(mail.fd, EPOLLIN, { ready: () => this.#readMail() });
    // By its edge: each answer wakes anew, and nobody has to read how many there are.
    if (ringSignal !== null) this.watch(ringSignal.fd, EPOLLIN | EPOLLET, { ready: () => undefined });
  }

  /** Until a stop was asked for and is done. */
  run(): void {
    while (!this.#mail.stopped) this.turn();
    this.#epoll.close();
  }

  /** One turn; `run` does nothing else. */
  turn(): void {
    const { later, ring, serverCounters } = this.#parts;
    const count = this.#waiting.wait(this.#sleep_ms());
    serverCounters[AT_SERVER.turns]!++;
    for (let i = 0; i < count; i++)
      this.#watched[this.#epoll.tokens[i]!]?.watcher.ready(this.#epoll.events[i]!);
    this.#clients.readOn();
    ring?.reap();
    const timed = this.#parts.timed;
    if (timed !== undefined && timed.wakeAt_ms !== Infinity) timed.turn(this.#parts.now_ms());
    later.turn();
    this.#budget.turn();
    this.#clients.settle();
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
    if (this.#mail.waiting) this.#mail.answer();
  }

  #sleep_ms(): number {
    if (this.#restless || this.#parts.later.pending > 0 || this.#clients.restless) return 0;
    // What they wait for may end in a turn that no event begins.
    if (this.#mail.waiting) return WAITING_SLEEP_MS;
    const sleep_ms = this.#clients.count > 0 ? TICK_MS : SLEEP_LIMIT_MS;
    const wakeAt_ms = this.#parts.timed?.wakeAt_ms ?? Infinity;
    if (wakeAt_ms === Infinity) return sleep_ms;
    return Math.max(0, Math.min(sleep_ms, Math.ceil(wakeAt_ms - this.#parts.now_ms())));
  }

  get later(): Later {
    return this.#parts.later;
  }

  get now_ms(): () => number {
    return this.#parts.now_ms;
  }

  watch(fd: number, events: number, watcher: Watcher): void {
    const known = this.#byFd.get(fd);
    if (known !== undefined) {
      if (known.events !== events) this.#epoll.modify(fd, events, known.token);
      known.events = events;
      return;
    }
    const token = this.#freeTokens.pop() ?? this.#watched.length;
    // Kept free when the kernel refuses to watch it.
    this.#watched[token] = null;
    try {
      this.#epoll.add(fd, events, token);
    } catch (error) {
      this.#freedTokens.push(token);
      throw error;
    }
    const watched = new Watched(watcher, token, events);
    this.#watched[token] = watched;
    this.#byFd.set(fd, watched);
  }

  unwatch(fd: number): void {
    const watched = this.#byFd.get(fd);
    if (watched === undefined) return;
    this.#byFd.delete(fd);
    this.#epoll.remove(fd);
    this.#watched[watched.token] = null;
    this.#freedTokens.push(watched.token);
  }

  touch(settler: Settler): void {
    this.#settlers.push(settler);
  }

  #tick(now_ms: number): void {
    this.#nextTick_ms = now_ms + TICK_MS;
    const counters = this.#parts.serverCounters;
    this.#waiting.tick(now_ms);
    this.#clients.tick(now_ms);
    this.#guests?.tick();
    counters[AT_SERVER.bufferBytes] = this.#pool.mapped_bytes;
    counters[AT_SERVER.ioUringRequests] = this.#parts.ring?.requestCount ?? 0;
    this.#parts.tick(now_ms);
  }

  #readMail(): void {
    this.#parts.mail.drain();
    for (let message; (message = this.#parts.receiveMail()) !== undefined;) this.#mail.take(message);
  }
}
