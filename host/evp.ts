/**
 * AES-256-XTS (IEEE 1619) by the OpenSSL that node itself carries: its EVP functions, looked up in the running process, on
 * addresses. node:crypto would make three objects for every block; here a block costs two calls and nothing else.
 *
 * A key schedule lives in OpenSSL's own memory, which it clears when the context is freed.
 */
import { EINVAL, HostError } from './errno.js';
import { bindIfPresent } from './libc.js';
import { hideFromChildren, mapAnonymous, PAGE_BYTES, type Mapping } from './memory.js';

type Init = (ctx: number, type: number, engine: number, key: number, iv: number, enc: number) => number;
type Update = (ctx: number, out: number, outLength: number, input: number, length: number) => number;

const newContext = bindIfPresent<() => number>('EVP_CIPHER_CTX_new', 'intptr_t', []);
const freeContext = bindIfPresent<(ctx: number) => number>('EVP_CIPHER_CTX_free', 'int', ['uintptr_t']);
const aes256Xts = bindIfPresent<() => number>('EVP_aes_256_xts', 'intptr_t', []);
const init = bindIfPresent<Init>('EVP_CipherInit_ex', 'int', [
  'uintptr_t',
  'uintptr_t',
  'uintptr_t',
  'uintptr_t',
  'uintptr_t',
  'int',
]);
const update = bindIfPresent<Update>('EVP_CipherUpdate', 'int', [
  'uintptr_t',
  'uintptr_t',
  'uintptr_t',
  'uintptr_t',
  'int',
]);

export const XTS_KEY_BYTES = 64;

const AT_TWEAK = 0;
const AT_LENGTH = 16;
const AT_KEY = 64;

/** One key, both directions. Not for two threads at once. */
export class Xts {
  /** Tweak and returned length; the key only while the contexts are made. */
  #memory: Mapping;
  #encrypting: number;
  #decrypting: number;

  /** The two halves of the key must differ. The bytes are read and not kept. */
  constructor(key: Uint8Array) {
    if (!newContext || !freeContext || !aes256Xts || !init || !update)
      throw new HostError('EVP', EINVAL, 'AES-256-XTS', 'this node exports no functions of OpenSSL');
    if (key.length !== XTS_KEY_BYTES)
      throw new HostError('EVP', EINVAL, 'AES-256-XTS', `a key has ${XTS_KEY_BYTES} bytes`);
    this.#memory = mapAnonymous(PAGE_BYTES);
    hideFromChildren(this.#memory);
    this.#memory.bytes.set(key, AT_KEY);
    this.#encrypting = newContext();
    this.#decrypting = newContext();
    const keyAddress = this.#memory.address + AT_KEY;
    const made =
      this.#encrypting !== 0 &&
      this.#decrypting !== 0 &&
      init(this.#encrypting, aes256Xts(), 0, keyAddress, 0, 1) === 1 &&
      init(this.#decrypting, aes256Xts(), 0, keyAddress, 0, 0) === 1;
    this.#memory.bytes.fill(0, AT_KEY, AT_KEY + XTS_KEY_BYTES);
    if (made) return;
    this.close();
    throw new HostError('EVP_CipherInit_ex', EINVAL, 'AES-256-XTS', 'OpenSSL refused the key');
  }

  /** `length_bytes` from `from` to `to` (which may be the same), as data unit `unit`: below 2^53. False: OpenSSL failed. */
  encrypt(from: number, to: number, length_bytes: number, unit: number): boolean {
    return this.#run(this.#encrypting, from, to, length_bytes, unit);
  }

  decrypt(from: number, to: number, length_bytes: number, unit: number): boolean {
    return this.#run(this.#decrypting, from, to, length_bytes, unit);
  }

  /** Idempotent; the key is gone afterwards, and nothing is encrypted any more. */
  close(): void {
    if (this.#encrypting !== 0) freeContext!(this.#encrypting);
    if (this.#decrypting !== 0) freeContext!(this.#decrypting);
    this.#encrypting = 0;
    this.#decrypting = 0;
    this.#memory.unmap();
  }

  /** IEEE 1619-2007, 5.1: the tweak is the number of the data unit, little-endian. */
  #run(context: number, from: number, to: number, length_bytes: number, unit: number): boolean {
    if (context === 0) return false;
    const { address, i32 } = this.#memory;
    i32[AT_TWEAK >>> 2] = unit | 0;
    i32[(AT_TWEAK >>> 2) + 1] = Math.floor(unit / 2 ** 32);
    return (
      init!(context, 0, 0, 0, address + AT_TWEAK, -1) === 1 &&
      update!(context, to, address + AT_LENGTH, from, length_bytes) === 1 &&
      i32[AT_LENGTH >>> 2] === length_bytes
    );
  }
}
