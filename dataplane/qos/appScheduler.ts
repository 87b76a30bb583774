/**
 * What leaves a port, and in which order: up to eight classes, each a queue, behind the rate of the port.
 *
 *   1  classes below their guarantee, in the order in which they are written
 *   2  strict classes, in the same order
 *   3  weighted classes by deficit round robin (Shreedhar and Varghese 1996), deficits in octets on the wire
 *
 * Each only as far as its own maximum lets it, and all as far as the port's rate does. A frame that may leave in its
 * turn is never copied; one that has to wait is kept by its class (appQueue.ts). While any waits, a timer asks again
 * as soon as the rate lets the next one pass.
 *
 * Without a rate nothing waits here: then the order matters within a turn only, and what the far end does not take is
 * the port's to keep or drop.
 */
import type { PortQos, QosClass } from '../contract.js';
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import {
  AT,
  FRAMES_MAX_COUNT,
  FRAME_WORDS,
  FrameTable,
  LENGTH,
  Queue,
  W0,
  W1,
  W2,
} from '../engine/frames.js';
import type { Link, Scheduler } from '../engine/link.js';
import { Timer } from '../engine/timers.js';
import { PORT_COUNTERS } from '../switch/counters.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import { TokenBucket } from './bucket.js';
import { ClassQueue } from './appQueue.js';
import { priorityOf, vlanOf } from './appNote.js';
import type { BufferShare } from './appShare.js';
import { wireBytes, wireFrames } from './wireLength.js';

type Egress = NonNullable<PortQos['egress']>;

/** Octets that one share of weight is worth in a round: a full frame. */
const QUANTUM_BYTES = 1522;
/** So much later than it could, when a sum of milliseconds comes out a little short. */
const WAIT_MIN_MS = 0.05;
const DROP_LIMIT = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('dropEgressQueue');
const DROP_POOL = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('dropEgressPool');

export class TrafficClass {
  config: QosClass;
  readonly queue: ClassQueue;
  guarantee: TokenBucket | undefined;
  max: TokenBucket | undefined;
  deficit = 0;
  frames = 0;
  octets = 0;
  maxDepthOctets = 0;
  dropsLimit = 0;
  dropsPool = 0;
  /** For the rate that is shown. */
  shownOctets = 0;
  shownAt_ms: number;
  shownRate_bps = 0;

  constructor(config: QosClass, queue: ClassQueue, now_ms: number) {
    this.config = config;
    this.queue = queue;
    this.shownAt_ms = now_ms;
    this.configure(config, now_ms);
  }

  configure(config: QosClass, now_ms: number): void {
    this.config = config;
    this.guarantee = renewed(this.guarantee, config.guarantee, now_ms);
    this.max = renewed(this.max, config.max, now_ms);
  }
}

/** The same bucket with another rate, where there was one. */
export function renewed(
  bucket: TokenBucket | undefined,
  rate: TokenBucket['rate'] | undefined,
  now_ms: number,
): TokenBucket | undefined {
  if (rate === undefined) return undefined;
  if (bucket === undefined) return new TokenBucket(rate, now_ms);
  bucket.configure(rate, now_ms);
  return bucket;
}

export class PortScheduler implements Scheduler {
  readonly #link: Link;
  readonly #share: BufferShare;
  readonly #out: FrameTable;
  readonly #queue = new Queue();
  /** Of each frame in `#out`: its number in the turn's table, -1 when it had waited. */
  readonly #origins = new Int32Array(FRAMES_MAX_COUNT);
  readonly #timer: Timer;
  readonly #noFrames: FrameTable;
  #classes: TrafficClass[] = [];
  #byPriority = new Int32Array(8);
  /** By VLAN, the class and one; undefined: no class goes by VLAN. */
  #byVlan: Uint8Array | undefined;
  #rate: TokenBucket | undefined;
  #overhead_bytes: number;
  #next = 0;
  #backlog = 0;

  constructor(link: Link, egress: Egress, overhead_bytes: number, share: BufferShare) {
    this.#link = link;
    this.#share = share;
    this.#out = new FrameTable(link.loop.pool);
    this.#noFrames = new FrameTable(link.loop.pool);
    this.#overhead_bytes = overhead_bytes;
    this.#timer = new Timer(now_ms => this.#service(this.#noFrames, now_ms));
    this.configure(egress, overhead_bytes);
  }

  get classes(): readonly TrafficClass[] {
    return this.#classes;
  }

  /** What waits stays where it is: a class of the same name goes on, what a gone one holds is dropped and counted. */
  configure(egress: Egress, overhead_bytes: number): void {
    const { pool, now_ms } = this.#link.loop;
    this.#overhead_bytes = overhead_bytes;
    this.#rate = renewed(this.#rate, egress.rate, now_ms);
    const old = new Map(this.#classes.map(each => [each.config.name, each]));
    this.#classes = egress.classes.map(config => {
      const same = old.get(config.name);
      old.delete(config.name);
      if (same === undefined) return new TrafficClass(config, new ClassQueue(pool, this.#share), now_ms);
      same.configure(config, now_ms);
      return same;
    });
    for (const gone of old.values()) this.#count(DROP_LIMIT, this.#clear(gone));
    this.#byPriority.fill(egress.classes.length - 1);
    this.#byVlan = undefined;
    this.#next = 0;
    egress.classes.forEach(({ priorities, vlans }, index) => {
      for (const priority of priorities) this.#byPriority[priority] = index;
      if (vlans === undefined) return;
      this.#byVlan ??= new Uint8Array(4096);
      for (const [first, last] of vlans) this.#byVlan.fill(index + 1, first, last + 1);
    });
    this.#wait(now_ms);
  }

  /** Drops what waits. */
  close(): void {
    this.#link.loop.timers.cancel(this.#timer);
    for (const each of this.#classes) this.#count(DROP_LIMIT, this.#clear(each));
  }

  /** The port went down: what waits would be old when it comes back. */
  flush(): void {
    for (const each of this.#classes) this.#count(DROP_LIMIT, this.#clear(each));
    this.#link.loop.timers.cancel(this.#timer);
  }

  #clear(each: TrafficClass): number {
    this.#backlog -= each.queue.count;
    each.deficit = 0;
    return each.queue.clear();
  }

  #count(counter: number, frames: number): void {
    this.#link.counters[counter]! += frames;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const { words } = frames;
    const { view } = this.#link.loop.pool.arena;
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      let edit = queue.edit(i);
      const w = frame * FRAME_WORDS;
      const index = this.#classOf(view, words, frame, edit);
      const each = this.#classes[index]!;
      const { config, queue: waiting } = each;
      if (
        waiting.count >= config.limit_frames ||
        (waiting.count > 0 && waiting.bytes >= config.limit_bytes)
      ) {
        each.dropsLimit++;
        this.#count(DROP_LIMIT, 1);
        continue;
      }
      if (config.remark !== undefined) edit = remarked(view, words[w + AT]!, edit, config.remark);
      const [at, length_bytes, w0, w1] = [words[w + AT]!, words[w + LENGTH]!, words[w + W0]!, words[w + W1]!];
      const extra_bytes = vlan.growth(edit) + this.#overhead_bytes;
      const bytes = wireBytes(view, at, length_bytes, w0, w1, extra_bytes);
      waiting.push(frames, frame, edit, bytes, wireFrames(view, at, length_bytes, w0, w1));
      this.#backlog++;
    }
    this.#service(frames, this.#link.loop.now_ms);
  }

  /** Name of the class that a frame of this table would wait in. */
  queueOf(frames: FrameTable, frame: number, edit: number): string {
    const { view } = this.#link.loop.pool.arena;
    return this.#classes[this.#classOf(view, frames.words, frame, edit)]!.config.name;
  }

  #classOf(view: DataView, words: Int32Array, frame: number, edit: number): number {
    if (this.#byVlan !== undefined) {
      const index = this.#byVlan[vlanOf(words, frame)]!;
      if (index > 0) return index - 1;
    }
    return this.#byPriority[priorityOf(view, words, frame, edit)]!;
  }

  /** Sends what may be sent, keeps the rest of this turn's. */
  #service(frames: FrameTable, now_ms: number): void {
    const rate = this.#rate;
    rate?.refill(now_ms);
    for (let i = 0; i < this.#classes.length; i++) {
      const { guarantee, max } = this.#classes[i]!;
      guarantee?.refill(now_ms);
      max?.refill(now_ms);
    }
    if (this.#link.isUp) {
      while (this.#backlog > 0 && (rate === undefined || rate.hasAny)) {
        const index = this.#choose();
        if (index < 0) break;
        this.#send(this.#classes[index]!, frames);
      }
      this.#emit(frames);
    }
    this.#keep(frames);
    this.#wait(now_ms);
  }

  #mayBeSent(each: TrafficClass): boolean {
    return each.queue.count > 0 && (each.max === undefined || each.max.hasAny);
  }

  /** The class whose turn it is; -1: none may send. */
  #choose(): number {
    const classes = this.#classes;
    let hasWeighted = false;
    let strict = -1;
    for (let i = 0; i < classes.length; i++) {
      const each = classes[i]!;
      if (!this.#mayBeSent(each)) continue;
      if (each.guarantee !== undefined && each.guarantee.hasAny) return i;
      if (!each.config.strict) hasWeighted = true;
      else if (strict < 0) strict = i;
    }
    if (strict >= 0) return strict;
    if (!hasWeighted) return -1;
    for (;;) {
      const each = classes[this.#next]!;
      if (!each.config.strict && this.#mayBeSent(each)) {
        if (each.deficit > 0) {
          each.deficit -= each.queue.headBytes;
          return this.#next;
        }
        each.deficit += QUANTUM_BYTES * each.config.weight;
      } else if (each.queue.count === 0) {
        // What it did not use in its turn is gone; what it owes is not.
        each.deficit = Math.min(0, each.deficit);
      }
      this.#next = (this.#next + 1) % classes.length;
    }
  }

  #send(each: TrafficClass, frames: FrameTable): void {
    if (this.#out.free === 0) this.#emit(frames);
    const { headBytes, headFrames } = each.queue;
    this.#rate?.take(headBytes, headFrames);
    each.max?.take(headBytes, headFrames);
    each.guarantee?.take(headBytes, headFrames, true);
    each.frames += headFrames;
    each.octets += headBytes;
    this.#backlog--;
    const origin = each.queue.shift(this.#out, this.#queue);
    this.#origins[this.#out.count - 1] = origin;
  }

  /** A port that completed a checksum in place says so in the words it was given: the others have to know. */
  #emit(frames: FrameTable): void {
    const out = this.#out;
    if (out.count === 0) return;
    this.#link.port!.transmit(out, this.#queue);
    for (let i = 0; i < out.count; i++) {
      const origin = this.#origins[i]!;
      if (origin < 0) continue;
      for (let word = W0; word <= W2; word++)
        frames.words[origin * FRAME_WORDS + word] = out.words[i * FRAME_WORDS + word]!;
    }
    this.#queue.count = 0;
    out.releaseAll();
  }

  #keep(frames: FrameTable): void {
    const classes = this.#classes;
    let held = 0;
    for (let i = 0; i < classes.length; i++) held += classes[i]!.queue.slots;
    for (let i = 0; i < classes.length; i++) {
      const each = classes[i]!;
      if (each.queue.fresh > 0) {
        const own = each.queue.slots;
        const dropped = each.queue.keep(frames, held - own);
        held += each.queue.slots - own;
        if (dropped > 0) {
          each.dropsPool += dropped;
          this.#backlog -= dropped;
          this.#count(DROP_POOL, dropped);
        }
      }
      if (each.queue.bytes > each.maxDepthOctets) each.maxDepthOctets = each.queue.bytes;
    }
  }

  /** Asks again when the next one may pass. */
  #wait(now_ms: number): void {
    const { timers } = this.#link.loop;
    if (this.#backlog === 0 || !this.#link.isUp) {
      timers.cancel(this.#timer);
      return;
    }
    let wait_ms = Infinity;
    for (const { queue, max } of this.#classes)
      if (queue.count > 0) wait_ms = Math.min(wait_ms, max?.wait_ms ?? 0);
    wait_ms = Math.max(wait_ms, this.#rate?.wait_ms ?? 0, WAIT_MIN_MS);
    timers.arm(this.#timer, now_ms + wait_ms);
  }
}

/** The edit with another 802.1p value in the tag that the frame leaves with, if it leaves with one. */
function remarked(view: DataView, at: number, edit: number, pcp: number): number {
  const value = pcp << vlan.PCP_SHIFT;
  if ((edit & vlan.EDIT_ADD) !== 0) return (edit & ~0xe000) | value;
  if (edit === vlan.EDIT_REMOVE) return edit;
  const type = view.getUint16(at + ethernet.TYPE);
  if (type !== vlan.TPID_CUSTOMER && type !== vlan.TPID_SERVICE && type !== vlan.TPID_OLD_OUTER) return edit;
  const control = vlan.tci(view, at);
  return vlan.EDIT_REPLACE | vlan.editOfTpid(type) | (control & 0x1fff) | value;
}
