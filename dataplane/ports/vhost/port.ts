/**
 * A guest's network card as a port, by vhost-user: its virtqueues lie in memory that we share, and frames are
 * copied between that memory and the arena without a system call.
 *
 *   host/vhost/   the dialogue, memory, rings: what all devices have in common
 *   session.ts    what a card says beyond that   reader.ts  guest -> arena   writer.ts  arena -> guest
 *
 * `client` dials, and dials again until there is a peer: with QEMU `server=on` a plane that was restarted finds the
 * guest's rings where they were, and the guest notices a moment without frames. `server` listens, one peer at a time.
 *
 * When to sleep. A guest's kick costs it an exit to its hypervisor and us a turn, so while frames come, kicks are
 * switched off and the rings looked at in every turn. After the last frame of a busy stretch they are looked at for a
 * moment more, then kicks are switched on and the loop may sleep. A ring of empty buffers kicks only while
 * frames wait for buffers.
 *
 * Frames for which the guest has no buffer wait in a short backlog, as copies: a burst of TCP is then delayed
 * instead of cut. What the guest cannot take whole (offloads that it did not negotiate) is cut and summed here.
 *
 * A ring in which the guest wrote nonsense stops, with the reason in the port's state, until its driver starts anew;
 * nobody else notices.
 */
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN } from '../../../host/epoll.js';
import { EAGAIN, ECONNREFUSED, ENOENT, HostError } from '../../../host/errno.js';
import { signalEventFd } from '../../../host/eventfd.js';
import * as raw from '../../../host/raw.js';
import { connectUnix } from '../../../host/unix.js';
import { Connection } from '../../../host/vhost/connection.js';
import { makeKernel } from '../../../host/vhost/kernel.js';
import type { Ring } from '../../../host/vhost/ring.js';
import { Refused } from '../../../host/vhost/session.js';
import type { Kernel } from '../../../host/vhost/session.js';
import type { Arena } from '../../engine/arena.js';
import { C } from '../../engine/counters.js';
import { AT, FRAME_WORDS, FrameTable, LENGTH, W0, W1, W2 } from '../../engine/frames.js';
import type { Queue } from '../../engine/frames.js';
import type { Link } from '../../engine/link.js';
import type { Watcher } from '../../engine/loop.js';
import type { Port } from '../../engine/port.js';
import { Timer } from '../../engine/timers.js';
import { SEGMENT_HEADER_MAX_BYTES, Segmenter, completeChecksum } from '../../wire/offload.js';
import * as virtioNet from '../../wire/virtioNet.js';
import * as vlan from '../../wire/vlan.js';
import { Backoff } from '../backoff.js';
import { pushEditedCopy } from '../copies.js';
import { countAllDropped, countSent } from '../sent.js';
import { StreamListener } from '../streamListener.js';
import { flowHash } from './flow.js';
import { RingReader } from './reader.js';
import { Session } from './session.js';
import { NO_ROOM, PUT, RingWriter, TOO_LONG } from './writer.js';

export interface VhostSettings {
  path: string;
  role: 'client' | 'server';
  queues?: number | undefined;
  owner?: { uid: number; gid: number } | undefined;
  trusted?: boolean | undefined;
}

/** Frames that wait for buffers of the guest. Each holds a slot. */
const BACKLOG_MAX_COUNT = 128;
/** How long rings are looked at after the last frame of a busy stretch, before kicks are asked for. */
const LOOK_ON_MS = 0.05;
/** So many frames in one burst make a stretch busy. */
const BUSY_COUNT = 8;
/** In the scratch area: behind the virtio-net header of writer.ts. */
const HEAD_OFFSET = 64;

export class VhostPort implements Port, Watcher {
  readonly kind = 'vhost';
  readonly #link: Link;
  readonly #settings: VhostSettings;
  readonly #arena: Arena;
  readonly #session: Session;
  readonly #reader: RingReader;
  readonly #writer: RingWriter;
  readonly #segmenter = new Segmenter();
  readonly #retry: Timer;
  readonly #backoff = new Backoff(10, 500);
  readonly #backlog: FrameTable;
  #listener: StreamListener | undefined;
  #connection: Connection | undefined;
  #token = -1;
  /** Rings that are running and enabled: from the guest, to the guest. */
  #from: Ring[] = [];
  #to: Ring[] = [];
  /** Kicks are switched off, and `receive` is asked in every turn. */
  #isLooking = false;
  #lookUntil_ms = 0;

  constructor(link: Link, settings: VhostSettings, kernel: Kernel = makeKernel(settings.trusted === true)) {
    const { pool } = link.loop;
    this.#link = link;
    this.#settings = settings;
    this.#arena = pool.arena;
    this.#session = new Session(settings.queues ?? 1, kernel, (ring, isComing) =>
      this.#watchKick(ring, isComing),
    );
    this.#reader = new RingReader(pool, this.#session.memory, this.#session.offloads);
    this.#writer = new RingWriter(pool.arena, this.#session.memory, this.#session.offloads);
    this.#backlog = new FrameTable(pool);
    this.#retry = new Timer(() => this.open());
  }

  // The connection.

  open(): void {
    if (this.#settings.role === 'server') this.#listen();
    else this.#connect();
  }

  #connect(): void {
    const { path } = this.#settings;
    let fd: number;
    try {
      fd = connectUnix(path);
    } catch (error) {
      const errno = error instanceof HostError ? error.errno : 0;
      const waits = errno === ENOENT || errno === ECONNREFUSED || errno === EAGAIN;
      this.#link.setState(
        waits ? 'connecting' : 'error',
        waits ? `nobody listens at ${path} yet` : `vhost ${path} cannot be connected: ${messageOf(error)}`,
      );
      this.#again();
      return;
    }
    this.#attach(fd);
  }

  #listen(): void {
    const { path, owner } = this.#settings;
    try {
      this.#listener ??= new StreamListener(this.#link.loop, path, fd => this.#accepted(fd), owner);
    } catch (error) {
      this.#link.setState('error', `vhost ${path} cannot be listened at: ${messageOf(error)}`);
      this.#again();
      return;
    }
    if (this.#connection === undefined)
      this.#link.setState('connecting', `nobody has connected to ${path} yet`);
  }

  #accepted(fd: number): void {
    if (this.#connection !== undefined) {
      raw.close(fd);
      this.#link.counters[C.peersRefused]!++;
      return;
    }
    this.#attach(fd);
  }

  #attach(fd: number): void {
    try {
      this.#token = this.#link.loop.watch(fd, EPOLLIN, this);
    } catch (error) {
      raw.close(fd);
      this.#link.setState('error', `vhost ${this.#settings.path} cannot be watched: ${messageOf(error)}`);
      this.#again();
      return;
    }
    this.#connection = new Connection(fd, this.#session);
    this.#link.setState('connecting', DRIVER_NOT_READY);
  }

  #again(): void {
    this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + this.#backoff.next_ms());
  }

  #detach(): void {
    if (this.#connection === undefined) return;
    this.#from = [];
    this.#to = [];
    this.#isLooking = false;
    this.#backlog.releaseAll();
    this.#session.reset();
    this.#link.loop.unwatch(this.#token);
    this.#token = -1;
    this.#connection.close();
    this.#connection = undefined;
  }

  close(): void {
    this.#link.loop.timers.cancel(this.#retry);
    this.#detach();
    this.#listener?.close();
    this.#listener = undefined;
  }

  /** The socket has messages. */
  ready(events: number): void {
    const connection = this.#connection;
    if (connection === undefined || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) === 0) return;
    let end: string | undefined;
    let isRefused = false;
    try {
      end = connection.receive();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      end = error.message;
      isRefused = true;
      this.#link.counters[C.messagesRefused]!++;
    }
    if (end === undefined) {
      this.#ringsChanged();
      return;
    }
    this.#detach();
    const { path, role } = this.#settings;
    this.#link.setState(
      isRefused ? 'error' : 'connecting',
      isRefused ? `vhost ${path}: ${end}; connection closed` : `${end} (${path})`,
    );
    if (role === 'client') this.#again();
  }

  /** Which rings there are to work on; said by the peer, or a ring has failed. */
  #ringsChanged(): void {
    const { rings } = this.#session;
    this.#to = rings.filter(ring => ring.isActive && (ring.index & 1) === 0);
    this.#from = rings.filter(ring => ring.isActive && (ring.index & 1) === 1);
    const failed = rings.find(ring => ring.fault !== null);
    if (failed !== undefined) {
      this.#link.setState(
        'error',
        `the guest's queue ${failed.index} is stopped until its driver starts anew: ${failed.fault ?? ''}`,
      );
    } else if (this.#to.length + this.#from.length > 0) {
      this.#backoff.reset();
      this.#link.setState('up', null);
    } else this.#link.setState('connecting', DRIVER_NOT_READY);
    // Whatever was made available before we looked.
    this.#lookOn(0);
  }

  #ringFailed(): void {
    this.#link.counters[C.ringFaults]!++;
    this.#ringsChanged();
  }

  /**
   * The kick fd is never read: edge-triggered, it tells of each kick all the same, and what its counter says, or
   * whether reading it would wait, need not concern us.
   */
  #watchKick(ring: Ring, isComing: boolean): void {
    const { loop } = this.#link;
    if (isComing) {
      try {
        ring.kickToken = loop.watch(ring.kickFd, EPOLLIN | EPOLLET, { ready: () => this.#lookOn(0) });
      } catch (error) {
        throw new Refused(`the kick fd of queue ${ring.index} cannot be watched: ${messageOf(error)}`);
      }
    } else if (ring.kickToken >= 0) {
      loop.unwatch(ring.kickToken);
      ring.kickToken = -1;
    }
  }

  #lookOn(forAnother_ms: number): void {
    this.#lookUntil_ms = this.#link.loop.now_ms + forAnother_ms;
    if (!this.#isLooking) {
      this.#isLooking = true;
      for (const ring of this.#from) ring.quiet();
      for (const ring of this.#to) ring.quiet();
    }
    this.#link.wake();
  }

  // From the guest.

  receive(frames: FrameTable, limit: number): boolean {
    if (!this.#isLooking) return false;
    const row = this.#link.counters;
    if (this.#backlog.count > 0) this.#drainBacklog();
    const from = this.#from;
    const reader = this.#reader;
    let taken = 0;
    let hasFailed = false;
    for (let i = 0; i < from.length; i++) {
      const ring = from[i]!;
      const n = reader.read(ring, frames, limit - taken, row);
      if (n > 0) {
        taken += n;
        if (ring.publish()) this.#signal(ring);
      }
      if (!ring.isRunning) hasFailed = true;
    }
    reader.finish();
    // The first ring asked is served best; so each is first in its turn.
    if (from.length > 1 && taken === limit) from.push(from.shift()!);
    if (hasFailed) this.#ringFailed();
    const { now_ms } = this.#link.loop;
    if (taken > 0) {
      if (taken >= BUSY_COUNT) this.#lookUntil_ms = now_ms + LOOK_ON_MS;
      return true;
    }
    return now_ms < this.#lookUntil_ms || this.#listenAgain();
  }

  /** Kicks are switched on again. True: something came meanwhile. */
  #listenAgain(): boolean {
    let hasMore = false;
    for (const ring of this.#from) if (ring.listen()) hasMore = true;
    if (this.#backlog.count > 0)
      for (const ring of this.#to)
        // Those that are there may be too few for the first frame that waits: only new ones count.
        if (ring.listenFor(ring.availSeen)) hasMore = true;
    if (hasMore) {
      for (const ring of this.#from) ring.quiet();
      return true;
    }
    this.#isLooking = false;
    return false;
  }

  #signal(ring: Ring): void {
    if (ring.callFd < 0) return;
    signalEventFd(ring.callFd);
    this.#link.counters[C.writeCalls]!++;
  }

  // To the guest.

  transmit(frames: FrameTable, queue: Queue): void {
    const row = this.#link.counters;
    if (this.#to.length === 0) {
      countAllDropped(row, queue, C.dropNotUp);
      return;
    }
    const { view } = this.#arena;
    if (this.#backlog.count > 0) this.#drainBacklog();
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      countSent(row, view, frames, frame, edit);
      if (this.#backlog.count > 0 || !this.#send(frames.words, frame * FRAME_WORDS, edit))
        this.#keep(frames, frame, edit);
    }
    this.#publish();
  }

  #publish(): void {
    const to = this.#to;
    let hasFailed = false;
    for (let i = 0; i < to.length; i++) {
      const ring = to[i]!;
      if (!ring.isRunning) hasFailed = true;
      else if (ring.publish()) this.#signal(ring);
    }
    if (hasFailed) this.#ringFailed();
  }

  /** For later, if there is room for it. */
  #keep(frames: FrameTable, frame: number, edit: number): void {
    const { pool } = this.#link.loop;
    if (
      this.#backlog.count >= BACKLOG_MAX_COUNT ||
      pool.freeCount < pool.arena.slots >>> 2 ||
      !pushEditedCopy(pool, frames, frame, edit, this.#backlog)
    ) {
      this.#link.counters[C.dropQueueFull]!++;
      return;
    }
    // The guest must tell us of buffers: by a look, or by a kick.
    if (this.#backlog.count === 1) this.#lookOn(0);
  }

  #drainBacklog(): void {
    const backlog = this.#backlog;
    let sent = 0;
    while (sent < backlog.count && this.#to.length > 0 && this.#send(backlog.words, sent * FRAME_WORDS, 0))
      sent++;
    if (sent === 0) return;
    backlog.shift(sent);
    this.#publish();
  }

  /** False: it has to wait for buffers, and nothing of it was sent. A frame that cannot be sent at all is counted. */
  #send(words: Int32Array, w: number, edit: number): boolean {
    const at = words[w + AT]!;
    const length_bytes = words[w + LENGTH]!;
    const to = this.#to;
    const ring = to.length === 1 ? to[0]! : to[flowHash(this.#arena.view, at, length_bytes) % to.length]!;
    if (!ring.isRunning) return this.#lost(C.dropNotUp);
    if ((words[w + W0]! & (0xff00 | virtioNet.F_NEEDS_CSUM)) !== 0)
      return this.#sendUnfinished(ring, words, w, edit);
    // "Checked already" is a word for those who would check.
    const w0 = this.#session.offloads.toGuest.checksum ? words[w + W0]! & virtioNet.F_DATA_VALID : 0;
    if (edit === vlan.EDIT_NONE) return this.#put(ring, at, length_bytes, 0, 0, w0, 0, 0);
    return this.#putEdited(ring, at, length_bytes, edit, w0, 0, 0);
  }

  #putEdited(
    ring: Ring,
    at: number,
    length_bytes: number,
    edit: number,
    w0: number,
    w1: number,
    w2: number,
  ): boolean {
    const head = this.#arena.scratchAt + HEAD_OFFSET;
    const from = vlan.editedFrom(edit);
    const head_bytes = vlan.emitEdited(this.#arena.view, head, at, edit);
    return this.#put(ring, head, head_bytes, at + from, length_bytes - from, w0, w1, w2);
  }

  #put(
    ring: Ring,
    headAt: number,
    head_bytes: number,
    bodyAt: number,
    body_bytes: number,
    w0: number,
    w1: number,
    w2: number,
  ): boolean {
    const result = this.#writer.put(ring, headAt, head_bytes, bodyAt, body_bytes, w0, w1, w2);
    if (result === PUT) return true;
    if (result === NO_ROOM) return false;
    return this.#lost(result === TOO_LONG ? C.ifOutErrors : C.dropNotUp);
  }

  #lost(counter: number): true {
    this.#link.counters[counter]!++;
    return true;
  }

  /** A checksum or a cutting is left to be done: by the guest, if it agreed to, or here. */
  #sendUnfinished(ring: Ring, words: Int32Array, w: number, edit: number): boolean {
    const { toGuest } = this.#session.offloads;
    const w0 = words[w + W0]!;
    const w1 = words[w + W1]!;
    const w2 = words[w + W2]!;
    const at = words[w + AT]!;
    const length_bytes = words[w + LENGTH]!;
    const row = this.#link.counters;
    const isSuper = (w0 & 0xff00) !== 0;
    const takesIt = !isSuper
      ? toGuest.checksum
      : toGuest.checksum &&
        toGuest.takes(virtioNet.gsoTypeOf(w0)) &&
        (((w0 >>> 8) & virtioNet.GSO_ECN) === 0 || toGuest.ecn);
    if (takesIt) {
      const isPut =
        edit === vlan.EDIT_NONE
          ? this.#put(ring, at, length_bytes, 0, 0, w0, w1, w2)
          : this.#putEdited(
              ring,
              at,
              length_bytes,
              edit,
              virtioNet.moveWord0(w0, vlan.growth(edit)),
              virtioNet.moveWord1(w0, w1, vlan.growth(edit)),
              w2,
            );
      if (isPut && isSuper) row[C.gsoOutFrames]!++;
      return isPut;
    }
    if (isSuper) return this.#sendSegments(ring, at, length_bytes, w0, w1, edit);
    if (!completeChecksum(this.#arena.view, at, length_bytes, w1, w2)) return this.#lost(C.dropOffload);
    words[w + W0] = 0;
    words[w + W1] = 0;
    words[w + W2] = 0;
    row[C.checksumsCompleted]!++;
    return edit === vlan.EDIT_NONE
      ? this.#put(ring, at, length_bytes, 0, 0, 0, 0, 0)
      : this.#putEdited(ring, at, length_bytes, edit, 0, 0, 0);
  }

  #sendSegments(ring: Ring, at: number, length_bytes: number, w0: number, w1: number, edit: number): boolean {
    const { view, scratchAt } = this.#arena;
    const segmenter = this.#segmenter;
    const row = this.#link.counters;
    const count = segmenter.plan(view, at, length_bytes, w0, w1);
    if (count < 0) return this.#lost(C.dropOffload);
    const headerAt = scratchAt + HEAD_OFFSET + vlan.LENGTH;
    for (let i = 0; i < count; i++) {
      segmenter.emitHeader(view, i, headerAt);
      const from = vlan.editInPlace(view, headerAt, edit);
      const isPut = this.#put(
        ring,
        from,
        headerAt + segmenter.header_bytes - from,
        segmenter.payloadAt(i),
        segmenter.payloadLength(i),
        0,
        0,
        0,
      );
      if (isPut) continue;
      if (i === 0) return false;
      // Part of it is with the guest: the rest is lost as on a wire that is too slow.
      return this.#lost(C.dropQueueFull);
    }
    row[C.gsoSegmentedFrames]!++;
    row[C.gsoSegments]! += count;
    return true;
  }
}

const DRIVER_NOT_READY = "the guest's driver has not started the card yet";

if (HEAD_OFFSET + vlan.LENGTH + SEGMENT_HEADER_MAX_BYTES > 4096)
  throw new Error('the scratch area is too small');

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
