import t from 'tap';
import { Waiting } from '../../../storage/nbd/waiting.js';

/** Events come at these times (ms); a look takes 0.01 ms, a sleep until the next event or its end. */
function world(
  arrivals: number[],
  delayShare = 0,
): {
  waiting: Waiting;
  sleeps: number[];
  looks: () => number;
  now: () => number;
  tick: (delayShare: number) => void;
  /** So many ms from now. */
  arrive: (after_ms: number[]) => void;
} {
  let now_ms = 0;
  let looks = 0;
  const sleeps: number[] = [];
  const look = (timeout_ms: number): number => {
    now_ms += 0.01;
    if (timeout_ms === 0) looks++;
    else {
      sleeps.push(timeout_ms);
      now_ms = Math.max(now_ms, Math.min(arrivals[0] ?? Infinity, now_ms + timeout_ms));
    }
    if (arrivals.length === 0 || arrivals[0]! > now_ms) return 0;
    arrivals.shift();
    return 1;
  };
  let delay_ms = 0;
  const waiting = new Waiting(
    look,
    () => now_ms,
    () => delay_ms,
  );
  /** A second passes. */
  const tick = (share: number): void => {
    now_ms += 1000;
    delay_ms += share * 1000;
    waiting.tick(now_ms);
  };
  tick(0);
  tick(delayShare);
  const arrive = (after_ms: number[]): void => {
    arrivals = after_ms.map(at_ms => at_ms + now_ms);
  };
  arrive(arrivals);
  return { waiting, sleeps, looks: () => looks, now: () => now_ms, tick, arrive };
}

void t.test('who asks again at once is waited for awake, but not for long', async t => {
  const { waiting, sleeps, looks, now } = world([5, 5.03, 5.05, 5.09, 9]);
  t.equal(waiting.wait(100), 1);
  t.equal(sleeps.length, 1, 'asleep at first');
  t.equal(waiting.wait(100), 1);
  t.equal(sleeps.length, 2, 'and after what took long');
  for (let i = 0; i < 2; i++) t.equal(waiting.wait(100), 1);
  t.equal(sleeps.length, 2, 'awake now');
  const before = looks();
  const before_ms = now();
  t.equal(waiting.wait(100), 1);
  t.equal(sleeps.length, 3, 'asleep again when nothing comes');
  t.ok(looks() - before <= 7, `${looks() - before} looks`);
  t.ok(now() - before_ms > 3.8);
  t.equal(waiting.wait(100), 0, 'nothing comes any more');
  t.equal(looks() - before <= 7, true, 'and one that came late is no reason to look');
  t.equal(sleeps.length, 4);
});

void t.test('who must not sleep does not, and who asks now and then costs nothing', async t => {
  const { waiting, sleeps, looks } = world([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (let i = 0; i < 8; i++) t.equal(waiting.wait(1000), 1);
  t.equal(looks(), 0);
  t.equal(waiting.wait(0), 0);
  t.equal(looks(), 1);
  t.equal(sleeps.length, 8);
});

void t.test('where processors are short it sleeps, until they are not', async t => {
  const { waiting, looks, tick, arrive } = world([1, 1.02, 1.04, 1.06], 0.1);
  for (let i = 0; i < 4; i++) t.equal(waiting.wait(1000), 1);
  t.equal(looks(), 0);
  tick(0.001);
  arrive([1, 1.02, 1.04, 1.06]);
  for (let i = 0; i < 4; i++) t.equal(waiting.wait(1000), 1);
  t.ok(looks() > 0);
});

void t.test('where nobody tells whether they are short it sleeps', async t => {
  let looks = 0;
  const look = (timeout_ms: number): number => {
    if (timeout_ms === 0) looks++;
    return 1;
  };
  const waiting = new Waiting(
    look,
    () => 7,
    () => null,
  );
  for (let at_ms = 0; at_ms < 5000; at_ms += 250) {
    waiting.tick(at_ms);
    t.equal(waiting.wait(10), 1);
  }
  t.equal(looks, 0);
});

void t.test('a clock that stands still does not keep it awake', async t => {
  let slept = 0;
  let arrivals = 1;
  const look = (timeout_ms: number): number => {
    if (timeout_ms > 0) slept++;
    return arrivals-- > 0 ? 1 : 0;
  };
  const waiting = new Waiting(
    look,
    () => 7,
    () => 0,
  );
  waiting.tick(1);
  waiting.tick(2);
  t.equal(waiting.wait(10), 1);
  t.equal(waiting.wait(10), 0);
  t.equal(slept, 2);
});
