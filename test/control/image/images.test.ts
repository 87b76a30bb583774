/** The images' edge on this host: files of the user's, and qemu-img with a real NBD server. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { BuildProgress } from '../../../control/image/host.js';
import { HostImages } from '../../../control/image/process.js';
import { until } from '../vmm/stage.js';
import { isListening } from '../../listening.js';

const MIB = 2 ** 20;
const noQemuImg =
  spawnSync('qemu-img', ['--version']).status === 0 ? false : 'qemu-img (qemu-utils) is not installed';

function place(t: Test): string {
  const directory = fs.mkdtempSync(join(tmpdir(), 'weft-images-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const qemuImg = (...args: string[]): void => void execFileSync('qemu-img', args, { stdio: 'ignore' });

await t.test("a kernel of the user's", async t => {
  const directory = place(t);
  const images = new HostImages(join(directory, 'images'));
  const [kernel, initrd] = [join(directory, 'k'), join(directory, 'i')];
  fs.writeFileSync(kernel, 'k');
  t.match(await images.observe('x', { kernel }), { state: 'ready', made: kernel });
  t.match(await images.observe('x', { kernel, initrd }), {
    state: 'failed',
    reason: `${initrd} does not exist`,
  });
  await t.rejects(images.bootFiles('x', { kernel, initrd }), { code: 'IMAGE_FILE' });
  await t.rejects(
    images.build('x', { kernel, initrd }, () => {}),
    { code: 'IMAGE_FILE', message: /image x: .* does not exist/ },
  );
  await images.build('x', { kernel }, () => {});
  t.same(await images.bootFiles('x', { kernel, cmdline: 'root=/dev/vda1' }), {
    kind: 'kernel',
    kernel,
    initrd: null,
    cmdline: 'root=/dev/vda1',
  });
  t.match(await images.observe('x', { kernel: directory }), {
    state: 'failed',
    reason: `${directory} is not a file`,
  });
  await images.forget('x');
  t.ok(fs.existsSync(kernel), "forgetting leaves the user's files");
});

await t.test('a tiny image that is not built', async t => {
  const images = new HostImages(place(t));
  t.match(await images.observe('tiny', { tiny: {} }), { state: 'absent' });
  await t.rejects(images.bootFiles('tiny', { tiny: {} }), {
    code: 'IMAGE_NOT_READY',
    message: /weft image build tiny/,
  });
});

await t.test('disk images', { skip: noQemuImg }, async t => {
  const directory = place(t);
  const images = new HostImages(join(directory, 'images'));
  const raw = join(directory, 'raw.img');
  const qcow2 = join(directory, 'disk.qcow2');
  fs.writeFileSync(raw, Buffer.alloc(3 * MIB, 'weft'));
  qemuImg('convert', '-O', 'qcow2', raw, qcow2);
  t.match(await images.bootFiles('x', { disk: raw, format: 'raw' }), {
    format: 'raw',
    virtualSize_bytes: 3 * MIB,
  });
  t.match(await images.observe('x', { disk: qcow2 }), { state: 'ready', virtualSize_bytes: 3 * MIB });
  t.match(await images.observe('x', { disk: raw, format: 'qcow2' }), { state: 'failed', reason: /qemu-img/ });
  t.match(await images.observe('x', { disk: '/no/such' }), {
    state: 'failed',
    reason: '/no/such does not exist',
  });

  const backed = join(directory, 'backed.qcow2');
  qemuImg('create', '-f', 'qcow2', '-b', raw, '-F', 'raw', backed);
  await t.rejects(images.bootFiles('x', { disk: backed }), {
    code: 'IMAGE_FORMAT',
    message: /needs another file/,
  });
  const vmdk = join(directory, 'x.vmdk');
  qemuImg('create', '-f', 'vmdk', vmdk, '1M');
  await t.rejects(images.bootFiles('x', { disk: vmdk }), {
    message: /format vmdk; weft takes raw and qcow2/,
  });
  const pretending = join(directory, 'pretending.img');
  fs.copyFileSync(backed, pretending);
  t.match(
    await images.bootFiles('x', { disk: pretending, format: 'raw' }),
    { format: 'raw' },
    'what the user calls raw is copied as it is, and nothing in it is followed',
  );

  await t.test('are copied into a volume', async t => {
    const volume = join(directory, 'volume');
    // What an interrupted copy may have left.
    fs.writeFileSync(volume, Buffer.alloc(4 * MIB, 'old'));
    fs.writeFileSync(
      raw,
      Buffer.concat([Buffer.alloc(MIB, 'one'), Buffer.alloc(MIB), Buffer.alloc(MIB, 'three')]),
    );
    qemuImg('convert', '-O', 'qcow2', raw, qcow2);
    const socketPath = join(directory, 'a b.sock');
    const server = spawn(
      'qemu-nbd',
      ['--persistent', '--format=raw', '--export-name=my/vol', `--socket=${socketPath}`, volume],
      { stdio: 'ignore' },
    );
    t.teardown(() => server.kill('SIGKILL'));
    await until('qemu-nbd to listen', () => isListening(socketPath));
    const boot = await images.bootFiles('x', { disk: qcow2 });
    if (boot.kind !== 'disk') throw new Error('a disk');
    const target = { socketPath, nbdName: 'my/vol' };
    const seen: BuildProgress[] = [];
    await images.fill(boot, target, progress => seen.push(progress));
    t.ok(
      fs
        .readFileSync(volume)
        .subarray(0, 3 * MIB)
        .equals(fs.readFileSync(raw)),
      'also where the image has zeros',
    );
    t.match(seen.at(-1), { fraction: 1, stage: /copying .*disk.qcow2 into my\/vol/ });

    const big = join(directory, 'big.img');
    fs.writeFileSync(big, '');
    fs.truncateSync(big, 8 * MIB);
    const bigBoot = await images.bootFiles('x', { disk: big });
    if (bigBoot.kind !== 'disk') throw new Error('a disk');
    await t.rejects(
      images.fill(bigBoot, target, () => {}),
      { code: 'IMAGE_FILL' },
      'one that is too large',
    );
    await t.rejects(
      images.fill(boot, { socketPath: '/no/such.sock', nbdName: 'x' }, () => {}),
      { code: 'IMAGE_FILL', message: /No such file/ },
    );
    const controller = new AbortController();
    controller.abort();
    await t.rejects(
      images.fill(boot, target, () => {}, controller.signal),
      { code: 'IMAGE_ABORTED' },
    );
  });
});
