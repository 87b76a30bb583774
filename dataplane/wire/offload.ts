/**
 * What a network card would have done to a frame, in software: completing a checksum (virtio 1.2 5.1.6.2,
 * NEEDS_CSUM) and cutting a TCP or UDP super-frame into segments (GSO). Used only towards a port that cannot
 * take the frame as it is.
 *
 * `completeChecksum` works in place: afterwards the frame is right for every port, so it does no harm to a
 * frame that is shared, provided its words are changed with it.
 *
 * A `Segmenter` never touches the frame. `plan` reads it once and counts the segments; then, for each of them,
 * `emitHeader` writes the headers of that segment elsewhere, and `payloadAt`/`payloadLength` say which stretch
 * of the frame follows. So a segment is sent as two pieces, and no payload is copied.
 *
 *   frame     | eth tags ip tcp |  payload …                                  |
 *   segment i | eth' ip' tcp'   |  + payload[i * gsoSize, (i + 1) * gsoSize)  |
 */
import * as checksum from './checksum.js';
import * as ethernet from './ethernet.js';
import * as ipv4 from './ipv4.js';
import * as ipv6 from './ipv6.js';
import * as tcp from './tcp.js';
import * as udp from './udp.js';
import * as virtioNet from './virtioNet.js';
import * as vlan from './vlan.js';

// Our constants.
/** Headers of a segment: Ethernet, two tags, IP with options or extension headers, TCP with options. */
export const SEGMENT_HEADER_MAX_BYTES = 256;
/** A smaller gsoSize than any sane path MTU gives would multiply one frame into tens of thousands. */
export const SEGMENTS_MAX_COUNT = 4096;

/** True when the checksum field lies inside the frame. */
export function checksumFits(length_bytes: number, w1: number, w2: number): boolean {
  return virtioNet.csumStartOf(w1) + virtioNet.csumOffsetOf(w2) + 2 <= length_bytes;
}

/** Fills in the checksum that was left to do; false (and nothing done) when the header makes no sense. */
export function completeChecksum(
  view: DataView,
  frameAt: number,
  length_bytes: number,
  w1: number,
  w2: number,
): boolean {
  if (!checksumFits(length_bytes, w1, w2)) return false;
  const start = virtioNet.csumStartOf(w1);
  // The field already holds the sum of the pseudo-header, so the sum over all is what its complement must be.
  const total = checksum.sum(view, frameAt + start, length_bytes - start, 0);
  checksum.writeNonZero(view, frameAt + start + virtioNet.csumOffsetOf(w2), total);
  return true;
}

/** Where the network header begins: after the addresses, up to two tags, and the type. 0: cut short. */
export function networkOffset(view: DataView, frameAt: number, length_bytes: number): number {
  let typeOffset = ethernet.TYPE;
  for (let tags = 0; tags <= 2; tags++) {
    if (typeOffset + 2 > length_bytes) return 0;
    const type = view.getUint16(frameAt + typeOffset);
    if (type !== ethernet.TYPE_CVLAN && type !== ethernet.TYPE_SVLAN) return typeOffset + 2;
    typeOffset += vlan.LENGTH;
  }
  return 0;
}

export class Segmenter {
  /** Headers of each segment, before any edit of its tag. */
  header_bytes = 0;
  gsoSize = 0;
  /** Sum of all payload there is to send. */
  payload_bytes = 0;
  #frameAt = 0;
  #l3 = 0;
  #l4 = 0;
  #isIpv6 = false;
  #isTcp = false;
  /** What all segments have in common of the IPv4 header's sum, and of the transport's without its payload. */
  #networkSum = 0;
  #transportSum = 0;

  /** How many segments the frame makes; -1 when it is not what its words say it is, or makes too many. */
  plan(view: DataView, frameAt: number, length_bytes: number, w0: number, w1: number): number {
    const gsoType = virtioNet.gsoTypeOf(w0);
    const l3 = networkOffset(view, frameAt, length_bytes);
    const l4 = virtioNet.csumStartOf(w1);
    if (l3 === 0 || (w0 & virtioNet.F_NEEDS_CSUM) === 0) return -1;
    const type = view.getUint16(frameAt + l3 - 2);
    const isIpv6 = type === ethernet.TYPE_IPV6;
    if (isIpv6) {
      if (length_bytes < l3 + ipv6.LENGTH || l4 < l3 + ipv6.LENGTH) return -1;
    } else {
      if (type !== ethernet.TYPE_IPV4 || length_bytes < l3 + ipv4.LENGTH) return -1;
      const ip_bytes = ipv4.headerLength(view, frameAt + l3);
      if (ip_bytes < ipv4.LENGTH || l4 !== l3 + ip_bytes) return -1;
    }
    const isTcp = gsoType === virtioNet.GSO_TCPV4 || gsoType === virtioNet.GSO_TCPV6;
    if (isTcp ? isIpv6 !== (gsoType === virtioNet.GSO_TCPV6) : gsoType !== virtioNet.GSO_UDP_L4) return -1;
    if (isTcp ? !tcp.check(view, frameAt + l4, frameAt + length_bytes) : length_bytes < l4 + udp.LENGTH)
      return -1;
    const header_bytes = l4 + (isTcp ? tcp.headerLength(view, frameAt + l4) : udp.LENGTH);
    const gsoSize = virtioNet.gsoSizeOf(w1);
    const payload_bytes = length_bytes - header_bytes;
    if (gsoSize === 0 || payload_bytes <= 0 || header_bytes > SEGMENT_HEADER_MAX_BYTES) return -1;
    const count = Math.ceil(payload_bytes / gsoSize);
    if (count > SEGMENTS_MAX_COUNT) return -1;
    this.header_bytes = header_bytes;
    this.gsoSize = gsoSize;
    this.payload_bytes = payload_bytes;
    this.#frameAt = frameAt;
    this.#l3 = l3;
    this.#l4 = l4;
    this.#isIpv6 = isIpv6;
    this.#isTcp = isTcp;
    this.#sumConstants(view);
    return count;
  }

  /** All but lengths, identification, sequence number, flags and the checksums themselves. */
  #sumConstants(view: DataView): void {
    const l3 = this.#frameAt + this.#l3;
    const l4 = this.#frameAt + this.#l4;
    const protocol = this.#isTcp ? ipv4.PROTOCOL_TCP : ipv4.PROTOCOL_UDP;
    if (this.#isIpv6) {
      this.#transportSum = ipv6.pseudoHeaderSum(view, l3, protocol, 0);
    } else {
      let sum = checksum.sum(view, l3, ipv4.TOTAL_LENGTH, 0);
      sum = checksum.sum(view, l3 + ipv4.FRAGMENT, ipv4.CHECKSUM - ipv4.FRAGMENT, sum);
      this.#networkSum = checksum.sum(view, l3 + ipv4.SOURCE, this.#l4 - this.#l3 - ipv4.SOURCE, sum);
      this.#transportSum = ipv4.pseudoHeaderSum(view, l3, protocol, 0);
    }
    let sum = checksum.sum(view, l4, tcp.SEQUENCE, this.#transportSum);
    if (this.#isTcp) {
      sum = checksum.sum(view, l4 + tcp.ACKNOWLEDGMENT, tcp.DATA_OFFSET - tcp.ACKNOWLEDGMENT, sum);
      sum = checksum.sum(view, l4 + tcp.WINDOW, tcp.CHECKSUM - tcp.WINDOW, sum);
      const urgent = this.#l4 + tcp.URGENT;
      sum = checksum.sum(view, this.#frameAt + urgent, this.header_bytes - urgent, sum);
    }
    this.#transportSum = sum;
  }

  payloadAt(index: number): number {
    return this.#frameAt + this.header_bytes + index * this.gsoSize;
  }

  payloadLength(index: number): number {
    return Math.min(this.gsoSize, this.payload_bytes - index * this.gsoSize);
  }

  /** Writes the complete headers of segment `index`, checksums included, `header_bytes` of them. */
  emitHeader(view: DataView, index: number, outAt: number): void {
    const header_bytes = this.header_bytes;
    const payload_bytes = this.payloadLength(index);
    const l3 = outAt + this.#l3;
    const l4 = outAt + this.#l4;
    const transport_bytes = header_bytes - this.#l4 + payload_bytes;
    copyHeader(view, this.#frameAt, outAt, header_bytes);
    if (this.#isIpv6) {
      view.setUint16(l3 + ipv6.PAYLOAD_LENGTH, this.#l4 - this.#l3 - ipv6.LENGTH + transport_bytes);
    } else {
      const total_bytes = this.#l4 - this.#l3 + transport_bytes;
      const identification = (view.getUint16(l3 + ipv4.IDENTIFICATION) + index) & 0xffff;
      view.setUint16(l3 + ipv4.TOTAL_LENGTH, total_bytes);
      view.setUint16(l3 + ipv4.IDENTIFICATION, identification);
      const sum = this.#networkSum + checksum.swap(total_bytes) + checksum.swap(identification);
      checksum.write(view, l3 + ipv4.CHECKSUM, checksum.fold(sum));
    }
    let sum = this.#transportSum + checksum.swap(transport_bytes);
    if (this.#isTcp) {
      const sequence = view.getUint32(l4 + tcp.SEQUENCE) + index * this.gsoSize;
      view.setUint32(l4 + tcp.SEQUENCE, sequence);
      let flags = view.getUint8(l4 + tcp.FLAGS);
      if ((index + 1) * this.gsoSize < this.payload_bytes) flags &= ~(tcp.FIN | tcp.PSH);
      if (index > 0) flags &= ~tcp.CWR;
      view.setUint8(l4 + tcp.FLAGS, flags);
      sum += view.getUint16(l4 + tcp.SEQUENCE, true) + view.getUint16(l4 + tcp.SEQUENCE + 2, true);
      sum += view.getUint16(l4 + tcp.DATA_OFFSET, true);
    } else {
      view.setUint16(l4 + udp.UDP_LENGTH, transport_bytes);
      sum += checksum.swap(transport_bytes);
    }
    // The transport header is a whole number of words: header and payload may be summed apart.
    sum = checksum.sum(view, this.payloadAt(index), payload_bytes, checksum.fold(sum));
    checksum.writeNonZero(view, l4 + (this.#isTcp ? tcp.CHECKSUM : udp.CHECKSUM), sum);
  }
}

function copyHeader(view: DataView, from: number, to: number, length_bytes: number): void {
  let i = 0;
  for (; i + 4 <= length_bytes; i += 4) view.setInt32(to + i, view.getInt32(from + i, true), true);
  for (; i < length_bytes; i++) view.setUint8(to + i, view.getUint8(from + i));
}
