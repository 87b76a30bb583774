/**
 * The pool's file system is full while a guest writes: the guest is told, weft says so, and both go on once there
 * is room.
 *
 *   guest "filler" --- vda: 256 MiB --- weft-storage --- pool on a tmpfs of 48 MiB
 *
 * lab: guests
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { FABRIC_NEEDS, Fabric } from './harness/fabric.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, run } from './harness/processes.js';

t.setTimeout(600_000);

const MIB = 1024 * 1024;
const POOL_BYTES = 24 * MIB;

await t.test('a guest meets a full pool', { skip: missing(FABRIC_NEEDS) }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const fabric = new Fabric(lab);
  const point = await lab.tmpfs(POOL_BYTES);
  const file = lab.path('full.yaml');
  writeFileSync(
    file,
    `
pool: { small: { directory: ${point}/pool } }
image: { tiny: { tiny: {} } }
volume: { disk: { pool: small, size: 256MiB } }
machine:
  filler: { image: tiny, memory: 128MiB, disks: [{ volume: disk }], cmdline: weft.disk=/dev/vda weft.work=fill }
`,
  );
  await fabric.up(file);
  const guest = fabric.guest('filler');
  const full = await guest.waitFor('that its disk refused', fact => fact.fact === 'full');
  const written_bytes = Number(full['written_bytes']);
  t.ok(written_bytes > 0 && written_bytes < POOL_BYTES, `after ${written_bytes} of ${POOL_BYTES} bytes`);
  t.match(full['error'], /\S/, `the guest says: ${String(full['error'])}`);
  t.equal(
    (await fabric.resource('machine', 'filler')).status.observed['state'],
    'running',
    'the guest goes on',
  );

  const ready = async () =>
    (await fabric.resource('volume', 'disk')).status.conditions.find(condition => condition.type === 'Ready');
  // What needs no new room is still taken, and all is well until something wants some: the guest goes on trying.
  await fabric.type(
    'filler',
    'while sleep 0.1; do dd if=/dev/zero of=/disk/vda/more bs=1M count=1 conv=fsync; done',
  );
  const bad = await eventually('weft to say that the volume is full', async () => {
    const condition = await ready();
    return condition?.status === 'False' ? condition : null;
  });
  t.match(bad.message, /full/);

  await run(['mount', '-o', `remount,size=${512 * MIB}`, point]);
  await fabric.weft(['machine', 'reset', 'filler']);
  const again = await guest.waitFor(
    'that it found its data',
    fact => fact.fact === 'disk' && fact['boots'] === 2,
  );
  t.match(again, { new: false, intact: true });
  await eventually('weft to say that all is well', async () =>
    (await ready())?.status === 'True' ? true : null,
  );
  await fabric.down();
  t.same(fabric.processes(), []);
});
