import t from 'tap';
import { C } from '../../../dataplane/engine/counters.js';
import { Link } from '../../../dataplane/engine/link.js';
import type { Sink } from '../../../dataplane/engine/link.js';
import { FaultyPort } from '../../../dataplane/ports/faulty.js';
import type { Faults } from '../../../dataplane/ports/faulty.js';
import { MemoryPort } from '../../../dataplane/ports/memory.js';
import { makeRig, memoryLink } from '../engine/rig.js';

const FRAMES = 2000;

function run(faults: Faults, incoming: boolean): { bytes: Uint8Array[]; row: Float64Array; used: number } {
  const { loop, pool } = makeRig(1024);
  const pass = (to: () => Link): Sink => ({
    input: (_, __, first, end) => {
      for (let frame = first; frame < end; frame++) to().send(frame, 0);
    },
  });
  const link = new Link(
    loop,
    'faulty',
    pass(() => other),
    0,
  );
  const inner = new MemoryPort(link);
  const port = new FaultyPort(link, inner, faults);
  link.port = port;
  port.open();
  const [other, otherPort] = memoryLink(
    loop,
    'other',
    pass(() => link),
  );
  for (let i = 0; i < FRAMES; i++) {
    const bytes = new Uint8Array(60);
    bytes[20] = i & 255;
    bytes[21] = i >>> 8;
    (incoming ? inner : otherPort).arrive(bytes);
  }
  for (let turn = 0; turn < 60; turn++) loop.turn(0);
  const out = incoming ? otherPort : inner;
  return { bytes: out.sent.map(frame => frame.bytes), row: link.counters, used: pool.usedCount };
}

const none: Faults = { seed: 1, drop_ppm: 0, corrupt_ppm: 0, duplicate_ppm: 0 };
const sum = (bytes: Uint8Array): number => bytes.slice(0, 20).reduce((a, b) => a + b, 0);

for (const incoming of [true, false]) {
  void t.test(incoming ? 'incoming' : 'outgoing', async t => {
    t.equal(run(none, incoming).bytes.length, FRAMES, 'no faults');

    const dropped = run({ ...none, drop_ppm: 100_000 }, incoming);
    t.equal(dropped.bytes.length + dropped.row[C.dropFault]!, FRAMES);
    t.ok(Math.abs(dropped.row[C.dropFault]! - 200) < 80, `about a tenth: ${dropped.row[C.dropFault]}`);

    const doubled = run({ ...none, duplicate_ppm: 250_000 }, incoming);
    t.equal(doubled.bytes.length, FRAMES + doubled.row[C.faultsDuplicated]!);
    t.ok(Math.abs(doubled.row[C.faultsDuplicated]! - 500) < 120);

    const corrupted = run({ ...none, corrupt_ppm: 1_000_000 }, incoming);
    t.equal(corrupted.bytes.length, FRAMES);
    t.equal(corrupted.row[C.faultsCorrupted], FRAMES);
    t.ok(corrupted.bytes.some(bytes => sum(bytes) > 0));
    const flipped = corrupted.bytes.map((bytes, i) => {
      const wanted = new Uint8Array(60);
      wanted[20] = i & 255;
      wanted[21] = i >>> 8;
      return bytes.reduce(
        (bits, byte, at) => bits + (byte ^ wanted[at]!).toString(2).split('1').length - 1,
        0,
      );
    });
    t.ok(
      flipped.every(bits => bits === 1),
      'one bit each, in order',
    );

    const all = { seed: 77, drop_ppm: 50_000, corrupt_ppm: 50_000, duplicate_ppm: 50_000 };
    t.same(run(all, incoming).bytes, run(all, incoming).bytes, 'the same seed, the same faults');
    t.not(run(all, incoming).bytes.length, run({ ...all, seed: 78 }, incoming).bytes.length);
    t.equal(run(all, incoming).used, 0);
    t.equal(run({ ...none, drop_ppm: 1_000_000 }, incoming).bytes.length, 0);
  });
}
