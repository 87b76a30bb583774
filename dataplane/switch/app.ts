/**
 * A switch: joins its decision (relay.ts) and its capabilities (feature.ts) to the engine. Takes the frames of its
 * links, counts them, and puts each on the queues of the links it leaves by.
 *
 * The way of a frame, in this order:
 *
 *   reserved group addresses   to whoever listens (BPDU, LLDP, …); never forwarded (802.1Q-2022 8.6.3)
 *   fault, spanning tree       a port out of service takes nothing; one that learns, learns only
 *   VLAN                       relay.classify
 *   police, guard, rules       each may drop it; rules may say where it goes
 *   learning                   relay.learn
 *   groups, or the database    relay.lookup; what no port is known for meets storm control, then is flooded
 *   egress                     isolation, spanning tree and VLAN of each port that it leaves by
 *   mirrors, sampling, offload look on
 *
 * A port whose flags are 0 (stages.ts) has none of the stages: its frames take the short way, `#plain`.
 */
import type { PortConfig, SwitchConfig, TraceView } from '../contract.js';
import { C, ROW_LENGTH, SINK_COUNTERS_AT, makeRow } from '../engine/counters.js';
import { AT, FRAME_WORDS, HOPS, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable } from '../engine/frames.js';
import { Link } from '../engine/link.js';
import type { Sink } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import { noted } from '../qos/appNote.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import { AddressesApp } from './appAddresses.js';
import { makeFeatures } from './appFeatures.js';
import { Trace } from './appTrace.js';
import { VlanTallies } from './appVlans.js';
import { Stations } from './appStations.js';
import type { MacEntry } from './appStations.js';
import type { Surroundings } from './appFeatures.js';
import { DROP, PORT_COUNTERS, SWITCH_COUNTERS, dropReason, placeOf } from './counters.js';
import { DISCARDING, FORWARDING, PASS } from './feature.js';
import type { Feature, FeaturePort, IngressStage, PortForwarding, SwitchHost } from './feature.js';
import { FilteringDatabase, LEARN_KNOWN } from './filteringDatabase.js';
import { Packet } from './packet.js';
import { FLOOD, PORTS_MAX_COUNT, Relay } from './relay.js';
import * as stages from './stages.js';
import type { Stages } from './stages.js';
import type { Membership, VlanMembership } from './vlanMembership.js';

const UNICAST = SWITCH_COUNTERS.indexOf('unicastFrames');
const FLOODED = SWITCH_COUNTERS.indexOf('floodedFrames');
const COPIES = SWITCH_COUNTERS.indexOf('floodedCopies');
const TRUNCATED = dropReason('dropTruncated');
const NO_RECEIVER = dropReason('dropNoReceiver');
const PORT_DISCARDING = dropReason('dropPortDiscarding');
const PORT_FAULT = dropReason('dropPortFault');
const RESERVED_GROUP = dropReason('dropReservedGroup');
const SOURCE_NOT_LEARNABLE = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('sourceNotLearnable');
const CONTROL_FRAMES = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('controlFrames');
/** The first four octets of 01-80-C2-00-00-0X. */
const RESERVED_GROUP_WORD = 0x0180_c200;

if (SINK_COUNTERS_AT + PORT_COUNTERS.length > ROW_LENGTH || SWITCH_COUNTERS.length > ROW_LENGTH)
  throw new Error('the counter row is too short');

export type OnMove = (app: SwitchApp, mac: string, vlan: number, from: Link, to: Link) => void;

export class SwitchApp implements Sink, SwitchHost {
  readonly name: string;
  readonly loop: Loop;
  readonly counters = makeRow();
  readonly address: Uint8Array;
  readonly stages: Stages = {
    control: [],
    police: undefined,
    guard: undefined,
    rules: undefined,
    groups: undefined,
    storm: undefined,
    mirrors: undefined,
    sampling: undefined,
    offload: undefined,
  };
  readonly #surroundings: Surroundings;
  readonly #relay: Relay;
  readonly #packet: Packet;
  /** A frame of our own, on its way into a VLAN. */
  readonly #own: Packet;
  readonly #links: (Link | undefined)[] = [];
  readonly #ports = new Map<Link, FeaturePort>();
  readonly #flags = new Int32Array(PORTS_MAX_COUNT);
  readonly #states = new Uint8Array(PORTS_MAX_COUNT).fill(FORWARDING);
  /** Per port, why it is out of service, by whom. */
  readonly #faults = new Map<number, Map<string, string>>();
  readonly #features: readonly Feature[];
  readonly #addresses: AddressesApp;
  readonly #stations: Stations;
  readonly #tallies = new VlanTallies();
  /** Where a frame on trial (Packet.isTrial) is written about. */
  #trial: Trace | undefined;

  constructor(loop: Loop, config: SwitchConfig, surroundings: Surroundings, onMove: OnMove) {
    this.name = config.name;
    this.loop = loop;
    this.#surroundings = surroundings;
    this.address = surroundings.addressOf(config);
    this.#relay = new Relay(config.macLimit, config.ageingTime_s * 1000);
    this.#packet = new Packet(loop.pool.arena.view);
    this.#own = new Packet(loop.pool.arena.view);
    this.#stations = new Stations(
      loop,
      this.#relay,
      this.counters,
      this.#links,
      (mac, vid, from, to) => onMove(this, mac, vid, from, to),
      () => this.decisionsChanged(),
    );
    this.#addresses = new AddressesApp(this, this.#relay);
    this.#features = [this.#addresses, ...makeFeatures(this, this.stages, surroundings)];
  }

  close(): void {
    for (const feature of this.#features) feature.close();
    this.#stations.close();
  }

  /** After its links are as the configuration wants them. */
  configure(config: SwitchConfig): void {
    this.#relay.database.configure(config.macLimit, config.ageingTime_s * 1000);
    const wanted = new Map(config.ports.map(port => [port.name, port]));
    for (const port of this.#ports.values()) {
      port.config = wanted.get(port.link.name) ?? port.config;
      const isolated = port.config.isolated === true;
      if ((this.#relay.isolated[port.port] !== 0) !== isolated) this.decisionsChanged();
      this.#relay.isolated[port.port] = isolated ? 1 : 0;
      this.setFlag(port.port, stages.F_ISOLATED, isolated);
    }
    const ports = [...this.#ports.values()];
    for (const feature of this.#features) feature.configure(config, ports);
  }

  /** A new link of this switch, still without a port. */
  addLink(config: PortConfig): Link {
    let index = this.#links.indexOf(undefined);
    if (index < 0) index = this.#links.length;
    const link = new Link(this.loop, config.name, this, index);
    this.#links[index] = link;
    this.#flags[index] = 0;
    this.#states[index] = FORWARDING;
    this.#relay.blocked[index] = 0;
    this.#relay.isolated[index] = 0;
    this.#relay.vlans.set(index, config.vlan as Membership);
    const port: FeaturePort = { port: index, link, config };
    this.#ports.set(link, port);
    for (const feature of this.#features) feature.portAdded?.(port);
    return link;
  }

  /** Forgets the addresses of this port only. */
  setMembership(link: Link, membership: Membership): void {
    this.#relay.vlans.set(link.sinkIndex, membership);
    this.flushPort(link.sinkIndex);
  }

  removeLink(link: Link): void {
    const port = this.#ports.get(link);
    if (port !== undefined) for (const feature of this.#features) feature.portRemoved?.(port);
    this.#ports.delete(link);
    this.#faults.delete(link.sinkIndex);
    this.#relay.vlans.clear(link.sinkIndex);
    this.flushPort(link.sinkIndex);
    this.#links[link.sinkIndex] = undefined;
  }

  /** 802.1Q-2022 8.8.3: what was learned on a port that went down is not true any more. */
  linkChanged(link: Link): void {
    if (!link.isUp) this.flushPort(link.sinkIndex);
    const port = this.#ports.get(link);
    if (port !== undefined) for (const feature of this.#features) feature.portChanged?.(port);
  }

  /** What a capability knows; undefined: there is none of this name, or it is off. */
  show(what: string, query: Readonly<Record<string, string>>): unknown {
    if (what === 'vlans') return this.#tallies.show(this.#relay.vlans, this.#links);
    for (const feature of this.#features) {
      const shown = feature.show?.(what, query);
      if (shown !== undefined) return shown;
    }
    return undefined;
  }

  /** Of the filtering database: the port that a station is behind, UNKNOWN or -1. Halves of the address as in a frame. */
  whereIs(vid: number, high: number, low: number): number {
    return this.#relay.database.lookup(
      FilteringDatabase.key0(this.#relay.vlans.fid(vid), high),
      low,
      this.loop.now_ms,
    );
  }

  /** A station spoke without our seeing it. */
  refresh(vid: number, high: number, low: number): void {
    const port = this.whereIs(vid, high, low);
    if (port < 0) return;
    const { database, vlans } = this.#relay;
    database.refresh(FilteringDatabase.key0(vlans.fid(vid), high), low, port, this.loop.now_ms);
  }

  /** Frames of a VLAN that the kernel forwarded. */
  forwarded(vid: number, frames: number, octets: number): void {
    this.counters[UNICAST]! += frames;
    this.#tallies.frames[vid]! += frames;
    this.#tallies.octets[vid]! += octets;
  }

  /** Somebody looks at the frames of a link, or does not any more. */
  observed(link: Link): void {
    this.stages.offload?.observed(link);
  }

  // --- what a capability may ask (SwitchHost) ---------------------------------------------------------------

  link(port: number): Link | undefined {
    return this.#links[port];
  }

  portNamed(name: string): FeaturePort | undefined {
    for (const port of this.#ports.values()) if (port.link.name === name) return port;
    return undefined;
  }

  sendControl(link: Link, frame: Uint8Array): boolean {
    if (!link.isUp) return false;
    const number = this.loop.originate(frame);
    if (number < 0) return false;
    link.send(number, vlan.EDIT_NONE);
    return true;
  }

  sendInto(vid: number, frame: Uint8Array): boolean {
    const number = this.loop.originate(frame);
    if (number < 0) return false;
    const relay = this.#relay;
    const { view } = this.loop.pool.arena;
    relay.originate(vid);
    const egress = relay.lookup(
      view,
      this.loop.frames.words[number * FRAME_WORDS + AT]!,
      -1,
      this.loop.now_ms,
    );
    // Not the packet in hand: a capability may send while it is asked about that one.
    const own = this.#own;
    this.#fill(this.loop.frames, number, -1, own);
    own.vlan = vid;
    if (egress >= 0) this.#forward(number, egress, own);
    else if (egress === FLOOD) this.#flood(number, -1, relay.vlans.members(vid), own);
    return true;
  }

  setPortState(port: number, state: PortForwarding): void {
    if (this.#states[port] === state) return;
    this.#states[port] = state;
    this.setFlag(port, stages.F_STATE, state !== FORWARDING);
    this.#setBlocked(port);
  }

  isBlocked(port: number): boolean {
    return this.#relay.blocked[port] !== 0;
  }

  setPortFault(port: number, by: string, reason: string | null): void {
    let faults = this.#faults.get(port);
    if (faults === undefined) this.#faults.set(port, (faults = new Map()));
    if (reason === null) faults.delete(by);
    else faults.set(by, reason);
    this.setFlag(port, stages.F_FAULT, faults.size > 0);
    this.#setBlocked(port);
    this.#links[port]?.setFault(faults.size === 0 ? null : [...faults.values()].join('; '));
  }

  #setBlocked(port: number): void {
    const isBlocked = (this.#flags[port]! & (stages.F_STATE | stages.F_FAULT)) !== 0;
    this.#relay.blocked[port] = isBlocked ? 1 : 0;
    this.decisionsChanged();
  }

  setFlag(port: number, flag: number, on: boolean): void {
    if (on) this.#flags[port]! |= flag;
    else this.#flags[port]! &= ~flag;
  }

  get vlans(): VlanMembership {
    return this.#relay.vlans;
  }

  topologyChanged(): void {
    for (const feature of this.#features) feature.topologyChanged?.();
  }

  flushPort(port: number): void {
    this.#stations.flushPort(port);
  }

  decisionsChanged(): void {
    this.stages.offload?.ended();
  }

  tell(event: { type: 'switchEvent'; what: string; port: string | null; message: string }): void {
    this.#surroundings.tell({ ...event, switch: this.name });
  }

  // ----------------------------------------------------------------------------------------------------------

  /** What was learned, of one port or one VLAN where said. Returns how many; undefined: there is no such port. */
  flushMacs(portName?: string, vid?: number): number | undefined {
    if (portName === undefined)
      return vid === undefined ? this.#stations.flush() : this.#stations.flushVlan(vid);
    const port = this.portNamed(portName);
    return port === undefined ? undefined : this.#stations.flushPort(port.port);
  }

  macs(): MacEntry[] {
    return this.#stations.list();
  }

  /** What would become of a frame; a word when it could not be tried. Between turns only. */
  trace(portName: string, bytes: Uint8Array): TraceView | 'NO_SUCH_PORT' | 'NO_BUFFER' {
    const port = this.portNamed(portName);
    if (port === undefined) return 'NO_SUCH_PORT';
    const frame = this.loop.originate(bytes);
    if (frame < 0) return 'NO_BUFFER';
    const packet = this.#packet;
    const flags = this.#flags[port.port]!;
    this.#fill(this.loop.frames, frame, port.port);
    packet.isTrial = true;
    this.#trial = new Trace({
      relay: this.#relay,
      packet,
      stages: this.stages,
      flags,
      link: number => this.#links[number],
      decide: () => this.#decide(port.link, flags),
      receivers: () => this.#receivers,
    });
    try {
      return this.#trial.run(port);
    } finally {
      packet.isTrial = false;
      this.#trial = undefined;
      this.loop.flush();
    }
  }

  input(link: Link, frames: FrameTable, first: number, end: number): void {
    const { offload } = this.stages;
    const flags = this.#flags[link.sinkIndex]!;
    if (flags === 0 && (offload === undefined || !offload.accepts(link)))
      this.#plain(link, frames, first, end);
    else this.#staged(link, frames, first, end);
  }

  #plain(link: Link, frames: FrameTable, first: number, end: number): void {
    const words = frames.words;
    const view = this.loop.pool.arena.view;
    const relay = this.#relay;
    const port = link.sinkIndex;
    const now_ms = this.loop.now_ms;
    const row = link.counters;
    const own = this.counters;
    const tallies = this.#tallies;
    let octets = 0;
    for (let frame = first; frame < end; frame++) {
      const w = frame * FRAME_WORDS;
      const at = words[w + AT]!;
      const length_bytes = words[w + LENGTH]!;
      octets += length_bytes;
      if ((words[w + W0]! & 0xff00) !== 0) row[C.gsoInFrames]!++;
      if (length_bytes >= ethernet.LENGTH && view.getInt32(at) === RESERVED_GROUP_WORD)
        if (this.#takeControl(link, frames, frame)) continue;
      const outcome = relay.decide(view, at, length_bytes, port, now_ms);
      if (outcome !== TRUNCATED) countKind(row, view, at, C.ifHCInUcastPkts);
      if (outcome <= DROP) row[SINK_COUNTERS_AT + placeOf(outcome)]!++;
      if (relay.learned !== LEARN_KNOWN) this.#stations.note(link, view, at);
      if (relay.sourceNotLearnable) row[SOURCE_NOT_LEARNABLE]!++;
      if (outcome > DROP) {
        tallies.frames[relay.vlan]!++;
        tallies.octets[relay.vlan]! += length_bytes;
      }
      if (outcome >= 0) {
        own[UNICAST]!++;
        this.#forward(frame, outcome);
      } else if (outcome === FLOOD) {
        own[FLOODED]!++;
        tallies.flooded[relay.vlan]!++;
        if (!this.#flood(frame, port, relay.vlans.members(relay.vlan)))
          row[SINK_COUNTERS_AT + placeOf(NO_RECEIVER)]!++;
      }
    }
    row[C.ifHCInOctets]! += octets;
  }

  #staged(link: Link, frames: FrameTable, first: number, end: number): void {
    const { offload, mirrors, sampling } = this.stages;
    const packet = this.#packet;
    const relay = this.#relay;
    const row = link.counters;
    const port = link.sinkIndex;
    const tallies = this.#tallies;
    const offloads = offload !== undefined && offload.accepts(link);
    for (let frame = first; frame < end; frame++) {
      this.#fill(frames, frame, port);
      row[C.ifHCInOctets]! += packet.length_bytes;
      if ((packet.w0 & 0xff00) !== 0) row[C.gsoInFrames]!++;
      // A stage may have changed it for a frame before.
      const flags = this.#flags[port]!;
      if (packet.length_bytes >= ethernet.LENGTH && packet.view.getInt32(packet.at) === RESERVED_GROUP_WORD)
        if ((flags & stages.F_FAULT) === 0 && this.#takeControl(link, frames, frame)) continue;
      const outcome = this.#decide(link, flags);
      if (outcome !== TRUNCATED) countKind(row, packet.view, packet.at, C.ifHCInUcastPkts);
      if (outcome <= DROP) row[SINK_COUNTERS_AT + placeOf(outcome)]!++;
      if (sampling !== undefined && (flags & stages.F_SAMPLE) !== 0) sampling.decided(packet, outcome);
      // What was dropped before its VLAN was known; the others have been seen.
      if (mirrors !== undefined && (flags & stages.F_MIRROR) !== 0) mirrors.seen(packet, -1, vlan.EDIT_NONE);
      if (outcome > DROP) {
        if ((flags & (stages.F_POLICE | stages.F_RULES)) !== 0) {
          const w = packet.frame * FRAME_WORDS;
          frames.words[w + HOPS] = noted(frames.words[w + HOPS]!, relay.vlan, packet.priority);
        }
        tallies.frames[relay.vlan]!++;
        tallies.octets[relay.vlan]! += packet.length_bytes;
      }
      if (outcome >= 0) {
        this.counters[UNICAST]!++;
        this.#forward(packet.frame, outcome);
        if (offloads && packet.isLayer2Decision)
          offload.decided(packet, link, this.#links[outcome]!, relay.edit(outcome));
      } else if (outcome === FLOOD) {
        this.counters[FLOODED]!++;
        tallies.flooded[relay.vlan]!++;
        if (!this.#flood(packet.frame, port, this.#receivers))
          row[SINK_COUNTERS_AT + placeOf(NO_RECEIVER)]!++;
      }
    }
  }

  /** Where a frame goes of which `#decide` answered FLOOD. */
  #receivers: Int32Array = new Int32Array(0);

  /** A port, FLOOD (then `#receivers` says to which), or a drop reason. */
  #decide(link: Link, flags: number): number {
    const packet = this.#packet;
    const relay = this.#relay;
    const { view, port, now_ms } = packet;
    const { police, guard, rules, groups, storm, mirrors } = this.stages;
    const trial = this.#trial;
    if ((flags & stages.F_FAULT) !== 0) return PORT_FAULT;
    if ((flags & stages.F_STATE) !== 0 && this.#states[port] === DISCARDING) return PORT_DISCARDING;
    const refused = relay.classify(view, packet.at, packet.length_bytes, port);
    if (refused !== 0) return refused;
    packet.vlan = relay.vlan;
    packet.priority = relay.priority;
    trial?.note('vlan', PASS, `VLAN ${relay.vlan}, priority ${relay.priority}`);
    // Before anything may be done to it: a mirror shows it as it came.
    if (mirrors !== undefined && (flags & stages.F_MIRROR) !== 0 && trial === undefined)
      mirrors.seen(packet, -1, vlan.EDIT_NONE);
    if ((flags & stages.F_STATE) !== 0) {
      this.#learn(link);
      return PORT_DISCARDING;
    }
    let answer = PASS;
    if (police !== undefined && (flags & stages.F_POLICE) !== 0) answer = this.#ask('police', police);
    if (answer === PASS && guard !== undefined && (flags & stages.F_GUARD) !== 0)
      answer = this.#ask('guard', guard);
    if (answer === PASS && rules !== undefined && (flags & stages.F_RULES) !== 0)
      answer = this.#ask('rules', rules);
    if (answer !== PASS) return answer;
    if (packet.isRetagged) {
      relay.retag(packet.vlan, packet.priority);
      trial?.say('rules', `now VLAN ${packet.vlan}, priority ${packet.priority}`);
    }
    this.#learn(link);
    if ((flags & stages.F_ADDRESSES) !== 0 && relay.learned !== LEARN_KNOWN) {
      const kept = this.#addresses.learned(packet);
      trial?.note('addresses', kept);
      if (kept !== PASS) return kept;
    }
    if (rules !== undefined && (flags & stages.F_RULES) !== 0 && rules.output !== undefined) {
      this.#receivers = rules.output;
      trial?.say('rules', 'the rule says where it goes');
      return FLOOD;
    }
    const outcome = relay.lookup(view, packet.at, port, now_ms);
    if (outcome !== FLOOD) {
      if (outcome >= 0 && trial !== undefined)
        trial.note('lookup', PASS, `its destination is on port ${trial.nameOf(outcome)}`);
      return outcome;
    }
    this.#receivers = relay.vlans.members(relay.vlan);
    const isGroup = ethernet.isGroup(view, packet.at);
    trial?.note('lookup', PASS, isGroup ? 'to a group' : 'its destination is not known');
    if (isGroup && groups !== undefined && (flags & stages.F_SNOOP) !== 0) {
      const taken = this.#ask('groups', groups);
      if (taken !== PASS) return taken;
      const wanting = groups.receivers(packet);
      if (wanting !== undefined) {
        this.#receivers = wanting;
        trial?.say('groups', 'to the ports that want the group');
        return FLOOD;
      }
    }
    if (storm !== undefined && (flags & stages.F_STORM) !== 0) {
      let kind = stages.FLOOD_UNKNOWN;
      if (isGroup)
        kind = ethernet.isBroadcast(view, packet.at) ? stages.FLOOD_BROADCAST : stages.FLOOD_MULTICAST;
      const stormed = storm.admit(packet, kind);
      trial?.note('storm', stormed);
      if (stormed !== PASS) return stormed;
    }
    return FLOOD;
  }

  #ask(name: string, stage: IngressStage): number {
    return this.#trial === undefined ? stage.admit(this.#packet) : this.#trial.ask(name, stage);
  }

  #learn(link: Link): void {
    if (this.#trial !== undefined) return this.#trial.learn();
    const { view, at, port, now_ms } = this.#packet;
    this.#relay.learn(view, at, port, now_ms);
    this.#afterLearning(link);
  }

  #fill(frames: FrameTable, frame: number, port: number, packet = this.#packet): void {
    const words = frames.words;
    const w = frame * FRAME_WORDS;
    packet.frame = frame;
    packet.at = words[w + AT]!;
    packet.length_bytes = words[w + LENGTH]!;
    packet.w0 = words[w + W0]!;
    packet.w1 = words[w + W1]!;
    packet.w2 = words[w + W2]!;
    packet.port = port;
    packet.now_ms = this.loop.now_ms;
    packet.vlan = 0;
    packet.isParsed = false;
    packet.isRetagged = false;
    packet.mirrors = 0;
    packet.mirrored = 0;
    packet.isLayer2Decision = true;
  }

  #takeControl(link: Link, frames: FrameTable, frame: number): boolean {
    this.#fill(frames, frame, link.sinkIndex);
    const packet = this.#packet;
    if (!ethernet.isReservedGroup(packet.view, packet.at)) return false;
    countKind(link.counters, packet.view, packet.at, C.ifHCInUcastPkts);
    for (const receiver of this.stages.control)
      if (receiver.control(packet, link)) {
        link.counters[CONTROL_FRAMES]!++;
        return true;
      }
    link.counters[SINK_COUNTERS_AT + placeOf(RESERVED_GROUP)]!++;
    return true;
  }

  #afterLearning(link: Link): void {
    const relay = this.#relay;
    if (relay.learned !== LEARN_KNOWN) this.#stations.note(link, this.#packet.view, this.#packet.at);
    if (relay.sourceNotLearnable) link.counters[SOURCE_NOT_LEARNABLE]!++;
  }

  #forward(frame: number, port: number, packet = this.#packet): void {
    const egress = this.#links[port]!;
    if (!egress.isUp) {
      egress.counters[C.dropNotUp]!++;
      return;
    }
    const edit = this.#relay.edit(port);
    egress.send(frame, edit);
    const { mirrors } = this.stages;
    if (mirrors !== undefined && mirrors.isSource(port)) mirrors.seen(packet, port, edit);
  }

  /** To all of these that may have it, but for the one it came by. Whether there was any. */
  #flood(frame: number, port: number, receivers: Int32Array, packet = this.#packet): boolean {
    const relay = this.#relay;
    const { mirrors } = this.stages;
    let copies = 0;
    for (let i = 0; i < receivers.length; i++) {
      const member = receivers[i]!;
      if (member === port || relay.blocked[member] !== 0 || relay.isApart(port, member)) continue;
      const egress = this.#links[member];
      if (egress === undefined || !egress.isUp) continue;
      const edit = relay.edit(member);
      egress.send(frame, edit);
      if (mirrors !== undefined && mirrors.isSource(member)) mirrors.seen(packet, member, edit);
      copies++;
    }
    this.counters[COPIES]! += copies;
    return copies > 0;
  }
}

/** Unicast, multicast and broadcast counters stand in this order, in and out. */
export function countKind(row: Float64Array, view: DataView, at: number, unicastIndex: number): void {
  if ((view.getUint8(at) & 1) === 0) row[unicastIndex]!++;
  else if (ethernet.isBroadcast(view, at)) row[unicastIndex + 2]!++;
  else row[unicastIndex + 1]!++;
}
