/**
 * Random histories against a plain array of bytes: batches of requests whose ranges do not overlap, over a volume
 * that delays and reorders, through a socket that cuts at random. After each batch the whole volume must be what
 * the array is. A failure names the seed; `SEED=n node …/model.test.js` runs that one.
 */
import t, { type Test } from 'tap';
import * as wire from '../../../storage/nbd/wire.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { Talk } from './talk.js';
import { firstSeed } from '../../seed.js';

const SIZE = 4 * 1024 * 1024;
const SLOTS = 16;
const SLOT = SIZE / SLOTS;

function generator(seed: number): (below: number) => number {
  let x = seed >>> 0 || 1;
  return below => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

function history(t: Test, seed: number): void {
  const random = generator(seed);
  const later = new Later();
  const memory = new MemoryVolume(SIZE, later);
  const volume = new FaultyVolume(memory, later, {
    seed,
    again_ppm: 400_000,
    delay_ppm: 300_000,
    delayTurns: 6,
  });
  const form = random(3);
  const talk = new Talk(volume, later, { structured: form > 0, extended: form > 1 }).enter();
  talk.wire.recvLimit = () => 1 + random(random(3) === 0 ? 40 : 300_000);
  talk.wire.sendLimit = () => random(random(4) === 0 ? 50 : 500_000);
  const model = Buffer.alloc(SIZE);

  for (let batch = 0; batch < 12; batch++) {
    const reads = new Map<number, Buffer>();
    /** Blocks that may be as before or zero: trims. */
    const trims: [number, number][] = [];
    let count = 0;
    for (let slot = 0; slot < SLOTS; slot++) {
      // One request for a slot; now and then one that spans what is left of it and the next two.
      const span = slot + 3 <= SLOTS && random(8) === 0 ? 3 : 1;
      const room = SLOT * span;
      const offset = slot * SLOT + random(2) * random(5000);
      const length = 1 + random(random(2) === 0 ? 9000 : room - 5000);
      const aligned = random(2) === 0;
      const at = aligned ? Math.floor(offset / 4096) * 4096 : offset;
      const fua = random(4) === 0 ? wire.NBD_CMD_FLAG_FUA : 0;
      slot += span - 1;
      count++;
      switch (random(6)) {
        case 0:
        case 1: {
          const payload = Buffer.alloc(length, 1 + random(255));
          payload.writeUInt8(random(256), random(length));
          talk.request(wire.NBD_CMD_WRITE, slot, at, length, fua, payload);
          payload.copy(model, at);
          break;
        }
        case 2:
          talk.request(
            wire.NBD_CMD_WRITE_ZEROES,
            slot,
            at,
            length,
            fua | (random(2) * wire.NBD_CMD_FLAG_NO_HOLE),
          );
          model.fill(0, at, at + length);
          break;
        case 3:
          talk.request(wire.NBD_CMD_TRIM, slot, at, length, fua);
          trims.push([at, length]);
          break;
        default:
          talk.request(wire.NBD_CMD_READ, slot, at, length);
          reads.set(slot, Buffer.from(model.subarray(at, at + length)));
      }
    }
    for (const reply of talk.replies(count)) {
      if (reply.error !== 0) throw new Error(`batch ${batch}, slot ${reply.cookie}: error ${reply.error}`);
      const wanted = reads.get(reply.cookie);
      if (wanted !== undefined && Buffer.compare(reply.data, wanted) !== 0)
        throw new Error(`batch ${batch}, slot ${reply.cookie}: other bytes than were written`);
    }
    talk.request(wire.NBD_CMD_READ, 1000, 0, SIZE);
    const all = talk.reply().data;
    for (const [at, length] of trims) {
      for (let block = Math.ceil(at / 4096) * 4096; block + 4096 <= at + length; block += 4096)
        if (all.subarray(block, block + 4096).every(byte => byte === 0)) model.fill(0, block, block + 4096);
    }
    if (Buffer.compare(all, model) !== 0) {
      const wrong = all.findIndex((byte, i) => byte !== model[i]);
      throw new Error(`batch ${batch}: byte ${wrong} is ${all[wrong]}, not ${model[wrong]}`);
    }
  }
  talk.request(wire.NBD_CMD_DISC, 0, 0, 0);
  talk.turns(200);
  t.ok(talk.connection.closed, `seed ${seed}`);
  t.equal(talk.outstanding, 0, `seed ${seed}: every chunk was given back`);
}

void t.test('random histories', async t => {
  const first = process.env['SEED'] === undefined ? firstSeed | 1 : Number(process.env['SEED']);
  const runs = process.env['SEED'] === undefined ? 12 : 1;
  t.comment(`seeds ${first} to ${first + runs - 1}`);
  for (let seed = first; seed < first + runs; seed++) {
    try {
      history(t, seed);
    } catch (error) {
      t.fail(`SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
});
