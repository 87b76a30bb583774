import t from 'tap';
import { voluntarySwitches } from '../../../host/process.js';
import { WriteWatch } from '../../../storage/volume/writeWatch.js';

/** Writes of this length, one behind the other; how many went the fast way. */
function play(watch: WriteWatch, from_ms: number, lengths_ms: readonly number[], slept: () => void): number {
  let now_ms = from_ms;
  let fast = 0;
  for (const length_ms of lengths_ms) {
    if (!watch.begin(now_ms)) continue;
    fast++;
    now_ms += length_ms;
    if (length_ms > 5) slept();
    watch.end(now_ms);
  }
  return fast;
}

void t.test('a write that was interrupted is no sign of a slow disk, however often', async t => {
  const watch = new WriteWatch(() => 7);
  t.equal(
    play(watch, 0, [50, 50, 1, 50, 50], () => undefined),
    5,
  );
});

void t.test('a thread that sleeps in writes stops making them for a while', async t => {
  let switches = 0;
  const watch = new WriteWatch(() => switches);
  const sleep = (): void => void switches++;
  t.equal(play(watch, 0, [1, 50, 50, 1, 1], sleep), 3, 'one to look, one to be sure');
  t.notOk(watch.begin(600));
  t.ok(watch.begin(601), 'after half a second it is tried');
  watch.end(601);
  t.equal(play(watch, 603, [50, 1], sleep), 1, 'and now one is enough');
  t.equal(play(watch, 5000, [50, 1], sleep), 2, 'a long time after, it is the first again');
});

void t.test('short sleeps do not matter', async t => {
  let switches = 0;
  const watch = new WriteWatch(() => switches++);
  t.equal(
    play(watch, 0, [50, 5, 5, 5, 5], () => undefined),
    5,
  );
});

void t.test('the kernel counts the sleeps of this thread', async t => {
  const before = voluntarySwitches();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  t.ok(voluntarySwitches() > before);
});
