/**
 * The tap port against the kernel, in a network namespace that ends with the test. The other end of the tap is a
 * packet socket on its interface.
 */
import { existsSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { mapAnonymous } from '../../../host/memory.js';
import { addVeth, deleteLink, linkByName, setLink } from '../../../host/netlink.js';
import { createNetns, inNetns } from '../../../host/netns.js';
import { openPacketSocket } from '../../../host/packet.js';
import * as raw from '../../../host/raw.js';
import { openTap, setTapPersistent } from '../../../host/tap.js';
import { C } from '../../../dataplane/engine/counters.js';
import { Link } from '../../../dataplane/engine/link.js';
import type { MemoryPort } from '../../../dataplane/ports/memory.js';
import { TapPort } from '../../../dataplane/ports/tap.js';
import { transportChecksumIsRight } from '../wire/superFrame.js';
import type { GsoFrame } from '../wire/superFrame.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { memoryLink } from '../engine/rig.js';
import { makeRealRig } from './realRig.js';
import type { RealRig } from './realRig.js';

const skip =
  process.getuid?.() !== 0
    ? 'taps need root'
    : existsSync('/dev/net/tun')
      ? false
      : 'there is no /dev/net/tun';

/** IEEE 802 local experimental: nobody else in the namespace speaks it. */
const TYPE = 0x88b5;
const ALL = 'ff:ff:ff:ff:ff:ff';

function frame(length = 60, type = TYPE): Uint8Array {
  const bytes = new Uint8Array(length).fill(7);
  ethernet.emit(new DataView(bytes.buffer), 0, { destination: ALL, source: '02:00:00:00:00:01', type });
  return bytes;
}

interface Joined {
  rig: RealRig;
  link: Link;
  memory: MemoryPort;
  /** Of what the tap brings, our own frames. */
  came: () => Uint8Array[];
  /** Every frame to the tap is edited so. */
  edit: number;
}

/** tap <-> memory, both ways as they come. */
function join(t: Test, ifname: string, mtu_bytes?: number): Joined {
  const rig = makeRealRig(t);
  const link = new Link(
    rig.loop,
    'tap',
    {
      input: (_, __, first, end) => {
        for (let i = first; i < end; i++) other.send(i, 0);
      },
    },
    0,
  );
  const [other, memory] = memoryLink(rig.loop, 'memory', {
    input: (_, __, first, end) => {
      for (let i = first; i < end; i++) link.send(i, joined.edit);
    },
  });
  link.port = new TapPort(link, { ifname, mtu_bytes }, rig.gather);
  t.teardown(() => link.port?.close());
  const joined: Joined = {
    rig,
    link,
    memory,
    came: () =>
      memory.sent
        .splice(0)
        .map(({ bytes }) => bytes)
        .filter(bytes => new DataView(bytes.buffer, bytes.byteOffset).getUint16(12) === TYPE),
    edit: 0,
  };
  return joined;
}

const memory = mapAnonymous(1 << 17);

function send(fd: number, bytes: Uint8Array): void {
  memory.bytes.set(bytes);
  const n = raw.send(fd, memory.address, bytes.length, 0);
  if (n !== bytes.length) throw new Error(`send: ${n}`);
}

/** What the interface was given by the port, without what the host's own stack says. */
function received(fd: number, type = TYPE): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (;;) {
    const n = raw.recv(fd, memory.address, memory.length_bytes, raw.MSG_DONTWAIT);
    if (n < 0) return frames;
    if (memory.view.getUint16(12) === type) frames.push(memory.bytes.slice(0, n));
  }
}

function inside(t: Test, run: () => void): void {
  const namespace = createNetns();
  t.teardown(() => raw.close(namespace));
  inNetns(namespace, run);
}

const packets = (ifname: string): number => openPacketSocket({ ifname, receive: true });

void t.test('made, set up, frames both ways, gone when closed', { skip }, async t => {
  inside(t, () => {
    const { rig, link, memory: port, came } = join(t, 'wefttap0', 9000);
    link.port!.open();
    t.equal(link.state, 'up');
    const made = linkByName('wefttap0')!;
    t.equal(made.mtu_bytes, 9000);
    const fd = packets('wefttap0');
    for (const length of [14, 60, 1514, 9014]) {
      send(fd, frame(length));
      rig.settle();
      t.same(came(), [frame(length)], `${length} bytes from the kernel`);
    }
    received(fd);
    for (const length of [14, 60, 1514, 9014, 65_549]) {
      port.arrive(frame(length));
      rig.settle();
      t.same(received(fd), [frame(length)], `${length} bytes to the kernel`);
    }
    t.equal(link.counters[C.ifHCOutBroadcastPkts], 5);
    t.equal(rig.pool.usedCount, 0);
    raw.close(fd);
    link.port!.close();
    t.equal(linkByName('wefttap0'), undefined, 'it goes when we go');
  });
});

void t.test('tags are put on and taken off on the way to the kernel', { skip }, async t => {
  inside(t, () => {
    const joined = join(t, 'wefttap0');
    const { rig, link, memory: port } = joined;
    link.port!.open();
    const fd = packets('wefttap0');
    joined.edit = vlan.EDIT_REMOVE;
    const plain = frame(100);
    const tagged = new Uint8Array([...plain.slice(0, 12), 0x81, 0, 0x60, 5, ...plain.slice(12)]);
    port.arrive(tagged);
    rig.settle();
    t.same(received(fd), [plain]);
    // The kernel takes a tag out of the frame's bytes before a packet socket sees it; the counters show it.
    joined.edit = vlan.EDIT_ADD | 5;
    port.arrive(plain);
    rig.settle();
    t.equal(link.counters[C.ifHCOutOctets], 100 + 104);
    raw.close(fd);
  });
});

void t.test('a checksum that is left to do is done by the kernel', { skip }, async t => {
  inside(t, () => {
    const { rig, link, memory: port } = join(t, 'wefttap0');
    link.port!.open();
    const fd = packets('wefttap0');
    const bytes = frame(60, 0x0800);
    const view = new DataView(bytes.buffer);
    bytes.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
    view.setUint16(34 + 4, 26);
    // The sum of the pseudo-header: 10.0.0.1, 10.0.0.2, 17, 26.
    view.setUint16(34 + 6, 0x0a00 + 0x0001 + 0x0a00 + 0x0002 + 17 + 26);
    const header = { flags: 1, gsoType: 0, hdrLen: 42, gsoSize: 0, csumStart: 34, csumOffset: 6 };
    const words = [virtioNet.word0(header), virtioNet.word1(header), virtioNet.word2(header)] as const;
    port.arrive(bytes, ...words);
    rig.settle();
    const [got] = received(fd, 0x0800);
    t.equal(link.counters[C.ifOutErrors], 0, 'the header made sense to the kernel');
    // A packet socket shows the frame as the kernel holds it, its checksum still to be done.
    t.same(got, bytes);
    const shape = { l3: 14, l4: 34, isIpv6: false, isTcp: false } as GsoFrame;
    t.notOk(transportChecksumIsRight(bytes, shape));
    raw.close(fd);
  });
});

void t.test('a persistent tap is attached and left behind', { skip }, async t => {
  inside(t, () => {
    const before = openTap({ ifname: 'weftkeep', vnetHdr: false });
    setTapPersistent(before.fd, true);
    const { rig, link, came } = join(t, 'weftkeep');
    link.port!.open();
    t.equal(link.state, 'error');
    t.match(link.reason, /weftkeep.*another process has this tap open/);
    raw.close(before.fd);
    rig.clock.now_ms += 100;
    rig.loop.turn(0);
    t.equal(link.state, 'up', 'had as soon as it is free');
    const fd = packets('weftkeep');
    send(fd, frame());
    rig.settle();
    t.equal(came().length, 1);
    raw.close(fd);
    link.port!.close();
    t.ok(linkByName('weftkeep'), 'it is not ours to delete');
    deleteLink('weftkeep');
  });
});

void t.test('what cannot be a tap is an error in words', { skip }, async t => {
  inside(t, () => {
    addVeth('weftv0', 'weftv1');
    const { link } = join(t, 'weftv0');
    link.port!.open();
    t.equal(link.state, 'error');
    t.match(link.reason, /tap weftv0 cannot be opened.*another kind of interface/);
  });
});

void t.test('deleted by someone: an error, and made anew', { skip }, async t => {
  inside(t, () => {
    const { rig, link, came } = join(t, 'wefttap0');
    link.port!.open();
    deleteLink('wefttap0');
    rig.settle();
    t.equal(link.state, 'error');
    t.match(link.reason, /was the interface deleted/);
    rig.clock.now_ms += 100;
    rig.loop.turn(0);
    t.equal(link.state, 'up');
    const fd = packets('wefttap0');
    send(fd, frame());
    rig.settle();
    t.equal(came().length, 1);
    raw.close(fd);
  });
});

void t.test('set down by someone: frames are counted, the status says what to do', { skip }, async t => {
  inside(t, () => {
    const { rig, link, memory: port } = join(t, 'wefttap0');
    link.port!.open();
    setLink('wefttap0', { up: false });
    port.arrive(frame());
    rig.settle();
    t.equal(link.counters[C.ifOutErrors], 1);
    t.match(link.reason, /is down.*ip link set wefttap0 up/);
    setLink('wefttap0', { up: true });
    port.arrive(frame());
    rig.settle();
    t.equal(link.reason, null);
  });
});

void t.test('several queues: all are served, a flow stays on its own', { skip }, async t => {
  inside(t, () => {
    const rig = makeRealRig(t);
    const came: number[] = [];
    const link = new Link(
      rig.loop,
      'tap',
      {
        input: (_, frames, first, end) => {
          for (let i = first; i < end; i++) {
            const at = frames.words[i * 8 + 1]!;
            if (rig.pool.arena.view.getUint16(at + 12) === 0x0800)
              came.push(rig.pool.arena.view.getUint16(at + 34));
          }
        },
      },
      0,
    );
    const [, port] = memoryLink(rig.loop, 'memory', { input: (_, __, first) => link.send(first, 0) });
    link.port = new TapPort(link, { ifname: 'weftmq0', queues: 4 }, rig.gather);
    t.teardown(() => link.port?.close());
    link.port.open();
    t.equal(link.state, 'up');
    t.equal(link.reason, null);
    const fd = packets('weftmq0');
    const flow = (source: number): Uint8Array => {
      const bytes = frame(60, 0x0800);
      bytes.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
      new DataView(bytes.buffer).setUint16(34, source);
      return bytes;
    };
    const sources = Array.from({ length: 64 }, (_, i) => 1000 + i);
    for (const source of sources) send(fd, flow(source));
    rig.settle();
    t.same(
      [...came].sort((a, b) => a - b),
      sources,
      'from all queues',
    );
    received(fd, 0x0800);
    for (const source of sources) {
      port.arrive(flow(source));
      rig.settle();
    }
    t.equal(received(fd, 0x0800).length, 64);
    t.equal(link.counters[C.ifOutErrors], 0);
    raw.close(fd);
    link.port.close();
    t.equal(linkByName('weftmq0'), undefined);
    t.equal(rig.pool.usedCount, 0);
  });
});
