import t from 'tap';
import { ByteRing } from '../../../dataplane/engine/byteRing.js';
import type { Link, Sink } from '../../../dataplane/engine/link.js';
import { Capture } from '../../../dataplane/ports/capture.js';
import * as pcapng from '../../../dataplane/wire/pcapng.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { makeRig, memoryLink } from '../engine/rig.js';
import type { Rig } from '../engine/rig.js';

interface Recorded {
  port: number;
  direction: number;
  length: number;
  original: number;
  time_us: number;
  bytes: number[];
}

function recorded(ring: ByteRing): Recorded[] {
  const bytes = ring.read(10_000_000);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out: Recorded[] = [];
  const block = {
    type: 0,
    length: 0,
    interfaceId: 0,
    time_us: 0,
    captured_bytes: 0,
    original_bytes: 0,
    direction: 0,
  };
  for (let at = 0; at < bytes.length; at += block.length) {
    pcapng.parse(view, at, bytes.length, block);
    if (block.length === 0) throw new Error(`no block at ${at}`);
    const from = at + pcapng.ENHANCED_PACKET_DATA;
    out.push({
      port: block.interfaceId,
      direction: block.direction,
      length: block.captured_bytes,
      original: block.original_bytes,
      time_us: block.time_us,
      bytes: Array.from(bytes.slice(from, from + block.captured_bytes)),
    });
  }
  return out;
}

const frame = (byte: number, length = 60): Uint8Array => new Uint8Array(length).fill(byte);

/** Everything from `a` goes to `b` with a tag added. */
function pair(rig: Rig): { a: Link; b: Link; arrive: (bytes: Uint8Array) => void } {
  const toB: Sink = {
    input: (_, __, first, end) => {
      for (let i = first; i < end; i++) b.send(i, vlan.EDIT_ADD | 9);
    },
  };
  const [a, portA] = memoryLink(rig.loop, 'a', toB);
  const [b] = memoryLink(rig.loop, 'b', { input: () => {} });
  return { a, b, arrive: bytes => portA.arrive(bytes) };
}

const ALL = { accepts: undefined };

void t.test('both directions as they pass, edits included', async t => {
  const rig = makeRig();
  const { a, b, arrive } = pair(rig);
  const ring = ByteRing.create(65_536);
  const capture = new Capture(rig.pool, ring, [a, b], {
    ...ALL,
    snap_bytes: 65_536,
    count: Infinity,
    wallClock_us: () => 1234,
  });
  arrive(frame(1));
  rig.loop.turn(0);
  const [inbound, outbound, ...rest] = recorded(ring);
  t.same(rest, []);
  t.same(inbound, {
    port: 0,
    direction: pcapng.DIRECTION_IN,
    length: 60,
    original: 60,
    time_us: 1234,
    bytes: [...frame(1)],
  });
  t.equal(outbound!.port, 1);
  t.equal(outbound!.direction, pcapng.DIRECTION_OUT);
  t.equal(outbound!.length, 64);
  t.same(outbound!.bytes.slice(12, 16), [0x81, 0, 0, 9]);
  capture.close();
  t.equal(a.observer, undefined);
  arrive(frame(2));
  rig.loop.turn(0);
  t.equal(ring.available, 0, 'nothing after the end');
  t.ok(ring.isClosed);
  t.equal(rig.pool.usedCount, 0);
});

void t.test('snap length and count', async t => {
  const rig = makeRig();
  const { a, arrive } = pair(rig);
  const ring = ByteRing.create(65_536);
  new Capture(rig.pool, ring, [a], { ...ALL, snap_bytes: 20, count: 2, wallClock_us: () => 0 });
  for (let i = 0; i < 5; i++) arrive(frame(i));
  rig.loop.turn(0);
  const got = recorded(ring);
  t.same(
    got.map(({ length, original, bytes }) => [length, original, bytes[0]]),
    [
      [20, 60, 0],
      [20, 60, 1],
    ],
  );
  t.ok(ring.isClosed);
  t.equal(a.observer, undefined);
});

void t.test('a filter is asked of the frame as it is on the link', async t => {
  const rig = makeRig();
  const { a, arrive } = pair(rig);
  const ring = ByteRing.create(65_536);
  const odd = (view: DataView, at: number): boolean => (view.getUint8(at) & 1) === 1;
  new Capture(rig.pool, ring, [a], { snap_bytes: 20, count: 2, accepts: odd, wallClock_us: () => 0 });
  for (let i = 0; i < 5; i++) arrive(frame(i));
  rig.loop.turn(0);
  t.same(
    recorded(ring).map(({ bytes }) => bytes[0]),
    [1, 3],
    'what is not wanted does not count either',
  );
  t.ok(ring.isClosed);
});

void t.test('a reader that does not read loses frames, and the switch none', async t => {
  const rig = makeRig();
  const { a, b, arrive } = pair(rig);
  const ring = ByteRing.create(1024);
  const capture = new Capture(rig.pool, ring, [a], {
    ...ALL,
    snap_bytes: 65_536,
    count: Infinity,
    wallClock_us: () => 0,
  });
  for (let i = 0; i < 50; i++) arrive(frame(i));
  rig.loop.turn(0);
  t.equal(b.counters[5]! > 0, true);
  const got = recorded(ring);
  t.equal(got.length + ring.lost, 50);
  t.ok(ring.lost > 0);
  capture.close();
});

void t.test('two captures of one port do not know of each other', async t => {
  const rig = makeRig();
  const { a, arrive } = pair(rig);
  const [one, two] = [ByteRing.create(65_536), ByteRing.create(65_536)];
  new Capture(rig.pool, one, [a], { ...ALL, snap_bytes: 65_536, count: 1, wallClock_us: () => 0 });
  const second = new Capture(rig.pool, two, [a], {
    ...ALL,
    snap_bytes: 65_536,
    count: Infinity,
    wallClock_us: () => 0,
  });
  arrive(frame(1));
  arrive(frame(2));
  rig.loop.turn(0);
  t.equal(recorded(one).length, 1);
  t.equal(recorded(two).length, 2);
  second.close();
  second.close();
});
