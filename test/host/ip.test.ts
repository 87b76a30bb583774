import t from 'tap';
import fc from 'fast-check';
import { isIPv4, isIPv6 } from 'node:net';
import { formatIp, formatMac, parseCidr, parseIp, parseMac } from '../../host/ip.js';

const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
// Mostly zeros, so that "::" has something to stand for.
const v6 = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });

await t.test('parse of format is the same', async t => {
  fc.assert(
    fc.property(v4, bytes => {
      t.same(parseIp(formatIp(bytes)), bytes);
    }),
  );
  fc.assert(
    fc.property(v6, words => {
      const bytes = Uint8Array.from(words.flatMap(word => [word >> 8, word & 0xff]));
      const text = formatIp(bytes);
      return isIPv6(text) && Buffer.from(bytes).equals(parseIp(text)!) && formatIp(parseIp(text)!) === text;
    }),
  );
});

await t.test('every spelling of an address is read, and nothing else', async () => {
  fc.assert(fc.property(fc.ipV6(), text => parseIp(text)?.length === 16));
  fc.assert(fc.property(fc.ipV4(), text => parseIp(text)?.length === 4));
  const junk = fc.array(fc.constantFrom(...'0123456789abcdefg.:/%'.split('')), { maxLength: 45 });
  fc.assert(
    fc.property(junk, chars => {
      const text = chars.join('');
      // Node takes a zone, which we do not have a place for.
      return (parseIp(text) !== undefined) === (isIPv4(text) || (isIPv6(text) && !text.includes('%')));
    }),
    { numRuns: 3000 },
  );
});

await t.test('RFC 5952', async t => {
  for (const [from, to] of [
    ['2001:0db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['2001:DB8::', '2001:db8::'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ] as const)
    t.equal(formatIp(parseIp(from)!), to);
  for (const bad of [
    '',
    '1',
    '0x7f.1',
    '01.2.3.4',
    '1.2.3.256',
    '1.2.3',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7::8',
    '::1%lo',
    '1.2.3.4::',
  ])
    t.equal(parseIp(bad), undefined, bad);
  t.throws(() => formatIp(new Uint8Array(5)), RangeError);
});

await t.test('prefixes and MAC addresses', async t => {
  t.same(parseCidr('192.0.2.1/24'), { address: Uint8Array.of(192, 0, 2, 1), prefix_bits: 24 });
  t.equal(parseCidr('2001:db8::1/64')?.prefix_bits, 64);
  t.equal(parseCidr('::/0')?.prefix_bits, 0);
  t.equal(parseCidr('192.0.2.1')?.prefix_bits, 32);
  for (const bad of ['192.0.2.1/33', '::/129', '1.2.3.4/', '1.2.3.4/08', '1.2.3.4/8/9', 'x/8', '/8'])
    t.equal(parseCidr(bad), undefined, bad);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), mac =>
      Buffer.from(mac).equals(parseMac(formatMac(mac))!),
    ),
  );
  for (const bad of ['', '0:1:2:3:4:5', '02:00:00:00:00:0g', '02:00:00:00:00:00:00'])
    t.equal(parseMac(bad), undefined);
});
