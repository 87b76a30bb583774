/** What is lost of a pool, each thing in its turn: who is served then, and in which words; and what a repair makes of it. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t, { type Test } from 'tap';
import { headLine, line } from '../../../storage/pool/catalogText.js';
import { kernelFiles, type PoolFiles } from '../../../storage/pool/files.js';
import { Pool } from '../../../storage/pool/pool.js';
import { repair } from '../../../storage/pool/repair.js';

const MiB = 1024 * 1024;
const HOME = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
const damaged = { name: 'StorageError', code: 'POOL_DAMAGED' };

class Room {
  readonly directory: string;
  #open: Pool[] = [];

  constructor(t: Test) {
    const home = fs.mkdtempSync(path.join(HOME, 'weft-storage-damage-'));
    this.directory = path.join(home, 'p');
    t.teardown(async () => {
      await this.close();
      fs.rmSync(home, { recursive: true });
    });
  }

  at(...names: string[]): string {
    return path.join(this.directory, ...names);
  }

  open(): Pool {
    const pool = Pool.open(this.directory, () => 1234);
    this.#open.push(pool);
    return pool;
  }

  async close(): Promise<void> {
    for (const pool of this.#open.splice(0)) await pool.close();
  }

  /** Volumes a, b (with a snapshot s, and c cloned from it), each with content; closed again. What `seen` says of it. */
  async fill(): Promise<string> {
    const pool = this.open();
    for (const name of ['a', 'b']) {
      pool.make(name, { size_bytes: MiB, labels: { of: name } });
      touch(this, pool, name);
    }
    const { volume, frozen } = pool.addTop(pool.require('b'));
    pool.commit([{ do: 'snapshot', snapshot: pool.snapshotRecord(volume, 's', frozen.uuid, {}) }]);
    touch(this, pool, 'b');
    pool.clone('c', { size_bytes: MiB }, frozen.uuid, pool.require('b'), MiB);
    touch(this, pool, 'c');
    pool.rename(pool.require('a'), 'z');
    const found = seen(pool);
    await this.close();
    return found;
  }

  text(name: string): string {
    return fs.readFileSync(this.at(name), 'utf8');
  }

  repair(dryRun: boolean): ReturnType<typeof repair> {
    return repair(this.directory, { dryRun, newIdentity: false }, () => 5678);
  }
}

/** Something that only this layer has, in data and map. */
function touch(room: Room, pool: Pool, name: string): void {
  const { top } = pool.require(name);
  for (const file of ['data', 'map']) {
    const fd = fs.openSync(room.at('layers', top, file), 'r+');
    fs.writeSync(fd, top);
    fs.closeSync(fd);
  }
}

/** What a user sees, and where it lies. */
function seen(pool: Pool): string {
  const volumes = pool.names().map(name => {
    const { uuid, size_bytes, labels, top } = pool.require(name);
    const snapshots = pool.snapshots(pool.require(name)).map(one => `${one.name} ${one.uuid} ${one.layer}`);
    return { name, uuid, size_bytes, labels, top, snapshots, chain: pool.chain(top).map(one => one.uuid) };
  });
  return JSON.stringify(volumes.sort((a, b) => (a.name < b.name ? -1 : 1)));
}

/** Every file with its content, but for the lock. */
function filesOf(directory: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name !== 'lock')
    .map(entry => {
      const bytes = fs.readFileSync(path.join(entry.parentPath, entry.name));
      return `${entry.name} ${bytes.length} ${createHash('sha1').update(bytes).digest('hex')}`;
    })
    .sort();
}

const DAMAGES: Record<string, (room: Room) => void> = {
  'a line in its middle': room => {
    const lines = room.text('catalog').split('\n');
    lines[2] = lines[2]!.replace('"b"', '"x"');
    fs.writeFileSync(room.at('catalog'), lines.join('\n'));
  },
  'each line but the first and the last': room => {
    const lines = room.text('catalog').trimEnd().split('\n');
    const bad = lines.map((line, i) => (i === 0 || i === lines.length - 1 ? line : `x${line}`));
    fs.writeFileSync(room.at('catalog'), `${bad.join('\n')}\n`);
  },
  'its beginning': room =>
    fs.writeFileSync(room.at('catalog'), room.text('catalog').replace('catalog', 'kitalog')),
  'its end, at a line': room =>
    fs.writeFileSync(room.at('catalog'), `${room.text('catalog').split('\n').slice(0, 2).join('\n')}\n`),
  'its end, within a line': room => fs.truncateSync(room.at('catalog'), 900),
  'its end, as zeroes': room => {
    const bytes = fs.readFileSync(room.at('catalog'));
    fs.writeFileSync(room.at('catalog'), bytes.fill(0, 900));
  },
  'all of it, but for its name': room => fs.truncateSync(room.at('catalog'), 0),
  'all of it': room => fs.rmSync(room.at('catalog')),
  'pool.json, cut off': room => fs.truncateSync(room.at('pool.json'), 10),
  'pool.json': room => fs.rmSync(room.at('pool.json')),
  'catalogue and pool.json': room => {
    fs.rmSync(room.at('catalog'));
    fs.rmSync(room.at('pool.json'));
  },
};

for (const [what, damage] of Object.entries(DAMAGES))
  void t.test(`lost: ${what}. Everything can be read, nothing is changed; a repair mends it`, async t => {
    const room = new Room(t);
    const before = await room.fill();
    const { uuid } = JSON.parse(room.text('pool.json')) as { uuid: string };
    damage(room);
    const files = filesOf(room.directory);
    const pool = room.open();
    t.equal(seen(pool), before);
    t.equal(pool.uuid, uuid);
    t.match(pool.problems.join('\n'), /weft pool repair/);
    for (const name of pool.names()) {
      const volume = pool.require(name);
      t.match(pool.damage(volume), /read-only/);
      const chain = pool.acquireChain(volume.top);
      t.equal(pool.opening(volume, chain, Infinity).writable, false);
      for (const one of chain) pool.release(one.uuid);
    }
    t.throws(() => pool.make('d', { size_bytes: MiB }), damaged);
    t.throws(() => pool.destroy(pool.require('z')), damaged);
    pool.collect();
    const planned = room.repair(true);
    t.ok(planned.found.length > 0 && planned.actions.length > 0);
    await room.close();
    t.same(filesOf(room.directory), files, 'nothing was changed, by a repair that only looks neither');
    t.same(room.repair(false).actions, planned.actions);
    const after = room.open();
    t.same(after.problems, []);
    t.equal(seen(after), before);
    t.equal(after.uuid, uuid);
    t.equal(after.damage(after.require('z')), null);
    after.make('d', { size_bytes: MiB });
    for (const name of ['b', 'd']) after.destroy(after.require(name));
    await room.close();
    t.same(room.repair(false), { pool: uuid, found: [], actions: [] }, 'nothing is left to do');
  });

void t.test(
  'without notes: what the catalogue says otherwise counts, the rest is put aside, and no byte is lost',
  async t => {
    const room = new Room(t);
    await room.fill();
    for (const uuid of fs.readdirSync(room.at('layers'))) fs.rmSync(room.at('layers', uuid, 'note'));
    DAMAGES['a line in its middle']!(room);
    const data = (): string[] => filesOf(room.directory).filter(one => one.startsWith('data'));
    const before = data();
    const pool = room.open();
    t.same(pool.names().sort(), ['b', 'c', 'z']);
    t.equal(pool.fault('z'), null);
    t.match(pool.fault('b'), /is in no record/, 'its first layer is not known');
    t.throws(() => pool.acquireChain(pool.require('b').top, true), { code: 'VOLUME_DAMAGED' });
    await room.close();
    room.repair(false);
    t.same(data(), before);
    t.equal(fs.readdirSync(room.at('lost+found')).length, 2, 'the layer, and the catalogue as it was');
  },
);

void t.test(
  'a layer with data that no record ever named is told, left alone, and put aside by a repair',
  async t => {
    const room = new Room(t);
    await room.fill();
    const stray = '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55';
    fs.mkdirSync(room.at('layers', stray));
    fs.writeFileSync(room.at('layers', stray, 'data'), 'precious');
    const pool = room.open();
    t.match(pool.problems, [/1 layers hold data and are in no record, left alone/]);
    t.equal(pool.damage(pool.require('z')), null, 'others are written');
    await room.close();
    room.repair(false);
    t.equal(fs.readFileSync(room.at('lost+found', stray, 'data'), 'utf8'), 'precious');
    t.same(room.open().problems, []);
  },
);

void t.test('what a newer weft wrote is opened by that one only, nor mended', async t => {
  const room = new Room(t);
  await room.fill();
  const catalog = room.text('catalog');
  const meta = room.text('pool.json');
  const refuses = (): void => {
    t.throws(() => room.open(), { ...damaged, message: /newer weft/ });
    t.throws(() => room.repair(false), { ...damaged, message: /newer weft/ });
  };
  fs.writeFileSync(room.at('pool.json'), meta.replace('"format": 2', '"format": 3'));
  refuses();
  fs.writeFileSync(room.at('pool.json'), meta);
  const head = headLine((JSON.parse(meta) as { uuid: string }).uuid);
  fs.writeFileSync(room.at('catalog'), catalog.replace(head, line({ n: 0, catalog: 3, pool: 'x' })));
  refuses();
  fs.writeFileSync(room.at('catalog'), catalog + line({ n: 99, changes: [{ do: 'dance' }] }) + line({}));
  refuses();
  fs.writeFileSync(room.at('catalog'), catalog);
  t.same(room.open().problems, []);
});

const LOSSES: Record<string, (at: (file: string) => string) => void> = {
  'its directory': at => fs.rmSync(at('.'), { recursive: true }),
  'its data': at => fs.rmSync(at('data')),
  'the end of its data': at => fs.truncateSync(at('data'), 4096),
  'its map': at => fs.rmSync(at('map')),
  'the end of its map': at => fs.truncateSync(at('map'), 4096),
};

for (const [what, lose] of Object.entries(LOSSES))
  void t.test(
    `lost of a frozen layer: ${what}. Volumes above it are read-only, others are as ever`,
    async t => {
      const room = new Room(t);
      await room.fill();
      const first = room.open();
      const { layer } = first.requireSnapshot(first.require('b'), 's');
      await room.close();
      lose(file => room.at('layers', layer, file));
      const pool = room.open();
      for (const name of ['b', 'c']) {
        const volume = pool.require(name);
        t.throws(() => pool.acquireChain(volume.top), { code: 'VOLUME_DAMAGED' }, 'no work is done on it');
        const chain = pool.acquireChain(volume.top, true);
        t.equal(chain.length, 2);
        t.equal(pool.opening(volume, chain, Infinity).writable, false);
        t.match(pool.damage(volume), /(missing|its end is lost).*EIO/);
        t.throws(() => pool.addTop(volume), { code: 'VOLUME_DAMAGED' });
        t.throws(() => pool.clone('d', { size_bytes: MiB }, layer, volume, MiB), { code: 'VOLUME_DAMAGED' });
        t.throws(() => pool.make(name, { size_bytes: MiB }), { code: 'VOLUME_EXISTS' }, 'nor made anew');
        for (const one of chain) pool.release(one.uuid);
      }
      t.equal(pool.damage(pool.require('z')), null);
      t.equal(pool.acquireChain(pool.require('z').top).length, 1);
      pool.destroy(pool.require('c'));
      pool.destroy(pool.require('b'));
      t.same(pool.names(), ['z'], 'they can be destroyed');
    },
  );

void t.test('a repair that dies at any step is done by the next one', async t => {
  const room = new Room(t);
  const before = await room.fill();
  DAMAGES['its end, at a line']!(room);
  fs.mkdirSync(room.at('layers', '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55'));
  fs.writeFileSync(room.at('layers', '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55', 'data'), 'precious');
  const data = (directory: string): string[] => filesOf(directory).filter(one => one.startsWith('data'));
  for (let left = 0; ; left++) {
    const directory = `${room.directory}-${left}`;
    fs.cpSync(room.directory, directory, { recursive: true });
    let calls = 0;
    const files = dying(() => ++calls > left);
    try {
      repair(directory, { dryRun: false, newIdentity: false }, () => 1, files);
    } catch {
      // as injected
    }
    t.same(data(directory), data(room.directory), `${left}: no data is lost`);
    repair(directory, { dryRun: false, newIdentity: false }, () => 1);
    const pool = Pool.open(directory, () => 1);
    t.equal(seen(pool), before, `${left}`);
    t.same(pool.problems, []);
    await pool.close();
    fs.rmSync(directory, { recursive: true });
    if (calls <= left) break;
  }
});

void t.test('a copy of a pool gets an identity of its own', async t => {
  const room = new Room(t);
  const before = await room.fill();
  const was = room.open().uuid;
  await room.close();
  const report = repair(room.directory, { dryRun: false, newIdentity: true }, () => 1);
  t.match(report.actions, [/new identity/]);
  const pool = room.open();
  t.not(pool.uuid, was);
  t.equal(seen(pool), before);
  t.same(pool.problems, []);
  await room.close();
  fs.rmSync(room.at('catalog'));
  t.equal(seen(room.open()), before, 'its notes are of the new one');
});

/** Works like the kernel's until `isDead` says otherwise. */
function dying(isDead: () => boolean): PoolFiles {
  return new Proxy(kernelFiles, {
    get:
      (target, name: keyof PoolFiles) =>
      (...args: never[]): unknown => {
        if (name !== 'close' && isDead())
          throw Object.assign(new Error('EIO: injected'), { code: 'EIO', errno: -5, syscall: 'write' });
        return (target[name] as (...args: never[]) => unknown)(...args);
      },
  });
}
