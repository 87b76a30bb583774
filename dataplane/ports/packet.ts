/**
 * An interface that the host has already (a card, one end of a veth, a bridge's leg) as a port, by a packet
 * socket. Up to 32 frames to a system call, both ways; TCP passes as super-frames of up to 64 KiB with their
 * virtio-net header, like through a tap.
 *
 * Received into the slot by two pieces, so that the frame lies as a tap's would:
 *
 *   slot + 48              + 58        + 60         + 64
 *   | virtio-net header 10 | unused 2  | prefix 4   | frame …
 *
 * The kernel takes the outermost VLAN tag out of a frame and tells it beside; it is put back here, for which the
 * addresses move into the four bytes before. Sent frames go with their header as a piece of its own.
 *
 * What the interface is (there, up, its MTU) is looked at when the host says that some interface changed
 * (interfaces.ts). The port does not set it up and changes nothing of it but the promiscuous mode, which ends with
 * the socket. The host's own stack sees the frames as well, as with any packet socket: leave the interface
 * without addresses. Frames go through the interface's queueing discipline: bypassing it saves little (what
 * costs is the copy) and would lose what `tc` was told to do, and what a driver has no room for at this moment.
 */
import { EAGAIN, EINTR, EMSGSIZE, ENETDOWN, ENOBUFS, ENODEV, ENXIO, EPERM } from '../../host/errno.js';
import { HostError, errnoName } from '../../host/errno.js';
import { EPOLLIN } from '../../host/epoll.js';
import { MessageBatch } from '../../host/messages.js';
import { AUXDATA_CONTROL_BYTES, VNET_HDR_BYTES, openPacketSocket, strippedTag } from '../../host/packet.js';
import * as raw from '../../host/raw.js';
import { setSockBuf } from '../../host/socket.js';
import { SLOT_BYTES, SLOT_ROOM_BYTES } from '../engine/arena.js';
import type { Arena } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Watcher } from '../engine/loop.js';
import { BURST_MAX_BYTES } from '../engine/port.js';
import type { KernelDevice, Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import * as ethernet from '../wire/ethernet.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';
import { Backoff } from './backoff.js';
import { findInterface, interfacesOf, noSuchInterface, whyNotUp } from './interfaces.js';
import { countAllDropped, countSent } from './sent.js';

const BATCH_COUNT = 32;
const READ_AT = SLOT_ROOM_BYTES - 16;
/** Scratch of one message that is sent: the header at 6, the new beginning of an edited frame at 16. */
const HEAD_BYTES = 32;
const HEADER_AT = 6;
const HEAD_AT = HEADER_AT + VNET_HDR_BYTES;
/** Super-frames count with all of their memory; the usual 208 KiB hold two of them. */
const SOCKET_BUFFER_BYTES = 8 * 1024 * 1024;

export interface PacketSettings {
  ifname: string;
}

export class PacketPort implements Port, Watcher {
  readonly kind = 'packet';
  readonly #link: Link;
  readonly #settings: PacketSettings;
  /** Said beside the state, by who had to take this port instead of a better one. */
  readonly #note: string | null;
  readonly #arena: Arena;
  readonly #incoming: MessageBatch;
  readonly #outgoing: MessageBatch;
  readonly #slots = new Int32Array(BATCH_COUNT);
  /** Of the batch being sent: frame and edit of each message. */
  readonly #sent = new Int32Array(BATCH_COUNT * 2);
  readonly #retry: Timer;
  readonly #backoff = new Backoff(100, 5000);
  readonly #look = (): void => this.#lookAtInterface();
  #fd = -1;
  #token = -1;
  #ifindex = 0;
  #mtu_bytes = 0;
  /** How many messages the next receive asks for: fewer when frames are large. */
  #window = BATCH_COUNT;
  #isOpen = false;

  constructor(link: Link, settings: PacketSettings, note: string | null = null) {
    this.#link = link;
    this.#settings = settings;
    this.#note = note;
    this.#arena = link.loop.pool.arena;
    this.#incoming = new MessageBatch({
      count: BATCH_COUNT,
      pieces: 2,
      control_bytes: AUXDATA_CONTROL_BYTES,
    });
    this.#outgoing = new MessageBatch({ count: BATCH_COUNT, pieces: 2 });
    this.#retry = new Timer(() => this.#lookAtInterface());
  }

  /** The socket while it is bound; -1. For who steers frames away from it. */
  get socketFd(): number {
    return this.#fd;
  }
  /** Of the interface while the socket is bound to it; 0. */
  get ifindex(): number {
    return this.#ifindex;
  }

  open(): void {
    this.#isOpen = true;
    try {
      interfacesOf(this.#link.loop).add(this.#look);
    } catch (error) {
      this.#link.setState('error', messageOf(error));
    }
    this.#lookAtInterface();
  }

  close(): void {
    if (this.#isOpen) {
      interfacesOf(this.#link.loop).remove(this.#look);
      this.#incoming.close();
      this.#outgoing.close();
    }
    this.#isOpen = false;
    this.#link.loop.timers.cancel(this.#retry);
    this.#unbind();
  }

  #lookAtInterface(): void {
    const { ifname } = this.#settings;
    const found = findInterface(ifname);
    if (this.#fd >= 0 && found?.index !== this.#ifindex) this.#unbind();
    if (found === undefined) {
      this.#link.setState('error', noSuchInterface(ifname));
      return;
    }
    if (this.#fd < 0 && !this.#bind()) return;
    this.#ifindex = found.index;
    this.#mtu_bytes = found.mtu_bytes;
    const problem = whyNotUp(found);
    if (problem !== undefined) {
      this.#link.setState(problem.state, problem.reason);
      return;
    }
    this.#link.setState('up', this.#note);
    this.#link.wake();
  }

  #bind(): boolean {
    const { ifname } = this.#settings;
    try {
      this.#fd = openPacketSocket({
        ifname,
        receive: true,
        nonBlocking: true,
        vnetHdr: true,
        auxdata: true,
        promiscuous: true,
        ignoreOutgoing: true,
      });
      setSockBuf(this.#fd, { send_bytes: SOCKET_BUFFER_BYTES, receive_bytes: SOCKET_BUFFER_BYTES });
      this.#token = this.#link.loop.watch(this.#fd, EPOLLIN, this);
    } catch (error) {
      this.#unbind();
      this.#link.setState('error', describe(error, ifname));
      this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + this.#backoff.next_ms());
      return false;
    }
    this.#backoff.reset();
    return true;
  }

  #unbind(): void {
    if (this.#token >= 0) this.#link.loop.unwatch(this.#token);
    this.#token = -1;
    if (this.#fd >= 0) raw.close(this.#fd);
    this.#fd = -1;
    this.#ifindex = 0;
  }

  kernelDevice(): KernelDevice | undefined {
    return this.#fd < 0 ? undefined : { kind: 'packet', fd: this.#fd, ifname: this.#settings.ifname };
  }

  ready(): void {
    this.#link.wake();
  }

  // Receiving.

  receive(frames: FrameTable, limit: number): boolean {
    const row = this.#link.counters;
    let left = limit;
    let burst_bytes = 0;
    while (left > 0 && burst_bytes < BURST_MAX_BYTES) {
      if (this.#fd < 0) return false;
      const wanted = this.#armToReceive(Math.min(left, this.#window));
      if (wanted === 0) {
        row[C.dropNoBuffer]!++;
        return true;
      }
      const n = raw.recvmmsg(this.#fd, this.#incoming.address, wanted, raw.MSG_DONTWAIT);
      row[C.readCalls]!++;
      const came = Math.max(n, 0);
      const bytes = this.#take(frames, came);
      this.#letGo(came, wanted);
      if (n < 0) return this.#receiveFailed(n);
      burst_bytes += bytes;
      left -= n;
      this.#window =
        n === 0 ? 1 : Math.max(1, Math.min(BATCH_COUNT, Math.ceil((BURST_MAX_BYTES * n) / (bytes + 1))));
      if (n < wanted) return false;
    }
    return true;
  }

  /** A slot for each; how many there were. */
  #armToReceive(count: number): number {
    const { pool } = this.#link.loop;
    const { address } = this.#arena;
    const incoming = this.#incoming;
    for (let i = 0; i < count; i++) {
      const slot = pool.take();
      if (slot < 0) return i;
      const at = address + this.#arena.slotAt(slot);
      this.#slots[i] = slot;
      incoming.setPiece(i, 0, at + READ_AT, VNET_HDR_BYTES);
      incoming.setPiece(i, 1, at + SLOT_ROOM_BYTES, SLOT_BYTES - SLOT_ROOM_BYTES);
      incoming.armToReceive(i, 2);
    }
    return count;
  }

  /** Backwards, so that the one that would have been filled next is taken first. */
  #letGo(from: number, end: number): void {
    const { pool } = this.#link.loop;
    for (let i = end - 1; i >= from; i--) pool.release(this.#slots[i]!);
  }

  #take(frames: FrameTable, count: number): number {
    const { pool } = this.#link.loop;
    const { i32, view } = this.#arena;
    const incoming = this.#incoming;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.#slots[i]!;
      const length_bytes = incoming.length_bytes(i) - VNET_HDR_BYTES;
      if (length_bytes < ethernet.LENGTH || (incoming.flags(i) & raw.MSG_TRUNC) !== 0) {
        this.#link.counters[C.ifInErrors]!++;
        pool.release(slot);
        continue;
      }
      const slotAt = this.#arena.slotAt(slot);
      const w = (slotAt + READ_AT) >>> 2;
      const w0 = i32[w]!;
      const w1 = i32[w + 1]!;
      const w2 = i32[w + 2]! & 0xffff;
      const at = slotAt + SLOT_ROOM_BYTES;
      const tag = strippedTag(incoming, i);
      bytes += length_bytes;
      if (tag === 0) {
        frames.push(slot, at, length_bytes, w0, w1, w2, SLOT_ROOM_BYTES);
        continue;
      }
      const to = at - vlan.LENGTH;
      i32[to >>> 2] = i32[at >>> 2]!;
      i32[(to >>> 2) + 1] = i32[(at >>> 2) + 1]!;
      i32[(to >>> 2) + 2] = i32[(at >>> 2) + 2]!;
      view.setInt32(to + vlan.AT, tag);
      frames.push(
        slot,
        to,
        length_bytes + vlan.LENGTH,
        virtioNet.moveWord0(w0, vlan.LENGTH),
        virtioNet.moveWord1(w0, w1, vlan.LENGTH),
        w2,
        SLOT_ROOM_BYTES - vlan.LENGTH,
      );
    }
    return bytes;
  }

  #receiveFailed(n: number): boolean {
    if (n === -EAGAIN) return false;
    if (n === -EINTR) return true;
    this.#link.counters[C.ifInErrors]!++;
    // Told once when the interface goes down; the watch tells the rest.
    if (n === -ENETDOWN || n === -ENXIO || n === -ENODEV) {
      this.#lookAtInterface();
      return false;
    }
    // A frame that the kernel could not describe is gone; the next one may be better.
    return true;
  }

  // Sending.

  transmit(frames: FrameTable, queue: Queue): void {
    if (this.#fd < 0) {
      countAllDropped(this.#link.counters, queue, C.dropNotUp);
      return;
    }
    let count = 0;
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      if (this.#isTooBig(frames.words, frame * FRAME_WORDS, edit)) {
        this.#link.counters[C.dropTooBig]!++;
        continue;
      }
      this.#lay(count, frames.words, frame * FRAME_WORDS, edit);
      this.#sent[count * 2] = frame;
      this.#sent[count * 2 + 1] = edit;
      if (++count < BATCH_COUNT) continue;
      this.#send(frames, count);
      count = 0;
    }
    if (count > 0) this.#send(frames, count);
  }

  /** Beyond the MTU of the interface; of a super-frame, its segments. A tag comes on top, as the kernel has it. */
  #isTooBig(words: Int32Array, w: number, edit: number): boolean {
    const w0 = words[w + W0]!;
    const room_bytes = this.#mtu_bytes + ethernet.LENGTH + vlan.LENGTH;
    if ((w0 & 0xff00) === 0) return words[w + LENGTH]! + vlan.growth(edit) > room_bytes;
    const w1 = words[w + W1]!;
    const header_bytes = Math.max(virtioNet.hdrLenOf(w0), virtioNet.csumStartOf(w1) + 8);
    return virtioNet.gsoSizeOf(w1) + Math.min(header_bytes, words[w + LENGTH]!) > room_bytes;
  }

  #lay(message: number, words: Int32Array, w: number, edit: number): void {
    const arena = this.#arena;
    const outgoing = this.#outgoing;
    const { view } = arena;
    const at = words[w + AT]!;
    const w0 = words[w + W0]!;
    const growth = vlan.growth(edit);
    const scratch = arena.scratchAt + message * HEAD_BYTES;
    view.setInt32(scratch + HEADER_AT, virtioNet.moveWord0(w0, growth), true);
    view.setInt32(scratch + HEADER_AT + 4, virtioNet.moveWord1(w0, words[w + W1]!, growth), true);
    view.setUint16(scratch + HEADER_AT + 8, words[w + W2]!, true);
    let head_bytes = 0;
    let from = 0;
    if (edit !== vlan.EDIT_NONE) {
      head_bytes = vlan.emitEdited(view, scratch + HEAD_AT, at, edit);
      from = vlan.editedFrom(edit);
    }
    outgoing.setPiece(message, 0, arena.address + scratch + HEADER_AT, VNET_HDR_BYTES + head_bytes);
    outgoing.setPiece(message, 1, arena.address + at + from, words[w + LENGTH]! - from);
    outgoing.arm(message, 2, 0, 0);
  }

  #send(frames: FrameTable, count: number): void {
    const row = this.#link.counters;
    for (let from = 0; from < count;) {
      const address = this.#outgoing.addressOf(from);
      const n = raw.sendmmsg(this.#fd, address, count - from, raw.MSG_DONTWAIT | raw.MSG_NOSIGNAL);
      row[C.writeCalls]!++;
      for (let i = from; i < from + n; i++) this.#countSent(frames, i);
      // What follows a refused one has not been tried.
      if (n >= 0) from += n;
      else if (n === -EAGAIN || n === -ENOBUFS) {
        // No room in the socket or the queueing discipline: the rest of the batch would meet the same.
        row[C.dropQueueFull]! += count - from;
        return;
      } else if (n !== -EINTR) {
        row[n === -EMSGSIZE ? C.dropTooBig : C.ifOutErrors]!++;
        from++;
      }
    }
  }

  #countSent(frames: FrameTable, message: number): void {
    const row = this.#link.counters;
    const frame = this.#sent[message * 2]!;
    countSent(row, this.#arena.view, frames, frame, this.#sent[message * 2 + 1]!);
    if ((frames.words[frame * FRAME_WORDS + W0]! & 0xff00) !== 0) row[C.gsoOutFrames]!++;
  }
}

function describe(error: unknown, ifname: string): string {
  if (error instanceof HostError && error.errno === EPERM)
    return `interface ${ifname} cannot be used: this process lacks CAP_NET_RAW; run it as root`;
  if (error instanceof HostError)
    return `interface ${ifname} cannot be used: ${errnoName(error.errno)}: ${error.message}`;
  return `interface ${ifname} cannot be used: ${messageOf(error)}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
