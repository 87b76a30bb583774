/**
 * Answers to NBD_CMD_BLOCK_STATUS: one chunk for each context that was selected, or that the request names (extended headers).
 *
 * A volume is asked about STATUS_STEP_BYTES at a time, since it may look at every block of that; only where nothing was ever
 * written, which is told quickly, the answer goes on. "The server MAY return less data than requested."
 */
import { AT_EXPORT } from './counters.js';
import { EXTENTS_LIMIT, STATUS_STEPS_LIMIT, STATUS_STEP_BYTES } from './limits.js';
import { BASE_ALLOCATION_ID, FIRST_CONTEXT_ID } from './negotiation.js';
import type { Operations } from './operation.js';
import type { Replies } from './replies.js';
import { nbdError, type Agreed } from './validate.js';
import { failure } from './words.js';
import {
  ERRNO,
  EXTENT_HOLE,
  EXTENT_ZERO,
  newContextExtentList,
  newExtentList,
  pushContextExtent,
  type ContextExtentList,
  type Volume,
  type Waiter,
} from '../volume/volume.js';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, number64 } from './wire.js';

/** Shared by all connections: filled and used up within one request. */
const allocation = newExtentList(EXTENTS_LIMIT);
const found = newContextExtentList(EXTENTS_LIMIT);
const more = newContextExtentList(EXTENTS_LIMIT);
const rounded = newContextExtentList(EXTENTS_LIMIT);

const UNWRITTEN = EXTENT_HOLE | EXTENT_ZERO;

export class BlockStatus {
  /** Of all contexts, as `answer` takes it: a bit for each, in the order of #ids. */
  readonly all: number;
  #volume: Volume;
  #operations: Operations;
  #replies: Replies;
  #counters: Float64Array;
  #block_bytes: number;
  #ids: readonly number[];

  constructor(
    volume: Volume,
    agreed: Agreed,
    operations: Operations,
    replies: Replies,
    counters: Float64Array,
  ) {
    this.#volume = volume;
    this.#operations = operations;
    this.#replies = replies;
    this.#counters = counters;
    this.#block_bytes = agreed.minimumBlock_bytes ?? 1;
    const others = (agreed.contexts ?? []).map(context => FIRST_CONTEXT_ID + context);
    this.#ids = agreed.baseAllocation ? [BASE_ALLOCATION_ID, ...others] : others;
    this.all = 2 ** this.#ids.length - 1;
  }

  /** The contexts that a payload (effect length, then ids) names; 0: it is malformed, or names one twice or one not selected. */
  named(view: DataView, at: number, length_bytes: number): number {
    if (length_bytes < 12 || length_bytes % 4 !== 0) return 0;
    let named = 0;
    for (let i = at + 8; i < at + length_bytes; i += 4) {
      const bit = 1 << this.#ids.indexOf(view.getUint32(i));
      // An index of -1 is the highest bit: there are fewer contexts.
      if ((bit & this.all) === 0 || (named & bit) !== 0) return 0;
      named |= bit;
    }
    return named;
  }

  /** The first 8 bytes of such a payload. */
  static effectLength(view: DataView, at: number, length_bytes: number): number {
    return length_bytes < 8 ? 0 : number64(view, at);
  }

  /**
   * Whether the volume has to bring a part of its map first: then an Operation stands for the request, and `answer` is to be called
   * when `waiter` is told. Its `total` has the contexts.
   */
  waits(
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    contexts: number,
    waiter: Waiter,
  ): boolean {
    const { meta } = this.#volume;
    const step = Math.min(length, STATUS_STEP_BYTES);
    if (meta?.bring === undefined || step === 0) return false;
    const operations = this.#operations;
    const token = operations.take(NBD_CMD_BLOCK_STATUS, flags, cookieHigh, cookieLow, offset, length, 0);
    const operation = operations.slots[token]!;
    operation.done = length;
    operation.total = contexts;
    if (meta.bring(offset, step, waiter, token)) return true;
    operations.give(token);
    return false;
  }

  /** The request has passed the gate; `replies` know whose it is. An error ends the answer, whatever came before it. */
  answer(flags: number, offset: number, length: number, contexts: number): void {
    this.#counters[AT_EXPORT.blockStatuses]!++;
    const one = (flags & NBD_CMD_FLAG_REQ_ONE) !== 0;
    for (let i = 0; i < this.#ids.length; i++) {
      if ((contexts & (1 << i)) === 0) continue;
      const id = this.#ids[i]!;
      const result = this.#gather(id, offset, length);
      if (result < 0) {
        const error = nbdError(result);
        const { state } = this.#volume;
        return this.#replies.error(error, () => failure(NBD_CMD_BLOCK_STATUS, offset, length, error, state));
      }
      const list = this.#wholeBlocks(id === BASE_ALLOCATION_ID);
      const isLast = contexts >> (i + 1) === 0;
      this.#replies.blockStatus(id, list.lengths_bytes, list.values, one ? 1 : list.count, isLast);
    }
  }

  /** Fills `found`. */
  #gather(id: number, offset: number, length: number): number {
    const nothing = id === BASE_ALLOCATION_ID ? UNWRITTEN : 0;
    let step = Math.min(length, STATUS_STEP_BYTES);
    const result = this.#ask(id, offset, step, found);
    if (result < 0) return result;
    let done = step;
    for (let steps = 1; steps < STATUS_STEPS_LIMIT && done < length; steps++) {
      if (found.count !== 1 || found.values[0] !== nothing || found.lengths_bytes[0] !== done) break;
      step = Math.min(length - done, STATUS_STEP_BYTES);
      // What is known already is an answer, too.
      if (this.#ask(id, offset + done, step, more) < 0 || more.values[0] !== nothing) break;
      found.lengths_bytes[0] += more.lengths_bytes[0]!;
      done += step;
    }
    return 0;
  }

  #ask(id: number, offset: number, length: number, into: ContextExtentList): number {
    if (id !== BASE_ALLOCATION_ID) {
      const { meta } = this.#volume;
      return meta?.contextExtents(id - FIRST_CONTEXT_ID, offset, length, into) ?? -ERRNO.EIO;
    }
    const result = this.#volume.extents(offset, length, allocation);
    if (result < 0) return result;
    into.count = allocation.count;
    for (let i = 0; i < allocation.count; i++) {
      into.lengths_bytes[i] = allocation.lengths_bytes[i]!;
      into.values[i] = allocation.flags[i]!;
    }
    return 0;
  }

  /**
   * `found`, in descriptors that are multiples of the smallest block that the export has. A block of several kinds is what all of
   * it is (allocation), or what any of it is (others).
   */
  #wholeBlocks(areFlags: boolean): ContextExtentList {
    const block = this.#block_bytes;
    let isWhole = true;
    for (let i = 0; i < found.count; i++) isWhole &&= found.lengths_bytes[i]! % block === 0;
    if (isWhole) return found;
    rounded.count = 0;
    let begun = 0;
    let value = 0;
    for (let i = 0; i < found.count; i++) {
      let left = found.lengths_bytes[i]!;
      const here = found.values[i]!;
      if (begun > 0) {
        const taken = Math.min(left, block - begun);
        value = areFlags ? value & here : Math.max(value, here);
        begun += taken;
        left -= taken;
        if (begun < block) continue;
        if (!pushContextExtent(rounded, block, value)) return rounded;
      }
      begun = left % block;
      value = here;
      if (left > begun && !pushContextExtent(rounded, left - begun, here)) return rounded;
    }
    // Of its only block the volume told but a part.
    if (rounded.count === 0) pushContextExtent(rounded, block, areFlags ? 0 : Math.max(value, 1));
    return rounded;
  }
}
