/**
 * A UDP address that VXLAN is spoken at (RFC 7348), shared by all ports of the engine that use it, each with a VNI of
 * its own: one socket that receives for all, and a few that send. A sender of the kernel's kind chooses the outer
 * source port by the inner flow, so that the network between can spread flows over its paths; here flows are spread
 * over sockets that are bound to ports of their own.
 *
 * Datagrams that the kernel has put together (UDP_GRO) are cut where they lie: their frames share one slot.
 */
import { randomInt } from 'node:crypto';
import { EADDRINUSE, EAGAIN, EINTR, HostError } from '../../host/errno.js';
import { EPOLLIN } from '../../host/epoll.js';
import { UDP_CONTROL_BYTES, groSegment, openUdp } from '../../host/inet.js';
import { MessageBatch } from '../../host/messages.js';
import * as raw from '../../host/raw.js';
import { AF_INET, AF_INET6 } from '../../host/socket.js';
import { SLOT_BYTES, SLOT_ROOM_BYTES } from '../engine/arena.js';
import type { Loop, Watcher } from '../engine/loop.js';
import { BURST_MAX_BYTES } from '../engine/port.js';
import * as vxlan from '../wire/vxlan.js';

const BATCH_COUNT = 32;
const BUFFER_BYTES = 8 * 1024 * 1024;
/** A power of two. */
export const SEND_SOCKETS_COUNT = 8;
/** RFC 7348 5: source ports come from the dynamic range (RFC 6335). */
const SOURCE_PORT_MIN = 49_152;
const SOURCE_PORT_MAX = 65_535;
const SOURCE_PORT_TRIES = 16;
const SOCKADDR_BYTES = 28;
/** Before the first frame of a slot: what stood there (the outer header) is read by then. */
const FIRST_ROOM_BYTES = SLOT_ROOM_BYTES + vxlan.LENGTH;

/** A port as its endpoint sees it. */
export interface VxlanReceiver {
  /** A frame from a sender, whose address is in the endpoint's `sender`. Takes a hold of its own on the slot. */
  arrive(endpoint: VxlanEndpoint, slot: number, at: number, length_bytes: number, room_bytes: number): void;
  /** Something came that is no VXLAN, or for a VNI that nobody has. */
  refuse(): void;
}

export class VxlanEndpoint implements Watcher {
  readonly key: string;
  readonly isIpv6: boolean;
  /** Of the datagram in hand: the sender's IP address as four words as they stand in memory; IPv4 in the first. */
  readonly sender = new Int32Array(4);
  readonly sendFds: number[] = [];
  /** For who sends: nothing in it outlives a call. */
  readonly outgoing = new MessageBatch({ count: BATCH_COUNT, pieces: 3 });
  readonly super = new MessageBatch({ count: 1, pieces: 1, control_bytes: UDP_CONTROL_BYTES });
  readonly #loop: Loop;
  readonly #fd: number;
  readonly #token: number;
  readonly #incoming: MessageBatch;
  readonly #slots = new Int32Array(BATCH_COUNT);
  readonly #receivers = new Map<number, VxlanReceiver>();
  #lastVni = -1;
  #lastReceiver: VxlanReceiver | undefined;
  #window = BATCH_COUNT;

  /** Throws HostError. */
  constructor(loop: Loop, key: string, local: string, port: number, dontFragment: boolean) {
    this.key = key;
    this.#loop = loop;
    this.isIpv6 = local.includes(':');
    this.#fd = openUdp(local, port, { dontFragment, gro: true, receive_bytes: BUFFER_BYTES });
    try {
      for (let i = 0; i < SEND_SOCKETS_COUNT; i++) this.sendFds.push(openSender(local, dontFragment));
      this.#token = loop.watch(this.#fd, EPOLLIN, this);
    } catch (error) {
      for (const fd of [this.#fd, ...this.sendFds]) raw.close(fd);
      throw error;
    }
    this.#incoming = new MessageBatch({
      count: BATCH_COUNT,
      pieces: 1,
      name_bytes: SOCKADDR_BYTES,
      control_bytes: UDP_CONTROL_BYTES,
    });
  }

  /** False when another port has this VNI here. */
  add(vni: number, receiver: VxlanReceiver): boolean {
    if (this.#receivers.has(vni)) return false;
    this.#receivers.set(vni, receiver);
    return true;
  }

  /** True when nobody is left: the endpoint is closed. */
  remove(vni: number): boolean {
    this.#receivers.delete(vni);
    this.#lastVni = -1;
    this.#lastReceiver = undefined;
    if (this.#receivers.size > 0) return false;
    this.#loop.unwatch(this.#token);
    for (const fd of [this.#fd, ...this.sendFds]) raw.close(fd);
    for (const batch of [this.outgoing, this.super, this.#incoming]) batch.close();
    return true;
  }

  ready(): void {
    const { pool } = this.#loop;
    const { arena } = pool;
    const incoming = this.#incoming;
    let wanted = 0;
    for (; wanted < this.#window; wanted++) {
      const slot = pool.take();
      if (slot < 0) break;
      this.#slots[wanted] = slot;
      incoming.setPiece(
        wanted,
        0,
        arena.address + arena.slotAt(slot) + SLOT_ROOM_BYTES,
        SLOT_BYTES - SLOT_ROOM_BYTES,
      );
      incoming.armToReceive(wanted, 1);
    }
    // With no slot at all the socket stays readable, and is asked again in the next turn.
    if (wanted === 0) return;
    const n = raw.recvmmsg(this.#fd, incoming.address, wanted, raw.MSG_DONTWAIT);
    let bytes = 0;
    for (let i = 0; i < n; i++) {
      bytes += incoming.length_bytes(i);
      this.#take(i);
    }
    for (let i = wanted - 1; i >= 0; i--) pool.release(this.#slots[i]!);
    if (n > 0)
      this.#window = Math.max(1, Math.min(BATCH_COUNT, Math.ceil((BURST_MAX_BYTES * n) / (bytes + 1))));
    else if (n < 0 && n !== -EAGAIN && n !== -EINTR) this.#first()?.refuse();
  }

  #first(): VxlanReceiver | undefined {
    for (const receiver of this.#receivers.values()) return receiver;
    return undefined;
  }

  #take(message: number): void {
    const incoming = this.#incoming;
    const slot = this.#slots[message]!;
    const start = this.#loop.pool.arena.slotAt(slot) + SLOT_ROOM_BYTES;
    const end = start + incoming.length_bytes(message);
    if ((incoming.flags(message) & raw.MSG_TRUNC) !== 0 || !this.#readSender(message)) {
      this.#first()?.refuse();
      return;
    }
    const segment = groSegment(incoming, message);
    const step = segment > 0 ? segment : end - start;
    for (let from = start; from < end; from += step)
      this.#deliver(slot, from, Math.min(from + step, end), from === start ? FIRST_ROOM_BYTES : vxlan.LENGTH);
  }

  #deliver(slot: number, from: number, end: number, room_bytes: number): void {
    const { view } = this.#loop.pool.arena;
    if (!vxlan.check(view, from, end)) {
      this.#first()?.refuse();
      return;
    }
    const vni = vxlan.vni(view, from);
    if (vni !== this.#lastVni) {
      this.#lastVni = vni;
      this.#lastReceiver = this.#receivers.get(vni);
    }
    if (this.#lastReceiver === undefined) this.#first()?.refuse();
    else this.#lastReceiver.arrive(this, slot, from + vxlan.LENGTH, end - from - vxlan.LENGTH, room_bytes);
  }

  #readSender(message: number): boolean {
    const { view } = this.#incoming;
    const at = this.#incoming.nameAt(message);
    const family = view.getUint16(at, true);
    if (family === AF_INET && !this.isIpv6) {
      this.sender[0] = view.getInt32(at + 4, true);
      return true;
    }
    if (family !== AF_INET6 || !this.isIpv6) return false;
    for (let i = 0; i < 4; i++) this.sender[i] = view.getInt32(at + 8 + i * 4, true);
    return true;
  }
}

/** A socket with a port of the dynamic range. */
function openSender(local: string, dontFragment: boolean): number {
  const options = { dontFragment, send_bytes: BUFFER_BYTES, receive_bytes: 4096 };
  for (let attempt = 0; attempt < SOURCE_PORT_TRIES; attempt++) {
    try {
      return openUdp(local, randomInt(SOURCE_PORT_MIN, SOURCE_PORT_MAX + 1), options);
    } catch (error) {
      if (!(error instanceof HostError) || error.errno !== EADDRINUSE) throw error;
    }
  }
  return openUdp(local, 0, options);
}

const endpoints = new WeakMap<Loop, Map<string, VxlanEndpoint>>();

/** The endpoint at an address, made when it is the first to be asked for. Throws HostError. */
export function endpointAt(loop: Loop, local: string, port: number, dontFragment: boolean): VxlanEndpoint {
  let all = endpoints.get(loop);
  if (all === undefined) endpoints.set(loop, (all = new Map<string, VxlanEndpoint>()));
  const key = `${local} ${port} ${dontFragment}`;
  let endpoint = all.get(key);
  if (endpoint === undefined)
    all.set(key, (endpoint = new VxlanEndpoint(loop, key, local, port, dontFragment)));
  return endpoint;
}

/** A port that is done with it. */
export function leaveEndpoint(loop: Loop, endpoint: VxlanEndpoint, vni: number): void {
  if (endpoint.remove(vni)) endpoints.get(loop)?.delete(endpoint.key);
}
