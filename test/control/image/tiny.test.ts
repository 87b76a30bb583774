/** Building the tiny image from this host's packages: as an interrupted build, a shared one, and a repeated one. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { parseCpio } from '../../../control/image/cpio.js';
import { ImageError } from '../../../control/image/errors.js';
import { HostImages } from '../../../control/image/process.js';
import { parseManifest } from '../../../control/image/tiny/manifest.js';

t.setTimeout(600_000);
const spec = { tiny: {} };
const skip = spawnSync('dpkg-deb', ['--version']).status === 0 ? false : 'dpkg-deb is not installed';

await t.test('the tiny image', { skip }, async t => {
  const directory = fs.mkdtempSync(join(tmpdir(), 'weft-tiny-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  const place = join(directory, 'tiny');
  const images = new HostImages(directory);

  await t.test('a build that is called off leaves nothing', async t => {
    const controller = new AbortController();
    const build = images.build('tiny', spec, () => controller.abort(), controller.signal);
    await t.rejects(build, { code: 'IMAGE_ABORTED' });
    while ((await images.observe('tiny', spec)).state === 'building') await new Promise(setImmediate);
    t.match(await images.observe('tiny', spec), { state: 'absent', reason: null });
    t.same(fs.readdirSync(directory), []);
  });

  fs.mkdirSync(join(directory, '.tiny.left'));
  const stages: string[] = [];
  const controller = new AbortController();
  const first = images.build('tiny', spec, progress => {
    stages.push(progress.stage);
  });
  const second = images.build('tiny', spec, () => {}, controller.signal);
  t.match(await images.observe('tiny', spec), { state: 'building' });
  controller.abort();
  await t.rejects(second, { code: 'IMAGE_ABORTED' }, 'one that waits may go away');
  try {
    await first;
  } catch (error) {
    if (error instanceof ImageError && /IMAGE_(CANNOT_BUILD|DOWNLOAD)/.test(error.code)) {
      t.match(await images.observe('tiny', spec), { state: 'failed', reason: error.message });
      t.comment(`this host cannot build it: ${error.message}`);
      return;
    }
    throw error;
  }
  t.equal(stages[0], 'looking for a kernel and busybox');
  t.equal(stages.at(-1), 'built');
  t.match(await images.observe('tiny', spec), { state: 'ready', made: /^linux \d.*busybox \d/ });
  t.same(fs.readdirSync(directory), ['tiny'], 'neither what it was made in, nor what an earlier build left');

  await t.test('is whole', async t => {
    const boot = await images.bootFiles('tiny', spec);
    if (boot.kind !== 'kernel' || boot.initrd === null) throw new Error('a kernel with an initrd');
    t.match(boot.cmdline, /^console=tty/);
    for (const path of [boot.kernel, boot.initrd])
      t.equal(fs.statSync(path).mode & 0o444, 0o444, "guests' users can read it");
    const entries = parseCpio(gunzipSync(fs.readFileSync(boot.initrd)));
    const names = new Set(entries?.map(entry => entry.path));
    for (const name of ['init', 'bin/busybox', 'bin/sh', 'weft/ping.sh', 'weft/disk.sh', 'dev/console'])
      t.ok(names.has(name), name);
    const manifest = parseManifest(fs.readFileSync(join(place, 'manifest.json'), 'utf8'));
    for (const module of manifest?.modules ?? []) t.ok(names.has(`lib/modules/${module}.ko`), module);
  });

  const file = (name: string): string => join(place, name);
  const stagesOf = async (): Promise<string[]> => {
    const seen: string[] = [];
    await new HostImages(directory).build('tiny', spec, progress => {
      seen.push(progress.stage);
    });
    return seen;
  };

  await t.test('is built once', async t => {
    t.same(await stagesOf(), []);
  });

  await t.test('of other scripts it is packed anew, from what is there', async t => {
    const before = fs.readFileSync(file('initrd'));
    const manifest = parseManifest(fs.readFileSync(file('manifest.json'), 'utf8'))!;
    const [version = ''] = manifest.recipe.split('-');
    fs.writeFileSync(file('manifest.json'), JSON.stringify({ ...manifest, recipe: `${version}-other` }));
    t.match(await images.observe('tiny', spec), { state: 'absent' });
    t.same(await stagesOf(), ['packing the initrd', 'built']);
    t.ok(fs.readFileSync(file('initrd')).equals(before), 'equal parts make an equal image');
  });

  await t.test('a damaged one is not ready', async t => {
    fs.truncateSync(file('initrd'), 1000);
    t.match(await images.observe('tiny', spec), { state: 'absent' });
    t.same(await stagesOf(), ['packing the initrd', 'built']);
    fs.rmSync(file('manifest.json'));
    t.match(await images.observe('tiny', spec), { state: 'absent' });
  });

  await images.forget('tiny');
  t.same(fs.readdirSync(directory), []);
});
