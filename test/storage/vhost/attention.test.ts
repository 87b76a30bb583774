import t from 'tap';
import { Attention } from '../../../storage/vhost/attention.js';

/** A guest whose next request comes `after_ms` after each answer; how many of `count` found us looking. */
function looked(attention: Attention, after_ms: number, count: number): number {
  let now_ms = 100;
  let isUp = false;
  let found = 0;
  for (let i = 0; i < count; i++) {
    // What elapses is looked through in steps of 10 us, as the loop turns.
    for (let left_ms = after_ms; left_ms > 0.005; left_ms -= 0.01) {
      now_ms += 0.01;
      if (isUp && !attention.staysUp(false, now_ms)) {
        isUp = false;
        attention.sleeps(now_ms);
      }
    }
    if (isUp) found++;
    else attention.wakes(now_ms);
    isUp = attention.staysUp(true, now_ms);
    if (!isUp) attention.sleeps(now_ms);
  }
  return found;
}

await t.test('one who asks again at once is looked at', async t => {
  t.ok(looked(new Attention(), 0.02, 1000) > 990);
});

await t.test('one who takes its time is not', async t => {
  t.equal(looked(new Attention(), 1, 1000), 0);
});

await t.test('one whom looking keeps from asking is hardly looked at in vain', async t => {
  const attention = new Attention();
  let now_ms = 0;
  let vain = 0;
  for (let i = 0; i < 10_000; i++) {
    attention.wakes(now_ms);
    // It asks as soon as we sleep, and never while we look.
    if (attention.staysUp(true, now_ms)) {
      vain++;
      now_ms += 0.06;
      t.notOk(attention.staysUp(false, now_ms));
    }
    attention.sleeps(now_ms);
    now_ms += 0.01;
  }
  t.ok(vain > 0 && vain < 200, `${vain} of 10,000`);
});
