/**
 * The two monitors of one guest as one thing: connected together, closed together. The first is asked and
 * listened to; the spare, with out-of-band execution, only tells whether QEMU is alive when the first is silent.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Monitor, QmpError } from '../qmp/loop.js';

/** QEMU makes its sockets some time after it starts; and a monitor is free again soon after a client has gone. */
const DIAL_AGAIN_ms = 25;
const SIGN_OF_LIFE_DEADLINE_ms = 500;

export interface LinkEvents {
  onEvent(event: string, data: Readonly<Record<string, unknown>>): void;
  /** The answer to a call that was given up has come. */
  onLate(): void;
  /** One of the two has ended, whoever ended it. */
  onClose(): void;
  /** Whether it is still worth dialling. */
  isWanted(): boolean;
}

export class Link {
  readonly #paths: readonly [string, string];
  readonly #events: LinkEvents;
  #main: Monitor | undefined;
  #spare: Monitor | undefined;
  #dialling = false;

  constructor(paths: readonly [string, string], events: LinkEvents) {
    this.#paths = paths;
    this.#events = events;
  }

  get connected(): boolean {
    return this.#main !== undefined && !this.#main.closed;
  }

  /** A call has missed its deadline, and its answer has not come since. */
  get overdue(): boolean {
    return this.#main !== undefined && this.#main.lateCount > 0;
  }

  get dialling(): boolean {
    return this.#dialling;
  }

  async connect(deadline_ms: number): Promise<void> {
    this.close();
    this.#dialling = true;
    try {
      const end_ms = Date.now() + deadline_ms;
      this.#main = await this.#dial(this.#paths[0], end_ms, false);
      this.#spare = await this.#dial(this.#paths[1], end_ms, true);
    } finally {
      this.#dialling = false;
    }
  }

  async #dial(path: string, end_ms: number, isSpare: boolean): Promise<Monitor> {
    const events = this.#events;
    for (;;) {
      if (!events.isWanted()) throw new QmpError('QMP_CLOSED', 'QEMU has ended');
      try {
        return await Monitor.connect(
          path,
          {
            // Both tell of everything; one is enough.
            onEvent: (event, data) => {
              if (!isSpare) events.onEvent(event, data);
            },
            onLate: () => {
              if (!isSpare) events.onLate();
            },
            onClose: () => events.onClose(),
          },
          { oob: isSpare, deadline_ms: Math.max(end_ms - Date.now(), 1) },
        );
      } catch (error) {
        if (Date.now() + DIAL_AGAIN_ms >= end_ms) throw error;
        await sleep(DIAL_AGAIN_ms);
      }
    }
  }

  call(
    execute: string,
    options: { deadline_ms?: number; arguments?: Record<string, unknown> } = {},
  ): Promise<unknown> {
    if (this.#main === undefined)
      return Promise.reject(new QmpError('QMP_CLOSED', `${execute}: not connected`));
    const { deadline_ms } = options;
    return this.#main.call(execute, options.arguments, deadline_ms === undefined ? {} : { deadline_ms });
  }

  /** Out of band: works while QEMU's main loop stands still. */
  async spareAnswers(): Promise<boolean> {
    if (this.#spare === undefined || this.#spare.closed || !this.#spare.oob) return false;
    try {
      await this.#spare.call('query-yank', undefined, { oob: true, deadline_ms: SIGN_OF_LIFE_DEADLINE_ms });
      return true;
    } catch (error) {
      // A refusal is an answer.
      return error instanceof QmpError && error.code === 'QMP_REFUSED';
    }
  }

  close(): void {
    const { 0: main, 1: spare } = [this.#main, this.#spare];
    this.#main = this.#spare = undefined;
    main?.close();
    spare?.close();
  }
}
