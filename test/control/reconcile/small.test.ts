/** The loop's helpers: looks with little patience, retries, conditions and their times, an orderly end. */
import t from 'tap';
import type { Clock } from '../../../control/clock.js';
import { Attempts, backoff_ms } from '../../../control/reconcile/attempts.js';
import { Eye } from '../../../control/reconcile/eye.js';
import { bad, good } from '../../../control/reconcile/report.js';
import type { Report } from '../../../control/reconcile/report.js';
import { Statuses } from '../../../control/reconcile/status.js';
import { EverythingEnds } from '../../../control/shutdown.js';
import { GuestHostDouble } from '../../../control/vmm/double.js';

/** Wound by hand. */
class HandClock implements Clock {
  #now_ms = 0;
  #timers: { at_ms: number; ring: () => void }[] = [];

  now_ms(): number {
    return this.#now_ms;
  }

  after(delay_ms: number, then: () => void): () => void {
    const timer = { at_ms: this.#now_ms + delay_ms, ring: then };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter(one => one !== timer);
    };
  }

  async wind(by_ms: number): Promise<void> {
    const until_ms = this.#now_ms + by_ms;
    for (;;) {
      // What was resolved before runs first.
      for (let i = 0; i < 20; i++) await Promise.resolve();
      const [next] = this.#timers.filter(one => one.at_ms <= until_ms).sort((a, b) => a.at_ms - b.at_ms);
      if (next === undefined) break;
      this.#timers = this.#timers.filter(one => one !== next);
      this.#now_ms = Math.max(this.#now_ms, next.at_ms);
      next.ring();
    }
    this.#now_ms = until_ms;
  }
}

await t.test('an eye asks once, however often one looks', async t => {
  const clock = new HandClock();
  const eye = new Eye<string>();
  let asked = 0;
  let answer: (said: string) => void = () => {};
  let late = 0;
  const look = () =>
    eye.look(
      () => {
        asked += 1;
        return new Promise<string>(resolve => (answer = resolve));
      },
      1000,
      clock,
      () => late++,
    );
  const first = look();
  await clock.wind(1000);
  t.equal(await first, undefined);
  const second = look();
  t.equal(asked, 1);
  answer('here');
  t.equal(await second, 'here');
  await clock.wind(0);
  t.equal(late, 1, 'who lost patience is told');
  void look();
  t.equal(asked, 2);
});

await t.test('attempts', async t => {
  const attempts = new Attempts();
  t.match(attempts.fail('x', 1, 'no', undefined, 0), { failureCount: 1, notBefore_ms: 1000 });
  t.match(attempts.fail('x', 1, 'no', undefined, 0), { failureCount: 2, notBefore_ms: 2000 });
  t.equal(attempts.last('x', 2), undefined, 'another generation begins anew');
  t.match(attempts.fail('x', 2, 'no', undefined, 0), { failureCount: 1 });
  attempts.begin('x');
  t.ok(attempts.isRunning('x'));
  attempts.succeed('x');
  t.equal(attempts.last('x', 2), undefined);
  t.equal(backoff_ms(1000), 60_000);
});

await t.test('a condition’s time is that of its status', async t => {
  const statuses = new Statuses();
  const report = (ready: Report['ready']): Map<'pool/p', Report> =>
    new Map([['pool/p' as const, { ready, usable: true, observed: {}, lastError: null }]]);
  t.match(
    statuses.update(report(bad('A', 'x')), () => 1, 't1'),
    [{ reasonBefore: undefined }],
  );
  t.match(
    statuses.update(report(bad('A', 'y')), () => 1, 't2'),
    [],
    'another message is no news',
  );
  t.match(
    statuses.update(report(bad('B', 'y')), () => 1, 't3'),
    [{ reasonBefore: 'A' }],
  );
  t.match(statuses.get('pool/p')?.conditions, [{ reason: 'B', lastTransitionTime: 't1' }]);
  statuses.update(report(good('C', 'z')), () => 2, 't4');
  t.match(statuses.get('pool/p'), { observedGeneration: 2, conditions: [{ lastTransitionTime: 't4' }] });
  t.ok(statuses.isReady('pool/p', 2));
  t.notOk(statuses.isReady('pool/p', 3), 'it speaks of another generation');
  statuses.update(new Map(), () => 0, 't5');
  t.equal(statuses.get('pool/p'), undefined);
});

const plan = (name: string) => ({
  name,
  cpus: 1,
  memory_bytes: 1,
  accel: 'auto' as const,
  kernel: null,
  disks: [],
  nics: [],
});

async function three(): Promise<{
  guests: GuestHostDouble;
  ends: EverythingEnds;
  clock: HandClock;
  log: string[];
}> {
  const guests = new GuestHostDouble();
  const clock = new HandClock();
  const log: string[] = [];
  for (const name of ['a', 'b', 'c']) await guests.start(plan(name));
  await guests.stop('c', 1);
  guests.calls.length = 0;
  const ends = new EverythingEnds({
    guests,
    clock,
    holdReconciler: () => log.push('hold'),
    stopPlanes: async () =>
      void log.push(`planes, ${guests.list().filter(one => one.state === 'running').length} running`),
    note: (_level, name, reason) => log.push(`${reason} ${name}`),
  });
  return { guests, ends, clock, log };
}

await t.test('an orderly end: guests, then planes', async t => {
  const { guests, ends, log } = await three();
  await ends.run(1000);
  t.same(guests.calls, ['stop a', 'stop b']);
  t.same(log, ['hold', 'planes, 0 running']);
});

await t.test(
  'a guest that does not react is killed when the time is up, or sooner when asked again',
  async t => {
    const { guests, ends, clock, log } = await three();
    guests.stop = async name => {
      guests.calls.push(`stop ${name}`);
      await new Promise(() => {});
    };
    const done = ends.run(60_000);
    await clock.wind(10_000);
    t.same(guests.calls, ['stop a', 'stop b']);
    const hurried = ends.run(0);
    await clock.wind(0);
    await Promise.all([done, hurried]);
    t.same(guests.calls.slice(2), ['kill a', 'kill b']);
    t.same(log, ['hold', 'Killed a', 'Killed b', 'planes, 0 running']);
  },
);

await t.test('with no time at all they are killed at once', async t => {
  const { guests, ends } = await three();
  await ends.run(0);
  t.same(guests.calls, ['kill a', 'kill b']);
});
