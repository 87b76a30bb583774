/**
 * The mux machine (IEEE 802.1AX-2014 6.4.15), both of them: with independent control (figure 6-21), which sends only
 * to a partner that says it collects, and so loses nothing when a member joins; and coupled (figure 6-22), for hardware
 * that can only do both or neither, and for partners that never say COLLECTING before they distribute.
 *
 *   DETACHED -> WAITING -> ATTACHED -> COLLECTING -> DISTRIBUTING          ATTACHED -> COLLECTING_DISTRIBUTING
 *
 * Whether a port collects and distributes is what the two bits of its actor state say.
 */
import { COLLECTING, DISTRIBUTING, SYNCHRONIZATION } from '../wire/lacp.js';
import { AGGREGATE_WAIT_TIME_MS, has, put } from './lacpPort.js';
import type { LacpPort, MuxState } from './lacpPort.js';

export function step(port: LacpPort, now_ms: number): boolean {
  const { partner, selected } = port;
  const isSelected = selected === 'SELECTED';
  const inSync = has(partner, SYNCHRONIZATION);
  switch (port.mux) {
    case 'DETACHED':
      if (selected === 'UNSELECTED') return false;
      port.mux = 'WAITING';
      port.waitWhile_ms = now_ms + AGGREGATE_WAIT_TIME_MS;
      return true;
    case 'WAITING':
      if (selected === 'UNSELECTED') {
        enter(port, 'DETACHED');
        return true;
      }
      if (!port.readyN && now_ms >= port.waitWhile_ms) {
        port.waitWhile_ms = Infinity;
        port.readyN = true;
        return true;
      }
      if (!isSelected || !port.ready) return false;
      enter(port, 'ATTACHED');
      return true;
    case 'ATTACHED':
      if (!isSelected) enter(port, 'DETACHED');
      else if (inSync) enter(port, port.isCoupled ? 'COLLECTING_DISTRIBUTING' : 'COLLECTING');
      else return false;
      return true;
    case 'COLLECTING':
      if (!isSelected || !inSync) enter(port, 'ATTACHED');
      else if (has(partner, COLLECTING)) enter(port, 'DISTRIBUTING');
      else return false;
      return true;
    case 'DISTRIBUTING':
      if (isSelected && inSync && has(partner, COLLECTING)) return false;
      enter(port, 'COLLECTING');
      return true;
    case 'COLLECTING_DISTRIBUTING':
      if (isSelected && inSync) return false;
      enter(port, 'ATTACHED');
      return true;
  }
}

/** Whether the port is attached, collects, distributes; in that order. */
const ACTIONS: Readonly<Record<MuxState, readonly [boolean, boolean, boolean]>> = {
  DETACHED: [false, false, false],
  WAITING: [false, false, false],
  ATTACHED: [true, false, false],
  COLLECTING: [true, true, false],
  DISTRIBUTING: [true, true, true],
  COLLECTING_DISTRIBUTING: [true, true, true],
};

function enter(port: LacpPort, state: MuxState): void {
  const [attached, collecting, distributing] = ACTIONS[state];
  port.mux = state;
  put(port.actor, SYNCHRONIZATION, attached);
  put(port.actor, COLLECTING, collecting);
  put(port.actor, DISTRIBUTING, distributing);
  if (state === 'DETACHED') {
    port.readyN = false;
    port.waitWhile_ms = Infinity;
  }
  // All but DISTRIBUTING (figure 6-21) tell the partner at once.
  if (state !== 'DISTRIBUTING') port.ntt = true;
}

/** From one kind of machine to the other; who collects goes on collecting. */
export function setCoupled(port: LacpPort, isCoupled: boolean): void {
  if (port.isCoupled === isCoupled) return;
  port.isCoupled = isCoupled;
  if (isCoupled && (port.mux === 'COLLECTING' || port.mux === 'DISTRIBUTING'))
    enter(port, 'COLLECTING_DISTRIBUTING');
  else if (!isCoupled && port.mux === 'COLLECTING_DISTRIBUTING') enter(port, 'DISTRIBUTING');
}
