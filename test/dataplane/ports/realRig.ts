/** An engine on real memory and a real epoll, so that ports can reach the kernel; the clock is still wound by hand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Epoll } from '../../../host/epoll.js';
import { EAGAIN } from '../../../host/errno.js';
import { mapAnonymous } from '../../../host/memory.js';
import * as raw from '../../../host/raw.js';
import { Arena, arenaLength } from '../../../dataplane/engine/arena.js';
import { Loop } from '../../../dataplane/engine/loop.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { Gather } from '../../../dataplane/ports/gather.js';

export interface RealRig {
  loop: Loop;
  pool: BufferPool;
  gather: Gather;
  clock: { now_ms: number };
  directory: string;
  /** Turns until nothing happens any more. */
  settle(): void;
}

export function makeRealRig(t: Test, slots = 256, chunks = 0): RealRig {
  const directory = mkdtempSync(join(tmpdir(), 'weft-dataplane-'));
  const memory = mapAnonymous(arenaLength(slots, chunks));
  const arena = new Arena(memory, slots, chunks);
  const pool = new BufferPool(arena);
  const clock = { now_ms: 0 };
  const epoll = new Epoll(64);
  const loop = new Loop(pool, epoll, () => clock.now_ms);
  t.teardown(() => {
    epoll.close();
    memory.unmap();
    rmSync(directory, { recursive: true, force: true });
  });
  const settle = (): void => {
    for (let turn = 0; turn < 20; turn++) loop.turn(0);
  };
  return { loop, pool, gather: new Gather(arena), clock, directory, settle };
}

const memory = mapAnonymous(1 << 20);

/** Writes all of it to a non-blocking fd, turning the loop when the socket is full. */
export function writeAll(fd: number, bytes: Uint8Array, turn: () => void): void {
  for (let at = 0; at < bytes.length;) {
    const part = bytes.subarray(at, at + memory.length_bytes);
    memory.bytes.set(part);
    const n = raw.write(fd, memory.address, part.length);
    if (n === -EAGAIN) turn();
    else if (n < 0) throw new Error(`write: errno ${-n}`);
    else at += n;
  }
}

/** What is there, at most `max_bytes`; undefined at the end of the connection. */
export function readSome(fd: number, max_bytes: number): Uint8Array | undefined {
  const n = raw.read(fd, memory.address, Math.min(max_bytes, memory.length_bytes));
  if (n === -EAGAIN) return new Uint8Array(0);
  if (n <= 0) return undefined;
  return memory.bytes.slice(0, n);
}

export function framed(frames: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(frames.reduce((sum, frame) => sum + 4 + frame.length, 0));
  let at = 0;
  for (const frame of frames) {
    new DataView(bytes.buffer).setUint32(at, frame.length);
    bytes.set(frame, at + 4);
    at += 4 + frame.length;
  }
  return bytes;
}

/** Whole frames of a stream; what remains must be nothing. */
export function unframed(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = view.getUint32(at);
    if (at + 4 + length > bytes.length) throw new Error(`a cut frame of ${length} bytes at ${at}`);
    frames.push(bytes.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
}
