/**
 * A link joins a port (an edge to the world) to a sink (who takes its frames: a switch, later a router).
 * It holds what both share: the queue of frames to send, the counters, the port's state.
 */
import { C, makeRow } from './counters.js';
import { Queue } from './frames.js';
import type { FrameTable } from './frames.js';
import type { Loop } from './loop.js';
import type { Port } from './port.js';

/** Takes frames `first` to `end - 1` of the table, which came in on the link, and decides about them. */
export interface Sink {
  input(link: Link, frames: FrameTable, first: number, end: number): void;
  /** The link has an observer now, or has none any more. */
  observed?(link: Link): void;
}

/** Sees frames as they pass a link (a capture). Asked only when there is one, once per burst. */
export interface Observer {
  received(link: Link, frames: FrameTable, first: number, end: number): void;
  sending(link: Link, frames: FrameTable, queue: Queue): void;
}

/** Stands between a link's queue and its port (QoS): takes what the queue holds, and sends it when it may. */
export interface Scheduler {
  transmit(frames: FrameTable, queue: Queue): void;
  /** Which of its queues a frame would wait in, by name. For a trace; nothing is queued. */
  queueOf?(frames: FrameTable, frame: number, edit: number): string;
}

export type LinkState = 'up' | 'connecting' | 'error';

export class Link {
  readonly loop: Loop;
  readonly name: string;
  readonly counters: Float64Array<SharedArrayBuffer>;
  readonly queue = new Queue();
  /** Set by the port; it may be replaced by a wrapper around it before `open`. */
  port: Port | undefined;
  sink: Sink;
  /** The sink's own number for this link. */
  sinkIndex: number;
  #observer: Observer | undefined;
  scheduler: Scheduler | undefined;
  /** In the loop's list of links to receive from. */
  isReady = false;
  /** The word on the state that others see; `isUp` is what the frame path looks at. */
  state: LinkState = 'connecting';
  reason: string | null = null;
  isUp = false;
  /** Why it was taken out of service, although its port could; null: it was not. */
  fault: string | null = null;

  constructor(loop: Loop, name: string, sink: Sink, sinkIndex: number) {
    this.loop = loop;
    this.name = name;
    this.sink = sink;
    this.sinkIndex = sinkIndex;
    this.counters = makeRow();
  }

  get observer(): Observer | undefined {
    return this.#observer;
  }

  set observer(observer: Observer | undefined) {
    const wasSeen = this.#observer !== undefined;
    this.#observer = observer;
    if (wasSeen !== (observer !== undefined)) this.sink.observed?.(this);
  }

  /** There may be something to receive: the loop asks the port in this turn or the next. */
  wake(): void {
    if (!this.isReady) this.loop.wake(this);
  }

  /** Called by the port. Repeating what was said last is nothing new. */
  setState(state: LinkState, reason: string | null): void {
    if (this.state === state && this.reason === reason) return;
    if (state === 'up' && this.state !== 'up') this.counters[C.opens]!++;
    if (state !== 'up' && this.state === 'up') this.counters[C.disconnects]!++;
    this.state = state;
    this.reason = reason;
    this.isUp = state === 'up' && this.fault === null;
    this.loop.onState(this);
  }

  setFault(fault: string | null): void {
    if (this.fault === fault) return;
    this.fault = fault;
    this.isUp = this.state === 'up' && fault === null;
    this.loop.onState(this);
  }

  /** Puts a frame of the turn on its way out; the port sees it when the turn's frames are flushed. */
  send(frame: number, edit: number): void {
    const queue = this.queue;
    if (queue.count === 0) this.loop.markDirty(this);
    queue.push(frame, edit);
  }
}
