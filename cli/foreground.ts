/**
 * Stays with a running weft, shows its events, and takes everything down when it is told to end. A weftd that this command
 * started and that dies is started again; one that somebody else ended is left ended.
 */
import type { Client } from './client.js';
import { ensureWeftd, isServing, type RunningWeftd } from './daemon.js';
import { formatEvent } from './eventLines.js';
import type { Session } from './session.js';
import { shutDown } from './shutdown.js';
import type { StatePaths } from './state.js';
import { follow } from './verbs/events.js';
import { setTimeout as sleep } from 'node:timers/promises';

const GRACE_MS = 30_000;
const LOOK_EVERY_MS = 500;
/** Under npm one Ctrl-C comes twice: from the terminal, and handed on by npm. */
const SAME_KEY_MS = 700;
/** A weftd that dies more often than this is not helped by starting it again. */
const MAX_RESTARTS = 5;

export interface Foreground {
  /** Called once when the end was asked for; nothing is shut down before it has resolved. */
  onEnding?: () => Promise<void>;
  /** False: somebody else shows what happens. */
  showEvents?: boolean;
  /** Ends it as a signal would. */
  signal?: AbortSignal;
}

export async function holdForeground(
  session: Session,
  client: Client,
  paths: StatePaths,
  weftd: RunningWeftd,
  options: Foreground = {},
): Promise<void> {
  const ending = new AbortController();
  const hurry = new AbortController();
  let askedAt_ms = 0;
  const ask = () => {
    const now_ms = Date.now();
    if (!ending.signal.aborted) {
      askedAt_ms = now_ms;
      ending.abort();
    } else if (now_ms - askedAt_ms >= SAME_KEY_MS) hurry.abort();
  };
  const off = session.io.onSignal(ask);
  options.signal?.addEventListener('abort', ask, { once: true });
  if (options.signal?.aborted === true) ask();
  try {
    if (options.showEvents !== false) {
      session.say('Staying here; Ctrl-C shuts everything down.');
      void showEvents(session, client, ending.signal);
    }
    if (!(await stay(session, client, paths, weftd, ending.signal))) return;
    await options.onEnding?.();
    session.say('Shutting down; Ctrl-C once more hurries.');
    await end(session, client, hurry.signal);
    session.say('Everything is down; the disks stay.');
  } finally {
    ending.abort();
    off();
  }
}

/** True when the end was asked for here, false when weftd was ended by somebody else. */
async function stay(
  session: Session,
  client: Client,
  paths: StatePaths,
  first: RunningWeftd,
  ending: AbortSignal,
): Promise<boolean> {
  let weftd = first;
  let restarts = 0;
  for (;;) {
    await sleep(LOOK_EVERY_MS, undefined, { signal: ending }).catch(() => undefined);
    if (ending.aborted) return true;
    if (await isServing(client).catch(() => true)) continue;
    const { child } = weftd;
    const crashed =
      child !== null && (child.signalCode !== null || (child.exitCode !== null && child.exitCode !== 0));
    if (!crashed || restarts >= MAX_RESTARTS) {
      session.say(
        crashed
          ? 'weftd keeps dying; giving up. See "weft logs weftd".'
          : 'weftd was ended by somebody else.',
      );
      return false;
    }
    restarts++;
    session.say(`weftd died (${child?.signalCode ?? `exit code ${child?.exitCode}`}); starting it again.`);
    weftd = await ensureWeftd(session, client, paths);
  }
}

async function end(session: Session, client: Client, hurry: AbortSignal): Promise<void> {
  const hurried = new Promise<void>((resolve, reject) => {
    hurry.addEventListener(
      'abort',
      () => {
        session.say('Hurrying: machines are killed.');
        shutDown(session, client, { everything: true, timeout_ms: 0 }).then(resolve, reject);
      },
      { once: true },
    );
  });
  await Promise.race([shutDown(session, client, { everything: true, timeout_ms: GRACE_MS }), hurried]);
}

async function showEvents(session: Session, client: Client, signal: AbortSignal): Promise<void> {
  try {
    for await (const event of follow(session, client, { since: 0 }, signal)) {
      session.print(formatEvent(event, session.out));
    }
  } catch (error) {
    if (!signal.aborted)
      session.say(`events are no longer shown: ${error instanceof Error ? error.message : String(error)}`);
  }
}
