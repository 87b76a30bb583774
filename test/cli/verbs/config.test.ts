/** config validate and schema: without a weftd. */
import t from 'tap';
import { runCli } from '../fakeApi.js';

const state = '/nonexistent/weft';

await t.test('validate: a good one, several as one, standard input', async t => {
  const directory = t.testdir({
    'a.yaml': 'pool: { main: {} }\n',
    'b.yaml': 'volume: { v: { pool: main, size: 1GiB } }\n',
  });
  t.match(await runCli(['config', 'validate', 'a.yaml', 'b.yaml'], { state, cwd: directory }), {
    code: 0,
    stdout: '2 files: 2 resources, no errors.\n',
  });
  t.match(await runCli(['config', 'validate', '-'], { state, input: 'switch: { lan: {} }' }), {
    code: 0,
    stdout: '<stdin>: 1 resources, no errors.\n',
  });
});

await t.test('validate: every error with its place', async t => {
  const directory = t.testdir({
    'bad.yaml': 'machine:\n  alice:\n    memroy: 1GiB\n    nics: [{ switch: lan, vlan: 5000 }]\n',
    'lost.yaml': 'volume:\n  v: { pool: mian, size: 1GiB }\npool: { main: {} }\n',
    'syntax.yaml': 'switch: {\n',
  });
  const bad = await runCli(['config', 'validate', 'bad.yaml'], { state, cwd: directory });
  t.equal(bad.code, 1);
  t.match(bad.stderr, /bad\.yaml:3:5: error: .*memroy.*memory/);
  t.match(bad.stderr, /bad\.yaml:4:\d+: error: machine\.alice\.nics\[0\]\.vlan/);
  t.match(await runCli(['config', 'validate', 'lost.yaml'], { state, cwd: directory }), {
    code: 1,
    stderr: /lost\.yaml:2:\d+: error: volume\.v\.pool: no pool named "mian".*main/,
  });
  t.match(await runCli(['config', 'validate', 'syntax.yaml'], { state, cwd: directory }), {
    code: 1,
    stderr: /syntax\.yaml:\d+:\d+: error/,
  });
  const json = await runCli(['config', 'validate', '-o', 'json', 'lost.yaml'], { state, cwd: directory });
  t.equal(json.code, 1);
  t.match(JSON.parse(json.stdout), { problems: [{ path: 'lost.yaml', line: 2, at: 'volume.v.pool' }] });
});

await t.test('schema is a JSON Schema with every kind', async t => {
  const { stdout, code } = await runCli(['config', 'schema'], { state });
  t.equal(code, 0);
  const schema = JSON.parse(stdout);
  t.match(schema.$schema, /json-schema\.org/);
  t.same(Object.keys((schema.properties ?? schema.$defs.weft.properties) as object).toSorted(), [
    'export',
    'image',
    'machine',
    'pool',
    'switch',
    'volume',
  ]);
});
