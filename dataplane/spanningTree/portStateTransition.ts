/** Port State Transition (IEEE 802.1D-2004 17.30): carries out what Port Role Transitions allows a port. */
import type { Bridge, BridgePort } from './variables.js';

type TransitionState = BridgePort['portStateTransition'];

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'DISCARDING');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(p: BridgePort): TransitionState | null {
  switch (p.portStateTransition) {
    case 'DISCARDING':
      return p.learn ? 'LEARNING' : null;
    case 'LEARNING':
      return !p.learn ? 'DISCARDING' : p.forward ? 'FORWARDING' : null;
    case 'FORWARDING':
      return p.forward ? null : 'DISCARDING';
  }
}

function enter(b: Bridge, p: BridgePort, state: TransitionState): void {
  p.portStateTransition = state;
  p.learning = state !== 'DISCARDING';
  p.forwarding = state === 'FORWARDING';
  if (p.learning) p.isFlushed = false;
  if (p.forwarding) p.counters.forwardTransitions++;
  b.outside.setState(p.number, p.state);
}
