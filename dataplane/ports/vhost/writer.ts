/**
 * Frames from the arena into a guest's ring of empty buffers.
 *
 * What comes is two stretches of the arena, the second of which may be empty: an edited frame has a new beginning, a
 * segment has headers of its own. In front of them goes the virtio-net header. With mergeable buffers
 * (virtio 1.2 5.1.6.4) a frame may fill several chains: the header is in the first and says how many there are.
 *
 * When the ring has too few buffers, nothing of it is touched; whoever asked decides whether the frame waits.
 */
import type { Arena } from '../../engine/arena.js';
import { Chain } from '../../../host/vhost/chain.js';
import { WORDS_MAX_BYTES, copyStretch, copyWords } from './copy.js';
import type { GuestMemory, Window } from '../../../host/vhost/memory.js';
import type { Offloads } from './offloads.js';
import { DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE } from '../../../host/vhost/ring.js';
import type { Ring } from '../../../host/vhost/ring.js';

export const PUT = 0;
/** The guest has not made enough buffers available. */
export const NO_ROOM = 1;
/** A buffer of the guest is shorter than the frame, and frames may not be spread over several. */
export const TOO_LONG = 2;
/** The ring has failed. */
export const FAILED = 3;

const SHAPE = DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT;
/** Chains that one frame may fill: 64 KiB in buffers of 256 bytes. */
const MERGED_MAX_COUNT = 256;

export class RingWriter {
  readonly #arena: Arena;
  readonly #memory: GuestMemory;
  readonly #offloads: Offloads;
  readonly #chain = new Chain();
  readonly #heads = new Int32Array(MERGED_MAX_COUNT);
  readonly #lengths = new Int32Array(MERGED_MAX_COUNT);
  /** Where the next byte goes while pieces are filled. */
  #piece = 0;
  #into = 0;

  constructor(arena: Arena, memory: GuestMemory, offloads: Offloads) {
    this.#arena = arena;
    this.#memory = memory;
    this.#offloads = offloads;
  }

  /** PUT, NO_ROOM, TOO_LONG or FAILED. The guest sees it after `ring.publish()`. */
  put(
    ring: Ring,
    headAt: number,
    head_bytes: number,
    bodyAt: number,
    body_bytes: number,
    w0: number,
    w1: number,
    w2: number,
  ): number {
    const last = ring.lastAvail;
    if (last === ring.availSeen) {
      const ready = ring.look();
      if (ready < 0) return FAILED;
      if (ready === 0) return NO_ROOM;
    }
    const { desc, used, mask } = ring;
    const head = ring.avail[ring.availAt + 2 + (last & mask)]!;
    if (head >= ring.num) {
      ring.fail(`descriptor ${head} is made available, of ${ring.num}`);
      return FAILED;
    }
    const memory = this.#memory;
    const header_bytes = this.#offloads.header_bytes;
    const need_bytes = header_bytes + head_bytes + body_bytes;
    const d = ring.descAt + (head << 2);
    if (
      (desc[d + 3]! & SHAPE) !== DESC_F_WRITE ||
      desc[d + 2]! < need_bytes ||
      !memory.locate(desc[d]!, desc[d + 1]!, need_bytes) ||
      memory.span < need_bytes
    )
      return this.#putSpread(ring, head, need_bytes, headAt, head_bytes, bodyAt, body_bytes, w0, w1, w2);
    const { window, offset } = memory;
    const to = window.view;
    to.setInt32(offset, w0, true);
    to.setInt32(offset + 4, w1, true);
    if (header_bytes === 12) to.setInt32(offset + 8, (w2 & 0xffff) | 0x1_0000, true);
    else to.setInt16(offset + 8, w2, true);
    this.#copy(window, offset + header_bytes, headAt, head_bytes);
    if (body_bytes !== 0) this.#copy(window, offset + header_bytes + head_bytes, bodyAt, body_bytes);
    const u = ring.usedAt + 1 + ((ring.usedIndex & mask) << 1);
    used[u] = head;
    used[u + 1] = need_bytes;
    ring.usedIndex = (ring.usedIndex + 1) & 0xffff;
    ring.lastAvail = (last + 1) & 0xffff;
    return PUT;
  }

  #copy(window: Window, to: number, from: number, length_bytes: number): void {
    const arena = this.#arena;
    if (length_bytes <= WORDS_MAX_BYTES) copyWords(arena.view, from, window.view, to, length_bytes);
    else copyStretch(arena.view, arena.address, from, window.view, window.address, to, length_bytes);
  }

  /** Into buffers of any shape, of as many chains as it takes. */
  #putSpread(
    ring: Ring,
    head: number,
    need_bytes: number,
    headAt: number,
    head_bytes: number,
    bodyAt: number,
    body_bytes: number,
    w0: number,
    w1: number,
    w2: number,
  ): number {
    const chain = this.#chain;
    const { mask } = ring;
    chain.clear();
    let last = ring.lastAvail;
    let count = 0;
    let next = head;
    for (;;) {
      const before_bytes = chain.bytes;
      if (!chain.append(ring, this.#memory, next, DESC_F_WRITE, need_bytes)) return FAILED;
      this.#heads[count] = next;
      this.#lengths[count] = Math.min(chain.bytes, need_bytes) - before_bytes;
      count++;
      last = (last + 1) & 0xffff;
      if (chain.bytes >= need_bytes) break;
      if (!this.#offloads.isMergeable || count === MERGED_MAX_COUNT) return TOO_LONG;
      if (last === ring.availSeen) {
        // More may have come since.
        if (ring.look() < 0) return FAILED;
        if (last === ring.availSeen) return NO_ROOM;
      }
      next = ring.avail[ring.availAt + 2 + (last & mask)]!;
      if (next >= ring.num) {
        ring.fail(`descriptor ${next} is made available, of ${ring.num}`);
        return FAILED;
      }
    }
    const { header_bytes } = this.#offloads;
    const { view, scratchAt } = this.#arena;
    view.setInt32(scratchAt, w0, true);
    view.setInt32(scratchAt + 4, w1, true);
    view.setInt32(scratchAt + 8, (w2 & 0xffff) | (count << 16), true);
    this.#piece = 0;
    this.#into = 0;
    this.#fill(scratchAt, header_bytes);
    this.#fill(headAt, head_bytes);
    this.#fill(bodyAt, body_bytes);
    let usedIndex = ring.usedIndex;
    for (let i = 0; i < count; i++) {
      const u = ring.usedAt + 1 + ((usedIndex & mask) << 1);
      ring.used[u] = this.#heads[i]!;
      ring.used[u + 1] = this.#lengths[i]!;
      usedIndex = (usedIndex + 1) & 0xffff;
    }
    ring.usedIndex = usedIndex;
    ring.lastAvail = last;
    return PUT;
  }

  #fill(from: number, length_bytes: number): void {
    const chain = this.#chain;
    let at = from;
    let left = length_bytes;
    while (left > 0) {
      const room = chain.lengths[this.#piece]! - this.#into;
      const part = left < room ? left : room;
      this.#copy(chain.windows[this.#piece]!, chain.offsets[this.#piece]! + this.#into, at, part);
      at += part;
      left -= part;
      this.#into += part;
      if (part === room) {
        this.#piece++;
        this.#into = 0;
      }
    }
  }
}
