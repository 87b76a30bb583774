/**
 * A Unix datagram socket as a port, one frame to a datagram, as QEMU speaks it:
 *
 *   -netdev dgram,id=n0,local.type=unix,local.path=PEER,remote.type=unix,remote.path=PATH
 *
 * Our socket is bound at PATH (mode 0600, the directory's owner, as streamListener.ts has it) and connected to PEER, so
 * that the kernel takes datagrams from that socket only, and tells when it has room again: the queue of a socket that
 * is not connected in turn (QEMU's is not) holds ten of them, unless net.unix.max_dgram_qlen says otherwise. What it has
 * no room for waits here, up to WAITING_MAX_COUNT.
 *
 * Frames go finished: whole, with their checksums. The peer may go and come back; it is dialled until it is there.
 */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  EAGAIN,
  ECONNREFUSED,
  EINTR,
  EMSGSIZE,
  ENOBUFS,
  ENOENT,
  HostError,
  errnoName,
} from '../../host/errno.js';
import { EPOLLIN, EPOLLOUT } from '../../host/epoll.js';
import { lstat } from '../../host/file.js';
import { MessageBatch } from '../../host/messages.js';
import { ownIds } from '../../host/process.js';
import * as raw from '../../host/raw.js';
import { setSockBuf } from '../../host/socket.js';
import { connectDgram, listenUnix } from '../../host/unix.js';
import { SLOT_BYTES, SLOT_ROOM_BYTES } from '../engine/arena.js';
import type { Arena } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, FrameTable, LENGTH } from '../engine/frames.js';
import type { Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Watcher } from '../engine/loop.js';
import type { Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import { FRAME_MAX_BYTES, FRAME_MIN_BYTES } from '../wire/ethernet.js';
import { Backoff } from './backoff.js';
import type { Committer, Gather } from './gather.js';
import { countAllDropped, countSent } from './sent.js';

export interface DgramSettings {
  path: string;
  peer: string;
}

const BATCH_COUNT = 32;
/** Of a frame: a new beginning or headers, and the rest. */
const PIECES = 2;
const WAITING_MAX_COUNT = 256;
/**
 * A peer that was started anew has another socket at the same path, which may not send to us while we are connected to
 * the old one; nobody tells us. Connecting to the same socket again changes nothing.
 */
const CONNECT_EVERY_MS = 1000;
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;

export class DgramPort implements Port, Watcher, Committer {
  readonly kind = 'dgram';
  readonly #link: Link;
  readonly #settings: DgramSettings;
  readonly #gather: Gather;
  readonly #arena: Arena;
  readonly #incoming = new MessageBatch({ count: BATCH_COUNT, pieces: 1 });
  readonly #outgoing = new MessageBatch({ count: BATCH_COUNT, pieces: PIECES });
  readonly #slots = new Int32Array(BATCH_COUNT);
  /** Copies of what the peer had no room for, oldest first. */
  readonly #waiting: FrameTable;
  readonly #retry: Timer;
  readonly #backoff = new Backoff(100, 2000);
  #fd = -1;
  #token = -1;
  #isConnected = false;
  #waitsForRoom = false;
  #isOpen = false;

  constructor(link: Link, settings: DgramSettings, gather: Gather) {
    this.#link = link;
    this.#settings = settings;
    this.#gather = gather;
    this.#arena = link.loop.pool.arena;
    this.#waiting = new FrameTable(link.loop.pool);
    this.#retry = new Timer(() => (this.#fd < 0 ? this.#bind() : this.#connect()));
  }

  open(): void {
    this.#isOpen = true;
    this.#bind();
  }

  #bind(): void {
    const { path } = this.#settings;
    try {
      const directory = lstat(dirname(path));
      const owner = directory === undefined ? undefined : { uid: directory.uid, gid: directory.gid };
      this.#fd = listenUnix(path, {
        type: 'dgram',
        mode: 0o600,
        replaceStale: true,
        ...(owner !== undefined && ownIds().euid === 0 ? { owner } : {}),
      });
      setSockBuf(this.#fd, { send_bytes: SEND_BUFFER_BYTES });
      this.#token = this.#link.loop.watch(this.#fd, EPOLLIN, this);
    } catch (error) {
      this.#unbind();
      this.#link.setState('error', `datagrams cannot be taken at ${path}: ${messageOf(error)}`);
      this.#again();
      return;
    }
    this.#connect();
  }

  #connect(): void {
    const { peer } = this.#settings;
    try {
      connectDgram(this.#fd, peer);
    } catch (error) {
      const errno = error instanceof HostError ? error.errno : 0;
      const waits = errno === ENOENT || errno === ECONNREFUSED;
      this.#disconnect();
      this.#link.setState(
        waits ? 'connecting' : 'error',
        waits ? `nobody takes datagrams at ${peer} yet` : `${peer} cannot be reached: ${messageOf(error)}`,
      );
      this.#again();
      return;
    }
    this.#isConnected = true;
    this.#backoff.reset();
    this.#link.setState('up', null);
    this.#link.wake();
    this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + CONNECT_EVERY_MS);
  }

  #again(): void {
    this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + this.#backoff.next_ms());
  }

  #disconnect(): void {
    this.#isConnected = false;
    this.#waiting.releaseAll();
    this.#waitForRoom(false);
  }

  #lost(reason: string): void {
    this.#disconnect();
    this.#link.setState('connecting', reason);
    this.#again();
  }

  #unbind(): void {
    if (this.#token >= 0) this.#link.loop.unwatch(this.#token);
    this.#token = -1;
    if (this.#fd >= 0) {
      raw.close(this.#fd);
      rmSync(this.#settings.path, { force: true });
    }
    this.#fd = -1;
    this.#isConnected = false;
    this.#waitsForRoom = false;
  }

  close(): void {
    this.#link.loop.timers.cancel(this.#retry);
    this.#unbind();
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#waiting.releaseAll();
    this.#incoming.close();
    this.#outgoing.close();
  }

  ready(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#sendWaiting();
    if ((events & ~EPOLLOUT) !== 0) this.#link.wake();
  }

  // Receiving.

  receive(frames: FrameTable, limit: number): boolean {
    if (this.#fd < 0) return false;
    const { pool } = this.#link.loop;
    const row = this.#link.counters;
    const incoming = this.#incoming;
    let wanted = 0;
    for (; wanted < Math.min(limit, BATCH_COUNT); wanted++) {
      const slot = pool.take();
      if (slot < 0) break;
      const at = this.#arena.address + this.#arena.slotAt(slot) + SLOT_ROOM_BYTES;
      this.#slots[wanted] = slot;
      incoming.setPiece(wanted, 0, at, SLOT_BYTES - SLOT_ROOM_BYTES);
      incoming.armToReceive(wanted, 1);
    }
    if (wanted === 0) {
      row[C.dropNoBuffer]!++;
      return true;
    }
    const n = raw.recvmmsg(this.#fd, incoming.address, wanted, raw.MSG_DONTWAIT);
    row[C.readCalls]!++;
    for (let i = 0; i < n; i++) {
      const slot = this.#slots[i]!;
      const length_bytes = incoming.length_bytes(i);
      if (
        length_bytes >= FRAME_MIN_BYTES &&
        length_bytes <= FRAME_MAX_BYTES &&
        (incoming.flags(i) & raw.MSG_TRUNC) === 0
      ) {
        frames.push(slot, this.#arena.slotAt(slot) + SLOT_ROOM_BYTES, length_bytes, 0, 0, 0, SLOT_ROOM_BYTES);
        continue;
      }
      row[C.dropBadLength]!++;
      pool.release(slot);
    }
    for (let i = wanted - 1; i >= Math.max(n, 0); i--) pool.release(this.#slots[i]!);
    if (n < 0 && n !== -EAGAIN && n !== -EINTR && this.#isConnected)
      this.#lost(`reading from ${this.#settings.peer}: ${errnoName(-n)}`);
    return n === wanted;
  }

  // Sending.

  transmit(frames: FrameTable, queue: Queue): void {
    const row = this.#link.counters;
    if (!this.#isConnected) {
      countAllDropped(row, queue, C.dropNotUp);
      return;
    }
    const gather = this.#gather;
    gather.begin(this, 0, BATCH_COUNT);
    for (let i = 0; i < queue.count; i++) {
      countSent(row, this.#arena.view, frames, queue.frame(i), queue.edit(i));
      gather.add(frames, queue.frame(i), queue.edit(i), row);
    }
    gather.finish();
  }

  commit(gather: Gather): void {
    let first = 0;
    if (this.#isConnected && this.#waiting.count === 0) {
      this.#layGathered(gather);
      first = this.#send(gather.frames);
      if (first === gather.frames) return;
    }
    if (!this.#isConnected) {
      this.#link.counters[C.dropNotUp]! += gather.frames - first;
      return;
    }
    for (let i = first; i < gather.frames; i++) this.#keep(gather, i);
    this.#waitForRoom(true);
  }

  /** Pieces of one frame lie in one message, also where the gatherer has joined them with a neighbour's. */
  #layGathered(gather: Gather): void {
    const { address } = this.#arena;
    let piece = 0;
    let pieceFrom = 0;
    let at = 0;
    for (let i = 0; i < gather.frames; i++) {
      let pieces = 0;
      for (const end = gather.frameEnd[i]!; at < end;) {
        while (at >= pieceFrom + gather.pieceLength[piece]!) pieceFrom += gather.pieceLength[piece++]!;
        const part = Math.min(end, pieceFrom + gather.pieceLength[piece]!) - at;
        this.#outgoing.setPiece(i, pieces++, address + gather.pieceAt[piece]! + at - pieceFrom, part);
        at += part;
      }
      this.#outgoing.arm(i, pieces, 0, 0);
    }
  }

  /** How many of the messages were taken; fewer: the peer has no room, or has gone. */
  #send(count: number): number {
    const row = this.#link.counters;
    let from = 0;
    while (from < count) {
      const address = this.#outgoing.addressOf(from);
      const n = raw.sendmmsg(this.#fd, address, count - from, raw.MSG_DONTWAIT | raw.MSG_NOSIGNAL);
      row[C.writeCalls]!++;
      if (n >= 0) {
        from += n;
      } else if (n === -EAGAIN || n === -ENOBUFS) {
        return from;
      } else if (n !== -EINTR) {
        if (n !== -EMSGSIZE) {
          this.#lost(`the peer at ${this.#settings.peer} has gone (${errnoName(-n)})`);
          return from;
        }
        row[C.ifOutErrors]!++;
        from++;
      }
    }
    return from;
  }

  #keep(gather: Gather, index: number): void {
    const { pool } = this.#link.loop;
    const row = this.#link.counters;
    // As with a backlog, a quarter of the pool stays for frames that arrive.
    const slot =
      this.#waiting.count >= WAITING_MAX_COUNT || pool.freeCount < this.#arena.slots >>> 2 ? -1 : pool.take();
    if (slot < 0) {
      row[C.dropQueueFull]!++;
      return;
    }
    const to = this.#arena.slotAt(slot) + SLOT_ROOM_BYTES;
    let at = index === 0 ? 0 : gather.frameEnd[index - 1]!;
    const length_bytes = gather.frameEnd[index]! - at;
    let piece = 0;
    let pieceFrom = 0;
    for (let done = 0; done < length_bytes;) {
      while (at >= pieceFrom + gather.pieceLength[piece]!) pieceFrom += gather.pieceLength[piece++]!;
      const from = gather.pieceAt[piece]! + at - pieceFrom;
      const part = Math.min(length_bytes - done, pieceFrom + gather.pieceLength[piece]! - at);
      this.#arena.bytes.copyWithin(to + done, from, from + part);
      done += part;
      at += part;
    }
    this.#waiting.push(slot, to, length_bytes, 0, 0, 0, SLOT_ROOM_BYTES);
  }

  #sendWaiting(): void {
    const waiting = this.#waiting;
    const { words } = waiting;
    while (waiting.count > 0 && this.#isConnected) {
      const count = Math.min(waiting.count, BATCH_COUNT);
      for (let i = 0; i < count; i++) {
        const w = i * FRAME_WORDS;
        this.#outgoing.setPiece(i, 0, this.#arena.address + words[w + AT]!, words[w + LENGTH]!);
        this.#outgoing.arm(i, 1, 0, 0);
      }
      const sent = this.#send(count);
      if (!this.#isConnected) return;
      waiting.shift(sent);
      if (sent < count) return;
    }
    this.#waitForRoom(false);
  }

  #waitForRoom(waits: boolean): void {
    if (waits === this.#waitsForRoom || this.#token < 0) return;
    this.#waitsForRoom = waits;
    this.#link.loop.rewatch(this.#token, waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
