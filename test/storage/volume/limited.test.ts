/** Limits on a clock wound by hand: rates are met, nobody starves, and the exam of every volume. */
import t, { type Test } from 'tap';
import { Later } from '../../../storage/volume/later.js';
import { LimitedVolume, Limits } from '../../../storage/volume/limited.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import type { LimitsOpening } from '../../../storage/volume/opening.js';
import { EXAM_BYTES, exam } from './suite.js';

const NONE: LimitsOpening = {
  operations: null,
  readOperations: null,
  writeOperations: null,
  bytes: null,
  readBytes: null,
  writeBytes: null,
};
const memory = { address: 4096, bytes: new Uint8Array(4 * 1024 * 1024) };

class Rig {
  now_ms = 1000;
  later = new Later();
  below = new MemoryVolume(EXAM_BYTES, this.later);
  limits = new Limits(() => this.now_ms);
  volume: LimitedVolume;

  constructor(limits: Partial<LimitsOpening> | null) {
    this.volume = new LimitedVolume(this.below, this.limits, limits === null ? null : { ...NONE, ...limits });
  }

  /** As the loop: sleeps until there is something, in whole milliseconds. */
  turn(): void {
    if (this.later.pending === 0 && this.limits.wakeAt_ms !== Infinity)
      this.now_ms = Math.max(this.now_ms, Math.ceil(this.limits.wakeAt_ms));
    this.limits.turn(this.now_ms);
    this.later.turn();
  }
}

const tight = { rate_per_s: 500, burst: 3 };
for (const [name, limits] of [
  ['no limits', null],
  ['operations limited', { operations: tight }],
  [
    'everything limited',
    { readOperations: tight, writeOperations: tight, bytes: { rate_per_s: 5e6, burst: 1e5 } },
  ],
] as const) {
  exam(t, `limited, ${name}`, () => {
    const rig = new Rig(limits);
    return {
      volume: rig.volume,
      turn: () => rig.turn(),
      grow: size_bytes => rig.below.grow(size_bytes),
      close: () => undefined,
    };
  });
}

/** Keeps `depth` requests in flight for so long; how many and how many bytes were answered. */
function load(rig: Rig, kinds: readonly ('read' | 'write')[], length_bytes: number, ms: number) {
  const done = { read: 0, write: 0 };
  const end_ms = rig.now_ms + ms;
  const ask = (kind: 'read' | 'write'): void => {
    const waiter = {
      completed: (_token: number, result: number) => {
        if (result !== 0) throw new Error(`result ${result}`);
        if (rig.now_ms <= end_ms) done[kind]++;
        if (rig.now_ms < end_ms) ask(kind);
      },
    };
    rig.volume[kind](0, length_bytes, memory, 0, waiter, 1);
  };
  for (const kind of kinds) for (let i = 0; i < 16; i++) ask(kind);
  while (rig.now_ms < end_ms) rig.turn();
  return done;
}

const within = (t: Test, value: number, wanted: number, what: string): void =>
  void t.ok(Math.abs(value - wanted) <= wanted / 100, `${what}: ${value}, wanted ${wanted}`);

await t.test('rates are met within 1 %, whatever the length of requests', async t => {
  for (const rate_per_s of [250, 1000, 20_000]) {
    const rig = new Rig({ readOperations: { rate_per_s, burst: 1 } });
    within(t, load(rig, ['read'], 512, 4000).read, rate_per_s * 4, `${rate_per_s} operations`);
  }
  for (const length of [4096, 65_536, 1024 * 1024]) {
    const rig = new Rig({ writeBytes: { rate_per_s: 10e6, burst: 4096 } });
    const bytes = load(rig, ['write'], length, 12_000).write * length;
    within(t, bytes, 120e6, `bytes by ${length}`);
  }
});

await t.test('a burst is had at once, and saved up again', async t => {
  const rig = new Rig({ operations: { rate_per_s: 10, burst: 100 } });
  let passed = 0;
  while (rig.volume.tryRead(0, 512, memory, 0) === 0) passed++;
  t.equal(passed, 100);
  t.equal(rig.volume.tryWrite(0, 512, memory, 0), -11, 'both directions share it');
  rig.now_ms += 5000;
  passed = 0;
  while (rig.volume.tryWrite(0, 512, memory, 0) === 0) passed++;
  t.equal(passed, 50);
  rig.now_ms += 1e9;
  passed = 0;
  while (rig.volume.tryWrite(0, 512, memory, 0) === 0) passed++;
  t.equal(passed, 100, 'no more than the burst');
});

await t.test('one direction does not hold up the other, and shares are fair', async t => {
  const reads = new Rig({ readOperations: { rate_per_s: 100, burst: 1 } });
  let reading = 0;
  for (let i = 0; i < 100; i++) reads.volume.read(0, 512, memory, 0, { completed: () => void reading++ }, i);
  t.equal(reads.volume.tryWrite(0, 512, memory, 0), 0, 'writes pass reads that wait');
  t.equal(reads.volume.sendableFrom(0, 65_536), -1, 'not around the limit');
  while (reading < 100) reads.turn();
  within(t, reads.now_ms - 1000, 980, 'time for 100, of which two are a burst, at 100 per s');
  t.equal(reads.volume.throttledCount, 98);
  t.ok(reads.volume.throttled_ms > 0);
  t.equal(reads.volume.busy, false);

  const both = new Rig({ operations: { rate_per_s: 1000, burst: 1 } });
  const done = load(both, ['read', 'write'], 512, 10_000);
  within(t, done.read, 5000, 'reads');
  within(t, done.write, 5000, 'writes');
});

await t.test('in the order of asking; a flush does not wait', async t => {
  const rig = new Rig({ writeOperations: { rate_per_s: 1, burst: 1 } });
  const order: number[] = [];
  const waiter = { completed: (token: number) => void order.push(token) };
  rig.volume.write(0, 512, memory, 0, waiter, 0);
  rig.volume.zero(0, 512, { mayUnmap: true, fastOnly: false }, waiter, 1);
  rig.volume.write(0, 512, memory, 0, waiter, 2);
  rig.volume.trim(0, 4096, waiter, 3);
  rig.volume.flush(waiter, 9);
  while (order.length < 5) rig.turn();
  t.same(order, [0, 9, 1, 2, 3]);
});

await t.test('limits are changed while requests wait', async t => {
  const rig = new Rig({ readBytes: { rate_per_s: 1, burst: 1 } });
  let done = 0;
  for (let i = 0; i < 10; i++) rig.volume.read(0, 4096, memory, 0, { completed: () => void done++ }, i);
  rig.turn();
  t.equal(done, 1, 'the first one is in debt for more than an hour');
  rig.volume.limit({ ...NONE, readBytes: { rate_per_s: 4096e3, burst: 1 } });
  for (let i = 0; i < 40; i++) rig.turn();
  t.equal(done, 10, 'at the new rate');
  t.ok(rig.now_ms < 1020, `${rig.now_ms}`);
  rig.volume.limit({ ...NONE, readBytes: { rate_per_s: 1, burst: 1 } });
  for (let i = 0; i < 5; i++) rig.volume.read(0, 4096, memory, 0, { completed: () => void done++ }, i);
  rig.volume.limit(null);
  const now_ms = rig.now_ms;
  for (let i = 0; i < 3; i++) rig.turn();
  t.equal(done, 15);
  t.equal(rig.now_ms, now_ms, 'without limits nothing waits');
  t.equal(rig.limits.wakeAt_ms, Infinity);
});
