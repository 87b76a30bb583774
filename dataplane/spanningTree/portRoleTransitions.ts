/**
 * Port Role Transitions (IEEE 802.1D-2004 17.29): what a port in its role may do, and how it agrees with its
 * neighbours (17.10) so that it may do it at once. The four figures of the standard, 17-20 to 17-23:
 *
 *   disabled    INIT_PORT -> DISABLE_PORT -> DISABLED_PORT
 *   root        ROOT_PORT <-> ROOT_PROPOSED, ROOT_AGREED, REROOT, ROOT_FORWARD, ROOT_LEARN, REROOTED
 *   designated  DESIGNATED_PORT <-> DESIGNATED_PROPOSE, _SYNCED, _RETIRED, _FORWARD, _LEARN, _DISCARD
 *   others      BLOCK_PORT -> ALTERNATE_PORT <-> ALTERNATE_PROPOSED, ALTERNATE_AGREED, BACKUP_PORT
 *
 * Where we read it differently: ALTERNATE_PORT sets fdWhile to FwdDelay in the figure of 2004 but leaves itself while
 * it differs from forwardDelay, for ever; 802.1Q sets it to forwardDelay, and so do we. A port that a guard holds back
 * (procedures.ts, isHeldBack) neither learns nor forwards as a designated port.
 */
import { allSynced, edgeDelay_s, forwardDelay_s, isHeldBack, reRooted } from './procedures.js';
import { setReRootTree, setSyncTree } from './procedures.js';
import type { Bridge, BridgePort, PortRoleTransitionsState, Role } from './variables.js';

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'INIT_PORT');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(b, p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

const ENTRY: Readonly<Record<Role, PortRoleTransitionsState>> = {
  disabled: 'DISABLE_PORT',
  root: 'ROOT_PORT',
  designated: 'DESIGNATED_PORT',
  alternate: 'BLOCK_PORT',
  backup: 'BLOCK_PORT',
};

function exit(b: Bridge, p: BridgePort): PortRoleTransitionsState | null {
  const state = p.portRoleTransitions;
  if (state === 'INIT_PORT') return 'DISABLE_PORT';
  const isSettled = p.selected && !p.updtInfo;
  if (isSettled && p.role !== p.selectedRole) return ENTRY[p.selectedRole];
  switch (state) {
    case 'DISABLE_PORT':
      return isSettled && !p.learning && !p.forwarding ? 'DISABLED_PORT' : null;
    case 'DISABLED_PORT':
      if (!isSettled) return null;
      return p.fdWhile !== p.designatedTimes.maxAge_s || p.sync || p.reRoot || !p.synced
        ? 'DISABLED_PORT'
        : null;
    case 'ROOT_PORT':
      return isSettled ? rootExit(b, p) : null;
    case 'DESIGNATED_PORT':
      return isSettled ? designatedExit(p) : null;
    case 'BLOCK_PORT':
      return isSettled && !p.learning && !p.forwarding ? 'ALTERNATE_PORT' : null;
    case 'ALTERNATE_PORT':
      return isSettled ? alternateExit(b, p) : null;
    case 'ALTERNATE_PROPOSED':
    case 'ALTERNATE_AGREED':
    case 'BACKUP_PORT':
      return 'ALTERNATE_PORT';
    case 'ROOT_PROPOSED':
    case 'ROOT_AGREED':
    case 'REROOT':
    case 'ROOT_FORWARD':
    case 'ROOT_LEARN':
    case 'REROOTED':
      return 'ROOT_PORT';
    default:
      return 'DESIGNATED_PORT';
  }
}

function rootExit(b: Bridge, p: BridgePort): PortRoleTransitionsState | null {
  if (p.proposed && !p.agree) return 'ROOT_PROPOSED';
  if ((!p.agree && allSynced(b)) || (p.proposed && p.agree)) return 'ROOT_AGREED';
  if (!p.forward && !p.reRoot) return 'REROOT';
  if (!p.forward) {
    const mayNow = p.fdWhile === 0 || (p.rbWhile === 0 && b.rstpVersion && reRooted(b, p));
    if (mayNow) return p.learn ? 'ROOT_FORWARD' : 'ROOT_LEARN';
  } else if (p.reRoot) {
    return 'REROOTED';
  }
  return p.rrWhile !== p.designatedTimes.forwardDelay_s ? 'ROOT_PORT' : null;
}

function designatedExit(p: BridgePort): PortRoleTransitionsState | null {
  const isHeld = isHeldBack(p);
  if (p.learn || p.forward) {
    if (isHeld) return 'DESIGNATED_DISCARD';
    if (((p.sync && !p.synced) || (p.reRoot && p.rrWhile !== 0) || p.disputed) && !p.operEdge)
      return 'DESIGNATED_DISCARD';
  }
  if (!p.forward && !p.agreed && !p.proposing && !p.operEdge) return 'DESIGNATED_PROPOSE';
  if (
    (!p.learning && !p.forwarding && !p.synced) ||
    (p.agreed && !p.synced) ||
    (p.operEdge && !p.synced) ||
    (p.sync && p.synced)
  )
    return 'DESIGNATED_SYNCED';
  if (p.rrWhile === 0 && p.reRoot) return 'DESIGNATED_RETIRED';
  if (!isHeld && !p.forward && (p.fdWhile === 0 || p.agreed || p.operEdge)) {
    if ((p.rrWhile === 0 || !p.reRoot) && !p.sync) return p.learn ? 'DESIGNATED_FORWARD' : 'DESIGNATED_LEARN';
  }
  return null;
}

function alternateExit(b: Bridge, p: BridgePort): PortRoleTransitionsState | null {
  if (p.proposed && !p.agree) return 'ALTERNATE_PROPOSED';
  if ((!p.agree && allSynced(b)) || (p.proposed && p.agree)) return 'ALTERNATE_AGREED';
  if (p.role === 'backup' && p.rbWhile !== 2 * p.designatedTimes.helloTime_s) return 'BACKUP_PORT';
  return p.fdWhile !== forwardDelay_s(p) || p.sync || p.reRoot || !p.synced ? 'ALTERNATE_PORT' : null;
}

function enter(b: Bridge, p: BridgePort, state: PortRoleTransitionsState): void {
  p.portRoleTransitions = state;
  switch (state) {
    case 'INIT_PORT':
      p.role = 'disabled';
      p.learn = p.forward = false;
      p.synced = false;
      p.sync = p.reRoot = true;
      p.rrWhile = p.designatedTimes.forwardDelay_s;
      p.fdWhile = p.designatedTimes.maxAge_s;
      p.rbWhile = 0;
      break;
    case 'DISABLE_PORT':
    case 'BLOCK_PORT':
      setRole(b, p, p.selectedRole);
      p.learn = p.forward = false;
      break;
    case 'DISABLED_PORT':
      p.fdWhile = p.designatedTimes.maxAge_s;
      retire(p);
      break;
    case 'ALTERNATE_PORT':
      p.fdWhile = forwardDelay_s(p);
      retire(p);
      break;
    case 'ALTERNATE_PROPOSED':
    case 'ROOT_PROPOSED':
      setSyncTree(b);
      p.proposed = false;
      break;
    case 'ALTERNATE_AGREED':
      p.proposed = false;
      p.agree = p.newInfo = true;
      break;
    case 'BACKUP_PORT':
      p.rbWhile = 2 * p.designatedTimes.helloTime_s;
      break;
    case 'ROOT_PORT':
      setRole(b, p, 'root');
      p.rrWhile = p.designatedTimes.forwardDelay_s;
      break;
    case 'ROOT_AGREED':
      p.proposed = p.sync = false;
      p.agree = p.newInfo = true;
      break;
    case 'REROOT':
      setReRootTree(b);
      break;
    case 'ROOT_FORWARD':
      p.fdWhile = 0;
      p.forward = true;
      break;
    case 'ROOT_LEARN':
      p.fdWhile = forwardDelay_s(p);
      p.learn = true;
      break;
    case 'REROOTED':
    case 'DESIGNATED_RETIRED':
      p.reRoot = false;
      break;
    case 'DESIGNATED_PORT':
      setRole(b, p, 'designated');
      break;
    case 'DESIGNATED_PROPOSE':
      p.proposing = true;
      p.edgeDelayWhile = edgeDelay_s(p);
      p.newInfo = true;
      break;
    case 'DESIGNATED_SYNCED':
      p.rrWhile = 0;
      p.synced = true;
      p.sync = false;
      break;
    case 'DESIGNATED_FORWARD':
      p.forward = true;
      p.fdWhile = 0;
      p.agreed = p.sendRstp;
      break;
    case 'DESIGNATED_LEARN':
      p.learn = true;
      p.fdWhile = forwardDelay_s(p);
      break;
    case 'DESIGNATED_DISCARD':
      p.learn = p.forward = p.disputed = false;
      p.fdWhile = forwardDelay_s(p);
      break;
  }
}

/** What DISABLED_PORT and ALTERNATE_PORT have in common: the port is out of everyone's way. */
function retire(p: BridgePort): void {
  p.synced = true;
  p.rrWhile = 0;
  p.sync = p.reRoot = false;
}

function setRole(b: Bridge, p: BridgePort, role: Role): void {
  if (p.role === role) return;
  p.role = role;
  b.outside.tell('roleChanged', p.number);
}
