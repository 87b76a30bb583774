/** weft-storage as a process, for tests: started on a directory of its own, spoken to by HTTP, ended after the test. */
import { spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { Applied, ExportConfig, StorageEvent, StorageStatus } from '../../storage/contract.js';

const MAIN = fileURLToPath(new URL('../../storage/main.js', import.meta.url));

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export class Plane {
  readonly directory: string;
  readonly socket: string;
  child!: ChildProcess;
  log = '';
  #arguments: string[];

  private constructor(directory: string, extra: string[]) {
    this.directory = directory;
    this.socket = path.join(directory, 'storage.sock');
    this.#arguments = extra;
  }

  static async start(t: Test, extra: string[] = []): Promise<Plane> {
    const plane = new Plane(fs.mkdtempSync(path.join(os.tmpdir(), 'weft-storage-')), extra);
    t.teardown(async () => {
      plane.child.kill('SIGKILL');
      await plane.exit();
      fs.rmSync(plane.directory, { recursive: true, force: true });
    });
    await plane.launch();
    return plane;
  }

  /** Starts the process (again) and waits until it serves. */
  async launch(): Promise<void> {
    this.child = spawn(process.execPath, [MAIN, '--socket', this.socket, ...this.#arguments], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.child.stderr!.on('data', (data: Buffer) => (this.log += data.toString()));
    for (;;) {
      if (this.child.exitCode !== null) throw new Error(`weft-storage ended: ${this.log}`);
      try {
        const { body } = await this.ask('GET', '/health');
        // Not another one on the same socket.
        if ((body as { pid: number }).pid === this.child.pid) return;
      } catch {
        // not yet
      }
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }

  /** The code, or the signal's name. */
  async exit(): Promise<number | string> {
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null)
      await new Promise(resolve => child.once('exit', resolve));
    return child.exitCode ?? child.signalCode!;
  }

  path(name: string): string {
    return path.join(this.directory, name);
  }

  ask(method: string, url: string, body?: unknown): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: this.socket, method, path: url }, response => {
        let text = '';
        response.on('data', (data: Buffer) => (text += data.toString()));
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as unknown }),
        );
      });
      request.on('error', reject);
      request.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
    });
  }

  async status(): Promise<StorageStatus> {
    return (await this.ask('GET', '/status')).body as StorageStatus;
  }

  /** Until the clients that have ended are seen gone: a restore or a rollback is refused before. */
  async unused(): Promise<void> {
    await eventually('no client is connected', async () =>
      (await this.status()).exports.every(({ connectionCount }) => connectionCount === 0),
    );
  }

  #generation = 0;

  async configure(
    exports: ExportConfig[],
    pools = [{ name: 'p', directory: this.path('pool') }],
  ): Promise<Applied> {
    const answer = await this.ask('PUT', '/config', { generation: ++this.#generation, pools, exports });
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body as Applied;
  }

  volume(name: string, size_bytes: number, pool = 'p'): Promise<Answer> {
    return this.ask('PUT', `/pools/${pool}/volumes/${name}`, { size_bytes });
  }

  /** A Unix export of volume `name` under that NBD name. */
  unix(name: string, more: Partial<ExportConfig> = {}): ExportConfig {
    const listen = [{ kind: 'unix' as const, path: this.path('nbd.sock') }];
    return { name, nbdName: name, pool: 'p', volume: name, readOnly: false, listen, ...more };
  }

  uri(exportName: string, socket = 'nbd.sock'): string {
    return `nbd+unix:///${exportName}?socket=${this.path(socket)}`;
  }

  /** Events from now on; `end` when the stream ends. */
  events(): {
    seen: StorageEvent[];
    ended: Promise<void>;
    until(test: (event: StorageEvent) => boolean): Promise<StorageEvent>;
  } {
    const seen: StorageEvent[] = [];
    const waiting: { test: (event: StorageEvent) => boolean; resolve: (event: StorageEvent) => void }[] = [];
    const ended = new Promise<void>((resolve, reject) => {
      const request = http.request({ socketPath: this.socket, path: '/events' }, response => {
        let text = '';
        response.on('data', (data: Buffer) => {
          text += data.toString();
          for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
            const line = text.slice(0, end);
            if (!line.startsWith('data: ')) continue;
            const event = JSON.parse(line.slice(6)) as StorageEvent;
            seen.push(event);
            for (const one of waiting) if (one.test(event)) one.resolve(event);
          }
        });
        response.on('close', resolve);
      });
      request.on('error', reject);
      request.end();
    });
    return {
      seen,
      ended,
      until: test => {
        const found = seen.find(test);
        if (found !== undefined) return Promise.resolve(found);
        return new Promise(resolve => waiting.push({ test, resolve }));
      },
    };
  }
}

/** Asks again and again until it is so. */
export async function eventually(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await isSo()); tries++) {
    if (tries > 12_000) throw new Error(`never: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}
