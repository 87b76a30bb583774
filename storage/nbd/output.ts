/**
 * What is still to be sent on one connection. Replies of a burst are laid one behind the other in one chunk and go
 * out by one send; a reply that was read from disk into a chunk of its own is queued as that chunk, not copied.
 *
 *   queue: [segment][segment]...   then   chunk: ....|start==========end|.....free
 *
 * Bounded by its user, who makes no new reply while `blocked`: so beside what was in flight (and is in the budget) there
 * are at most two chunks.
 */
import type { Budget, Chunk, ChunkPool } from './chunks.js';
import { LARGE_CHUNK_BYTES } from './limits.js';

/** The calls of a socket: bytes moved, or -errno. */
export interface Channel {
  recv(address: number, length_bytes: number): number;
  send(address: number, length_bytes: number): number;
  /** Left out where files cannot be sent. 0: the file is shorter. */
  sendFile?(fileFd: number, offset_bytes: number, length_bytes: number): number;
}

const EINTR = -4;
const EAGAIN = -11;

/** A part of a chunk, or of a file when `fileFd` is not -1 (then `at` and `end` are offsets in it). */
interface Segment {
  readonly chunk: Chunk | null;
  readonly fileFd: number;
  at: number;
  readonly end: number;
  readonly budget_bytes: number;
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

  constructor(channel: Channel, pool: ChunkPool, budget: Budget) {
    this.#channel = channel;
    this.#pool = pool;
    this.#budget = budget;
  }

  get canSendFiles(): boolean {
    return this.#channel.sendFile !== undefined;
  }

  get empty(): boolean {
    return this.#start === this.#end && this.#queue.length === 0;
  }

  /** Where in `chunk` the next `length_bytes` (at most LARGE_CHUNK_BYTES) may be written. */
  reserve(length_bytes: number): number {
    if (this.chunk !== null) {
      if (this.#end + length_bytes <= LARGE_CHUNK_BYTES) return this.#end;
      if (!this.blocked) this.flush();
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
    this.#queue.push({ chunk, fileFd: -1, at, end, budget_bytes });
  }

  /** Only where `canSendFiles`: queues a range of a file behind what is committed, and sends. The file stays open as long as this output has a user. */
  appendFile(fileFd: number, offset_bytes: number, length_bytes: number): void {
    if (this.broken) return;
    if (this.chunk !== null) this.#retire();
    const end = offset_bytes + length_bytes;
    this.#queue.push({ chunk: null, fileFd, at: offset_bytes, end, budget_bytes: 0 });
    if (!this.blocked) this.flush();
  }

  /** Sends what the socket takes. */
  flush(): void {
    if (this.broken) return this.clear();
    this.blocked = false;
    while (this.#queue.length > 0) {
      const segment = this.#queue[0]!;
      segment.at += this.#sendSegment(segment);
      if (this.broken) return this.clear();
      if (segment.at < segment.end) return;
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
      this.#queue.push({ chunk, fileFd: -1, at: this.#start, end: this.#end, budget_bytes: 0 });
    else this.#pool.give(chunk);
    this.chunk = null;
    this.#start = 0;
    this.#end = 0;
  }

  #release({ chunk, budget_bytes }: Segment): void {
    if (chunk !== null) this.#pool.give(chunk);
    if (budget_bytes > 0) this.#budget.give(budget_bytes);
  }

  #sendSegment({ chunk, fileFd, at, end }: Segment): number {
    if (chunk !== null) return this.#send(chunk.address + at, end - at);
    let done = 0;
    while (done < end - at) {
      const sent = this.#channel.sendFile!(fileFd, at + done, end - at - done);
      // Less than asked for is no sign of a full socket here: the kernel stops where it pleases.
      if (sent > 0) done += sent;
      else if (sent !== EINTR) {
        if (sent === EAGAIN) this.blocked = true;
        else this.broken = this.fileFailed = true;
        break;
      }
    }
    return done;
  }

  /** Bytes taken by the socket; less than all means blocked or broken. */
  #send(address: number, length_bytes: number): number {
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
