/** Lists in pages: everything once, whatever is made and deleted between the pages; and what a cursor may not be. */
import fc from 'fast-check';
import t from 'tap';
import * as contract from '../../../control/api/contract.js';
import { ApiError } from '../../../control/api/errors.js';
import {
  PAGE_MAX,
  compareKeys,
  globMatches,
  labelsMatch,
  pageByIdentity,
  pageByKey,
} from '../../../control/api/paging.js';
import { Bench } from './bench.js';

t.setTimeout(120_000);

const names = fc.uniqueArray(fc.string({ maxLength: 3 }), { maxLength: 30 });

await t.test('by key: what stays is told once, in order', async t => {
  fc.assert(
    fc.property(names, names, names, fc.integer({ min: 1, max: 7 }), (stay, go, come, limit) => {
      const staying = new Set(stay);
      const list = (more: readonly string[]): string[] =>
        [...new Set([...stay, ...more])].toSorted((a, b) => compareKeys([a], [b]));
      const told: string[] = [];
      let cursor: string | undefined;
      for (let page = 0; ; page++) {
        const rows = list(page % 2 === 0 ? go : come);
        const { rows: got, next } = pageByKey(rows, row => [row], { limit, cursor });
        t.ok(got.length <= limit);
        told.push(...got);
        if (next === null) break;
        cursor = next;
      }
      const kept = told.filter(one => staying.has(one));
      return JSON.stringify(kept) === JSON.stringify(list([]));
    }),
  );
});

await t.test('by identity: the last row of a page may be deleted', async t => {
  const rows = Array.from({ length: 30 }, (_, i) => `s${29 - i}`);
  const one = (row: string): string => row;
  const first = pageByIdentity(rows, one, { limit: 10 });
  const without = rows.filter(row => row !== 's20' && row !== 's21' && row !== 's3');
  const second = pageByIdentity(without, one, { limit: 10, cursor: first.next! });
  t.same(second.rows, without.slice(8, 18));
  const third = pageByIdentity([...without, 'late'], one, { limit: 100, cursor: second.next! });
  t.equal(third.rows.at(-1), 'late');
  t.equal(third.next, null);
  t.throws(() => pageByIdentity(['x'], one, { cursor: first.next! }), { code: 'CURSOR_GONE' });
});

await t.test('patterns, labels, cursors of others', async t => {
  fc.assert(
    fc.property(fc.stringMatching(/^[ab*?]{0,6}$/), fc.stringMatching(/^[ab]{0,6}$/), (pattern, text) => {
      const slow = new RegExp(`^${pattern.replaceAll('*', '.*').replaceAll('?', '.')}$`);
      return globMatches(pattern, text) === slow.test(text);
    }),
  );
  t.equal(globMatches('*a'.repeat(2000), 'a'.repeat(1999)), false, 'at once');
  const labels = { env: 'test', empty: '' };
  for (const [selector, is] of [
    ['env', true],
    ['!env', false],
    ['env=test', true],
    ['env!=test', false],
    ['other!=x,env=test', true],
    ['env=test,!tmp', true],
    ['empty=', true],
    ['toString', false],
  ] as const)
    t.equal(labelsMatch(selector, labels), is, selector);
  for (const wrong of ['', '=x', 'a,,b', '!', '!a=b'])
    t.throws(() => labelsMatch(wrong, labels), { code: 'BAD_QUERY' }, `"${wrong}"`);
  fc.assert(
    fc.property(fc.string(), cursor => {
      try {
        pageByKey(['a'], row => [row], { cursor });
        return true;
      } catch (error) {
        return error instanceof ApiError && error.status === 400;
      }
    }),
  );
});

await t.test('2,500 volumes and as many snapshots by the API', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { volumes } = bench.storage.stored;
  await bench.ask('PUT', '/v1/volumes/main/first', { size_bytes: 4096 });
  const first = volumes.get('main/first')!;
  for (let i = 0; i < 2500; i++) {
    const name = `v${String(i).padStart(5, '0')}`;
    const labels: Record<string, string> = i % 2 === 0 ? { even: 'yes' } : {};
    volumes.set(`main/${name}`, { ...first, labels });
  }
  const snapshot = { createdAt_ms: 1, size_bytes: 4096, allocated_bytes: 0, labels: {}, clones: [] };
  volumes.set('main/first', {
    ...first,
    snapshots: Array.from({ length: 2500 }, (_, i) => ({ ...snapshot, name: `s${i}`, uuid: `u${i}` })),
  });
  const all = async (path: string): Promise<contract.VolumeRow[]> => {
    const rows: contract.VolumeRow[] = [];
    for (let cursor = ''; ;) {
      const page = contract.VolumePage.parse((await bench.get(`/v1/volumes?${path}${cursor}`)).json);
      t.ok(page.volumes.length <= PAGE_MAX);
      rows.push(...page.volumes);
      if (page.next === null || page.next === undefined) return rows;
      cursor = `&cursor=${page.next}`;
    }
  };
  const rows = await all('');
  t.equal(rows.length, 2501);
  t.same(
    rows.map(row => row.name),
    rows.map(row => row.name).toSorted(),
  );
  t.equal((await all('label=even&limit=700')).length, 1250);
  t.equal((await all('name=v0001*')).length, 10);
  t.equal((await all('pool=other')).length, 0);
  const shown = contract.VolumeView.parse((await bench.get('/v1/volumes/main/first')).json);
  t.equal(shown.snapshots?.length, PAGE_MAX);
  t.equal(shown.snapshotCount, 2500);
  const path = '/v1/volumes/main/first/snapshots';
  const page = contract.SnapshotPage.parse((await bench.get(path)).json);
  const second = contract.SnapshotPage.parse((await bench.get(`${path}?cursor=${page.next}`)).json);
  t.equal(second.snapshots[0]?.name, 's1000');
  for (const wrong of ['limit=0', 'limit=1001', 'limit=x', 'cursor=zz', 'label=%3D'])
    t.equal((await bench.get(`/v1/volumes?${wrong}`)).status, 400, wrong);
});

await t.test('resources in pages', async t => {
  const bench = await Bench.make(t);
  const volumes = Array.from({ length: 1200 }, (_, i) => `v${i}: { pool: main, size: 4KiB }`);
  const applied = await bench.apply(`pool: { main: {} }\nvolume: { ${volumes.join(', ')} }`);
  t.equal(applied.status, 200, applied.text.slice(0, 300));
  const first = contract.ResourcePage.parse((await bench.get('/v1/resources')).json);
  const rest = contract.ResourcePage.parse((await bench.get(`/v1/resources?cursor=${first.next}`)).json);
  const both = [...first.resources, ...rest.resources].map(({ kind, name }) => `${kind}/${name}`);
  t.equal(new Set(both).size, 1201);
  t.equal(both[0], 'pool/main');
  t.equal(rest.next, null);
});
