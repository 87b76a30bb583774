/**
 * The seam between a switch and its capabilities (spanning tree, snooping, guards, rules, QoS, …). Each has a room
 * of its own: pure machines, and one `app.ts` that implements Feature. The order in which a frame meets them is
 * not a list that grows by itself; it is written out in switch/appPipeline.ts, where it can be read.
 */
import type { PortConfig, SwitchConfig } from '../contract.js';
import type { Link } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import type { Packet } from './packet.js';
import type { VlanMembership } from './vlanMembership.js';

/** What `admit` answers: PASS, or a negative drop reason of switch/counters.ts. */
export const PASS = 0;

/** Asked for each frame of the ports that have it switched on. Allocates nothing, throws nothing. */
export interface IngressStage {
  admit(packet: Packet): number;
  /** It honours `packet.isTrial`. A stage without it is not asked about trials. */
  readonly takesTrials?: true;
  /** After `admit`: why, in words; undefined: nothing to add to what was answered. */
  explain?(packet: Packet): string | undefined;
}

/** Takes frames to the reserved group addresses (802.1Q-2022 8.6.3), which are never forwarded. */
export interface ControlReceiver {
  /** True: consumed. `link` is the physical link, the member of an aggregate where there is one. */
  control(packet: Packet, link: Link): boolean;
}

export interface FeaturePort {
  readonly port: number;
  readonly link: Link;
  config: PortConfig;
}

export interface Feature {
  /** The whole configuration, on every change and when made; compares for itself and touches what differs. */
  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void;
  portAdded?(port: FeaturePort): void;
  portRemoved?(port: FeaturePort): void;
  /** Its link went up or down. */
  portChanged?(port: FeaturePort): void;
  /** Spanning tree found other ways: stations and members of groups may be elsewhere now. */
  topologyChanged?(): void;
  /** For GET /switches/:switch/show/:what; undefined: not mine. Plain JSON. */
  show?(what: string, query: Readonly<Record<string, string>>): unknown;
  close(): void;
}

/** 802.1Q-2022 8.4: what spanning tree lets a port do. */
export const DISCARDING = 0;
export const LEARNING = 1;
export const FORWARDING = 2;

export type PortForwarding = typeof DISCARDING | typeof LEARNING | typeof FORWARDING;

/** What a feature may ask of the switch it belongs to. */
export interface SwitchHost {
  readonly name: string;
  readonly loop: Loop;
  readonly counters: Float64Array<SharedArrayBuffer>;
  /** The bridge's own address: six octets. */
  readonly address: Uint8Array;
  link(port: number): Link | undefined;
  portNamed(name: string): FeaturePort | undefined;
  /**
   * Sends a frame of our own out of a port (of an aggregate: one of its members), as it is: no VLAN edit, no rules.
   * Callable any time on the engine's thread. False when there is no buffer or the port is not up.
   */
  sendControl(link: Link, frame: Uint8Array): boolean;
  /** Puts a frame of our own into a VLAN, as if it had come in by nobody's port: forwarded and flooded by the rules. */
  sendInto(vlan: number, frame: Uint8Array): boolean;
  setPortState(port: number, state: PortForwarding): void;
  /** Whether nothing may leave by a port (spanning tree, a fault). */
  isBlocked(port: number): boolean;
  /** Forgets what was learned on a port; also ends its offloaded flows. */
  flushPort(port: number): void;
  /** How the ports stand to VLANs. */
  readonly vlans: VlanMembership;
  /** To be said by spanning tree; all capabilities hear of it. */
  topologyChanged(): void;
  /** Which stages the frames of a port meet: F_… of stages.ts. */
  setFlag(port: number, flag: number, on: boolean): void;
  /** Whatever decided flows so far has changed: nothing that was offloaded may be relied on. */
  decisionsChanged(): void;
  /** Takes a port out of service with a reason in words (BPDU guard, storm, address limit); null brings it back. */
  setPortFault(port: number, by: string, reason: string | null): void;
  /** An event for /events and the log. */
  tell(event: { type: 'switchEvent'; what: string; port: string | null; message: string }): void;
}
