/**
 * What arrives at an interface, taken by tcpdump and read by tshark: two programs that are not ours.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import type { Lab } from './lab.js';
import type { Namespace } from './network.js';
import { eventually, run } from './processes.js';
import type { RunningProgram } from './processes.js';

/** A captured frame, as tshark tells it. */
export interface SeenFrame {
  readonly from: string;
  readonly to: string;
  /** VLAN ids of the tags, the outer first; empty for an untagged frame. */
  readonly vlans: readonly number[];
  /** What follows the last type field, with its padding. */
  readonly payload: Uint8Array;
}

export class Capture {
  readonly path: string;
  readonly #program: RunningProgram;

  private constructor(path: string, program: RunningProgram) {
    this.path = path;
    this.#program = program;
  }

  /** Running when this resolves: what arrives from now on is in it. Only what comes in, not what is sent. */
  static async start(lab: Lab, where: Namespace, ifname: string, filter = ''): Promise<Capture> {
    const path = lab.path(`${where.label}-${ifname}.pcap`);
    const how = ['-Z', 'root', '--immediate-mode', '-U', '-n', '-Q', 'in', '-s', '0'];
    const program = where.start(['tcpdump', ...how, '-i', ifname, '-w', path, filter]);
    await program.waitForOutput((_stdout, stderr) => (stderr.includes('listening on') ? true : null));
    return new Capture(path, program);
  }

  /** Until a frame with this text in it has been captured. */
  async waitFor(text: string): Promise<void> {
    await eventually(`"${text}" to arrive at ${this.path}`, () => (this.#contains(text) ? true : null), {
      every_ms: 20,
    });
  }

  #contains(text: string): boolean {
    const bytes = Buffer.alloc(statSync(this.path).size);
    const fd = openSync(this.path, 'r');
    readSync(fd, bytes, 0, bytes.length, 0);
    closeSync(fd);
    return bytes.includes(text);
  }

  /** Ends the capture. */
  async frames(): Promise<SeenFrame[]> {
    await this.#program.stop();
    return readFrames(this.path);
  }
}

/** Every frame of a pcap or pcapng file, as tshark sees it. */
export async function readFrames(path: string): Promise<SeenFrame[]> {
  const fields = ['eth.src', 'eth.dst', 'vlan.id', 'data.data'].flatMap(field => ['-e', field]);
  const { stdout } = await run(['tshark', '-n', '-r', path, '-T', 'fields', ...fields]);
  return stdout
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const [from = '', to = '', vlans = '', payload = ''] = line.split('\t');
      return {
        from,
        to,
        vlans: vlans === '' ? [] : vlans.split(',').map(Number),
        payload: Buffer.from(payload, 'hex'),
      };
    });
}

/** The text that a frame of the lab carries, without its padding. */
export const textOf = (frame: SeenFrame): string =>
  new TextDecoder().decode(frame.payload).replace(/\0+$/, '');
