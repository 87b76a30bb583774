/**
 * The double of a port: frames are put in and taken out by hand. Carries every offload, like a tap with vnet headers.
 */
import { SLOT_ROOM_BYTES } from '../engine/arena.js';
import { FRAME_WORDS, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import { C } from '../engine/counters.js';
import type { Link } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';
import { copyEdited } from './copies.js';
import { countSent } from './sent.js';

export interface MemoryFrame {
  bytes: Uint8Array;
  w0: number;
  w1: number;
  w2: number;
}

export class MemoryPort implements Port {
  readonly kind = 'memory';
  readonly #link: Link;
  #arriving: MemoryFrame[] = [];
  /** What was sent to it, oldest first. */
  readonly sent: MemoryFrame[] = [];
  isOpen = false;

  constructor(link: Link) {
    this.#link = link;
  }

  open(): void {
    this.isOpen = true;
    this.#link.setState('up', null);
  }

  close(): void {
    this.isOpen = false;
    this.#arriving = [];
  }

  /** The frame will be received in the next turn. */
  arrive(bytes: Uint8Array, w0 = 0, w1 = 0, w2 = 0): void {
    this.#arriving.push({ bytes, w0, w1, w2 });
    this.#link.wake();
  }

  receive(frames: FrameTable, limit: number): boolean {
    const { pool } = this.#link.loop;
    for (let i = 0; i < limit && this.#arriving.length > 0; i++) {
      const slot = pool.take();
      if (slot < 0) {
        this.#link.counters[C.dropNoBuffer]!++;
        break;
      }
      const { bytes, w0, w1, w2 } = this.#arriving.shift()!;
      const at = pool.arena.slotAt(slot) + SLOT_ROOM_BYTES;
      pool.arena.bytes.set(bytes, at);
      frames.push(slot, at, bytes.length, w0, w1, w2, SLOT_ROOM_BYTES);
    }
    return this.#arriving.length > 0;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const { pool } = this.#link.loop;
    const { words } = frames;
    for (let i = 0; i < queue.count; i++) {
      const w = queue.frame(i) * FRAME_WORDS;
      const edit = queue.edit(i);
      const growth = vlan.growth(edit);
      const slot = pool.take();
      if (slot < 0) {
        this.#link.counters[C.dropNoBuffer]!++;
        continue;
      }
      const at = pool.arena.slotAt(slot);
      const length_bytes = copyEdited(pool, words, w, edit, at);
      const bytes = pool.arena.bytes.slice(at, at + length_bytes);
      pool.release(slot);
      this.sent.push({
        bytes,
        w0: virtioNet.moveWord0(words[w + W0]!, growth),
        w1: virtioNet.moveWord1(words[w + W0]!, words[w + W1]!, growth),
        w2: words[w + W2]!,
      });
      countSent(this.#link.counters, pool.arena.view, frames, queue.frame(i), edit);
    }
  }
}
