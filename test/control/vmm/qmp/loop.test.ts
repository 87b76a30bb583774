/** The monitor's client against a QEMU of ours that can be made to misbehave. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MAX_LINE_BYTES } from '../../../../control/vmm/qmp/codec.js';
import {
  MAX_OUTSTANDING_CALLS,
  Monitor,
  QmpError,
  type MonitorEvents,
} from '../../../../control/vmm/qmp/loop.js';

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}\r\n';

interface Command {
  execute?: string;
  'exec-oob'?: string;
  arguments?: unknown;
  id: number;
}

class FakeQemu {
  readonly path: string;
  readonly commands: Command[] = [];
  /** Names of commands that are not answered until `release`. */
  readonly held = new Set<string>();
  greeting = GREETING;
  socket: Socket | undefined;
  #server: Server;
  #directory: string;

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'weft-qmp-'));
    this.path = join(this.#directory, 'qmp.sock');
    this.#server = createServer(socket => {
      this.socket = socket;
      socket.on('error', () => {});
      socket.write(this.greeting);
      let text = '';
      socket.on('data', chunk => {
        text += chunk.toString();
        const lines = text.split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) this.#take(JSON.parse(line) as Command);
      });
    });
  }

  static async open(t: Test, greeting = GREETING): Promise<FakeQemu> {
    const fake = new FakeQemu();
    fake.greeting = greeting;
    await new Promise<void>(resolve => {
      fake.#server.listen(fake.path, resolve);
    });
    t.teardown(() => {
      fake.socket?.destroy();
      fake.#server.close();
      rmSync(fake.#directory, { recursive: true });
    });
    return fake;
  }

  #take(command: Command): void {
    this.commands.push(command);
    const name = command.execute ?? command['exec-oob'] ?? '';
    if (this.held.has(name)) return;
    this.answer(command);
  }

  answer(command: Command): void {
    const name = command.execute ?? command['exec-oob'] ?? '';
    const reply =
      name === 'no' ? { error: { class: 'GenericError', desc: 'no such thing' } } : { return: { name } };
    this.socket?.write(`${JSON.stringify({ ...reply, id: command.id })}\r\n`);
  }
}

function listener(): MonitorEvents & { events: string[]; closed: number; late: number } {
  const seen = {
    events: [] as string[],
    closed: 0,
    late: 0,
    onEvent: (event: string) => void seen.events.push(event),
    onClose: () => void (seen.closed += 1),
    onLate: () => void (seen.late += 1),
  };
  return seen;
}

/** Until the fake's bytes have been taken. */
async function until(what: () => boolean): Promise<void> {
  for (let turn = 0; turn < 500 && !what(); turn++) await new Promise(resolve => setTimeout(resolve, 5));
}

await t.test('greets, agrees, asks, hears', async t => {
  const fake = await FakeQemu.open(t, `${GREETING}{"event": "EARLY"}\r\n`);
  const seen = listener();
  const monitor = await Monitor.connect(fake.path, seen);
  t.equal(monitor.version, '7.2.0');
  t.notOk(monitor.oob, 'out of band only when it is asked for');
  t.same(fake.commands[0], { execute: 'qmp_capabilities', arguments: {}, id: 1 });
  t.same(await monitor.call('query-status'), { name: 'query-status' });
  await t.rejects(monitor.call('no'), { code: 'QMP_REFUSED', message: 'no: no such thing' });
  fake.socket?.write('{"event": "STOP"}\r\n{"event": "RESUME"}\r\n');
  await until(() => seen.events.length === 3);
  t.same(seen.events, ['EARLY', 'STOP', 'RESUME'], 'also what came together with the greeting');
  monitor.close();
  t.equal(seen.closed, 1);
  await t.rejects(monitor.call('query-status'), { code: 'QMP_CLOSED' });
});

await t.test('out of band is agreed on first, and used', async t => {
  const fake = await FakeQemu.open(t);
  const monitor = await Monitor.connect(fake.path, listener(), { oob: true });
  t.ok(monitor.oob);
  t.same(fake.commands[0], { execute: 'qmp_capabilities', arguments: { enable: ['oob'] }, id: 1 });
  await monitor.call('query-yank', undefined, { oob: true });
  t.same(fake.commands[1], { 'exec-oob': 'query-yank', id: 2 });
  monitor.close();
});

await t.test('a QEMU without out of band is asked in the ordinary way', async t => {
  const fake = await FakeQemu.open(t, GREETING.replace('"oob"', ''));
  const monitor = await Monitor.connect(fake.path, listener(), { oob: true });
  t.notOk(monitor.oob);
  await monitor.call('query-yank', undefined, { oob: true });
  t.same(fake.commands[1], { execute: 'query-yank', id: 2 });
  monitor.close();
});

await t.test('a call that is not answered is given up, its late answer is noticed', async t => {
  const fake = await FakeQemu.open(t);
  const seen = listener();
  const monitor = await Monitor.connect(fake.path, seen);
  fake.held.add('stop');
  await t.rejects(monitor.call('stop', undefined, { deadline_ms: 30 }), { code: 'QMP_DEADLINE' });
  t.equal(monitor.lateCount, 1);
  t.same(await monitor.call('query-status'), { name: 'query-status' }, 'others go on');
  fake.answer(fake.commands[1]!);
  await until(() => seen.late > 0);
  t.equal(seen.late, 1);
  t.equal(monitor.lateCount, 0);
  monitor.close();
});

await t.test('calls without an answer are bounded', async t => {
  const fake = await FakeQemu.open(t);
  const monitor = await Monitor.connect(fake.path, listener());
  fake.held.add('stop');
  const calls = Array.from({ length: MAX_OUTSTANDING_CALLS }, () =>
    monitor.call('stop', undefined, { deadline_ms: 20 }).catch((error: unknown) => error),
  );
  await t.rejects(monitor.call('stop'), { code: 'QMP_BUSY' });
  for (const error of await Promise.all(calls)) t.match(error, { code: 'QMP_DEADLINE' });
  await t.rejects(monitor.call('stop'), { code: 'QMP_BUSY' }, 'given up is not answered');
  monitor.close();
});

await t.test('the end of QEMU ends all calls at once', async t => {
  const fake = await FakeQemu.open(t);
  const seen = listener();
  const monitor = await Monitor.connect(fake.path, seen);
  fake.held.add('quit');
  const call = monitor.call('quit');
  await until(() => fake.commands.length === 2);
  fake.socket?.destroy();
  await t.rejects(call, { code: 'QMP_CLOSED' });
  t.equal(seen.closed, 1);
});

await t.test('what is not QMP is not listened to', async t => {
  const events = listener();
  const silent = await FakeQemu.open(t, '');
  await t.rejects(
    Monitor.connect(silent.path, events, { deadline_ms: 50 }),
    { code: 'QMP_CONNECT', message: /did not greet within 50 ms; is another client connected/ },
    'as when another client holds the monitor',
  );
  const other = await FakeQemu.open(t, 'SSH-2.0-x\r\n');
  await t.rejects(Monitor.connect(other.path, events), {
    code: 'QMP_CONNECT',
    message: /does not speak QMP/,
  });
  await t.rejects(Monitor.connect(`${other.path}.not`, events), { code: 'QMP_CONNECT', message: /ENOENT/ });
  t.equal(events.closed, 0, 'what never was does not end');
});

await t.test('lines that mean nothing are counted, one without end ends the connection', async t => {
  const fake = await FakeQemu.open(t);
  const seen = listener();
  const monitor = await Monitor.connect(fake.path, seen);
  fake.socket?.write('garbage\r\n{"return": {}, "id": 999}\r\n{"return": {}}\r\n');
  t.same(await monitor.call('query-status'), { name: 'query-status' });
  t.equal(monitor.counters.invalidLines, 2);
  fake.held.add('stop');
  const call = monitor.call('stop').catch((error: unknown) => error);
  fake.socket?.write(Buffer.alloc(MAX_LINE_BYTES + 1, 0x20));
  const error = await call;
  t.ok(error instanceof QmpError && error.code === 'QMP_CLOSED');
  t.ok(monitor.closed);
});
