/**
 * The frames in hand during one turn: a table of eight words per frame, and per port a queue of what it is to send.
 *
 *   word 0  slot          which buffer it lies in
 *   word 1  at            offset of its first byte in the arena
 *   word 2  length        bytes
 *   word 3  w0 \
 *   word 4  w1  > what is still to be done to it: the first twelve bytes of its virtio-net header
 *   word 5  w2 /
 *   word 6  room          bytes before the frame that may be overwritten while it is sent: 4 at least
 *   word 7  hops          cables between switches of this plane that it came by
 *
 * The four bytes before every frame are room for a length prefix; where a prefix stands there already it is
 * this frame's own, so writing it again changes nothing. A frame with 16 bytes of room or more lies on a word
 * boundary.
 *
 * A frame belongs to the turn that received it. After all egress queues were flushed, the table lets go of
 * all its slots. A port that cannot send yet copies.
 */
import type { BufferPool } from './pool.js';

export const FRAME_WORDS = 8;
export const SLOT = 0;
export const AT = 1;
export const LENGTH = 2;
export const W0 = 3;
export const W1 = 4;
export const W2 = 5;
export const ROOM = 6;
export const HOPS = 7;
/** Of word 7; above them the switch notes for its queues what it found out (qos/appNote.ts). */
export const HOPS_MASK = 0xff;

/** Frames in hand at most: one queue has room for all of them, so a queue never overflows within a turn. */
export const FRAMES_MAX_COUNT = 512;

export class FrameTable {
  readonly words = new Int32Array(FRAMES_MAX_COUNT * FRAME_WORDS);
  readonly #pool: BufferPool;
  #count = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get count(): number {
    return this.#count;
  }

  get free(): number {
    return FRAMES_MAX_COUNT - this.#count;
  }

  /** Takes over one hold on the slot. The caller has looked at `free`. */
  push(slot: number, at: number, length: number, w0: number, w1: number, w2: number, room: number): void {
    const words = this.words;
    const w = this.#count * FRAME_WORDS;
    words[w + SLOT] = slot;
    words[w + AT] = at;
    words[w + LENGTH] = length;
    words[w + W0] = w0;
    words[w + W1] = w1;
    words[w + W2] = w2;
    words[w + ROOM] = room;
    words[w + HOPS] = 0;
    this.#count++;
  }

  /** Once more what `frame` of that table (this one, if none is said) says. */
  pushCopy(frame: number, of: FrameTable = this): void {
    const from = frame * FRAME_WORDS;
    const to = this.#count * FRAME_WORDS;
    this.#pool.retain(of.words[from + SLOT]!);
    for (let i = 0; i < FRAME_WORDS; i++) this.words[to + i] = of.words[from + i]!;
    this.#count++;
  }

  /** Lets the first `count` frames go; the others move up. */
  shift(count: number): void {
    for (let frame = 0; frame < count; frame++) this.#pool.release(this.words[frame * FRAME_WORDS + SLOT]!);
    this.words.copyWithin(0, count * FRAME_WORDS, this.#count * FRAME_WORDS);
    this.#count -= count;
  }

  /** Lets one frame go; those behind it move up. */
  drop(frame: number): void {
    this.#pool.release(this.words[frame * FRAME_WORDS + SLOT]!);
    this.words.copyWithin(frame * FRAME_WORDS, (frame + 1) * FRAME_WORDS, this.#count * FRAME_WORDS);
    this.#count--;
  }

  releaseAll(): void {
    const words = this.words;
    const end = this.#count * FRAME_WORDS;
    for (let w = SLOT; w < end; w += FRAME_WORDS) this.#pool.release(words[w]!);
    this.#count = 0;
  }
}

/** What a port is to send: pairs of frame number and edit (see wire/vlan.ts; to this file just a word). */
export class Queue {
  readonly words = new Int32Array(FRAMES_MAX_COUNT * 2);
  count = 0;

  push(frame: number, edit: number): void {
    const w = this.count * 2;
    this.words[w] = frame;
    this.words[w + 1] = edit;
    this.count++;
  }

  get isFull(): boolean {
    return this.count === FRAMES_MAX_COUNT;
  }

  frame(index: number): number {
    return this.words[index * 2]!;
  }

  edit(index: number): number {
    return this.words[index * 2 + 1]!;
  }
}
