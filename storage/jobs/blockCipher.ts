/**
 * Blocks of an encrypted volume, decrypted for a backup that is to be readable without the key, and encrypted for a restore of
 * one: as storage/cipher/encryptedVolume.ts has them, AES-256-XTS (IEEE 1619) with the block's number as tweak, blocks of zeroes
 * as they are. By node:crypto, an object for each block, as nobody waits for it.
 */
import * as crypto from 'node:crypto';
import { BLOCK_BYTES } from '../layers/map.js';

const ALGORITHM = 'aes-256-xts';
const TWEAK_BYTES = 16;

export class BlockCipher {
  #key: Uint8Array;
  #tweak = new Uint8Array(TWEAK_BYTES);
  #tweakView = new DataView(this.#tweak.buffer);

  /** `key` has 64 bytes; wiped by `close`. */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** In place: whole blocks, from a block's beginning in the volume on. */
  decrypt(bytes: Uint8Array, offset_bytes: number): void {
    this.#each(bytes, offset_bytes, tweak => crypto.createDecipheriv(ALGORITHM, this.#key, tweak));
  }

  encrypt(bytes: Uint8Array, offset_bytes: number): void {
    this.#each(bytes, offset_bytes, tweak => crypto.createCipheriv(ALGORITHM, this.#key, tweak));
  }

  close(): void {
    this.#key.fill(0);
  }

  #each(
    bytes: Uint8Array,
    offset_bytes: number,
    make: (tweak: Uint8Array) => crypto.Cipher | crypto.Decipher,
  ): void {
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      const block = bytes.subarray(at, at + BLOCK_BYTES);
      if (isZero(block)) continue;
      const number = (offset_bytes + at) / BLOCK_BYTES;
      this.#tweakView.setUint32(0, number % 2 ** 32, true);
      this.#tweakView.setUint32(4, Math.floor(number / 2 ** 32), true);
      block.set(make(this.#tweak).update(block));
    }
  }
}

export function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}
