import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t, { type Test } from 'tap';
import { StorageError } from '../../../storage/volume/errors.js';
import { Pool } from '../../../storage/pool/pool.js';
import { line } from '../../../storage/pool/catalogText.js';
import { kernelFiles, type PoolFiles } from '../../../storage/pool/files.js';
import { formatPool, formatVolume } from '../../../storage/pool/meta.js';

const MiB = 1024 * 1024;

/** Where syncs cost nothing: for tests that open hundreds of pools. */
const MEMORY = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();

function room(t: Test, home: string = os.tmpdir()): string {
  const directory = fs.mkdtempSync(path.join(home, 'weft-storage-pool-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return path.join(directory, 'p');
}

function open(t: Test, directory: string): Pool {
  const pool = Pool.open(directory, () => 1234);
  t.teardown(() => pool.close().catch(() => undefined));
  return pool;
}

/** Snapshot, as the desk takes one of a volume that nobody has open. */
function snapshot(pool: Pool, volume: string, name: string): void {
  const { volume: record, frozen } = pool.addTop(pool.require(volume));
  pool.commit([{ do: 'snapshot', snapshot: pool.snapshotRecord(record, name, frozen.uuid, {}) }]);
}

const code = (wanted: string): { name: string; code: string } => ({ name: 'StorageError', code: wanted });

void t.test('a new pool is made, and found again', async t => {
  const directory = room(t);
  const pool = Pool.open(path.join(directory, 'deep', 'down'), () => 1);
  const { uuid } = pool;
  t.match(uuid, /^[0-9a-f-]{36}$/);
  t.same(pool.names(), []);
  t.same(pool.problems, []);
  t.equal(fs.statSync(pool.directory).mode & 0o777, 0o700);
  pool.make('one', { size_bytes: 8 * MiB, labels: { of: 'alice' } });
  await pool.close();
  const again = open(t, pool.directory);
  t.equal(again.uuid, uuid);
  const made = {
    name: 'one',
    size_bytes: 8 * MiB,
    createdAt_ms: 1,
    checksums: true,
    labels: { of: 'alice' },
  };
  t.match(again.require('one'), made);
  t.ok(again.space().capacity_bytes > 0);
});

void t.test('a volume is made thin, or with its space', async t => {
  const pool = open(t, room(t));
  const { top } = pool.make('thin', { size_bytes: 1024 * MiB });
  t.ok(pool.allocated_bytes(top) < 65_536, 'thin');
  const data = path.join(pool.directory, 'layers', top, 'data');
  t.equal(fs.statSync(data).size, 1024 * MiB);
  t.equal(fs.statSync(data).mode & 0o777, 0o600);
  t.throws(() => pool.make('thin', { size_bytes: MiB }), code('VOLUME_EXISTS'));
  const full = pool.make('full', { size_bytes: 8 * MiB, preallocated: true, checksums: false });
  t.ok(pool.allocated_bytes(full.top) >= 8 * MiB, 'preallocated');
  t.notOk(fs.existsSync(path.join(pool.directory, 'layers', full.top, 'map')), 'a plain layer has no map');
});

void t.test(
  'layers made before there was a choice of sums keep theirs; new ones have the faster',
  async t => {
    const directory = room(t);
    const pool = open(t, directory);
    pool.make('one', { size_bytes: 8 * MiB });
    pool.make('none', { size_bytes: 8 * MiB, checksums: false });
    const sums = (of: Pool, volume: string): unknown[] => {
      const chain = of.acquireChain(of.require(volume).top);
      for (const { uuid } of chain) of.release(uuid);
      return chain.map(({ sum }) => sum);
    };
    t.same(sums(pool, 'one'), ['products']);
    t.same(sums(pool, 'none'), [undefined]);
    await pool.close();
    // As an earlier version wrote it.
    const catalog = path.join(directory, 'catalog');
    const older = fs
      .readFileSync(catalog, 'utf8')
      .trim()
      .split('\n')
      .map(text => line(JSON.parse(text.slice(9).replaceAll('"sum":"products",', ''))));
    fs.writeFileSync(catalog, older.join(''));
    const again = open(t, directory);
    t.same(again.problems, []);
    t.same(sums(again, 'one'), [undefined]);
    snapshot(again, 'one', 's');
    t.same(sums(again, 'one'), ['products', undefined]);
  },
);

void t.test('growing, under whoever has it open', async t => {
  const pool = open(t, room(t));
  const made = pool.make('v', { size_bytes: 4 * MiB });
  const [layer] = pool.acquireChain(made.top);
  fs.writeSync(layer!.dataFd, Buffer.from('kept'), 0, 4, 4 * MiB - 4);
  t.equal(pool.resize(made, 64 * MiB).size_bytes, 64 * MiB);
  const bytes = Buffer.alloc(8);
  fs.readSync(layer!.dataFd, bytes, 0, 8, 4 * MiB - 4);
  t.equal(bytes.toString('latin1'), 'kept\0\0\0\0');
  t.throws(() => pool.resize(pool.require('v'), 64 * MiB + 1), { name: 'StorageError' });
  pool.release(layer!.uuid);
  await pool.close();
  const again = open(t, pool.directory);
  t.equal(again.require('v').size_bytes, 64 * MiB);
  t.equal(again.acquireChain(again.require('v').top)[0]?.size_bytes, 64 * MiB);
});

void t.test(
  'snapshots, clones, rollback: chains share layers, and each goes when nobody needs it',
  async t => {
    const pool = open(t, room(t));
    const layers = (): number => fs.readdirSync(path.join(pool.directory, 'layers')).length;
    pool.make('v', { size_bytes: MiB });
    snapshot(pool, 'v', 's1');
    snapshot(pool, 'v', 's2');
    t.equal(pool.chain(pool.require('v').top).length, 3);
    t.throws(() => snapshot(pool, 'v', 's1'), code('SNAPSHOT_EXISTS'));
    t.throws(() => snapshot(pool, 'v', '../s'), code('SNAPSHOT_NAME_INVALID'));
    pool.collect();
    const v = pool.require('v');
    const s1 = pool.requireSnapshot(v, 's1');
    const clone = pool.clone('c', { size_bytes: 2 * MiB }, s1.layer, v, s1.size_bytes);
    t.match(pool.view(v).snapshots, [{ clones: ['c'] }, { clones: [] }]);
    t.same(pool.view(clone).parent, { volume: 'v', snapshot: 's1' });
    t.throws(() => pool.clone('d', { size_bytes: 4096 }, s1.layer, v, MiB), code('VOLUME_SHRINK'));
    pool.rollback(pool.require('v'), s1);
    pool.collect();
    t.equal(pool.chain(pool.require('v').top).length, 2);
    t.match(pool.snapshots(v), [{ name: 's1' }, { name: 's2' }], 'later ones stay');
    pool.destroy(pool.require('v'));
    t.same(
      pool.chain(clone.top).map(({ uuid }) => uuid),
      [clone.top, s1.layer],
      'the clone keeps what it shares',
    );
    pool.destroy(pool.require('c'));
    await pool.close();
    t.equal(layers(), 0);
    t.same(fs.readdirSync(path.join(pool.directory, 'deleting')), [], 'close waits for the rest');
  },
);

void t.test('a layer that is open is not removed before it is closed', async t => {
  const pool = open(t, room(t));
  const { top } = pool.make('v', { size_bytes: MiB });
  pool.acquireChain(top);
  pool.destroy(pool.require('v'));
  t.throws(() => pool.require('v'), code('VOLUME_UNKNOWN'));
  t.ok(fs.existsSync(path.join(pool.directory, 'layers', top)));
  pool.release(top);
  pool.collect();
  t.notOk(fs.existsSync(path.join(pool.directory, 'layers', top)));
});

void t.test('names that are no names', async t => {
  const pool = open(t, room(t));
  const names = [
    '',
    '.',
    '..',
    '../x',
    'a/b',
    '.hidden',
    'a b',
    'ü',
    'x'.repeat(41),
    '-x',
    'a\0b',
    'y'.repeat(4096),
  ];
  for (const name of names)
    t.throws(() => pool.make(name, { size_bytes: MiB }), code('VOLUME_NAME_INVALID'), name.slice(0, 50));
});

void t.test('sizes that the file system cannot hold are refused in words, and nothing is left', async t => {
  const pool = open(t, room(t));
  try {
    pool.make('huge', { size_bytes: 2 ** 46 });
    t.comment('this file system has files of 64 TiB');
  } catch (error) {
    t.match(error, code('VOLUME_TOO_LARGE'));
    t.match((error as Error).message, /16 TiB/);
    t.same(fs.readdirSync(path.join(pool.directory, 'layers')), []);
    pool.make('v', { size_bytes: 4096 });
    t.throws(() => pool.resize(pool.require('v'), 2 ** 46), code('VOLUME_TOO_LARGE'), 'growing, too');
    t.equal(pool.require('v').size_bytes, 4096);
  }
});

void t.test('what a crash left half made or half destroyed is removed', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  pool.make('v', { size_bytes: MiB });
  await pool.close();
  const halves = [
    ['layers', '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55'],
    ['deleting', '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c56'],
  ] as const;
  for (const half of halves) {
    fs.mkdirSync(path.join(directory, ...half));
    fs.writeFileSync(path.join(directory, ...half, 'data'), '');
    fs.truncateSync(path.join(directory, ...half, 'data'), MiB);
  }
  const again = Pool.open(directory, () => 1);
  t.same(again.problems, []);
  t.same(again.names(), ['v']);
  await again.close();
  for (const half of halves) t.notOk(fs.existsSync(path.join(directory, ...half)), half[0]);
});

void t.test('a crash while the pool itself was made', async t => {
  const directory = room(t);
  fs.mkdirSync(path.join(directory, 'layers'), { recursive: true });
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
  fs.writeFileSync(path.join(directory, 'layers', 'stray'), 'mine');
  fs.mkdirSync(path.join(directory, 'deleting', 'not-a-uuid'));
  const pool = open(t, directory);
  const problems = pool.problems.join('\n');
  for (const name of ['thesis.doc', 'layers/stray', 'deleting/not-a-uuid']) t.match(problems, name);
  t.equal(fs.readFileSync(path.join(directory, 'thesis.doc'), 'utf8'), 'mine');
  t.ok(fs.existsSync(path.join(directory, 'deleting', 'not-a-uuid')));
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

void t.test('damaged volumes are told and not opened; the others are', async t => {
  const directory = room(t);
  const pool = Pool.open(directory, () => 1);
  for (const name of ['good', 'short', 'nodata', 'nomap', 'shortmap']) pool.make(name, { size_bytes: MiB });
  const tops = new Map(pool.names().map(name => [name, pool.require(name).top]));
  await pool.close();
  const at = (name: string, file: string): string => path.join(directory, 'layers', tops.get(name)!, file);
  fs.truncateSync(at('short', 'data'), 4096);
  fs.rmSync(at('nodata', 'data'));
  fs.rmSync(at('nomap', 'map'));
  fs.truncateSync(at('shortmap', 'map'), 4096);
  const again = open(t, directory);
  for (const name of ['short', 'nodata', 'nomap', 'shortmap']) {
    t.throws(() => again.acquireChain(tops.get(name)!), code('VOLUME_DAMAGED'), name);
    t.throws(() => again.make(name, { size_bytes: MiB }), code('VOLUME_EXISTS'), `${name} is not made anew`);
  }
  t.equal(again.acquireChain(tops.get('good')!).length, 1);
});

/** As weft wrote them before there were layers. */
function makeFormatOne(directory: string, names: readonly string[]): void {
  fs.mkdirSync(path.join(directory, 'volumes'), { recursive: true });
  const uuid = (n: number): string => `00000000-0000-4000-8000-00000000000${n}`;
  const text = formatPool({ uuid: uuid(9), createdAt_ms: 5 }).replace('"format": 2', '"format": 1');
  fs.writeFileSync(path.join(directory, 'pool.json'), text);
  for (const [index, name] of names.entries()) {
    const room = path.join(directory, 'volumes', name);
    fs.mkdirSync(room);
    const meta = { name, uuid: uuid(index), size_bytes: MiB, createdAt_ms: 7 };
    fs.writeFileSync(path.join(room, 'meta.json'), formatVolume(meta));
    fs.writeFileSync(path.join(room, 'data'), `bytes of ${name}`);
    fs.truncateSync(path.join(room, 'data'), MiB);
  }
}

function contentOf(pool: Pool, name: string): string {
  const chain = pool.acquireChain(pool.require(name).top);
  const bytes = Buffer.alloc(11);
  fs.readSync(chain[0]!.dataFd, bytes, 0, 11, 0);
  for (const { uuid } of chain) pool.release(uuid);
  return bytes.toString('latin1');
}

void t.test('a pool of format 1 is taken over in place', async t => {
  const directory = room(t);
  makeFormatOne(directory, ['a', 'b', 'bad']);
  fs.truncateSync(path.join(directory, 'volumes', 'bad', 'meta.json'), 30);
  const pool = Pool.open(directory, () => 1);
  t.match(pool.require('a'), { size_bytes: MiB, createdAt_ms: 7, checksums: false });
  t.equal(contentOf(pool, 'a'), 'bytes of a\0');
  t.match(pool.problems.join(), /volumes\/bad was not taken over: meta.json is damaged/);
  t.throws(() => pool.make('bad', { size_bytes: MiB }), code('VOLUME_DAMAGED'), 'nor made anew');
  await pool.close();
  const again = open(t, directory);
  t.same(again.names(), ['a', 'b']);
  t.equal(contentOf(again, 'b'), 'bytes of b\0');
});

/** Works like the kernel's until `left` calls were made; then the process is as good as dead, or each call fails once. */
function failing(left: number, how: 'dies' | 'fails once'): { files: PoolFiles; reached: () => boolean } {
  let count = 0;
  const files = new Proxy(kernelFiles, {
    get:
      (target, name: keyof PoolFiles) =>
      (...args: never[]): unknown => {
        // What cannot go wrong in a way that matters.
        if (name !== 'close') count++;
        const fails = name !== 'close' && (how === 'dies' ? count > left : count === left + 1);
        if (fails)
          throw Object.assign(new Error('EIO: injected'), { code: 'EIO', errno: -5, syscall: 'write' });
        return (target[name] as (...args: never[]) => unknown)(...args);
      },
  });
  return { files, reached: () => count > left };
}

const CHANGES: Record<string, (pool: Pool) => void> = {
  make: pool => void pool.make('new', { size_bytes: MiB }),
  grow: pool => void pool.resize(pool.require('v'), 2 * MiB),
  snapshot: pool => snapshot(pool, 'v', 's2'),
  clone: pool => {
    const v = pool.require('v');
    pool.clone('c', { size_bytes: MiB }, pool.requireSnapshot(v, 's1').layer, v, MiB);
  },
  rollback: pool => void pool.rollback(pool.require('v'), pool.requireSnapshot(pool.require('v'), 's1')),
  'delete a snapshot': pool => {
    pool.dropSnapshot(pool.requireSnapshot(pool.require('v'), 's1'));
    pool.collect();
  },
  destroy: pool => pool.destroy(pool.require('v')),
  rename: pool => void pool.rename(pool.require('v'), 'w'),
  describe: pool => void pool.describe(pool.require('v'), { labels: { a: 'b' } }),
};

/** What a user sees of a pool. */
function seen(pool: Pool): string {
  return JSON.stringify(
    pool.names().map(name => {
      const { size_bytes, labels } = pool.require(name);
      const snapshots = pool.snapshots(pool.require(name)).map(one => one.name);
      return {
        name,
        size_bytes,
        labels,
        snapshots,
        opens: pool.acquireChain(pool.require(name).top).length > 0,
      };
    }),
  );
}

for (const how of ['dies', 'fails once'] as const)
  for (const [what, change] of Object.entries(CHANGES))
    void t.test(
      `${what}: the process ${how} at each file operation in turn; the pool is as before or as after`,
      async t => {
        const prepared = room(t, MEMORY);
        const first = Pool.open(prepared, () => 1);
        first.make('v', { size_bytes: MiB });
        snapshot(first, 'v', 's1');
        const before = seen(first);
        await first.close();
        const copy = (name: string): string => {
          fs.cpSync(prepared, `${prepared}-${name}`, { recursive: true });
          return `${prepared}-${name}`;
        };
        const done = Pool.open(copy('done'), () => 1);
        change(done);
        const after = seen(done);
        await done.close();
        for (let left = 0; ; left++) {
          const directory = copy(String(left));
          const { files, reached } = failing(left, how);
          let pool: Pool | null = null;
          try {
            pool = Pool.open(directory, () => 1, files);
            change(pool);
          } catch {
            // as injected
          }
          if (pool !== null && how === 'fails once' && reached())
            t.ok([before, after].includes(seen(pool)), `${left}: goes on`);
          await pool?.close();
          const again = Pool.open(directory, () => 1);
          const found = seen(again);
          t.ok([before, after].includes(found), `${left}: ${found}`);
          t.same(again.problems, []);
          await again.close();
          fs.rmSync(directory, { recursive: true });
          if (!reached()) {
            t.equal(found, after);
            break;
          }
        }
      },
    );

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
