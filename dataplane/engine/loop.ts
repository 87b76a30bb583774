/**
 * The turn of the loop. One thread turns it:
 *
 *   wait (or only look, when there is work)  ->  a burst from each ready link, decided by its sink
 *   ->  flush: every link with something to send transmits, then all frames of the turn are let go
 *   ->  timers that are due
 *
 * The kernel's readiness comes through a Poller, time through `clock_ms`: a test gives its own of both and
 * turns the loop by hand. A link that took its whole burst stays ready; it is asked again in the next turn,
 * after every other ready link had its burst.
 */
import { SLOT_BYTES, SLOT_ROOM_BYTES } from './arena.js';
import { E, makeRow } from './counters.js';
import { FRAMES_MAX_COUNT, FrameTable } from './frames.js';
import type { Link } from './link.js';
import type { BufferPool } from './pool.js';
import { BURST_MAX_COUNT } from './port.js';
import { Timers } from './timers.js';

/** As host/epoll.ts has it. */
export interface Poller {
  readonly tokens: Int32Array;
  readonly events: Int32Array;
  add(fd: number, events: number, token: number): void;
  modify(fd: number, events: number, token: number): void;
  remove(fd: number): void;
  wait(timeout_ms: number): number;
  close(): void;
}

/** Told that an fd it watches is ready. */
export interface Watcher {
  ready(events: number): void;
}

/** Sleep at most this long, so that a lost wake-up could not hang the engine. */
const SLEEP_MAX_MS = 1000;

export class Loop {
  readonly pool: BufferPool;
  readonly frames: FrameTable;
  readonly timers = new Timers();
  readonly counters = makeRow();
  readonly #poller: Poller;
  readonly #clock_ms: () => number;
  /** Time of this turn. */
  now_ms: number;
  /** Whom to tell that a link's state changed. */
  onState: (link: Link) => void = () => {};

  readonly #watchers: (Watcher | undefined)[] = [];
  readonly #watcherFds: number[] = [];
  #freeTokens: number[] = [];
  /** Given back in this turn: the events still in hand may name them, so they are reused from the next turn on. */
  #retiredTokens: number[] = [];

  #ready: Link[] = [];
  #readyNext: Link[] = [];
  #dirty: Link[] = [];

  constructor(pool: BufferPool, poller: Poller, clock_ms: () => number) {
    this.pool = pool;
    this.frames = new FrameTable(pool);
    this.#poller = poller;
    this.#clock_ms = clock_ms;
    this.now_ms = clock_ms();
  }

  watch(fd: number, events: number, watcher: Watcher): number {
    const token = this.#freeTokens.pop() ?? this.#watchers.length;
    this.#poller.add(fd, events, token);
    this.#watchers[token] = watcher;
    this.#watcherFds[token] = fd;
    return token;
  }

  rewatch(token: number, events: number): void {
    this.#poller.modify(this.#watcherFds[token]!, events, token);
  }

  /** Before the fd is closed. */
  unwatch(token: number): void {
    this.#poller.remove(this.#watcherFds[token]!);
    this.#watchers[token] = undefined;
    this.#retiredTokens.push(token);
  }

  wake(link: Link): void {
    link.isReady = true;
    this.#readyNext.push(link);
  }

  markDirty(link: Link): void {
    this.#dirty.push(link);
  }

  /** Nothing more is received from it or sent to it. */
  forget(link: Link): void {
    link.isReady = false;
    link.queue.count = 0;
    this.#readyNext = this.#readyNext.filter(other => other !== link);
    this.#dirty = this.#dirty.filter(other => other !== link);
  }

  /** One turn, which sleeps up to `sleepMax_ms` when there is nothing to do. */
  turn(sleepMax_ms = SLEEP_MAX_MS): void {
    const counters = this.counters;
    // What was sent between turns, by a command.
    if (this.#dirty.length > 0) this.flush();
    let timeout_ms = 0;
    if (this.#readyNext.length === 0) {
      timeout_ms = Math.min(
        sleepMax_ms,
        SLEEP_MAX_MS,
        Math.max(0, Math.ceil(this.timers.next_ms - this.now_ms)),
      );
      counters[E.sleeps]!++;
    }
    const count = this.#poller.wait(timeout_ms);
    this.now_ms = this.#clock_ms();
    counters[E.turns]!++;
    const { tokens, events } = this.#poller;
    for (let i = 0; i < count; i++) this.#watchers[tokens[i]!]?.ready(events[i]!);
    if (this.#retiredTokens.length > 0) {
      this.#freeTokens = this.#freeTokens.concat(this.#retiredTokens);
      this.#retiredTokens = [];
    }
    if (this.#readyNext.length > 0) this.#receive();
    counters[E.timersRun]! += this.timers.runDue(this.now_ms);
    // What protocols say by themselves, they say from a timer.
    if (this.#dirty.length > 0) this.flush();
    counters[E.buffersUsed] = this.pool.usedCount;
    counters[E.buffersExhausted] = this.pool.exhausted;
  }

  #receive(): void {
    const ready = this.#readyNext;
    this.#readyNext = this.#ready;
    this.#ready = ready;
    const frames = this.frames;
    for (let i = 0; i < ready.length; i++) {
      const link = ready[i]!;
      // False: forgotten since it became ready.
      if (!link.isReady) continue;
      link.isReady = false;
      // A wrapper may double what its port brings: hence the two.
      if (frames.free < BURST_MAX_COUNT * 2) this.flush();
      const first = frames.count;
      const hasMore = link.port!.receive(frames, BURST_MAX_COUNT);
      const end = frames.count;
      if (end > first) {
        if (link.observer !== undefined) link.observer.received(link, frames, first, end);
        link.sink.input(link, frames, first, end);
      }
      if (hasMore) link.wake();
    }
    ready.length = 0;
    this.flush();
  }

  /**
   * Puts a frame of our own into the table of this turn. Returns its number; -1 when there is no buffer or no place.
   * It is let go with the others when the turn's frames are flushed.
   */
  originate(frame: Uint8Array): number {
    if (this.frames.free === 0 || frame.length > SLOT_BYTES - SLOT_ROOM_BYTES) return -1;
    const slot = this.pool.take();
    if (slot < 0) return -1;
    const { arena } = this.pool;
    const at = arena.slotAt(slot) + SLOT_ROOM_BYTES;
    arena.bytes.set(frame, at);
    this.frames.push(slot, at, frame.length, 0, 0, 0, SLOT_ROOM_BYTES);
    return this.frames.count - 1;
  }

  /** Sends what was decided, and lets all frames of the turn go. */
  flush(): void {
    const dirty = this.#dirty;
    if (dirty.length > 0) {
      for (let i = 0; i < dirty.length; i++) {
        const link = dirty[i]!;
        if (link.observer !== undefined) link.observer.sending(link, this.frames, link.queue);
        if (link.scheduler !== undefined) link.scheduler.transmit(this.frames, link.queue);
        else link.port!.transmit(this.frames, link.queue);
        link.queue.count = 0;
      }
      dirty.length = 0;
      this.counters[E.flushes]!++;
    }
    this.frames.releaseAll();
  }
}

// The table must take a doubled burst even right after a flush.
if (FRAMES_MAX_COUNT < BURST_MAX_COUNT * 2) throw new Error('FRAMES_MAX_COUNT is too small');
