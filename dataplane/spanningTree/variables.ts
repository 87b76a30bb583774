/**
 * The variables of RSTP (IEEE 802.1D-2004 17.17 to 17.20) of a bridge and of its ports, by the names that the
 * standard gives them. The machines, one file each, read and write them; `protocol.ts` is the door that others use.
 *
 * Timers count whole seconds down to zero (17.22). Where we go beyond the standard (guards), a comment says so.
 */
import { blank } from '../wire/bpdu.js';
import type { Bpdu } from '../wire/bpdu.js';
import { makeTimes, makeVector } from './vector.js';

/** 17.13.9: fixed. */
export const MIGRATE_TIME_S = 3;
/** Our bound: BPDUs taken from a port in a second; two bridges that obey txHoldCount send 20 at most. */
export const RECEIVED_PER_SECOND_MAX = 32;

export type Role = 'disabled' | 'root' | 'designated' | 'alternate' | 'backup';
export type State = 'discarding' | 'learning' | 'forwarding';

/** 17.13, 17.14: what management sets of a bridge. */
export interface BridgeSettings {
  /** 17.13.4 Force Protocol Version: 0 STP compatibility, 2 RSTP. */
  readonly forceVersion: 0 | 2;
  /** 17.13.7: in steps of 4096. */
  readonly priority: number;
  readonly maxAge_s: number;
  readonly helloTime_s: number;
  readonly forwardDelay_s: number;
  readonly txHoldCount: number;
}

/** … and of a port. */
export interface PortSettings {
  /** 17.13.10: in steps of 16. */
  readonly priority: number;
  /** 17.13.11. */
  readonly pathCost: number;
  readonly adminEdge: boolean;
  readonly autoEdge: boolean;
  /** 6.4.3 operPointToPointMAC. */
  readonly pointToPoint: boolean;
  /** 802.1Q-2022 13.27 restrictedRole ("root guard"): never the root port. */
  readonly restrictedRole: boolean;
  /** 802.1Q-2022 13.27 restrictedTcn: topology changes noticed here go no further. */
  readonly restrictedTcn: boolean;
  /** Ours: information that ages out here leads to blocking, not to forwarding. */
  readonly loopGuard: boolean;
  /** Ours: a BPDU puts the port down. */
  readonly bpduGuard: boolean;
  /** Ours: seconds until a port that was put down is tried again; 0: not by itself. */
  readonly guardRecovery_s: number;
  /** Ours: no BPDU is sent, none is minded. */
  readonly bpduFilter: boolean;
}

export type RcvdInfo =
  'superiorDesignated' | 'repeatedDesignated' | 'inferiorDesignated' | 'inferiorRootAlternate' | 'other';

export const PORT_COUNTERS = [
  'rstBpdusIn',
  'configBpdusIn',
  'tcnBpdusIn',
  'invalidBpdusIn',
  'filteredBpdusIn',
  'excessBpdusIn',
  'ownBpdusIn',
  'rstBpdusOut',
  'configBpdusOut',
  'tcnBpdusOut',
  'topologyChangesDetected',
  'topologyChangesReceived',
  'forwardTransitions',
  'agedOut',
  'disputes',
  'guardTrips',
] as const;
export type PortCounter = (typeof PORT_COUNTERS)[number];

export class BridgePort {
  /** 9.2.7: 1 to 4095. */
  readonly number: number;
  settings: PortSettings;
  readonly counters = Object.fromEntries(PORT_COUNTERS.map(name => [name, 0])) as Record<PortCounter, number>;

  // 17.17: timers.
  edgeDelayWhile = 0;
  fdWhile = 0;
  helloWhen = 0;
  mdelayWhile = 0;
  rbWhile = 0;
  rcvdInfoWhile = 0;
  rrWhile = 0;
  tcWhile = 0;

  // 17.19: variables.
  agree = false;
  agreed = false;
  readonly designatedPriority = makeVector();
  readonly designatedTimes = makeTimes();
  disputed = false;
  forward = false;
  forwarding = false;
  infoIs: 'disabled' | 'aged' | 'mine' | 'received' = 'disabled';
  learn = false;
  learning = false;
  mcheck = false;
  readonly msgPriority = makeVector();
  readonly msgTimes = makeTimes();
  newInfo = false;
  operEdge = false;
  portEnabled = false;
  portId = 0;
  readonly portPriority = makeVector();
  readonly portTimes = makeTimes();
  proposed = false;
  proposing = false;
  rcvdBpdu = false;
  rcvdInfo: RcvdInfo = 'other';
  rcvdMsg = false;
  rcvdRstp = false;
  rcvdStp = false;
  rcvdTc = false;
  rcvdTcAck = false;
  rcvdTcn = false;
  reRoot = false;
  reselect = false;
  role: Role = 'disabled';
  selected = false;
  selectedRole: Role = 'disabled';
  sendRstp = false;
  sync = false;
  synced = false;
  tcAck = false;
  tcProp = false;
  txCount = 0;
  updtInfo = false;

  /** The BPDU in hand. */
  readonly message: Bpdu = blank();

  // The states of its machines.
  portReceive: 'DISCARD' | 'RECEIVE' = 'DISCARD';
  portProtocolMigration: 'CHECKING_RSTP' | 'SELECTING_STP' | 'SENSING' = 'CHECKING_RSTP';
  bridgeDetection: 'EDGE' | 'NOT_EDGE' = 'NOT_EDGE';
  portTransmit:
    'TRANSMIT_INIT' | 'IDLE' | 'TRANSMIT_PERIODIC' | 'TRANSMIT_CONFIG' | 'TRANSMIT_TCN' | 'TRANSMIT_RSTP' =
    'TRANSMIT_INIT';
  portInformation:
    | 'DISABLED'
    | 'AGED'
    | 'UPDATE'
    | 'CURRENT'
    | 'RECEIVE'
    | 'SUPERIOR_DESIGNATED'
    | 'REPEATED_DESIGNATED'
    | 'INFERIOR_DESIGNATED'
    | 'NOT_DESIGNATED'
    | 'OTHER' = 'DISABLED';
  portRoleTransitions: PortRoleTransitionsState = 'INIT_PORT';
  portStateTransition: 'DISCARDING' | 'LEARNING' | 'FORWARDING' = 'DISCARDING';
  topologyChange:
    | 'INACTIVE'
    | 'LEARNING'
    | 'DETECTED'
    | 'ACTIVE'
    | 'NOTIFIED_TCN'
    | 'NOTIFIED_TC'
    | 'PROPAGATING'
    | 'ACKNOWLEDGED' = 'INACTIVE';

  // Ours.
  /** Its link is up; portEnabled also wants that no guard has put it down. */
  operational = false;
  /** Put down by the BPDU guard; seconds left to recovery, 0 with guardRecovery_s 0: none. */
  guarded = false;
  guardWhile = 0;
  /** Loop guard: what a bridge told us here has aged out, and nothing was heard since. */
  loopInconsistent = false;
  /** Our own BPDUs come back by this very port: its far end is a mirror. Runs three hello times. */
  ownBpduWhile = 0;
  /** A better root than ours was told here, where none may be. For events. */
  rootInconsistent = false;
  receivedLeft = RECEIVED_PER_SECOND_MAX;
  /** Nothing has been learned here since the last flush. */
  isFlushed = true;

  constructor(number: number, settings: PortSettings) {
    this.number = number;
    this.settings = settings;
  }

  get state(): State {
    return this.forwarding ? 'forwarding' : this.learning ? 'learning' : 'discarding';
  }
}

export type PortRoleTransitionsState =
  | 'INIT_PORT'
  | 'DISABLE_PORT'
  | 'DISABLED_PORT'
  | 'ROOT_PORT'
  | 'ROOT_PROPOSED'
  | 'ROOT_AGREED'
  | 'REROOT'
  | 'ROOT_FORWARD'
  | 'ROOT_LEARN'
  | 'REROOTED'
  | 'DESIGNATED_PORT'
  | 'DESIGNATED_PROPOSE'
  | 'DESIGNATED_SYNCED'
  | 'DESIGNATED_RETIRED'
  | 'DESIGNATED_FORWARD'
  | 'DESIGNATED_LEARN'
  | 'DESIGNATED_DISCARD'
  | 'BLOCK_PORT'
  | 'ALTERNATE_PORT'
  | 'ALTERNATE_PROPOSED'
  | 'ALTERNATE_AGREED'
  | 'BACKUP_PORT';

/** What the machines ask of the world. Called while they run: it must not call back into them. */
export interface Outside {
  /** The BPDU is valid until this returns. */
  send(port: number, bpdu: Bpdu): void;
  setState(port: number, state: State): void;
  /** 17.19.7 fdbFlush: forget what was learned on the port, now. */
  flush(port: number): void;
  /** Out of service for a reason in words; null: back. */
  setFault(port: number, reason: string | null): void;
  tell(what: Told, port: number | null): void;
}

export type Told =
  | 'rootChanged'
  | 'roleChanged'
  | 'topologyChangeDetected'
  | 'topologyChangeReceived'
  | 'bpduGuard'
  | 'bpduGuardRecovered'
  | 'loopInconsistent'
  | 'loopConsistent'
  | 'ownBpdus'
  | 'rootInconsistent'
  | 'rootConsistent';

export class Bridge {
  settings: BridgeSettings;
  readonly outside: Outside;
  /** By number, ascending. */
  ports: BridgePort[] = [];

  // 17.18.
  identifierHigh = 0;
  identifierLow = 0;
  readonly bridgeTimes = makeTimes();
  readonly rootPriority = makeVector();
  readonly rootTimes = makeTimes();
  /** 0: the bridge is the root. */
  rootPortId = 0;
  portRoleSelection: 'INIT_BRIDGE' | 'ROLE_SELECTION' = 'INIT_BRIDGE';

  // Ours.
  topologyChanges = 0;
  /** Seconds since the last one, or since the beginning. */
  sinceTopologyChange_s = 0;
  lastTopologyChangePort = 0;
  /** Times that the machines did not come to rest (never, we believe; shown so that someone would see). */
  unrest = 0;

  constructor(settings: BridgeSettings, outside: Outside) {
    this.settings = settings;
    this.outside = outside;
  }

  /** 17.20.11. */
  get rstpVersion(): boolean {
    return this.settings.forceVersion >= 2;
  }
}
