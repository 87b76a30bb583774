/**
 * What is still to be sent on one connection. Replies of a burst are laid one behind the other in one chunk and go
 * out by one send; a reply that was read from disk into a chunk of its own is queued as that chunk, not copied.
 *
 *   queue: [segment][segment]...   then   chunk: ....|start==========end|.....free
 *
 * A long read may be a range of a file, sent by the kernel from its own pages. Its source said that the bytes are good just
 * before. When the socket was full in between it is asked again, since they may have left the memory and come back from the
 * disk otherwise; what cannot be sent from the file any more is then read into a chunk, which may take a while.
 *
 * Bounded by its user, who makes no new reply while `blocked`: so beside what was in flight (and is in the budget) there
 * are at most two chunks.
 */
import type { Budget, Chunk, ChunkPool } from './chunks.js';
import type { FileRuns } from '../volume/volume.js';
import { LARGE_CHUNK_BYTES, PIECE_BYTES } from './limits.js';

/** The calls of a socket: bytes moved, or -errno. */
export interface Channel {
  recv(address: number, length_bytes: number): number;
  send(address: number, length_bytes: number): number;
  /** Left out where files cannot be sent. 0: the file is shorter. */
  sendFile?(fileFd: number, offset_bytes: number, length_bytes: number): number;
}

/** Whose file is sent from: a volume, by its transmission. */
export interface FileSource {
  /** The fd of a file that holds this range at the same offset, in memory and as it should be; -1: there is none now. */
  sendableFrom(offset_bytes: number, length_bytes: number): number;
  /** Reads into the beginning of a chunk: 0 or -errno; -EAGAIN: `filled` will be told. */
  fill(offset_bytes: number, length_bytes: number, chunk: Chunk): number;
}

/** So much is asked for at a time of what could not be sent at once: the socket may be full again soon. */
const RESUMED_BYTES = 65_536;
const EINTR = -4;
const EAGAIN = -11;

/** A part of a chunk, or of a file. */
interface Segment {
  readonly chunk: Chunk | null;
  /** A later segment gives the chunk back. */
  readonly lent: boolean;
  readonly file: FileRange | null;
  /** In the chunk, or in the file. */
  at: number;
  readonly end: number;
  readonly budget_bytes: number;
}

interface FileRange {
  readonly source: FileSource;
  fd: number;
  /** Up to here the source said that it is good. */
  goodEnd: number;
}

export class Output {
  /** Valid after reserve. */
  chunk: Chunk | null = null;
  /** The socket takes no more; ask to be told when it does. */
  blocked = false;
  /** The peer is gone; whatever is added is dropped. */
  broken = false;
  /** It broke because a file could not be read whose length had been promised. */
  fileFailed = false;
  #channel: Channel;
  #pool: ChunkPool;
  #budget: Budget;
  #start = 0;
  #end = 0;
  #queue: Segment[] = [];
  /** Being filled with the next bytes of the file that the queue begins with. */
  #filling: Chunk | null = null;
  #filling_bytes = 0;

  constructor(channel: Channel, pool: ChunkPool, budget: Budget) {
    this.#channel = channel;
    this.#pool = pool;
    this.#budget = budget;
  }

  get canSendFiles(): boolean {
    return this.#channel.sendFile !== undefined;
  }

  /** Blocked by the volume that it has to wait for, and not by the socket. */
  get waitsForFile(): boolean {
    return this.#filling !== null;
  }

  get empty(): boolean {
    return this.#start === this.#end && this.#queue.length === 0;
  }

  /** Where in `chunk` the next `length_bytes` (at most LARGE_CHUNK_BYTES) may be written. */
  reserve(length_bytes: number): number {
    if (this.chunk !== null) {
      if (this.#end + length_bytes <= LARGE_CHUNK_BYTES) return this.#end;
      this.flush();
      // flush gives back a chunk that it emptied.
      if (this.chunk !== null) this.#retire();
    }
    this.chunk = this.#pool.takeLarge();
    this.#start = 0;
    this.#end = 0;
    return 0;
  }

  commit(length_bytes: number): void {
    this.#end += length_bytes;
  }

  /** Queues a chunk, which is given back when sent. `budget_bytes` go back to the budget with it. */
  append(chunk: Chunk, at: number, end: number, budget_bytes: number): void {
    if (this.broken) {
      this.#pool.give(chunk);
      this.#budget.give(budget_bytes);
      return;
    }
    if (this.chunk !== null) this.#retire();
    this.#queue.push({ chunk, lent: false, file: null, at, end, budget_bytes });
  }

  /**
   * Only where `canSendFiles`: queues a range that `source` just said can be sent from `fd`, behind what is committed, and
   * sends. The file stays open as long as this output has a user.
   */
  appendFile(source: FileSource, fd: number, offset_bytes: number, length_bytes: number): void {
    if (this.broken) return;
    if (this.chunk !== null) this.#retire();
    const end = offset_bytes + length_bytes;
    const file = { source, fd, goodEnd: end };
    const segment = { chunk: null, lent: false, file, at: offset_bytes, end, budget_bytes: 0 };
    this.#queue.push(segment);
    this.flush();
    // What is left of it, perhaps all, will not be sent directly after it was found good.
    file.goodEnd = segment.at;
  }

  /**
   * As commit, of a reply in which runs of `from_bytes` on, which begin at chunk[at], are sent from files instead. As appendFile
   * otherwise.
   */
  commitRuns(source: FileSource, length_bytes: number, at: number, from_bytes: number, runs: FileRuns): void {
    const chunk = this.chunk!;
    const end = this.#end + length_bytes;
    let start = this.#start;
    this.chunk = null;
    this.#start = 0;
    this.#end = 0;
    if (this.broken) return this.#pool.give(chunk);
    for (let i = 0; i < runs.count; i++) {
      const offset = runs.offsets_bytes[i]!;
      const length = runs.lengths_bytes[i]!;
      const place = at + offset - from_bytes;
      this.#queue.push({ chunk, lent: true, file: null, at: start, end: place, budget_bytes: 0 });
      const file = { source, fd: runs.fds[i]!, goodEnd: offset + length };
      this.#queue.push({
        chunk: null,
        lent: false,
        file,
        at: offset,
        end: offset + length,
        budget_bytes: 0,
      });
      start = place + length;
    }
    this.#queue.push({ chunk, lent: false, file: null, at: start, end, budget_bytes: 0 });
    this.flush();
    for (const { file, at: sentTo } of this.#queue) if (file?.source === source) file.goodEnd = sentTo;
  }

  /** The answer to a `fill` that took a while. Then `flush`. */
  filled(result: number): void {
    const chunk = this.#filling!;
    this.#filling = null;
    this.blocked = false;
    if (this.broken || this.#queue.length === 0) return this.#pool.give(chunk);
    this.#fillEnded(chunk, result);
    if (this.broken) this.clear();
  }

  /** The socket takes something again. */
  writable(): void {
    if (this.#filling !== null) return;
    this.blocked = false;
    this.flush();
  }

  /** Sends what the socket takes; nothing while it is known to take none. */
  flush(): void {
    if (this.broken) return this.clear();
    if (this.blocked) return;
    while (this.#queue.length > 0) {
      const segment = this.#queue[0]!;
      if (segment.file !== null) this.#sendFile(segment, segment.file);
      else segment.at += this.#send(segment.chunk!.address + segment.at, segment.end - segment.at);
      if (this.broken) return this.clear();
      if (this.blocked) return;
      // Bytes of the file that had to be read are before the rest of it now.
      if (this.#queue[0] !== segment) continue;
      this.#queue.shift();
      this.#release(segment);
    }
    if (this.chunk === null) return;
    if (this.#start < this.#end) {
      this.#start += this.#send(this.chunk.address + this.#start, this.#end - this.#start);
      if (this.broken) return this.clear();
    }
    if (this.#start === this.#end) {
      this.#pool.give(this.chunk);
      this.chunk = null;
      this.#start = 0;
      this.#end = 0;
    }
  }

  /** Drops everything. */
  clear(): void {
    for (const segment of this.#queue) this.#release(segment);
    this.#queue = [];
    if (this.chunk !== null) this.#pool.give(this.chunk);
    this.chunk = null;
    this.#start = 0;
    this.#end = 0;
  }

  /** Puts the current chunk into the queue, or gives it back when it is empty. */
  #retire(): void {
    const chunk = this.chunk!;
    if (this.#start < this.#end)
      this.#queue.push({ chunk, lent: false, file: null, at: this.#start, end: this.#end, budget_bytes: 0 });
    else this.#pool.give(chunk);
    this.chunk = null;
    this.#start = 0;
    this.#end = 0;
  }

  #release({ chunk, lent, budget_bytes }: Segment): void {
    if (chunk !== null && !lent) this.#pool.give(chunk);
    if (budget_bytes > 0) this.#budget.give(budget_bytes);
  }

  #sendFile(segment: Segment, file: FileRange): void {
    while (segment.at < segment.end) {
      if (segment.at >= file.goodEnd) {
        const length_bytes = Math.min(RESUMED_BYTES, segment.end - segment.at);
        file.fd = file.source.sendableFrom(segment.at, length_bytes);
        if (file.fd < 0) return this.#fill(segment, file);
        file.goodEnd = segment.at + length_bytes;
      }
      const sent = this.#channel.sendFile!(file.fd, segment.at, file.goodEnd - segment.at);
      // Less than asked for is no sign of a full socket here: the kernel stops where it pleases.
      if (sent > 0) segment.at += sent;
      else if (sent !== EINTR) {
        file.goodEnd = segment.at;
        if (sent === EAGAIN) this.blocked = true;
        else this.broken = this.fileFailed = true;
        return;
      }
    }
  }

  /** The length has been promised, so the bytes are read, whatever it takes. */
  #fill(segment: Segment, { source }: FileRange): void {
    this.#filling_bytes = Math.min(PIECE_BYTES, segment.end - segment.at);
    const chunk = this.#pool.take(this.#filling_bytes);
    const result = source.fill(segment.at, this.#filling_bytes, chunk);
    if (result !== EAGAIN) return this.#fillEnded(chunk, result);
    this.#filling = chunk;
    this.blocked = true;
  }

  #fillEnded(chunk: Chunk, result: number): void {
    const segment = this.#queue[0]!;
    if (result < 0) {
      this.broken = this.fileFailed = true;
      this.#pool.give(chunk);
      return;
    }
    segment.at += this.#filling_bytes;
    this.#queue.unshift({
      chunk,
      lent: false,
      file: null,
      at: 0,
      end: this.#filling_bytes,
      budget_bytes: 0,
    });
  }

  /** Bytes taken by the socket; less than all means blocked or broken. */
  #send(address: number, length_bytes: number): number {
    if (length_bytes === 0) return 0;
    for (;;) {
      const sent = this.#channel.send(address, length_bytes);
      if (sent === length_bytes) return sent;
      if (sent === EINTR) continue;
      if (sent >= 0 || sent === EAGAIN) {
        // A stream takes less than all only when it is full.
        this.blocked = true;
        return Math.max(sent, 0);
      }
      this.broken = true;
      return 0;
    }
  }
}
