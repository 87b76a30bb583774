/**
 * What a person does to a machine: start, stop, kill, reset, pause, resume. The first three are words about the
 * desired state, remembered in the store, so that a restarted weftd keeps a stopped machine stopped:
 *
 *   the newest word wins: `weft machine start|stop|kill` outweighs the spec's `running`,
 *   until an applied spec changes `running`, which outweighs them.
 *
 * The loop carries them out; here one waits, with a deadline, until it has been seen.
 */
import type { Clock } from '../clock.js';
import { keyOf } from '../model/resource.js';
import type { SpecOf } from '../model/spec.js';
import { durationOf_ms } from '../model/meaning.js';
import type { Keeper } from '../store/keeper.js';
import { VmmError } from '../vmm/errors.js';
import type { GuestHost, ObservedGuest } from '../vmm/host.js';
import { idOf } from './action.js';
import { isActive, isAlive } from './observed.js';
import type { Reconciler } from './loop.js';

export const VERBS = ['start', 'stop', 'kill', 'reset', 'pause', 'resume'] as const;
export type MachineVerb = (typeof VERBS)[number];

export class MachineError extends Error {
  override readonly name = 'MachineError';
  readonly code: 'MACHINE_UNKNOWN' | 'MACHINE_START_FAILED' | 'MACHINE_TIMEOUT';
  constructor(code: MachineError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const START_TIMEOUT_MS = 60_000;
/** For verbs that QEMU answers at once. */
const QUICK_TIMEOUT_MS = 15_000;
/** The loop has its own deadline for a stop; ours is a little later, to tell its words. */
const STOP_SLACK_MS = 2_000;

export class MachineVerbs {
  readonly #keeper: Keeper;
  readonly #guests: GuestHost;
  readonly #reconciler: Reconciler;
  readonly #clock: Clock;

  constructor(keeper: Keeper, guests: GuestHost, reconciler: Reconciler, clock: Clock) {
    this.#keeper = keeper;
    this.#guests = guests;
    this.#reconciler = reconciler;
    this.#clock = clock;
  }

  async run(verb: MachineVerb, name: string, timeout_ms: number | undefined): Promise<void> {
    const resource = this.#keeper.resources.get(keyOf('machine', name));
    if (resource === undefined) throw new MachineError('MACHINE_UNKNOWN', `there is no machine "${name}"`);
    const spec = resource.spec as SpecOf['machine'];
    switch (verb) {
      case 'start':
        return this.#start(name, spec, timeout_ms ?? START_TIMEOUT_MS);
      case 'stop':
        return this.#stop(name, spec, timeout_ms);
      case 'kill':
        await this.#wantStopped(name, spec);
        return this.#quickly(name, 'kill', this.#guests.kill(name));
      case 'reset':
        return this.#quickly(name, 'reset', this.#guests.reset(name));
      case 'pause':
        return this.#quickly(name, 'pause', this.#guests.pause(name));
      case 'resume':
        return this.#quickly(name, 'resume', this.#guests.resume(name));
    }
  }

  async #start(name: string, spec: SpecOf['machine'], timeout_ms: number): Promise<void> {
    const startId = idOf('startMachine', name);
    this.#reconciler.attempts.forget(startId);
    const guest = this.#guest(name);
    const ended = guest === undefined || isAlive(guest) ? null : guest.bootId;
    await this.#keeper.rememberMachine(name, () => ({
      // The spec's own word needs no reminder.
      ...(spec.running ? {} : { intent: 'started' as const }),
      ...(ended === null ? {} : { dismissed: ended }),
    }));
    this.#reconciler.wake();
    if (timeout_ms === 0) return;
    const generation = this.#keeper.resources.get(keyOf('machine', name))?.generation ?? 0;
    await this.#until(name, timeout_ms, now => {
      const failed = this.#reconciler.attempts.last(startId, generation);
      if (failed !== undefined)
        throw new MachineError('MACHINE_START_FAILED', `machine "${name}" did not start: ${failed.error}`);
      return now?.state === 'running' || now?.state === 'paused';
    });
  }

  async #wantStopped(name: string, spec: SpecOf['machine']): Promise<void> {
    await this.#keeper.rememberMachine(name, ({ dismissed }) => ({
      ...(spec.running ? { intent: 'stopped' as const } : {}),
      ...(dismissed === undefined ? {} : { dismissed }),
    }));
  }

  async #stop(name: string, spec: SpecOf['machine'], timeout_ms: number | undefined): Promise<void> {
    this.#reconciler.attempts.forget(idOf('stopMachine', name));
    await this.#wantStopped(name, spec);
    this.#reconciler.wake();
    if (timeout_ms === 0) return;
    const wait_ms = timeout_ms ?? durationOf_ms(spec.stopTimeout) + STOP_SLACK_MS;
    await this.#until(name, wait_ms, guest => !isActive(guest));
  }

  #guest(name: string): ObservedGuest | undefined {
    return this.#guests.list().find(guest => guest.name === name);
  }

  /** Looks whenever something changed, until it is so. */
  async #until(
    name: string,
    timeout_ms: number,
    isSo: (guest: ObservedGuest | undefined) => boolean,
  ): Promise<void> {
    let look = (): void => {};
    const cancels: (() => void)[] = [];
    try {
      await new Promise<void>((resolve, reject) => {
        look = () => {
          try {
            if (isSo(this.#guest(name))) resolve();
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)));
          }
        };
        cancels.push(
          this.#guests.onChange(changed => {
            if (changed === name) look();
          }),
          this.#reconciler.onTurn(look),
          this.#clock.after(timeout_ms, () => reject(this.#timedOut(name, timeout_ms))),
        );
        look();
      });
    } finally {
      for (const cancel of cancels) cancel();
    }
  }

  #timedOut(name: string, timeout_ms: number): MachineError {
    const ready = this.#reconciler.statuses
      .get(keyOf('machine', name))
      ?.conditions.find(condition => condition.type === 'Ready');
    const why = ready === undefined ? '' : `: ${ready.message}`;
    return new MachineError(
      'MACHINE_TIMEOUT',
      `machine "${name}": not done within ${timeout_ms / 1000} s${why}`,
    );
  }

  /** The edge has deadlines of its own; this one is for the day when it has not. */
  async #quickly(name: string, verb: string, work: Promise<void>): Promise<void> {
    let cancel = (): void => {};
    const late = new Promise<never>((_, reject) => {
      cancel = this.#clock.after(QUICK_TIMEOUT_MS, () =>
        reject(new VmmError('VMM_UNRESPONSIVE', `machine "${name}" did not answer ${verb} in time`)),
      );
    });
    try {
      await Promise.race([work, late]);
    } finally {
      cancel();
    }
  }
}
