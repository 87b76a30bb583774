/**
 * Bridge Detection (IEEE 802.1D-2004 17.25): whether a port is at the edge, with no bridge behind it. Port Receive
 * clears operEdge when a BPDU comes; silence for edgeDelayWhile while proposing sets it again (AutoEdge).
 */
import type { Bridge, BridgePort } from './variables.js';

type DetectionState = BridgePort['bridgeDetection'];

/** Also when management changes its mind about AdminEdge. */
export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, p.settings.adminEdge ? 'EDGE' : 'NOT_EDGE');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(p: BridgePort): DetectionState | null {
  const { adminEdge, autoEdge } = p.settings;
  if (p.bridgeDetection === 'EDGE') return (!p.portEnabled && !adminEdge) || !p.operEdge ? 'NOT_EDGE' : null;
  if (!p.portEnabled && adminEdge) return 'EDGE';
  return p.edgeDelayWhile === 0 && autoEdge && p.sendRstp && p.proposing ? 'EDGE' : null;
}

function enter(_: Bridge, p: BridgePort, state: DetectionState): void {
  p.bridgeDetection = state;
  p.operEdge = state === 'EDGE';
}
