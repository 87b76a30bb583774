/**
 * Which of a guest's queues a frame goes to: the same for all frames of a flow, so that they stay in order, and the
 * same for both directions of it. IP addresses and TCP or UDP ports where there are some, else MAC addresses.
 */
import * as ethernet from '../../wire/ethernet.js';
import { networkOffset } from '../../wire/offload.js';

const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;

/** A small whole number. */
export function flowHash(view: DataView, at: number, length_bytes: number): number {
  const l3 = networkOffset(view, at, length_bytes);
  const type = l3 === 0 ? 0 : view.getUint16(at + l3 - 2);
  let hash = 0;
  let protocol = 0;
  let l4 = 0;
  if (type === ethernet.TYPE_IPV4 && length_bytes >= l3 + 20) {
    hash = view.getInt32(at + l3 + 12) ^ view.getInt32(at + l3 + 16);
    // Only the first fragment has ports: then none is counted.
    if ((view.getUint16(at + l3 + 6) & 0x3fff) === 0) {
      protocol = view.getUint8(at + l3 + 9);
      l4 = l3 + ((view.getUint8(at + l3) & 15) << 2);
    }
  } else if (type === ethernet.TYPE_IPV6 && length_bytes >= l3 + 40) {
    for (let word = 8; word < 40; word += 4) hash ^= view.getInt32(at + l3 + word);
    protocol = view.getUint8(at + l3 + 6);
    l4 = l3 + 40;
  } else hash = view.getInt32(at + 2) ^ view.getInt32(at + 8);
  if ((protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) && length_bytes >= l4 + 4)
    hash ^= view.getUint16(at + l4) ^ view.getUint16(at + l4 + 2);
  hash ^= hash >>> 16;
  return Math.imul(hash, 0x9e37_79b1) >>> 16;
}
