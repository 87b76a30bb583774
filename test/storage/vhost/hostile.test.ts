/** What a driver or a QEMU may do wrong: it costs them their queue or their connection, and nobody else anything. */
import t, { type Test } from 'tap';
import { createMemfd, F_SEAL_SHRINK } from '../../../host/foreign.js';
import { close } from '../../../host/raw.js';
import { REQUEST, emitConfig, emitInflight, emitMemTable } from '../../../host/vhost/wire.js';
import { S, T } from '../../../storage/vhost/virtioBlk.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { Driver, GUEST, INDIRECT, type Descriptor } from './driver.js';
import { Rig } from './rig.js';

function set(t: Test, queues = 1): { rig: Rig; driver: Driver } {
  const later = new Later();
  const rig = new Rig(t, new MemoryVolume(1 << 24, later), later);
  const driver = new Driver({ queues, turn: rig.turn });
  t.teardown(() => driver.close());
  driver.begin(rig.connect());
  return { rig, driver };
}

await t.test(
  'nonsense in a queue stops that queue, says why, and ends with its driver’s new start',
  async t => {
    const header = (driver: Driver): Descriptor => ({ at: driver.headerAt(0, 0), length: 16, write: false });
    const status = (driver: Driver): Descriptor => ({ at: driver.statusAt(0, 0), length: 1, write: true });
    const cases: [says: RegExp, does: (driver: Driver) => void][] = [
      [/descriptor 64 is made available, of 64/, driver => driver.offer(0, 64)],
      [/available index/, driver => ((driver.available[0]! += 0), driver.u16.set([70], (0x4000 >>> 1) + 1))],
      [/to be read and 0 to be written: no request/, driver => driver.chain(0, 0, [header(driver)])],
      [
        /12 bytes to be read/,
        driver => driver.chain(0, 0, [{ ...header(driver), length: 12 }, status(driver)]),
      ],
      [/0 bytes to be read/, driver => driver.chain(0, 0, [status(driver)])],
      [
        /to be read, behind one that is to be written/,
        driver => driver.chain(0, 0, [header(driver), status(driver), { ...header(driver), length: 512 }]),
      ],
      [
        /outside of the memory/,
        driver =>
          driver.chain(0, 0, [header(driver), { at: 1 << 30, length: 512, write: true }, status(driver)]),
      ],
      [
        /outside of the memory/,
        driver =>
          driver.chain(0, 0, [header(driver), { at: driver.dataAt, length: 0xffff_ffff, write: true }]),
      ],
      [/outside of the memory/, driver => driver.chain(0, 0, [{ at: -GUEST, length: 16, write: false }])],
      [
        /does not end/,
        driver => {
          driver.descriptor(0, header(driver), 1, 1);
          driver.descriptor(16, { at: driver.dataAt, length: 512, write: false }, 1, 0);
          driver.offer(0, 0);
        },
      ],
      [
        /leads to 64/,
        driver => {
          driver.descriptor(0, header(driver), 1, 64);
          driver.offer(0, 0);
        },
      ],
      [
        /indirect table of 17 bytes/,
        driver => {
          driver.descriptor(0, { at: driver.dataAt, length: 17, write: false }, INDIRECT, 0);
          driver.offer(0, 0);
        },
      ],
    ];
    for (const [says, does] of cases) {
      const { rig, driver } = set(t, 2);
      driver.layHeader(0, 0, T.IN, 0);
      does(driver);
      driver.kicks[0]!.signal();
      for (let i = 0; i < 4; i++) rig.turn();
      t.match(rig.fault, says);
      t.equal(rig.count('guestFaults'), 1);
      t.equal(driver.do(T.IN, 0, driver.dataAt, 512, 1), S.OK, 'the other queue goes on');
      driver.restart();
      t.equal(rig.fault, null);
      t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK);
    }
  },
);

await t.test('a QEMU that breaks the rules is hung up on, and told', async t => {
  const memfd = createMemfd('x', 8192, F_SEAL_SHRINK);
  const soft = createMemfd('x', 8192, 0);
  t.teardown(() => (close(memfd), close(soft)));
  const area = { mmapSize_bytes: 8192, mmapOffset_bytes: 0, queues: 1, queueSize: 64 };
  const cases: [says: RegExp, does: (driver: Driver) => void][] = [
    [/GET_CONFIG has a wrong length/, driver => driver.message(REQUEST.GET_CONFIG, () => 8)],
    [
      /GET_CONFIG has a wrong length/,
      driver => driver.message(REQUEST.GET_CONFIG, view => emitConfig(view, 0, 200, new Uint8Array(100))),
    ],
    [/no event fd/, driver => driver.u64(REQUEST.SET_VRING_CALL, 0n, [memfd])],
    [/queue 9, and there are 4/, driver => driver.state(REQUEST.SET_VRING_ENABLE, 9, 1)],
    [
      /not sealed/,
      driver => {
        driver.stopQueue(0);
        driver.message(REQUEST.SET_INFLIGHT_FD, view => emitInflight(view, 0, area, 24), [soft]);
      },
    ],
    [
      /while queues run/,
      driver => driver.message(REQUEST.SET_INFLIGHT_FD, view => emitInflight(view, 0, area, 24), [memfd]),
    ],
    [
      /of the .* needed/,
      driver => {
        driver.stopQueue(0);
        const small = { ...area, mmapSize_bytes: 64 };
        driver.message(REQUEST.SET_INFLIGHT_FD, view => emitInflight(view, 0, small, 24), [memfd]);
      },
    ],
    [
      /names 5 queues/,
      driver => {
        const many = { ...area, queues: 5 };
        driver.message(REQUEST.GET_INFLIGHT_FD, view => emitInflight(view, 0, many, 24));
      },
    ],
    [
      /its file has/,
      driver => {
        const long = [{ guestAddress: 0, size_bytes: 1 << 20, userAddress: 0, mmapOffset_bytes: 0 }];
        driver.message(REQUEST.SET_MEM_TABLE, view => emitMemTable(view, 0, long), [memfd]);
      },
    ],
    [/which was not offered/, driver => driver.message(REQUEST.NET_SET_MTU, () => 8)],
    [/bytes of payload/, driver => driver.message(REQUEST.GET_CONFIG, () => 400)],
  ];
  for (const [says, does] of cases) {
    const { rig, driver } = set(t);
    does(driver);
    for (let i = 0; i < 3; i++) rig.turn();
    t.match(rig.fault, says);
    t.equal(rig.count('guestRefused'), 1);
    t.equal(rig.count('connections'), 0);
    driver.hangUp();
    driver.begin(rig.connect());
    t.equal(driver.do(T.IN, 0, driver.dataAt, 512), S.OK, 'and is served when it comes again');
    t.equal(rig.fault, null);
  }
});

await t.test('more than may be under way waits in its ring', async t => {
  const later = new Later();
  const slow = new FaultyVolume(new MemoryVolume(1 << 24, later), later, {
    seed: 1,
    again_ppm: 1_000_000,
    delay_ppm: 1_000_000,
    delayTurns: 1000,
  });
  const rig = new Rig(t, slow, later);
  const driver = new Driver({ num: 1024, turn: rig.turn });
  t.teardown(() => driver.close());
  driver.begin(rig.connect());
  for (let i = 0; i < 300; i++) {
    driver.layHeader(0, i, T.IN, 0);
    driver.chain(0, i * 3, [
      { at: driver.headerAt(0, i), length: 16, write: false },
      { at: driver.dataAt, length: 4096, write: true },
      { at: driver.statusAt(0, i), length: 1, write: true },
    ]);
  }
  driver.kick(0);
  for (let i = 0; i < 20; i++) rig.turn();
  t.equal(rig.count('slowReads') - driver.ready(0), 128);
  let answered = 0;
  for (; answered < 300; answered++) if (driver.wait(0) < 0) break;
  t.equal(answered, 300);
});
