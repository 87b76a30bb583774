/**
 * A machine that forgets: whatever ends it (a power-off, a killed QEMU), and whatever dies meanwhile (weft-storage, weftd, all of
 * them), it begins again from where it was. A reboot from inside forgets nothing, and `keep` said while it runs keeps the run.
 *
 *   guest "kiosk" --- vda, undo: discard --- weft-storage --- pool "main"
 *
 * The guest counts its boots on the disk, and says whether what it wrote at the last one is whole (control/image/guest/disk.sh).
 *
 * lab: guests
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { FABRIC_NEEDS, Fabric } from './harness/fabric.js';
import type { Guest } from './harness/guests.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { isRunning } from './harness/owner.js';
import { eventually, killSync } from './harness/processes.js';

t.setTimeout(900_000);

const config = (undo: 'keep' | 'discard'): string => `
pool: { main: {} }
image: { tiny: { tiny: {} } }
volume: { disk: { pool: main, size: 64MiB } }
machine:
  kiosk:
    image: tiny
    memory: 128MiB
    cmdline: weft.disk=/dev/vda
    disks: [{ volume: disk, undo: ${undo} }]
`;

await t.test('a disk that goes back', { skip: missing(FABRIC_NEEDS) }, async t => {
  const lab = Lab.open('/var/tmp');
  t.teardown(() => lab.close());
  const fabric = new Fabric(lab);
  const file = lab.path('kiosk.yaml');
  const guest = fabric.guest('kiosk');
  let boot: unknown = null;

  const apply = async (undo: 'keep' | 'discard'): Promise<void> => {
    writeFileSync(file, config(undo));
    await fabric.up(file);
  };
  /** What this boot counts, and that the disk was whole. */
  const finds = async (boots: number, why: string): Promise<void> => {
    const begun = await guest.waitFor('that it boots', fact => fact.fact === 'boot' && fact['id'] !== boot);
    boot = begun['id'];
    const from = guest.facts().findLastIndex(fact => fact.fact === 'boot');
    const disk = await guest.waitFor('its disk', fact => fact.fact === 'disk', { from });
    t.match(disk, { boots, intact: true }, why);
  };
  const pid = async (name: string): Promise<number> =>
    eventually(`${name} to be up`, async () => (await fabric.pids().catch(() => null))?.[name] ?? null);
  const isOff = async (): Promise<boolean> =>
    eventually('the disk to be back', async () => {
      const { status } = await fabric.resource('machine', 'kiosk');
      const ready = status.conditions.find(({ type }) => type === 'Ready');
      return ready?.reason === 'Stopped' ? true : null;
    });
  const start = async (): Promise<void> => void (await fabric.weft(['machine', 'start', 'kiosk']));
  const stop = async (): Promise<void> => void (await fabric.weft(['machine', 'stop', 'kiosk']));

  await apply('keep');
  await finds(1, 'made here, and kept');
  await stop();
  await apply('discard');
  await start();
  await finds(2, 'from what was kept');
  await stop();
  await start();
  await finds(2, 'a power-off forgets what was written');

  killSync(await pid('storage'));
  await fabric.weft(['machine', 'reset', 'kiosk']);
  await finds(3, 'a reboot forgets nothing, and a weft-storage that dies under it changes nothing');
  await fabric.weft(['machine', 'kill', 'kiosk']);
  await start();
  await finds(2, 'nor does it keep the disk from going back');

  killSync(await pid('weftd'));
  killSync(await qemu(guest, fabric));
  // It is started again, as after any crash, when its disk is back.
  await fabric.up(file);
  await finds(2, 'a weftd that was dead when the guest ended');

  const ours = await fabric.pids();
  for (const name of ['weftd', 'storage', 'kiosk']) killSync(ours[name]!);
  await fabric.up(file);
  await finds(2, 'all of them at once');

  // While the disk goes back: at another moment each time.
  for (const delay_ms of [0, 30]) {
    const all = await fabric.pids();
    const stopping = fabric.weft(['machine', 'stop', 'kiosk'], { mayFail: true });
    await eventually('the guest to be off', () => (isRunning(all['kiosk']!) ? null : true), { every_ms: 2 });
    await new Promise(resolve => setTimeout(resolve, delay_ms));
    for (const name of ['weftd', 'storage']) killSync(all[name]!);
    await stopping;
    await fabric.up(file);
    await isOff();
    await start();
    await finds(2, `weftd and weft-storage ended ${delay_ms} ms after the guest`);
  }

  await apply('keep');
  await stop();
  await start();
  await finds(3, 'what was said last counts');
  await fabric.weft(['machine', 'kill', 'kiosk']);
  await fabric.down();
  t.same(fabric.processes(), []);
});

async function qemu({ name }: Guest, fabric: Fabric): Promise<number> {
  const seen = fabric.processes().find(({ command }) => command.includes('qemu') && command.includes(name));
  if (seen === undefined) throw new Error('no QEMU');
  return seen.pid;
}
