/**
 * The transmit machine (IEEE 802.1AX-2014 6.4.16): sends what NTT asks for, three LACPDUs in a Fast_Periodic_Time at
 * most; what comes beyond waits, and then says what is true when it goes.
 */
import { FAST_PERIODIC_TIME_MS } from './lacpPort.js';
import type { LacpPort } from './lacpPort.js';

const BURST_MAX_COUNT = 3;

/** True: send one now; it has been taken note of. */
export function step(port: LacpPort, now_ms: number): boolean {
  if (!port.ntt) return false;
  if (!port.portEnabled || port.periodic === 'NO_PERIODIC') {
    port.ntt = false;
    return false;
  }
  if (now_ms < maySendAt_ms(port)) return false;
  port.ntt = false;
  if (port.sentAt_ms.length === BURST_MAX_COUNT) port.sentAt_ms.shift();
  port.sentAt_ms.push(now_ms);
  return true;
}

/** When the next may go; -Infinity: at once. */
export function maySendAt_ms(port: LacpPort): number {
  return port.sentAt_ms.length < BURST_MAX_COUNT ? -Infinity : port.sentAt_ms[0]! + FAST_PERIODIC_TIME_MS;
}
