/**
 * Port Information (IEEE 802.1D-2004 17.27): whose spanning tree information a port holds, ours or that of a bridge
 * beyond it, and when that has grown too old.
 *
 *   DISABLED --> AGED --> UPDATE --> CURRENT --rcvdMsg--> RECEIVE --> SUPERIOR_DESIGNATED, REPEATED_DESIGNATED,
 *                  ^---information aged out---'   ^------------------ INFERIOR_DESIGNATED, NOT_DESIGNATED, OTHER
 *
 * Two readings of our own. recordDispute (17.21.10) sets agreed in the text of 2004, which lets the port forward that
 * has just learned of an opponent; we do what 802.1Q-2005 corrected it to: disputed set, agreed cleared. And loop
 * guard: information that ages out on a port that has it leaves the port loopInconsistent, which Port Role Transitions
 * holds back, until a BPDU comes or its link goes down.
 */
import * as wire from '../wire/bpdu.js';
import { betterOrSameInfo } from './procedures.js';
import type { Bridge, BridgePort, RcvdInfo } from './variables.js';
import { compare, copyTimes, copyVector, isSuperior, sameTimes } from './vector.js';

type InformationState = BridgePort['portInformation'];

/** 802.1D-2004 table 17-1: the greatest values in its ranges. What a peer claims beyond is not believed. */
const HELLO_TIME_MAX_S = 10;
const MAX_AGE_MAX_S = 40;
const FORWARD_DELAY_MAX_S = 30;

const AFTER_RECEIVE: Readonly<Record<RcvdInfo, InformationState>> = {
  superiorDesignated: 'SUPERIOR_DESIGNATED',
  repeatedDesignated: 'REPEATED_DESIGNATED',
  inferiorDesignated: 'INFERIOR_DESIGNATED',
  inferiorRootAlternate: 'NOT_DESIGNATED',
  other: 'OTHER',
};

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'DISABLED');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(p: BridgePort): InformationState | null {
  if (!p.portEnabled && p.infoIs !== 'disabled') return 'DISABLED';
  switch (p.portInformation) {
    case 'DISABLED':
      return p.portEnabled ? 'AGED' : p.rcvdMsg ? 'DISABLED' : null;
    case 'AGED':
      return p.selected && p.updtInfo ? 'UPDATE' : null;
    case 'CURRENT':
      if (p.selected && p.updtInfo) return 'UPDATE';
      if (p.updtInfo) return null;
      if (p.rcvdMsg) return 'RECEIVE';
      return p.infoIs === 'received' && p.rcvdInfoWhile === 0 ? 'AGED' : null;
    case 'RECEIVE':
      return AFTER_RECEIVE[p.rcvdInfo];
    default:
      return 'CURRENT';
  }
}

function enter(b: Bridge, p: BridgePort, state: InformationState): void {
  const wasCurrent = p.portInformation === 'CURRENT';
  p.portInformation = state;
  switch (state) {
    case 'DISABLED':
      p.rcvdMsg = false;
      p.proposing = p.proposed = p.agree = p.agreed = false;
      p.rcvdInfoWhile = 0;
      p.infoIs = 'disabled';
      p.reselect = true;
      p.selected = false;
      p.loopInconsistent = false;
      p.ownBpduWhile = 0;
      break;
    case 'AGED':
      if (wasCurrent) agedOut(b, p);
      p.infoIs = 'aged';
      p.reselect = true;
      p.selected = false;
      break;
    case 'UPDATE':
      p.proposing = p.proposed = false;
      p.agreed &&= betterOrSameInfo(p, 'mine');
      p.synced &&= p.agreed;
      copyVector(p.portPriority, p.designatedPriority);
      copyTimes(p.portTimes, p.designatedTimes);
      p.updtInfo = false;
      p.infoIs = 'mine';
      p.newInfo = true;
      break;
    case 'CURRENT':
      break;
    case 'RECEIVE':
      p.rcvdInfo = rcvInfo(p);
      heard(b, p);
      break;
    case 'SUPERIOR_DESIGNATED':
      p.agreed = p.proposing = false;
      recordProposal(p);
      setTcFlags(p);
      p.agree &&= betterOrSameInfo(p, 'received');
      copyVector(p.portPriority, p.msgPriority);
      copyTimes(p.portTimes, p.msgTimes);
      updtRcvdInfoWhile(p);
      p.infoIs = 'received';
      p.reselect = true;
      p.selected = false;
      p.rcvdMsg = false;
      break;
    case 'REPEATED_DESIGNATED':
      recordProposal(p);
      setTcFlags(p);
      updtRcvdInfoWhile(p);
      p.rcvdMsg = false;
      break;
    case 'INFERIOR_DESIGNATED':
      recordDispute(p);
      p.rcvdMsg = false;
      break;
    case 'NOT_DESIGNATED':
      recordAgreement(b, p);
      setTcFlags(p);
      p.rcvdMsg = false;
      break;
    case 'OTHER':
      // A TCN conveys no role: the flags are looked at in the figure's other boxes, which it never reaches.
      if (p.message.type === wire.TYPE_TCN) setTcFlags(p);
      p.rcvdMsg = false;
      break;
  }
}

function agedOut(b: Bridge, p: BridgePort): void {
  p.counters.agedOut++;
  if (!p.settings.loopGuard || p.loopInconsistent) return;
  p.loopInconsistent = true;
  p.counters.guardTrips++;
  b.outside.tell('loopInconsistent', p.number);
}

function heard(b: Bridge, p: BridgePort): void {
  if (!p.loopInconsistent) return;
  p.loopInconsistent = false;
  b.outside.tell('loopConsistent', p.number);
}

const rounded_s = (time_256: number): number => Math.round(time_256 / 256);

/** 17.21.8. */
function rcvInfo(p: BridgePort): RcvdInfo {
  const { message, msgPriority, msgTimes } = p;
  if (message.type === wire.TYPE_TCN) return 'other';
  copyVector(msgPriority, message);
  msgTimes.messageAge_s = rounded_s(message.messageAge_256);
  msgTimes.maxAge_s = Math.min(rounded_s(message.maxAge_256), MAX_AGE_MAX_S);
  msgTimes.helloTime_s = Math.min(Math.max(rounded_s(message.helloTime_256), 1), HELLO_TIME_MAX_S);
  msgTimes.forwardDelay_s = Math.min(rounded_s(message.forwardDelay_256), FORWARD_DELAY_MAX_S);
  const order = compare(msgPriority, p.portPriority);
  switch (wire.roleOf(message)) {
    case wire.ROLE_DESIGNATED:
      if (isSuperior(msgPriority, p.portPriority)) return 'superiorDesignated';
      if (order !== 0) return 'inferiorDesignated';
      return sameTimes(msgTimes, p.portTimes) ? 'repeatedDesignated' : 'superiorDesignated';
    case wire.ROLE_ROOT:
    case wire.ROLE_ALTERNATE_OR_BACKUP:
      return order >= 0 ? 'inferiorRootAlternate' : 'other';
    default:
      return 'other';
  }
}

/** 17.21.9. */
function recordAgreement(b: Bridge, p: BridgePort): void {
  p.agreed = b.rstpVersion && p.settings.pointToPoint && (p.message.flags & wire.FLAG_AGREEMENT) !== 0;
  if (p.agreed) p.proposing = false;
}

/** 17.21.10; see the head of this file. */
function recordDispute(p: BridgePort): void {
  if (p.message.type !== wire.TYPE_RST || (p.message.flags & wire.FLAG_LEARNING) === 0) return;
  p.disputed = true;
  p.agreed = false;
  p.counters.disputes++;
}

/** 17.21.11. */
function recordProposal(p: BridgePort): void {
  if (p.message.type === wire.TYPE_RST && (p.message.flags & wire.FLAG_PROPOSAL) !== 0) p.proposed = true;
}

/** 17.21.15. */
function setTcFlags(p: BridgePort): void {
  const { type, flags } = p.message;
  if (type === wire.TYPE_TCN) p.rcvdTcn = true;
  else if ((flags & wire.FLAG_TOPOLOGY_CHANGE) !== 0) p.rcvdTc = true;
  if (type === wire.TYPE_CONFIGURATION && (flags & wire.FLAG_TOPOLOGY_CHANGE_ACK) !== 0) p.rcvdTcAck = true;
}

/** 17.21.23. */
function updtRcvdInfoWhile(p: BridgePort): void {
  const { messageAge_s, maxAge_s, helloTime_s } = p.portTimes;
  p.rcvdInfoWhile = messageAge_s + 1 <= maxAge_s ? 3 * helloTime_s : 0;
}
