/** A whole weftd in the test's process: real koa on a real Unix socket, fake planes, doubles for guests and images. */
import type { Test } from 'tap';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../../control/api/server.js';
import type { Listening } from '../../../control/api/server.js';
import type { Clock } from '../../../control/clock.js';
import { ImageHostDouble } from '../../../control/image/double.js';
import { layoutOf } from '../../../control/model/layout.js';
import { MemoryDisk, MemoryStore } from '../../../control/store/memory.js';
import { GuestHostDouble } from '../../../control/vmm/double.js';
import { Weftd } from '../../../control/weftd.js';
import { FakePlane } from '../fakePlane.js';

export interface Reply {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
  json: unknown;
}

const clock: Clock = {
  now_ms: () => Date.now(),
  after(delay_ms, then) {
    const timer = setTimeout(then, delay_ms);
    return () => clearTimeout(timer);
  },
};

export class Bench {
  readonly directory: string;
  readonly guests: GuestHostDouble;
  readonly images = new ImageHostDouble();
  readonly disk: MemoryDisk;
  readonly dataplane = new FakePlane({ kind: 'dataplane', version: '1.2.3' });
  readonly storage = new FakePlane({ kind: 'storage', version: '1.2.3' });
  readonly logged: string[] = [];
  weftd!: Weftd;
  server!: ApiServer;
  ended = false;

  private constructor(directory: string, disk: MemoryDisk, guests: GuestHostDouble) {
    this.directory = directory;
    this.disk = disk;
    this.guests = guests;
  }

  static async make(
    t: Test,
    options: { disk?: MemoryDisk; guests?: GuestHostDouble; tcp?: Listening['tcp'] } = {},
  ): Promise<Bench> {
    const directory = fs.mkdtempSync(join(tmpdir(), 'weft-api-'));
    const bench = new Bench(
      directory,
      options.disk ?? new MemoryDisk(),
      options.guests ?? new GuestHostDouble(),
    );
    const layout = layoutOf(directory);
    for (const path of [layout.logs, layout.exports, layout.machines])
      fs.mkdirSync(path, { recursive: true });
    await bench.dataplane.listen(layout.dataplaneSocket);
    await bench.storage.listen(layout.storageSocket);
    const log = (_fields: object, message: string): void => void bench.logged.push(message);
    bench.weftd = await Weftd.open({
      version: '1.2.3',
      pid: 4711,
      layout,
      clock,
      store: new MemoryStore(bench.disk),
      guests: bench.guests,
      images: bench.images,
      programs: { dataplane: ['/nowhere'], storage: ['/nowhere'] },
      doctor: async () => ({ checks: [] }),
      figures: () => ({ residentMemory_bytes: 1, cpu_s: 2 }),
      log: { info: log, warn: log, error: log },
      onEnd: () => {
        bench.ended = true;
      },
    });
    await bench.weftd.start();
    bench.server = await ApiServer.start(bench.weftd.system, {
      unix: { path: layout.weftdSocket },
      ...(options.tcp === undefined ? {} : { tcp: options.tcp }),
    });
    t.teardown(async () => {
      await bench.server.close();
      await bench.weftd.end();
      await bench.dataplane.close();
      await bench.storage.close();
      fs.rmSync(directory, { recursive: true, force: true });
    });
    await bench.until('planes up', async () => {
      const { planes } = (await bench.get('/v1/status')).json as { planes: { state: string }[] };
      return planes.every(plane => plane.state === 'up');
    });
    return bench;
  }

  open(
    method: string,
    path: string,
    body?: string,
    headers: http.OutgoingHttpHeaders = {},
  ): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = http.request(
        { socketPath: `${this.directory}/run/weftd.sock`, method, path, agent: false, headers },
        resolve,
      );
      request.on('error', reject);
      request.end(body);
    });
  }

  async ask(
    method: string,
    path: string,
    body?: unknown,
    headers?: http.OutgoingHttpHeaders,
  ): Promise<Reply> {
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
    const response = await this.open(method, path, text, headers);
    const pieces: Buffer[] = [];
    for await (const piece of response) pieces.push(piece as Buffer);
    const said = Buffer.concat(pieces).toString('utf8');
    const isJson = response.headers['content-type']?.startsWith('application/json') === true;
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      text: said,
      json: isJson ? (JSON.parse(said) as unknown) : undefined,
    };
  }

  get(path: string): Promise<Reply> {
    return this.ask('GET', path);
  }

  apply(text: string, more: object = {}): Promise<Reply> {
    return this.ask('POST', '/v1/apply', { files: [{ path: 'a.yaml', text }], ...more });
  }

  /** Looks again and again; the test's own time limit ends it when it never is so. */
  async until(_what: string, isSo: () => Promise<boolean>): Promise<void> {
    while (!(await isSo())) await new Promise(resolve => setTimeout(resolve, 10));
  }

  settled(): Promise<void> {
    return this.until('settled', async () => (await this.get('/v1/status')).text.includes('"settled":true'));
  }
}

export const QUICK = `
switch: { lan: {} }
pool: { main: {} }
image: { tiny: { tiny: {} } }
volume: { data: { pool: main, size: 64MiB } }
machine:
  alice: { image: tiny, disks: [{ volume: data }], nics: [{ switch: lan, vlan: 10 }], stopTimeout: 1s }
`;
