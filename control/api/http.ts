/** The little that all handlers share: bodies with a bound, queries by schema, event streams. */
import { PassThrough } from 'node:stream';
import type { Context } from 'koa';
import { z } from 'zod';
import type { Clock } from '../clock.js';
import { ApiError } from './errors.js';

/** A thousand files of configuration fit. */
export const BODY_MAX_BYTES = 32 * 2 ** 20;
/** An event client that reads nothing is let go when so much waits for it. */
export const BACKLOG_MAX_BYTES = 4 * 2 ** 20;
/** Keeps a silent stream from looking dead to what is in between. */
const HEARTBEAT_MS = 15_000;

async function text(ctx: Context): Promise<string> {
  const pieces: Buffer[] = [];
  let size_bytes = 0;
  for await (const piece of ctx.req as AsyncIterable<Buffer>) {
    size_bytes += piece.length;
    if (size_bytes > BODY_MAX_BYTES) {
      // What is left of it is not read: the connection ends with the answer.
      ctx.set('connection', 'close');
      throw new ApiError(413, 'BODY_TOO_LARGE', `a body has at most ${BODY_MAX_BYTES} bytes`);
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** The body by its schema; an empty one counts as `{}`. */
export async function body<T>(ctx: Context, schema: z.ZodType<T>): Promise<T> {
  const written = await text(ctx);
  let json: unknown;
  try {
    json = written === '' ? {} : JSON.parse(written);
  } catch (error) {
    throw new ApiError(
      400,
      'BAD_JSON',
      `the body is not JSON: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  return checked(schema, json, 'BAD_BODY');
}

function checked<T>(schema: z.ZodType<T>, value: unknown, code: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const words = parsed.error.issues
    .slice(0, 5)
    .map(({ path, message }) => `${path.length === 0 ? '' : `${path.map(String).join('.')}: `}${message}`);
  throw new ApiError(400, code, words.join('; '));
}

/** The last value of each parameter, by schema. */
export function query<T>(ctx: Context, schema: z.ZodType<T>): T {
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(ctx.query)) {
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (last !== undefined) values[name] = last;
  }
  return checked(schema, values, 'BAD_QUERY');
}

/** A flag in a query: `?x=true`, `?x=1`, `?x` and their opposites. */
export const Flag = z
  .enum(['true', 'false', '1', '0', ''])
  .transform(word => word === 'true' || word === '1' || word === '');

export const WholeNumber = z
  .string()
  .regex(/^\d{1,15}$/, 'a whole number')
  .transform(Number);

export interface EventStream {
  /** False when the client is gone, or too slow and therefore let go. */
  send(payload: unknown, id?: number): boolean;
  end(): void;
  readonly signal: AbortSignal;
}

/** Makes this answer a stream of Server-Sent Events. `signal` fires when it ends, whoever ended it. */
export function eventStream(ctx: Context, clock: Clock): EventStream {
  const stream = new PassThrough();
  const ended = new AbortController();
  ctx.type = 'text/event-stream';
  ctx.set('cache-control', 'no-store');
  ctx.set('x-accel-buffering', 'no');
  ctx.status = 200;
  ctx.body = stream;
  let cancel = (): void => {};
  const beat = (): void => {
    if (!stream.destroyed) stream.write(':\n\n');
    cancel = clock.after(HEARTBEAT_MS, beat);
  };
  const over = (): void => {
    cancel();
    ended.abort();
  };
  ctx.res.once('close', () => stream.destroy());
  stream.once('close', over);
  // Something at once, so that the client has its headers and knows that it is heard.
  stream.write(': weftd\n\n');
  cancel = clock.after(HEARTBEAT_MS, beat);
  return {
    send(payload, id) {
      if (stream.destroyed || stream.writableEnded) return false;
      if (stream.writableLength + ctx.res.writableLength > BACKLOG_MAX_BYTES) {
        stream.destroy();
        ctx.res.destroy();
        return false;
      }
      stream.write(`${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(payload)}\n\n`);
      return true;
    },
    end() {
      stream.end();
      over();
    },
    signal: ended.signal,
  };
}
