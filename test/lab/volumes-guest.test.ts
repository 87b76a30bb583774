/**
 * Guests on journaled file systems, while weft-storage is killed under them again and again, and snapshots are taken,
 * exported and deleted meanwhile.
 *
 *   guest "writer" --- vda: ext4 made by the host, imported ---+
 *                                                              +--- weft-storage (kill -9) --- pool "main"
 *   guest "fio"    --- vda: another one ----------------------+
 *
 * The one writes numbered records with fsync and says on its serial line up to which they were acknowledged, and what
 * it finds when it verifies them (control/image/guest/work.sh); in the other, fio verifies what it writes (harness/fioGuest.ts).
 * After each kill the first volume is exported as it is and e2fsck judges it: what a power cut would have left has to be a file
 * system whose journal mends it. At the end the second disk grows under fio.
 *
 * WEFT_LAB_KILLS=50 kills so often; the default is kept small.
 *
 * lab: guests
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FABRIC_NEEDS, Fabric } from './harness/fabric.js';
import { FIO_MACHINE, answered, makeFioInitrd, rounds } from './harness/fioGuest.js';
import type { Guest } from './harness/guests.js';
import { ask } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, killSync, run } from './harness/processes.js';

t.setTimeout(3_600_000);

const MIB = 2 ** 20;
const KILLS = Number(process.env['WEFT_LAB_KILLS'] ?? 2);
/** Of control/image/guest/disk.sh: what tells that the disk was made for it, and the slots that it writes in turn. */
const SLOT_BYTES = 262_144;
const LABEL = 'weft-tiny';

const needs = {
  ...FABRIC_NEEDS,
  programs: [...(FABRIC_NEEDS.programs ?? []), 'mkfs.ext4', 'e2fsck', 'qemu-img', 'fio', 'ldd'],
};

/** A disk with ext4, a journal and all that the guest wants to find: it is written in place from the first boot on. */
async function makeDisk(lab: Lab, path: string): Promise<void> {
  const inside = lab.path('inside');
  mkdirSync(inside);
  for (const slot of ['a', 'b']) writeFileSync(`${inside}/${slot}`, new Uint8Array(SLOT_BYTES));
  writeFileSync(`${inside}/ready`, '');
  await run(['truncate', '-s', String(64 * MIB), path]);
  await run(['mkfs.ext4', '-q', '-L', LABEL, '-d', inside, path]);
}

/** e2fsck of a copy, which its journal may mend; null when all is well. */
async function fsck(image: string): Promise<string | null> {
  // 0: clean, 1: the journal was played back, as after any power cut.
  const mended = await run(['e2fsck', '-fy', image], { mayFail: true });
  const says = (mended.stdout + mended.stderr).trim();
  if ((mended.status ?? 99) > 1) return says;
  const again = await run(['e2fsck', '-fn', image], { mayFail: true });
  return again.status === 0 ? null : `${says}\n${again.stdout}`;
}

async function storagePid(fabric: Fabric): Promise<number> {
  return eventually(
    'weft-storage to be up',
    async () => ((await fabric.pids().catch(() => ({}))) as Record<string, number | null>)['storage'] ?? null,
  );
}

/** Until the disk has acknowledged something that it had not before; `count` tells how much it has. */
async function getsOn(
  guest: Guest,
  after: number,
  count = (): number => guest.acknowledged(),
): Promise<number> {
  return eventually(
    `${guest.name} to get beyond ${after}`,
    () => {
      const now = count();
      return now > after ? now : null;
    },
    { timeout_ms: 120_000, every_ms: 50 },
  );
}

/** What the guest finds when it is booted anew. */
async function verifies(t: Test, fabric: Fabric, guest: Guest, boots: number): Promise<void> {
  await fabric.weft(['machine', 'reset', guest.name]);
  const found = await guest.waitFor(
    `what it found at boot ${boots}`,
    fact => fact.fact === 'disk' && fact['boots'] === boots,
  );
  t.match(found, { intact: true, new: false });
  const said = guest.facts();
  const from = said.findIndex(fact => fact.fact === 'disk' && fact['boots'] === boots);
  const upto = Number(said.slice(0, from).findLast(fact => fact.fact === 'written')?.['upto'] ?? 0);
  const verified = await guest.waitFor('what it verified', fact => fact.fact === 'verified', { from });
  t.equal(verified['bad'], 0, 'no record is damaged');
  t.ok(Number(verified['upto']) >= upto, `acknowledged ${upto}, found ${String(verified['upto'])}`);
}

await t.test(`${KILLS} times kill -9 of weft-storage under a guest`, { skip: missing(needs) }, async t => {
  const lab = Lab.open('/var/tmp');
  t.teardown(() => lab.close());
  const fabric = new Fabric(lab);
  const image = lab.path('disk.img');
  await makeDisk(lab, image);
  const file = lab.path('guest.yaml');
  writeFileSync(
    file,
    `
pool: { main: {} }
image: { tiny: { tiny: {} }, formatted: { disk: ${image}, format: raw } }
volume: { disk: { pool: main, size: 64MiB, image: formatted } }
machine:
  writer: { image: tiny, memory: 128MiB, disks: [{ volume: disk }], cmdline: weft.disk=/dev/vda weft.work=disk }
`,
  );
  await fabric.up(file);
  const tiny = join(fabric.state, 'images', 'tiny');
  await makeFioInitrd(join(tiny, 'initrd'), lab.path('fio.initrd'));
  const withFio = lab.path('fio.yaml');
  writeFileSync(
    withFio,
    `
image: { with-fio: { kernel: ${join(tiny, 'kernel')}, initrd: ${lab.path('fio.initrd')}, cmdline: console=ttyS0 quiet } }
volume: { second: { pool: main, size: 64MiB, image: formatted } }
machine: { fio: { image: with-fio, disks: [{ volume: second }], ${FIO_MACHINE} } }
`,
  );
  await fabric.up(withFio);
  const guest = fabric.guest('writer');
  const fio = fabric.guest('fio');
  for (const one of [guest, fio]) {
    const first = await one.waitFor('its disk', fact => fact.fact === 'disk');
    t.match(first, { formatted: true, new: false, boots: 1, intact: true }, `${one.name} took it as it is`);
  }
  await getsOn(guest, 0);
  await getsOn(fio, 0, () => rounds(fio).length);

  const { status, text } = await ask(fabric.socket, 'POST', '/v1/snapshots', {
    name: 'begun',
    volumes: [{ pool: 'main', volume: 'disk' }],
  });
  t.equal(status, 200, text);

  for (let kill = 1; kill <= KILLS; kill++) {
    const before = guest.acknowledged();
    const beforeOfFio = answered(fio);
    const pid = await storagePid(fabric);
    const snapshot = fabric.weft(['volume', 'snapshot', `main/disk@s${kill}`], { mayFail: true });
    // At another moment of its work each time; sometimes in the middle of the snapshot.
    await new Promise(resolve => setTimeout(resolve, (kill * 37) % 300));
    killSync(pid);
    await snapshot;
    const now = await getsOn(guest, Math.max(before, guest.acknowledged()));
    t.ok(now > before, `kill ${kill}: acknowledged ${before}, then ${now}`);
    const nowOfFio = await getsOn(fio, Math.max(beforeOfFio, answered(fio)), () => answered(fio));
    t.ok(nowOfFio > beforeOfFio, `kill ${kill}: fio's disk goes on`);
    const copy = lab.path('copy.raw');
    const exported = await fabric.weft(['volume', 'export', 'main/disk', copy, '--force'], { mayFail: true });
    t.equal(exported.status, 0, exported.stderr);
    t.equal(await fsck(copy), null, `kill ${kill}: e2fsck is content`);
    if (kill % 2 === 0)
      await fabric.weft(['volume', 'delete-snapshot', `main/disk@s${kill}`], { mayFail: true });
  }
  // Longer, while requests are under way.
  writeFileSync(
    lab.path('longer.yaml'),
    'volume: { second: { pool: main, size: 96MiB, image: formatted } }\n',
  );
  await fabric.up(lab.path('longer.yaml'));
  await fio.waitFor(
    'its disk to be longer',
    fact => fact.fact === 'disk-io' && fact['sectors'] === (96 * MIB) / 512,
  );
  t.pass('the guest sees that its disk has grown');
  // What was written under the last kill is read once more by then.
  const over = rounds(fio).length;
  await getsOn(fio, over + 1, () => rounds(fio).length);
  t.same(
    rounds(fio).filter(round => round['status'] !== 0),
    [],
    `fio found nothing wrong in ${rounds(fio).length} rounds`,
  );
  t.same(
    fio.said('boot').map(fact => fact['id']),
    [fio.said('boot')[0]?.['id']],
    'of one boot',
  );
  await verifies(t, fabric, guest, 2);
  const wrong = guest.said('verified').filter(fact => fact['bad'] !== 0);
  t.same(wrong, [], 'nor was any at any other time');
  t.same(guest.said('write-failed'), [], 'the guest never saw an error');

  // What it was at the beginning, given to another machine.
  await fabric.weft(['volume', 'clone', 'main/disk@begun', 'copy']);
  writeFileSync(
    lab.path('second.yaml'),
    `
volume: { copy: { pool: main, size: 64MiB } }
machine:
  reader: { image: tiny, memory: 128MiB, disks: [{ volume: copy }], cmdline: weft.disk=/dev/vda weft.work=disk }
`,
  );
  await fabric.up(lab.path('second.yaml'));
  const reader = fabric.guest('reader');
  t.match(await reader.waitFor('its disk', fact => fact.fact === 'disk'), { boots: 2, intact: true });
  t.match(await reader.waitFor('what it verified', fact => fact.fact === 'verified'), { bad: 0 });

  await fabric.weft(['machine', 'kill', 'writer']);
  await fabric.down();
  t.same(fabric.processes(), []);
});
