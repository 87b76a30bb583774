import fc from 'fast-check';
import t from 'tap';
import { formatIp } from '../../../host/ip.js';
import { AT_EXPORT, EXPORT_COUNTERS, newCounters } from '../../../storage/nbd/counters.js';
import { ListenerOffers, Offered } from '../../../storage/nbd/offers.js';
import { NO_RULES, admits, type OfferRules } from '../../../storage/nbd/rules.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { Later } from '../../../storage/volume/later.js';

const from = (...addresses: string[]): OfferRules => ({ ...NO_RULES, addresses });

void t.test('addresses: ranges of both families, mapped ones as IPv4', async t => {
  const rules = from('192.0.2.0/25', '2001:db8:0:40::/58', '198.51.100.7');
  for (const peer of ['192.0.2.127', '::ffff:192.0.2.1', '2001:db8:0:7f::1', '198.51.100.7', 'local'])
    t.ok(admits(rules, peer), peer);
  for (const peer of ['192.0.2.128', '::ffff:192.0.2.200', '2001:db8:0:80::1', '198.51.100.8', '::1', 'x'])
    t.notOk(admits(rules, peer), peer);
  t.notOk(admits(rules, null), 'an address that is not known');
  t.ok(admits(from('0.0.0.0/0'), '203.0.113.1'));
  t.notOk(admits(from('0.0.0.0/0'), '2001:db8::1'));
  t.ok(admits(from('::ffff:192.0.2.0/120'), '192.0.2.9'));
  t.notOk(admits(from('::ffff:192.0.2.0/120'), '192.0.3.9'));
});

void t.test('what cannot be checked admits nobody', async t => {
  t.notOk(admits(from('nonsense'), '192.0.2.1'));
  t.notOk(admits(from(), '192.0.2.1'));
  const known = { ...NO_RULES, identities: ['client', 'other'] };
  t.notOk(admits(known, '192.0.2.1'), 'who has proven nothing');
  t.notOk(admits(known, '192.0.2.1', 'client2'));
  t.ok(admits(known, '192.0.2.1', 'client'));
  t.notOk(admits({ ...known, addresses: ['198.51.100.0/24'] }, '192.0.2.1', 'client'), 'both must be right');
  t.ok(admits(known, 'local'), 'the file of a Unix socket says who may');
  t.ok(admits(NO_RULES, null));
});

void t.test('a range holds exactly the addresses that share its first bits', async () => {
  const bytes = fc.uint8Array({ minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(bytes, bytes, fc.integer({ min: 0, max: 32 }), (range, peer, prefix_bits) => {
      const bits = (ip: Uint8Array): string =>
        [...ip].map(byte => byte.toString(2).padStart(8, '0')).join('');
      const within = bits(range).slice(0, prefix_bits) === bits(peer).slice(0, prefix_bits);
      return admits(from(`${formatIp(range)}/${prefix_bits}`), formatIp(peer)) === within;
    }),
  );
});

void t.test('an export that a client may not use is not listed and not found', async t => {
  const offers = new ListenerOffers();
  const volume = new MemoryVolume(8192 + 512, new Later());
  const add = (id: number, name: string, rules: OfferRules): Offered => {
    const counters = newCounters(EXPORT_COUNTERS);
    const offered = new Offered({ id, name, volume, volumeId: 1, readOnly: false, counters, rules });
    offers.add(offered);
    return offered;
  };
  add(1, 'secret', from('192.0.2.0/24'));
  const open = add(2, 'open', {
    ...NO_RULES,
    description: 'for all',
    minimumBlock_bytes: 4096,
    connectionLimit: 1,
  });
  let refused = 0;
  const stranger = offers.seenBy('203.0.113.1', () => refused++);
  const friend = offers.seenBy('192.0.2.1', () => refused++);
  t.equal(stranger.find('secret'), null);
  t.equal(refused, 1);
  t.equal(stranger.find('open'), open);
  t.equal(stranger.find('nothing'), null);
  t.ok(friend.find('secret'));
  t.equal(refused, 1, 'only what was kept from someone counts');
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
  t.notMatch(text(stranger.listReply()), 'secret');
  t.match(text(stranger.listReply()), 'openfor all');
  t.match(text(friend.listReply()), 'secret');
  t.equal(open.size_bytes, 8192, 'whole blocks');
  t.notOk(open.full);
  open.counters[AT_EXPORT.connections] = 1;
  t.ok(open.full);
});
