/**
 * One split virtqueue (virtio 1.2 2.7) in the guest's memory, as the device sees it. Its three parts:
 *
 *   descriptors   16 bytes each: address u64, length u32, flags u16, next u16
 *   available     flags u16, idx u16, ring u16[num], used_event u16         written by the guest
 *   used          flags u16, idx u16, {id u32, len u32}[num], avail_event u16   written by us
 *
 * The state is plain fields, since reader.ts and writer.ts work on it for every frame. What orders accesses between
 * us and the guest's processor: the available index is read with Atomics.load (what it promises is read after it),
 * and the used index is written with Atomics.store (what it promises is written before it; and being sequentially
 * consistent, the suppression that is then read with Atomics.load is read after the guest can see it). The flags
 * of the used ring stand in the same word as its index, and both are ours: one store writes both.
 *
 * A ring that a guest filled with nonsense is stopped by `fail`, and stays so until the peer sets it up anew.
 */
import type { GuestMemory } from './memory.js';

// Specification constants.
export const DESC_F_NEXT = 1;
export const DESC_F_WRITE = 2;
export const DESC_F_INDIRECT = 4;
export const DESCRIPTOR_LENGTH = 16;
const AVAIL_F_NO_INTERRUPT = 1;
const USED_F_NO_NOTIFY = 1;
export const NUM_MAX_COUNT = 32_768;

const NO_I32 = new Int32Array(0);
const NO_U16 = new Uint16Array(0);

export class Ring {
  readonly index: number;
  num = 0;
  mask = 0;
  /** Of the descriptors, in 32-bit words. */
  desc: Int32Array = NO_I32;
  descAt = 0;
  /** Of the available ring, in 16-bit halves. */
  avail: Uint16Array = NO_U16;
  availAt = 0;
  /** Of the used ring, in words; the same memory in halves for avail_event. */
  used: Int32Array = NO_I32;
  usedAt = 0;
  usedHalves: Uint16Array = NO_U16;

  hasEventIndex = false;
  /** Free-running 16-bit indices: next to be taken; as far as the guest had come when last looked; next to be given back. */
  lastAvail = 0;
  availSeen = 0;
  usedIndex = 0;
  /** The used index that the guest was last told of, or spared. */
  #publishedIndex = 0;
  #usedFlags = 0;

  /** Laid out in memory, and not failed: frames may be taken and given. */
  isRunning = false;
  /** SET_VRING_ENABLE. */
  isEnabled = false;
  /** What is wrong with it. */
  fault: string | null = null;

  // What the peer said of it.
  isKicked = false;
  descriptorsAddress = NaN;
  availableAddress = NaN;
  usedAddress = NaN;
  kickFd = -1;
  kickToken = -1;
  callFd = -1;

  constructor(index: number) {
    this.index = index;
  }

  get isActive(): boolean {
    return this.isRunning && this.isEnabled;
  }

  /** Finds its parts in memory, and goes on from the used index there. */
  start(memory: GuestMemory): void {
    this.stop();
    const { num } = this;
    if (num < 1 || num > NUM_MAX_COUNT || (num & (num - 1)) !== 0) {
      this.fail(`it has ${num} descriptors, which is no power of two up to ${NUM_MAX_COUNT}`);
      return;
    }
    if (!memory.locateUser(this.descriptorsAddress, num * DESCRIPTOR_LENGTH) || (memory.offset & 15) !== 0) {
      this.fail('its descriptors do not lie in the memory');
      return;
    }
    this.desc = memory.window.i32;
    this.descAt = memory.offset >>> 2;
    if (!memory.locateUser(this.availableAddress, 6 + 2 * num) || (memory.offset & 1) !== 0) {
      this.fail('its available ring does not lie in the memory');
      return;
    }
    this.avail = memory.window.u16;
    this.availAt = memory.offset >>> 1;
    if (!memory.locateUser(this.usedAddress, 6 + 8 * num) || (memory.offset & 3) !== 0) {
      this.fail('its used ring does not lie in the memory');
      return;
    }
    this.used = memory.window.i32;
    this.usedHalves = memory.window.u16;
    this.usedAt = memory.offset >>> 2;
    this.mask = num - 1;
    // We give chains back in the order in which they come, so both indices are one. Where the memory differs from what
    // the peer says, the memory is right: DPDK says 0 when it meets us again after our restart.
    this.usedIndex = this.used[this.usedAt]! >>> 16;
    this.lastAvail = this.usedIndex;
    this.availSeen = this.lastAvail;
    this.#publishedIndex = this.usedIndex;
    this.#usedFlags = 0;
    this.isRunning = true;
  }

  /** Lets go of the memory. */
  stop(): void {
    this.isRunning = false;
    this.fault = null;
    this.desc = NO_I32;
    this.avail = NO_U16;
    this.used = NO_I32;
    this.usedHalves = NO_U16;
  }

  fail(reason: string): void {
    this.isRunning = false;
    this.fault = reason;
  }

  /** How many chains the guest has made available and we have not taken; -1 when its index makes no sense. */
  look(): number {
    const index = Atomics.load(this.avail, this.availAt + 1);
    const ready = (index - this.lastAvail) & 0xffff;
    if (ready > this.num) {
      this.fail(
        `its available index ${index} is ${ready} ahead of ${this.lastAvail}, with ${this.num} descriptors`,
      );
      return -1;
    }
    this.availSeen = index;
    return ready;
  }

  /** Tells the guest's driver what was given back. True: it wants to be woken for it. */
  publish(): boolean {
    const from = this.#publishedIndex;
    const to = this.usedIndex;
    if (from === to) return false;
    this.#publishedIndex = to;
    Atomics.store(this.used, this.usedAt, this.#usedFlags | (to << 16));
    if (!this.hasEventIndex) return (Atomics.load(this.avail, this.availAt) & AVAIL_F_NO_INTERRUPT) === 0;
    const event = Atomics.load(this.avail, this.availAt + 2 + this.num);
    // 2.7.10.1: woken when the index that it waits for was passed just now.
    return ((to - event - 1) & 0xffff) < ((to - from) & 0xffff);
  }

  /** "Do not wake me for what you make available": a word that drivers may disregard. */
  quiet(): void {
    // With event indices, the index named last lies behind and is not passed again.
    if (this.hasEventIndex || this.#usedFlags !== 0) return;
    this.#usedFlags = USED_F_NO_NOTIFY;
    Atomics.store(this.used, this.usedAt, this.#usedFlags | (this.#publishedIndex << 16));
  }

  /** "Wake me for the next one." True: there is one already. */
  listen(): boolean {
    return this.listenFor(this.lastAvail);
  }

  /** "Wake me once your index is beyond this." True: it is already. */
  listenFor(index: number): boolean {
    if (this.hasEventIndex) {
      this.usedHalves[(this.usedAt << 1) + 2 + (this.num << 2)] = index;
      // As a barrier: what was just written is seen before what is read next.
      Atomics.store(this.used, this.usedAt, this.#usedFlags | (this.#publishedIndex << 16));
    } else {
      this.#usedFlags = 0;
      Atomics.store(this.used, this.usedAt, this.#publishedIndex << 16);
    }
    return Atomics.load(this.avail, this.availAt + 1) !== index;
  }
}
