/** Notes on requests under way: whoever dies at any step leaves notes from which exactly what was not given back is done again. */
import fc from 'fast-check';
import t from 'tap';
import { InflightQueue, inflightLength_bytes } from '../../../storage/vhost/inflight.js';

const SIZE = 8;

await t.test(
  'a death at any step: what was taken and is not in the used ring comes again, oldest first',
  async t => {
    const step = fc.oneof(
      fc.record({ does: fc.constant('take' as const), head: fc.nat(SIZE - 1) }),
      fc.record({ does: fc.constant('give' as const), head: fc.nat(100) }),
      fc.record({ does: fc.constant('publish' as const), dies: fc.boolean() }),
      fc.record({ does: fc.constant('die' as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.nat(0xffff), (steps, firstUsed) => {
        const words = new Int32Array(inflightLength_bytes(2, SIZE) / 4);
        let used = firstUsed;
        let queue = new InflightQueue(words, 1, SIZE);
        t.same(queue.resume(used), []);
        /** Oldest first; given and not published. */
        let underWay: number[] = [];
        let given: number[] = [];
        const dies = (): void => {
          queue = new InflightQueue(words, 1, SIZE);
          const again = queue.resume(used);
          if (again.join() !== underWay.join())
            throw new Error(`${again.join()} come again, not ${underWay.join()}`);
          given = [];
        };
        const publish = (isStruckOut: boolean): void => {
          used = (used + given.length) & 0xffff;
          underWay = underWay.filter(head => !given.includes(head));
          given = [];
          if (isStruckOut) queue.published(used);
        };
        for (const one of steps) {
          if (one.does === 'take') {
            if (underWay.includes(one.head)) continue;
            queue.taken(one.head);
            underWay.push(one.head);
          } else if (one.does === 'give') {
            const left = underWay.filter(head => !given.includes(head));
            if (left.length === 0) continue;
            const head = left[one.head % left.length]!;
            queue.given(head);
            given.push(head);
          } else if (one.does === 'publish') {
            publish(!one.dies);
            if (one.dies) dies();
          } else dies();
        }
        dies();
        // The queue beside it was left alone.
        if (words.subarray(0, words.length / 2).some(word => word !== 0))
          throw new Error('written beside it');
      }),
      { numRuns: 2000 },
    );
    t.pass('all of them');
  },
);

await t.test('nonsense in the notes is nobody’s', async t => {
  fc.assert(
    fc.property(fc.int32Array({ minLength: 80, maxLength: 80 }), fc.nat(0xffff), (noise, used) => {
      const words = new Int32Array(inflightLength_bytes(2, SIZE) / 4);
      words.set(noise.subarray(0, words.length));
      const queue = new InflightQueue(words, 1, SIZE);
      const again = queue.resume(used);
      if (new Set(again).size !== again.length || again.some(head => head >= SIZE)) throw new Error('a head');
      for (const head of again) queue.given(head);
      queue.published(used);
    }),
    { numRuns: 2000 },
  );
  t.pass('none threw');
});
