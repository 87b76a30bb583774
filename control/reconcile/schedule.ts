/**
 * Snapshots by the clock: (now, what there is) -> what to make, what to delete, when to look again. Pure.
 *
 * Only snapshots with our label count, and only they are ever deleted. A clock that jumps, either way, makes neither a
 * storm (one snapshot is made at most, as the new time has its own "last") nor a loss: what is deleted are always the
 * first of the list beyond `keep`, in the order in which they were made, not by their dates. When one was made is read
 * from its name, which is of the clock that is asked here; the plane may date snapshots so that they never go back.
 */
import type { SnapshotStatus } from '../../storage/contract.js';

export const SCHEDULE_LABEL = 'weft.schedule';

const MINUTE_MS = 60_000;

export interface Schedule {
  /** Name of the snapshot that is due, or null. */
  make: string | null;
  prune: string[];
  wakeAt_ms: number;
}

/** `auto-20260131-0900`, by UTC. */
export function scheduledName(now_ms: number): string {
  const digits = new Date(now_ms).toISOString().replace(/[-:]/g, '');
  return `auto-${digits.slice(0, 8)}-${digits.slice(9, 13)}`;
}

function madeAt_ms({ name, createdAt_ms }: SnapshotStatus): number {
  const match = /^auto-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)$/.exec(name);
  if (match === null) return createdAt_ms;
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0] = match.slice(1).map(Number);
  return Date.UTC(year, month - 1, day, hour, minute);
}

/** `snapshots`: in the order in which they were made. `isInUse`: clones or exports hold it. */
export function scheduleOf(
  now_ms: number,
  { every_ms, keep }: { every_ms: number; keep: number },
  snapshots: readonly SnapshotStatus[],
  isInUse: (snapshot: SnapshotStatus) => boolean,
): Schedule {
  const ours = snapshots.filter(({ labels }) => labels[SCHEDULE_LABEL] !== undefined);
  const past = ours.map(madeAt_ms).filter(at_ms => at_ms <= now_ms);
  // On the hour for `1h`, wherever the first one fell.
  const dueAt_ms = past.length === 0 ? now_ms : (Math.floor(Math.max(...past) / every_ms) + 1) * every_ms;
  const name = scheduledName(now_ms);
  // The same minute twice: a clock that went back, or another's snapshot of that name.
  const isTaken = snapshots.some(one => one.name === name);
  const isDue = dueAt_ms <= now_ms;
  const nextMinute_ms = (Math.floor(now_ms / MINUTE_MS) + 1) * MINUTE_MS;
  return {
    make: isDue && !isTaken ? name : null,
    prune: ours
      .slice(0, Math.max(0, ours.length - keep))
      .filter(one => !isInUse(one))
      .map(one => one.name),
    wakeAt_ms: isDue ? (isTaken ? nextMinute_ms : (Math.floor(now_ms / every_ms) + 1) * every_ms) : dueAt_ms,
  };
}
