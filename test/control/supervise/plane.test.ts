/** A plane's process: started, found again, watched, started again. With fake planes that are real processes. */
import t from 'tap';
import type { Test } from 'tap';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { Applied, DataplaneEvent, DataplaneStatus, Health } from '../../../dataplane/contract.js';
import type { DataplaneConfig } from '../../../dataplane/contract.js';
import type { Clock } from '../../../control/clock.js';
import { restartDelay_ms, endsInARow } from '../../../control/supervise/backoff.js';
import { Plane } from '../../../control/supervise/process.js';
import type { PlaneInfo } from '../../../control/supervise/process.js';
import { FakePlane } from '../fakePlane.js';

t.setTimeout(300_000);

const PROGRAM = join(import.meta.dirname, '../fakePlane.js');
const clock: Clock = {
  now_ms: () => Date.now(),
  after(delay_ms, then) {
    const timer = setTimeout(then, delay_ms);
    return () => clearTimeout(timer);
  },
};

/** Time runs faster, for what takes long; not so fast that a process cannot start in its time on a busy machine. */
const HASTE = 4;
const hasty: Clock = {
  now_ms: () => Date.now() * HASTE,
  after: (delay_ms, then) => clock.after(delay_ms / HASTE, then),
};

type TestPlane = Plane<DataplaneConfig, Applied, DataplaneStatus, DataplaneEvent>;

class Bench {
  readonly directory = fs.mkdtempSync(join(tmpdir(), 'weft-plane-'));
  readonly socketPath = join(this.directory, 'p.sock');
  readonly notes: string[] = [];
  readonly events: DataplaneEvent[] = [];
  readonly states: PlaneInfo['state'][] = [];
  readonly #planes: TestPlane[] = [];
  readonly #t: Test;
  #look = (): void => {};

  constructor(test: Test) {
    this.#t = test;
    test.teardown(async () => {
      for (const plane of this.#planes) await plane.stop();
      fs.rmSync(this.directory, { recursive: true, force: true });
    });
  }

  plane(options: { version?: string; program?: string[]; clock?: Clock } = {}): TestPlane {
    const version = options.version ?? '0.0.1';
    const plane: TestPlane = new Plane(
      {
        name: 'dataplane',
        version,
        socketPath: this.socketPath,
        program: options.program ?? [PROGRAM, '--version', version],
        logPath: join(this.directory, 'p.log'),
        pidPath: join(this.directory, 'p.pid'),
        words: { health: Health, applied: Applied, status: DataplaneStatus, event: DataplaneEvent },
      },
      options.clock ?? clock,
      {
        onState: ({ state }) => {
          this.states.push(state);
          this.#look();
        },
        onEvent: event => {
          this.events.push(event);
          this.#look();
        },
        onNote: (_level, reason, message) => {
          this.notes.push(`${reason}: ${message}`);
          this.#look();
        },
      },
    );
    this.#planes.push(plane);
    return plane;
  }

  /** Until it is so; the test's own time limit ends it otherwise. */
  until(what: string, isSo: () => boolean): Promise<void> {
    this.#t.comment(`until ${what}`);
    return new Promise(resolve => {
      this.#look = () => {
        if (isSo()) resolve();
      };
      this.#look();
    });
  }
}

const CONFIG: DataplaneConfig = {
  generation: 77,
  switches: [{ name: 'lan', ageingTime_s: 300, macLimit: 10, ports: [] }],
};

async function generationOf(plane: TestPlane): Promise<number> {
  return (await plane.status()).generation;
}

await t.test('started, told, killed, started and told again', async t => {
  const bench = new Bench(t);
  const plane = bench.plane();
  t.equal(plane.info.state, 'stopped');
  await t.rejects(plane.configure(CONFIG), { code: 'PLANE_DOWN' });
  plane.start();
  await bench.until('up', () => plane.info.state === 'up');
  t.equal(await generationOf(plane), 77, 'what it was to have, though asked for before it was there');
  const first = plane.info.pid!;
  process.kill(first, 'SIGKILL');
  await bench.until('up again', () => plane.info.state === 'up' && plane.info.pid !== first);
  t.equal(await generationOf(plane), 77, 'told again without anyone’s doing');
  t.equal(plane.info.restartCount, 1);
  t.match(bench.notes, [/^PlaneStarted: /, /^PlaneEnded: /, /^PlaneStarted: /]);
  await plane.stop();
  t.throws(() => process.kill(plane.info.pid ?? 2 ** 22, 0));
  t.equal(plane.info.state, 'stopped');
});

await t.test('one that runs is taken over, and outlives us', async t => {
  const bench = new Bench(t);
  const first = bench.plane();
  first.start();
  await bench.until('up', () => first.info.state === 'up');
  await first.configure(CONFIG);
  const { pid } = first.info;
  await first.detach();
  const second = bench.plane();
  second.start();
  await bench.until('up', () => second.info.state === 'up');
  t.equal(second.info.pid, pid);
  t.equal(await generationOf(second), 77);
  t.match(bench.notes.at(-1), /^PlaneAdopted: /);
  // Its end is noticed, though it is not our child any more.
  process.kill(pid!, 'SIGKILL');
  await bench.until('another one', () => second.info.state === 'up' && second.info.pid !== pid);
});

await t.test('one of another version is replaced', async t => {
  const bench = new Bench(t);
  const old = bench.plane({ version: '0.0.1' });
  old.start();
  await bench.until('up', () => old.info.state === 'up');
  const { pid } = old.info;
  await old.detach();
  const plane = bench.plane({ version: '0.0.2' });
  plane.start();
  await bench.until('up', () => plane.info.state === 'up');
  t.equal(plane.info.version, '0.0.2');
  t.not(plane.info.pid, pid);
  t.ok(bench.notes.some(note => /^PlaneReplaced: .*has version 0.0.1, weftd 0.0.2/.test(note)));
});

await t.test('one that cannot start is tried again, more and more slowly', async t => {
  const bench = new Bench(t);
  const plane = bench.plane({ program: [PROGRAM, '--fail-start'] });
  plane.start();
  await bench.until('three attempts', () => plane.info.restartCount >= 3);
  t.match(plane.info.reason, /exited with code 3; .*p\.log has its last words/);
  t.match(fs.readFileSync(join(bench.directory, 'p.log'), 'utf8'), /it does not want to/);
  t.ok(bench.states.includes('backoff'));
});

await t.test('one that hangs is ended', async t => {
  const bench = new Bench(t);
  const plane = bench.plane({ clock: hasty });
  plane.start();
  await bench.until('up', () => plane.info.state === 'up');
  const { pid } = plane.info;
  process.kill(pid!, 'SIGSTOP');
  await bench.until('another one', () => plane.info.state === 'up' && plane.info.pid !== pid);
  t.ok(bench.notes.some(note => note.startsWith('PlaneHangs: ')));
});

await t.test('one that hangs already when we come is known by its pid file', async t => {
  const bench = new Bench(t);
  const first = bench.plane();
  first.start();
  await bench.until('up', () => first.info.state === 'up');
  const { pid } = first.info;
  await first.detach();
  process.kill(pid!, 'SIGSTOP');
  const second = bench.plane({ clock: hasty });
  second.start();
  await bench.until('another one', () => second.info.state === 'up' && second.info.pid !== pid);
});

await t.test('a stranger’s process is never ended', async t => {
  const bench = new Bench(t);
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  t.teardown(() => stranger.kill('SIGKILL'));
  // A pid file that has outlived its process, whose number has been given to another one.
  fs.writeFileSync(join(bench.directory, 'p.pid'), `${stranger.pid}\n`);
  const fake = new FakePlane({ kind: 'dataplane', version: '0.0.1' });
  fake.hangs = true;
  await fake.listen(bench.socketPath);
  const plane = bench.plane({ clock: hasty });
  plane.start();
  await bench.until('given up once', () => plane.info.restartCount >= 1);
  t.equal(stranger.exitCode, null);
  t.equal(stranger.signalCode, null);
  await fake.close();
});

await t.test('events come through, unknown ones are passed over', async t => {
  const bench = new Bench(t);
  const fake = new FakePlane({ kind: 'dataplane', version: '0.0.1' });
  await fake.listen(bench.socketPath);
  const plane = bench.plane();
  plane.start();
  await bench.until('up', () => plane.info.state === 'up');
  fake.tell({ type: 'somethingNew', at_ms: 1 });
  fake.tell({ type: 'port', at_ms: 1, switch: 'lan', port: 'p', state: 'error', reason: 'no' });
  await bench.until('an event', () => bench.events.length > 0);
  t.match(bench.events, [{ type: 'port', port: 'p' }]);
  await plane.detach();
  await fake.close();
});

await t.test('backoff', async t => {
  t.same([1, 2, 3, 4, 8, 9, 50].map(restartDelay_ms), [0, 100, 200, 400, 6400, 10_000, 10_000]);
  t.equal(endsInARow(5, 60_000), 1, 'one that served for a while is started at once');
  t.equal(endsInARow(1, 500), 2);
});
