/** Procedures and conditions that several machines use (IEEE 802.1D-2004 17.20, 17.21). */
import { compare } from './vector.js';
import { MIGRATE_TIME_S } from './variables.js';
import type { Bridge, BridgePort } from './variables.js';

/** 17.20.3: all ports are in step with what was decided. */
export function allSynced(b: Bridge): boolean {
  for (const p of b.ports)
    if (!p.selected || p.role !== p.selectedRole || !(p.synced || p.role === 'root')) return false;
  return true;
}

/** 17.20.4. */
export function edgeDelay_s(p: BridgePort): number {
  return p.settings.pointToPoint ? MIGRATE_TIME_S : p.designatedTimes.maxAge_s;
}

/** 17.20.5: forwardDelay, which is not FwdDelay (17.20.6). */
export function forwardDelay_s(p: BridgePort): number {
  return p.sendRstp ? p.designatedTimes.helloTime_s : p.designatedTimes.forwardDelay_s;
}

/** 17.20.10: no other port was the root port lately. */
export function reRooted(b: Bridge, p: BridgePort): boolean {
  for (const other of b.ports) if (other !== p && other.rrWhile !== 0) return false;
  return true;
}

/** 17.21.14. */
export function setReRootTree(b: Bridge): void {
  for (const p of b.ports) p.reRoot = true;
}

/** 17.21.17. */
export function setSyncTree(b: Bridge): void {
  for (const p of b.ports) p.sync = true;
}

/** 17.21.18, with restrictedTcn as in 802.1Q-2022 13.29. */
export function setTcPropTree(b: Bridge, p: BridgePort): void {
  if (p.settings.restrictedTcn) return;
  for (const other of b.ports) if (other !== p) other.tcProp = true;
}

/** 17.21.7. */
export function newTcWhile(b: Bridge, p: BridgePort): void {
  if (p.tcWhile !== 0) return;
  if (p.sendRstp) {
    p.tcWhile = p.designatedTimes.helloTime_s + 1;
    p.newInfo = true;
  } else {
    p.tcWhile = b.rootTimes.maxAge_s + b.rootTimes.forwardDelay_s;
  }
}

/** 17.21.1; of what kind the new information is, as 802.1Q-2022 13.29 has it. */
export function betterOrSameInfo(p: BridgePort, newInfoIs: 'received' | 'mine'): boolean {
  if (p.infoIs !== newInfoIs) return false;
  return compare(newInfoIs === 'received' ? p.msgPriority : p.designatedPriority, p.portPriority) <= 0;
}

/** 17.19.7: fdbFlush set, and reset since the filtering database does it at once (in STP mode too: no slow ageing). */
export function flush(b: Bridge, p: BridgePort): void {
  if (p.isFlushed) return;
  // A port that is learning goes on filling the database.
  p.isFlushed = !p.learning;
  b.outside.flush(p.number);
}

/** Ours: guards that keep a port from forwarding whatever its role would allow. */
export function isHeldBack(p: BridgePort): boolean {
  return p.loopInconsistent || p.ownBpduWhile !== 0;
}
