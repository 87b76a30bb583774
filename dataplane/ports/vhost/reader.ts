/**
 * Frames from a guest's ring into the arena.
 *
 *   ring    | head | head | …          each a chain: virtio-net header, frame, in buffers cut anyhow
 *   slot    | 64 room | frame | 16 room | frame | …     one burst in as few slots as it fits
 *
 * The frames of a burst lie close together: 64 small ones touch eight pages less of memory than with a slot each,
 * and stay in the first-level cache until they are sent. Each stands on a word boundary with 16 bytes of room.
 *
 * A guest's header is not believed: offloads that it did not negotiate, or that contradict the frame, cost it the
 * frame. Its chains are given back whatever became of the frame.
 */
import { SLOT_BYTES, SLOT_ROOM_BYTES } from '../../engine/arena.js';
import type { Arena } from '../../engine/arena.js';
import { C } from '../../engine/counters.js';
import type { FrameTable } from '../../engine/frames.js';
import type { BufferPool } from '../../engine/pool.js';
import { BURST_MAX_BYTES } from '../../engine/port.js';
import { FRAME_MAX_BYTES, FRAME_MIN_BYTES } from '../../wire/ethernet.js';
import { checksumFits } from '../../wire/offload.js';
import * as virtioNet from '../../wire/virtioNet.js';
import { Chain } from '../../../host/vhost/chain.js';
import { WORDS_MAX_BYTES, copyStretch, copyWords } from './copy.js';
import type { GuestMemory } from '../../../host/vhost/memory.js';
import type { Offloads } from './offloads.js';
import { DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE } from '../../../host/vhost/ring.js';
import type { Ring } from '../../../host/vhost/ring.js';

/** Between the frames of a slot: what a port may lay before a frame (see engine/frames.ts). */
const ROOM_BYTES = 16;
const SHAPE = DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT;

export class RingReader {
  readonly #pool: BufferPool;
  readonly #arena: Arena;
  readonly #memory: GuestMemory;
  readonly #offloads: Offloads;
  readonly #chain = new Chain();
  /** Being filled during a burst; -1 between bursts. */
  #slot = -1;
  #next = 0;
  #end = 0;

  constructor(pool: BufferPool, memory: GuestMemory, offloads: Offloads) {
    this.#pool = pool;
    this.#arena = pool.arena;
    this.#memory = memory;
    this.#offloads = offloads;
  }

  /** Puts up to `limit` frames into the table. How many chains were taken; `ring.isRunning` tells of its failure. */
  read(ring: Ring, frames: FrameTable, limit: number, row: Float64Array): number {
    const ready = ring.look();
    if (ready <= 0) return 0;
    const memory = this.#memory;
    const view = this.#arena.view;
    const header_bytes = this.#offloads.header_bytes;
    const { desc, descAt, avail, availAt, used, usedAt, mask, num } = ring;
    const count = ready < limit ? ready : limit;
    let last = ring.lastAvail;
    let usedIndex = ring.usedIndex;
    let burst_bytes = 0;
    let taken = 0;
    while (taken < count && burst_bytes < BURST_MAX_BYTES) {
      const head = avail[availAt + 2 + (last & mask)]!;
      if (head >= num) {
        ring.fail(`descriptor ${head} is made available, of ${num}`);
        break;
      }
      const d = descAt + (head << 2);
      const length_bytes = desc[d + 2]! - header_bytes;
      if (
        (desc[d + 3]! & SHAPE) === 0 &&
        length_bytes >= FRAME_MIN_BYTES &&
        length_bytes <= FRAME_MAX_BYTES &&
        memory.locate(desc[d]!, desc[d + 1]!, length_bytes + header_bytes) &&
        memory.span === length_bytes + header_bytes
      ) {
        const at = this.#place(length_bytes);
        if (at < 0) {
          row[C.dropNoBuffer]!++;
          break;
        }
        const { window, offset } = memory;
        const from = window.view;
        const frameAt = offset + header_bytes;
        if (length_bytes <= WORDS_MAX_BYTES) copyWords(from, frameAt, view, at, length_bytes);
        else copyStretch(from, window.address, frameAt, view, this.#arena.address, at, length_bytes);
        this.#push(
          frames,
          at,
          length_bytes,
          from.getInt32(offset, true),
          from.getInt32(offset + 4, true),
          from.getInt32(offset + 8, true),
          row,
        );
        burst_bytes += length_bytes;
      } else {
        const n = this.#readChain(ring, head, frames, row);
        if (n < 0) break;
        burst_bytes += n;
      }
      const u = usedAt + 1 + ((usedIndex & mask) << 1);
      used[u] = head;
      used[u + 1] = 0;
      usedIndex = (usedIndex + 1) & 0xffff;
      last = (last + 1) & 0xffff;
      taken++;
    }
    ring.lastAvail = last;
    ring.usedIndex = usedIndex;
    return taken;
  }

  /** After the last ring of a burst: the slot belongs to the frames in it. */
  finish(): void {
    if (this.#slot >= 0) this.#pool.release(this.#slot);
    this.#slot = -1;
  }

  /** Where a frame of so many bytes goes; -1: no buffer. */
  #place(length_bytes: number): number {
    // Words are copied whole, and the next frame begins on one.
    const next = this.#next + ((length_bytes + ROOM_BYTES + 3) & ~3);
    if (this.#slot >= 0 && next <= this.#end) {
      const at = this.#next;
      this.#next = next;
      return at;
    }
    const slot = this.#pool.take();
    if (slot < 0) return -1;
    this.finish();
    this.#slot = slot;
    const slotAt = this.#arena.slotAt(slot);
    const at = slotAt + SLOT_ROOM_BYTES;
    this.#end = slotAt + SLOT_BYTES;
    this.#next = at + ((length_bytes + ROOM_BYTES + 3) & ~3);
    return at;
  }

  #push(
    frames: FrameTable,
    at: number,
    length_bytes: number,
    w0: number,
    w1: number,
    w2: number,
    row: Float64Array,
  ): void {
    let word0 = 0;
    let word1 = 0;
    let word2 = 0;
    if ((w0 & (0xff00 | virtioNet.F_NEEDS_CSUM)) !== 0) {
      if (!isSound(w0, w1, w2, length_bytes, this.#offloads)) {
        row[C.dropOffload]!++;
        return;
      }
      // "Checked already" is for a device to say, not for a driver.
      word0 = w0 & ~(0xff & ~virtioNet.F_NEEDS_CSUM);
      word1 = w1;
      word2 = w2 & 0xffff;
    }
    this.#pool.retain(this.#slot);
    frames.push(this.#slot, at, length_bytes, word0, word1, word2, ROOM_BYTES);
  }

  /** Any chain. Bytes of its frame, 0 when it was dropped; -1: it stays in the ring. */
  #readChain(ring: Ring, head: number, frames: FrameTable, row: Float64Array): number {
    const chain = this.#chain;
    const arena = this.#arena;
    const header_bytes = this.#offloads.header_bytes;
    chain.clear();
    if (!chain.append(ring, this.#memory, head, 0, header_bytes + FRAME_MAX_BYTES + 1)) return -1;
    const length_bytes = chain.bytes - header_bytes;
    if (length_bytes < FRAME_MIN_BYTES || length_bytes > FRAME_MAX_BYTES) {
      row[C.ifInErrors]!++;
      return 0;
    }
    const at = this.#place(length_bytes);
    if (at < 0) {
      row[C.dropNoBuffer]!++;
      return -1;
    }
    const { view, address } = arena;
    const headerAt = arena.scratchAt;
    let toHeader = header_bytes;
    let header = headerAt;
    let to = at;
    for (let i = 0; i < chain.count; i++) {
      const window = chain.windows[i]!;
      let from = chain.offsets[i]!;
      let left = chain.lengths[i]!;
      if (toHeader > 0) {
        const part = left < toHeader ? left : toHeader;
        copyWords(window.view, from, view, header, part);
        header += part;
        toHeader -= part;
        from += part;
        left -= part;
      }
      if (left > 0) copyStretch(window.view, window.address, from, view, address, to, left);
      to += left;
    }
    this.#push(
      frames,
      at,
      length_bytes,
      view.getInt32(headerAt, true),
      view.getInt32(headerAt + 4, true),
      view.getInt32(headerAt + 8, true),
      row,
    );
    return length_bytes;
  }
}

/** Whether what is left to be done to a frame was negotiated and can be done. */
function isSound(w0: number, w1: number, w2: number, length_bytes: number, offloads: Offloads): boolean {
  if (!offloads.fromGuest.checksum || (w0 & virtioNet.F_NEEDS_CSUM) === 0) return false;
  if (!checksumFits(length_bytes, w1, w2)) return false;
  const type = virtioNet.gsoTypeOf(w0);
  if (type === virtioNet.GSO_NONE) return true;
  if (virtioNet.gsoSizeOf(w1) === 0) return false;
  if (((w0 >>> 8) & virtioNet.GSO_ECN) !== 0 && !offloads.fromGuest.ecn) return false;
  return offloads.fromGuest.takes(type);
}
