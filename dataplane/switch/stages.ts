/**
 * What may stand in a frame's way through a switch, in the order in which it does (appPipeline.ts). Each is undefined
 * until its capability is switched on.
 */
import type { Link } from '../engine/link.js';
import type { ControlReceiver, IngressStage } from './feature.js';
import type { Packet } from './packet.js';

/** Bits of a port's flags: which stages its frames meet. A plain port has none, and pays one comparison per burst. */
export const F_STATE = 1 << 0;
export const F_POLICE = 1 << 1;
export const F_GUARD = 1 << 2;
export const F_RULES = 1 << 3;
export const F_SNOOP = 1 << 4;
export const F_STORM = 1 << 5;
export const F_ISOLATED = 1 << 6;
export const F_MIRROR = 1 << 7;
export const F_SAMPLE = 1 << 8;
export const F_FAULT = 1 << 9;
export const F_ADDRESSES = 1 << 10;

/** What the rules made of a frame. */
export interface RulesStage extends IngressStage {
  /** After `admit` answered PASS: ports it is sent to instead of what the database says; undefined: go on. */
  readonly output: Int32Array | undefined;
}

export interface GroupStage extends IngressStage {
  /**
   * Ports (ascending, members of the VLAN) that want a frame to a group; undefined: flood. Asked after `admit`, which
   * takes reports and queries in.
   */
  receivers(packet: Packet): Int32Array | undefined;
}

/** What is about to happen to a frame that no port is known for. */
export const FLOOD_BROADCAST = 0;
export const FLOOD_MULTICAST = 1;
export const FLOOD_UNKNOWN = 2;

export interface StormStage {
  /** PASS or a drop reason; `kind` as above. */
  admit(packet: Packet, kind: number): number;
}

export interface MirrorStage {
  /** Once for each frame that came in by a port with F_MIRROR or leaves by one; `egress` -1: it came in. */
  seen(packet: Packet, egress: number, edit: number): void;
  /** A flow rule wants these sessions (bits of their places in the configuration) to have the frame, as it came. */
  take(packet: Packet, sessions: number): void;
  /** Whether frames that leave by this port are mirrored. */
  isSource(port: number): boolean;
}

/** Told of each frame's fate: egress >= 0 one port, -1 several, below: the drop reason. */
export interface SampleStage {
  decided(packet: Packet, egress: number): void;
}

/** Told of decisions that the kernel could repeat: one egress, decided by layer 2 alone. */
export interface OffloadStage {
  /** Asked once per burst. */
  accepts(link: Link): boolean;
  decided(packet: Packet, ingress: Link, egress: Link, edit: number): void;
  /** Nothing that was decided so far counts any more. */
  ended(): void;
  /** Somebody looks at the frames of a link, or does not any more. */
  observed(link: Link): void;
}

export interface Stages {
  readonly control: ControlReceiver[];
  police: IngressStage | undefined;
  guard: IngressStage | undefined;
  rules: RulesStage | undefined;
  groups: GroupStage | undefined;
  storm: StormStage | undefined;
  mirrors: MirrorStage | undefined;
  sampling: SampleStage | undefined;
  offload: OffloadStage | undefined;
}
