/** The dialogue of host/vhost/session.ts, of a network card: its offloads, and the requests that only a card knows. */
import { Refused, Session as VhostSession, u64 } from '../../../host/vhost/session.js';
import type { Kernel } from '../../../host/vhost/session.js';
import type { Ring } from '../../../host/vhost/ring.js';
import { PROTOCOL, REQUEST, requestName } from '../../../host/vhost/wire.js';
import { OFFERED, Offloads } from './offloads.js';

const PROTOCOL_OFFERED = [PROTOCOL.MQ, PROTOCOL.REPLY_ACK, PROTOCOL.NET_MTU, PROTOCOL.STATUS].reduce(
  (bits, bit) => bits | (1n << BigInt(bit)),
  0n,
);
const MTU_MIN_BYTES = 68n;
const MTU_MAX_BYTES = 65_535n;

/** Even rings: to the guest; odd ones: from it. */
export class Session extends VhostSession {
  readonly offloads = new Offloads();
  /** MTU that the guest was told; 0: none. */
  mtu_bytes = 0;

  constructor(pairs: number, kernel: Kernel, onKickFd: (ring: Ring, isComing: boolean) => void) {
    super({
      kernel,
      ringCount: pairs * 2,
      queueCount: pairs,
      offered: OFFERED,
      protocolOffered: PROTOCOL_OFFERED,
      onKickFd,
    });
  }

  override reset(): void {
    super.reset();
    this.mtu_bytes = 0;
  }

  protected override featuresSet(features: bigint): void {
    this.offloads.set(features);
  }

  protected override handleOther(request: number, view: DataView, at: number, end: number): number {
    switch (request) {
      case REQUEST.NET_SET_MTU: {
        const mtu = u64(request, view, at, end);
        if (mtu < MTU_MIN_BYTES || mtu > MTU_MAX_BYTES) return -1;
        this.mtu_bytes = Number(mtu);
        return 0;
      }
      case REQUEST.SEND_RARP:
        // Of migration, which was not offered.
        return -1;
      default:
        throw new Refused(`the peer sent ${requestName(request)}, which was not offered`);
    }
  }
}
