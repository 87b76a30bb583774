/**
 * A disk in memory on which layers lie: every operation is recorded, slow ones are carried out in an order that a seed decides,
 * each may be made to fail, and the disk can be had as a power cut at any moment may leave it.
 *
 * What a cut leaves, as page caches do: what was written before an fdatasync that has returned is there. Of each page (4096) or,
 * torn, of each sector (512), written since, there is some state that it had since then, each independent of the others.
 */
import { viewAt } from '../../../host/memory.js';
import type { LayerIo } from '../../../storage/layers/io.js';
import type { Waiter } from '../../../storage/volume/volume.js';

export const PAGE = 4096;
const SECTOR = 512;
const ZEROES = new Uint8Array(PAGE);
const PUNCH_HOLE = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const SEEK_END = 2;

/** Numbers in [0, n), the same for the same seed. */
export function random(seed: number): (n: number) => number {
  let state = (seed * 2654435761) >>> 0 || 1;
  return n => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % n;
  };
}

/** Pages are never changed in place, so a copy of the map is a copy of the file. */
export interface Image {
  pages: Map<number, Uint8Array>;
  size: number;
}

/** After it, this page of the file is so; null: a hole. */
interface Put {
  readonly fd: number;
  readonly page: number;
  readonly bytes: Uint8Array | null;
}

interface Event {
  readonly puts: readonly Put[];
  /** fdatasync of this file has returned; it began before event `since`. */
  readonly synced: number;
  readonly since: number;
}

interface Pending {
  readonly run: () => number;
  readonly waiter: Waiter;
  readonly token: number;
}

export class Disk implements LayerIo {
  bootId = new Uint8Array(16).fill(1);
  readonly files = new Map<number, Image>();
  readonly events: Event[] = [];
  /** Calls that may fail, so far; `fail` says with what (0: not). */
  calls = 0;
  fail: (call: number, what: string, fd: number) => number = () => 0;
  /** What reads of files at a place fail with; 0: not. */
  failAt: (fd: number, offset: number) => number = () => 0;
  /** Of a hundred reads that must not wait, so many would have to. */
  cold_percent = 0;
  /** Of these files nothing is in memory: what must not wait gets nothing, and what waits is counted. */
  readonly neverCached = new Set<number>();
  /** Files whose descriptors were given back, so that they may be others by now; and what was done with them all the same. */
  readonly closed = new Set<number>();
  readonly misused: string[] = [];
  waitedCount = 0;
  /** Or nothing of what is at this place. */
  isAway: (fd: number, offset: number) => boolean = () => false;
  readBegun: (fd: number, offset: number) => void = () => undefined;
  readEnded: (fd: number) => void = () => undefined;
  #random: (n: number) => number;
  #pending: Pending[] = [];
  #start = new Map<number, Image>();

  constructor(seed: number) {
    this.#random = random(seed);
  }

  /** A file of this length, durable. */
  add(fd: number, size: number, image: Image | null = null): void {
    this.closed.delete(fd);
    const file = image === null ? { pages: new Map<number, Uint8Array>(), size } : copy(image);
    this.files.set(fd, file);
    this.#start.set(fd, copy(file));
  }

  /** A file grows, durably. */
  lengthen(fd: number, size: number): void {
    this.files.get(fd)!.size = size;
    this.#start.get(fd)!.size = size;
  }

  get pending(): number {
    return this.#pending.length;
  }

  /** Nobody waits any more for what was asked for. */
  drop(): void {
    this.#pending = [];
  }

  /** Carries out some of what was asked for. */
  turn(): void {
    let count = this.#pending.length === 0 ? 0 : 1 + this.#random(this.#pending.length);
    while (count-- > 0) {
      const [one] = this.#pending.splice(this.#random(this.#pending.length), 1);
      one!.waiter.completed(one!.token, one!.run());
    }
  }

  pread(fd: number, address: number, length: number, offset: number): number {
    if (this.neverCached.has(fd) || this.isAway(fd, offset)) this.waitedCount++;
    const failed = this.#failed('pread', fd);
    return failed !== 0 ? failed : this.#read(fd, address, length, offset);
  }
  preadNoWait(fd: number, address: number, length: number, offset: number): number {
    if (this.neverCached.has(fd) || this.isAway(fd, offset)) return -11;
    if (this.cold_percent > 0 && this.#random(100) < this.cold_percent) return -11;
    const failed = this.#failed('pread', fd);
    return failed !== 0 ? failed : this.#read(fd, address, length, offset);
  }
  pwrite(fd: number, address: number, length: number, offset: number): number {
    const failed = this.#failed('pwrite', fd);
    return failed !== 0 ? failed : this.#write(fd, address, length, offset);
  }
  syncNow(fd: number): number {
    const failed = this.#failed('fdatasync', fd);
    if (failed === 0) this.events.push({ puts: [], synced: fd, since: this.events.length });
    return failed;
  }
  seek(fd: number, offset: number, whence: number): number {
    const { pages, size } = this.files.get(fd)!;
    if (whence === SEEK_END) return size;
    if (offset >= size) return -6;
    for (let page = Math.floor(offset / PAGE); page * PAGE < size; page++) {
      if (pages.has(page) === (whence === SEEK_DATA)) return Math.max(offset, page * PAGE);
    }
    return whence === SEEK_HOLE ? size : -6;
  }
  isCached(): number {
    return 1;
  }
  read(fd: number, address: number, length: number, offset: number, waiter: Waiter, token: number): void {
    this.readBegun(fd, offset);
    this.#ask(waiter, token, () => {
      this.readEnded(fd);
      const failed = this.#failed('pread', fd) || this.failAt(fd, offset);
      return failed !== 0 ? failed : this.#read(fd, address, length, offset);
    });
  }
  write(fd: number, address: number, length: number, offset: number, waiter: Waiter, token: number): void {
    this.#ask(waiter, token, () => {
      const failed = this.#failed('pwrite', fd);
      return failed !== 0 ? failed : this.#write(fd, address, length, offset);
    });
  }
  fdatasync(fd: number, waiter: Waiter, token: number): void {
    const since = this.events.length;
    this.#ask(waiter, token, () => {
      const failed = this.#failed('fdatasync', fd);
      if (failed === 0) this.events.push({ puts: [], synced: fd, since });
      return failed;
    });
  }
  fallocate(fd: number, mode: number, offset: number, length: number, waiter: Waiter, token: number): void {
    this.#ask(waiter, token, () => {
      const failed = this.#failed('fallocate', fd);
      if (failed === 0 && (mode & PUNCH_HOLE) !== 0) this.punch(fd, offset, length);
      return failed;
    });
  }

  /** What is there when the process dies after `count` events and the machine does not. */
  killed(count: number): Map<number, Image> {
    const files = new Map([...this.#start].map(([fd, image]) => [fd, copy(image)]));
    for (let i = 0; i < count; i++) for (const put of this.events[i]!.puts) apply(files, put);
    return files;
  }

  /**
   * What a power cut after `count` events may leave: all that was not synced lost, all of it there, one file's only, and
   * `more` random mixtures, half of them torn.
   */
  *cuts(count: number, seed: number, more: number): Generator<Map<number, Image>> {
    const durable = new Map([...this.#start].map(([fd, image]) => [fd, copy(image)]));
    const syncedTo = new Map<number, number>();
    for (let i = 0; i < count; i++) {
      const { synced, since } = this.events[i]!;
      if (synced >= 0) syncedTo.set(synced, Math.max(since, syncedTo.get(synced) ?? 0));
    }
    /** Of each page, what it was since. */
    const since = new Map<string, Put[]>();
    for (let i = 0; i < count; i++) {
      for (const put of this.events[i]!.puts) {
        if (i < (syncedTo.get(put.fd) ?? 0)) apply(durable, put);
        else {
          const key = `${put.fd}:${put.page}`;
          since.set(key, [...(since.get(key) ?? []), put]);
        }
      }
    }
    const lost = [...since.values()];
    yield durable;
    if (lost.length === 0) return;
    const fds = new Set(lost.map(puts => puts[0]!.fd));
    for (const only of [-1, ...(fds.size > 1 ? fds : [])]) {
      const files = copyAll(durable);
      for (const puts of lost) if (only < 0 || puts[0]!.fd === only) apply(files, puts.at(-1)!);
      yield files;
    }
    const pick = random(seed);
    for (let n = 0; n < more; n++) {
      const files = copyAll(durable);
      for (const puts of lost) {
        if (n % 2 === 0) {
          const which = pick(puts.length + 1);
          if (which > 0) apply(files, puts[which - 1]!);
          continue;
        }
        const { fd, page } = puts[0]!;
        const before = files.get(fd)!.pages.get(page) ?? ZEROES;
        const torn = before.slice();
        for (let at = 0; at < PAGE; at += SECTOR) {
          const which = pick(puts.length + 1);
          if (which > 0) torn.set((puts[which - 1]!.bytes ?? ZEROES).subarray(at, at + SECTOR), at);
        }
        apply(files, { fd, page, bytes: torn });
      }
      yield files;
    }
  }

  #failed(what: string, fd: number): number {
    if (this.closed.has(fd)) this.misused.push(`${what} of file ${fd}`);
    return this.fail(this.calls++, what, fd);
  }

  #ask(waiter: Waiter, token: number, run: () => number): void {
    this.#pending.push({ run, waiter, token });
  }

  #read(fd: number, address: number, length: number, offset: number): number {
    return this.get(fd, viewAt(address, length).bytes, offset);
  }

  /** What is there now; how much of it there is. */
  get(fd: number, into: Uint8Array, offset: number): number {
    const { pages, size } = this.files.get(fd)!;
    const n = Math.max(0, Math.min(into.length, size - offset));
    for (let at = 0; at < n;) {
      const inPage = (offset + at) % PAGE;
      const some = Math.min(PAGE - inPage, n - at);
      const page = pages.get(Math.floor((offset + at) / PAGE));
      if (page === undefined) into.fill(0, at, at + some);
      else into.set(page.subarray(inPage, inPage + some), at);
      at += some;
    }
    return n;
  }

  #write(fd: number, address: number, length: number, offset: number): number {
    this.put(fd, viewAt(address, length).bytes, offset);
    return length;
  }

  /** Is written, at once. */
  put(fd: number, bytes: Uint8Array, offset: number): void {
    const { length } = bytes;
    const file = this.files.get(fd)!;
    const puts: Put[] = [];
    for (let at = 0; at < length;) {
      const inPage = (offset + at) % PAGE;
      const some = Math.min(PAGE - inPage, length - at);
      const page = Math.floor((offset + at) / PAGE);
      const changed = (file.pages.get(page) ?? ZEROES).slice();
      changed.set(bytes.subarray(at, at + some), inPage);
      file.pages.set(page, changed);
      puts.push({ fd, page, bytes: changed });
      at += some;
    }
    file.size = Math.max(file.size, offset + length);
    this.events.push({ puts, synced: -1, since: 0 });
  }

  /** Whole pages, at once. */
  punch(fd: number, offset: number, length: number): void {
    const puts: Put[] = [];
    for (let at = offset; at < offset + length; at += PAGE) {
      this.files.get(fd)!.pages.delete(at / PAGE);
      puts.push({ fd, page: at / PAGE, bytes: null });
    }
    this.events.push({ puts, synced: -1, since: 0 });
  }
}

function apply(files: Map<number, Image>, { fd, page, bytes }: Put): void {
  const { pages } = files.get(fd)!;
  if (bytes === null) pages.delete(page);
  else pages.set(page, bytes);
}

function copy({ pages, size }: Image): Image {
  return { pages: new Map(pages), size };
}

function copyAll(files: ReadonlyMap<number, Image>): Map<number, Image> {
  return new Map([...files].map(([fd, image]) => [fd, copy(image)]));
}
