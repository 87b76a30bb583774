/**
 * The guest's lifecycle as a pure machine: `step(life, event, now_ms, effects)` gives the next life and puts
 * into `effects` what QEMU has to be told. The states are drawn in host.ts; here is what moves between them.
 * guest/process.ts feeds it what QMP and the process table say, and carries the effects out.
 *
 * Why an end is what it is, is known before QEMU is gone: QEMU stays after a power-off or a panic (see -action
 * in arguments.ts), so `ending` is set by what it says then, and QEMU is told to quit. When it is gone
 * without an `ending` and without having been asked, it has crashed.
 */
import type { GuestState, ObservedGuest } from './host.js';

export type Ended = NonNullable<ObservedGuest['ended']>;

export interface Life {
  state: GuestState;
  reason: string | null;
  ended: Ended | null;
  qemuStatus: string | null;
  /** What was last asked for, and until when an end is put down to that. */
  asked: { what: 'stop' | 'kill'; until_ms: number } | null;
  /** Known from QEMU's own words, before it is gone. */
  ending: { ended: Ended; reason: string | null } | null;
  diskErrors: { count: number; last: string } | null;
}

export type LifeEvent =
  | { type: 'starting' }
  /** The answer to query-status: at start, at adoption, and each time it was asked. */
  | { type: 'status'; status: string }
  | { type: 'qmp'; event: string; data: Readonly<Record<string, unknown>> }
  | { type: 'asked'; what: 'stop' | 'kill'; timeout_ms: number }
  /** The guest did not power off in time, and is left alone. */
  | { type: 'askedInVain' }
  | { type: 'silent'; reason: string }
  /** QEMU is no more; `how` in words, as far as it is known. */
  | { type: 'gone'; how: string };

/** `cont`: let the CPUs run. `quit`: QEMU holds a guest that has ended; end it too. */
export type LifeEffect = 'cont' | 'quit';

/** A guest that powers off this long after it was asked in vain still does so because it was asked. */
const LATE_STOP_ms = 60_000;

export const UNSTARTED: Life = {
  state: 'stopped',
  reason: null,
  ended: null,
  qemuStatus: null,
  asked: null,
  ending: null,
  diskErrors: null,
};

export function step(life: Life, event: LifeEvent, now_ms: number, effects: LifeEffect[]): Life {
  switch (event.type) {
    case 'starting':
      return { ...UNSTARTED, state: 'starting' };
    case 'status':
      return onStatus(life, event.status, now_ms, effects);
    case 'qmp':
      return onQmp(life, event.event, event.data, now_ms, effects);
    case 'asked': {
      const asked = { what: event.what, until_ms: now_ms + event.timeout_ms + LATE_STOP_ms };
      return { ...life, asked, state: 'stopping', reason: null };
    }
    case 'askedInVain': {
      const state = life.state === 'stopping' ? stateOf(life.qemuStatus) : life.state;
      return { ...life, state, reason: 'it did not react when it was asked to power off' };
    }
    case 'silent':
      return { ...life, state: 'unresponsive', reason: event.reason };
    case 'gone':
      return onGone(life, event.how, now_ms);
  }
}

/** A run state that the guest cannot leave by itself or by `cont`. */
const ENDINGS: Readonly<Record<string, string>> = {
  'guest-panicked': "the guest's kernel panicked",
  'internal-error': 'QEMU or KVM met an internal error and gave the guest up',
};

function onStatus(life: Life, status: string, now_ms: number, effects: LifeEffect[]): Life {
  const isPast = life.asked !== null && !isAsked(life, now_ms);
  // What was asked for in vain is forgotten in time, and so are the words about it.
  const next = { ...life, qemuStatus: status, ...(isPast ? { asked: null, reason: null } : {}) };
  if (status === 'shutdown') return powerOff(next, now_ms, effects);
  const fatal = ENDINGS[status];
  if (fatal !== undefined) return end(next, 'crashed', fatal, effects);
  // Left there by a weftd that ended between starting QEMU and letting the CPUs run.
  if (status === 'prelaunch') {
    effects.push('cont');
    return { ...next, state: 'starting' };
  }
  const wasSilent = life.state === 'unresponsive';
  const state =
    life.state === 'stopping' || (wasSilent && isAsked(life, now_ms)) ? 'stopping' : stateOf(status);
  return { ...next, state, reason: wasSilent || state !== life.state ? statusReason(status) : next.reason };
}

function onQmp(
  life: Life,
  event: string,
  data: Readonly<Record<string, unknown>>,
  now_ms: number,
  effects: LifeEffect[],
): Life {
  switch (event) {
    case 'RESUME':
      return onStatus(life, 'running', now_ms, effects);
    case 'STOP':
      // QEMU also says so after a power-off; what it means then is known already.
      return life.ending === null ? onStatus(life, 'paused', now_ms, effects) : life;
    case 'SHUTDOWN':
      return onShutdown(life, typeof data['reason'] === 'string' ? data['reason'] : '', now_ms, effects);
    case 'GUEST_PANICKED':
      return end({ ...life, qemuStatus: 'guest-panicked' }, 'crashed', ENDINGS['guest-panicked']!, effects);
    case 'GUEST_CRASHLOADED':
      return { ...life, reason: "the guest's kernel panicked and is dumping its memory" };
    case 'BLOCK_IO_ERROR':
      return { ...life, diskErrors: { count: (life.diskErrors?.count ?? 0) + 1, last: diskError(data) } };
    default:
      return life;
  }
}

/** qapi/run-state.json, ShutdownCause. */
function onShutdown(life: Life, cause: string, now_ms: number, effects: LifeEffect[]): Life {
  if (life.ending !== null) return life;
  switch (cause) {
    case 'guest-shutdown':
      return powerOff({ ...life, qemuStatus: 'shutdown' }, now_ms, effects);
    case 'guest-panic':
      return end(life, 'crashed', ENDINGS['guest-panicked']!, effects);
    case 'host-qmp-quit':
      return { ...life, ending: { ended: 'killed', reason: null } };
    case 'host-signal':
      return {
        ...life,
        ending: { ended: 'crashed', reason: 'QEMU was ended by a signal from outside weft' },
      };
    default:
      return { ...life, ending: { ended: 'crashed', reason: `QEMU shut down by itself (${cause})` } };
  }
}

function powerOff(life: Life, now_ms: number, effects: LifeEffect[]): Life {
  return isAsked(life, now_ms)
    ? end(life, 'stopped', null, effects)
    : end(life, 'guest-poweroff', 'the guest powered off', effects);
}

function end(life: Life, ended: Ended, reason: string | null, effects: LifeEffect[]): Life {
  if (life.ending !== null) return life;
  effects.push('quit');
  return { ...life, state: 'stopping', reason, ending: { ended, reason } };
}

function onGone(life: Life, how: string, now_ms: number): Life {
  const ending =
    life.ending ??
    (life.asked?.what === 'kill' && isAsked(life, now_ms)
      ? ({ ended: 'killed', reason: null } as const)
      : ({ ended: 'crashed', reason: how } as const));
  const words = ending.reason === null || ending.reason === how ? ending.reason : `${ending.reason}; ${how}`;
  return {
    ...UNSTARTED,
    state: ending.ended === 'crashed' ? 'crashed' : 'stopped',
    ended: ending.ended,
    // Beyond a crash, how QEMU ended after its guest is of no interest.
    reason: ending.ended === 'crashed' ? words : ending.reason,
    diskErrors: life.diskErrors,
  };
}

function isAsked(life: Life, now_ms: number): boolean {
  return life.asked !== null && now_ms <= life.asked.until_ms;
}

/** qapi/run-state.json, RunState: all but these stand still. */
function stateOf(status: string | null): GuestState {
  if (status === 'running') return 'running';
  return status === 'prelaunch' || status === 'inmigrate' || status === null ? 'starting' : 'paused';
}

function statusReason(status: string): string | null {
  if (status === 'running' || status === 'paused') return null;
  if (status === 'io-error') return 'QEMU paused it at a disk error';
  return `QEMU calls its state ${status}`;
}

function diskError(data: Readonly<Record<string, unknown>>): string {
  const node =
    typeof data['node-name'] === 'string' && data['node-name'] !== '' ? data['node-name'] : 'a disk';
  const operation = data['operation'] === 'read' ? 'read' : 'write';
  const words = typeof data['reason'] === 'string' ? data['reason'] : 'no reason given';
  // `nospace` is filled in only when QEMU is told to stop at such errors; the words are there always.
  const isFull = data['nospace'] === true || /no space left/i.test(words);
  const why = isFull ? 'ENOSPC: no space left under the volume' : words;
  return `${node}: a ${operation} failed (${why})`;
}
