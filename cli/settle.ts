/**
 * Waits until resources are as asked for, and shows the way there. It looks at the resources again and again rather
 * than trusting events, so that it cannot miss one; a weftd that restarts meanwhile is waited for.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Resource } from '../control/api/contract.js';
import type { Client } from './client.js';
import { CliError, NotRunningError } from './errors.js';
import { startProgress, type ProgressRow } from './progress.js';
import { isReady, listResources, readiness } from './resources.js';
import type { Session } from './session.js';

export interface Target {
  kind: string;
  name: string;
  /** Wait for it to be gone. */
  gone?: boolean;
}

const FIRST_LOOK_MS = 100;
const LONGEST_PAUSE_MS = 1000;
const WEFTD_AWAY_MS = 15_000;

export interface Waiting {
  /** Null: every resource there is. */
  targets: readonly Target[] | null;
  deadline_ms: number;
  signal?: AbortSignal | undefined;
}

export async function settle(session: Session, client: Client, waiting: Waiting): Promise<Resource[]> {
  const progress = startProgress(session);
  const deadlineAt_ms = Date.now() + waiting.deadline_ms;
  let lastAnswerAt_ms = Date.now();
  let pause_ms = FIRST_LOOK_MS;
  let rows: ProgressRow[] = [];
  try {
    for (;;) {
      try {
        const resources = await listResources(client, {}, waiting.signal);
        lastAnswerAt_ms = Date.now();
        rows = lookAt(resources, waiting.targets);
        progress.update(rows);
        if (rows.every(row => row.state === 'ok')) return resources;
      } catch (error) {
        waiting.signal?.throwIfAborted();
        const away_ms = Date.now() - lastAnswerAt_ms;
        if (!(error instanceof NotRunningError) || away_ms > WEFTD_AWAY_MS) throw error;
        progress.update([
          ...rows,
          { key: 'weftd', state: 'busy', text: 'weftd does not answer; waiting for it' },
        ]);
      }
      const left_ms = deadlineAt_ms - Date.now();
      if (left_ms <= 0) throw notSettled(rows, waiting.deadline_ms);
      await sleep(Math.min(pause_ms, left_ms), undefined, { signal: waiting.signal });
      pause_ms = Math.min(LONGEST_PAUSE_MS, pause_ms * 1.5);
    }
  } finally {
    progress.end();
  }
}

/** One row for each target: what it waits for. */
export function lookAt(resources: readonly Resource[], targets: readonly Target[] | null): ProgressRow[] {
  const wanted: readonly Target[] =
    targets ?? resources.map(({ kind, name, deleting }) => ({ kind, name, gone: deleting }));
  return wanted.map(target => {
    const key = `${target.kind} ${target.name}`;
    const resource = resources.find(({ kind, name }) => kind === target.kind && name === target.name);
    if (target.gone === true) {
      if (resource === undefined) return { key, state: 'ok', text: `${key}: deleted` };
      return {
        key,
        state: 'busy',
        text: phrase(key, { reason: 'Deleting', message: resource.status.lastError ?? '' }),
      };
    }
    if (resource === undefined) return { key, state: 'busy', text: `${key}: not there yet` };
    const state = readiness(resource);
    return { key, state: isReady(resource) ? 'ok' : 'busy', text: phrase(key, state) };
  });
}

function phrase(key: string, state: { reason: string; message: string }): string {
  if (state.reason === 'DependencyNotReady') return `${key}: ${withoutCause(state.message)}`;
  const reason = state.reason === '' ? 'pending' : state.reason;
  return state.message === '' ? `${key}: ${reason}` : `${key}: ${reason}: ${state.message}`;
}

/** `waits for image "tiny": downloading …`: what that one waits for is said in its own row. */
export function withoutCause(message: string): string {
  return message.replace(/^(waits for [^:]*): .*/s, '$1');
}

function notSettled(rows: readonly ProgressRow[], deadline_ms: number): CliError {
  const open = rows.filter(row => row.state !== 'ok');
  const list = open.map(row => `\n  ${row.text}`).join('');
  return new CliError('NOT_SETTLED', `not settled after ${deadline_ms / 1000} s:${list}`, {
    hint: 'weftd keeps trying. See "weft describe KIND NAME" and "weft events"; wait longer with --timeout.',
  });
}
