/**
 * Forwarding decisions as small tables: the switch, then a line per frame:
 *
 *   in-port  destination  source  tags  ->  outcome
 *
 * Stations are single letters (a is 02:00:00:00:00:61). Tags: `-` none, `10` a VLAN, `p5` priority 5 of no VLAN,
 * `10.20` two tags, `10p3` a priority in one, `s10` a service tag. The outcome names each port it leaves by with the tags it then has, `drop REASON` otherwise.
 */
import fc from 'fast-check';
import t from 'tap';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { DROP, PORT_COUNTERS } from '../../../dataplane/switch/counters.js';
import { FLOOD, Relay } from '../../../dataplane/switch/relay.js';
import type { Membership, PrivateVlanSet } from '../../../dataplane/switch/vlanMembership.js';

const access = (vid: number): Membership => ({ mode: 'access', vlan: vid });
const trunk = (allowed: [number, number][], native: number | null): Membership => ({
  mode: 'trunk',
  allowed,
  native,
});

const GROUPS: Record<string, string> = {
  all: 'ff:ff:ff:ff:ff:ff',
  group: '01:00:5e:00:00:01',
  stp: '01:80:c2:00:00:00',
  lldp: '01:80:c2:00:00:0e',
  mvrp: '01:80:c2:00:00:21',
  zero: '00:00:00:00:00:00',
};
const address = (name: string): string => GROUPS[name] ?? `02:00:00:00:00:${name.charCodeAt(0).toString(16)}`;

function tagWord(text: string): [number, number] {
  if (text.startsWith('p')) return [0x8100, Number(text.slice(1)) << 13];
  const service = text.startsWith('s');
  const [vid = '', priority = '0'] = (service ? text.slice(1) : text).split('p');
  return [service ? 0x88a8 : 0x8100, Number(vid) | (Number(priority) << 13)];
}

function frame(to: string, from: string, tags: string): Uint8Array {
  const stack = tags === '-' ? [] : tags.split('.').map(tagWord);
  const bytes = new Uint8Array(14 + stack.length * 4 + 46);
  const view = new DataView(bytes.buffer);
  ethernet.emitAddress(view, 0, address(to));
  ethernet.emitAddress(view, 6, address(from));
  stack.forEach(([type, control], i) => {
    view.setUint16(12 + i * 4, type);
    view.setUint16(14 + i * 4, control);
  });
  view.setUint16(12 + stack.length * 4, 0x0800);
  return bytes;
}

/** The tags of a frame in the notation of the tables. */
function tagsOf(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer);
  const tags: string[] = [];
  for (let at = 12; ; at += 4) {
    const type = view.getUint16(at);
    if (type !== 0x8100 && type !== 0x88a8) return tags.length === 0 ? '-' : tags.join('.');
    const control = view.getUint16(at + 2);
    const priority = control >>> 13;
    tags.push((type === 0x88a8 ? 's' : '') + (control & 0xfff) + (priority === 0 ? '' : `p${priority}`));
  }
}

function edited(bytes: Uint8Array, edit: number): Uint8Array {
  const room = new Uint8Array(8 + bytes.length);
  room.set(bytes, 8);
  const at = vlan.editInPlace(new DataView(room.buffer), 8, edit);
  return room.slice(at);
}

function outcomeOf(relay: Relay, names: string[], bytes: Uint8Array, port: number, length: number): string {
  const outcome = relay.decide(new DataView(bytes.buffer), 0, length, port, 0);
  if (outcome <= DROP) return `drop ${PORT_COUNTERS[DROP - outcome]}`;
  const ports = outcome === FLOOD ? [...relay.vlans.members(relay.vlan)].filter(p => p !== port) : [outcome];
  if (ports.length === 0) return 'nobody';
  return ports.map(p => `${names[p]}:${tagsOf(edited(bytes, relay.edit(p)))}`).join(' ');
}

type Asserts = Pick<typeof t, 'equal'>;

function table(
  t: Asserts,
  ports: Record<string, Membership>,
  text: string,
  privateVlans: PrivateVlanSet[] = [],
): void {
  const relay = new Relay(1000, 300_000);
  relay.vlans.setPrivate(privateVlans);
  const names = Object.keys(ports);
  names.forEach((name, index) => relay.vlans.set(index, ports[name]!));
  for (const line of text.trim().split('\n')) {
    const [left, wanted] = line.split('->').map(part => part.trim()) as [string, string];
    const [port, to, from, tags, cut] = left.split(/\s+/) as [string, string, string, string, string?];
    const bytes = frame(to, from, tags);
    const got = outcomeOf(
      relay,
      names,
      bytes,
      names.indexOf(port),
      cut === undefined ? bytes.length : Number(cut),
    );
    t.equal(got, wanted, line.trim());
  }
}

void t.test('learning and forgetting to flood', async t => {
  table(
    t,
    { one: access(10), two: access(10), three: access(10) },
    `
    one   b    a    -   -> two:- three:-
    two   a    b    -   -> one:-
    one   b    a    -   -> two:-
    one   all  a    -   -> two:- three:-
    one   group a   -   -> two:- three:-
    three b    a    -   -> two:-
    two   a    b    -   -> three:-
    three a    c    -   -> drop dropSamePort
    one   a    zero -   -> three:-
    one   zero a    -   -> two:- three:-
    two   d    group -  -> one:- three:-
    one   d    a    -   -> two:- three:-
  `,
  );
});

void t.test('VLANs are apart, also for the same station', async t => {
  table(
    t,
    { ten: access(10), ten2: access(10), twenty: access(20), both: trunk([[10, 20]], null) },
    `
    ten    all a -   -> ten2:- both:10
    twenty all a -   -> both:20
    both   a   b 10  -> ten:-
    both   a   b 20  -> twenty:-
    both   all b 15  -> nobody
    both   all b 30  -> drop dropVlanNotMember
    both   all b -   -> drop dropUntagged
    both   all b p5  -> drop dropUntagged
    both   all b 4095 -> drop dropVlanReserved
    ten    b   a -   -> both:10
  `,
  );
});

void t.test('access ports and tags', async t => {
  table(
    t,
    { a: access(10), b: access(10), up: trunk([[10, 10]], null) },
    `
    a all a 10     -> b:- up:10
    a all a p5     -> b:- up:10p5
    a all a 20     -> drop dropVlanNotMember
    a all a 4095   -> drop dropVlanReserved
    a all a 10.20  -> drop dropDoubleTagged
    a all a p0.20  -> drop dropDoubleTagged
    a all a s20    -> b:s20 up:10.s20
  `,
  );
});

void t.test('a trunk with a native VLAN', async t => {
  table(
    t,
    { tap: trunk([[10, 12]], 1), one: access(1), ten: access(10), other: trunk([[1, 20]], 10) },
    `
    tap all a -     -> one:- other:1
    tap all a 1     -> one:- other:1
    tap all a 10    -> ten:- other:-
    tap all a p3    -> one:- other:1p3
    one all b -     -> tap:- other:1
    ten all b -     -> tap:10 other:-
    other all c -   -> tap:10 ten:-
    other all c 20  -> nobody
    tap all a 20    -> drop dropVlanNotMember
    tap all a 13    -> drop dropVlanNotMember
    tap all a 9     -> drop dropVlanNotMember
  `,
  );
});

void t.test('hybrid ports: some VLANs without a tag, others with', async t => {
  table(
    t,
    {
      h: { mode: 'hybrid', pvid: 10, untagged: [[10, 11]], tagged: [[20, 21]] },
      ten: access(10),
      eleven: access(11),
      twenty: access(20),
      up: trunk([[1, 30]], null),
    },
    `
    h      all a -    -> ten:- up:10
    h      all a 10   -> ten:- up:10
    h      all a 11   -> eleven:- up:11
    h      all a 20   -> twenty:- up:20
    h      all a 30   -> drop dropVlanNotMember
    eleven all b -    -> h:- up:11
    twenty all b -    -> h:20 up:20
    up     all c 11p3 -> h:- eleven:-
    up     all c 21p3 -> h:21p3
    h      all a p5   -> ten:- up:10p5
  `,
  );
  table(
    t,
    { h: { mode: 'hybrid', pvid: 10, untagged: [], tagged: [[20, 20]] }, up: trunk([[1, 30]], null) },
    `
    up all c 10 -> h:10
    h  all a -  -> up:10
  `,
  );
});

void t.test('tunnels: what a customer sends crosses as it is, under a service tag', async t => {
  const provider: Membership = { mode: 'trunk', allowed: [[100, 200]], native: null, tpid: 0x88a8 };
  table(
    t,
    {
      c1: { mode: 'tunnel', vlan: 100 },
      c2: { mode: 'tunnel', vlan: 100 },
      d: { mode: 'tunnel', vlan: 200 },
      p: provider,
      q: provider,
    },
    `
    c1 all a -        -> c2:- p:s100 q:s100
    c1 all a 10       -> c2:10 p:s100.10 q:s100.10
    c1 all a 10.20    -> c2:10.20 p:s100.10.20 q:s100.10.20
    c1 all a s7       -> c2:s7 p:s100.s7 q:s100.s7
    p  all b s100.10  -> c1:10 c2:10 q:s100.10
    p  all b s100     -> c1:- c2:- q:s100
    p  all b s200.5   -> d:5 q:s200.5
    p  all b 100      -> drop dropUntagged
    p  all b s300     -> drop dropVlanNotMember
  `,
  );
  table(
    t,
    { c: { mode: 'tunnel', vlan: 100 }, up: trunk([[1, 4094]], null), p: provider },
    `
    c  all a 10       -> up:100.10 p:s100.10
    up all b 100.10   -> c:10 p:s100.10
    p  all d s100p3.10 -> c:10 up:100p3.10
  `,
  );
});

void t.test('translation, both ways', async t => {
  table(
    t,
    {
      x: {
        mode: 'trunk',
        allowed: [[10, 20]],
        native: null,
        translate: [
          [110, 10],
          [111, 11],
        ],
      },
      ten: access(10),
      up: trunk([[1, 200]], null),
    },
    `
    x   all a 110    -> ten:- up:10
    x   all a 110p4  -> ten:- up:10p4
    x   all a 12     -> up:12
    ten all b -      -> x:110 up:10
    up  all c 10p2   -> x:110p2 ten:-
    up  all c 11     -> x:111
    up  all c 12     -> x:12
    x   all a 30     -> drop dropVlanNotMember
    x   all a 10     -> drop dropVlanNotMember
  `,
  );
  // Two VLANs that change places.
  table(
    t,
    {
      x: {
        mode: 'trunk',
        allowed: [[10, 11]],
        native: null,
        translate: [
          [10, 11],
          [11, 10],
        ],
      },
      up: trunk([[10, 11]], null),
    },
    `
    x   all a 10     -> up:11
    x   all a 11     -> up:10
    up  all b 10     -> x:11
  `,
  );
});

const vids = fc.integer({ min: 1, max: 4094 });
const tpids = fc.constantFrom(0x8100, 0x88a8, 0x9100);
/** A trunk that has the VLAN, under a number of its own or not, whatever its tags. */
const trunkOf = fc.record({ tpid: tpids, wire: fc.option(vids, { nil: undefined }), isNative: fc.boolean() });

void t.test('whatever it leaves a trunk as, the same kind of trunk takes it back as it was', async t => {
  fc.assert(
    fc.property(trunkOf, trunkOf, vids, fc.nat({ max: 7 }), (from, to, vid, priority) => {
      const port = ({ tpid, wire, isNative }: typeof from): Membership => ({
        mode: 'trunk',
        allowed: [[vid, vid]],
        native: isNative ? vid : null,
        tpid,
        translate: wire === undefined ? undefined : [[wire, vid]],
      });
      const relay = new Relay(100, 300_000);
      [from, to, to].forEach((each, number) => relay.vlans.set(number, port(each)));
      const bytes = frame('all', 'a', '-');
      const tag = (from.tpid << 16) | (priority << 13) | (from.wire ?? vid);
      const inside = new Uint8Array([...bytes.slice(0, 12), 0, 0, 0, 0, ...bytes.slice(12)]);
      new DataView(inside.buffer).setInt32(12, tag);
      const one = relay.decide(new DataView(inside.buffer), 0, inside.length, 0, 0);
      if (one !== FLOOD || relay.vlan !== vid) return false;
      // Out by port 1, over the cable, and in by port 2, which is alike.
      const onWire = edited(inside, relay.edit(1));
      const two = relay.decide(new DataView(onWire.buffer), 0, onWire.length, 2, 0);
      if (two !== FLOOD || relay.vlan !== vid) return false;
      // Without a tag the priority is lost, and nothing else.
      const back = edited(onWire, relay.edit(0));
      if (from.isNative) return Buffer.from(back).equals(bytes);
      const want = new Uint8Array(inside);
      if (to.isNative) new DataView(want.buffer).setInt32(12, tag & ~0xe000);
      return Buffer.from(back).equals(want);
    }),
  );
  t.pass();
});

void t.test('private VLANs (RFC 5517): who hears whom', async t => {
  table(
    t,
    {
      router: access(100),
      i1: access(101),
      i2: access(101),
      c1: access(102),
      c2: access(102),
      d: access(103),
      up: trunk([[100, 103]], null),
    },
    `
    router all r -   -> i1:- i2:- c1:- c2:- d:- up:100
    i1     all a -   -> router:- up:101
    c1     all b -   -> router:- c2:- up:102
    d      all c -   -> router:- up:103
    router a   r -   -> i1:-
    i1     r   a -   -> router:-
    c1     r   b -   -> router:-
    c2     b   e -   -> c1:-
    c1     e   b -   -> c2:-
    i2     a   f -   -> drop dropIsolated
    i2     b   f -   -> drop dropIsolated
    d      b   c -   -> drop dropIsolated
    up     all g 101 -> router:-
    up     a   h 100 -> i1:-
  `,
    [{ primary: 100, isolated: 101, communities: [102, 103] }],
  );
});

void t.test('isolated ports', async t => {
  const relay = new Relay(10, 300_000);
  for (const port of [0, 1, 2]) relay.vlans.set(port, access(1));
  relay.isolated[0] = 1;
  relay.isolated[1] = 1;
  const bytes = (to: string, from: string): DataView => new DataView(frame(to, from, '-').buffer);
  relay.decide(bytes('all', 'b'), 0, 60, 1, 0);
  relay.decide(bytes('all', 'c'), 0, 60, 2, 0);
  t.equal(PORT_COUNTERS[DROP - relay.decide(bytes('b', 'a'), 0, 60, 0, 0)], 'dropIsolated');
  t.equal(relay.decide(bytes('c', 'a'), 0, 60, 0, 0), 2);
  t.equal(relay.decide(bytes('a', 'c'), 0, 60, 2, 0), 0);
});

void t.test('double-tagged frames pass between trunks as payload', async t => {
  table(
    t,
    { left: trunk([[1, 4094]], null), right: trunk([[1, 4094]], null) },
    `
    left  all a 10.20    -> right:10.20
    right a   b 10.30    -> left:10.30
    left  all a 4094.1   -> right:4094.1
    left  all a 10.20.30 -> right:10.20.30
  `,
  );
});

void t.test('reserved group addresses stay', async t => {
  table(
    t,
    { a: access(1), b: access(1) },
    `
    a stp  a - -> drop dropReservedGroup
    a lldp a - -> drop dropReservedGroup
    a mvrp a - -> b:-
    b a    b - -> a:-
  `,
  );
});

void t.test('frames that are none', async t => {
  table(
    t,
    { a: access(1), b: trunk([[1, 1]], null) },
    `
    a all a -  13    -> drop dropTruncated
    a all a -  0     -> drop dropTruncated
    a all a -  14    -> b:1
    b all a 1  17    -> drop dropTruncated
    b all a 1  18    -> a:-
    a all a -  65557 -> b:1
    a all a -  65558 -> drop dropOversized
  `,
  );
});

void t.test('a port that leaves a VLAN is not sent its frames any more', async t => {
  const relay = new Relay(10, 300_000);
  relay.vlans.set(0, access(10));
  relay.vlans.set(1, access(10));
  const bytes = frame('b', 'a', '-');
  const view = new DataView(bytes.buffer);
  const back = new DataView(frame('a', 'b', '-').buffer);
  t.equal(relay.decide(back, 0, 60, 1, 0), FLOOD);
  t.equal(relay.decide(view, 0, 60, 0, 0), 1);
  relay.vlans.set(1, access(20));
  t.equal(PORT_COUNTERS[DROP - relay.decide(view, 0, 60, 0, 0)], 'dropNoReceiver');
  relay.database.flushPort(1);
  t.equal(relay.decide(view, 0, 60, 0, 0), FLOOD);
  t.same([...relay.vlans.members(10)], [0]);
});

void t.test('ageing', async t => {
  const relay = new Relay(10, 10_000);
  relay.vlans.set(0, access(1));
  relay.vlans.set(1, access(1));
  const toB = new DataView(frame('b', 'a', '-').buffer);
  const toA = new DataView(frame('a', 'b', '-').buffer);
  relay.decide(toB, 0, 60, 0, 0);
  t.equal(relay.decide(toA, 0, 60, 1, 10_000), 0, 'heard ten seconds ago');
  t.equal(relay.decide(toA, 0, 60, 1, 10_001), FLOOD, 'a millisecond longer');
});
