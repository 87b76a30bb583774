/**
 * Who wants which group, VLAN by VLAN, for one family (IGMP or MLD): the snooping of RFC 4541 with the timers of RFC 3376
 * and RFC 3810 (section 8 and 9 there). Pure: time is passed in, what is to be sent is asked for by `ask`.
 *
 *   membership   group and port, until GMI after the last report; after a leave, until LMQT unless reported anew
 *   router port  one that a query with a sender came in by, until OQPI after the last
 *   querier      the lowest address that asks in the VLAN; ourselves, when configured and nobody lower asks
 *
 * Where nobody asks, nobody is reminded to report: such a VLAN is not snooped, and its groups are flooded.
 */
import type { Heard } from '../wire/igmp.js';

export interface MembershipSettings {
  robustness: number;
  /** Pairs of group and port in all VLANs at most. */
  limit: number;
  /** Null: we do not ask. `address`: ours, for the election; all zero never wins. */
  querier: { address: Uint8Array; interval_s: number; response_s: number } | null;
}

export interface PortSettings {
  router: 'auto' | 'always' | 'never';
  fastLeave: boolean;
  limit: number;
}

/** Send a query into a VLAN: general (null), or of one group. */
export type Ask = (fid: number, group: Uint8Array | null, maxResponse_ms: number) => void;

/** RFC 3376 8.2, 8.3, 8.8: what is assumed of a querier that does not say. */
const QUERY_INTERVAL_S = 125;
const RESPONSE_INTERVAL_MS = 10_000;
const LAST_MEMBER_INTERVAL_MS = 1000;

interface Entry {
  readonly group: Uint8Array;
  /** Until when each port wants it. */
  readonly ports: Map<number, number>;
  /** Our queries of this group that are still to come, after a leave. */
  asksLeft: number;
  nextAsk_ms: number;
}

interface Vlan {
  readonly entries: Map<string, Entry>;
  readonly byKey: Map<number, Entry[]>;
  /** Router ports that were heard, until when. */
  readonly routers: Map<number, number>;
  /** Ports that joined more than may be kept: they are sent everything, until when. */
  readonly greedy: Map<number, number>;
  /** Another querier, until when it is believed to be there. */
  foreign: Uint8Array | null;
  foreignUntil_ms: number;
  /** Of the querier, whoever it is. */
  robustness: number;
  interval_s: number;
  response_ms: number;
  /** From when on all who want something have had time to say so; Infinity: nobody has asked yet. */
  trustedFrom_ms: number;
  startupLeft: number;
  nextQuery_ms: number;
}

const textOf = (address: Uint8Array): string => String.fromCharCode(...address);

/** By which data frames find their group: the last 32 bits of its MAC address (RFC 1112 6.4, RFC 2464 7). */
export function keyOf(group: Uint8Array): number {
  if (group.length === 4) return 0x5e00_0000 | ((group[1]! & 0x7f) << 16) | (group[2]! << 8) | group[3]!;
  return (group[12]! << 24) | (group[13]! << 16) | (group[14]! << 8) | group[15]!;
}

/** 224.0.0.0/24, and scopes of interface and link: always sent everywhere, so nothing is gained by knowing. */
function isLinkLocal(group: Uint8Array): boolean {
  if (group.length === 4) return group[0] === 224 && group[1] === 0 && group[2] === 0;
  return (group[1]! & 15) <= 2;
}

function isLower(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!;
  return false;
}

const isZero = (address: Uint8Array): boolean => address.every(octet => octet === 0);

export class Membership {
  #settings: MembershipSettings;
  readonly #ask: Ask;
  readonly #portSettings: (port: number) => PortSettings;
  readonly #vlans = new Map<number, Vlan>();
  readonly #perPort = new Map<number, number>();
  #pairs = 0;
  /** Grows with whatever lists of receivers were made from. */
  version = 0;
  joinsRefused = 0;

  constructor(settings: MembershipSettings, portSettings: (port: number) => PortSettings, ask: Ask) {
    this.#settings = settings;
    this.#portSettings = portSettings;
    this.#ask = ask;
  }

  configure(settings: MembershipSettings): void {
    this.#settings = settings;
    for (const vlan of this.#vlans.values()) vlan.startupLeft = settings.robustness;
    this.version++;
  }

  /** A VLAN that is in use: if we ask at all, we ask there. */
  use(fid: number, now_ms: number): void {
    this.#vlan(fid, now_ms);
  }

  #vlan(fid: number, now_ms: number): Vlan {
    let vlan = this.#vlans.get(fid);
    if (vlan !== undefined) return vlan;
    vlan = {
      entries: new Map(),
      byKey: new Map(),
      routers: new Map(),
      greedy: new Map(),
      foreign: null,
      foreignUntil_ms: 0,
      robustness: this.#settings.robustness,
      interval_s: QUERY_INTERVAL_S,
      response_ms: RESPONSE_INTERVAL_MS,
      trustedFrom_ms: Infinity,
      startupLeft: this.#settings.robustness,
      nextQuery_ms: now_ms,
    };
    this.#vlans.set(fid, vlan);
    return vlan;
  }

  /** 3376 8.4, 3810 9.4. */
  #membershipInterval_ms(vlan: Vlan): number {
    return vlan.robustness * vlan.interval_s * 1000 + vlan.response_ms;
  }

  /** Whether somebody asks in this VLAN, and has been answered, so that what is known can be relied on. */
  isSnooped(fid: number, now_ms: number): boolean {
    const vlan = this.#vlans.get(fid);
    if (vlan === undefined || now_ms < vlan.trustedFrom_ms) return false;
    return this.#settings.querier !== null || now_ms < vlan.foreignUntil_ms;
  }

  hear(heard: Heard, fid: number, port: number, source: Uint8Array, now_ms: number): void {
    const vlan = this.#vlan(fid, now_ms);
    if (heard.kind === 'query') {
      // Nobody behind such a port is to be believed a router.
      if (this.#portSettings(port).router === 'never') return;
      this.#query(vlan, heard, port, source, now_ms);
      return;
    }
    for (const group of heard.joins) this.#join(vlan, group, port, now_ms);
    for (const group of heard.leaves) this.#leave(vlan, group, port, now_ms);
  }

  #query(
    vlan: Vlan,
    heard: Extract<Heard, { kind: 'query' }>,
    port: number,
    source: Uint8Array,
    now_ms: number,
  ): void {
    if (heard.group !== null) {
      if (!heard.lowersTimers) return;
      const entry = vlan.entries.get(textOf(heard.group));
      // Bounded below: a query that leaves no time to answer would take the group from all.
      const until_ms = now_ms + vlan.robustness * Math.max(heard.maxResponse_ms, LAST_MEMBER_INTERVAL_MS);
      if (entry !== undefined)
        for (const [member, expires_ms] of entry.ports)
          if (member !== port && expires_ms > until_ms) entry.ports.set(member, until_ms);
      return;
    }
    const settings = this.#settings;
    const isFirst = vlan.foreign === null || now_ms >= vlan.foreignUntil_ms;
    const isElected =
      !isZero(source) && this.#isBeaten(source) && (isFirst || !isLower(vlan.foreign!, source));
    if (isElected) {
      // RFC 3376 4.1.6 and 4.1.7: zero means "not said".
      vlan.robustness = heard.robustness || settings.robustness;
      vlan.interval_s = heard.interval_s || QUERY_INTERVAL_S;
      vlan.response_ms = heard.maxResponse_ms;
    }
    vlan.trustedFrom_ms = Math.min(vlan.trustedFrom_ms, now_ms + heard.maxResponse_ms);
    // RFC 4541 2.1.1: a query from nobody (a proxy's) makes neither a router port nor a querier.
    if (isZero(source)) return;
    const present_ms = now_ms + vlan.robustness * vlan.interval_s * 1000 + vlan.response_ms / 2;
    if (this.#portSettings(port).router === 'auto') {
      if (!vlan.routers.has(port)) this.version++;
      vlan.routers.set(port, present_ms);
    }
    if (!isElected) return;
    vlan.foreign = source;
    vlan.foreignUntil_ms = present_ms;
    this.version++;
  }

  /** Whether we are the one who gives way to this querier. */
  #isBeaten(source: Uint8Array): boolean {
    const { querier } = this.#settings;
    return querier === null || isZero(querier.address) || isLower(source, querier.address);
  }

  /** Whether we are the querier there. */
  #asks(vlan: Vlan): boolean {
    return this.#settings.querier !== null && vlan.foreign === null;
  }

  #join(vlan: Vlan, group: Uint8Array, port: number, now_ms: number): void {
    if (isLinkLocal(group)) return;
    const text = textOf(group);
    const until_ms = now_ms + this.#membershipInterval_ms(vlan);
    let entry = vlan.entries.get(text);
    if (entry?.ports.has(port) !== true) {
      const ofPort = this.#perPort.get(port) ?? 0;
      if (this.#pairs >= this.#settings.limit || ofPort >= this.#portSettings(port).limit) {
        // What was not noted must not be missed: from now on this port is sent everything.
        this.joinsRefused++;
        if (!vlan.greedy.has(port)) this.version++;
        vlan.greedy.set(port, until_ms);
        return;
      }
      this.#pairs++;
      this.#perPort.set(port, ofPort + 1);
      this.version++;
    }
    if (entry === undefined) {
      entry = { group, ports: new Map(), asksLeft: 0, nextAsk_ms: 0 };
      vlan.entries.set(text, entry);
      const key = keyOf(group);
      vlan.byKey.set(key, [...(vlan.byKey.get(key) ?? []), entry]);
    }
    entry.ports.set(port, until_ms);
  }

  #leave(vlan: Vlan, group: Uint8Array, port: number, now_ms: number): void {
    const entry = vlan.entries.get(textOf(group));
    const expires_ms = entry?.ports.get(port);
    if (entry === undefined || expires_ms === undefined) return;
    if (this.#portSettings(port).fastLeave) {
      this.#forget(vlan, entry, port);
      return;
    }
    // Somebody else behind the port may still want it: the querier asks, we or another.
    if (!this.#asks(vlan)) return;
    const { robustness } = this.#settings;
    entry.ports.set(port, Math.min(expires_ms, now_ms + robustness * LAST_MEMBER_INTERVAL_MS));
    entry.asksLeft = robustness;
    entry.nextAsk_ms = now_ms;
    this.#askOf(vlan, entry, now_ms);
  }

  #askOf(vlan: Vlan, entry: Entry, now_ms: number): void {
    if (entry.asksLeft === 0 || now_ms < entry.nextAsk_ms) return;
    entry.asksLeft--;
    entry.nextAsk_ms = now_ms + LAST_MEMBER_INTERVAL_MS;
    for (const [fid, one] of this.#vlans)
      if (one === vlan) this.#ask(fid, entry.group, LAST_MEMBER_INTERVAL_MS);
  }

  #forget(vlan: Vlan, entry: Entry, port: number): void {
    if (!entry.ports.delete(port)) return;
    this.#pairs--;
    this.#perPort.set(port, this.#perPort.get(port)! - 1);
    this.version++;
    if (entry.ports.size > 0) return;
    vlan.entries.delete(textOf(entry.group));
    const key = keyOf(entry.group);
    const others = vlan.byKey.get(key)!.filter(other => other !== entry);
    if (others.length === 0) vlan.byKey.delete(key);
    else vlan.byKey.set(key, others);
  }

  /** To be called about once a second. */
  tick(now_ms: number): void {
    for (const [fid, vlan] of this.#vlans) {
      for (const entry of vlan.entries.values()) {
        this.#askOf(vlan, entry, now_ms);
        for (const [port, until_ms] of entry.ports) if (now_ms >= until_ms) this.#forget(vlan, entry, port);
      }
      for (const list of [vlan.routers, vlan.greedy])
        for (const [port, until_ms] of list)
          if (now_ms >= until_ms) {
            list.delete(port);
            this.version++;
          }
      if (vlan.foreign !== null && now_ms >= vlan.foreignUntil_ms) {
        vlan.foreign = null;
        vlan.nextQuery_ms = now_ms;
        this.version++;
      }
      this.#askGenerally(fid, vlan, now_ms);
    }
  }

  #askGenerally(fid: number, vlan: Vlan, now_ms: number): void {
    const { querier, robustness } = this.#settings;
    if (querier === null || vlan.foreign !== null || now_ms < vlan.nextQuery_ms) return;
    // 3376 8.6: the first few come four times as often.
    const isStartup = vlan.startupLeft > 0;
    if (isStartup) vlan.startupLeft--;
    vlan.nextQuery_ms = now_ms + (querier.interval_s * 1000) / (isStartup ? 4 : 1);
    vlan.robustness = robustness;
    vlan.interval_s = querier.interval_s;
    vlan.response_ms = querier.response_s * 1000;
    vlan.trustedFrom_ms = Math.min(vlan.trustedFrom_ms, now_ms + vlan.response_ms);
    this.#ask(fid, null, vlan.response_ms);
  }

  /** Somebody came whom we have not heard yet: whoever wants something is to say so, soon. */
  askSoon(now_ms: number): void {
    for (const vlan of this.#vlans.values()) {
      vlan.startupLeft = this.#settings.robustness;
      vlan.nextQuery_ms = now_ms;
    }
  }

  /** Ways have changed: members may be elsewhere. Groups are flooded until somebody asked and all had time to answer. */
  topologyChanged(now_ms: number): void {
    this.askSoon(now_ms);
    for (const vlan of this.#vlans.values()) vlan.trustedFrom_ms = Infinity;
  }

  /** It is down or gone: nobody there wants anything. */
  forgetPort(port: number): void {
    for (const vlan of this.#vlans.values()) {
      for (const entry of vlan.entries.values()) this.#forget(vlan, entry, port);
      vlan.routers.delete(port);
      vlan.greedy.delete(port);
    }
    this.#perPort.delete(port);
    this.version++;
  }

  /** Ports that have joined what is behind this key; undefined: it is not known. Not sorted. */
  wanting(fid: number, key: number): Set<number> | undefined {
    const vlan = this.#vlans.get(fid);
    const entries = vlan?.byKey.get(key);
    if (vlan === undefined || entries === undefined) return undefined;
    const ports = new Set<number>();
    for (const entry of entries) for (const port of entry.ports.keys()) ports.add(port);
    return ports;
  }

  /** Ports by which a router is heard: where reports go. */
  routers(fid: number): number[] {
    return [...(this.#vlans.get(fid)?.routers.keys() ?? [])];
  }

  /** Ports that are sent everything. */
  greedy(fid: number): number[] {
    return [...(this.#vlans.get(fid)?.greedy.keys() ?? [])];
  }

  /** For listings. */
  *list(): Generator<{ fid: number; group: Uint8Array; port: number; expires_ms: number }> {
    for (const [fid, { entries }] of this.#vlans)
      for (const { group, ports } of entries.values())
        for (const [port, expires_ms] of ports) yield { fid, group, port, expires_ms };
  }

  *heardRouters(): Generator<{ fid: number; port: number; expires_ms: number }> {
    for (const [fid, { routers }] of this.#vlans)
      for (const [port, expires_ms] of routers) yield { fid, port, expires_ms };
  }

  /** Null address: we. */
  *queriers(): Generator<{ fid: number; address: Uint8Array | null }> {
    for (const [fid, vlan] of this.#vlans)
      if (vlan.foreign !== null) yield { fid, address: vlan.foreign };
      else if (this.#settings.querier !== null) yield { fid, address: null };
  }
}
