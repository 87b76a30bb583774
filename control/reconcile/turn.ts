/**
 * One turn of planning: what all judges (volumes.ts, machines.ts, …) share. A judge looks at one resource,
 * reports on it, and asks here for actions; an action that runs already, or that failed a moment ago, is held
 * back here and nowhere else.
 */
import type { PortStatus } from '../../dataplane/contract.js';
import type { Layout } from '../model/layout.js';
import type { Key } from '../model/resource.js';
import { splitKey } from '../model/resource.js';
import type { Action } from './action.js';
import { actionId } from './action.js';
import type { Attempt, Attempts } from './attempts.js';
import type { Desired } from './desired.js';
import type { Observed } from './observed.js';
import { bad } from './report.js';
import type { Planned, PlannedAction, Report, Verdict } from './report.js';
import type { Sockets } from './boot.js';

export interface Situation {
  desired: Desired;
  observed: Observed;
  attempts: Attempts;
  sockets: Sockets;
  layout: Layout;
  now_ms: number;
  /** The generation of a resource that was last seen in effect, so that unrelated changes do not unsettle it. */
  inEffect: ReadonlyMap<Key, number>;
  /** By machine, the boot that did not get so far as to run. */
  failedBoots: ReadonlyMap<string, string | null>;
  /** What an action that runs says of its progress. */
  progressOf(id: string): string | undefined;
}

export class Turn {
  readonly at: Situation;
  readonly actions: PlannedAction[] = [];
  readonly reports = new Map<Key, Report>();
  /** Whether each plane has the configuration that this turn wants. */
  dataplaneInSync = false;
  storageInSync = false;
  wakeAt_ms: number | null = null;
  configs: Planned['configs'] = { dataplane: null, storage: null };
  readonly #ports = new Map<string, ReadonlyMap<string, PortStatus>>();

  constructor(situation: Situation) {
    this.at = situation;
  }

  /** A switch's ports by name; made once per turn, since machines ask one by one. */
  portsOf(name: string): ReadonlyMap<string, PortStatus> | undefined {
    let ports = this.#ports.get(name);
    if (ports === undefined) {
      const seen = this.at.observed.dataplane?.switches.get(name);
      if (seen === undefined) return undefined;
      ports = new Map(seen.ports.map(port => [port.name, port]));
      this.#ports.set(name, ports);
    }
    return ports;
  }

  generation(key: Key): number {
    return this.at.desired.generations.get(key) ?? this.at.desired.burials.get(key)?.generation ?? 0;
  }

  /** Asks for an action; the last failure is returned while it is held back or being tried again. */
  act(action: Action, generation: number): Attempt | undefined {
    const id = actionId(action);
    const last = this.at.attempts.last(id, generation);
    if (this.at.attempts.isRunning(id)) return last;
    if (last !== undefined && last.notBefore_ms > this.at.now_ms) {
      this.wakeBy(last.notBefore_ms);
      return last;
    }
    this.actions.push({ action, id, generation });
    return last;
  }

  /** Plan again then, though nothing happens. */
  wakeBy(at_ms: number): void {
    this.wakeAt_ms = Math.min(this.wakeAt_ms ?? Number.POSITIVE_INFINITY, at_ms);
  }

  /** `act`, and a verdict: what is being done, or why it failed. */
  acting(
    action: Action,
    generation: number,
    [reason, failed]: readonly [reason: string, failed: string],
    message: string,
  ): [Verdict, string | null] {
    const last = this.act(action, generation);
    const progress = this.at.progressOf(actionId(action));
    if (progress !== undefined) return [bad(reason, progress), last?.error ?? null];
    if (last === undefined) return [bad(reason, message), null];
    const wait_s = Math.ceil(Math.max(0, last.notBefore_ms - this.at.now_ms) / 1000);
    const again = wait_s > 0 ? `; tried again in ${wait_s} s` : '; being tried again';
    const words = `${last.error} (failed ${last.failureCount} time${last.failureCount === 1 ? '' : 's'}${again})`;
    return [bad(failed, words), last.error];
  }

  report(key: Key, report: Partial<Report> & { ready: Verdict }): void {
    this.reports.set(key, {
      usable: report.ready.status === 'True',
      observed: {},
      lastError: null,
      ...report,
    });
  }

  /** The first of these that is not usable, as the verdict on what needs it. */
  blockedBy(keys: readonly Key[]): Verdict | undefined {
    for (const key of keys) {
      const report = this.reports.get(key);
      if (report?.usable === true) continue;
      const { kind, name } = splitKey(key);
      const why = report === undefined ? 'it is not there' : report.ready.message;
      return bad('DependencyNotReady', `waits for ${kind} "${name}": ${why}`);
    }
    return undefined;
  }

  /** The verdict on what a plane has not taken yet. */
  applying(plane: 'dataplane' | 'storage'): Verdict {
    const config = this.configs[plane];
    const verb = plane === 'dataplane' ? 'configureDataplane' : 'configureStorage';
    const last = config === null ? undefined : this.at.attempts.last(verb, config.generation);
    if (last === undefined) return bad('Applying', `weft-${plane} is being told`);
    return bad('ApplyFailed', `weft-${plane} does not take its configuration: ${last.error}`);
  }

  /** Whether the newest word on this resource is in effect, given that its plane has (or has not) the latest. */
  inEffect(key: Key, planeInSync: boolean): boolean {
    return planeInSync || this.at.inEffect.get(key) === this.generation(key);
  }
}
