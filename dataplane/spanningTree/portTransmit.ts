/**
 * Port Transmit (IEEE 802.1D-2004 17.26): what is to be told is told, at most txHoldCount times in a second, and by a
 * designated port once in every hello time.
 *
 * It runs only when the other machines have come to rest, so that what is sent is what was decided. A port that is
 * not enabled, or that filters BPDUs, sends none and stays in TRANSMIT_INIT.
 */
import * as wire from '../wire/bpdu.js';
import type { Bridge, BridgePort, Role } from './variables.js';

type TransmitState = BridgePort['portTransmit'];

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'TRANSMIT_INIT');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(b, p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(b: Bridge, p: BridgePort): TransmitState | null {
  if (!p.portEnabled || p.settings.bpduFilter)
    return p.portTransmit === 'TRANSMIT_INIT' ? null : 'TRANSMIT_INIT';
  if (p.portTransmit !== 'IDLE') return 'IDLE';
  if (!p.selected || p.updtInfo) return null;
  if (p.helloWhen === 0) return 'TRANSMIT_PERIODIC';
  if (!p.newInfo || p.txCount >= b.settings.txHoldCount) return null;
  if (p.sendRstp) return p.role === 'disabled' ? null : 'TRANSMIT_RSTP';
  if (p.role === 'root') return 'TRANSMIT_TCN';
  return p.role === 'designated' ? 'TRANSMIT_CONFIG' : null;
}

function enter(b: Bridge, p: BridgePort, state: TransmitState): void {
  p.portTransmit = state;
  switch (state) {
    case 'TRANSMIT_INIT':
      p.newInfo = true;
      p.txCount = 0;
      break;
    case 'IDLE':
      p.helloWhen = p.designatedTimes.helloTime_s;
      break;
    case 'TRANSMIT_PERIODIC':
      p.newInfo ||= p.role === 'designated' || (p.role === 'root' && p.tcWhile !== 0);
      break;
    case 'TRANSMIT_RSTP':
      txRstp(b, p);
      sent(p);
      p.counters.rstBpdusOut++;
      break;
    case 'TRANSMIT_CONFIG':
      txConfig(b, p);
      sent(p);
      p.counters.configBpdusOut++;
      break;
    case 'TRANSMIT_TCN':
      txTcn(b, p);
      p.newInfo = false;
      p.txCount++;
      p.counters.tcnBpdusOut++;
      break;
  }
}

function sent(p: BridgePort): void {
  p.newInfo = false;
  p.txCount++;
  p.tcAck = false;
}

const out = wire.blank();

const ROLES: Readonly<Record<Role, number>> = {
  disabled: wire.ROLE_UNKNOWN,
  alternate: wire.ROLE_ALTERNATE_OR_BACKUP,
  backup: wire.ROLE_ALTERNATE_OR_BACKUP,
  root: wire.ROLE_ROOT,
  designated: wire.ROLE_DESIGNATED,
};

/** 17.21.20. */
function txRstp(b: Bridge, p: BridgePort): void {
  out.version = wire.VERSION_RSTP;
  out.type = wire.TYPE_RST;
  fill(p);
  out.flags =
    (ROLES[p.role] << wire.ROLE_SHIFT) |
    (p.agree ? wire.FLAG_AGREEMENT : 0) |
    (p.proposing ? wire.FLAG_PROPOSAL : 0) |
    (p.tcWhile !== 0 ? wire.FLAG_TOPOLOGY_CHANGE : 0) |
    (p.learning ? wire.FLAG_LEARNING : 0) |
    (p.forwarding ? wire.FLAG_FORWARDING : 0);
  b.outside.send(p.number, out);
}

/** 17.21.19. */
function txConfig(b: Bridge, p: BridgePort): void {
  out.version = wire.VERSION_STP;
  out.type = wire.TYPE_CONFIGURATION;
  fill(p);
  out.flags =
    (p.tcWhile !== 0 ? wire.FLAG_TOPOLOGY_CHANGE : 0) | (p.tcAck ? wire.FLAG_TOPOLOGY_CHANGE_ACK : 0);
  b.outside.send(p.number, out);
}

/** 17.21.21. */
function txTcn(b: Bridge, p: BridgePort): void {
  out.version = wire.VERSION_STP;
  out.type = wire.TYPE_TCN;
  out.flags = 0;
  b.outside.send(p.number, out);
}

function fill(p: BridgePort): void {
  const { designatedPriority: vector, designatedTimes: times } = p;
  out.rootHigh = vector.rootHigh;
  out.rootLow = vector.rootLow;
  out.rootPathCost = vector.rootPathCost;
  out.bridgeHigh = vector.bridgeHigh;
  out.bridgeLow = vector.bridgeLow;
  out.portId = vector.portId;
  out.messageAge_256 = times.messageAge_s * 256;
  out.maxAge_256 = times.maxAge_s * 256;
  out.helloTime_256 = times.helloTime_s * 256;
  out.forwardDelay_256 = times.forwardDelay_s * 256;
}
