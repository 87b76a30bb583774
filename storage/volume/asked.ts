/**
 * The six calls of a volume that answer later, as one: `ask`. What a volume does with a read, a write and a trim is mostly the
 * same (wait for a lock, queue, refuse, hand on), so it is written once and told by `kind`.
 *
 *   AskedVolume         read, write, trim, zero, cache, flush  ->  ask(kind, ...)
 *   handOn(below, ...)  ask(kind, ...)  ->  that one of the six of the volume below
 *   Asked               a request that has to be remembered; a volume that needs more of it extends this
 *
 * Numbers and references only, and no record unless a request has to wait: this is on the way of each read that the page cache
 * lacks. Quick calls (tryRead, tryWrite) never come by here.
 */
import type { ExtentList, Memory, Volume, VolumeState, Waiter, ZeroHow } from './volume.js';

export const READ = 0;
export const WRITE = 1;
export const TRIM = 2;
export const ZERO = 3;
export const CACHE = 4;
export const FLUSH = 5;
export type AskedKind = typeof READ | typeof WRITE | typeof TRIM | typeof ZERO | typeof CACHE | typeof FLUSH;

/** `memory` of reads and writes, `how` of ZERO, else null. A flush is of offset 0 and length 0. */
export interface Asked {
  kind: AskedKind;
  offset: number;
  length: number;
  memory: Memory | null;
  at: number;
  how: ZeroHow | null;
  waiter: Waiter;
  token: number;
}

/** Whether it changes what the volume holds. */
export function changes(kind: AskedKind): boolean {
  return kind === WRITE || kind === TRIM || kind === ZERO;
}

export abstract class AskedVolume implements Volume {
  abstract readonly size_bytes: number;
  abstract readonly state: VolumeState;
  abstract readonly reason: string | null;

  abstract tryRead(offset: number, length: number, memory: Memory, at: number): number;
  abstract tryWrite(offset: number, length: number, memory: Memory, at: number): number;
  abstract extents(offset: number, length: number, into: ExtentList): number;

  protected abstract ask(
    kind: AskedKind,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void;

  read(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    this.ask(READ, offset, length, memory, at, null, waiter, token);
  }
  write(offset: number, length: number, memory: Memory, at: number, waiter: Waiter, token: number): void {
    this.ask(WRITE, offset, length, memory, at, null, waiter, token);
  }
  trim(offset: number, length: number, waiter: Waiter, token: number): void {
    this.ask(TRIM, offset, length, null, 0, null, waiter, token);
  }
  zero(offset: number, length: number, how: ZeroHow, waiter: Waiter, token: number): void {
    this.ask(ZERO, offset, length, null, 0, how, waiter, token);
  }
  cache(offset: number, length: number, waiter: Waiter, token: number): void {
    this.ask(CACHE, offset, length, null, 0, null, waiter, token);
  }
  flush(waiter: Waiter, token: number): void {
    this.ask(FLUSH, 0, 0, null, 0, null, waiter, token);
  }

  /** Nothing of it lies in a file as it is, unless the volume says otherwise. */
  sendableFrom(_offset: number, _length: number): number {
    return -1;
  }
  sendFailed(): void {}
}

export function handOn(
  volume: Volume,
  kind: AskedKind,
  offset: number,
  length: number,
  memory: Memory | null,
  at: number,
  how: ZeroHow | null,
  waiter: Waiter,
  token: number,
): void {
  switch (kind) {
    case READ:
      return volume.read(offset, length, memory!, at, waiter, token);
    case WRITE:
      return volume.write(offset, length, memory!, at, waiter, token);
    case TRIM:
      return volume.trim(offset, length, waiter, token);
    case ZERO:
      return volume.zero(offset, length, how!, waiter, token);
    case CACHE:
      return volume.cache(offset, length, waiter, token);
    case FLUSH:
      return volume.flush(waiter, token);
  }
}
