/**
 * The receive machine (IEEE 802.1AX-2014 6.4.12, figure 6-18). INITIALIZE is passed when the port is made, and
 * LACP_DISABLED has no place here: a port without LACP is in a static aggregate and has none of these machines.
 *
 *                  port down                     port up
 *     any state ------------> PORT_DISABLED --------------> EXPIRED --3 s--> DEFAULTED
 *                                                           ^    |              |
 *                                            current_while  |    | LACPDU       | LACPDU
 *                                                           |    v              |
 *                                                           +-- CURRENT <-------+
 */
import {
  AGGREGATION,
  DEFAULTED,
  EXPIRED,
  LACP_ACTIVITY,
  LACP_TIMEOUT,
  SYNCHRONIZATION,
  copyInfo,
} from '../wire/lacp.js';
import type { Lacpdu } from '../wire/lacp.js';
import { LONG_TIMEOUT_TIME_MS, SHORT_TIMEOUT_TIME_MS, has, put, samePort } from './lacpPort.js';
import type { LacpPort } from './lacpPort.js';

/** What the partner must have understood of us before its word on the rest counts (6.4.9 update_NTT). */
const NTT_BITS = LACP_ACTIVITY | LACP_TIMEOUT | AGGREGATION | SYNCHRONIZATION;

export function step(port: LacpPort, now_ms: number): boolean {
  if (!port.portEnabled) {
    if (port.receive === 'PORT_DISABLED') return false;
    port.receive = 'PORT_DISABLED';
    put(port.partner, SYNCHRONIZATION, false);
    port.currentWhile_ms = Infinity;
    return true;
  }
  if (port.receive === 'PORT_DISABLED') {
    enterExpired(port, now_ms);
    // Beyond the figure: the first word goes at once, not after a Fast_Periodic_Time.
    port.ntt = true;
    return true;
  }
  if (now_ms < port.currentWhile_ms) return false;
  if (port.receive === 'CURRENT') {
    enterExpired(port, now_ms);
    return true;
  }
  if (port.receive === 'EXPIRED') {
    enterDefaulted(port);
    return true;
  }
  return false;
}

function enterExpired(port: LacpPort, now_ms: number): void {
  port.receive = 'EXPIRED';
  put(port.partner, SYNCHRONIZATION, false);
  put(port.partner, LACP_TIMEOUT, true);
  port.currentWhile_ms = now_ms + SHORT_TIMEOUT_TIME_MS;
  put(port.actor, EXPIRED, true);
}

function enterDefaulted(port: LacpPort): void {
  port.receive = 'DEFAULTED';
  port.currentWhile_ms = Infinity;
  // update_Default_Selected
  const { partner, partnerAdmin } = port;
  if (!samePort(partner, partnerAdmin) || has(partner, AGGREGATION) !== has(partnerAdmin, AGGREGATION))
    port.selected = 'UNSELECTED';
  recordDefault(port);
  put(port.actor, EXPIRED, false);
}

/** 6.4.9 recordDefault. */
export function recordDefault(port: LacpPort): void {
  copyInfo(port.partnerAdmin, port.partner);
  put(port.actor, DEFAULTED, true);
}

/** A LACPDU that wire/lacp.ts approved came in on a port that is enabled: CURRENT is entered from any state. */
export function received(port: LacpPort, pdu: Lacpdu, now_ms: number): void {
  if (!port.portEnabled) return;
  port.receive = 'CURRENT';
  const { actor, partner } = port;
  // update_Selected
  if (!samePort(pdu.actor, partner) || has(pdu.actor, AGGREGATION) !== has(partner, AGGREGATION))
    port.selected = 'UNSELECTED';
  // update_NTT
  if (!samePort(pdu.partner, actor) || ((pdu.partner.state ^ actor.state) & NTT_BITS) !== 0) port.ntt = true;
  recordPDU(port, pdu);
  port.currentWhile_ms = now_ms + (has(actor, LACP_TIMEOUT) ? SHORT_TIMEOUT_TIME_MS : LONG_TIMEOUT_TIME_MS);
  put(actor, EXPIRED, false);
}

/** 6.4.9 recordPDU: the partner is in synchronization when it speaks of us, or aggregates with nobody. */
function recordPDU(port: LacpPort, pdu: Lacpdu): void {
  const { actor, partner } = port;
  const activelyMaintained =
    has(pdu.actor, LACP_ACTIVITY) || (has(actor, LACP_ACTIVITY) && has(pdu.partner, LACP_ACTIVITY));
  const speaksOfUs =
    samePort(pdu.partner, actor) && has(pdu.partner, AGGREGATION) === has(actor, AGGREGATION);
  const inSync =
    has(pdu.actor, SYNCHRONIZATION) && activelyMaintained && (speaksOfUs || !has(pdu.actor, AGGREGATION));
  copyInfo(pdu.actor, partner);
  put(partner, SYNCHRONIZATION, inSync);
  put(actor, DEFAULTED, false);
}
