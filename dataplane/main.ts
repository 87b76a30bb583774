/**
 * weft-dataplane: `node dist/dataplane/main.js --socket PATH`.
 *
 * Serves its API on the socket (mode 0600; a file left behind is replaced, one that is served is refused), logs
 * JSON lines to stderr, ends with 0 on SIGTERM or SIGINT, and goes on whatever happens to the peers of its
 * ports, to weftd, or to the terminal that it was started from.
 */
import { readFileSync, rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { HostError } from '../host/errno.js';
import { listenUnix } from '../host/unix.js';
import { Plane } from './server.js';

const startedAt_ms = Date.now();
const stderr = pino.destination({ dest: 2, sync: true });
// Whoever read the log may have gone; frames go on.
stderr.on('error', () => {});
const log = pino({ base: null, name: 'dataplane' }, stderr);

function fatal(error: unknown, message: string): never {
  log.fatal({ err: error }, message);
  process.exit(1);
}

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
  const plane = await Plane.start(
    {
      socketPath: path,
      version: version(),
      startedAt_ms,
      log,
      onEngineEnd: error => fatal(error, 'the engine has ended'),
    },
    listenFd,
  );
  log.info({ path, pid: process.pid, afterStart_ms: Date.now() - startedAt_ms }, 'serving');

  const stop = (signal: string): void => {
    log.info({ signal }, 'stopping');
    rmSync(path, { force: true });
    plane.stop().then(
      () => process.exit(0),
      (error: unknown) => fatal(error, 'stopping failed'),
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  process.on('SIGHUP', () => {});
}

process.on('uncaughtException', error => fatal(error, 'uncaught exception'));
await main();
