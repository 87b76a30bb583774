/** What the API makes of volumes: what it passes on, what it refuses, and transfers that leave nothing behind. */
import t from 'tap';
import * as contract from '../../../control/api/contract.js';
import { Bench, QUICK } from './bench.js';

t.setTimeout(600_000);

const codeOf = (reply: { status: number; json: unknown }): string =>
  `${reply.status} ${contract.ErrorReply.parse(reply.json).error.code}`;
const MIB = 2 ** 20;

await t.test('volumes, snapshots and what may not be', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  const { stored } = bench.storage;

  const shown = contract.VolumeView.parse((await bench.get('/v1/volumes/main/data')).json);
  t.match(shown, { configured: true, usedBy: ['machine alice'], runningOn: 'alice' });
  t.equal(codeOf(await bench.get('/v1/volumes/main/none')), '404 VOLUME_UNKNOWN');
  t.equal(((await bench.get('/v1/pools')).json as { pools: unknown[] }).pools.length, 1);

  const snapshot = await bench.ask('POST', '/v1/snapshots', { name: 's1', machine: 'alice' });
  t.equal(snapshot.status, 200, snapshot.text);
  t.same(stored.done, ['snapshot s1 main/data'], 'all disks of a machine');
  t.equal(
    codeOf(await bench.ask('POST', '/v1/snapshots', { name: 's2', machine: 'none' })),
    '404 RESOURCE_UNKNOWN',
  );
  t.equal(codeOf(await bench.ask('POST', '/v1/snapshots', { name: 's2' })), '400 BAD_BODY');
  t.equal(
    codeOf(await bench.ask('POST', '/v1/snapshots', { name: '../x', machine: 'alice' })),
    '400 BAD_BODY',
  );

  const change = (verb: string, body: object) => bench.ask('POST', `/v1/volumes/main/data/${verb}`, body);
  const inUse = await change('rollback', { snapshot: 's1' });
  t.equal(codeOf(inUse), '409 VOLUME_IN_USE');
  t.match(inUse.text, /weft machine stop alice/);
  const named = await change('rename', { to: 'other' });
  t.equal(codeOf(named), '409 VOLUME_CONFIGURED');
  t.match(named.text, /weft delete volume data; the data stays/);
  t.equal(
    codeOf(await bench.ask('PUT', '/v1/volumes/main/data', { size_bytes: 128 * MIB })),
    '409 VOLUME_CONFIGURED',
  );
  const restore = { kind: 'restore', pool: 'main', volume: 'data', source: { directory: '/b' } };
  t.equal(codeOf(await bench.ask('POST', '/v1/jobs', restore)), '409 VOLUME_IN_USE');

  await bench.ask('POST', '/v1/machines/alice/stop', {});
  t.equal((await change('rollback', { snapshot: 's1' })).status, 200);
  t.equal(
    codeOf(await change('rollback', { snapshot: 'none' })),
    '404 SNAPSHOT_UNKNOWN',
    "the plane's own word",
  );
  t.equal((await bench.ask('POST', '/v1/snapshots', { name: 's2', machine: 'alice' })).status, 200);
  t.equal((await bench.ask('DELETE', '/v1/volumes/main/data/snapshots/s2')).status, 200);

  const clone = { size_bytes: 64 * MIB, from: { volume: 'data', snapshot: 's1' } };
  t.equal((await bench.ask('PUT', '/v1/volumes/main/copy', clone)).status, 200);
  t.same(stored.volumes.get('main/copy')?.parent, { volume: 'data', snapshot: 's1' });
  t.equal((await bench.ask('POST', '/v1/volumes/main/copy/rename', { to: 'copy2' })).status, 200);
  t.equal(
    codeOf(await bench.ask('POST', '/v1/volumes/main/copy2/rename', { to: 'data' })),
    '409 VOLUME_CONFIGURED',
  );
  t.match((await bench.get('/v1/volumes/main/copy2/diff?from=s1')).json, { extents: [] });
  await bench.ask('POST', '/v1/snapshots', { name: 'x', volumes: [{ pool: 'main', volume: 'copy2' }] });
  t.equal(codeOf(await bench.ask('DELETE', '/v1/volumes/main/copy2')), '409 VOLUME_HAS_SNAPSHOTS');
  t.equal((await bench.ask('DELETE', '/v1/volumes/main/copy2?snapshots=true')).status, 200);
});

await t.test('what is moved to another pool, and what is not', async t => {
  const bench = await Bench.make(t);
  const pools = 'pool: { main: {}, fast: {}, dev: { device: /dev/null } }';
  const spec = (more = ''): string => `{ pool: main, size: 64MiB${more} }`;
  const applied = await bench.apply(
    `${pools}\nvolume: { v: ${spec()}, e: ${spec(', encryption: { keyFile: /k }')}, m: ${spec(', mirror: { pool: fast }')} }`,
  );
  t.equal(applied.status, 200, applied.text);
  t.same((applied.json as { problems: unknown }).problems, []);
  const { volumes } = bench.storage.stored;
  await bench.until('volumes', async () => ['main/v', 'main/e', 'main/m'].every(one => volumes.has(one)));
  const move = (volume: string, to: string) => bench.ask('POST', `/v1/volumes/main/${volume}/move`, { to });
  for (const [volume, to, why] of [
    ['v', 'main', /in pool .*main.* already/],
    ['v', 'none', /no pool .*none/],
    ['v', 'dev', /of kind device/],
    ['e', 'fast', /encrypted/],
    ['m', 'fast', /mirrored/],
    ['x', 'fast', /not in the configuration/],
  ] as const) {
    const refused = await move(volume, to);
    t.equal(codeOf(refused), '409 VOLUME_NOT_MOVED', `${volume} to ${to}`);
    t.match(refused.text, why);
  }
  t.equal(codeOf(await bench.ask('DELETE', '/v1/volumes/main/v/move')), '409 VOLUME_NOT_MOVED');
  t.equal((await move('v', 'fast')).status, 200);
  await bench.until('its second side', async () => volumes.has('fast/v'));
  t.match((await bench.get('/v1/volumes/main/v')).json, { movingTo: 'fast' });
  t.equal(
    codeOf(await bench.ask('DELETE', '/v1/volumes/fast/v')),
    '409 VOLUME_CONFIGURED',
    'a part of the move',
  );
  const rollback = await bench.ask('POST', '/v1/volumes/main/v/rollback', { snapshot: 's' });
  t.equal(codeOf(rollback), '409 VOLUME_IN_USE');
  t.equal((await bench.ask('DELETE', '/v1/volumes/main/v/move')).status, 200);
  t.match((await bench.get('/v1/volumes/main/v')).json, { movingTo: null });

  t.equal(codeOf(await move('v', 'fast')), '409 VOLUME_NOT_MOVED', 'what was copied is in the way');
  t.equal((await bench.ask('DELETE', '/v1/volumes/fast/v')).status, 200);
  t.equal((await move('v', 'fast')).status, 200);
  t.equal((await bench.ask('DELETE', '/v1/resources/volume/v')).status, 200);
  await bench.apply(`volume: { v: ${spec()} }`);
  await bench.until('it again', async () => {
    const { configured } = (await bench.get('/v1/volumes/main/v')).json as { configured: boolean };
    return configured;
  });
  const again = (await bench.get('/v1/volumes/main/v')).json;
  t.match(again, { movingTo: null }, 'a volume of the same name has no part in it');
});

await t.test('jobs: begun, watched to their end, cancelled; and their figures', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { stored } = bench.storage;
  const begun = await bench.ask('POST', '/v1/jobs', { kind: 'scrub', pool: 'main' });
  t.match(begun.json, { id: '1', state: 'running' });
  t.match((await bench.get('/metrics')).text, /weft_job_total_bytes\{job="1",kind="scrub",pool="main"\} 100/);
  Object.assign(stored.jobs.get('1')!, { done_bytes: 50 });
  let text = '';
  for await (const piece of await bench.open('GET', '/v1/jobs/1/events')) {
    text += String(piece);
    // Once it was told how the job stood.
    if (text.includes('data: '))
      Object.assign(stored.jobs.get('1')!, { state: 'done', endedAt_ms: 5, done_bytes: 100 });
  }
  const states = [...text.matchAll(/^data: (.*)$/gm)].map(([, one = '']) =>
    contract.storage.JobStatus.parse(JSON.parse(one)),
  );
  t.equal(states.at(-1)?.state, 'done', 'the stream ends with the job');
  t.ok(states.length >= 2);
  await bench.ask('POST', '/v1/jobs', { kind: 'flatten', pool: 'main', volume: 'x' });
  t.match((await bench.ask('DELETE', '/v1/jobs/2')).json, { state: 'cancelled' });
  t.match((await bench.get('/v1/jobs')).json, { jobs: [{ id: '1' }, { id: '2' }] });
  t.equal(codeOf(await bench.get('/v1/jobs/7')), '404 JOB_UNKNOWN');
  t.equal(codeOf(await bench.ask('POST', '/v1/jobs', { kind: 'dance' })), '400 BAD_BODY');
  t.equal(codeOf(await bench.get('/v1/backups?directory=relative')), '400 BAD_QUERY');
  t.same((await bench.get('/v1/backups?directory=/b')).json, { backups: [] });
});

await t.test('an import is there when it is committed, and not before', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { stored } = bench.storage;
  const asked = {
    kind: 'import',
    pool: 'main',
    volume: 'web',
    size_bytes: 8 * MIB,
    overwrite: false,
  } as const;
  const first = await hold(bench, asked);
  t.match(first.ready, { size_bytes: 8 * MIB, isEmpty: true, nbdName: 'transfer-0' });
  t.same([...stored.volumes.keys()], [`main/import.${first.ready.id}`]);
  t.match(stored.leases.get('transfer-0'), { readOnly: false, path: first.ready.socketPath });
  const twice = await bench.ask('POST', '/v1/transfers', asked);
  t.equal(codeOf(twice), '409 VOLUME_IN_USE', 'one at a time');
  t.equal((await bench.ask('POST', `/v1/transfers/${first.ready.id}/commit`)).status, 200);
  t.same([...stored.volumes.keys()], ['main/web']);
  t.same(stored.volumes.get('main/web')?.labels, {});
  t.equal(stored.leases.size, 0);
  first.letGo();
  t.equal(codeOf(await bench.ask('POST', `/v1/transfers/${first.ready.id}/commit`)), '404 TRANSFER_UNKNOWN');
  t.equal(codeOf(await bench.ask('POST', '/v1/transfers', asked)), '409 VOLUME_EXISTS');

  const second = await hold(bench, { ...asked, volume: 'other' });
  t.equal(stored.volumes.size, 2);
  second.letGo();
  await bench.until(
    'nothing of it to be left',
    async () => stored.volumes.size === 1 && stored.leases.size === 0,
  );
});

await t.test('an import over a volume: the old content comes back unless it is committed', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { stored } = bench.storage;
  stored.volumes.set('main/web', { size_bytes: 8 * MIB });
  const asked = {
    kind: 'import',
    pool: 'main',
    volume: 'web',
    size_bytes: 8 * MIB,
    overwrite: true,
  } as const;
  t.equal(
    codeOf(await bench.ask('POST', '/v1/transfers', { ...asked, size_bytes: 9 * MIB })),
    '409 VOLUME_TOO_SMALL',
  );
  const good = await hold(bench, asked);
  t.equal(good.ready.isEmpty, false);
  await bench.ask('POST', `/v1/transfers/${good.ready.id}/commit`);
  good.letGo();
  const snapshot = `before-import.${good.ready.id}`;
  t.same(stored.done, [`snapshot ${snapshot} main/web`, `DELETE main/web snapshots ${snapshot}`]);
  stored.done.length = 0;
  const bad = await hold(bench, asked);
  bad.letGo();
  await bench.until('it to be rolled back', async () => stored.done.length === 3);
  t.match(stored.done, [/^snapshot /, /^POST main\/web rollback/, /^DELETE main\/web snapshots/]);
});

await t.test('an export is of a snapshot, which goes with it', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { stored } = bench.storage;
  stored.volumes.set('main/web', { size_bytes: 8 * MIB });
  const { ready, letGo } = await hold(bench, { kind: 'export', pool: 'main', volume: 'web' });
  t.match(stored.leases.get('transfer-0'), { readOnly: true, snapshot: `for-export.${ready.id}` });
  letGo();
  await bench.until('it to be gone', async () => stored.leases.size === 0 && stored.done.length === 2);
  t.same(stored.volumes.get('main/web')?.snapshots, []);
  t.equal(
    codeOf(await bench.ask('POST', '/v1/transfers', { kind: 'export', pool: 'main', volume: 'x' })),
    '404 VOLUME_UNKNOWN',
  );
  t.equal(
    codeOf(await bench.ask('POST', '/v1/transfers', { kind: 'export', pool: 'x', volume: 'x' })),
    '404 POOL_UNKNOWN',
  );
});

await t.test('an import that ends while the plane is away is taken away when that is back', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { stored } = bench.storage;
  const asked = {
    kind: 'import',
    pool: 'main',
    volume: 'web',
    size_bytes: 8 * MIB,
    overwrite: false,
  } as const;
  const one = await hold(bench, asked);
  const other = await hold(bench, { ...asked, volume: 'other' });
  stored.refusing = true;
  one.letGo();
  await bench.until('it to be told', async () => bench.logged.includes('a transfer could not be ended'));
  t.equal(stored.volumes.size, 2);
  stored.refusing = false;
  await bench.weftd.system.transfers.tidy();
  t.same([...stored.volumes.keys()], [`main/import.${other.ready.id}`], 'and the other one goes on');
  t.same([...stored.leases.keys()], ['transfer-1']);
  t.equal((await bench.ask('POST', `/v1/transfers/${other.ready.id}/commit`)).status, 200);
  t.same([...stored.volumes.keys()], ['main/other']);
  other.letGo();
});

await t.test('what a weftd that was killed has left is taken away by the next', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const { stored } = bench.storage;
  const labels = { 'weft.transfer': 'x' };
  const snapshot = (name: string, more: object = labels) => ({
    name,
    uuid: name,
    createdAt_ms: 1,
    size_bytes: MIB,
    allocated_bytes: 0,
    labels: more as Record<string, string>,
    clones: [],
  });
  stored.volumes.set('main/import.x', { size_bytes: MIB, labels });
  stored.volumes.set('main/import.mine', { size_bytes: MIB });
  stored.volumes.set('main/a', {
    size_bytes: MIB,
    snapshots: [snapshot('before-import.x'), snapshot('mine', {})],
  });
  stored.volumes.set('main/b', { size_bytes: MIB, snapshots: [snapshot('for-export.x')] });
  stored.leases.set('transfer-3', { pool: 'main', volume: 'a', readOnly: true, path: '/x' });
  const { Transfers } = await import('../../../control/transfer/transfers.js');
  const notes: string[] = [];
  const next = new Transfers({
    client: bench.weftd.system.storage.client,
    status: () => bench.weftd.system.storage.status(),
    socketPath: slot => `/${slot}`,
    newId: () => 'y',
    note: message => void notes.push(message),
  });
  await next.tidy();
  t.same([...stored.volumes.keys()], ['main/import.mine', 'main/a', 'main/b']);
  t.same(
    stored.volumes.get('main/a')?.snapshots?.map(({ name }) => name),
    ['mine'],
  );
  t.same(stored.volumes.get('main/b')?.snapshots, []);
  t.ok(stored.done.includes('POST main/a rollback'));
  t.equal(stored.leases.size, 0);
  t.equal(notes.length, 2, 'and it is told');
});

/** A transfer that goes on until it is let go. */
async function hold(
  bench: Bench,
  body: contract.TransferRequest,
): Promise<{ ready: contract.TransferReady; letGo: () => void }> {
  const response = await bench.open('POST', '/v1/transfers', JSON.stringify(body));
  return new Promise((resolve, reject) => {
    let text = '';
    response.on('data', (piece: Buffer) => {
      text += piece.toString();
      const data = /^data: (.*)\n\n/m.exec(text)?.[1];
      if (response.statusCode !== 200) reject(new Error(text));
      if (data === undefined) return;
      const ready = contract.TransferReady.parse(JSON.parse(data));
      resolve({ ready, letGo: () => void response.destroy() });
    });
    response.on('error', () => {});
    response.on('end', () => reject(new Error(text)));
  });
}
