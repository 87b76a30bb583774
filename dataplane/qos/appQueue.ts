/**
 * The frames of one class that wait at one port, first in, first out, in rows of ten words; and the buffers they lie in.
 *
 * A frame that waits over the end of a turn must not pin a buffer made for 64 KiB when it is small: it is copied behind
 * the others of its class, many to a slot. Within a class frames leave in order, so slots become free in order too. A
 * frame of a quarter of a slot or more keeps the slot it came in.
 *
 *   fresh rows (of this turn) lie at the tail; their slots are held by the table of the turn, until `keep`.
 */
import { SLOT_BYTES, SLOT_ROOM_BYTES } from '../engine/arena.js';
import { AT, FRAME_WORDS, HOPS, LENGTH, ROOM, SLOT, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { BufferPool } from '../engine/pool.js';
import * as offload from '../wire/offload.js';
import * as virtioNet from '../wire/virtioNet.js';
import type { BufferShare } from './appShare.js';

export const ROW_WORDS = 12;
/** Behind the words of frames.ts: */
const EDIT = 8;
const WIRE_BYTES = 9;
const WIRE_FRAMES = 10;
/** Number in the table of the turn; -1: kept. */
const FRESH = 11;

const COPY_MAX_BYTES = SLOT_BYTES >>> 2;
const ALIGN_BYTES = 64;
/** `copiedAt` of a frame whose slot is held for itself. */
const OWN_SLOT = 1 << 30;

export class ClassQueue {
  readonly #pool: BufferPool;
  readonly #share: BufferShare;
  #rows: Int32Array;
  #mask: number;
  #head = 0;
  count = 0;
  bytes = 0;
  fresh = 0;
  /** Slots held, by this class. */
  slots = 0;
  /** The slot that small frames are copied into, and how far it is filled. */
  #packing = -1;
  #filled = 0;

  constructor(pool: BufferPool, share: BufferShare) {
    this.#pool = pool;
    this.#share = share;
    this.#rows = new Int32Array(64 * ROW_WORDS);
    this.#mask = 63;
  }

  get headBytes(): number {
    return this.#rows[(this.#head & this.#mask) * ROW_WORDS + WIRE_BYTES]!;
  }

  get headFrames(): number {
    return this.#rows[(this.#head & this.#mask) * ROW_WORDS + WIRE_FRAMES]!;
  }

  /** A frame of the turn comes last. */
  push(frames: FrameTable, frame: number, edit: number, wireBytes: number, wireFrames: number): void {
    if (this.count > this.#mask) this.#grow();
    const rows = this.#rows;
    const r = ((this.#head + this.count) & this.#mask) * ROW_WORDS;
    const w = frame * FRAME_WORDS;
    for (let i = 0; i < FRAME_WORDS; i++) rows[r + i] = frames.words[w + i]!;
    rows[r + EDIT] = edit;
    rows[r + WIRE_BYTES] = wireBytes;
    rows[r + WIRE_FRAMES] = wireFrames;
    rows[r + FRESH] = frame;
    this.count++;
    this.fresh++;
    this.bytes += wireBytes;
  }

  /** Rarely: rows double until the class's limit is reached. */
  #grow(): void {
    const old = this.#rows;
    const size = this.#mask + 1;
    const rows = new Int32Array(size * 2 * ROW_WORDS);
    for (let i = 0; i < this.count; i++) {
      const r = ((this.#head + i) & this.#mask) * ROW_WORDS;
      rows.set(old.subarray(r, r + ROW_WORDS), i * ROW_WORDS);
    }
    this.#rows = rows;
    this.#head = 0;
    this.#mask = size * 2 - 1;
  }

  /** Moves the first frame into a table, with one hold, and into the queue that names it. Returns its FRESH word. */
  shift(out: FrameTable, queue: Queue): number {
    const rows = this.#rows;
    const r = (this.#head & this.#mask) * ROW_WORDS;
    const slot = rows[r + SLOT]!;
    const fresh = rows[r + FRESH]!;
    queue.push(out.count, rows[r + EDIT]!);
    out.push(
      slot,
      rows[r + AT]!,
      rows[r + LENGTH]!,
      rows[r + W0]!,
      rows[r + W1]!,
      rows[r + W2]!,
      rows[r + ROOM]!,
    );
    out.words[(out.count - 1) * FRAME_WORDS + HOPS] = rows[r + HOPS]!;
    if (fresh >= 0) {
      this.#pool.retain(slot);
      this.fresh--;
    } else {
      this.#left(slot, fresh);
    }
    this.#advance(r);
    return fresh;
  }

  #advance(r: number): void {
    this.bytes -= this.#rows[r + WIRE_BYTES]!;
    this.#head = (this.#head + 1) & this.#mask;
    this.count--;
  }

  /** A kept frame's hold goes over to whoever sends it: the slot counts as ours no longer when it was its last. */
  #left(slot: number, fresh: number): void {
    if (fresh === -OWN_SLOT) {
      this.#giveBack();
      return;
    }
    if (this.#holdsLater(slot)) return;
    if (slot === this.#packing) {
      this.#pool.release(slot);
      this.#packing = -1;
    }
    this.#giveBack();
  }

  /** Whether a later kept frame lies in the slot: only frames with a slot of their own can lie between. */
  #holdsLater(slot: number): boolean {
    for (let i = 1; i < this.count; i++) {
      const r = ((this.#head + i) & this.#mask) * ROW_WORDS;
      const fresh = this.#rows[r + FRESH]!;
      if (fresh >= 0) return false;
      if (fresh === -OWN_SLOT) continue;
      return this.#rows[r + SLOT] === slot;
    }
    return false;
  }

  #giveBack(): void {
    this.slots--;
    this.#share.held--;
  }

  /**
   * Keeps what is left of this turn's frames. `own` is what the port holds in other classes. Returns how many were
   * dropped from the tail because no buffer may be held for them.
   */
  keep(frames: FrameTable, own: number): number {
    const rows = this.#rows;
    let dropped = 0;
    const first = this.count - this.fresh;
    let kept = first;
    for (let i = first; i < first + this.fresh; i++) {
      const r = ((this.#head + i) & this.#mask) * ROW_WORDS;
      const wireBytes = rows[r + WIRE_BYTES]!;
      if (!this.#keepOne(rows, r, frames, own)) {
        this.bytes -= wireBytes;
        dropped++;
        continue;
      }
      if (kept !== i) {
        const to = ((this.#head + kept) & this.#mask) * ROW_WORDS;
        rows.copyWithin(to, r, r + ROW_WORDS);
      }
      kept++;
    }
    this.count = kept;
    this.fresh = 0;
    return dropped;
  }

  #keepOne(rows: Int32Array, r: number, frames: FrameTable, own: number): boolean {
    const length_bytes = rows[r + LENGTH]!;
    // It may have been changed in place since by a port that shares it.
    const w = rows[r + FRESH]! * FRAME_WORDS;
    for (let i = W0; i <= W2; i++) rows[r + i] = frames.words[w + i]!;
    if (length_bytes > COPY_MAX_BYTES) {
      if (!this.#share.allows(own + this.slots)) return false;
      this.#completeChecksum(rows, r, frames.words, w);
      this.#pool.retain(rows[r + SLOT]!);
      rows[r + FRESH] = -OWN_SLOT;
      this.slots++;
      this.#share.held++;
      return true;
    }
    const need_bytes = SLOT_ROOM_BYTES + ((length_bytes + ALIGN_BYTES - 1) & -ALIGN_BYTES);
    if (this.#packing < 0 || this.#filled + need_bytes > SLOT_BYTES) {
      if (!this.#share.allows(own + this.slots)) return false;
      const slot = this.#pool.take();
      if (slot < 0) return false;
      if (this.#packing >= 0) this.#pool.release(this.#packing);
      this.#packing = slot;
      this.#filled = 0;
      this.slots++;
      this.#share.held++;
    }
    const { arena } = this.#pool;
    const at = arena.slotAt(this.#packing) + this.#filled + SLOT_ROOM_BYTES;
    const from = rows[r + AT]!;
    arena.bytes.copyWithin(at, from, from + length_bytes);
    this.#filled += need_bytes;
    this.#pool.retain(this.#packing);
    rows[r + SLOT] = this.#packing;
    rows[r + AT] = at;
    rows[r + ROOM] = SLOT_ROOM_BYTES;
    rows[r + FRESH] = -1;
    return true;
  }

  /** Of a buffer that others may hold too: who completes it later would not know that it is done. */
  #completeChecksum(rows: Int32Array, r: number, words: Int32Array, w: number): void {
    const w0 = rows[r + W0]!;
    if ((w0 & virtioNet.F_NEEDS_CSUM) === 0 || virtioNet.gsoTypeOf(w0) !== virtioNet.GSO_NONE) return;
    const { view } = this.#pool.arena;
    offload.completeChecksum(view, rows[r + AT]!, rows[r + LENGTH]!, rows[r + W1]!, rows[r + W2]!);
    for (let i = W0; i <= W2; i++) {
      rows[r + i] = 0;
      words[w + i] = 0;
    }
  }

  /** Lets everything go. Nothing of it may be fresh. */
  clear(): number {
    const { count } = this;
    for (let i = 0; i < count; i++)
      this.#pool.release(this.#rows[((this.#head + i) & this.#mask) * ROW_WORDS + SLOT]!);
    if (this.#packing >= 0) this.#pool.release(this.#packing);
    this.#packing = -1;
    this.#share.held -= this.slots;
    this.slots = 0;
    this.count = 0;
    this.bytes = 0;
    return count;
  }
}
