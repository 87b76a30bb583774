/**
 * A bounded ring of bytes from one thread to another, in a SharedArrayBuffer: the engine writes whole records
 * and never waits; the reader takes what is there. A record that finds no room is lost, and counted.
 *
 *   words  0 head: bytes ever read   1 tail: bytes ever written   2 lost records   3 closed by the writer
 *   then the data, a power of two of bytes
 *
 * Head and tail are wrapping 32-bit counts; each is written by one side only.
 */
const HEAD = 0;
const TAIL = 1;
const LOST = 2;
const CLOSED = 3;
const DATA_AT = 64;

export class ByteRing {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #data: Uint8Array;
  readonly #mask: number;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer, 0, DATA_AT / 4);
    this.#data = new Uint8Array(buffer, DATA_AT);
    this.#mask = this.#data.length - 1;
  }

  static create(capacity_bytes: number): ByteRing {
    if ((capacity_bytes & (capacity_bytes - 1)) !== 0)
      throw new RangeError('a ring holds a power of two of bytes');
    return new ByteRing(new SharedArrayBuffer(DATA_AT + capacity_bytes));
  }

  // The writer's side.

  /** All of it or nothing. */
  write(bytes: Uint8Array, at: number, length_bytes: number): boolean {
    const tail = this.#words[TAIL]!;
    const used = (tail - Atomics.load(this.#words, HEAD)) >>> 0;
    if (used + length_bytes > this.#mask + 1) {
      Atomics.add(this.#words, LOST, 1);
      return false;
    }
    const from = tail & this.#mask;
    const first = Math.min(length_bytes, this.#mask + 1 - from);
    this.#data.set(bytes.subarray(at, at + first), from);
    if (first < length_bytes) this.#data.set(bytes.subarray(at + first, at + length_bytes), 0);
    Atomics.store(this.#words, TAIL, (tail + length_bytes) | 0);
    return true;
  }

  /** Nothing more comes. */
  close(): void {
    Atomics.store(this.#words, CLOSED, 1);
  }

  // The reader's side.

  get available(): number {
    return (Atomics.load(this.#words, TAIL) - this.#words[HEAD]!) >>> 0;
  }

  /** A copy of what is there, `max_bytes` at most. */
  read(max_bytes: number): Uint8Array {
    const length_bytes = Math.min(this.available, max_bytes);
    const head = this.#words[HEAD]!;
    const from = head & this.#mask;
    const first = Math.min(length_bytes, this.#mask + 1 - from);
    const out = new Uint8Array(length_bytes);
    out.set(this.#data.subarray(from, from + first), 0);
    out.set(this.#data.subarray(0, length_bytes - first), first);
    Atomics.store(this.#words, HEAD, (head + length_bytes) | 0);
    return out;
  }

  get lost(): number {
    return Atomics.load(this.#words, LOST);
  }

  get isClosed(): boolean {
    return Atomics.load(this.#words, CLOSED) !== 0;
  }
}
