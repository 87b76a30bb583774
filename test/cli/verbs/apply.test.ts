/** plan, apply: what is asked of weftd, what the user sees, which exit code. */
import t, { type Test } from 'tap';
import { join } from 'node:path';
import type { ChangeRequest, Plan } from '../../../control/api/contract.js';
import { FakeApi, Refusal, resource, runCli } from '../fakeApi.js';

const PLAN: Plan = {
  revision: 4,
  problems: [],
  actions: [
    { verb: 'create', kind: 'switch', name: 'lan', summary: 'make it', changes: [] },
    { verb: 'none', kind: 'pool', name: 'main', summary: '', changes: [] },
    {
      verb: 'update',
      kind: 'machine',
      name: 'alice',
      summary: 'takes effect after a restart',
      changes: [{ path: 'memory', from: '128MiB', to: '256MiB' }],
    },
  ],
};

const NOTHING: Plan = {
  revision: 5,
  problems: [],
  actions: PLAN.actions.map(one => ({ ...one, verb: 'none' })),
};

async function setUp(t: Test): Promise<{ api: FakeApi; directory: string }> {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  const directory = t.testdir({
    'one.yaml': 'switch:\n  lan: {}\n',
    many: { 'b.yaml': 'pool: {}\n', 'a.yaml': 'switch: {}\n', 'notes.txt': 'no', '.hidden.yaml': 'no' },
    none: {},
  });
  return { api, directory };
}

await t.test('plan shows what would change and changes nothing', async t => {
  const { api, directory } = await setUp(t);
  api.plan = PLAN;
  const { code, stdout } = await runCli(['plan', join(directory, 'one.yaml')], { state: api.state });
  t.equal(code, 0);
  t.equal(
    stdout,
    [
      '+ switch lan     make it',
      '~ machine alice  takes effect after a restart',
      '      memory: 128MiB -> 256MiB',
      '1 to create, 1 to update, 1 unchanged.',
      '',
    ].join('\n'),
  );
  t.equal(api.requests('POST /v1/apply').length, 0);
  t.match(api.requests('POST /v1/plan')[0]?.body, {
    files: [{ path: join(directory, 'one.yaml'), text: 'switch:\n  lan: {}\n' }],
    prune: false,
  });
});

await t.test('plan --exit-code: 3 when there are changes, 0 when not', async t => {
  const { api, directory } = await setUp(t);
  const args = ['plan', '--exit-code', '-o', 'json', join(directory, 'one.yaml')];
  api.plan = PLAN;
  const changes = await runCli(args, { state: api.state });
  t.equal(changes.code, 3);
  t.same(JSON.parse(changes.stdout), PLAN);
  api.plan = NOTHING;
  t.equal((await runCli(args, { state: api.state })).code, 0);
});

await t.test('a directory is its *.yaml files, sorted; - is standard input', async t => {
  const { api, directory } = await setUp(t);
  const { code } = await runCli(['plan', 'many', '-'], {
    state: api.state,
    cwd: directory,
    input: 'image: {}\n',
  });
  t.equal(code, 0);
  const body = api.requests('POST /v1/plan')[0]?.body as ChangeRequest;
  t.same(body.files, [
    { path: 'many/a.yaml', text: 'switch: {}\n' },
    { path: 'many/b.yaml', text: 'pool: {}\n' },
    { path: '<stdin>', text: 'image: {}\n' },
  ]);
});

await t.test('files that are not there, empty directories, bytes that are no text', async t => {
  const { api, directory } = await setUp(t);
  const state = api.state;
  t.match(await runCli(['plan', 'nope.yaml'], { state, cwd: directory }), {
    code: 1,
    stderr: /nope\.yaml: no such file/,
  });
  t.match(await runCli(['plan', 'none'], { state, cwd: directory }), {
    code: 1,
    stderr: /none: no \*\.yaml file/,
  });
  t.match(await runCli(['plan', '-'], { state, input: Buffer.from([0x80, 0xff]) }), {
    code: 1,
    stderr: /<stdin>: not a text file/,
  });
  t.match(await runCli(['plan', '-', '-'], { state, input: '' }), { code: 2 });
  t.match(await runCli(['apply'], { state }), { code: 2, stderr: /no configuration file was named/ });
  t.equal(api.asked.length, 0);
});

await t.test('problems as a compiler says them, with the line and a caret on a terminal', async t => {
  const { api, directory } = await setUp(t);
  const path = join(directory, 'one.yaml');
  api.plan = {
    revision: 1,
    actions: [],
    problems: [
      { path, line: 2, column: 3, at: 'switch.lan', message: 'is wrong' },
      { path, line: 0, column: 0, at: '', message: 'the whole file' },
    ],
  };
  const plain = await runCli(['apply', path], { state: api.state });
  t.equal(plain.code, 1);
  t.equal(plain.stdout, '');
  t.equal(
    plain.stderr,
    `${path}:2:3: error: switch.lan: is wrong\n${path}: error: the whole file\n` +
      'error: the configuration has 2 errors\n  Nothing was changed.\n',
  );
  t.equal(api.requests('POST /v1/apply').length, 0);
  const tty = await runCli(['apply', path], {
    state: api.state,
    tty: { stderr: true },
    env: { NO_COLOR: '1' },
  });
  t.match(tty.stderr, '    2 |   lan: {}\n      |   ^\n');
});

await t.test('apply shows the plan, applies that revision, waits until it is so', async t => {
  const { api, directory } = await setUp(t);
  api.plan = PLAN;
  let looks = 0;
  api.on('GET /v1/resources', () => {
    looks++;
    const alice = looks < 3 ? { ready: 'False' as const, reason: 'Starting', message: 'boots' } : {};
    return {
      resources: [resource('switch', 'lan'), resource('pool', 'main'), resource('machine', 'alice', alice)],
    };
  });
  const { code, stdout, stderr } = await runCli(['apply', join(directory, 'one.yaml'), '--prune'], {
    state: api.state,
  });
  t.equal(code, 0);
  t.match(stdout, '1 to create, 1 to update, 1 unchanged.');
  t.match(stderr, 'machine alice: Starting: boots\n');
  t.equal(stderr.match(/machine alice: Starting/g)?.length, 1, 'said once, not at every look');
  t.equal(looks, 3);
  t.match(api.requests('POST /v1/apply')[0]?.body, { ifRevision: 4, prune: true });
});

await t.test('apply --no-wait does not look', async t => {
  const { api, directory } = await setUp(t);
  api.plan = PLAN;
  t.equal((await runCli(['apply', '--no-wait', join(directory, 'one.yaml')], { state: api.state })).code, 0);
  t.equal(api.requests('GET /v1/resources').length, 0);
});

await t.test('apply of what is there already applies nothing', async t => {
  const { api, directory } = await setUp(t);
  api.plan = NOTHING;
  api.resources = [resource('switch', 'lan'), resource('pool', 'main'), resource('machine', 'alice')];
  const { code, stdout } = await runCli(['apply', join(directory, 'one.yaml')], { state: api.state });
  t.equal(code, 0);
  t.equal(stdout, 'Nothing to change (3 unchanged).\n');
  t.equal(api.requests('POST /v1/apply').length, 0);
});

await t.test('apply that does not settle in time: what is open, exit code 1', async t => {
  const { api, directory } = await setUp(t);
  api.plan = PLAN;
  api.resources = [
    resource('switch', 'lan'),
    resource('pool', 'main'),
    resource('machine', 'alice', { ready: 'False', reason: 'NoMemory', message: 'the host has not enough' }),
  ];
  const { code, stderr } = await runCli(['apply', '--timeout', '300ms', join(directory, 'one.yaml')], {
    state: api.state,
  });
  t.equal(code, 1);
  t.match(stderr, /not settled after 0\.3 s:\n {2}machine alice: NoMemory: the host has not enough\n/);
});

await t.test('a resource of an older generation is not settled, whatever its conditions say', async t => {
  const { api, directory } = await setUp(t);
  api.plan = PLAN;
  api.resources = [
    resource('switch', 'lan'),
    resource('pool', 'main'),
    resource('machine', 'alice', { generation: 2 }),
  ];
  const { code } = await runCli(['apply', '--timeout', '300ms', join(directory, 'one.yaml')], {
    state: api.state,
  });
  t.equal(code, 1);
});

await t.test('somebody else was quicker: plan again, apply the new plan', async t => {
  const { api, directory } = await setUp(t);
  let applied = 0;
  let planned = 3;
  api.on('POST /v1/plan', () => ({ ...PLAN, revision: ++planned }));
  api.on('POST /v1/apply', () => (++applied === 1 ? new Refusal(409, 'REVISION', 'moved on') : PLAN));
  const { code } = await runCli(['apply', '--no-wait', join(directory, 'one.yaml')], { state: api.state });
  t.equal(code, 0);
  t.same(
    api.requests('POST /v1/apply').map(({ body }) => (body as ChangeRequest).ifRevision),
    [4, 5],
  );
});

await t.test('with --prune, deleted resources are waited for', async t => {
  const { api, directory } = await setUp(t);
  api.plan = {
    ...PLAN,
    actions: [{ verb: 'delete', kind: 'machine', name: 'old', summary: 'its disks stay', changes: [] }],
  };
  let looks = 0;
  api.on('GET /v1/resources', () => ({
    resources: ++looks < 2 ? [resource('machine', 'old', { deleting: true })] : [],
  }));
  const { code, stderr } = await runCli(['apply', '--prune', join(directory, 'one.yaml')], {
    state: api.state,
  });
  t.equal(code, 0);
  t.equal(stderr, 'machine old: Deleting\nmachine old: deleted\n');
});

await t.test('a change that the summary tells already is not told twice', async t => {
  const { api, directory } = await setUp(t);
  const changes = [{ path: 'nics[0].vlan', from: 20, to: 10 }];
  api.plan = {
    ...PLAN,
    actions: [{ verb: 'update', kind: 'machine', name: 'carol', summary: 'nics[0].vlan 20 -> 10', changes }],
  };
  const { stdout } = await runCli(['plan', join(directory, 'one.yaml')], { state: api.state });
  t.equal(stdout, '~ machine carol  nics[0].vlan 20 -> 10\n1 to update.\n');
});
