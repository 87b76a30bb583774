/**
 * Aggregates without a protocol. Pure: time is passed in, and each answers which members collect and distribute.
 *
 *   static          every member whose link is up, for `upDelay_ms` at least; none while they are fewer than `minLinks`.
 *   active-backup   one member: the primary if it can, else the best by priority; who carries goes on carrying until
 *                   its link is lost, or the primary has been back for `revertDelay_ms` (null: it stays as it is).
 */

export interface GroupMember {
  readonly name: string;
  /** The lower is the better. */
  priority: number;
  isUp: boolean;
  upAt_ms: number;
}

const isReady = (member: GroupMember, upDelay_ms: number, now_ms: number): boolean =>
  member.isUp && now_ms >= member.upAt_ms + upDelay_ms;

/** When a member's up delay ends, if one is running. */
function delayEnds_ms(members: readonly GroupMember[], delay_ms: number, now_ms: number): number {
  let wakeAt_ms = Infinity;
  for (const { isUp, upAt_ms } of members)
    if (isUp && upAt_ms + delay_ms > now_ms) wakeAt_ms = Math.min(wakeAt_ms, upAt_ms + delay_ms);
  return wakeAt_ms;
}

export interface StaticSettings {
  minLinks: number;
  upDelay_ms: number;
}

export interface Choice<M> {
  carrying: M[];
  /** When to ask again, if no link changes before. */
  wakeAt_ms: number;
}

export function chooseStatic<M extends GroupMember>(
  members: readonly M[],
  { minLinks, upDelay_ms }: StaticSettings,
  now_ms: number,
): Choice<M> {
  const ready = members.filter(member => isReady(member, upDelay_ms, now_ms));
  return {
    carrying: ready.length >= minLinks ? ready : [],
    wakeAt_ms: delayEnds_ms(members, upDelay_ms, now_ms),
  };
}

export interface ActiveBackupSettings {
  /** Name of a member; null: the best by priority takes over when there is a choice to make, and never otherwise. */
  primary: string | null;
  revertDelay_ms: number | null;
  upDelay_ms: number;
}

export function chooseActive<M extends GroupMember>(
  members: readonly M[],
  active: M | undefined,
  { primary, revertDelay_ms, upDelay_ms }: ActiveBackupSettings,
  now_ms: number,
): Choice<M> {
  const wakeAt_ms = delayEnds_ms(members, upDelay_ms, now_ms);
  const ready = members.filter(member => isReady(member, upDelay_ms, now_ms));
  const best =
    ready.find(({ name }) => name === primary) ??
    ready.reduce<M | undefined>((a, b) => (a === undefined || b.priority < a.priority ? b : a), undefined);
  // An up delay is for those that come back; with nobody else, waiting would only lose frames.
  const hasty = members.find(({ isUp }) => isUp);
  if (active === undefined || !members.includes(active) || !active.isUp) {
    const next = best ?? hasty;
    return { carrying: next === undefined ? [] : [next], wakeAt_ms };
  }
  if (best === undefined || best === active || best.name !== primary || revertDelay_ms === null)
    return { carrying: [active], wakeAt_ms };
  const revertAt_ms = best.upAt_ms + Math.max(upDelay_ms, revertDelay_ms);
  return now_ms >= revertAt_ms
    ? { carrying: [best], wakeAt_ms }
    : { carrying: [active], wakeAt_ms: Math.min(wakeAt_ms, revertAt_ms) };
}
