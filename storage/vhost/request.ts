/**
 * One request of a guest, from the ring until it is given back, and the copying between its buffers and our memory. Slots
 * that are used again: the index of a slot is the token that the volume hands back.
 *
 *   chain   | header 16 | data to be written |   to be read by us: chain.readBytes
 *           | data that is read | status 1   |   to be written by us: the rest
 *
 * The buffers may be cut anywhere, the header too (VERSION_1: "no assumptions on framing").
 */
import { copyMemory } from '../../host/foreign.js';
import type { IoVector } from '../../host/iovec.js';
import { Chain } from '../../host/vhost/chain.js';
import { HEADER_LENGTH, SEGMENTS_MAX } from './virtioBlk.js';
import type { Chunk } from '../nbd/chunks.js';

export class Request {
  readonly token: number;
  readonly chain = new Chain();
  /** Of which connection; an answer for another is nobody's. */
  session = 0;
  ring = 0;
  head = 0;
  type = 0;
  offset = 0;
  length = 0;
  /** Given to the volume. Of DISCARD and WRITE_ZEROES: of the segment. */
  done = 0;
  /** With the volume now. */
  piece = 0;
  chunk: Chunk | null = null;
  /** Held of the budget. */
  held_bytes = 0;
  isFlushing = false;
  /** Written into the guest's memory, without the status. */
  written_bytes = 0;
  segments = 0;
  segment = 0;
  readonly segmentOffsets = new Float64Array(SEGMENTS_MAX);
  readonly segmentLengths = new Float64Array(SEGMENTS_MAX);
  readonly segmentFlags = new Int32Array(SEGMENTS_MAX);

  constructor(token: number) {
    this.token = token;
  }

  /** How much data the guest's buffers have room for. */
  get readable_bytes(): number {
    return this.chain.bytes - this.chain.readBytes - 1;
  }
  get writable_bytes(): number {
    return this.chain.readBytes - HEADER_LENGTH;
  }

  /** From what is to be read by us, `from` on. */
  copyFrom(from: number, length_bytes: number, to: Chunk, at: number): void {
    const { chain } = this;
    let skip = from;
    let left = length_bytes;
    for (let i = 0; left > 0; i++) {
      const piece = chain.lengths[i]!;
      if (skip >= piece) {
        skip -= piece;
        continue;
      }
      const n = Math.min(piece - skip, left);
      copyMemory(to.address + at, chain.windows[i]!.address + chain.offsets[i]! + skip, n);
      at += n;
      left -= n;
      skip = 0;
    }
  }

  /** Into what is to be written by us, `to` on. */
  copyTo(to: number, length_bytes: number, from: Chunk, at: number): void {
    const { chain } = this;
    let skip = to;
    let left = length_bytes;
    for (let i = chain.readCount; left > 0; i++) {
      const piece = chain.lengths[i]!;
      if (skip >= piece) {
        skip -= piece;
        continue;
      }
      const n = Math.min(piece - skip, left);
      copyMemory(chain.windows[i]!.address + chain.offsets[i]! + skip, from.address + at, n);
      at += n;
      left -= n;
      skip = 0;
    }
  }

  /** The same buffers as copyTo fills, for the kernel to fill; how many there are. */
  vectorTo(to: number, length_bytes: number, vector: IoVector): number {
    const { chain } = this;
    let skip = to;
    let left = length_bytes;
    let count = 0;
    for (let i = chain.readCount; left > 0; i++) {
      const piece = chain.lengths[i]!;
      if (skip >= piece) {
        skip -= piece;
        continue;
      }
      const n = Math.min(piece - skip, left);
      vector.set(count++, chain.windows[i]!.address + chain.offsets[i]! + skip, n);
      left -= n;
      skip = 0;
    }
    return count;
  }

  /** The last byte of all. */
  setStatus(status: number): void {
    const { chain } = this;
    const last = chain.count - 1;
    chain.windows[last]!.view.setUint8(chain.offsets[last]! + chain.lengths[last]! - 1, status);
  }
}
