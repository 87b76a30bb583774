/**
 * The flows of one switch between the engine and the kernel: counts the first frames of each, hands it over, reads
 * back what the kernel counted, and ends it. The books are flows.ts, the map that the kernel sees is
 * ports/kernel/flowMap.ts; which ports take part is app.ts's business, which says so by `way`.
 */
import type { OffloadView } from '../contract.js';
import { C } from '../engine/counters.js';
import type { Link } from '../engine/link.js';
import { Timer } from '../engine/timers.js';
import { FlowMap } from '../ports/kernel/flowMap.js';
import { canEdit } from '../ports/kernel/layout.js';
import type { FlowAction, FlowKey } from '../ports/kernel/layout.js';
import type { Maps } from '../ports/kernel/program.js';
import type { WayOut } from '../ports/kernel/shortcut.js';
import type { SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import { COUNTING, ENDING, FREE, FlowTable, KERNEL, PASSED_ON_AFTER } from './flows.js';

/** Flows of a switch at a time, with those that are only counted yet. */
export const FLOWS_MAX = 8192;

/** Frames that are past a gate find their flow for so long after it has ended. */
const GRACE_MS = 200;
/** Less than the shortest ageing time of addresses (802.1Q-2022 table 8-6: 10 s). */
const IDLE_MS = 8000;
/** In `seen`: it is among those that are to go to the kernel. */
const AWAITED = 255;
/** So long it is tried to keep the order of frames when a flow goes to the kernel. */
const IN_ORDER_MS = 100;
/** Never the current one. */
const GENERATION_NONE = 0;

/** What is asked of the filtering database, and told to the switch's counters. Halves of addresses as in Packet. */
export interface Stations {
  /** The port that a station is behind; negative: not known. */
  whereIs(vlan: number, high: number, low: number): number;
  /** It was heard just now, where it is. */
  refresh(vlan: number, high: number, low: number): void;
  /** So many frames of it were forwarded, and are to be counted. */
  forwarded(vlan: number, frames: number, octets: number): void;
}

export class OffloadedFlows {
  readonly #host: SwitchHost;
  readonly #stations: Stations;
  readonly #flows = new FlowTable(FLOWS_MAX);
  readonly #map = new FlowMap(FLOWS_MAX);
  /** How frames leave and enter a port that takes part. */
  readonly #way: (port: number) => WayOut | undefined;
  /** The same, having looked whether the device still is where it was. */
  readonly #wayNow: (port: number) => WayOut | undefined;
  /** Told of frames that the kernel forwarded: for the switch's own counters. */
  readonly #onFrames: (frames: number, octets: number) => void;
  #generation = GENERATION_NONE + 1;
  /** Slots of flows that are to go to the kernel. */
  readonly #awaited: number[] = [];
  #awaitedSince_ms = 0;
  readonly #handing = new Timer(now_ms => this.#handOverAwaited(now_ms));

  /** Throws HostError when the kernel gives no maps. */
  constructor(
    host: SwitchHost,
    stations: Stations,
    way: (port: number) => WayOut | undefined,
    wayNow: (port: number) => WayOut | undefined,
    onFrames: (frames: number, octets: number) => void,
  ) {
    this.#host = host;
    this.#stations = stations;
    this.#way = way;
    this.#wayNow = wayNow;
    this.#onFrames = onFrames;
    this.#map.setGeneration(this.#generation);
  }

  get maps(): Maps {
    return this.#map.maps;
  }

  /** Of a frame between two ports that take part. */
  decided(packet: Packet, ingress: Link, egress: Link, edit: number): void {
    const port = ingress.sinkIndex;
    const to = egress.sinkIndex;
    const flows = this.#flows;
    const { view, at } = packet;
    // A flow is one of frames with one customer tag or none; the programs do not look at others.
    let tci = -1;
    let type = view.getUint16(at + vlan.AT);
    if (type === vlan.TPID_CUSTOMER) {
      if (packet.length_bytes < ethernet.LENGTH + vlan.LENGTH) return;
      tci = vlan.tci(view, at);
      type = view.getUint16(at + vlan.AT + vlan.LENGTH);
    }
    if (type === vlan.TPID_CUSTOMER || type === vlan.TPID_SERVICE || type === vlan.TPID_OLD_OUTER) return;
    const slot = flows.find(
      port,
      view.getUint16(at),
      view.getInt32(at + 2),
      view.getUint16(at + ethernet.SOURCE),
      view.getInt32(at + ethernet.SOURCE + 2),
      tci,
    );
    if (slot < 0) return;
    const state = flows.state[slot]!;
    if (state === KERNEL) {
      // It went past the hook, or is too long for it. Unless the flow leads elsewhere now, that is all.
      if (flows.egress[slot] === to && flows.edit[slot] === edit) return;
      this.#end(slot);
    } else if (state === ENDING && (flows.egress[slot] !== to || flows.edit[slot] !== edit)) {
      // What the kernel still forwarded went where it led before.
      if (this.#map.read(this.#keyOf(slot))) this.#account(slot);
    }
    flows.egress[slot] = to;
    flows.edit[slot] = edit;
    flows.vlan[slot] = packet.vlan;
    if (state === COUNTING) flows.at_ms[slot] = packet.now_ms;
    const seen = flows.seen[slot]!;
    if (seen < PASSED_ON_AFTER) flows.seen[slot] = seen + 1;
    else if (seen !== AWAITED && canEdit(edit)) this.#await(slot, packet.now_ms);
  }

  /** It goes to the kernel once its frames that came before are sent. */
  #await(slot: number, now_ms: number): void {
    this.#flows.seen[slot] = AWAITED;
    this.#awaited.push(slot);
    if (this.#awaited.length > 1) return;
    this.#awaitedSince_ms = now_ms;
    // Timers run at the end of the turn, when what was decided in it has been sent.
    this.#host.loop.timers.arm(this.#handing, now_ms);
  }

  /**
   * A frame that the kernel forwards overtakes those of its flow that still wait to be read. So it is done when the
   * port has brought all that it had; but a port that never has will not keep its flows from the kernel for ever.
   */
  #handOverAwaited(now_ms: number): void {
    const flows = this.#flows;
    const awaited = this.#awaited;
    const isLate = now_ms - this.#awaitedSince_ms >= IN_ORDER_MS;
    let kept = 0;
    for (let i = 0; i < awaited.length; i++) {
      const slot = awaited[i]!;
      // Removed meanwhile, or taken by another flow.
      if (flows.state[slot] === FREE || flows.seen[slot] !== AWAITED) continue;
      if (!isLate && this.#host.link(flows.port(slot))?.isReady === true) awaited[kept++] = slot;
      else this.#handOver(slot);
    }
    awaited.length = kept;
    if (kept > 0) this.#host.loop.timers.arm(this.#handing, now_ms + 1);
  }

  #handOver(slot: number): void {
    const flows = this.#flows;
    const map = this.#map;
    flows.seen[slot] = 0;
    if (this.#wayNow(flows.port(slot)) === undefined || this.#wayNow(flows.egress[slot]!) === undefined)
      return;
    const action = this.#actionOf(slot, this.#generation);
    if (action === undefined) return;
    const key = this.#keyOf(slot);
    if (flows.state[slot] === ENDING && map.read(key)) this.#account(slot);
    if (!map.put(key, action, slot)) return;
    flows.resetCounters(slot);
    flows.at_ms[slot] = this.#host.loop.now_ms;
    flows.setState(slot, KERNEL);
  }

  #actionOf(slot: number, generation: number): FlowAction | undefined {
    const way = this.#way(this.#flows.egress[slot]!);
    const from = this.#way(this.#flows.port(slot));
    if (way === undefined || from === undefined) return undefined;
    return {
      generation,
      how: from.hook === 'ingress' ? way.fromIngress : way.fromEgress,
      ifindex: way.ifindex,
      edit: this.#flows.edit[slot]!,
      frame_max_bytes: way.frame_max_bytes,
      segment_max_bytes: way.segment_max_bytes,
    };
  }

  #keyOf(slot: number): FlowKey {
    const flows = this.#flows;
    return {
      destinationHigh: flows.destinationHigh(slot),
      destinationLow: flows.destinationLow(slot),
      sourceHigh: flows.sourceHigh(slot),
      sourceLow: flows.sourceLow(slot),
      tci: flows.tci(slot),
      port: flows.port(slot),
    };
  }

  /** One flow; its frames come here again from now on. */
  #end(slot: number): void {
    const flows = this.#flows;
    const map = this.#map;
    const key = this.#keyOf(slot);
    if (map.read(key)) this.#account(slot);
    const action = this.#actionOf(slot, GENERATION_NONE);
    if (action === undefined) map.delete(key);
    else map.put(key, action, slot);
    flows.resetCounters(slot);
    flows.seen[slot] = 0;
    flows.at_ms[slot] = this.#host.loop.now_ms;
    flows.setState(slot, ENDING);
  }

  /** What `map` has just read of the flow, into the counters. True: there were frames. */
  #account(slot: number): boolean {
    const flows = this.#flows;
    const { frames, octets, superFrames } = this.#map;
    const newFrames = frames - flows.frames[slot]!;
    if (newFrames <= 0) return false;
    const newOctets = octets - flows.octets[slot]!;
    const newSuper = superFrames - flows.superFrames[slot]!;
    flows.frames[slot] = frames;
    flows.octets[slot] = octets;
    flows.superFrames[slot] = superFrames;
    flows.totalFrames[slot]! += newFrames;
    flows.totalOctets[slot]! += newOctets;
    const from = this.#host.link(flows.port(slot))?.counters;
    if (from !== undefined) {
      from[C.ifHCInUcastPkts]! += newFrames;
      from[C.ifHCInOctets]! += newOctets;
      from[C.gsoInFrames]! += newSuper;
    }
    const to = this.#host.link(flows.egress[slot]!)?.counters;
    if (to !== undefined) {
      to[C.ifHCOutUcastPkts]! += newFrames;
      to[C.ifHCOutOctets]! += newOctets + newFrames * vlan.growth(flows.edit[slot]!);
      to[C.gsoOutFrames]! += newSuper;
    }
    this.#stations.forwarded(flows.vlan[slot]!, newFrames, newOctets);
    this.#onFrames(newFrames, newOctets);
    return true;
  }

  /** Nothing that was decided so far counts: see SwitchHost.decisionsChanged. */
  endAll(): void {
    const flows = this.#flows;
    for (const slot of this.#awaited) if (flows.seen[slot] === AWAITED) flows.seen[slot] = 0;
    this.#awaited.length = 0;
    if (flows.kernelCount === 0) return;
    // The word in the map is 32 bits wide; 0 is nobody's.
    this.#generation = this.#generation === 0xffff_ffff ? 1 : this.#generation + 1;
    this.#map.setGeneration(this.#generation);
    const { now_ms } = this.#host.loop;
    for (let slot = 0; slot < flows.limit; slot++) {
      if (flows.state[slot] !== KERNEL) continue;
      flows.setState(slot, ENDING);
      flows.seen[slot] = 0;
      flows.at_ms[slot] = now_ms;
    }
  }

  /** Its number may soon be another port's: nothing that bears it stays. */
  forget(port: number): void {
    const flows = this.#flows;
    if (flows.count === 0) return;
    for (let slot = 0; slot < flows.limit; slot++) {
      const state = flows.state[slot]!;
      if (state === FREE || (flows.port(slot) !== port && flows.egress[slot] !== port)) continue;
      if (state !== COUNTING) {
        const key = this.#keyOf(slot);
        if (this.#map.read(key)) this.#account(slot);
        this.#map.delete(key);
      }
      flows.remove(slot);
    }
  }

  // --- once a second ----------------------------------------------------------------------------------------

  look(now_ms: number): void {
    const flows = this.#flows;
    const map = this.#map;
    if (flows.count === 0) return;
    const stations = this.#stations;
    map.readAll(slot => {
      // Taken out of the table and given to another flow since: not this one's numbers.
      if (slot >= flows.limit || flows.state[slot]! < KERNEL) return;
      if (!this.#account(slot) || flows.state[slot] !== KERNEL) return;
      flows.at_ms[slot] = now_ms;
      stations.refresh(flows.vlan[slot]!, flows.sourceHigh(slot), flows.sourceLow(slot));
    });
    for (let slot = 0; slot < flows.limit; slot++) {
      const state = flows.state[slot]!;
      if (state === FREE) continue;
      const quiet_ms = now_ms - flows.at_ms[slot]!;
      if (state === COUNTING) {
        if (quiet_ms >= IDLE_MS) flows.remove(slot);
      } else if (state === KERNEL) {
        if (quiet_ms >= IDLE_MS || !this.#stands(slot)) this.#end(slot);
      } else if (quiet_ms >= GRACE_MS) {
        map.delete(this.#keyOf(slot));
        flows.remove(slot);
      }
    }
  }

  /** Both stations are where they were when the flow was decided. */
  #stands(slot: number): boolean {
    const flows = this.#flows;
    const vid = flows.vlan[slot]!;
    const stations = this.#stations;
    return (
      stations.whereIs(vid, flows.destinationHigh(slot), flows.destinationLow(slot)) === flows.egress[slot] &&
      stations.whereIs(vid, flows.sourceHigh(slot), flows.sourceLow(slot)) === flows.port(slot)
    );
  }

  list(): OffloadView['flows'] {
    const flows = this.#flows;
    const { now_ms } = this.#host.loop;
    const list: OffloadView['flows'] = [];
    for (let slot = 0; slot < flows.limit; slot++) {
      if (flows.state[slot] !== KERNEL) continue;
      list.push({
        from: this.#host.link(flows.port(slot))?.name ?? '',
        to: this.#host.link(flows.egress[slot]!)?.name ?? '',
        vlan: flows.vlan[slot]!,
        source: ethernet.formatAddress(flows.sourceHigh(slot), flows.sourceLow(slot)),
        destination: ethernet.formatAddress(flows.destinationHigh(slot), flows.destinationLow(slot)),
        frames: flows.totalFrames[slot]!,
        octets: flows.totalOctets[slot]!,
        idle_ms: Math.round(now_ms - flows.at_ms[slot]!),
      });
    }
    return list;
  }

  /** Nothing is handed over any more; the map lives until `close`. */
  stop(): void {
    this.#host.loop.timers.cancel(this.#handing);
  }

  close(): void {
    this.#map.close();
  }
}
