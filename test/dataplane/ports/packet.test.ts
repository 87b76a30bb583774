/** The packet port against the kernel. */
import t from 'tap';
import { addVeth, deleteLink, setLink } from '../../../host/netlink.js';
import * as raw from '../../../host/raw.js';
import { C } from '../../../dataplane/engine/counters.js';
import { PacketPort } from '../../../dataplane/ports/packet.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { cable, farEnd, frame, hex, inside, received, send, tagged, wire } from './hostLink.js';

const skip = process.getuid?.() === 0 ? false : 'packet sockets need root';
const onPacket = (t: Parameters<typeof wire>[0], ifname: string) =>
  wire(t, link => new PacketPort(link, { ifname }));

void t.test('frames both ways, many at once', { skip }, async t => {
  inside(t, () => {
    cable('weftp0', 'weftp1');
    const { rig, link, memory, came } = onPacket(t, 'weftp0');
    link.port!.open();
    t.equal(link.state, 'up');
    const far = farEnd('weftp1');
    const some = Array.from({ length: 100 }, (_, i) => frame(60 + i * 10));
    for (const each of some) send(far, each);
    rig.settle();
    t.equal(hex(came()), hex(some));
    t.ok(link.counters[C.readCalls]! < 30, 'several to a call');
    received(far);
    for (const each of some) memory.arrive(each);
    rig.settle();
    t.equal(hex(received(far)), hex(some));
    t.ok(link.counters[C.writeCalls]! < 10, 'several to a call');
    t.equal(link.counters[C.ifHCOutBroadcastPkts], 100);
    t.equal(rig.pool.usedCount, 0);
    // What the port itself sent is not taken for something that came.
    t.same(came(), []);
    raw.close(far);
  });
});

void t.test('tags are put back, put on and taken off', { skip }, async t => {
  inside(t, () => {
    cable('weftp0', 'weftp1');
    const wired = onPacket(t, 'weftp0');
    const { rig, link, memory, came } = wired;
    link.port!.open();
    const far = farEnd('weftp1');
    const plain = frame(100);
    for (const bytes of [
      tagged(plain, 0x6005),
      tagged(tagged(plain, 0x0007), 0x6005),
      tagged(plain, 5, 0x88a8),
    ]) {
      send(far, bytes);
      rig.settle();
      t.same(memory.sent.splice(0).at(-1)?.bytes, bytes, 'what was taken out stands there again');
    }
    t.same(came(), []);
    const back = onPacket(t, 'weftp1');
    back.link.port!.open();
    for (const [edit, sent, wanted] of [
      [vlan.EDIT_ADD | 5, plain, tagged(plain, 5)],
      [vlan.EDIT_REMOVE, tagged(plain, 9), plain],
      [vlan.EDIT_REPLACE | 6, tagged(plain, 9), tagged(plain, 6)],
      [vlan.EDIT_NONE, tagged(plain, 9), tagged(plain, 9)],
    ] as const) {
      wired.edit = edit;
      memory.arrive(sent);
      rig.settle();
      back.rig.settle();
      t.same(back.came(), [wanted]);
    }
    raw.close(far);
  });
});

void t.test('what is left to do of a frame passes as it is, super-frames too', { skip }, async t => {
  inside(t, () => {
    cable('weftp0', 'weftp1');
    const a = onPacket(t, 'weftp0');
    const b = onPacket(t, 'weftp1');
    for (const { link } of [a, b]) link.port!.open();
    const bytes = frame(14 + 20 + 20 + 30_000, 0x0800);
    const view = new DataView(bytes.buffer);
    bytes.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
    view.setUint16(16, bytes.length - 14);
    bytes.set([0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10], 34);
    const header = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
    const words = [virtioNet.word0(header), virtioNet.word1(header), virtioNet.word2(header)] as const;
    a.memory.arrive(bytes, ...words);
    a.rig.settle();
    b.rig.settle();
    const [got] = b.memory.sent.filter(each => each.bytes.length > 10_000);
    t.same(got?.bytes, bytes);
    t.same([got?.w0, got?.w1, got?.w2], words);
    t.equal(a.link.counters[C.gsoOutFrames], 1);
    // Segments that the interface's MTU does not hold.
    setLink('weftp0', { mtu_bytes: 1000 });
    a.rig.clock.now_ms += 1000;
    a.rig.settle();
    a.memory.arrive(bytes, ...words);
    a.rig.settle();
    t.equal(a.link.counters[C.dropTooBig], 1);
  });
});

void t.test('the MTU holds, and follows the interface', { skip }, async t => {
  inside(t, () => {
    cable('weftp0', 'weftp1', 1500);
    const { rig, link, memory } = onPacket(t, 'weftp0');
    link.port!.open();
    const far = farEnd('weftp1');
    for (const length of [1514, 1519, 1514]) memory.arrive(frame(length));
    rig.settle();
    t.same(received(far), [frame(1514), frame(1514)], 'one that is too long does not hold up the others');
    t.equal(link.counters[C.dropTooBig], 1);
    // Within the room that is kept for a tag, but without one: the kernel says no.
    memory.arrive(frame(1518));
    memory.arrive(frame(1514));
    rig.settle();
    t.equal(received(far).length, 1);
    t.equal(link.counters[C.dropTooBig], 2);
    for (const name of ['weftp0', 'weftp1']) setLink(name, { mtu_bytes: 9000 });
    rig.clock.now_ms += 1000;
    rig.settle();
    memory.arrive(frame(9014));
    rig.settle();
    t.equal(received(far).length, 1);
    raw.close(far);
  });
});

void t.test('gone, down, without carrier, renamed, made again', { skip }, async t => {
  inside(t, () => {
    const { rig, link, memory, came } = onPacket(t, 'weftp0');
    link.port!.open();
    const settle = (): void => {
      rig.settle();
      rig.clock.now_ms += 1000;
      rig.settle();
    };
    t.equal(link.state, 'error');
    t.match(link.reason, /no interface weftp0/);
    memory.arrive(frame());
    settle();
    t.equal(link.counters[C.dropNotUp], 1);
    addVeth('weftp0', 'weftp1');
    settle();
    t.match(link.reason, /weftp0 is down: ip link set weftp0 up/);
    setLink('weftp0', { up: true });
    settle();
    t.equal(link.state, 'connecting');
    t.match(link.reason, /no carrier/);
    setLink('weftp1', { up: true });
    settle();
    t.equal(link.state, 'up');
    for (const round of [1, 2]) {
      const far = farEnd('weftp1');
      send(far, frame());
      settle();
      t.equal(came().length, 1, `round ${round}`);
      raw.close(far);
      deleteLink('weftp0');
      settle();
      t.equal(link.state, 'error');
      cable('weftp0', 'weftp1');
      settle();
      t.equal(link.state, 'up');
    }
    setLink('weftp0', { up: false });
    settle();
    setLink('weftp0', { name: 'weftother' });
    settle();
    t.match(link.reason, /renamed/);
    setLink('weftother', { name: 'weftp0' });
    setLink('weftp0', { up: true });
    settle();
    t.equal(link.state, 'up');
    t.equal(rig.pool.usedCount, 0);
  });
});
