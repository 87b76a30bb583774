/**
 * A guest's disk: requests out of its rings, through a Volume, and back. One for each listener of an export; it stays while
 * connections come and go, because what is with the volume outlives them.
 *
 *   ring --take--> Request --tryRead, tryWrite: in this turn------------------------------> give --> publish, wake the guest
 *                     |     -EAGAIN: read, write, flush, trim, zero --> completed() ---------^
 *
 * Long reads whose bytes are in the page cache, and as they should be, go from there to the guest's buffers by one call
 * (`sendableFrom`, as NBD's are sent). Other bytes go through a chunk of our own, in pieces of PIECE_BYTES, one piece of a request at a time. Not from and to the guest's
 * memory in place: a guest may change what it writes while it is written (kernels do, without stable pages), and then a
 * block would not have the sum that was made of it, or a mirror two contents; and what it does to a buffer that is
 * being read would look like a disk that fails. The copy costs a tenth of what the sum costs.
 *
 * When to sleep: while requests come, kicks are off and the rings are looked at in each turn; attention.ts says for how long.
 *
 * Bounds: rings of RING_MAX, IN_FLIGHT_REQUESTS_LIMIT taken at a time, each with one chunk for which the common budget is
 * asked. A ring in which the driver wrote nonsense is stopped, and told, until it is set up anew (2.1.2: DEVICE_NEEDS_RESET
 * is not ours to set, QEMU has the status).
 */
import { signalEventFd } from '../../host/eventfd.js';
import { IoVector } from '../../host/iovec.js';
import { RWF_NOWAIT, preadv2 } from '../../host/raw.js';
import { PIECES_MAX_COUNT, READ_THEN_WRITE } from '../../host/vhost/chain.js';
import type { Ring } from '../../host/vhost/ring.js';
import type { Budget, BudgetWaiter, Chunk, ChunkPool } from '../nbd/chunks.js';
import { AT_EXPORT } from '../nbd/counters.js';
import { IN_FLIGHT_REQUESTS_LIMIT, PIECE_BYTES, SLICE_BYTES } from '../nbd/limits.js';
import type { Later } from '../volume/later.js';
import { ERRNO, type Volume, type Waiter } from '../volume/volume.js';
import { Attention } from './attention.js';
import { Request } from './request.js';
import { takeSegments } from './segments.js';
import type { DiskSession, DiskSide } from './session.js';
import { HEADER_LENGTH, ID_LENGTH, S, SECTOR_BYTES, SEGMENT_F_UNMAP, T } from './virtioBlk.js';

/** Of requests answered in one turn; others have theirs then. */
const TURN_REQUESTS = 64;
const TURN_BYTES = 4 * 1024 * 1024;
/** Reads from here on go to the guest without us where that is possible; shorter ones are cheaper copied. */
const DIRECT_BYTES = 16_384;
/** No request: a look at the rings in the next turn. */
const LOOK_TOKEN = -1;
/** A chain of more has no length that we could count on. */
const CHAIN_MAX_BYTES = 2 ** 31 - 1;

/** One for the thread, used up within one call. */
const vector = new IoVector(PIECES_MAX_COUNT);
const ZERO_UNMAP = { mayUnmap: true, fastOnly: false } as const;
const ZERO_KEEP = { mayUnmap: false, fastOnly: false } as const;

export interface DeviceParts {
  readonly volume: Volume;
  readonly readOnly: boolean;
  readonly block_bytes: number;
  readonly queues: number;
  /** VIRTIO_BLK_T_GET_ID */
  readonly serial: string;
  readonly counters: Float64Array;
  readonly pool: ChunkPool;
  readonly budget: Budget;
  readonly later: Later;
  readonly now_ms: () => number;
  /** `settle` me before this turn ends. */
  readonly touch: () => void;
  /** A ring was stopped, for this reason; null: none is any more. */
  readonly onFault: (reason: string | null) => void;
}

export class Device implements Waiter, BudgetWaiter, DiskSide {
  readonly queues: number;
  readonly readOnly: boolean;
  readonly block_bytes: number;
  /** Taken and not answered, of all connections. */
  inFlightCount = 0;
  /** Nothing more is taken: the connection waits for quiet, or its end is near. */
  isHeld = false;
  #parts: DeviceParts;
  #volume: Volume;
  #counters: Float64Array;
  #session: DiskSession | null = null;
  #sessionNumber = 0;
  #rings: Ring[] = [];
  #requests: Request[] = [];
  #free: Request[] = [];
  /** For this one there was no budget. */
  #parked: Request | null = null;
  #header: DataView;
  #headerChunk: Chunk;
  #isLooking = false;
  #willLook = false;
  #attention = new Attention();
  #turnBytes = 0;
  #fault: string | null = null;
  #fitsHere = (offset: number, length: number): boolean => this.#fits(offset, length);

  constructor(parts: DeviceParts) {
    this.#parts = parts;
    this.#volume = parts.volume;
    this.#counters = parts.counters;
    this.queues = parts.queues;
    this.readOnly = parts.readOnly;
    this.block_bytes = parts.block_bytes;
    this.#headerChunk = parts.pool.takeSmall();
    this.#header = this.#headerChunk.view;
  }

  get size_bytes(): number {
    return this.#volume.size_bytes;
  }
  get quiet(): boolean {
    return this.inFlightCount === 0;
  }

  attach(session: DiskSession): void {
    this.#session = session;
    this.#sessionNumber++;
    this.isHeld = false;
  }

  /** The session is gone, with its memory. What is with the volume ends, and is told to nobody. */
  detach(): void {
    this.#session = null;
    this.#sessionNumber++;
    this.#rings = [];
    this.#isLooking = false;
    this.#setFault(null);
    const parked = this.#parked;
    if (parked !== null) {
      this.#parked = null;
      this.#parts.budget.forget(this);
      this.#release(parked);
    }
  }

  close(): void {
    this.detach();
    this.#parts.pool.give(this.#headerChunk);
  }

  /** The peer said something: rings may be others. */
  ringsChanged(): void {
    const rings = this.#session?.rings ?? [];
    this.#rings = rings.filter(ring => ring.isActive);
    const failed = rings.find(ring => ring.fault !== null);
    this.#setFault(
      failed === undefined
        ? null
        : `the guest's queue ${failed.index} is stopped until its driver starts anew: ${failed.fault ?? ''}`,
    );
    this.#counters[AT_EXPORT.guestQueues] = this.#rings.length;
    // No kick.
    this.#attention.forget();
    this.look();
  }

  #setFault(reason: string | null): void {
    if (reason === this.#fault) return;
    this.#fault = reason;
    if (reason !== null) this.#counters[AT_EXPORT.guestFaults]!++;
    this.#parts.onFault(reason);
  }

  /** A kick, or what was made available before anybody looked. */
  look(): void {
    if (!this.#isLooking) {
      this.#isLooking = true;
      this.#attention.wakes(this.#parts.now_ms());
      for (const ring of this.#rings) ring.quiet();
    }
    this.#parts.touch();
  }

  get #mayTake(): boolean {
    return !this.isHeld && this.#parked === null && this.inFlightCount < IN_FLIGHT_REQUESTS_LIMIT;
  }

  /** Once in a turn in which something came or was answered. */
  settle(): void {
    const session = this.#session;
    if (session === null) return;
    let taken = 0;
    this.#turnBytes = 0;
    if (this.#isLooking)
      for (const ring of this.#rings) taken += this.#takeFrom(session, ring, TURN_REQUESTS);
    this.#publish(session);
    if (!this.#isLooking) return;
    if (this.#rings.some(ring => !ring.isRunning)) return this.ringsChanged();
    // Whoever answers looks again.
    if (!this.#mayTake) return;
    // The first in the list is served best.
    if (taken >= TURN_REQUESTS && this.#rings.length > 1) this.#rings.push(this.#rings.shift()!);
    const now_ms = this.#parts.now_ms();
    if (this.#attention.staysUp(taken > 0, now_ms) || this.#kicksOn()) this.#lookAgain();
    else this.#attention.sleeps(now_ms);
  }

  /** True: something came meanwhile. */
  #kicksOn(): boolean {
    let more = false;
    for (const ring of this.#rings) if (ring.listen()) more = true;
    if (more) {
      for (const ring of this.#rings) ring.quiet();
      return true;
    }
    this.#isLooking = false;
    return false;
  }

  #lookAgain(): void {
    if (this.#willLook) return;
    this.#willLook = true;
    this.#parts.later.answer(this, LOOK_TOKEN, 0);
  }

  #publish(session: DiskSession): void {
    // Those that were switched off, too: what was taken is given back.
    for (const ring of session.rings) {
      if (!ring.isRunning) continue;
      const { usedIndex } = ring;
      const wakes = ring.publish();
      session.inflight[ring.index]?.published(usedIndex);
      if (wakes && ring.callFd >= 0) signalEventFd(ring.callFd);
    }
  }

  #takeFrom(session: DiskSession, ring: Ring, limit: number): number {
    const inflight = session.inflight[ring.index];
    const again = session.again[ring.index]!;
    let taken = 0;
    while (again.length > 0 && this.#mayTake && ring.isRunning && taken < limit) {
      taken++;
      this.#counters[AT_EXPORT.resubmitted]!++;
      // It keeps its place in the notes until it is answered.
      this.#begin(session, ring, again.shift()!);
    }
    if (again.length > 0 || !ring.isRunning || ring.look() <= 0) return taken;
    while (
      ring.lastAvail !== ring.availSeen &&
      taken < limit &&
      this.#mayTake &&
      this.#turnBytes < TURN_BYTES
    ) {
      const head = ring.avail[ring.availAt + 2 + (ring.lastAvail & ring.mask)]!;
      if (head >= ring.num) {
        ring.fail(`descriptor ${head} is made available, of ${ring.num}`);
        break;
      }
      ring.lastAvail = (ring.lastAvail + 1) & 0xffff;
      inflight?.taken(head);
      taken++;
      this.#begin(session, ring, head);
      if (!ring.isRunning) break;
    }
    return taken;
  }

  #begin(session: DiskSession, ring: Ring, head: number): void {
    const request = this.#free.pop() ?? this.#newRequest();
    const { chain } = request;
    chain.clear();
    request.session = this.#sessionNumber;
    request.ring = ring.index;
    request.head = head;
    request.done = 0;
    request.piece = 0;
    request.written_bytes = 0;
    request.isFlushing = false;
    this.inFlightCount++;
    if (!chain.append(ring, session.memory, head, READ_THEN_WRITE, CHAIN_MAX_BYTES))
      return this.#release(request);
    if (
      chain.bytes >= CHAIN_MAX_BYTES ||
      chain.readBytes < HEADER_LENGTH ||
      chain.bytes === chain.readBytes
    ) {
      ring.fail(
        `the chain from descriptor ${head} has ${chain.readBytes} bytes to be read and ${chain.bytes - chain.readBytes} to be written: no request`,
      );
      return this.#release(request);
    }
    let view = this.#header;
    let at = 0;
    if (chain.lengths[0]! >= HEADER_LENGTH) {
      view = chain.windows[0]!.view;
      at = chain.offsets[0]!;
    } else request.copyFrom(0, HEADER_LENGTH, this.#headerChunk, 0);
    request.type = view.getUint32(at, true);
    this.#start(
      request,
      (view.getUint32(at + 12, true) * 2 ** 32 + view.getUint32(at + 8, true)) * SECTOR_BYTES,
    );
  }

  #newRequest(): Request {
    const request = new Request(this.#requests.length);
    this.#requests.push(request);
    return request;
  }

  /** `offset` may be anything. */
  #start(request: Request, offset: number): void {
    const counters = this.#counters;
    switch (request.type) {
      case T.IN:
        request.length = request.readable_bytes;
        if (!this.#fits(offset, request.length)) return this.#finish(request, S.IOERR);
        counters[AT_EXPORT.reads]!++;
        counters[AT_EXPORT.readBytes]! += request.length;
        break;
      case T.OUT:
        request.length = request.writable_bytes;
        if (this.readOnly || !this.#fits(offset, request.length)) return this.#finish(request, S.IOERR);
        counters[AT_EXPORT.writes]!++;
        counters[AT_EXPORT.writtenBytes]! += request.length;
        break;
      case T.FLUSH:
        counters[AT_EXPORT.flushes]!++;
        return this.#flush(request);
      case T.GET_ID:
        return this.#getId(request);
      case T.DISCARD:
      case T.WRITE_ZEROES:
        return this.#startSegments(request);
      default:
        return this.#finish(request, S.UNSUPP);
    }
    request.offset = offset;
    this.#go(request);
  }

  /** In this order no sum can overflow. */
  #fits(offset: number, length: number): boolean {
    const { size_bytes } = this.#volume;
    const { block_bytes } = this;
    const end = size_bytes - (size_bytes % block_bytes);
    return (
      length >= 0 &&
      length % block_bytes === 0 &&
      offset % block_bytes === 0 &&
      offset <= end &&
      length <= end - offset
    );
  }

  #getId(request: Request): void {
    const length = Math.min(request.readable_bytes, ID_LENGTH);
    const { bytes } = this.#headerChunk;
    bytes.fill(0, 0, ID_LENGTH);
    // Made once for a boot of the guest.
    bytes.set(Buffer.from(this.#parts.serial).subarray(0, ID_LENGTH));
    request.copyTo(0, length, this.#headerChunk, 0);
    request.written_bytes = length;
    this.#finish(request, S.OK);
  }

  #startSegments(request: Request): void {
    const status = this.readOnly ? S.IOERR : takeSegments(request, this.#headerChunk, this.#fitsHere);
    if (status !== S.OK) return this.#finish(request, status);
    this.#counters[request.type === T.DISCARD ? AT_EXPORT.trims : AT_EXPORT.zeroes]!++;
    this.#nextSlice(request);
  }

  /** Each slice takes a turn, so that others have theirs. */
  #nextSlice(request: Request): void {
    while (request.segment < request.segments && request.done === request.segmentLengths[request.segment]) {
      request.segment++;
      request.done = 0;
    }
    if (request.segment === request.segments) return this.#written(request);
    const at = request.segmentOffsets[request.segment]! + request.done;
    request.piece = Math.min(request.segmentLengths[request.segment]! - request.done, SLICE_BYTES);
    const mayUnmap = (request.segmentFlags[request.segment]! & SEGMENT_F_UNMAP) !== 0;
    if (request.type === T.DISCARD) this.#volume.trim(at, request.piece, this, request.token);
    else this.#volume.zero(at, request.piece, mayUnmap ? ZERO_UNMAP : ZERO_KEEP, this, request.token);
  }

  #flush(request: Request): void {
    request.isFlushing = true;
    this.#volume.flush(this, request.token);
  }

  /** The bytes are in the volume. */
  #written(request: Request): void {
    if (this.#session?.writeThrough === true) this.#flush(request);
    else this.#finish(request, S.OK);
  }

  /** Piece by piece, from `done` on, as far as it goes without waiting. */
  #go(request: Request): void {
    const volume = this.#volume;
    const reads = request.type === T.IN;
    const { length, offset } = request;
    while (request.done < length) {
      const piece = Math.min(PIECE_BYTES, length - request.done);
      request.piece = piece;
      if (reads && piece >= DIRECT_BYTES && this.#turnBytes < TURN_BYTES && this.#readDirectly(request)) {
        this.#turnBytes += piece;
        continue;
      }
      const chunk = (request.chunk ??= this.#parts.pool.take(Math.min(PIECE_BYTES, length)));
      if (!reads) request.copyFrom(HEADER_LENGTH + request.done, piece, chunk, 0);
      const at = offset + request.done;
      // A request longer than what a turn may take waits for the next one.
      let result: number = -ERRNO.EAGAIN;
      if (this.#turnBytes < TURN_BYTES)
        result = reads ? volume.tryRead(at, piece, chunk, 0) : volume.tryWrite(at, piece, chunk, 0);
      if (result === -ERRNO.EAGAIN) return this.#wait(request);
      if (result < 0) return this.#failed(request, result);
      this.#turnBytes += piece;
      this.#pieceDone(request);
    }
    if (reads) this.#finish(request, S.OK);
    else this.#written(request);
  }

  /** False: it has to be tried in another way, and nothing was told. */
  #readDirectly(request: Request): boolean {
    const { piece, done } = request;
    const at = request.offset + done;
    const fd = this.#volume.sendableFrom(at, piece);
    if (fd < 0) return false;
    const count = request.vectorTo(done, piece, vector);
    if (preadv2(fd, vector.address, count, at, RWF_NOWAIT) !== piece) return false;
    request.done += piece;
    request.written_bytes += piece;
    this.#counters[AT_EXPORT.sentReads]!++;
    return true;
  }

  #pieceDone(request: Request): void {
    if (request.type === T.IN) {
      request.copyTo(request.done, request.piece, request.chunk!, 0);
      request.written_bytes += request.piece;
    }
    request.done += request.piece;
  }

  /** With a chunk, for which there must be budget while it waits. */
  #wait(request: Request): void {
    const { budget } = this.#parts;
    const { piece } = request;
    if (request.held_bytes === 0) {
      const held_bytes = Math.min(PIECE_BYTES, request.length);
      // One request of each guest passes without asking.
      if (this.inFlightCount === 1) budget.force(held_bytes);
      else if (!budget.take(held_bytes, this)) {
        this.#parked = request;
        return;
      }
      request.held_bytes = held_bytes;
    }
    const at = request.offset + request.done;
    if (request.type === T.IN) {
      this.#counters[AT_EXPORT.slowReads]!++;
      this.#volume.read(at, piece, request.chunk!, 0, this, request.token);
    } else {
      this.#counters[AT_EXPORT.slowWrites]!++;
      this.#volume.write(at, piece, request.chunk!, 0, this, request.token);
    }
  }

  budgetReleased(): void {
    const parked = this.#parked;
    this.#parked = null;
    if (parked === null) this.#parts.budget.forget(this);
    else this.#wait(parked);
    this.#parts.touch();
  }

  completed(token: number, result: number): void {
    if (token === LOOK_TOKEN) {
      this.#willLook = false;
      this.#parts.touch();
      return;
    }
    const request = this.#requests[token]!;
    this.#answered(request, result);
    // There may be room for more now, and nothing but this tells of it.
    if (this.#parked !== null && this.inFlightCount === 1) {
      this.#parts.budget.forget(this);
      this.budgetReleased();
    }
    this.#parts.touch();
  }

  #answered(request: Request, result: number): void {
    // Its guest is gone: nothing is begun any more.
    if (request.session !== this.#sessionNumber) return this.#release(request);
    if (result < 0) return this.#failed(request, result);
    if (request.isFlushing) return this.#finish(request, S.OK);
    if (request.type === T.IN || request.type === T.OUT) {
      this.#pieceDone(request);
      return this.#go(request);
    }
    request.done += request.piece;
    this.#nextSlice(request);
  }

  #failed(request: Request, result: number): void {
    this.#finish(request, result === -ERRNO.EOPNOTSUPP ? S.UNSUPP : S.IOERR);
  }

  /** Given back to the guest, by the end of this turn. */
  #finish(request: Request, status: number): void {
    const session = this.#session!;
    const ring = session.rings[request.ring]!;
    if (status !== S.OK) {
      this.#counters[AT_EXPORT.errorReplies]!++;
      request.written_bytes = 0;
    }
    // One that failed meanwhile is not written to any more.
    if (ring.isRunning) {
      request.setStatus(status);
      const u = ring.usedAt + 1 + ((ring.usedIndex & ring.mask) << 1);
      ring.used[u] = request.head;
      ring.used[u + 1] = request.written_bytes + 1;
      ring.usedIndex = (ring.usedIndex + 1) & 0xffff;
      session.inflight[request.ring]?.given(request.head);
    }
    this.#release(request);
  }

  #release(request: Request): void {
    const { chunk, held_bytes } = request;
    request.chunk = null;
    request.held_bytes = 0;
    if (chunk !== null) this.#parts.pool.give(chunk);
    if (held_bytes > 0) this.#parts.budget.give(held_bytes);
    this.inFlightCount--;
    this.#free.push(request);
  }
}
