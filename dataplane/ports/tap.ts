/**
 * A tap device of the host as a port. Frames are read and written one per call, since that is all a tap offers;
 * what makes it fast is that with vnet headers one "frame" is up to 64 KiB of TCP.
 *
 * In the slot a frame stands behind its header, which has 16 bytes here instead of 12: the last four are
 * padding to the kernel, and to us the room for the length prefix of a stream port that sends the same buffer.
 *
 *   slot + 48              + 58        + 60         + 64
 *   | virtio-net header 10 | unused 2  | prefix 4   | frame …
 *
 * With `queues` the device has several (IFF_MULTI_QUEUE), each an fd of its own, for a host whose processors send into it side
 * by side. The kernel gives a flow to the queue that its frames were last written to; so a flow is written to one
 * queue, by its hash, and stays there. All are served, in turn.
 *
 * The device is made when absent, and then goes when we go. Made or found, it is set up, with the MTU asked for.
 */
import { EAGAIN, EINTR, EIO, EPERM, HostError, errnoName } from '../../host/errno.js';
import { EPOLLIN } from '../../host/epoll.js';
import { setLink } from '../../host/netlink.js';
import { openTap } from '../../host/tap.js';
import * as raw from '../../host/raw.js';
import { SLOT_BYTES, SLOT_ROOM_BYTES } from '../engine/arena.js';
import type { Arena } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, LENGTH, ROOM, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Watcher } from '../engine/loop.js';
import { BURST_MAX_BYTES } from '../engine/port.js';
import type { KernelDevice, Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import { flowHash } from '../wire/flowHash.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';
import { Backoff } from './backoff.js';
import type { Committer, Gather } from './gather.js';
import { countAllDropped, countSent } from './sent.js';

const HEADER_BYTES = 16;
const READ_AT = SLOT_ROOM_BYTES - HEADER_BYTES;

export interface TapSettings {
  ifname: string;
  mtu_bytes?: number | undefined;
  queues?: number | undefined;
}

export class TapPort implements Port, Watcher, Committer {
  readonly kind = 'tap';
  readonly #link: Link;
  readonly #settings: TapSettings;
  readonly #gather: Gather;
  readonly #arena: Arena;
  readonly #address: number;
  readonly #retry: Timer;
  readonly #backoff = new Backoff(100, 5000);
  /** One for each queue. */
  readonly #fds: number[] = [];
  readonly #tokens: number[] = [];
  /** The queue that is read first in the next burst, when there are several. */
  #turn = 0;
  /** The queue that `commit` writes to. */
  #fd = -1;
  /** 16, or 0 where the kernel has no vnet headers. */
  #header_bytes = 0;
  /** Frames could not be delivered because the interface is down. */
  #isDown = false;

  constructor(link: Link, settings: TapSettings, gather: Gather) {
    this.#link = link;
    this.#settings = settings;
    this.#gather = gather;
    this.#arena = link.loop.pool.arena;
    this.#address = this.#arena.address;
    this.#retry = new Timer(() => this.open());
  }

  open(): void {
    const { ifname, mtu_bytes, queues = 1 } = this.#settings;
    try {
      for (let queue = 0; queue < queues; queue++) {
        const tap = openTap({
          ifname,
          vnetHdr: true,
          vnetHdrSize: HEADER_BYTES,
          multiQueue: queues > 1,
          offloads: { checksum: true, tso: true, uso: true },
        });
        this.#fds.push(tap.fd);
        this.#header_bytes = tap.vnetHdrSize;
      }
      setLink(ifname, mtu_bytes === undefined ? { up: true } : { up: true, mtu_bytes });
      for (const fd of this.#fds) this.#tokens.push(this.#link.loop.watch(fd, EPOLLIN, this));
    } catch (error) {
      this.#fail(describe(error, ifname));
      return;
    }
    this.#isDown = false;
    this.#backoff.reset();
    this.#link.setState('up', null);
  }

  close(): void {
    this.#link.loop.timers.cancel(this.#retry);
    for (const token of this.#tokens.splice(0)) this.#link.loop.unwatch(token);
    for (const fd of this.#fds.splice(0)) raw.close(fd);
    this.#fd = -1;
    this.#turn = 0;
  }

  #fail(reason: string): void {
    this.close();
    this.#link.setState('error', reason);
    this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + this.#backoff.next_ms());
  }

  kernelDevice(): KernelDevice | undefined {
    const fd = this.#fds[0];
    return fd === undefined ? undefined : { kind: 'tap', fd, ifname: this.#settings.ifname };
  }

  ready(): void {
    this.#link.wake();
  }

  receive(frames: FrameTable, limit: number): boolean {
    const fds = this.#fds;
    if (fds.length === 1) return this.#receiveFrom(fds[0]!, frames, limit);
    // Who has more is asked again after all others.
    let hasMore = false;
    const share = Math.max(1, Math.floor(limit / fds.length));
    for (let i = 0; i < fds.length; i++) {
      if (++this.#turn >= fds.length) this.#turn = 0;
      hasMore = this.#receiveFrom(fds[this.#turn]!, frames, share) || hasMore;
    }
    return hasMore;
  }

  #receiveFrom(fd: number, frames: FrameTable, limit: number): boolean {
    const { pool } = this.#link.loop;
    const { i32 } = this.#arena;
    const header_bytes = this.#header_bytes;
    const row = this.#link.counters;
    let burst_bytes = 0;
    for (let i = 0; i < limit && burst_bytes < BURST_MAX_BYTES; i++) {
      const slot = pool.take();
      if (slot < 0) {
        row[C.dropNoBuffer]!++;
        return true;
      }
      const slotAt = this.#arena.slotAt(slot);
      const readAt = slotAt + SLOT_ROOM_BYTES - header_bytes;
      const n = raw.read(fd, this.#address + readAt, SLOT_BYTES - SLOT_ROOM_BYTES + header_bytes);
      row[C.readCalls]!++;
      if (n < header_bytes) {
        pool.release(slot);
        if (n === -EAGAIN) return false;
        if (n === -EINTR) return true;
        if (n >= 0) row[C.ifInErrors]!++;
        else {
          this.#fail(
            `reading from tap ${this.#settings.ifname}: ${errnoName(-n)}; was the interface deleted?`,
          );
          return false;
        }
        continue;
      }
      const length_bytes = n - header_bytes;
      burst_bytes += length_bytes;
      if (header_bytes === 0) {
        frames.push(slot, slotAt + SLOT_ROOM_BYTES, length_bytes, 0, 0, 0, SLOT_ROOM_BYTES);
      } else {
        const w = (slotAt + READ_AT) >>> 2;
        frames.push(
          slot,
          slotAt + SLOT_ROOM_BYTES,
          length_bytes,
          i32[w]!,
          i32[w + 1]!,
          i32[w + 2]! & 0xffff,
          SLOT_ROOM_BYTES,
        );
      }
    }
    return true;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const fds = this.#fds;
    if (fds.length === 0) {
      countAllDropped(this.#link.counters, queue, C.dropNotUp);
      return;
    }
    this.#fd = fds[0]!;
    if (this.#header_bytes === 0) {
      this.#gather.begin(this, 0, 1);
      for (let i = 0; i < queue.count; i++)
        this.#gather.add(frames, queue.frame(i), queue.edit(i), this.#link.counters);
      this.#gather.finish();
      return;
    }
    const row = this.#link.counters;
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      if (fds.length > 1) this.#fd = fds[this.#queueOf(frames.words, frame * FRAME_WORDS)]!;
      const n = this.#send(frames.words, frame * FRAME_WORDS, edit);
      row[C.writeCalls]!++;
      if (n < 0) {
        this.#refused(n);
        continue;
      }
      countSent(row, this.#arena.view, frames, frame, edit);
      if ((frames.words[frame * FRAME_WORDS + W0]! & 0xff00) !== 0) row[C.gsoOutFrames]!++;
      if (this.#isDown) this.#isUpAgain();
    }
  }

  #queueOf(words: Int32Array, w: number): number {
    return flowHash(this.#arena.view, words[w + AT]!, words[w + LENGTH]!) % this.#fds.length;
  }

  #send(words: Int32Array, w: number, edit: number): number {
    const arena = this.#arena;
    const at = words[w + AT]!;
    const length_bytes = words[w + LENGTH]!;
    if (edit === vlan.EDIT_NONE) {
      if (words[w + ROOM]! >= HEADER_BYTES) {
        this.#layHeader(at - HEADER_BYTES, words[w + W0]!, words[w + W1]!, words[w + W2]!);
        return raw.write(this.#fd, this.#address + at - HEADER_BYTES, length_bytes + HEADER_BYTES);
      }
      // No room before it: it lies among others in the buffer of a stream, where no frame has an offload.
      arena.setIovec(0, arena.zerosAt, HEADER_BYTES);
      arena.setIovec(1, at, length_bytes);
      return raw.writev(this.#fd, arena.iovecsAddress, 2);
    }
    const growth = vlan.growth(edit);
    const w0 = words[w + W0]!;
    const from = vlan.editedFrom(edit);
    const head = arena.scratchAt;
    this.#layHeader(
      head,
      virtioNet.moveWord0(w0, growth),
      virtioNet.moveWord1(w0, words[w + W1]!, growth),
      words[w + W2]!,
    );
    const head_bytes = HEADER_BYTES + vlan.emitEdited(arena.view, head + HEADER_BYTES, at, edit);
    arena.setIovec(0, head, head_bytes);
    arena.setIovec(1, at + from, length_bytes - from);
    return raw.writev(this.#fd, arena.iovecsAddress, 2);
  }

  /** The padding behind the header is left alone: a stream's length prefix may stand there. */
  #layHeader(at: number, w0: number, w1: number, w2: number): void {
    const { i32 } = this.#arena;
    i32[at >>> 2] = w0;
    i32[(at >>> 2) + 1] = w1;
    i32[(at >>> 2) + 2] = w2;
  }

  /** One finished frame, for a tap without vnet headers. */
  commit(gather: Gather): void {
    const row = this.#link.counters;
    gather.fillIovecs();
    const n = raw.writev(this.#fd, this.#arena.iovecsAddress, gather.pieces);
    row[C.writeCalls]!++;
    if (n < 0) {
      this.#refused(n);
      return;
    }
    row[C.ifHCOutOctets]! += n;
    row[
      (this.#arena.view.getUint8(gather.pieceAt[0]!) & 1) === 0 ? C.ifHCOutUcastPkts : C.ifHCOutMulticastPkts
    ]!++;
  }

  #refused(n: number): void {
    const row = this.#link.counters;
    if (n === -EAGAIN) {
      row[C.dropQueueFull]!++;
      return;
    }
    row[C.ifOutErrors]!++;
    if (n === -EIO && !this.#isDown) {
      this.#isDown = true;
      const { ifname } = this.#settings;
      this.#link.setState('up', `interface ${ifname} is down and takes no frames: ip link set ${ifname} up`);
    }
  }

  #isUpAgain(): void {
    this.#isDown = false;
    this.#link.setState('up', null);
  }
}

function describe(error: unknown, ifname: string): string {
  if (error instanceof HostError && error.errno === EPERM)
    return `tap ${ifname} cannot be opened: this process lacks CAP_NET_ADMIN; run it as root, or use stream ports`;
  return `tap ${ifname} cannot be opened: ${error instanceof Error ? error.message : String(error)}`;
}
