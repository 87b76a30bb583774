/**
 * Captures: what passes some links, as pcapng blocks in a ring that the HTTP thread reads. A link without one
 * pays a comparison per burst. A frame that finds the ring full is lost to the capture and to nothing else.
 */
import type { ByteRing } from '../engine/byteRing.js';
import { FRAME_WORDS, LENGTH } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { Link, Observer } from '../engine/link.js';
import { observe, stopObserving } from '../engine/observers.js';
import type { BufferPool } from '../engine/pool.js';
import * as pcapng from '../wire/pcapng.js';
import * as vlan from '../wire/vlan.js';
import { copyEdited } from './copies.js';

export interface CaptureOptions {
  /** Of each frame. */
  snap_bytes: number;
  /** Frames until it is complete. */
  count: number;
  /** Whether a frame, as it is on this link, is wanted; undefined: all are. */
  accepts: ((view: DataView, at: number, length_bytes: number) => boolean) | undefined;
  wallClock_us: () => number;
}

export class Capture implements Observer {
  readonly #pool: BufferPool;
  readonly #ring: ByteRing;
  readonly #links: readonly Link[];
  readonly #options: CaptureOptions;
  #left: number;

  /** Links are the capture's interfaces, numbered in this order. */
  constructor(pool: BufferPool, ring: ByteRing, links: readonly Link[], options: CaptureOptions) {
    this.#pool = pool;
    this.#ring = ring;
    this.#links = links;
    this.#options = options;
    this.#left = options.count;
    for (const link of links) observe(link, this);
  }

  /** No more is recorded. Idempotent. */
  close(): void {
    this.#left = 0;
    this.#ring.close();
    for (const link of this.#links) stopObserving(link, this);
  }

  received(link: Link, frames: FrameTable, first: number, end: number): void {
    const time_us = this.#options.wallClock_us();
    for (let frame = first; frame < end && this.#left > 0; frame++)
      this.#record(link, frames, frame, vlan.EDIT_NONE, pcapng.DIRECTION_IN, time_us);
    if (this.#left === 0) this.close();
  }

  sending(link: Link, frames: FrameTable, queue: Queue): void {
    const time_us = this.#options.wallClock_us();
    for (let i = 0; i < queue.count && this.#left > 0; i++)
      this.#record(link, frames, queue.frame(i), queue.edit(i), pcapng.DIRECTION_OUT, time_us);
    if (this.#left === 0) this.close();
  }

  #record(
    link: Link,
    frames: FrameTable,
    frame: number,
    edit: number,
    direction: number,
    time_us: number,
  ): void {
    const { arena } = this.#pool;
    const slot = this.#pool.take();
    if (slot < 0) return;
    const at = arena.slotAt(slot);
    const w = frame * FRAME_WORDS;
    const original_bytes = frames.words[w + LENGTH]! + vlan.growth(edit);
    const captured_bytes = Math.min(original_bytes, this.#options.snap_bytes);
    const dataAt = at + pcapng.ENHANCED_PACKET_DATA;
    copyEdited(this.#pool, frames.words, w, edit, dataAt);
    const { accepts } = this.#options;
    if (accepts !== undefined && !accepts(arena.view, dataAt, original_bytes)) {
      this.#pool.release(slot);
      return;
    }
    const length = pcapng.emitEnhancedPacket(
      arena.view,
      at,
      this.#links.indexOf(link),
      time_us,
      captured_bytes,
      original_bytes,
      direction,
    );
    if (this.#ring.write(arena.bytes, at, length)) this.#left--;
    this.#pool.release(slot);
  }
}
