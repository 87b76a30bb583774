/**
 * The plane's HTTP API, as contract.ts lists it, between the engine's thread and a Unix socket.
 */
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import type { Server } from 'node:http';
import type { Logger } from 'pino';
import { FilterError, parseFilter } from './capture/filter.js';
import type { Filter } from './capture/filter.js';
import { CAPTURES_MAX_COUNT, RING_BYTES, SNAP_MAX_BYTES, streamCapture } from './capture/server.js';
import { checkConfig } from './config.js';
import { DataplaneConfig, TraceRequest } from './contract.js';
import type { Applied, DataplaneEvent, Health, MacTable, TopTalkers, TraceView } from './contract.js';
import { ByteRing } from './engine/byteRing.js';
import type { Answers, Command, Notice } from './engine/messages.js';
import { EngineRefused } from './engine/process.js';
import type { Engine } from './engine/process.js';
import { EventStreams } from './events.js';
import { HttpError, readJson, serve } from './http.js';
import type { Call, Route } from './http.js';
import { Mirror } from './mirror.js';
import { Exporter } from './sampling/server.js';

/** Longest time to watch for, in one request. */
const TOP_MAX_S = 60;

export interface PlaneOptions {
  socketPath: string;
  version: string;
  startedAt_ms: number;
  log: Logger;
}

export class Plane {
  readonly #options: PlaneOptions;
  readonly #engine: Engine;
  readonly #mirror = new Mirror();
  readonly #events = new EventStreams();
  readonly #exporter: Exporter;
  readonly #server: Server;
  #captureCount = 0;
  #nextCapture = 1;
  #nextWatch = 1;
  /** Configurations are applied one after the other, in the order in which they came. */
  #applying: Promise<unknown> = Promise.resolve();

  constructor(options: PlaneOptions, engine: Engine) {
    this.#options = options;
    this.#engine = engine;
    this.#exporter = new Exporter(error =>
      options.log.warn({ err: error }, 'a flow sample could not be sent'),
    );
    const routes = this.#routes();
    this.#server = createServer((request, response) => {
      void serve(routes, request, response, error => options.log.error({ err: error }, 'a request failed'));
    });
    // Event streams and captures last; a silent peer on a Unix socket costs nothing.
    this.#server.requestTimeout = 0;
  }

  /** `fd`: a listening Unix socket. */
  async listen(fd: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ fd }, resolve);
    });
  }

  /** What the engine tells by itself: noted, logged, passed on. */
  notice(notice: Notice): void {
    const at_ms = Date.now();
    let event: DataplaneEvent;
    if (notice.type === 'port') {
      this.#mirror.portChanged(notice.switch, notice.port, notice.member, notice.state, notice.reason);
      event = { ...notice, at_ms };
      const member = notice.member === undefined ? '' : `member ${notice.member} of `;
      this.#options.log.info(
        notice,
        `${member}port ${notice.port} of switch ${notice.switch} is ${notice.state}`,
      );
    } else if (notice.type === 'switchEvent') {
      event = { ...notice, at_ms };
      this.#options.log.info(notice, `switch ${notice.switch}: ${notice.message}`);
    } else if (notice.type === 'export') {
      this.#exporter.send(notice.datagram, notice.collectors);
      return;
    } else if (notice.type === 'macMoved') {
      event = { ...notice, at_ms };
    } else {
      return;
    }
    this.#events.tell(event);
  }

  async stop(): Promise<void> {
    this.#events.close();
    this.#exporter.close();
    this.#server.close();
    await this.#engine.stop();
    this.#server.closeAllConnections();
  }

  #routes(): Route[] {
    return [
      { method: 'GET', path: '/health', handle: async () => this.#health() },
      { method: 'PUT', path: '/config', handle: async call => this.#configure(await readJson(call.request)) },
      { method: 'GET', path: '/status', handle: async () => this.#mirror.status(this.#engine.counters) },
      { method: 'GET', path: '/switches/:switch/macs', handle: async call => this.#macs(call.parameter) },
      {
        method: 'DELETE',
        path: '/switches/:switch/macs',
        handle: async call => this.#flushMacs(call),
      },
      { method: 'GET', path: '/switches/:switch/show/:what', handle: async call => this.#show(call) },
      { method: 'POST', path: '/switches/:switch/trace', handle: async call => this.#trace(call) },
      { method: 'GET', path: '/switches/:switch/top', handle: async call => this.#top(call) },
      { method: 'GET', path: '/switches/:switch/capture', handle: async call => this.#capture(call) },
      {
        method: 'GET',
        path: '/events',
        handle: async ({ response }) => {
          this.#events.add(response);
          return undefined;
        },
      },
    ];
  }

  #health(): Health {
    const { version, startedAt_ms } = this.#options;
    return {
      name: 'weft-dataplane',
      version,
      pid: process.pid,
      startedAt_ms,
      generation: this.#mirror.generation,
    };
  }

  async #configure(body: unknown): Promise<Applied> {
    const parsed = DataplaneConfig.safeParse(body);
    if (!parsed.success) {
      const issues = parsed.error.issues.map(
        ({ path, message }) => `${path.map(String).join('.')}: ${message}`,
      );
      throw new HttpError(400, 'BAD_CONFIG', issues.slice(0, 10).join('; '));
    }
    const config = parsed.data;
    const problem = checkConfig(config, this.#options.socketPath);
    if (problem !== undefined) throw new HttpError(400, problem.code, problem.message);
    const applied = this.#applying.then(async () => {
      this.#mirror.set(await this.#engine.ask({ op: 'apply', config }));
      return { generation: this.#mirror.generation, problems: this.#mirror.problems() };
    });
    this.#applying = applied.catch(() => undefined);
    const { generation, problems } = await applied;
    this.#options.log.info({ generation, problems: problems.length }, 'configuration applied');
    return { generation, problems };
  }

  async #macs(name: string): Promise<MacTable> {
    return { entries: await this.#ask({ op: 'macs', switch: name }) };
  }

  async #flushMacs({ parameter, query }: Call): Promise<{ flushed: number }> {
    const port = query.get('port') ?? undefined;
    const vlan = wholeNumber(query, 'vlan', 1, 4094);
    return { flushed: await this.#ask({ op: 'flushMacs', switch: parameter, port, vlan }) };
  }

  async #ask<C extends Command>(command: C): Promise<Answers[C['op']]> {
    try {
      return await this.#engine.ask(command);
    } catch (error) {
      if (error instanceof EngineRefused) throw new HttpError(404, error.code, error.message);
      throw error;
    }
  }

  async #show({ parameters: [name = '', what = ''], query }: Call): Promise<unknown> {
    if (what === 'ports') {
      // Known here: told even while the engine is busy.
      const ports = this.#mirror.ports(name);
      if (ports !== undefined) return { ports };
    }
    return this.#ask({ op: 'show', switch: name, what, query: Object.fromEntries(query) });
  }

  async #trace({ parameter, request }: Call): Promise<TraceView> {
    const parsed = TraceRequest.safeParse(await readJson(request));
    if (!parsed.success) {
      const issues = parsed.error.issues.map(
        ({ path, message }) => `${path.map(String).join('.')}: ${message}`,
      );
      throw new HttpError(400, 'BAD_TRACE', issues.join('; '));
    }
    const { port, frame } = parsed.data;
    return this.#ask({
      op: 'trace',
      switch: parameter,
      port,
      frame: Uint8Array.from(Buffer.from(frame, 'hex')),
    });
  }

  /** Watches for so long, then tells. */
  async #top({ parameter, query, response }: Call): Promise<TopTalkers> {
    const seconds = wholeNumber(query, 'seconds', 1, TOP_MAX_S) ?? 2;
    const limit = wholeNumber(query, 'limit', 1, 10_000) ?? 20;
    const watch = this.#nextWatch++;
    await this.#ask({ op: 'startTalkers', watch, switch: parameter });
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    await pause(seconds * 1000, undefined, { signal: gone.signal }).catch(() => undefined);
    return this.#ask({ op: 'finishTalkers', watch, limit });
  }

  async #capture({ parameter, query, response }: Call): Promise<undefined> {
    const snap_bytes = wholeNumber(query, 'snaplen_bytes', 1, SNAP_MAX_BYTES) ?? SNAP_MAX_BYTES;
    const count = wholeNumber(query, 'count', 1, Number.MAX_SAFE_INTEGER) ?? Infinity;
    const filter = captureFilter(query.get('filter') ?? '');
    if (this.#captureCount >= CAPTURES_MAX_COUNT)
      throw new HttpError(
        429,
        'TOO_MANY_CAPTURES',
        `${CAPTURES_MAX_COUNT} captures run already; end one first`,
      );
    const ring = ByteRing.create(RING_BYTES);
    const capture = this.#nextCapture++;
    this.#captureCount++;
    try {
      const ports = await this.#ask({
        op: 'capture',
        capture,
        switch: parameter,
        ports: query.getAll('port'),
        snap_bytes,
        filter,
        count,
        ring: ring.buffer,
      });
      await streamCapture(response, ring, ports, snap_bytes);
    } finally {
      this.#captureCount--;
      await this.#engine.ask({ op: 'stopCapture', capture }).catch(() => null);
    }
    return undefined;
  }
}

function captureFilter(text: string): Filter | undefined {
  try {
    return parseFilter(text);
  } catch (error) {
    if (error instanceof FilterError) throw new HttpError(400, 'BAD_FILTER', error.message);
    throw error;
  }
}

function wholeNumber(query: URLSearchParams, name: string, least: number, most: number): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (value >= least && value <= most) return value;
  throw new HttpError(400, 'BAD_QUERY', `${name}=${text}: a whole number from ${least} to ${most}`);
}
