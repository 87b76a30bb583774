/** What every codec's test does: emit into dirty memory, parse back, and parse noise without throwing. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Test } from 'tap';

const ROOM = 64;

export interface Codec<T> {
  /** Also the number of bytes that `emit` writes. */
  length: number;
  emit(view: DataView, at: number, value: T): number;
  parse(view: DataView, at: number, out: T): void;
  blank(): T;
}

/** Memory filled with 0xa5, so that a byte that emit forgets shows. */
export function dirty(length_bytes: number): DataView {
  return new DataView(new Uint8Array(length_bytes).fill(0xa5).buffer);
}

/** fc.record without objects of null prototype, which equal nothing that a program makes. */
export function record<T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(shape, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

/** Asserts inside throw, so that fast-check shrinks what failed and prints its seed. */
export function holds<T>(
  t: Test,
  property: fc.IPropertyWithHooks<T>,
  parameters: fc.Parameters<T> = {},
): void {
  fc.assert(property, parameters);
  t.pass('the property holds');
}

export function codecHolds<T>(t: Test, codec: Codec<T>, values: fc.Arbitrary<T>): void {
  holds(
    t,
    fc.property(values, fc.nat({ max: 3 }), (value, at) => {
      const view = dirty(at + codec.length + ROOM);
      assert.equal(codec.emit(view, at, value), codec.length, 'emit says what it wrote');
      const out = codec.blank();
      codec.parse(view, at, out);
      assert.deepEqual(out, value, 'parse gives back what emit was given');
      for (let i = 0; i < at; i++) assert.equal(view.getUint8(i), 0xa5, 'nothing is written before');
      for (let i = at + codec.length; i < view.byteLength; i++)
        if (view.getUint8(i) !== 0xa5) assert.fail('something is written behind');
    }),
    { numRuns: 100 },
  );
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: codec.length, maxLength: codec.length + ROOM }), bytes => {
      codec.parse(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, codec.blank());
    }),
  );
}

export const mac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map(octets => [...octets].map(octet => octet.toString(16).padStart(2, '0')).join(':'));

export const u8 = fc.integer({ min: 0, max: 0xff });
export const u16 = fc.integer({ min: 0, max: 0xffff });
export const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
