import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { PacketCounter } from '../../cli/pcapng.js';

function block(type: number, size_words: number, little: boolean, magic = false): Buffer {
  const bytes = Buffer.alloc(Math.max(size_words * 4, magic ? 28 : 12), 0xa5);
  const write = (value: number, at: number) =>
    little ? bytes.writeUInt32LE(value, at) : bytes.writeUInt32BE(value, at);
  write(type, 0);
  write(bytes.length, 4);
  if (magic) write(0x1a2b3c4d, 8);
  write(bytes.length, bytes.length - 4);
  return bytes;
}

await t.test('packets of both byte orders are counted, wherever the stream is cut', async () => {
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(fc.tuple(fc.constantFrom(1, 4, 5, 6, 6), fc.integer({ min: 3, max: 40 }))),
      fc.integer({ min: 1, max: 50 }),
      (little, blocks, size) => {
        const stream = Buffer.concat([
          block(0x0a0d0d0a, 7, little, true),
          ...blocks.map(([type, words]) => block(type, words, little)),
        ]);
        const counter = new PacketCounter();
        for (let at = 0; at < stream.length; at += size) counter.push(stream.subarray(at, at + size));
        assert.equal(counter.packets, blocks.filter(([type]) => type === 6).length);
      },
    ),
  );
});

await t.test('bytes that are no pcapng do no harm', async () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 500 }), bytes => new PacketCounter().push(bytes)));
});
