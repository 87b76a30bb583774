/**
 * One queue of an interface by AF_XDP: the four rings (host/xdp.ts) and the chunks that go round in them.
 *
 *   pool --take--> fill ring --kernel puts a frame in--> rx ring --> table of the turn --> released to the pool
 *   frame to send: held once more --> tx ring --kernel sends--> completion ring --> released
 *
 * A frame that lies in a chunk, whoever received it, is sent from where it lies; others are copied into one.
 * So what goes from one XDP port to another is not copied by us, and a flooded frame lies once in memory.
 *
 * What the kernel says is checked before it is believed: a chunk counts only if this queue has given it, and a
 * frame must lie within its chunk. Anything else is counted as an error and left alone.
 */
import { EAGAIN, EBUSY, EINTR, ENOBUFS } from '../../host/errno.js';
import { XDP_CHUNK_BYTES, XDP_PKT_CONTD, XDP_RING_NEED_WAKEUP } from '../../host/xdp.js';
import type { XdpRing } from '../../host/xdp.js';
import * as raw from '../../host/raw.js';
import type { Arena } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, LENGTH, SLOT, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable } from '../engine/frames.js';
import type { BufferPool } from '../engine/pool.js';
import { SEGMENT_HEADER_MAX_BYTES, Segmenter, completeChecksum } from '../wire/offload.js';
import { unfinishedChecksum } from '../wire/unfinished.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';
import { copyEdited } from './copies.js';

/** Where we put a frame into a chunk that is to be sent: a word boundary, with room for headers of a tap or a stream. */
const COPY_AT = 64;
const OFFSET_MASK = XDP_CHUNK_BYTES - 1;
const CHUNK_SHIFT = 12;
const ENTRY_WORDS = 4;
const FILL_WORDS = 2;
/** What stays in the pool for frames that are to be copied out: an eighth, */
const RESERVE_SHIFT = 3;
/** but not at the cost of a queue that could receive next to nothing. */
const FILL_MIN_COUNT = 64;

/** What the rings of a socket look like to this file; a test makes its own. */
export interface XdpRings {
  readonly fd: number;
  readonly fill: XdpRing;
  readonly completion: XdpRing;
  readonly rx: XdpRing;
  readonly tx: XdpRing;
  readonly budget: number;
  readonly isZeroCopy: boolean;
}

/** What all queues of a pool share. */
interface Common {
  /** Who has a chunk, as the number of a queue; 0: no kernel's ring. */
  readonly owner: Int32Array;
  queues: number;
}

const commons = new WeakMap<BufferPool, Common>();
let lastToken = 0;

function commonOf(pool: BufferPool): Common {
  let common = commons.get(pool);
  if (common === undefined)
    commons.set(pool, (common = { owner: new Int32Array(pool.arena.chunks), queues: 0 }));
  return common;
}

export class XdpQueue {
  readonly socket: XdpRings;
  readonly #pool: BufferPool;
  readonly #arena: Arena;
  readonly #row: Float64Array;
  readonly #common: Common;
  readonly #owner: Int32Array;
  readonly #token: number;
  /** Times that a chunk stands in the tx ring or is being sent. */
  readonly #sending: Int32Array;
  #sendingCount = 0;
  /** Chunks that the kernel may put frames into, at most. */
  readonly #fillTarget: number;
  #filled = 0;
  readonly #mayBeUnfinished: boolean;
  readonly #segmenter = new Segmenter();
  /** Frames that wait in the tx ring for the kernel to be told. */
  #untold = 0;

  constructor(
    socket: XdpRings,
    pool: BufferPool,
    row: Float64Array,
    fillTarget: number,
    mayBeUnfinished: boolean,
  ) {
    this.socket = socket;
    this.#pool = pool;
    this.#arena = pool.arena;
    this.#row = row;
    this.#fillTarget = Math.min(fillTarget, socket.fill.mask + 1);
    this.#mayBeUnfinished = mayBeUnfinished;
    this.#common = commonOf(pool);
    this.#common.queues++;
    this.#owner = this.#common.owner;
    this.#sending = new Int32Array(this.#arena.chunks);
    this.#token = ++lastToken;
  }

  /** Gives the kernel chunks, as many as it should have: of three quarters of them, each queue its share. */
  refill(): void {
    const pool = this.#pool;
    const { chunks } = this.#arena;
    const share = Math.max(FILL_MIN_COUNT, (((chunks >>> 2) * 3) / this.#common.queues) | 0);
    const wanted = Math.min(this.#fillTarget, share) - this.#filled;
    if (wanted <= 0) return;
    const reserve = this.#filled < FILL_MIN_COUNT ? 0 : chunks >>> RESERVE_SHIFT;
    const count = Math.min(wanted, pool.freeChunkCount - reserve);
    if (count <= 0) return;
    const { i32, producer, entries, mask } = this.socket.fill;
    let at = i32[producer]!;
    for (let i = 0; i < count; i++) {
      const slot = pool.takeChunk();
      const chunk = slot - this.#arena.slots;
      this.#owner[chunk] = this.#token;
      const w = entries + (at & mask) * FILL_WORDS;
      i32[w] = chunk << CHUNK_SHIFT;
      i32[w + 1] = 0;
      at = (at + 1) | 0;
    }
    Atomics.store(i32, producer, at);
    this.#filled += count;
    this.#wakeReceiver();
  }

  #wakeReceiver(): void {
    const { i32, flags } = this.socket.fill;
    if ((Atomics.load(i32, flags) & XDP_RING_NEED_WAKEUP) === 0 || !this.socket.isZeroCopy) return;
    raw.recv(this.socket.fd, 0, 0, raw.MSG_DONTWAIT);
  }

  /** The kernel has next to nothing to put frames into, and so would not wake us when there is more. */
  get isStarved(): boolean {
    return this.#filled < FILL_MIN_COUNT && this.#filled < this.#fillTarget;
  }

  /** Up to `limit` frames; how many there were. */
  receive(frames: FrameTable, limit: number): number {
    const { i32, producer, consumer, entries, mask } = this.socket.rx;
    let at = i32[consumer]!;
    const count = Math.min(limit, (Atomics.load(i32, producer) - at) | 0);
    if (count <= 0) {
      if (this.#filled < this.#fillTarget) this.refill();
      return 0;
    }
    for (let i = 0; i < count; i++) {
      const w = entries + (at & mask) * ENTRY_WORDS;
      this.#take(frames, i32[w]!, i32[w + 1]!, i32[w + 2]!, i32[w + 3]!);
      at = (at + 1) | 0;
    }
    Atomics.store(i32, consumer, at);
    this.refill();
    return count;
  }

  #take(frames: FrameTable, offset: number, high: number, length_bytes: number, options: number): void {
    const chunk = offset >>> CHUNK_SHIFT;
    const within = offset & OFFSET_MASK;
    if (high !== 0 || chunk >= this.#arena.chunks || this.#owner[chunk] !== this.#token) {
      this.#row[C.ifInErrors]!++;
      return;
    }
    const slot = this.#arena.slots + chunk;
    this.#owner[chunk] = 0;
    this.#filled--;
    if (
      length_bytes <= 0 ||
      length_bytes > XDP_CHUNK_BYTES - within ||
      (options & XDP_PKT_CONTD) !== 0 ||
      within < 4
    ) {
      this.#row[C.ifInErrors]!++;
      this.#pool.release(slot);
      return;
    }
    const at = this.#arena.chunksAt + offset;
    // Room of 16 bytes or more promises a word boundary.
    const room = (within & 3) === 0 ? within : 4;
    const left = this.#mayBeUnfinished ? unfinishedChecksum(this.#arena.view, at, length_bytes) : 0;
    if (left === 0) frames.push(slot, at, length_bytes, 0, 0, 0, room);
    else
      frames.push(slot, at, length_bytes, virtioNet.F_NEEDS_CSUM, (left & 0xffff) << 16, left >>> 16, room);
  }

  /** Lets go of what the kernel has sent. */
  reap(): void {
    if (this.#sendingCount === 0) return;
    const { i32, producer, consumer, entries, mask } = this.socket.completion;
    let at = i32[consumer]!;
    const count = (Atomics.load(i32, producer) - at) | 0;
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const w = entries + (at & mask) * FILL_WORDS;
      const chunk = i32[w]! >>> CHUNK_SHIFT;
      at = (at + 1) | 0;
      if (i32[w + 1] !== 0 || chunk >= this.#arena.chunks || this.#sending[chunk]! <= 0) {
        this.#row[C.ifOutErrors]!++;
        continue;
      }
      this.#sending[chunk]!--;
      this.#sendingCount--;
      this.#pool.release(this.#arena.slots + chunk);
    }
    Atomics.store(i32, consumer, at);
  }

  /**
   * Puts a frame into the tx ring; false (and counted) when it cannot. `room_bytes`: the longest frame that the
   * interface takes.
   */
  put(frames: FrameTable, frame: number, edit: number, room_bytes: number): boolean {
    const words = frames.words;
    const w = frame * FRAME_WORDS;
    const w0 = words[w + W0]!;
    const row = this.#row;
    if ((w0 & 0xff00) !== 0) return this.#putSegments(words, w, edit, room_bytes);
    if ((w0 & virtioNet.F_NEEDS_CSUM) !== 0) {
      const { view } = this.#arena;
      if (!completeChecksum(view, words[w + AT]!, words[w + LENGTH]!, words[w + W1]!, words[w + W2]!)) {
        row[C.dropOffload]!++;
        return false;
      }
      words[w + W0] = 0;
      words[w + W1] = 0;
      words[w + W2] = 0;
      row[C.checksumsCompleted]!++;
    }
    const length_bytes = words[w + LENGTH]! + vlan.growth(edit);
    if (length_bytes > room_bytes || length_bytes > XDP_CHUNK_BYTES - COPY_AT) {
      row[C.dropTooBig]!++;
      return false;
    }
    const slot = words[w + SLOT]!;
    if (slot >= this.#arena.slots && edit === vlan.EDIT_NONE) {
      if (!this.#hasRoom()) return false;
      this.#pool.retain(slot);
      this.#push(slot, words[w + AT]! - this.#arena.chunksAt, length_bytes);
      return true;
    }
    const copy = this.#takeForCopy();
    if (copy < 0) return false;
    const at = this.#arena.chunkAt(copy) + COPY_AT;
    copyEdited(this.#pool, words, w, edit, at);
    this.#push(copy, at - this.#arena.chunksAt, length_bytes);
    return true;
  }

  #putSegments(words: Int32Array, w: number, edit: number, room_bytes: number): boolean {
    const { view, bytes } = this.#arena;
    const segmenter = this.#segmenter;
    const row = this.#row;
    const count = segmenter.plan(view, words[w + AT]!, words[w + LENGTH]!, words[w + W0]!, words[w + W1]!);
    if (count < 0) {
      row[C.dropOffload]!++;
      return false;
    }
    const header_bytes = segmenter.header_bytes;
    const longest = header_bytes + segmenter.payloadLength(0) + vlan.growth(edit);
    if (longest > room_bytes || longest > XDP_CHUNK_BYTES - COPY_AT - SEGMENT_HEADER_MAX_BYTES) {
      row[C.dropTooBig]!++;
      return false;
    }
    row[C.gsoSegmentedFrames]!++;
    row[C.gsoSegments]! += count;
    for (let i = 0; i < count; i++) {
      const copy = this.#takeForCopy();
      if (copy < 0) return false;
      const headerAt = this.#arena.chunkAt(copy) + COPY_AT;
      segmenter.emitHeader(view, i, headerAt);
      const at = vlan.editInPlace(view, headerAt, edit);
      const payload_bytes = segmenter.payloadLength(i);
      const from = segmenter.payloadAt(i);
      bytes.copyWithin(headerAt + header_bytes, from, from + payload_bytes);
      this.#push(copy, at - this.#arena.chunksAt, headerAt + header_bytes + payload_bytes - at);
    }
    return true;
  }

  #hasRoom(): boolean {
    const { i32, consumer, producer, mask } = this.socket.tx;
    // The completion ring must take all that is under way: it is as long as the tx ring.
    if (this.#sendingCount <= mask && ((i32[producer]! - Atomics.load(i32, consumer)) | 0) <= mask)
      return true;
    this.#row[C.dropQueueFull]!++;
    return false;
  }

  #takeForCopy(): number {
    if (!this.#hasRoom()) return -1;
    const slot = this.#pool.takeChunk();
    if (slot < 0) this.#row[C.dropNoBuffer]!++;
    return slot;
  }

  /** The hold on the chunk goes with it. */
  #push(slot: number, offset: number, length_bytes: number): void {
    const { i32, producer, entries, mask } = this.socket.tx;
    const at = i32[producer]!;
    const w = entries + (at & mask) * ENTRY_WORDS;
    i32[w] = offset;
    i32[w + 1] = 0;
    i32[w + 2] = length_bytes;
    i32[w + 3] = 0;
    Atomics.store(i32, producer, (at + 1) | 0);
    this.#sending[slot - this.#arena.slots]!++;
    this.#sendingCount++;
    this.#untold++;
  }

  /** Whether frames still wait for the kernel to be told of them. */
  get hasUntold(): boolean {
    return this.#untold > 0;
  }

  /**
   * Tells the kernel that there is something to send. 0; or -errno when it can send nothing now. In copy mode the call
   * does the sending, `budget` frames of it at a time.
   */
  kick(): number {
    if (this.#untold === 0) return 0;
    const { fd, tx, budget, isZeroCopy } = this.socket;
    if (isZeroCopy && (Atomics.load(tx.i32, tx.flags) & XDP_RING_NEED_WAKEUP) === 0) {
      this.#untold = 0;
      return 0;
    }
    const calls = Math.ceil(this.#untold / budget);
    for (let i = 0; i < calls; i++) {
      const n = raw.send(fd, 0, 0, raw.MSG_DONTWAIT | raw.MSG_NOSIGNAL);
      this.#row[C.writeCalls]!++;
      if (n < 0 && n !== -EAGAIN && n !== -EBUSY && n !== -ENOBUFS && n !== -EINTR) return n;
      if (n >= 0) break;
    }
    this.#untold = isZeroCopy
      ? 0
      : Math.max(0, (tx.i32[tx.producer]! - Atomics.load(tx.i32, tx.consumer)) | 0);
    return 0;
  }

  /**
   * After the socket was closed: the chunks that the kernel had. It may still be using them for a moment (a driver
   * lets go of its ring in its own time), so the caller waits before it calls this.
   */
  releaseAll(): void {
    const { slots, chunks } = this.#arena;
    for (let chunk = 0; chunk < chunks; chunk++) {
      if (this.#owner[chunk] === this.#token) {
        this.#owner[chunk] = 0;
        this.#pool.release(slots + chunk);
      }
      for (; this.#sending[chunk]! > 0; this.#sending[chunk]!--) this.#pool.release(slots + chunk);
    }
    this.#filled = 0;
    this.#sendingCount = 0;
    this.#untold = 0;
    this.#common.queues--;
  }
}
