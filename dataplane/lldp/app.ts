/**
 * Joins LLDP agents (agent.ts) to the links of a switch. The agent belongs to the link: of an aggregate each member has
 * one, and the aggregate none (IEEE 802.1AB-2016 6.1; 802.1AX-2014 figure 6-2 puts LLDP below the aggregator).
 *
 * A port that says nothing of LLDP does as the switch says; unless a guest hangs on it, which hears of the host's
 * network only when its own port says so.
 */
import { parseIp } from '../../host/ip.js';
import type { LldpView, PortConfig, PortDevice, PortVlan, SwitchConfig, SwitchLldp } from '../contract.js';
import type { Link } from '../engine/link.js';
import { Timer } from '../engine/timers.js';
import { aggregateOf } from '../lag/app.js';
import type { ControlReceiver, Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import type { Stages } from '../switch/stages.js';
import * as wire from '../wire/lldp.js';
import { LldpAgent } from './agent.js';
import type { AgentSettings, LldpMode } from './agent.js';
import { neighbourView } from './words.js';

/** 802.1AB-2016 9.2.6. */
const COUNTERS = [
  'statsFramesOutTotal',
  'statsFramesInTotal',
  'statsFramesInErrorsTotal',
  'statsFramesDiscardedTotal',
  'statsTLVsDiscardedTotal',
  'statsTLVsUnrecognizedTotal',
  'statsAgeoutsTotal',
] as const;
type Counter = (typeof COUNTERS)[number];

/** What guests and recorders hang on. */
const GUEST_KINDS: readonly PortDevice['kind'][] = ['stream', 'dgram', 'vhost', 'loopback', 'pcap'];
/** LLDPDUs of one link looked at in a second; the others are counted, not read. */
const FRAMES_READ_PER_SECOND = 10;
/** Changes of neighbours told in a second by one switch. */
const TOLD_PER_SECOND = 10;
const FAMILIES: Readonly<Record<number, number>> = { 4: 1, 16: 2 };

interface Station {
  readonly link: Link;
  readonly port: FeaturePort;
  readonly member: string | null;
  readonly agent: LldpAgent;
  readonly counters: Record<Counter, number>;
  /** What it says of itself, to see whether that has changed. */
  said: string;
  readFrom_ms: number;
  read: number;
}

export class LldpFeature implements Feature, ControlReceiver {
  readonly #host: SwitchHost;
  readonly #stations = new Map<Link, Station>();
  readonly #frame = new Uint8Array(wire.FRAME_MAX_LENGTH);
  readonly #frameView = new DataView(this.#frame.buffer);
  readonly #timer: Timer;
  #ports: readonly FeaturePort[] = [];
  #config: SwitchConfig | undefined;
  #toldFrom_ms = -Infinity;
  #told = 0;

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    stages.control.push(this);
    this.#timer = new Timer(now_ms => this.#run(now_ms));
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#config = config;
    this.#ports = ports;
    this.#reconcile();
  }

  portAdded(): void {
    this.#reconcile();
  }

  portRemoved(port: FeaturePort): void {
    this.#ports = this.#ports.filter(other => other !== port);
    this.#reconcile();
  }

  portChanged(): void {
    this.#reconcile();
  }

  close(): void {
    this.#stations.clear();
    this.#host.loop.timers.cancel(this.#timer);
  }

  // --- which links, and how --------------------------------------------------------------------------------------

  /** Brings agents in line with the configuration and the links that there are now. */
  #reconcile(): void {
    const config = this.#config;
    if (config === undefined) return;
    const wanted = new Set<Link>();
    for (const port of this.#ports) {
      const aggregate = aggregateOf(port.link);
      if (aggregate === undefined) {
        this.#keep(port.link, port, null, port.config.device.kind, config, wanted);
        continue;
      }
      aggregate.onLldp = (link, at, length_bytes) => this.#received(link, at, length_bytes);
      aggregate.onMembers = () => this.#reconcile();
      for (const member of aggregate.members)
        this.#keep(member.link, port, member.name, member.config.device.kind, config, wanted);
    }
    // Their ports are closed: neighbours forget them by their TTL.
    for (const link of this.#stations.keys()) if (!wanted.has(link)) this.#stations.delete(link);
    this.#run(this.#host.loop.now_ms);
  }

  #keep(
    link: Link,
    port: FeaturePort,
    member: string | null,
    kind: PortDevice['kind'],
    config: SwitchConfig,
    wanted: Set<Link>,
  ): void {
    const { now_ms } = this.#host.loop;
    const settings = settingsOf(config.lldp, port.config, kind);
    let station = this.#stations.get(link);
    if (station === undefined) {
      if (settings.mode === 'off') return;
      const counters = Object.fromEntries(COUNTERS.map(name => [name, 0])) as Record<Counter, number>;
      const agent = new LldpAgent(settings);
      station = { link, port, member, agent, counters, said: '', readFrom_ms: -Infinity, read: 0 };
      this.#stations.set(link, station);
    } else {
      station.agent.configure(settings, now_ms);
    }
    wanted.add(link);
    station.agent.setUp(link.isUp, now_ms);
    const says = JSON.stringify(this.#tellsOf(station, 1), (_key, value: unknown) =>
      value instanceof Uint8Array ? [...value] : value,
    );
    if (station.said !== says && station.said !== '') station.agent.localChanged();
    station.said = says;
  }

  // --- speaking --------------------------------------------------------------------------------------------------

  #run(now_ms: number): void {
    const { timers } = this.#host.loop;
    let wakeAt_ms = Infinity;
    for (const station of this.#stations.values()) {
      const { agent, counters } = station;
      // A member's link changes without the switch being told of it.
      agent.setUp(station.link.isUp, now_ms);
      for (const { pdu } of agent.expire(now_ms)) {
        counters.statsAgeoutsTotal++;
        this.#tell('neighbourLost', station, `neighbour ${nameOf(pdu)} has fallen silent`);
      }
      for (let order = agent.run(now_ms); order !== 'nothing'; order = agent.run(now_ms))
        this.#send(station, order === 'shutdown' ? 0 : agent.ttl_s);
      wakeAt_ms = Math.min(wakeAt_ms, agent.wakeAt_ms(now_ms));
    }
    if (wakeAt_ms === Infinity) timers.cancel(this.#timer);
    else timers.arm(this.#timer, Math.max(wakeAt_ms, now_ms));
  }

  #send(station: Station, ttl_s: number): void {
    const pdu = this.#tellsOf(station, ttl_s);
    const length_bytes = wire.emit(this.#frameView, 0, pdu, this.#host.address);
    if (this.#host.sendControl(station.link, this.#frame.subarray(0, length_bytes)))
      station.counters.statsFramesOutTotal++;
  }

  #tellsOf({ port, member }: Station, ttl_s: number): wire.Lldpdu {
    const { name, device, vlan, lldp } = port.config;
    const own = this.#config?.lldp;
    const aggregate = aggregateOf(port.link);
    const isActive = aggregate?.members.find(each => each.name === member)?.isDistributing === true;
    const text = new TextEncoder();
    return {
      ...wire.blank(),
      chassisId: { subtype: wire.CHASSIS_ID_MAC_ADDRESS, octets: this.#host.address },
      portId: {
        subtype: wire.PORT_ID_INTERFACE_NAME,
        octets: text.encode(member === null ? name : `${name}/${member}`).slice(0, 255),
      },
      ttl_s,
      portDescription: lldp?.description ?? `${device.kind} port ${name} of switch ${this.#host.name}`,
      systemName: own?.systemName ?? this.#host.name,
      systemDescription: own?.systemDescription ?? 'weft virtual switch',
      capabilities: wire.CAPABILITY_BRIDGE,
      enabledCapabilities: wire.CAPABILITY_BRIDGE,
      managementAddresses: (own?.managementAddresses ?? []).flatMap(address => {
        const octets = parseIp(address);
        return octets === undefined ? [] : [{ family: FAMILIES[octets.length]!, octets }];
      }),
      portVlan: portVlanOf(vlan),
      linkAggregation: {
        isCapable: aggregate !== undefined,
        isActive,
        port: isActive ? port.port + 1 : 0,
      },
    };
  }

  // --- listening -------------------------------------------------------------------------------------------------

  control(packet: Packet, link: Link): boolean {
    if (packet.length_bytes < wire.HEADER_LENGTH || !wire.isLldp(packet.view, packet.at)) return false;
    return this.#received(link, packet.at, packet.length_bytes);
  }

  /** False: nobody listens on that link. */
  #received(link: Link, at: number, length_bytes: number): boolean {
    const station = this.#stations.get(link);
    if (station === undefined) return false;
    const { agent, counters } = station;
    const { now_ms, pool } = this.#host.loop;
    if (agent.mode === 'off' || agent.mode === 'tx') return false;
    counters.statsFramesInTotal++;
    if (now_ms >= station.readFrom_ms + 1000) {
      station.readFrom_ms = now_ms;
      station.read = 0;
    }
    if (++station.read > FRAMES_READ_PER_SECOND || length_bytes > wire.FRAME_MAX_LENGTH) {
      counters.statsFramesDiscardedTotal++;
      return true;
    }
    const faults: wire.ParseFaults = { tlvsDiscarded: 0, tlvsUnrecognized: 0 };
    const pdu = wire.parse(pool.arena.view, at, at + length_bytes, faults);
    counters.statsTLVsDiscardedTotal += faults.tlvsDiscarded;
    counters.statsTLVsUnrecognizedTotal += faults.tlvsUnrecognized;
    if (faults.tlvsDiscarded > 0 || pdu === undefined) counters.statsFramesInErrorsTotal++;
    if (pdu === undefined) {
      counters.statsFramesDiscardedTotal++;
      return true;
    }
    this.#heard(station, pdu, now_ms);
    return true;
  }

  #heard(station: Station, pdu: wire.Lldpdu, now_ms: number): void {
    agentUp(station, now_ms);
    const wasFull = station.agent.tooManyUntil_ms > now_ms;
    switch (station.agent.received(pdu, now_ms)) {
      case 'new':
        this.#tell('neighbourFound', station, `neighbour ${nameOf(pdu)} is heard`);
        break;
      case 'gone':
        this.#tell('neighbourLost', station, `neighbour ${nameOf(pdu)} has taken its leave`);
        break;
      case 'tooMany':
        station.counters.statsFramesDiscardedTotal++;
        if (!wasFull)
          this.#tell('tooManyNeighbours', station, 'more neighbours are heard than may be remembered');
        break;
      case 'changed':
      case 'same':
      case 'ignored':
    }
    this.#run(now_ms);
  }

  #tell(what: string, { port, member }: Station, message: string): void {
    const { now_ms } = this.#host.loop;
    if (now_ms >= this.#toldFrom_ms + 1000) {
      this.#toldFrom_ms = now_ms;
      this.#told = 0;
    }
    if (++this.#told > TOLD_PER_SECOND) return;
    const where = member === null ? '' : ` on member ${member}`;
    this.#host.tell({ type: 'switchEvent', what, port: port.config.name, message: `${message}${where}` });
  }

  // --- showing ---------------------------------------------------------------------------------------------------

  show(what: string): LldpView | undefined {
    if (what !== 'neighbours') return undefined;
    const { now_ms } = this.#host.loop;
    const stations = [...this.#stations.values()];
    return {
      neighbours: stations.flatMap(({ agent, port, member }) =>
        [...agent.neighbours.values()].map(neighbour =>
          neighbourView(port.config.name, member, neighbour, now_ms),
        ),
      ),
      links: stations.map(({ agent, port, member, counters }) => ({
        port: port.config.name,
        member,
        mode: agent.mode,
        tooManyNeighbours: agent.tooManyUntil_ms > now_ms,
        counters: { ...counters },
      })),
    };
  }
}

function agentUp({ agent, link }: Station, now_ms: number): void {
  agent.setUp(link.isUp, now_ms);
}

/** By its name if it has one; harmless on a terminal. */
function nameOf({ systemName, chassisId }: wire.Lldpdu): string {
  if (systemName !== null && systemName !== '') return JSON.stringify(systemName);
  return [...chassisId.octets].map(octet => octet.toString(16).padStart(2, '0')).join(':');
}

function settingsOf(own: SwitchLldp | undefined, port: PortConfig, kind: PortDevice['kind']): AgentSettings {
  const byDefault: LldpMode = GUEST_KINDS.includes(kind) ? 'off' : (own?.mode ?? 'off');
  return {
    mode: port.lldp?.mode ?? byDefault,
    msgTxInterval_ms: (own?.interval_s ?? 30) * 1000,
    msgTxHold: own?.hold ?? 4,
    neighboursMax: own?.neighboursMax ?? 16,
  };
}

/** 802.1Q-2022 D.2.1.1: the PVID, or 0. */
function portVlanOf(vlan: PortVlan): number {
  switch (vlan.mode) {
    case 'access':
    case 'tunnel':
      return vlan.vlan;
    case 'trunk':
      return vlan.native ?? 0;
    case 'hybrid':
      return vlan.pvid;
  }
}
