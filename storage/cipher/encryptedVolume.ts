/**
 * Encryption at rest: what is below holds AES-256-XTS of each block of 4096 bytes, the tweak its number in the volume
 * (IEEE 1619). Blocks stay where they are, so thin volumes stay thin, and snapshots and copies below are of ciphertext.
 *
 *   a block of zeroes below reads as zeroes   holes, trimmed and zeroed blocks are not encrypted. Who sees the disk sees which
 *                                             blocks are in use, and nothing else. (That ciphertext is all zeroes has
 *                                             a chance of 2^-32768.)
 *   a part of a block                         is read, decrypted, changed and written (request.ts), while a lock keeps
 *                                             other writes away from the block
 *
 * XTS does not tell changed ciphertext from true one; the checksums of the layers below do.
 */
import type { Xts } from '../../host/evp.js';
import { CACHE, FLUSH, handOn, WRITE, ZERO, type AskedKind } from '../volume/asked.js';
import type { Later } from '../volume/later.js';
import { RangeLock } from '../volume/rangeLock.js';
import { ERRNO, type Memory, type Volume, type Waiter, type ZeroHow } from '../volume/volume.js';
import { WrapperVolume } from '../volume/wrapper.js';
import { CipherRequest } from './request.js';

export const UNIT_BYTES = 4096;
/** What is encrypted at a time, and the longest write that is tried at once. */
export const WINDOW_BYTES = 256 * 1024;
/** A block, wherever it begins. */
const SMALL_WINDOW_BYTES = 2 * UNIT_BYTES;
const FREE_WINDOWS_LIMIT = 16;

const ZEROES = Buffer.alloc(UNIT_BYTES);

export interface CipherMemory extends Memory {
  unmap(): void;
}

export class EncryptedVolume extends WrapperVolume {
  readonly later: Later;
  readonly lock = new RangeLock();
  #xts: Xts;
  #allocate: (length_bytes: number) => CipherMemory;
  /** Of quick writes: free again when the call returns. */
  #scratch: CipherMemory | null = null;
  #free: CipherMemory[] = [];
  #freeSmall: CipherMemory[] = [];
  #requests: CipherRequest[] = [];
  #active = 0;
  /** Parts of blocks are being replaced. */
  #replacing = 0;

  /** `xts` is closed with the volume. */
  constructor(below: Volume, xts: Xts, later: Later, allocate: (length_bytes: number) => CipherMemory) {
    super(below);
    this.later = later;
    this.#xts = xts;
    this.#allocate = allocate;
  }

  /** Something is under way here. */
  get busy(): boolean {
    return this.#active > 0;
  }

  /** Whole blocks: the rest of a device whose size is odd cannot be encrypted. */
  override get size_bytes(): number {
    return Math.floor(this.below.size_bytes / UNIT_BYTES) * UNIT_BYTES;
  }
  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    if (!aligned(offset, length)) return -ERRNO.EAGAIN;
    const result = this.below.tryRead(offset, length, memory, at);
    return result === 0 ? this.decrypt(offset, length, memory, at) : result;
  }

  override tryWrite(offset: number, length: number, memory: Memory, at: number): number {
    if (!aligned(offset, length) || length > WINDOW_BYTES || this.#replacing > 0) return -ERRNO.EAGAIN;
    this.#scratch ??= this.#allocate(WINDOW_BYTES);
    const result = this.encrypt(offset, length, memory, at, this.#scratch);
    return result === 0 ? this.below.tryWrite(offset, length, this.#scratch, 0) : result;
  }

  protected override ask(
    kind: AskedKind,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    if (kind === FLUSH || kind === CACHE)
      return handOn(this.below, kind, offset, length, memory, at, how, waiter, token);
    const request = this.#requests.pop() ?? new CipherRequest(this);
    this.#active++;
    if (!aligned(offset, length) && (kind === WRITE || kind === ZERO)) this.#replacing++;
    request.begin(kind, offset, length, memory, at, how, waiter, token);
  }

  /** There is no plaintext in any file. */
  override sendableFrom(): number {
    return -1;
  }
  override sendFailed(): void {}

  /** Forgets the key. Nothing may be under way. */
  close(): void {
    this.#xts.close();
    // It held ciphertext only.
    this.#scratch?.unmap();
    this.#scratch = null;
    for (const memory of [...this.#free, ...this.#freeSmall]) memory.unmap();
    this.#free.length = 0;
    this.#freeSmall.length = 0;
  }

  /** Whole blocks, in place. 0 or -EIO. */
  decrypt(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number {
    const { bytes } = memory;
    let unit = offset_bytes / UNIT_BYTES;
    for (const end = at + length_bytes; at < end; at += UNIT_BYTES, unit++) {
      if (bytes[at] === 0 && ZEROES.compare(bytes, at, at + UNIT_BYTES) === 0) continue;
      const address = memory.address + at;
      if (!this.#xts.decrypt(address, address, UNIT_BYTES, unit)) return -ERRNO.EIO;
    }
    return 0;
  }

  /** Whole blocks from `memory` to the beginning of `to`. 0 or -EIO. */
  encrypt(offset_bytes: number, length_bytes: number, memory: Memory, at: number, to: Memory): number {
    let unit = offset_bytes / UNIT_BYTES;
    for (let done = 0; done < length_bytes; done += UNIT_BYTES, unit++)
      if (!this.#xts.encrypt(memory.address + at + done, to.address + done, UNIT_BYTES, unit))
        return -ERRNO.EIO;
    return 0;
  }

  /** For a request over so many bytes: WINDOW_BYTES, or less where that does. */
  takeWindow(length_bytes: number): CipherMemory {
    if (length_bytes <= SMALL_WINDOW_BYTES)
      return this.#freeSmall.pop() ?? this.#allocate(SMALL_WINDOW_BYTES);
    return this.#free.pop() ?? this.#allocate(WINDOW_BYTES);
  }

  giveWindow(memory: CipherMemory): void {
    const free = memory.bytes.length === SMALL_WINDOW_BYTES ? this.#freeSmall : this.#free;
    if (free.length < FREE_WINDOWS_LIMIT) free.push(memory);
    else memory.unmap();
  }

  /** The request is answered. */
  ended(request: CipherRequest, replaced: boolean): void {
    this.#active--;
    if (replaced) this.#replacing--;
    this.#requests.push(request);
  }
}

export function aligned(offset_bytes: number, length_bytes: number): boolean {
  return offset_bytes % UNIT_BYTES === 0 && length_bytes % UNIT_BYTES === 0;
}
