import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as checksum from '../../../dataplane/wire/checksum.js';
import { holds } from './codec.js';

/** RFC 1071 4.1, word by word in network order. */
export function slowChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  return sum ^ 0xffff;
}

function checksumOf(bytes: Uint8Array, at: number, length: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out = new DataView(new ArrayBuffer(2));
  checksum.write(out, 0, checksum.sum(view, at, length, 0));
  return out.getUint16(0);
}

void t.test('the example of RFC 1071 section 3', async t => {
  const bytes = new Uint8Array([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
  t.equal(checksumOf(bytes, 0, 8), 0xddf2 ^ 0xffff);
});

void t.test('any bytes, any place, any length', async t => {
  holds(
    t,
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat({ max: 40 }), (bytes, skip) => {
      const at = Math.min(skip, bytes.length);
      assert.equal(checksumOf(bytes, at, bytes.length - at), slowChecksum(bytes.slice(at)));
    }),
    { numRuns: 500 },
  );
});

void t.test('long and heavy: no overflow', async t => {
  for (const length of [16_384, 16_385, 16_416, 65_535, 65_536]) {
    const bytes = new Uint8Array(length + 1).fill(0xff);
    t.equal(checksumOf(bytes, 1, length), slowChecksum(bytes.slice(1)), `${length} bytes of ones`);
    bytes.forEach((_, i) => (bytes[i] = (i * 89) & 0xff));
    t.equal(checksumOf(bytes, 1, length), slowChecksum(bytes.slice(1)), `${length} mixed bytes`);
  }
});

void t.test('a sum may be continued at any even place', async t => {
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 200 }), fc.nat(), (bytes, where) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const cut = (where % bytes.length) & ~1;
      const head = checksum.sum(view, 0, cut, 0);
      assert.equal(checksum.sum(view, cut, bytes.length - cut, head), checksum.sum(view, 0, bytes.length, 0));
    }),
  );
});

void t.test('zero is never written where it would mean "none"', async t => {
  const out = new DataView(new ArrayBuffer(2));
  checksum.writeNonZero(out, 0, 0xffff);
  t.equal(out.getUint16(0), 0xffff);
  checksum.write(out, 0, 0xffff);
  t.equal(out.getUint16(0), 0);
});
