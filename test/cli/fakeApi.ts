/**
 * A weftd of straw: serves the contract's paths on a Unix socket in a state directory of its own, remembers what it
 * was asked, and answers what the test put in. `runCli` runs the command in this process against it.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import type { Duplex } from 'node:stream';
import type { Plan, Resource, WeftEvent } from '../../control/api/contract.js';
import { run } from '../../cli/main.js';

export interface Asked {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  body: unknown;
}

type Answer = unknown;
export type Handler = (asked: Asked, response: ServerResponse) => Answer;

export class FakeApi {
  readonly state = mkdtempSync(join(tmpdir(), 'weft-cli-'));
  readonly asked: Asked[] = [];
  readonly handlers = new Map<string, Handler>();
  resources: Resource[] = [];
  events: WeftEvent[] = [];
  plan: Plan = { revision: 1, problems: [], actions: [] };
  onUpgrade: ((socket: Duplex, path: string) => void) | undefined;
  readonly server: Server;
  readonly #upgraded = new Set<Duplex>();

  constructor() {
    mkdirSync(join(this.state, 'run'));
    this.server = createServer((request, response) => void this.#serve(request, response));
    this.server.on('upgrade', (request, socket) => {
      this.#upgraded.add(socket);
      // The command may leave while we write.
      socket.on('error', () => undefined);
      if (this.onUpgrade === undefined) return socket.destroy();
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: weft-console\r\n\r\n',
      );
      this.onUpgrade(socket, request.url ?? '');
    });
  }

  get socketPath(): string {
    return join(this.state, 'run', 'weftd.sock');
  }

  listen(): Promise<this> {
    return new Promise(resolve => this.server.listen(this.socketPath, () => resolve(this)));
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    for (const socket of this.#upgraded) socket.destroy();
    await new Promise(resolve => this.server.close(resolve));
    rmSync(this.state, { recursive: true, force: true });
  }

  /** `on('GET /v1/status', …)`; `:name` stands for one part of the path. */
  on(route: string, handler: Handler): this {
    this.handlers.set(route, handler);
    return this;
  }

  requests(route: string): Asked[] {
    return this.asked.filter(({ method, path }) => matches(route, method, path));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://weftd');
    const pieces: Buffer[] = [];
    for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
    const text = Buffer.concat(pieces).toString();
    const asked: Asked = {
      method: request.method ?? '',
      path: decodeURIComponent(url.pathname),
      query: url.searchParams,
      headers: request.headers,
      body: text === '' ? undefined : JSON.parse(text),
    };
    this.asked.push(asked);
    const route = [...this.handlers.keys()].find(key => matches(key, asked.method, asked.path));
    const answer: Answer =
      route === undefined ? this.#builtIn(asked) : await this.handlers.get(route)?.(asked, response);
    if (response.headersSent || answer === STREAMING) return;
    if (answer === undefined)
      return sendError(response, 404, 'NOT_FOUND', `no ${asked.method} ${asked.path}`);
    if (answer instanceof Refusal)
      return sendError(response, answer.status, answer.code, answer.message, answer.problems);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(answer));
  }

  #builtIn({ method, path, query }: Asked): Answer {
    const key = `${method} ${path}`;
    if (key === 'GET /healthz') return { ok: true };
    if (key === 'POST /v1/plan' || key === 'POST /v1/apply') return this.plan;
    if (key === 'GET /v1/events' && query.get('follow') === 'false') return { events: this.events };
    const kind = query.get('kind');
    const name = query.get('name');
    if (key === 'GET /v1/resources') {
      return {
        resources: this.resources.filter(
          one => (kind === null || one.kind === kind) && (name === null || one.name === name),
        ),
      };
    }
    const parts = path.split('/');
    if (method === 'GET' && path.startsWith('/v1/resources/')) {
      const found = this.resources.find(one => one.kind === parts[3] && one.name === parts[4]);
      return found ?? new Refusal(404, 'NOT_FOUND', `no ${parts[3]} named "${parts[4]}"`);
    }
    return undefined;
  }
}

/** A handler that writes the response itself returns this. */
export const STREAMING = Symbol('streaming');

export class Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly problems: unknown;

  constructor(status: number, code: string, message: string, problems?: unknown) {
    this.status = status;
    this.code = code;
    this.message = message;
    this.problems = problems;
  }
}

function sendError(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
  problems?: unknown,
): void {
  response.statusCode = status;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ error: { code, message, ...(problems === undefined ? {} : { problems }) } }));
}

function matches(route: string, method: string, path: string): boolean {
  const [wantedMethod = '', wantedPath = ''] = route.split(' ');
  const wanted = wantedPath.split('/');
  const parts = path.split('/');
  return (
    wantedMethod === method &&
    wanted.length === parts.length &&
    wanted.every((part, index) => part.startsWith(':') || part === parts[index])
  );
}

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Invocation {
  state?: string;
  env?: Record<string, string>;
  /** Whether standard input, output and error are terminals. */
  tty?: { stdin?: boolean; stdout?: boolean; stderr?: boolean };
  input?: string | Buffer;
  cwd?: string;
  uid?: number;
  /** Called with each piece of standard output or error, and a way to send a signal. */
  onOutput?: (text: string, tools: { signal: () => void; stdin: PassThrough }) => void;
  columns?: number;
}

export async function runCli(args: readonly string[], options: Invocation = {}): Promise<Outcome> {
  const stdin: PassThrough & { isTTY?: boolean; setRawMode?: (raw: boolean) => void } = new PassThrough();
  const listeners = new Set<(signal: string) => void>();
  const signal = () => {
    for (const listener of listeners) listener('SIGINT');
  };
  let stdoutText = '';
  let stderrText = '';
  const sink = (take: (text: string) => void) =>
    Object.assign(
      new Writable({
        write(bytes: Buffer, _encoding, done) {
          const text = bytes.toString('latin1');
          take(text);
          options.onOutput?.(text, { signal, stdin });
          done();
        },
      }),
      { columns: options.columns ?? 120, rows: 40 },
    );
  const stdout: ReturnType<typeof sink> & { isTTY?: boolean } = sink(text => (stdoutText += text));
  const stderr: ReturnType<typeof sink> & { isTTY?: boolean } = sink(text => (stderrText += text));
  if (options.tty?.stdin === true) {
    stdin.isTTY = true;
    stdin.setRawMode = raw => {
      stderrText += raw ? '<raw>' : '<cooked>';
    };
  }
  if (options.tty?.stdout === true) stdout.isTTY = true;
  if (options.tty?.stderr === true) stderr.isTTY = true;
  if (options.input !== undefined) stdin.end(options.input);
  const code = await run(options.state === undefined ? args : ['--state', options.state, ...args], {
    stdin,
    stdout,
    stderr,
    env: { LANG: 'C.UTF-8', ...options.env },
    cwd: options.cwd ?? process.cwd(),
    uid: options.uid ?? 1000,
    home: '/home/nobody',
    onSignal(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  });
  const utf8 = (text: string) => Buffer.from(text, 'latin1').toString('utf8');
  return { code, stdout: utf8(stdoutText), stderr: utf8(stderrText) };
}

const LONG_AGO = '2026-01-02T03:04:05.000Z';

/** A resource that is as asked for, unless said otherwise. */
export function resource(
  kind: Resource['kind'],
  name: string,
  extra: Partial<Resource> & {
    observed?: Resource['status']['observed'];
    ready?: 'True' | 'False';
    reason?: string;
    message?: string;
  } = {},
): Resource {
  const { observed, ready, reason, message, ...rest } = extra;
  return {
    kind,
    name,
    generation: 1,
    spec: {},
    deleting: false,
    status: {
      observedGeneration: 1,
      lastError: null,
      observed: observed ?? {},
      conditions: [
        {
          type: 'Ready',
          status: ready ?? 'True',
          reason: reason ?? 'AsConfigured',
          message: message ?? '',
          lastTransitionTime: LONG_AGO,
        },
      ],
    },
    ...rest,
  };
}

export function event(seq: number, extra: Partial<WeftEvent> = {}): WeftEvent {
  return {
    seq,
    at: LONG_AGO,
    level: 'info',
    kind: 'machine',
    name: 'alice',
    reason: 'Started',
    message: `event ${seq}`,
    ...extra,
  };
}
