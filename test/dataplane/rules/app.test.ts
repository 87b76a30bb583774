/** Flow rules on a switch of memory ports: what becomes of frames. */
import t from 'tap';
import type { FlowActions, FlowMatch, FlowRule, FlowRules, RulesView } from '../../../dataplane/contract.js';
import { RulesView as Shown } from '../../../dataplane/contract.js';
import * as checksum from '../../../dataplane/wire/checksum.js';
import * as ipv4 from '../../../dataplane/wire/ipv4.js';
import { SwitchBench } from '../switchBench.js';
import { frameOf } from './model.js';
import type { Description } from './model.js';

const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';

const packet = (d: Partial<Description> = {}): Uint8Array => {
  const bytes = frameOf({
    port: 0,
    destination: B,
    source: A,
    vlan: 1,
    priority: 0,
    isTagged: false,
    what: 'ipv4',
    etherType: 0,
    sourceIp: '10.0.0.1',
    destinationIp: '10.0.0.2',
    protocol: 17,
    sourcePort: 4000,
    destinationPort: 5000,
    flags: 0,
    dscp: 0,
    fragment: 'none',
    hasOptions: false,
    operation: 1,
    targetMac: '00:00:00:00:00:00',
    ...d,
  });
  const at = d.isTagged ? 18 : 14;
  if (d.what === undefined || d.what === 'ipv4')
    ipv4.writeChecksum(new DataView(bytes.buffer), at, ipv4.headerLength(new DataView(bytes.buffer), at));
  return bytes;
};

let number = 0;
const rule = (match: FlowMatch, actions: FlowActions, more: Partial<FlowRule> = {}): FlowRule => ({
  name: `r${number++}`,
  priority: 0,
  match,
  actions,
  ...more,
});
const rulesOf = (rules: FlowRule[], more: Partial<FlowRules> = {}): FlowRules => ({
  default: 'allow',
  meters: [],
  rules,
  ...more,
});

const PORTS = [{ name: 'a' }, { name: 'b' }, { name: 'c' }];
/** b is known to be behind port b. */
function bench(
  rules: FlowRules,
  ports: ConstructorParameters<typeof SwitchBench>[0]['ports'] = PORTS,
): SwitchBench {
  const one = new SwitchBench({ rules, ports });
  one.send('b', packet({ source: B, destination: A }));
  one.receivers();
  return one;
}
const shown = (one: SwitchBench): RulesView => Shown.parse(one.app.show('rules', {}));

void t.test('drop, allow, default, and what is counted', async t => {
  const one = bench(
    rulesOf(
      [
        rule(
          { protocols: [17], destinationPorts: [[5000, 5000]] },
          { verdict: 'drop' },
          { name: 'no', priority: 9 },
        ),
        rule({ inPorts: ['b'] }, { verdict: 'allow' }, { name: 'from-b' }),
        rule({ inPorts: ['a'], sources: ['10.0.0.0/8'] }, { verdict: 'allow' }, { name: 'ten' }),
      ],
      { default: 'drop' },
    ),
  );
  one.send(
    'a',
    packet(),
    packet({ destinationPort: 5001 }),
    packet({ destinationPort: 5001, sourceIp: '11.0.0.1' }),
  );
  t.equal(one.port('b').taken().length, 1);
  t.equal(one.port('a').count('dropRule'), 1);
  t.equal(one.port('a').count('dropRuleDefault'), 1);
  const { rules, unmatched } = shown(one);
  t.same(
    rules.map(({ name, frames }) => [name, frames]),
    [
      ['no', 2],
      ['from-b', 0],
      ['ten', 1],
    ],
  );
  t.equal(unmatched.frames, 1);
  t.equal(rules[0]!.octets, 2 * packet().length);
  t.equal(rules[0]!.lastHit_ms, 0);
});

void t.test('headers that hide what they carry do not get past rules about IP', async t => {
  const l2 = bench(
    rulesOf([rule({ sourceMacs: [{ address: B, mask: 'ff:ff:ff:ff:ff:ff' }] }, { verdict: 'allow' })]),
  );
  const l3 = bench(rulesOf([rule({ protocols: [6], destinationPorts: [[22, 22]] }, { verdict: 'drop' })]));
  const tiny = packet({ protocol: 6, fragment: 'first' });
  const cut = tiny.slice(0, 14 + 20 + 8);
  new DataView(cut.buffer).setUint16(14 + 2, 28);
  for (const one of [l2, l3]) one.send('a', cut);
  t.same(l2.receivers(), ['b'], 'who only looks at MAC addresses lets it pass');
  t.same(l3.receivers(), []);
  t.equal(l3.port('a').count('dropRulesMalformed'), 1);
});

void t.test('output goes by no database; an unknown port is told', async t => {
  const one = bench(
    rulesOf([rule({ inPorts: ['a'] }, { verdict: 'output', output: ['c', 'gone'] }, { name: 'o' })]),
  );
  one.send('a', packet());
  t.same(one.receivers(), ['c']);
  t.match(shown(one).rules[0], { problem: 'no port gone here at present' });
  one.configure({
    rules: rulesOf([rule({ inPorts: ['a'] }, { verdict: 'output', output: ['c', 'gone'] }, { name: 'o' })]),
    ports: [...PORTS, { name: 'gone' }],
  });
  one.send('a', packet());
  t.same(one.receivers(), ['c', 'gone'], 'it came');
  t.match(shown(one).rules[0], { problem: null, frames: 2 });
});

void t.test('set VLAN and priority: tags follow', async t => {
  const trunk = {
    name: 'up',
    vlan: { mode: 'trunk' as const, allowed: [[1, 4094]] as [number, number][], native: null },
  };
  const in20 = { name: 'in20', vlan: { mode: 'access' as const, vlan: 20 } };
  const one = bench(rulesOf([rule({ inPorts: ['a'] }, { verdict: 'allow', setVlan: 20, setPriority: 5 })]), [
    ...PORTS,
    trunk,
    in20,
  ]);
  const plain = packet();
  one.send('a', plain);
  t.same(one.port('in20').taken(), [plain]);
  t.same(one.port('b').taken(), [], 'it is in VLAN 20 now, where nobody knows B');
  const [tagged] = one.port('up').taken();
  t.same(tagged, new Uint8Array([...plain.slice(0, 12), 0x81, 0, (5 << 5) | 0, 20, ...plain.slice(12)]));
});

void t.test('changed bytes: checksums stay right, and others see the frame as it was', async t => {
  const rules = rulesOf([
    rule(
      { inPorts: ['a'] },
      {
        verdict: 'allow',
        setDscp: 46,
        setSourceMac: '02:00:00:00:00:77',
        setDestinationMac: B,
      },
    ),
  ]);
  const one = bench(rules);
  // Every sum there is, and options behind the header.
  for (let n = 0; n < 300; n++) {
    const before = packet({
      dscp: n % 64,
      hasOptions: n % 2 === 0,
      sourceIp: `10.0.${n & 255}.${(n * 7) & 255}`,
    });
    before[15]! |= n & 3;
    const view = new DataView(before.buffer);
    ipv4.writeChecksum(view, 14, ipv4.headerLength(view, 14));
    one.send('a', before);
    const [after] = one.port('b').taken();
    const out = new DataView(after!.buffer);
    if (checksum.sum(out, 14, ipv4.headerLength(out, 14), 0) !== 0xffff) t.fail(`wrong sum at ${n}`);
    if (out.getUint8(15) !== ((46 << 2) | (n & 3))) t.fail(`wrong code point at ${n}`);
    if (after!.slice(6, 12).join() !== '2,0,0,0,0,119') t.fail('wrong source');
  }
  const six = packet({ what: 'ipv6', sourceIp: '2001:db8::1', destinationIp: '2001:db8::2', dscp: 63 });
  six[15]! |= 0x3f;
  one.send('a', six);
  const [after] = one.port('b').taken();
  t.equal(
    new DataView(after!.buffer).getUint16(14),
    0x6000 | (46 << 6) | 0x3f,
    'version, congestion bits and flow label stay',
  );
  t.equal(one.rig.pool.usedCount, 0, 'no slot is left behind');
});

void t.test('a frame whose slot others hold is copied before it is changed', async t => {
  const one = bench(rulesOf([rule({ inPorts: ['a'] }, { verdict: 'allow', setDscp: 46 })]));
  const { port } = one.port('a');
  const receive = port.receive.bind(port);
  let [slot, at, length] = [-1, 0, 0];
  port.receive = (table, limit) => {
    const hasMore = receive(table, limit);
    [slot, at, length] = [...table.words.subarray(0, 3)] as [number, number, number];
    one.rig.pool.retain(slot);
    return hasMore;
  };
  one.send('a', packet());
  t.same(one.rig.arena.bytes.slice(at, at + length), packet(), 'what another holds is as it was');
  one.rig.pool.release(slot);
  t.equal(one.port('b').taken()[0]![15], 46 << 2);
  t.equal(one.rig.pool.usedCount, 0);
});

void t.test('continue: counts, and asks the next; all see the frame as it came', async t => {
  const one = bench(
    rulesOf([
      rule({}, { verdict: 'continue', setDscp: 10 }, { name: 'mark', priority: 9 }),
      rule({ protocols: [17] }, { verdict: 'continue' }, { name: 'count', priority: 8 }),
      rule({ dscps: [10] }, { verdict: 'drop' }, { name: 'marked', priority: 7 }),
    ]),
  );
  one.send('a', packet());
  const [after] = one.port('b').taken();
  t.equal(after![15], 10 << 2);
  // And what station b said in the beginning.
  t.same(
    shown(one).rules.map(({ frames }) => frames),
    [2, 2, 0],
  );
  t.equal(shown(one).unmatched.frames, 2);
});

void t.test('a meter lets its rate pass, after its burst', async t => {
  const meters: FlowRules['meters'] = [
    { name: 'slow', rate_bps: 8_000_000, burst_bytes: 10_000, exceed: 'drop' },
    { name: 'mark', rate_bps: 8000, burst_bytes: 1, exceed: { setDscp: 8 } },
  ];
  const one = bench(
    rulesOf(
      [
        rule({ inPorts: ['a'] }, { verdict: 'allow', meter: 'slow' }),
        rule({ inPorts: ['c'] }, { verdict: 'allow', meter: 'mark', setDscp: 46 }),
      ],
      { meters },
    ),
  );
  const big = new Uint8Array([...packet(), ...new Uint8Array(1000 - packet().length)]);
  for (let i = 0; i < 20; i++) one.send('a', big);
  t.equal(one.port('b').taken().length, 10, 'the burst');
  t.equal(one.port('a').count('dropRuleMeter'), 10);
  for (let i = 0; i < 100; i++) {
    one.rig.clock.now_ms += 1;
    one.send('a', big, big);
  }
  t.equal(one.port('b').taken().length, 100, 'a thousand bytes in each of a hundred milliseconds');
  t.match(shown(one).meters[0], { conformedFrames: 110, exceededFrames: 110 });
  one.send('c', packet());
  t.equal(one.port('b').taken()[0]![15], 8 << 2, 'what exceeds is marked');
});

void t.test('a change keeps the counters of what did not change, and loses no frame', async t => {
  const keep = rule({ inPorts: ['a'] }, { verdict: 'continue' }, { name: 'keep' });
  const other = (port: number) =>
    rule({ protocols: [17], sourcePorts: [[port, port]] }, { verdict: 'allow' }, { name: 'other' });
  const one = bench(rulesOf([keep, other(1)]));
  let arrived = 0;
  for (let i = 0; i < 50; i++) {
    one.send('a', packet(), packet());
    one.configure({ rules: rulesOf([keep, other(i)]), ports: PORTS });
    arrived += one.port('b').taken().length;
  }
  t.equal(arrived, 100);
  t.match(shown(one).rules, [
    { name: 'keep', frames: 100 },
    { name: 'other', frames: 0 },
  ]);
  one.configure({ ports: PORTS });
  one.send('a', packet());
  t.equal(one.port('b').taken().length, 1, 'without rules as before');
});

void t.test('a port of the same name gets its rules again, another of the same number does not', async t => {
  const rules = rulesOf([rule({ inPorts: ['c'] }, { verdict: 'drop' })]);
  const one = bench(rules);
  one.send('c', packet());
  t.same(one.receivers(), []);
  one.configure({ rules, ports: [{ name: 'a' }, { name: 'b' }, { name: 'd' }] });
  one.send('d', packet());
  t.same(one.receivers(), ['b']);
  one.configure({ rules, ports: [{ name: 'a' }, { name: 'b' }, { name: 'd' }, { name: 'c' }] });
  one.send('c', packet());
  t.same(one.receivers(), []);
});

void t.test('logs say what came, once a second', async t => {
  const one = bench(rulesOf([rule({ inPorts: ['a'] }, { verdict: 'drop', log: true }, { name: 'loud' })]));
  one.rig.clock.now_ms = 5000;
  for (let i = 0; i < 100; i++) one.send('a', packet());
  t.equal(one.told.length, 1);
  t.match(one.told[0], {
    what: 'rule',
    port: 'a',
    message: /rule "loud" \(drop\): VLAN 1, 02:.*0a > 02:.*0b, udp 10.0.0.1:4000 > 10.0.0.2:5000/,
  });
  one.rig.clock.now_ms = 6001;
  one.send('a', packet());
  t.match(one.told[1], { message: /101 frames so far/ });
});

void t.test('a rule that mirrors', async t => {
  const one = new SwitchBench({
    rules: rulesOf([rule({ inPorts: ['a'] }, { verdict: 'drop', mirror: 'watch' })]),
    mirrors: [{ name: 'watch', in: [], out: [], vlans: [], destination: { port: 'c' } }],
    ports: PORTS,
  });
  one.send('a', packet());
  t.same(one.port('c').taken(), [packet()], 'a copy of what is dropped');
  t.same(one.receivers(), []);
});
