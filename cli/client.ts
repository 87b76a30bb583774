/**
 * HTTP to weftd, over its Unix socket or TCP. Every call has a deadline: for a reply as a whole, for a
 * stream until its head has come. Replies are checked against the contract, so that a wrong one is named
 * here and does not surface later as `undefined`.
 */
import { request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { ErrorReply } from '../control/api/contract.js';
import { ApiError, CliError, NotRunningError, TimeoutError } from './errors.js';
import { SseParser, type SseMessage } from './sse.js';

export type Where =
  | { kind: 'unix'; socketPath: string; stateDirectory: string }
  | { kind: 'tcp'; host: string; port: number; token: string | null };

export interface CallOptions {
  query?: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
  body?: unknown;
  deadline_ms?: number;
  signal?: AbortSignal | undefined;
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

const DEADLINE_MS = 30_000;
const MAX_REPLY_BYTES = 128 * 1024 * 1024;

export class Client {
  readonly where: Where;

  constructor(where: Where) {
    this.where = where;
  }

  /** How a person would name the place. */
  get address(): string {
    return this.where.kind === 'unix'
      ? this.where.socketPath
      : `http://${this.where.host}:${this.where.port}`;
  }

  /** One question, one JSON answer. */
  async call<S extends z.ZodType>(
    method: Method,
    path: string,
    schema: S,
    options: CallOptions = {},
  ): Promise<z.infer<S>> {
    const deadline_ms = options.deadline_ms ?? DEADLINE_MS;
    const timer = new AbortController();
    const timeout = setTimeout(() => timer.abort(), deadline_ms);
    try {
      const response = await this.#send(method, path, options, timer.signal);
      const text = await readAll(response);
      let json: unknown;
      try {
        json = JSON.parse(text);
      } catch {
        throw new CliError('BAD_REPLY', `weftd answered ${method} ${path} with something that is not JSON`, {
          hint: 'Does something else listen there? See --state and --url.',
        });
      }
      const checked = schema.safeParse(json);
      if (!checked.success) {
        throw new CliError(
          'BAD_REPLY',
          `weftd answered ${method} ${path} in a form that this weft does not know: ${z.prettifyError(checked.error)}`,
          {
            hint: 'weft and weftd may be of different versions; "weft version" shows both.',
          },
        );
      }
      return checked.data;
    } catch (error) {
      if (timer.signal.aborted && !(error instanceof CliError)) {
        throw new TimeoutError(`weftd (${method} ${path})`, deadline_ms);
      }
      throw error;
    } finally {
      clearTimeout(timeout);
    }
  }

  /** One question, a stream of bytes as answer. The deadline is for its head. */
  async stream(method: Method, path: string, options: CallOptions = {}): Promise<IncomingMessage> {
    const deadline_ms = options.deadline_ms ?? DEADLINE_MS;
    const timer = new AbortController();
    const timeout = setTimeout(() => timer.abort(), deadline_ms);
    try {
      return await this.#send(method, path, options, timer.signal);
    } catch (error) {
      if (timer.signal.aborted && !(error instanceof CliError)) {
        throw new TimeoutError(`weftd (${method} ${path})`, deadline_ms);
      }
      throw error;
    } finally {
      clearTimeout(timeout);
    }
  }

  /** Server-Sent Events until the stream ends or `signal` aborts. */
  async *events(method: Method, path: string, options: CallOptions = {}): AsyncGenerator<SseMessage> {
    const response = await this.stream(method, path, options);
    response.setEncoding('utf8');
    const parser = new SseParser();
    try {
      for await (const piece of response) yield* parser.push(String(piece));
    } catch (error) {
      if (options.signal?.aborted === true) return;
      // The end of the process at the other side looks like this; the caller decides what it means.
      if (errorCode(error) === 'ECONNRESET') return;
      throw error;
    } finally {
      response.destroy();
    }
  }

  /** A connection that leaves HTTP for a protocol of its own; `head` is what came with the answer. */
  upgrade(
    path: string,
    protocol: string,
    deadline_ms = DEADLINE_MS,
  ): Promise<{ socket: Socket; head: Buffer }> {
    return new Promise((resolve, reject) => {
      const outgoing = request({
        ...this.#target(),
        method: 'GET',
        path,
        headers: { ...this.#headers(), connection: 'Upgrade', upgrade: protocol },
      });
      const timeout = setTimeout(() => {
        reject(new TimeoutError(`weftd (${path})`, deadline_ms));
        outgoing.destroy();
      }, deadline_ms);
      outgoing.on('error', error => {
        clearTimeout(timeout);
        reject(this.#explain(error));
      });
      outgoing.on('response', response => {
        clearTimeout(timeout);
        failure(response).then(reject, reject);
      });
      outgoing.on('upgrade', (_response, socket, head) => {
        clearTimeout(timeout);
        resolve({ socket: socket as Socket, head });
      });
      outgoing.end();
    });
  }

  #send(method: Method, path: string, options: CallOptions, timer: AbortSignal): Promise<IncomingMessage> {
    const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
    return new Promise((resolve, reject) => {
      const outgoing = request({
        ...this.#target(),
        method,
        path: path + queryString(options.query),
        headers: {
          ...this.#headers(),
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': body.length }),
        },
        // One call per command, mostly: a pooled connection would only hold the process open.
        agent: false,
      });
      const stop = () => outgoing.destroy(new Error('aborted'));
      timer.addEventListener('abort', stop, { once: true });
      options.signal?.addEventListener('abort', stop, { once: true });
      if (timer.aborted || options.signal?.aborted === true) stop();
      outgoing.on('error', error => reject(this.#explain(error)));
      outgoing.on('response', response => {
        response.on('close', () => {
          timer.removeEventListener('abort', stop);
          options.signal?.removeEventListener('abort', stop);
        });
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve(response);
        else failure(response).then(reject, reject);
      });
      outgoing.end(body);
    });
  }

  #target(): { socketPath: string } | { host: string; port: number } {
    return this.where.kind === 'unix'
      ? { socketPath: this.where.socketPath }
      : { host: this.where.host, port: this.where.port };
  }

  #headers(): Record<string, string> {
    const token = this.where.kind === 'tcp' ? this.where.token : null;
    return { host: 'weftd', ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
  }

  #explain(error: Error): Error {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED') {
      return new NotRunningError(this.address, this.where.kind === 'unix' ? this.where.stateDirectory : null);
    }
    if (code === 'EACCES') {
      return new CliError('NOT_PERMITTED', `no permission to talk to weftd at ${this.address}`, {
        hint: 'It belongs to another user: use sudo, or your own state directory with --state DIR.',
        cause: error,
      });
    }
    return code === 'ECONNRESET' || code === 'EPIPE' || code === 'ENOTFOUND' || code === 'EHOSTUNREACH'
      ? new CliError('CONNECTION', `the connection to weftd at ${this.address} failed: ${error.message}`, {
          hint: 'Try again; "weft status" says whether weftd runs.',
          cause: error,
        })
      : error;
  }
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

function queryString(query: CallOptions['query']): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (Array.isArray(value)) for (const one of value) pairs.append(name, String(one));
    else if (value !== undefined) pairs.append(name, String(value));
  }
  const text = pairs.toString();
  return text === '' ? '' : `?${text}`;
}

async function readAll(response: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let size_bytes = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    size_bytes += piece.length;
    if (size_bytes > MAX_REPLY_BYTES) {
      response.destroy();
      throw new CliError('BAD_REPLY', `weftd's reply is longer than ${MAX_REPLY_BYTES} bytes`);
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

async function failure(response: IncomingMessage): Promise<Error> {
  const status = response.statusCode ?? 0;
  const text = await readAll(response);
  try {
    const { error } = ErrorReply.parse(JSON.parse(text));
    return new ApiError(status, error.code, error.message, error.problems);
  } catch {
    return new ApiError(
      status,
      `HTTP_${status}`,
      `weftd answered ${status}: ${text.slice(0, 500).trim() || 'nothing more'}`,
    );
  }
}
