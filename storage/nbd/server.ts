/**
 * The NBD front door as the main thread sees it: the data thread, the listening sockets, and what is offered on
 * them. Sockets are made here, where a refusal can be told in words, and given to the data thread, which accepts.
 *
 * An address is listened on once, whoever asks; the last export that leaves it closes it. One that cannot be had, or whose
 * certificates and keys cannot be read, is tried again every RETRY_MS: what is to be kept from others is never offered in
 * plain text. Files that were read are looked at again every RENEW_MS and with each configuration; new clients get what is
 * in them then. What cannot be used keeps what was there before, and is told.
 */
import * as fs from 'node:fs';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { HostError } from '../../host/errno.js';
import { EventFd } from '../../host/eventfd.js';
import { listenTcp } from '../../host/inet.js';
import { listenUnix } from '../../host/unix.js';
import type { ExportListen } from '../contract.js';
import type { DataThreadStart } from '../dataThread/main.js';
import { StorageError } from '../volume/errors.js';
import { RENEW_MS, TlsWatch } from '../tls/watch.js';
import type { LayersOpening, LimitsOpening, TlsOpening, VolumeOpening } from '../volume/opening.js';
import { SERVER_COUNTERS, newCounters } from './counters.js';
import { NbdError } from './errors.js';
import type { FromLoop, LayersHow, ToLoop, VolumeTold } from './messages.js';
import type { OfferRules } from './rules.js';

const RETRY_MS = 1000;
/** Clients that may wait to be accepted. */
const BACKLOG = 4096;

export interface NbdServerEvents {
  volumeState(told: VolumeTold): void;
  /** An address was had after all, or lost. */
  listenerChanged(): void;
  /** A client failed to begin TLS, and `others` since the last that was told. `at`: where it came in. */
  tlsFailed(at: string, peer: string | null, reason: string, others: number): void;
  /** The data thread is no more, without having been stopped: the process should end. */
  threadGone(error: Error): void;
}

interface Listener {
  readonly id: number;
  listen: ExportListen;
  /** Its opening is what the data thread was told. */
  tls: TlsWatch | null;
  /** Data thread has it. */
  open: boolean;
  reason: string | null;
  /** Of the socket file, so that on closing only our own is removed. */
  inode: number;
}

export class NbdServer {
  readonly serverCounters = newCounters(SERVER_COUNTERS);
  ioUring = false;
  ioUringReason: string | null = null;
  #events: NbdServerEvents;
  #signal = EventFd.create();
  #port: MessagePort;
  #worker: Worker;
  #ready: Promise<void>;
  #exited: Promise<void>;
  #replies = new Map<number, (result: number) => void>();
  #nextId = 1;
  #listeners = new Map<string, Listener>();
  #retry: NodeJS.Timeout | null = null;
  #renew: NodeJS.Timeout;
  #stopped = false;

  constructor(events: NbdServerEvents, options: { ioUring: boolean }) {
    this.#events = events;
    this.#renew = setInterval(() => {
      if (this.#renewAll()) events.listenerChanged();
    }, RENEW_MS).unref();
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const start: DataThreadStart = {
      mailFd: this.#signal.fd,
      mailPort: port2,
      serverCounters: this.serverCounters,
      ioUring: options.ioUring,
    };
    this.#worker = new Worker(new URL('../dataThread/main.js', import.meta.url), {
      workerData: start,
      transferList: [port2],
    });
    let ready: () => void;
    this.#ready = new Promise(resolve => (ready = resolve));
    this.#worker.on('message', (message: FromLoop) => {
      switch (message.type) {
        case 'ready':
          this.ioUring = message.ioUring;
          this.ioUringReason = message.ioUringReason;
          return ready();
        case 'done':
          this.#replies.get(message.reply)?.(message.result ?? 0);
          this.#replies.delete(message.reply);
          return;
        case 'guestFault':
          return this.#guestFault(message.listenerId, message.reason);
        case 'volumeState':
          return this.#events.volumeState(message);
        case 'tlsFailed': {
          const { listenerId, peer, reason, others } = message;
          const at = [...this.#listeners].find(([, { id }]) => id === listenerId)?.[0] ?? 'an address';
          return this.#events.tlsFailed(at, peer, reason, others);
        }
      }
    });
    this.#worker.on('error', error => this.#gone(error instanceof Error ? error : new Error(String(error))));
    this.#exited = new Promise(resolve => this.#worker.once('exit', () => resolve()));
    void this.#exited.then(() => this.#gone(new NbdError('NBD_THREAD_GONE', 'the data thread ended')));
  }

  ready(): Promise<void> {
    return this.#ready;
  }

  newId(): number {
    return this.#nextId++;
  }

  openVolume(volumeId: number, opening: VolumeOpening): void {
    this.#post({ type: 'openVolume', volumeId, opening });
  }

  growVolume(volumeId: number, size_bytes: number): void {
    this.#post({ type: 'growVolume', volumeId, size_bytes });
  }

  /** What connections to servers of this pool begin TLS with from now on. */
  remoteTls(pool: string, tls: TlsOpening): void {
    this.#post({ type: 'remoteTls', pool, tls });
  }

  hostAddresses(host: string, addresses: readonly string[]): void {
    this.#post({ type: 'hostAddresses', host, addresses });
  }

  async closeVolume(volumeId: number): Promise<void> {
    await this.#ask(reply => ({ type: 'closeVolume', volumeId, reply }));
  }

  /** Listens where it is not listened yet, and offers the export there (as soon as it can be had), and nowhere else. */
  offer(parts: {
    exportId: number;
    nbdName: string;
    volumeId: number;
    readOnly: boolean;
    counters: Float64Array;
    rules?: OfferRules;
    listen: readonly ExportListen[];
  }): void {
    const { listen, ...offer } = parts;
    const idsOf = (guests: boolean): number[] =>
      listen.filter(where => (where.kind === 'vhost-user') === guests).map(where => this.#listener(where).id);
    const listenerIds = idsOf(false);
    this.#post({ type: 'offer', ...offer, listenerIds, guestListenerIds: idsOf(true) });
  }

  /** See messages.ts; 0 or -errno. */
  changeLayers(how: LayersHow, changes: { volumeId: number; base: LayersOpening }[]): Promise<number> {
    return this.#ask(reply => ({ type: 'changeLayers', how, changes, reply }));
  }

  /** When the data thread writes to none of these layers any more, as it does after a snapshot. */
  async finishLayers(layers: readonly string[]): Promise<void> {
    await this.#ask(reply => ({ type: 'finishLayers', layers, reply }));
  }

  limitVolume(volumeId: number, limits: LimitsOpening | null): void {
    this.#post({ type: 'limitVolume', volumeId, limits });
  }

  async withdraw(exportId: number): Promise<void> {
    await this.#ask(reply => ({ type: 'withdraw', exportId, reply }));
  }

  /** Closes every listener that is not among these, or that nobody can find any more; its clients are drained. */
  async keepListeners(wanted: readonly ExportListen[]): Promise<void> {
    const keys = new Map(wanted.map(listen => [listenKey(listen), listen]));
    const closing = [...this.#listeners].filter(([key, listener]) => !keys.has(key) || isLost(listener));
    // Other files may hold its certificates and keys now.
    for (const [key, listener] of this.#listeners) listener.listen = keys.get(key) ?? listener.listen;
    await Promise.all(
      closing.map(([key, listener]) => {
        this.#listeners.delete(key);
        unlinkSocket(listener);
        return this.#ask(reply => ({ type: 'unlisten', listenerId: listener.id, reply }));
      }),
    );
    this.#renewAll();
  }

  /** null: it is listened there, as it is wanted. Otherwise why not. */
  problem(listen: ExportListen): string | null {
    const listener = this.#listeners.get(listenKey(listen));
    if (listener === undefined) return 'not listened yet';
    return listener.reason;
  }

  /** Drains all clients, flushes all volumes, ends the thread. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#retry !== null) clearInterval(this.#retry);
    clearInterval(this.#renew);
    for (const listener of this.#listeners.values()) if (listener.open) unlinkSocket(listener);
    await this.#ask(reply => ({ type: 'stop', reply }));
    // The thread has left its loop; its port would keep it otherwise.
    this.#port.close();
    await this.#exited;
    this.#signal.close();
  }

  #guestFault(listenerId: number, reason: string | null): void {
    const listener = [...this.#listeners.values()].find(({ id }) => id === listenerId);
    if (listener === undefined || !listener.open || listener.reason === reason) return;
    listener.reason = reason;
    this.#events.listenerChanged();
  }

  #listener(where: ExportListen): Listener {
    const key = listenKey(where);
    let listener = this.#listeners.get(key);
    if (listener === undefined) {
      listener = { id: this.newId(), listen: where, tls: null, open: false, reason: null, inode: 0 };
      this.#listeners.set(key, listener);
    }
    if (!listener.open) this.#open(listener);
    return listener;
  }

  /** True when it is had now and was not before. */
  #open(listener: Listener): boolean {
    const { id, listen } = listener;
    try {
      if (listen.kind === 'tcp' && listen.tls !== undefined)
        listener.tls = new TlsWatch('server', listen.tls, null);
      const fd =
        listen.kind !== 'tcp'
          ? listenUnix(listen.path, {
              mode: 0o600,
              backlog: BACKLOG,
              replaceStale: true,
              ...(listen.owner === undefined ? {} : { owner: listen.owner }),
            })
          : listenTcp(listen.host, listen.port, BACKLOG);
      if (listen.kind !== 'tcp') listener.inode = fs.lstatSync(listen.path).ino;
      this.#post({
        type: 'listen',
        listenerId: id,
        fd,
        tcp: listen.kind === 'tcp',
        tls: listener.tls?.opening ?? null,
        ...(listen.kind === 'vhost-user' ? { guest: { queues: listen.queues, serial: listen.serial } } : {}),
      });
    } catch (error) {
      if (!(error instanceof HostError) && !(error instanceof StorageError)) throw error;
      listener.reason = `cannot listen on ${listenKey(listen)}: ${error.message}; tried again by itself`;
      this.#retry ??= setInterval(() => this.#retryAll(), RETRY_MS).unref();
      return false;
    }
    listener.open = true;
    listener.reason = null;
    return true;
  }

  /** Tells the data thread of files that are others now. True when what can be said of a listener changed. */
  #renewAll(): boolean {
    let changed = false;
    for (const [key, listener] of this.#listeners) {
      const { id, listen, tls, open, reason } = listener;
      if (!open || tls === null || listen.kind !== 'tcp' || listen.tls === undefined) continue;
      if (tls.look(listen.tls)) this.#post({ type: 'renewTls', listenerId: id, tls: tls.opening });
      listener.reason =
        tls.reason === null
          ? null
          : `${key} goes on with the certificates and keys that it had: ${tls.reason}`;
      changed ||= listener.reason !== reason;
    }
    return changed;
  }

  #retryAll(): void {
    let changed = false;
    let left = false;
    for (const listener of this.#listeners.values()) {
      if (listener.open) continue;
      if (this.#open(listener)) changed = true;
      else left = true;
    }
    if (!left && this.#retry !== null) {
      clearInterval(this.#retry);
      this.#retry = null;
    }
    if (changed) this.#events.listenerChanged();
  }

  /** 0 or -errno. */
  #ask(message: (reply: number) => ToLoop): Promise<number> {
    const reply = this.newId();
    return new Promise(resolve => {
      this.#replies.set(reply, resolve);
      this.#post(message(reply));
    });
  }

  #post(message: ToLoop): void {
    this.#port.postMessage(message);
    this.#signal.signal();
  }

  #gone(error: Error): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#events.threadGone(error);
  }
}

/** Two listens with one key are one listener. */
function listenKey(listen: ExportListen): string {
  if (listen.kind === 'tcp')
    return `${listen.host}:${listen.port}${listen.tls === undefined ? '' : ' with TLS'}`;
  const place =
    listen.owner === undefined ? listen.path : `${listen.path} of ${listen.owner.uid}:${listen.owner.gid}`;
  return listen.kind === 'unix'
    ? place
    : `${place} (vhost-user, ${listen.queues} queues, "${listen.serial}")`;
}

/** Someone removed the socket file, or put another in its place: whoever connects now does not find us. */
function isLost({ listen, open, inode }: Listener): boolean {
  if (!open || listen.kind === 'tcp') return false;
  try {
    return fs.lstatSync(listen.path, { throwIfNoEntry: false })?.ino !== inode;
  } catch {
    return false; // not ours to look at now
  }
}

function unlinkSocket({ listen, inode }: Listener): void {
  if (listen.kind === 'tcp') return;
  try {
    if (fs.lstatSync(listen.path).ino === inode) fs.unlinkSync(listen.path);
  } catch {
    // Someone was faster; it is gone, and that was the point.
  }
}
