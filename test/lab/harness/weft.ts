/**
 * Our own processes, started as anybody would start them: the compiled programs, spoken to over their sockets.
 */
import { fileURLToPath } from 'node:url';
import type * as dataplane from '../../../dataplane/contract.js';
import type * as storage from '../../../storage/contract.js';
import { askJson } from './http.js';
import type { Lab } from './lab.js';
import { eventually } from './processes.js';
import type { RunningProgram, Where } from './processes.js';

/** From dist/test/lab/harness/. */
const DIST = new URL('../../../', import.meta.url);
const mainOf = (plane: string): string => fileURLToPath(new URL(`${plane}/main.js`, DIST));

class Plane {
  readonly program: RunningProgram;
  readonly socket: string;
  #generation = 0;

  constructor(program: RunningProgram, socket: string) {
    this.program = program;
    this.socket = socket;
  }

  get pid(): number {
    return this.program.pid;
  }

  async get<T>(path: string): Promise<T> {
    return askJson<T>(this.socket, 'GET', path);
  }

  async put<T>(path: string, body: unknown): Promise<T> {
    return askJson<T>(this.socket, 'PUT', path, body);
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    return askJson<T>(this.socket, 'POST', path, body);
  }

  protected nextGeneration(): number {
    return ++this.#generation;
  }
}

async function startPlane(lab: Lab, plane: string, socket: string, where: Where): Promise<RunningProgram> {
  const program = lab.start([process.execPath, mainOf(plane), '--socket', socket], where);
  await eventually(`weft-${plane} to be healthy; it says: ${program.stderr}`, async () => {
    if (!program.isRunning) throw new Error(`weft-${plane} ended: ${program.stderr}`);
    return askJson(socket, 'GET', '/health').catch(() => null);
  });
  return program;
}

export class Dataplane extends Plane {
  static async start(lab: Lab, where: Where & { socket?: string } = {}): Promise<Dataplane> {
    const socket = where.socket ?? lab.path('dataplane.sock');
    return new Dataplane(await startPlane(lab, 'dataplane', socket, where), socket);
  }

  /** Rejects when a port has something to complain of; `connecting` is none. */
  async configure(switches: readonly dataplane.SwitchConfig[]): Promise<dataplane.Applied> {
    const applied = await this.put<dataplane.Applied>('/config', {
      generation: this.nextGeneration(),
      switches,
    });
    const problems = applied.problems.filter(problem => problem.state === 'error');
    if (problems.length > 0) throw new Error(`weft-dataplane: ${JSON.stringify(problems)}`);
    return applied;
  }

  async status(): Promise<dataplane.DataplaneStatus> {
    return this.get<dataplane.DataplaneStatus>('/status');
  }
}

export class Storage extends Plane {
  static async start(lab: Lab, where: Where & { socket?: string } = {}): Promise<Storage> {
    const socket = where.socket ?? lab.path('storage.sock');
    return new Storage(await startPlane(lab, 'storage', socket, where), socket);
  }

  async configure(config: Omit<storage.StorageConfig, 'generation'>): Promise<storage.Applied> {
    const applied = await this.put<storage.Applied>('/config', {
      generation: this.nextGeneration(),
      ...config,
    });
    if (applied.problems.length > 0) throw new Error(`weft-storage: ${JSON.stringify(applied.problems)}`);
    return applied;
  }

  async makeVolume(pool: string, volume: string, size_bytes: number): Promise<storage.VolumeStatus> {
    return this.put<storage.VolumeStatus>(`/pools/${pool}/volumes/${volume}`, { size_bytes });
  }

  async status(): Promise<storage.StorageStatus> {
    return this.get<storage.StorageStatus>('/status');
  }
}

/** A switch with these ports and everything else as it comes. */
export const switchOf = (name: string, ports: dataplane.PortConfig[]): dataplane.SwitchConfig => ({
  name,
  ageingTime_s: 300,
  macLimit: 32_768,
  ports,
});
