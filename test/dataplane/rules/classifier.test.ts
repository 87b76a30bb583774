/** Random rules and frames: what the compiled tables say is what reading the rules one by one says, cached or not. */
import t from 'tap';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { FlowMatch, FlowRule } from '../../../dataplane/contract.js';
import { Classifier } from '../../../dataplane/rules/classifier.js';
import { parse } from '../../../dataplane/switch/headers.js';
import { Packet } from '../../../dataplane/switch/packet.js';
import { holds } from '../wire/codec.js';
import { acting, frameOf } from './model.js';
import type { Description } from './model.js';

const PORTS = 4;
const portName = (port: number): string => `p${port}`;
const portNumber = (name: string): number | undefined =>
  /^p[0-3]$/.test(name) ? Number(name.slice(1)) : undefined;

const oneOf = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const mac = oneOf('02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:01:01', '12:34:56:78:9a:bc');
const macs = fc.array(
  fc.record(
    {
      address: mac,
      mask: oneOf('ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:00:00', '00:00:00:00:ff:ff', '00:00:00:00:00:01'),
    },
    { noNullPrototype: true },
  ),
  { minLength: 1, maxLength: 2 },
);
const v4 = oneOf('10.0.0.1', '10.0.0.2', '10.0.1.1', '10.128.0.1', '192.168.1.1', '255.255.255.255');
const v6 = oneOf('2001:db8::1', '2001:db8::2', '2001:db8:0:1::1', 'fe80::1', 'ff02::1');
const prefixes = fc.array(
  oneOf(
    '10.0.0.0/8',
    '10.0.0.0/24',
    '10.0.0.1',
    '10.0.0.2/31',
    '0.0.0.0/0',
    '192.168.0.0/16',
    '2001:db8::/32',
    '2001:db8::/64',
    'fe80::1',
    '::/0',
    '2001:db8::2/127',
  ),
  { minLength: 1, maxLength: 2 },
);
const port16 = oneOf(0, 1, 22, 53, 80, 81, 443, 1023, 1024, 40_000, 65_534, 65_535);
const range = (n: fc.Arbitrary<number>): fc.Arbitrary<[number, number]> =>
  fc.tuple(n, n).map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
const portRanges = fc.array(range(port16), { minLength: 1, maxLength: 2 });
const protocol = oneOf(1, 6, 6, 17, 17, 58, 132, 47, 136);
const vlan = oneOf(1, 2, 10, 20, 21, 4094);

const description: fc.Arbitrary<Description> = fc
  .record(
    {
      port: fc.nat({ max: PORTS - 1 }),
      destination: mac,
      source: mac,
      vlan,
      priority: fc.nat({ max: 7 }),
      isTagged: fc.boolean(),
      what: oneOf<Description['what']>('ipv4', 'ipv4', 'ipv6', 'ipv6', 'arp', 'other'),
      etherType: oneOf(0x88cc, 0x8847, 0x1234, 60),
      sourceIp: v4,
      destinationIp: v4,
      protocol,
      sourcePort: port16,
      destinationPort: port16,
      flags: oneOf(2, 0x12, 0x10, 4, 0x18),
      dscp: oneOf(0, 8, 46, 63),
      fragment: oneOf<Description['fragment']>('none', 'none', 'none', 'first', 'later'),
      hasOptions: fc.boolean(),
      operation: oneOf(1, 2, 3),
      targetMac: mac,
    },
    { noNullPrototype: true },
  )
  .chain(d =>
    d.what === 'ipv6'
      ? fc.tuple(v6, v6).map(([sourceIp, destinationIp]) => ({ ...d, sourceIp, destinationIp }))
      : fc.constant(d),
  )
  .map(d => (d.isTagged ? d : { ...d }));

const list = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { minLength: 1, maxLength: 3 });
const match = fc.record(
  {
    inPorts: list(oneOf('p0', 'p1', 'p2', 'gone')),
    sourceMacs: macs,
    destinationMacs: macs,
    etherTypes: list(oneOf(0x0800, 0x86dd, 0x0806, 0x88cc, 60)),
    vlans: list(range(vlan)),
    priorities: list(fc.nat({ max: 7 })),
    arp: fc.record(
      {
        operations: list(oneOf(1, 2)),
        senderMacs: macs,
        targetMacs: macs,
        senders: prefixes,
        targets: prefixes,
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
    sources: prefixes,
    destinations: prefixes,
    ipVersion: oneOf<4 | 6>(4, 6),
    protocols: list(protocol),
    sourcePorts: portRanges,
    destinationPorts: portRanges,
    tcpFlags: list(fc.record({ value: oneOf(2, 0x10, 0), mask: oneOf(2, 0x12) }, { noNullPrototype: true })),
    icmp: list(
      fc.record(
        { version: oneOf<4 | 6>(4, 6), type: oneOf(1, 22, 53), code: oneOf(0, 1) },
        { requiredKeys: ['version', 'type'], noNullPrototype: true },
      ),
    ),
    dscps: list(oneOf(0, 8, 46)),
    fragment: oneOf<NonNullable<FlowMatch['fragment']>>('none', 'first', 'later', 'any'),
  },
  { requiredKeys: [], noNullPrototype: true },
);

/** Few fields each, or nothing would ever match. */
const sparse = fc.tuple(match, fc.array(fc.nat({ max: 15 }), { maxLength: 3 })).map(([all, kept]) => {
  const keys = Object.keys(all) as (keyof FlowMatch)[];
  const chosen = new Set(kept.map(n => keys[n % Math.max(1, keys.length)]));
  return Object.fromEntries(keys.filter(key => chosen.has(key)).map(key => [key, all[key]])) as FlowMatch;
});

const rules: fc.Arbitrary<FlowRule[]> = fc
  .array(fc.tuple(sparse, fc.nat({ max: 3 }), oneOf<'drop' | 'continue'>('drop', 'drop', 'continue')), {
    maxLength: 25,
  })
  .map(all =>
    all.map(([m, priority, verdict], i) => ({ name: `r${i}`, priority, match: m, actions: { verdict } })),
  );

function packetOf(d: Description): Packet {
  const bytes = frameOf(d);
  const packet = new Packet(new DataView(bytes.buffer));
  packet.length_bytes = bytes.length;
  packet.port = d.port;
  packet.vlan = d.vlan;
  packet.priority = d.priority;
  return packet;
}

function namesOf(classifier: Classifier, packet: Packet): string[] {
  const chain = classifier.classify(packet);
  const ranks =
    chain === 0 ? [] : chain <= classifier.rules.length ? [chain - 1] : [...classifier.chain(chain)];
  return ranks.map(rank => classifier.rules[rank]!.name);
}

void t.test('as read one by one', async t => {
  let matched = 0;
  let chained = 0;
  holds(
    t,
    fc.property(rules, fc.array(description, { minLength: 1, maxLength: 40 }), (given, frames) => {
      // So small a cache that flows push each other out.
      const classifier = new Classifier(given, portNumber, PORTS, 8);
      // One that is refused, which is told, matches nothing.
      const refused = new Set(
        classifier.rules.filter((_rule, rank) => /multiply/.test(classifier.problems[rank] ?? '')),
      );
      const set = given.filter(one => !refused.has(one));
      for (let round = 0; round < 2; round++)
        for (const d of frames) {
          const packet = packetOf(d);
          const expected = acting(set, d, portName);
          const found = namesOf(classifier, packet);
          assert.equal(packet.isMalformed, false);
          assert.deepEqual(found, expected);
          if (expected.length > 0) matched++;
          if (expected.length > 1) chained++;
          const looksBeyond = set.some(
            ({ match: { inPorts, vlans: _v, sourceMacs: _s, destinationMacs: _d, ...rest } }) =>
              Object.keys(rest).length > 0 && (inPorts === undefined || inPorts.includes(portName(d.port))),
          );
          if (!looksBeyond) assert.ok(classifier.isLayer2(d.port));
        }
    }),
    { numRuns: 400 },
  );
  t.ok(matched > 500 && chained > 50, `enough matched: ${matched}, in chains ${chained}`);
});

const tcp = (d: Partial<Description>): Description => ({
  port: 0,
  destination: '02:00:00:00:00:01',
  source: '02:00:00:00:00:02',
  vlan: 1,
  priority: 0,
  isTagged: false,
  what: 'ipv4',
  etherType: 0,
  sourceIp: '10.0.0.1',
  destinationIp: '10.0.0.2',
  protocol: 6,
  sourcePort: 40_000,
  destinationPort: 80,
  flags: 2,
  dscp: 0,
  fragment: 'none',
  hasOptions: false,
  operation: 1,
  targetMac: '00:00:00:00:00:00',
  ...d,
});

const rule = (name: string, m: FlowMatch, priority = 0): FlowRule => ({
  name,
  priority,
  match: m,
  actions: { verdict: 'drop' },
});

void t.test('the cache holds what rules tell apart, and no more', async t => {
  const classifier = new Classifier(
    [rule('web', { inPorts: ['p1'], protocols: [6], destinationPorts: [[80, 90]] })],
    portNumber,
    PORTS,
  );
  const through = (d: Partial<Description>): void => void classifier.classify(packetOf(tcp(d)));
  for (let port = 1024; port < 4000; port++) through({ port: 1, sourcePort: port });
  t.equal(classifier.cache.count, 1, "clients' ports are looked at by no rule");
  for (let port = 1024; port < 4000; port++) through({ port: 1, destinationPort: port });
  t.equal(classifier.cache.count, 2, 'ports behind the last range are all alike');
  for (let port = 0; port < 3000; port++) through({ port: 1, protocol: 17, destinationPort: port });
  t.equal(classifier.cache.count, 3, 'a rule about TCP tells nothing of UDP apart');
  for (let port = 0; port < 3000; port++) through({ port: port & 1 ? 0 : 2, destinationPort: port });
  t.equal(classifier.cache.count, 4, 'nor does it of other ports, which are all one');
});

void t.test('what a rule says twice is not multiplied out twice', async t => {
  const count = (match: FlowMatch): number =>
    new Classifier([rule('r', match)], portNumber, PORTS).space.entryCount;
  const twice: FlowMatch = {
    vlans: [
      [1, 1],
      [1, 4094],
    ],
    sources: ['10.0.0.0/8', '10.0.0.0/8'],
    destinationPorts: [
      [81, 65_534],
      [80, 443],
    ],
  };
  t.equal(
    count(twice),
    count({ vlans: [[1, 4094]], sources: ['10.0.0.0/8'], destinationPorts: [[80, 65_534]] }),
  );
});

void t.test('what is wrong with a rule is said', async t => {
  const classifier = new Classifier(
    [
      rule('lost', { inPorts: ['p9'] }, 5),
      rule('mixed', { sources: ['10.0.0.1'], destinations: ['fe80::1'] }, 4),
      rule(
        'wide',
        {
          sourcePorts: Array.from({ length: 60 }, (_, i) => [i * 1000 + 1, i * 1000 + 998]),
          destinationPorts: Array.from({ length: 60 }, (_, i) => [i * 1000 + 1, i * 1000 + 998]),
        },
        3,
      ),
      rule('good', {}, 2),
    ],
    portNumber,
    PORTS,
  );
  t.match(classifier.problems, [/no port p9/, /nothing can match/, /multiply to more than/, null]);
  t.same(namesOf(classifier, packetOf(tcp({}))), ['good']);
});

void t.test(
  'whatever a rule can look at makes another flow, also where the frame is known already',
  async t => {
    const one: [FlowMatch, Partial<Description>][] = [
      [{ inPorts: ['p1'] }, { port: 1 }],
      [{ vlans: [[9, 9]] }, { vlan: 9 }],
      [{ priorities: [3] }, { priority: 3 }],
      [
        { destinationMacs: [{ address: '02:00:00:00:01:01', mask: 'ff:ff:ff:ff:ff:ff' }] },
        { destination: '02:00:00:00:01:01' },
      ],
      [
        { sourceMacs: [{ address: '12:34:56:78:9a:bc', mask: 'ff:ff:ff:ff:ff:ff' }] },
        { source: '12:34:56:78:9a:bc' },
      ],
      [{ dscps: [46] }, { dscp: 46 }],
      [{ protocols: [17] }, { protocol: 17 }],
      [{ sourcePorts: [[7, 7]], protocols: [6] }, { sourcePort: 7 }],
      [{ destinationPorts: [[7, 7]], protocols: [6] }, { destinationPort: 7 }],
      [{ tcpFlags: [{ value: 4, mask: 4 }] }, { flags: 4 }],
      [{ fragment: 'first' }, { fragment: 'first' }],
      [{ sources: ['10.9.0.0/16', '2001:db8:9::/48'] }, { sourceIp: '10.9.0.1' }],
      [{ destinations: ['10.9.0.0/16', '2001:db8:9::/48'] }, { destinationIp: '10.9.0.1' }],
    ];
    const six = (d: Description): Description => ({
      ...d,
      what: 'ipv6',
      sourceIp: d.sourceIp === '10.9.0.1' ? '2001:db8:9::1' : '2001:db8::1',
      destinationIp: d.destinationIp === '10.9.0.1' ? '2001:db8:9::1' : '2001:db8::2',
    });
    for (const family of [(d: Description): Description => d, six]) {
      const set = one.map(([match], i) => rule(`f${i}`, match));
      const classifier = new Classifier(set, portNumber, PORTS);
      const base = family(tcp({}));
      for (let round = 0; round < 2; round++)
        for (const [i, [, change]] of one.entries()) {
          t.same(namesOf(classifier, packetOf(base)), []);
          t.same(namesOf(classifier, packetOf(family(tcp(change)))), [`f${i}`], JSON.stringify(change));
        }
      t.ok(classifier.exact.hits > 20, 'most were known at first sight');
    }
  },
);

void t.test('a thousand rules: masks, not rules, are what a lookup costs', async t => {
  const many = Array.from({ length: 1000 }, (_, i) =>
    rule(
      `r${i}`,
      { destinations: [`10.${i >> 8}.${i & 255}.0/24`], protocols: [6], destinationPorts: [[443, 443]] },
      i,
    ),
  );
  const classifier = new Classifier(many, portNumber, PORTS);
  t.equal(classifier.space.tupleCount, 1);
  t.equal(classifier.space.entryCount, 1000);
  t.same(namesOf(classifier, packetOf(tcp({ destinationIp: '10.2.7.9', destinationPort: 443 }))), ['r519']);
});

void t.test('parse is told to look once', async t => {
  const packet = packetOf(tcp({}));
  parse(packet);
  t.equal(packet.destinationPort, 80);
  packet.view.setUint16(14 + 20 + 2, 81);
  parse(packet);
  t.equal(packet.destinationPort, 80);
});
