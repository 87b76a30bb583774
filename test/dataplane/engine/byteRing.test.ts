import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { ByteRing } from '../../../dataplane/engine/byteRing.js';
import { holds } from '../wire/codec.js';

void t.test('what goes in comes out, in order, or is counted as lost', async t => {
  const step = fc.tuple(fc.boolean(), fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 50 }));
  holds(
    t,
    fc.property(fc.array(step, { maxLength: 100 }), steps => {
      const writer = ByteRing.create(64);
      const reader = new ByteRing(writer.buffer);
      const wanted: number[] = [];
      let lost = 0;
      for (const [writes, bytes, max] of steps) {
        if (writes) {
          const fits = wanted.length + bytes.length <= 64;
          assert.equal(writer.write(bytes, 0, bytes.length), fits);
          if (fits) wanted.push(...bytes);
          else lost++;
        } else {
          assert.deepEqual([...reader.read(max)], wanted.splice(0, max));
        }
        assert.equal(reader.available, wanted.length);
        assert.equal(reader.lost, lost);
      }
    }),
  );
});

void t.test('the end is seen', async t => {
  const writer = ByteRing.create(64);
  const reader = new ByteRing(writer.buffer);
  t.notOk(reader.isClosed);
  writer.close();
  t.ok(reader.isClosed);
  t.throws(() => ByteRing.create(100));
});
