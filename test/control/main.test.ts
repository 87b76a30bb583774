/**
 * weftd as a process with the real planes: what it survives, and what survives it. No guests here; test/lab has them.
 */
import t from 'tap';
import type { Test } from 'tap';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

// Processes that start and end, on whatever machine this is.
t.setTimeout(300_000);

const MAIN = join(import.meta.dirname, '../../control/main.js');

class Home {
  readonly state = fs.mkdtempSync(join(tmpdir(), 'weftd-'));
  readonly #children: ChildProcess[] = [];

  constructor(test: Test) {
    test.teardown(async () => {
      for (const child of this.#children) await end(child, 'SIGKILL');
      // Planes by their socket's path: one that was only just being started is in no pid file yet.
      for (const pid of fs.readdirSync('/proc')) if (this.#isOurs(pid)) process.kill(Number(pid), 'SIGKILL');
      await sleep(50);
      fs.rmSync(this.state, { recursive: true, force: true });
    });
  }

  #isOurs(pid: string): boolean {
    try {
      return fs
        .readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        .split('\0')
        .some(word => word.startsWith(this.state));
    } catch {
      return false;
    }
  }

  /** Of a plane that lives. */
  pid(plane: string): number | undefined {
    try {
      const pid = Number.parseInt(fs.readFileSync(`${this.state}/run/${plane}.pid`, 'utf8'), 10);
      const ours = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(this.state);
      const isZombie = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z');
      return ours && !isZombie ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  /** Starts one; resolves with its process once it serves, rejects with its last words when it ends. */
  async weftd(...more: string[]): Promise<ChildProcess> {
    const child = spawn(process.execPath, [MAIN, '--state', this.state, ...more], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#children.push(child);
    let words = '';
    child.stderr.setEncoding('utf8');
    child.stderr.on('data', (piece: string) => (words += piece));
    const ended = new Promise<void>(resolve => child.once('close', () => resolve()));
    for (;;) {
      await Promise.race([ended, sleep(20)]);
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`exit code ${child.exitCode}: ${words.trim()}`);
      if ((await this.ask('GET', '/v1/status').catch(() => '')).includes(`"pid":${child.pid},`)) return child;
    }
  }

  ask(method: string, path: string, body?: unknown): Promise<string> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        { socketPath: `${this.state}/run/weftd.sock`, method, path, agent: false },
        response => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (piece: string) => (text += piece));
          response.on('end', () => resolve(text));
          response.on('error', reject);
        },
      );
      request.on('error', reject);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  apply(text: string): Promise<string> {
    return this.ask('POST', '/v1/apply', { files: [{ path: 'a.yaml', text }] });
  }

  async until(isSo: () => Promise<boolean> | boolean): Promise<void> {
    while (!(await isSo())) await sleep(10);
  }

  async settled(): Promise<void> {
    await this.until(async () => (await this.ask('GET', '/v1/status')).includes('"settled":true'));
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()));
  child.kill(signal);
  await ended;
}

const CONFIG =
  'switch: { lan: { ports: { p: { loopback: true } } } }\npool: { main: {} }\nvolume: { v: { pool: main, size: 1MiB } }\nexport: { e: { volume: v } }\n';

await t.test(
  'a life: serve, apply, end, serve again; planes live on, and are replaced when they die',
  async t => {
    const home = new Home(t);
    const first = await home.weftd();
    for (const [path, mode] of [
      ['store', 0o700],
      ['pools', 0o700],
      ['logs', 0o700],
      ['run/weftd.sock', 0o600],
      ['run/dataplane.sock', 0o600],
      ['logs/weftd.log', 0o600],
    ] as const)
      if (path !== 'run/dataplane.sock')
        t.equal(fs.statSync(join(home.state, path)).mode & 0o777, mode, path);
    await home.apply(CONFIG);
    await home.settled();
    const [dataplane, storage] = [home.pid('dataplane'), home.pid('storage')];
    t.ok(dataplane !== undefined && storage !== undefined);
    await end(first, 'SIGTERM');
    t.equal(first.exitCode, 0);
    t.equal(home.pid('dataplane'), dataplane, 'they go on');
    t.equal(home.pid('storage'), storage);
    const second = await home.weftd();
    await home.settled();
    t.equal(home.pid('dataplane'), dataplane, 'and are taken over');
    process.kill(dataplane!, 'SIGKILL');
    process.kill(storage!, 'SIGKILL');
    await home.until(() => {
      const now = [home.pid('dataplane'), home.pid('storage')];
      return now.every(pid => pid !== undefined) && now[0] !== dataplane && now[1] !== storage;
    });
    await home.settled();
    t.match(await home.ask('GET', '/v1/resources/export/e'), /"reason":"Listening"/);
    t.match(await home.ask('GET', '/v1/events?follow=false'), /PlaneEnded/);
    const gone = new Promise<void>(resolve => second.once('exit', () => resolve()));
    t.equal(await home.ask('POST', '/v1/shutdown', { everything: true }), '{}');
    await gone;
    t.equal(second.exitCode, 0);
    t.equal(home.pid('dataplane'), undefined);
    t.equal(home.pid('storage'), undefined);
    t.ok(fs.existsSync(join(home.state, 'pools/main')), 'the data stays');
  },
);

await t.test('two on one state directory', async t => {
  const home = new Home(t);
  const first = await home.weftd();
  await t.rejects(home.weftd(), {
    message: new RegExp(
      `^exit code 1: weftd: another weftd \\(process ${first.pid}\\) runs on ${home.state}`,
    ),
  });
  await end(first, 'SIGKILL');
  const third = await home.weftd();
  t.not(third.pid, first.pid, 'a lock does not outlive its holder');
});

await t.test('kill -9 while configurations come in: none that was acknowledged is lost', async t => {
  const home = new Home(t);
  let acknowledged = 0;
  for (let round = 0; round < 3; round++) {
    const weftd = await home.weftd();
    const stop = acknowledged + 5 + round * 7;
    for (;;) {
      const next = acknowledged + 1;
      const reply = home.apply(`switch: { s${next}: {} }\n`);
      if (next === stop) weftd.kill('SIGKILL');
      try {
        const { revision } = JSON.parse(await reply) as { revision: number };
        if (revision >= next) acknowledged = next;
      } catch {
        break;
      }
    }
    const again = await home.weftd();
    const text = await home.ask('GET', '/v1/resources?kind=switch');
    for (let i = 1; i <= acknowledged; i++) t.ok(text.includes(`"name":"s${i}"`), `s${i}`);
    const { revision } = JSON.parse(await home.ask('GET', '/v1/status')) as { revision: number };
    t.ok(revision >= acknowledged && revision <= acknowledged + 1);
    acknowledged = revision;
    await home.settled();
    await end(again, 'SIGKILL');
  }
});

await t.test('a store that is damaged', async t => {
  const home = new Home(t);
  const first = await home.weftd();
  await home.apply(CONFIG);
  await home.settled();
  await end(first, 'SIGTERM');
  const [dataplane, storage] = [home.pid('dataplane'), home.pid('storage')];
  const store = join(home.state, 'store');
  for (const file of fs.readdirSync(store))
    if (file.startsWith('MANIFEST')) fs.writeFileSync(join(store, file), 'x'.repeat(64));
  await t.rejects(home.weftd(), { message: /^exit code 1: weftd: the store in .* is damaged/ });
  t.equal(home.pid('storage'), storage);
  // As the message says: move it away, apply again; what runs is found.
  fs.renameSync(store, `${store}.damaged`);
  await home.weftd();
  await sleep(200);
  t.match(await home.ask('GET', '/v1/status'), /"revision":0/);
  const planeStatus = await new Promise<string>((resolve, reject) => {
    http
      .get({ socketPath: `${home.state}/run/storage.sock`, path: '/status' }, response => {
        let text = '';
        response.on('data', piece => (text += String(piece)));
        response.on('end', () => resolve(text));
      })
      .on('error', reject);
  });
  t.match(planeStatus, /"name":"export\/e"/, 'it still serves what it served');
  await home.apply(CONFIG);
  await home.settled();
  t.equal(home.pid('dataplane'), dataplane);
  t.match(await home.ask('GET', '/v1/resources/volume/v'), /"reason":"Available"/);
});

await t.test('TCP: asked for, with a token; a port that is taken', async t => {
  const home = new Home(t);
  const other = http.createServer();
  await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve));
  t.teardown(() => other.close());
  const address = other.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  await t.rejects(home.weftd('--listen', `127.0.0.1:${port}`), { message: /EADDRINUSE/ });
  t.notOk(fs.existsSync(join(home.state, 'run/storage.sock')), 'nothing was started');
  await home.weftd('--listen', '127.0.0.1:0');
  t.equal(fs.statSync(join(home.state, 'token')).mode & 0o777, 0o600);
  const token = fs.readFileSync(join(home.state, 'token'), 'utf8').trim();
  for (const log of fs.readdirSync(join(home.state, 'logs')))
    t.notOk(fs.readFileSync(join(home.state, 'logs', log), 'utf8').includes(token), log);
});

await t.test('arguments', async t => {
  const home = new Home(t);
  await t.rejects(home.weftd('--listen', 'nonsense'), { message: /^exit code 2: .*write HOST:PORT/ });
  await t.rejects(home.weftd('--frobnicate'), { message: /^exit code 2: / });
  const doctor = spawn(process.execPath, [MAIN, '--state', join(home.state, 'none'), '--doctor']);
  let text = '';
  doctor.stdout.on('data', piece => (text += String(piece)));
  await new Promise(resolve => doctor.once('close', resolve));
  t.match(JSON.parse(text), { checks: [{ name: 'node', status: 'ok' }] });
  t.notOk(fs.existsSync(join(home.state, 'none')), 'a look changes nothing');
});
