/**
 * A guest's virtio-blk driver and its QEMU in one: memory that it shares, split rings in it, and the dialogue of vhost-user. It
 * polls, so that tests can turn the loop in between and a benchmark measures nothing else.
 *
 *   memory   | queue 0 | queue 1 | … (QUEUE_BYTES each: descriptors, available, used, then a header and a status for
 *            |   each descriptor) | data
 *   user addresses are USER + offset, guest addresses GUEST + offset
 *
 * What a driver may do wrong, a test does by writing into `memory` itself, or by `raw`.
 */
import { EAGAIN } from '../../../host/errno.js';
import { EventFd } from '../../../host/eventfd.js';
import { F_SEAL_SHRINK, ForeignMemory, createMemfd } from '../../../host/foreign.js';
import { close } from '../../../host/raw.js';
import { recvFds, sendFds, unixPair } from '../../../host/unix.js';
import {
  FLAG_NEED_REPLY,
  HEADER_LENGTH,
  PROTOCOL,
  REQUEST,
  VERSION,
  emitConfig,
  emitHeader,
  emitInflight,
  emitMemTable,
  emitU64,
  emitVringAddress,
  emitVringState,
  parseInflight,
  type Inflight,
} from '../../../host/vhost/wire.js';
import { F } from '../../../storage/vhost/virtioBlk.js';

export const USER = 0x7f00_0000_0000;
export const GUEST = 0x1_0000_0000;
export const QUEUE_BYTES = 0x20000;
const AVAIL_AT = 0x4000;
const USED_AT = 0x5000;
/** Header of 16 bytes, status, and a table of indirect descriptors, for each request. */
const HEADERS_AT = 0x8000;
export const HEADER_STEP = 64;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export const bits = (...features: number[]): bigint =>
  features.reduce((all, feature) => all | (1n << BigInt(feature)), 0n);

/** VERSION_1, FLUSH, PROTOCOL_FEATURES. */
export const PLAIN = bits(32, F.FLUSH, 30);
export const EVENT_IDX = bits(29);

export interface DriverOptions {
  readonly features?: bigint;
  readonly queues?: number;
  readonly num?: number;
  readonly data_bytes?: number;
  /** So that the other side gets to answer. */
  readonly turn: () => void;
}

export interface Descriptor {
  /** Offset in the memory. */
  readonly at: number;
  readonly length: number;
  readonly write: boolean;
}

export class Driver {
  readonly num: number;
  readonly queues: number;
  readonly memory: ForeignMemory;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly u16: Uint16Array;
  readonly dataAt: number;
  readonly kicks: EventFd[] = [];
  readonly calls: EventFd[] = [];
  /** QEMU's end of the channel on which a back-end says that its configuration changed. */
  readonly channel: number;
  kicked = 0;
  #socket = -1;
  #options: DriverOptions;
  #memfd: number;
  #channelOther: number;
  #inflight: { fd: number; area: Inflight } | null = null;
  /** Free-running: next to be made available, next to be taken back. */
  readonly available: number[] = [];
  readonly used: number[] = [];

  constructor(options: DriverOptions) {
    this.#options = options;
    this.num = options.num ?? 64;
    this.queues = options.queues ?? 1;
    this.dataAt = this.queues * QUEUE_BYTES;
    const length_bytes = this.dataAt + (options.data_bytes ?? 1 << 20);
    this.#memfd = createMemfd('guest', length_bytes, F_SEAL_SHRINK);
    this.memory = new ForeignMemory(this.#memfd, 0, length_bytes);
    const { view, bytes } = this.memory.windows[0]!;
    this.view = view;
    this.bytes = bytes;
    this.u16 = new Uint16Array(bytes.buffer, bytes.byteOffset, length_bytes >>> 1);
    [this.channel, this.#channelOther] = unixPair();
    for (let q = 0; q < this.queues; q++) {
      this.available.push(0);
      this.used.push(0);
      this.kicks.push(EventFd.create());
      this.calls.push(EventFd.create());
    }
  }

  get socket(): number {
    return this.#socket;
  }

  message(request: number, payload: (view: DataView) => number, fds: number[] = [], flags = 0): void {
    const bytes = new Uint8Array(512);
    const view = new DataView(bytes.buffer);
    const size = payload(new DataView(bytes.buffer, HEADER_LENGTH));
    emitHeader(view, 0, { request, flags: VERSION | flags, size });
    sendFds(this.#socket, bytes.subarray(0, HEADER_LENGTH + size), fds);
    this.#options.turn();
  }

  /** The payload of the next reply, with fds; undefined: none came in `turns`, or it hung up. */
  reply(turns = 20_000): { view: DataView; fds: number[] } | undefined {
    const bytes = new Uint8Array(512);
    const view = new DataView(bytes.buffer);
    const fds: number[] = [];
    let have = 0;
    for (let i = 0; i < turns; i++) {
      const got = recvFds(this.#socket, bytes.subarray(have), 2);
      if (got.length_bytes === 0) return undefined;
      if (got.length_bytes === -EAGAIN) this.#options.turn();
      else have += got.length_bytes;
      fds.push(...got.fds);
      const length = have < HEADER_LENGTH ? Infinity : view.getUint32(8, true);
      if (have === HEADER_LENGTH + length)
        return { view: new DataView(bytes.buffer, HEADER_LENGTH, length), fds };
    }
    return undefined;
  }

  u64(request: number, value: bigint, fds: number[] = []): void {
    this.message(request, view => emitU64(view, 0, value), fds);
  }
  state(request: number, index: number, num: number): void {
    this.message(request, view => emitVringState(view, 0, { index, num }));
  }
  askU64(request: number): bigint {
    this.message(request, () => 0);
    return this.reply()!.view.getBigUint64(0, true);
  }

  /** The disk's configuration, from its beginning on. */
  config(length = 72): DataView {
    this.message(REQUEST.GET_CONFIG, view => emitConfig(view, 0, 0, new Uint8Array(length)));
    const { view } = this.reply()!;
    return new DataView(view.buffer, view.byteOffset + 12, view.byteLength - 12);
  }

  setMemory(): void {
    const size_bytes = this.memory.length_bytes;
    // Two regions, so that data crosses a border where QEMU has the hole below 4 GiB.
    const half = Math.floor(size_bytes / 8192) * 4096;
    const regions = [
      { guestAddress: GUEST, size_bytes: half, userAddress: USER, mmapOffset_bytes: 0 },
      {
        guestAddress: GUEST + half,
        size_bytes: size_bytes - half,
        userAddress: USER + half,
        mmapOffset_bytes: half,
      },
    ];
    const fds = regions.map(() => this.#memfd);
    this.message(REQUEST.SET_MEM_TABLE, view => emitMemTable(view, 0, regions), fds, FLAG_NEED_REPLY);
    this.reply();
  }

  /** All that QEMU says until its guest's driver runs; again after a reconnect. */
  begin(socket: number): void {
    this.#socket = socket;
    const features = (this.#options.features ?? PLAIN) | (1n << 30n);
    this.askU64(REQUEST.GET_FEATURES);
    const notes = 1n << BigInt(PROTOCOL.INFLIGHT_SHMFD);
    const keeps = (this.askU64(REQUEST.GET_PROTOCOL_FEATURES) & notes) !== 0n;
    const protocol = bits(PROTOCOL.MQ, PROTOCOL.REPLY_ACK, PROTOCOL.BACKEND_REQ, PROTOCOL.CONFIG);
    this.u64(REQUEST.SET_PROTOCOL_FEATURES, keeps ? protocol | notes : protocol);
    this.message(REQUEST.SET_BACKEND_REQ_FD, () => 0, [this.#channelOther]);
    if (keeps) this.#sendInflight();
    this.u64(REQUEST.SET_FEATURES, features);
    this.setMemory();
    for (let q = 0; q < this.queues; q++) this.startQueue(q);
  }

  #sendInflight(): void {
    if (this.#inflight === null) {
      const asked = { mmapSize_bytes: 0, mmapOffset_bytes: 0, queues: this.queues, queueSize: this.num };
      this.message(REQUEST.GET_INFLIGHT_FD, view => emitInflight(view, 0, asked, 24));
      const { view, fds } = this.reply()!;
      this.#inflight = { fd: fds[0]!, area: parseInflight(view, 0, view.byteLength)! };
    }
    const { fd, area } = this.#inflight;
    this.message(REQUEST.SET_INFLIGHT_FD, view => emitInflight(view, 0, area, 24), [fd]);
  }

  startQueue(q: number): void {
    this.state(REQUEST.SET_VRING_NUM, q, this.num);
    this.state(REQUEST.SET_VRING_BASE, q, this.used[q]! & 0xffff);
    const at = USER + q * QUEUE_BYTES;
    this.message(REQUEST.SET_VRING_ADDR, view =>
      emitVringAddress(view, 0, {
        index: q,
        flags: 0,
        descriptors: at,
        available: at + AVAIL_AT,
        used: at + USED_AT,
      }),
    );
    this.u64(REQUEST.SET_VRING_KICK, BigInt(q), [this.kicks[q]!.fd]);
    this.u64(REQUEST.SET_VRING_CALL, BigInt(q), [this.calls[q]!.fd]);
    this.state(REQUEST.SET_VRING_ENABLE, q, 1);
  }

  /** What the back-end answers once nothing is under way. */
  stopQueue(q: number): number | undefined {
    this.state(REQUEST.GET_VRING_BASE, q, 0);
    return this.reply()?.view.getUint32(4, true);
  }

  /** A reset of the guest: its driver starts anew, with other notes. */
  restart(): void {
    for (let q = 0; q < this.queues; q++) {
      this.stopQueue(q);
      this.bytes.fill(0, q * QUEUE_BYTES, q * QUEUE_BYTES + HEADERS_AT);
      this.available[q] = 0;
      this.used[q] = 0;
    }
    this.forget();
    this.#sendInflight();
    for (let q = 0; q < this.queues; q++) this.startQueue(q);
  }

  /** What was noted of requests under way. */
  forget(): void {
    if (this.#inflight !== null) close(this.#inflight.fd);
    this.#inflight = null;
  }

  headerAt(q: number, slot: number): number {
    return q * QUEUE_BYTES + HEADERS_AT + slot * HEADER_STEP;
  }
  statusAt(q: number, slot: number): number {
    return this.headerAt(q, slot) + 16;
  }
  status(q: number, slot: number): number {
    return this.bytes[this.statusAt(q, slot)]!;
  }

  layHeader(q: number, slot: number, type: number, sector: number): void {
    const at = this.headerAt(q, slot);
    this.view.setUint32(at, type, true);
    this.view.setUint32(at + 4, 0, true);
    this.view.setUint32(at + 8, sector >>> 0, true);
    this.view.setUint32(at + 12, Math.floor(sector / 2 ** 32), true);
    this.bytes[at + 16] = 0xff;
  }

  descriptor(at: number, descriptor: Descriptor, flags: number, next: number): void {
    const address = GUEST + descriptor.at;
    this.view.setUint32(at, address >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
    this.view.setUint32(at + 8, descriptor.length, true);
    this.view.setUint16(at + 12, flags | (descriptor.write ? WRITE : 0), true);
    this.view.setUint16(at + 14, next, true);
  }

  /** A chain from descriptor `first` on, made available; kicked by `kick`. */
  chain(q: number, first: number, descriptors: readonly Descriptor[]): void {
    const base = q * QUEUE_BYTES;
    descriptors.forEach((one, i) => {
      const last = i === descriptors.length - 1;
      this.descriptor(base + (first + i) * 16, one, last ? 0 : NEXT, last ? 0 : first + i + 1);
    });
    this.offer(q, first);
  }

  offer(q: number, head: number): void {
    const avail = (q * QUEUE_BYTES + AVAIL_AT) >>> 1;
    const index = this.available[q]!;
    this.u16[avail + 2 + (index % this.num)] = head;
    this.available[q] = index + 1;
    Atomics.store(this.u16, avail + 1, (index + 1) & 0xffff);
  }

  /** Whether it wants to be told was asked. */
  kick(q: number): boolean {
    const used = (q * QUEUE_BYTES + USED_AT) >>> 1;
    if (((this.#options.features ?? PLAIN) & EVENT_IDX) !== 0n) {
      const event = Atomics.load(this.u16, used + 2 + this.num * 4);
      if (event !== ((this.available[q]! - 1) & 0xffff)) return false;
    } else if ((Atomics.load(this.u16, used) & 1) !== 0) return false;
    this.kicked++;
    this.kicks[q]!.signal();
    return true;
  }

  /** The same for all that was made available since the index was `from`. 2.7.10.1 */
  kickFor(q: number, from: number): void {
    const to = this.available[q]! & 0xffff;
    const event = Atomics.load(this.u16, ((q * QUEUE_BYTES + USED_AT) >>> 1) + 2 + this.num * 4);
    if (((to - event - 1) & 0xffff) >= ((to - from) & 0xffff)) return;
    this.kicked++;
    this.kicks[q]!.signal();
  }

  /** How many were given back and not taken yet. */
  ready(q: number): number {
    const used = (q * QUEUE_BYTES + USED_AT) >>> 1;
    return (Atomics.load(this.u16, used + 1) - this.used[q]!) & 0xffff;
  }

  /** The head of the next that was given back; its length in `lastLength`. */
  take(q: number): number {
    const at = q * QUEUE_BYTES + USED_AT + 4 + (this.used[q]! % this.num) * 8;
    this.used[q] = this.used[q]! + 1;
    this.lastLength = this.view.getUint32(at + 4, true);
    return this.view.getUint32(at, true);
  }
  lastLength = 0;

  /** One request of three descriptors (two without data), waited for. Its status, or -1 when it never came. */
  do(type: number, sector: number, at: number, length: number, q = 0, turns = 20_000): number {
    const reads = type === 0 || type === 8;
    this.layHeader(q, 0, type, sector);
    const header = { at: this.headerAt(q, 0), length: 16, write: false };
    const status = { at: this.statusAt(q, 0), length: 1, write: true };
    this.chain(q, 0, length === 0 ? [header, status] : [header, { at, length, write: reads }, status]);
    this.kick(q);
    return this.wait(q, turns) === 0 ? this.status(q, 0) : -1;
  }

  /** The next head that is given back; -1: none in so many turns. */
  wait(q = 0, turns = 20_000): number {
    for (let i = 0; i < turns; i++) {
      if (this.ready(q) > 0) return this.take(q);
      this.#options.turn();
    }
    return -1;
  }

  hangUp(): void {
    if (this.#socket >= 0) close(this.#socket);
    this.#socket = -1;
  }

  close(): void {
    this.hangUp();
    close(this.channel);
    close(this.#channelOther);
    if (this.#inflight !== null) close(this.#inflight.fd);
    for (const one of [...this.kicks, ...this.calls]) one.close();
    this.memory.unmap();
    close(this.#memfd);
  }
}
