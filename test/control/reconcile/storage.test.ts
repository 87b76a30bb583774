/** What the reconciler does for storage: clones, shrinking, mirrors, undo disks killed at every step, snapshots by the clock. */
import t from 'tap';
import fc from 'fast-check';
import { scheduleOf, scheduledName, SCHEDULE_LABEL } from '../../../control/reconcile/schedule.js';
import type { SnapshotStatus } from '../../../storage/contract.js';
import { World, guest } from './simulator.js';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const YEAR_MS = 365 * 24 * HOUR_MS;

function base(): World {
  return new World().add('pool', 'main').add('switch', 'lan').add('image', 'k', { kernel: '/k' });
}

await t.test('a clone waits for its source, and for the snapshot', async t => {
  const world = base()
    .add('volume', 'z', { pool: 'main', size: '1MiB' })
    .add('volume', 'a', { pool: 'main', from: { volume: 'z', snapshot: 's' } })
    .add('volume', 'b', { pool: 'main', size: '2MiB', from: { volume: 'z' } });
  world.settle();
  t.match(world.message('volume/a'), /waits for snapshot "s" of volume "z"/);
  t.equal(world.volumes.get('main/b')?.size_bytes, 2 ** 21);
  const source = world.volumes.get('main/z')!;
  const status = {
    uuid: 'u',
    createdAt_ms: 1,
    size_bytes: 2 ** 20,
    allocated_bytes: 0,
    labels: {},
    clones: [],
  };
  source.snapshots = [{ name: 's', ...status, content: 'old' }];
  world.settle();
  t.equal(world.volumes.get('main/a')?.size_bytes, 2 ** 20, 'as large as the snapshot');
  t.equal(world.volumes.get('main/a')?.content, 'old');
});

await t.test('shrinking is done when told twice, and while nobody runs on it', async t => {
  const world = base()
    .add('volume', 'v', { pool: 'main', size: '2MiB', labels: { a: 'b' }, quota: '1GiB' })
    .add('machine', 'm', { image: 'k', disks: [{ volume: 'v' }] });
  world.settle();
  t.same(world.volumes.get('main/v')?.labels, { a: 'b' });
  world.add('volume', 'v', { pool: 'main', size: '1MiB' });
  world.settle();
  t.equal(world.verdict('volume/v'), 'False ShrinkRefused');
  world.add('volume', 'v', { pool: 'main', size: '1MiB', shrink: true });
  world.settle();
  t.match(world.message('volume/v'), /machine "m" runs on it/);
  t.equal(world.volumes.get('main/v')?.size_bytes, 2 ** 21);
  world.add('machine', 'm', { image: 'k', disks: [{ volume: 'v' }], running: false });
  world.settle();
  t.equal(world.volumes.get('main/v')?.size_bytes, 2 ** 20);
  t.equal(world.verdict('volume/v'), 'True Available');
  t.same(world.volumes.get('main/v')?.labels, {}, 'labels that are not said are gone');
  t.equal(world.volumes.get('main/v')?.quota_bytes, null);
});

await t.test(
  'a mirror has its second side made, grown with the first, told to the plane, destroyed',
  async t => {
    const world = base().add('pool', 'other');
    world.add('volume', 'v', { pool: 'main', size: '1MiB', mirror: { pool: 'other' } });
    world.settle();
    t.equal(world.volumes.get('other/v')?.size_bytes, 2 ** 20);
    t.match(world.storage.config.volumes, [
      { pool: 'main', name: 'v', mirror: { pool: 'other', volume: 'v' } },
    ]);
    world.add('volume', 'v', { pool: 'main', size: '2MiB', mirror: { pool: 'other' } });
    world.settle();
    t.equal(world.volumes.get('other/v')?.size_bytes, 2 ** 21);
    world.bury('volume/v', true);
    world.settle();
    t.equal(world.volumes.size, 0, 'both sides, since that was asked for');
  },
);

await t.test('an encrypted disk keeps its key as long as its guest lives', async t => {
  const world = base()
    .add('volume', 'v', { pool: 'main', size: '1MiB', encryption: { keyFile: '/k' } })
    .add('machine', 'm', { image: 'k', disks: [{ volume: 'v' }] });
  world.settle();
  world.add('machine', 'm', { image: 'k' }).bury('volume/v');
  world.settle();
  t.match(world.storage.config.exports, [{ volume: 'v' }]);
  t.match(world.storage.config.volumes, [{ name: 'v', encryption: { keyFile: '/k' } }]);
});

const undoMachine = (undo: string, running = true) => ({
  image: 'k',
  restart: 'always',
  running,
  disks: [{ volume: 'v', undo }],
});

await t.test('undo: discard goes back at the end, however weftd dies in between', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('crashed', 'gone', 'guest-poweroff', 'stopped'), { maxLength: 4 }),
      fc.array(fc.nat({ max: 6 }), { maxLength: 6 }),
      (ends, cuts) => {
        const world = base().add('volume', 'v', { pool: 'main', size: '1MiB' });
        world.settle();
        world.volumes.get('main/v')!.content = 'as it was';
        world.add('machine', 'm', undoMachine('discard'));
        for (const [index, end] of ends.entries()) {
          // A death of weftd: what it tried and failed is forgotten; what is done and remembered, is.
          try {
            world.settle(cuts[index] ?? 100);
          } catch {
            world.settle();
          }
          const now = world.guests.get('m')!;
          if (now.state !== 'running') throw new Error(`it is ${now.state}`);
          if (world.volumes.get('main/v')!.content !== 'as it was')
            throw new Error('it began with leftovers');
          world.volumes.get('main/v')!.content = 'changed by the guest';
          if (end === 'gone') world.guests.set('m', guest('m'));
          else if (end === 'crashed') world.guests.set('m', { ...now, state: 'crashed', ended: 'crashed' });
          else if (end === 'guest-poweroff')
            world.guests.set('m', { ...now, state: 'stopped', ended: 'guest-poweroff' });
          else world.add('machine', 'm', undoMachine('discard', false));
          if (end === 'stopped') {
            world.settle();
            if (world.volumes.get('main/v')!.content !== 'as it was') throw new Error('kept after a stop');
            world.add('machine', 'm', undoMachine('discard'));
          }
        }
        world.settle();
        if (world.volumes.get('main/v')!.content !== 'as it was') throw new Error('not gone back');
        world.bury('machine/m');
        world.settle();
        if ((world.volumes.get('main/v')!.snapshots ?? []).length > 0) throw new Error('a snapshot is left');
        if (world.facts.has('undo/m')) throw new Error('a word is left');
      },
    ),
    { numRuns: 200 },
  );
});

await t.test('undo: keep, said while it runs, keeps this run', async t => {
  const world = base()
    .add('volume', 'v', { pool: 'main', size: '1MiB' })
    .add('machine', 'm', undoMachine('discard'));
  world.settle();
  world.volumes.get('main/v')!.content = 'worth keeping';
  world.add('machine', 'm', undoMachine('keep'));
  world.settle();
  world.add('machine', 'm', undoMachine('keep', false));
  world.settle();
  t.equal(world.volumes.get('main/v')?.content, 'worth keeping');
  t.same(world.volumes.get('main/v')?.snapshots, []);
});

const taken = (name: string, createdAt_ms: number, label = true): SnapshotStatus => ({
  name,
  uuid: name,
  createdAt_ms,
  size_bytes: 1,
  allocated_bytes: 0,
  labels: label ? { [SCHEDULE_LABEL]: '1h' } : {},
  clones: [],
});

await t.test('snapshots by the clock: on the hour, by UTC, others left alone', async t => {
  const at_ms = Date.UTC(2026, 0, 31, 9, 30);
  t.equal(scheduledName(at_ms), 'auto-20260131-0930');
  const rule = { every_ms: HOUR_MS, keep: 2 };
  const none = () => false;
  t.match(scheduleOf(at_ms, rule, [], none), { make: 'auto-20260131-0930', prune: [] });
  const one = [taken('a', at_ms)];
  t.same(scheduleOf(at_ms + 1, rule, one, none), {
    make: null,
    prune: [],
    wakeAt_ms: Date.UTC(2026, 0, 31, 10),
  });
  const many = [taken('mine', 1, false), taken('a', 1), taken('b', 2), taken('c', at_ms)];
  t.same(scheduleOf(at_ms, rule, many, none).prune, ['a']);
  t.same(scheduleOf(at_ms, rule, many, ({ name }) => name === 'a').prune, [], 'what is in use stays');
});

await t.test('a clock that goes where it likes makes no storm and deletes no more than it made', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(
        fc.oneof(
          fc.integer({ min: -50 * HOUR_MS, max: 5 * HOUR_MS }),
          // Minutes as they pass, and a clock that was not set, or that GPS sends twenty years away.
          fc.integer({ min: 0, max: HOUR_MS / 4 }),
          fc.constantFrom(-30 * YEAR_MS, -YEAR_MS, YEAR_MS, 20 * YEAR_MS),
        ),
        { minLength: 1, maxLength: 60 },
      ),
      fc.boolean(),
      (keep, steps, datesNeverGoBack) => {
        let latest_ms = 0;
        let now_ms = Date.UTC(2026, 5, 1);
        let snapshots: SnapshotStatus[] = [taken('by hand', 1, false)];
        for (const step_ms of steps) {
          now_ms += step_ms;
          const before = snapshots.length;
          let madeCount = 0;
          for (let turn = 0; turn < 10; turn++) {
            const { make, prune, wakeAt_ms } = scheduleOf(
              now_ms,
              { every_ms: HOUR_MS, keep },
              snapshots,
              () => false,
            );
            if (wakeAt_ms <= now_ms) throw new Error('it would never sleep');
            if (make !== null) {
              madeCount += 1;
              latest_ms = Math.max(now_ms, datesNeverGoBack ? latest_ms : now_ms);
              snapshots.push(taken(make, latest_ms));
            } else snapshots = snapshots.filter(({ name }) => !prune.includes(name));
          }
          if (madeCount > 1) throw new Error(`${madeCount} at once`);
          if (snapshots.length < Math.min(before, keep + 1)) throw new Error('more deleted than made');
          if (snapshots.length > keep + 1) throw new Error('not pruned');
          if (snapshots[0]?.name !== 'by hand') throw new Error('not its own');
          // Wherever the clock is now: from here on it goes by the hour again, and makes one for each.
          const from = snapshots.length;
          let made = 0;
          for (let minute = 1; minute <= 10; minute++) {
            const later_ms = now_ms + minute * MINUTE_MS;
            const { make } = scheduleOf(later_ms, { every_ms: HOUR_MS, keep }, snapshots, () => false);
            if (make === null) continue;
            made += 1;
            snapshots.push(taken(make, datesNeverGoBack ? Math.max(latest_ms, later_ms) : later_ms));
          }
          if (made > 1) throw new Error(`${made} within ten minutes`);
          snapshots.length = from;
        }
      },
    ),
    { numRuns: 300 },
  );
});

await t.test('the reconciler makes and prunes them', async t => {
  const world = base().add('volume', 'v', {
    pool: 'main',
    size: '1MiB',
    snapshots: { every: '1h', keep: 3 },
  });
  for (let hour = 0; hour < 6; hour++) {
    world.settle();
    world.now_ms += HOUR_MS;
  }
  t.equal(world.volumes.get('main/v')?.snapshots?.length, 3);
  // Ten years on, back again, and to a clock that was never set: each jump costs the oldest one, and no more.
  const names = () => world.volumes.get('main/v')!.snapshots!.map(({ name }) => name);
  const now_ms = world.now_ms;
  for (const at_ms of [now_ms + 10 * YEAR_MS, now_ms + MINUTE_MS, HOUR_MS, now_ms + 2 * MINUTE_MS]) {
    const before = names();
    world.now_ms = at_ms;
    for (let turn = 0; turn < 5; turn++) {
      world.settle();
      world.now_ms += MINUTE_MS;
    }
    t.ok(before.filter(name => names().includes(name)).length >= 2, names().join(' '));
    t.equal(names().length, 3);
  }
});
