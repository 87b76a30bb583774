import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import {
  FilteringDatabase,
  LEARN_FULL,
  LEARN_KNOWN,
  LEARN_NEW,
  UNKNOWN,
} from '../../../dataplane/switch/filteringDatabase.js';
import { holds } from '../wire/codec.js';

/** The database as one would write it on a napkin. */
class SlowDatabase {
  entries = new Map<string, { port: number; heard_ms: number }>();
  readonly limit: number;
  readonly age_ms: number;
  constructor(limit: number, age_ms: number) {
    this.limit = limit;
    this.age_ms = age_ms;
  }
  learn(key: string, port: number, now_ms: number): number {
    const entry = this.entries.get(key);
    if (entry === undefined && this.entries.size >= this.limit) return LEARN_FULL;
    this.entries.set(key, { port, heard_ms: now_ms });
    if (entry === undefined || now_ms - entry.heard_ms > this.age_ms) return LEARN_NEW;
    return entry.port === port ? LEARN_KNOWN : entry.port;
  }
  lookup(key: string, now_ms: number): number {
    const entry = this.entries.get(key);
    return entry === undefined || now_ms - entry.heard_ms > this.age_ms ? UNKNOWN : entry.port;
  }
  remove(which: (entry: { port: number; heard_ms: number }) => boolean): number {
    const before = this.entries.size;
    for (const [key, entry] of this.entries) if (which(entry)) this.entries.delete(key);
    return before - this.entries.size;
  }
}

type Step =
  | { do: 'learn' | 'lookup'; station: number; port: number; later_ms: number }
  | { do: 'flushPort'; station: number; port: number; later_ms: number }
  | { do: 'sweep' | 'flush'; station: number; port: number; later_ms: number };

const AGE_MS = 300;
// Few stations, so that they meet again; their keys spread over both words.
const key0 = (station: number): number => FilteringDatabase.key0(1 + (station % 3), (station * 7) & 0xffff);
const key1 = (station: number): number => Math.imul(station, 0x0100_0001) | 0;

function walk(steps: readonly Step[], startAt_ms: number, limit: number): void {
  const fast = new FilteringDatabase(limit, AGE_MS);
  const slow = new SlowDatabase(limit, AGE_MS);
  let now_ms = startAt_ms;
  for (const step of steps) {
    now_ms += step.later_ms;
    const [a, b] = [key0(step.station), key1(step.station)];
    const key = `${a} ${b}`;
    switch (step.do) {
      case 'learn': {
        const wanted = slow.learn(key, step.port, now_ms);
        const got = fast.learn(a, b, step.port, now_ms);
        // A station past its age that heard_ms the sweep has not seen is new either way.
        assert.equal(got, wanted, 'learn');
        break;
      }
      case 'lookup':
        assert.equal(fast.lookup(a, b, now_ms), slow.lookup(key, now_ms), 'lookup');
        break;
      case 'flushPort':
        assert.equal(
          fast.flushPort(step.port),
          slow.remove(entry => entry.port === step.port),
          'flushPort',
        );
        break;
      case 'sweep': {
        const now = now_ms;
        assert.equal(
          fast.sweep(now, fast.capacity * 2),
          slow.remove(entry => now - entry.heard_ms > AGE_MS),
          'sweep',
        );
        break;
      }
      case 'flush':
        assert.equal(
          fast.flush(),
          slow.remove(() => true),
          'flush',
        );
        break;
    }
    assert.equal(fast.count, slow.entries.size, 'count');
  }
  const listed = new Map<string, number>();
  const words = fast.snapshot(now_ms);
  for (let w = 0; w < words.length; w += 4) listed.set(`${words[w]} ${words[w + 1]}`, words[w + 2]!);
  const wanted = new Map<string, number>();
  for (const [key, entry] of slow.entries) if (now_ms - entry.heard_ms <= AGE_MS) wanted.set(key, entry.port);
  assert.deepEqual(listed, wanted, 'snapshot');
}

const step: fc.Arbitrary<Step> = fc
  .tuple(
    fc.constantFrom<Step['do']>(
      'learn',
      'learn',
      'learn',
      'learn',
      'lookup',
      'lookup',
      'flushPort',
      'sweep',
      'flush',
    ),
    fc.nat({ max: 60 }),
    fc.nat({ max: 4 }),
    fc.nat({ max: 40 }),
  )
  .map(([what, station, port, later_ms]) => ({ do: what, station, port, later_ms }) as Step);

void t.test('does what the slow one does', async t => {
  holds(
    t,
    fc.property(fc.array(step, { maxLength: 400 }), fc.constantFrom(1000, 20), (steps, limit) =>
      walk(steps, 0, limit),
    ),
    { numRuns: 200 },
  );
});

void t.test('the clock may wrap', async t => {
  holds(
    t,
    fc.property(fc.array(step, { maxLength: 200 }), steps => walk(steps, 2 ** 31 - 1000, 1000)),
  );
});

void t.test('a hundred thousand stations, then all gone', async t => {
  const database = new FilteringDatabase(100_000, AGE_MS);
  for (let i = 0; i < 100_000; i++) database.learn(FilteringDatabase.key0(1, i >>> 16), i | 0, i & 1023, 0);
  t.equal(database.count, 100_000);
  t.equal(database.learn(FilteringDatabase.key0(2, 0), 0, 1, 0), LEARN_FULL);
  t.equal(database.count, 100_000, 'a full table takes no more');
  let right = 0;
  for (let i = 0; i < 100_000; i++)
    if (database.lookup(FilteringDatabase.key0(1, i >>> 16), i | 0, 1) === (i & 1023)) right++;
  t.equal(right, 100_000);
  t.equal(database.lookup(FilteringDatabase.key0(1, 0), 1, AGE_MS + 1), UNKNOWN, 'too old to be true');
  let removed = 0;
  for (let sweep = 0; sweep < 200 && database.count > 0; sweep++) removed += database.sweep(AGE_MS + 1, 4096);
  t.equal(removed, 100_000, 'small sweeps get through all of it');
});
