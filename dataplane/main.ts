/**
 * weft-dataplane: `node dist/dataplane/main.js --socket PATH`.
 *
 * Serves its API on the socket (mode 0600; a file left behind is replaced, one that is served is refused), logs
 * JSON lines to stderr, ends with 0 on SIGTERM or SIGINT, and goes on whatever happens to the peers of its
 * ports, to weftd, or to the terminal that it was started from.
 *
 * Every guest waits while this starts: the engine's thread is started first, and loads what it needs on one core
 * while this thread loads the rest (the schemas, mostly) on another.
 */
import { readFileSync, rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { HostError } from '../host/errno.js';
import { listenUnix } from '../host/unix.js';
import type { Notice } from './engine/messages.js';
import { Engine } from './engine/process.js';
import type { ShortcutAsk } from './ports/kernel/messages.js';
import { Shortcuts } from './ports/kernel/shortcuts.js';

const startedAt_ms = Date.now();

function socketPath(): string {
  try {
    const { values } = parseArgs({ options: { socket: { type: 'string' } } });
    if (values.socket !== undefined && values.socket !== '') return values.socket;
    throw new Error('--socket PATH is missing');
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.stderr.write('usage: node dist/dataplane/main.js --socket PATH\n');
    process.exit(2);
  }
}

function version(): string {
  // From dist/dataplane/.
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Before there is a logger: one line, as the logger would write it. */
function fatal(error: unknown, message: string): never {
  const told =
    error instanceof Error ? { message: error.message, stack: error.stack } : { message: String(error) };
  process.stderr.write(
    `${JSON.stringify({ level: 60, time: Date.now(), name: 'dataplane', err: told, msg: message })}\n`,
  );
  process.exit(1);
}

async function main(): Promise<void> {
  const path = socketPath();
  let listenFd: number;
  try {
    listenFd = listenUnix(path, { mode: 0o600, replaceStale: true });
  } catch (error) {
    fatal(
      error,
      error instanceof HostError ? `cannot serve at ${path}: ${error.message}` : `cannot serve at ${path}`,
    );
  }
  let onNotice: (notice: Notice) => void = () => {};
  const starting = Engine.start(
    notice => onNotice(notice),
    error => fatal(error, 'the engine has ended'),
  );
  const [{ pino }, { Plane }] = await Promise.all([import('pino'), import('./server.js')]);
  const stderr = pino.destination({ dest: 2, sync: true });
  // Whoever read the log may have gone; frames go on.
  stderr.on('error', () => {});
  const log = pino({ base: null, name: 'dataplane' }, stderr);

  const engine = await starting;
  const plane = new Plane({ socketPath: path, version: version(), startedAt_ms, log }, engine);
  const shortcuts = new Shortcuts(message => log.warn(message));
  const asks: ShortcutAsk[] = [];
  const answerOne = (): void => {
    const ask = asks.shift();
    const reply = ask === undefined ? null : shortcuts.take(ask);
    // Refused only when the engine is about to end.
    if (reply !== null) engine.ask({ op: 'shortcut', reply }).catch(() => {});
    if (asks.length > 0) setImmediate(answerOne);
  };
  onNotice = notice => {
    if (notice.type !== 'shortcut') return plane.notice(notice);
    // One at a time, with whoever asks over HTTP in between: each may wait for the kernel for some 50 ms.
    if (asks.push(notice.ask) === 1) setImmediate(answerOne);
  };
  await plane.listen(listenFd);
  log.info({ path, pid: process.pid, afterStart_ms: Math.round(performance.now()) }, 'serving');
  shortcuts.removeLeftovers();

  const stop = (signal: string): void => {
    log.info({ signal }, 'stopping');
    rmSync(path, { force: true });
    plane.stop().then(
      () => {
        shortcuts.close();
        process.exit(0);
      },
      (error: unknown) => fatal(error, 'stopping failed'),
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  process.on('SIGHUP', () => {});
}

process.on('uncaughtException', error => fatal(error, 'uncaught exception'));
await main();
