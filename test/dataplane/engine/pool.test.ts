import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { Arena, SLOT_BYTES, arenaLength } from '../../../dataplane/engine/arena.js';
import { FrameTable } from '../../../dataplane/engine/frames.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { holds } from '../wire/codec.js';
import { plainMemory } from './rig.js';

const makePool = (slots: number): BufferPool =>
  new BufferPool(new Arena(plainMemory(arenaLength(slots)), slots));

void t.test('a slot is free again when nobody holds it, and not before', async t => {
  holds(
    t,
    fc.property(fc.array(fc.tuple(fc.nat({ max: 2 }), fc.nat()), { maxLength: 200 }), steps => {
      const pool = makePool(4);
      const held: number[] = [];
      for (const [what, which] of steps) {
        const slot = held[which % Math.max(1, held.length)];
        if (what === 0) {
          const taken = pool.take();
          const isFull = new Set(held).size === 4;
          assert.equal(taken < 0, isFull);
          if (taken >= 0) {
            assert.ok(!held.includes(taken), 'nobody else has it');
            held.push(taken);
          }
        } else if (slot !== undefined && what === 1) {
          pool.retain(slot);
          held.push(slot);
        } else if (slot !== undefined) {
          pool.release(slot);
          held.splice(held.indexOf(slot), 1);
        }
        assert.equal(pool.usedCount, new Set(held).size);
      }
    }),
  );
});

void t.test('last in, first out; too many releases are our own mistake', async t => {
  const pool = makePool(4);
  const first = pool.take();
  pool.take();
  pool.release(first);
  t.equal(pool.take(), first, 'what was freed last is still in the cache');
  pool.release(first);
  t.throws(() => pool.release(first));
});

void t.test('an exhausted pool says so', async t => {
  const pool = makePool(1);
  pool.take();
  t.equal(pool.take(), -1);
  t.equal(pool.exhausted, 1);
});

void t.test('an iovec is base and length, also across a 4 GiB border', async t => {
  for (const address of [0x7f12_3456_7000, 0x1_0000_0000 * 5 - 4096]) {
    const memory = plainMemory(arenaLength(2));
    const arena = new Arena({ ...memory, address }, 2);
    arena.setIovec(3, SLOT_BYTES + 10, 99);
    const at = arena.iovecsAddress - address + 3 * 16;
    t.equal(Number(memory.view.getBigUint64(at, true)), address + SLOT_BYTES + 10);
    t.equal(Number(memory.view.getBigUint64(at + 8, true)), 99);
  }
});

void t.test('a memory that is too small is refused', async t => {
  t.throws(() => new Arena(plainMemory(SLOT_BYTES), 1));
});

void t.test('the table of frames holds, shares and lets go', async t => {
  const pool = makePool(4);
  const table = new FrameTable(pool);
  const slots = [pool.take(), pool.take(), pool.take()];
  for (const slot of slots) table.push(slot, pool.arena.slotAt(slot), 60, 1, 2, 3, 64);
  table.pushCopy(0);
  t.equal(pool.holds(slots[0]!), 2);
  table.drop(0);
  t.equal(table.count, 3);
  t.equal(pool.holds(slots[0]!), 1);
  t.equal(table.words[0], slots[1], 'those behind moved up');
  table.shift(2);
  t.equal(table.count, 1);
  t.equal(table.words[0], slots[0]);
  t.equal(pool.usedCount, 1);
  table.releaseAll();
  t.equal(pool.usedCount, 0);
});
