/**
 * Topology Change (IEEE 802.1D-2004 17.31): when a port that is not at the edge begins to forward, or a neighbour
 * says that one did, what was learned on the other ports is forgotten and the word is passed on.
 *
 *   INACTIVE --learn--> LEARNING --forward, not edge--> DETECTED --> ACTIVE <--> NOTIFIED_TCN, NOTIFIED_TC,
 *       ^-----------------'  ^---other role, or edge------------------'           PROPAGATING, ACKNOWLEDGED
 */
import { flush, newTcWhile, setTcPropTree } from './procedures.js';
import type { Bridge, BridgePort, Told } from './variables.js';

type ChangeState = BridgePort['topologyChange'];

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'INACTIVE');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(p: BridgePort): ChangeState | null {
  const isActiveRole = p.role === 'root' || p.role === 'designated';
  switch (p.topologyChange) {
    case 'INACTIVE':
      return p.learn ? 'LEARNING' : null;
    case 'LEARNING':
      if (isActiveRole && p.forward && !p.operEdge) return 'DETECTED';
      if (p.rcvdTc || p.rcvdTcn || p.rcvdTcAck || p.tcProp) return 'LEARNING';
      return !isActiveRole && !p.learn && !p.learning ? 'INACTIVE' : null;
    case 'ACTIVE':
      if (!isActiveRole || p.operEdge) return 'LEARNING';
      if (p.rcvdTcn) return 'NOTIFIED_TCN';
      if (p.rcvdTc) return 'NOTIFIED_TC';
      if (p.tcProp) return 'PROPAGATING';
      return p.rcvdTcAck ? 'ACKNOWLEDGED' : null;
    case 'NOTIFIED_TCN':
      return 'NOTIFIED_TC';
    default:
      return 'ACTIVE';
  }
}

function enter(b: Bridge, p: BridgePort, state: ChangeState): void {
  p.topologyChange = state;
  switch (state) {
    case 'INACTIVE':
      flush(b, p);
      p.tcWhile = 0;
      p.tcAck = false;
      break;
    case 'LEARNING':
      p.rcvdTc = p.rcvdTcn = p.rcvdTcAck = p.tcProp = false;
      break;
    case 'DETECTED':
      newTcWhile(b, p);
      setTcPropTree(b, p);
      p.newInfo = true;
      p.counters.topologyChangesDetected++;
      note(b, p, 'topologyChangeDetected');
      break;
    case 'ACTIVE':
      break;
    case 'NOTIFIED_TCN':
      newTcWhile(b, p);
      break;
    case 'NOTIFIED_TC':
      p.rcvdTcn = p.rcvdTc = false;
      if (p.role === 'designated') p.tcAck = true;
      setTcPropTree(b, p);
      p.counters.topologyChangesReceived++;
      note(b, p, 'topologyChangeReceived');
      break;
    case 'PROPAGATING':
      newTcWhile(b, p);
      flush(b, p);
      p.tcProp = false;
      break;
    case 'ACKNOWLEDGED':
      p.tcWhile = 0;
      p.rcvdTcAck = false;
      break;
  }
}

/** One change is said again with every BPDU for some seconds: it counts, and is told, once. */
function note(b: Bridge, p: BridgePort, what: Told): void {
  const isNew = b.lastTopologyChangePort !== p.number || b.sinceTopologyChange_s > b.bridgeTimes.helloTime_s;
  b.sinceTopologyChange_s = 0;
  b.lastTopologyChangePort = p.number;
  if (!isNew && what === 'topologyChangeReceived') return;
  b.topologyChanges++;
  b.outside.tell(what, p.number);
}
