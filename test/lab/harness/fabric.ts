/**
 * All of weft in a state directory of its own, brought up and asked as a user would: through the `weft` command,
 * and by looking at processes and sockets.
 */
import { readdirSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Resource, SystemStatus } from '../../../control/api/contract.js';
import { Guest } from './guests.js';
import { ask, askJson } from './http.js';
import type { Lab } from './lab.js';
import type { SeenProcess } from './owner.js';
import type { Needs } from './needs.js';
import { eventually, run } from './processes.js';
import { giveTinyImage } from './tinyImage.js';
import type { Ended, RunningProgram } from './processes.js';

/** From dist/test/lab/harness/. */
const PROJECT = new URL('../../../../', import.meta.url);
export const WEFT = fileURLToPath(new URL('bin/weft.js', PROJECT));
export const PROJECT_DIRECTORY = fileURLToPath(PROJECT);
export const configFile = (name: string): string => fileURLToPath(new URL(`configs/${name}`, PROJECT));

/** What it takes to boot tiny guests; their kernel comes from Debian's archive unless one is installed. */
export const FABRIC_NEEDS: Needs = { root: true, programs: ['qemu-system-x86_64', 'busybox', 'dpkg-deb'] };

/** Installing, building an image and booting three guests without KVM on two cores take their time. */
const UP_TIMEOUT_MS = 300_000;

export interface QuickstartOptions {
  readonly once: boolean;
  readonly as?: readonly string[];
  readonly project?: string;
}

export class Fabric {
  readonly lab: Lab;
  readonly state: string;

  /** Nothing is made or started yet. */
  constructor(lab: Lab, state = lab.path('s')) {
    this.lab = lab;
    this.state = state;
  }

  get socket(): string {
    return join(this.state, 'run', 'weftd.sock');
  }

  async weft(
    args: readonly string[],
    options: { mayFail?: boolean; timeout_ms?: number } = {},
  ): Promise<Ended> {
    return run([process.execPath, WEFT, '--state', this.state, ...args], options);
  }

  /**
   * As `npm start` does it, without installing and building anew. It stays, unless it is to end after all was seen.
   * `as` goes before the command line; `project` is where weft is seen from there.
   */
  quickstart({ once, as = [], project = PROJECT.href }: QuickstartOptions): RunningProgram {
    const options = { once, timeout_ms: UP_TIMEOUT_MS, state: this.state };
    const program = `import { runQuickstart } from '${project}dist/cli/quickstart.js';
      process.exitCode = await runQuickstart(${JSON.stringify(options)});
      process.exit();`;
    return this.lab.start([...as, process.execPath, '--input-type=module', '--eval', program]);
  }

  /** `weft up`: starts weftd when it does not run, applies the file and waits until all is ready. */
  async up(file: string): Promise<void> {
    await giveTinyImage(this.state);
    await this.weft(['up', file], { timeout_ms: UP_TIMEOUT_MS });
  }

  async down(): Promise<void> {
    await this.weft(['down'], { timeout_ms: 120_000 });
  }

  async status(): Promise<SystemStatus> {
    return askJson<SystemStatus>(this.socket, 'GET', '/v1/status');
  }

  async resource(kind: string, name: string): Promise<Resource> {
    return askJson<Resource>(this.socket, 'GET', `/v1/resources/${kind}/${name}`);
  }

  /** All of ours, by what they are: `weftd`, `dataplane`, `storage`, and each guest by its name. */
  async pids(): Promise<Record<string, number | null>> {
    const status = await this.status();
    const pids: Record<string, number | null> = { weftd: status.pid };
    for (const plane of status.planes) pids[plane.name] = plane.pid;
    const { resources } = await askJson<{ resources: Resource[] }>(
      this.socket,
      'GET',
      '/v1/resources?kind=machine',
    );
    for (const machine of resources) pids[machine.name] = Number(machine.status.observed['pid'] ?? null);
    return pids;
  }

  /** Until every resource is at its generation and Ready. */
  async settled(timeout_ms = 60_000): Promise<void> {
    await eventually(
      'everything to be as asked for',
      async () => ((await this.status().catch(() => null))?.settled === true ? true : null),
      { timeout_ms, every_ms: 200 },
    );
  }

  guest(name: string): Guest {
    return new Guest(name, join(this.state, 'run', 'machines', name, 'serial.log'));
  }

  /** Type a line on a guest's console, as `weft machine console` would. */
  async type(guest: string, line: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const asked = request({
        socketPath: this.socket,
        path: `/v1/machines/${guest}/console`,
        headers: { connection: 'Upgrade', upgrade: 'weft-console' },
      });
      asked.on('upgrade', (_reply, socket) => {
        socket.resume();
        socket.on('error', reject);
        socket.on('close', () => resolve());
        socket.end(`\r${line}\r`);
      });
      asked.on('response', reply => reject(new Error(`console of ${guest}: ${reply.statusCode}`)));
      asked.on('error', reject);
      asked.end();
    });
  }

  async shutdown(): Promise<void> {
    await ask(this.socket, 'POST', '/v1/shutdown', { everything: true });
  }

  /** Processes that have to do with this state directory. */
  processes(): SeenProcess[] {
    return this.lab.processes().filter(seen => seen.command.includes(this.state));
  }

  /** Sockets that are left anywhere below the state directory. */
  sockets(directory = this.state): string[] {
    return readdirSync(directory, { withFileTypes: true }).flatMap(entry => {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) return this.sockets(path);
      return statSync(path).isSocket() ? [path] : [];
    });
  }
}
