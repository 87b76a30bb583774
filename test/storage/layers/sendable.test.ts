/** What may be sent from a layer's file: bytes in memory that have the sums that they should have. */
import t from 'tap';
import { random } from './disk.js';
import { newFileRuns } from '../../../storage/volume/volume.js';
import { BLOCK } from './history.js';
import { Rig } from './rig.js';
import { mapAnonymous } from '../../../host/memory.js';

const SIZE = 8 * 1024 * 1024;
const memory = mapAnonymous(1024 * 1024);
const next = random(7);
memory.bytes.forEach((_, i) => (memory.bytes[i] = next(256)));

function written(checksums: boolean, length_bytes = 1024 * 1024): Rig {
  const rig = Rig.make(3, { size_bytes: SIZE, checksums });
  rig.disk.cold_percent = 0;
  t.equal(rig.volume.tryWrite(0, length_bytes, memory, 0), 0);
  return rig;
}

void t.test('what was written may be sent, in any cut, up to a bound', async t => {
  const { volume, layers } = written(true);
  const { dataFd } = layers[0]!;
  t.equal(volume.sendableFrom(0, 256 * 1024), dataFd);
  t.equal(volume.sendableFrom(BLOCK, 100 * 1024), dataFd);
  t.equal(volume.sendableFrom(1000, 70_001), dataFd, 'the blocks around it are compared');
  t.equal(volume.sendableFrom(0, 1024 * 1024), dataFd);
  t.equal(volume.tryWrite(1024 * 1024, BLOCK, memory, 0), 0);
  t.equal(volume.sendableFrom(BLOCK, 1024 * 1024), dataFd);
  t.equal(volume.sendableFrom(0, 1024 * 1024 + BLOCK), -1, 'more would hold up the others');
  t.equal(volume.sendableFrom(1024 * 1024, 2 * BLOCK), -1, 'a part was never written');
  const plain = written(false);
  t.equal(plain.volume.sendableFrom(0, 1024 * 1024), plain.layers[0]!.dataFd, 'there is nothing to compare');
});

void t.test('a bit that is wrong is not sent, wherever it is', async t => {
  for (const at of [0, 65_535, 65_536, 256 * 1024 - 1]) {
    const rig = written(true);
    const { dataFd } = rig.layers[0]!;
    // The pages are the disk's own: what the page cache holds.
    rig.disk.files.get(dataFd)!.pages.get(Math.floor(at / BLOCK))![at % BLOCK]! ^= 8;
    t.equal(rig.volume.sendableFrom(0, 256 * 1024), -1, `bit at ${at}`);
    t.equal(rig.volume.state, 'ok', 'that is for a read to tell');
    t.equal(rig.volume.tryRead(0, 256 * 1024, memory, 512 * 1024), -5);
  }
});

void t.test('what is not in memory, or in two layers, is not sent', async t => {
  const rig = written(true);
  rig.disk.cold_percent = 100;
  t.equal(rig.volume.sendableFrom(0, 65_536), -1);
  rig.disk.cold_percent = 0;
  t.not(rig.volume.sendableFrom(0, 65_536), -1);
});

void t.test('of a read of many layers the long runs are told, and the others read', async t => {
  for (let seed = 1; seed <= 40; seed++) {
    const pick = random(seed);
    const rig = written(seed % 4 !== 0);
    const now = memory.bytes.slice();
    for (let n = 0; n < 3; n++) {
      rig.wait((waiter, token) => rig.snapshot(undefined, result => waiter.completed(token, result)));
      for (let m = 0; m < 6; m++) {
        const [block, count] = [pick(250), 1 + pick(6)];
        const from = pick(100_000);
        t.equal(rig.volume.tryWrite(block * BLOCK, count * BLOCK, memory, from), 0);
        now.set(memory.bytes.subarray(from, from + count * BLOCK), block * BLOCK);
      }
    }
    const room = mapAnonymous(256 * 1024);
    const runs = newFileRuns(1 + pick(8));
    for (let n = 0; n < 20; n++) {
      const [offset, length] = [pick(700_000), 65_536 + pick(3 * 65_536)];
      room.bytes.fill(0);
      runs.count = 0;
      t.equal(rig.volume.tryReadRuns(offset, length, room, 0, runs), 0);
      for (let i = 0; i < runs.count; i++) {
        const from = runs.offsets_bytes[i]!;
        const run = room.bytes.subarray(from - offset, from - offset + runs.lengths_bytes[i]!);
        if (run.length < 32_768 || run.some(byte => byte !== 0)) t.fail(`run of ${run.length}`);
        rig.disk.get(runs.fds[i]!, run, from);
      }
      t.ok(Buffer.from(now.buffer, offset, length).equals(room.bytes.subarray(0, length)), `seed ${seed}`);
    }
    room.unmap();
  }
});
