/** A guest's disk by vhost-user: what each request does, how its buffers may lie, and how connections begin and end. */
import t, { type Test } from 'tap';
import fc from 'fast-check';
import * as fs from 'node:fs';
import { IoVector } from '../../../host/iovec.js';
import { mapAnonymous } from '../../../host/memory.js';
import { RWF_NOWAIT, preadv2 } from '../../../host/raw.js';
import { recvFds } from '../../../host/unix.js';
import { REQUEST } from '../../../host/vhost/wire.js';
import { offered } from '../../../storage/vhost/session.js';
import { F, S, T } from '../../../storage/vhost/virtioBlk.js';
import { FaultyVolume, type Faults } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import {
  Driver,
  EVENT_IDX,
  INDIRECT,
  PLAIN,
  QUEUE_BYTES,
  bits,
  type Descriptor,
  type DriverOptions,
} from './driver.js';
import { Rig, type RigOptions } from './rig.js';

const SIZE = 16 * 1024 * 1024;

function set(
  t: Test,
  options: RigOptions & Partial<DriverOptions> & { faults?: Faults; size_bytes?: number } = {},
): { rig: Rig; driver: Driver; below: MemoryVolume } {
  const later = new Later();
  const below = new MemoryVolume(options.size_bytes ?? SIZE, later);
  const volume = options.faults === undefined ? below : new FaultyVolume(below, later, options.faults);
  const rig = new Rig(t, volume, later, options);
  const driver = new Driver({ ...options, queues: options.queues ?? 1, turn: rig.turn });
  t.teardown(() => driver.close());
  driver.begin(rig.connect());
  return { rig, driver, below };
}

const pattern = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31 + (i >> 8)) & 0xff);

/** Answers come late, in another order, and nothing at once. */
const SLOW: Faults = { seed: 5, again_ppm: 1_000_000, delay_ppm: 700_000, delayTurns: 20 };

await t.test('what is offered, and the configuration', async t => {
  const { rig, driver } = set(t, { queues: 3, size_bytes: SIZE + 700 });
  t.equal(driver.askU64(REQUEST.GET_FEATURES), offered(false));
  t.equal(driver.askU64(REQUEST.GET_QUEUE_NUM), 3n);
  const config = driver.config();
  t.equal(config.getUint32(0, true), SIZE / 512 + 1, 'whole sectors');
  t.equal(config.getUint32(20, true), 512);
  t.equal(config.getUint8(24), 3, 'physical blocks of 4096');
  t.equal(config.getUint16(34, true), 3);
  t.equal(driver.config(256).byteLength, 256, 'as much as a newer QEMU asks for');
  t.equal(rig.count('connections'), 1);
  t.equal(rig.count('guestQueues'), 3);
  t.ok((offered(true) & bits(F.RO)) !== 0n);
});

for (const [name, faults] of [
  ['at once', undefined],
  ['late and in another order', SLOW],
] as const)
  await t.test(`write, read, flush, discard, zeroes, id: ${name}`, async t => {
    const { rig, driver } = set(t, faults === undefined ? {} : { faults });
    const at = driver.dataAt;
    driver.bytes.set(pattern(8192, 1), at);
    t.equal(driver.do(T.OUT, 16, at, 8192), S.OK);
    t.equal(driver.lastLength, 1, 'nothing but the status was written');
    t.equal(driver.do(T.IN, 16, at + 65536, 8192), S.OK);
    t.equal(driver.lastLength, 8193);
    t.same(driver.bytes.slice(at + 65536, at + 65536 + 8192), pattern(8192, 1));
    t.equal(driver.do(T.FLUSH, 0, 0, 0), S.OK);

    const segment = (type: number, sector: number, sectors: number, flags: number): number => {
      driver.view.setUint32(at, sector, true);
      driver.view.setUint32(at + 4, 0, true);
      driver.view.setUint32(at + 8, sectors, true);
      driver.view.setUint32(at + 12, flags, true);
      return driver.do(type, 0, at, 16);
    };
    t.equal(segment(T.WRITE_ZEROES, 16, 8, 1), S.OK);
    t.equal(driver.do(T.IN, 16, at + 65536, 8192), S.OK);
    t.same(driver.bytes.slice(at + 65536, at + 65536 + 4096), new Uint8Array(4096));
    t.same(driver.bytes.slice(at + 65536 + 4096, at + 65536 + 8192), pattern(8192, 1).slice(4096));
    t.equal(segment(T.DISCARD, 24, 8, 0), S.OK);
    t.equal(segment(T.DISCARD, 24, 8, 1), S.UNSUPP, 'unmap is no flag of discard');
    t.equal(segment(T.WRITE_ZEROES, 24, 8, 2), S.UNSUPP, 'a flag that is none');
    t.equal(segment(T.WRITE_ZEROES, SIZE / 512 - 4, 8, 0), S.IOERR, 'beyond the end');
    t.equal(segment(T.DISCARD, 0, 2_097_153, 0), S.IOERR, 'longer than was told');
    t.equal(driver.do(T.DISCARD, 0, at, 24), S.IOERR, 'no whole segments');

    t.equal(driver.do(T.GET_ID, 0, at, 20), S.OK);
    t.equal(
      Buffer.from(driver.bytes.slice(at, at + 20))
        .toString()
        .replaceAll('\0', ''),
      'weft-disk',
    );
    t.equal(driver.do(99, 0, at, 512), S.UNSUPP);
    t.equal(driver.do(T.IN, SIZE / 512, at, 512), S.IOERR, 'beyond the end');
    t.equal(driver.do(T.IN, 2 ** 50, at, 512), S.IOERR);
    t.equal(driver.do(T.IN, 2 ** 63, at, 512), S.IOERR);
    t.equal(driver.do(T.IN, SIZE / 512 - 1, at, 1024), S.IOERR, 'across the end');
    t.equal(driver.do(T.IN, 0, at, 513), S.IOERR, 'no whole sectors');
    t.equal(driver.do(T.OUT, 0, 0, 0), S.OK, 'of nothing');
    t.equal(rig.count('reads'), 2);
    t.equal(rig.count('writes'), 2);
    t.equal(rig.count('errorReplies'), 11);
    t.equal(rig.fault, null);
    t.equal(driver.stopQueue(0), driver.used[0], 'it goes on where it stopped');
  });

await t.test('a disk that is read-only, and one of blocks of 4096', async t => {
  const ro = set(t, { readOnly: true });
  t.equal(ro.driver.do(T.OUT, 0, ro.driver.dataAt, 512), S.IOERR);
  t.equal(ro.driver.do(T.WRITE_ZEROES, 0, ro.driver.dataAt, 16), S.IOERR);
  t.equal(ro.driver.do(T.IN, 0, ro.driver.dataAt, 512), S.OK);
  const big = set(t, { minimumBlock_bytes: 4096, size_bytes: SIZE + 2048 });
  const config = big.driver.config();
  t.equal(config.getUint32(20, true), 4096);
  t.equal(config.getUint8(24), 0);
  t.equal(config.getUint32(0, true), SIZE / 512);
  t.equal(big.driver.do(T.IN, 1, big.driver.dataAt, 4096), S.IOERR);
  t.equal(big.driver.do(T.IN, 0, big.driver.dataAt, 512), S.IOERR);
  t.equal(big.driver.do(T.IN, 8, big.driver.dataAt, 4096), S.OK);
});

await t.test('a driver that knows no flushes gets writes that are durable', async t => {
  const { driver, below } = set(t, { features: bits(32) });
  const before = below.flushCount;
  t.equal(driver.do(T.OUT, 0, driver.dataAt, 4096), S.OK);
  t.equal(below.flushCount, before + 1);
  const other = set(t);
  t.equal(other.driver.do(T.OUT, 0, other.driver.dataAt, 4096), S.OK);
  t.equal(other.below.flushCount, 0);
});

await t.test('errors of the volume are the guest’s to handle', async t => {
  const { rig, driver } = set(t, { faults: { seed: 1, error_ppm: 1_000_000 } });
  t.equal(driver.do(T.OUT, 0, driver.dataAt, 4096), S.IOERR);
  t.equal(driver.do(T.IN, 0, driver.dataAt, 4096), S.IOERR);
  t.equal(driver.lastLength, 1, 'of what was not read nothing is told');
  t.equal(rig.count('errorReplies'), 2);
});

await t.test('buffers cut anywhere, linked or in a table, across regions: the same bytes', async t => {
  for (const faults of [undefined, SLOW]) {
    const { rig, driver } = set(t, faults === undefined ? {} : { faults });
    const model = new Uint8Array(1 << 20);
    const cuts = fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 0, maxLength: 12 });
    const request = fc.record({
      writes: fc.boolean(),
      sector: fc.integer({ min: 0, max: 1500 }),
      sectors: fc.integer({ min: 1, max: 400 }),
      cuts,
      headerCut: fc.integer({ min: 1, max: 16 }),
      joins: fc.boolean(),
      isTable: fc.boolean(),
      place: fc.integer({ min: 0, max: 500_000 }),
      seed: fc.nat(1000),
    });
    fc.assert(
      fc.property(request, one => {
        const length = one.sectors * 512;
        driver.layHeader(0, 0, one.writes ? T.OUT : T.IN, one.sector);
        const header = driver.headerAt(0, 0);
        const pieces: Descriptor[] = [{ at: header, length: one.headerCut, write: false }];
        if (one.headerCut < 16)
          pieces.push({ at: header + one.headerCut, length: 16 - one.headerCut, write: false });
        let at = driver.dataAt + one.place;
        const start = at;
        let left = length;
        for (const cut of [...one.cuts, Infinity]) {
          const n = Math.min(cut, left);
          if (n > 0) pieces.push({ at, length: n, write: !one.writes });
          at += n;
          left -= n;
        }
        // The status as the last byte of the data's last buffer, or in one of its own.
        let statusAt = driver.statusAt(0, 0);
        const last = pieces.at(-1)!;
        if (one.joins && last.write) {
          pieces[pieces.length - 1] = { ...last, length: last.length + 1 };
          statusAt = at;
        } else pieces.push({ at: statusAt, length: 1, write: true });
        driver.bytes[statusAt] = 0xff;
        const data = pattern(length, one.seed);
        if (one.writes) {
          driver.bytes.set(data, start);
          model.set(data, one.sector * 512);
        } else driver.bytes.fill(0xa5, start, start + length);
        if (one.isTable) {
          const table = QUEUE_BYTES - 4096;
          pieces.forEach((piece, i) =>
            driver.descriptor(table + i * 16, piece, i === pieces.length - 1 ? 0 : 1, i + 1),
          );
          driver.descriptor(0, { at: table, length: pieces.length * 16, write: false }, INDIRECT, 0);
          driver.offer(0, 0);
        } else driver.chain(0, 0, pieces);
        driver.kick(0);
        if (driver.wait() !== 0) throw new Error(`no answer: ${rig.fault ?? ''}`);
        if (driver.bytes[statusAt] !== S.OK) throw new Error(`status ${driver.bytes[statusAt]}`);
        const seen = driver.bytes.subarray(start, start + length);
        if (
          !one.writes &&
          Buffer.compare(seen, model.subarray(one.sector * 512, one.sector * 512 + length)) !== 0
        )
          throw new Error('other bytes were read');
      }),
      { numRuns: 60 },
    );
    t.equal(rig.fault, null);
  }
  t.pass('all of them');
});

await t.test('long reads of what is in a file go from there to the buffers', async t => {
  const path = `${t.testdir()}/data`;
  fs.writeFileSync(path, pattern(100 * 1024, 3));
  const fd = fs.openSync(path, 'r');
  t.teardown(() => fs.closeSync(fd));
  const room = mapAnonymous(4096);
  const one = new IoVector(1);
  one.set(0, room.address, 512);
  if (preadv2(fd, one.address, 1, 0, RWF_NOWAIT) < 0) {
    t.comment('skipped: this file system does not know RWF_NOWAIT');
    return;
  }
  const later = new Later();
  // Other bytes than the file's, so that it shows who was asked.
  const volume = new (class extends MemoryVolume {
    override sendableFrom(): number {
      return fd;
    }
  })(SIZE, later);
  const rig = new Rig(t, volume, later);
  const driver = new Driver({ turn: rig.turn });
  t.teardown(() => driver.close());
  driver.begin(rig.connect());
  const at = driver.dataAt;
  const read = (length: number): Uint8Array => {
    driver.layHeader(0, 0, T.IN, 8);
    driver.bytes.fill(0xa5, at, at + length + 4096);
    driver.chain(0, 0, [
      { at: driver.headerAt(0, 0), length: 16, write: false },
      { at: at + 1000, length: 3000, write: true },
      { at: at + 4000, length: length - 3000, write: true },
      { at: driver.statusAt(0, 0), length: 1, write: true },
    ]);
    driver.kick(0);
    t.equal(driver.wait(), 0);
    t.equal(driver.status(0, 0), S.OK);
    t.equal(driver.lastLength, length + 1);
    t.equal(driver.bytes[at + 999], 0xa5);
    t.equal(driver.bytes[at + 1000 + length], 0xa5);
    return driver.bytes.slice(at + 1000, at + 1000 + length);
  };
  t.equal(Buffer.compare(read(65_536), pattern(100 * 1024, 3).subarray(4096, 4096 + 65_536)), 0);
  t.equal(rig.count('sentReads'), 1);
  t.equal(
    Buffer.compare(read(131_072), new Uint8Array(131_072)),
    0,
    'the file is too short: as any other read',
  );
  t.equal(Buffer.compare(read(8192), new Uint8Array(8192)), 0, 'a short one');
  t.equal(rig.count('sentReads'), 1);
});

await t.test('many at once on several queues, each answered once', async t => {
  const { rig, driver } = set(t, { queues: 3, num: 256, faults: SLOW, features: PLAIN | EVENT_IDX });
  const total = [0, 0, 0];
  const busy = [new Set<number>(), new Set<number>(), new Set<number>()];
  let asked = 0;
  for (let round = 0; round < 3000; round++) {
    const q = round % 3;
    const slot = round % 80;
    if (asked < 1500 && !busy[q]!.has(slot)) {
      busy[q]!.add(slot);
      asked++;
      driver.layHeader(q, slot, round % 2 === 0 ? T.IN : T.OUT, (round * 8) % 16_000);
      driver.chain(q, slot * 3, [
        { at: driver.headerAt(q, slot), length: 16, write: false },
        { at: driver.dataAt + q * 300_000 + slot * 512, length: 512, write: round % 2 === 0 },
        { at: driver.statusAt(q, slot), length: 1, write: true },
      ]);
      driver.kick(q);
    }
    rig.turn();
    for (let i = 0; i < 3; i++)
      while (driver.ready(i) > 0) {
        const head = driver.take(i);
        if (!busy[i]!.delete(head / 3)) t.fail(`queue ${i} answers ${head}, which was not asked`);
        if (driver.status(i, head / 3) !== S.OK) t.fail('a status');
        total[i]!++;
      }
  }
  for (let i = 0; i < 3; i++)
    while (busy[i]!.size > 0) {
      const head = driver.wait(i);
      if (head < 0) break;
      busy[i]!.delete(head / 3);
      total[i]!++;
    }
  t.equal(
    total.reduce((a, b) => a + b),
    asked,
  );
  t.ok(asked > 1000);
  t.ok(rig.count('slowReads') > 100);
});

await t.test(
  'kicks are on before the loop sleeps, and off while it looks on because that was worth it',
  async t => {
    for (const features of [PLAIN, PLAIN | EVENT_IDX]) {
      const { rig, driver } = set(t, { features });
      for (let i = 0; i < 20; i++) rig.turn();
      t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK);
      t.equal(driver.kicked, 1);
      t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK);
      t.equal(driver.kicked, 2, 'it did not look on');
      t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK);
      t.equal(driver.kicked, 2, 'what came so soon was worth it');
      for (let i = 0; i < 20; i++) rig.turn();
      t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK);
      t.equal(driver.kicked, 3, 'it had gone to sleep');
    }
  },
);

await t.test('it ends: what was taken is answered before the queue stops', async t => {
  const { rig, driver } = set(t, { faults: SLOW });
  for (let i = 0; i < 10; i++) {
    driver.layHeader(0, i, T.IN, i * 8);
    driver.chain(0, i * 3, [
      { at: driver.headerAt(0, i), length: 16, write: false },
      { at: driver.dataAt + i * 4096, length: 4096, write: true },
      { at: driver.statusAt(0, i), length: 1, write: true },
    ]);
  }
  driver.kick(0);
  rig.turn();
  t.equal(driver.stopQueue(0), 10);
  t.equal(driver.ready(0), 10);
});

await t.test(
  'who hangs up with requests under way gets them done again when it is back, each answered once',
  async t => {
    const { rig, driver } = set(t, { faults: SLOW, num: 128 });
    const ask = (slot: number): void => {
      driver.layHeader(0, slot, T.OUT, slot * 8);
      driver.bytes.set(pattern(4096, slot), driver.dataAt + slot * 4096);
      driver.chain(0, slot * 3, [
        { at: driver.headerAt(0, slot), length: 16, write: false },
        { at: driver.dataAt + slot * 4096, length: 4096, write: false },
        { at: driver.statusAt(0, slot), length: 1, write: true },
      ]);
    };
    for (let slot = 0; slot < 40; slot++) ask(slot);
    driver.kick(0);
    const answered = new Set<number>();
    const collect = (): void => {
      while (driver.ready(0) > 0) {
        const head = driver.take(0);
        t.notOk(answered.has(head), 'answered once');
        answered.add(head);
        t.equal(driver.status(0, head / 3), S.OK);
      }
    };
    for (let i = 0; i < 400 && answered.size < 8; i++) {
      rig.turn();
      collect();
    }
    t.ok(answered.size > 0 && answered.size < 40, `${answered.size} are answered`);
    driver.hangUp();
    for (let i = 0; i < 3; i++) rig.turn();
    collect();
    driver.begin(rig.connect());
    for (let i = 0; i < 2000 && answered.size < 40; i++) {
      rig.turn();
      collect();
    }
    t.equal(answered.size, 40);
    t.ok(rig.count('resubmitted') > 0);
    for (let slot = 0; slot < 40; slot++) {
      t.equal(driver.do(T.IN, slot * 8, driver.dataAt + 700_000, 4096), S.OK);
      const read = driver.bytes.subarray(driver.dataAt + 700_000, driver.dataAt + 704_096);
      t.equal(Buffer.compare(read, pattern(4096, slot)), 0);
    }
  },
);

await t.test('one guest at a time: another waits until the first has gone', async t => {
  const { rig, driver } = set(t);
  const second = new Driver({ turn: rig.turn });
  t.teardown(() => second.close());
  const socket = rig.connect();
  for (let i = 0; i < 5; i++) rig.turn();
  t.equal(rig.count('connections'), 1);
  driver.hangUp();
  rig.turn();
  second.begin(socket);
  t.equal(second.do(T.FLUSH, 0, 0, 0), S.OK);
  t.equal(rig.count('connectionsTotal'), 2);
});

await t.test('a QEMU that connects and says nothing is told of', async t => {
  const { rig, driver } = set(t);
  driver.hangUp();
  rig.turn();
  const second = new Driver({ turn: rig.turn });
  t.teardown(() => second.close());
  const socket = rig.connect();
  rig.turn();
  t.equal(rig.fault, null);
  rig.now_ms += 6000;
  for (let i = 0; i < 3; i++) rig.turn();
  t.match(rig.fault, /says nothing/);
  second.begin(socket);
  t.equal(second.do(T.FLUSH, 0, 0, 0), S.OK);
  t.equal(rig.fault, null, 'so slow it was');
});

await t.test('a disk that grew: QEMU is told, and finds the new size', async t => {
  const { rig, driver, below } = set(t);
  below.size_bytes = 2 * SIZE;
  rig.now_ms += 1000;
  rig.turn();
  const bytes = new Uint8Array(64);
  t.equal(recvFds(driver.channel, bytes, 0).length_bytes, 12);
  t.same([bytes[0], bytes[4], bytes[8]], [2, 1, 0], 'VHOST_USER_BACKEND_CONFIG_CHANGE_MSG');
  t.equal(driver.config().getUint32(0, true), (2 * SIZE) / 512);
  t.equal(driver.do(T.IN, SIZE / 512, driver.dataAt, 512), S.OK);
});

await t.test('withdrawn and stopped: what was taken is answered first, within the limit', async t => {
  const { rig, driver } = set(t, { faults: SLOW });
  driver.layHeader(0, 0, T.OUT, 0);
  driver.chain(0, 0, [
    { at: driver.headerAt(0, 0), length: 16, write: false },
    { at: driver.dataAt, length: 4096, write: false },
    { at: driver.statusAt(0, 0), length: 1, write: true },
  ]);
  driver.kick(0);
  rig.turn();
  rig.tell({ type: 'withdraw', exportId: 3, reply: 50 });
  t.ok(rig.done(50));
  t.equal(driver.ready(0), 1);
  t.equal(driver.reply(3), undefined, 'hung up on');
  rig.offer();
  driver.hangUp();
  driver.begin(rig.connect());
  t.equal(driver.wait(0), 0);
  t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK);
  rig.tell({ type: 'stop', reply: 51 });
  t.ok(rig.done(51));
});

await t.test('what never answers holds up a withdrawal no longer than the limit', async t => {
  const { rig, driver } = set(t, { faults: { ...SLOW, delay_ppm: 1_000_000, delayTurns: 100_000 } });
  driver.do(T.IN, 0, driver.dataAt, 512, 0, 20);
  rig.tell({ type: 'withdraw', exportId: 3, reply: 50 });
  t.notOk(rig.done(50, 50));
  rig.now_ms += 5001;
  t.ok(rig.done(50, 50));
});
