/**
 * A switch: its ports, what may be asked of it, and its capabilities (feature.ts), joined to the engine. The way of a
 * frame is in appPipeline.ts, the decision in relay.ts.
 */
import type { PortConfig, SwitchConfig, TraceView } from '../contract.js';
import { ROW_LENGTH, SINK_COUNTERS_AT, makeRow } from '../engine/counters.js';
import type { FrameTable } from '../engine/frames.js';
import { Link } from '../engine/link.js';
import type { Sink } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import * as vlan from '../wire/vlan.js';
import { AddressesApp } from './appAddresses.js';
import { makeFeatures } from './appFeatures.js';
import type { Surroundings } from './appFeatures.js';
import { Pipeline } from './appPipeline.js';
import { Stations } from './appStations.js';
import type { MacEntry } from './appStations.js';
import { PORT_COUNTERS, SWITCH_COUNTERS } from './counters.js';
import { FORWARDING } from './feature.js';
import type { Feature, FeaturePort, PortForwarding, SwitchHost } from './feature.js';
import { FilteringDatabase } from './filteringDatabase.js';
import { Relay } from './relay.js';
import * as stages from './stages.js';
import type { Stages } from './stages.js';
import type { Membership, VlanMembership } from './vlanMembership.js';

const UNICAST = SWITCH_COUNTERS.indexOf('unicastFrames');

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
  readonly #links: (Link | undefined)[] = [];
  readonly #ports = new Map<Link, FeaturePort>();
  /** Per port, why it is out of service, by whom. */
  readonly #faults = new Map<number, Map<string, string>>();
  readonly #features: readonly Feature[];
  readonly #stations: Stations;
  readonly #pipeline: Pipeline;

  constructor(loop: Loop, config: SwitchConfig, surroundings: Surroundings, onMove: OnMove) {
    this.name = config.name;
    this.loop = loop;
    this.#surroundings = surroundings;
    this.address = surroundings.addressOf(config);
    this.#relay = new Relay(config.macLimit, config.ageingTime_s * 1000);
    this.#stations = new Stations(
      loop,
      this.#relay,
      this.counters,
      this.#links,
      (mac, vid, from, to) => onMove(this, mac, vid, from, to),
      () => this.decisionsChanged(),
    );
    const addresses = new AddressesApp(this, this.#relay);
    this.#pipeline = new Pipeline({
      loop,
      counters: this.counters,
      relay: this.#relay,
      stages: this.stages,
      links: this.#links,
      stations: this.#stations,
      addresses,
    });
    this.#features = [addresses, ...makeFeatures(this, this.stages, surroundings)];
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
    this.#pipeline.flags[index] = 0;
    this.#pipeline.states[index] = FORWARDING;
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
    if (what === 'vlans') return this.#pipeline.tallies.show(this.#relay.vlans, this.#links);
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
    this.#pipeline.tallies.frames[vid]! += frames;
    this.#pipeline.tallies.octets[vid]! += octets;
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
    return this.#pipeline.sendInto(vid, frame);
  }

  setPortState(port: number, state: PortForwarding): void {
    if (this.#pipeline.states[port] === state) return;
    this.#pipeline.states[port] = state;
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
    const isBlocked = (this.#pipeline.flags[port]! & (stages.F_STATE | stages.F_FAULT)) !== 0;
    this.#relay.blocked[port] = isBlocked ? 1 : 0;
    this.decisionsChanged();
  }

  setFlag(port: number, flag: number, on: boolean): void {
    if (on) this.#pipeline.flags[port]! |= flag;
    else this.#pipeline.flags[port]! &= ~flag;
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
    return port === undefined ? 'NO_SUCH_PORT' : this.#pipeline.trace(port, bytes);
  }

  input(link: Link, frames: FrameTable, first: number, end: number): void {
    this.#pipeline.input(link, frames, first, end);
  }
}
