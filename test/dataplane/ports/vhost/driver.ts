/**
 * A guest's driver and its QEMU in one, for tests: it has memory, split rings in it, and speaks vhost-user to a port.
 * What a guest may do wrong, a test does by writing into `memory` itself.
 *
 *   memory   | ring 0 | ring 1 | … (RING_STEP each: descriptors, available, used) | buffers, BUFFER_BYTES each, per ring
 *   user addresses are USER + offset, guest addresses GUEST + offset
 */
import { EAGAIN } from '../../../../host/errno.js';
import { EventFd } from '../../../../host/eventfd.js';
import { F_SEAL_SHRINK, ForeignMemory, createMemfd } from '../../../../host/foreign.js';
import * as raw from '../../../../host/raw.js';
import { recvFds, sendFds } from '../../../../host/unix.js';
import {
  FLAG_NEED_REPLY,
  HEADER_LENGTH,
  REQUEST,
  VERSION,
  emitHeader,
  emitMemTable,
  emitU64,
  emitVringAddress,
  emitVringState,
} from '../../../../host/vhost/wire.js';
import type { Region } from '../../../../host/vhost/wire.js';

export const USER = 0x7f00_0000_0000;
export const GUEST = 0x1_0000_0000;
export const RING_STEP = 0x8000;
export const BUFFER_BYTES = 2048;
export const NUM = 64;
const AVAIL_OFFSET = 0x4000;
const USED_OFFSET = 0x5000;
const MEMORY_BYTES = 4 << 20;
const BUFFERS_AT = 1 << 20;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export interface DriverOptions {
  features: bigint;
  pairs?: number;
  seals?: number;
  buffer_bytes?: number;
  /** After each message, so that the port can answer. */
  turn: () => void;
}

export interface Taken {
  header: Uint8Array;
  bytes: Uint8Array;
  /** Chains it filled. */
  chains: number;
}

export class Driver {
  readonly socket: number;
  readonly options: DriverOptions;
  readonly memfd: number;
  readonly memory: ForeignMemory;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly header_bytes: number;
  readonly calls: EventFd[] = [];
  readonly kicks: EventFd[] = [];
  /** Free-running: next to be made available, next to be taken back. */
  readonly available: number[] = [];
  readonly used: number[] = [];

  constructor(socket: number, options: DriverOptions) {
    this.socket = socket;
    this.options = options;
    this.memfd = createMemfd('guest', MEMORY_BYTES, options.seals ?? F_SEAL_SHRINK);
    this.memory = new ForeignMemory(this.memfd, 0, MEMORY_BYTES);
    this.view = this.memory.windows[0]!.view;
    this.bytes = this.memory.windows[0]!.bytes;
    this.header_bytes = (options.features & ((1n << 15n) | (1n << 32n))) === 0n ? 10 : 12;
  }

  get rings(): number {
    return (this.options.pairs ?? 1) * 2;
  }

  message(request: number, payload: (view: DataView) => number, fds: number[] = [], flags = 0): void {
    const bytes = new Uint8Array(512);
    const view = new DataView(bytes.buffer);
    const size = payload(new DataView(bytes.buffer, HEADER_LENGTH));
    emitHeader(view, 0, { request, flags: VERSION | flags, size });
    sendFds(this.socket, bytes.subarray(0, HEADER_LENGTH + size), fds);
    this.options.turn();
  }

  /** The payload of what the port answered; undefined: nothing, or it hung up. */
  reply(): DataView | undefined {
    const bytes = new Uint8Array(64);
    const { length_bytes } = recvFds(this.socket, bytes, 0);
    if (length_bytes === -EAGAIN || length_bytes === 0) return undefined;
    return new DataView(bytes.buffer, HEADER_LENGTH, length_bytes - HEADER_LENGTH);
  }

  u64(request: number, value: bigint, fds: number[] = [], flags = 0): void {
    this.message(request, view => emitU64(view, 0, value), fds, flags);
  }

  state(request: number, index: number, num: number): void {
    this.message(request, view => emitVringState(view, 0, { index, num }));
  }

  ask(request: number): DataView | undefined {
    this.message(request, () => 0);
    return this.reply();
  }

  regions(): Region[] {
    // Two, as with the hole below 4 GiB: buffers near the border lie in both.
    const half = MEMORY_BYTES / 2;
    return [
      { guestAddress: GUEST, size_bytes: half, userAddress: USER, mmapOffset_bytes: 0 },
      { guestAddress: GUEST + half, size_bytes: half, userAddress: USER + half, mmapOffset_bytes: half },
    ];
  }

  setMemory(regions: Region[] = this.regions(), fds = regions.map(() => this.memfd)): void {
    this.message(REQUEST.SET_MEM_TABLE, view => emitMemTable(view, 0, regions), fds, FLAG_NEED_REPLY);
  }

  /** The whole dialogue; `bases`: where rings go on (a reconnect). */
  begin(bases?: number[]): void {
    this.u64(REQUEST.SET_PROTOCOL_FEATURES, 1n | (1n << 3n));
    this.u64(REQUEST.SET_FEATURES, this.options.features | (1n << 30n));
    this.setMemory();
    this.reply();
    for (let ring = 0; ring < this.rings; ring++) this.startRing(ring, bases?.[ring] ?? 0);
  }

  startRing(ring: number, base: number): void {
    this.available[ring] ??= 0;
    this.used[ring] ??= 0;
    this.kicks[ring] ??= EventFd.create();
    this.calls[ring] ??= EventFd.create();
    this.state(REQUEST.SET_VRING_NUM, ring, NUM);
    this.state(REQUEST.SET_VRING_BASE, ring, base);
    const at = USER + ring * RING_STEP;
    this.message(REQUEST.SET_VRING_ADDR, view =>
      emitVringAddress(view, 0, {
        index: ring,
        flags: 0,
        descriptors: at,
        available: at + AVAIL_OFFSET,
        used: at + USED_OFFSET,
      }),
    );
    this.u64(REQUEST.SET_VRING_KICK, BigInt(ring), [this.kicks[ring]!.fd]);
    this.u64(REQUEST.SET_VRING_CALL, BigInt(ring), [this.calls[ring]!.fd]);
    this.state(REQUEST.SET_VRING_ENABLE, ring, 1);
  }

  // Rings.

  descriptorAt(ring: number, index: number): number {
    return ring * RING_STEP + index * 16;
  }

  describe(ring: number, index: number, guestAddress: number, length: number, flags: number, next = 0): void {
    this.describeAt(this.descriptorAt(ring, index), guestAddress, length, flags, next);
  }

  describeAt(at: number, guestAddress: number, length: number, flags: number, next = 0): void {
    this.view.setBigUint64(at, BigInt(guestAddress), true);
    this.view.setUint32(at + 8, length, true);
    this.view.setUint16(at + 12, flags, true);
    this.view.setUint16(at + 14, next, true);
  }

  /** Offset in memory of a buffer of a ring. */
  bufferAt(ring: number, index: number): number {
    return BUFFERS_AT + (ring * NUM + index) * BUFFER_BYTES;
  }

  makeAvailable(ring: number, head: number): void {
    const at = ring * RING_STEP + AVAIL_OFFSET;
    const index = this.available[ring]!;
    this.view.setUint16(at + 4 + (index % NUM) * 2, head, true);
    this.available[ring] = (index + 1) & 0xffff;
    this.view.setUint16(at + 2, this.available[ring], true);
  }

  /** The event index that this driver waits for, or flags, by hand. */
  setAvailFlags(ring: number, flags: number): void {
    this.view.setUint16(ring * RING_STEP + AVAIL_OFFSET, flags, true);
  }
  setUsedEvent(ring: number, index: number): void {
    this.view.setUint16(ring * RING_STEP + AVAIL_OFFSET + 4 + NUM * 2, index, true);
  }
  usedFlags(ring: number): number {
    return this.view.getUint16(ring * RING_STEP + USED_OFFSET, true);
  }
  usedIndex(ring: number): number {
    return this.view.getUint16(ring * RING_STEP + USED_OFFSET + 2, true);
  }
  availEvent(ring: number): number {
    return this.view.getUint16(ring * RING_STEP + USED_OFFSET + 4 + NUM * 8, true);
  }

  /** A frame to the port, in one buffer. */
  send(frame: Uint8Array, header: Uint8Array = new Uint8Array(this.header_bytes), ring = 1): void {
    const slot = this.available[ring]! % NUM;
    const at = this.bufferAt(ring, slot);
    this.bytes.set(header, at);
    this.bytes.set(frame, at + this.header_bytes);
    this.describe(ring, slot, GUEST + at, this.header_bytes + frame.length, 0);
    this.makeAvailable(ring, slot);
  }

  kick(ring: number): void {
    this.kicks[ring]!.signal();
  }

  /** Empty buffers for the port. */
  provide(count: number, ring = 0, buffer_bytes = this.options.buffer_bytes ?? BUFFER_BYTES): void {
    for (let i = 0; i < count; i++) {
      const slot = this.available[ring]! % NUM;
      const at = this.bufferAt(ring, slot);
      this.bytes.fill(0xa5, at, at + BUFFER_BYTES);
      this.describe(ring, slot, GUEST + at, buffer_bytes, WRITE);
      this.makeAvailable(ring, slot);
    }
  }

  /** Frames that came, out of single-descriptor buffers. */
  take(ring = 0): Taken[] {
    const taken: Taken[] = [];
    let current: Taken | undefined;
    let left = 0;
    while (this.used[ring] !== this.usedIndex(ring)) {
      const at = ring * RING_STEP + USED_OFFSET + 4 + (this.used[ring]! % NUM) * 8;
      const id = this.view.getUint32(at, true);
      const length = this.view.getUint32(at + 4, true);
      const buffer = Number(this.view.getBigUint64(this.descriptorAt(ring, id), true)) - GUEST;
      const bytes = this.bytes.slice(buffer, buffer + length);
      if (left === 0) {
        left = this.header_bytes === 12 ? this.view.getUint16(buffer + 10, true) : 1;
        current = {
          header: bytes.slice(0, this.header_bytes),
          bytes: bytes.slice(this.header_bytes),
          chains: left,
        };
        taken.push(current);
      } else {
        const joined = new Uint8Array(current!.bytes.length + bytes.length);
        joined.set(current!.bytes);
        joined.set(bytes, current!.bytes.length);
        current!.bytes = joined;
      }
      left--;
      this.used[ring] = (this.used[ring]! + 1) & 0xffff;
    }
    return taken;
  }

  hangUp(): void {
    raw.close(this.socket);
  }

  close(): void {
    for (const fd of [...this.kicks, ...this.calls]) fd.close();
    this.memory.unmap();
    raw.close(this.memfd);
  }
}
