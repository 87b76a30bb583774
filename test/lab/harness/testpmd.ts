/**
 * DPDK's testpmd with two virtio-user ports: a program at the driver's end of two vhost-user connections that sends
 * on one port what it receives on the other. Frames put in once circulate, through whatever switch is between:
 *
 *        +------ testpmd (io) ------+
 *        |  port 0          port 1  |
 *        +----|----------------|----+
 *          a.sock           b.sock
 *        +----|---- switch ----|----+
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.js';
import type { RunningProgram } from './processes.js';

const PROMPT = 'testpmd> ';
export const MAC = ['02:00:00:00:0a:01', '02:00:00:00:0a:02'] as const;

export interface TestpmdOptions {
  readonly paths: readonly [string, string];
  /** Where testpmd makes the sockets; else it dials. */
  readonly isServer: boolean;
  /** Huge pages to live in; else ordinary ones. */
  readonly huge?: string;
  /** The processor it may have. */
  readonly cpu?: number;
  readonly queues?: number;
}

export interface Totals {
  readonly received: number;
  readonly sent: number;
  /** Of our clock. */
  readonly at_ms: number;
}

export class Testpmd {
  readonly program: RunningProgram;

  readonly #removeMemory: () => void;

  private constructor(program: RunningProgram, removeMemory: () => void) {
    this.program = program;
    this.#removeMemory = removeMemory;
  }

  static async start(lab: Lab, options: TestpmdOptions): Promise<Testpmd> {
    const { paths, isServer, huge, cpu, queues = 1 } = options;
    const ports = paths.map(
      (path, i) =>
        `--vdev=net_virtio_user${i},path=${path},mac=${MAC[i]},queues=${queues},queue_size=1024${isServer ? ',server=1' : ''}`,
    );
    const at = cpu === undefined ? '' : `@${cpu}`;
    const memory =
      huge === undefined
        ? ['--no-huge', '-m', '256']
        : ['--single-file-segments', '--huge-dir', huge, '-m', '128'];
    // One that was killed leaves its sockets, and would not make them again.
    if (isServer) for (const path of paths) rmSync(path, { force: true });
    const prefix = `weftlab${process.pid}-${Math.floor(performance.now())}`;
    const program = lab.start([
      ...(cpu === undefined ? [] : ['taskset', '-c', String(cpu)]),
      // Else what it says would come long after its prompt.
      'stdbuf',
      '-oL',
      'dpdk-testpmd',
      `--lcores=0${at},1${at}`,
      ...memory,
      '--no-pci',
      '--no-telemetry',
      `--file-prefix=${prefix}`,
      ...ports,
      '--',
      '-i',
      '--nb-cores=1',
      '--total-num-mbufs=8192',
      '--txd=1024',
      '--rxd=1024',
      `--rxq=${queues}`,
      `--txq=${queues}`,
      `--eth-peer=0,${MAC[1]}`,
      `--eth-peer=1,${MAC[0]}`,
    ]);
    const pmd = new Testpmd(program, () => {
      if (huge === undefined) return;
      for (const file of readdirSync(huge)) if (file.startsWith(prefix)) rmSync(join(huge, file));
    });
    await program.waitForOutput(out => (out.endsWith(PROMPT) ? true : null), 60_000);
    return pmd;
  }

  /** One command, and what it says. */
  async say(command: string): Promise<string> {
    const from = this.program.stdout.length;
    this.program.child.stdin?.write(`${command}\n`);
    return this.program.waitForOutput(out => {
      const said = out.slice(from);
      return said.endsWith(PROMPT) ? said : null;
    }, 30_000);
  }

  /** So many bursts of 32 frames begin to circulate from each port. */
  async circulate(frame_bytes: number, bursts: number): Promise<void> {
    await this.say(`set txpkts ${frame_bytes}`);
    await this.say('set fwd io');
    await this.say(`start tx_first ${bursts}`);
  }

  async stop(): Promise<void> {
    await this.say('stop');
  }

  /** Ends it; the huge pages that it leaves behind are free again. */
  async end(): Promise<void> {
    await this.program.stop();
    this.#removeMemory();
  }

  async totals(): Promise<Totals> {
    const at_ms = performance.now();
    const said = await this.say('show port stats all');
    const sum = (what: string): number =>
      [...said.matchAll(new RegExp(`${what}-packets: (\\d+)`, 'g'))].reduce(
        (all, [, n]) => all + Number(n),
        0,
      );
    return { received: sum('RX'), sent: sum('TX'), at_ms };
  }
}
