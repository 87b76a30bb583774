import t from 'tap';
import { Budget } from '../../../storage/nbd/chunks.js';
import { LARGE_CHUNK_BYTES, MAXIMUM_PAYLOAD_BYTES, PIECE_BYTES } from '../../../storage/nbd/limits.js';
import * as wire from '../../../storage/nbd/wire.js';
import { FaultyVolume, type Faults } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { Talk, flags, option, requestBytes, type TalkOptions } from './talk.js';

const { NBD_CMD_READ: READ, NBD_CMD_WRITE: WRITE, NBD_CMD_FLUSH: FLUSH, NBD_CMD_DISC: DISC } = wire;
const {
  NBD_CMD_TRIM: TRIM,
  NBD_CMD_WRITE_ZEROES: ZEROES,
  NBD_CMD_BLOCK_STATUS: STATUS,
  NBD_CMD_CACHE: CACHE,
} = wire;
const SIZE = 64 * 1024 * 1024;

function setUp(
  options: TalkOptions & { faults?: Omit<Faults, 'seed'>; size?: number; capacity?: number } = {},
): {
  talk: Talk;
  volume: MemoryVolume;
} {
  const later = new Later();
  const volume = new MemoryVolume(options.size ?? SIZE, later, options.capacity);
  const layered =
    options.faults === undefined ? volume : new FaultyVolume(volume, later, { seed: 3, ...options.faults });
  return { talk: new Talk(layered, later, options), volume };
}

function bytes(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = (i * 7 + seed + (i >>> 12)) & 0xff;
  return out;
}

/** At once, always later, and by simple replies. */
const WAYS: [string, Parameters<typeof setUp>[0]][] = [
  ['at once', {}],
  ['later', { faults: { again_ppm: 1_000_000, delay_ppm: 300_000 } }],
  ['simple replies', { structured: false }],
  ['simple replies, later', { structured: false, faults: { again_ppm: 1_000_000 } }],
];

for (const [way, options] of WAYS) {
  void t.test(`${way}: every command does what it says`, async t => {
    const { talk, volume } = setUp(options);
    talk.enter();
    for (const length of [1, 512, 4096, 65_536, PIECE_BYTES, PIECE_BYTES + 1, 3 * 1024 * 1024 + 5]) {
      talk.request(WRITE, 1, 12_345, length, 0, bytes(length, length));
      t.equal(talk.reply().error, 0, `write of ${length}`);
      talk.request(READ, 2, 12_345, length);
      const reply = talk.reply();
      t.equal(reply.error, 0, `read of ${length}`);
      t.equal(Buffer.compare(reply.data, bytes(length, length)), 0);
    }
    talk.request(WRITE, 3, 0, 65_536, wire.NBD_CMD_FLAG_FUA, bytes(65_536));
    t.equal(talk.reply().error, 0, 'FUA');
    t.equal(volume.flushCount, 1, 'FUA is a flush');
    talk.request(WRITE, 3, 0, PIECE_BYTES * 2, wire.NBD_CMD_FLAG_FUA, bytes(PIECE_BYTES * 2));
    t.equal(talk.reply().error, 0, 'FUA of a long write');
    t.equal(volume.flushCount, 2);
    talk.request(FLUSH, 4, 0, 0);
    t.equal(talk.reply().error, 0);
    t.equal(volume.flushCount, 3);
    talk.request(ZEROES, 5, 4096, 8192, wire.NBD_CMD_FLAG_FUA);
    t.equal(talk.reply().error, 0);
    t.equal(volume.flushCount, 4);
    talk.request(READ, 6, 0, 16_384);
    t.equal(Buffer.compare(talk.reply().data, bytes(16_384).fill(0, 4096, 12_288)), 0);
    talk.request(TRIM, 7, 0, 4096);
    t.equal(talk.reply().error, 0);
    talk.request(CACHE, 8, 0, 65_536);
    t.equal(talk.reply().error, 0);
    talk.request(READ, 9, 100, 0);
    t.equal(talk.reply().error, 0, 'a read of nothing');
    talk.request(WRITE, 10, 100, 0);
    t.equal(talk.reply().error, 0, 'a write of nothing');
    talk.request(TRIM, 11, 100, 0);
    t.equal(talk.reply().error, 0, 'a trim of nothing');
    talk.request(DISC, 0, 0, 0);
    talk.turns(20);
    t.ok(talk.connection.closed);
    t.equal(talk.counter('disconnects'), 1);
    t.equal(talk.counter('abruptDisconnects'), 0);
    t.equal(talk.counter('connections'), 0);
    t.equal(talk.outstanding, 0, 'every chunk was given back');
    t.equal(talk.unparsed_bytes, 0);
  });

  void t.test(`${way}: errors are answered, and the next request is served`, async t => {
    const { talk } = setUp({ ...options, capacity: 1024 * 1024 });
    talk.enter();
    const tooMuch = options?.structured === false ? wire.NBD_EINVAL : wire.NBD_EOVERFLOW;
    const cases: [string, number, number | bigint, number, number, Uint8Array | undefined, number][] = [
      ['read beyond the end', READ, SIZE - 1, 2, 0, undefined, wire.NBD_EINVAL],
      ['read at 2^63', READ, 2n ** 63n, 4096, 0, undefined, wire.NBD_EINVAL],
      ['read of too much', READ, 0, MAXIMUM_PAYLOAD_BYTES + 1, 0, undefined, tooMuch],
      ['write beyond the end', WRITE, SIZE - 1, 4096, 0, bytes(4096), wire.NBD_ENOSPC],
      ['long write beyond the end', WRITE, SIZE - 4096, 600_000, 0, bytes(600_000), wire.NBD_ENOSPC],
      ['write that is too long', WRITE, 0, 33_554_433, 0, Buffer.alloc(33_554_433), wire.NBD_EINVAL],
      ['write to a full disk', WRITE, 0, 2 * 1024 * 1024, 0, bytes(2 * 1024 * 1024), wire.NBD_ENOSPC],
      ['unknown command', 4711, 0, 0, 0, undefined, wire.NBD_EINVAL],
      ['unknown flag', READ, 0, 4096, 1 << 12, undefined, wire.NBD_EINVAL],
      ['write with a bad flag', WRITE, 0, 4096, wire.NBD_CMD_FLAG_REQ_ONE, bytes(4096), wire.NBD_EINVAL],
      ['flush of a range', FLUSH, 0, 4096, 0, undefined, wire.NBD_EINVAL],
    ];
    let errors = 0;
    for (const [what, type, offset, length, commandFlags, payload, wanted] of cases) {
      talk.request(type, 42, offset, length, commandFlags, payload);
      t.equal(talk.reply().error, wanted, what);
      t.equal(talk.counter('errorReplies'), ++errors);
    }
    talk.request(TRIM, 2, 0, SIZE);
    t.equal(talk.reply().error, 0);
    talk.request(WRITE, 3, 0, 4096, 0, bytes(4096));
    t.equal(talk.reply().error, 0);
    talk.request(READ, 4, 0, 4096);
    t.equal(Buffer.compare(talk.reply().data, bytes(4096)), 0);
    t.notOk(talk.connection.closed);
  });

  void t.test(`${way}: a disk's error reaches the client`, async t => {
    const later = new Later();
    const volume = new FaultyVolume(new MemoryVolume(SIZE, later), later, {
      seed: 1,
      again_ppm: options?.faults?.again_ppm ?? 0,
      error_ppm: 1_000_000,
    });
    const talk = new Talk(volume, later, options).enter();
    for (const [type, length, payload] of [
      [READ, 4096, undefined],
      [READ, 2 * PIECE_BYTES, undefined],
      [WRITE, 4096, bytes(4096)],
      [WRITE, 2 * PIECE_BYTES, bytes(2 * PIECE_BYTES)],
      [TRIM, 4096, undefined],
      [ZEROES, 4096, undefined],
    ] as const) {
      talk.request(type, 1, 0, length, 0, payload);
      t.equal(talk.reply().error, wire.NBD_EIO, `command ${type}, ${length} bytes`);
    }
    talk.request(DISC, 0, 0, 0);
    talk.turns(20);
    t.equal(talk.outstanding, 0);
    t.equal(talk.budget.left_bytes, new Budget().left_bytes);
  });
}

void t.test('a failed flush answers EIO, also to FUA', async t => {
  const { talk } = setUp({ faults: { flushError_ppm: 1_000_000 } });
  talk.enter();
  talk.request(WRITE, 1, 0, 4096, wire.NBD_CMD_FLAG_FUA, bytes(4096));
  t.equal(talk.reply().error, wire.NBD_EIO);
  talk.request(FLUSH, 2, 0, 0);
  t.equal(talk.reply().error, wire.NBD_EIO);
  talk.request(WRITE, 3, 0, 4096, 0, bytes(4096));
  t.equal(talk.reply().error, wire.NBD_EIO, 'writes fail from then on');
  talk.request(READ, 4, 0, 4096);
  t.equal(talk.reply().error, 0, 'reads go on');
});

void t.test('a read-only export refuses whatever writes', async t => {
  const { talk, volume } = setUp({ readOnly: true });
  talk.enter();
  for (const type of [WRITE, TRIM, ZEROES]) {
    talk.request(type, 1, 0, 4096, 0, type === WRITE ? bytes(4096) : undefined);
    t.equal(talk.reply().error, wire.NBD_EPERM);
  }
  talk.request(WRITE, 1, 0, 1024 * 1024, 0, bytes(1024 * 1024));
  t.equal(talk.reply().error, wire.NBD_EPERM, 'a long one');
  t.equal(volume.allocated_bytes, 0);
  talk.request(FLUSH, 2, 0, 0);
  t.equal(talk.reply().error, 0);
});

void t.test('block status: holes, data, one extent, no context', async t => {
  const { talk } = setUp();
  talk.enter();
  talk.request(WRITE, 1, 65_536, 8192, 0, bytes(8192));
  talk.reply();
  talk.request(STATUS, 2, 0, 131_072);
  t.same(talk.reply().extents, [
    [65_536, 3],
    [8192, 0],
    [57_344, 3],
  ]);
  talk.request(STATUS, 3, 4096, 131_072, wire.NBD_CMD_FLAG_REQ_ONE);
  t.same(talk.reply().extents, [[61_440, 3]]);
  talk.request(STATUS, 4, 0, 0);
  t.equal(talk.reply().error, wire.NBD_EINVAL);
  const without = setUp({ contexts: false }).talk.enter();
  without.request(STATUS, 5, 0, 4096);
  t.equal(without.reply().error, wire.NBD_EINVAL);
});

void t.test('block status of a fragmented range tells a part of it', async t => {
  const { talk } = setUp();
  talk.enter();
  for (let i = 0; i < 600; i++) talk.request(WRITE, i, i * 8192, 4096, 0, bytes(4096));
  talk.replies(600);
  talk.request(STATUS, 1, 0, 600 * 8192);
  const { extents } = talk.reply();
  t.equal(extents.length, 512);
  t.same(extents[511], [4096, 3]);
});

void t.test('a burst is answered by few sends, in any cut', async t => {
  const { talk } = setUp();
  talk.enter();
  talk.request(WRITE, 1, 0, 262_144, 0, bytes(262_144));
  talk.reply();
  talk.wire.sendCount = 0;
  for (let i = 0; i < 32; i++) talk.request(READ, i, i * 4096, 4096);
  const replies = talk.replies(32);
  t.ok(talk.wire.sendCount <= 2, `${talk.wire.sendCount} sends`);
  for (const { cookie, data } of replies)
    t.equal(Buffer.compare(data, bytes(262_144).subarray(cookie * 4096, (cookie + 1) * 4096)), 0);

  for (const limit of [1, 7, 27, 28, 29, 1000]) {
    talk.wire.recvLimit = () => limit;
    talk.wire.sendLimit = () => limit * 3;
    talk.request(WRITE, 1, 4096, 5000, 0, bytes(5000, 9));
    talk.request(READ, 2, 4096, 5000);
    const [, read] = talk.replies(2);
    t.equal(Buffer.compare(read!.data, bytes(5000, 9)), 0, `${limit} bytes at a time`);
  }
});

void t.test('a client that does not read its replies stalls itself and nothing else', async t => {
  const { talk } = setUp();
  talk.enter();
  talk.wire.sendLimit = () => 0;
  for (let i = 0; i < 12_000; i++) talk.request(READ, i, 0, 4096);
  talk.turns(200);
  t.ok(talk.wire.toServer.length > 0, 'its requests are left in the socket');
  t.ok(talk.outstanding <= 4, `${talk.outstanding} chunks held`);
  t.equal(talk.counter('stalls'), 1);
  t.notOk(talk.connection.wantsInput);
  t.ok(talk.connection.wantsOutput);
  talk.wire.sendLimit = () => 100_000;
  t.equal(talk.replies(12_000).length, 12_000, 'and gets all of them when it does');
  t.equal(talk.outstanding, 0);
});

void t.test('what waits for the disk is bounded, too', async t => {
  const { talk } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000, delayTurns: 20 } });
  talk.enter();
  for (let i = 0; i < 1000; i++) talk.request(READ, i, i * 4096, 4096);
  talk.turn();
  talk.turn();
  t.ok(talk.outstanding <= 130, `${talk.outstanding} chunks held`);
  t.equal(talk.replies(1000).length, 1000);
  for (let i = 0; i < 100; i++) talk.request(READ, i, 0, PIECE_BYTES);
  talk.turn();
  talk.turn();
  t.ok(talk.outstanding * LARGE_CHUNK_BYTES < 10 * 1024 * 1024, `${talk.outstanding} large chunks held`);
  t.equal(talk.replies(100).length, 100);
  t.equal(talk.outstanding, 0);
});

void t.test('requests wait for the common budget in their turn, and are not lost', async t => {
  const later = new Later();
  const volume = new FaultyVolume(new MemoryVolume(SIZE, later), later, {
    seed: 1,
    again_ppm: 1_000_000,
    delay_ppm: 500_000,
  });
  const budget = new Budget(1024 * 1024);
  const talks = Array.from({ length: 8 }, () => new Talk(volume, later, { budget }).enter());
  for (const talk of talks) {
    for (let i = 0; i < 20; i++) talk.request(READ, i, 0, PIECE_BYTES);
    talk.request(READ, 99, 0, 1024 * 1024);
  }
  const left = new Map(talks.map(talk => [talk, 21]));
  for (let turns = 0; turns < 20_000 && left.size > 0; turns++) {
    for (const [talk, count] of left) {
      talk.turn();
      try {
        left.set(talk, count - talk.replies(1, 1).length);
      } catch {
        // none yet
      }
      if (left.get(talk)! <= 0) left.delete(talk);
    }
  }
  t.equal(left.size, 0, 'all were answered');
  t.equal(budget.left_bytes, 1024 * 1024, 'and all was given back');
});

void t.test('NBD_CMD_DISC: what is in flight is answered first', async t => {
  const { talk } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000, delayTurns: 10 } });
  talk.enter();
  talk.request(WRITE, 1, 0, 4096, wire.NBD_CMD_FLAG_FUA, bytes(4096));
  talk.request(READ, 2, 4096, 4096);
  talk.request(DISC, 3, 0, 0);
  talk.request(READ, 4, 0, 4096); // not allowed any more, and not looked at
  t.equal(talk.replies(2).length, 2);
  talk.turns(10);
  t.ok(talk.connection.closed);
  t.equal(talk.unparsed_bytes, 0);
});

void t.test('a client that shuts down its half still gets its replies', async t => {
  const { talk } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000 } });
  talk.enter();
  for (let i = 0; i < 10; i++) talk.request(READ, i, 0, 4096);
  talk.wire.clientClosed = true;
  t.equal(talk.replies(10).length, 10);
  talk.turns(10);
  t.ok(talk.connection.closed);
  t.equal(talk.counter('abruptDisconnects'), 1);
});

void t.test('a client that vanishes in the middle of a request changes nothing', async t => {
  for (const sent of [0, 5, 28, 29, 4000]) {
    const { talk, volume } = setUp();
    talk.enter();
    talk.say(Buffer.concat([requestBytes(WRITE, 1, 0, 4096), bytes(4096)]).subarray(0, sent));
    talk.turn();
    talk.wire.clientClosed = true;
    talk.turns(3);
    t.ok(talk.connection.closed, `after ${sent} bytes`);
    t.equal(volume.allocated_bytes, 0);
    t.equal(talk.outstanding, 0);
    t.equal(talk.counter('abruptDisconnects'), 1);
  }
});

void t.test('a reset while operations are with the volume: they end, then all is given back', async t => {
  const { talk, volume } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000, delayTurns: 30 } });
  talk.enter();
  for (let i = 0; i < 20; i++) talk.request(READ, i, 0, PIECE_BYTES);
  talk.request(WRITE, 50, 0, 8192, 0, bytes(8192));
  talk.request(WRITE, 51, 65_536, PIECE_BYTES * 3, 0, bytes(PIECE_BYTES * 3));
  talk.turns(3);
  t.ok(talk.outstanding > 0);
  talk.wire.broken = true;
  talk.turns(200);
  t.ok(talk.connection.closed);
  t.equal(talk.outstanding, 0);
  t.equal(talk.budget.left_bytes, new Budget().left_bytes);
  t.ok(volume.allocated_bytes >= 0);
});

void t.test('abandon: nothing more is sent, and it closes when the volume has answered', async t => {
  const { talk } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000 } });
  talk.enter();
  for (let i = 0; i < 20; i++) talk.request(READ, i, 0, 4096);
  talk.turn();
  talk.connection.abandon();
  const sends = talk.wire.sendCount;
  talk.turns(100);
  t.ok(talk.connection.closed);
  t.equal(talk.wire.sendCount, sends);
  t.equal(talk.outstanding, 0);
});

void t.test('drain: what is in flight is answered, what comes after is refused', async t => {
  const { talk } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000 } });
  talk.enter();
  for (let i = 0; i < 5; i++) talk.request(READ, i, 0, 4096);
  talk.turn();
  talk.connection.drain();
  talk.request(READ, 9, 0, 4096);
  talk.request(WRITE, 10, 0, 4096, 0, Buffer.alloc(4096, 1));
  const refused = talk.replies(7).filter(({ error }) => error === wire.NBD_ESHUTDOWN);
  t.same(new Set(refused.map(({ cookie }) => cookie)), new Set([9, 10]));
  talk.turns(20);
  t.ok(talk.connection.closed);
  t.equal(talk.unparsed_bytes, 0);
});

void t.test('drain: whoever asks nothing is gone at once, and half a request holds up nothing', async t => {
  const { talk } = setUp();
  talk.enter();
  talk.say(requestBytes(READ, 1, 0, 4096).subarray(0, 11));
  talk.turn();
  talk.connection.drain();
  talk.turn();
  t.ok(talk.connection.closed);
});

void t.test('hangUp: what is with the volume is answered, what comes after is left unsaid', async t => {
  const { talk } = setUp({ faults: { again_ppm: 1_000_000, delay_ppm: 1_000_000 } });
  talk.enter();
  for (let i = 0; i < 5; i++) talk.request(WRITE, i, 0, 4096, 0, Buffer.alloc(4096, i));
  talk.turn();
  talk.connection.hangUp();
  talk.request(WRITE, 9, 0, 4096, 0, Buffer.alloc(4096, 9));
  t.notOk(talk.connection.closed, 'not while a write is under way, that its client would do again');
  const answers = talk.replies(5);
  t.same(
    new Set(answers.map(({ cookie, error }) => `${cookie} ${error}`)),
    new Set([0, 1, 2, 3, 4].map(cookie => `${cookie} 0`)),
  );
  talk.turns(20);
  t.ok(talk.connection.closed);
  t.equal(talk.outstanding, 0);
  t.equal(talk.unparsed_bytes, 0, 'no answer, not even an error');
});

void t.test('breaches in the transmission phase end the connection and are counted', async t => {
  const magic = setUp().talk.enter();
  magic.request(READ, 1, 0, 4096);
  magic.say(Buffer.alloc(28, 0xff));
  t.equal(magic.reply().error, 0, 'what came before is answered');
  magic.turns(3);
  t.ok(magic.connection.closed);
  t.equal(magic.counter('badRequestMagic'), 1);

  const long = setUp().talk.enter();
  long.request(WRITE, 1, 0, 0xffff_ffff);
  long.turns(3);
  t.ok(long.connection.closed);
  t.equal(long.counter('oversizedRequests'), 1);
});

void t.test('handshakes that fail are counted, and what was said is still sent', async t => {
  const talk = setUp().talk;
  talk.say(Buffer.concat([flags(3), option(wire.NBD_OPT.ABORT)]));
  talk.turns(3);
  t.ok(talk.connection.closed);
  t.equal(talk.serverCounter('aborted'), 1);
  t.equal(Buffer.concat(talk.wire.fromServer).length, 18 + 20);

  const hangup = setUp().talk;
  hangup.say(flags(3).subarray(0, 2));
  hangup.wire.clientClosed = true;
  hangup.turns(3);
  t.ok(hangup.connection.closed);
  t.equal(hangup.serverCounter('handshakeHangups'), 1);

  const http = setUp().talk;
  http.say(Buffer.concat([flags(3), Buffer.from('GET / HTTP/1.1\r\n\r\n')]));
  http.turns(3);
  t.ok(http.connection.closed);
  t.equal(http.serverCounter('badOptionMagic'), 1);
  t.equal(http.outstanding, 0);
});

void t.test('requests sent together with the handshake are served', async t => {
  const { talk } = setUp({ structured: false });
  const go = option(wire.NBD_OPT.EXPORT_NAME, wire.utf8('disk'));
  talk.say(Buffer.concat([flags(3), go, requestBytes(FLUSH, 1, 0, 0)]));
  talk.turns(5);
  const out = Buffer.concat(talk.wire.fromServer);
  t.equal(out.length, 18 + 10 + 16);
  t.equal(out.readUInt32BE(28), wire.NBD_SIMPLE_REPLY_MAGIC);
});

void t.test('an export that grows serves its new end to those connected', async t => {
  const { talk, volume } = setUp({ size: 1024 * 1024 });
  talk.enter();
  talk.request(READ, 1, 1024 * 1024, 4096);
  t.equal(talk.reply().error, wire.NBD_EINVAL);
  volume.grow(2 * 1024 * 1024);
  talk.request(READ, 2, 1024 * 1024, 4096);
  t.equal(talk.reply().error, 0);
});

void t.test('an idle connection holds no buffer', async t => {
  const { talk } = setUp();
  talk.enter();
  talk.request(WRITE, 1, 0, 65_536, 0, bytes(65_536));
  talk.reply();
  talk.turns(2);
  t.equal(talk.outstanding, 0);
});
