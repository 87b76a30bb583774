/**
 * A datagram every few milliseconds from one namespace to another, and how long they stayed away: what an outage is
 * to those who use the network. Run as a program it is one of the two ends.
 *
 *   node beats.js send ADDRESS PORT EVERY_MS       until it is ended
 *   node beats.js receive PORT                     a line for each time in milliseconds, until it is ended
 */
import { createSocket } from 'node:dgram';
import { fileURLToPath } from 'node:url';
import type { Namespace } from './network.js';
import type { RunningProgram } from './processes.js';
import { eventually } from './processes.js';

const PROGRAM = fileURLToPath(import.meta.url);
const PORT = 4321;

export class Beats {
  readonly #sender: RunningProgram;
  readonly #receiver: RunningProgram;

  private constructor(sender: RunningProgram, receiver: RunningProgram) {
    this.#sender = sender;
    this.#receiver = receiver;
  }

  /** Resolves once they arrive. */
  static async start(from: Namespace, to: Namespace, address: string, every_ms = 20): Promise<Beats> {
    const receiver = to.start([process.execPath, PROGRAM, 'receive', String(PORT)]);
    const sender = from.start([process.execPath, PROGRAM, 'send', address, String(PORT), String(every_ms)]);
    const beats = new Beats(sender, receiver);
    await beats.arrive();
    return beats;
  }

  /** Until some have arrived that were not there before. */
  async arrive(timeout_ms = 60_000): Promise<void> {
    const before = this.#times().length;
    await eventually('datagrams to arrive', () => (this.#times().length > before + 3 ? true : null), {
      timeout_ms,
      every_ms: 50,
    });
  }

  /** The longest time without one. */
  async stop(): Promise<number> {
    this.#sender.signal('SIGKILL');
    await this.#sender.ended;
    this.#receiver.signal('SIGKILL');
    await this.#receiver.ended;
    const times = this.#times();
    return times.reduce((longest, time, i) => Math.max(longest, time - (times[i - 1] ?? time)), 0);
  }

  #times(): number[] {
    return this.#receiver.stdout.split('\n').filter(Boolean).map(Number);
  }
}

const [what, ...rest] = process.argv[1] === PROGRAM ? process.argv.slice(2) : [];
if (what === 'send') {
  const [address = '', port = '', every_ms = ''] = rest;
  const socket = createSocket('udp4');
  // No way there, or nobody listening: then this one is lost.
  socket.on('error', () => {});
  setInterval(() => socket.send('beat', Number(port), address, () => {}), Number(every_ms));
} else if (what === 'receive') {
  const socket = createSocket('udp4');
  socket.on('message', () => void process.stdout.write(`${performance.now().toFixed(1)}\n`));
  socket.bind(Number(rest[0]));
}
