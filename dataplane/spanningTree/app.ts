/**
 * Joins the spanning tree protocol entity (protocol.ts) to a switch: BPDUs in by the group address, BPDUs out by
 * `sendControl`, a second by the loop's timers, and what the machines ask for by the switch's host.
 *
 * A port of the switch is a port here, an aggregate too: its members are the aggregate's business. Its number
 * (802.1D-2004 9.2.7) is the switch's own number for it and one, so it stays while the port stays.
 *
 * A loop that was held up for seconds makes up for none of them: the BPDUs of that time still lie in the sockets, and
 * what they refresh would have aged out before they are read.
 */
import { mirrorDestinations } from '../contract/mirrorDestinations.js';
import type { SpanningTreePortView, SpanningTreeView, SwitchConfig } from '../contract.js';
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import type { Link } from '../engine/link.js';
import { Timer } from '../engine/timers.js';
import { PORT_COUNTERS, SWITCH_COUNTERS } from '../switch/counters.js';
import type { PortCounter } from '../switch/counters.js';
import { DISCARDING, FORWARDING, LEARNING } from '../switch/feature.js';
import type { ControlReceiver, Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import type { Stages } from '../switch/stages.js';
import * as wire from '../wire/bpdu.js';
import { portSettings } from './defaults.js';
import { PORT_NUMBER_MAX, SpanningTree } from './protocol.js';
import type { BridgePort, BridgeSettings, Outside, State, Told } from './variables.js';
import { formatBridgeId, formatPortId } from './vector.js';

const TICK_MS = 1000;
/** Events told in a second; the rest shows in counters only. */
const TOLD_PER_SECOND = 10;
const FAULT = 'bpduGuard';
const FAULT_NUMBER = 'spanningTree';

const placeInRow = (name: PortCounter): number => SINK_COUNTERS_AT + PORT_COUNTERS.indexOf(name);
const IN = placeInRow('bpdusIn');
const OUT = placeInRow('bpdusOut');
const REFUSED = placeInRow('bpdusRefused');
const GUARD_TRIPS = placeInRow('spanningTreeGuardTrips');
const FORWARD_TRANSITIONS = placeInRow('dot1dStpPortForwardTransitions');
const TOP_CHANGES = SWITCH_COUNTERS.indexOf('dot1dStpTopChanges');

const STATES: Readonly<Record<State, typeof DISCARDING | typeof LEARNING | typeof FORWARDING>> = {
  discarding: DISCARDING,
  learning: LEARNING,
  forwarding: FORWARDING,
};

const MESSAGES: Readonly<Record<Told, string>> = {
  rootChanged: 'the root of the spanning tree is another switch now',
  roleChanged: 'plays another part in the spanning tree',
  topologyChangeDetected: 'forwards now: learned addresses are forgotten',
  topologyChangeReceived: 'a topology change was told here: learned addresses are forgotten',
  bpduGuard: 'put down by the BPDU guard: a switch spoke here',
  bpduGuardRecovered: 'tried again after the BPDU guard put it down',
  loopInconsistent: 'blocked by the loop guard: the switch behind it fell silent',
  loopConsistent: 'released by the loop guard',
  ownBpdus: 'blocked: our own BPDUs come back here, so its far end is looped',
  rootInconsistent: 'blocked by the root guard: a better root is told here',
  rootConsistent: 'released by the root guard',
};

export class SpanningTreeApp implements Feature, ControlReceiver {
  readonly #host: SwitchHost;
  readonly #frame = new Uint8Array(wire.FRAME_LENGTH);
  readonly #frameView = new DataView(this.#frame.buffer);
  readonly #bpdu = wire.blank();
  readonly #ports = new Map<number, FeaturePort>();
  readonly #timer: Timer;
  #tree: SpanningTree | undefined;
  #mode: 'off' | 'stp' | 'rstp' = 'off';
  #settings = '';
  readonly #portSettings = new Map<number, string>();
  #toldLeft = TOLD_PER_SECOND;
  /** They carry copies only, and the mirror's room sees to their state. */
  #mirrorDestinations = new Set<string>();

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    stages.control.push(this);
    this.#timer = new Timer(now_ms => this.#tick(now_ms));
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    const words = config.spanningTree;
    this.#mode = words?.mode ?? 'off';
    if (words === undefined || words.mode === 'off') {
      this.#stop();
      this.#ports.clear();
      for (const port of ports) this.#ports.set(port.port, port);
      return;
    }
    const settings: BridgeSettings = {
      forceVersion: words.mode === 'stp' ? 0 : 2,
      priority: words.priority,
      maxAge_s: words.maxAge_s,
      helloTime_s: words.helloTime_s,
      forwardDelay_s: words.forwardDelay_s,
      txHoldCount: words.transmitHoldCount,
    };
    const said = JSON.stringify(settings);
    if (this.#tree === undefined) {
      this.#tree = new SpanningTree(this.#host.address, settings, this.#outside());
      this.#host.loop.timers.arm(this.#timer, this.#host.loop.now_ms + TICK_MS);
    } else if (said !== this.#settings) {
      this.#tree.configure(settings);
    }
    this.#settings = said;
    this.#mirrorDestinations = new Set(mirrorDestinations(config.mirrors));
    const present = new Set(ports.map(({ port }) => port));
    for (const port of this.#ports.values()) if (!present.has(port.port)) this.portRemoved(port);
    for (const port of ports) this.portAdded(port);
  }

  /** Also for one that is there: then what differs is set. */
  portAdded(port: FeaturePort): void {
    const tree = this.#tree;
    const number = port.port + 1;
    if (
      tree !== undefined &&
      this.#ports.get(port.port)?.link !== port.link &&
      tree.port(number) !== undefined
    )
      this.#forget(number);
    this.#ports.set(port.port, port);
    if (tree === undefined) return;
    if (number > PORT_NUMBER_MAX) {
      // One that takes no part could close a loop that nobody sees.
      this.#host.setPortFault(
        port.port,
        FAULT_NUMBER,
        `spanning tree has numbers for ${PORT_NUMBER_MAX} ports`,
      );
      return;
    }
    if (this.#mirrorDestinations.has(port.config.name)) {
      this.#leave(number);
      return;
    }
    const settings = portSettings(port.config.device, port.config.spanningTree);
    const said = JSON.stringify(settings);
    if (tree.port(number) === undefined) tree.addPort(number, settings);
    else if (said !== this.#portSettings.get(number)) tree.configurePort(number, settings);
    this.#portSettings.set(number, said);
    tree.setOperational(number, port.link.isUp);
  }

  portRemoved(port: FeaturePort): void {
    this.#ports.delete(port.port);
    this.#forget(port.port + 1);
  }

  portChanged(port: FeaturePort): void {
    // Our own guard takes the port out of service too; that is no news of its link.
    const guarded = this.#tree?.port(port.port + 1)?.guarded === true;
    if (!guarded) this.#tree?.setOperational(port.port + 1, port.link.isUp);
  }

  control(packet: Packet, _link: Link): boolean {
    const tree = this.#tree;
    if (tree === undefined) return false;
    const number = packet.port + 1;
    if (wire.check(packet.view, packet.at, packet.at + packet.length_bytes) !== wire.BPDU_OK) {
      tree.countInvalid(number);
      return false;
    }
    wire.parse(packet.view, packet.at, this.#bpdu);
    tree.receive(number, this.#bpdu);
    return true;
  }

  show(what: string): SpanningTreeView | undefined {
    if (what !== 'stp') return undefined;
    const tree = this.#tree;
    const bridge = tree?.bridge;
    const root = bridge?.rootPriority;
    const times = bridge?.rootTimes;
    return {
      mode: this.#mode,
      bridgeId: bridge === undefined ? null : formatBridgeId(bridge.identifierHigh, bridge.identifierLow),
      rootId: root === undefined ? null : formatBridgeId(root.rootHigh, root.rootLow),
      rootPathCost: root?.rootPathCost ?? 0,
      rootPort:
        bridge === undefined || bridge.rootPortId === 0 ? null : this.#name(bridge.rootPortId & 0x0fff),
      isRoot: bridge !== undefined && bridge.rootPortId === 0,
      maxAge_s: times?.maxAge_s ?? 0,
      helloTime_s: times?.helloTime_s ?? 0,
      forwardDelay_s: times?.forwardDelay_s ?? 0,
      topologyChanges: bridge?.topologyChanges ?? 0,
      sinceTopologyChange_s:
        bridge === undefined || bridge.topologyChanges === 0 ? null : bridge.sinceTopologyChange_s,
      lastTopologyChangePort:
        bridge === undefined || bridge.topologyChanges === 0
          ? null
          : this.#name(bridge.lastTopologyChangePort),
      ports: bridge === undefined ? [] : bridge.ports.map(p => this.#view(p)),
    };
  }

  close(): void {
    this.#stop();
    this.#ports.clear();
  }

  #stop(): void {
    if (this.#tree === undefined) return;
    this.#host.loop.timers.cancel(this.#timer);
    const { ports } = this.#tree.bridge;
    this.#tree = undefined;
    for (const { port } of this.#ports.values())
      if (port >= PORT_NUMBER_MAX) this.#host.setPortFault(port, FAULT_NUMBER, null);
    this.#portSettings.clear();
    for (const p of ports) {
      if (p.guarded) this.#host.setPortFault(p.number - 1, FAULT, null);
      this.#host.setPortState(p.number - 1, FORWARDING);
    }
  }

  #forget(number: number): void {
    if (this.#leave(number)) this.#host.setPortState(number - 1, FORWARDING);
  }

  /** Whether it took part so far. */
  #leave(number: number): boolean {
    const p = this.#tree?.port(number);
    if (p === undefined) return false;
    if (p.guarded) this.#host.setPortFault(number - 1, FAULT, null);
    this.#portSettings.delete(number);
    this.#tree?.removePort(number);
    return true;
  }

  #tick(now_ms: number): void {
    this.#host.loop.timers.arm(this.#timer, now_ms + TICK_MS);
    this.#toldLeft = TOLD_PER_SECOND;
    this.#tree?.tick();
    this.#tree?.bridge.ports.forEach(p => this.#publish(p));
    // A port whose fault was lifted may have come up, or gone, while it was out of service.
    for (const port of this.#ports.values()) this.portChanged(port);
  }

  /** The counters that everybody can see, once a second. */
  #publish({ number, counters }: BridgePort): void {
    this.#host.counters[TOP_CHANGES] = this.#tree?.bridge.topologyChanges ?? 0;
    const row = this.#ports.get(number - 1)?.link.counters;
    if (row === undefined) return;
    row[IN] = counters.rstBpdusIn + counters.configBpdusIn + counters.tcnBpdusIn;
    row[OUT] = counters.rstBpdusOut + counters.configBpdusOut + counters.tcnBpdusOut;
    row[REFUSED] = counters.invalidBpdusIn + counters.filteredBpdusIn + counters.excessBpdusIn;
    row[GUARD_TRIPS] = counters.guardTrips;
    row[FORWARD_TRANSITIONS] = counters.forwardTransitions;
  }

  #outside(): Outside {
    const host = this.#host;
    return {
      send: (number, bpdu) => {
        const port = this.#ports.get(number - 1);
        if (port === undefined) return;
        wire.emit(this.#frameView, 0, bpdu, host.address);
        host.sendControl(port.link, this.#frame);
      },
      setState: (number, state) => host.setPortState(number - 1, STATES[state]),
      flush: number => host.flushPort(number - 1),
      setFault: (number, reason) => host.setPortFault(number - 1, FAULT, reason),
      tell: (what, number) => {
        if (what === 'topologyChangeDetected' || what === 'topologyChangeReceived') host.topologyChanged();
        this.#say(what, number);
      },
    };
  }

  #say(what: Told, number: number | null): void {
    // With many ports a boot would tell of each; roles are shown, and what matters of them is told otherwise.
    if (what === 'roleChanged') return;
    if (this.#toldLeft === 0) return;
    this.#toldLeft--;
    const port = number === null ? null : this.#name(number);
    const { rootHigh = 0, rootLow = 0 } = this.#tree?.bridge.rootPriority ?? {};
    const message =
      what === 'rootChanged'
        ? `the root of the spanning tree is ${port === null ? 'this switch' : `${formatBridgeId(rootHigh, rootLow)}, by port ${port}`}`
        : MESSAGES[what];
    this.#host.tell({ type: 'switchEvent', what: `spanningTree.${what}`, port, message });
  }

  #name(number: number): string {
    return this.#ports.get(number - 1)?.config.name ?? '';
  }

  #view(p: BridgePort): SpanningTreePortView {
    return {
      port: this.#name(p.number),
      portId: formatPortId(p.portId),
      role: p.role,
      state: p.state,
      pathCost: p.settings.pathCost,
      isEdge: p.operEdge,
      isPointToPoint: p.settings.pointToPoint,
      speaks: p.settings.bpduFilter ? 'nothing' : p.sendRstp ? 'rstp' : 'stp',
      designatedBridge: formatBridgeId(p.portPriority.bridgeHigh, p.portPriority.bridgeLow),
      designatedPort: formatPortId(p.portPriority.portId),
      designatedCost: p.portPriority.rootPathCost,
      heldBackBy: heldBackBy(p),
      counters: { ...p.counters },
    };
  }
}

function heldBackBy(p: BridgePort): string | null {
  if (p.guarded) {
    const again = p.guardWhile > 0 ? `, tried again in ${p.guardWhile} s` : '';
    return `BPDU guard: a switch spoke here${again}`;
  }
  if (p.ownBpduWhile > 0) return 'our own BPDUs come back here';
  if (p.loopInconsistent) return 'loop guard: the switch behind it fell silent';
  if (p.rootInconsistent) return 'root guard: a better root is told here';
  return null;
}
