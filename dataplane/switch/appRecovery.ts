/** Ports that a capability put down, and the timers that bring them back. */
import { Timer } from '../engine/timers.js';
import type { FeaturePort, SwitchHost } from './feature.js';

export class Recovery {
  readonly #host: SwitchHost;
  /** In whose name: one capability's faults do not lift another's. */
  readonly #by: string;
  readonly #timers = new Map<number, Timer>();

  constructor(host: SwitchHost, by: string) {
    this.#host = host;
    this.#by = by;
  }

  isDown(port: number): boolean {
    return this.#timers.has(port);
  }

  /** `recovery_s` null: until its configuration changes or the port is made anew. */
  putDown({ port, link }: FeaturePort, why: string, recovery_s: number | null): void {
    if (this.#timers.has(port)) return;
    const timer = new Timer(() => this.bringBack(port));
    this.#timers.set(port, timer);
    const until = recovery_s === null ? '' : `; tried again in ${recovery_s} s`;
    if (recovery_s !== null) {
      const { loop } = this.#host;
      loop.timers.arm(timer, loop.now_ms + recovery_s * 1000);
    }
    this.#host.setPortFault(port, this.#by, `${why}${until}`);
    this.#host.tell({ type: 'switchEvent', what: `${this.#by}.shutdown`, port: link.name, message: why });
  }

  /** Nothing is wrong with one that is not down. */
  bringBack(port: number): void {
    const timer = this.#timers.get(port);
    if (timer === undefined) return;
    this.#host.loop.timers.cancel(timer);
    this.#timers.delete(port);
    this.#host.setPortFault(port, this.#by, null);
  }

  close(): void {
    for (const timer of this.#timers.values()) this.#host.loop.timers.cancel(timer);
    this.#timers.clear();
  }
}
