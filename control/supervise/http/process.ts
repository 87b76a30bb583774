/**
 * HTTP + JSON with a plane over its Unix socket. Every call has a deadline and every reply a largest size, so
 * that a stuck plane holds up nobody but itself. A connection per call: it costs a fraction of a millisecond,
 * and there is no stale one to stumble over after the plane was restarted.
 */
import * as http from 'node:http';
import type { z } from 'zod';
import { PlaneError } from '../errors.js';
import { SseReader } from '../sse.js';

export const DEADLINE_MS = 5_000;
/** The status of a plane with 20,000 exports fits. */
export const REPLY_MAX_BYTES = 64 * 2 ** 20;

export interface Call<T> {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  path: string;
  body?: unknown;
  reply: z.ZodType<T>;
  deadline_ms?: number;
}

export class PlaneClient {
  readonly #name: string;
  readonly #socketPath: string;

  constructor(name: string, socketPath: string) {
    this.#name = name;
    this.#socketPath = socketPath;
  }

  async call<T>({ method, path, body, reply, deadline_ms = DEADLINE_MS }: Call<T>): Promise<T> {
    const signal = AbortSignal.timeout(deadline_ms);
    const response = await this.#request(method, path, body, signal, deadline_ms);
    const text = await this.#text(response, signal, deadline_ms);
    const json = this.#json(text, path);
    const parsed = reply.safeParse(json);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    throw new PlaneError(
      'PLANE_REPLY',
      `${this.#name} answered ${method} ${path} with what the contract does not know, at ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`,
    );
  }

  /** A reply that is passed on as it comes. The deadline is for its beginning; `signal` ends it. */
  async stream(
    method: 'GET',
    path: string,
    signal: AbortSignal,
    deadline_ms = DEADLINE_MS,
  ): Promise<http.IncomingMessage> {
    const begin = AbortSignal.timeout(deadline_ms);
    const started = new AbortController();
    const abort = (): void => started.abort();
    signal.addEventListener('abort', abort, { once: true });
    begin.addEventListener('abort', abort, { once: true });
    const response = await this.#request(method, path, undefined, started.signal, deadline_ms);
    // From here on only the caller ends it.
    begin.removeEventListener('abort', abort);
    response.once('close', () => signal.removeEventListener('abort', abort));
    return response;
  }

  /** Reads the plane's events until the stream ends, which means that the plane is gone. Resolves then. */
  async events<T>(
    event: z.ZodType<T>,
    onOpen: () => void,
    onEvent: (event: T) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const response = await this.stream('GET', '/events', signal);
    onOpen();
    const reader = new SseReader();
    response.setEncoding('utf8');
    try {
      for await (const piece of response)
        for (const payload of reader.push(piece as string)) {
          const parsed = event.safeParse(this.#json(payload, '/events'));
          // An event that we do not know is one of a newer plane: no reason to lose the stream.
          if (parsed.success) onEvent(parsed.data);
        }
    } catch (error) {
      if (error instanceof PlaneError || error instanceof RangeError) throw error;
      // ECONNRESET and its like: the end, as good as any.
    } finally {
      response.destroy();
    }
  }

  #request(
    method: string,
    path: string,
    body: unknown,
    signal: AbortSignal,
    deadline_ms: number,
  ): Promise<http.IncomingMessage> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const request = http.request({
        socketPath: this.#socketPath,
        method,
        path,
        agent: false,
        signal,
        headers: {
          host: 'localhost',
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': payload.length }),
        },
      });
      request.on('error', error => reject(this.#failed(error, method, path, deadline_ms)));
      request.on('response', response => {
        const status = response.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve(response);
        else
          this.#text(response, signal, deadline_ms).then(
            text => reject(this.#refused(status, text, method, path)),
            reject,
          );
      });
      request.end(payload);
    });
  }

  async #text(response: http.IncomingMessage, signal: AbortSignal, deadline_ms: number): Promise<string> {
    const pieces: Buffer[] = [];
    let size_bytes = 0;
    try {
      for await (const piece of response) {
        size_bytes += (piece as Buffer).length;
        if (size_bytes > REPLY_MAX_BYTES)
          throw new PlaneError('PLANE_REPLY', `${this.#name} answered more than ${REPLY_MAX_BYTES} bytes`);
        pieces.push(piece as Buffer);
      }
    } catch (error) {
      if (error instanceof PlaneError) throw error;
      if (signal.aborted)
        throw new PlaneError('PLANE_TIMEOUT', `${this.#name}: no end of its answer within ${deadline_ms} ms`);
      throw this.#failed(error, 'broke off its answer:', '', deadline_ms);
    }
    return Buffer.concat(pieces).toString('utf8');
  }

  #json(text: string, path: string): unknown {
    try {
      return JSON.parse(text) as unknown;
    } catch (cause) {
      throw new PlaneError('PLANE_REPLY', `${this.#name} answered ${path} with what is not JSON`, { cause });
    }
  }

  #refused(status: number, text: string, method: string, path: string): PlaneError {
    let code = 'UNKNOWN';
    let message = text.slice(0, 500);
    try {
      const reply = JSON.parse(text) as { error?: { code?: unknown; message?: unknown } };
      if (typeof reply.error?.code === 'string') code = reply.error.code;
      if (typeof reply.error?.message === 'string') message = reply.error.message;
    } catch {
      // Not an ErrorReply: its text must do.
    }
    return new PlaneError('PLANE_REFUSED', message || `${this.#name} refused ${method} ${path} (${status})`, {
      status,
      planeCode: code,
    });
  }

  #failed(error: unknown, method: string, path: string, deadline_ms: number): PlaneError {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    const what = `${this.#name} ${method} ${path}`.trim();
    if (code === 'ABORT_ERR')
      return new PlaneError('PLANE_TIMEOUT', `${what}: no answer within ${deadline_ms} ms`, { cause: error });
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      return new PlaneError('PLANE_UNREACHABLE', `${this.#name} does not run`, { cause: error });
    return new PlaneError(
      'PLANE_UNREACHABLE',
      `${what}: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}
