/**
 * A request that waits for its volume, or a piece of a long read. Slots that are used again, so that waiting makes no garbage;
 * the index of a slot is the token that the volume hands back.
 */
import type { Chunk } from './chunks.js';
import type { LongWrite } from './longWrite.js';
import type { ZeroHow } from '../volume/volume.js';
import { NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_FLUSH } from './wire.js';

/** Pieces of one read that are still to be answered. */
export interface PieceGroup {
  left: number;
}

export interface Operation {
  type: number;
  flags: number;
  cookieHigh: number;
  cookieLow: number;
  /** Where the request begins: replies with extended headers say so. */
  requestOffset: number;
  /** Of this piece. */
  offset: number;
  length: number;
  /** Of trims and zeroes: given to the volume. Of a read: bytes that came. */
  done: number;
  /** Held of the budget. */
  payload_bytes: number;
  /** Flush before the answer. */
  fua: boolean;
  chunks: Chunk[];
  piecesLeft: number;
  /** The protocol's. */
  error: number;
  /** null: it is no piece of several that are answered one by one. */
  group: PieceGroup | null;
  /** It is a piece of that write. */
  long: LongWrite | null;
  /** It failed as a whole and is read block by block. */
  inBlocks: boolean;
  /** Not 0: a piece of a reply that is one, of so many bytes, and has begun already or begins with it. */
  total: number;
}

export class Operations {
  readonly slots: Operation[] = [];
  /** Everything that the volume still has to answer; whoever asks it for something else counts that in, too. */
  inFlightCount = 0;
  inFlight_bytes = 0;
  #free: number[] = [];

  /** A token; the slot is new, but for its chunks, which whoever used it last has taken out. */
  take(
    type: number,
    flags: number,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
    payload_bytes: number,
  ): number {
    let token = this.#free.pop();
    if (token === undefined) {
      token = this.slots.length;
      this.slots.push(newOperation());
    }
    const slot = this.slots[token]!;
    slot.type = type;
    slot.flags = flags;
    slot.cookieHigh = cookieHigh;
    slot.cookieLow = cookieLow;
    slot.requestOffset = offset;
    slot.offset = offset;
    slot.length = length;
    slot.done = 0;
    slot.payload_bytes = payload_bytes;
    slot.fua = false;
    slot.piecesLeft = 1;
    slot.error = 0;
    slot.group = null;
    slot.long = null;
    slot.inBlocks = false;
    slot.total = 0;
    this.inFlightCount++;
    this.inFlight_bytes += payload_bytes;
    return token;
  }

  give(token: number): void {
    this.inFlightCount--;
    this.inFlight_bytes -= this.slots[token]!.payload_bytes;
    this.#free.push(token);
  }
}

function newOperation(): Operation {
  return {
    type: NBD_CMD_FLUSH,
    flags: 0,
    cookieHigh: 0,
    cookieLow: 0,
    requestOffset: 0,
    offset: 0,
    length: 0,
    done: 0,
    payload_bytes: 0,
    fua: false,
    chunks: [],
    piecesLeft: 0,
    error: 0,
    group: null,
    long: null,
    inBlocks: false,
    total: 0,
  };
}

const ZERO_HOW: readonly ZeroHow[] = [
  { mayUnmap: true, fastOnly: false },
  { mayUnmap: false, fastOnly: false },
  { mayUnmap: true, fastOnly: true },
  { mayUnmap: false, fastOnly: true },
];

/** What the flags of NBD_CMD_WRITE_ZEROES ask for. */
export function howToZero(flags: number): ZeroHow {
  const noHole = (flags & NBD_CMD_FLAG_NO_HOLE) !== 0 ? 1 : 0;
  return ZERO_HOW[noHole + ((flags & NBD_CMD_FLAG_FAST_ZERO) !== 0 ? 2 : 0)]!;
}
