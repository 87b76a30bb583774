/**
 * QoS of a switch: what comes in is given a priority and measured against the rates of its port and its VLAN; what
 * leaves by a port with classes goes through a scheduler (appScheduler.ts) between the link's queue and the port.
 *
 * The priority (802.1Q-2022 6.9.4) is the tag's or the packet's, as the port is trusted, translated by the switch's
 * tables. It stands in the tag of the frame when it leaves, and chooses its class. Rules come later and may choose
 * another.
 */
import type { Policer, PortQos, QueuesView, SwitchConfig, SwitchQos } from '../contract.js';
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import { PORT_COUNTERS, dropReason } from '../switch/counters.js';
import { PASS } from '../switch/feature.js';
import type { Feature, FeaturePort, IngressStage, SwitchHost } from '../switch/feature.js';
import { parse } from '../switch/headers.js';
import type { Packet } from '../switch/packet.js';
import { F_POLICE } from '../switch/stages.js';
import type { Stages } from '../switch/stages.js';
import { TokenBucket } from './bucket.js';
import { PortScheduler } from './appScheduler.js';
import type { TrafficClass } from './appScheduler.js';
import { BufferShare } from './appShare.js';
import { wireBytes, wireFrames } from './wireLength.js';

const DROP_PORT = dropReason('dropPortRate');
const DROP_VLAN = dropReason('dropVlanRate');
const REMARKED = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('policedRemarked');
const SHOWN_MS = 1000;

class Police {
  config: Policer;
  readonly bucket: TokenBucket;
  conformedFrames = 0;
  conformedOctets = 0;
  exceededFrames = 0;
  exceededOctets = 0;

  constructor(config: Policer, now_ms: number) {
    this.config = config;
    this.bucket = new TokenBucket(config.rate, now_ms);
  }

  /** Whether it is within the rate. */
  admits(bytes: number, frames: number, packet: Packet): boolean {
    if (packet.isTrial) {
      this.bucket.refill(packet.now_ms);
      return this.bucket.hasAny;
    }
    if (this.bucket.takes(bytes, frames, packet.now_ms)) {
      this.conformedFrames += frames;
      this.conformedOctets += bytes;
      return true;
    }
    this.exceededFrames += frames;
    this.exceededOctets += bytes;
    return false;
  }
}

interface QosPort {
  readonly feature: FeaturePort;
  config: PortQos | undefined;
  text: string | undefined;
  police: Police | undefined;
  scheduler: PortScheduler | undefined;
}

export class QosApp implements Feature, IngressStage {
  readonly takesTrials = true;
  readonly #host: SwitchHost;
  readonly #share: BufferShare;
  readonly #ports: (QosPort | undefined)[] = [];
  readonly #vlans = new Map<number, Police>();
  #policeOfVlan: (Police | undefined)[] = [];
  #switch: SwitchQos = { overhead_bytes: 0 };

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    this.#share = BufferShare.of(host.loop.pool);
    stages.police = this;
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    const { now_ms } = this.#host.loop;
    this.#switch = config.qos ?? { overhead_bytes: 0 };
    this.#configureVlans(now_ms);
    // Classes by VLAN and tables for all have to see the frames of ports that say nothing for themselves.
    const isForAll =
      config.qos !== undefined ||
      ports.some(({ config: { qos } }) => qos?.egress?.classes.some(each => each.vlans !== undefined));
    for (const feature of ports) {
      let port = this.#ports[feature.port];
      if (port === undefined || port.feature.link !== feature.link) {
        port = { feature, config: undefined, text: undefined, police: undefined, scheduler: undefined };
        this.#ports[feature.port] = port;
      }
      this.#configurePort(port, feature.config.qos, now_ms);
      this.#host.setFlag(feature.port, F_POLICE, isForAll || feature.config.qos !== undefined);
    }
  }

  #configureVlans(now_ms: number): void {
    const wanted = new Map((this.#switch.vlans ?? []).map(({ vlan, ingress }) => [vlan, ingress]));
    for (const vlan of this.#vlans.keys()) if (!wanted.has(vlan)) this.#vlans.delete(vlan);
    for (const [vlan, policer] of wanted)
      this.#vlans.set(vlan, renewedPolice(this.#vlans.get(vlan), policer, now_ms)!);
    this.#policeOfVlan = [];
    for (const [vlan, police] of this.#vlans) this.#policeOfVlan[vlan] = police;
  }

  #configurePort(port: QosPort, config: PortQos | undefined, now_ms: number): void {
    const text = JSON.stringify([config, this.#switch.overhead_bytes]);
    if (text === port.text) return;
    port.text = text;
    port.config = config;
    port.police = renewedPolice(port.police, config?.ingress, now_ms);
    const { link } = port.feature;
    if (config?.egress === undefined) {
      port.scheduler?.close();
      port.scheduler = undefined;
      link.scheduler = undefined;
    } else if (port.scheduler === undefined) {
      port.scheduler = new PortScheduler(link, config.egress, this.#switch.overhead_bytes, this.#share);
      link.scheduler = port.scheduler;
    } else {
      port.scheduler.configure(config.egress, this.#switch.overhead_bytes);
    }
  }

  portChanged({ port, link }: FeaturePort): void {
    if (!link.isUp) this.#ports[port]?.scheduler?.flush();
  }

  portRemoved({ port, link }: FeaturePort): void {
    this.#ports[port]?.scheduler?.close();
    link.scheduler = undefined;
    this.#ports[port] = undefined;
  }

  admit(packet: Packet): number {
    const port = this.#ports[packet.port];
    if (port === undefined) return PASS;
    this.#prioritize(packet, port.config);
    const vlanPolice = this.#policeOfVlan[packet.vlan];
    if (port.police === undefined && vlanPolice === undefined) return PASS;
    const { view, at, length_bytes, w0, w1 } = packet;
    const bytes = wireBytes(view, at, length_bytes, w0, w1, this.#switch.overhead_bytes);
    const frames = wireFrames(view, at, length_bytes, w0, w1);
    const { police, feature } = port;
    if (police !== undefined && !police.admits(bytes, frames, packet)) {
      if (police.config.exceed === 'drop') return DROP_PORT;
      this.#remark(packet, feature, police.config.exceed.setPriority);
    }
    if (vlanPolice !== undefined && !vlanPolice.admits(bytes, frames, packet)) {
      if (vlanPolice.config.exceed === 'drop') return DROP_VLAN;
      this.#remark(packet, feature, vlanPolice.config.exceed.setPriority);
    }
    return PASS;
  }

  #remark(packet: Packet, { link }: FeaturePort, priority: number): void {
    if (!packet.isTrial) link.counters[REMARKED]!++;
    if (packet.priority === priority) return;
    packet.priority = priority;
    packet.isRetagged = true;
  }

  #prioritize(packet: Packet, config: PortQos | undefined): void {
    const trust = config?.trust ?? 'pcp';
    let priority = config?.priority ?? 0;
    parse(packet);
    if (trust === 'dscp' && packet.ipVersion !== 0)
      priority = this.#switch.dscp?.[packet.dscp] ?? packet.dscp >>> 3;
    // A tag stands before what it carries; without one the frame says nothing.
    else if (trust === 'pcp' && packet.l3At - packet.at > UNTAGGED_L3)
      priority = this.#switch.pcp?.[packet.priority] ?? packet.priority;
    if (packet.priority === priority) return;
    packet.priority = priority;
    packet.isRetagged = true;
  }

  show(what: string): QueuesView | undefined {
    if (what !== 'queues') return undefined;
    const ports = this.#ports.filter(port => port !== undefined);
    const { now_ms } = this.#host.loop;
    return {
      ports: ports
        .filter(({ scheduler }) => scheduler !== undefined)
        .map(({ feature, config, scheduler }) => ({
          port: feature.link.name,
          rate: config?.egress?.rate ?? null,
          classes: scheduler!.classes.map(each => classView(each, now_ms)),
        })),
      policers: [
        ...ports.flatMap(({ feature, police }) =>
          police === undefined ? [] : [policerView(police, feature.link.name, null)],
        ),
        ...[...this.#vlans].map(([vlan, police]) => policerView(police, null, vlan)),
      ],
      buffersHeld: this.#share.held,
      buffersMax: this.#share.max,
    };
  }

  close(): void {
    for (const port of this.#ports) port?.scheduler?.close();
  }
}

/** Addresses and type. */
const UNTAGGED_L3 = 14;

function renewedPolice(
  police: Police | undefined,
  config: Policer | undefined,
  now_ms: number,
): Police | undefined {
  if (config === undefined) return undefined;
  if (police === undefined) return new Police(config, now_ms);
  police.config = config;
  police.bucket.configure(config.rate, now_ms);
  return police;
}

function classView(each: TrafficClass, now_ms: number): QueuesView['ports'][number]['classes'][number] {
  const passed_ms = now_ms - each.shownAt_ms;
  if (passed_ms >= SHOWN_MS) {
    each.shownRate_bps = ((each.octets - each.shownOctets) * 8000) / passed_ms;
    each.shownAt_ms = now_ms;
    each.shownOctets = each.octets;
  }
  const { config, queue } = each;
  return {
    name: config.name,
    kind: config.strict ? 'strict' : 'weighted',
    weight: config.weight,
    depthFrames: queue.count,
    depthOctets: queue.bytes,
    maxDepthOctets: each.maxDepthOctets,
    frames: each.frames,
    octets: each.octets,
    rate_bps: each.shownRate_bps,
    dropsLimit: each.dropsLimit,
    dropsPool: each.dropsPool,
  };
}

function policerView(
  police: Police,
  port: string | null,
  vlan: number | null,
): QueuesView['policers'][number] {
  const { config, conformedFrames, conformedOctets, exceededFrames, exceededOctets } = police;
  return {
    port,
    vlan,
    rate: config.rate,
    conformedFrames,
    conformedOctets,
    exceededFrames,
    exceededOctets,
  };
}
