import t from 'tap';
import { VlanMembership } from '../../../dataplane/switch/vlanMembership.js';

void t.test('access', async t => {
  const vlans = new VlanMembership();
  vlans.set(3, { mode: 'access', vlan: 4094 });
  t.equal(vlans.pvid(3), 4094);
  t.ok(vlans.isAccess(3));
  t.ok(vlans.has(3, 4094));
  for (const vid of [0, 1, 4093, 4095]) t.notOk(vlans.has(3, vid), `${vid}`);
  t.same([...vlans.members(4094)], [3]);
});

void t.test('trunk: edges of ranges, native without being allowed', async t => {
  const vlans = new VlanMembership();
  vlans.set(0, {
    mode: 'trunk',
    allowed: [
      [31, 33],
      [1, 1],
      [4094, 4094],
    ],
    native: 100,
  });
  const members = Array.from({ length: 4096 }, (_, vid) => vid).filter(vid => vlans.has(0, vid));
  t.same(members, [1, 31, 32, 33, 100, 4094]);
  t.equal(vlans.pvid(0), 100);
  t.notOk(vlans.isAccess(0));
  vlans.set(0, { mode: 'trunk', allowed: [[1, 4094]], native: null });
  t.equal(vlans.pvid(0), 0, 'what was before is gone');
  t.ok(vlans.has(0, 2000));
});

void t.test('many ports; lists follow every change', async t => {
  const vlans = new VlanMembership();
  for (let port = 0; port < 100; port++) vlans.set(port, { mode: 'access', vlan: 1 + (port % 2) });
  t.equal(vlans.members(1).length, 50);
  t.equal(vlans.members(2).length, 50);
  vlans.set(0, { mode: 'access', vlan: 2 });
  t.equal(vlans.members(1).length, 49);
  t.equal(vlans.members(2).length, 51);
  vlans.clear(0);
  t.equal(vlans.members(2).length, 50);
  t.same([...vlans.members(3)], []);
});
