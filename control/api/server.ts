/**
 * The API on its sockets: the Unix socket, whose file mode says who may ask, and TCP when asked for, where every
 * request but /healthz must show the token. And the one thing that is not plain HTTP: the serial console, by Upgrade.
 */
import * as http from 'node:http';
import type { Duplex } from 'node:stream';
import { makeApp } from './app.js';
import type { ErrorReply } from './contract.js';
import { ApiError, told } from './errors.js';
import type { System } from './system.js';

const CONNECTIONS_MAX = 1024;
const CONSOLE_PROTOCOL = 'weft-console';

export interface Listening {
  /** A listening Unix socket, or a path to listen on (tests). */
  unix: { fd: number } | { path: string };
  tcp?: { host: string; port: number; mayAsk: (authorization: string | undefined) => boolean };
}

const UNAUTHORIZED: ErrorReply = {
  error: {
    code: 'UNAUTHORIZED',
    message: 'on TCP, Authorization: Bearer TOKEN is needed; the token is in the state directory',
  },
};

export class ApiServer {
  readonly #servers: http.Server[] = [];
  readonly #consoles = new Set<Duplex>();
  readonly #system: System;

  private constructor(system: System) {
    this.#system = system;
  }

  static async start(system: System, listening: Listening): Promise<ApiServer> {
    const server = new ApiServer(system);
    const app = makeApp(system);
    const answer = app.callback();
    const onUnix = server.#make(answer, () => true);
    const { tcp } = listening;
    if (tcp !== undefined) {
      const guarded = server.#make((request, response) => {
        if (request.url === '/healthz' || tcp.mayAsk(request.headers.authorization))
          return void answer(request, response);
        response.writeHead(401, { 'content-type': 'application/json', 'www-authenticate': 'Bearer' });
        response.end(JSON.stringify(UNAUTHORIZED));
      }, tcp.mayAsk);
      await listen(guarded, { host: tcp.host, port: tcp.port });
    }
    // The Unix socket last: who finds it finds everything.
    await listen(onUnix, listening.unix);
    return server;
  }

  /** Port of TCP, for tests that let the kernel choose. */
  get tcpPort(): number | undefined {
    for (const server of this.#servers) {
      const address = server.address();
      if (address !== null && typeof address === 'object') return address.port;
    }
    return undefined;
  }

  async close(): Promise<void> {
    for (const console of this.#consoles) console.destroy();
    await Promise.all(
      this.#servers.map(
        server =>
          new Promise<void>(resolve => {
            server.close(() => resolve());
            server.closeIdleConnections();
            // Answers that are on their way get a moment; streams have no end of their own.
            setTimeout(() => server.closeAllConnections(), 200);
          }),
      ),
    );
  }

  #make(
    answer: (request: http.IncomingMessage, response: http.ServerResponse) => unknown,
    mayAsk: (authorization: string | undefined) => boolean,
  ): http.Server {
    const server = http.createServer((request, response) => void answer(request, response));
    server.maxConnections = CONNECTIONS_MAX;
    server.on('upgrade', (request, socket, head) => {
      if (mayAsk(request.headers.authorization)) void this.#upgrade(request, socket, head);
      else refuse(socket, 401, UNAUTHORIZED);
    });
    this.#servers.push(server);
    return server;
  }

  async #upgrade(request: http.IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    try {
      const match = /^\/v1\/machines\/([^/?]+)\/console(?:\?.*)?$/.exec(request.url ?? '');
      if (match === null || request.headers.upgrade?.toLowerCase() !== CONSOLE_PROTOCOL)
        throw new ApiError(
          404,
          'NOT_FOUND',
          `only /v1/machines/NAME/console can be upgraded, to ${CONSOLE_PROTOCOL}`,
        );
      const name = decodeURIComponent(match[1]!);
      if (!this.#system.keeper.resources.has(`machine/${name}`))
        throw new ApiError(404, 'RESOURCE_UNKNOWN', `there is no machine "${name}"`);
      const line = await this.#system.guests.console(name);
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${CONSOLE_PROTOCOL}\r\n\r\n`,
      );
      if (head.length > 0) line.write(head);
      this.#join(socket, line);
    } catch (error) {
      const answer = told(error);
      if (answer === null) this.#system.log.error({ err: error }, 'a console failed');
      refuse(
        socket,
        answer?.status ?? 500,
        answer?.reply ?? {
          error: { code: 'INTERNAL', message: 'weftd made a mistake; its log has the details' },
        },
      );
    }
  }

  /** Bytes both ways until either side ends. `pipe` holds back a side that is faster than the other. */
  #join(socket: Duplex, line: Duplex): void {
    this.#consoles.add(socket);
    const end = (): void => {
      this.#consoles.delete(socket);
      line.destroy();
      socket.destroy();
    };
    line.on('error', end);
    line.on('close', end);
    socket.on('close', end);
    socket.pipe(line);
    line.pipe(socket);
  }
}

function refuse(socket: Duplex, status: number, reply: ErrorReply): void {
  const body = JSON.stringify(reply);
  socket.end(
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}

function listen(
  server: http.Server,
  where: { fd: number } | { path: string } | { host: string; port: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(where, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
