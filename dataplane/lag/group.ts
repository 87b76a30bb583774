/**
 * All members of one aggregate under LACP (IEEE 802.1AX-2014 6.4): turns their machines until none moves any more.
 * Pure: time and what arrives are passed in, what is to be sent is handed to `send`. app.ts joins it to links.
 *
 *   received / setEnabled / configure / tick  ->  receive -> selection -> mux -> periodic -> churn -> transmit
 *
 * A LACPDU whose actor is our own system came back to us over a loop or a wrong cable. It is refused: a port that
 * aggregated with another of its own switch would be a loop that no spanning tree sees.
 */
import {
  LACP_ACTIVITY,
  LACP_TIMEOUT,
  AGGREGATION,
  COLLECTING,
  DISTRIBUTING,
  SYNCHRONIZATION,
} from '../wire/lacp.js';
import type { Lacpdu } from '../wire/lacp.js';
import * as churn from './churn.js';
import { LONG_TIMEOUT_TIME_MS, SHORT_TIMEOUT_TIME_MS, has, makePort, put } from './lacpPort.js';
import type { LacpPort } from './lacpPort.js';
import * as mux from './mux.js';
import * as periodic from './periodic.js';
import * as receive from './receive.js';
import * as selection from './selection.js';
import type { SelectionSettings } from './selection.js';
import * as transmit from './transmit.js';

export interface GroupSettings extends SelectionSettings {
  isActive: boolean;
  /** What we ask of the partner: a LACPDU each second, not each half minute. */
  isFast: boolean;
  isCoupled: boolean;
  systemPriority: number;
  systemHigh16: number;
  systemLow32: number;
  key: number;
}

/** More transitions than this in one go would be a machine that never rests: a mistake of ours. */
const ROUNDS_MAX = 100;
/** For so long after the last of our own LACPDUs a port counts as looped. */
const LOOPED_FOR_MS = LONG_TIMEOUT_TIME_MS;

export class LacpGroup {
  readonly ports: LacpPort[] = [];
  readonly #send: (port: LacpPort) => void;
  #settings: GroupSettings;

  constructor(settings: GroupSettings, send: (port: LacpPort) => void) {
    this.#settings = settings;
    this.#send = send;
  }

  get settings(): GroupSettings {
    return this.#settings;
  }

  /** `number` is the port's own within the system (6.3.4): 1 to 65,535. */
  add(name: string, number: number, portPriority: number, now_ms: number): LacpPort {
    const port = makePort(name);
    port.actor.port = number;
    port.actor.portPriority = portPriority;
    this.#apply(port);
    receive.recordDefault(port);
    this.ports.push(port);
    this.run(now_ms);
    return port;
  }

  /** The last word on a port that is about to be removed: it carries nothing, and the partner is told at once. */
  leave(port: LacpPort, now_ms: number): void {
    if (!port.portEnabled || port.periodic === 'NO_PERIODIC') return;
    port.selected = 'UNSELECTED';
    while (mux.step(port, now_ms));
    this.#send(port);
  }

  remove(port: LacpPort, now_ms: number): void {
    const index = this.ports.indexOf(port);
    if (index >= 0) this.ports.splice(index, 1);
    this.run(now_ms);
  }

  setEnabled(port: LacpPort, isEnabled: boolean, now_ms: number): void {
    if (port.portEnabled === isEnabled) return;
    port.portEnabled = isEnabled;
    port.enabledAt_ms = now_ms;
    port.loopedAt_ms = -Infinity;
    this.run(now_ms);
  }

  setPortPriority(port: LacpPort, portPriority: number, now_ms: number): void {
    if (port.actor.portPriority === portPriority) return;
    port.actor.portPriority = portPriority;
    port.ntt = true;
    this.run(now_ms);
  }

  configure(settings: GroupSettings, now_ms: number): void {
    const old = this.#settings;
    this.#settings = settings;
    // Another system or key is another LAG ID: whoever was selected is so no more (6.4.14.1 l).
    const isOther =
      old.systemPriority !== settings.systemPriority ||
      old.systemHigh16 !== settings.systemHigh16 ||
      old.systemLow32 !== settings.systemLow32 ||
      old.key !== settings.key;
    for (const port of this.ports) {
      this.#apply(port);
      if (isOther) port.selected = 'UNSELECTED';
      if (isOther || old.isActive !== settings.isActive || old.isFast !== settings.isFast) port.ntt = true;
      if (port.receive === 'CURRENT' && settings.isFast && !old.isFast)
        // The partner hears of it only now, and may have said its last word half a minute ago.
        port.currentWhile_ms = Math.max(port.currentWhile_ms, now_ms + SHORT_TIMEOUT_TIME_MS);
    }
    this.run(now_ms);
  }

  #apply(port: LacpPort): void {
    const { isActive, isFast, isCoupled, fallback, key, ...system } = this.#settings;
    const { actor, partnerAdmin } = port;
    actor.systemPriority = system.systemPriority;
    actor.systemHigh16 = system.systemHigh16;
    actor.systemLow32 = system.systemLow32;
    actor.key = key;
    put(actor, LACP_ACTIVITY, isActive);
    put(actor, LACP_TIMEOUT, isFast);
    put(actor, AGGREGATION, true);
    // What a link without LACP does: it just carries.
    put(partnerAdmin, SYNCHRONIZATION | COLLECTING | DISTRIBUTING, fallback);
    if (port.receive === 'DEFAULTED') receive.recordDefault(port);
    mux.setCoupled(port, isCoupled);
  }

  /** False: it was our own, and is not believed. */
  received(port: LacpPort, pdu: Lacpdu, now_ms: number): boolean {
    const { actor } = pdu;
    const { systemHigh16, systemLow32 } = this.#settings;
    if (actor.systemHigh16 === systemHigh16 && actor.systemLow32 === systemLow32) {
      port.loopedAt_ms = now_ms;
      return false;
    }
    receive.received(port, pdu, now_ms);
    this.run(now_ms);
    return true;
  }

  isLooped(port: LacpPort, now_ms: number): boolean {
    return now_ms < port.loopedAt_ms + LOOPED_FOR_MS;
  }

  run(now_ms: number): void {
    const { ports } = this;
    for (let round = 0; ; round++) {
      let moved = false;
      for (const port of ports) while (receive.step(port, now_ms)) moved = true;
      if (selection.step(ports, this.#settings, now_ms)) moved = true;
      for (const port of ports) {
        if (mux.step(port, now_ms)) moved = true;
        if (periodic.step(port, now_ms)) moved = true;
        if (churn.step(port, now_ms)) moved = true;
      }
      if (!moved) break;
      if (round === ROUNDS_MAX) throw new Error('the machines of LACP do not come to rest');
    }
    // 6.4.16: only now, so that one LACPDU tells of all that happened.
    for (const port of ports) if (transmit.step(port, now_ms)) this.#send(port);
  }

  /** When `run` is due next, if nothing else happens before; Infinity: never. */
  wakeAt_ms(now_ms: number): number {
    let wakeAt_ms = Infinity;
    for (const port of this.ports) {
      wakeAt_ms = Math.min(
        wakeAt_ms,
        port.currentWhile_ms,
        port.periodic_ms,
        port.waitWhile_ms,
        port.actorChurn_ms,
        port.partnerChurn_ms,
        port.ntt ? transmit.maySendAt_ms(port) : Infinity,
      );
      const delayed_ms = port.enabledAt_ms + this.#settings.upDelay_ms;
      if (port.portEnabled && delayed_ms > now_ms) wakeAt_ms = Math.min(wakeAt_ms, delayed_ms);
    }
    return wakeAt_ms;
  }
}

export const collects = (port: LacpPort): boolean => has(port.actor, COLLECTING);
export const distributes = (port: LacpPort): boolean => has(port.actor, DISTRIBUTING);
