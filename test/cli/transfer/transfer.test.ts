/**
 * `weft volume import` and `export` with the real qemu-img, against an NBD server that is not ours (nbdkit, in memory)
 * behind a weftd of straw.
 */
import t, { type Test } from 'tap';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { missing } from '../../lab/harness/needs.js';
import { eventually } from '../../lab/harness/processes.js';
import { FakeApi, Refusal, STREAMING, runCli } from '../fakeApi.js';
import { ovfOf, tarOf } from './samples.js';
import { isListening } from '../../listening.js';

t.setTimeout(600_000);

const MIB = 2 ** 20;
const skip = missing({ programs: ['qemu-img', 'qemu-io', 'nbdkit'] });

interface Place {
  api: FakeApi;
  directory: string;
  /** What the weftd of straw was asked to begin, and which it was asked to keep. */
  begun: Record<string, unknown>[];
  kept: string[];
  /** Transfers whose answer was let go. */
  released: string[];
  /** What an imported volume held, by the order of beginning. */
  image(index: number): string;
  isEmpty: boolean;
  size_bytes: number;
}

/** Each transfer is an nbdkit of its own on a file. */
async function place(t: Test): Promise<Place> {
  const api = await new FakeApi().listen();
  const directory = mkdtempSync(join(tmpdir(), 'weft-transfer-'));
  const servers: ChildProcess[] = [];
  const here: Place = {
    api,
    directory,
    begun: [],
    kept: [],
    released: [],
    image: index => join(directory, `volume${index}`),
    isEmpty: true,
    size_bytes: 8 * MIB,
  };
  t.teardown(async () => {
    for (const server of servers) server.kill('SIGKILL');
    await api.close();
    rmSync(directory, { recursive: true, force: true });
  });
  api.on('POST /v1/transfers', async ({ body }, response) => {
    const asked = body as { kind: string; size_bytes?: number };
    const index = here.begun.push(asked) - 1;
    const image = here.image(index);
    const size_bytes = asked.size_bytes ?? here.size_bytes;
    if (!existsSync(image)) writeFileSync(image, '');
    execFileSync('truncate', ['-s', String(size_bytes), image]);
    const socketPath = join(directory, `s${index}`);
    const how = asked.kind === 'export' ? ['-r'] : [];
    servers.push(spawn('nbdkit', ['-f', ...how, '-U', socketPath, 'file', image], { stdio: 'ignore' }));
    await eventually('nbdkit to listen', () => (isListening(socketPath) ? true : null));
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.on('close', () => here.released.push(String(index)));
    const ready = { id: String(index), socketPath, nbdName: 'x', size_bytes, isEmpty: here.isEmpty };
    response.write(`: weftd\n\ndata: ${JSON.stringify(ready)}\n\n`);
    return STREAMING;
  });
  api.on('POST /v1/transfers/:id/commit', ({ path }) => {
    here.kept.push(path.split('/')[3] ?? '');
    return {};
  });
  api.on('GET /v1/volumes/:pool/:volume', ({ path }) => ({
    pool: path.split('/')[3],
    name: path.split('/')[4],
    uuid: 'u',
    size_bytes: 8 * MIB,
    allocated_bytes: MIB,
    createdAt_ms: 0,
    state: 'ok',
    reason: null,
    configured: false,
    usedBy: [],
    runningOn: null,
  }));
  return here;
}

const sum = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Random at both ends, nothing between. */
function makeImage(directory: string, format: string, size_bytes = 8 * MIB): { path: string; raw: Buffer } {
  const raw = Buffer.alloc(size_bytes);
  randomBytes(MIB).copy(raw, 0);
  randomBytes(MIB).copy(raw, size_bytes - MIB);
  const plain = join(directory, 'plain');
  writeFileSync(plain, raw);
  if (format === 'raw') return { path: plain, raw };
  const path = join(directory, `image, with a comma.${format}`);
  const [kind = '', subformat] = format.split(':');
  const options = subformat === undefined ? [] : ['-o', `subformat=${subformat}`];
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', kind, ...options, plain, path]);
  return { path, raw };
}

await t.test('import', { skip }, async t => {
  for (const format of ['raw', 'qcow2', 'vmdk', 'vmdk:streamOptimized', 'vhdx', 'vdi'])
    await t.test(format, async t => {
      const here = await place(t);
      const { path, raw } = makeImage(here.directory, format);
      const { code, stdout, stderr } = await runCli(['volume', 'import', path, 'main/web'], {
        state: here.api.state,
      });
      t.equal(code, 0, stderr);
      t.match(stdout, /^volume main\/web: 8 MiB/);
      t.match(stderr, /volume:\n {2}web: \{ pool: main, size: 8MiB \}/, 'what to put into the configuration');
      t.same(here.begun, [
        { kind: 'import', pool: 'main', volume: 'web', size_bytes: 8 * MIB, overwrite: false },
      ]);
      t.same(here.kept, ['0']);
      t.equal(sum(readFileSync(here.image(0))), sum(raw));
      t.ok(statSync(here.image(0)).blocks * 512 < 3 * MIB, 'what is zero was not written');
      await eventually('the transfer to be let go', () => (here.released.length === 1 ? true : null));
    });

  await t.test('over another volume: nothing of it shines through', async t => {
    const here = await place(t);
    here.isEmpty = false;
    const { path, raw } = makeImage(here.directory, 'qcow2');
    writeFileSync(here.image(0), randomBytes(16 * MIB));
    const { code, stderr } = await runCli(
      ['volume', 'import', path, 'main/web', '--overwrite', '--size', '16MiB'],
      { state: here.api.state },
    );
    t.equal(code, 0, stderr);
    const found = readFileSync(here.image(0));
    t.equal(sum(found.subarray(0, 8 * MIB)), sum(raw));
    t.ok(
      found.subarray(8 * MIB).every(byte => byte === 0),
      'behind the image too',
    );
  });

  await t.test('what names other files is refused, before weftd is asked', async t => {
    const here = await place(t);
    const { path } = makeImage(here.directory, 'qcow2');
    const overlay = join(here.directory, 'overlay.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', path, overlay]);
    const flat = join(here.directory, 'flat.vmdk');
    execFileSync('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', flat, '8M']);
    for (const [file, words] of [
      [overlay, /needs another file/],
      [flat, /needs another file/],
      [join(here.directory, 'none'), /cannot read/],
      [here.directory, /is not a file/],
    ] as const) {
      const { code, stderr } = await runCli(['volume', 'import', file, 'main/web'], {
        state: here.api.state,
      });
      t.equal(code, 1);
      t.match(stderr, words);
    }
    const packed = join(here.directory, 'x.gz');
    execFileSync('sh', ['-c', `gzip -c "${path}" > "${packed}"`]);
    t.match(
      (await runCli(['volume', 'import', packed, 'main/web'], { state: here.api.state })).stderr,
      /gunzip/,
    );
    const small = await runCli(['volume', 'import', path, 'main/web', '--size', '4MiB'], {
      state: here.api.state,
    });
    t.equal(small.code, 2);
    t.same(here.begun, []);
  });

  await t.test('a volume that is there', async t => {
    const here = await place(t);
    const { path } = makeImage(here.directory, 'raw');
    here.api.on('POST /v1/transfers', () => new Refusal(409, 'VOLUME_EXISTS', 'volume main/web is there'));
    const { code, stderr } = await runCli(['volume', 'import', path, 'main/web'], { state: here.api.state });
    t.equal(code, 2);
    t.match(stderr, /--overwrite/);
  });

  await t.test('the copy fails, or is interrupted: nothing is kept', async t => {
    const here = await place(t);
    // More than 8 MiB does not fit what nbdkit serves.
    const { path } = makeImage(here.directory, 'raw', 16 * MIB);
    here.api.on('GET /healthz', () => ({ ok: true }));
    const handler = here.api.handlers.get('POST /v1/transfers')!;
    here.api.on('POST /v1/transfers', (asked, response) =>
      handler({ ...asked, body: { ...(asked.body as object), size_bytes: 8 * MIB } }, response),
    );
    const { code, stderr } = await runCli(['volume', 'import', path, 'main/web'], { state: here.api.state });
    t.equal(code, 1, stderr);
    t.match(stderr, /qemu-img failed/);
    t.same(here.kept, []);
    await eventually('the transfer to be let go', () => (here.released.length === 1 ? true : null));
    // The first word on standard error is the user's cue.
    const stopped = await runCli(['volume', 'import', path, 'main/web'], {
      state: here.api.state,
      onOutput: (_text, { signal }) => signal(),
    });
    t.equal(stopped.code, 130, stopped.stderr);
    t.match(stopped.stderr, /was not made/);
    t.same(here.kept, []);
  });

  await t.test('OVA', async t => {
    const here = await place(t);
    const one = makeImage(here.directory, 'vmdk:streamOptimized');
    const two = { path: join(here.directory, 'b.vmdk'), raw: makeImage(here.directory, 'raw').raw };
    execFileSync('qemu-img', ['convert', '-O', 'vmdk', '-f', 'raw', join(here.directory, 'plain'), two.path]);
    const files = { 'a.vmdk': readFileSync(one.path), 'b.vmdk': readFileSync(two.path) };
    const ovf = Buffer.from(ovfOf(Object.keys(files)));
    const manifest = (hash: string): Buffer =>
      Buffer.from(
        `SHA256(x.ovf)= ${sum(ovf)}\r\nSHA256(a.vmdk)= ${sum(files['a.vmdk'])}\r\nSHA256(b.vmdk)= ${hash}\r\n`,
      );
    const ova = join(here.directory, 'appliance.ova');
    const write = (hash: string): void =>
      writeFileSync(ova, tarOf({ 'x.ovf': ovf, 'x.mf': manifest(hash), ...files }));

    write(sum(files['b.vmdk']));
    const all = await runCli(['volume', 'import', ova, 'main/web'], { state: here.api.state });
    t.equal(all.code, 0, all.stderr);
    t.same(
      here.begun.map(({ volume }) => volume),
      ['web-1', 'web-2'],
    );
    t.equal(sum(readFileSync(here.image(0))), sum(one.raw));
    t.equal(sum(readFileSync(here.image(1))), sum(two.raw));
    t.same(here.kept, ['0', '1']);

    const second = await runCli(['volume', 'import', ova, 'main/web', '--disk', '2'], {
      state: here.api.state,
    });
    t.equal(second.code, 0, second.stderr);
    t.equal(here.begun.at(-1)?.['volume'], 'web');
    t.equal(sum(readFileSync(here.image(2))), sum(two.raw));
    t.equal(
      (await runCli(['volume', 'import', ova, 'main/web', '--disk', '3'], { state: here.api.state })).code,
      2,
    );

    write(sum(Buffer.from('something else')));
    const damaged = await runCli(['volume', 'import', ova, 'main/web'], { state: here.api.state });
    t.equal(damaged.code, 1);
    t.match(damaged.stderr, /b\.vmdk.* is not what the manifest says/);
    writeFileSync(ova, readFileSync(ova).subarray(0, 1_500_000));
    t.match(
      (await runCli(['volume', 'import', ova, 'main/web'], { state: here.api.state })).stderr,
      /cut off/,
    );
    t.equal(here.begun.length, 3, 'weftd was asked for none of these');
  });
});

await t.test('export', { skip }, async t => {
  for (const format of ['qcow2', 'raw', 'vmdk', 'vhdx', 'vdi'])
    await t.test(format, async t => {
      const here = await place(t);
      const { raw } = makeImage(here.directory, 'raw');
      writeFileSync(here.image(0), raw);
      const file = join(here.directory, `out.${format}`);
      const { code, stdout, stderr } = await runCli(['volume', 'export', 'main/web@monday', file], {
        state: here.api.state,
      });
      t.equal(code, 0, stderr);
      t.match(stdout, new RegExp(`: ${format}, `));
      t.same(here.begun, [{ kind: 'export', pool: 'main', volume: 'web', snapshot: 'monday' }]);
      t.equal(statSync(file).mode & 0o777, 0o600);
      t.ok(statSync(file).blocks * 512 < 4 * MIB, 'sparse');
      const back = join(here.directory, 'back');
      execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', file, back]);
      t.equal(sum(readFileSync(back)), sum(raw));
      t.same(
        readdirSync(here.directory).filter(name => name.endsWith('.part')),
        [],
      );
    });

  await t.test('ova', async t => {
    const here = await place(t);
    const { raw } = makeImage(here.directory, 'raw');
    writeFileSync(here.image(0), raw);
    const file = join(here.directory, 'out.ova');
    const { code, stderr } = await runCli(['volume', 'export', 'main/web', file], { state: here.api.state });
    t.equal(code, 0, stderr);
    const listed = execFileSync('tar', ['-tf', file], { encoding: 'utf8' });
    t.equal(listed, 'web.ovf\nweb.mf\nweb-disk1.vmdk\n', 'as tar sees it');
    t.ok(statSync(file).size < 4 * MIB);
    // Its manifest is compared on the way back.
    const back = await runCli(['volume', 'import', file, 'main/again'], { state: here.api.state });
    t.equal(back.code, 0, back.stderr);
    t.match(back.stderr, /comparing .* with its manifest/);
    t.equal(sum(readFileSync(here.image(1))), sum(raw));
    t.same(
      readdirSync(here.directory).filter(name => name.includes('.part')),
      [],
    );
  });

  await t.test('compressed; a file that is there; an ending that says nothing', async t => {
    const here = await place(t);
    writeFileSync(here.image(0), Buffer.alloc(8 * MIB, 'weft'));
    const file = join(here.directory, 'out.qcow2');
    const weft = (...words: string[]) => runCli(['volume', 'export', ...words], { state: here.api.state });
    t.equal((await weft('main/web', file, '--compress')).code, 0);
    t.ok(statSync(file).size < MIB);
    t.equal((await weft('main/web', file)).code, 2);
    writeFileSync(here.image(1), Buffer.alloc(8 * MIB));
    t.equal((await weft('main/web', file, '--force')).code, 0);
    t.equal((await weft('main/web', join(here.directory, 'out.disk'))).code, 2);
    t.equal((await weft('main/web', `${file}.raw`, '--compress')).code, 2);
    writeFileSync(here.image(2), Buffer.alloc(8 * MIB, 'weft'));
    t.equal((await weft('main/web', join(here.directory, 'c.vmdk'), '--compress')).code, 0);
  });

  await t.test('no room, or interrupted: no file, and none half written', async t => {
    const here = await place(t);
    writeFileSync(here.image(0), randomBytes(8 * MIB));
    const nowhere = await runCli(['volume', 'export', 'main/web', join(here.directory, 'none', 'x.raw')], {
      state: here.api.state,
    });
    t.equal(nowhere.code, 1);
    t.match(nowhere.stderr, /cannot write/);
    writeFileSync(here.image(1), randomBytes(8 * MIB));
    const stopped = await runCli(['volume', 'export', 'main/web', join(here.directory, 'x.raw')], {
      state: here.api.state,
      onOutput: (_text, { signal }) => signal(),
    });
    t.equal(stopped.code, 130, stopped.stderr);
    t.same(
      readdirSync(here.directory).filter(name => /\.(part|raw)$/.test(name)),
      [],
    );
    await eventually('both to be let go', () => (here.released.length === 2 ? true : null));
  });
});
