/** An aggregate on memory ports, between a switch's link and members, on a clock wound by hand. */
import t from 'tap';
import { LagDevice } from '../../../dataplane/contract.js';
import { C } from '../../../dataplane/engine/counters.js';
import { AT, FRAME_WORDS, FrameTable, LENGTH, Queue } from '../../../dataplane/engine/frames.js';
import { Link } from '../../../dataplane/engine/link.js';
import { AggregatePort, aggregateOf, systemAddress } from '../../../dataplane/lag/app.js';
import { M, PortNumbers } from '../../../dataplane/lag/appMember.js';
import { MemoryPort } from '../../../dataplane/ports/memory.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import * as lacp from '../../../dataplane/wire/lacp.js';
import * as slow from '../../../dataplane/wire/slowProtocols.js';
import { makeRig } from '../engine/rig.js';

const SYSTEM = Uint8Array.of(2, 0, 0, 0, 0, 1);
const PEER = Uint8Array.of(2, 0, 0, 0, 0, 0x99);

const deviceOf = (settings: object, ...members: string[]): LagDevice =>
  LagDevice.parse({
    kind: 'lag',
    settings,
    members: members.map(name => ({ name, device: { kind: 'tap', ifname: name } })),
  });

/** A UDP packet of flow `n`. */
function packet(n: number, length = 60): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  ethernet.emit(view, 0, { destination: '02:00:00:00:00:aa', source: '02:00:00:00:00:bb', type: 0x0800 });
  view.setUint8(14, 0x45);
  view.setUint8(23, 17);
  view.setUint32(26, 0x0a00_0001);
  view.setUint32(30, 0x0a00_0002);
  view.setUint32(34, n);
  return bytes;
}

function bench(device: LagDevice, stations: { mac: string; vlan: number; port: string }[] = []) {
  const rig = makeRig(1024);
  const taken: Uint8Array[] = [];
  const sink = {
    input(_link: Link, frames: FrameTable, first: number, end: number): void {
      for (let frame = first; frame < end; frame++) {
        const at = frames.words[frame * FRAME_WORDS + AT]!;
        taken.push(rig.arena.bytes.slice(at, at + frames.words[frame * FRAME_WORDS + LENGTH]!));
      }
    },
  };
  const states: string[] = [];
  rig.loop.onState = changed => {
    if (changed.sink instanceof AggregatePort) changed.sink.memberChanged(changed);
    else states.push(`${changed.state}: ${changed.reason}`);
  };
  const link = new Link(rig.loop, 'uplink', sink, 0);
  const ports = new Map<string, MemoryPort>();
  const aggregate = new AggregatePort(link, device, { mode: 'access', vlan: 1 }, undefined, {
    makePort: member => {
      const port = new MemoryPort(member);
      ports.set(member.name, port);
      return port;
    },
    numbers: new PortNumbers(),
    address: SYSTEM,
    stations: () => stations,
  });
  link.port = aggregate;
  aggregate.open();
  // Frames enter as from another port of the switch.
  const other = new Link(rig.loop, 'other', { input: (_from, _frames, first, end) => {
    for (let frame = first; frame < end; frame++) if (link.isUp) link.send(frame, 0);
  } }, 1); // prettier-ignore
  const inside = new MemoryPort(other);
  other.port = inside;
  inside.open();
  const linkOf = (name: string): Link => aggregate.members.find(member => member.name === name)!.link;
  const turn = (to_ms?: number): void => {
    if (to_ms !== undefined) rig.clock.now_ms = to_ms;
    rig.loop.turn(0);
  };
  return { rig, link, aggregate, ports, inside, taken, states, linkOf, turn };
}

const flowsOf = (port: MemoryPort): Set<number> =>
  new Set(port.sent.map(({ bytes }) => new DataView(bytes.buffer).getUint32(34)));

void t.test('static: flows spread, keep their member, and only those of a lost one move', async t => {
  const { link, ports, inside, linkOf, turn, states, rig } = bench(
    deviceOf({ mode: 'static' }, 'a', 'b', 'c'),
  );
  t.equal(link.state, 'up');
  t.equal(aggregateOf(link)?.members.length, 3);
  const send = (): void => {
    for (let n = 0; n < 60; n++) inside.arrive(packet(n * 77));
    turn();
  };
  send();
  const first = [...ports].map(([name, port]) => [name, flowsOf(port)] as const);
  t.equal(
    first.reduce((sum, [, flows]) => sum + flows.size, 0),
    60,
    'each once',
  );
  for (const [name, flows] of first) t.ok(flows.size > 8, `${name} has ${flows.size}`);
  for (const port of ports.values()) port.sent.length = 0;
  linkOf('b').setState('error', 'cut');
  t.match(states.at(-1), /up: 2 of 3 members carry; b: its link is down/);
  send();
  t.equal(ports.get('b')!.sent.length, 0);
  for (const name of ['a', 'c']) {
    const before = first.find(([each]) => each === name)![1];
    const now = flowsOf(ports.get(name)!);
    t.ok(
      [...before].every(flow => now.has(flow)),
      `${name} kept its own`,
    );
  }
  linkOf('b').setState('up', null);
  for (const port of ports.values()) port.sent.length = 0;
  send();
  t.ok(ports.get('b')!.sent.length > 8, 'and b has flows again');
  t.equal(link.counters[C.ifHCOutUcastPkts], 180, 'counted on the aggregate');
  t.equal(linkOf('a').counters[C.ifHCOutUcastPkts]! > 0, true, 'and on its members');
  for (const name of ['a', 'b', 'c']) linkOf(name).setState('error', 'cut');
  t.match(states.at(-1), /connecting: a: its link is down/);
  t.equal(rig.pool.usedCount, 0, 'no buffer is kept');
});

void t.test('what comes in by any member has come in by the aggregate', async t => {
  const { ports, taken, turn, linkOf, link } = bench(deviceOf({ mode: 'static' }, 'a', 'b'));
  ports.get('a')!.arrive(packet(1));
  ports.get('b')!.arrive(packet(2));
  turn();
  t.equal(taken.length, 2);
  t.equal(linkOf('a').counters[C.ifHCInUcastPkts], 1);
  t.equal(linkOf('a').counters[C.ifHCInOctets], 60);
  t.equal(link.counters[C.ifHCInUcastPkts], 0, 'the aggregate is counted by its switch');
});

void t.test('active-backup: one carries, the other is deaf; a move is announced', async t => {
  const stations = [
    { mac: '02:00:00:00:00:01', vlan: 1, port: 'other' },
    { mac: '02:00:00:00:00:02', vlan: 1, port: 'uplink' },
    { mac: '02:00:00:00:00:03', vlan: 2, port: 'other' },
  ];
  const { ports, inside, taken, turn, linkOf, link } = bench(
    deviceOf({ mode: 'activeBackup', primary: 'a', revertDelay_ms: 5000 }, 'a', 'b'),
    stations,
  );
  turn(10);
  for (const port of ports.values()) port.sent.length = 0;
  inside.arrive(packet(1));
  ports.get('b')!.arrive(packet(2));
  ports.get('a')!.arrive(packet(3));
  turn(20);
  t.equal(ports.get('a')!.sent.length, 1);
  t.equal(ports.get('b')!.sent.length, 0);
  t.equal(taken.length, 1);
  t.equal(linkOf('b').counters[M.dropNotCollecting], 1);

  linkOf('a').setState('error', 'cut');
  turn(30);
  turn(40);
  t.same(
    ports.get('b')!.sent.map(({ bytes }) => Buffer.from(bytes.slice(0, 14)).toString('hex')),
    ['ffffffffffff0200000000018035'],
    "a frame of the switch's own station, of this VLAN, and of no other",
  );
  t.equal(link.state, 'up');
  inside.arrive(packet(4));
  turn(50);
  t.equal(ports.get('b')!.sent.length, 2);
  linkOf('a').setState('up', null);
  turn(4000);
  inside.arrive(packet(5));
  turn(4001);
  t.equal(ports.get('b')!.sent.length, 3, 'the primary waits');
  turn(5100);
  ports.get('a')!.sent.length = 0;
  inside.arrive(packet(6));
  turn(5101);
  t.ok(flowsOf(ports.get('a')!).has(6), 'and carries again');
});

const pduOf = (bytes: Uint8Array): lacp.Lacpdu => {
  const pdu = lacp.blank();
  lacp.parse(new DataView(bytes.buffer), 0, pdu);
  return pdu;
};

/** What a willing partner answers to what was sent last. */
function answer(port: MemoryPort, number: number, state = 0x3d): void {
  const said = port.sent
    .map(({ bytes }) => bytes)
    .filter(bytes => slow.isSlow(new DataView(bytes.buffer), 0));
  const pdu = lacp.blank();
  lacp.copyInfo(pduOf(said.at(-1)!).actor, pdu.partner);
  Object.assign(pdu.actor, {
    systemPriority: 1,
    systemHigh16: 0x0200,
    systemLow32: 0x99,
    key: 5,
    port: number,
    state,
  });
  const bytes = new Uint8Array(lacp.LENGTH);
  lacp.emit(new DataView(bytes.buffer), 0, pdu, PEER);
  port.arrive(bytes);
}

void t.test('LACP: until both ends agree nothing passes, then everything', async t => {
  const { ports, inside, taken, turn, linkOf, link, states, ...rest } = bench(
    deviceOf({ mode: 'lacp', lacp: { timeout: 'fast' } }, 'a', 'b'),
  );
  turn(1);
  t.equal(link.state, 'connecting');
  t.equal(ports.get('a')!.sent.length, 1, 'the first word goes at once, though no frame came');
  const first = pduOf(ports.get('a')!.sent[0]!.bytes);
  t.same(
    [first.actor.systemHigh16, first.actor.systemLow32, first.actor.port, first.actor.key],
    [0x0200, 1, 1, 1],
  );
  ports.get('a')!.arrive(packet(1));
  inside.arrive(packet(2));
  turn(2);
  t.equal(taken.length, 0);
  t.equal(linkOf('a').counters[M.dropNotCollecting], 1);
  for (let now_ms = 10; now_ms < 4000; now_ms += 250) {
    answer(ports.get('a')!, 1);
    if (now_ms > 1000) answer(ports.get('b')!, 2);
    turn(now_ms);
    turn(now_ms + 1);
  }
  t.equal(states.at(-1), 'up: null');
  for (const port of ports.values()) port.sent.length = 0;
  for (let n = 0; n < 50; n++) inside.arrive(packet(n * 13));
  ports.get('b')!.arrive(packet(9));
  turn(4100);
  t.ok(ports.get('a')!.sent.length > 5 && ports.get('b')!.sent.length > 5, 'both carry');
  t.equal(taken.length, 1, 'LACPDUs do not reach the switch, frames do');
  const [a, b] = [linkOf('a').counters, ports.get('b')!];
  b.sent.length = 0;
  const { aggregate } = rest;
  t.ok(aggregate.retire(deviceOf({ mode: 'lacp', lacp: { timeout: 'fast' } }, 'a'), undefined));
  const last = pduOf(b.sent.at(-1)!.bytes);
  t.equal(
    last.actor.state & (lacp.SYNCHRONIZATION | lacp.COLLECTING | lacp.DISTRIBUTING),
    0,
    'who is taken out says so',
  );
  t.equal(link.state, 'up');
  t.equal(a[C.disconnects], 0);
  turn(6900);
  turn(7900);
  turn(7901);
  t.equal(link.state, 'connecting', 'silence for three seconds');
  t.match(link.reason, /a: its LACP partner has fallen silent/);
});

void t.test('a configuration that changes one member leaves the others alone', async t => {
  const device = deviceOf({ mode: 'static' }, 'a', 'b');
  const { aggregate, ports, linkOf, inside, turn, link } = bench(device);
  const [a, portA] = [linkOf('a'), ports.get('a')!];
  const next = deviceOf({ mode: 'static', minLinks: 2 }, 'a', 'c', 'd');
  t.ok(aggregate.retire(next, undefined));
  t.equal(link.state, 'up', 'in between');
  t.equal(ports.get('b')!.isOpen, false);
  aggregate.configure(next, { mode: 'access', vlan: 1 });
  t.equal(linkOf('a'), a);
  t.equal(ports.get('a'), portA);
  t.same(aggregate.members.map(({ name }) => name).sort(), ['a', 'c', 'd']);
  t.equal(a.counters[C.disconnects], 0);
  inside.arrive(packet(1));
  turn(10);
  t.notOk(aggregate.retire(deviceOf({ mode: 'lacp' }, 'a'), undefined), 'another mode is another aggregate');
  t.equal(linkOf('a'), a, 'and then nothing is touched');
});

void t.test('fewer members and a lower minimum in one change: those that stay go on', async t => {
  const { aggregate, link, turn } = bench(deviceOf({ mode: 'static', minLinks: 2 }, 'a', 'b'));
  turn(10);
  t.equal(link.state, 'up');
  const next = deviceOf({ mode: 'static', minLinks: 1 }, 'a');
  aggregate.retire(next, undefined);
  aggregate.configure(next, { mode: 'access', vlan: 1 });
  t.equal(link.state, 'up');
  t.equal(link.counters[C.disconnects], 0, 'all the time');
});

void t.test('slow protocols: markers are answered, a flood of them is not; nonsense is counted', async t => {
  const { ports, turn, linkOf, taken } = bench(deviceOf({ mode: 'static' }, 'a'));
  const marker = new Uint8Array(slow.FRAME_LENGTH);
  const sent = {
    type: 1,
    requesterPort: 7,
    requesterSystemHigh16: 0x0200,
    requesterSystemLow32: 0x99,
    requesterTransactionId: 5,
  };
  slow.emitMarker(new DataView(marker.buffer), 0, sent, PEER);
  for (let i = 0; i < 20; i++) ports.get('a')!.arrive(marker);
  turn(1);
  const answers = ports.get('a')!.sent;
  t.equal(answers.length, 5);
  const reply = slow.blankMarker();
  slow.parseMarker(new DataView(answers[0]!.bytes.buffer), 0, reply);
  t.same(reply, { ...sent, type: 2 });
  for (const cut of [14, 15, 60]) ports.get('a')!.arrive(marker.slice(0, cut));
  const oam = marker.slice();
  oam[14] = 3;
  ports.get('a')!.arrive(oam);
  const pdu = new Uint8Array(lacp.LENGTH);
  lacp.emit(new DataView(pdu.buffer), 0, lacp.blank(), PEER);
  ports.get('a')!.arrive(pdu);
  turn(2);
  const row = linkOf('a').counters;
  t.same(
    [row[M.markersIn], row[M.markersAnswered], row[M.slowFramesUnknown], row[M.lacpPdusUnexpected]],
    [20, 5, 4, 1],
  );
  t.equal(taken.length, 0, 'the switch sees none of it');
});

void t.test('a flood of LACPDUs is read ten times a second', async t => {
  const { ports, linkOf, turn, states, rig } = bench(deviceOf({ mode: 'lacp' }, 'a'));
  turn(1);
  const told = states.length;
  for (let i = 0; i < 60; i++) {
    const pdu = lacp.blank();
    Object.assign(pdu.actor, { systemLow32: 9 + (i & 1), key: i, port: 1, state: 0x3d });
    const bytes = new Uint8Array(lacp.LENGTH);
    lacp.emit(new DataView(bytes.buffer), 0, pdu, PEER);
    ports.get('a')!.arrive(bytes);
    turn(1);
  }
  const row = linkOf('a').counters;
  t.same([row[M.lacpPdusIn], row[M.lacpPdusExcessive]], [10, 50]);
  t.ok(states.length - told <= 20, 'and no more is told');
  linkOf('a').setState('error', 'cut');
  turn(2);
  rig.loop.turn();
  rig.loop.turn();
  t.ok(rig.poller.timeouts.at(-1)! > 0, 'with its link down it sleeps');
});

void t.test('frames that a scheduler held back come from a table of its own', async t => {
  const { rig, link, ports, turn } = bench(deviceOf({ mode: 'static' }, 'a', 'b'));
  const held = new FrameTable(rig.pool);
  for (let n = 0; n < 20; n++) {
    const slot = rig.pool.take();
    const at = rig.arena.slotAt(slot) + 64;
    rig.arena.bytes.set(packet(n), at);
    held.push(slot, at, 60, 0, 0, 0, 64);
  }
  link.scheduler = {
    transmit: () => {
      const out = new Queue();
      for (let n = 0; n < 20; n++) out.push(n, 0);
      link.port!.transmit(held, out);
      held.releaseAll();
    },
  };
  // Another frame is in the turn's table, so that numbers differ.
  rig.loop.originate(packet(999));
  const number = rig.loop.originate(packet(998));
  link.send(number, 0);
  turn(1);
  const flows = [...ports.values()].flatMap(port => [...flowsOf(port)]);
  t.same(
    flows.sort((x, y) => x - y),
    Array.from({ length: 20 }, (_, n) => n),
  );
  t.equal(rig.pool.usedCount, 0, 'and every buffer is back');
});

void t.test('the system address is of one switch of one host', async t => {
  const text = (...words: [string | undefined, string, string]): string =>
    Buffer.from(systemAddress(...words)).toString('hex');
  t.equal(text('02:00:00:00:00:07', 'lan', 'x'), '020000000007');
  t.equal(text(undefined, 'lan', 'x'), text(undefined, 'lan', 'x'));
  const all = ['lan', 'lan2', 'wan'].flatMap(name => ['', 'a', 'b'].map(host => text(undefined, name, host)));
  t.equal(new Set(all).size, 9);
  for (const address of all) t.equal(Number.parseInt(address.slice(0, 2), 16) & 3, 2, 'of a station, local');
});
