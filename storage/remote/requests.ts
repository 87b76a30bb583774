/**
 * What a remote volume was asked and has not answered: operations (what volume.ts asks) and the parts that they are sent as,
 * split at what the server takes. Knows the order, not the connections: remoteVolume.ts takes the next part when a
 * link has room, and brings parts back when their link was lost, to be sent again before anything newer.
 *
 * Also says how an operation is done that a server has no command for: zeroes are written out, hints are done with.
 */
import * as wire from '../nbd/wire.js';
import { CACHE, READ, TRIM, WRITE, ZERO } from '../volume/asked.js';
import { ERRNO, type Memory, type Waiter } from '../volume/volume.js';
import type { Agreed } from './clientNegotiation.js';
import { KEPT_TRIM, KEPT_WRITE, KEPT_ZERO, type Unflushed } from './unflushed.js';

/** Parts without an operation, as FLUSH. */
export const STATUS = 6;
export const REPLAY = 7;

export interface Operation {
  kind: number;
  offset: number;
  length: number;
  memory: Memory | null;
  at: number;
  /** Of WRITE_ZEROES. */
  flags: number;
  waiter: Waiter | null;
  token: number;
  /** So much of it has been made parts of. */
  next: number;
  /** Parts that are not answered. */
  open: number;
  error: number;
}

export interface Part {
  readonly index: number;
  /** Order of making. */
  order: number;
  kind: number;
  /** NBD_CMD_… and its flags. */
  type: number;
  flags: number;
  offset: number;
  length: number;
  memory: Memory | null;
  at: number;
  operation: Operation | null;
  /** Of a flush: what was kept when it was sent. Of others: how it will be kept, or -1. */
  detail: number;
}

const PIECE_BYTES = 1024 * 1024;
/** A multiple of every smallest block, and below 2^32. */
const LONG_PIECE_BYTES = 256 * 1024 * 1024;
const ZEROES_BYTES = 128 * 1024;

export class Requests {
  /** Of what is in `next` and needs keeping, when a server has something to lose. */
  kept: Unflushed | null = null;
  /** `next` stopped because `kept` has no room. */
  wantsRoom = false;
  #zeroes: () => Memory;
  #operations: Operation[] = [];
  #freeOperations: Operation[] = [];
  #queue: Operation[] = [];
  #queueAt = 0;
  #parts: Part[] = [];
  #freeParts: Part[] = [];
  #again: Part[] = [];
  #order = 0;

  constructor(zeroes: () => Memory) {
    this.#zeroes = zeroes;
  }

  get busy(): boolean {
    return this.#freeOperations.length < this.#operations.length;
  }

  part(index: number): Part {
    return this.#parts[index]!;
  }

  add(
    kind: number,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    flags: number,
    waiter: Waiter,
    token: number,
  ): void {
    let operation = this.#freeOperations.pop();
    if (operation === undefined) this.#operations.push((operation = { ...NO_OPERATION }));
    operation.kind = kind;
    operation.offset = offset;
    operation.length = length;
    operation.memory = memory;
    operation.at = at;
    operation.flags = flags;
    operation.waiter = waiter;
    operation.token = token;
    operation.next = 0;
    operation.open = 0;
    operation.error = 0;
    this.#queue.push(operation);
  }

  /** What is to be sent next; null: nothing now. May answer operations that need nothing sent. */
  next(agreed: Agreed): Part | null {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    this.wantsRoom = false;
    while (this.#queueAt < this.#queue.length) {
      const operation = this.#queue[this.#queueAt]!;
      if (operation.next === 0) {
        const verdict = withoutAsking(operation, agreed);
        if (verdict !== null) {
          this.#dequeue();
          this.#finish(operation, verdict);
          continue;
        }
      }
      const part = this.#slice(operation, agreed);
      if (part !== null && operation.next === operation.length) this.#dequeue();
      return part;
    }
    return null;
  }

  /** One that no operation stands behind. */
  make(kind: number, type: number, flags: number, offset: number, length: number): Part {
    let part = this.#freeParts.pop();
    if (part === undefined) this.#parts.push((part = { ...NO_PART, index: this.#parts.length }));
    part.order = this.#order++;
    part.kind = kind;
    part.type = type;
    part.flags = flags;
    part.offset = offset;
    part.length = length;
    part.memory = null;
    part.at = 0;
    part.operation = null;
    part.detail = -1;
    return part;
  }

  free(part: Part): void {
    part.operation = null;
    part.memory = null;
    this.#freeParts.push(part);
  }

  /** Parts of operations that were sent in vain. */
  sendAgain(parts: Part[]): void {
    this.#again = [...parts, ...this.#again].sort((a, b) => a.order - b.order);
  }

  /** `result`: 0 or -errno. Answers the operation when that was the last of it. */
  answered(part: Part, result: number): void {
    const operation = part.operation!;
    if (part.detail >= 0 && this.kept !== null) {
      const { detail, flags, offset, length, memory, at } = part;
      if (result < 0) this.kept.release(detail === KEPT_WRITE ? length : 0);
      else this.kept.append(detail, flags, offset, length, memory, at);
    }
    this.free(part);
    operation.open--;
    if (result < 0) {
      if (operation.error === 0) operation.error = result;
      if (operation.next < operation.length && this.#queue[this.#queueAt] === operation) this.#dequeue();
      operation.next = operation.length;
    }
    if (operation.open === 0 && operation.next === operation.length) this.#finish(operation, operation.error);
  }

  /** Answers everything with it. No part may be with a link. */
  failAll(result: number): void {
    for (const part of this.#again) {
      if (part.detail >= 0) this.kept?.release(part.detail === KEPT_WRITE ? part.length : 0);
      this.free(part);
    }
    this.#again = [];
    this.#queue = [];
    this.#queueAt = 0;
    for (const operation of this.#operations) if (operation.waiter !== null) this.#finish(operation, result);
  }

  #dequeue(): void {
    this.#queueAt++;
    if (this.#queueAt < this.#queue.length) return;
    this.#queue.length = 0;
    this.#queueAt = 0;
  }

  #finish(operation: Operation, result: number): void {
    const waiter = operation.waiter!;
    operation.waiter = null;
    operation.memory = null;
    this.#freeOperations.push(operation);
    waiter.completed(operation.token, result);
  }

  #slice(operation: Operation, agreed: Agreed): Part | null {
    const { kind, next } = operation;
    const left = operation.length - next;
    let length = Math.min(left, kind === TRIM || kind === ZERO ? LONG_PIECE_BYTES : pieceOf(agreed));
    const writesZeroes = kind === ZERO && (agreed.flags & wire.NBD_FLAG_SEND_WRITE_ZEROES) === 0;
    if (writesZeroes) length = Math.min(length, ZEROES_BYTES, pieceOf(agreed));
    const keeps = kind === WRITE ? KEPT_WRITE : kind === ZERO ? KEPT_ZERO : kind === TRIM ? KEPT_TRIM : -1;
    if (keeps >= 0 && this.kept !== null && !this.kept.reserve(keeps === KEPT_WRITE ? length : 0)) {
      this.wantsRoom = true;
      return null;
    }
    const type = writesZeroes ? wire.NBD_CMD_WRITE : TYPES[kind]!;
    const part = this.make(kind, type, writesZeroes ? 0 : operation.flags, operation.offset + next, length);
    part.memory = writesZeroes ? this.#zeroes() : operation.memory;
    part.at = writesZeroes ? 0 : operation.at + next;
    part.operation = operation;
    part.detail = this.kept === null ? -1 : keeps;
    operation.next += length;
    operation.open++;
    return part;
  }
}

/** Of reads, writes and hints. */
function pieceOf({ minimumBlock_bytes, maximumBlock_bytes }: Agreed): number {
  const limit = Math.min(PIECE_BYTES, maximumBlock_bytes);
  return Math.max(minimumBlock_bytes, limit - (limit % minimumBlock_bytes));
}

/** The answer to what this server is not to be asked, or null. */
function withoutAsking({ kind, flags }: Operation, agreed: Agreed): number | null {
  const can = (flag: number): boolean => (agreed.flags & flag) !== 0;
  if (kind === READ) return null;
  if (kind === CACHE) return can(wire.NBD_FLAG_SEND_CACHE) ? null : 0;
  if (can(wire.NBD_FLAG_READ_ONLY)) return -ERRNO.EPERM;
  if (kind === TRIM) return can(wire.NBD_FLAG_SEND_TRIM) ? null : 0;
  const fastOnly = kind === ZERO && (flags & wire.NBD_CMD_FLAG_FAST_ZERO) !== 0;
  const canBeFast = can(wire.NBD_FLAG_SEND_FAST_ZERO) && can(wire.NBD_FLAG_SEND_WRITE_ZEROES);
  return fastOnly && !canBeFast ? -ERRNO.EOPNOTSUPP : null;
}

const TYPES: readonly number[] = [
  wire.NBD_CMD_READ,
  wire.NBD_CMD_WRITE,
  wire.NBD_CMD_TRIM,
  wire.NBD_CMD_WRITE_ZEROES,
  wire.NBD_CMD_CACHE,
];

const NO_OPERATION: Operation = {
  kind: READ,
  offset: 0,
  length: 0,
  memory: null,
  at: 0,
  flags: 0,
  waiter: null,
  token: 0,
  next: 0,
  open: 0,
  error: 0,
};
const NO_PART: Part = {
  index: 0,
  order: 0,
  kind: READ,
  type: 0,
  flags: 0,
  offset: 0,
  length: 0,
  memory: null,
  at: 0,
  operation: null,
  detail: -1,
};
