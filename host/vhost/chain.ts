/**
 * Follows a chain of descriptors, of any shape that virtio allows: linked ones, an indirect table, buffers that lie
 * across the border of two regions.
 *
 * Each descriptor is read once and judged as it was read: the guest may change it at any moment. No chain has more
 * links than there are descriptors, so one that bites its tail ends.
 */
import type { GuestMemory, Window } from './memory.js';
import { DESCRIPTOR_LENGTH, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE } from './ring.js';
import type { Ring } from './ring.js';

/** As many as the longest ring that QEMU makes; a frame of 64 KiB in pages of 4 KiB needs 18. */
export const PIECES_MAX_COUNT = 1024;

/** Access of a chain that is first to be read and then to be written. */
export const READ_THEN_WRITE = -1;

const FLAGS = DESC_F_NEXT | DESC_F_WRITE | DESC_F_INDIRECT;

export class Chain {
  readonly windows: Window[] = [];
  readonly offsets = new Int32Array(PIECES_MAX_COUNT);
  readonly lengths = new Int32Array(PIECES_MAX_COUNT);
  count = 0;
  bytes = 0;
  /** Of READ_THEN_WRITE: so many pieces, and bytes, are to be read; those behind them to be written. */
  readCount = 0;
  readBytes = 0;

  clear(): void {
    this.count = 0;
    this.bytes = 0;
    this.readCount = 0;
    this.readBytes = 0;
  }

  /**
   * Appends the buffers of the chain until there are `want_bytes` of them or it ends. `access`: DESC_F_WRITE where
   * the device writes, 0 where it reads, or READ_THEN_WRITE. False: the ring has failed.
   */
  append(ring: Ring, memory: GuestMemory, head: number, access: number, want_bytes: number): boolean {
    let table = ring.desc;
    let tableAt = ring.descAt;
    let num = ring.num;
    let isIndirect = false;
    let left = num;
    let index = head;
    for (;;) {
      if (index >= num) return this.#fail(ring, `descriptor ${head} leads to ${index}, of ${num}`);
      if (left-- === 0) return this.#fail(ring, `the chain from descriptor ${head} does not end`);
      const at = tableAt + (index << 2);
      const low = table[at]!;
      const high = table[at + 1]!;
      const length_bytes = table[at + 2]!;
      const word = table[at + 3]!;
      if ((word & DESC_F_INDIRECT) !== 0) {
        if (isIndirect || (word & DESC_F_NEXT) !== 0)
          return this.#fail(ring, `descriptor ${index} is indirect where that is not allowed`);
        num = length_bytes >>> 4;
        if (length_bytes <= 0 || (length_bytes & (DESCRIPTOR_LENGTH - 1)) !== 0 || num > PIECES_MAX_COUNT)
          return this.#fail(
            ring,
            `descriptor ${index} names an indirect table of ${length_bytes >>> 0} bytes`,
          );
        if (
          !memory.locate(low, high, length_bytes) ||
          memory.span < length_bytes ||
          (memory.offset & 3) !== 0
        )
          return this.#fail(ring, `the indirect table of descriptor ${index} does not lie in the memory`);
        table = memory.window.i32;
        tableAt = memory.offset >>> 2;
        isIndirect = true;
        left = num;
        index = 0;
        continue;
      }
      if (access === READ_THEN_WRITE) {
        if ((word & DESC_F_WRITE) === 0 && this.count !== this.readCount)
          return this.#fail(ring, `descriptor ${index} is to be read, behind one that is to be written`);
      } else if ((word & FLAGS & DESC_F_WRITE) !== access)
        return this.#fail(
          ring,
          `descriptor ${index} is ${access === 0 ? 'for writing, in a queue to be read' : 'read-only, in a queue to be written'}`,
        );
      if (length_bytes !== 0 && !this.#add(memory, low, high, length_bytes, want_bytes))
        return this.#fail(ring, `descriptor ${index} points outside of the memory`);
      if (access === READ_THEN_WRITE && (word & DESC_F_WRITE) === 0) {
        this.readCount = this.count;
        this.readBytes = this.bytes;
      }
      if ((word & DESC_F_NEXT) === 0 || this.bytes >= want_bytes) return true;
      index = word >>> 16;
    }
  }

  #add(memory: GuestMemory, low: number, high: number, length_bytes: number, want_bytes: number): boolean {
    // Beyond 2 GiB it would be a negative number, which `locate` refuses.
    let rest = length_bytes;
    let from = low;
    let fromHigh = high;
    while (rest !== 0 && this.bytes < want_bytes) {
      if (this.count === PIECES_MAX_COUNT || !memory.locate(from, fromHigh, rest)) return false;
      const { span } = memory;
      this.windows[this.count] = memory.window;
      this.offsets[this.count] = memory.offset;
      this.lengths[this.count] = span;
      this.count++;
      this.bytes += span;
      rest -= span;
      const next = (from >>> 0) + span;
      if (next >= 4294967296) fromHigh++;
      from = next | 0;
    }
    return true;
  }

  #fail(ring: Ring, reason: string): false {
    ring.fail(reason);
    return false;
  }
}
