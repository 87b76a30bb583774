/**
 * A cable between two switches of this plane: what one end sends, the other receives in the next turn, from the
 * same buffer. Both ends name each other; until they do, each says what it waits for.
 *
 * Switches that are cabled in a ring pass a broadcast round for ever, each turn anew. Spanning tree is the
 * remedy; here a frame is dropped after HOPS_MAX_COUNT cables (counted as `dropLoop`), so that a mistake costs no more
 * than that.
 *
 * A frame is copied where it would not stay as it is: when its tag changes, and when its checksum is left to do, since
 * another port may complete that in the shared buffer while the frame still waits here.
 */
import { C } from '../engine/counters.js';
import { FRAME_WORDS, FrameTable, HOPS, HOPS_MASK, W0 } from '../engine/frames.js';
import type { Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import type { Port } from '../engine/port.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';
import { pushEditedCopy } from './copies.js';
import { countAllDropped, countSent } from './sent.js';

export interface PatchSettings {
  switch: string;
  port: string;
}

const HOPS_MAX_COUNT = 16;

const patches = new WeakMap<Loop, Map<string, PatchPort>>();
const keyOf = (switchName: string, port: string): string => `${switchName} ${port}`;

export class PatchPort implements Port {
  readonly kind = 'patch';
  readonly #link: Link;
  readonly #own: string;
  readonly #peerKey: string;
  readonly #settings: PatchSettings;
  readonly #held: FrameTable;
  readonly #ends: Map<string, PatchPort>;
  #peer: PatchPort | undefined;

  /** `owner`: the name of the link's own switch. */
  constructor(link: Link, owner: string, settings: PatchSettings) {
    this.#link = link;
    this.#settings = settings;
    this.#own = keyOf(owner, link.name);
    this.#peerKey = keyOf(settings.switch, settings.port);
    this.#held = new FrameTable(link.loop.pool);
    let ends = patches.get(link.loop);
    if (ends === undefined) patches.set(link.loop, (ends = new Map<string, PatchPort>()));
    this.#ends = ends;
  }

  open(): void {
    this.#ends.set(this.#own, this);
    const other = this.#ends.get(this.#peerKey);
    if (other !== undefined && other !== this && other.#peerKey === this.#own) {
      this.#join(other);
      other.#join(this);
      return;
    }
    this.#wait();
    // Someone who waits for this port may see now that it is a cable to elsewhere.
    for (const end of this.#ends.values())
      if (end !== this && end.#peerKey === this.#own && end.#peer === undefined) end.#wait();
  }

  #join(peer: PatchPort): void {
    this.#peer = peer;
    this.#link.setState('up', null);
  }

  #wait(): void {
    const { switch: switchName, port } = this.#settings;
    const other = this.#ends.get(this.#peerKey);
    const at = `port ${port} of switch ${switchName}`;
    if (other === this) this.#link.setState('error', 'the cable goes from this port to itself');
    else if (other === undefined)
      this.#link.setState(
        'connecting',
        `${at} is not there, or is no patch: make it one that names this port`,
      );
    else
      this.#link.setState(
        'error',
        `${at} is a patch to port ${other.#settings.port} of switch ${other.#settings.switch}, not to this one`,
      );
  }

  close(): void {
    if (this.#ends.get(this.#own) === this) this.#ends.delete(this.#own);
    const peer = this.#peer;
    this.#peer = undefined;
    this.#held.releaseAll();
    if (peer === undefined) return;
    peer.#peer = undefined;
    peer.#held.releaseAll();
    peer.#wait();
  }

  receive(frames: FrameTable, limit: number): boolean {
    const held = this.#held;
    const count = Math.min(limit, held.count);
    for (let frame = 0; frame < count; frame++) frames.pushCopy(frame, held);
    held.shift(count);
    return held.count > 0;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const peer = this.#peer;
    const { pool } = this.#link.loop;
    const row = this.#link.counters;
    if (peer === undefined) {
      countAllDropped(row, queue, C.dropNotUp);
      return;
    }
    const held = peer.#held;
    const { words } = frames;
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      const w = frame * FRAME_WORDS;
      if ((words[w + HOPS]! & HOPS_MASK) >= HOPS_MAX_COUNT) {
        row[C.dropLoop]!++;
        continue;
      }
      const w0 = words[w + W0]!;
      const isLeft = (w0 & virtioNet.F_NEEDS_CSUM) !== 0 && (w0 & 0xff00) === 0;
      if (held.free === 0) {
        row[C.dropQueueFull]!++;
        continue;
      }
      if (edit === vlan.EDIT_NONE && !isLeft) held.pushCopy(frame, frames);
      // As with a backlog, a quarter of the pool stays for frames that arrive.
      else if (pool.freeCount < pool.arena.slots >>> 2 || !pushEditedCopy(pool, frames, frame, edit, held)) {
        row[C.dropQueueFull]!++;
        continue;
      }
      held.words[(held.count - 1) * FRAME_WORDS + HOPS] = (words[w + HOPS]! & HOPS_MASK) + 1;
      countSent(row, pool.arena.view, frames, frame, edit);
    }
    if (held.count > 0) peer.#link.wake();
  }
}
