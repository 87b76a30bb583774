import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as pcapng from '../../../dataplane/wire/pcapng.js';
import { dirty, holds, record } from './codec.js';

const blank = (): pcapng.Block => ({
  type: 0,
  length: 0,
  interfaceId: 0,
  time_us: 0,
  captured_bytes: 0,
  original_bytes: 0,
  direction: 0,
});

void t.test('a recording is read back block by block', async t => {
  holds(
    t,
    fc.property(
      fc.string({ maxLength: 64 }),
      fc.array(
        record({
          frame: fc.uint8Array({ maxLength: 200 }),
          more: fc.nat({ max: 100 }),
          time_us: fc.integer({ min: 0, max: 2 ** 52 }),
          direction: fc.constantFrom(pcapng.DIRECTION_IN, pcapng.DIRECTION_OUT),
        }),
        { maxLength: 5 },
      ),
      (name, packets) => {
        const view = dirty(8192);
        const memory = new Uint8Array(view.buffer);
        let end = pcapng.emitSectionHeader(view, 0);
        assert.equal(end, pcapng.SECTION_HEADER_LENGTH);
        const text = Buffer.from(name);
        assert.equal(
          pcapng.emitInterfaceDescription(view, end, text, 65_535),
          pcapng.interfaceDescriptionLength(text),
        );
        end += pcapng.interfaceDescriptionLength(text);
        for (const { frame, more, time_us, direction } of packets) {
          memory.set(frame, end + pcapng.ENHANCED_PACKET_DATA);
          end += pcapng.emitEnhancedPacket(
            view,
            end,
            7,
            time_us,
            frame.length,
            frame.length + more,
            direction,
          );
        }
        assert.equal(
          pcapng.emitInterfaceStatistics(view, end, 0, 1, 2 ** 33 + 5),
          pcapng.INTERFACE_STATISTICS_LENGTH,
        );
        end += pcapng.INTERFACE_STATISTICS_LENGTH;

        const block = blank();
        const found: unknown[] = [];
        const types: number[] = [];
        for (let at = 0; at < end; at += block.length) {
          pcapng.parse(view, at, end, block);
          if (block.length === 0) return assert.fail(`no block at ${at}`);
          types.push(block.type);
          assert.equal(block.length % 4, 0);
          if (block.type !== pcapng.ENHANCED_PACKET) continue;
          const from = at + pcapng.ENHANCED_PACKET_DATA;
          found.push({
            frame: memory.slice(from, from + block.captured_bytes),
            more: block.original_bytes - block.captured_bytes,
            time_us: block.time_us,
            direction: block.direction,
          });
          assert.equal(block.interfaceId, 7);
        }
        assert.deepEqual(found, packets);
        assert.deepEqual(types.slice(0, 2), [pcapng.SECTION_HEADER, pcapng.INTERFACE_DESCRIPTION]);
        assert.equal(types.at(-1), pcapng.INTERFACE_STATISTICS);
        return undefined;
      },
    ),
  );
});

void t.test('noise, and every cut of a good recording, is parsed without throwing', async t => {
  const view = dirty(200);
  const end = pcapng.emitEnhancedPacket(view, 0, 0, 1, 60, 60, 1);
  for (let cut = 0; cut < end; cut++) {
    const block = blank();
    pcapng.parse(view, 0, cut, block);
    t.equal(block.length, 0);
  }
  holds(
    t,
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.boolean(), (bytes, framed) => {
      const noise = new DataView(bytes.slice().buffer);
      if (framed && bytes.length >= 12) {
        noise.setUint32(0, pcapng.ENHANCED_PACKET, true);
        noise.setUint32(4, bytes.length & ~3, true);
        noise.setUint32((bytes.length & ~3) - 4, bytes.length & ~3, true);
      }
      pcapng.parse(noise, 0, bytes.length, blank());
    }),
  );
});

void t.test('a name that is too long is cut', async t => {
  const text = Buffer.from('x'.repeat(500));
  const view = dirty(600);
  t.equal(pcapng.emitInterfaceDescription(view, 0, text, 1), pcapng.interfaceDescriptionLength(text));
  t.ok(pcapng.interfaceDescriptionLength(text) < 200);
});
