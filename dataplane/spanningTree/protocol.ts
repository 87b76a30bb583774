/**
 * The spanning tree protocol entity of one bridge: the machines, run to rest after everything that happens (IEEE
 * 802.1D-2004 17.15, 17.16), and the guards before them. Pure: BPDUs and seconds are handed in, what is to be done is
 * asked of `Outside`. `app.ts` joins it to a switch; a test joins many to each other.
 *
 *   setEnabled, receive, tick, configure -> [ guards ] -> machines until none moves -> Port Transmit -> machines …
 */
import * as bridgeDetection from './bridgeDetection.js';
import * as portInformation from './portInformation.js';
import * as portProtocolMigration from './portProtocolMigration.js';
import * as portReceive from './portReceive.js';
import * as portRoleSelection from './portRoleSelection.js';
import * as portRoleTransitions from './portRoleTransitions.js';
import * as portStateTransition from './portStateTransition.js';
import * as portTimers from './portTimers.js';
import * as portTransmit from './portTransmit.js';
import * as topologyChange from './topologyChange.js';
import * as wire from '../wire/bpdu.js';
import type { Bpdu } from '../wire/bpdu.js';
import { Bridge, BridgePort } from './variables.js';
import type { BridgeSettings, Outside, PortSettings } from './variables.js';

/** 9.2.7: twelve bits of port number. */
export const PORT_NUMBER_MAX = 4095;

/** Rounds after which we stop looking for rest. Measured: 14 at most, among hundreds of random networks. */
const ROUNDS_MAX = 200;
/** Steps of the machines of one port in a round. */
const STEPS_MAX = 32;

/** The per-port machines in the order of their clauses; Port Transmit, which waits for the others, is not among them. */
const MACHINES = [
  portReceive,
  portProtocolMigration,
  bridgeDetection,
  portInformation,
  portRoleTransitions,
  portStateTransition,
  topologyChange,
] as const;

export class SpanningTree {
  readonly bridge: Bridge;
  readonly #byNumber = new Map<number, BridgePort>();
  readonly #address: Uint8Array;

  /** `address`: six octets. */
  constructor(address: Uint8Array, settings: BridgeSettings, outside: Outside) {
    this.bridge = new Bridge(settings, outside);
    this.#address = address.slice(0, 6);
    this.#identify();
    this.bridge.rootPriority.rootHigh = this.bridge.identifierHigh;
    this.bridge.rootPriority.rootLow = this.bridge.identifierLow;
    this.#beginAll();
  }

  port(number: number): BridgePort | undefined {
    return this.#byNumber.get(number);
  }

  /** 17.13: what is to be begun anew, or reckoned anew, after a change is. */
  configure(settings: BridgeSettings): void {
    const before = this.bridge.settings;
    this.bridge.settings = settings;
    this.#identify();
    if (before.forceVersion !== settings.forceVersion) {
      this.#beginAll();
    } else {
      if (before.txHoldCount !== settings.txHoldCount) for (const p of this.bridge.ports) p.txCount = 0;
      this.#reselect();
    }
    this.#run();
  }

  addPort(number: number, settings: PortSettings): void {
    const p = new BridgePort(number, settings);
    this.#byNumber.set(number, p);
    this.bridge.ports = [...this.#byNumber.values()].sort((a, b) => a.number - b.number);
    this.#identifyPort(p);
    this.#begin(p);
    this.#run();
  }

  removePort(number: number): void {
    if (!this.#byNumber.delete(number)) return;
    this.bridge.ports = this.bridge.ports.filter(p => p.number !== number);
    this.#reselect();
    this.#run();
  }

  configurePort(number: number, settings: PortSettings): void {
    const p = this.#byNumber.get(number);
    if (p === undefined) return;
    const before = p.settings;
    p.settings = settings;
    this.#identifyPort(p);
    if (before.adminEdge !== settings.adminEdge) bridgeDetection.begin(this.bridge, p);
    if (p.guarded && (!settings.bpduGuard || settings.guardRecovery_s !== before.guardRecovery_s)) {
      p.guardWhile = settings.guardRecovery_s;
      if (!settings.bpduGuard) this.#recover(p);
    }
    if (!settings.loopGuard && p.loopInconsistent) {
      p.loopInconsistent = false;
      this.bridge.outside.tell('loopConsistent', number);
    }
    this.#reselect();
    this.#run();
  }

  /** Its link is up, or not. A link that goes down and comes back does not bring back what a guard put down. */
  setOperational(number: number, operational: boolean): void {
    const p = this.#byNumber.get(number);
    if (p === undefined || p.operational === operational) return;
    p.operational = operational;
    this.#enable(p);
    this.#run();
  }

  /** 17.19.13: whether the STP bridge behind the port has gone. */
  setMcheck(number: number): void {
    const p = this.#byNumber.get(number);
    if (p === undefined || !this.bridge.rstpVersion) return;
    p.mcheck = true;
    this.#run();
  }

  /** Brings back a port that the BPDU guard has put down. */
  recover(number: number): void {
    const p = this.#byNumber.get(number);
    if (p === undefined || !p.guarded) return;
    this.#recover(p);
    this.#run();
  }

  /** A BPDU that the codec approved; it is copied. */
  receive(number: number, bpdu: Bpdu): void {
    const p = this.#byNumber.get(number);
    if (p === undefined) return;
    if (p.settings.bpduFilter) {
      p.counters.filteredBpdusIn++;
      return;
    }
    if (p.settings.bpduGuard && !p.guarded && p.operational) {
      this.#trip(p);
      return;
    }
    if (!p.portEnabled) return;
    if (p.receivedLeft === 0) {
      p.counters.excessBpdusIn++;
      return;
    }
    p.receivedLeft--;
    count(p, bpdu);
    if (this.#isOwn(p, bpdu)) {
      this.#ownBpdu(p);
      return;
    }
    Object.assign(p.message, bpdu);
    // 9.2.9: a role of 0 makes it a Configuration BPDU to the machines.
    if (bpdu.type === wire.TYPE_RST && wire.roleOf(bpdu) === wire.ROLE_UNKNOWN)
      p.message.type = wire.TYPE_CONFIGURATION;
    p.rcvdBpdu = true;
    this.#run();
  }

  /** A frame to the group address that is no BPDU. */
  countInvalid(number: number): void {
    const p = this.#byNumber.get(number);
    if (p !== undefined) p.counters.invalidBpdusIn++;
  }

  /** Once a second. */
  tick(): void {
    this.bridge.sinceTopologyChange_s++;
    for (const p of this.bridge.ports) {
      portTimers.tick(p);
      if (p.guardWhile > 0 && --p.guardWhile === 0 && p.guarded) this.#recover(p);
    }
    this.#run();
  }

  // --- guards ----------------------------------------------------------------------------------------------

  #trip(p: BridgePort): void {
    p.guarded = true;
    p.guardWhile = p.settings.guardRecovery_s;
    p.counters.guardTrips++;
    const again = p.guardWhile > 0 ? `tried again in ${p.guardWhile} s` : 'until its configuration changes';
    this.bridge.outside.setFault(
      p.number,
      `a bridge spoke here (BPDU guard): ${again}; take the bridge away, or allow it with bpduGuard: false`,
    );
    this.bridge.outside.tell('bpduGuard', p.number);
    this.#enable(p);
    this.#run();
  }

  #recover(p: BridgePort): void {
    p.guarded = false;
    p.guardWhile = 0;
    this.bridge.outside.setFault(p.number, null);
    this.bridge.outside.tell('bpduGuardRecovered', p.number);
    this.#enable(p);
  }

  /** 9.3.4: a BPDU of this very port is no information; but its far end gives back what it is sent. */
  #isOwn(p: BridgePort, bpdu: Bpdu): boolean {
    const { identifierHigh, identifierLow } = this.bridge;
    return (
      bpdu.type !== wire.TYPE_TCN &&
      bpdu.bridgeHigh === identifierHigh &&
      bpdu.bridgeLow === identifierLow &&
      bpdu.portId === p.portId
    );
  }

  #ownBpdu(p: BridgePort): void {
    p.counters.ownBpdusIn++;
    const isNew = p.ownBpduWhile === 0;
    p.ownBpduWhile = 3 * this.bridge.bridgeTimes.helloTime_s;
    if (!isNew) return;
    this.bridge.outside.tell('ownBpdus', p.number);
    this.#run();
  }

  #enable(p: BridgePort): void {
    p.portEnabled = p.operational && !p.guarded;
  }

  // --- machines --------------------------------------------------------------------------------------------

  #identify(): void {
    const { bridge } = this;
    const { settings, bridgeTimes } = bridge;
    const octets = this.#address;
    const octet = (i: number): number => octets[i] ?? 0;
    bridge.identifierHigh = ((settings.priority << 16) | (octet(0) << 8) | octet(1)) >>> 0;
    bridge.identifierLow = ((octet(2) << 24) | (octet(3) << 16) | (octet(4) << 8) | octet(5)) >>> 0;
    bridgeTimes.messageAge_s = 0;
    bridgeTimes.maxAge_s = settings.maxAge_s;
    bridgeTimes.helloTime_s = settings.helloTime_s;
    bridgeTimes.forwardDelay_s = settings.forwardDelay_s;
  }

  #identifyPort(p: BridgePort): void {
    p.portId = ((p.settings.priority & 0xf0) << 8) | p.number;
  }

  #reselect(): void {
    for (const p of this.bridge.ports) {
      p.selected = false;
      p.reselect = true;
    }
  }

  #beginAll(): void {
    for (const p of this.bridge.ports) this.#begin(p);
    portRoleSelection.begin(this.bridge);
    this.#run();
  }

  /** 17.18.1 BEGIN, for a port. */
  #begin(p: BridgePort): void {
    const { bridge } = this;
    p.designatedTimes.maxAge_s = bridge.bridgeTimes.maxAge_s;
    p.designatedTimes.helloTime_s = bridge.bridgeTimes.helloTime_s;
    p.designatedTimes.forwardDelay_s = bridge.bridgeTimes.forwardDelay_s;
    for (const machine of MACHINES) machine.begin(bridge, p);
    portTransmit.begin(bridge, p);
  }

  #run(): void {
    const { bridge } = this;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      let moved = portRoleSelection.step(bridge);
      const { ports } = bridge;
      for (let i = 0; i < ports.length; i++) if (settle(bridge, ports[i]!)) moved = true;
      if (moved) continue;
      for (let i = 0; i < ports.length; i++) if (transmit(bridge, ports[i]!)) moved = true;
      if (!moved) return;
    }
    bridge.unrest++;
  }
}

/** One call after the other rather than a loop over them: the engine inlines what it can see. */
function settle(b: Bridge, p: BridgePort): boolean {
  let left = STEPS_MAX;
  while (left > 0 && portReceive.step(b, p)) left--;
  while (left > 0 && portProtocolMigration.step(b, p)) left--;
  while (left > 0 && bridgeDetection.step(b, p)) left--;
  while (left > 0 && portInformation.step(b, p)) left--;
  while (left > 0 && portRoleTransitions.step(b, p)) left--;
  while (left > 0 && portStateTransition.step(b, p)) left--;
  while (left > 0 && topologyChange.step(b, p)) left--;
  return left < STEPS_MAX;
}

function transmit(b: Bridge, p: BridgePort): boolean {
  let moved = false;
  for (let steps = 0; steps < STEPS_MAX && portTransmit.step(b, p); steps++) moved = true;
  return moved;
}

function count(p: BridgePort, bpdu: Bpdu): void {
  if (bpdu.type === wire.TYPE_RST) p.counters.rstBpdusIn++;
  else if (bpdu.type === wire.TYPE_TCN) p.counters.tcnBpdusIn++;
  else p.counters.configBpdusIn++;
}
