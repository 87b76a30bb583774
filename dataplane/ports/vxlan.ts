/**
 * A VXLAN segment as a port (RFC 7348): frames travel in UDP to remote ends, which are configured. A frame to a station
 * goes to the remote end that it was last heard from; to a group, or a station not heard of, it goes to all of
 * them, one copy each (head-end replication). What comes from a remote end is not sent on to another one: the
 * switch never sends a frame out of the port it came in by, so remote ends must know each other.
 *
 * Super-frames of TCP are cut so that a segment fits the path to the remote end, and given to the kernel as one
 * message that it cuts into datagrams where that is cheapest (UDP_SEGMENT). Other frames that do not fit are
 * fragmented by the host, as its own tunnels do it, unless `dontFragment` says that they be dropped and counted.
 *
 * A frame is taken only from a configured remote end. With `anySender` from anybody, and what a stranger sent is
 * learned, up to STRANGERS_MAX_COUNT of them; to strangers only what is for their stations is sent.
 */
import { EAGAIN, EINTR, EINVAL, EIO, EMSGSIZE, ENETUNREACH, ENOBUFS } from '../../host/errno.js';
import { EHOSTUNREACH, HostError, errnoName } from '../../host/errno.js';
import { formatEndpoint, inetAddressBytes, putGsoSegment, routeMtu } from '../../host/inet.js';
import { formatIp } from '../../host/ip.js';
import { mapAnonymous } from '../../host/memory.js';
import type { Mapping } from '../../host/memory.js';
import * as raw from '../../host/raw.js';
import { IOVECS_COUNT, SCRATCH_BYTES } from '../engine/arena.js';
import type { Arena } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { AT, FRAMES_MAX_COUNT, FRAME_WORDS, FrameTable, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import { flowHash } from '../wire/flowHash.js';
import { SEGMENT_HEADER_MAX_BYTES, Segmenter, completeChecksum } from '../wire/offload.js';
import { unfinishedChecksum } from '../wire/unfinished.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';
import * as vxlan from '../wire/vxlan.js';
import { Backoff } from './backoff.js';
import { interfacesOf } from './interfaces.js';
import { countAllDropped, countSent } from './sent.js';
import { REPLACED, TunnelStations } from './tunnelStations.js';
import { SEND_SOCKETS_COUNT, endpointAt, leaveEndpoint } from './vxlanEndpoint.js';
import type { VxlanEndpoint, VxlanReceiver } from './vxlanEndpoint.js';

export interface VxlanSettings {
  vni: number;
  local?: string | undefined;
  port: number;
  remotes: readonly { address: string; port: number }[];
  anySender?: boolean | undefined;
  dontFragment?: boolean | undefined;
}

const STATIONS_MAX_COUNT = 16_384;
/** As the kernel's own tunnels. */
const STATION_AGE_S = 300;
const STRANGERS_MAX_COUNT = 256;
const SOCKADDR_BYTES = 32;
/** Routes change without a word to us. */
const LOOK_EVERY_MS = 10_000;
/** UDP and VXLAN; IP comes on top. */
const UDP_VXLAN_BYTES = 8 + vxlan.LENGTH;
const ETHERNET_BYTES = 14;
const STATION_MTU_BYTES = 1500;
/** Of one message that the kernel cuts: UDP_MAX_SEGMENTS was 64 until Linux 6.9, and IP's length has its bound. */
const SEGMENTS_PER_MESSAGE = 64;
const MESSAGE_MAX_BYTES = 65_000;
/** Scratch of one segment: the VXLAN header, room for a tag, the headers. */
const HEAD_BYTES = 16 + SEGMENT_HEADER_MAX_BYTES;
const BATCH_COUNT = 32;

export class VxlanPort implements Port, VxlanReceiver {
  readonly kind = 'vxlan';
  readonly #link: Link;
  readonly #settings: VxlanSettings;
  readonly #arena: Arena;
  readonly #held: FrameTable;
  readonly #stations = new TunnelStations(STATIONS_MAX_COUNT, STATION_AGE_S);
  readonly #segmenter = new Segmenter();
  readonly #timer: Timer;
  readonly #backoff = new Backoff(100, 5000);
  readonly #look = (): void => this.#lookAtRoutes();
  #endpoint: VxlanEndpoint | undefined;
  /** Of each remote end, configured ones first: its socket address for the kernel, */
  #memory: Mapping | undefined;
  /** its address as four words, */
  readonly #addresses: Int32Array;
  /** and the longest frame that fits the path, 0 where there is none. */
  readonly #fits_bytes: Int32Array;
  readonly #configured: number;
  #remotes = 0;
  #lastRemote = 0;
  /** Of each entry of a queue: the socket that its flow is sent by. */
  readonly #socketOf = new Uint8Array(FRAMES_MAX_COUNT);
  /** The kernel, or a device, cannot cut: each segment is a message. */
  #cutsItself = true;
  #isOpen = false;

  constructor(link: Link, settings: VxlanSettings) {
    this.#link = link;
    this.#settings = settings;
    this.#arena = link.loop.pool.arena;
    this.#held = new FrameTable(link.loop.pool);
    this.#configured = settings.remotes.length;
    const most = this.#configured + (settings.anySender === true ? STRANGERS_MAX_COUNT : 0);
    this.#addresses = new Int32Array(most * 4);
    this.#fits_bytes = new Int32Array(most);
    this.#timer = new Timer(() => (this.#endpoint === undefined ? this.#tryOpen() : this.#lookAtRoutes()));
  }

  open(): void {
    this.#isOpen = true;
    this.#tryOpen();
  }

  #tryOpen(): void {
    const { loop } = this.#link;
    const { vni, port, remotes, dontFragment = false } = this.#settings;
    const local = this.#settings.local ?? (remotes[0]?.address.includes(':') === true ? '::' : '0.0.0.0');
    try {
      if (this.#memory === undefined) this.#layRemotes(local);
      const endpoint = endpointAt(loop, local, port, dontFragment);
      if (!endpoint.add(vni, this)) {
        this.#fail(`another port has VNI ${vni} at ${formatEndpoint({ host: local, port })}`);
        return;
      }
      this.#endpoint = endpoint;
      interfacesOf(loop).add(this.#look);
    } catch (error) {
      this.#fail(`VXLAN ${vni} cannot be spoken: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    this.#backoff.reset();
    this.#lookAtRoutes();
  }

  #fail(reason: string): void {
    this.#link.setState('error', reason);
    this.#link.loop.timers.arm(this.#timer, this.#link.loop.now_ms + this.#backoff.next_ms());
  }

  close(): void {
    const { loop } = this.#link;
    loop.timers.cancel(this.#timer);
    if (this.#endpoint !== undefined) {
      interfacesOf(loop).remove(this.#look);
      leaveEndpoint(loop, this.#endpoint, this.#settings.vni);
    }
    this.#endpoint = undefined;
    if (this.#isOpen) this.#held.releaseAll();
    this.#isOpen = false;
    this.#memory?.unmap();
    this.#memory = undefined;
  }

  /** Word 0 of the mapping is for the header; socket addresses follow. */
  #layRemotes(local: string): void {
    const { remotes, vni } = this.#settings;
    const memory = mapAnonymous((this.#fits_bytes.length + 1) * SOCKADDR_BYTES);
    this.#memory = memory;
    this.#remotes = 0;
    vxlan.emit(memory.view, 0, vni);
    for (const { address, port } of remotes) {
      if (address.includes(':') !== local.includes(':'))
        throw new HostError(
          'sockaddr',
          EINVAL,
          `${address} from ${local}`,
          'both must be IPv4, or both IPv6',
        );
      this.#layRemote(inetAddressBytes(address, port));
    }
  }

  #layRemote(sockaddr: Uint8Array): number {
    const index = this.#remotes++;
    const at = (index + 1) * SOCKADDR_BYTES;
    const { bytes, view } = this.#memory!;
    bytes.set(sockaddr, at);
    if (sockaddr.length === 16) this.#addresses[index * 4] = view.getInt32(at + 4, true);
    else for (let i = 0; i < 4; i++) this.#addresses[index * 4 + i] = view.getInt32(at + 8 + i * 4, true);
    return index;
  }

  /** Which remote ends can be reached, and by what length of frame. */
  #lookAtRoutes(): void {
    const { remotes, local, dontFragment = false } = this.#settings;
    const lost: string[] = [];
    let fits_bytes = Infinity;
    for (const [index, { address }] of remotes.entries()) {
      const mtu_bytes = routeMtu(address, local);
      const outer_bytes = (address.includes(':') ? 40 : 20) + UDP_VXLAN_BYTES;
      this.#fits_bytes[index] = mtu_bytes > 0 ? mtu_bytes - outer_bytes : 0;
      if (mtu_bytes < 0) lost.push(`${address} (${errnoName(-mtu_bytes)})`);
      else fits_bytes = Math.min(fits_bytes, mtu_bytes - outer_bytes);
    }
    const { timers, now_ms } = this.#link.loop;
    timers.arm(this.#timer, now_ms + LOOK_EVERY_MS);
    if (lost.length > 0 && lost.length === remotes.length) {
      this.#link.setState('connecting', `no route to ${lost.join(', ')}: ip route get says why`);
      return;
    }
    const notes: string[] = [];
    if (lost.length > 0) notes.push(`no route to ${lost.join(', ')}`);
    const stations_bytes = fits_bytes - ETHERNET_BYTES;
    if (stations_bytes < STATION_MTU_BYTES)
      notes.push(
        `the path takes packets of ${stations_bytes} bytes from the stations, longer ones are ${dontFragment ? 'dropped' : 'sent in fragments'}: ` +
          `raise the MTU between the tunnel's ends by ${STATION_MTU_BYTES - stations_bytes}, or lower the stations'`,
      );
    this.#link.setState('up', notes.length === 0 ? null : notes.join('; '));
  }

  // Receiving.

  refuse(): void {
    this.#link.counters[C.dropTunnelHeader]!++;
  }

  arrive(endpoint: VxlanEndpoint, slot: number, at: number, length_bytes: number, room_bytes: number): void {
    const link = this.#link;
    const row = link.counters;
    const { view } = this.#arena;
    const remote = this.#remoteOf(endpoint);
    if (remote < 0) {
      row[C.dropTunnelSender]!++;
      return;
    }
    const held = this.#held;
    if (held.free === 0) {
      row[C.dropQueueFull]!++;
      return;
    }
    const high = view.getUint16(at + 6);
    if ((high & 0x0100) === 0) {
      const now_s = Math.floor(link.loop.now_ms / 1000) | 0;
      if (this.#stations.learn(high, view.getInt32(at + 8), remote, now_s) === REPLACED)
        row[C.stationsReplaced]!++;
    }
    link.loop.pool.retain(slot);
    // From a tunnel of the same host checksums may come unfinished, as between any virtual interfaces.
    const left = unfinishedChecksum(view, at, length_bytes);
    const w0 = left === 0 ? 0 : virtioNet.F_NEEDS_CSUM;
    // Room of 16 bytes or more promises a word boundary.
    const room = (at & 3) === 0 ? room_bytes : Math.min(room_bytes, vxlan.LENGTH);
    held.push(slot, at, length_bytes, w0, (left & 0xffff) << 16, left >>> 16, room);
    link.wake();
  }

  /** Who sent the datagram in hand; -1 for a stranger. */
  #remoteOf(endpoint: VxlanEndpoint): number {
    if (this.#isRemote(this.#lastRemote, endpoint)) return this.#lastRemote;
    for (let index = 0; index < this.#remotes; index++)
      if (this.#isRemote(index, endpoint)) return (this.#lastRemote = index);
    if (this.#remotes >= this.#fits_bytes.length) return -1;
    // Once for each of a bounded number of strangers.
    const { buffer } = this.#senderBytes(endpoint);
    const sockaddr = inetAddressBytes(formatIp(new Uint8Array(buffer)), this.#settings.port);
    const index = this.#layRemote(sockaddr);
    const mtu_bytes = routeMtu(formatIp(new Uint8Array(buffer)), this.#settings.local);
    this.#fits_bytes[index] = Math.max(0, mtu_bytes - (endpoint.isIpv6 ? 40 : 20) - UDP_VXLAN_BYTES);
    return (this.#lastRemote = index);
  }

  #senderBytes(endpoint: VxlanEndpoint): Uint8Array {
    return new Uint8Array(endpoint.sender.slice(0, endpoint.isIpv6 ? 4 : 1).buffer);
  }

  #isRemote(index: number, { sender, isIpv6 }: VxlanEndpoint): boolean {
    const addresses = this.#addresses;
    const w = index * 4;
    if (index >= this.#remotes || addresses[w] !== sender[0]) return false;
    return (
      !isIpv6 ||
      (addresses[w + 1] === sender[1] && addresses[w + 2] === sender[2] && addresses[w + 3] === sender[3])
    );
  }

  receive(frames: FrameTable, limit: number): boolean {
    const held = this.#held;
    const count = Math.min(limit, held.count);
    for (let frame = 0; frame < count; frame++) frames.pushCopy(frame, held);
    held.shift(count);
    return held.count > 0;
  }

  // Sending.

  transmit(frames: FrameTable, queue: Queue): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined) {
      countAllDropped(this.#link.counters, queue, C.dropNotUp);
      return;
    }
    const { view } = this.#arena;
    const { words } = frames;
    let used = 0;
    for (let i = 0; i < queue.count; i++) {
      const w = queue.frame(i) * FRAME_WORDS;
      const socket = flowHash(view, words[w + AT]!, words[w + LENGTH]!) & (SEND_SOCKETS_COUNT - 1);
      this.#socketOf[i] = socket;
      used |= 1 << socket;
    }
    for (let socket = 0; socket < SEND_SOCKETS_COUNT; socket++)
      if ((used & (1 << socket)) !== 0) this.#transmitBy(endpoint, socket, frames, queue);
  }

  #transmitBy(endpoint: VxlanEndpoint, socket: number, frames: FrameTable, queue: Queue): void {
    const fd = endpoint.sendFds[socket]!;
    const { words } = frames;
    const { view } = this.#arena;
    const row = this.#link.counters;
    const now_s = Math.floor(this.#link.loop.now_ms / 1000) | 0;
    let count = 0;
    for (let i = 0; i < queue.count; i++) {
      if (this.#socketOf[i] !== socket) continue;
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      const w = frame * FRAME_WORDS;
      const at = words[w + AT]!;
      countSent(row, view, frames, frame, edit);
      const isSuper = (words[w + W0]! & 0xff00) !== 0;
      if (!isSuper && !this.#complete(words, w)) continue;
      const high = view.getUint16(at);
      const known = (high & 0x0100) !== 0 ? -1 : this.#stations.lookup(high, view.getInt32(at + 2), now_s);
      const end = known < 0 ? this.#configured : known + 1;
      for (let remote = known < 0 ? 0 : known; remote < end; remote++) {
        if (isSuper) {
          // What was laid before goes first: of one flow the order stays.
          this.#send(endpoint, fd, count);
          count = 0;
          this.#sendSuper(endpoint, fd, words, w, edit, remote);
          continue;
        }
        if (!this.#lay(endpoint, count, words, w, edit, remote)) continue;
        if (++count === BATCH_COUNT) {
          this.#send(endpoint, fd, count);
          count = 0;
        }
      }
    }
    this.#send(endpoint, fd, count);
  }

  #complete(words: Int32Array, w: number): boolean {
    if ((words[w + W0]! & virtioNet.F_NEEDS_CSUM) === 0) return true;
    const row = this.#link.counters;
    if (
      !completeChecksum(this.#arena.view, words[w + AT]!, words[w + LENGTH]!, words[w + W1]!, words[w + W2]!)
    ) {
      row[C.dropOffload]!++;
      return false;
    }
    words[w + W0] = 0;
    words[w + W1] = 0;
    words[w + W2] = 0;
    row[C.checksumsCompleted]!++;
    return true;
  }

  #name(remote: number): number {
    return this.#memory!.address + (remote + 1) * SOCKADDR_BYTES;
  }

  /** False, and counted, when it may not go. */
  #lay(
    endpoint: VxlanEndpoint,
    message: number,
    words: Int32Array,
    w: number,
    edit: number,
    remote: number,
  ): boolean {
    const arena = this.#arena;
    const at = words[w + AT]!;
    const length_bytes = words[w + LENGTH]!;
    const fits_bytes = this.#fits_bytes[remote]!;
    const isTooBig = length_bytes + vlan.growth(edit) > fits_bytes;
    if (isTooBig && (this.#settings.dontFragment === true || length_bytes > MESSAGE_MAX_BYTES)) {
      this.#link.counters[C.dropTooBig]!++;
      return false;
    }
    const batch = endpoint.outgoing;
    batch.pointName(message, this.#name(remote));
    batch.setPiece(message, 0, this.#memory!.address, vxlan.LENGTH);
    let pieces = 1;
    let from = 0;
    if (edit !== vlan.EDIT_NONE) {
      const head = arena.scratchAt + message * HEAD_BYTES;
      const head_bytes = vlan.emitEdited(arena.view, head, at, edit);
      from = vlan.editedFrom(edit);
      batch.setPiece(message, pieces++, arena.address + head, head_bytes);
    }
    batch.setPiece(message, pieces++, arena.address + at + from, length_bytes - from);
    batch.arm(message, pieces, endpoint.isIpv6 ? 28 : 16, 0);
    return true;
  }

  #send(endpoint: VxlanEndpoint, fd: number, count: number): void {
    const row = this.#link.counters;
    for (let from = 0; from < count;) {
      const n = raw.sendmmsg(fd, endpoint.outgoing.addressOf(from), count - from, raw.MSG_DONTWAIT);
      row[C.writeCalls]!++;
      if (n >= 0) from += n;
      else if (n === -EAGAIN || n === -ENOBUFS) {
        row[C.dropQueueFull]! += count - from;
        return;
      } else if (n !== -EINTR) {
        this.#refused(n);
        from++;
      }
    }
  }

  #refused(n: number): void {
    const row = this.#link.counters;
    row[n === -EMSGSIZE ? C.dropTooBig : C.ifOutErrors]!++;
    if (n !== -ENETUNREACH && n !== -EHOSTUNREACH) return;
    // Soon, not for every frame that is refused.
    const { timers, now_ms } = this.#link.loop;
    if (this.#timer.due_ms > now_ms + 1000) timers.arm(this.#timer, now_ms + 1000);
  }

  /** Segments that fit the path, as many to a message as it takes. */
  #sendSuper(
    endpoint: VxlanEndpoint,
    fd: number,
    words: Int32Array,
    w: number,
    edit: number,
    remote: number,
  ): void {
    const { view } = this.#arena;
    const segmenter = this.#segmenter;
    const row = this.#link.counters;
    const at = words[w + AT]!;
    const length_bytes = words[w + LENGTH]!;
    const w1 = words[w + W1]!;
    let count = segmenter.plan(view, at, length_bytes, words[w + W0]!, w1);
    const room_bytes = this.#fits_bytes[remote]! - segmenter.header_bytes - vlan.growth(edit);
    // Smaller segments are what the sender's own card would be free to make of a smaller MTU.
    if (count > 0 && segmenter.gsoSize > room_bytes && room_bytes >= 256)
      count = segmenter.plan(view, at, length_bytes, words[w + W0]!, (w1 & ~0xffff) | room_bytes);
    if (count < 0) {
      row[C.dropOffload]!++;
      return;
    }
    row[C.gsoSegmentedFrames]!++;
    row[C.gsoSegments]! += count;
    const segment_bytes = vxlan.LENGTH + segmenter.header_bytes + vlan.growth(edit) + segmenter.gsoSize;
    const most = Math.min(
      SEGMENTS_PER_MESSAGE,
      IOVECS_COUNT >>> 1,
      Math.floor(SCRATCH_BYTES / HEAD_BYTES),
      Math.max(1, Math.floor(MESSAGE_MAX_BYTES / segment_bytes)),
    );
    for (let first = 0; first < count;) {
      const end = Math.min(count, first + (this.#cutsItself ? most : 1));
      const n = this.#sendSegments(endpoint, fd, first, end, edit, remote, segment_bytes);
      if (n === -EINTR) continue;
      if ((n === -EIO || n === -EINVAL || n === -EMSGSIZE) && end - first > 1) {
        // The device cannot sum, or the path is narrower than we know: one by one from now on.
        this.#cutsItself = false;
        continue;
      }
      if (n === -EAGAIN || n === -ENOBUFS) {
        row[C.dropQueueFull]! += count - first;
        return;
      }
      if (n < 0) this.#refused(n);
      first = end;
    }
  }

  #sendSegments(
    endpoint: VxlanEndpoint,
    fd: number,
    first: number,
    end: number,
    edit: number,
    remote: number,
    segment_bytes: number,
  ): number {
    const arena = this.#arena;
    const { view } = arena;
    const segmenter = this.#segmenter;
    const header_bytes = segmenter.header_bytes;
    let pieces = 0;
    for (let i = first; i < end; i++) {
      const headerAt = arena.scratchAt + (i - first) * HEAD_BYTES + 16;
      segmenter.emitHeader(view, i, headerAt);
      const at = vlan.editInPlace(view, headerAt, edit);
      vxlan.emit(view, at - vxlan.LENGTH, this.#settings.vni);
      arena.setIovec(pieces++, at - vxlan.LENGTH, headerAt + header_bytes - at + vxlan.LENGTH);
      arena.setIovec(pieces++, segmenter.payloadAt(i), segmenter.payloadLength(i));
    }
    const batch = endpoint.super;
    batch.pointName(0, this.#name(remote));
    batch.pointPieces(0, arena.iovecsAddress);
    const control_bytes = end - first > 1 ? putGsoSegment(batch, 0, segment_bytes) : 0;
    batch.arm(0, pieces, endpoint.isIpv6 ? 28 : 16, control_bytes);
    this.#link.counters[C.writeCalls]!++;
    return raw.sendmsg(fd, batch.address, raw.MSG_DONTWAIT);
  }
}
