/**
 * IGMP and MLD snooping of a switch: reads what stations and routers say of groups, and tells the pipeline which ports
 * a frame to a group goes to.
 *
 * Groups are told apart by their MAC address, as cards do it: 32 IPv4 groups share one, so a port may be sent a group
 * that it did not ask for, and never misses one that it did. Frames to 224.0.0.0/24 and to link-local IPv6 groups go
 * everywhere (RFC 4541 2.1.2): what holds a link together does not depend on reports.
 */
import type { GroupsView, PortSnooping, SwitchConfig, SwitchSnooping } from '../contract.js';
import { formatIp, parseIp } from '../../host/ip.js';
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import { Timer } from '../engine/timers.js';
import { PORT_COUNTERS } from '../switch/counters.js';
import { PASS } from '../switch/feature.js';
import type { Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import { parse } from '../switch/headers.js';
import type { Packet } from '../switch/packet.js';
import { F_SNOOP } from '../switch/stages.js';
import type { GroupStage, Stages } from '../switch/stages.js';
import * as ethernet from '../wire/ethernet.js';
import * as igmp from '../wire/igmp.js';
import type { Heard } from '../wire/igmp.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as mld from '../wire/mld.js';
import { Membership } from './membership.js';
import type { PortSettings } from './membership.js';

const TICK_MS = 1000;
const IPV4_GROUP_HIGH = 0x0100;
const IPV6_GROUP_HIGH = 0x3333;
const MALFORMED = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('snoopMalformed');
const QUERIES = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('snoopQueries');
const REPORTS = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('snoopReports');
/** Lists of receivers kept; beyond it all are made anew. */
const LISTS_MAX_COUNT = 16_384;

const DEFAULT_PORT: PortSettings = { router: 'auto', fastLeave: false, limit: 1024 };

/** One of IGMP and MLD. */
interface Family {
  readonly name: 'igmp' | 'mld';
  readonly membership: Membership;
  readonly address: Uint8Array;
  /** Per VLAN, by key: finished lists, good for `version` of the membership. */
  lists: Map<number, Int32Array>[];
  listCount: number;
  version: number;
}

export class SnoopingApp implements Feature, GroupStage {
  readonly takesTrials = true;
  readonly #host: SwitchHost;
  readonly #stages: Stages;
  readonly #timer: Timer;
  readonly #ports = new Map<number, FeaturePort>();
  #config: SwitchSnooping | undefined;
  #text: string | undefined;
  #igmp: Family | undefined;
  #mld: Family | undefined;
  /** The frame in hand is a report: it goes to routers only. */
  #isReport = false;
  #none = new Int32Array(0);

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    this.#stages = stages;
    this.#timer = new Timer(now_ms => this.#tick(now_ms));
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    const wanted = config.snooping;
    this.#ports.clear();
    for (const port of ports) {
      this.#ports.set(port.port, port);
      this.#host.setFlag(port.port, F_SNOOP, wanted !== undefined);
    }
    const text = JSON.stringify(wanted);
    if (text !== this.#text) {
      this.#text = text;
      this.#config = wanted;
      this.#igmp = wanted?.igmp === true ? this.#family('igmp', wanted, this.#igmp) : undefined;
      this.#mld = wanted?.mld === true ? this.#family('mld', wanted, this.#mld) : undefined;
    }
    this.#forgetLists();
    this.#stages.groups = wanted === undefined ? undefined : this;
    this.#host.loop.timers.cancel(this.#timer);
    if (wanted === undefined) return;
    this.#useVlans(ports);
    this.#host.loop.timers.arm(this.#timer, this.#host.loop.now_ms + TICK_MS);
  }

  #family(name: 'igmp' | 'mld', config: SwitchSnooping, before: Family | undefined): Family {
    const { querier, robustness, limit } = config;
    const address = this.#addressFor(name, querier);
    const settings = {
      robustness,
      limit,
      querier:
        querier === null ? null : { address, interval_s: querier.interval_s, response_s: querier.response_s },
    };
    if (before !== undefined) {
      before.membership.configure(settings);
      return { ...before, address };
    }
    const ask = (fid: number, group: Uint8Array | null, maxResponse_ms: number): void =>
      this.#ask(name, fid, group, maxResponse_ms);
    const membership = new Membership(settings, port => this.#portSettings(port), ask);
    return { name, membership, address, lists: [], listCount: 0, version: -1 };
  }

  #addressFor(name: 'igmp' | 'mld', querier: SwitchSnooping['querier']): Uint8Array {
    const chosen = name === 'igmp' ? querier?.ipv4 : querier?.ipv6;
    const parsed = chosen === null || chosen === undefined ? undefined : parseIp(chosen);
    if (parsed !== undefined) return parsed;
    return name === 'igmp' ? new Uint8Array(4) : mld.linkLocalOf(this.#host.address);
  }

  #portSettings(port: number): PortSettings {
    const words: PortSnooping | undefined = this.#ports.get(port)?.config.snooping;
    return words ?? DEFAULT_PORT;
  }

  /** We ask in the VLANs of untagged frames; in those of trunks, once somebody says something there. */
  #useVlans(ports: readonly FeaturePort[]): void {
    const { now_ms } = this.#host.loop;
    for (const { port } of ports) {
      const pvid = this.#host.vlans.pvid(port);
      if (pvid === 0) continue;
      const fid = this.#host.vlans.fid(pvid);
      this.#igmp?.membership.use(fid, now_ms);
      this.#mld?.membership.use(fid, now_ms);
    }
  }

  #ask(name: 'igmp' | 'mld', fid: number, group: Uint8Array | null, maxResponse_ms: number): void {
    const querier = this.#config?.querier;
    const family = name === 'igmp' ? this.#igmp : this.#mld;
    if (family === undefined || querier === null || querier === undefined || this.#config === undefined)
      return;
    const query = {
      mac: this.#host.address,
      source: family.address,
      group,
      maxResponse_ms,
      robustness: this.#config.robustness,
      interval_s: querier.interval_s,
    };
    this.#host.sendInto(fid, name === 'igmp' ? igmp.queryFrame(query) : mld.queryFrame(query));
  }

  #tick(now_ms: number): void {
    this.#igmp?.membership.tick(now_ms);
    this.#mld?.membership.tick(now_ms);
    this.#host.loop.timers.arm(this.#timer, now_ms + TICK_MS);
  }

  portRemoved({ port }: FeaturePort): void {
    this.#ports.delete(port);
    this.#forget(port);
  }

  portChanged({ port, link }: FeaturePort): void {
    if (!link.isUp) {
      this.#forget(port);
      return;
    }
    const { now_ms } = this.#host.loop;
    this.#igmp?.membership.askSoon(now_ms);
    this.#mld?.membership.askSoon(now_ms);
  }

  topologyChanged(): void {
    const { now_ms } = this.#host.loop;
    this.#igmp?.membership.topologyChanged(now_ms);
    this.#mld?.membership.topologyChanged(now_ms);
  }

  #forget(port: number): void {
    this.#igmp?.membership.forgetPort(port);
    this.#mld?.membership.forgetPort(port);
  }

  close(): void {
    this.#host.loop.timers.cancel(this.#timer);
    this.#stages.groups = undefined;
  }

  // --- the frame path ---------------------------------------------------------------------------------------

  admit(packet: Packet): number {
    this.#isReport = false;
    const family = this.#familyOf(packet);
    if (family === undefined) return PASS;
    parse(packet);
    const heard = family === this.#igmp ? this.#readIgmp(packet) : this.#readMld(packet);
    if (heard === undefined) return PASS;
    const row = this.#host.link(packet.port)!.counters;
    if (heard === 'malformed') {
      if (!packet.isTrial) row[MALFORMED]!++;
      return PASS;
    }
    this.#isReport = heard.kind === 'report';
    if (packet.isTrial) return PASS;
    row[this.#isReport ? REPORTS : QUERIES]!++;
    const isIpv6 = family === this.#mld;
    const sourceAt = packet.l3At + (isIpv6 ? ipv6.SOURCE : ipv4.SOURCE);
    const source = Uint8Array.from({ length: isIpv6 ? 16 : 4 }, (_, i) => packet.view.getUint8(sourceAt + i));
    family.membership.hear(heard, this.#host.vlans.fid(packet.vlan), packet.port, source, packet.now_ms);
    return PASS;
  }

  #familyOf(packet: Packet): Family | undefined {
    const high = packet.view.getUint16(packet.at);
    if (high === IPV4_GROUP_HIGH && packet.view.getUint8(packet.at + 2) === 0x5e) return this.#igmp;
    return high === IPV6_GROUP_HIGH ? this.#mld : undefined;
  }

  /** RFC 3376 4: with a TTL of 1. */
  #readIgmp(packet: Packet): Heard | 'malformed' | undefined {
    if (packet.ipVersion !== 4 || packet.protocol !== igmp.PROTOCOL) return undefined;
    if (packet.isMalformed || packet.isFragment || packet.l4At === 0) return 'malformed';
    if (packet.view.getUint8(packet.l3At + ipv4.TTL) !== 1) return 'malformed';
    return igmp.parse(packet.view, packet.l4At, packet.end);
  }

  /** RFC 3810 5: with a hop limit of 1, from a link-local address or (reports) none. */
  #readMld(packet: Packet): Heard | 'malformed' | undefined {
    const { view, l3At, l4At } = packet;
    if (packet.ipVersion !== 6 || packet.protocol !== mld.ICMPV6 || l4At === 0) return undefined;
    if (!mld.isMld(view.getUint8(l4At))) return undefined;
    if (packet.isMalformed || packet.isFragment || view.getUint8(l3At + ipv6.HOP_LIMIT) !== 1)
      return 'malformed';
    const isLinkLocal = (view.getUint16(l3At + ipv6.SOURCE) & 0xffc0) === 0xfe80;
    if (!isLinkLocal && view.getUint8(l4At) === mld.QUERY) return 'malformed';
    return mld.parse(view, l3At, l4At, packet.end);
  }

  receivers(packet: Packet): Int32Array | undefined {
    const family = this.#familyOf(packet);
    if (family === undefined) return undefined;
    const fid = this.#host.vlans.fid(packet.vlan);
    if (!family.membership.isSnooped(fid, packet.now_ms)) return undefined;
    if (this.#isReport) return this.#routerList(family, packet.vlan, fid);
    const key = packet.view.getInt32(packet.at + 2);
    if (family === this.#igmp ? (key & 0x00ff_ff00) === 0 : this.#isLinkLocal(packet)) return undefined;
    return this.#listFor(family, packet.vlan, fid, key);
  }

  /** Scopes of the interface and the link (RFC 4291 2.7). */
  #isLinkLocal(packet: Packet): boolean {
    parse(packet);
    if (packet.ipVersion !== 6) return true;
    const first = packet.view.getUint16(packet.l3At + ipv6.DESTINATION);
    return first >>> 8 !== 0xff || (first & 15) <= 2;
  }

  #listFor(family: Family, vid: number, fid: number, key: number): Int32Array | undefined {
    if (family.version !== family.membership.version || family.listCount > LISTS_MAX_COUNT) {
      family.version = family.membership.version;
      family.lists = [];
      family.listCount = 0;
    }
    const known = family.lists[vid]?.get(key);
    if (known !== undefined) return known;
    const ports = family.membership.wanting(fid, key);
    if (ports === undefined && this.#config!.unknown === 'flood') return undefined;
    const all = new Set([...(ports ?? []), ...family.membership.greedy(fid)]);
    // Not kept: whoever sends to groups that do not exist must not fill our memory.
    if (ports === undefined) return this.#finish(all, family, vid, fid);
    const list = this.#finish(all, family, vid, fid);
    (family.lists[vid] ??= new Map()).set(key, list);
    family.listCount++;
    return list;
  }

  #routerList(family: Family, vid: number, fid: number): Int32Array {
    return this.#finish(new Set(), family, vid, fid);
  }

  /** With the routers, as far as the VLAN leaves by them; ascending. */
  #finish(ports: Set<number>, family: Family, vid: number, fid: number): Int32Array {
    for (const port of family.membership.routers(fid)) ports.add(port);
    for (const [port, { config }] of this.#ports) if (config.snooping?.router === 'always') ports.add(port);
    const all = [...ports].filter(port => this.#host.vlans.leaves(port, vid));
    return all.length === 0 ? this.#none : Int32Array.from(all.sort((a, b) => a - b));
  }

  #forgetLists(): void {
    for (const family of [this.#igmp, this.#mld]) if (family !== undefined) family.version = -1;
  }

  // ----------------------------------------------------------------------------------------------------------

  show(what: string): GroupsView | undefined {
    if (what !== 'groups' || this.#config === undefined) return undefined;
    const { now_ms } = this.#host.loop;
    const left_s = (until_ms: number): number => Math.max(0, Math.round((until_ms - now_ms) / 1000));
    const name = (port: number): string => this.#host.link(port)?.name ?? '';
    const view: GroupsView = { groups: [], routers: [], queriers: [], counters: {} };
    for (const [port, { config }] of this.#ports)
      if (config.snooping?.router === 'always')
        view.routers.push({ vlan: null, port: name(port), expires_s: null });
    let joinsRefused = 0;
    for (const family of [this.#igmp, this.#mld]) {
      if (family === undefined) continue;
      const { membership } = family;
      joinsRefused += membership.joinsRefused;
      for (const { fid, group, port, expires_ms } of membership.list())
        view.groups.push({
          vlan: fid,
          group: formatIp(group),
          port: name(port),
          expires_s: left_s(expires_ms),
        });
      for (const { fid, port, expires_ms } of membership.heardRouters())
        view.routers.push({ vlan: fid, port: name(port), expires_s: left_s(expires_ms) });
      for (const { fid, address } of membership.queriers())
        view.queriers.push({
          vlan: fid,
          family: family.name,
          address: formatIp(address ?? family.address),
          own: address === null,
        });
    }
    view.counters = { joinsRefused };
    return view;
  }

  explain(packet: Packet): string | undefined {
    if (this.#isReport) return 'a report: to routers only';
    return `group ${ethernet.addressAt(packet.view, packet.at)}`;
  }
}
