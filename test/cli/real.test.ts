/**
 * The command against the real weftd and the real planes, on a state directory of its own and without machines, so
 * that it needs neither root nor QEMU: the contract holds on both sides, and `up` and `down` are what they say.
 */
import t from 'tap';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse as parseYaml } from 'yaml';
import { runCli, type Invocation, type Outcome } from './fakeApi.js';

const state = mkdtempSync(join(tmpdir(), 'weft-cli-real-'));
const uid = process.geteuid?.() ?? 1000;
const env = { PATH: process.env['PATH'] ?? '' };

function weft(args: string[], extra: Invocation = {}): Promise<Outcome> {
  return runCli(args, { state, uid, env, ...extra });
}

t.teardown(async () => {
  await weft(['down', '--timeout', '0s']);
  rmSync(state, { recursive: true, force: true });
});

const CONFIG = `
switch:
  lan:
    ports:
      echo: { loopback: true, vlan: 7 }
pool:
  main: {}
volume:
  one: { pool: main, size: 16MiB }
  two: { pool: main, size: 16MiB }
export:
  one: { volume: one }
`;
const file = join(state, 'weft.yaml');
writeFileSync(file, CONFIG);

async function statusOf(): Promise<{
  pid: number;
  revision: number;
  settled: boolean;
  planes: { name: string; pid: number }[];
}> {
  return JSON.parse((await weft(['status', '-o', 'json'])).stdout);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** One that has ended and waits to be reaped is not alive. */
function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0] !== 'Z';
  } catch {
    return false;
  }
}

await t.test('up with a file that is not there starts nothing', async t => {
  t.equal((await weft(['up', 'nope.yaml'])).code, 1);
  t.match((await weft(['status'])).stderr, /weftd is not running/);
});

await t.test('up starts weftd, applies, waits', async t => {
  const { code, stdout, stderr } = await weft(['up', file, '--timeout', '60s']);
  t.equal(code, 0, stderr);
  t.match(stdout, /\+ switch lan/);
  t.match(stdout, /5 to create\./);
  t.match(stdout, /KIND {4}NAME {2}READY[^]*switch {2}lan {3}yes[^]*export {2}one {3}yes/);
  t.match(await statusOf(), { settled: true });
  t.equal(statSync(join(state, 'run', 'weftd.sock')).mode & 0o777, 0o600);
  t.equal(statSync(join(state, 'logs', 'weftd.log')).mode & 0o777, 0o600);
});

await t.test('up again changes nothing and starts nothing', async t => {
  const before = await statusOf();
  const { code, stdout } = await weft(['up', file]);
  t.equal(code, 0);
  t.match(stdout, /^Nothing to change/);
  t.same(await statusOf(), before);
  t.equal((await weft(['plan', '--exit-code', file])).code, 0);
});

await t.test('what get prints as YAML can be applied again, and is no change', async t => {
  const { stdout } = await weft(['get', '-o', 'yaml']);
  t.same(Object.keys(parseYaml(stdout) as object), ['switch', 'pool', 'volume', 'export']);
  const again = await weft(['plan', '--exit-code', '--prune', '-'], { input: stdout });
  t.equal(again.code, 0, again.stdout + again.stderr);
});

await t.test('a change: plan says it, apply makes it, events tell of it', async t => {
  const changed = CONFIG.replace('one: { pool: main, size: 16MiB }', 'one: { pool: main, size: 32MiB }');
  const planned = await weft(['plan', '--exit-code', '-'], { input: changed });
  t.equal(planned.code, 3);
  t.match(planned.stdout, /~ volume one[^]*size 16MiB -> 32MiB/);
  t.equal((await weft(['apply', '-'], { input: changed })).code, 0);
  t.match((await weft(['get', 'volume', 'one'])).stdout, /32 MiB/);
  const events = JSON.parse((await weft(['events', '-o', 'json'])).stdout) as { events: { kind: string }[] };
  t.ok(events.events.some(({ kind }) => kind === 'volume'));
});

await t.test('wrong configuration: placed, and nothing is applied', async t => {
  const before = await statusOf();
  const { code, stderr } = await weft(['apply', '-'], {
    input: 'volume:\n  x: { pool: mian, size: 1GiB }\n',
  });
  t.equal(code, 1);
  t.match(stderr, /<stdin>:2:14: error: volume\.x\.pool: no pool named "mian"; did you mean "main"\?/);
  t.equal((await statusOf()).revision, before.revision);
});

await t.test('describe, logs, doctor, version, volume list', async t => {
  t.match((await weft(['describe', 'export', 'one'])).stdout, /exports\/one\.sock/);
  t.match((await weft(['describe', 'switch', 'nope'])).stderr, /nope/);
  t.match((await weft(['logs', 'weftd', '-n', '5'])).stdout, /"name":"weftd"/);
  t.match((await weft(['logs', 'machine/nope'])).stderr, /no machine "nope"/);
  t.match((await weft(['doctor'])).stdout, /^CHECK +STATUS +FOUND\nnode +ok/);
  t.match((await weft(['version'])).stdout, /^weft (\S+)\nweftd \1\n$/);
  t.match((await weft(['volume', 'list'])).stdout, /main\/two +16 MiB/);
  t.match((await weft(['switch', 'macs', 'lan'])).stdout, /^MAC/);
  t.match((await weft(['machine', 'start', 'nope'])).stderr, /no machine "nope"/);
});

await t.test('delete keeps the data and says so; the command that it names destroys it', async t => {
  const { code, stdout } = await weft(['delete', 'volume', 'two']);
  t.equal(code, 0);
  t.match(stdout, /volume two deleted\.\nKept: .*weft volume delete main\/two --destroy-data/);
  t.match((await weft(['volume', 'list'])).stdout, /main\/two .* no /);
  t.equal((await weft(['volume', 'delete', 'main/two', '--destroy-data'])).code, 0);
  t.notMatch((await weft(['volume', 'list'])).stdout, /main\/two/);
});

await t.test('completion knows the names', async t => {
  t.equal((await weft(['__complete', '--', 'get', 'switch', ''])).stdout, 'lan\n');
  t.equal((await weft(['__complete', '--', 'volume', 'delete', ''])).stdout, 'main/one\n');
});

await t.test('a capture of a quiet switch is a whole file', async t => {
  const path = join(state, 'x.pcapng');
  const { code } = await weft(['switch', 'capture', 'lan', '-w', path], {
    onOutput: (text, { signal }) => {
      const begun = async (): Promise<void> => {
        while ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) < 4) await sleep(5);
      };
      if (text.includes('Capturing')) void begun().then(signal);
    },
  });
  t.equal(code, 0);
  t.equal(readFileSync(path).readUInt32LE(0), 0x0a0d0d0a);
});

await t.test('up twice at the same time, while it runs', async t => {
  const before = await statusOf();
  const outcomes = await Promise.all([weft(['up']), weft(['up'])]);
  t.same(
    outcomes.map(({ code }) => code),
    [0, 0],
  );
  t.equal((await statusOf()).pid, before.pid);
});

await t.test('down --keep-guests ends weftd alone; the next one takes over', async t => {
  const before = await statusOf();
  const { code, stdout } = await weft(['down', '--keep-guests']);
  t.equal(code, 0);
  t.match(stdout, /weftd has ended; machines, network and disks go on/);
  for (const { pid, name } of before.planes) t.ok(isAlive(pid), `${name} lives`);
  t.equal((await weft(['up', '--timeout', '60s'])).code, 0);
  const after = await statusOf();
  t.not(after.pid, before.pid);
  t.same(
    after.planes.map(({ pid }) => pid),
    before.planes.map(({ pid }) => pid),
  );
});

await t.test('two that start at once: one weftd', async t => {
  t.equal((await weft(['down', '--keep-guests'])).code, 0);
  const outcomes = await Promise.all([weft(['up', '--timeout', '60s']), weft(['up', '--timeout', '60s'])]);
  t.same(
    outcomes.map(({ code, stderr }) => (code === 0 ? 0 : stderr)),
    [0, 0],
  );
});

await t.test('down without weftd takes down what it left', async t => {
  const { planes } = await statusOf();
  t.equal((await weft(['down', '--keep-guests'])).code, 0);
  const { code, stdout } = await weft(['down']);
  t.equal(code, 0);
  t.equal(stdout, 'Everything is down; the disks stay.\n');
  for (const { pid, name } of planes) t.notOk(isAlive(pid), `${name} has ended`);
  t.equal((await weft(['down'])).stdout, 'Nothing is running.\n');
});

await t.test('up brings back what was configured', async t => {
  const { code, stdout } = await weft(['up', '--timeout', '60s']);
  t.equal(code, 0);
  t.match(stdout, /volume +one +yes/);
});

await t.test('up --foreground: stays, and a signal takes everything down', async t => {
  const { planes } = await statusOf();
  const { code, stderr } = await weft(['up', '--foreground'], {
    onOutput: (text, { signal }) => {
      if (text.includes('Staying here')) void sleep(300).then(signal);
    },
  });
  t.equal(code, 0);
  t.match(stderr, /Shutting down; Ctrl-C once more hurries\.[^]*Everything is down; the disks stay\./);
  for (const { pid, name } of planes) t.notOk(isAlive(pid), `${name} has ended`);
});

await t.test('the API by TCP, with the token', async t => {
  const port = await freePort();
  const up = await weft(['up', '--listen', `127.0.0.1:${port}`]);
  t.equal(up.code, 0, up.stderr);
  const url = ['--url', `http://127.0.0.1:${port}`];
  t.match(await runCli([...url, 'get']), { code: 1, stderr: /--token-file/ });
  const { code, stdout } = await runCli([...url, '--token-file', join(state, 'token'), 'get', 'pool']);
  t.equal(code, 0);
  t.match(stdout, /main/);
});

await t.test('a state directory that cannot be used', async t => {
  t.match(await runCli(['--state', '/proc/weft', 'up'], { uid, env }), {
    code: 1,
    stderr: /\/proc\/weft cannot be used/,
  });
});

await t.test('doctor works without weftd', async t => {
  const { stdout } = await runCli(['--state', join(state, 'none'), 'doctor', '-o', 'json'], { uid, env });
  t.match(JSON.parse(stdout), { checks: [{ name: 'node', status: 'ok' }] });
});
