/** weft pool, volume, backup and job: what they ask of weftd, and what they say. */
import t, { type Test } from 'tap';
import { FakeApi, Refusal, STREAMING, runCli, resource, type Outcome } from '../fakeApi.js';
import { amountText, bar } from '../../../cli/storage/bar.js';
import { backupTarget, parseTarget, timedName } from '../../../cli/storage/names.js';

const GIB = 2 ** 30;

const SNAPSHOT = {
  name: 'monday',
  uuid: 's',
  createdAt_ms: Date.UTC(2026, 0, 5),
  size_bytes: GIB,
  allocated_bytes: 4096,
  labels: { why: 'upgrade' },
  clones: ['web-test'],
};
const VOLUME = {
  pool: 'main',
  name: 'web',
  uuid: 'v',
  size_bytes: 2 * GIB,
  allocated_bytes: GIB,
  createdAt_ms: Date.UTC(2026, 0, 1),
  state: 'damaged',
  reason: 'a block cannot be read',
  checksumErrors: 3,
  throttledCount: 12,
  throttled_ms: 3400,
  parent: { volume: 'golden', snapshot: 'v1' },
  depth: 3,
  snapshots: [SNAPSHOT],
  mirror: { state: 'degraded', left_bytes: 4096, reason: 'its other side is away' },
  labels: { team: 'a' },
  quota_bytes: null,
  configured: true,
  usedBy: ['machine alice'],
  runningOn: 'alice',
};
const JOB = {
  id: '7',
  request: { kind: 'scrub', pool: 'main' },
  state: 'running',
  startedAt_ms: 1,
  endedAt_ms: null,
  done_bytes: GIB,
  total_bytes: 2 * GIB,
  message: null,
  findings: [],
};
const DONE = { ...JOB, state: 'done', endedAt_ms: 2, done_bytes: 2 * GIB };

async function place(t: Test): Promise<{ api: FakeApi; weft: (...words: string[]) => Promise<Outcome> }> {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.on('GET /v1/volumes/:pool/:volume', ({ path }) =>
    path.endsWith('/web') ? VOLUME : new Refusal(404, 'VOLUME_UNKNOWN', 'none'),
  );
  api.on('GET /v1/volumes/:pool/:volume/snapshots', () => ({ snapshots: [SNAPSHOT], next: null }));
  api.on('POST /v1/snapshots', () => ({ snapshots: [SNAPSHOT] }));
  api.on('POST /v1/jobs', ({ body }) => ({ ...JOB, request: body }));
  return { api, weft: (...words) => runCli(words, { state: api.state }) };
}

/** A job's words, one after the other. */
function tells(api: FakeApi, ...states: object[]): void {
  api.on('GET /v1/jobs/:id/events', (_asked, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const state of states) response.write(`data: ${JSON.stringify(state)}\n\n`);
    response.end();
    return STREAMING;
  });
}

await t.test('names', async t => {
  t.same(parseTarget('main/web@x.1'), { pool: 'main', volume: 'web', snapshot: 'x.1' });
  for (const bad of ['web', 'a/b/c', 'a/b@', '/b', 'a/', 'a/b@c/d', '@', ''])
    t.throws(() => parseTarget(bad));
  t.equal(timedName('snap', Date.UTC(2026, 10, 21, 8, 5, 9)), 'snap-20261121-080509');
  const at = (text: string) => backupTarget(text, { resolve: path => `/cwd/${path}`, isThere: () => false });
  t.same(at('b'), { directory: '/cwd/b' });
  t.same(at('nbd://[::1]:99/a%2Fb'), { server: { kind: 'tcp', host: '::1', port: 99 }, exportName: 'a/b' });
  t.same(at('nbds://h/x'), { server: { kind: 'tcp', host: 'h', port: 10_809 }, exportName: 'x', tls: {} });
  t.same(at('nbd+unix:///e?socket=/s'), { server: { kind: 'unix', path: '/s' }, exportName: 'e' });
  for (const bad of ['nbd+unix:///e', 'nbd+unix:///e?socket=s', 'nbd:///x']) t.throws(() => at(bad));
});

await t.test('a bar', async t => {
  t.equal(bar(0.5), '[############............] 50%');
  t.equal(bar(2), '[########################] 100%');
  t.equal(amountText({ done_bytes: GIB, total_bytes: null }, 0), '1 GiB');
  t.match(
    amountText({ done_bytes: GIB, total_bytes: 2 * GIB }, 10_000),
    /50% {2}1 GiB of 2 GiB {2}102 MiB\/s {2}10 s left/,
  );
});

await t.test('looking', async t => {
  const { api, weft } = await place(t);
  const show = await weft('volume', 'show', 'main/web');
  t.equal(show.code, 0, show.stderr);
  for (const line of [
    /State: +damaged: a block cannot be read/,
    /Cloned from: +golden@v1/,
    /Mirror: +degraded, 4 KiB to copy, its other side is away/,
    /Damaged blocks: +3 found/,
    /Held back: +12 requests by its limits, for 3\.4 s/,
    /Running on: +machine alice/,
    /monday +\d+d +1 GiB +4 KiB +web-test +why=upgrade/,
  ])
    t.match(show.stdout, line);
  t.same(JSON.parse((await weft('volume', 'show', 'main/web', '-o', 'json')).stdout), VOLUME);
  t.match((await weft('volume', 'snapshots', 'main/web')).stdout, /^SNAPSHOT.*\nmonday/);
  t.equal((await weft('volume', 'show', 'main/none')).code, 1);
  t.equal((await weft('volume', 'show', 'web')).code, 2);
  api.on('GET /v1/pools', () => ({
    pools: [
      {
        name: 'main',
        directory: '/p',
        state: 'low',
        reason: 'less than 10% is free',
        capacity_bytes: 10 * GIB,
        free_bytes: GIB,
        allocated_bytes: GIB,
        provisioned_bytes: 20 * GIB,
        volumeCount: 2,
        problems: ['a foreign file: x', 'volume y is damaged'],
      },
    ],
  }));
  t.match(
    (await weft('pool', 'list')).stdout,
    /main +directory +low +2 +10 GiB +1 GiB +1 GiB +200% +less than/,
  );
  t.match((await weft('pool', 'show', 'main')).stdout, /Problems: +a foreign file: x\n +volume y/);
  const wrong = await weft('pool', 'show', 'mainn');
  t.equal(wrong.code, 1);
  t.match(wrong.stderr, /did you mean "main"/);
});

await t.test('long lists come in pages', async t => {
  const { api, weft } = await place(t);
  const row = { pool: 'main', state: 'ok', reason: null, configured: false, usedBy: [] };
  api.on('GET /v1/volumes', ({ query }) => {
    const page = Number(query.get('cursor') ?? 0);
    const volumes = [{ ...row, name: `v${page}`, size_bytes: GIB, allocated_bytes: page * GIB }];
    return { volumes, next: page < 2 ? String(page + 1) : null };
  });
  const names = async (...words: string[]): Promise<string[]> =>
    (await weft('volume', 'list', ...words)).stdout.match(/v\d/g) ?? [];
  t.same(await names(), ['v0', 'v1', 'v2']);
  t.same(await names('--sort', 'used'), ['v2', 'v1', 'v0']);
  await names('main/v*', '--labels', 'env=test');
  const { query } = api.requests('GET /v1/volumes').at(-1)!;
  t.same(Object.fromEntries(query), { pool: 'main', name: 'v*', label: 'env=test', cursor: '2' });
  t.equal((await weft('volume', 'list', 'm*/x')).code, 2);
});

await t.test('why a pool is full, and what another server offers', async t => {
  const { api, weft } = await place(t);
  const pool = { name: 'main', directory: '/p', state: 'open', reason: null, volumeCount: 2 };
  const sizes = { capacity_bytes: GIB, free_bytes: 0, allocated_bytes: GIB, provisioned_bytes: GIB };
  api.on('GET /v1/pools', () => ({ pools: [{ ...pool, ...sizes }] }));
  const row = { pool: 'main', state: 'ok', reason: null, size_bytes: GIB };
  api.on('GET /v1/volumes', () => ({
    volumes: [
      { ...row, name: 'old', allocated_bytes: 3 * 2 ** 20, configured: false, usedBy: [] },
      { ...row, name: 'web', allocated_bytes: 2 ** 20, configured: true, usedBy: [], snapshotCount: 2 },
    ],
    next: null,
  }));
  const free = { ...SNAPSHOT, name: 'free', clones: [], allocated_bytes: 2 ** 19 };
  api.on('GET /v1/volumes/:pool/:volume/snapshots', () => ({ snapshots: [SNAPSHOT, free], next: null }));
  const { stdout } = await weft('pool', 'top', 'main');
  t.same(stdout.trimEnd().split('\n'), [
    'HOLDS            ALONE    REMOVED BY',
    'main/old         3 MiB    weft volume delete main/old --destroy-data',
    'main/web@free    512 KiB  weft volume delete-snapshot main/web@free',
    'main/web         508 KiB  in use',
    'main/web@monday  4 KiB    in use',
  ]);
  t.equal((await weft('pool', 'top', 'none')).code, 1);
  const offered = { name: 'disk', description: 'the first', size_bytes: GIB, readOnly: true, reason: null };
  api.on('GET /v1/pools/:pool/exports', () => ({ exports: [{ ...offered, volume: 'web' }], isCut: true }));
  const far = await weft('pool', 'exports', 'main');
  t.match(far.stdout, /^EXPORT.*\ndisk +1 GiB +read-only +web +the first/);
  t.match(far.stderr, /There are more/);
});

await t.test('move: begun, watched, ended, refused', async t => {
  const { api, weft } = await place(t);
  const resource = (pool: string) => ({
    kind: 'volume',
    name: 'web',
    generation: 1,
    spec: { pool },
    status: { observedGeneration: 1, conditions: [], lastError: null, observed: {} },
    deleting: false,
  });
  api.on('POST /v1/volumes/:pool/:volume/move', () => ({}));
  api.on('DELETE /v1/volumes/:pool/:volume/move', () => ({}));
  const places = ['main', 'fast'];
  api.on('GET /v1/resources/:kind/:name', () => resource(places.shift() ?? 'fast'));
  let left = 2;
  api.on('GET /v1/volumes/:pool/:volume', () =>
    --left > 0 ? { ...VOLUME, movingTo: 'fast' } : new Refusal(404, 'VOLUME_UNKNOWN', 'none'),
  );
  const moved = await weft('volume', 'move', 'main/web', 'fast');
  t.match(moved.stdout, /main\/web is fast\/web now/, moved.stderr);
  t.match(moved.stderr, /say "pool: fast"/);
  t.same(api.requests('POST /v1/volumes/:pool/:volume/move')[0]?.body, { to: 'fast', keepSource: false });
  api.on('GET /v1/resources/:kind/:name', () => resource('main'));
  left = 2;
  t.match(await weft('volume', 'move', 'main/web', 'fast'), { code: 1, stderr: /was not moved/ });
  t.equal((await weft('volume', 'move', 'main/web', '--cancel')).code, 0);
  t.equal((await weft('volume', 'move', 'main/web')).code, 2);
});

await t.test('snapshots', async t => {
  const { api, weft } = await place(t);
  const made = await weft('volume', 'snapshot', 'main/web@s1', 'main/db', '--label', 'a=b=c');
  t.match(made.stdout, /^snapshot s1 of main\/web, main\/db made\.\n$/);
  t.same(api.requests('POST /v1/snapshots')[0]?.body, {
    name: 's1',
    volumes: [
      { pool: 'main', volume: 'web' },
      { pool: 'main', volume: 'db' },
    ],
    labels: { a: 'b=c' },
  });
  await weft('volume', 'snapshot', '--machine', 'alice');
  t.match(api.requests('POST /v1/snapshots')[1]?.body, { name: /^snap-\d{8}-\d{6}$/, machine: 'alice' });
  for (const words of [
    [],
    ['main/a@x', 'main/b@y'],
    ['main/a', '--name', '../x'],
    ['main/a', '--label', 'x'],
  ])
    t.equal((await weft('volume', 'snapshot', ...words)).code, 2, words.join(' '));
  t.equal(api.requests('POST /v1/snapshots').length, 2);

  api.on('POST /v1/volumes/:pool/:volume/rollback', () => VOLUME);
  const unsure = await weft('volume', 'rollback', 'main/web@monday');
  t.equal(unsure.code, 2);
  t.match(unsure.stderr, /--keep-as/);
  t.equal((await weft('volume', 'rollback', 'main/web@monday', '--keep-as', 'before')).code, 0);
  t.match(api.requests('POST /v1/snapshots')[2]?.body, { name: 'before' });
  t.same(api.requests('POST /v1/volumes/:pool/:volume/rollback')[0]?.body, { snapshot: 'monday' });
  t.equal((await weft('volume', 'rollback', 'main/web')).code, 2);

  api.on('DELETE /v1/volumes/:pool/:volume/snapshots/:s', () => ({ deleted: true }));
  t.match(
    (await weft('volume', 'delete-snapshot', 'main/web@a', 'main/web@b')).stdout,
    /@a deleted\.\n.*@b deleted/,
  );

  let page = 0;
  api.on('GET /v1/volumes/:pool/:volume/diff', ({ query }) => {
    t.equal(query.get('offset'), page === 0 ? null : '8192');
    page++;
    return {
      size_bytes: GIB,
      extents: [{ offset_bytes: page * 4096, length_bytes: 4096, zero: page === 2 }],
      next_bytes: page === 1 ? 8192 : null,
    };
  });
  const diff = await weft('volume', 'diff', 'main/web', '--from', 'monday');
  t.match(diff.stdout, /4096 +4096 +written\n8192 +4096 +zeroed/);
  t.match(diff.stderr, /4 KiB written, 4 KiB zeroed/);
});

await t.test('clone, resize, rename, delete', async t => {
  const { api, weft } = await place(t);
  api.on('PUT /v1/volumes/:pool/:volume', ({ path }) => ({
    ...VOLUME,
    size_bytes: GIB,
    name: path.split('/')[4],
  }));
  const clone = await weft('volume', 'clone', 'main/web@monday', 'web2');
  t.equal(clone.code, 0, clone.stderr);
  t.same(api.requests('PUT /v1/volumes/:pool/:volume')[0]?.body, {
    size_bytes: GIB,
    from: { volume: 'web', snapshot: 'monday' },
    labels: {},
  });
  t.match(clone.stderr, /web2: \{ pool: main, size: 1GiB \}/);
  t.equal((await weft('volume', 'clone', 'main/web', 'web')).code, 2, 'it is there already');
  t.equal((await weft('volume', 'clone', 'main/web', 'other/x')).code, 2);
  await weft('volume', 'resize', 'main/web', '3GiB', '--shrink');
  t.same(api.requests('PUT /v1/volumes/:pool/:volume')[1]?.body, { size_bytes: 3 * GIB, shrink: true });
  t.equal((await weft('volume', 'resize', 'main/web', '3G')).code, 2);
  api.on('POST /v1/volumes/:pool/:volume/rename', () => VOLUME);
  t.match((await weft('volume', 'rename', 'main/web', 'main/new')).stdout, /is now main\/new/);
  t.equal((await weft('volume', 'rename', 'main/web', 'other/new')).code, 2);
  api.on('DELETE /v1/volumes/:pool/:volume', () => ({ deleted: true }));
  t.equal((await weft('volume', 'delete', 'main/web')).code, 2);
  t.equal((await weft('volume', 'delete', 'main/web', '--destroy-data', '--snapshots')).code, 0);
  t.equal(api.requests('DELETE /v1/volumes/:pool/:volume')[0]?.query.get('snapshots'), 'true');
});

await t.test('jobs are watched to their end', async t => {
  const { api, weft } = await place(t);
  tells(api, JOB, DONE);
  const good = await weft('pool', 'scrub', 'main/web', '--rate', '50MiB/s');
  t.equal(good.code, 0, good.stderr);
  t.same(api.requests('POST /v1/jobs')[0]?.body, {
    kind: 'scrub',
    pool: 'main',
    volume: 'web',
    rate_bytes_per_s: 50 * 2 ** 20,
  });
  t.equal(good.stderr, 'scrub main: running\nscrub main: done\n', 'a log has one line for each state');
  t.match(good.stdout, /^scrub main: done, 2 GiB\.\n$/);

  const findings = [{ what: 'web: checksum differs', offset_bytes: 8192, length_bytes: 4096 }];
  tells(api, { ...DONE, findings });
  const damaged = await weft('job', 'watch', '7');
  t.equal(damaged.code, 1);
  t.match(damaged.stdout, /8192 +4096 +web: checksum differs/);
  t.match(damaged.stderr, /1 damaged place was found/);

  tells(api, { ...DONE, state: 'failed', message: 'no room in the pool' });
  const failed = await weft('volume', 'flatten', 'main/web');
  t.equal(failed.code, 1);
  t.match(failed.stderr, /flatten.*failed: no room|scrub main failed: no room/);

  const begun = await weft('volume', 'flatten', 'main/web', '--no-wait');
  t.equal(begun.code, 0);
  t.match(begun.stdout, /job 7: flatten main\/web has begun; "weft job watch 7" shows it/);

  // The stream breaks off, as when weftd is started anew: it is asked again.
  let asked = 0;
  api.on('GET /v1/jobs/:id/events', (_asked, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(`data: ${JSON.stringify(asked++ === 0 ? JOB : DONE)}\n\n`);
    return STREAMING;
  });
  t.equal((await weft('job', 'watch', '7')).code, 0);
  t.equal(asked, 2);

  // Ctrl-C leaves it going.
  api.on('GET /v1/jobs/:id/events', (_asked, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`data: ${JSON.stringify(JOB)}\n\n`);
    return STREAMING;
  });
  const left = await runCli(['job', 'watch', '7'], {
    state: api.state,
    onOutput: (_text, { signal }) => signal(),
  });
  t.equal(left.code, 130);
  t.match(left.stderr, /goes on in the background\n.*weft job cancel 7/);
  t.same(api.requests('DELETE /v1/jobs/:id'), []);

  api.on('GET /v1/jobs', () => ({ jobs: [JOB] }));
  t.match((await weft('job', 'list')).stdout, /7 +scrub main +running +50% of 2 GiB/);
  api.on('DELETE /v1/jobs/:id', () => ({ ...DONE, state: 'cancelled' }));
  t.match((await weft('job', 'cancel', '7')).stdout, /cancelled/);
});

await t.test('backups', async t => {
  const { api, weft } = await place(t);
  tells(api, DONE);
  await weft('backup', 'create', 'main/web', '--to', '/b', '--full');
  t.same(api.requests('POST /v1/jobs')[0]?.body, {
    kind: 'backup',
    pool: 'main',
    volume: 'web',
    target: { directory: '/b' },
    full: true,
  });
  t.equal(api.requests('POST /v1/snapshots').length, 0);

  api.resources = [
    resource('machine', 'alice', { spec: { disks: [{ volume: 'web' }, { volume: 'db' }] } }),
    resource('volume', 'web', { spec: { pool: 'main' } }),
    resource('volume', 'db', { spec: { pool: 'fast' } }),
  ];
  const all = await weft('backup', 'create', '--all', 'alice', '--to', '/b');
  t.equal(all.code, 0, all.stderr);
  t.match(api.requests('POST /v1/snapshots')[0]?.body, {
    name: /^backup-/,
    labels: { 'weft.backup': 'made' },
    volumes: [
      { pool: 'main', volume: 'web' },
      { pool: 'fast', volume: 'db' },
    ],
  });
  const { name } = api.requests('POST /v1/snapshots')[0]!.body as { name: string };
  t.match(
    api
      .requests('POST /v1/jobs')
      .slice(1)
      .map(({ body }) => body),
    [
      { volume: 'web', snapshot: name },
      { volume: 'db', snapshot: name },
    ],
  );
  t.equal((await weft('backup', 'create', '--to', '/b')).code, 2);
  t.equal((await weft('backup', 'create', 'main/a', 'main/b', '--to', 'nbd://h/x')).code, 2);

  const entry = (backup: string, createdAt_ms: number) => ({
    volume: 'web',
    name: backup,
    kind: 'full',
    base: null,
    createdAt_ms,
    size_bytes: GIB,
    stored_bytes: 4096,
  });
  // In the order in which they were made; the clock was set back in between.
  api.on('GET /v1/backups', () => ({ backups: [entry('old', 2), entry('new', 1)] }));
  t.match((await weft('backup', 'list', '/b')).stdout, /web +new +full +- .* 1 GiB +4 KiB/);
  const cut = { ...entry('cut', 3), state: 'incomplete' };
  const sealed = { ...entry('sealed', 3), encrypted: true };
  api.on('GET /v1/backups', () => ({ backups: [sealed, entry('old', 2), entry('new', 1), cut] }));
  const listed = (await weft('backup', 'list', '/b')).stdout;
  t.match(listed, /web +cut +incomplete/);
  t.match(listed, /web +sealed +full, encrypted/);
  t.equal((await weft('backup', 'restore', 'main/web', '--from', '/b')).code, 2, 'it is there');
  await weft('backup', 'restore', 'main/web', '--from', '/b', '--overwrite', '--backup', 'old');
  t.match(api.requests('POST /v1/jobs').at(-1)?.body, { kind: 'restore', volume: 'web', backup: 'old' });
  api.on('PUT /v1/volumes/:pool/:volume', () => VOLUME);
  await weft('backup', 'restore', 'main/again', '--from', '/b', '--volume', 'web');
  t.same(api.requests('PUT /v1/volumes/:pool/:volume')[0]?.body, { size_bytes: GIB });
  t.match(api.requests('POST /v1/jobs').at(-1)?.body, {
    volume: 'again',
    sourceVolume: 'web',
    backup: 'new',
  });
  t.equal((await weft('backup', 'restore', 'main/x', '--from', '/b')).code, 1);
  await weft('backup', 'prune', '/b', '--keep', '7', '--keep-days', '30');
  t.same(api.requests('POST /v1/jobs').at(-1)?.body, {
    kind: 'prune',
    source: { directory: '/b' },
    keep: { last: 7, age_ms: 30 * 86_400_000 },
  });
  t.equal((await weft('backup', 'prune', '/b')).code, 2, 'what is to stay has to be said');
  t.equal((await weft('backup', 'prune', '/b', '--keep', '0')).code, 2);
  await weft('backup', 'create', 'main/web', '--to', '/b', '--plaintext', '--keep', '3');
  t.match(api.requests('POST /v1/jobs').at(-1)?.body, { plaintext: true, keep: { last: 3 } });
  await weft('backup', 'verify', '/b');
  t.same(api.requests('POST /v1/jobs').at(-1)?.body, {
    kind: 'verify',
    source: { directory: '/b' },
    sourceVolume: 'web',
  });
});

await t.test('completion knows snapshots, pools and jobs', async t => {
  const { api, weft } = await place(t);
  api.on('GET /v1/volumes', () => ({
    volumes: [{ ...VOLUME, usedBy: [], parent: 'golden@v1' }],
  }));
  api.on('GET /v1/jobs', () => ({ jobs: [JOB, { ...DONE, id: '8' }] }));
  const of = async (...words: string[]) =>
    (await weft('__complete', '--', ...words)).stdout.trim().split('\n');
  t.same(await of('volume', 'rollback', ''), ['main/web@']);
  t.same(await of('volume', 'rollback', 'main/web@'), ['main/web@monday']);
  t.same(await of('volume', 'export', 'main/web@m'), ['main/web@monday']);
  t.same(await of('volume', 'show', 'm'), ['main/web']);
  t.same(await of('job', 'cancel', ''), ['7']);
  t.same(await of('backup', 'list', ''), [':files']);
});
