/**
 * Buffers that the kernel fills and that sums are made of where they lie: parts of the memory of the WebAssembly in
 * checksum/, with their addresses. When that is used up, ordinary mapped memory; its sums cost a copy.
 */
import { addressOf, discard, mapAnonymous } from '../../host/memory.js';
import { Checksum } from '../checksum/checksum.js';

/** Reserved; a page of it is memory only when it is touched. */
const ROOM_BYTES = 1024 * 1024 * 1024 - 64 * 1024;
/** Where a limit of address space forbids so much. */
const SMALL_ROOM_BYTES = 32 * 1024 * 1024;

/** As chunks.ts takes it. */
export interface ArenaChunk {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly length_bytes: number;
  unmap(): void;
}

/** A Checksum with as much room as can be had. */
export function newChecksum(): Checksum {
  for (const room_bytes of [ROOM_BYTES, SMALL_ROOM_BYTES]) {
    try {
      return new Checksum(room_bytes);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return new Checksum();
}

export class Arena {
  #checksum: Checksum;
  #base: number;
  /** Given back, by length. */
  #free = new Map<number, ArenaChunk[]>();

  constructor(checksum: Checksum) {
    this.#checksum = checksum;
    this.#base = addressOf(checksum.bytes);
  }

  allocate = (length_bytes: number): ArenaChunk => {
    const known = this.#free.get(length_bytes)?.pop();
    if (known !== undefined) return known;
    const bytes = this.#checksum.take(length_bytes);
    if (bytes === null) return mapAnonymous(length_bytes);
    const address = this.#base + bytes.byteOffset;
    const chunk: ArenaChunk = {
      address,
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, length_bytes),
      length_bytes,
      unmap: () => {
        discard(address, length_bytes);
        const same = this.#free.get(length_bytes);
        if (same === undefined) this.#free.set(length_bytes, [chunk]);
        else same.push(chunk);
      },
    };
    return chunk;
  };
}
