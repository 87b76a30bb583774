/**
 * The selection logic (IEEE 802.1AX-2014 6.4.14) of an aggregate that has one aggregator, which is its switch port.
 * It decides which members may carry frames together:
 *
 *   - those whose partners are one: same system and same key (6.3.6, the LAG ID). Of several such groups, one that is
 *     big enough; of these the one that is attached already; else the biggest; else the one with the best port.
 *   - a partner that aggregates with nobody (AGGREGATION false) is alone in its group.
 *   - `maxLinks` of them, the best by port priority, as the better system of the two orders them (6.7.1): both ends
 *     then agree. The others are STANDBY. Who carries nothing yet takes no other's place before its wait_while is
 *     over, so that a better member that comes back costs no frame more than the swap.
 *   - none at all while there are fewer than `minLinks` that could be: STANDBY tells the partner not to send.
 *   - `fallback`: with no partner on any member, the best member carries alone, as a link without LACP would.
 *
 * Who was UNSELECTED is not chosen again before its mux machine has seen it (it is DETACHED).
 */
import { AGGREGATION, SYNCHRONIZATION } from '../wire/lacp.js';
import type { Info } from '../wire/lacp.js';
import { has, isBetterSystem } from './lacpPort.js';
import type { LacpPort, Selected } from './lacpPort.js';

export interface SelectionSettings {
  minLinks: number;
  /** Infinity: all of them. */
  maxLinks: number;
  upDelay_ms: number;
  fallback: boolean;
}

const orderByPort = (a: Info, b: Info): number => a.portPriority - b.portPriority || a.port - b.port;

/** The partner's half of the LAG ID: ours is the same for all members of an aggregate. */
function lagId(port: LacpPort): string {
  const { systemPriority, systemHigh16, systemLow32, key } = port.partner;
  const lag = `${systemPriority} ${systemHigh16} ${systemLow32} ${key}`;
  return has(port.partner, AGGREGATION) ? lag : `${lag} ${port.actor.port}`;
}

function isHeard(port: LacpPort, { upDelay_ms }: SelectionSettings, now_ms: number): boolean {
  if (!port.portEnabled || now_ms < port.enabledAt_ms + upDelay_ms) return false;
  // A partner that was silent for a while keeps its place, without frames, until it is given up.
  return port.receive === 'CURRENT' || (port.receive === 'EXPIRED' && port.selected !== 'UNSELECTED');
}

interface Group {
  members: LacpPort[];
  /** Heard right now: what min-links counts. */
  current: number;
  isThere: boolean;
}

/** Sets `selected` and `ready` of all; true when something changed. */
export function step(ports: readonly LacpPort[], settings: SelectionSettings, now_ms: number): boolean {
  const chosen = choose(ports, settings, now_ms);
  let changed = false;
  for (const port of ports) {
    let wanted: Selected = chosen.get(port) ?? 'UNSELECTED';
    if (wanted !== 'UNSELECTED' && port.selected === 'UNSELECTED' && port.mux !== 'DETACHED')
      wanted = 'UNSELECTED';
    if (port.selected !== wanted) {
      port.selected = wanted;
      changed = true;
    }
  }
  // 6.4.8 Ready: none waits alone.
  const ready = ports.every(port => port.selected !== 'SELECTED' || port.mux !== 'WAITING' || port.readyN);
  for (const port of ports) {
    if (port.ready !== ready) changed = true;
    port.ready = ready;
  }
  return changed;
}

function choose(
  ports: readonly LacpPort[],
  settings: SelectionSettings,
  now_ms: number,
): Map<LacpPort, Selected> {
  const groups = new Map<string, Group>();
  for (const port of ports) {
    if (!isHeard(port, settings, now_ms)) continue;
    const id = lagId(port);
    const group = groups.get(id) ?? { members: [], current: 0, isThere: false };
    groups.set(id, group);
    group.members.push(port);
    if (port.receive === 'CURRENT') group.current++;
    if (has(port.actor, SYNCHRONIZATION)) group.isThere = true;
  }
  const result = new Map<LacpPort, Selected>();
  if (groups.size === 0) {
    const alone = settings.fallback && settings.minLinks <= 1 ? fallback(ports, settings, now_ms) : undefined;
    if (alone !== undefined) result.set(alone, 'SELECTED');
    return result;
  }
  const isEnough = (group: Group): boolean => group.current >= settings.minLinks;
  const best = [...groups.values()].reduce((a, b) => {
    if (isEnough(a) !== isEnough(b)) return isEnough(a) ? a : b;
    if (a.isThere !== b.isThere) return a.isThere ? a : b;
    if (a.current !== b.current) return a.current > b.current ? a : b;
    return orderByPort(bestOf(a).actor, bestOf(b).actor) <= 0 ? a : b;
  });
  const enough = isEnough(best);
  for (const [place, port] of ranked(best.members).entries())
    result.set(port, enough && place < settings.maxLinks ? 'SELECTED' : 'STANDBY');
  return result;
}

function bestOf({ members }: Group): LacpPort {
  return members.reduce((a, b) => (orderByPort(a.actor, b.actor) <= 0 ? a : b));
}

function ranked(members: readonly LacpPort[]): LacpPort[] {
  const settled = (port: LacpPort): number => (port.selected === 'SELECTED' || port.readyN ? 0 : 1);
  return members.toSorted((a, b) => {
    const waits = settled(a) - settled(b);
    if (waits !== 0) return waits;
    return isBetterSystem(a.partner, a.actor)
      ? orderByPort(a.partner, b.partner)
      : orderByPort(a.actor, b.actor);
  });
}

/** Who carries alone already goes on; else the best of those who gave up waiting for a partner. */
function fallback(
  ports: readonly LacpPort[],
  { upDelay_ms }: SelectionSettings,
  now_ms: number,
): LacpPort | undefined {
  const silent = ports.filter(
    port => port.portEnabled && port.receive === 'DEFAULTED' && now_ms >= port.enabledAt_ms + upDelay_ms,
  );
  return (
    silent.find(port => port.selected === 'SELECTED') ??
    silent.toSorted((a, b) => orderByPort(a.actor, b.actor))[0]
  );
}
