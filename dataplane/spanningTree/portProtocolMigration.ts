/**
 * Port Protocol Migration (IEEE 802.1D-2004 17.24): RST BPDUs until an STP bridge is heard, STP's until it is gone.
 *
 *   BEGIN --> CHECKING_RSTP --mdelayWhile over--> SENSING --an STP bridge--> SELECTING_STP
 *                  ^---mcheck, RSTP heard, disabled---'  ^---mdelayWhile over----'
 */
import { MIGRATE_TIME_S } from './variables.js';
import type { Bridge, BridgePort } from './variables.js';

type MigrationState = BridgePort['portProtocolMigration'];

export function begin(b: Bridge, p: BridgePort): void {
  enter(b, p, 'CHECKING_RSTP');
}

export function step(b: Bridge, p: BridgePort): boolean {
  const next = exit(b, p);
  if (next === null) return false;
  enter(b, p, next);
  return true;
}

function exit(b: Bridge, p: BridgePort): MigrationState | null {
  switch (p.portProtocolMigration) {
    case 'CHECKING_RSTP':
      if (p.mdelayWhile === 0) return 'SENSING';
      return p.mdelayWhile !== MIGRATE_TIME_S && !p.portEnabled ? 'CHECKING_RSTP' : null;
    case 'SELECTING_STP':
      return p.mdelayWhile === 0 || !p.portEnabled || p.mcheck ? 'SENSING' : null;
    case 'SENSING':
      if (!p.portEnabled || p.mcheck || (b.rstpVersion && !p.sendRstp && p.rcvdRstp)) return 'CHECKING_RSTP';
      return p.sendRstp && p.rcvdStp ? 'SELECTING_STP' : null;
  }
}

function enter(b: Bridge, p: BridgePort, state: MigrationState): void {
  p.portProtocolMigration = state;
  switch (state) {
    case 'CHECKING_RSTP':
      p.mcheck = false;
      p.sendRstp = b.rstpVersion;
      p.mdelayWhile = MIGRATE_TIME_S;
      break;
    case 'SELECTING_STP':
      p.sendRstp = false;
      p.mdelayWhile = MIGRATE_TIME_S;
      break;
    case 'SENSING':
      p.rcvdRstp = p.rcvdStp = false;
      break;
  }
}
