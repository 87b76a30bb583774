/** Clients that ask much and read nothing hold the common budget for good: whoever reads is served all the same. */
import t from 'tap';
import { Budget } from '../../../storage/nbd/chunks.js';
import { PIECE_BYTES } from '../../../storage/nbd/limits.js';
import * as wire from '../../../storage/nbd/wire.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { Talk, type TalkOptions } from './talk.js';

const { NBD_CMD_READ: READ, NBD_CMD_WRITE: WRITE } = wire;
const MIB = 1024 * 1024;
const LENGTH = 2 * MIB + 777;

function bytes(length: number): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = (i * 31 + (i >>> 11)) | 1;
  return out;
}

/** As many as use up the budget; none of them reads. */
function house(): { later: Later; volume: FaultyVolume; memory: MemoryVolume; budget: Budget; deaf: Talk[] } {
  const later = new Later();
  const memory = new MemoryVolume(16 * MIB, later);
  const volume = new FaultyVolume(memory, later, { seed: 9, again_ppm: 1_000_000 });
  const budget = new Budget(MIB);
  memory.tryWrite(0, LENGTH, { address: 0, bytes: bytes(LENGTH) }, 0);
  const deaf = Array.from({ length: 6 }, () => new Talk(volume, later, { budget }).enter());
  for (const one of deaf) {
    one.wire.sendLimit = () => 0;
    for (let i = 0; i < 8; i++) one.request(READ, i, 0, 2 * PIECE_BYTES);
  }
  for (let i = 0; i < 20; i++) for (const one of deaf) one.turn();
  return { later, volume, memory, budget, deaf };
}

const WAYS: [string, TalkOptions, number][] = [
  ['structured', {}, 0],
  ['extended', { extended: true }, 0],
  ['unfragmented', {}, wire.NBD_CMD_FLAG_DF],
  ['simple', { structured: false }, 0],
];

for (const [way, options, flags] of WAYS) {
  void t.test(`${way}: long reads, short ones and writes beside deaf clients`, async t => {
    const { later, volume, memory, budget, deaf } = house();
    t.ok(budget.left_bytes < 2 * PIECE_BYTES, 'there is none left');
    const talk = new Talk(volume, later, { ...options, budget }).enter();
    talk.request(READ, 1, 0, LENGTH, flags);
    talk.request(READ, 2, 4096, 4096, flags);
    talk.request(WRITE, 3, 8 * MIB, 65_536, 0, bytes(65_536));
    talk.request(WRITE, 4, 9 * MIB, LENGTH, 0, bytes(LENGTH));
    talk.request(READ, 5, 1000, LENGTH - 1000, flags);
    const replies = talk.replies(5, 3000);
    for (const reply of replies) t.equal(reply.error, 0);
    const data = (cookie: number): Buffer => replies.find(reply => reply.cookie === cookie)!.data;
    t.ok(data(1).equals(bytes(LENGTH)));
    t.ok(data(2).equals(bytes(LENGTH).subarray(4096, 8192)));
    t.ok(data(5).equals(bytes(LENGTH).subarray(1000)));
    const written = { address: 0, bytes: Buffer.alloc(LENGTH) };
    memory.tryRead(9 * MIB, LENGTH, written, 0);
    t.ok(written.bytes.equals(bytes(LENGTH)));
    for (const one of [...deaf, talk]) {
      one.connection.abandon();
      one.turns(20);
      t.equal(one.outstanding, 0);
    }
    t.equal(budget.left_bytes, MIB, 'all was given back');
  });
}

void t.test(
  'a piece that fails ends the connection where its reply has begun, and not elsewhere',
  async t => {
    for (const [way, options, flags] of WAYS) {
      const { later, memory, budget } = house();
      const bad = new FaultyVolume(memory, later, { seed: 3, again_ppm: 1_000_000, error_ppm: 1_000_000 });
      const talk = new Talk(bad, later, { ...options, budget }).enter();
      talk.request(READ, 1, 0, LENGTH, flags);
      if (flags === 0 && way !== 'simple') {
        const reply = talk.reply();
        t.equal(reply.error, wire.NBD_EIO);
        t.equal(reply.errorsAt.length, Math.ceil(LENGTH / PIECE_BYTES));
      } else {
        talk.turns(100);
        t.ok(talk.connection.closed, way);
      }
      t.equal(talk.outstanding, 0);
    }
  },
);

void t.test('who waits in line and does not read any more is not in the way', async t => {
  const { later, volume, budget, deaf } = house();
  const talk = new Talk(volume, later, { budget }).enter();
  // Two in flight at a time need the common budget.
  for (let i = 0; i < 20; i++) talk.request(READ, i, 0, PIECE_BYTES);
  deaf[0]!.connection.abandon();
  deaf[0]!.turns(3);
  t.equal(talk.replies(20, 3000).length, 20);
});
