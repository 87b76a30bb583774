/**
 * A small plane for tests: serves the part of either contract that weftd uses, in memory, on a Unix socket. As a class
 * inside a test, or as a process:
 *
 *   node fakePlane.js --socket PATH --kind dataplane|storage [--version V] [--fail-start] [--slow-health MS]
 */
import * as fs from 'node:fs';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import type { DataplaneConfig } from '../../dataplane/contract.js';
import type { StorageConfig } from '../../storage/contract.js';
import { FakeVolumes, type Answer, type FakeVolume } from './fakeVolumes.js';

export interface FakeOptions {
  kind: 'dataplane' | 'storage';
  version: string;
}

export class FakePlane {
  readonly kind: FakeOptions['kind'];
  readonly version: string;
  config: (DataplaneConfig & StorageConfig) | undefined;
  readonly stored = new FakeVolumes(
    key => this.config?.exports.some(one => `${one.pool}/${one.volume}` === key) === true,
  );
  /** Ports and exports with these names are in error. */
  readonly broken = new Map<string, string>();
  /** Answers nothing any more, though its socket is open. */
  hangs = false;
  /** Answers each new configuration with an error, and keeps the one it has. */
  refuses = false;
  readonly requests: string[] = [];
  readonly #server: http.Server;
  readonly #events = new Set<http.ServerResponse>();

  constructor({ kind, version }: FakeOptions) {
    this.kind = kind;
    this.version = version;
    this.#server = http.createServer((request, response) => void this.#answer(request, response));
  }

  listen(socketPath: string): Promise<void> {
    fs.rmSync(socketPath, { force: true });
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(socketPath, resolve);
    });
  }

  get volumes(): Map<string, FakeVolume> {
    return this.stored.volumes;
  }

  get address(): AddressInfo | string | null {
    return this.#server.address();
  }

  tell(event: object): void {
    for (const response of this.#events) response.write(`data: ${JSON.stringify(event)}\n\n`);
  }

  /** Its event streams end, its requests break off, as when the process dies. */
  async close(): Promise<void> {
    await new Promise<void>(resolve => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x');
    this.requests.push(`${request.method} ${request.url}`);
    if (this.hangs) return;
    if (pathname === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': fake\n\n');
      this.#events.add(response);
      response.on('close', () => this.#events.delete(response));
      return;
    }
    if (pathname.endsWith('/capture')) {
      response.writeHead(200, { 'content-type': 'application/x-pcapng' });
      response.write('first');
      setTimeout(() => response.end('last'), 20);
      return;
    }
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString('utf8');
    const { status = 200, body } = this.#reply(request.method ?? '', pathname, searchParams, text);
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  #reply(method: string, path: string, query: URLSearchParams, text: string): Answer {
    if (path === '/health') return { body: this.#health() };
    if (path === '/status') return { body: this.kind === 'dataplane' ? this.#frames() : this.#blocks() };
    if (path === '/config' && method === 'PUT') {
      if (this.refuses) return { status: 409, body: { error: { code: 'REFUSED', message: 'not now' } } };
      this.config = JSON.parse(text) as DataplaneConfig & StorageConfig;
      return { body: { generation: this.config.generation, problems: [] } };
    }
    if (path === '/garbage') return { body: 'what?' };
    const stored = this.kind === 'storage' ? this.stored.answer(method, path, query, text) : undefined;
    if (stored !== undefined) return stored;
    if (path.endsWith('/macs'))
      return method === 'DELETE'
        ? { body: { flushed: 2 } }
        : { body: { entries: [{ mac: '02:00:00:00:00:01', vlan: 1, port: 'a.nic0', age_ms: 5 }] } };
    return { status: 404, body: { error: { code: 'NOT_FOUND', message: `no ${path}` } } };
  }

  #health() {
    return {
      name: `weft-${this.kind}`,
      version: this.version,
      pid: process.pid,
      startedAt_ms: 1,
      generation: this.config?.generation ?? -1,
    };
  }

  #frames() {
    return {
      generation: this.config?.generation ?? -1,
      engine: { turns: 1 },
      switches: (this.config?.switches ?? []).map(one => ({
        name: one.name,
        macCount: 1,
        counters: { floods: 2 },
        ports: one.ports.map(port => ({
          name: port.name,
          kind: port.device.kind,
          state: this.broken.has(port.name) ? 'error' : 'up',
          reason: this.broken.get(port.name) ?? null,
          vlan: port.vlan,
          counters: { ifHCInOctets: 3 },
        })),
      })),
    };
  }

  #blocks() {
    return {
      generation: this.config?.generation ?? -1,
      server: { connections: 1 },
      pools: (this.config?.pools ?? []).map(pool => ({
        directory: '/somewhere',
        ...pool,
        state: 'open',
        reason: null,
        capacity_bytes: 1e9,
        free_bytes: 1e9,
        allocated_bytes: 0,
        provisioned_bytes: 0,
        volumeCount: this.volumes.size,
      })),
      volumes: [...this.volumes.keys()].map(key => this.stored.status(key)),
      jobs: [...this.stored.jobs.values()],
      exports: (this.config?.exports ?? []).map(one => ({
        name: one.name,
        state: this.broken.has(one.name) ? 'error' : 'listening',
        reason: this.broken.get(one.name) ?? null,
        connectionCount: 0,
        counters: { reads: 1 },
      })),
    };
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      socket: { type: 'string', default: '' },
      kind: { type: 'string', default: 'dataplane' },
      version: { type: 'string', default: '0.0.1' },
      'fail-start': { type: 'boolean', default: false },
    },
  });
  if (values['fail-start']) {
    process.stderr.write('it does not want to\n');
    process.exit(3);
  }
  const kind = values.kind === 'storage' ? 'storage' : 'dataplane';
  const plane = new FakePlane({ kind, version: values.version });
  await plane.listen(values.socket);
  process.on('SIGTERM', () => process.exit(0));
  process.on('SIGUSR1', () => {
    plane.hangs = true;
  });
}
