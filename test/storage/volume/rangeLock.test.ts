/** Locks of ranges against what is said of them: who holds, who waits, and why. Histories are random; a failure names its seed. */
import * as fc from 'fast-check';
import t from 'tap';
import { RangeLock } from '../../../storage/volume/rangeLock.js';

interface Asked {
  lock: number;
  readonly from: number;
  readonly to: number;
  readonly exclusive: boolean;
  readonly order: number;
  held: boolean;
}

const step = fc.oneof(
  fc.record({
    kind: fc.constant('acquire' as const),
    from: fc.nat(20),
    length: fc.integer({ min: 1, max: 8 }),
    exclusive: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('release' as const), which: fc.nat(30) }),
  fc.record({ kind: fc.constantFrom('pause' as const, 'resume' as const) }),
);

const meet = (a: Asked, b: Asked): boolean => a.from < b.to && b.from < a.to && (a.exclusive || b.exclusive);

void t.test('whoever waits has a reason, and whoever holds has a right', async t => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const locks = new RangeLock();
      const open: Asked[] = [];
      let paused = false;
      let order = 0;
      const check = (): void => {
        for (const one of open) {
          if (one.held !== locks.held(one.lock)) throw new Error('one was granted and not told');
          const rivals = open.filter(other => other !== one && meet(one, other));
          if (one.held && rivals.some(({ held }) => held)) throw new Error('two hold the same');
          const reason = paused || rivals.some(other => other.held || other.order < one.order);
          if (!one.held && !reason) throw new Error('one waits for nobody');
        }
        if (locks.heldCount !== open.filter(({ held }) => held).length)
          throw new Error('held are miscounted');
        if (locks.count !== open.length) throw new Error('all are miscounted');
      };
      for (const one of steps) {
        if (one.kind === 'acquire') {
          const asked: Asked = { ...one, to: one.from + one.length, lock: -1, order: order++, held: false };
          const waits = locks.blocks(asked.from, asked.to);
          asked.lock = locks.acquire(asked.from, asked.to, asked.exclusive, {
            granted: () => {
              if (paused) throw new Error('granted while paused');
              asked.held = true;
            },
          });
          if (locks.held(asked.lock)) asked.held = true;
          if (!waits && !asked.held) throw new Error('it was said that it would not wait');
          open.push(asked);
        } else if (one.kind === 'release') {
          // Also one that waits.
          const [gone] = open.splice(one.which % Math.max(1, open.length), 1);
          if (gone !== undefined) locks.release(gone.lock);
        } else {
          paused = one.kind === 'pause';
          locks[one.kind]();
        }
        check();
      }
      paused = false;
      locks.resume();
      check();
      while (open.length > 0) {
        const holder = open.findIndex(({ held }) => held);
        locks.release(open.splice(holder, 1)[0]!.lock);
        check();
      }
    }),
    { numRuns: 2000 },
  );
  t.pass();
});
