import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { Timer, Timers } from '../../../dataplane/engine/timers.js';
import { holds } from '../wire/codec.js';

const ascending = (a: number, b: number): number => a - b;

void t.test('runs what is due, in order, whatever was armed, moved and cancelled', async t => {
  const step = fc.tuple(fc.constantFrom('arm', 'cancel', 'run'), fc.nat({ max: 9 }), fc.nat({ max: 50 }));
  holds(
    t,
    fc.property(fc.array(step, { maxLength: 200 }), steps => {
      const ran: number[] = [];
      const timers = new Timers();
      const all = Array.from({ length: 10 }, (_, i) => new Timer(() => ran.push(i)));
      const due = new Map<number, number>();
      let now_ms = 0;
      for (const [what, which, wait_ms] of steps) {
        if (what === 'arm') {
          timers.arm(all[which]!, now_ms + wait_ms);
          due.set(which, now_ms + wait_ms);
        } else if (what === 'cancel') {
          timers.cancel(all[which]!);
          due.delete(which);
        } else {
          now_ms += wait_ms;
          const wanted = [...due].filter(([, at]) => at <= now_ms);
          ran.length = 0;
          assert.equal(timers.runDue(now_ms), wanted.length);
          assert.deepEqual(ran.toSorted(ascending), wanted.map(([i]) => i).toSorted(ascending));
          assert.deepEqual(
            ran.map(i => due.get(i)!),
            ran.map(i => due.get(i)!).toSorted(ascending),
          );
          for (const [i] of wanted) due.delete(i);
        }
        assert.equal(timers.next_ms, Math.min(Infinity, ...due.values()));
        all.forEach((timer, i) => assert.equal(timer.isArmed, due.has(i)));
      }
    }),
  );
});

void t.test('one that arms itself again for now waits for the next turn', async t => {
  const timers = new Timers();
  let runs = 0;
  const timer = new Timer(now_ms => {
    runs++;
    timers.arm(timer, now_ms);
  });
  timers.arm(timer, 5);
  timers.runDue(5);
  t.equal(runs, 1);
  timers.runDue(5);
  t.equal(runs, 2);
});
