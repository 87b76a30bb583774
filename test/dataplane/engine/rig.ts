/** An engine on plain memory, with a clock wound by hand and a poller that tells what it is told to tell. */
import { Arena, arenaLength } from '../../../dataplane/engine/arena.js';
import type { Memory } from '../../../dataplane/engine/arena.js';
import { Link } from '../../../dataplane/engine/link.js';
import type { Sink } from '../../../dataplane/engine/link.js';
import { Loop } from '../../../dataplane/engine/loop.js';
import type { Poller } from '../../../dataplane/engine/loop.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { Gather } from '../../../dataplane/ports/gather.js';
import { MemoryPort } from '../../../dataplane/ports/memory.js';

export function plainMemory(length_bytes: number): Memory {
  const buffer = new ArrayBuffer((length_bytes + 3) & ~3);
  const bytes = new Uint8Array(buffer).fill(0xa5);
  return { address: 0, length_bytes, bytes, view: new DataView(buffer), i32: new Int32Array(buffer) };
}

export class HandPoller implements Poller {
  readonly tokens = new Int32Array(64);
  readonly events = new Int32Array(64);
  readonly watched = new Map<number, { events: number; token: number }>();
  /** What each wait was allowed to sleep. */
  readonly timeouts: number[] = [];
  #next: { token: number; events: number }[] = [];

  add(fd: number, events: number, token: number): void {
    if (this.watched.has(fd)) throw new Error(`fd ${fd} is watched already`);
    this.watched.set(fd, { events, token });
  }
  modify(fd: number, events: number, token: number): void {
    if (!this.watched.has(fd)) throw new Error(`fd ${fd} is not watched`);
    this.watched.set(fd, { events, token });
  }
  remove(fd: number): void {
    if (!this.watched.delete(fd)) throw new Error(`fd ${fd} is not watched`);
  }
  /** The next wait will tell it. */
  tell(fd: number, events: number): void {
    this.#next.push({ token: this.watched.get(fd)!.token, events });
  }
  wait(timeout_ms: number): number {
    this.timeouts.push(timeout_ms);
    this.#next.forEach(({ token, events }, i) => {
      this.tokens[i] = token;
      this.events[i] = events;
    });
    const count = this.#next.length;
    this.#next = [];
    return count;
  }
  close(): void {}
}

export interface Rig {
  arena: Arena;
  pool: BufferPool;
  poller: HandPoller;
  loop: Loop;
  gather: Gather;
  clock: { now_ms: number };
}

export function makeRig(slots = 64): Rig {
  const arena = new Arena(plainMemory(arenaLength(slots)), slots);
  const pool = new BufferPool(arena);
  const poller = new HandPoller();
  const clock = { now_ms: 0 };
  const loop = new Loop(pool, poller, () => clock.now_ms);
  return { arena, pool, poller, loop, gather: new Gather(arena), clock };
}

/** A link with a memory port, open. */
export function memoryLink(loop: Loop, name: string, sink: Sink, sinkIndex = 0): [Link, MemoryPort] {
  const link = new Link(loop, name, sink, sinkIndex);
  const port = new MemoryPort(link);
  link.port = port;
  port.open();
  return [link, port];
}
