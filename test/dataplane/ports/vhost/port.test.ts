import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { C } from '../../../../dataplane/engine/counters.js';
import * as virtioNet from '../../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../../dataplane/wire/vlan.js';
import { REQUEST } from '../../../../host/vhost/wire.js';
import { gsoFrame, slowSegments, transportChecksumIsRight } from '../../wire/superFrame.js';
import { holds } from '../../wire/codec.js';
import { GUEST, INDIRECT, NEXT, NUM, WRITE } from './driver.js';
import { EVENT_IDX, INDIRECT_DESC, MRG_RXBUF, VERSION_1, join } from './join.js';

function frameOf(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + seed * 13) & 0xff;
  bytes[0] = 0x02;
  bytes[12] = 0x08;
  bytes[13] = 0x06;
  return bytes;
}

void t.test('features: what is offered, that it is the same every time, and replies', t => {
  const joined = join(t, { queues: 4 });
  const first = joined.dial();
  const offered = first.ask(REQUEST.GET_FEATURES)!.getBigUint64(0, true);
  for (const bit of [0, 1, 7, 8, 11, 12, 15, 22, 28, 29, 30, 32])
    t.ok((offered & (1n << BigInt(bit))) !== 0n, `bit ${bit}`);
  t.equal(offered & (1n << 34n), 0n, 'no packed rings');
  t.equal(first.ask(REQUEST.GET_PROTOCOL_FEATURES)!.getBigUint64(0, true), 0x1_0019n);
  t.equal(first.ask(REQUEST.GET_QUEUE_NUM)!.getBigUint64(0, true), 4n);
  first.u64(REQUEST.SET_PROTOCOL_FEATURES, 8n);
  first.u64(REQUEST.SET_OWNER, 0n, [], 8);
  t.equal(first.reply()?.getBigUint64(0, true), 0n, 'a reply that was asked for');
  first.u64(REQUEST.NET_SET_MTU, 9000n, [], 8);
  t.equal(first.reply()?.getBigUint64(0, true), 0n);
  first.u64(REQUEST.NET_SET_MTU, 20n, [], 8);
  t.equal(first.reply()?.getBigUint64(0, true), 1n, 'no such MTU');
  first.u64(REQUEST.SET_OWNER, 0n);
  t.equal(first.reply(), undefined, 'none that was not');
  first.hangUp();
  joined.rig.settle();
  const second = joined.dial();
  t.equal(second.ask(REQUEST.GET_FEATURES)!.getBigUint64(0, true), offered);
  t.end();
});

void t.test('frames both ways, of any length, in the order that they were sent', t => {
  for (const features of [VERSION_1 | MRG_RXBUF, VERSION_1, 0n, VERSION_1 | MRG_RXBUF | EVENT_IDX]) {
    const joined = join(t);
    const driver = joined.dial({ features });
    t.equal(joined.link.state, 'connecting');
    driver.begin();
    t.equal(joined.link.state, 'up', `features 0x${features.toString(16)}`);
    const frames = [14, 60, 61, 62, 63, 64, 255, 256, 257, 1500, 1514].map(frameOf);
    for (let round = 0; round < 20; round++) {
      for (const frame of frames) driver.send(frame);
      driver.kick(1);
      driver.provide(frames.length);
      joined.rig.settle();
      assert.deepEqual(
        joined.memory.sent.splice(0).map(({ bytes }) => bytes),
        frames,
      );
      for (const frame of frames) joined.memory.arrive(frame);
      joined.rig.settle();
      const taken = driver.take();
      assert.deepEqual(
        taken.map(({ bytes }) => bytes),
        frames,
      );
      if (features !== 0n) assert.ok(taken.every(({ header }) => header[10] === 1 && header[11] === 0));
    }
    t.equal(driver.usedIndex(1), 220, 'all given back');
    t.equal(joined.rig.pool.usedCount, 0);
  }
  t.end();
});

void t.test(
  'a long frame fills several buffers, when they may be merged; is dropped when they may not',
  t => {
    const joined = join(t);
    const driver = joined.dial();
    driver.begin();
    const long = frameOf(9000);
    driver.provide(10);
    joined.memory.arrive(long);
    joined.rig.settle();
    const [taken] = driver.take();
    t.equal(taken?.chains, 5);
    t.same(taken?.bytes, long);

    const plain = join(t);
    const other = plain.dial({ features: VERSION_1 });
    other.begin();
    other.provide(10);
    plain.memory.arrive(long);
    plain.memory.arrive(frameOf(100));
    plain.rig.settle();
    t.same(
      other.take().map(({ bytes }) => bytes.length),
      [100],
    );
    t.equal(plain.link.counters[C.ifOutErrors], 1);
    t.end();
  },
);

void t.test('chains cut anyhow, across the border of two regions, linked or indirect', t => {
  holds(
    t,
    fc.property(
      fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 12 }),
      fc.boolean(),
      fc.boolean(),
      (cuts, isIndirect, isAcross) => {
        const total = cuts.reduce((sum, cut) => sum + cut, 0);
        fc.pre(total >= 12 + 14);
        const joined = join(t);
        const driver = joined.dial({ features: VERSION_1 | MRG_RXBUF | INDIRECT_DESC });
        driver.begin();
        const frame = frameOf(total - 12);
        // One stretch of memory, cut into descriptors.
        const at = isAcross ? (2 << 20) - (total >> 1) : 3 << 20;
        const lay = (flags: number, table: (index: number) => number): void => {
          let from = at;
          cuts.forEach((cut, i) => {
            const more = i + 1 < cuts.length ? NEXT : 0;
            driver.describeAt(table(i), GUEST + from, cut, flags | more, i + 1);
            from += cut;
          });
        };
        const indirectAt = 0x3f_0000;
        const offer = (ring: number, flags: number): void => {
          if (isIndirect) {
            lay(flags, i => indirectAt + i * 16);
            driver.describe(ring, 0, GUEST + indirectAt, cuts.length * 16, INDIRECT);
          } else lay(flags, i => driver.descriptorAt(ring, i));
          driver.makeAvailable(ring, 0);
        };
        driver.bytes.fill(0, at, at + 12);
        driver.bytes.set(frame, at + 12);
        offer(1, 0);
        driver.kick(1);
        joined.rig.settle();
        assert.deepEqual(joined.memory.sent.splice(0)[0]?.bytes, frame);

        driver.bytes.fill(0xa5, at - 64, at + total + 64);
        offer(0, WRITE);
        joined.memory.arrive(frame);
        joined.rig.settle();
        assert.equal(driver.usedIndex(0), 1);
        assert.deepEqual(driver.bytes.slice(at + 12, at + total), frame);
        assert.equal(driver.bytes[at - 1], 0xa5);
        assert.equal(driver.bytes[at + total], 0xa5);
        joined.link.port!.close();
      },
    ),
    { numRuns: 60 },
  );
  t.end();
});

void t.test('who has no buffers: a few frames wait and come later, the rest is dropped and counted', t => {
  for (const features of [VERSION_1 | MRG_RXBUF, VERSION_1 | MRG_RXBUF | EVENT_IDX]) {
    const joined = join(t);
    const driver = joined.dial({ features });
    driver.begin();
    driver.provide(2);
    for (let i = 0; i < 300; i++) joined.memory.arrive(frameOf(100, i));
    joined.rig.settle();
    t.equal(driver.take().length, 2);
    const dropped = joined.link.counters[C.dropQueueFull]!;
    t.ok(dropped > 0 && dropped < 298, `${dropped} dropped`);
    joined.rig.clock.now_ms += 10;
    joined.rig.settle();
    driver.provide(60);
    driver.kick(0);
    joined.rig.settle();
    const later = driver.take();
    t.equal(later.length, 60);
    t.same(later[0]?.bytes, frameOf(100, 2), 'in order');
  }
  t.end();
});

void t.test('kicks are switched off while frames come, and on before sleeping', t => {
  for (const features of [VERSION_1, VERSION_1 | EVENT_IDX]) {
    const joined = join(t);
    const driver = joined.dial({ features });
    driver.begin();
    joined.rig.settle();
    const asks = (): boolean =>
      features === VERSION_1 ? driver.usedFlags(1) === 0 : driver.availEvent(1) === driver.available[1];
    t.ok(asks(), 'idle: kicks wanted');
    for (let i = 0; i < 20; i++) driver.send(frameOf(60));
    driver.kick(1);
    joined.rig.loop.turn(0);
    t.notOk(asks(), 'busy: none wanted');
    joined.rig.clock.now_ms += 1;
    joined.rig.settle();
    t.ok(asks(), 'idle again');
    t.equal(joined.memory.sent.length, 20);
  }
  t.end();
});

void t.test('the guest is woken once for a burst, and not when it does not want to be', t => {
  const joined = join(t);
  const driver = joined.dial({ features: VERSION_1 });
  driver.begin();
  driver.provide(30);
  driver.calls[0]!.drain();
  const burst = (): number => {
    for (let i = 0; i < 10; i++) joined.memory.arrive(frameOf(60));
    joined.rig.settle();
    return driver.calls[0]!.drain();
  };
  t.equal(burst(), 1);
  driver.setAvailFlags(0, 1);
  t.equal(burst(), 0);

  const other = join(t);
  const event = other.dial({ features: VERSION_1 | EVENT_IDX });
  event.begin();
  event.provide(40);
  const one = (): number => {
    other.memory.arrive(frameOf(60));
    other.rig.settle();
    return event.calls[0]!.drain();
  };
  event.setUsedEvent(0, 2);
  t.same([one(), one(), one(), one()], [0, 0, 1, 0], 'when the third was given back');
  t.end();
});

void t.test('offloads: left to a guest that agreed, done here for one that did not', t => {
  const GUEST_ALL = (1n << 1n) | (1n << 7n) | (1n << 8n) | (1n << 54n) | (1n << 55n);
  holds(
    t,
    fc.property(gsoFrame, fc.boolean(), fc.boolean(), (frame, isCapable, isTagged) => {
      const joined = join(t);
      const driver = joined.dial({ features: VERSION_1 | MRG_RXBUF | (isCapable ? GUEST_ALL : 0n) });
      driver.begin();
      joined.edit.toGuest = isTagged ? vlan.EDIT_ADD | 7 : 0;
      const growth = isTagged ? 4 : 0;
      const untag = (bytes: Uint8Array): Uint8Array =>
        isTagged ? new Uint8Array([...bytes.slice(0, 12), ...bytes.slice(16)]) : bytes;
      driver.provide(NUM);
      joined.memory.arrive(
        frame.bytes.slice(),
        virtioNet.word0(frame.header),
        virtioNet.word1(frame.header),
        virtioNet.word2(frame.header),
      );
      joined.rig.settle();
      const taken = driver.take();
      if (isCapable) {
        const header = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };
        assert.equal(taken.length, 1);
        virtioNet.parse(new DataView(taken[0]!.header.buffer), 0, header);
        assert.equal(header.gsoType, frame.header.gsoType);
        assert.equal(header.gsoSize, frame.header.gsoSize);
        assert.equal(header.csumStart, frame.header.csumStart + growth);
        assert.deepEqual(untag(taken[0]!.bytes), frame.bytes);
      } else {
        const segments = taken.map(({ bytes }) => untag(bytes));
        const wanted = slowSegments(frame);
        assert.deepEqual(segments, wanted.slice(0, segments.length));
        assert.ok(segments.every(segment => transportChecksumIsRight(segment, frame)));
        assert.ok(segments.length === wanted.length || joined.link.counters[C.dropQueueFull] === 1);
      }
      joined.link.port!.close();
    }),
    { numRuns: 40 },
  );
  t.end();
});

void t.test('what a guest says of its frames: taken if agreed and sound, else it costs the frame', t => {
  const CSUM = 1n;
  const HOST_TSO4 = 1n << 11n;
  const cases: [name: string, features: bigint, header: Partial<virtioNet.Header>, isTaken: boolean][] = [
    ['checksum agreed', CSUM, { flags: 1, csumStart: 34, csumOffset: 16 }, true],
    ['checksum not agreed', 0n, { flags: 1, csumStart: 34, csumOffset: 16 }, false],
    ['outside of the frame', CSUM, { flags: 1, csumStart: 390, csumOffset: 16 }, false],
    [
      'TSO agreed',
      CSUM | HOST_TSO4,
      { flags: 1, gsoType: 1, gsoSize: 100, csumStart: 34, csumOffset: 16 },
      true,
    ],
    ['TSO not agreed', CSUM, { flags: 1, gsoType: 1, gsoSize: 100, csumStart: 34, csumOffset: 16 }, false],
    ['TSO without a size', CSUM | HOST_TSO4, { flags: 1, gsoType: 1, csumStart: 34, csumOffset: 16 }, false],
    ['TSO without a checksum', CSUM | HOST_TSO4, { gsoType: 1, gsoSize: 100 }, false],
    [
      'no such type',
      CSUM | HOST_TSO4,
      { flags: 1, gsoType: 77, gsoSize: 9, csumStart: 34, csumOffset: 16 },
      false,
    ],
  ];
  for (const [name, features, words, isTaken] of cases) {
    const joined = join(t);
    const driver = joined.dial({ features: VERSION_1 | features });
    driver.begin();
    const header = new Uint8Array(12);
    virtioNet.emit(new DataView(header.buffer), 0, {
      flags: 0,
      gsoType: 0,
      hdrLen: 0,
      gsoSize: 0,
      csumStart: 0,
      csumOffset: 0,
      ...words,
    });
    driver.send(frameOf(400), header);
    driver.kick(1);
    joined.rig.settle();
    t.equal(joined.memory.sent.length, isTaken ? 1 : 0, name);
    t.equal(joined.link.counters[C.dropOffload], isTaken ? 0 : 1);
    if (isTaken) t.equal(virtioNet.csumStartOf(joined.memory.sent[0]!.w1), 34);
    t.equal(driver.usedIndex(1), 1, 'its buffer is given back');
  }
  t.end();
});

void t.test('a plane that comes back goes on where the rings are', t => {
  const joined = join(t);
  const before = joined.dial();
  before.begin();
  for (let i = 0; i < 5; i++) before.send(frameOf(60, i));
  before.kick(1);
  before.provide(20);
  joined.rig.settle();
  for (let i = 0; i < 5; i++) joined.memory.arrive(frameOf(60));
  joined.rig.settle();
  t.equal(before.take().length, 5);
  // As QEMU does: a new connection, the same memory, rings from their used index.
  before.hangUp();
  joined.rig.settle();
  t.equal(joined.link.state, 'connecting');
  before.send(frameOf(70, 9));
  const fresh = joined.dial();
  Object.assign(before, { socket: fresh.socket });
  before.begin([before.usedIndex(0), before.usedIndex(1)]);
  t.equal(joined.link.state, 'up');
  joined.memory.sent.splice(0);
  joined.rig.settle();
  before.kick(1);
  joined.rig.settle();
  joined.memory.arrive(frameOf(80));
  joined.rig.settle();
  t.same(before.take()[0]?.bytes, frameOf(80));
  t.end();
});

void t.test('several queues: a flow keeps to one, all are used, all are read', t => {
  const joined = join(t, { queues: 4 });
  const driver = joined.dial();
  driver.begin();
  for (let pair = 0; pair < 4; pair++) driver.provide(60, pair * 2);
  for (let i = 0; i < 64; i++) {
    const frame = frameOf(60);
    frame[11] = i & 15;
    frame[20] = i;
    joined.memory.arrive(frame);
  }
  joined.rig.settle();
  const where = new Map<number, number>();
  for (let pair = 0; pair < 4; pair++) {
    const taken = driver.take(pair * 2);
    t.ok(taken.length > 0, `queue ${pair} got ${taken.length}`);
    for (const { bytes } of taken) {
      if (where.has(bytes[11]!)) t.equal(where.get(bytes[11]!), pair);
      where.set(bytes[11]!, pair);
    }
  }
  for (let pair = 0; pair < 4; pair++) {
    driver.send(frameOf(60, pair), undefined, pair * 2 + 1);
    driver.kick(pair * 2 + 1);
  }
  joined.rig.settle();
  t.equal(joined.memory.sent.length, 4);
  driver.state(REQUEST.SET_VRING_ENABLE, 2, 0);
  driver.state(REQUEST.SET_VRING_ENABLE, 4, 0);
  driver.state(REQUEST.SET_VRING_ENABLE, 6, 0);
  for (let i = 0; i < 16; i++) {
    const frame = frameOf(60);
    frame[11] = i;
    joined.memory.arrive(frame);
  }
  joined.rig.settle();
  t.equal(driver.take(0).length, 16, 'one left: it gets all');
  t.end();
});

void t.test('the guest resets its card: its rings are given back where they were', t => {
  const joined = join(t);
  const driver = joined.dial();
  driver.begin();
  for (let i = 0; i < 3; i++) driver.send(frameOf(60));
  driver.kick(1);
  joined.rig.settle();
  driver.state(REQUEST.GET_VRING_BASE, 1, 0);
  t.equal(driver.reply()?.getUint32(4, true), 3);
  driver.state(REQUEST.GET_VRING_BASE, 0, 0);
  driver.reply();
  t.equal(joined.link.state, 'connecting');
  joined.memory.arrive(frameOf(60));
  joined.rig.settle();
  t.equal(joined.link.counters[C.dropNotUp], 1);
  driver.startRing(0, 0);
  driver.startRing(1, 3);
  t.equal(joined.link.state, 'up');
  t.end();
});
