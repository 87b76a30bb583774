/** Both stores take the exam; what only `level` can meet is below. */
import t from 'tap';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Level } from 'level';
import { StoreError } from '../../../control/store/errors.js';
import { LevelStore } from '../../../control/store/level.js';
import { MemoryDisk, MemoryStore } from '../../../control/store/memory.js';
import type { Store } from '../../../control/store/store.js';
import { exam } from './exam.js';

async function directory(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'weft-store-'));
  t.teardown(() => fs.rmSync(made, { recursive: true, force: true }));
  return made;
}

await t.test('memory', async t => {
  const disks = new WeakMap<Store, MemoryDisk>();
  const open = (disk: MemoryDisk, limits?: ConstructorParameters<typeof MemoryStore>[1]): Store => {
    const store = new MemoryStore(disk, limits);
    disks.set(store, disk);
    return store;
  };
  await exam(t, {
    open: async limits => open(new MemoryDisk(), limits),
    reopen: async (store, limits) => open(disks.get(store)!, limits),
  });
});

await t.test('level', async t => {
  const places = new WeakMap<Store, string>();
  const open = async (place: string, limits?: Parameters<typeof LevelStore.open>[1]): Promise<Store> => {
    const store = await LevelStore.open(place, limits);
    places.set(store, place);
    return store;
  };
  await exam(t, {
    open: async limits => open(await directory(), limits),
    reopen: async (store, limits) => {
      await store.close();
      return open(places.get(store)!, limits);
    },
  });
});

const code = (wanted: string) => ({ name: 'StoreError', code: wanted });

await t.test('open in another place', async t => {
  const place = await directory();
  const store = await LevelStore.open(place);
  const error = await LevelStore.open(place).then(
    () => undefined,
    (one: unknown) => one,
  );
  t.match(error, code('STORE_LOCKED'));
  t.match(error instanceof StoreError && error.message, `the store in ${place} is open in another process`);
  await store.close();
});

await t.test('a store of another format', async t => {
  const place = await directory();
  const database = new Level<string, unknown>(place, { valueEncoding: 'json' });
  await database.put('meta!format', 2);
  await database.close();
  await t.rejects(LevelStore.open(place), {
    ...code('STORE_FORMAT'),
    message: `the store in ${place} has format 2, this weft knows 1: use the version of weft that wrote it`,
  });
});

await t.test('something in it that we never wrote', async t => {
  const place = await directory();
  const first = await LevelStore.open(place);
  await first.close();
  const database = new Level<string, unknown>(place, { valueEncoding: 'json' });
  await database.put('r!machine!m', { kind: 'machine', name: 'm', generation: 'one', written: {} });
  await database.close();
  const store = await LevelStore.open(place);
  await t.rejects(store.read(), { ...code('STORE_CORRUPT'), message: /r!machine!m/ });
  await store.close();
  const raw = new Level<string, string>(place, { valueEncoding: 'utf8' });
  await raw.put('r!machine!m', '{not json');
  await raw.close();
  const again = await LevelStore.open(place);
  await t.rejects(again.read(), code('STORE_CORRUPT'));
  await again.close();
});

await t.test('damaged files', async t => {
  const place = await directory();
  const first = await LevelStore.open(place);
  await first.commit({ put: [{ kind: 'pool', name: 'p', generation: 1, written: {} }] });
  await first.close();
  for (const file of fs.readdirSync(place))
    if (file.startsWith('MANIFEST')) fs.writeFileSync(join(place, file), 'x'.repeat(100));
  await t.rejects(LevelStore.open(place), {
    ...code('STORE_CORRUPT'),
    message: /Guests, networks and disks go on/,
  });
});

await t.test('no place for it', async t => {
  const place = join(await directory(), 'file');
  fs.writeFileSync(place, '');
  await t.rejects(LevelStore.open(place), code('STORE_IO'));
});

await t.test('kill -9 at any moment loses nothing that was acknowledged', async t => {
  const place = await directory();
  const module = pathToFileURL(join(import.meta.dirname, '../../../control/store/level.js')).href;
  // Commits as fast as it can, and says each number once it is acknowledged.
  const script = `
    import { LevelStore } from ${JSON.stringify(module)};
    import { writeSync } from 'node:fs';
    const store = await LevelStore.open(${JSON.stringify(place)});
    let { revision } = await store.read();
    for (;;) {
      revision += 1;
      const pool = { kind: 'pool', name: 'p' + (revision % 7), generation: revision, written: { revision } };
      await store.commit({
        revision: { revision, at: '', why: 'apply', resources: [pool] },
        put: [pool],
        facts: new Map([['n', revision]]),
      });
      writeSync(1, revision + '\\n');
    }`;
  let last = 0;
  for (let round = 0; round < 6; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    const target = last + 20 + round * 17;
    await new Promise<void>(resolve => {
      child.stdout.setEncoding('utf8');
      child.stdout.on('data', (piece: string) => {
        said += piece;
        const newest = Number(said.trimEnd().split('\n').at(-1));
        if (newest >= target) child.kill('SIGKILL');
      });
      child.on('close', () => resolve());
    });
    const complete = said.slice(0, said.lastIndexOf('\n'));
    last = Number(complete.split('\n').at(-1));
    const store = await LevelStore.open(place);
    const { revision, resources, facts } = await store.read();
    t.ok(revision >= last, `acknowledged ${last}, found ${revision}`);
    t.equal(facts.get('n'), revision, 'all of a change or nothing of it');
    t.match(
      resources.find(one => one.name === `p${revision % 7}`),
      { generation: revision },
    );
    last = revision;
    await store.close();
  }
});
