/** What a switch's aggregates have to show. Who carries is decided in app.ts, whatever asks or does not ask. */
import type { LacpEnd, LagMemberView, LagView, SwitchConfig } from '../contract.js';
import { LINK_COUNTERS } from '../engine/counters.js';
import type { Feature, FeaturePort } from '../switch/feature.js';
import { formatAddress } from '../wire/ethernet.js';
import type { Info } from '../wire/lacp.js';
import { aggregateOf } from './app.js';
import type { AggregatePort } from './app.js';
import { M, MEMBER_COUNTERS } from './appMember.js';
import type { Member } from './appMember.js';
import { hasPartner, memberReason, roleOf, stateWords } from './words.js';

export class LagFeature implements Feature {
  #ports: readonly FeaturePort[] = [];

  configure(_config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#ports = ports;
  }

  show(what: string): LagView | undefined {
    if (what !== 'lag') return undefined;
    return {
      aggregates: this.#ports.flatMap(({ link }) => {
        const aggregate = aggregateOf(link);
        return aggregate === undefined ? [] : [viewOf(aggregate)];
      }),
    };
  }

  close(): void {
    this.#ports = [];
  }
}

function viewOf(aggregate: AggregatePort): LagView['aggregates'][number] {
  const { link, settings } = aggregate;
  const buckets = aggregate.bucketCounts();
  return {
    port: link.name,
    mode: settings.mode,
    state: link.state,
    reason: link.reason,
    balance: settings.balance,
    minLinks: settings.minLinks,
    maxLinks: settings.maxLinks ?? null,
    bucketsMoved: aggregate.bucketsMoved,
    members: aggregate.members.map(member =>
      memberView(aggregate, member, buckets.get(member.link.sinkIndex) ?? 0),
    ),
  };
}

function memberView(aggregate: AggregatePort, member: Member, buckets: number): LagMemberView {
  const { link, lacp } = member;
  const isLooped = aggregate.isLooped(member, link.loop.now_ms);
  return {
    name: member.name,
    link: link.state,
    role: roleOf(member, isLooped),
    reason: memberReason(member, isLooped) ?? link.reason,
    buckets,
    lacp:
      lacp === undefined
        ? null
        : {
            receive: lacp.receive,
            mux: lacp.mux,
            periodic: lacp.periodic,
            selected: lacp.selected,
            actorChurn: lacp.actorChurn === 'CHURN',
            partnerChurn: lacp.partnerChurn === 'CHURN',
            actor: endView(lacp.actor),
            partner: hasPartner(lacp) ? endView(lacp.partner) : null,
          },
    counters: Object.fromEntries([
      ...LINK_COUNTERS.map((name, index) => [name, link.counters[index]!] as const),
      ...MEMBER_COUNTERS.map(name => [name, link.counters[M[name]]!] as const),
    ]),
  };
}

function endView(info: Info): LacpEnd {
  return {
    systemPriority: info.systemPriority,
    system: formatAddress(info.systemHigh16, info.systemLow32),
    key: info.key,
    portPriority: info.portPriority,
    port: info.port,
    state: stateWords(info.state),
  };
}
