/**
 * The churn detection machines (IEEE 802.1AX-2014 6.4.17, figures 6-23 and 6-24): an end that is not in
 * synchronization for a minute will not be; somebody should look at the configuration of both.
 */
import { SYNCHRONIZATION } from '../wire/lacp.js';
import { CHURN_DETECTION_TIME_MS, has } from './lacpPort.js';
import type { ChurnState, LacpPort } from './lacpPort.js';

export function step(port: LacpPort, now_ms: number): boolean {
  const { actorChurn, partnerChurn } = port;
  if (!port.portEnabled) {
    port.actorChurn = port.partnerChurn = 'CHURN_MONITOR';
    port.actorChurn_ms = port.partnerChurn_ms = Infinity;
    return actorChurn !== port.actorChurn || partnerChurn !== port.partnerChurn;
  }
  const wasArmed_ms = port.actorChurn_ms;
  const wasPartnerArmed_ms = port.partnerChurn_ms;
  port.actorChurn_ms = timer(actorChurn, wasArmed_ms, now_ms);
  port.actorChurn = next(actorChurn, has(port.actor, SYNCHRONIZATION), now_ms >= port.actorChurn_ms);
  if (port.actorChurn !== 'CHURN_MONITOR') port.actorChurn_ms = Infinity;
  port.partnerChurn_ms = timer(partnerChurn, wasPartnerArmed_ms, now_ms);
  port.partnerChurn = next(partnerChurn, has(port.partner, SYNCHRONIZATION), now_ms >= port.partnerChurn_ms);
  if (port.partnerChurn !== 'CHURN_MONITOR') port.partnerChurn_ms = Infinity;
  return actorChurn !== port.actorChurn || partnerChurn !== port.partnerChurn;
}

/** CHURN_MONITOR starts it on entry; elsewhere it stands still. */
function timer(state: ChurnState, armed_ms: number, now_ms: number): number {
  if (state !== 'CHURN_MONITOR') return Infinity;
  return armed_ms === Infinity ? now_ms + CHURN_DETECTION_TIME_MS : armed_ms;
}

function next(state: ChurnState, inSync: boolean, isExpired: boolean): ChurnState {
  if (inSync) return 'NO_CHURN';
  if (state === 'NO_CHURN') return 'CHURN_MONITOR';
  return state === 'CHURN_MONITOR' && isExpired ? 'CHURN' : state;
}
