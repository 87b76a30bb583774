/**
 * Port Receive (IEEE 802.1D-2004 17.23): hands a received BPDU to the other machines.
 *
 *   BEGIN --> DISCARD --rcvdBPDU, enabled--> RECEIVE <--rcvdBPDU, !rcvdMsg--.
 *                ^---------- not enabled ---------+-------------------------'
 */
import * as wire from '../wire/bpdu.js';
import { MIGRATE_TIME_S } from './variables.js';
import type { Bridge, BridgePort } from './variables.js';

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'DISCARD');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(p: BridgePort): BridgePort['portReceive'] | null {
  if (!p.portEnabled) return p.rcvdBpdu || p.edgeDelayWhile !== MIGRATE_TIME_S ? 'DISCARD' : null;
  if (!p.rcvdBpdu) return null;
  return p.portReceive === 'DISCARD' || !p.rcvdMsg ? 'RECEIVE' : null;
}

function enter(_: Bridge, p: BridgePort, state: BridgePort['portReceive']): void {
  p.portReceive = state;
  p.rcvdBpdu = false;
  p.edgeDelayWhile = MIGRATE_TIME_S;
  if (state === 'DISCARD') {
    p.rcvdRstp = p.rcvdStp = p.rcvdMsg = false;
    return;
  }
  updtBpduVersion(p);
  p.operEdge = false;
  p.rcvdMsg = true;
}

/** 17.21.22. */
function updtBpduVersion(p: BridgePort): void {
  if (p.message.type === wire.TYPE_RST) p.rcvdRstp = true;
  else p.rcvdStp = true;
}
