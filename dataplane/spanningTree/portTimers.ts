/** Port Timers (IEEE 802.1D-2004 17.22): each second, every timer of a port that runs comes one nearer to zero. */
import { RECEIVED_PER_SECOND_MAX } from './variables.js';
import type { BridgePort } from './variables.js';

const less = (timer: number): number => (timer > 0 ? timer - 1 : 0);

export function tick(p: BridgePort): void {
  p.helloWhen = less(p.helloWhen);
  p.tcWhile = less(p.tcWhile);
  p.fdWhile = less(p.fdWhile);
  p.rcvdInfoWhile = less(p.rcvdInfoWhile);
  p.rrWhile = less(p.rrWhile);
  p.rbWhile = less(p.rbWhile);
  p.mdelayWhile = less(p.mdelayWhile);
  p.edgeDelayWhile = less(p.edgeDelayWhile);
  p.txCount = less(p.txCount);
  p.ownBpduWhile = less(p.ownBpduWhile);
  p.receivedLeft = RECEIVED_PER_SECOND_MAX;
}
