/**
 * The way of a frame through a switch, in this order:
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
 *
 * What is decided is relay.ts's and the stages' to say; here are the order, the counters, and the queues of the links.
 */
import type { TraceView } from '../contract.js';
import { C, SINK_COUNTERS_AT } from '../engine/counters.js';
import { AT, FRAME_WORDS, HOPS, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable } from '../engine/frames.js';
import type { Link, Sink } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import { noted } from '../qos/appNote.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import type { AddressesApp } from './appAddresses.js';
import type { Stations } from './appStations.js';
import { Trace } from './appTrace.js';
import { VlanTallies } from './appVlans.js';
import { DROP, PORT_COUNTERS, SWITCH_COUNTERS, dropReason, placeOf } from './counters.js';
import { DISCARDING, FORWARDING, PASS } from './feature.js';
import type { FeaturePort, IngressStage } from './feature.js';
import { LEARN_KNOWN } from './filteringDatabase.js';
import { Packet } from './packet.js';
import { FLOOD, PORTS_MAX_COUNT } from './relay.js';
import type { Relay } from './relay.js';
import * as stages from './stages.js';
import type { Stages } from './stages.js';

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

/** Of the switch around it. */
export interface Around {
  readonly loop: Loop;
  readonly counters: Float64Array;
  readonly relay: Relay;
  readonly stages: Stages;
  /** By the switch's numbers of its ports. */
  readonly links: readonly (Link | undefined)[];
  readonly stations: Stations;
  readonly addresses: AddressesApp;
}

export class Pipeline implements Sink {
  /** Per port, which stages its frames meet (stages.ts), and what spanning tree lets it do. */
  readonly flags = new Int32Array(PORTS_MAX_COUNT);
  readonly states = new Uint8Array(PORTS_MAX_COUNT).fill(FORWARDING);
  readonly tallies = new VlanTallies();
  readonly #loop: Loop;
  readonly #counters: Float64Array;
  readonly #relay: Relay;
  readonly #stages: Stages;
  readonly #links: readonly (Link | undefined)[];
  readonly #stations: Stations;
  readonly #addresses: AddressesApp;
  readonly #packet: Packet;
  /** A frame of our own, on its way into a VLAN. */
  readonly #own: Packet;
  /** Where a frame on trial (Packet.isTrial) is written about. */
  #trial: Trace | undefined;

  constructor(around: Around) {
    this.#loop = around.loop;
    this.#counters = around.counters;
    this.#relay = around.relay;
    this.#stages = around.stages;
    this.#links = around.links;
    this.#stations = around.stations;
    this.#addresses = around.addresses;
    this.#packet = new Packet(around.loop.pool.arena.view);
    this.#own = new Packet(around.loop.pool.arena.view);
  }

  input(link: Link, frames: FrameTable, first: number, end: number): void {
    const { offload } = this.#stages;
    const flags = this.flags[link.sinkIndex]!;
    if (flags === 0 && (offload === undefined || !offload.accepts(link)))
      this.#plain(link, frames, first, end);
    else this.#staged(link, frames, first, end);
  }

  #plain(link: Link, frames: FrameTable, first: number, end: number): void {
    const words = frames.words;
    const view = this.#loop.pool.arena.view;
    const relay = this.#relay;
    const port = link.sinkIndex;
    const now_ms = this.#loop.now_ms;
    const row = link.counters;
    const own = this.#counters;
    const tallies = this.tallies;
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
    const { offload, mirrors, sampling } = this.#stages;
    const packet = this.#packet;
    const relay = this.#relay;
    const row = link.counters;
    const port = link.sinkIndex;
    const tallies = this.tallies;
    const offloads = offload !== undefined && offload.accepts(link);
    for (let frame = first; frame < end; frame++) {
      this.#fill(frames, frame, port);
      row[C.ifHCInOctets]! += packet.length_bytes;
      if ((packet.w0 & 0xff00) !== 0) row[C.gsoInFrames]!++;
      // A stage may have changed it for a frame before.
      const flags = this.flags[port]!;
      if (packet.length_bytes >= ethernet.LENGTH && packet.view.getInt32(packet.at) === RESERVED_GROUP_WORD)
        if ((flags & stages.F_FAULT) === 0 && this.#takeControl(link, frames, frame)) continue;
      const outcome = this.#decide(link, flags);
      if (outcome !== TRUNCATED) countKind(row, packet.view, packet.at, C.ifHCInUcastPkts);
      if (outcome <= DROP) row[SINK_COUNTERS_AT + placeOf(outcome)]!++;
      if (sampling !== undefined && (flags & stages.F_SAMPLE) !== 0) sampling.decided(packet, outcome);
      // What was dropped before its VLAN was known; the others have been seen.
      if (mirrors !== undefined && (flags & stages.F_MIRROR) !== 0) mirrors.seen(packet, -1, vlan.EDIT_NONE);
      if (outcome > DROP) {
        this.#note(frames, flags);
        tallies.frames[relay.vlan]!++;
        tallies.octets[relay.vlan]! += packet.length_bytes;
      }
      if (outcome >= 0) {
        this.#counters[UNICAST]!++;
        this.#forward(packet.frame, outcome);
        if (offloads && packet.isLayer2Decision)
          offload.decided(packet, link, this.#links[outcome]!, relay.edit(outcome));
      } else if (outcome === FLOOD) {
        this.#counters[FLOODED]!++;
        tallies.flooded[relay.vlan]!++;
        if (!this.#flood(packet.frame, port, this.#receivers))
          row[SINK_COUNTERS_AT + placeOf(NO_RECEIVER)]!++;
      }
    }
  }

  /** For the queues of the ports that it leaves by: what was found out of its VLAN and priority, or chosen. */
  #note(frames: FrameTable, flags: number): void {
    if ((flags & (stages.F_POLICE | stages.F_RULES)) === 0) return;
    const { words } = frames;
    const w = this.#packet.frame * FRAME_WORDS + HOPS;
    words[w] = noted(words[w]!, this.#relay.vlan, this.#packet.priority);
  }

  /** Where a frame goes of which `#decide` answered FLOOD. */
  #receivers: Int32Array = new Int32Array(0);

  /** A port, FLOOD (then `#receivers` says to which), or a drop reason. */
  #decide(link: Link, flags: number): number {
    const packet = this.#packet;
    const relay = this.#relay;
    const { view, port, now_ms } = packet;
    const { police, guard, rules, groups, storm, mirrors } = this.#stages;
    const trial = this.#trial;
    if ((flags & stages.F_FAULT) !== 0) return PORT_FAULT;
    if ((flags & stages.F_STATE) !== 0 && this.states[port] === DISCARDING) return PORT_DISCARDING;
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
    packet.now_ms = this.#loop.now_ms;
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
    for (const receiver of this.#stages.control)
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
    const { mirrors } = this.#stages;
    if (mirrors !== undefined && mirrors.isSource(port)) mirrors.seen(packet, port, edit);
  }

  /** To all of these that may have it, but for the one it came by. Whether there was any. */
  #flood(frame: number, port: number, receivers: Int32Array, packet = this.#packet): boolean {
    const relay = this.#relay;
    const { mirrors } = this.#stages;
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
    this.#counters[COPIES]! += copies;
    return copies > 0;
  }

  sendInto(vid: number, frame: Uint8Array): boolean {
    const number = this.#loop.originate(frame);
    if (number < 0) return false;
    const relay = this.#relay;
    const { view } = this.#loop.pool.arena;
    // A capability may send while it is asked about another frame: what was found out about that one is put back.
    relay.setAside();
    relay.originate(vid);
    const egress = relay.lookup(
      view,
      this.#loop.frames.words[number * FRAME_WORDS + AT]!,
      -1,
      this.#loop.now_ms,
    );
    // Not the packet in hand: a capability may send while it is asked about that one.
    const own = this.#own;
    this.#fill(this.#loop.frames, number, -1, own);
    own.vlan = vid;
    if (egress >= 0) this.#forward(number, egress, own);
    else if (egress === FLOOD) this.#flood(number, -1, relay.vlans.members(vid), own);
    relay.putBack();
    return true;
  }

  /** What would become of a frame; a word when it could not be tried. Between turns only. */
  trace(port: FeaturePort, bytes: Uint8Array): TraceView | 'NO_BUFFER' {
    const frame = this.#loop.originate(bytes);
    if (frame < 0) return 'NO_BUFFER';
    const packet = this.#packet;
    const flags = this.flags[port.port]!;
    this.#fill(this.#loop.frames, frame, port.port);
    packet.isTrial = true;
    this.#trial = new Trace({
      relay: this.#relay,
      packet,
      stages: this.#stages,
      flags,
      link: number => this.#links[number],
      decide: () => {
        const outcome = this.#decide(port.link, flags);
        if (outcome > DROP) this.#note(this.#loop.frames, flags);
        return outcome;
      },
      receivers: () => this.#receivers,
    });
    try {
      return this.#trial.run(port);
    } finally {
      packet.isTrial = false;
      this.#trial = undefined;
      this.#loop.flush();
    }
  }
}

/** Unicast, multicast and broadcast counters stand in this order, in and out. */
export function countKind(row: Float64Array, view: DataView, at: number, unicastIndex: number): void {
  if ((view.getUint8(at) & 1) === 0) row[unicastIndex]!++;
  else if (ethernet.isBroadcast(view, at)) row[unicastIndex + 2]!++;
  else row[unicastIndex + 1]!++;
}
