/** A queue of AF_XDP with rings that the test turns: what the kernel would say, and what it never should. */
import t from 'tap';
import { Arena, arenaLength } from '../../../dataplane/engine/arena.js';
import { C, makeRow } from '../../../dataplane/engine/counters.js';
import { FrameTable, SLOT } from '../../../dataplane/engine/frames.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { XdpQueue } from '../../../dataplane/ports/xdpQueue.js';
import type { XdpRing } from '../../../host/xdp.js';
import { plainMemory } from '../engine/rig.js';

const RING = 128;
const CHUNKS = 128;
const ROOM = 1518;

/** As the kernel lays it: two indices and flags, then the entries. */
const ring = (entryWords: number): XdpRing => ({
  i32: new Int32Array(16 + RING * entryWords),
  producer: 0,
  consumer: 4,
  flags: 8,
  entries: 16,
  mask: RING - 1,
});

function make(target = 96) {
  const arena = new Arena(plainMemory(arenaLength(8, CHUNKS)), 8, CHUNKS);
  const pool = new BufferPool(arena);
  const row = makeRow();
  const rings = {
    fd: -1,
    fill: ring(2),
    completion: ring(2),
    rx: ring(4),
    tx: ring(4),
    budget: 32,
    isZeroCopy: false,
  };
  const queue = new XdpQueue(rings, pool, row, target, false);
  const frames = new FrameTable(pool);
  let given = 0;
  return {
    arena,
    pool,
    row,
    rings,
    queue,
    frames,
    /** The kernel takes the next chunk. */
    chunk: (): number => rings.fill.i32[16 + (given++ & rings.fill.mask) * 2]!,
    /** The kernel says that a frame came. */
    say: (offset: number, length: number, options = 0, high = 0): void => {
      const { i32, producer, mask } = rings.rx;
      i32.set([offset, high, length, options], 16 + (i32[producer]! & mask) * 4);
      i32[producer]!++;
    },
    /** The kernel sends one; what stood in the ring. */
    sent: (): { offset: number; length: number } => {
      const { i32, consumer, mask } = rings.tx;
      const w = 16 + (i32[consumer]!++ & mask) * 4;
      return { offset: i32[w]!, length: i32[w + 2]! };
    },
    complete: (offset: number, high = 0): void => {
      const { i32, producer, mask } = rings.completion;
      i32.set([offset, high], 16 + (i32[producer]! & mask) * 2);
      i32[producer]!++;
    },
  };
}

void t.test('chunks go to the kernel and come back with frames, round and round', async t => {
  const { arena, pool, queue, frames, chunk, say, row, rings } = make();
  queue.refill();
  t.equal(rings.fill.i32[0], 96);
  t.equal(pool.freeChunkCount, CHUNKS - 96);
  for (let round = 0; round < 300; round++) {
    const at = chunk();
    arena.bytes[arena.chunksAt + at + 256] = round & 255;
    say(at + 256, 60);
    if (queue.receive(frames, 64) !== 1) t.fail(`round ${round}`);
    if (arena.bytes[frames.words[1]!] !== (round & 255)) t.fail(`round ${round}: another frame`);
    frames.releaseAll();
  }
  t.equal(row[C.ifInErrors], 0);
  t.equal(rings.fill.i32[0], 396, 'as many as came are given anew');
  queue.releaseAll();
  t.equal(pool.freeChunkCount, CHUNKS);
});

void t.test('a burst is bounded', async t => {
  const { queue, frames, chunk, say } = make();
  queue.refill();
  for (let i = 0; i < 20; i++) say(chunk() + 256, 60);
  t.equal(queue.receive(frames, 8), 8);
  t.equal(queue.receive(frames, 64), 12);
  t.equal(queue.receive(frames, 64), 0);
});

void t.test('what cannot be is not believed', async t => {
  const { queue, frames, chunk, say, row, pool, complete } = make();
  queue.refill();
  const [a, b, c, d, e, f] = Array.from({ length: 6 }, () => chunk()) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const absurd: [number, number, number?, number?][] = [
    [a + 256, 60, 0, 1],
    [-1, 60],
    [0x7fff_ffff, 60],
    [CHUNKS * 4096, 60],
    [a + 256, 4096],
    [b + 256, -5],
    [c + 256, 0],
    [d + 256, 60, 1],
    [e + 2, 60],
  ];
  for (const [offset, length, options, high] of absurd) say(offset, length, options, high);
  say(f + 256, 60);
  // The same once more: it is not the kernel's any longer.
  say(f + 256, 60);
  queue.receive(frames, 64);
  t.equal(frames.count, 1);
  t.equal(row[C.ifInErrors], absurd.length + 1);
  complete(f);
  complete(-1);
  complete(0, 7);
  queue.reap();
  t.equal(frames.count, 1);
  const held = frames.words[SLOT]!;
  t.equal(pool.holds(held), 1, 'a completion of what was not sent lets nothing go');
  frames.releaseAll();
  queue.releaseAll();
  t.equal(pool.freeChunkCount, CHUNKS);
});

void t.test('a frame in a chunk is sent from where it lies, others from a copy', async t => {
  const { arena, pool, queue, frames, chunk, say, sent, complete, row } = make();
  queue.refill();
  const at = chunk();
  say(at + 256, 100);
  queue.receive(frames, 64);
  const slot = pool.take();
  arena.bytes.fill(9, arena.slotAt(slot) + 64, arena.slotAt(slot) + 164);
  frames.push(slot, arena.slotAt(slot) + 64, 100, 0, 0, 0, 64);
  t.ok(queue.put(frames, 0, 0, ROOM));
  t.ok(queue.put(frames, 1, 0, ROOM));
  t.ok(queue.put(frames, 0, 0, ROOM), 'twice, as a flood would from two ports');
  frames.releaseAll();
  const [first, second, third] = [sent(), sent(), sent()];
  t.same(first, { offset: at + 256, length: 100 });
  t.same(third, first);
  t.equal(arena.bytes[arena.chunksAt + second.offset + 99], 9);
  const before = pool.freeChunkCount;
  complete(first.offset);
  queue.reap();
  t.equal(pool.freeChunkCount, before, 'it is still on its way once more');
  complete(second.offset);
  complete(second.offset);
  complete(third.offset);
  queue.reap();
  t.equal(pool.freeChunkCount, before + 2);
  t.equal(row[C.ifOutErrors], 1, 'completed more often than sent');
  queue.releaseAll();
  t.equal(pool.freeChunkCount, CHUNKS);
});

void t.test('full rings, an empty pool and long frames are counted', async t => {
  const { arena, pool, queue, frames, row, rings, sent, complete } = make(4);
  const slot = pool.take();
  frames.push(slot, arena.slotAt(slot) + 64, 1519, 0, 0, 0, 64);
  t.notOk(queue.put(frames, 0, 0, ROOM));
  t.equal(row[C.dropTooBig], 1);
  frames.releaseAll();
  const other = pool.take();
  frames.push(other, arena.slotAt(other) + 64, 60, 0, 0, 0, 64);
  for (let i = 0; i < RING; i++) t.ok(queue.put(frames, 0, 0, ROOM));
  t.notOk(queue.put(frames, 0, 0, ROOM));
  t.equal(row[C.dropQueueFull], 1);
  // Sent, but not yet told: the completion ring must have room for all.
  const offsets = Array.from({ length: RING }, () => sent().offset);
  t.notOk(queue.put(frames, 0, 0, ROOM));
  complete(offsets[0]!);
  queue.reap();
  t.ok(queue.put(frames, 0, 0, ROOM));
  const held: number[] = [];
  for (let chunk = pool.takeChunk(); chunk >= 0; chunk = pool.takeChunk()) held.push(chunk);
  complete(offsets[1]!);
  queue.reap();
  held.push(pool.takeChunk());
  t.notOk(queue.put(frames, 0, 0, ROOM));
  t.equal(row[C.dropNoBuffer], 1);
  t.ok(queue.isStarved);
  queue.refill();
  t.equal(rings.fill.i32[0], 0);
});
