/**
 * JSON over HTTP over a Unix socket, as all of our processes speak it. Written here again rather than taken
 * from control or the CLI, so that a fault there cannot hide itself from the lab.
 */
import { request } from 'node:http';

const DEADLINE_MS = 60_000;

export interface Reply {
  readonly status: number;
  readonly text: string;
}

export async function ask(socketPath: string, method: string, path: string, body?: unknown): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers = text === undefined ? {} : { 'content-type': 'application/json' };
    const asked = request({ socketPath, method, path, headers, timeout: DEADLINE_MS }, reply => {
      let answer = '';
      reply.setEncoding('utf8');
      reply.on('data', (chunk: string) => (answer += chunk));
      reply.on('end', () => resolve({ status: reply.statusCode ?? 0, text: answer }));
      reply.on('error', reject);
    });
    asked.on('error', reject);
    asked.on('timeout', () => asked.destroy(new Error(`${method} ${path}: no answer in ${DEADLINE_MS} ms`)));
    asked.end(text);
  });
}

/** The answer's JSON; rejects with what the server said when it is not a success. */
export async function askJson<T>(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<T> {
  const reply = await ask(socketPath, method, path, body);
  if (reply.status < 200 || reply.status > 299) {
    throw new Error(`${method} ${path}: ${reply.status} ${reply.text.slice(0, 2000)}`);
  }
  return JSON.parse(reply.text) as T;
}

/** A stream of bytes that ends by itself: `begun` when the server has answered, `bytes` when it is done. */
export function askBytes(socketPath: string, path: string): { begun: Promise<void>; bytes: Promise<Buffer> } {
  let begin: () => void;
  const begun = new Promise<void>(resolve => (begin = resolve));
  const bytes = new Promise<Buffer>((resolve, reject) => {
    const asked = request({ socketPath, path }, reply => {
      begin();
      const chunks: Buffer[] = [];
      reply.on('data', (chunk: Buffer) => chunks.push(chunk));
      reply.on('end', () => resolve(Buffer.concat(chunks)));
      reply.on('error', reject);
    });
    asked.on('error', reject);
    asked.end();
  });
  return { begun, bytes };
}
