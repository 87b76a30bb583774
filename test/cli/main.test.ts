/** The command as a whole: help, usage errors, exit codes, what is said when weftd is not there. */
import t from 'tap';
import { execFile } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FakeApi, Refusal, resource, runCli } from './fakeApi.js';

const BIN = fileURLToPath(new URL('../../../bin/weft.js', import.meta.url));

await t.test('help is a success, on standard output', async t => {
  const { code, stdout, stderr } = await runCli(['--help']);
  t.equal(code, 0);
  t.match(stdout, /weft up configs\/quickstart\.yaml/);
  t.match(stdout, /Exit codes: 0 done, 1 failed, 2 wrong usage, 3/);
  t.notMatch(stdout, /__complete/);
  t.equal(stderr, '');
});

await t.test('nothing at all is wrong usage, with the help on standard error', async t => {
  const { code, stdout, stderr } = await runCli([]);
  t.equal(code, 2);
  t.equal(stdout, '');
  t.match(stderr, /Usage: weft/);
});

for (const [what, args, says] of [
  ['an unknown verb', ['aply'], /unknown command 'aply'[^]*Did you mean apply\?/],
  ['an unknown option', ['get', '--frob'], /unknown option '--frob'/],
  ['a missing argument', ['plan'], /missing required argument 'file'/],
  ['an unknown form', ['get', '-o', 'xml'], /Allowed choices are table, wide, yaml, json/],
  ['an unknown kind', ['get', 'machin'], /"machin" is not a kind of resource; did you mean "machine"\?/],
  ['a bad duration', ['up', '--timeout', 'soon'], /a duration is a number and a unit/],
  ['--token-file without --url', ['--token-file', 'x', 'get'], /--token-file is for --url only/],
  ['https', ['--url', 'https://x', 'get'], /plain http/],
  ['up with --url', ['--url', 'http://127.0.0.1:1', 'up'], /on the machine where weftd runs/],
  ['a log that does not exist', ['logs', 'weft'], /there is no log "weft"; did you mean "weftd"\?/],
] as const) {
  await t.test(`wrong usage: ${what}`, async t => {
    const { code, stderr } = await runCli(args);
    t.equal(code, 2);
    t.match(stderr, says);
  });
}

await t.test('weftd is not running: how to start it', async t => {
  const { code, stderr } = await runCli(['--state', '/nonexistent/weft', 'get']);
  t.equal(code, 1);
  t.match(stderr, /weftd is not running: nobody answers at \/nonexistent\/weft\/run\/weftd\.sock/);
  t.match(stderr, /Start it with "weft up FILE\.\.\."/);
});

await t.test('an error reply is said as it is', async t => {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.on('GET /v1/status', () => new Refusal(503, 'STARTING', 'weftd is still starting'));
  const { code, stderr } = await runCli(['status'], { state: api.state });
  t.equal(code, 1);
  t.equal(stderr, 'error: weftd is still starting\n');
});

await t.test('an answer of another form is named, not passed on', async t => {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.on('GET /v1/status', () => ({ version: 7 }));
  const { code, stderr } = await runCli(['status'], { state: api.state });
  t.equal(code, 1);
  t.match(stderr, /in a form that this weft does not know/);
});

await t.test('a weftd that never answers does not hang the command', async t => {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.on('GET /v1/status', (_asked, response) => {
    response.writeHead(200);
    response.write('{"ver');
    return undefined;
  });
  const { code, stdout } = await runCli(['version'], { state: api.state });
  t.equal(code, 0);
  t.match(stdout, /weftd does not answer/);
});

await t.test('colours on a terminal, not elsewhere, and not with NO_COLOR', async t => {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.resources = [resource('machine', 'alice')];
  const ESC = '\u001b[';
  const tty = { stdout: true };
  t.notOk((await runCli(['get'], { state: api.state })).stdout.includes(ESC));
  t.ok((await runCli(['get'], { state: api.state, tty })).stdout.includes(ESC));
  t.notOk((await runCli(['get'], { state: api.state, tty, env: { NO_COLOR: '1' } })).stdout.includes(ESC));
});

await t.test('over TCP with a token', async t => {
  const api = new FakeApi();
  await new Promise<void>(resolve => api.server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => api.close());
  const address = api.server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const directory = t.testdir({ token: 's3cret\n', bad: 'two words\n' });
  api.resources = [resource('switch', 'lan')];
  const url = `http://127.0.0.1:${port}`;
  const { code, stdout } = await runCli([
    '--url',
    url,
    '--token-file',
    join(directory, 'token'),
    'get',
    '-o',
    'json',
  ]);
  t.equal(code, 0);
  t.match(JSON.parse(stdout), { resources: [{ name: 'lan' }] });
  t.equal(api.asked.at(-1)?.headers.authorization, 'Bearer s3cret');
  t.match(
    (await runCli(['--url', url, '--token-file', join(directory, 'bad'), 'get'])).stderr,
    /does not hold a token/,
  );
  t.match((await runCli(['--url', url, '--token-file', '/none', 'get'])).stderr, /cannot read the token/);
});

await t.test('as a program: exit code, pipes, the state directory from the environment', async t => {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  api.resources = Array.from({ length: 3000 }, (_, i) => resource('machine', `m${i}`));
  const spawned = (args: string[], env: Record<string, string>) =>
    new Promise<{ code: number | null; stdout: string; stderr: string }>(resolve => {
      const child = execFile(
        process.execPath,
        [BIN, ...args],
        { env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 },
        (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
      );
      child.stdin?.end();
    });
  const listed = await spawned(['get', '-o', 'json'], { WEFT_STATE: api.state });
  t.equal(listed.code, 0);
  t.equal(JSON.parse(listed.stdout).resources.length, 3000, 'a long answer is written whole before the end');
  const away = await spawned(['get'], { WEFT_STATE: mkdtempSync(join(tmpdir(), 'weft-cli-')) });
  t.equal(away.code, 1);
  t.match(away.stderr, /weftd is not running/);
  const directory = t.testdir({});
  writeFileSync(join(directory, 'empty.yaml'), '');
  t.equal((await spawned(['config', 'validate', join(directory, 'empty.yaml')], {})).code, 0);
});
