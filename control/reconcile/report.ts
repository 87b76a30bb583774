/** What the plan says of one resource; status.ts makes the API's conditions of it. */
import type { DataplaneConfig } from '../../dataplane/contract.js';
import type { StorageConfig } from '../../storage/contract.js';
import type { Key } from '../model/resource.js';
import type { Action } from './action.js';

export interface Verdict {
  status: 'True' | 'False' | 'Unknown';
  /** One CamelCase word; README.md lists them. */
  reason: string;
  message: string;
}

export interface Report {
  ready: Verdict;
  /** Machines only. */
  restartRequired?: Verdict;
  /** Pools only: an alarm, which holds nobody back. */
  spaceLow?: Verdict;
  /** Whether what refers to it may go on. Weaker than ready: a full volume still serves. */
  usable: boolean;
  observed: Record<string, unknown>;
  lastError: string | null;
}

export interface PlannedAction {
  action: Action;
  /** Under which it runs once at a time and its failures are counted. */
  id: string;
  /** Of the spec that it is done for. */
  generation: number;
}

export interface Planned {
  /** In the order in which they should begin; none needs another of the same list to end first. */
  actions: PlannedAction[];
  /** Resources whose plane has the newest word on them. */
  inEffect: Key[];
  reports: Map<Key, Report>;
  /** What each plane is to have, for it to be told at once when it is started again; null while it is not up. */
  configs: { dataplane: DataplaneConfig | null; storage: StorageConfig | null };
  /** No plane that is up lacks any of it: a stopped machine's disk, say, is served no more. */
  planesHaveTheirs: boolean;
  /** When to plan again though nothing happens; null when there is no need. */
  wakeAt_ms: number | null;
}

export function good(reason: string, message: string): Verdict {
  return { status: 'True', reason, message };
}

export function bad(reason: string, message: string): Verdict {
  return { status: 'False', reason, message };
}

export function unknown(reason: string, message: string): Verdict {
  return { status: 'Unknown', reason, message };
}
