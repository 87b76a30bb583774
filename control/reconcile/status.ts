/**
 * The plan's verdicts as conditions with their times, kept from turn to turn: a condition's time moves only when
 * its status does. Says what changed, for the events. Pure but for what it remembers.
 */
import type { Key } from '../model/resource.js';
import type { Report, Verdict } from './report.js';

export interface ConditionNow extends Verdict {
  type: 'Ready' | 'RestartRequired' | 'SpaceLow';
  lastTransitionTime: string;
}

export interface StatusNow {
  observedGeneration: number;
  conditions: ConditionNow[];
  lastError: string | null;
  observed: Record<string, unknown>;
}

export interface Transition {
  key: Key;
  condition: ConditionNow;
  /** Undefined when it is the first word on the resource. */
  reasonBefore: string | undefined;
}

const NOT_LOOKED: Verdict = { status: 'Unknown', reason: 'Pending', message: 'not looked at yet' };

export class Statuses {
  readonly #now = new Map<Key, StatusNow>();

  get(key: Key): StatusNow | undefined {
    return this.#now.get(key);
  }

  /** Takes the verdicts of a turn; returns the conditions whose status or reason is another than before. */
  update(reports: ReadonlyMap<Key, Report>, generationOf: (key: Key) => number, now: string): Transition[] {
    const transitions: Transition[] = [];
    for (const key of this.#now.keys()) if (!reports.has(key)) this.#now.delete(key);
    for (const [key, report] of reports) {
      const before = this.#now.get(key);
      const conditions: ConditionNow[] = [];
      const add = (type: ConditionNow['type'], verdict: Verdict): void => {
        const old = before?.conditions.find(condition => condition.type === type);
        const condition: ConditionNow = {
          type,
          ...verdict,
          lastTransitionTime: old?.status === verdict.status ? old.lastTransitionTime : now,
        };
        conditions.push(condition);
        // That nothing needs a restart, or room, is no news of something new.
        const isNews =
          old !== undefined || type === 'Ready' || (type === 'SpaceLow' && verdict.status === 'True');
        if (isNews && (old?.status !== verdict.status || old.reason !== verdict.reason))
          transitions.push({ key, condition, reasonBefore: old?.reason });
      };
      add('Ready', report.ready);
      if (report.restartRequired !== undefined) add('RestartRequired', report.restartRequired);
      if (report.spaceLow !== undefined) add('SpaceLow', report.spaceLow);
      this.#now.set(key, {
        observedGeneration: generationOf(key),
        conditions,
        lastError: report.lastError,
        observed: report.observed,
      });
    }
    return transitions;
  }

  /** What is told of a resource that no turn has seen yet. */
  static pending(now: string): StatusNow {
    return {
      observedGeneration: 0,
      conditions: [{ type: 'Ready', ...NOT_LOOKED, lastTransitionTime: now }],
      lastError: null,
      observed: {},
    };
  }

  isReady(key: Key, generation: number): boolean {
    const status = this.#now.get(key);
    return (
      status?.observedGeneration === generation &&
      status.conditions.some(condition => condition.type === 'Ready' && condition.status === 'True')
    );
  }
}
