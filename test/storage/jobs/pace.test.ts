/** How fast a job may go, and how long it will. */
import fc from 'fast-check';
import t from 'tap';
import { Pace, Remaining } from '../../../storage/jobs/pace.js';

const MiB = 1024 * 1024;

void t.test('a rate is kept, whatever the slices are and however long they take', t => {
  fc.assert(
    fc.property(
      fc.integer({ min: MiB, max: 100 * MiB }),
      fc.array(fc.tuple(fc.integer({ min: 4096, max: MiB }), fc.nat(30)), { minLength: 50, maxLength: 200 }),
      (rate, slices) => {
        const pace = new Pace(rate, 0);
        let now_ms = 0;
        let moved = 0;
        for (const [bytes, took_ms] of slices) {
          const began_ms = now_ms;
          now_ms += took_ms;
          moved += bytes;
          now_ms += pace.after(bytes, began_ms, now_ms);
        }
        // Some tenths of a second may have been saved up, no more.
        return moved <= (rate * (now_ms + 101)) / 1000;
      },
    ),
  );
  t.end();
});

void t.test('without a rate it rests where the disk is busy, and only there', t => {
  const pace = new Pace(null, 0);
  t.equal(pace.after(MiB, 0, 5), 0);
  t.equal(pace.after(MiB, 0, 100), 100);
  t.equal(pace.after(MiB, 0, 10_000), 500);
  t.end();
});

void t.test('what is left, by how it went lately', t => {
  const remaining = new Remaining();
  t.equal(remaining.left_ms(0, 0, null), null);
  t.equal(remaining.left_ms(100, 0, 1000), null);
  t.equal(remaining.left_ms(200, 50, 1000), null, 'too early to tell');
  t.equal(remaining.left_ms(2100, 200, 1000), 8000);
  // Slower from here on: after a while that is what counts.
  for (let s = 3; s < 60; s++) remaining.left_ms(100 + s * 1000, 200 + s, 1000);
  t.equal(remaining.left_ms(60_100, 260, 1000), 740_000);
  t.equal(remaining.left_ms(61_000, 10, 1000), null, 'something else began');
  t.equal(remaining.left_ms(62_000, 10, 1000), null, 'it stands still');
  t.end();
});
