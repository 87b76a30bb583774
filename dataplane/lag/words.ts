/** What an aggregate and its members say of themselves, in words. Pure. */
import type { LagSettings } from '../contract/lag.js';
import {
  AGGREGATION,
  COLLECTING,
  DEFAULTED,
  DISTRIBUTING,
  EXPIRED,
  LACP_ACTIVITY,
  LACP_TIMEOUT,
  SYNCHRONIZATION,
} from '../wire/lacp.js';
import { has, samePort } from './lacpPort.js';
import type { LacpPort } from './lacpPort.js';

/** What there is to know of a member. */
export interface Told {
  readonly name: string;
  readonly isUp: boolean;
  readonly isCollecting: boolean;
  readonly isDistributing: boolean;
  readonly lacp: LacpPort | undefined;
}

const STATE_BITS: readonly (readonly [number, string])[] = [
  [LACP_ACTIVITY, 'activity'],
  [LACP_TIMEOUT, 'timeout'],
  [AGGREGATION, 'aggregation'],
  [SYNCHRONIZATION, 'synchronization'],
  [COLLECTING, 'collecting'],
  [DISTRIBUTING, 'distributing'],
  [DEFAULTED, 'defaulted'],
  [EXPIRED, 'expired'],
];

export function stateWords(state: number): string[] {
  return STATE_BITS.filter(([bit]) => (state & bit) !== 0).map(([, word]) => word);
}

/** What a member does, in one word. */
export function roleOf(member: Told, isLooped: boolean): string {
  if (!member.isUp) return 'down';
  if (isLooped) return 'looped';
  if (member.isDistributing) return member.lacp?.receive === 'DEFAULTED' ? 'fallback' : 'distributing';
  if (member.isCollecting) return 'collecting';
  const { lacp } = member;
  if (lacp === undefined) return 'standby';
  if (lacp.receive === 'DEFAULTED') return 'alone';
  if (lacp.receive === 'EXPIRED') return 'expired';
  if (lacp.selected === 'STANDBY') return 'standby';
  return lacp.selected === 'SELECTED' ? 'waiting' : 'unselected';
}

/** Why a member carries nothing, when that is not as it should be. */
export function memberReason(member: Told, isLooped: boolean): string | null {
  const { lacp } = member;
  if (!member.isUp) return 'its link is down';
  if (isLooped) return 'its cable leads back to this switch';
  if (lacp === undefined || member.isDistributing) return null;
  if (lacp.receive === 'DEFAULTED') return 'no LACP partner is heard';
  if (lacp.receive === 'EXPIRED') return 'its LACP partner has fallen silent';
  if (lacp.selected === 'UNSELECTED') return 'its partner is another than that of the other members';
  if (lacp.actorChurn === 'CHURN' || lacp.partnerChurn === 'CHURN')
    return samePort(lacp.partner, lacp.partnerAdmin)
      ? 'no LACP partner is heard'
      : 'it is not in synchronization with its partner: compare the keys and limits of both ends';
  return null;
}

/** Of the aggregate; null when all is as it should be. */
export function reasonOf<M extends Told>(
  members: readonly M[],
  { mode, minLinks }: Pick<LagSettings, 'mode' | 'minLinks'>,
  isLooped: (member: M) => boolean,
): string | null {
  if (members.length === 0) return 'it has no members';
  const carrying = members.filter(({ isDistributing }) => isDistributing);
  const faults = members.flatMap(member => {
    const reason = memberReason(member, isLooped(member));
    return reason === null ? [] : [`${member.name}: ${reason}`];
  });
  if (carrying.length === 0) {
    const able = members.filter(member =>
      member.lacp === undefined ? member.isUp : member.lacp.receive === 'CURRENT',
    );
    if (able.length > 0 && able.length < minLinks && mode !== 'activeBackup')
      return [
        `only ${able.length} of ${members.length} members can carry, and minLinks is ${minLinks}`,
        ...faults,
      ].join('; ');
    return faults.length === 0 ? 'its members are not ready yet' : faults.join('; ');
  }
  return faults.length === 0
    ? null
    : `${carrying.length} of ${members.length} members carry; ${faults.join('; ')}`;
}

/** Has told us who it is. */
export function hasPartner(port: LacpPort): boolean {
  return !has(port.actor, DEFAULTED);
}
