import t from 'tap';
import { Conduits, idOf, nameOf } from '../../../../dataplane/ports/kernel/conduits.js';
import { linkByName, links } from '../../../../host/netlink.js';
import { createNetns, inNetns } from '../../../../host/netns.js';
import { close } from '../../../../host/raw.js';

const skip = process.getuid?.() === 0 ? false : 'cables need root';

await t.test('names', async t => {
  for (const number of [0, 35, 36, 36 ** 4 - 1]) {
    t.equal(idOf(nameOf('1f2e', number)), '1f2e');
    t.ok(`${nameOf('1f2e', number)}p`.length <= 15);
  }
  for (const name of [
    'weft-1f2e.0p'.replace('.0p', ''),
    'weft-1F2E.0',
    'weft-1f2e.abcde',
    'eth0',
    'weft-x.0',
  ])
    t.equal(idOf(name), undefined, name);
});

await t.test('made, quiet, and taken back; left by the dead, kept by the living', { skip }, async t => {
  const [home, away] = [createNetns(), createNetns()];
  t.teardown(() => [home, away].forEach(close));
  inNetns(home, () => {
    const conduits = new Conduits(() => 0.5);
    const conduit = conduits.make(away);
    const near = linkByName(conduit.ifname);
    t.match(near, { index: conduit.home, up: true, mtu_bytes: 65_535, kind: 'veth' });
    const far = inNetns(away, () => links().find(({ index }) => index === conduit.away));
    t.match(far, { up: true, mtu_bytes: 65_535, name: `${conduit.ifname}p` });

    const other = new Conduits(() => 0.25);
    t.same(other.removeLeftovers(), [], 'its maker is alive');
    const sibling = conduits.make(away);
    conduits.close();
    t.same(other.removeLeftovers(), [conduit.ifname, sibling.ifname]);
    t.equal(linkByName(conduit.ifname), undefined);
    t.doesNotThrow(() => conduits.remove(conduit), 'it may be gone already');

    const again = other.make(away);
    other.remove(again);
    t.equal(linkByName(again.ifname), undefined);
    const last = other.make(away);
    other.removeAll();
    t.equal(linkByName(last.ifname), undefined, 'all that it made');
    t.doesNotThrow(() => other.removeAll(), 'there may be none');
    other.close();

    const taken = new Conduits(() => 0.75);
    const numbers = [0.75, 0.1];
    const second = new Conduits(() => numbers.shift() ?? 0);
    t.equal(numbers.length, 0, 'digits that somebody has are not taken');
    taken.close();
    second.close();
  });
});
