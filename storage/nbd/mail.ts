/**
 * What the main thread says to the data thread, done: volumes that are open, exports that are offered, listeners, and what
 * somebody waits for until it is over. messages.ts has the words.
 *
 * An answer that takes a while is a condition, asked after each turn of the loop: nothing here can wait.
 */
import type { Client, Clients } from './clients.js';
import { DRAIN_LIMIT_MS } from './limits.js';
import type { FromLoop, GuestDisk, LayersHow, ToLoop } from './messages.js';
import { ListenerOffers, Offered } from './offers.js';
import { Shutting } from './shutting.js';
import type { LayersOpening, LimitsOpening, VolumeOpening, TlsOpening } from '../volume/opening.js';
import type { Volume } from '../volume/volume.js';

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

/** The front door of guests on this machine: vhost/guests.ts. What takes a while is a condition. */
export interface GuestDoor {
  listen(listenerId: number, fd: number, disk: GuestDisk): void;
  /** Its guest is drained and hung up on. */
  unlisten(listenerId: number, deadline_ms: number): () => boolean;
  /** At these listeners, there already or not, and nowhere else. */
  offer(listenerIds: readonly number[], offered: Offered): void;
  withdraw(offered: Offered, deadline_ms: number): () => boolean;
  stop(deadline_ms: number): () => boolean;
  tick(): void;
}

export interface MailParts {
  readonly clients: Clients;
  readonly post: (message: FromLoop) => void;
  readonly now_ms: () => number;
  readonly openVolume: (volumeId: number, opening: VolumeOpening) => HeldVolume;
  readonly closedVolume: (held: HeldVolume) => void;
  readonly hostAddresses: (host: string, addresses: readonly string[]) => void;
  readonly remoteTls: (pool: string, tls: TlsOpening) => void;
  readonly changeLayers: (
    how: LayersHow,
    changes: readonly { held: HeldVolume; base: LayersOpening }[],
  ) => LayersChange;
  readonly isFinishing: (layer: string) => boolean;
  readonly guests: GuestDoor | null;
  readonly limitVolume: (held: HeldVolume, limits: LimitsOpening | null) => void;
}

export class Mail {
  /** The last message was done. */
  stopped = false;
  #parts: MailParts;
  #volumes = new Map<number, HeldVolume>();
  #offered = new Map<number, Offered>();
  /** Who is to be offered on a listener, there already or not. */
  #offersOf = new Map<number, ListenerOffers>();
  /** Conditions that an answer waits for. */
  #waits: { reply: number; over: () => boolean; result?: () => number }[] = [];

  constructor(parts: MailParts) {
    this.#parts = parts;
  }

  /** Somebody waits for an answer. */
  get waiting(): boolean {
    return this.#waits.length > 0;
  }

  take(message: ToLoop): void {
    switch (message.type) {
      case 'openVolume':
        this.#volumes.set(message.volumeId, this.#parts.openVolume(message.volumeId, message.opening));
        return;
      case 'growVolume':
        this.#volumes.get(message.volumeId)?.grow(message.size_bytes);
        return this.#parts.clients.hangUpForSize(message.volumeId);
      case 'hostAddresses':
        return this.#parts.hostAddresses(message.host, message.addresses);
      case 'remoteTls':
        return this.#parts.remoteTls(message.pool, message.tls);
      case 'changeLayers':
        return this.#changeLayers(message);
      case 'finishLayers': {
        const { layers, reply } = message;
        this.#waits.push({ reply, over: () => !layers.some(this.#parts.isFinishing) });
        return;
      }
      case 'limitVolume': {
        const held = this.#volumes.get(message.volumeId);
        if (held !== undefined) this.#parts.limitVolume(held, message.limits);
        return;
      }
      case 'closeVolume':
        return this.#closeVolume(message.volumeId, message.reply);
      case 'listen':
        if (message.guest !== undefined)
          return this.#parts.guests?.listen(message.listenerId, message.fd, message.guest);
        return this.#parts.clients.listen(
          message.listenerId,
          message.fd,
          message.tcp,
          this.#offersAt(message.listenerId),
          message.tls ?? null,
        );
      case 'renewTls':
        return this.#parts.clients.renewTls(message.listenerId, message.tls);
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

  /** Answers whose time has come. */
  answer(): void {
    this.#waits = this.#waits.filter(({ reply, over, result }) => {
      if (!over()) return true;
      if (reply >= 0) this.#parts.post({ type: 'done', reply, result: result?.() ?? 0 });
      return false;
    });
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

  #unlisten(listenerId: number, reply: number): void {
    this.#offersOf.delete(listenerId);
    const gone = this.#parts.guests?.unlisten(listenerId, this.#parts.now_ms() + DRAIN_LIMIT_MS);
    const listener = this.#parts.clients.unlisten(listenerId);
    this.#drain(reply, client => client.listener === listener, gone);
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
    this.#parts.guests?.offer(message.guestListenerIds ?? [], offered);
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
    const gone =
      offered === undefined
        ? undefined
        : this.#parts.guests?.withdraw(offered, this.#parts.now_ms() + DRAIN_LIMIT_MS);
    this.#drain(reply, client => offered !== undefined && client.connection.offer === offered, gone);
  }

  #stop(reply: number): void {
    const { clients } = this.#parts;
    clients.stopping = true;
    for (const listenerId of clients.listenerIds) this.#unlisten(listenerId, -1);
    this.#drain(-1, () => true);
    const gone = this.#parts.guests?.stop(this.#parts.now_ms() + DRAIN_LIMIT_MS);
    let shutting: Shutting | null = null;
    this.#waits.push({
      reply,
      over: () => {
        if (clients.count > 0 || gone?.() === false) return false;
        shutting ??= new Shutting([...this.#volumes.values()]);
        if (shutting.left > 0 || [...this.#volumes.values()].some(volume => volume.busy)) return false;
        this.stopped = true;
        return true;
      },
    });
  }

  /** Drains the clients that `which` tells; `reply` (unless -1) is answered when they are gone, and guests, too. */
  #drain(reply: number, which: (client: Client) => boolean, gone?: () => boolean): void {
    const drained = this.#parts.clients.drain(which, this.#parts.now_ms() + DRAIN_LIMIT_MS);
    if (reply >= 0)
      this.#waits.push({
        reply,
        over: () => drained.every(client => client.connection.closed) && gone?.() !== false,
      });
  }
}
