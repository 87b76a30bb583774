/**
 * The dialogue of vhost-user, from one connection to its end: what the peer says becomes memory, rings and features.
 *
 *   features, protocol features, owner, (enable: before any ring exists)            with QEMU at start
 *   SET_FEATURES, SET_MEM_TABLE, per ring NUM, BASE, ADDR, KICK, CALL                when the guest's driver is ready
 *   GET_VRING_BASE per ring                                                         when it stops: reset, shutdown
 *
 * It knows no socket: `handle` takes one message with its fds and answers what to send back. What it needs of the
 * kernel comes in as `Kernel`. A message that makes no sense ends the connection (`Refused`), since after it
 * neither side knows what the other believes; the peer dials or is dialled again, and starts from nothing.
 *
 * What all devices have in common is here; a device (a network card, a disk) is a session of its own, which says what it
 * offers and answers the requests that only it knows (`handleOther`).
 *
 * Whoever holds a session must look at its rings anew after each message (`onRings`).
 */
import {
  FEATURE,
  FLAG_NEED_REPLY,
  PROTOCOL,
  REQUEST,
  VRING_INDEX_MASK,
  VRING_NO_FD,
  emitU64,
  emitVringState,
  parseMemTable,
  parseU64,
  parseVringAddress,
  parseVringState,
  requestName,
} from './wire.js';
import type { Header } from './wire.js';
import { GuestMemory, tableProblem } from './memory.js';
import type { Backing } from './memory.js';
import { NUM_MAX_COUNT, Ring } from './ring.js';

/** What a session asks of the kernel; `kernel.ts` has the real one. */
export interface Kernel {
  close(fd: number): void;
  /** The memory behind an fd, which stays the caller's to close; or in words why it is not taken. */
  map(fd: number, offset_bytes: number, length_bytes: number): Backing | string;
  /** Whether it is an event fd and was made safe to write to. */
  acceptEventFd(fd: number): boolean;
}

/** The peer broke the rules: the connection is closed, and the words are shown. */
export class Refused extends Error {}

/** Longer than any reply; the longest is a device's configuration. */
const REPLY_BYTES = 512;

export interface SessionParts {
  readonly kernel: Kernel;
  readonly ringCount: number;
  /** What GET_QUEUE_NUM answers: rings, or pairs of them. */
  readonly queueCount: number;
  /** Virtio features, and those of the protocol. */
  readonly offered: bigint;
  readonly protocolOffered: bigint;
  /** A ring's kick fd is about to be closed, or a new one has come: called before and after. */
  readonly onKickFd: (ring: Ring, isComing: boolean) => void;
}

export class Session {
  readonly memory = new GuestMemory();
  readonly rings: Ring[] = [];
  /** Go with the reply, and are closed after it was sent. */
  readonly replyFds: number[] = [];
  protected readonly kernel: Kernel;
  protected readonly reply = new DataView(new ArrayBuffer(REPLY_BYTES));
  readonly #parts: SessionParts;
  #features = 0n;
  #protocolFeatures = 0n;
  #status = 0n;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.kernel = parts.kernel;
    for (let i = 0; i < parts.ringCount; i++) this.rings.push(new Ring(i));
  }

  /** The guest's driver took these. */
  protected featuresSet(_features: bigint): void {}

  /** It was laid out in memory, and goes on from `lastAvail`. */
  protected ringStarted(_ring: Ring): void {}

  /** A request that only this device knows: as `handle` of a message, see `#handle`. */
  protected handleOther(request: number, _view: DataView, _at: number, _end: number, _fds: number[]): number {
    throw new Refused(`the peer sent ${requestName(request)}, which was not offered`);
  }

  /** False: not yet, since memory that it would change is in use. The message is kept until it is asked again. */
  mayHandle(_request: number): boolean {
    return true;
  }

  /** Gives back all fds and memory; the session starts over with the next connection. */
  reset(): void {
    for (const ring of this.rings) {
      this.#stopRing(ring);
      this.#setCall(ring, -1);
      ring.isEnabled = false;
      ring.num = 0;
      ring.descriptorsAddress = NaN;
      ring.availableAddress = NaN;
      ring.usedAddress = NaN;
    }
    this.memory.clear();
    this.#features = 0n;
    this.#protocolFeatures = 0n;
    this.#status = 0n;
  }

  /**
   * One message, its payload from `at` to `end`. Takes over the fds. The payload of the reply, or undefined when there
   * is none; valid until the next call. Throws Refused.
   */
  handle(header: Header, view: DataView, at: number, end: number, fds: number[]): Uint8Array | undefined {
    let length: number;
    try {
      length = this.#handle(header.request, view, at, end, fds);
    } finally {
      for (const fd of fds) if (fd >= 0) this.kernel.close(fd);
    }
    if (length > 0) return new Uint8Array(this.reply.buffer, 0, length);
    if (!this.hasProtocol(PROTOCOL.REPLY_ACK) || (header.flags & FLAG_NEED_REPLY) === 0) return undefined;
    return new Uint8Array(this.reply.buffer, 0, emitU64(this.reply, 0, length === 0 ? 0n : 1n));
  }

  /** Length of the reply; 0: done; -1: not done, and nothing is broken by that. An fd that is kept is set to -1. */
  #handle(request: number, view: DataView, at: number, end: number, fds: number[]): number {
    switch (request) {
      case REQUEST.GET_FEATURES:
        return emitU64(this.reply, 0, this.#parts.offered);
      case REQUEST.SET_FEATURES:
        return this.#setFeatures(u64(request, view, at, end));
      case REQUEST.GET_PROTOCOL_FEATURES:
        return emitU64(this.reply, 0, this.#parts.protocolOffered);
      case REQUEST.SET_PROTOCOL_FEATURES: {
        const features = u64(request, view, at, end);
        if ((features & ~this.#parts.protocolOffered) !== 0n)
          throw new Refused(
            `the peer wants protocol features 0x${features.toString(16)} that were not offered`,
          );
        this.#protocolFeatures = features;
        return 0;
      }
      case REQUEST.GET_QUEUE_NUM:
        return emitU64(this.reply, 0, BigInt(this.#parts.queueCount));
      case REQUEST.SET_OWNER:
        return 0;
      case REQUEST.RESET_OWNER:
      case REQUEST.RESET_DEVICE:
        for (const ring of this.rings) {
          this.#stopRing(ring);
          ring.isEnabled = false;
        }
        return 0;
      case REQUEST.SET_MEM_TABLE:
        return this.#setMemTable(view, at, end, fds);
      case REQUEST.SET_VRING_NUM: {
        const { ring, num } = this.#vringState(request, view, at, end);
        if (num < 1 || num > NUM_MAX_COUNT || (num & (num - 1)) !== 0)
          throw new Refused(
            `queue ${ring.index} is said to have ${num} descriptors, which is no power of two`,
          );
        if (ring.isKicked) throw new Refused(`queue ${ring.index} changes its size while it runs`);
        ring.num = num;
        return 0;
      }
      case REQUEST.SET_VRING_BASE: {
        const { ring, num } = this.#vringState(request, view, at, end);
        if (num > 0xffff) throw new Refused(`queue ${ring.index} is to begin at ${num}, beyond 16 bits`);
        // Of a ring that never ran, this is what is asked back; one that runs knows better (ring.ts).
        ring.lastAvail = num;
        return 0;
      }
      case REQUEST.GET_VRING_BASE: {
        const { ring } = this.#vringState(request, view, at, end);
        this.#stopRing(ring);
        this.#setCall(ring, -1);
        return emitVringState(this.reply, 0, { index: ring.index, num: ring.lastAvail });
      }
      case REQUEST.SET_VRING_ADDR:
        return this.#setVringAddress(view, at, end);
      case REQUEST.SET_VRING_ENABLE: {
        const { ring, num } = this.#vringState(request, view, at, end);
        ring.isEnabled = num !== 0;
        return 0;
      }
      case REQUEST.SET_VRING_KICK: {
        const [ring, fd] = this.#vringFd(request, view, at, end, fds);
        this.#stopRing(ring);
        ring.kickFd = fd;
        ring.isKicked = true;
        // Before protocol features there was no way to enable a ring: a kick is.
        if (!this.hasFeature(FEATURE.PROTOCOL_FEATURES)) ring.isEnabled = true;
        if (fd >= 0) this.#parts.onKickFd(ring, true);
        ring.hasEventIndex = this.hasFeature(FEATURE.EVENT_IDX);
        this.#startRing(ring);
        return 0;
      }
      case REQUEST.SET_VRING_CALL: {
        const [ring, fd] = this.#vringFd(request, view, at, end, fds);
        this.#setCall(ring, fd);
        return 0;
      }
      case REQUEST.SET_VRING_ERR: {
        // We have nothing to say there: what is wrong with a ring is in the port's state.
        const [, fd] = this.#vringFd(request, view, at, end, fds);
        if (fd >= 0) this.kernel.close(fd);
        return 0;
      }
      case REQUEST.SET_STATUS:
        this.#status = u64(request, view, at, end) & 0xffn;
        return 0;
      case REQUEST.GET_STATUS:
        return emitU64(this.reply, 0, this.#status);
      case REQUEST.SET_LOG_BASE:
      case REQUEST.SET_LOG_FD:
        // Of migration, which was not offered.
        return -1;
      default:
        return this.handleOther(request, view, at, end, fds);
    }
  }

  #setFeatures(features: bigint): number {
    const { offered } = this.#parts;
    if ((features & ~offered) !== 0n)
      throw new Refused(
        `the peer wants features 0x${(features & ~offered).toString(16)} that were not offered`,
      );
    this.#features = features;
    this.featuresSet(features);
    return 0;
  }

  /** Bits that the peer took, for those who look. */
  get features(): bigint {
    return this.#features;
  }

  protected hasFeature(feature: number): boolean {
    return (this.#features & (1n << BigInt(feature))) !== 0n;
  }

  protected hasProtocol(feature: number): boolean {
    return (this.#protocolFeatures & (1n << BigInt(feature))) !== 0n;
  }

  #setMemTable(view: DataView, at: number, end: number, fds: number[]): number {
    const regions = parseMemTable(view, at, end);
    if (regions === undefined)
      throw new Refused('a memory table of a wrong length, or of more than 8 regions');
    if (fds.length !== regions.length)
      throw new Refused(`a memory table of ${regions.length} regions came with ${fds.length} fds`);
    const problem = tableProblem(regions);
    if (problem !== undefined) throw new Refused(`the memory table is wrong: ${problem}`);
    const backings: Backing[] = [];
    for (const [i, region] of regions.entries()) {
      const backing = this.kernel.map(fds[i]!, region.mmapOffset_bytes, region.size_bytes);
      if (typeof backing === 'string') {
        for (const mapped of backings) mapped.unmap();
        throw new Refused(`memory region ${i} is not taken: ${backing}`);
      }
      backings.push(backing);
    }
    // A new table under running rings: they are found again where they now are.
    for (const ring of this.rings) {
      ring.stop();
    }
    this.memory.set(regions, backings);
    for (const ring of this.rings) if (ring.isKicked) this.#startRing(ring);
    return 0;
  }

  #setVringAddress(view: DataView, at: number, end: number): number {
    const address = parseVringAddress(view, at, end);
    if (address === undefined) throw new Refused('SET_VRING_ADDR has a wrong length');
    const ring = this.#ring(address.index);
    ring.descriptorsAddress = address.descriptors;
    ring.availableAddress = address.available;
    ring.usedAddress = address.used;
    if (ring.isKicked) this.#startRing(ring);
    return 0;
  }

  #ring(index: number): Ring {
    const ring = this.rings[index];
    if (ring === undefined)
      throw new Refused(`the peer speaks of queue ${index}, and there are ${this.rings.length}`);
    return ring;
  }

  #vringState(request: number, view: DataView, at: number, end: number): { ring: Ring; num: number } {
    const state = parseVringState(view, at, end);
    if (state === undefined) throw new Refused(`${requestName(request)} has a wrong length`);
    return { ring: this.#ring(state.index), num: state.num };
  }

  /** The ring, and an event fd that is now ours, or -1. */
  #vringFd(
    request: number,
    view: DataView,
    at: number,
    end: number,
    fds: number[],
  ): [ring: Ring, fd: number] {
    const word = Number(u64(request, view, at, end) & 0xffff_ffffn);
    const ring = this.#ring(word & VRING_INDEX_MASK);
    if ((word & VRING_NO_FD) !== 0) return [ring, -1];
    const fd = fds[0];
    if (fd === undefined) throw new Refused(`${requestName(request)} came without its fd`);
    if (!this.kernel.acceptEventFd(fd))
      throw new Refused(`${requestName(request)} came with an fd that is no event fd`);
    fds[0] = -1;
    return [ring, fd];
  }

  #startRing(ring: Ring): void {
    ring.start(this.memory);
    if (ring.isRunning) this.ringStarted(ring);
  }

  #stopRing(ring: Ring): void {
    ring.stop();
    ring.isKicked = false;
    if (ring.kickFd >= 0) {
      this.#parts.onKickFd(ring, false);
      this.kernel.close(ring.kickFd);
    }
    ring.kickFd = -1;
  }

  #setCall(ring: Ring, fd: number): void {
    if (ring.callFd >= 0) this.kernel.close(ring.callFd);
    ring.callFd = fd;
  }
}

export function u64(request: number, view: DataView, at: number, end: number): bigint {
  const value = parseU64(view, at, end);
  if (value === undefined) throw new Refused(`${requestName(request)} has a wrong length`);
  return value;
}
