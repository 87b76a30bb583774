import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import type { Test } from 'tap';
import * as raw from '../../../host/raw.js';
import { connectUnix, listenUnix } from '../../../host/unix.js';
import { C } from '../../../dataplane/engine/counters.js';
import { Link } from '../../../dataplane/engine/link.js';
import type { Sink } from '../../../dataplane/engine/link.js';
import { BACKLOG_SLOTS_MAX_COUNT } from '../../../dataplane/ports/backlog.js';
import type { MemoryPort } from '../../../dataplane/ports/memory.js';
import { StreamPort } from '../../../dataplane/ports/stream.js';
import { memoryLink } from '../engine/rig.js';
import { holds } from '../wire/codec.js';
import { framed, makeRealRig, readSome, unframed, writeAll } from './realRig.js';
import type { RealRig } from './realRig.js';

interface Joined {
  rig: RealRig;
  path: string;
  stream: Link;
  /** What the stream brings comes out here, what is put in here goes to the stream. */
  memory: MemoryPort;
  memoryLink: Link;
}

/** stream <-> memory */
function join(t: Test, role: 'connect' | 'listen', slots = 256): Joined {
  const rig = makeRealRig(t, slots);
  const path = `${rig.directory}/peer.sock`;
  const pass = (to: () => Link): Sink => ({
    input: (_, __, first, end) => {
      for (let frame = first; frame < end; frame++) to().send(frame, 0);
    },
  });
  const stream = new Link(
    rig.loop,
    'stream',
    pass(() => other),
    0,
  );
  const [other, memory] = memoryLink(
    rig.loop,
    'memory',
    pass(() => stream),
  );
  stream.port = new StreamPort(stream, { path, role }, rig.gather);
  t.teardown(() => stream.port?.close());
  return { rig, path, stream, memory, memoryLink: other };
}

/** The port dials a listener of ours. */
function connected(t: Test, slots?: number): Joined & { fd: number; listener: number } {
  const joined = join(t, 'connect', slots);
  const listener = listenUnix(joined.path);
  t.teardown(() => raw.close(listener));
  joined.stream.port!.open();
  const fd = raw.accept(listener);
  t.ok(fd >= 0, 'the port has dialled');
  t.equal(joined.stream.state, 'up');
  t.teardown(() => raw.close(fd));
  return { ...joined, fd, listener };
}

const frameOf = (n: number, length: number): Uint8Array =>
  new Uint8Array(length).map((_, i) => (n * 31 + i) & 255);

void t.test('frames are found wherever the stream is cut', async t => {
  const { rig, fd, memory } = connected(t);
  const length = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 14, max: 1600 }) },
    { weight: 1, arbitrary: fc.integer({ min: 14, max: 65_557 }) },
    { weight: 1, arbitrary: fc.constantFrom(14, 65_557) },
  );
  const cuts = fc.array(fc.integer({ min: 1, max: 70_000 }), { maxLength: 12 });
  holds(
    t,
    fc.property(fc.array(length, { minLength: 1, maxLength: 30 }), cuts, (lengths, parts) => {
      const frames = lengths.map((each, n) => frameOf(n, each));
      const bytes = framed(frames);
      let at = 0;
      for (const part of parts) {
        writeAll(fd, bytes.subarray(at, at + part), () => rig.loop.turn(0));
        rig.loop.turn(0);
        at = Math.min(bytes.length, at + part);
      }
      writeAll(fd, bytes.subarray(at), () => rig.loop.turn(0));
      rig.settle();
      const got = memory.sent.splice(0).map(({ bytes: each }) => each);
      assert.deepEqual(got, frames);
      assert.equal(rig.pool.usedCount, 0, 'no slot stays behind');
    }),
    { numRuns: 60 },
  );
});

void t.test('byte by byte', async t => {
  const { rig, fd, memory } = connected(t);
  const frames = [frameOf(1, 14), frameOf(2, 60)];
  for (const byte of framed(frames)) {
    writeAll(fd, Uint8Array.of(byte), () => {});
    rig.loop.turn(0);
  }
  t.same(
    memory.sent.map(({ bytes }) => bytes),
    frames,
  );
});

void t.test('more small frames in a read than a burst: none is lost or out of order', async t => {
  const { rig, fd, memory, stream } = connected(t);
  const frames = Array.from({ length: 3000 }, (_, n) => frameOf(n, 14 + (n % 3)));
  writeAll(fd, framed(frames), () => rig.loop.turn(0));
  for (let turn = 0; turn < 100; turn++) rig.loop.turn(0);
  t.equal(memory.sent.length, 3000);
  t.ok(memory.sent.every(({ bytes }, n) => Buffer.compare(bytes, frames[n]!) === 0));
  t.ok(stream.counters[C.readCalls]! < 100, 'many frames per read');
});

for (const length of [0, 13, 65_558, 0x7fff_ffff, 0xffff_ffff]) {
  void t.test(`a frame of ${length} bytes there is not: the connection ends and is made anew`, async t => {
    const { rig, fd, memory, stream, listener } = connected(t);
    const prefix = new Uint8Array(4);
    new DataView(prefix.buffer).setUint32(0, length);
    writeAll(fd, Buffer.concat([framed([frameOf(1, 60)]), prefix, frameOf(2, 600)]), () => {});
    rig.settle();
    t.equal(memory.sent.length, 1, 'what came before it counts');
    t.equal(stream.counters[C.dropBadLength], 1);
    t.equal(stream.state, 'connecting');
    t.match(stream.reason, new RegExp(`a frame of ${length} bytes`));
    t.equal(readSome(fd, 10), undefined, 'the peer sees the end');
    t.equal(rig.pool.usedCount, 0);
    rig.clock.now_ms += 1000;
    rig.settle();
    const again = raw.accept(listener);
    t.ok(again >= 0, 'and the port dials again');
    t.equal(stream.state, 'up');
    writeAll(again, framed([frameOf(3, 70)]), () => {});
    rig.settle();
    t.equal(memory.sent.length, 2);
    raw.close(again);
  });
}

void t.test('sends frames, whatever the peer reads at a time', async t => {
  const { rig, fd, memory, stream } = connected(t);
  holds(
    t,
    fc.property(
      fc.array(fc.integer({ min: 14, max: 3000 }), { minLength: 1, maxLength: 400 }),
      fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 20 }),
      (lengths, reads) => {
        const dropped = stream.counters[C.dropQueueFull]!;
        const frames = lengths.map((each, n) => frameOf(n, each));
        for (const frame of frames) memory.arrive(frame);
        const got: Uint8Array[] = [];
        for (let turn = 0; turn < 40; turn++) {
          rig.loop.turn(0);
          const part = readSome(fd, reads[turn % reads.length]!);
          if (part !== undefined) got.push(part);
        }
        for (let part = readSome(fd, 1 << 20); part !== undefined && part.length > 0;) {
          got.push(part);
          rig.loop.turn(0);
          part = readSome(fd, 1 << 20);
        }
        assert.deepEqual(unframed(Buffer.concat(got)).map(hash), frames.map(hash));
        assert.equal(stream.counters[C.dropQueueFull], dropped, 'the backlog holds that much');
        assert.equal(rig.pool.usedCount, 0);
      },
    ),
    { numRuns: 30 },
  );
});

const hash = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

void t.test('a peer that does not read loses frames, whole ones, and holds up nobody', async t => {
  const { rig, fd, memory, stream } = connected(t);
  const sent = 4000;
  for (let n = 0; n < sent; n++) {
    memory.arrive(frameOf(n, 1514));
    if (n % 64 === 0) rig.loop.turn(0);
  }
  rig.settle();
  t.ok(stream.counters[C.dropQueueFull]! > 1000);
  t.equal(stream.state, 'up');
  t.ok(rig.pool.usedCount <= BACKLOG_SLOTS_MAX_COUNT, 'what waits is bounded');
  const got: Uint8Array[] = [];
  for (;;) {
    const part = readSome(fd, 1 << 20);
    if (part === undefined || part.length === 0) break;
    got.push(part);
    rig.loop.turn(0);
  }
  const frames = unframed(Buffer.concat(got));
  t.equal(frames.length + stream.counters[C.dropQueueFull]!, sent);
  t.ok(frames.every(frame => frame.length === 1514));
  t.equal(rig.pool.usedCount, 0);
  memory.arrive(frameOf(1, 99));
  rig.settle();
  t.same(unframed(readSome(fd, 1 << 20)!), [frameOf(1, 99)], 'and it goes on afterwards');
});

void t.test('with hardly any buffers it drops, and recovers', async t => {
  const { rig, fd, memory, stream } = connected(t, 6);
  for (let n = 0; n < 2000; n++) {
    memory.arrive(frameOf(n, 1000));
    rig.loop.turn(0);
  }
  const got: Uint8Array[] = [];
  for (let turn = 0; turn < 200; turn++) {
    const part = readSome(fd, 1 << 20);
    if (part !== undefined) got.push(part);
    rig.loop.turn(0);
  }
  const frames = unframed(Buffer.concat(got));
  const lost = stream.counters[C.dropQueueFull]!;
  t.equal(frames.length + lost, 2000);
  t.ok(lost > 0);
  t.equal(rig.pool.usedCount, 0);
});

void t.test('nobody listens: waits, dials again, longer each time up to half a second', async t => {
  const { rig, path, stream } = join(t, 'connect');
  stream.port!.open();
  t.equal(stream.state, 'connecting');
  t.match(stream.reason, /nobody listens/);
  for (let step = 0; step < 12; step++) {
    rig.clock.now_ms += 500;
    rig.loop.turn(0);
  }
  t.equal(stream.state, 'connecting');
  const listener = listenUnix(path);
  rig.clock.now_ms += 500;
  rig.loop.turn(0);
  t.equal(stream.state, 'up');
  raw.close(listener);
});

void t.test('what cannot be dialled is an error, in words', async t => {
  const rig = makeRealRig(t);
  const path = `${rig.directory}/file`;
  writeFileSync(path, '');
  const link = new Link(rig.loop, 'p', { input: () => {} }, 0);
  link.port = new StreamPort(link, { path: `${path}/x.sock`, role: 'connect' }, rig.gather);
  link.port.open();
  t.equal(link.state, 'error');
  t.match(link.reason, /cannot be connected.*ENOTDIR/);
  link.port.close();
});

void t.test('the peer goes away: the port says so and dials again', async t => {
  const { rig, fd, stream, listener, memory } = connected(t);
  raw.shutdown(fd, raw.SHUT_RDWR);
  rig.settle();
  t.equal(stream.state, 'connecting');
  t.match(stream.reason, /has gone/);
  memory.arrive(frameOf(1, 60));
  rig.settle();
  t.equal(stream.counters[C.dropNotUp], 1);
  rig.clock.now_ms += 10;
  rig.loop.turn(0);
  t.equal(stream.state, 'up');
  t.equal(stream.counters[C.opens], 2);
  raw.close(raw.accept(listener));
});

void t.test('listening: one peer at a time, the next when it has gone', async t => {
  const { rig, path, stream, memory } = join(t, 'listen');
  stream.port!.open();
  t.equal(stream.state, 'connecting');
  t.equal(statSync(path).mode & 0o777, 0o600);
  const first = connectUnix(path);
  rig.settle();
  t.equal(stream.state, 'up');
  const second = connectUnix(path);
  rig.settle();
  t.equal(readSome(second, 1), undefined, 'the second is sent away');
  t.equal(stream.counters[C.peersRefused], 1);
  writeAll(first, framed([frameOf(1, 60)]), () => {});
  rig.settle();
  t.equal(memory.sent.length, 1);
  raw.close(first);
  rig.settle();
  t.equal(stream.state, 'connecting');
  const third = connectUnix(path);
  rig.settle();
  t.equal(stream.state, 'up');
  raw.close(second);
  raw.close(third);
  stream.port!.close();
  t.throws(() => statSync(path), 'the socket file goes with the port');
});

void t.test('listening where something stands already', async t => {
  const { rig, path, stream } = join(t, 'listen');
  const other = listenUnix(path);
  stream.port!.open();
  t.equal(stream.state, 'error');
  t.match(stream.reason, /EADDRINUSE/);
  // Its owner dies and leaves the file behind.
  raw.close(other);
  rig.clock.now_ms += 1000;
  rig.loop.turn(0);
  t.equal(stream.state, 'connecting', 'the file that was left behind is replaced');
  const peer = connectUnix(path);
  rig.settle();
  t.equal(stream.state, 'up');
  raw.close(peer);
});
