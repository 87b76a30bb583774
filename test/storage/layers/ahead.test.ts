/** Regions are opened before a client that writes on and on needs them, and not for one that writes here and there. */
import t from 'tap';
import { mapAnonymous } from '../../../host/memory.js';
import { REGION_BYTES } from '../../../storage/layers/map.js';
import { ERRNO } from '../../../storage/volume/volume.js';
import { Rig } from './rig.js';

const REGIONS = 64;
const memory = mapAnonymous(4096);

/** A volume of which each region has a block that is committed and closed. */
function written(): Rig {
  const rig = Rig.make(1, { size_bytes: REGIONS * REGION_BYTES, checksums: true });
  for (let region = 0; region < REGIONS; region++) write(rig, region);
  rig.shut();
  rig.open();
  return rig;
}

function write(rig: Rig, region: number): void {
  const { volume } = rig;
  const tried = volume.tryWrite(region * REGION_BYTES, 4096, memory, 0);
  const at = region * REGION_BYTES;
  const wait = (): number => rig.wait((waiter, token) => volume.write(at, 4096, memory, 0, waiter, token));
  if (tried !== 0) t.equal(tried === -ERRNO.EAGAIN ? wait() : tried, 0);
}

const openOf = (rig: Rig): number => rig.volume.regions.open.size;

void t.test('one after the other', async t => {
  const rig = written();
  const before = rig.volume.commits.syncCount;
  for (let region = 0; region < REGIONS; region++) {
    write(rig, region);
    t.ok(openOf(rig) - region <= 2 * 16 + 1, `${openOf(rig)} are open when ${region} is written`);
    rig.until(() => !rig.volume.busy, 'it rests');
  }
  const syncs = rig.volume.commits.syncCount - before;
  t.ok(syncs < REGIONS / 4, `${syncs} syncs for ${REGIONS} regions`);
});

void t.test('far apart', async t => {
  const rig = written();
  for (let n = 0; n < REGIONS / 8; n++) write(rig, 8 * ((n * 5) % (REGIONS / 8)) + 3);
  t.equal(openOf(rig), REGIONS / 8, 'no more than what was written');
});

void t.test('in no order', async t => {
  const rig = written();
  const before = rig.volume.commits.syncCount;
  for (let n = 0; n < REGIONS; n++) {
    write(rig, (n * 29) % REGIONS);
    rig.until(() => !rig.volume.busy, 'it rests');
  }
  t.equal(openOf(rig), REGIONS);
  const syncs = rig.volume.commits.syncCount - before;
  t.ok(syncs < REGIONS / 3, `${syncs} syncs for ${REGIONS} regions`);
});

void t.test(
  'what was opened and not written is closed again, and the layer is clean when it is shut',
  async t => {
    const rig = written();
    for (let region = 0; region < 8; region++) write(rig, region);
    rig.until(() => !rig.volume.busy, 'it rests');
    t.ok(openOf(rig) > 8, 'some are open ahead');
    for (let n = 0; n < 4; n++) {
      rig.now_ms += 60_000;
      rig.volume.tick(rig.now_ms);
      rig.until(() => !rig.volume.busy, 'they are closed');
    }
    t.equal(openOf(rig), 0);
    for (let region = 0; region < 8; region++) write(rig, region);
    t.equal(rig.shut(), 0);
    rig.open();
    t.ok(rig.volume.chain.top.clean, 'nothing is left to be looked for');
  },
);

void t.test('a snapshot while regions are being opened', async t => {
  const rig = written();
  for (let region = 0; region < 6; region++) write(rig, region);
  // The last write has asked for more, which are with the kernel now.
  let frozen = 1;
  rig.snapshot(undefined, result => (frozen = result));
  rig.until(() => frozen !== 1, 'the snapshot');
  t.equal(frozen, 0);
  t.equal(openOf(rig), 0, 'nothing of the new top is open');
  for (let region = 0; region < REGIONS; region++) write(rig, region);
  t.equal(rig.shut(), 0);
});
