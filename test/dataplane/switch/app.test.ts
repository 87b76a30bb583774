/** A whole switch on memory ports and a clock wound by hand. */
import t from 'tap';
import { SINK_COUNTERS_AT, C } from '../../../dataplane/engine/counters.js';
import type { Link } from '../../../dataplane/engine/link.js';
import { MemoryPort } from '../../../dataplane/ports/memory.js';
import { SwitchApp } from '../../../dataplane/switch/app.js';
import type { Surroundings } from '../../../dataplane/switch/appFeatures.js';
import type { PortVlan, SwitchConfig } from '../../../dataplane/contract.js';
import { PORT_COUNTERS, SWITCH_COUNTERS } from '../../../dataplane/switch/counters.js';
import type { Membership } from '../../../dataplane/switch/vlanMembership.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import { makeRig } from '../engine/rig.js';

const ALL = 'ff:ff:ff:ff:ff:ff';
const station = (n: number): string =>
  `02:00:00:00:${(n >>> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`;

function frame(to: string, from: string, length = 60): Uint8Array {
  const bytes = new Uint8Array(length);
  ethernet.emit(new DataView(bytes.buffer), 0, { destination: to, source: from, type: 0x0800 });
  return bytes;
}

interface Bench {
  rig: ReturnType<typeof makeRig>;
  app: SwitchApp;
  moves: string[];
  add: (name: string, membership: Membership) => [Link, MemoryPort];
}

function bench(macLimit = 100, ageing_s = 300): Bench {
  const rig = makeRig(1024);
  const moves: string[] = [];
  const told: string[] = [];
  const config: SwitchConfig = { name: 's', macLimit, ageingTime_s: ageing_s, ports: [] };
  const surroundings: Surroundings = {
    addressOf: () => Uint8Array.of(2, 0, 0, 0, 0, 0x99),
    tell: ({ what }) => told.push(what),
    export: () => {},
  };
  const app = new SwitchApp(rig.loop, config, surroundings, (_app, mac, vlan, from, to) =>
    moves.push(`${mac} ${vlan} ${from.name}>${to.name}`),
  );
  rig.loop.onState = link => app.linkChanged(link);
  return {
    rig,
    app,
    moves,
    add(name, membership) {
      const link = app.addLink({ name, vlan: membership as PortVlan, device: { kind: 'loopback' } });
      const port = new MemoryPort(link);
      link.port = port;
      port.open();
      return [link, port];
    },
  };
}

const access = (vlan: number): Membership => ({ mode: 'access', vlan });
const relayCounter = (app: SwitchApp, name: (typeof SWITCH_COUNTERS)[number]): number =>
  app.counters[SWITCH_COUNTERS.indexOf(name)]!;
const portCounter = (link: Link, name: (typeof PORT_COUNTERS)[number]): number =>
  link.counters[SINK_COUNTERS_AT + PORT_COUNTERS.indexOf(name)]!;

void t.test('flood, learn, unicast, list', async t => {
  const { rig, app, add } = bench();
  const [, a] = add('a', access(10));
  const [, b] = add('b', access(10));
  const [, c] = add('c', access(20));
  a.arrive(frame(ALL, station(1)));
  rig.loop.turn(0);
  b.arrive(frame(station(1), station(2)));
  rig.loop.turn(0);
  a.arrive(frame(station(2), station(1)));
  rig.clock.now_ms = 250;
  rig.loop.turn(0);
  t.equal(b.sent.length, 2);
  t.equal(a.sent.length, 1);
  t.equal(c.sent.length, 0);
  t.same(
    app.macs().sort((x, y) => x.mac.localeCompare(y.mac)),
    [
      { mac: station(1), vlan: 10, port: 'a', age_ms: 0, isStatic: false },
      { mac: station(2), vlan: 10, port: 'b', age_ms: 250, isStatic: false },
    ],
  );
  t.equal(relayCounter(app, 'macCount'), 2);
  t.equal(relayCounter(app, 'unicastFrames'), 2);
  t.equal(relayCounter(app, 'floodedFrames'), 1);
  t.equal(app.flushMacs(), 2);
  t.same(app.macs(), []);
});

void t.test('the same buffer leaves tagged and untagged, and nobody sees the other', async t => {
  const { rig, add } = bench();
  const [, a] = add('a', access(10));
  const [, b] = add('b', access(10));
  const [, up] = add('up', { mode: 'trunk', allowed: [[10, 10]], native: null });
  const [, d] = add('d', access(10));
  const bytes = frame(ALL, station(1));
  const words: [number, number, number] = [
    virtioNet.word0({ flags: 1, gsoType: 0, hdrLen: 54, gsoSize: 0, csumStart: 34, csumOffset: 16 }),
    virtioNet.word1({ flags: 1, gsoType: 0, hdrLen: 54, gsoSize: 0, csumStart: 34, csumOffset: 16 }),
    16,
  ];
  a.arrive(bytes, ...words);
  rig.loop.turn(0);
  for (const port of [b, d]) t.same(port.sent[0], { bytes, w0: words[0], w1: words[1], w2: words[2] });
  const tagged = new Uint8Array([...bytes.slice(0, 12), 0x81, 0, 0, 10, ...bytes.slice(12)]);
  t.same(up.sent[0]!.bytes, tagged);
  t.equal(virtioNet.csumStartOf(up.sent[0]!.w1), 38, 'the checksum begins four bytes later');
  t.equal(virtioNet.hdrLenOf(up.sent[0]!.w0), 58);
});

void t.test('a change of a port touches its own addresses only', async t => {
  const { rig, app, add } = bench();
  const [linkA, a] = add('a', access(10));
  const [linkB, b] = add('b', access(10));
  a.arrive(frame(ALL, station(1)));
  b.arrive(frame(ALL, station(2)));
  rig.loop.turn(0);
  app.setMembership(linkA, access(20));
  t.same(
    app.macs().map(entry => entry.mac),
    [station(2)],
  );
  linkB.setState('connecting', 'peer gone');
  t.same(app.macs(), [], 'a port that goes down takes its addresses along');
  t.equal(relayCounter(app, 'macCount'), 0);
});

void t.test('a removed port: its frames go to nobody, its number is used again', async t => {
  const { rig, app, add } = bench();
  const [, a] = add('a', access(1));
  const [linkB, b] = add('b', access(1));
  b.arrive(frame(ALL, station(2)));
  rig.loop.turn(0);
  rig.loop.forget(linkB);
  app.removeLink(linkB);
  const [linkC, c] = add('c', access(1));
  t.equal(linkC.sinkIndex, linkB.sinkIndex);
  a.arrive(frame(station(2), station(1)));
  rig.loop.turn(0);
  t.equal(c.sent.length, 1, 'flooded: nobody is known');
  t.equal(b.sent.length, 0);
});

void t.test('a port that is not up is sent nothing', async t => {
  const { rig, add } = bench();
  const [, a] = add('a', access(1));
  const [linkB, b] = add('b', access(1));
  linkB.setState('connecting', null);
  a.arrive(frame(ALL, station(1)));
  a.arrive(frame(station(9), station(1)));
  rig.loop.turn(0);
  t.equal(b.sent.length, 0);
});

void t.test('moves are told, ten in a second', async t => {
  const { rig, app, moves, add } = bench();
  const [, a] = add('a', access(5));
  const [, b] = add('b', access(5));
  for (let i = 0; i < 25; i++) {
    (i % 2 === 0 ? a : b).arrive(frame(ALL, station(7)));
    rig.loop.turn(0);
  }
  t.equal(moves.length, 10);
  t.equal(moves[0], `${station(7)} 5 a>b`);
  t.equal(moves[1], `${station(7)} 5 b>a`);
  t.equal(relayCounter(app, 'macsMoved'), 24);
  t.equal(relayCounter(app, 'macMovesUntold'), 14);
  rig.clock.now_ms = 1001;
  rig.loop.turn(0);
  b.arrive(frame(ALL, station(7)));
  rig.loop.turn(0);
  t.equal(moves.length, 11, 'a second later they are told again');
});

void t.test('addresses age out of the table and its count', async t => {
  const { rig, app, add } = bench(100, 10);
  const [, a] = add('a', access(1));
  add('b', access(1));
  a.arrive(frame(ALL, station(1)));
  rig.loop.turn(0);
  t.equal(app.macs().length, 1);
  for (rig.clock.now_ms = 1000; rig.clock.now_ms <= 12_000; rig.clock.now_ms += 1000) rig.loop.turn(0);
  t.equal(relayCounter(app, 'macCount'), 0);
  t.equal(relayCounter(app, 'macsAged'), 1);
});

void t.test('a full table: frames still pass, nobody new is learned, and it is counted', async t => {
  const { rig, app, add } = bench(3);
  const [, a] = add('a', access(1));
  const [, b] = add('b', access(1));
  for (let i = 1; i <= 5; i++) a.arrive(frame(ALL, station(i)));
  rig.loop.turn(0);
  t.equal(b.sent.length, 5);
  t.equal(app.macs().length, 3);
  t.equal(relayCounter(app, 'macsNotLearnedFull'), 2);
});

void t.test('what is dropped is counted where it came in', async t => {
  const { rig, add } = bench();
  const [link, a] = add('a', access(1));
  const [, b] = add('b', access(1));
  a.arrive(frame(ALL, station(1)).slice(0, 13));
  a.arrive(frame(ALL, station(1), 65_558));
  // Nobody listens to it, and its source is not learned: the next frame is flooded, and teaches.
  a.arrive(frame('01:80:c2:00:00:02', station(1)));
  a.arrive(frame(station(1), station(1)));
  a.arrive(frame(ALL, '01:00:00:00:00:01'));
  rig.loop.turn(0);
  t.equal(portCounter(link, 'dropTruncated'), 1);
  t.equal(portCounter(link, 'dropOversized'), 1);
  t.equal(portCounter(link, 'dropReservedGroup'), 1);
  t.equal(portCounter(link, 'dropSamePort'), 1);
  t.equal(portCounter(link, 'sourceNotLearnable'), 1);
  t.equal(b.sent.length, 1);
  t.equal(link.counters[C.ifHCInBroadcastPkts], 2);
  t.equal(link.counters[C.ifHCInMulticastPkts], 1);
  t.equal(link.counters[C.ifHCInUcastPkts], 1);
  t.equal(link.counters[C.ifHCInOctets], 13 + 65_558 + 60 * 3);
});
