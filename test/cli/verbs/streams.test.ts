/** events, logs, machine, console, capture, image build: what streams. */
import t, { type Test } from 'tap';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { event, FakeApi, Refusal, resource, runCli, STREAMING } from '../fakeApi.js';

async function setUp(t: Test): Promise<FakeApi> {
  const api = await new FakeApi().listen();
  t.teardown(() => api.close());
  return api;
}

await t.test('events: a list, by kind and name, since a number or a time', async t => {
  const api = await setUp(t);
  api.events = [event(1), event(2, { at: new Date().toISOString(), kind: '', name: '', level: 'warning' })];
  const all = await runCli(['events'], { state: api.state });
  t.match(all.stdout, /machine alice: Started: event 1\n.* {2}warning: Started: event 2\n$/);
  const recent = await runCli(['events', '--since', '10m', '-o', 'json'], { state: api.state });
  t.match(JSON.parse(recent.stdout), { events: [{ seq: 2 }] });
  await runCli(['events', 'machine', 'alice', '--since', '7'], { state: api.state });
  t.equal(api.asked.at(-1)?.query.toString(), 'kind=machine&name=alice&since=7&follow=false');
  t.match(await runCli(['events', '--since', 'yesterday'], { state: api.state }), { code: 2 });
});

await t.test('events --follow goes on after the last one seen, across a weftd that goes away', async t => {
  const api = await setUp(t);
  api.events = [event(1)];
  let streams = 0;
  api.on('GET /v1/events', ({ query }, response) => {
    if (query.get('follow') === 'false') return { events: api.events };
    streams++;
    if (streams === 3) return new Refusal(500, 'ENOUGH', 'enough');
    const seq = Number(query.get('since')) + 1;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`: hello\n\nid: ${seq}\ndata: ${JSON.stringify(event(seq))}\n\n`);
    // Once a clean end, once a torn connection.
    if (streams === 1) response.end();
    else setTimeout(() => response.destroy(), 50);
    return STREAMING;
  });
  const { stdout, stderr, code } = await runCli(['events', '--follow'], { state: api.state });
  t.equal(stdout.match(/event \d/g)?.join(), 'event 1,event 2,event 3');
  t.equal(code, 1);
  t.match(stderr, 'enough');
});

await t.test('logs: as they come, whole, with the number of lines asked for', async t => {
  const api = await setUp(t);
  api.on('GET /v1/logs/:a/:b', (_asked, response) => {
    response.write('one\n');
    setTimeout(() => response.end('two\u001b[0m\n'), 20);
    return STREAMING;
  });
  const { stdout } = await runCli(['logs', 'machine/alice', '-n', '5', '--follow'], { state: api.state });
  t.equal(stdout, 'one\ntwo\u001b[0m\n');
  t.equal(api.asked[0]?.path, '/v1/logs/machine/alice');
  t.equal(api.asked[0]?.query.toString(), 'follow=true&lines=5');
});

await t.test('machine verbs', async t => {
  const api = await setUp(t);
  api.on('POST /v1/machines/:name/:verb', ({ path }) =>
    path.includes('zoe') ? new Refusal(404, 'NOT_FOUND', 'no machine named "zoe"') : {},
  );
  const stopped = await runCli(['machine', 'stop', 'alice', 'bob', '--timeout', '5s'], { state: api.state });
  t.equal(stopped.stdout, 'machine alice stopped.\nmachine bob stopped.\n');
  t.same(
    api.asked.map(({ path, body }) => [path, body]),
    [
      ['/v1/machines/alice/stop', { timeout_ms: 5000 }],
      ['/v1/machines/bob/stop', { timeout_ms: 5000 }],
    ],
  );
  for (const verb of ['start', 'kill', 'reset', 'pause', 'resume']) {
    t.equal((await runCli(['machine', verb, 'alice'], { state: api.state })).code, 0, verb);
    t.match(api.asked.at(-1), { path: `/v1/machines/alice/${verb}`, body: {} });
  }
  t.match(await runCli(['machine', 'kill', 'zoe'], { state: api.state }), {
    code: 1,
    stderr: /no machine named "zoe"/,
  });
});

await t.test(
  'console on a terminal: keys go through raw, Ctrl-] leaves, the terminal is put back',
  async t => {
    const api = await setUp(t);
    const typed: string[] = [];
    api.onUpgrade = (socket, path) => {
      t.equal(path, '/v1/machines/alice/console');
      socket.on('data', (bytes: Buffer) => {
        typed.push(bytes.toString());
        socket.write('login: ');
      });
    };
    const { code, stdout, stderr } = await runCli(['machine', 'console', 'alice'], {
      state: api.state,
      tty: { stdin: true },
      onOutput: (text, { stdin }) => {
        if (text.includes('Ctrl-]')) stdin.write('root\u0003');
        if (text.includes('login')) stdin.write('x\u001dnever sent');
      },
    });
    t.equal(code, 0);
    t.equal(stdout, 'login: ');
    t.match(stderr, /<raw>.*<cooked>/s);
    t.equal(typed[0], 'root\u0003');
    t.notOk(typed.join('').includes('never sent'));
  },
);

await t.test('console of a pipe: sends it, and listens until it has been silent for a while', async t => {
  const api = await setUp(t);
  api.onUpgrade = socket => {
    socket.on('data', (bytes: Buffer) => {
      socket.write(`got ${bytes.toString()}`);
      setTimeout(() => socket.write('later\n'), 100);
    });
  };
  const { code, stdout, stderr } = await runCli(['machine', 'console', 'alice', '--linger', '400ms'], {
    state: api.state,
    input: 'ls\u001d\n',
  });
  t.equal(code, 0);
  t.equal(stdout, 'got ls\u001d\nlater\n', 'Ctrl-] is but a byte here');
  t.equal(stderr, '');
});

await t.test('console that is closed at the other end, and one that is refused', async t => {
  const api = await setUp(t);
  api.onUpgrade = socket => setTimeout(() => socket.end('bye\n'), 20);
  const closed = await runCli(['machine', 'console', 'alice'], { state: api.state, tty: { stdin: true } });
  t.match(closed, { code: 1, stdout: 'bye\n', stderr: /was closed at the other end/ });
  t.match(closed.stderr, '<cooked>');
  api.onUpgrade = undefined;
  t.equal((await runCli(['machine', 'console', 'alice'], { state: api.state })).code, 1);
});

/** A section header and so many packet blocks. */
function pcapng(packets: number): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32LE(0x0a0d0d0a, 0);
  header.writeUInt32LE(28, 4);
  header.writeUInt32LE(0x1a2b3c4d, 8);
  header.writeUInt32LE(28, 24);
  const packet = Buffer.alloc(36);
  packet.writeUInt32LE(6, 0);
  packet.writeUInt32LE(36, 4);
  packet.writeUInt32LE(36, 32);
  return Buffer.concat([header, ...Array.from({ length: packets }, () => packet)]);
}

await t.test('capture: never onto a terminal; into a file or a pipe; frames are counted', async t => {
  const api = await setUp(t);
  const bytes = pcapng(3);
  api.on('GET /v1/switches/:name/capture', (_asked, response) => {
    response.write(bytes.subarray(0, 50));
    response.end(bytes.subarray(50));
    return STREAMING;
  });
  const refused = await runCli(['switch', 'capture', 'lan'], { state: api.state, tty: { stdout: true } });
  t.match(refused, { code: 2, stderr: /binary and would garble this terminal/ });
  t.equal(api.asked.length, 0);
  const directory = t.testdir({});
  const filed = await runCli(
    [
      'switch',
      'capture',
      'lan',
      '-w',
      'x.pcapng',
      '--port',
      'a',
      '--port',
      'b',
      '--count',
      '3',
      '--snaplen',
      '64',
    ],
    { state: api.state, cwd: directory, tty: { stdout: true } },
  );
  t.match(filed, { code: 0, stderr: /3 frames captured to x\.pcapng/ });
  t.equal(api.asked[0]?.query.toString(), 'port=a&port=b&count=3&snaplen_bytes=64');
  t.same(readFileSync(join(directory, 'x.pcapng')), bytes);
  const piped = await runCli(['switch', 'capture', 'lan'], { state: api.state });
  t.equal(piped.code, 0);
  t.equal(piped.stdout.length, bytes.toString('utf8').length);
  t.match(await runCli(['switch', 'capture', 'lan', '-w', '/nowhere/x'], { state: api.state }), {
    code: 1,
    stderr: /cannot write/,
  });
});

await t.test('capture: Ctrl-C ends it well, with what has come so far', async t => {
  const api = await setUp(t);
  const bytes = pcapng(5);
  api.on('GET /v1/switches/:name/capture', (_asked, response) => {
    response.write(bytes);
    return STREAMING;
  });
  const directory = t.testdir({});
  const path = join(directory, 'x.pcapng');
  const { code, stderr } = await runCli(['switch', 'capture', 'lan', '-w', path], {
    state: api.state,
    onOutput: (text, { signal }) => {
      // Once all that was sent is in the file.
      const written = async (): Promise<void> => {
        while ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) < bytes.length) await sleep(5);
      };
      if (text.includes('Capturing')) void written().then(signal);
    },
  });
  t.equal(code, 0);
  t.match(stderr, '5 frames captured');
  t.same(readFileSync(path), bytes);
});

await t.test('switch macs', async t => {
  const api = await setUp(t);
  api.on('GET /v1/switches/:name/macs', () => ({
    entries: [
      { mac: '02:00:00:00:00:02', vlan: 20, port: 'carol-0', age_ms: 1000 },
      { mac: '02:00:00:00:00:01', vlan: 10, port: 'alice-0', age_ms: 61_000 },
    ],
  }));
  api.on('DELETE /v1/switches/:name/macs', () => ({ flushed: 2 }));
  const { stdout } = await runCli(['switch', 'macs', 'lan'], { state: api.state });
  t.same(stdout.trimEnd().split('\n'), [
    'MAC                VLAN  PORT     AGE',
    '02:00:00:00:00:01  10    alice-0  61s',
    '02:00:00:00:00:02  20    carol-0  1s',
  ]);
  t.equal(
    (await runCli(['switch', 'macs', 'lan', '--flush'], { state: api.state })).stdout,
    '2 forgotten.\n',
  );
});

await t.test('switch trace', async t => {
  const api = await setUp(t);
  let asked: unknown;
  api.on('POST /v1/switches/:name/trace', ({ body }) => {
    asked = body;
    return {
      port: 'a',
      length_bytes: 60,
      vlan: 10,
      priority: 0,
      stages: [{ stage: 'vlan', verdict: 'pass', why: 'VLAN 10, priority 0' }],
      outcome: 'flooded',
      reason: null,
      egress: [{ port: 'b', tags: 'tag 10', queue: null }],
      withheld: [{ port: 'c', why: 'it is not up' }],
      isOffloadable: false,
    };
  });
  const run = ['switch', 'trace', 'lan', '--port', 'a'];
  const { stdout } = await runCli([...run, '--vlan', '10'], { state: api.state });
  t.same(stdout.trimEnd().split('\n'), [
    'STAGE  ANSWER  WHY',
    'vlan   pass    VLAN 10, priority 0',
    '',
    'FLOODED',
    '',
    'LEAVES BY  TAGS    QUEUE  WHY NOT',
    'b          tag 10  -',
    'c          -       -      not sent: it is not up',
  ]);
  t.match(asked, { port: 'a', frame: /^ffffffffffff0200000000018100000a88b5/ });
  for (const wrong of [
    ['--frame', 'abc'],
    ['--dport', '5'],
    ['--priority', '3'],
  ])
    t.equal((await runCli([...run, ...wrong], { state: api.state })).code, 2, wrong.join(' '));
});

await t.test('volume list and delete', async t => {
  const api = await setUp(t);
  const row = { size_bytes: 2 ** 26, allocated_bytes: 8192, reason: null };
  api.on('GET /v1/volumes', () => ({
    volumes: [
      { ...row, pool: 'main', name: 'old', state: 'ok', configured: false, usedBy: [] },
      {
        ...row,
        pool: 'main',
        name: 'bob',
        state: 'full',
        reason: 'no room',
        configured: true,
        usedBy: ['machine bob'],
      },
    ],
  }));
  api.on('DELETE /v1/volumes/:pool/:name', () => ({ deleted: true }));
  t.same((await runCli(['volume', 'list'], { state: api.state })).stdout.trimEnd().split('\n'), [
    'VOLUME    SIZE    ALLOCATED  STATE  SNAPSHOTS  CONFIGURED  USED BY      MESSAGE',
    'main/bob  64 MiB  8 KiB      full   -          yes         machine bob  no room',
    'main/old  64 MiB  8 KiB      ok     -          no          -',
  ]);
  const asked = await runCli(['volume', 'delete', 'main/old'], { state: api.state });
  t.match(asked, { code: 2, stderr: /would destroy volume main\/old and all data in it/ });
  t.equal(api.requests('DELETE /v1/volumes/:pool/:name').length, 0);
  t.match(await runCli(['volume', 'delete', 'old', '--destroy-data'], { state: api.state }), {
    code: 2,
    stderr: /POOL\/VOLUME/,
  });
  const done = await runCli(['volume', 'delete', 'main/old', '--destroy-data'], { state: api.state });
  t.match(done, { code: 0, stdout: 'volume main/old destroyed.\n' });
});

await t.test('image build: stages, the end, and what went wrong', async t => {
  const api = await setUp(t);
  const send = (...steps: object[]) => {
    api.on('POST /v1/images/:name/build', (_asked, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const one of steps) response.write(`data: ${JSON.stringify(one)}\n\n`);
      response.end();
      return STREAMING;
    });
  };
  const at = (stage: string, fraction: number | null, done = false, error: string | null = null) => ({
    stage,
    fraction,
    done,
    error,
  });
  send(at('downloading', 0.1), at('downloading', 0.5), at('packing', null), at('', 1, true));
  t.match(await runCli(['image', 'build', 'tiny'], { state: api.state }), {
    code: 0,
    stdout: 'image tiny is ready.\n',
    stderr: 'image tiny: downloading\nimage tiny: packing\n',
  });
  send(at('', null, true, 'no network'));
  t.match(await runCli(['image', 'build', 'tiny'], { state: api.state }), {
    code: 1,
    stderr: /not built: no network/,
  });
  send(at('downloading', 0.1));
  t.match(await runCli(['image', 'build', 'tiny'], { state: api.state }), { code: 1, stderr: /broke off/ });
  api.resources = [resource('image', 'tiny', { spec: { tiny: {} } })];
  t.match((await runCli(['image', 'list'], { state: api.state })).stdout, /tiny {2}tiny {2}yes/);
});
