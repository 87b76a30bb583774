/**
 * weft-storage: `node main.js --socket PATH`. Serves contract.ts as HTTP on the Unix socket, and what it is told to
 * export by NBD. Logs JSON lines to stderr. Ends with 0 on SIGTERM or SIGINT, after what is in flight was answered and
 * all volumes were flushed; it does not end because anyone went away.
 */
import * as fs from 'node:fs';
import * as http from 'node:http';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { HostError } from '../host/errno.js';
import { listenUnix } from '../host/unix.js';
import { answer, failure, type Reply } from './api.js';
import type { Health, StorageEvent } from './contract.js';
import { StorageServer } from './server.js';

/** A configuration of 20,000 exports has about 10 MB. */
const BODY_LIMIT_BYTES = 64 * 1024 * 1024;
const EVENT_CLIENTS_LIMIT = 64;
/** An event client that reads nothing is dropped when so much waits for it. */
const EVENT_BACKLOG_LIMIT_BYTES = 1024 * 1024;
/** Keeps a silent stream from looking dead. */
const EVENT_COMMENT_MS = 15_000;

const destination = pino.destination({ fd: 2, sync: true });
// Who read our log is gone; that is no reason to stop serving disks.
destination.on('error', () => undefined);
const log = pino({ name: 'weft-storage' }, destination);

function usage(message: string): never {
  process.stderr.write(`weft-storage: ${message}\nusage: weft-storage --socket PATH [--no-io-uring]\n`);
  process.exit(2);
}

function readArguments(): { socket: string; ioUring: boolean } {
  try {
    const { values } = parseArgs({
      options: { socket: { type: 'string' }, 'no-io-uring': { type: 'boolean', default: false } },
    });
    return { socket: values.socket ?? usage('--socket is missing'), ioUring: !values['no-io-uring'] };
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

class EventClients {
  #clients = new Set<http.ServerResponse>();

  add(response: http.ServerResponse): void {
    if (this.#clients.size >= EVENT_CLIENTS_LIMIT)
      return send(
        response,
        failure(503, 'TOO_MANY_CLIENTS', `${EVENT_CLIENTS_LIMIT} clients read events already`),
      );
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(': weft-storage\n\n');
    this.#clients.add(response);
    response.on('close', () => this.#clients.delete(response));
  }

  send(event: StorageEvent): void {
    this.#write(`data: ${JSON.stringify(event)}\n\n`);
  }

  comment(): void {
    this.#write(':\n\n');
  }

  end(): void {
    for (const client of this.#clients) client.end();
  }

  #write(text: string): void {
    for (const client of this.#clients) {
      if (client.writableLength > EVENT_BACKLOG_LIMIT_BYTES) client.destroy();
      else client.write(text);
    }
  }
}

function send(response: http.ServerResponse, { status, body }: Reply): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

/** The body, or null when it is too long. */
async function readBody(request: http.IncomingMessage): Promise<string | null> {
  const parts: Buffer[] = [];
  let length_bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length_bytes += part.length;
    if (length_bytes > BODY_LIMIT_BYTES) return null;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

async function main(): Promise<void> {
  const { socket, ioUring } = readArguments();
  const startedAt_ms = Date.now();
  const packageFile = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(fs.readFileSync(packageFile, 'utf8')) as { version: string };

  // First the socket: a second process must fail before it touches anything.
  let fd: number;
  try {
    fd = listenUnix(socket, { mode: 0o600, replaceStale: true });
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    log.fatal({ code: error.code }, `cannot serve on ${socket}: ${error.message}`);
    process.exitCode = 1;
    return;
  }
  const inode = fs.lstatSync(socket).ino;

  const events = new EventClients();
  const storage = new StorageServer({
    now_ms: Date.now,
    onEvent: event => events.send(event),
    log: (message, details) => log.info(details, message),
    threadGone: error => {
      log.fatal({ err: error }, 'the data thread is gone');
      process.exit(1);
    },
    ioUring,
  });
  await storage.ready();

  const health = (): Health => ({
    name: 'weft-storage',
    version,
    pid: process.pid,
    startedAt_ms,
    generation: storage.generation,
  });
  const serve = async (request: http.IncomingMessage, response: http.ServerResponse): Promise<void> => {
    const { pathname } = new URL(request.url ?? '/', 'http://storage');
    if (pathname === '/events' && request.method === 'GET') return events.add(response);
    const body = await readBody(request);
    if (body === null)
      return send(response, failure(413, 'TOO_LARGE', `more than ${BODY_LIMIT_BYTES} bytes`));
    send(response, await answer(storage, health, request.method ?? 'GET', request.url ?? '/', body));
  };
  const server = http.createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      log.error({ err: error, method: request.method, url: request.url }, 'request failed');
      if (response.headersSent) response.destroy();
      else send(response, failure(500, 'INTERNAL', 'see the log of weft-storage'));
    });
  });
  // Our clients keep their connections; one that is closed for idleness may meet a request on its way.
  server.keepAliveTimeout = 0;
  server.listen({ fd });
  const commenting = setInterval(() => events.comment(), EVENT_COMMENT_MS);
  log.info({ socket, pid: process.pid, version, ioUring: storage.ioUring }, 'serving');

  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'stopping');
    clearInterval(commenting);
    events.end();
    server.close();
    storage.stop().then(
      () => {
        if (fs.lstatSync(socket, { throwIfNoEntry: false })?.ino === inode)
          fs.rmSync(socket, { force: true });
        log.info('stopped');
        process.exit(0);
      },
      (error: unknown) => {
        log.fatal({ err: error }, 'stopping failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  process.on('SIGHUP', () => undefined);
}

await main();
