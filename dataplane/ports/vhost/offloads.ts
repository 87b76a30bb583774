/** What the two ends of a vhost connection agreed to leave to each other, out of the negotiated virtio features. */
import { FEATURE } from '../../../host/vhost/wire.js';
import * as virtioNet from '../../wire/virtioNet.js';

const bit = (feature: number): bigint => 1n << BigInt(feature);

/**
 * What is offered to every peer, always the same: a guest that reconnects must find what it negotiated. UDP
 * segmentation (bits 54 to 56) is known to QEMU from 8.2 on; older ones pass over it.
 */
export const OFFERED: bigint = [
  FEATURE.CSUM,
  FEATURE.GUEST_CSUM,
  FEATURE.MTU,
  FEATURE.GUEST_TSO4,
  FEATURE.GUEST_TSO6,
  FEATURE.GUEST_ECN,
  FEATURE.HOST_TSO4,
  FEATURE.HOST_TSO6,
  FEATURE.HOST_ECN,
  FEATURE.MRG_RXBUF,
  FEATURE.MQ,
  FEATURE.ANY_LAYOUT,
  FEATURE.INDIRECT_DESC,
  FEATURE.EVENT_IDX,
  FEATURE.PROTOCOL_FEATURES,
  FEATURE.VERSION_1,
  FEATURE.GUEST_USO4,
  FEATURE.GUEST_USO6,
  FEATURE.HOST_USO,
].reduce((bits, feature) => bits | bit(feature), 0n);

/** One direction. */
export class Taken {
  checksum = false;
  tcp4 = false;
  tcp6 = false;
  udp = false;
  ecn = false;

  /** Super-frames of this type. */
  takes(gsoType: number): boolean {
    switch (gsoType) {
      case virtioNet.GSO_TCPV4:
        return this.tcp4;
      case virtioNet.GSO_TCPV6:
        return this.tcp6;
      case virtioNet.GSO_UDP_L4:
        return this.udp;
      default:
        return false;
    }
  }
}

export class Offloads {
  /** Of the virtio-net header before each frame. */
  header_bytes = virtioNet.LENGTH_MERGEABLE;
  isMergeable = false;
  hasEventIndex = false;
  readonly fromGuest = new Taken();
  readonly toGuest = new Taken();

  set(features: bigint): void {
    const has = (feature: number): boolean => (features & bit(feature)) !== 0n;
    this.isMergeable = has(FEATURE.MRG_RXBUF);
    this.header_bytes =
      this.isMergeable || has(FEATURE.VERSION_1) ? virtioNet.LENGTH_MERGEABLE : virtioNet.LENGTH;
    this.hasEventIndex = has(FEATURE.EVENT_IDX);
    this.fromGuest.checksum = has(FEATURE.CSUM);
    this.fromGuest.tcp4 = has(FEATURE.HOST_TSO4);
    this.fromGuest.tcp6 = has(FEATURE.HOST_TSO6);
    this.fromGuest.udp = has(FEATURE.HOST_USO);
    this.fromGuest.ecn = has(FEATURE.HOST_ECN);
    this.toGuest.checksum = has(FEATURE.GUEST_CSUM);
    this.toGuest.tcp4 = has(FEATURE.GUEST_TSO4);
    this.toGuest.tcp6 = has(FEATURE.GUEST_TSO6);
    this.toGuest.udp = has(FEATURE.GUEST_USO4) && has(FEATURE.GUEST_USO6);
    this.toGuest.ecn = has(FEATURE.GUEST_ECN);
  }
}
