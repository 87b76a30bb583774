import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t, { type Test } from 'tap';
import { StorageError } from '../../../storage/volume/errors.js';
import { Pool } from '../../../storage/pool/pool.js';

const MiB = 1024 * 1024;

function room(t: Test): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-storage-pool-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, 'p');
}

function open(t: Test, directory: string): Pool {
  const pool = Pool.open(directory, () => 1234);
  t.teardown(() => pool.close().catch(() => undefined));
  return pool;
}

const code = (wanted: string): { name: string; code: string } => ({ name: 'StorageError', code: wanted });

void t.test('a new pool is made, and found again', async t => {
  const directory = room(t);
  const pool = Pool.open(path.join(directory, 'deep', 'down'), () => 1);
  const { uuid } = pool;
  t.match(uuid, /^[0-9a-f-]{36}$/);
  t.same(pool.volumes(), []);
  t.same(pool.problems, []);
  t.equal(fs.statSync(pool.directory).mode & 0o777, 0o700);
  pool.ensure('one', 8 * MiB);
  await pool.close();
  const again = open(t, pool.directory);
  t.equal(again.uuid, uuid);
  t.match(again.volumes(), [{ name: 'one', size_bytes: 8 * MiB, createdAt_ms: 1 }]);
  t.ok(again.space().capacity_bytes > 0);
});

void t.test('a volume is made thin, once', async t => {
  const pool = open(t, room(t));
  const made = pool.ensure('disk-1.root_a', 1024 * MiB);
  t.match(made, { name: 'disk-1.root_a', size_bytes: 1024 * MiB, createdAt_ms: 1234 });
  t.ok(made.allocated_bytes < 65_536, `${made.allocated_bytes} allocated`);
  t.same(pool.ensure('disk-1.root_a', 1024 * MiB), made, 'the same again is no change');
  const data = path.join(pool.directory, 'volumes', 'disk-1.root_a', 'data');
  t.equal(fs.statSync(data).size, 1024 * MiB);
  t.equal(fs.statSync(data).mode & 0o777, 0o600);
  t.same(fs.readdirSync(path.join(pool.directory, 'making')), []);
});

void t.test('growing: data first, then meta; shrinking is refused', async t => {
  const pool = open(t, room(t));
  pool.ensure('v', 4 * MiB);
  const fd = pool.acquire('v');
  fs.writeSync(fd, Buffer.from('kept'), 0, 4, 4 * MiB - 4);
  const grown = pool.ensure('v', 16 * MiB);
  t.equal(grown.size_bytes, 16 * MiB);
  t.equal(pool.acquire('v'), fd, 'the file in use is the same');
  const bytes = Buffer.alloc(8);
  fs.readSync(fd, bytes, 0, 8, 4 * MiB - 4);
  t.equal(bytes.toString('latin1'), 'kept\0\0\0\0');
  t.throws(() => pool.ensure('v', 8 * MiB), code('VOLUME_SHRINK'));
  t.throws(() => pool.ensure('v', 16 * MiB + 1), { name: 'StorageError' });
  pool.release('v');
  await pool.close();
  t.equal(open(t, pool.directory).volume('v')?.size_bytes, 16 * MiB);
});

void t.test('a crash between the two steps of growing leaves the old size, and growing goes on', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  pool.ensure('v', 4 * MiB);
  await pool.close();
  fs.truncateSync(path.join(directory, 'volumes', 'v', 'data'), 64 * MiB);
  fs.writeFileSync(path.join(directory, 'volumes', 'v', 'meta.json.new'), '{"form');
  const again = open(t, directory);
  t.same(again.problems, []);
  t.equal(again.volume('v')?.size_bytes, 4 * MiB);
  t.equal(again.ensure('v', 8 * MiB).size_bytes, 8 * MiB);
  t.equal(fs.statSync(path.join(directory, 'volumes', 'v', 'data')).size, 64 * MiB, 'never shortened');
});

void t.test('destroying frees the name at once; in use it is refused', async t => {
  const pool = open(t, room(t));
  const first = pool.ensure('v', 4 * MiB);
  pool.acquire('v');
  t.throws(() => pool.destroy('v'), code('VOLUME_EXPORTED'));
  pool.release('v');
  pool.destroy('v');
  t.equal(pool.volume('v'), null);
  t.throws(() => pool.acquire('v'), code('VOLUME_UNKNOWN'));
  t.throws(() => pool.destroy('v'), code('VOLUME_UNKNOWN'));
  t.not(pool.ensure('v', 4 * MiB).uuid, first.uuid);
  await pool.close();
  t.same(fs.readdirSync(path.join(pool.directory, 'deleting')), [], 'close waits for the rest');
});

void t.test('names that are no names', async t => {
  const pool = open(t, room(t));
  for (const name of ['', '.', '..', '../x', 'a/b', '.hidden', 'a b', 'ü', 'x'.repeat(41), '-x', 'a\0b'])
    t.throws(() => pool.ensure(name, MiB), code('VOLUME_NAME_INVALID'), JSON.stringify(name));
});

void t.test('sizes that the file system cannot hold are refused in words, and nothing is left', async t => {
  const pool = open(t, room(t));
  try {
    pool.ensure('huge', 2 ** 46);
    t.comment('this file system has files of 64 TiB');
  } catch (error) {
    t.match(error, code('VOLUME_TOO_LARGE'));
    t.match((error as Error).message, /16 TiB/);
    t.same(fs.readdirSync(path.join(pool.directory, 'making')), []);
    t.same(fs.readdirSync(path.join(pool.directory, 'volumes')), []);
    pool.ensure('v', 4096);
    t.throws(() => pool.ensure('v', 2 ** 46), code('VOLUME_TOO_LARGE'), 'growing, too');
    t.equal(pool.volume('v')?.size_bytes, 4096);
  }
});

void t.test('what a crash left half made or half destroyed is removed', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  pool.ensure('v', MiB);
  await pool.close();
  const uuid = '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55';
  for (const half of ['making', 'deleting']) {
    fs.mkdirSync(path.join(directory, half, uuid));
    fs.writeFileSync(path.join(directory, half, uuid, 'data'), 'x');
  }
  const again = Pool.open(directory, () => 1);
  t.same(again.problems, []);
  t.equal(again.volumes().length, 1);
  await again.close();
  for (const half of ['making', 'deleting']) t.same(fs.readdirSync(path.join(directory, half)), []);
});

void t.test('a crash while the pool itself was made', async t => {
  const directory = room(t);
  fs.mkdirSync(path.join(directory, 'making'), { recursive: true });
  fs.writeFileSync(path.join(directory, 'lock'), '');
  fs.writeFileSync(path.join(directory, 'pool.json.new'), '{"for');
  const pool = open(t, directory);
  t.same(pool.problems, []);
  t.match(JSON.parse(fs.readFileSync(path.join(directory, 'pool.json'), 'utf8')), { uuid: pool.uuid });
});

void t.test('foreign files are told and left alone', async t => {
  const directory = room(t);
  await Pool.open(directory, () => 1).close();
  fs.writeFileSync(path.join(directory, 'thesis.doc'), 'mine');
  fs.writeFileSync(path.join(directory, 'volumes', 'stray'), 'mine');
  fs.mkdirSync(path.join(directory, 'volumes', '.snapshots'));
  fs.mkdirSync(path.join(directory, 'making', 'not-a-uuid'));
  const pool = open(t, directory);
  const problems = pool.problems.join('\n');
  for (const name of ['thesis.doc', 'volumes/stray', 'volumes/.snapshots', 'making/not-a-uuid'])
    t.match(problems, name);
  t.equal(fs.readFileSync(path.join(directory, 'thesis.doc'), 'utf8'), 'mine');
  t.ok(fs.existsSync(path.join(directory, 'making', 'not-a-uuid')));
});

void t.test('a directory with other things in it is not made a pool', async t => {
  const directory = room(t);
  fs.mkdirSync(directory);
  fs.writeFileSync(path.join(directory, 'thesis.doc'), 'mine');
  t.throws(() => Pool.open(directory, () => 1), code('POOL_NOT_A_POOL'));
  t.same(fs.readdirSync(directory), ['thesis.doc'], 'nothing was put there');
  t.throws(() => Pool.open('relative/path', () => 1), code('POOL_NOT_A_POOL'));
  fs.writeFileSync(`${directory}-file`, '');
  t.throws(() => Pool.open(`${directory}-file`, () => 1), { name: 'StorageError' });
});

void t.test('the root of a file system is fine', async t => {
  const directory = room(t);
  fs.mkdirSync(path.join(directory, 'lost+found'), { recursive: true });
  t.same(open(t, directory).problems, []);
});

void t.test('damaged volumes are told and not served; the others are', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  for (const name of ['good', 'truncated', 'empty', 'missing', 'short', 'renamed', 'nodata'])
    pool.ensure(name, MiB);
  await pool.close();
  const at = (name: string, file: string): string => path.join(directory, 'volumes', name, file);
  fs.truncateSync(at('truncated', 'meta.json'), 20);
  fs.truncateSync(at('empty', 'meta.json'), 0);
  fs.rmSync(at('missing', 'meta.json'));
  fs.truncateSync(at('short', 'data'), 4096);
  fs.renameSync(path.join(directory, 'volumes', 'renamed'), path.join(directory, 'volumes', 'other'));
  fs.rmSync(at('nodata', 'data'));
  const again = open(t, directory);
  t.same(
    again.volumes().map(volume => volume.name),
    ['good'],
  );
  for (const name of ['truncated', 'empty', 'missing', 'short', 'other', 'nodata']) {
    t.throws(() => again.acquire(name), code('VOLUME_DAMAGED'), name);
    t.throws(() => again.ensure(name, MiB), code('VOLUME_DAMAGED'), `${name} is not made anew`);
    t.throws(() => again.destroy(name), code('VOLUME_DAMAGED'), `${name} is not destroyed`);
    t.match(again.problems.join('\n'), `volume ${name} is not served`);
  }
  t.equal(fs.statSync(at('truncated', 'data')).size, MiB, 'its data are untouched');
  again.acquire('good');
});

void t.test('a damaged pool.json is told; the volumes are untouched', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  pool.ensure('v', MiB);
  await pool.close();
  fs.truncateSync(path.join(directory, 'pool.json'), 10);
  t.throws(() => Pool.open(directory, () => 1), code('POOL_DAMAGED'));
  t.ok(fs.existsSync(path.join(directory, 'volumes', 'v', 'data')));
});

void t.test('a pool is open once: in this process and in others', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  t.throws(() => Pool.open(directory, () => 1), code('POOL_IN_USE'));
  const script = `import { Pool } from ${JSON.stringify(new URL('../../../storage/pool/pool.js', import.meta.url).href)};
    try { Pool.open(${JSON.stringify(directory)}, () => 1); console.log('opened'); }
    catch (error) { console.log(error.code, error.message); }`;
  const other = (): string =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).stdout;
  const refused = other();
  t.match(refused, /^POOL_IN_USE/);
  t.match(refused, String(process.pid), 'and tells who has it');
  await pool.close();
  t.match(other(), /^opened/);
  open(t, directory);
});

void t.test('StorageError keeps its cause', async t => {
  try {
    Pool.open('/proc/weft-cannot-be-here', () => 1);
    t.fail('opened in /proc');
  } catch (error) {
    t.ok(error instanceof StorageError);
    t.match(error, { code: 'POOL_IO' });
  }
});
