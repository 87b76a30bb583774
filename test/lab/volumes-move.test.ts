/**
 * A machine's disk is moved to another pool under the machine that writes to it: there, back while weftd or weft-storage is killed,
 * and there again; and grown after that. What the guest was told to be on the disk is there.
 *
 *   guest "writer" --- vda: numbered records with fsync --- weft-storage --- pool "main" <-> pool "other"
 *
 * lab: guests
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { FABRIC_NEEDS, Fabric } from './harness/fabric.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, killSync } from './harness/processes.js';

t.setTimeout(600_000);

const config = (pool: string, size: string): string => `
pool: { main: {}, other: {} }
image: { tiny: { tiny: {} } }
volume: { disk: { pool: ${pool}, size: ${size} } }
machine:
  writer: { image: tiny, memory: 128MiB, disks: [{ volume: disk }], cmdline: weft.disk=/dev/vda weft.work=disk }
`;

await t.test('moved under a guest', { skip: missing(FABRIC_NEEDS) }, async t => {
  const lab = Lab.open('/var/tmp');
  t.teardown(() => lab.close());
  const fabric = new Fabric(lab);
  const file = lab.path('writer.yaml');
  writeFileSync(file, config('main', '64MiB'));
  await fabric.up(file);
  const guest = fabric.guest('writer');
  const getsOn = async (): Promise<number> => {
    const before = guest.acknowledged();
    return eventually(
      `the guest to get beyond record ${before}`,
      () => (guest.acknowledged() > before ? guest.acknowledged() : null),
      { timeout_ms: 120_000, every_ms: 50 },
    );
  };
  const lies = async (): Promise<string[]> => {
    const { stdout } = await fabric.weft(['volume', 'list', '-o', 'json']);
    const { volumes } = JSON.parse(stdout) as { volumes: { pool: string; name: string }[] };
    return volumes.map(({ pool, name }) => `${pool}/${name}`);
  };
  const pidOf = async (name: string): Promise<number> =>
    eventually(`${name} to be up`, async () => (await fabric.pids().catch(() => null))?.[name] ?? null);
  await getsOn();
  const qemu = await pidOf('writer');

  await t.test('there', async t => {
    await fabric.weft(['volume', 'move', 'main/disk', 'other'], { timeout_ms: 120_000 });
    t.same(await lies(), ['other/disk'], 'and nothing is left behind');
    await getsOn();
    t.equal(await pidOf('writer'), qemu, 'the same QEMU');
    const { conditions } = (await fabric.resource('machine', 'writer')).status;
    t.match(
      conditions.find(({ type }) => type === 'RestartRequired'),
      { status: 'False' },
    );
    const wrong = await fabric.weft(['apply', file], { mayFail: true });
    t.match(wrong.stdout + wrong.stderr, /weft volume move other\/disk main/);
  });

  await t.test('back, while weftd and weft-storage are killed', async t => {
    await fabric.weft(['volume', 'move', 'other/disk', 'main', '--no-wait']);
    killSync(await pidOf('storage'));
    killSync((await fabric.status()).pid);
    await fabric.weft(['up'], { timeout_ms: 120_000 });
    await eventually(
      'the disk to lie in its first pool alone',
      async () => (String(await lies()) === 'main/disk' ? true : null),
      { timeout_ms: 120_000, every_ms: 300 },
    );
    await getsOn();
    t.equal(await pidOf('writer'), qemu);
  });

  await t.test('and there again; then larger, and whole after a boot', async t => {
    await fabric.weft(['volume', 'move', 'main/disk', 'other'], { timeout_ms: 120_000 });
    writeFileSync(file, config('other', '96MiB'));
    await fabric.up(file);
    const upto = await getsOn();
    const boots = Number(guest.said('disk').at(-1)?.['boots'] ?? 0) + 1;
    await fabric.weft(['machine', 'reset', 'writer']);
    const found = await guest.waitFor('its disk', fact => fact.fact === 'disk' && fact['boots'] === boots);
    t.match(found, { intact: true, new: false });
    const verified = await guest.waitFor('what it verified', fact => fact.fact === 'verified', {
      from: guest.facts().indexOf(found),
    });
    t.equal(verified['bad'], 0);
    t.ok(Number(verified['upto']) >= upto, `acknowledged ${upto}, found ${String(verified['upto'])}`);
    t.match(await lies(), ['other/disk']);
  });
  await fabric.down();
});
