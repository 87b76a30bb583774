/** The XDP port against the kernel, on a veth: native XDP, without zero-copy. */
import t from 'tap';
import type { Test } from 'tap';
import { addVeth, deleteLink, setLink } from '../../../host/netlink.js';
import * as raw from '../../../host/raw.js';
import { C } from '../../../dataplane/engine/counters.js';
import { Link } from '../../../dataplane/engine/link.js';
import { XdpPort } from '../../../dataplane/ports/xdp.js';
import type { XdpMode } from '../../../dataplane/ports/xdp.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { cable, farEnd, frame, hex, inside, received, send, tagged, wire } from './hostLink.js';
import type { Wired } from './hostLink.js';

const skip = process.getuid?.() === 0 ? false : 'AF_XDP needs root';
const CHUNKS = 1024;
const onXdp = (t: Test, ifname: string, mode: XdpMode = 'auto', chunks = CHUNKS): Wired =>
  wire(t, link => new XdpPort(link, { ifname, mode }), chunks);

/** Chunks come back a while after the port has closed. */
function allComeBack(t: Test, { rig, link }: Wired): void {
  link.port!.close();
  rig.clock.now_ms += 2000;
  rig.loop.turn(0);
  t.equal(rig.pool.freeChunkCount, CHUNKS, 'every chunk is back');
}

for (const mode of ['auto', 'generic'] as const) {
  void t.test(`frames both ways, ${mode}`, { skip }, async t => {
    inside(t, () => {
      cable('weftx0', 'weftx1');
      const wired = onXdp(t, 'weftx0', mode);
      const { rig, link, memory, came } = wired;
      link.port!.open();
      t.equal(link.state, 'up');
      t.match(link.reason, mode === 'auto' ? /^AF_XDP in mode copy; zerocopy: .*EOPNOTSUPP/ : /mode generic/);
      const far = farEnd('weftx1');
      for (let round = 0; round < 30; round++) {
        const some = Array.from({ length: 100 }, (_, i) => frame(60 + i * 14, undefined, round));
        for (const each of some) send(far, each);
        rig.settle();
        t.equal(hex(came()), hex(some));
        for (const each of some) memory.arrive(each);
        rig.settle();
        t.equal(hex(received(far)), hex(some));
      }
      t.equal(link.counters[C.ifHCOutBroadcastPkts], 3000);
      t.equal(link.counters[C.ifInErrors], 0);
      t.equal(link.counters[C.ifOutErrors], 0);
      t.equal(rig.pool.usedCount, 0);
      raw.close(far);
      allComeBack(t, wired);
    });
  });
}

void t.test('from one to another, and back by the same, the memory goes round', { skip }, async t => {
  inside(t, () => {
    cable('weftx0', 'weftx1');
    cable('wefty0', 'wefty1');
    const { rig, link } = onXdp(t, 'weftx0');
    const twin = new Link(
      rig.loop,
      'twin',
      {
        input: (_, __, first, end) => Array.from({ length: end - first }, (_, i) => link.send(first + i, 0)),
      },
      1,
    );
    twin.port = new XdpPort(twin, { ifname: 'wefty0', mode: 'copy' });
    t.teardown(() => twin.port?.close());
    link.sink = {
      input: (_, __, first, end) => Array.from({ length: end - first }, (_, i) => twin.send(first + i, 0)),
    };
    for (const each of [link, twin]) each.port!.open();
    const [a, b] = [farEnd('weftx1'), farEnd('wefty1')];
    for (let round = 0; round < 40; round++) {
      const some = Array.from({ length: 60 }, (_, i) => frame(60 + i, undefined, round));
      for (const each of some) send(a, each);
      rig.settle();
      t.equal(hex(received(b)), hex(some));
      for (const each of some) send(b, each);
      rig.settle();
      t.equal(hex(received(a)), hex(some));
    }
    for (const fd of [a, b]) raw.close(fd);
  });
});

void t.test('tags are put on, taken off and left', { skip }, async t => {
  inside(t, () => {
    cable('weftx0', 'weftx1');
    const near = onXdp(t, 'weftx0');
    const far = onXdp(t, 'weftx1');
    for (const { link } of [near, far]) link.port!.open();
    const plain = frame(100);
    for (const [edit, sent, wanted] of [
      [vlan.EDIT_ADD | 5, plain, tagged(plain, 5)],
      [vlan.EDIT_REMOVE, tagged(plain, 9), plain],
      [vlan.EDIT_REPLACE | 6, tagged(plain, 9), tagged(plain, 6)],
      [vlan.EDIT_NONE, tagged(plain, 9), tagged(plain, 9)],
      [vlan.EDIT_NONE, tagged(plain, 9, 0x88a8), tagged(plain, 9, 0x88a8)],
    ] as const) {
      near.edit = edit;
      near.memory.arrive(sent);
      near.rig.settle();
      far.rig.settle();
      t.same(
        far.memory.sent
          .splice(0)
          .map(each => each.bytes)
          .filter(each => each[30] === 7),
        [wanted],
      );
    }
  });
});

void t.test('super-frames are cut, checksums completed; the MTU holds', { skip }, async t => {
  inside(t, () => {
    cable('weftx0', 'weftx1');
    const { rig, link, memory } = onXdp(t, 'weftx0');
    link.port!.open();
    const far = farEnd('weftx1');
    const bytes = frame(14 + 20 + 20 + 10_000, 0x0800);
    const view = new DataView(bytes.buffer);
    bytes.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
    view.setUint16(16, bytes.length - 14);
    bytes.set([0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10], 34);
    const header = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
    const words = [virtioNet.word0(header), virtioNet.word1(header), virtioNet.word2(header)] as const;
    memory.arrive(bytes, ...words);
    rig.settle();
    const got = received(far, 0x0800);
    t.equal(got.length, 7);
    t.same(Buffer.concat(got.map(each => each.slice(54))), Buffer.from(bytes.slice(54)));
    t.equal(link.counters[C.gsoSegments], 7);
    for (const length of [1514, 1519, 4000, 9000, 1514]) memory.arrive(frame(length));
    rig.settle();
    t.equal(received(far).length, 2);
    t.equal(link.counters[C.dropTooBig], 3);
    raw.close(far);
  });
});

void t.test('what cannot be by AF_XDP is by packet socket, and says why', { skip }, async t => {
  inside(t, () => {
    cable('weftx0', 'weftx1', 9000);
    cable('wefty0', 'wefty1');
    const jumbo = onXdp(t, 'weftx0');
    jumbo.link.port!.open();
    t.equal(jumbo.link.state, 'up');
    t.match(jumbo.link.reason, /by packet socket, not by AF_XDP: its MTU of 9000 is more than/);
    const far = farEnd('weftx1');
    send(far, frame(9014));
    jumbo.rig.settle();
    t.same(jumbo.came(), [frame(9014)]);
    jumbo.memory.arrive(frame(9014));
    jumbo.rig.settle();
    t.same(received(far), [frame(9014)]);
    raw.close(far);
    for (const name of ['weftx0', 'weftx1']) setLink(name, { mtu_bytes: 1500 });
    jumbo.rig.clock.now_ms += 1000;
    jumbo.rig.settle();
    t.match(jumbo.link.reason, /^AF_XDP in mode copy/, 'once the MTU allows it');

    const zero = onXdp(t, 'wefty0', 'zerocopy');
    zero.link.port!.open();
    t.match(zero.link.reason, /by packet socket, not by AF_XDP: zerocopy: the driver or the kernel lacks it/);
    const second = onXdp(t, 'weftx0');
    second.link.port!.open();
    t.match(second.link.reason, /another XDP program/);
    const none = onXdp(t, 'weftx1', 'auto', 0);
    none.link.port!.open();
    t.match(none.link.reason, /no memory for it/);
  });
});

void t.test('gone and back, down and up', { skip }, async t => {
  inside(t, () => {
    const wired = onXdp(t, 'weftx0');
    const { rig, link, memory, came } = wired;
    link.port!.open();
    const settle = (): void => {
      rig.settle();
      rig.clock.now_ms += 1000;
      rig.settle();
    };
    t.equal(link.state, 'error');
    t.match(link.reason, /no interface weftx0/);
    memory.arrive(frame());
    settle();
    t.equal(link.counters[C.dropNotUp], 1);
    addVeth('weftx0', 'weftx1');
    settle();
    t.match(link.reason, /weftx0 is down/);
    for (const name of ['weftx0', 'weftx1']) setLink(name, { up: true });
    settle();
    t.equal(link.state, 'up');
    for (const round of [1, 2]) {
      const far = farEnd('weftx1');
      for (let i = 0; i < 5; i++) send(far, frame());
      settle();
      t.equal(came().length, 5, `round ${round}`);
      raw.close(far);
      deleteLink('weftx0');
      settle();
      t.equal(link.state, 'error');
      cable('weftx0', 'weftx1');
      settle();
      t.equal(link.state, 'up');
    }
    settle();
    allComeBack(t, wired);
  });
});
