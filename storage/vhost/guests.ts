/**
 * Guests on this machine and their disks by vhost-user: listening sockets, one QEMU at a time on each, and what becomes of a
 * connection. The third front door beside NBD's; the loop, its memory and its budget are the same.
 *
 *   listener + export --> Device --accept--> Connection, DiskSession --hang-up, nonsense, withdrawal--> accept again
 *
 * Who comes while another is connected waits in the kernel's queue. QEMU dials again by itself (`reconnect`), to
 * whoever listens then.
 */
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN } from '../../host/epoll.js';
import { HostError } from '../../host/errno.js';
import { accept, close } from '../../host/raw.js';
import { Connection } from '../../host/vhost/connection.js';
import { makeKernel } from '../../host/vhost/kernel.js';
import type { Ring } from '../../host/vhost/ring.js';
import { Refused } from '../../host/vhost/session.js';
import type { Budget, ChunkPool } from '../nbd/chunks.js';
import { AT_EXPORT } from '../nbd/counters.js';
import type { GuestDoor } from '../nbd/mail.js';
import type { GuestDisk } from '../nbd/messages.js';
import type { Offered } from '../nbd/offers.js';
import type { Reactor, Settler, Watcher } from '../volume/reactor.js';
import { Device } from './device.js';
import { DiskSession } from './session.js';
import { SECTOR_BYTES } from './virtioBlk.js';

export interface GuestsParts {
  readonly reactor: Reactor;
  readonly pool: ChunkPool;
  readonly budget: Budget;
  readonly onFault: (listenerId: number, reason: string | null) => void;
}

/** A QEMU that has connected speaks at once. */
const SILENCE_MS = 5000;
const SILENT = `QEMU has connected and says nothing, which it does for good (7.2) when weft-storage ended while it was connecting: the machine has to be started anew`;

/** Memory is taken only when it is sealed against shrinking: a page that vanishes would end this process. */
const kernel = makeKernel(false);

/** A listener that shows an export. */
class Guest implements Watcher, Settler {
  readonly offered: Offered;
  readonly #fd: number;
  readonly #parts: GuestsParts;
  readonly #device: Device;
  readonly #session: DiskSession;
  readonly #onFault: (reason: string | null) => void;
  #connection: Connection | null = null;
  /** What the socket is watched for; -1: not at all. */
  #interest = -1;
  #isTouched = false;
  /** Infinity: it has spoken, or its silence was told. */
  #silentUntil_ms = Infinity;
  #isSilenceTold = false;
  #told_bytes: number;
  /** It takes nothing more, and nobody new. */
  #drainUntil_ms = Infinity;
  #isClosed = false;

  constructor(listenerId: number, fd: number, disk: GuestDisk, offered: Offered, parts: GuestsParts) {
    this.#fd = fd;
    this.offered = offered;
    this.#parts = parts;
    const { reactor, pool, budget } = parts;
    const { volume, readOnly, counters, rules } = offered;
    this.#told_bytes = volume.size_bytes;
    this.#onFault = reason => parts.onFault(listenerId, reason);
    this.#device = new Device({
      volume,
      readOnly,
      block_bytes: Math.max(SECTOR_BYTES, rules.minimumBlock_bytes),
      queues: disk.queues,
      serial: disk.serial,
      counters,
      pool,
      budget,
      later: reactor.later,
      now_ms: reactor.now_ms,
      touch: () => this.#touch(),
      onFault: this.#onFault,
    });
    this.#session = new DiskSession(this.#device, kernel, (ring, isComing) =>
      this.#watchKick(ring, isComing),
    );
    reactor.watch(fd, EPOLLIN, { ready: () => this.#accept() });
  }

  #touch(): void {
    if (this.#isTouched) return;
    this.#isTouched = true;
    this.#parts.reactor.touch(this);
  }

  #accept(): void {
    const fd = accept(this.#fd);
    if (fd < 0) return;
    this.#parts.reactor.unwatch(this.#fd);
    this.#connection = new Connection(fd, this.#session);
    this.#device.attach(this.#session);
    const { counters } = this.offered;
    counters[AT_EXPORT.connections]!++;
    counters[AT_EXPORT.connectionsTotal]!++;
    this.#silentUntil_ms = this.#parts.reactor.now_ms() + SILENCE_MS;
    this.#onFault(null);
    this.#watch();
  }

  /** The socket, while no message waits for quiet. */
  #watch(): void {
    const connection = this.#connection!;
    const interest = connection.holdsBack ? 0 : EPOLLIN;
    this.#device.isHeld = interest === 0 || this.#drainUntil_ms !== Infinity;
    if (interest === this.#interest) return;
    this.#interest = interest;
    this.#parts.reactor.watch(connection.fd, interest, this);
  }

  /** The socket has messages, or hung up. */
  ready(events: number): void {
    if ((events & EPOLLIN) !== 0 && !this.#connection!.holdsBack) this.#receive();
    else if ((events & (EPOLLHUP | EPOLLERR)) !== 0) this.#hangUp();
  }

  #receive(): void {
    this.#silentUntil_ms = Infinity;
    if (this.#isSilenceTold) this.#onFault(null);
    this.#isSilenceTold = false;
    let end: string | undefined;
    try {
      end = this.#connection!.receive();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#hangUp();
      this.offered.counters[AT_EXPORT.guestRefused]!++;
      this.#onFault(`${error.message}; connection closed`);
      return;
    }
    if (end !== undefined) return this.#hangUp();
    this.#watch();
    this.#device.ringsChanged();
  }

  #hangUp(): void {
    const connection = this.#connection;
    if (connection === null) return;
    this.#connection = null;
    this.#interest = -1;
    this.#device.detach();
    this.#session.reset();
    this.#parts.reactor.unwatch(connection.fd);
    connection.close();
    const { counters } = this.offered;
    counters[AT_EXPORT.connections]!--;
    counters[AT_EXPORT.guestQueues] = 0;
    if (!this.#isClosed && this.#drainUntil_ms === Infinity)
      this.#parts.reactor.watch(this.#fd, EPOLLIN, { ready: () => this.#accept() });
  }

  /** Never read: edge-triggered, it tells of each kick all the same, and its counter need not concern us. */
  #watchKick(ring: Ring, isComing: boolean): void {
    const { reactor } = this.#parts;
    if (!isComing) {
      if (ring.kickToken >= 0) reactor.unwatch(ring.kickFd);
      ring.kickToken = -1;
      return;
    }
    try {
      reactor.watch(ring.kickFd, EPOLLIN | EPOLLET, { ready: () => this.#device.look() });
      ring.kickToken = 1;
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      throw new Refused(`the kick fd of queue ${ring.index} cannot be watched: ${error.message}`);
    }
  }

  settle(): void {
    this.#isTouched = false;
    this.#device.settle();
    if (this.#connection?.holdsBack === true && this.#device.quiet) this.#receive();
  }

  tick(): void {
    if (this.#parts.reactor.now_ms() >= this.#silentUntil_ms) {
      this.#silentUntil_ms = Infinity;
      this.#isSilenceTold = this.#connection !== null;
      if (this.#isSilenceTold) this.#onFault(SILENT);
    }
    const { size_bytes } = this.offered.volume;
    if (size_bytes === this.#told_bytes) return;
    this.#told_bytes = size_bytes;
    this.#session.tellConfigChange();
  }

  /** What was taken is answered; then, or at `deadline_ms`, the connection is closed. */
  drain(deadline_ms: number): void {
    this.#drainUntil_ms = Math.min(this.#drainUntil_ms, deadline_ms);
    if (this.#connection === null) this.#parts.reactor.unwatch(this.#fd);
    else this.#watch();
  }

  /** Of a drain. What is with the volume beyond the deadline stays noted as under way, if QEMU keeps notes. */
  drained(): boolean {
    if (this.#connection === null) return this.#device.quiet || this.#isLate;
    if (!this.#device.quiet && !this.#isLate) return false;
    // What was answered in this turn is published already: conditions are asked at its end.
    this.#hangUp();
    return this.#device.quiet || this.#isLate;
  }

  get #isLate(): boolean {
    return this.#parts.reactor.now_ms() >= this.#drainUntil_ms;
  }

  close(): void {
    this.#isClosed = true;
    this.#hangUp();
    this.#parts.reactor.unwatch(this.#fd);
    this.#device.close();
    this.#onFault(null);
  }
}

interface GuestListener {
  fd: number;
  disk: GuestDisk | null;
  offered: Offered | null;
  guest: Guest | null;
}

export class Guests implements GuestDoor {
  #parts: GuestsParts;
  #listeners = new Map<number, GuestListener>();

  constructor(parts: GuestsParts) {
    this.#parts = parts;
  }

  listen(listenerId: number, fd: number, disk: GuestDisk): void {
    const listener = this.#at(listenerId);
    listener.fd = fd;
    listener.disk = disk;
    this.#begin(listenerId, listener);
  }

  unlisten(listenerId: number, deadline_ms: number): () => boolean {
    const listener = this.#listeners.get(listenerId);
    if (listener === undefined) return () => true;
    this.#listeners.delete(listenerId);
    const over = this.#end(listener, deadline_ms);
    return () => {
      if (!over()) return false;
      if (listener.fd >= 0) close(listener.fd);
      listener.fd = -1;
      return true;
    };
  }

  offer(listenerIds: readonly number[], offered: Offered): void {
    for (const [id, listener] of this.#listeners)
      if (listener.offered === offered && !listenerIds.includes(id)) listener.offered = null;
    for (const id of listenerIds) {
      const listener = this.#at(id);
      listener.offered = offered;
      this.#begin(id, listener);
    }
  }

  withdraw(offered: Offered, deadline_ms: number): () => boolean {
    const ends = [...this.#listeners.values()]
      .filter(listener => listener.offered === offered)
      .map(listener => {
        listener.offered = null;
        return this.#end(listener, deadline_ms);
      });
    return () => ends.every(over => over());
  }

  stop(deadline_ms: number): () => boolean {
    const ends = [...this.#listeners.keys()].map(id => this.unlisten(id, deadline_ms));
    return () => ends.every(over => over());
  }

  tick(): void {
    for (const { guest } of this.#listeners.values()) guest?.tick();
  }

  #at(listenerId: number): GuestListener {
    let listener = this.#listeners.get(listenerId);
    if (listener === undefined) {
      listener = { fd: -1, disk: null, offered: null, guest: null };
      this.#listeners.set(listenerId, listener);
    }
    return listener;
  }

  #begin(listenerId: number, listener: GuestListener): void {
    const { fd, disk, offered, guest } = listener;
    if (fd < 0 || disk === null || offered === null || guest !== null) return;
    listener.guest = new Guest(listenerId, fd, disk, offered, this.#parts);
  }

  #end(listener: GuestListener, deadline_ms: number): () => boolean {
    const { guest } = listener;
    if (guest === null) return () => true;
    guest.drain(deadline_ms);
    let isOver = false;
    return () => {
      if (isOver) return true;
      if (!guest.drained()) return false;
      isOver = true;
      guest.close();
      if (listener.guest === guest) listener.guest = null;
      return true;
    };
  }
}
