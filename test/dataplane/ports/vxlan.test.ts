/** VXLAN ports against each other, and against datagrams that no VTEP sends, over the loopback interface. */
import t from 'tap';
import type { Test } from 'tap';
import { localPort, inetAddressBytes, openUdp } from '../../../host/inet.js';
import { mapAnonymous } from '../../../host/memory.js';
import { MessageBatch } from '../../../host/messages.js';
import * as raw from '../../../host/raw.js';
import { C } from '../../../dataplane/engine/counters.js';
import { Link } from '../../../dataplane/engine/link.js';
import { VxlanPort } from '../../../dataplane/ports/vxlan.js';
import type { VxlanSettings } from '../../../dataplane/ports/vxlan.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { makeGsoFrame } from './gsoFrame.js';
import { frame, hex, tagged, wire } from './hostLink.js';
import type { Wired } from './hostLink.js';

function freePort(host = '127.0.0.1'): number {
  const fd = openUdp(host, 0, { dontFragment: false });
  const port = localPort(fd);
  raw.close(fd);
  return port;
}

const onVxlan = (t: Test, settings: VxlanSettings): Wired => wire(t, link => new VxlanPort(link, settings));

interface Pair {
  a: Wired;
  b: Wired;
  settle: () => void;
}

function pair(t: Test, host = '127.0.0.1'): Pair {
  const [portA, portB] = [freePort(host), freePort(host)];
  const a = onVxlan(t, { vni: 7, local: host, port: portA, remotes: [{ address: host, port: portB }] });
  const b = onVxlan(t, { vni: 7, local: host, port: portB, remotes: [{ address: host, port: portA }] });
  for (const { link } of [a, b]) link.port!.open();
  const settle = (): void => {
    for (const { rig } of [a, b, a, b]) rig.settle();
  };
  return { a, b, settle };
}

for (const host of ['127.0.0.1', '::1']) {
  void t.test(`frames both ways by ${host}`, async t => {
    const { a, b, settle } = pair(t, host);
    t.equal(a.link.state, 'up');
    t.equal(a.link.reason, null);
    const some = Array.from({ length: 100 }, (_, i) => frame(14 + i * 13));
    for (const each of some) a.memory.arrive(each);
    settle();
    t.equal(hex(b.came()), hex(some), 'of one flow, in order');
    a.edit = vlan.EDIT_ADD | 5;
    a.memory.arrive(frame(100));
    a.edit = vlan.EDIT_ADD | 5;
    settle();
    t.same(b.came(), [tagged(frame(100), 5)]);
    for (const { rig } of [a, b]) t.equal(rig.pool.usedCount, 0);
    t.equal(a.link.counters[C.ifOutErrors], 0);
  });
}

void t.test('a super-frame is cut, and its segments come together again', async t => {
  const { a, b, settle } = pair(t);
  const { bytes, words, payload } = makeGsoFrame(50_000, 1400);
  for (const edit of [vlan.EDIT_NONE, vlan.EDIT_ADD | 9]) {
    a.edit = edit;
    a.memory.arrive(bytes, ...words);
    settle();
    const came = b.memory.sent.splice(0);
    t.equal(came.length, Math.ceil(50_000 / 1400));
    const head = edit === vlan.EDIT_NONE ? 54 : 58;
    t.ok(Buffer.concat(came.map(each => each.bytes.slice(head))).equals(payload));
  }
  t.equal(a.link.counters[C.ifOutErrors], 0);
  t.ok(a.link.counters[C.writeCalls]! <= 4, 'many segments to a call');
});

void t.test('a checksum left to do is done; one that comes undone is noted', async t => {
  const { a, b, settle } = pair(t);
  const { bytes } = makeGsoFrame(100, 1400);
  const header = { flags: 1, gsoType: 0, hdrLen: 54, gsoSize: 0, csumStart: 34, csumOffset: 16 };
  const words = [virtioNet.word0(header), virtioNet.word1(header), virtioNet.word2(header)] as const;
  a.memory.arrive(bytes.slice(), ...words);
  a.memory.arrive(bytes.slice());
  settle();
  const [done, undone] = b.memory.sent.splice(0);
  t.equal(done!.w0, 0);
  t.not(hex([done!.bytes]), hex([bytes]));
  t.same([undone!.w0, undone!.w1 >>> 16, undone!.w2], [1, 34, 16]);
});

void t.test('unicast goes to who was heard, the rest to all', async t => {
  const ports = [freePort(), freePort(), freePort()] as const;
  const rest = (own: number) =>
    ports.filter(port => port !== own).map(port => ({ address: `127.0.0.${1 + ports.indexOf(port)}`, port }));
  const ends = ports.map((port, i) =>
    onVxlan(t, { vni: 9, local: `127.0.0.${i + 1}`, port, remotes: rest(port) }),
  );
  for (const { link } of ends) link.port!.open();
  const settle = (): void => {
    for (const { rig } of [...ends, ...ends]) rig.settle();
  };
  const [a, b, c] = ends as [Wired, Wired, Wired];
  const to = (destination: number, source: number): Uint8Array => {
    const bytes = frame(60);
    bytes.set([2, 0, 0, 0, 0, destination, 2, 0, 0, 0, 0, source]);
    return bytes;
  };
  a.memory.arrive(to(2, 1));
  settle();
  t.same([b.came().length, c.came().length], [1, 1], 'not heard of: to all');
  b.memory.arrive(to(1, 2));
  settle();
  t.same([a.came().length, c.came().length], [1, 0], 'heard of');
  a.memory.arrive(to(2, 1));
  settle();
  t.same([b.came().length, c.came().length], [1, 0]);
  a.rig.clock.now_ms += 301_000;
  a.memory.arrive(to(2, 1));
  settle();
  t.same([b.came().length, c.came().length], [1, 1], 'forgotten');
});

void t.test('several VNIs share an address, one each', async t => {
  const [near, far] = [freePort(), freePort()];
  const remotes = [{ address: '127.0.0.1', port: far }];
  const one = onVxlan(t, { vni: 1, local: '127.0.0.1', port: near, remotes });
  one.link.port!.open();
  const second = new Link(one.rig.loop, 'second', { input: () => {} }, 1);
  second.port = new VxlanPort(second, { vni: 1, local: '127.0.0.1', port: near, remotes });
  second.port.open();
  t.equal(second.state, 'error');
  t.match(second.reason, /another port has VNI 1 at 127.0.0.1/);
  second.port.close();
  let came = 0;
  const third = new Link(
    one.rig.loop,
    'third',
    { input: (_, __, first, end) => void (came += end - first) },
    2,
  );
  third.port = new VxlanPort(third, { vni: 2, local: '127.0.0.1', port: near, remotes });
  third.port.open();
  t.equal(third.state, 'up');
  const peer = onVxlan(t, {
    vni: 2,
    local: '127.0.0.1',
    port: far,
    remotes: [{ address: '127.0.0.1', port: near }],
  });
  peer.link.port!.open();
  for (let i = 0; i < 3; i++) peer.memory.arrive(frame());
  peer.rig.settle();
  one.rig.settle();
  t.equal(came, 3);
  t.equal(one.came().length, 0);
  one.link.port!.close();
  peer.memory.arrive(frame());
  peer.rig.settle();
  one.rig.settle();
  t.equal(came, 4, 'the other goes on');
  third.port.close();
  t.equal(one.rig.pool.usedCount, 0);
});

const memory = mapAnonymous(65_536);

/** A datagram from a socket of the test's. */
function sendTo(fd: number, host: string, port: number, bytes: Uint8Array): void {
  const batch = new MessageBatch({ count: 1, pieces: 1, name_bytes: 28 });
  memory.bytes.set(bytes);
  const name = inetAddressBytes(host, port);
  batch.bytes.set(name, batch.nameAt(0));
  batch.setPiece(0, 0, memory.address, bytes.length);
  batch.arm(0, 1, name.length, 0);
  const n = raw.sendmsg(fd, batch.address, 0);
  batch.close();
  if (n !== bytes.length) throw new Error(`sendmsg: ${n}`);
}

void t.test('strangers, and what is no VXLAN, are counted and dropped', async t => {
  const port = freePort();
  const settings = { vni: 5, local: '127.0.0.1', port, remotes: [{ address: '127.0.0.1', port: 9 }] };
  const strict = onVxlan(t, settings);
  strict.link.port!.open();
  const row = strict.link.counters;
  const known = openUdp('127.0.0.1', 0, { dontFragment: false });
  const stranger = openUdp('127.0.0.2', 0, { dontFragment: false });
  const good = new Uint8Array([8, 0, 0, 0, 0, 0, 5, 0, ...frame()]);
  sendTo(known, '127.0.0.1', port, good);
  sendTo(stranger, '127.0.0.1', port, good);
  strict.rig.settle();
  t.same(strict.came(), [frame()]);
  t.equal(row[C.dropTunnelSender], 1);
  for (const [index, bad] of [
    good.slice(0, 21),
    new Uint8Array(0),
    new Uint8Array([0, ...good.slice(1)]),
    new Uint8Array([8, 0, 0, 0, 0, 0, 6, 0, ...frame()]),
  ].entries()) {
    sendTo(known, '127.0.0.1', port, bad);
    strict.rig.settle();
    // An empty datagram has no header in it that could be wrong.
    t.equal(row[C.dropTunnelHeader], index === 0 ? 1 : index, `bad ${index}`);
  }
  t.same(strict.came(), []);
  strict.link.port!.close();
  t.equal(strict.rig.pool.usedCount, 0);

  const open = onVxlan(t, { ...settings, remotes: [], anySender: true });
  open.link.port!.open();
  t.equal(open.link.state, 'up');
  sendTo(stranger, '127.0.0.1', port, good);
  open.rig.settle();
  t.same(open.came(), [frame()]);
  for (const fd of [known, stranger]) raw.close(fd);
});

void t.test('addresses that cannot be are errors in words', async t => {
  const port = freePort();
  const mixed = onVxlan(t, { vni: 1, local: '127.0.0.1', port, remotes: [{ address: '::1', port }] });
  mixed.link.port!.open();
  t.match(mixed.link.reason, /both must be IPv4, or both IPv6/);
  const fd = openUdp('127.0.0.1', port, { dontFragment: false });
  const taken = onVxlan(t, {
    vni: 1,
    local: '127.0.0.1',
    port,
    remotes: [{ address: '127.0.0.1', port: 9 }],
  });
  taken.link.port!.open();
  t.match(taken.link.reason, /another socket, or a tunnel device of the host, has the port/);
  raw.close(fd);
  taken.rig.clock.now_ms += 1000;
  taken.rig.loop.turn(0);
  t.equal(taken.link.state, 'up', 'had as soon as it is free');
  const foreign = onVxlan(t, { vni: 1, local: '192.0.2.77', port, remotes: [] });
  foreign.link.port!.open();
  t.match(foreign.link.reason, /EADDRNOTAVAIL/);
});
