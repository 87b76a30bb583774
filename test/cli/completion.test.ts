/** What the shells are told: from the parser, from weftd, and nothing but silence when weftd does not answer. */
import t from 'tap';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FakeApi, resource, runCli } from './fakeApi.js';

const api = await new FakeApi().listen();
t.teardown(() => api.close());
api.resources = [resource('machine', 'alice'), resource('machine', 'bob'), resource('switch', 'lan')];
api.on('GET /v1/volumes', () => ({
  volumes: [
    {
      pool: 'main',
      name: 'a',
      size_bytes: 1,
      allocated_bytes: 1,
      state: 'ok',
      reason: null,
      configured: true,
      usedBy: [],
    },
  ],
}));

async function candidates(...words: string[]): Promise<string[]> {
  const { stdout, stderr, code } = await runCli(['__complete', '--', ...words], { state: api.state });
  t.equal(code, 0);
  t.equal(stderr, '');
  return stdout
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.split('\t')[0] ?? '');
}

for (const [line, expected] of [
  [['m'], ['machine']],
  [
    ['machine', 's'],
    ['start', 'stop'],
  ],
  [
    ['machine', 'stop', ''],
    ['alice', 'bob'],
  ],
  [['machine', 'stop', 'alice', 'b'], ['bob']],
  [['get', 'mac'], ['machine']],
  [['get', 'machines', 'a'], ['alice']],
  [
    ['describe', 'machine/'],
    ['machine/alice', 'machine/bob'],
  ],
  [['get', '-o', 'j'], ['json']],
  [['get', '-o', 'json', 's'], ['switch']],
  [['get', '--wat'], ['--watch']],
  [['logs', 'machine/b'], ['machine/bob']],
  [['logs', 'w'], ['weftd']],
  [['switch', 'macs', ''], ['lan']],
  [['volume', 'delete', ''], ['main/a']],
  [['apply', ''], [':files']],
  [['apply', '-f', ''], [':files']],
  [
    ['completion', ''],
    ['bash', 'zsh', 'fish'],
  ],
  [['--state', ''], [':files']],
  [['get', 'frob', ''], []],
  [['version', ''], []],
] as const) {
  await t.test(`weft ${line.join(' ')}|`, async t => t.same(await candidates(...line), expected));
}

await t.test('hidden verbs stay hidden; verbs come with what they do', async t => {
  const { stdout } = await runCli(['__complete', '--', ''], { state: api.state });
  t.notMatch(stdout, '__complete');
  t.match(stdout, /^get\tlist resources/m);
});

await t.test('no weftd, or another one named on the line itself', async t => {
  const { stdout, code } = await runCli(['__complete', '--', 'machine', 'stop', ''], {
    state: '/nonexistent',
  });
  t.equal(stdout, '');
  t.equal(code, 0);
  const words = ['--state', api.state, 'machine', 'stop', 'a'];
  t.equal((await runCli(['__complete', '--', ...words], { state: '/nonexistent' })).stdout, 'alice\n');
});

await t.test('a weftd that is stuck does not keep the shell waiting', async t => {
  const stuck = await new FakeApi().listen();
  t.teardown(() => stuck.close());
  stuck.on('GET /v1/resources', (_asked, response) => {
    response.writeHead(200).flushHeaders();
  });
  t.equal((await runCli(['__complete', '--', 'machine', 'stop', ''], { state: stuck.state })).stdout, '');
});

await t.test('the script for bash completes', async t => {
  const { stdout } = await runCli(['completion', 'bash']);
  const directory = t.testdir({ bin: {}, 'my file.yaml': '' });
  const weft = join(directory, 'bin', 'weft');
  const bin = fileURLToPath(new URL('../../../bin/weft.js', import.meta.url));
  writeFileSync(weft, `#!/bin/sh\nexec '${process.execPath}' '${bin}' "$@"\n`, { mode: 0o755 });
  writeFileSync(join(directory, 'c.bash'), stdout);
  const ask = (line: string) =>
    execFileSync(
      'bash',
      [
        '--norc',
        '-c',
        `source "$1"; cd "$2"; COMP_WORDS=(${line}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _weft; printf '%s\\n' "\${COMPREPLY[@]}"`,
        'bash',
        join(directory, 'c.bash'),
        directory,
      ],
      {
        env: {
          ...process.env,
          PATH: `${join(directory, 'bin')}:${process.env['PATH']}`,
          WEFT_STATE: api.state,
        },
        encoding: 'utf8',
      },
    );
  // Not by execFileSync against the fake, which lives in this process: only what needs no weftd.
  t.equal(ask('weft mach'), 'machine\n');
  t.equal(ask('weft apply my'), 'my file.yaml\n');
});

for (const shell of ['zsh', 'fish']) {
  await t.test(`there is one for ${shell}`, async t => {
    const { stdout, code } = await runCli(['completion', shell]);
    t.equal(code, 0);
    t.match(stdout, /__complete -- /);
  });
}
