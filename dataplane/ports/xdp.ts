/**
 * An interface of the host as a port by AF_XDP: frames leave the driver before the host's stack makes anything of
 * them, and come into memory that the switch forwards from.
 *
 *   mode       driver puts frames            where the program runs
 *   zerocopy   into our memory by DMA        in the driver
 *   copy       one copy                      in the driver
 *   generic    one copy                      behind the driver, on a socket buffer: any driver; super-frames are lost
 *   auto       zerocopy, else copy           then the packet port (packet.ts), which is the better one without a driver's help
 *
 * Whatever cannot be had becomes the packet port, and the port's state says why. Every receiving queue has a socket
 * (xdpQueue.ts); all is sent by the first. The program is tied to the interface by a link that ends with our fd, so a
 * plane that dies leaves nothing behind.
 *
 * Between virtual interfaces checksums arrive unfinished, without a word; wire/unfinished.ts finds them, and
 * they are completed when a port needs that. A VLAN tag that such a sender hands beside the frame (its own VLAN device,
 * with `ethtool -K PEER txvlan on`) is not seen by any program at XDP: the frame comes without it. Cards are told to leave
 * tags in the frames, and told back when the port closes.
 */
import * as bpf from '../../host/bpf.js';
import { EBUSY, EINVAL, ENODEV, EOPNOTSUPP, EPERM, HostError, errnoName } from '../../host/errno.js';
import { EPOLLIN } from '../../host/epoll.js';
import { receiveQueues, setReceiveVlanOffload } from '../../host/ethtool.js';
import type { Link as HostLink } from '../../host/netlink.js';
import { openPacketSocket } from '../../host/packet.js';
import * as raw from '../../host/raw.js';
import { XDP_CHUNK_BYTES, XDP_HEADROOM_BYTES, XdpSocket, loadXdpProgram } from '../../host/xdp.js';
import { C } from '../engine/counters.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Watcher } from '../engine/loop.js';
import type { Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import { findInterface, interfacesOf, noSuchInterface, whyNotUp } from './interfaces.js';
import { PacketPort } from './packet.js';
import { countAllDropped, countSent } from './sent.js';
import { XdpQueue } from './xdpQueue.js';

export type XdpMode = 'auto' | 'zerocopy' | 'copy' | 'generic';
type Attempt = Exclude<XdpMode, 'auto'>;

export interface XdpSettings {
  ifname: string;
  mode: XdpMode;
  /** At most so many receiving queues are served. */
  queues?: number | undefined;
}

const QUEUES_MAX_COUNT = 16;
const RING_ENTRIES = 2048;
/** Chunks that the kernel has to put frames into, of all queues of a port. */
const FILL_COUNT = 1024;
const FILL_MIN_COUNT = 128;
/** A driver is done with its rings long before. */
const LET_GO_AFTER_MS = 1000;
/** Frames that the kernel had no room for are told again, chunks that were not to be had asked for. */
const KICK_AGAIN_MS = 1;
/**
 * So many times nothing in a row before the port waits to be woken: some 50 us. Waking a thread for every few frames
 * costs the sender more than all else, where processors are virtual; while nobody waits the kernel wakes nobody.
 */
const IDLE_TURNS_MAX = 100;
/** What the kernel keeps behind a frame in its chunk (struct skb_shared_info), and room for two tags. */
const TAIL_BYTES = 320 + 8;
const MTU_MAX_BYTES = XDP_CHUNK_BYTES - XDP_HEADROOM_BYTES - TAIL_BYTES - ethernet.LENGTH;

export class XdpPort implements Port, Watcher {
  readonly kind = 'xdp';
  readonly #link: Link;
  readonly #settings: XdpSettings;
  readonly #look = (): void => this.#lookAtInterface();
  readonly #kickAgain: Timer;
  #isOpen = false;
  #queues: XdpQueue[] = [];
  #sockets: XdpSocket[] = [];
  readonly #tokens: number[] = [];
  #fds: number[] = [];
  #map: bpf.BpfMap | undefined;
  #tookTags: boolean | undefined;
  #ifindex = 0;
  #mtu_bytes = 0;
  #room_bytes = 0;
  #note: string | null = null;
  #fallback: PacketPort | undefined;
  /** The queue that is asked first. */
  #turn = 0;
  /** Times in a row that nothing came. */
  #idleTurns = 0;

  constructor(link: Link, settings: XdpSettings) {
    this.#link = link;
    this.#settings = settings;
    this.#kickAgain = new Timer(() => this.#tryAgain());
  }

  /** Of the interface while the port has it; 0. */
  get ifindex(): number {
    return this.#ifindex;
  }

  open(): void {
    this.#isOpen = true;
    try {
      interfacesOf(this.#link.loop).add(this.#look);
    } catch (error) {
      this.#link.setState('error', error instanceof Error ? error.message : String(error));
    }
    this.#lookAtInterface();
  }

  close(): void {
    if (this.#isOpen) interfacesOf(this.#link.loop).remove(this.#look);
    this.#isOpen = false;
    this.#detach();
  }

  #lookAtInterface(): void {
    const { ifname } = this.#settings;
    const found = findInterface(ifname);
    const isOther = found?.index !== this.#ifindex || found.mtu_bytes !== this.#mtu_bytes;
    if (this.#ifindex !== 0 && isOther) this.#detach();
    if (found === undefined) {
      this.#link.setState('error', noSuchInterface(ifname));
      return;
    }
    if (this.#ifindex === 0) this.#attach(found);
    if (this.#fallback !== undefined) return;
    const problem = whyNotUp(found);
    if (problem !== undefined) this.#link.setState(problem.state, problem.reason);
    else {
      this.#link.setState('up', this.#note);
      this.#link.wake();
    }
  }

  /** By the best way there is. Afterwards there are queues, or a fallback. */
  #attach(found: HostLink): void {
    const { ifname, mode } = this.#settings;
    this.#ifindex = found.index;
    this.#mtu_bytes = found.mtu_bytes;
    this.#room_bytes = found.mtu_bytes + ethernet.LENGTH + vlan.LENGTH;
    const refusals: string[] = [];
    const attempts: Attempt[] = mode === 'auto' ? ['zerocopy', 'copy'] : [mode];
    if (found.mtu_bytes > MTU_MAX_BYTES) {
      refusals.push(`its MTU of ${found.mtu_bytes} is more than a frame of AF_XDP holds (${MTU_MAX_BYTES})`);
      attempts.length = 0;
    }
    if (this.#link.loop.pool.arena.chunks === 0) {
      refusals.push('the engine has no memory for it');
      attempts.length = 0;
    }
    for (const attempt of attempts) {
      try {
        this.#attachBy(found, attempt);
        this.#note = [
          attempt === 'zerocopy' ? '' : `AF_XDP in mode ${attempt}`,
          ...refusals,
          this.#unserved(ifname),
        ]
          .filter(text => text !== '')
          .join('; ');
        if (this.#note === '') this.#note = null;
        return;
      } catch (error) {
        this.#detachSockets();
        refusals.push(`${attempt}: ${reasonOf(error)}`);
      }
    }
    const note = `by packet socket, not by AF_XDP: ${refusals.join('; ')}`;
    this.#fallback = new PacketPort(this.#link, { ifname }, note);
    this.#fallback.open();
  }

  #attachBy(found: HostLink, attempt: Attempt): void {
    const { ifname } = this.#settings;
    const { pool } = this.#link.loop;
    const { arena } = pool;
    const count = Math.min(
      receiveQueues(ifname),
      this.#settings.queues ?? QUEUES_MAX_COUNT,
      QUEUES_MAX_COUNT,
    );
    this.#map = new bpf.BpfMap({
      type: bpf.MAP_TYPE_XSKMAP,
      key_bytes: 4,
      value_bytes: 4,
      entries: count,
      name: 'weft_xsks',
    });
    const program = loadXdpProgram(this.#map.fd);
    this.#fds.push(program);
    const flags = attempt === 'generic' ? bpf.XDP_FLAGS_SKB_MODE : bpf.XDP_FLAGS_DRV_MODE;
    this.#fds.push(bpf.createLink(program, found.index, bpf.ATTACH_XDP, flags));
    // Only the promiscuous mode, for as long as it is open.
    const promiscuous = openPacketSocket({ ifname, receive: false, promiscuous: true, nonBlocking: true });
    this.#fds.push(promiscuous);
    this.#tookTags = setReceiveVlanOffload(ifname, false);
    for (let queue = 0; queue < count; queue++) {
      const socket = new XdpSocket({
        ifindex: found.index,
        queue,
        umemAddress: arena.address + arena.chunksAt,
        umem_bytes: arena.chunks * XDP_CHUNK_BYTES,
        ring: RING_ENTRIES,
        zeroCopy: attempt === 'zerocopy',
      });
      this.#sockets.push(socket);
      const mayBeUnfinished = found.kind !== undefined || attempt === 'generic';
      const fill = Math.max(FILL_MIN_COUNT, Math.floor(FILL_COUNT / count));
      const each = new XdpQueue(socket, pool, this.#link.counters, fill, mayBeUnfinished);
      this.#queues.push(each);
      each.refill();
      this.#map.key.setUint32(0, queue, true);
      this.#map.value.setUint32(0, socket.fd, true);
      const result = this.#map.update();
      if (result < 0) throw new HostError('BPF_MAP_UPDATE_ELEM', -result, `queue ${queue}`);
      this.#tokens.push(this.#link.loop.watch(socket.fd, EPOLLIN, this));
    }
  }

  /** In words, when the interface has queues that nobody serves. */
  #unserved(ifname: string): string {
    const all = receiveQueues(ifname);
    const served = this.#queues.length;
    return served >= all
      ? ''
      : `only ${served} of its ${all} queues are served, frames of the others go to the host: ethtool -L ${ifname} combined ${served}`;
  }

  #detachSockets(): void {
    const { loop } = this.#link;
    for (const token of this.#tokens.splice(0)) loop.unwatch(token);
    // The link first: it is the last that was opened but for the promiscuous mode.
    for (const fd of this.#fds.splice(0).reverse()) raw.close(fd);
    for (const socket of this.#sockets.splice(0)) socket.close();
    this.#map?.close();
    this.#map = undefined;
    const queues = this.#queues;
    this.#queues = [];
    if (queues.length > 0)
      loop.timers.arm(
        new Timer(() => queues.forEach(queue => queue.releaseAll())),
        loop.now_ms + LET_GO_AFTER_MS,
      );
    if (this.#tookTags === true) {
      try {
        setReceiveVlanOffload(this.#settings.ifname, true);
      } catch {
        // The interface has gone: so has what was to be set back.
      }
    }
    this.#tookTags = undefined;
  }

  #detach(): void {
    this.#link.loop.timers.cancel(this.#kickAgain);
    this.#fallback?.close();
    this.#fallback = undefined;
    this.#detachSockets();
    this.#ifindex = 0;
    this.#turn = 0;
  }

  ready(): void {
    this.#idleTurns = 0;
    this.#link.wake();
  }

  receive(frames: FrameTable, limit: number): boolean {
    if (this.#fallback !== undefined) return this.#fallback.receive(frames, limit);
    const queues = this.#queues;
    let left = limit;
    for (let i = 0; i < queues.length && left > 0; i++) {
      if (++this.#turn >= queues.length) this.#turn = 0;
      const queue = queues[this.#turn]!;
      left -= queue.receive(frames, left);
      if (queue.isStarved) this.#again();
    }
    this.#idleTurns = left === limit ? this.#idleTurns + 1 : 0;
    return this.#idleTurns < IDLE_TURNS_MAX && queues.length > 0;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    if (this.#fallback !== undefined) {
      this.#fallback.transmit(frames, queue);
      return;
    }
    const row = this.#link.counters;
    const out = this.#queues[0];
    if (out === undefined) {
      countAllDropped(row, queue, C.dropNotUp);
      return;
    }
    const { view } = this.#link.loop.pool.arena;
    out.reap();
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      if (out.put(frames, frame, edit, this.#room_bytes)) countSent(row, view, frames, frame, edit);
    }
    this.#kick();
  }

  #kick(): void {
    const out = this.#queues[0];
    if (out === undefined) return;
    out.reap();
    const result = out.kick();
    if (result < 0) {
      this.#link.counters[C.ifOutErrors]!++;
      // Down or gone: the watch tells, or has told.
      this.#lookAtInterface();
      return;
    }
    if (out.hasUntold) this.#again();
  }

  #again(): void {
    const { timers, now_ms } = this.#link.loop;
    if (!this.#kickAgain.isArmed) timers.arm(this.#kickAgain, now_ms + KICK_AGAIN_MS);
  }

  /** What the kernel, or the pool, had no room for a moment ago. */
  #tryAgain(): void {
    this.#kick();
    for (const queue of this.#queues) {
      queue.refill();
      if (queue.isStarved) this.#again();
    }
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof HostError)) return error instanceof Error ? error.message : String(error);
  if (error.errno === EOPNOTSUPP || error.errno === EINVAL)
    return `the driver or the kernel lacks it (${error.syscall}: ${errnoName(error.errno)})`;
  if (error.errno === EBUSY)
    return 'another XDP program or socket has the interface: ip link show says which';
  if (error.errno === EPERM)
    return 'this process lacks CAP_NET_ADMIN, CAP_NET_RAW or CAP_BPF: run it as root';
  if (error.errno === ENODEV) return 'the interface has gone';
  return error.message;
}
