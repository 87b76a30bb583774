/** What may be sent from a layer's file: bytes in memory that have the sums that they should have. */
import t from 'tap';
import { random } from './disk.js';
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
  t.equal(volume.sendableFrom(0, 256 * 1024 + 1), -1, 'more would hold up the others');
  t.equal(volume.sendableFrom(1024 * 1024 - BLOCK, 2 * BLOCK), -1, 'a part was never written');
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
