/**
 * A volume on its way to another pool while it is used. What weftd remembers of it decides, so that any death leaves a state that
 * the next turn goes on from:
 *
 *   copying   `to` is the second side of a mirror, as if the spec said so; an export of our own keeps the mirror open
 *   cutting   the mirror is the same on both sides: nothing of it is exported, so nobody writes. The plane is asked what the
 *             mirror's journal says now that it is closed. The same: the spec says the other pool, in one commit with the
 *             next state. Not the same: copying again
 *   arrived   the other pool has it; what lies in the first is destroyed, unless it was to be kept
 *
 * Guests go on meanwhile: a disk's NBD name is that of the volume that it was booted with, and `was` says which pools that
 * may be. The fact goes when no guest lives that knows an old name.
 */
import type { SpecOf } from '../model/spec.js';
import { volumeOfNbdName } from './boot.js';
import type { Desired, DiskOf, MoveFact } from './desired.js';
import { isActive } from './observed.js';
import type { Turn } from './turn.js';

type Spec = SpecOf['volume'];

/** After a cut that was not one: so long it is mirrored on before the next. */
const CUT_AGAIN_MS = 15_000;
/** Nobody tells how far a mirror is. */
const LOOK_MS = 1000;

/** The pool that it is on its way to; undefined also when the configuration says otherwise by now. */
export function moveTarget(desired: Desired, name: string): string | undefined {
  const to = desired.moveFacts.get(name)?.to;
  const spec = desired.specs.volume.get(name);
  if (to === undefined || spec === undefined || spec.mirror !== undefined) return undefined;
  return spec.pool === to || !desired.specs.pool.has(to) ? undefined : to;
}

/** What is carried out of a spec: while it is moved, a mirror. */
export function carriedOut(desired: Desired, name: string, spec: Spec): Spec {
  const to = moveTarget(desired, name);
  return to === undefined ? spec : { ...spec, mirror: { pool: to } };
}

/** Nothing may write to it now. */
export function isCut(desired: Desired, name: string): boolean {
  return desired.moveFacts.get(name)?.cutting === true && moveTarget(desired, name) !== undefined;
}

/** Whether a volume that lies there is a side of one that is moved, or its remains. */
export function isPartOfMove(desired: Desired, pool: string, name: string): boolean {
  return desired.moveFacts.get(name)?.drop === pool || moveTarget(desired, name) === pool;
}

/** The volume that a guest's disk is now. Not by the spec, which may be another volume's of this name by now. */
export function volumeOfDisk(desired: Desired, nbdName: string): DiskOf | undefined {
  const named = volumeOfNbdName(nbdName);
  const fact = named === undefined ? undefined : desired.moveFacts.get(named.volume);
  if (named === undefined || fact?.at === undefined || !fact.was.includes(named.pool)) return named;
  return { pool: fact.at, volume: named.volume };
}

/** Takes the next step of a move, if one is under way; the words are for its condition. */
export function keepMove(turn: Turn, name: string, spec: Spec): string | undefined {
  const { desired, observed, now_ms } = turn.at;
  const fact = desired.moveFacts.get(name);
  if (fact === undefined) return undefined;
  const remember = (next: MoveFact | null): void =>
    void turn.act({ type: 'rememberMove', name, fact: next }, turn.generation(`volume/${name}`));
  const { to: _to, cutting: _cutting, notBefore_ms: _notBefore, ...rest } = fact;
  if (fact.to !== undefined) {
    const to = moveTarget(desired, name);
    if (to === undefined) {
      remember(rest);
      return undefined;
    }
    turn.wakeBy(now_ms + LOOK_MS);
    if (fact.cutting === true) {
      const cut = { type: 'cutMove', pool: spec.pool, name, to } as const;
      if (turn.storageInSync) turn.act(cut, turn.generation(`volume/${name}`));
      return `is handed over to pool "${to}"`;
    }
    const state = observed.storage?.volumes.get(`${spec.pool}/${name}`)?.mirror;
    if (state?.state === 'in-sync' && turn.storageInSync && now_ms >= (fact.notBefore_ms ?? 0))
      remember({ ...fact, cutting: true });
    return `is being moved to pool "${to}"${state?.reason === undefined || state.reason === null ? '' : `: ${state.reason}`}`;
  }
  if (fact.drop !== undefined) {
    const { drop } = fact;
    const isThere = observed.storage?.volumes.has(`${drop}/${name}`) === true;
    if (isThere && turn.storageInSync)
      turn.act({ type: 'destroyVolume', pool: drop, name }, turn.generation(`volume/${name}`));
    const seen = observed.storage?.pools.get(drop)?.state;
    if (!isThere && (seen === 'open' || seen === 'low' || !desired.specs.pool.has(drop))) {
      const { drop: _drop, ...left } = fact;
      remember(left);
    }
    return isThere ? `what lies in pool "${drop}" is being destroyed` : undefined;
  }
  if (!isKnownByOldName(turn, name, fact)) remember(null);
  return undefined;
}

function isKnownByOldName(turn: Turn, name: string, { was }: MoveFact): boolean {
  for (const { guest } of turn.at.observed.guests.values())
    for (const { nbdName } of isActive(guest) ? (guest.plan?.disks ?? []) : []) {
      const named = volumeOfNbdName(nbdName);
      if (named?.volume === name && was.includes(named.pool)) return true;
    }
  return false;
}

/** When its resource goes, or another takes its name: what guests that live still need. */
export function outOfConfiguration({ was, at }: MoveFact): MoveFact | null {
  return at === undefined ? null : { was, at };
}

/** After the plane said that the sides differ. */
export function cutFailed(fact: MoveFact, now_ms: number): MoveFact {
  return { ...fact, cutting: false, notBefore_ms: now_ms + CUT_AGAIN_MS };
}

/** When it lies in the other pool. `from` is kept where it is to be, or has snapshots, which do not move. */
export function arrived({ was }: MoveFact, from: string, to: string, isKept: boolean): MoveFact {
  return {
    at: to,
    was: [...new Set([...was, from])].filter(pool => pool !== to),
    ...(isKept ? {} : { drop: from }),
  };
}
