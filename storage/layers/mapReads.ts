/**
 * Pages of maps that are not in memory: read by SlowIo while everybody else goes on. Who needs one asks, and is told when to
 * try again; all that need the same page share one read.
 *
 *   Layer.groupNow, readWords   what memory or the page cache has; else:
 *   bringGroup   both state pages of a group, which then are the layer's own. One that cannot be read is damaged
 *   bringWords   a checksum page, handed to whoever asked: only it knows for which region that is
 *
 * Bounded: PageRoom has room for so many pages of a thread; who finds none waits in line, and those are no more than requests in
 * flight.
 */
import { mapAnonymous, type Mapping } from '../pool/file.js';
import { ERRNO, type Waiter } from '../volume/volume.js';
import type { LayerIo } from './io.js';
import type { Layer } from './layer.js';
import { PAGE_BYTES, checksumPageAt, statePageAt } from './map.js';

/** Of both state pages. */
const PLACE_BYTES = 2 * PAGE_BYTES;
const PLACES = 64;
const EINTR = 4;

/** The page, or null: it cannot be read. Good within the call only. */
export type Came = (page: Uint8Array | null) => void;

/** Shared by the volumes of a thread. */
export class PageRoom {
  #room: Mapping | null = null;
  #free: number[] = [];
  #line: PageRead[] = [];

  /** `begin` is called with a place in `room`, now or when there is one. */
  take(read: PageRead): void {
    if (this.#room === null) {
      this.#room = mapAnonymous(PLACES * PLACE_BYTES);
      for (let i = 0; i < PLACES; i++) this.#free.push(i * PLACE_BYTES);
    }
    const at = this.#free.pop();
    if (at === undefined) this.#line.push(read);
    else read.begin(this.#room, at);
  }

  give(at: number): void {
    const next = this.#line.shift();
    if (next === undefined) this.#free.push(at);
    else next.begin(this.#room!, at);
  }
}

class PageRead implements Waiter {
  readonly waiters: (() => void)[] = [];
  #reads: MapReads;
  #fd: number;
  #offset: number;
  #length: number;
  #came: Came;
  #room: Mapping | null = null;
  #at = 0;
  #done = 0;

  constructor(reads: MapReads, fd: number, offset: number, length: number, came: Came) {
    this.#reads = reads;
    this.#fd = fd;
    this.#offset = offset;
    this.#length = length;
    this.#came = came;
  }

  begin(room: Mapping, at: number): void {
    this.#room = room;
    this.#at = at;
    this.#ask(room);
  }

  completed(_token: number, result: number): void {
    const room = this.#room!;
    if (result > 0) this.#done += result;
    const isShort = result > 0 && this.#done < this.#length;
    if (isShort || result === -EINTR || result === -ERRNO.EAGAIN) return this.#ask(room);
    this.#came(result > 0 ? room.bytes.subarray(this.#at, this.#at + this.#length) : null);
    this.#reads.ended(this, this.#at);
  }

  #ask(room: Mapping): void {
    const address = room.address + this.#at + this.#done;
    this.#reads.io.read(this.#fd, address, this.#length - this.#done, this.#offset + this.#done, this, 0);
  }
}

/** Of one volume. */
export class MapReads {
  readonly io: LayerIo;
  #room: PageRoom;
  #underWay = new Set<PageRead>();
  /** State pages that are under way. */
  #groups = new Map<Layer, Map<number, PageRead>>();

  constructor(io: LayerIo, room: PageRoom) {
    this.io = io;
    this.#room = room;
  }

  get busy(): boolean {
    return this.#underWay.size > 0;
  }

  /** Answers whether what is read now has come: then no file of before is in use any more. */
  readsOfNow(): () => boolean {
    const now = [...this.#underWay];
    return () => now.every(read => !this.#underWay.has(read));
  }

  /** `then` is called when it is worth to ask the layer again; never from within this call. */
  bringGroup(layer: Layer, index: number, then: () => void): void {
    let ofLayer = this.#groups.get(layer);
    if (ofLayer === undefined) this.#groups.set(layer, (ofLayer = new Map<number, PageRead>()));
    let read = ofLayer.get(index);
    if (read === undefined) {
      const reads = ofLayer;
      layer.expect(index);
      read = this.#read(layer.mapFd, statePageAt(index, 0), PLACE_BYTES, pages => {
        reads.delete(index);
        if (reads.size === 0) this.#groups.delete(layer);
        layer.came(index, pages);
      });
      ofLayer.set(index, read);
    }
    read.waiters.push(then);
  }

  /** `came` is called once, never from within this call. */
  bringWords(layer: Layer, region: number, came: Came): void {
    this.#read(layer.mapFd, checksumPageAt(region), PAGE_BYTES, came);
  }

  ended(read: PageRead, at: number): void {
    this.#underWay.delete(read);
    this.#room.give(at);
    for (const waiter of read.waiters) waiter();
  }

  #read(fd: number, offset: number, length: number, came: Came): PageRead {
    const read = new PageRead(this, fd, offset, length, came);
    this.#underWay.add(read);
    this.#room.take(read);
    return read;
  }
}
