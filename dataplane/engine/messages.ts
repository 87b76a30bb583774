/**
 * What the HTTP thread and the engine's thread say to each other. Counters do not travel: their rows are shared
 * memory, handed over once in a Topology.
 */
import type { Filter } from '../capture/filter.js';
import type { TalkersResult } from '../capture/talkers.js';
import type { ShortcutAsk, ShortcutReply } from '../ports/kernel/messages.js';
import type {
  DataplaneConfig,
  MacTable,
  PortState,
  PortVlan,
  SwitchSampling,
  TraceView,
} from '../contract.js';

export type Command =
  | { op: 'apply'; config: DataplaneConfig }
  | { op: 'macs'; switch: string }
  /** Of one port or one VLAN where said. */
  | { op: 'flushMacs'; switch: string; port?: string | undefined; vlan?: number | undefined }
  | {
      op: 'capture';
      capture: number;
      switch: string;
      /** None: all ports of the switch. */
      ports: string[];
      snap_bytes: number;
      /** Only frames for which it holds; undefined: all. */
      filter: Filter | undefined;
      /** Frames until it ends by itself; Infinity: when it is stopped. */
      count: number;
      ring: SharedArrayBuffer;
    }
  | { op: 'stopCapture'; capture: number }
  /** Begin to watch who speaks on a switch; `finishTalkers` tells and ends it. `watch` is the asker's number. */
  | { op: 'startTalkers'; watch: number; switch: string }
  | { op: 'finishTalkers'; watch: number; limit: number }
  /** What a capability of a switch knows. */
  | { op: 'show'; switch: string; what: string; query: Record<string, string> }
  /** What would become of a frame that came in by this port. */
  | { op: 'trace'; switch: string; port: string; frame: Uint8Array }
  /** What came of a `shortcut` notice. */
  | { op: 'shortcut'; reply: ShortcutReply }
  | { op: 'stop' };

export interface PortTopology {
  name: string;
  kind: string;
  vlan: PortVlan;
  state: PortState;
  reason: string | null;
  counters: Float64Array<SharedArrayBuffer>;
  /** Of an aggregate. */
  members: MemberTopology[];
}

export interface MemberTopology {
  name: string;
  kind: string;
  state: PortState;
  reason: string | null;
  counters: Float64Array<SharedArrayBuffer>;
}

export interface SwitchTopology {
  name: string;
  counters: Float64Array<SharedArrayBuffer>;
  ports: PortTopology[];
}

/** What there is after a configuration was applied. */
export interface Topology {
  generation: number;
  switches: SwitchTopology[];
}

/** Answers by `op`. */
export interface Answers {
  apply: Topology;
  macs: MacTable['entries'];
  flushMacs: number;
  /** Names of the captured ports, in the order of their interfaces. */
  capture: string[];
  stopCapture: null;
  startTalkers: null;
  finishTalkers: TalkersResult;
  show: unknown;
  trace: TraceView;
  shortcut: null;
  stop: null;
}

export interface Refusal {
  code: string;
  message: string;
}

/** To the engine. */
export interface Request {
  id: number;
  command: Command;
}

/** From the engine. */
export type Notice =
  | { type: 'ready'; counters: Float64Array<SharedArrayBuffer> }
  | { type: 'answer'; id: number; answer: unknown }
  | { type: 'refusal'; id: number; refusal: Refusal }
  /** `member`: it is about this one of an aggregate's. */
  | {
      type: 'port';
      switch: string;
      port: string;
      member?: string;
      state: PortState;
      reason: string | null;
    }
  /** Something that an operator would want to know: a guard that closed a port, a new root, … */
  | { type: 'switchEvent'; switch: string; what: string; port: string | null; message: string }
  /** For collectors of flow samples: to be sent by the thread that may wait. */
  | { type: 'export'; datagram: Uint8Array; collectors: SwitchSampling['collectors'] }
  /** Hooks of the kernel, for the thread that may wait. */
  | { type: 'shortcut'; ask: ShortcutAsk }
  | { type: 'macMoved'; switch: string; mac: string; vlan: number; from: string; to: string };
