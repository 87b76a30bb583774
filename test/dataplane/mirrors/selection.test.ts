import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { exitOf } from '../../../dataplane/mirrors/exits.js';
import { Sampler } from '../../../dataplane/mirrors/sampler.js';
import { Selection } from '../../../dataplane/mirrors/selection.js';
import type { Watch } from '../../../dataplane/mirrors/selection.js';
import { holds, record } from '../wire/codec.js';

const PORTS = 6;
const port = fc.nat({ max: PORTS - 1 });
const vlan = fc.integer({ min: 1, max: 9 });
const watch: fc.Arbitrary<Watch> = record<Watch>({
  in: fc.array(port, { maxLength: 3 }),
  out: fc.array(port, { maxLength: 3 }),
  vlans: fc.array(
    vlan.map(first => [first, first + 2] as [number, number]),
    { maxLength: 2 },
  ),
  toVlan: fc.oneof(fc.constant(0), vlan),
});

await t.test('the bits are what the sessions say, one by one', async t => {
  holds(
    t,
    fc.property(fc.array(watch, { maxLength: 5 }), port, vlan, (watches, number, of) => {
      const selection = new Selection(watches, PORTS);
      const isCopy = watches.some(each => each.toVlan === of);
      const expected = (wants: (each: Watch) => boolean): number =>
        watches.reduce(
          (bits, each, i) => (wants(each) && !(isCopy && each.toVlan !== 0) ? bits | (1 << i) : bits),
          0,
        );
      const inVlans = (each: Watch): boolean => each.vlans.some(([first, last]) => of >= first && of <= last);
      assert.equal(
        selection.in(number, of),
        expected(each => each.in.includes(number) || inVlans(each)),
      );
      assert.equal(
        selection.out(number, of),
        expected(each => each.out.includes(number)),
      );
    }),
  );
});

await t.test('a port that is not known is watched by nobody', async t => {
  const selection = new Selection([{ in: [0], out: [0], vlans: [], toVlan: 0 }], 1);
  t.equal(selection.in(7, 1), 0);
  t.equal(selection.out(7, 1), 0);
});

await t.test('the sampler keeps its mean, and does not march in step', async t => {
  for (const oneIn of [1, 2, 10, 100]) {
    const sampler = new Sampler(oneIn, 42);
    const taken: number[] = [];
    for (let i = 0; i < 100_000; i++) if (sampler.takes()) taken.push(i);
    t.ok(Math.abs(taken.length / (100_000 / oneIn) - 1) < 0.15, `${taken.length} of 100000, one in ${oneIn}`);
    const distances = new Set(taken.map((at, i) => at - (taken[i - 1] ?? at)));
    if (oneIn > 2) t.ok(distances.size > 3);
  }
});

await t.test('how a VLAN leaves by a port', async t => {
  t.equal(exitOf({ mode: 'access', vlan: 9 }, 9), 0);
  t.equal(exitOf({ mode: 'access', vlan: 8 }, 9), undefined);
  t.equal(exitOf({ mode: 'tunnel', vlan: 9 }, 9), 0);
  const trunk = { mode: 'trunk', allowed: [[5, 9]], native: 6, translate: [[70, 7]] } as const;
  const asTrunk = {
    ...trunk,
    allowed: [[5, 9] as [number, number]],
    translate: [[70, 7] as [number, number]],
  };
  t.equal(exitOf(asTrunk, 5), 5);
  t.equal(exitOf(asTrunk, 6), 0, 'native');
  t.equal(exitOf(asTrunk, 7), 70, 'translated');
  t.equal(exitOf(asTrunk, 10), undefined);
  const hybrid = {
    mode: 'hybrid' as const,
    pvid: 1,
    untagged: [[1, 2] as [number, number]],
    tagged: [[3, 4] as [number, number]],
  };
  t.same(
    [1, 3, 5].map(of => exitOf(hybrid, of)),
    [0, 3, undefined],
  );
});
