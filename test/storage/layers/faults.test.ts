/**
 * Disks that fail: each call of a history in turn answers EIO, or ENOSPC. Everything is answered, nothing acknowledged is lost,
 * by a power cut neither. And disks that change bits: what is read is what was written, or an error.
 */
import t from 'tap';
import { random, type Image } from './disk.js';
import { BLOCK, History, readBlock, type Step } from './history.js';
import { Rig } from './rig.js';
import { firstSeed } from '../../seed.js';

const SIZE = 34 * 1024 * 1024;
const BLOCKS = [0, 1, 1023, 1024, 8192];
const SHAPE = { size_bytes: SIZE, checksums: true };

const STEPS: Step[][] = [
  [{ kind: 'write', sector: 0, count: 8 }],
  [{ kind: 'flush' }, { kind: 'write', sector: 8, count: 8 }],
  [{ kind: 'idle' }],
  [
    { kind: 'write', sector: 2, count: 3 },
    { kind: 'write', sector: 1023 * 8, count: 16 },
  ],
  [{ kind: 'trim', block: 1, count: 1 }, { kind: 'flush' }],
  [{ kind: 'snapshot' }],
  [{ kind: 'write', sector: 4, count: 1 }],
  [{ kind: 'zero', block: 1024, count: 1 }, { kind: 'flush' }],
  [{ kind: 'write', sector: 8192 * 8, count: 8 }, { kind: 'flush' }],
  [{ kind: 'idle' }],
];

function playWith(fail: Rig['disk']['fail'], cold: number): History {
  const rig = Rig.make(5, SHAPE);
  rig.disk.cold_percent = cold;
  rig.disk.fail = fail;
  const history = new History(rig, BLOCKS);
  for (const together of STEPS) {
    for (const step of together) history.begin(step);
    history.end();
  }
  rig.shut();
  return history;
}

for (const [name, error] of [
  ['EIO', -5],
  ['ENOSPC', -28],
] as const) {
  void t.test(`${name} from every call in turn`, async t => {
    const calls = playWith(() => 0, 20).rig.disk.calls;
    let states = 0;
    for (let bad = 0; bad < calls; bad++) {
      let where = '';
      const history = playWith((call, what, fd) => {
        if (call !== bad) return 0;
        where = `${what} of file ${fd}`;
        return error;
      }, 20);
      const { disk, volume } = history.rig;
      const at = `${name} from call ${bad} of ${calls}, ${where}`;
      if (where.startsWith('fdatasync') && volume.state !== 'failed')
        return t.fail(`${at}: a sync failed and the volume is ${volume.state}`);
      const moment = disk.events.length;
      const kinds: [string, Iterable<Map<number, Image>>, boolean][] = [
        ['a power cut', disk.cuts(moment, bad, 2), false],
        ['the end of the process', [disk.killed(moment)], true],
      ];
      for (const [what, images, kill] of kinds) {
        for (const files of images) {
          const rig = Rig.after(files, history.layersAt(moment), SHAPE, bad, kill ? 1 : 2);
          const fault = history.judge(rig, moment, kill);
          if (fault !== null) return t.fail(`${at}, then ${what}: ${fault}`);
          states++;
        }
      }
    }
    t.pass(`${calls} calls, ${states} disks`);
  });
}

void t.test('a bit that the disk changed is found, or harmless', async t => {
  const seed = firstSeed;
  const pick = random(seed);
  const history = playWith(() => 0, 0);
  const { disk } = history.rig;
  const files = disk.killed(disk.events.length);
  const layers = history.layersAt(disk.events.length);
  const right = new Map<number, Uint8Array>();
  const look = (rig: Rig): (number | Uint8Array)[] =>
    BLOCKS.map(block => {
      const result = readBlock(rig, rig.volume, block);
      return result < 0 ? result : probe(rig, block);
    });
  const clean = Rig.after(files, layers, SHAPE, 1, 2);
  for (const [i, bytes] of look(clean).entries()) right.set(BLOCKS[i]!, bytes as Uint8Array);
  let found = 0;
  let flips = 0;
  let inData = 0;
  for (const [fd, image] of files) {
    for (const [page, bytes] of image.pages) {
      const isData = layers.some(layer => layer.dataFd === fd);
      for (let sector = 0; sector < 8; sector++) {
        for (let n = 0; n < (isData ? 1 : 4); n++) {
          const at = sector * 512 + pick(512);
          const bit = 1 << pick(8);
          const flipped = bytes.slice();
          flipped[at]! ^= bit;
          const damaged = new Map(files);
          damaged.set(fd, { size: image.size, pages: new Map(image.pages).set(page, flipped) });
          const rig = Rig.after(damaged, layers, SHAPE, 1, 2);
          let errors = 0;
          for (const [i, result] of look(rig).entries()) {
            const block = BLOCKS[i]!;
            if (typeof result === 'number') errors++;
            else if (Buffer.compare(result, right.get(block)!) !== 0)
              return t.fail(
                `seed ${seed}: bit ${bit} of byte ${page * BLOCK + at} of file ${fd}: block ${block} is wrong`,
              );
          }
          flips++;
          if (isData) inData++;
          if (errors === 0) continue;
          found++;
          if (rig.volume.checksumErrors === 0 && rig.volume.state !== 'damaged')
            return t.fail('an error that nobody is told of');
          if (rig.volume.reason === null) return t.fail('no reason is given');
        }
      }
    }
  }
  t.ok(flips > 200 && inData > 20, `${flips} flips, ${inData} in data`);
  t.ok(found >= inData / 2, `${found} were found`);
});

void t.test('a page of checksums that is lost is told, and what it was of is served', async t => {
  const history = playWith(() => 0, 0);
  const { disk } = history.rig;
  const files = disk.killed(disk.events.length);
  const layers = history.layersAt(disk.events.length);
  let lost = 0;
  for (const { mapFd } of layers) {
    const image = files.get(mapFd)!;
    for (const [page, bytes] of image.pages) {
      // A group has two pages of states and eight of checksums.
      if (page % 10 < 2) continue;
      const flipped = bytes.slice();
      flipped[7]! ^= 16;
      const damaged = new Map(files);
      damaged.set(mapFd, { size: image.size, pages: new Map(image.pages).set(page, flipped) });
      const rig = Rig.after(damaged, layers, SHAPE, 1, 2);
      t.equal(history.judge(rig, disk.events.length, false), null);
      t.equal(rig.volume.state, 'ok');
      if (rig.volume.reason === null) continue; // nothing of that region is seen from above
      t.match(rig.volume.reason, /checksums of the bytes \d+ to \d+ are lost/);
      lost++;
    }
  }
  t.ok(lost > 0, `${lost} pages`);
});

function probe(rig: Rig, block: number): Uint8Array {
  const list: Uint8Array[] = [];
  readBlock(rig, rig.volume, block, bytes => list.push(bytes.slice()));
  return list[0]!;
}
