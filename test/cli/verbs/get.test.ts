/** get, describe, delete, status: what is asked of weftd and how its answer is shown. */
import t, { type Test } from 'tap';
import { parse as parseYaml } from 'yaml';
import { isGood } from '../../../cli/resources.js';
import { parse } from '../../../control/model/parse.js';
import { event, FakeApi, resource, runCli } from '../fakeApi.js';

async function setUp(t: Test): Promise<FakeApi> {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.resources = [
    resource('machine', 'bob', {
      spec: {
        memory: '128MiB',
        cpus: 2,
        image: 'tiny',
        nics: [{ switch: 'lan', vlan: 10 }],
        disks: [{ volume: 'bob' }],
      },
      observed: { state: 'crashed', accel: 'tcg' },
      ready: 'False',
      reason: 'Crashed',
      message: 'QEMU ended by SIGKILL\nsecond line',
    }),
    resource('machine', 'alice', {
      spec: { memory: '256MiB', nics: [{ switch: 'lan', trunk: { allowed: [1] } }, { switch: 'lan' }] },
      observed: { state: 'running', accel: 'kvm', pid: 77 },
    }),
    resource('switch', 'lan', { observed: { ports: [{ state: 'up' }, { state: 'error' }], macCount: 3 } }),
    resource('pool', 'main', {
      observed: { volumeCount: 1, allocated_bytes: 1536 * 1024, free_bytes: 3 * 2 ** 30 },
    }),
    resource('volume', 'bob', { spec: { pool: 'main', size: '64MiB' }, observed: { allocated_bytes: 4096 } }),
    resource('export', 'out', {
      spec: { volume: 'bob', readOnly: true, tcp: { host: '::1', port: 10809 } },
      observed: { connectionCount: 2 },
    }),
    resource('image', 'tiny', { spec: { tiny: {} }, generation: 3 }),
    resource('image', 'old', { spec: { kernel: '/k' }, deleting: true }),
  ];
  return api;
}

await t.test('get: all kinds in the order in which they come to be, then by name', async t => {
  const api = await setUp(t);
  const { code, stdout } = await runCli(['get'], { state: api.state });
  t.equal(code, 0);
  t.same(stdout.trimEnd().split('\n'), [
    'KIND     NAME   READY     MESSAGE',
    'switch   lan    yes',
    'pool     main   yes',
    'image    old    Deleting',
    'image    tiny   Pending',
    'volume   bob    yes',
    'export   out    yes',
    'machine  alice  yes',
    'machine  bob    Crashed   QEMU ended by SIGKILL',
  ]);
});

for (const [kind, lines] of [
  [
    'machines',
    [
      'NAME   STATE    ACCEL  CPUS  MEMORY   NICS             DISKS  READY    MESSAGE',
      'alice  running  kvm    -     256 MiB  lan:trunk,lan:1  -      yes',
      'bob    crashed  tcg    2     128 MiB  lan:10           bob    Crashed  QEMU ended by SIGKILL',
    ],
  ],
  ['switch', ['NAME  PORTS  MACS  READY  MESSAGE', 'lan   1/2    3     yes']],
  [
    'pools',
    ['NAME  STATE  VOLUMES  ALLOCATED  FREE   READY  MESSAGE', 'main  -      1        1.5 MiB    3 GiB  yes'],
  ],
  [
    'volume',
    ['NAME  POOL  SIZE    ALLOCATED  STATE  READY  MESSAGE', 'bob   main  64 MiB  4 KiB      -      yes'],
  ],
  [
    'exports',
    [
      'NAME  VOLUME  MODE  TCP        CONNECTIONS  READY  MESSAGE',
      'out   bob     ro    ::1:10809  2            yes',
    ],
  ],
  ['image', ['NAME  TYPE    READY     MESSAGE', 'old   kernel  Deleting', 'tiny  tiny    Pending']],
] as const) {
  await t.test(`get ${kind}`, async t => {
    const api = await setUp(t);
    t.same((await runCli(['get', kind], { state: api.state })).stdout.trimEnd().split('\n'), lines);
  });
}

await t.test('get -o wide has more', async t => {
  const api = await setUp(t);
  const { stdout } = await runCli(['get', 'image', '-o', 'wide'], { state: api.state });
  t.match(stdout, /NAME {2}TYPE {4}FROM {2}READY {5}GENERATION {2}MESSAGE\n/);
  t.match(stdout, /tiny {2}tiny {4}- {5}Pending {3}1 of 3/);
});

await t.test('get -o yaml is a configuration: it can be applied again', async t => {
  const api = await setUp(t);
  api.resources = api.resources.filter(({ kind }) => kind !== 'export');
  const { stdout } = await runCli(['get', '-o', 'yaml'], { state: api.state });
  const again = parse([{ path: 'x', text: stdout }]);
  t.same(again.problems, []);
  t.same([...again.declared.keys()].toSorted(), [
    'image/tiny',
    'machine/alice',
    'machine/bob',
    'pool/main',
    'switch/lan',
    'volume/bob',
  ]);
  t.same(again.declared.get('volume/bob')?.written, { pool: 'main', size: '64MiB' });
  t.notOk(stdout.includes('old'), 'what is being deleted is no longer part of it');
});

await t.test('get -o json: a list for a kind, one object for a name', async t => {
  const api = await setUp(t);
  const list = JSON.parse((await runCli(['get', 'volume', '-o', 'json'], { state: api.state })).stdout);
  t.equal(list.resources.length, 1);
  const one = JSON.parse((await runCli(['get', 'volume', 'bob', '-o', 'json'], { state: api.state })).stdout);
  t.match(one, { kind: 'volume', name: 'bob', status: { observed: { allocated_bytes: 4096 } } });
});

await t.test('get of what is not there', async t => {
  const api = await setUp(t);
  t.match(await runCli(['get', 'machine/zoe'], { state: api.state }), {
    code: 1,
    stderr: /there is no machine "zoe"/,
  });
  api.resources = [];
  t.match(await runCli(['get'], { state: api.state }), { code: 0, stdout: '', stderr: /No resources/ });
});

await t.test('get --watch shows each change as a row', async t => {
  const api = await setUp(t);
  const watching = runCli(['get', 'machine', 'bob', '--watch'], {
    state: api.state,
    onOutput: text => {
      if (text.includes('Crashed'))
        api.resources[0] = resource('machine', 'bob', { observed: { state: 'running' } });
      // The fake is closed at the second row: that ends the watch.
      if (text.includes('running')) api.on('GET /v1/resources', () => ({ resources: 'enough' }));
    },
  });
  const { stdout } = await watching;
  t.match(stdout, /bob {3}crashed[^\n]*\n/);
  t.match(stdout, /bob {3}running[^\n]*\n$/);
  t.equal(stdout.match(/NAME/g)?.length, 1, 'one header');
});

await t.test('conditions that tell of a trouble are good when False', async t => {
  const good = (type: string, status: string) => isGood({ type, status });
  t.ok(good('Ready', 'True') && !good('Ready', 'False') && !good('Ready', 'Unknown'));
  for (const type of ['RestartRequired', 'SpaceLow']) t.ok(good(type, 'False') && !good(type, 'True'), type);
});

await t.test('describe says everything', async t => {
  const api = await setUp(t);
  api.events = [event(4, { level: 'error', reason: 'Crashed', message: 'gone\u001b[2J' })];
  const { code, stdout } = await runCli(['describe', 'machine', 'bob'], { state: api.state });
  t.equal(code, 0);
  t.match(stdout, /Ready: {7}no \(Crashed\): QEMU ended by SIGKILL\n {13}second line\n/);
  t.match(stdout, /Conditions\n {2}TYPE {3}STATUS {2}REASON/);
  t.match(stdout, /Configured\n {2}memory: 128MiB/);
  t.match(stdout, /Observed\n {2}state: crashed/);
  t.match(stdout, /error: Crashed: gone\\x1b\[2J/);
  t.equal(api.requests('GET /v1/events')[0]?.query.toString(), 'kind=machine&name=bob&follow=false');
  const json = JSON.parse(
    (await runCli(['describe', 'machine/bob', '-o', 'json'], { state: api.state })).stdout,
  );
  t.match(json, { resource: { name: 'bob' }, events: [{ seq: 4 }] });
  t.match(await runCli(['describe', 'machine', 'zoe'], { state: api.state }), {
    code: 1,
    stderr: /no machine named "zoe"/,
  });
  t.match(await runCli(['describe', 'machine'], { state: api.state }), {
    code: 2,
    stderr: /which machine\?/,
  });
  t.match(await runCli(['describe', 'machine/bob', 'bob'], { state: api.state }), { code: 2 });
});

await t.test('delete waits until it is gone and says what was kept', async t => {
  const api = await setUp(t);
  api.on('DELETE /v1/resources/:kind/:name', () => {
    api.resources = api.resources.filter(({ kind, name }) => kind !== 'volume' || name !== 'bob');
    return { revision: 2, kept: ['the data of main/bob'] };
  });
  const { code, stdout } = await runCli(['delete', 'volume', 'bob'], { state: api.state });
  t.equal(code, 0);
  t.equal(stdout, 'volume bob deleted.\nKept: the data of main/bob\n');
  t.equal(api.requests('DELETE /v1/resources/:kind/:name')[0]?.query.toString(), '');
  await runCli(['delete', 'volume/bob', '--destroy-data', '--no-wait'], { state: api.state });
  t.equal(api.requests('DELETE /v1/resources/:kind/:name')[1]?.query.toString(), 'destroyData=true');
});

await t.test('status: processes, and what is not ready', async t => {
  const api = await setUp(t);
  const status = {
    version: '0.1.0',
    pid: 12,
    stateDirectory: '/s',
    revision: 9,
    settled: false,
    planes: [
      {
        name: 'dataplane',
        state: 'up',
        pid: 13,
        version: '0.1.0',
        startedAt: new Date().toISOString(),
        restartCount: 2,
        reason: null,
      },
      {
        name: 'storage',
        state: 'backoff',
        pid: null,
        version: null,
        startedAt: null,
        restartCount: 9,
        reason: 'keeps dying',
      },
    ],
  };
  api.on('GET /v1/status', () => status);
  const { stdout } = await runCli(['status'], { state: api.state });
  t.match(stdout, /Settled: {10}no/);
  t.match(stdout, /dataplane {2}up {7}13 {3}0\.1\.0/);
  t.match(stdout, /storage {4}backoff {2}- {4}- {8}- {3}9 {9}keeps dying/);
  t.match(
    stdout,
    /Not ready\n {2}image old: Deleting\n {2}image tiny: Pending\n {2}machine bob: Crashed: QEMU ended by SIGKILL/,
  );
  t.same(JSON.parse((await runCli(['status', '-o', 'json'], { state: api.state })).stdout), status);
  t.same(parseYaml((await runCli(['status', '-o', 'yaml'], { state: api.state })).stdout), status);
});
