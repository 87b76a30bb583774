/**
 * A port with deliberate faults around another one: drops, corrupts and doubles frames in both directions, so
 * many in a million, the same ones for the same seed and the same frames. For rehearsals, and for tests.
 */
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, FrameTable, LENGTH, Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import * as vlan from '../wire/vlan.js';
import { pushEditedCopy } from './copies.js';

export interface Faults {
  seed: number;
  drop_ppm: number;
  corrupt_ppm: number;
  duplicate_ppm: number;
}

const MILLION = 1_000_000;

export class FaultyPort implements Port {
  readonly kind: string;
  readonly #inner: Port;
  readonly #link: Link;
  #faults: Faults;
  #random: number;
  /** What remains of a queue after the faults; it may be twice as long. */
  readonly #queue = new Queue();
  /** Corrupted copies on their way out. */
  readonly #copies: FrameTable;

  constructor(link: Link, inner: Port, faults: Faults) {
    this.kind = inner.kind;
    this.#link = link;
    this.#inner = inner;
    this.#faults = faults;
    this.#random = faults.seed | 0;
    this.#copies = new FrameTable(link.loop.pool);
  }

  /** New odds, from the beginning of the new seed's sequence. */
  setFaults(faults: Faults): void {
    this.#faults = faults;
    this.#random = faults.seed | 0;
  }

  open(): void {
    this.#inner.open();
  }

  close(): void {
    this.#inner.close();
  }

  /** A 32-bit mixer over a counter (Weyl sequence): every seed, zero too, has the full period. */
  #next(): number {
    this.#random = (this.#random + 0x9e37_79b9) | 0;
    let x = this.#random;
    x = Math.imul(x ^ (x >>> 16), 0x85eb_ca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2_ae35);
    return (x ^ (x >>> 16)) >>> 0;
  }

  #happens(ppm: number): boolean {
    return ppm > 0 && this.#next() % MILLION < ppm;
  }

  /** Flips one bit. */
  #corrupt(at: number, length_bytes: number): void {
    const random = this.#next();
    this.#link.loop.pool.arena.bytes[at + (random % length_bytes)]! ^= 1 << (random >>> 29);
    this.#link.counters[C.faultsCorrupted]!++;
  }

  receive(frames: FrameTable, limit: number): boolean {
    const first = frames.count;
    const hasMore = this.#inner.receive(frames, limit);
    const faults = this.#faults;
    const row = this.#link.counters;
    let end = frames.count;
    for (let frame = first; frame < end;) {
      if (this.#happens(faults.drop_ppm)) {
        frames.drop(frame);
        end--;
        row[C.dropFault]!++;
        continue;
      }
      // What just came in is shared with nobody yet.
      const w = frame * FRAME_WORDS;
      if (this.#happens(faults.corrupt_ppm)) this.#corrupt(frames.words[w + AT]!, frames.words[w + LENGTH]!);
      if (this.#happens(faults.duplicate_ppm)) {
        frames.pushCopy(frame);
        row[C.faultsDuplicated]!++;
      }
      frame++;
    }
    return hasMore;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const faults = this.#faults;
    const row = this.#link.counters;
    const out = this.#queue;
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      if (this.#happens(faults.drop_ppm)) {
        row[C.dropFault]!++;
        continue;
      }
      const copies = this.#happens(faults.duplicate_ppm) ? 2 : 1;
      row[C.faultsDuplicated]! += copies - 1;
      if (this.#happens(faults.corrupt_ppm)) {
        this.#flush(frames);
        this.#sendCorrupted(frames, frame, edit, copies);
      } else {
        for (let copy = 0; copy < copies; copy++) {
          if (out.isFull) this.#flush(frames);
          out.push(frame, edit);
        }
      }
    }
    this.#flush(frames);
  }

  #flush(frames: FrameTable): void {
    if (this.#queue.count > 0) this.#inner.transmit(frames, this.#queue);
    this.#queue.count = 0;
  }

  /** The buffer may be on its way to other ports: the fault goes into a copy. */
  #sendCorrupted(frames: FrameTable, frame: number, edit: number, copies: number): void {
    const own = this.#copies;
    if (!pushEditedCopy(this.#link.loop.pool, frames, frame, edit, own)) {
      this.#link.counters[C.dropNoBuffer]!++;
      return;
    }
    this.#corrupt(own.words[AT]!, own.words[LENGTH]!);
    for (let copy = 0; copy < copies; copy++) this.#queue.push(0, vlan.EDIT_NONE);
    this.#flush(own);
    own.releaseAll();
  }
}
