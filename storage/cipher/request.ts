/**
 * A request of encryptedVolume.ts that takes more than one call: it goes through its range window by window, and answers
 * when the last one is done or one failed.
 *
 *   read    whole blocks: one read into the asker's memory, decrypted there. Else window by window through our own
 *   write   lock -> for each window: (read and decrypt the blocks of which a part stays) -> join, encrypt -> write below
 *   zero    the same, but whole blocks are zeroed below
 *   trim    whole blocks below; parts of blocks stay
 *
 * A window starts and ends on blocks of 4096 bytes below; `#from` and `#to` are the part of it that was asked for.
 */
import { READ, TRIM, WRITE, ZERO, type AskedKind } from '../volume/asked.js';
import type { LockWaiter } from '../volume/rangeLock.js';
import type { Memory, Waiter, ZeroHow } from '../volume/volume.js';
import {
  aligned,
  UNIT_BYTES,
  WINDOW_BYTES,
  type CipherMemory,
  type EncryptedVolume,
} from './encryptedVolume.js';

/** What the answer that is waited for belongs to; handed down as the token. */
const READ_WHOLE = 0;
const READ_WINDOW = 1;
const READ_HEAD = 2;
const READ_TAIL = 3;
const WROTE = 4;
const ENDED = 5;

const floor = (offset_bytes: number): number => Math.floor(offset_bytes / UNIT_BYTES) * UNIT_BYTES;
const ceil = (offset_bytes: number): number => Math.ceil(offset_bytes / UNIT_BYTES) * UNIT_BYTES;

export class CipherRequest implements Waiter, LockWaiter {
  #volume: EncryptedVolume;
  #kind: AskedKind = READ;
  #offset = 0;
  #end = 0;
  #memory: Memory | null = null;
  #at = 0;
  #how: ZeroHow | null = null;
  #waiter: Waiter | null = null;
  #token = 0;
  #lock = -1;
  #replaces = false;
  #window: CipherMemory | null = null;
  #from = 0;
  #to = 0;

  constructor(volume: EncryptedVolume) {
    this.#volume = volume;
  }

  begin(
    kind: AskedKind,
    offset_bytes: number,
    length_bytes: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    this.#kind = kind;
    this.#offset = offset_bytes;
    this.#end = offset_bytes + length_bytes;
    this.#memory = memory;
    this.#at = at;
    this.#how = how;
    this.#waiter = waiter;
    this.#token = token;
    this.#to = offset_bytes;
    const whole = aligned(offset_bytes, length_bytes);
    this.#replaces = !whole && (kind === WRITE || kind === ZERO);
    if (kind === READ) {
      if (!whole) return this.#next();
      this.#volume.below.read(offset_bytes, length_bytes, memory!, at, this, READ_WHOLE);
      return;
    }
    const { lock } = this.#volume;
    this.#lock = lock.acquire(floor(offset_bytes), ceil(this.#end), this.#replaces, this);
    if (lock.held(this.#lock)) this.granted();
  }

  granted(): void {
    if (this.#kind !== TRIM) return this.#next();
    const from = ceil(this.#offset);
    const to = floor(this.#end);
    if (to <= from) this.#volume.later.answer(this, ENDED, 0);
    else this.#volume.below.trim(from, to - from, this, ENDED);
  }

  completed(token: number, result: number): void {
    if (result < 0) return this.#finish(result);
    const volume = this.#volume;
    switch (token) {
      case READ_WHOLE:
        return this.#finish(volume.decrypt(this.#offset, this.#end - this.#offset, this.#memory!, this.#at));
      case READ_WINDOW:
        return this.#takeFromWindow();
      case READ_HEAD: {
        const failed = volume.decrypt(floor(this.#from), UNIT_BYTES, this.#window!, 0);
        return failed < 0 ? this.#finish(failed) : this.#readTail();
      }
      case READ_TAIL: {
        const last = floor(this.#to);
        const failed = volume.decrypt(last, UNIT_BYTES, this.#window!, last - floor(this.#from));
        return failed < 0 ? this.#finish(failed) : this.#writeWindow();
      }
      case WROTE:
        return this.#next();
      case ENDED:
        return this.#finish(0);
    }
  }

  /** The next window, or the end. */
  #next(): void {
    const from = this.#to;
    if (from === this.#end) return this.#finish(0);
    this.#from = from;
    const { below } = this.#volume;
    if (this.#kind === ZERO && from % UNIT_BYTES === 0 && this.#end - from >= UNIT_BYTES) {
      this.#to = floor(this.#end);
      return below.zero(from, this.#to - from, this.#how!, this, WROTE);
    }
    const first = floor(from);
    this.#to = Math.min(this.#end, first + (this.#kind === ZERO ? UNIT_BYTES : WINDOW_BYTES));
    this.#window ??= this.#volume.takeWindow(ceil(this.#end) - first);
    if (this.#kind === READ)
      return below.read(first, ceil(this.#to) - first, this.#window, 0, this, READ_WINDOW);
    if (from !== first || this.#to < first + UNIT_BYTES)
      return below.read(first, UNIT_BYTES, this.#window, 0, this, READ_HEAD);
    this.#readTail();
  }

  /** The last block, when a part of it stays and it is not the first one. */
  #readTail(): void {
    const first = floor(this.#from);
    const last = floor(this.#to);
    if (last === this.#to || last === first) return this.#writeWindow();
    this.#volume.below.read(last, UNIT_BYTES, this.#window!, last - first, this, READ_TAIL);
  }

  #takeFromWindow(): void {
    const first = floor(this.#from);
    const window = this.#window!;
    const failed = this.#volume.decrypt(first, ceil(this.#to) - first, window, 0);
    if (failed < 0) return this.#finish(failed);
    const memory = this.#memory!;
    memory.bytes.set(
      window.bytes.subarray(this.#from - first, this.#to - first),
      this.#at + this.#from - this.#offset,
    );
    this.#next();
  }

  #writeWindow(): void {
    const window = this.#window!;
    const first = floor(this.#from);
    const length = ceil(this.#to) - first;
    if (this.#kind === ZERO) window.bytes.fill(0, this.#from - first, this.#to - first);
    else {
      const at = this.#at + this.#from - this.#offset;
      const part = this.#memory!.bytes.subarray(at, at + this.#to - this.#from);
      window.bytes.set(part, this.#from - first);
    }
    const failed = this.#volume.encrypt(first, length, window, 0, window);
    // Not at once: we may be within the call that asked.
    if (failed < 0) return this.#volume.later.answer(this, ENDED, failed);
    this.#volume.below.write(first, length, window, 0, this, WROTE);
  }

  #finish(result: number): void {
    const volume = this.#volume;
    const waiter = this.#waiter!;
    const token = this.#token;
    if (this.#window !== null) {
      // Plaintext does not lie about in there.
      if (this.#kind === READ || this.#replaces) this.#window.bytes.fill(0);
      volume.giveWindow(this.#window);
    }
    this.#window = null;
    this.#memory = null;
    this.#waiter = null;
    const lock = this.#lock;
    this.#lock = -1;
    volume.ended(this, this.#replaces);
    if (lock >= 0) volume.lock.release(lock);
    waiter.completed(token, result);
  }
}
