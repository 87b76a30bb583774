/**
 * Whether a frame's transport checksum was left to the hardware, told from the frame alone.
 *
 * A sender that leaves the checksum to its card puts the sum of the pseudo-header into the field (RFC 9293 3.1, not
 * complemented), for the card to go on from. Between virtual interfaces there is no card, and the word that it is
 * to be done goes beside the frame, where AF_XDP does not pass it on. So the field is compared with that sum. A
 * finished checksum equals it once in 65,536 frames by chance; summed again it comes out the same.
 */
import * as ethernet from './ethernet.js';
import * as ipv4 from './ipv4.js';
import * as ipv6 from './ipv6.js';
import { networkOffset } from './offload.js';
import * as tcp from './tcp.js';
import * as udp from './udp.js';

/** More fragments, or an offset: the sum would be over more than is here. */
const FRAGMENT_MASK = 0x3fff;

/** csum start | csum offset << 16, as a virtio-net header has them; 0 when nothing is left to do. */
export function unfinishedChecksum(view: DataView, at: number, length_bytes: number): number {
  const l3 = networkOffset(view, at, length_bytes);
  if (l3 === 0) return 0;
  const end = at + length_bytes;
  const type = view.getUint16(at + l3 - 2);
  let protocol: number;
  let l4: number;
  let transport_bytes: number;
  if (type === ethernet.TYPE_IPV4) {
    if (!ipv4.check(view, at + l3, end)) return 0;
    if ((view.getUint16(at + l3 + ipv4.FRAGMENT) & FRAGMENT_MASK) !== 0) return 0;
    protocol = ipv4.protocol(view, at + l3);
    const header_bytes = ipv4.headerLength(view, at + l3);
    l4 = l3 + header_bytes;
    transport_bytes = view.getUint16(at + l3 + ipv4.TOTAL_LENGTH) - header_bytes;
  } else if (type === ethernet.TYPE_IPV6) {
    if (!ipv6.check(view, at + l3, end)) return 0;
    protocol = view.getUint8(at + l3 + ipv6.NEXT_HEADER);
    l4 = l3 + ipv6.LENGTH;
    transport_bytes = view.getUint16(at + l3 + ipv6.PAYLOAD_LENGTH);
  } else {
    return 0;
  }
  const offset =
    protocol === ipv4.PROTOCOL_TCP ? tcp.CHECKSUM : protocol === ipv4.PROTOCOL_UDP ? udp.CHECKSUM : 0;
  // Whoever completes it sums to the frame's end: what follows the packet there must be nothing.
  if (offset === 0 || transport_bytes < offset + 2 || l4 + transport_bytes !== length_bytes) return 0;
  const sum =
    type === ethernet.TYPE_IPV4
      ? ipv4.pseudoHeaderSum(view, at + l3, protocol, transport_bytes)
      : ipv6.pseudoHeaderSum(view, at + l3, protocol, transport_bytes);
  return view.getUint16(at + l4 + offset, true) === sum ? l4 | (offset << 16) : 0;
}
