/** Where flows go: the hash of a frame, and the table of buckets. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { BUCKETS_COUNT, Buckets, NOBODY } from '../../../dataplane/lag/buckets.js';
import * as hash from '../../../dataplane/lag/hash.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { holds, u16, u32, u8 } from '../wire/codec.js';

void t.test('buckets: shares are even, and no more move than must', async t => {
  holds(
    t,
    fc.property(
      fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 31 }), { maxLength: 32 }), {
        minLength: 1,
        maxLength: 12,
      }),
      steps => {
        const buckets = new Buckets();
        let old: number[] = [];
        for (const members of steps) {
          const before = Int32Array.from(buckets.table);
          const told = buckets.share(members);
          const moved = before.reduce((sum, member, i) => sum + (member === buckets.table[i] ? 0 : 1), 0);
          assert.equal(moved, told, 'says how many moved');
          const counts = buckets.counts();
          assert.deepEqual(
            [...counts.keys()].sort((a, b) => a - b),
            members.toSorted((a, b) => a - b),
          );
          const shares = [...counts.values()];
          if (shares.length > 0) assert(Math.max(...shares) - Math.min(...shares) <= 1, 'even');
          // Those of the lost, and what the new ones get: nothing else.
          const lost = before.reduce((sum, member) => sum + (members.includes(member) ? 0 : 1), 0);
          const added = members
            .filter(member => !old.includes(member))
            .reduce((sum, member) => sum + (counts.get(member) ?? 0), 0);
          if (members.length > 0) assert(moved <= Math.max(lost, added) + members.length, `${moved} moved`);
          old = members;
        }
      },
    ),
  );
});

void t.test('buckets: nobody, somebody, nobody', async t => {
  const buckets = new Buckets();
  t.equal(buckets.share([]), 0);
  t.equal(buckets.share([3]), BUCKETS_COUNT);
  t.equal(buckets.share([3]), 0);
  t.equal(buckets.share([]), BUCKETS_COUNT);
  t.ok(buckets.table.every(member => member === NOBODY));
});

interface Flow {
  source: number;
  destination: number;
  protocol: number;
  ports: number;
  vid: number;
}

function frameOf(
  version: 4 | 6,
  flow: Flow,
  how: { tag?: boolean; fragment?: number; length?: number } = {},
): DataView {
  const bytes = new Uint8Array(120).fill(0x5a);
  const view = new DataView(bytes.buffer);
  let at = 12;
  if (how.tag) {
    view.setUint16(at, 0x8100);
    view.setUint16(at + 2, flow.vid);
    at += 4;
  }
  view.setUint16(at, version === 4 ? 0x0800 : 0x86dd);
  at += 2;
  if (version === 4) {
    view.setUint8(at, 0x45);
    view.setUint16(at + 6, how.fragment ?? 0);
    view.setUint8(at + 9, flow.protocol);
    view.setUint32(at + 12, flow.source);
    view.setUint32(at + 16, flow.destination);
    view.setUint32(at + 20, flow.ports);
  } else {
    view.setUint8(at, 0x60);
    view.setUint8(at + 6, how.fragment === undefined ? flow.protocol : 44);
    view.setUint32(at + 20, flow.source);
    view.setUint32(at + 36, flow.destination);
    view.setUint32(at + 40, flow.ports);
  }
  return view;
}

const flows = fc.record({
  source: u32,
  destination: u32,
  protocol: fc.constantFrom(6, 17, 132),
  ports: u32,
  vid: fc.integer({ min: 1, max: 4094 }),
});
const TCP: Flow = { source: 0x0a00_0001, destination: 0x0a00_0002, protocol: 6, ports: 0x1234_0050, vid: 10 };
const bucket = (view: DataView, edit = 0): number => hash.l34(view, 0, 120, edit);

void t.test('one flow, one bucket: whatever else is in its frames', async t => {
  holds(
    t,
    fc.property(flows, fc.constantFrom(4 as const, 6 as const), u8, u16, (flow, version, ttl, label) => {
      const view = frameOf(version, flow);
      const same = frameOf(version, flow);
      if (version === 4) {
        same.setUint8(22, ttl);
        same.setUint16(18, label);
      } else {
        same.setUint8(21, ttl);
        same.setUint16(16, label);
      }
      same.setUint32(60, label);
      assert.equal(bucket(view), bucket(same));
      assert.equal(hash.l34(view, 0, 80, 0), bucket(view), 'whatever its length');
      assert.equal(
        bucket(view, vlan.EDIT_ADD | flow.vid),
        bucket(frameOf(version, flow, { tag: true })),
        'tagged or to be',
      );
    }),
  );
});

void t.test('what makes another flow', async t => {
  for (const version of [4, 6] as const) {
    const base = bucket(frameOf(version, TCP));
    for (const [says, change] of [
      ['source', { source: 0x0a00_0003 }],
      ['destination', { destination: 0x0a00_0004 }],
      ['ports', { ports: 0x1235_0050 }],
      ['protocol', { protocol: 17 }],
    ] as const)
      t.not(bucket(frameOf(version, { ...TCP, ...change })), base, `IPv${version} ${says}`);
    t.not(
      bucket(frameOf(version, TCP), vlan.EDIT_ADD | 20),
      bucket(frameOf(version, TCP), vlan.EDIT_ADD | 10),
      'VLAN',
    );
    const esp = { ...TCP, protocol: 50 };
    t.equal(
      bucket(frameOf(version, esp)),
      bucket(frameOf(version, { ...esp, ports: 5 })),
      'ESP has no ports',
    );
  }
});

void t.test('fragments go by their addresses, the first as the others', async t => {
  const all = [0x2000, 0x2001, 0x0005].map(fragment =>
    bucket(frameOf(4, { ...TCP, ports: fragment }, { fragment })),
  );
  t.equal(new Set(all).size, 1);
  t.not(bucket(frameOf(4, TCP, { fragment: 0x4000 })), all[0], "don't fragment is no fragment");
  t.equal(
    bucket(frameOf(6, { ...TCP, ports: 1 }, { fragment: 1 })),
    bucket(frameOf(6, { ...TCP, ports: 2 }, { fragment: 1 })),
  );
});

void t.test('what is not IP, or is cut short, goes by its addresses', async t => {
  const view = frameOf(4, TCP);
  for (const length of [14, 18, 33])
    t.equal(hash.l34(view, 0, length, 0), hash.l2(view, 0, length, 0), `${length} bytes`);
  const other = frameOf(4, TCP);
  other.setUint8(5, 1);
  t.not(hash.l2(view, 0, 120, 0), hash.l2(other, 0, 120, 0));
  t.equal(bucket(view), bucket(other), 'while IP flows do not care');
});

void t.test('noise never reads beyond the frame', async t => {
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: 14, maxLength: 80 }), bytes => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (const one of [hash.l2, hash.l34]) {
        const found = one(view, 0, bytes.length, 0);
        assert(found >= 0 && found < BUCKETS_COUNT);
      }
    }),
  );
});

void t.test('many flows spread evenly', async t => {
  for (const vary of ['ports', 'source'] as const) {
    const buckets = new Buckets();
    buckets.share([0, 1, 2]);
    const counts = [0, 0, 0];
    for (let i = 0; i < 9000; i++)
      counts[buckets.table[bucket(frameOf(4, { ...TCP, [vary]: TCP[vary] + i * 7 }))]!]!++;
    for (const count of counts)
      t.ok(count > 2700 && count < 3300, `${vary}: ${count} of 9000 for each of three`);
  }
});
