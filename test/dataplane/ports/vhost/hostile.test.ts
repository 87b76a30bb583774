/** Guests and peers that break the rules: what is stopped, what it says, and that nobody else notices. */
import t from 'tap';
import { createMemfd, ForeignMemory, memoryProblem } from '../../../../host/foreign.js';
import * as raw from '../../../../host/raw.js';
import { C } from '../../../../dataplane/engine/counters.js';
import { REQUEST, emitVringAddress } from '../../../../host/vhost/wire.js';
import { BUFFER_BYTES, GUEST, INDIRECT, NEXT, NUM, RING_STEP, USER, WRITE } from './driver.js';
import type { Driver } from './driver.js';
import { INDIRECT_DESC, MRG_RXBUF, VERSION_1, join } from './join.js';

const FEATURES = VERSION_1 | MRG_RXBUF | INDIRECT_DESC;
const TABLE_AT = 0x30_0000;

/** What the guest does to its ring 1, and what is said of it. */
const NONSENSE: [name: string, write: (driver: Driver) => void, says: RegExp][] = [
  [
    'an available index beyond the ring',
    driver => driver.view.setUint16(RING_STEP + 0x4002, 1000, true),
    /available index 1000 is 1000 ahead of 0/,
  ],
  ['a head that is no descriptor', driver => driver.makeAvailable(1, NUM), /descriptor 64 is made available/],
  [
    'memory that it does not have',
    driver => {
      driver.describe(1, 0, 0x10, 100, 0);
      driver.makeAvailable(1, 0);
    },
    /points outside of the memory/,
  ],
  [
    'a buffer that ends beyond its memory',
    driver => {
      driver.describe(1, 0, GUEST + (4 << 20) - 50, 100, 0);
      driver.makeAvailable(1, 0);
    },
    /points outside/,
  ],
  [
    'an address near the end of all addresses',
    driver => {
      driver.describe(1, 0, 0, 100, 0);
      driver.view.setBigUint64(driver.descriptorAt(1, 0), 0xffff_ffff_ffff_ffc0n, true);
      driver.makeAvailable(1, 0);
    },
    /points outside/,
  ],
  [
    'a chain that bites its tail',
    driver => {
      driver.describe(1, 0, GUEST + (1 << 20), 10, NEXT, 1);
      driver.describe(1, 1, GUEST + (1 << 20), 10, NEXT, 0);
      driver.makeAvailable(1, 0);
    },
    /does not end/,
  ],
  [
    'a chain that leads out of the table',
    driver => {
      driver.describe(1, 0, GUEST + (1 << 20), 10, NEXT, 999);
      driver.makeAvailable(1, 0);
    },
    /leads to 999/,
  ],
  [
    'a buffer for writing where there should be a frame',
    driver => {
      driver.describe(1, 0, GUEST + (1 << 20), 100, WRITE);
      driver.makeAvailable(1, 0);
    },
    /is for writing/,
  ],
  [
    'an indirect table inside an indirect table',
    driver => {
      driver.describeAt(TABLE_AT, GUEST + TABLE_AT, 32, INDIRECT);
      driver.describe(1, 0, GUEST + TABLE_AT, 32, INDIRECT);
      driver.makeAvailable(1, 0);
    },
    /indirect where that is not allowed/,
  ],
  [
    'an indirect table of an odd length',
    driver => {
      driver.describe(1, 0, GUEST + TABLE_AT, 33, INDIRECT);
      driver.makeAvailable(1, 0);
    },
    /indirect table of 33 bytes/,
  ],
  [
    'an indirect table of a gigabyte',
    driver => {
      driver.describe(1, 0, GUEST + TABLE_AT, 0x4000_0000, INDIRECT);
      driver.makeAvailable(1, 0);
    },
    /indirect table of 1073741824 bytes/,
  ],
  [
    'a length beyond 2 GiB',
    driver => {
      driver.describe(1, 0, GUEST, 0xffff_ffff, 0);
      driver.makeAvailable(1, 0);
    },
    /points outside/,
  ],
];

void t.test('a queue with nonsense in it stops, says why, and starts with its driver', t => {
  for (const [name, write, says] of NONSENSE) {
    const joined = join(t);
    const driver = joined.dial({ features: FEATURES });
    driver.begin();
    write(driver);
    driver.kick(1);
    joined.rig.settle();
    t.equal(joined.link.state, 'error', name);
    t.match(joined.link.reason, says);
    t.match(joined.link.reason, /^the guest's queue 1 is stopped until its driver starts anew/);
    t.equal(joined.link.counters[C.ringFaults], 1);
    t.equal(joined.memory.sent.length, 0);
    driver.provide(2);
    joined.memory.arrive(new Uint8Array(60));
    joined.rig.settle();
    t.equal(driver.take().length, 1, 'its other queue goes on');
    // The driver is started anew.
    driver.state(REQUEST.GET_VRING_BASE, 1, 0);
    driver.reply();
    driver.bytes.fill(0, RING_STEP, 2 * RING_STEP);
    driver.available[1] = 0;
    driver.startRing(1, 0);
    t.equal(joined.link.state, 'up');
    driver.send(new Uint8Array(60));
    driver.kick(1);
    joined.rig.settle();
    t.equal(joined.memory.sent.length, 1, 'and so is its queue');
  }
  t.end();
});

void t.test('frames that are none cost only themselves', t => {
  const joined = join(t);
  const driver = joined.dial({ features: FEATURES });
  driver.begin();
  // Too short; too long (67,000 bytes out of one descriptor); only a header.
  driver.send(new Uint8Array(13));
  driver.describe(1, 1, GUEST + (1 << 20), 67_000, 0);
  driver.makeAvailable(1, 1);
  driver.describe(1, 2, GUEST + (1 << 20), 5, 0);
  driver.makeAvailable(1, 2);
  driver.send(new Uint8Array(60));
  driver.kick(1);
  joined.rig.settle();
  t.equal(joined.link.counters[C.ifInErrors], 3);
  t.equal(joined.memory.sent.length, 1);
  t.equal(driver.usedIndex(1), 4, 'all given back');
  t.equal(joined.link.state, 'up');
  t.end();
});

void t.test('an empty buffer that is read-only: the queue to the guest stops', t => {
  const joined = join(t);
  const driver = joined.dial({ features: FEATURES });
  driver.begin();
  driver.describe(0, 0, GUEST + (1 << 20), BUFFER_BYTES, 0);
  driver.makeAvailable(0, 0);
  joined.memory.arrive(new Uint8Array(60));
  joined.rig.settle();
  t.match(joined.link.reason, /queue 0 .* read-only/);
  t.end();
});

/** What the peer says, and what is said of it. */
const LIES: [name: string, say: (driver: Driver) => void, says: RegExp][] = [
  [
    'features that were not offered',
    driver => driver.u64(REQUEST.SET_FEATURES, 1n << 34n),
    /0x400000000 that/,
  ],
  ['a request that nobody knows', driver => driver.message(99, () => 0), /request 99/],
  [
    'a queue that is not there',
    driver => driver.state(REQUEST.SET_VRING_NUM, 7, 64),
    /queue 7, and there are 2/,
  ],
  ['a ring of 100', driver => driver.state(REQUEST.SET_VRING_NUM, 0, 100), /100 descriptors/],
  ['a kick without its fd', driver => driver.u64(REQUEST.SET_VRING_KICK, 0n), /without its fd/],
  [
    'a kick fd that is a file',
    driver => driver.u64(REQUEST.SET_VRING_KICK, 0n, [driver.memfd]),
    /no event fd/,
  ],
  ['a payload of a wrong length', driver => driver.message(REQUEST.SET_FEATURES, () => 5), /wrong length/],
  [
    'a payload without end',
    driver => driver.message(REQUEST.SET_FEATURES, () => 400),
    /400 bytes of payload/,
  ],
  [
    'regions that overlap',
    driver => driver.setMemory([driver.regions()[0]!, driver.regions()[0]!]),
    /regions 0 and 1 overlap/,
  ],
  [
    'a region longer than its file',
    driver => driver.setMemory([{ ...driver.regions()[0]!, size_bytes: 1 << 30 }]),
    /its file has 4194304 bytes/,
  ],
  [
    'a region of almost all addresses',
    driver => driver.setMemory([{ ...driver.regions()[0]!, size_bytes: 2 ** 52 }]),
    /its file has/,
  ],
  ['fewer fds than regions', driver => driver.setMemory(driver.regions(), [driver.memfd]), /came with 1 fds/],
];

void t.test('a peer that breaks the rules is hung up on, and said why', t => {
  for (const [name, say, says] of LIES) {
    const joined = join(t);
    const driver = joined.dial({ features: FEATURES });
    say(driver);
    t.equal(joined.link.state, 'error', name);
    t.match(joined.link.reason, says);
    t.equal(joined.link.counters[C.messagesRefused], 1);
    const again = joined.dial({ features: FEATURES });
    again.begin();
    t.equal(joined.link.state, 'up', 'it is dialled again');
  }
  t.end();
});

void t.test('memory that could be cut off under us is taken only from who is trusted', t => {
  const joined = join(t);
  joined.dial({ features: FEATURES, seals: 0 }).setMemory();
  t.match(joined.link.reason, /not sealed against shrinking/);
  const trusting = join(t, { trusted: true });
  trusting.dial({ features: FEATURES, seals: 0 }).begin();
  t.equal(trusting.link.state, 'up');
  t.end();
});

void t.test('rings outside of the memory', t => {
  const joined = join(t);
  const driver = joined.dial({ features: FEATURES });
  driver.begin();
  driver.message(REQUEST.SET_VRING_ADDR, view =>
    emitVringAddress(view, 0, {
      index: 1,
      flags: 0,
      descriptors: USER + (4 << 20) - 512,
      available: USER,
      used: USER + 0x5000,
    }),
  );
  t.match(joined.link.reason, /queue 1 .* its descriptors do not lie in the memory/);
  t.end();
});

void t.test('a memory table under running rings: they go on in the new one', t => {
  const joined = join(t);
  const driver = joined.dial({ features: FEATURES });
  driver.begin();
  driver.send(new Uint8Array(60));
  driver.kick(1);
  joined.rig.settle();
  driver.setMemory();
  driver.send(new Uint8Array(60));
  driver.kick(1);
  joined.rig.settle();
  t.equal(joined.memory.sent.length, 2);
  t.equal(joined.link.state, 'up');
  t.end();
});

void t.test('memory of more than one window, and what is wrong with fds as memory', t => {
  const fd = createMemfd('large', 3 * 2 ** 30, 0);
  const memory = new ForeignMemory(fd, 4096, 3 * 2 ** 30 - 4096);
  t.equal(memory.windows.length, 3);
  memory.windows[0]!.view.setInt32(2 ** 30 + 8, 0x1234);
  t.equal(memory.windows[1]!.view.getInt32(8), 0x1234, 'windows overlap');
  memory.windows[2]!.view.setInt32(2 ** 30 - 8192, 7);
  memory.unmap();
  t.match(memoryProblem(fd, 2 ** 32, true), /has 3221225472 bytes/);
  t.match(memoryProblem(fd, 10, false), /not sealed/);
  raw.close(fd);
  t.match(memoryProblem(fd, 10, true), /cannot be looked at/);
  t.end();
});
