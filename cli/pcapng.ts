/** Counts the packets in a pcapng stream that passes by (draft-ietf-opsawg-pcapng 3: blocks of type, length, body). Pure. */

const ENHANCED_PACKET_BLOCK = 6;
const SECTION_HEADER_BLOCK = 0x0a0d0d0a;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Block type, block length, and of a section header its byte-order magic. */
const HEAD_BYTES = 12;
const MIN_BLOCK_BYTES = 12;

export class PacketCounter {
  packets = 0;
  #head = Buffer.alloc(HEAD_BYTES);
  #headLength = 0;
  /** Of the present block, beyond the head. */
  #left_bytes = 0;
  #littleEndian = true;
  /** Not pcapng after all: stop counting, go on copying. */
  #lost = false;

  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && !this.#lost) {
      if (this.#left_bytes > 0) {
        const step = Math.min(this.#left_bytes, bytes.length - at);
        this.#left_bytes -= step;
        at += step;
        continue;
      }
      const step = Math.min(HEAD_BYTES - this.#headLength, bytes.length - at);
      this.#head.set(bytes.subarray(at, at + step), this.#headLength);
      this.#headLength += step;
      at += step;
      if (this.#headLength === HEAD_BYTES) this.#takeHead();
    }
  }

  #takeHead(): void {
    this.#headLength = 0;
    // The section header's type reads the same in both byte orders.
    if (this.#head.readUInt32LE(0) === SECTION_HEADER_BLOCK) {
      this.#littleEndian = this.#head.readUInt32LE(8) === BYTE_ORDER_MAGIC;
    }
    const read = (offset: number) =>
      this.#littleEndian ? this.#head.readUInt32LE(offset) : this.#head.readUInt32BE(offset);
    const length_bytes = read(4);
    if (length_bytes < MIN_BLOCK_BYTES || length_bytes % 4 !== 0) {
      this.#lost = true;
      return;
    }
    if (read(0) === ENHANCED_PACKET_BLOCK) this.packets++;
    this.#left_bytes = length_bytes - HEAD_BYTES;
  }
}
