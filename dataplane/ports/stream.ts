/**
 * A Unix stream socket as a port: frames one after the other, each behind its length as 32 bits big-endian,
 * which is what QEMU's `-netdev stream` speaks. `connect` dials, and dials again whenever nobody listens or
 * the peer went away; `listen` takes one peer at a time.
 *
 * Receiving: one large read into a slot of the pool; every whole frame in it becomes a frame where it lies. What
 * is left at the end, the beginning of a frame, is moved to the beginning of a slot before the next read goes on
 * behind it.
 *
 *   slot | 4 | frame | 4 | frame | 4 | fra.          ->   next slot | 4 | fra. <- read
 *
 * A length that no frame can have means that we do not know where the next frame begins: the connection is closed
 * and made anew.
 *
 * Sending: all frames of the turn in one writev. What the socket does not take is copied to the backlog, which is
 * bounded and goes first when the socket has room again; frames beyond it are dropped and counted. A peer that
 * does not read costs itself frames and nobody else anything.
 */
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../../host/epoll.js';
import { EAGAIN, ECONNREFUSED, EINTR, ENOENT, HostError, errnoName } from '../../host/errno.js';
import * as raw from '../../host/raw.js';
import { connectUnix } from '../../host/unix.js';
import { SLOT_BYTES } from '../engine/arena.js';
import type { Arena } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Watcher } from '../engine/loop.js';
import type { BufferPool } from '../engine/pool.js';
import type { Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import { FRAME_MAX_BYTES, FRAME_MIN_BYTES } from '../wire/ethernet.js';
import { Backlog } from './backlog.js';
import { Backoff } from './backoff.js';
import type { Committer, Gather } from './gather.js';
import { countAllDropped, countSent } from './sent.js';
import { StreamListener } from './streamListener.js';

const PREFIX_BYTES = 4;
const FRAMES_PER_COMMIT = 512;

export interface StreamSettings {
  path: string;
  role: 'connect' | 'listen';
}

export class StreamPort implements Port, Watcher, Committer {
  readonly kind = 'stream';
  readonly #link: Link;
  readonly #settings: StreamSettings;
  readonly #gather: Gather;
  readonly #pool: BufferPool;
  readonly #arena: Arena;
  readonly #retry: Timer;
  readonly #backoff = new Backoff(10, 500);
  readonly #backlog: Backlog;
  #listener: StreamListener | undefined;
  #fd = -1;
  #token = -1;
  /** EPOLLOUT is asked for: the backlog waits for room in the socket. */
  #waitsForRoom = false;
  /** The slot that bytes are read into, -1 when there is none; what of it is not yet parsed. */
  #slot = -1;
  #from = 0;
  #to = 0;
  /** The connection broke while frames were being sent; closed when that is over. */
  #broken: string | null = null;

  constructor(link: Link, settings: StreamSettings, gather: Gather) {
    this.#link = link;
    this.#settings = settings;
    this.#gather = gather;
    this.#pool = link.loop.pool;
    this.#arena = this.#pool.arena;
    this.#backlog = new Backlog(this.#pool);
    this.#retry = new Timer(() => this.open());
  }

  open(): void {
    if (this.#settings.role === 'listen') this.#listen();
    else this.#connect();
  }

  #connect(): void {
    const { path } = this.#settings;
    let fd: number;
    try {
      fd = connectUnix(path);
    } catch (error) {
      const errno = error instanceof HostError ? error.errno : 0;
      // Not there yet is what a port that dials expects; anything else wants a person.
      const waits = errno === ENOENT || errno === ECONNREFUSED || errno === EAGAIN;
      this.#link.setState(
        waits ? 'connecting' : 'error',
        waits ? `nobody listens at ${path} yet` : `stream ${path} cannot be connected: ${messageOf(error)}`,
      );
      this.#again();
      return;
    }
    this.#attach(fd);
  }

  #listen(): void {
    const { path } = this.#settings;
    try {
      this.#listener ??= new StreamListener(this.#link.loop, path, fd => this.#accepted(fd));
    } catch (error) {
      this.#link.setState('error', `stream ${path} cannot be listened at: ${messageOf(error)}`);
      this.#again();
      return;
    }
    if (this.#fd < 0) this.#link.setState('connecting', `nobody has connected to ${path} yet`);
  }

  #accepted(fd: number): void {
    if (this.#fd >= 0) {
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
      this.#link.setState('error', `stream ${this.#settings.path} cannot be watched: ${messageOf(error)}`);
      this.#again();
      return;
    }
    this.#fd = fd;
    this.#waitsForRoom = false;
    this.#backoff.reset();
    this.#link.setState('up', null);
    this.#link.wake();
  }

  #again(): void {
    this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + this.#backoff.next_ms());
  }

  /** The connection is gone; what was half received or not yet sent goes with it. */
  #detach(): void {
    if (this.#fd < 0) return;
    this.#link.loop.unwatch(this.#token);
    raw.close(this.#fd);
    this.#fd = -1;
    this.#token = -1;
    this.#broken = null;
    this.#backlog.clear();
    this.#letGoOfSlot();
  }

  #lost(reason: string): void {
    this.#detach();
    this.#link.setState('connecting', reason);
    if (this.#settings.role === 'connect') this.#again();
  }

  close(): void {
    this.#link.loop.timers.cancel(this.#retry);
    this.#detach();
    this.#listener?.close();
    this.#listener = undefined;
  }

  ready(events: number): void {
    if (events & EPOLLOUT) this.#drainBacklog();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) this.#link.wake();
    if (this.#broken !== null) this.#lost(this.#broken);
  }

  // Receiving.

  receive(frames: FrameTable, limit: number): boolean {
    if (this.#fd < 0) return false;
    // Frames of the last read may still wait, when that brought more than a burst.
    let left = this.#parse(frames, limit);
    if (left < 0) return false;
    if (left === 0) return true;
    const n = this.#read();
    if (n === 0) return false;
    if (n < 0) return true;
    left = this.#parse(frames, left);
    return left === 0;
  }

  /** Bytes read; 0: nothing there, or the connection is gone; -1: no slot to read into. */
  #read(): number {
    const row = this.#link.counters;
    if (!this.#makeRoom()) {
      row[C.dropNoBuffer]!++;
      return -1;
    }
    const end = this.#arena.slotAt(this.#slot) + SLOT_BYTES;
    const n = raw.read(this.#fd, this.#arena.address + this.#to, end - this.#to);
    row[C.readCalls]!++;
    if (n > 0) {
      this.#to += n;
      return n;
    }
    if (n === -EAGAIN || n === -EINTR) {
      if (this.#from === this.#to) this.#letGoOfSlot();
      return 0;
    }
    const { path } = this.#settings;
    this.#lost(n === 0 ? `the peer at ${path} has gone` : `reading from ${path}: ${errnoName(-n)}`);
    return 0;
  }

  /** A slot whose unparsed rest, if any, stands at its beginning: then the longest frame has room in it. */
  #makeRoom(): boolean {
    const slotAt = this.#slot < 0 ? -1 : this.#arena.slotAt(this.#slot);
    if (slotAt === this.#from && slotAt >= 0) return true;
    // Frames of this turn may still lie before the rest: then it moves to another slot.
    const isOurs = this.#slot >= 0 && this.#pool.holds(this.#slot) === 1;
    const next = isOurs ? this.#slot : this.#pool.take();
    if (next < 0) return false;
    const at = this.#arena.slotAt(next);
    this.#arena.bytes.copyWithin(at, this.#from, this.#to);
    this.#to = at + this.#to - this.#from;
    this.#from = at;
    if (!isOurs && this.#slot >= 0) this.#pool.release(this.#slot);
    this.#slot = next;
    return true;
  }

  /** Puts whole frames into the table. How many more it might have been; -1: the connection is gone. */
  #parse(frames: FrameTable, limit: number): number {
    if (this.#slot < 0) return limit;
    const { view } = this.#arena;
    const slot = this.#slot;
    const to = this.#to;
    let from = this.#from;
    let left = limit;
    while (left > 0 && to - from >= PREFIX_BYTES) {
      const length_bytes = view.getInt32(from);
      if (length_bytes < FRAME_MIN_BYTES || length_bytes > FRAME_MAX_BYTES) {
        this.#link.counters[C.dropBadLength]!++;
        this.#lost(
          `the peer at ${this.#settings.path} sent a frame of ${length_bytes >>> 0} bytes; connection closed`,
        );
        return -1;
      }
      if (to - from < PREFIX_BYTES + length_bytes) break;
      this.#pool.retain(slot);
      frames.push(slot, from + PREFIX_BYTES, length_bytes, 0, 0, 0, PREFIX_BYTES);
      from += PREFIX_BYTES + length_bytes;
      left--;
    }
    this.#from = from;
    if (from === to) this.#letGoOfSlot();
    return left;
  }

  #letGoOfSlot(): void {
    if (this.#slot >= 0) this.#pool.release(this.#slot);
    this.#slot = -1;
    this.#from = 0;
    this.#to = 0;
  }

  // Sending.

  transmit(frames: FrameTable, queue: Queue): void {
    const row = this.#link.counters;
    if (this.#fd < 0) {
      countAllDropped(row, queue, C.dropNotUp);
      return;
    }
    const gather = this.#gather;
    gather.begin(this, PREFIX_BYTES, FRAMES_PER_COMMIT);
    for (let i = 0; i < queue.count; i++) {
      countSent(row, this.#arena.view, frames, queue.frame(i), queue.edit(i));
      gather.add(frames, queue.frame(i), queue.edit(i), row);
    }
    gather.finish();
    if (this.#broken !== null) this.#lost(this.#broken);
  }

  commit(gather: Gather): void {
    if (this.#broken !== null) return;
    let sent_bytes = 0;
    if (this.#backlog.isEmpty) {
      gather.fillIovecs();
      const n = raw.writev(this.#fd, this.#arena.iovecsAddress, gather.pieces);
      this.#link.counters[C.writeCalls]!++;
      if (n === gather.bytes) return;
      if (n < 0 && n !== -EAGAIN && n !== -EINTR) {
        this.#broken = `writing to ${this.#settings.path}: ${errnoName(-n)}`;
        return;
      }
      sent_bytes = Math.max(0, n);
    }
    this.#spill(gather, sent_bytes);
    if (!this.#backlog.isEmpty) this.#waitForRoom(true);
  }

  /** To the backlog with what was not sent; frames that find no room there are dropped whole. */
  #spill(gather: Gather, sent_bytes: number): void {
    const row = this.#link.counters;
    let piece = 0;
    let pieceFrom = 0;
    let frameFrom = 0;
    for (let i = 0; i < gather.frames; i++) {
      const frameEnd = gather.frameEnd[i]!;
      const from = Math.max(frameFrom, sent_bytes);
      const isCut = from > frameFrom;
      frameFrom = frameEnd;
      if (frameEnd <= sent_bytes) continue;
      if (!this.#backlog.hasRoom(frameEnd - from)) {
        row[C.dropQueueFull]!++;
        if (!isCut) continue;
        // The rest of a frame whose beginning is sent cannot be left out.
        this.#broken = `no memory for what ${this.#settings.path} was slow to take`;
        return;
      }
      for (let at = from; at < frameEnd;) {
        while (at >= pieceFrom + gather.pieceLength[piece]!) pieceFrom += gather.pieceLength[piece++]!;
        const part = Math.min(frameEnd, pieceFrom + gather.pieceLength[piece]!) - at;
        this.#backlog.append(gather.pieceAt[piece]! + at - pieceFrom, part);
        at += part;
      }
    }
  }

  #drainBacklog(): void {
    const backlog = this.#backlog;
    while (backlog.headLength > 0) {
      const n = raw.write(this.#fd, this.#arena.address + backlog.headAt, backlog.headLength);
      this.#link.counters[C.writeCalls]!++;
      if (n === -EAGAIN || n === -EINTR) return;
      if (n < 0) {
        this.#broken = `writing to ${this.#settings.path}: ${errnoName(-n)}`;
        return;
      }
      backlog.consume(n);
    }
    this.#waitForRoom(false);
  }

  #waitForRoom(waits: boolean): void {
    if (waits === this.#waitsForRoom) return;
    this.#waitsForRoom = waits;
    this.#link.loop.rewatch(this.#token, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
