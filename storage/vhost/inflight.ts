/**
 * Which requests are under way, in memory that QEMU keeps for us (vhost-user, "Inflight I/O tracking", split virtqueues). It
 * outlives this process: who comes after it carries out again what was taken from a ring and not given back.
 *
 *   queue   features u64 | version u16 | desc_num u16 | last_batch_head u16 | used_idx u16 | state[desc_num] | to 64 bytes
 *   state   inflight u8, padding[5], next u16, counter u64
 *
 * A request is `taken` (counter, inflight = 1) before anything is done for it. What is given back is a batch: each
 * is linked to the one before it (`given`), the used index is stored, and only then they are struck out (`published`).
 * Whoever dies in between leaves used_idx behind the ring's, so that its successor strikes out as many as are missing.
 *
 * What is in it is believed no more than a ring: heads beyond the queue and links that lead nowhere are nobody's.
 */
const QUEUE_HEADER_WORDS = 4;
const STATE_WORDS = 4;
const ALIGNMENT_WORDS = 16;
const VERSION = 1;

function queueWords(queueSize: number): number {
  const words = QUEUE_HEADER_WORDS + queueSize * STATE_WORDS;
  return Math.ceil(words / ALIGNMENT_WORDS) * ALIGNMENT_WORDS;
}

export function inflightLength_bytes(queues: number, queueSize: number): number {
  return queues * queueWords(queueSize) * 4;
}

/** Of one queue. */
export class InflightQueue {
  readonly size: number;
  #words: Int32Array;
  #halves: Uint16Array;
  /** In words, and where its states begin. */
  #at: number;
  #states: number;
  #counterLow = 0;
  #counterHigh = 0;
  /** Given and not published. */
  #batch = 0;

  /** `i32` holds the whole area. */
  constructor(i32: Int32Array, index: number, queueSize: number) {
    this.size = queueSize;
    this.#words = i32;
    this.#halves = new Uint16Array(i32.buffer, i32.byteOffset, i32.length * 2);
    this.#at = index * queueWords(queueSize);
    this.#states = this.#at + QUEUE_HEADER_WORDS;
  }

  /** When the ring begins: heads that are to be carried out again, oldest first. `usedIndex`: the ring's. */
  resume(usedIndex: number): number[] {
    const half = this.#at * 2;
    const halves = this.#halves;
    if (halves[half + 4] === 0) {
      halves[half + 4] = VERSION;
      halves[half + 5] = this.size;
      halves[half + 7] = usedIndex;
    }
    let head = halves[half + 6]!;
    let missing = (usedIndex - halves[half + 7]!) & 0xffff;
    for (; missing > 0 && missing <= this.size && head < this.size; missing--) {
      Atomics.store(this.#words, this.#states + head * STATE_WORDS, 0);
      head = halves[this.#halfOfNext(head)]!;
    }
    halves[half + 7] = usedIndex;
    const heads: number[] = [];
    for (let i = 0; i < this.size; i++)
      if ((this.#words[this.#states + i * STATE_WORDS]! & 0xff) === 1) heads.push(i);
    heads.sort((a, b) => this.#counterOf(a) - this.#counterOf(b));
    const newest = heads.length === 0 ? 0 : this.#counterOf(heads.at(-1)!) + 1;
    this.#counterLow = newest >>> 0;
    this.#counterHigh = Math.floor(newest / 2 ** 32);
    this.#batch = 0;
    return heads;
  }

  /** `head` is below `size`. */
  taken(head: number): void {
    const at = this.#states + head * STATE_WORDS;
    const words = this.#words;
    words[at + 2] = this.#counterLow;
    words[at + 3] = this.#counterHigh;
    this.#counterLow = (this.#counterLow + 1) >>> 0;
    if (this.#counterLow === 0) this.#counterHigh++;
    Atomics.store(words, at, 1);
  }

  /** Its element of the used ring is written, and not published yet. */
  given(head: number): void {
    const half = this.#at * 2;
    this.#halves[this.#halfOfNext(head)] = this.#halves[half + 6]!;
    this.#halves[half + 6] = head;
    this.#batch++;
  }

  published(usedIndex: number): void {
    const half = this.#at * 2;
    let head = this.#halves[half + 6]!;
    for (; this.#batch > 0 && head < this.size; this.#batch--) {
      const next = this.#halves[this.#halfOfNext(head)]!;
      Atomics.store(this.#words, this.#states + head * STATE_WORDS, 0);
      head = next;
    }
    this.#batch = 0;
    this.#halves[half + 7] = usedIndex;
  }

  #halfOfNext(head: number): number {
    return (this.#states + head * STATE_WORDS) * 2 + 3;
  }

  #counterOf(head: number): number {
    const at = this.#states + head * STATE_WORDS;
    return (this.#words[at + 3]! >>> 0) * 2 ** 32 + (this.#words[at + 2]! >>> 0);
  }
}
