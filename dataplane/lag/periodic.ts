/**
 * The periodic transmission machine (IEEE 802.1AX-2014 6.4.13, figure 6-19): how often we speak is what the
 * partner's LACP_Timeout asks for. Two passive ends say nothing to each other.
 */
import { LACP_ACTIVITY, LACP_TIMEOUT } from '../wire/lacp.js';
import { FAST_PERIODIC_TIME_MS, SLOW_PERIODIC_TIME_MS, has } from './lacpPort.js';
import type { LacpPort } from './lacpPort.js';

export function step(port: LacpPort, now_ms: number): boolean {
  if (!port.portEnabled || (!has(port.actor, LACP_ACTIVITY) && !has(port.partner, LACP_ACTIVITY))) {
    port.periodic_ms = Infinity;
    if (port.periodic === 'NO_PERIODIC') return false;
    port.periodic = 'NO_PERIODIC';
    return true;
  }
  const wantsFast = has(port.partner, LACP_TIMEOUT);
  switch (port.periodic) {
    case 'NO_PERIODIC':
      enterFast(port, now_ms);
      return true;
    case 'FAST_PERIODIC':
      if (!wantsFast) enterSlow(port, now_ms);
      else if (now_ms >= port.periodic_ms) enterTx(port);
      else return false;
      return true;
    case 'SLOW_PERIODIC':
      if (!wantsFast && now_ms < port.periodic_ms) return false;
      enterTx(port);
      return true;
    case 'PERIODIC_TX':
      if (wantsFast) enterFast(port, now_ms);
      else enterSlow(port, now_ms);
      return true;
  }
}

function enterFast(port: LacpPort, now_ms: number): void {
  port.periodic = 'FAST_PERIODIC';
  port.periodic_ms = now_ms + FAST_PERIODIC_TIME_MS;
}

function enterSlow(port: LacpPort, now_ms: number): void {
  port.periodic = 'SLOW_PERIODIC';
  port.periodic_ms = now_ms + SLOW_PERIODIC_TIME_MS;
}

function enterTx(port: LacpPort): void {
  port.periodic = 'PERIODIC_TX';
  port.periodic_ms = Infinity;
  port.ntt = true;
}
