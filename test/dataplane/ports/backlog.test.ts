import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { SLOT_BYTES } from '../../../dataplane/engine/arena.js';
import { BACKLOG_SLOTS_MAX_COUNT, Backlog } from '../../../dataplane/ports/backlog.js';
import { makeRig } from '../engine/rig.js';
import { holds } from '../wire/codec.js';

void t.test('bytes come out as they went in, however it is cut', async t => {
  const step = fc.tuple(fc.boolean(), fc.integer({ min: 1, max: SLOT_BYTES + 1000 }));
  holds(
    t,
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const { pool, arena } = makeRig(32);
      const backlog = new Backlog(pool);
      const source = pool.take();
      const sourceAt = arena.slotAt(source);
      // Byte i of the whole sequence has the value i mod 251: what is missing or doubled shows.
      let written = 0;
      let read = 0;
      for (const [appends, count] of steps) {
        if (appends) {
          const length = Math.min(count, SLOT_BYTES);
          if (!backlog.hasRoom(length)) continue;
          for (let i = 0; i < length; i++) arena.bytes[sourceAt + i] = (written + i) % 251;
          backlog.append(sourceAt, length);
          written += length;
        } else {
          let left = count;
          while (left > 0 && backlog.headLength > 0) {
            const part = Math.min(left, backlog.headLength);
            for (let i = 0; i < part; i++)
              if (arena.bytes[backlog.headAt + i] !== (read + i) % 251) assert.fail(`byte ${read + i}`);
            backlog.consume(part);
            read += part;
            left -= part;
          }
        }
        assert.equal(backlog.bytes, written - read);
        assert.equal(backlog.isEmpty, written === read);
      }
      backlog.clear();
      assert.equal(pool.usedCount, 1);
    }),
    { numRuns: 30 },
  );
});

void t.test('is bounded by itself and by what the pool can spare', async t => {
  const { pool, arena } = makeRig(64);
  const backlog = new Backlog(pool);
  const source = arena.slotAt(pool.take());
  let bytes = 0;
  for (; backlog.hasRoom(60_000); bytes += 60_000) backlog.append(source, 60_000);
  t.ok(bytes <= BACKLOG_SLOTS_MAX_COUNT * SLOT_BYTES);
  t.ok(bytes > (BACKLOG_SLOTS_MAX_COUNT - 1) * SLOT_BYTES - 60_000);

  const scarce = makeRig(8);
  const other = new Backlog(scarce.pool);
  const at = scarce.arena.slotAt(scarce.pool.take());
  while (other.hasRoom(SLOT_BYTES)) other.append(at, SLOT_BYTES);
  t.equal(scarce.pool.freeCount, 2, 'a quarter stays for frames that arrive');
});
