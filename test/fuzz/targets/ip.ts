import assert from 'node:assert';
import { isIPv4, isIPv6 } from 'node:net';
import { formatIp, parseCidr, parseIp, parseMac } from '../../../host/ip.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const TEXTS = [
  '192.0.2.1',
  '255.255.255.255/32',
  '2001:db8::1/64',
  '::ffff:192.0.2.1',
  '1:2:3:4:5:6:7:8',
  '::',
  '02:00:5e:00:00:01',
];

export const target: Target = {
  says: 'text of addresses: agrees with node:net, and what is told back is read again',
  samples: TEXTS.map(bytesOf),
  words: ['::', ':', '.', '/', '0', 'ffff', '%lo', '256', '-1', '0x1'].map(bytesOf),
  run(input) {
    const text = Buffer.from(input.subarray(0, 200)).toString('latin1');
    const ip = parseIp(text);
    // Node takes a zone behind a percent sign, which we have no place for.
    assert.equal(ip !== undefined, isIPv4(text) || (isIPv6(text) && !text.includes('%')));
    if (ip !== undefined) assert.deepEqual(parseIp(formatIp(ip)), ip);
    const cidr = parseCidr(text);
    assert(cidr === undefined || (cidr.prefix_bits >= 0 && cidr.prefix_bits <= cidr.address.length * 8));
    const mac = parseMac(text);
    assert(mac === undefined || mac.length === 6);
  },
};
