/**
 * Extended headers, and replies in several chunks: what the standard's extension adds, by a client of our own at the other end
 * of a made-up socket. Real clients: the remote volume in test/storage/remote, libnbd where it is new enough.
 */
import fc from 'fast-check';
import t from 'tap';
import { MAXIMUM_PAYLOAD_BYTES, PIECE_BYTES, SLICE_BYTES } from '../../../storage/nbd/limits.js';
import * as wire from '../../../storage/nbd/wire.js';
import { FaultyVolume, type Faults } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import {
  ERRNO,
  pushExtent,
  type BlockMeta,
  type ContextExtentList,
  type ExtentList,
  type Memory,
  type Waiter,
  type ZeroHow,
} from '../../../storage/volume/volume.js';
import { Talk, type TalkOptions } from './talk.js';

const { NBD_CMD_READ: READ, NBD_CMD_WRITE: WRITE, NBD_CMD_FLUSH: FLUSH, NBD_CMD_DISC: DISC } = wire;
const { NBD_CMD_TRIM: TRIM, NBD_CMD_WRITE_ZEROES: ZEROES } = wire;
const { NBD_CMD_BLOCK_STATUS: STATUS, NBD_CMD_CACHE: CACHE } = wire;
const { NBD_CMD_FLAG_PAYLOAD_LEN: PAYLOAD_LEN, NBD_CMD_FLAG_DF: DF } = wire;
const { NBD_REPLY_TYPE_OFFSET_DATA: DATA, NBD_REPLY_TYPE_OFFSET_HOLE: HOLE } = wire;
const MIB = 1024 * 1024;
const TIB = 1024 * 1024 * MIB;
const EXTENDED: TalkOptions = { extended: true };

function bytes(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = ((i * 7 + seed + (i >>> 12)) & 0xff) | 1;
  return out;
}

function setUp(options: TalkOptions & { faults?: Omit<Faults, 'seed'>; size?: number } = {}): {
  talk: Talk;
  volume: MemoryVolume;
} {
  const later = new Later();
  const volume = new MemoryVolume(options.size ?? 64 * MIB, later);
  const layered =
    options.faults === undefined ? volume : new FaultyVolume(volume, later, { seed: 5, ...options.faults });
  return { talk: new Talk(layered, later, options).enter(), volume };
}

/** Says what it was asked, and is as large as you like. */
class VastVolume extends MemoryVolume {
  readonly asked: [what: string, offset: number, length: number][] = [];
  result = 0;
  #later: Later;

  constructor(size_bytes: number, later: Later) {
    super(size_bytes, later);
    this.#later = later;
  }
  override trim(offset: number, length: number, waiter: Waiter, token: number): void {
    this.asked.push(['trim', offset, length]);
    this.#later.answer(waiter, token, this.result);
  }
  override zero(offset: number, length: number, how: ZeroHow, waiter: Waiter, token: number): void {
    this.asked.push([how.fastOnly ? 'fast zero' : 'zero', offset, length]);
    this.#later.answer(waiter, token, this.result);
  }
  override cache(offset: number, length: number, waiter: Waiter, token: number): void {
    this.asked.push(['cache', offset, length]);
    this.#later.answer(waiter, token, 0);
  }
  /** Data in [dataAt, dataAt + 1 MiB), nothing elsewhere. */
  dataAt = Infinity;
  override extents(offset: number, length: number, into: ExtentList): number {
    this.asked.push(['extents', offset, length]);
    into.count = 0;
    const end = offset + length;
    const from = Math.min(Math.max(this.dataAt, offset), end);
    const to = Math.min(Math.max(this.dataAt + MIB, offset), end);
    if (from > offset) pushExtent(into, from - offset, 3);
    if (to > from) pushExtent(into, to - from, 0);
    if (end > to) pushExtent(into, end - to, 3);
    return 0;
  }
}

void t.test('every command by extended headers', async t => {
  for (const faults of [undefined, { again_ppm: 1_000_000, delay_ppm: 300_000 }]) {
    const { talk, volume } = setUp({ extended: true, ...(faults && { faults }) });
    for (const length of [1, 4096, 65_536, PIECE_BYTES, PIECE_BYTES + 1, 3 * MIB + 5]) {
      talk.request(WRITE, 1, 12_345, length, 0, bytes(length, length));
      t.match(talk.reply(), { error: 0, structured: true }, `write of ${length}`);
      talk.request(READ, 2, 12_345, length);
      const reply = talk.reply();
      t.equal(Buffer.compare(reply.data, bytes(length, length)), 0, `read of ${length}`);
    }
    talk.request(WRITE, 3, 0, 65_536, wire.NBD_CMD_FLAG_FUA, bytes(65_536));
    t.equal(talk.reply().error, 0);
    talk.request(FLUSH, 4, 0, 0);
    t.equal(talk.reply().error, 0);
    t.equal(volume.flushCount, 2);
    for (const type of [ZEROES, TRIM, CACHE]) {
      talk.request(type, 5, 4096, 8192, wire.NBD_CMD_FLAG_FUA);
      t.equal(talk.reply().error, 0);
    }
    talk.request(READ, 6, 100, 0);
    t.equal(talk.reply().error, 0, 'a read of nothing');
    talk.request(DISC, 0, 0, 0);
    talk.turns(20);
    t.ok(talk.connection.closed);
    t.equal(talk.counter('disconnects'), 1);
    t.equal(talk.outstanding, 0);
    t.equal(talk.unparsed_bytes, 0);
  }
});

void t.test('lengths beyond 4 GiB: trims and zeroes in slices, caches bounded, reads refused', async t => {
  const later = new Later();
  const volume = new VastVolume(64 * TIB, later);
  const talk = new Talk(volume, later, EXTENDED).enter();
  const length = 5 * 1024 * MIB + 4096;
  for (const [type, flags, what] of [
    [TRIM, 0, 'trim'],
    [ZEROES, 0, 'zero'],
    [ZEROES, wire.NBD_CMD_FLAG_FAST_ZERO, 'fast zero'],
  ] as const) {
    volume.asked.length = 0;
    talk.request(type, 1, 32 * TIB, length, flags | wire.NBD_CMD_FLAG_FUA);
    const flushes = volume.flushCount;
    t.equal(talk.reply().error, 0, what);
    t.equal(volume.asked.length, Math.ceil(length / SLICE_BYTES));
    let at = 32 * TIB;
    for (const [name, offset, part] of volume.asked) {
      t.same([name, offset], [what, at]);
      t.ok(part <= SLICE_BYTES);
      at += part;
    }
    t.equal(at, 32 * TIB + length);
    t.equal(volume.flushCount, flushes + 1, 'one flush, behind the last');
  }
  volume.asked.length = 0;
  talk.request(CACHE, 2, 0, 32 * TIB);
  t.equal(talk.reply().error, 0);
  t.equal(volume.asked.length, 1);
  t.ok(volume.asked[0]![2] <= SLICE_BYTES, 'a hint is not followed for ever');
  talk.request(READ, 3, 0, 5 * 1024 * MIB);
  const refused = talk.reply();
  t.equal(refused.error, wire.NBD_EOVERFLOW);
  t.match(refused.message, /5368709120 bytes: at most 33554432/);
  talk.request(TRIM, 4, 0, 64 * TIB + 1);
  t.equal(talk.reply().error, wire.NBD_EINVAL);
  talk.request(TRIM, 5, 0, 2n ** 64n - 1n);
  t.equal(talk.reply().error, wire.NBD_EINVAL);
  talk.request(ZEROES, 6, 2n ** 64n - 1n, 2n ** 64n - 1n);
  t.equal(talk.reply().error, wire.NBD_ENOSPC, 'no sum overflows, and the offset comes back as it was');
  volume.result = -ERRNO.EOPNOTSUPP;
  volume.asked.length = 0;
  talk.request(ZEROES, 7, 0, length, wire.NBD_CMD_FLAG_FAST_ZERO);
  t.equal(talk.reply().error, wire.NBD_ENOTSUP);
  t.equal(volume.asked.length, 1, 'told at once');
  talk.request(ZEROES, 8, 0, length);
  t.equal(talk.reply().error, wire.NBD_EINVAL, 'ENOTSUP is for fast zeroes alone');
});

void t.test('block status: extents of 64 bits, as far as that is told quickly', async t => {
  const later = new Later();
  const volume = new VastVolume(64 * TIB, later);
  const talk = new Talk(volume, later, EXTENDED).enter();
  talk.request(STATUS, 1, 4096, 10 * 1024 * MIB);
  t.same(talk.reply().extents, [[10 * 1024 * MIB, 3]]);
  talk.request(STATUS, 2, 0, 64 * TIB);
  const [[first]] = talk.reply().extents as [[number, number]];
  t.ok(first >= TIB && first < 64 * TIB, 'bounded');
  volume.dataAt = 9 * 1024 * MIB;
  talk.request(STATUS, 3, 0, 64 * TIB);
  t.same(talk.reply().extents, [[9 * 1024 * MIB, 3]], 'up to the data, which are asked about next');
  talk.request(STATUS, 4, 9 * 1024 * MIB, 64 * MIB);
  t.same(talk.reply().extents, [
    [MIB, 0],
    [63 * MIB, 3],
  ]);
  talk.request(STATUS, 5, 9 * 1024 * MIB, 64 * MIB, wire.NBD_CMD_FLAG_REQ_ONE);
  t.same(talk.reply().extents, [[MIB, 0]]);
  talk.request(STATUS, 6, 0, 64 * TIB + 1);
  t.equal(talk.reply().error, wire.NBD_EINVAL);
});

class TwoContexts extends MemoryVolume {
  readonly brought: [offset_bytes: number, length_bytes: number][] = [];
  /** Its map has to be brought for every answer. */
  cold = false;
  readonly #later: Later;
  constructor(size_bytes: number, later: Later) {
    super(size_bytes, later);
    this.#later = later;
  }
  readonly meta: BlockMeta = {
    bring: (offset_bytes, length_bytes, waiter, token) => {
      if (this.cold) this.#later.answer(waiter, token, 0);
      this.brought.push([offset_bytes, length_bytes]);
      return this.cold;
    },
    contexts: () => ['qemu:allocation-depth', '', 'qemu:dirty-bitmap:s'],
    contextExtents: (context: number, _offset: number, length: number, into: ContextExtentList) => {
      if (context === 1) return -ERRNO.EIO;
      into.count = 2;
      into.lengths_bytes.set([4096, length - 4096]);
      into.values.set([context + 1, 0]);
      return 0;
    },
  };
}

function statusPayload(length: number, ids: readonly number[]): Buffer {
  const out = Buffer.alloc(8 + 4 * ids.length);
  out.writeBigUInt64BE(BigInt(length));
  ids.forEach((id, i) => out.writeUInt32BE(id, 8 + 4 * i));
  return out;
}

void t.test('block status of several contexts: a chunk for each, or for those that are named', async t => {
  const contexts = ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:s'];
  for (const [extended, cold] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ] as const) {
    const later = new Later();
    const volume = new TwoContexts(MIB, later);
    volume.cold = cold;
    const talk = new Talk(volume, later, { extended, contexts }).enter();
    talk.request(STATUS, 1, 0, 65_536);
    const all = talk.reply();
    t.same([...all.contexts.keys()], [1, 2, 4]);
    t.same(volume.brought, [[0, 65_536]]);
    t.same(all.contexts.get(1), [[65_536, 3]]);
    t.same(all.contexts.get(4), [
      [4096, 3],
      [61_440, 0],
    ]);
    talk.request(STATUS, 2, 0, 65_536, wire.NBD_CMD_FLAG_REQ_ONE);
    t.same(talk.reply().contexts.get(2), [[4096, 1]]);
    if (!extended) continue;
    for (const [ids, told] of [
      [[4], [4]],
      [
        [2, 1],
        [1, 2],
      ],
    ] as const) {
      const payload = statusPayload(65_536, ids);
      talk.request(STATUS, 3, 0, payload.length, PAYLOAD_LEN, payload);
      const reply = talk.reply();
      t.equal(reply.error, 0);
      t.same([...reply.contexts.keys()], told);
    }
    const bad: [string, Buffer][] = [
      ['twice', statusPayload(65_536, [1, 1])],
      ['not selected', statusPayload(65_536, [3])],
      ['unknown', statusPayload(65_536, [0xffff_ffff])],
      ['none', statusPayload(65_536, [])],
      ['no length', Buffer.alloc(4)],
      ['half an id', Buffer.concat([statusPayload(65_536, [1]), Buffer.alloc(2)])],
      ['beyond the end', statusPayload(MIB + 1, [1])],
      ['of nothing', statusPayload(0, [1])],
      [
        'long',
        statusPayload(
          65_536,
          Array.from({ length: 100 }, () => 1),
        ),
      ],
      ['longer than a piece', Buffer.alloc(PIECE_BYTES + 4)],
    ];
    for (const [what, payload] of bad) {
      talk.request(STATUS, 5, 0, payload.length, PAYLOAD_LEN, payload);
      t.equal(talk.reply().error, wire.NBD_EINVAL, what);
    }
    talk.request(READ, 6, 0, 4096);
    t.equal(talk.reply().error, 0, 'the payloads were read past');
  }
});

void t.test('payloads that nobody asked for are read past, and too long ones end it', async t => {
  const { talk } = setUp(EXTENDED);
  for (const [what, type, length] of [
    ['a short one', TRIM, 10],
    ['one of a read', READ, 4096],
    ['a long one', FLUSH, 3 * MIB],
    ['of an unknown command', 4711, 70_000],
  ] as const) {
    talk.request(type, 1, 0, length, PAYLOAD_LEN, Buffer.alloc(length));
    const reply = talk.reply();
    t.equal(reply.error, wire.NBD_EINVAL, what);
    t.ok(reply.message.length > 10, reply.message);
  }
  const write = (flags: number): void => {
    talk.say(requestOf(WRITE, 9, 0, 4096, flags));
    if (flags !== 0) talk.say(bytes(4096));
  };
  write(0);
  t.match(talk.reply(), { error: wire.NBD_EINVAL, message: /PAYLOAD_LEN/ });
  write(PAYLOAD_LEN);
  t.equal(talk.reply().error, 0);
  talk.request(WRITE, 2, 0, MAXIMUM_PAYLOAD_BYTES + 1);
  talk.turns(5);
  t.ok(talk.connection.closed);
  t.equal(talk.counter('oversizedRequests'), 1);
});

function requestOf(type: number, cookie: number, offset: number, length: number, flags: number): Buffer {
  const out = Buffer.alloc(wire.EXTENDED_REQUEST_BYTES);
  const record = { flags, type, cookieHigh: 0x77, cookieLow: cookie, offset: BigInt(offset) };
  wire.emitExtendedRequest(new DataView(out.buffer, out.byteOffset), 0, {
    ...record,
    length: BigInt(length),
  });
  return out;
}

void t.test('a compact request where extended ones are agreed ends the connection', async t => {
  const { talk } = setUp(EXTENDED);
  talk.say(Buffer.from('25609513', 'hex'));
  talk.turns(5);
  t.ok(talk.connection.closed, 'told from its magic');
  t.equal(talk.counter('badRequestMagic'), 1);
});

for (const [way, options] of [
  ['structured', {}],
  ['extended', EXTENDED],
  ['later', { faults: { again_ppm: 1_000_000, delay_ppm: 300_000 } }],
] as [string, Parameters<typeof setUp>[0]][]) {
  void t.test(`${way}: zeroes are told and not sent, unless fragments are not wanted`, async t => {
    const { talk } = setUp(options);
    talk.request(WRITE, 1, MIB, 65_536, 0, bytes(65_536));
    talk.reply();
    talk.request(READ, 2, 0, 2 * MIB);
    const whole = talk.reply();
    t.ok(whole.data.subarray(MIB, MIB + 65_536).equals(bytes(65_536)));
    t.ok(whole.data.fill(0, MIB, MIB + 65_536).every(byte => byte === 0));
    const sent = whole.chunks.filter(chunk => chunk.type === DATA);
    t.same(sent, [{ type: DATA, from: MIB, length: 65_536 }]);
    talk.request(READ, 3, MIB - 65_536, 196_608);
    t.same(
      talk.reply().chunks.map(chunk => [chunk.type, chunk.length]),
      [
        [HOLE, 65_536],
        [DATA, 65_536],
        [HOLE, 65_536],
      ],
    );
    talk.request(READ, 4, 0, 65_536);
    t.same(talk.reply().chunks, [{ type: HOLE, from: 0, length: 65_536 }]);
    talk.request(READ, 5, MIB - 65_536, 196_608, DF);
    t.same(talk.reply().chunks, [{ type: DATA, from: 0, length: 196_608 }]);
    talk.request(READ, 6, 0, 2 * MIB, DF);
    t.same(talk.reply().chunks, [{ type: DATA, from: 0, length: 2 * MIB }]);
    talk.request(READ, 7, 0, 4096);
    t.same(talk.reply().chunks, [{ type: DATA, from: 0, length: 4096 }], 'a short one is not looked through');
  });
}

void t.test('whatever is zero in a read, the client gets the same bytes', async () => {
  const run = fc.record({ zero: fc.boolean(), length: fc.oneof(fc.nat(9000), fc.nat(150_000)) });
  const options = fc.constantFrom<Parameters<typeof setUp>[0][]>(
    {},
    EXTENDED,
    { faults: { again_ppm: 1_000_000, delay_ppm: 200_000 } },
    { extended: true, faults: { again_ppm: 1_000_000 } },
  );
  fc.assert(
    fc.property(fc.array(run, { maxLength: 12 }), fc.nat(70_000), options, (runs, offset, way) => {
      const content = Buffer.concat(
        runs.map(({ zero, length }) => (zero ? Buffer.alloc(length) : bytes(length))),
      );
      if (content.length === 0) return;
      const { talk } = setUp(way);
      talk.request(WRITE, 1, offset, content.length, 0, content);
      talk.reply();
      talk.request(READ, 2, offset, content.length);
      const reply = talk.reply();
      if (!reply.data.equals(content)) throw new Error('other bytes than were written');
      talk.request(DISC, 0, 0, 0);
      talk.turns(50);
      if (talk.outstanding !== 0) throw new Error('chunks were not given back');
    }),
    { numRuns: 150 },
  );
});

/** One block cannot be read. */
class BadBlock extends MemoryVolume {
  bad = 100 * 4096;
  #later: Later;
  constructor(later: Later) {
    super(64 * MIB, later);
    this.#later = later;
  }
  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    if (offset < this.bad + 4096 && offset + length > this.bad) return -ERRNO.EIO;
    return super.tryRead(offset, length, memory, at);
  }
  override read(
    offset: number,
    length: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, this.tryRead(offset, length, memory, at));
  }
}

void t.test('a read whose middle fails: what is before comes, and the error says where', async t => {
  for (const extended of [false, true]) {
    const later = new Later();
    const volume = new BadBlock(later);
    const talk = new Talk(volume, later, { extended }).enter();
    const content = bytes(4 * MIB);
    talk.request(WRITE, 1, 0, content.length, 0, content);
    talk.reply();
    talk.request(READ, 2, 1000, 600_000);
    const long = talk.reply();
    t.equal(long.error, wire.NBD_EIO);
    t.same(long.errorsAt, [volume.bad]);
    t.match(long.message, /NBD_CMD_READ of \d+ bytes at 409600: /);
    t.ok(long.data.subarray(0, volume.bad - 1000).equals(content.subarray(1000, volume.bad)), 'before it');
    const next = 2 * PIECE_BYTES;
    t.ok(
      long.data.subarray(next).equals(content.subarray(1000 + next, 601_000)),
      'and the pieces that have nothing to do with it',
    );
    talk.request(READ, 3, volume.bad - 8192, 65_536);
    const short = talk.reply();
    t.same(short.errorsAt, [volume.bad]);
    t.same(short.chunks, [{ type: DATA, from: 0, length: 8192 }]);
    talk.request(READ, 4, volume.bad + 10, 20);
    t.same(talk.reply().errorsAt, [volume.bad + 10], 'nothing before it');
    talk.request(READ, 5, volume.bad - 8192, 65_536, DF);
    t.match(talk.reply(), { error: wire.NBD_EIO, chunks: [] });
    talk.request(DISC, 0, 0, 0);
    talk.turns(20);
    t.equal(talk.outstanding, 0);
  }
});

void t.test('what is refused is told in words', async t => {
  const { talk } = setUp({ size: MIB, minimumBlock_bytes: 4096 });
  for (const [type, offset, length, words] of [
    [READ, MIB - 4096, 8192, /NBD_CMD_READ of 8192 bytes at 1044480: the export ends at 1048576/],
    [READ, 0, 512, /NBD_CMD_READ of 512 bytes at 0: not whole blocks of 4096 bytes/],
    [TRIM, 0, 2 * MIB, /NBD_CMD_TRIM of 2097152 bytes/],
    [FLUSH, 0, 512, /must be 0/],
    [99, 0, 0, /command 99 is not known/],
  ] as const) {
    talk.request(type, 1, offset, length);
    const reply = talk.reply();
    t.ok(reply.structured);
    t.match(reply.message, words);
  }
  const full = setUp({ faults: { error_ppm: 1_000_000, error: ERRNO.ENOSPC } }).talk;
  full.request(WRITE, 1, 0, 2 * PIECE_BYTES, 0, bytes(2 * PIECE_BYTES));
  const reply = full.reply();
  t.match(reply, { error: wire.NBD_ENOSPC, message: /no space is left/ });
  t.equal(reply.errorsAt.length, 1, 'a long write says where it stopped');
});

void t.test('descriptors are whole smallest blocks', async t => {
  const later = new Later();
  const volume = new MemoryVolume(MIB, later);
  const coarse = new Talk(volume, later, { minimumBlock_bytes: 16_384 }).enter();
  const memory = { address: 0, bytes: bytes(4096) };
  for (const at of [4096, 81_920, 86_016, 131_072 + 12_288]) volume.tryWrite(at, 4096, memory, 0);
  coarse.request(STATUS, 2, 0, MIB);
  t.same(coarse.reply().extents, [
    [16_384, 0],
    [65_536, 3],
    [16_384, 0],
    [32_768, 3],
    [16_384, 0],
    [MIB - 147_456, 3],
  ]);
});
