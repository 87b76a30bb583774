/**
 * Port Role Selection (IEEE 802.1D-2004 17.28): which bridge is the root, by which port it is reached, and what part
 * each port plays. The one machine of the bridge as a whole.
 */
import { compare, copyTimes, copyVector, makeVector, sameTimes } from './vector.js';
import type { Bridge, BridgePort } from './variables.js';

const COST_MAX = 0xffff_ffff;

export function begin(b: Bridge): void {
  b.portRoleSelection = 'INIT_BRIDGE';
  for (const p of b.ports) p.selectedRole = 'disabled';
  roleSelection(b);
}

export function step(b: Bridge): boolean {
  for (const p of b.ports)
    if (p.reselect) {
      roleSelection(b);
      return true;
    }
  return false;
}

function roleSelection(b: Bridge): void {
  b.portRoleSelection = 'ROLE_SELECTION';
  for (const p of b.ports) p.reselect = false;
  updtRolesTree(b);
  // 17.21.16 setSelectedTree: nothing has set reselect since.
  for (const p of b.ports) p.selected = true;
}

const candidate = makeVector();
const best = makeVector();

/** 17.21.25. */
function updtRolesTree(b: Bridge): void {
  // a) to c): the root priority vector, and the root times of whoever gave it.
  best.rootHigh = best.bridgeHigh = b.identifierHigh;
  best.rootLow = best.bridgeLow = b.identifierLow;
  best.rootPathCost = 0;
  best.portId = 0;
  let root: BridgePort | null = null;
  for (const p of b.ports) {
    if (p.infoIs !== 'received' || p.settings.restrictedRole) continue;
    const held = p.portPriority;
    if (held.bridgeLow === b.identifierLow && (held.bridgeHigh & 0xffff) === (b.identifierHigh & 0xffff))
      continue;
    copyVector(candidate, held);
    candidate.rootPathCost = Math.min(held.rootPathCost + p.settings.pathCost, COST_MAX);
    // 17.6: the fifth component, the port it came in by, decides between equals; ports are in its order or not.
    const order = compare(candidate, best) || (root === null ? 1 : p.portId - root.portId);
    if (order >= 0) continue;
    copyVector(best, candidate);
    root = p;
  }
  noteRoot(b, root);
  copyVector(b.rootPriority, best);
  b.rootPortId = root === null ? 0 : root.portId;
  copyTimes(b.rootTimes, root === null ? b.bridgeTimes : root.portTimes);
  if (root !== null) b.rootTimes.messageAge_s++;

  // d) and e): what each port would tell. f) to l): what part it plays.
  for (const p of b.ports) {
    const own = p.designatedPriority;
    own.rootHigh = best.rootHigh;
    own.rootLow = best.rootLow;
    own.rootPathCost = best.rootPathCost;
    own.bridgeHigh = b.identifierHigh;
    own.bridgeLow = b.identifierLow;
    own.portId = p.portId;
    copyTimes(p.designatedTimes, b.rootTimes);
    p.designatedTimes.helloTime_s = b.bridgeTimes.helloTime_s;
    selectRole(b, p, root);
  }
}

function selectRole(b: Bridge, p: BridgePort, root: BridgePort | null): void {
  const wasRootInconsistent = p.rootInconsistent;
  p.rootInconsistent = false;
  switch (p.infoIs) {
    case 'disabled':
      p.selectedRole = 'disabled';
      break;
    case 'aged':
      p.updtInfo = true;
      p.selectedRole = 'designated';
      break;
    case 'mine':
      p.selectedRole = 'designated';
      if (compare(p.portPriority, p.designatedPriority) !== 0 || !sameTimes(p.portTimes, p.designatedTimes))
        p.updtInfo = true;
      break;
    case 'received':
      if (p === root) {
        p.selectedRole = 'root';
        p.updtInfo = false;
      } else if (compare(p.designatedPriority, p.portPriority) < 0) {
        p.selectedRole = 'designated';
        p.updtInfo = true;
      } else {
        const { bridgeHigh, bridgeLow } = p.portPriority;
        const isOurs = bridgeLow === b.identifierLow && (bridgeHigh & 0xffff) === (b.identifierHigh & 0xffff);
        p.selectedRole = isOurs ? 'backup' : 'alternate';
        p.updtInfo = false;
        p.rootInconsistent = p.settings.restrictedRole && !isOurs;
      }
      break;
  }
  if (p.rootInconsistent === wasRootInconsistent) return;
  if (p.rootInconsistent) p.counters.guardTrips++;
  b.outside.tell(p.rootInconsistent ? 'rootInconsistent' : 'rootConsistent', p.number);
}

/** For events: told once the new root priority is in place. */
function noteRoot(b: Bridge, root: BridgePort | null): void {
  const { rootPriority } = b;
  if (rootPriority.rootHigh === best.rootHigh && rootPriority.rootLow === best.rootLow) return;
  copyVector(rootPriority, best);
  b.outside.tell('rootChanged', root === null ? null : root.number);
}
