/**
 * The little of HTTP that the plane needs beyond node:http: routes with parameters, JSON in and out, errors as
 * ErrorReply, bodies with a bound. No framework: the plane has a dozen routes, and is to be up in no time.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** A full configuration of some thousand ports is a few hundred kilobytes. */
export const BODY_MAX_BYTES = 32 * 1024 * 1024;

export class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface Call {
  request: IncomingMessage;
  response: ServerResponse;
  /** What stands in the place of the route's first `:name`, decoded; '' when it has none. */
  parameter: string;
  /** All of them, in their order. */
  parameters: readonly string[];
  query: URLSearchParams;
}

export interface Route {
  method: string;
  /** As `/switches/:switch/macs`. */
  path: string;
  /** What it returns is sent as JSON; undefined: it answers by itself. */
  handle(call: Call): Promise<unknown>;
}

/** The parameters when the path is the route's, else undefined. */
function match(route: string, path: string): string[] | undefined {
  const wanted = route.split('/');
  const found = path.split('/');
  if (wanted.length !== found.length) return undefined;
  const parameters: string[] = [];
  for (const [index, part] of wanted.entries()) {
    if (part.startsWith(':')) parameters.push(found[index]!);
    else if (part !== found[index]) return undefined;
  }
  return parameters;
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
}

export async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let length_bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length_bytes += part.length;
    if (length_bytes > BODY_MAX_BYTES)
      throw new HttpError(413, 'BODY_TOO_LARGE', `a body has at most ${BODY_MAX_BYTES} bytes`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown;
  } catch (error) {
    throw new HttpError(
      400,
      'BAD_JSON',
      `the body is no JSON: ${error instanceof Error ? error.message : ''}`,
    );
  }
}

/** Finds the route and answers, with an ErrorReply for whatever is thrown. */
export async function serve(
  routes: readonly Route[],
  request: IncomingMessage,
  response: ServerResponse,
  onError: (error: unknown) => void,
): Promise<void> {
  try {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const matching = routes.flatMap(route => {
      const parameters = match(route.path, url.pathname);
      return parameters === undefined ? [] : [{ route, parameters }];
    });
    if (matching.length === 0)
      throw new HttpError(
        404,
        'NOT_FOUND',
        `there is no ${url.pathname}; see dataplane/contract.ts for what there is`,
      );
    const found = matching.find(({ route }) => route.method === request.method);
    if (found === undefined) {
      const methods = matching.map(({ route }) => route.method).join(', ');
      response.setHeader('allow', methods);
      throw new HttpError(
        405,
        'METHOD_NOT_ALLOWED',
        `${url.pathname} takes ${methods}, not ${request.method}`,
      );
    }
    const parameters = found.parameters.map(decode);
    const parameter = parameters[0] ?? '';
    const value = await found.route.handle({
      request,
      response,
      parameter,
      parameters,
      query: url.searchParams,
    });
    if (value !== undefined) sendJson(response, 200, value);
  } catch (error) {
    const told =
      error instanceof HttpError
        ? error
        : new HttpError(500, 'INTERNAL', error instanceof Error ? error.message : String(error));
    if (told.status >= 500) onError(error);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // What is left of a refused body is not read: the connection ends with the answer.
    if (!request.complete) response.setHeader('connection', 'close');
    sendJson(response, told.status, { error: { code: told.code, message: told.message } });
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new HttpError(400, 'BAD_PATH', `${text} is not well encoded`);
  }
}
