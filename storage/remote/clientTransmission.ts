/**
 * The client's half of transmission: requests become bytes, and the server's bytes become answers. Pure; sockets, order and
 * time are the caller's (link.ts in the data thread, session.ts elsewhere).
 *
 *   ask -> [slot] -> simple reply                                   -> answered
 *                 -> chunk, chunk, ... chunk with DONE              -> answered   (structured, or with extended headers)
 *
 * A cookie is (times that this slot was used, number of the slot), so a reply to nothing, or a second one to the same
 * request, has a cookie that is not open. Whatever the server does that it may not do sets `broken`: then the stream
 * cannot be trusted any more and the connection has to end. Every length is checked against what was asked before a byte of
 * it is taken, so a server can make us wait, but neither hold memory nor write beside what a read asked for. A read that comes
 * in pieces goes into memory that was zeroed before, so pieces that overlap cannot leave old bytes of ours in it.
 *
 *   extended request   0 magic(4) 4 flags(2) 6 type(2) 8 cookie(8) 16 offset(8) 24 length(8)           32 bytes
 *   extended reply     0 magic(4) 4 flags(2) 6 type(2) 8 cookie(8) 16 offset(8) 24 payload length(8)   32 bytes
 */
import * as wire from '../nbd/wire.js';
import type { Memory } from '../volume/volume.js';
import type { Agreed } from './clientNegotiation.js';

export interface Answers {
  /** `error`: 0, or an errno of Linux (EOVERFLOW and ESHUTDOWN too). */
  answered(tag: number, error: number): void;
  /** Of a block status, in order, before `answered`; `flags` are NBD_STATE_…. May reach beyond what was asked. */
  extent(tag: number, length_bytes: number, flags: number): void;
}

/** Ours: descriptors in one answer to a block status. */
const DESCRIPTORS_LIMIT = 65_536;
const TWO_32 = 0x1_0000_0000;

const ERRNO_OF: readonly number[] = [
  wire.NBD_EPERM,
  wire.NBD_EIO,
  wire.NBD_ENOMEM,
  wire.NBD_EINVAL,
  wire.NBD_ENOSPC,
  wire.NBD_EOVERFLOW,
  wire.NBD_ENOTSUP,
  wire.NBD_ESHUTDOWN,
];

interface Slot {
  index: number;
  open: boolean;
  uses: number;
  tag: number;
  type: number;
  offset: number;
  length: number;
  /** Of a read. */
  memory: Memory | null;
  at: number;
  /** Of a read: bytes that came. Of a block status: bytes that were described. */
  done: number;
  error: number;
}

/** What the next bytes are. */
const HEADER = 0;
/** Of a chunk, what stands before its data. */
const DETAIL = 1;
const DATA = 2;
const DESCRIPTORS = 3;
const SKIP = 4;

export class ClientTransmission {
  broken: string | null = null;
  /** Where the data of a read go that are coming now. */
  direct: Memory = NOTHING;
  directAt = 0;
  #agreed: Agreed;
  #answers: Answers;
  #slots: Slot[] = [];
  #free: number[] = [];
  #stage = HEADER;
  #slot: Slot = NO_SLOT;
  #type = 0;
  #last = false;
  /** Bytes of this stage that are still to come. */
  #left = 0;
  #need = 0;

  constructor(agreed: Agreed, answers: Answers) {
    this.#agreed = agreed;
    this.#answers = answers;
  }

  get inFlight(): number {
    return this.#slots.length - this.#free.length;
  }

  get requestBytes(): number {
    return this.#agreed.extended ? wire.EXTENDED_REQUEST_BYTES : wire.REQUEST_BYTES;
  }

  /** Writes the header of a request at `view`, `viewAt`. A read's data will go to `memory` from `at` on. */
  ask(
    view: DataView,
    viewAt: number,
    type: number,
    flags: number,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    tag: number,
  ): void {
    const index = this.#free.pop() ?? this.#slots.push({ ...NO_SLOT }) - 1;
    const slot = this.#slots[index]!;
    slot.index = index;
    slot.open = true;
    slot.uses = (slot.uses + 1) >>> 0;
    slot.tag = tag;
    slot.type = type;
    slot.offset = offset;
    slot.length = length;
    slot.memory = memory;
    slot.at = at;
    slot.done = 0;
    slot.error = 0;
    const { extended } = this.#agreed;
    const payload = extended && type === wire.NBD_CMD_WRITE ? wire.NBD_CMD_FLAG_PAYLOAD_LEN : 0;
    view.setUint32(viewAt, extended ? wire.NBD_EXTENDED_REQUEST_MAGIC : wire.NBD_REQUEST_MAGIC);
    view.setUint16(viewAt + 4, flags | payload);
    view.setUint16(viewAt + 6, type);
    view.setUint32(viewAt + 8, slot.uses);
    view.setUint32(viewAt + 12, index);
    wire.putOffset(view, viewAt + 16, offset);
    if (extended) wire.putOffset(view, viewAt + 24, length);
    else view.setUint32(viewAt + 24, length);
  }

  /** NBD_CMD_DISC, which is not answered. Returns its length. */
  disconnect(view: DataView, viewAt: number): number {
    const length = this.requestBytes;
    for (let i = 0; i < length; i++) view.setUint8(viewAt + i, 0);
    view.setUint32(viewAt, this.#agreed.extended ? wire.NBD_EXTENDED_REQUEST_MAGIC : wire.NBD_REQUEST_MAGIC);
    view.setUint16(viewAt + 6, wire.NBD_CMD_DISC);
    return length;
  }

  /** Tags of what will not be answered any more, in no order. */
  abandoned(): number[] {
    const tags = this.#slots.filter(slot => slot.open).map(slot => slot.tag);
    this.#slots = [];
    this.#free = [];
    this.broken ??= 'it was given up';
    return tags;
  }

  /** Takes bytes[start, end) as far as it can; returns where the rest begins, which is to be offered again with more. */
  consume(bytes: Uint8Array, view: DataView, start: number, end: number): number {
    let at = start;
    while (this.broken === null) {
      const there = end - at;
      if (this.#stage === DATA) {
        if (there === 0) break;
        const taken = Math.min(there, this.#left);
        this.direct.bytes.set(bytes.subarray(at, at + taken), this.directAt);
        at += taken;
        this.received(taken);
      } else if (this.#stage === SKIP) {
        const taken = Math.min(there, this.#left);
        at += taken;
        this.#left -= taken;
        if (this.#left > 0) break;
        this.#chunkEnds();
      } else if (this.#stage === DESCRIPTORS) {
        const size = this.#type === wire.NBD_REPLY_TYPE_BLOCK_STATUS_EXT ? 16 : wire.STATUS_DESCRIPTOR_BYTES;
        if (there < size) break;
        this.#descriptor(view, at, size);
        at += size;
      } else if (this.#stage === DETAIL) {
        if (there < this.#need) break;
        at += this.#detail(view, at);
      } else {
        if (there < wire.SIMPLE_REPLY_BYTES) break;
        const taken = this.#header(view, at, there);
        if (taken === 0) break;
        at += taken;
      }
    }
    return at;
  }

  /** Bytes of a read's data that may be received straight into `direct` from `directAt` on; then tell `received`. */
  get direct_bytes(): number {
    return this.#stage === DATA && this.broken === null ? this.#left : 0;
  }

  received(length_bytes: number): void {
    this.directAt += length_bytes;
    this.#left -= length_bytes;
    if (this.#left > 0) return;
    this.direct = NOTHING;
    this.#chunkEnds();
  }

  #break(why: string): number {
    this.broken ??= why;
    return 0;
  }

  /** Bytes taken; 0: more are needed, or it is broken. */
  #header(view: DataView, at: number, there: number): number {
    const magic = view.getUint32(at);
    if (this.#agreed.extended) {
      if (magic !== wire.NBD_EXTENDED_REPLY_MAGIC) return this.#break('what should be a reply is none');
      if (there < wire.EXTENDED_CHUNK_HEADER_BYTES) return 0;
      if (!this.#find(view, at + 8)) return 0;
      if (view.getUint32(at + 24) !== 0) return this.#break('a reply claims to be longer than 4 GiB');
      this.#chunk(view, at, view.getUint32(at + 28));
      return wire.EXTENDED_CHUNK_HEADER_BYTES;
    }
    if (magic === wire.NBD_SIMPLE_REPLY_MAGIC) {
      if (!this.#find(view, at + 8)) return 0;
      this.#simple(view.getUint32(at + 4));
      return wire.SIMPLE_REPLY_BYTES;
    }
    if (magic !== wire.NBD_STRUCTURED_REPLY_MAGIC || !this.#agreed.structured)
      return this.#break('what should be a reply is none');
    if (there < wire.CHUNK_HEADER_BYTES) return 0;
    if (!this.#find(view, at + 8)) return 0;
    this.#chunk(view, at, view.getUint32(at + 16));
    return wire.CHUNK_HEADER_BYTES;
  }

  #find(view: DataView, at: number): boolean {
    const slot = this.#slots[view.getUint32(at + 4)];
    if (slot === undefined || !slot.open || slot.uses !== view.getUint32(at)) {
      this.#break('it answers what was not asked, or has been answered');
      return false;
    }
    this.#slot = slot;
    return true;
  }

  #simple(error: number): void {
    const slot = this.#slot;
    this.#last = true;
    slot.error = error === 0 ? 0 : errnoOf(error);
    if (error !== 0 || (slot.type !== wire.NBD_CMD_READ && slot.type !== wire.NBD_CMD_BLOCK_STATUS))
      return this.#end();
    if (this.#agreed.structured) {
      this.#break('it answers in a way that was not agreed');
      return;
    }
    this.#begin(slot.at, slot.length);
  }

  #begin(at: number, length: number): void {
    const slot = this.#slot;
    if (length > slot.length - slot.done) {
      this.#break('it sends more than was asked for');
      return;
    }
    slot.done += length;
    this.direct = slot.memory!;
    this.directAt = at;
    this.#left = length;
    this.#stage = DATA;
  }

  #chunk(view: DataView, at: number, length: number): void {
    this.#last = (view.getUint16(at + 4) & wire.NBD_REPLY_FLAG_DONE) !== 0;
    this.#type = view.getUint16(at + 6);
    this.#left = length;
    const { type } = this.#slot;
    let fits: boolean;
    switch (this.#type) {
      case wire.NBD_REPLY_TYPE_NONE:
        if (length !== 0 || !this.#last) this.#break('an empty reply is not empty');
        else this.#chunkEnds();
        return;
      case wire.NBD_REPLY_TYPE_OFFSET_DATA:
        this.#need = 8;
        fits = type === wire.NBD_CMD_READ && length > 8 && length - 8 <= this.#slot.length;
        break;
      case wire.NBD_REPLY_TYPE_OFFSET_HOLE:
        this.#need = 12;
        fits = type === wire.NBD_CMD_READ && length === 12;
        break;
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS:
        this.#need = 4;
        fits = !this.#agreed.extended && this.#fitsDescriptors(length - 4, wire.STATUS_DESCRIPTOR_BYTES);
        break;
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
        this.#need = 8;
        fits = this.#agreed.extended && this.#fitsDescriptors(length - 8, 16);
        break;
      default:
        this.#need = 6;
        // Kinds of errors that are not known yet are errors.
        fits =
          this.#type >= 0x8000 &&
          length >= 6 &&
          length <= wire.STRING_LIMIT_BYTES + (this.#type & 0xff) * 8 + 6;
    }
    if (!fits) this.#break(`a reply of type ${this.#type} and ${length} bytes does not fit what was asked`);
    this.#stage = DETAIL;
  }

  #fitsDescriptors(length: number, size: number): boolean {
    const ofStatus = this.#slot.type === wire.NBD_CMD_BLOCK_STATUS;
    return ofStatus && length >= size && length % size === 0 && length / size <= DESCRIPTORS_LIMIT;
  }

  #detail(view: DataView, at: number): number {
    const slot = this.#slot;
    const taken = this.#need;
    this.#left -= taken;
    switch (this.#type) {
      case wire.NBD_REPLY_TYPE_OFFSET_DATA:
      case wire.NBD_REPLY_TYPE_OFFSET_HOLE: {
        const hole = this.#type === wire.NBD_REPLY_TYPE_OFFSET_HOLE;
        const length = hole ? view.getUint32(at + 8) : this.#left;
        const from = view.getUint32(at) * TWO_32 + view.getUint32(at + 4) - slot.offset;
        if (!(from >= 0 && length > 0 && from + length <= slot.length)) return this.#break(BESIDE);
        if (slot.done === 0 && length < slot.length)
          slot.memory!.bytes.fill(0, slot.at, slot.at + slot.length);
        this.#begin(slot.at + from, length);
        if (hole && this.broken === null) {
          slot.memory!.bytes.fill(0, this.directAt, this.directAt + length);
          this.received(length);
        }
        return taken;
      }
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS:
      case wire.NBD_REPLY_TYPE_BLOCK_STATUS_EXT: {
        const wanted = this.#left / 16;
        if (view.getUint32(at) !== this.#agreed.contextId) return this.#break('it tells what was not asked');
        if (this.#need === 8 && view.getUint32(at + 4) !== wanted) return this.#break('it counts wrongly');
        this.#stage = DESCRIPTORS;
        return taken;
      }
      default: {
        const error = view.getUint32(at);
        if (error === 0 || view.getUint16(at + 4) > this.#left) return this.#break('an error that is none');
        if (slot.error === 0) slot.error = errnoOf(error);
        this.#stage = SKIP;
        return taken;
      }
    }
  }

  #descriptor(view: DataView, at: number, size: number): void {
    const slot = this.#slot;
    const extended = size === 16;
    const length = extended ? view.getUint32(at) * TWO_32 + view.getUint32(at + 4) : view.getUint32(at);
    if (!(length > 0 && length < Number.MAX_SAFE_INTEGER)) {
      this.#break('it tells an extent of no length');
      return;
    }
    const flags = view.getUint32(at + (extended ? 12 : 4));
    if (slot.done < slot.length) {
      slot.done += length;
      this.#answers.extent(slot.tag, length, flags);
    }
    this.#left -= size;
    if (this.#left === 0) this.#chunkEnds();
  }

  #chunkEnds(): void {
    if (this.broken !== null) return;
    this.#stage = HEADER;
    if (this.#last) this.#end();
  }

  #end(): void {
    const slot = this.#slot;
    this.#slot = NO_SLOT;
    this.#stage = HEADER;
    if (slot.error === 0) {
      const isRead = slot.type === wire.NBD_CMD_READ;
      if (
        (isRead && slot.done < slot.length) ||
        (slot.type === wire.NBD_CMD_BLOCK_STATUS && slot.done === 0)
      ) {
        this.#break('it sends less than was asked for');
        return;
      }
    }
    slot.open = false;
    slot.memory = null;
    this.#free.push(slot.index);
    this.#answers.answered(slot.tag, slot.error);
  }
}

const NOTHING: Memory = { address: 0, bytes: new Uint8Array(0) };
const BESIDE = 'it sends what lies beside what was asked for';
const NO_SLOT: Slot = {
  index: -1,
  open: false,
  uses: 0,
  tag: 0,
  type: 0,
  offset: 0,
  length: 0,
  memory: null,
  at: 0,
  done: 0,
  error: 0,
};

/** Doc/proto.md: what is not in the list counts as EINVAL. */
function errnoOf(error: number): number {
  return ERRNO_OF.includes(error) ? error : wire.NBD_EINVAL;
}
