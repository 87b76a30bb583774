/** Against node:crypto's own aes-256-xts, the exam, and what lies below. */
import { createCipheriv } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { Xts } from '../../../host/evp.js';
import { mapAnonymous } from '../../../host/memory.js';
import { EncryptedVolume } from '../../../storage/cipher/encryptedVolume.js';
import { deriveKey } from '../../../storage/cipher/key.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { EXAM_BYTES, exam, read, waitFor, write, type Examined } from './../volume/suite.js';

const UUID = '6f2c6c58-95b5-4c9e-8a53-5b1b7d3a3f10';
const KEY = deriveKey(new Uint8Array(64).fill(7), UUID);

function rig(faults?: { seed: number; again_ppm?: number; delay_ppm?: number }) {
  const later = new Later();
  const bottom = new MemoryVolume(EXAM_BYTES, later);
  const below = faults === undefined ? bottom : new FaultyVolume(bottom, later, faults);
  const volume = new EncryptedVolume(below, new Xts(KEY), later, mapAnonymous);
  const examined: Examined = {
    volume,
    turn: () => later.turn(),
    grow: size_bytes => bottom.grow(size_bytes),
    close: () => volume.close(),
  };
  return { later, bottom, volume, examined };
}

const memory = mapAnonymous(1024 * 1024);
const part = (i: number) => ({
  address: memory.address + i * 16_384,
  bytes: memory.bytes.subarray(i * 16_384, (i + 1) * 16_384),
});

exam(t, 'encrypted', () => rig().examined);
exam(t, 'encrypted, slow below', () => rig({ seed: 5, again_ppm: 1_000_000 }).examined);
exam(t, 'encrypted, out of order below', () => rig({ seed: 6, delay_ppm: 500_000 }).examined);

await t.test('ciphertext is that of IEEE 1619, and no plaintext is below', async t => {
  const { bottom, examined } = rig();
  const plain = Buffer.alloc(3 * 4096, 'a secret of the guest; ');
  t.equal(write(examined, 5 * 4096, plain), 0);
  t.equal(bottom.tryRead(5 * 4096, plain.length, memory, 0), 0);
  for (let i = 0; i < 3; i++) {
    const tweak = Buffer.alloc(16);
    tweak.writeBigUInt64LE(BigInt(5 + i));
    const wanted = createCipheriv('aes-256-xts', KEY, tweak).update(plain.subarray(i * 4096, (i + 1) * 4096));
    t.equal(wanted.compare(memory.bytes, i * 4096, (i + 1) * 4096), 0, `block ${5 + i}`);
  }
  t.equal(Buffer.from(memory.bytes.subarray(0, plain.length)).indexOf('secret'), -1);
  t.equal(write(examined, 9 * 4096 + 100, Buffer.from('secret')), 0);
  bottom.tryRead(0, 1024 * 1024, memory, 0);
  t.equal(Buffer.from(memory.bytes).indexOf('secret'), -1, 'nor after a part of a block was written');
  t.equal(Buffer.from(read(examined, 9 * 4096 + 100, 6)).toString(), 'secret');
  examined.close();
});

await t.test('units beyond 2^32', async t => {
  const xts = new Xts(KEY);
  memory.bytes.fill(3, 0, 4096);
  t.ok(xts.encrypt(memory.address, memory.address + 4096, 4096, 2 ** 32 + 9));
  const tweak = Buffer.alloc(16);
  tweak.writeBigUInt64LE(2n ** 32n + 9n);
  const wanted = createCipheriv('aes-256-xts', KEY, tweak).update(Buffer.alloc(4096, 3));
  t.equal(wanted.compare(memory.bytes, 4096, 8192), 0);
  t.ok(xts.decrypt(memory.address + 4096, memory.address + 4096, 4096, 2 ** 32 + 9));
  t.equal(memory.bytes[5000], 3);
  xts.close();
  xts.close();
  t.equal(xts.encrypt(memory.address, memory.address, 4096, 0), false, 'closed: the key is gone');
  t.throws(() => new Xts(new Uint8Array(64)), 'both halves of a key alike');
  t.throws(() => new Xts(new Uint8Array(32)));
});

await t.test('stays thin', async t => {
  const { bottom, examined, volume } = rig();
  write(examined, 0, new Uint8Array(64 * 4096).fill(1));
  t.equal(bottom.allocated_bytes, 64 * 4096);
  waitFor(examined, waiter => volume.trim(100, 63 * 4096, waiter, 7));
  t.equal(bottom.allocated_bytes, 2 * 4096);
  const zero = { mayUnmap: true, fastOnly: false };
  waitFor(examined, waiter => volume.zero(0, 64 * 4096, zero, waiter, 7));
  t.equal(bottom.allocated_bytes, 0);
  t.ok(read(examined, 0, 64 * 4096).every(byte => byte === 0));
  t.equal(volume.sendableFrom(), -1);
  examined.close();
});

await t.test('another key reads something else', async t => {
  const { bottom, examined, later } = rig();
  write(examined, 0, new Uint8Array(4096).fill(1));
  const key = deriveKey(new Uint8Array(64).fill(8), UUID);
  const other = new EncryptedVolume(bottom, new Xts(key), later, mapAnonymous);
  t.equal(other.tryRead(0, 4096, memory, 0), 0);
  t.not(memory.bytes[0], 1 + memory.bytes[1]! - memory.bytes[1]!);
  t.ok(memory.bytes.subarray(0, 4096).some(byte => byte !== 1));
  other.close();
  examined.close();
});

await t.test('many writes to parts of few blocks, all at once, are as one after the other', async t => {
  const writes = fc.array(
    fc.record({
      offset: fc.nat(6 * 4096),
      length: fc.integer({ min: 1, max: 9000 }),
      kind: fc.constantFrom('write', 'zero', 'trim', 'read'),
    }),
    { minLength: 2, maxLength: 12 },
  );
  fc.assert(
    fc.property(writes, fc.integer({ min: 1, max: 1e6 }), (requests, seed) => {
      const { later, examined, volume } = rig({ seed, again_ppm: 300_000, delay_ppm: 400_000 });
      // Where requests overlap any order may win, so each byte is what one of them says, or as before.
      const allowed = Array.from({ length: 10 * 4096 }, () => new Set([0]));
      let left = requests.length;
      const waiter = {
        completed: (_: number, result: number) => {
          if (result !== 0) throw new Error(`result ${result}`);
          left--;
        },
      };
      const areas = requests.map((_, i) => part(i));
      requests.forEach(({ offset, length, kind }, i) => {
        const area = areas[i]!;
        area.bytes.fill(i + 1, 0, length);
        if (kind === 'write') {
          for (let at = offset; at < offset + length; at++) {
            const set = allowed[at]!;
            if (!requests.some((other, j) => j !== i && touches(other, at))) set.delete(0);
            set.add(i + 1);
          }
          volume.write(offset, length, area, 0, waiter, i);
        } else if (kind === 'zero')
          volume.zero(offset, length, { mayUnmap: i % 2 === 0, fastOnly: false }, waiter, i);
        else if (kind === 'trim') volume.trim(offset, length, waiter, i);
        else volume.read(offset, length, area, 0, waiter, i);
      });
      for (let turns = 0; left > 0 && turns < 10_000; turns++) later.turn();
      if (left > 0 || volume.busy) throw new Error(`${left} requests are not answered`);
      const found = read(examined, 0, 10 * 4096);
      examined.close();
      return found.every((byte, at) => allowed[at]!.has(byte));
    }),
    { numRuns: 60 },
  );
  t.pass();
});

function touches(
  { offset, length, kind }: { offset: number; length: number; kind: string },
  at: number,
): boolean {
  return kind !== 'read' && at >= offset && at < offset + length;
}
