/**
 * The first look: whole packets of TCP and UDP (untagged or with one tag, no options, no fragments), known again by
 * every field that a rule could look at, straight from the frame. It saves such a frame the parse and the plan of the
 * classifier, however many rules there are. A connection has an entry here and shares one in the flow cache behind,
 * so it does no harm that this one is small and forgets: one place for each hash.
 *
 *   0      chain plus one, 0: empty
 *   1      in-port | priority | VLAN
 *   2-4    addresses
 *   5      type, version and traffic class
 *   6      protocol | TCP flags
 *   7      ports
 *   8 …    source and destination: 2 words of IPv4, 8 of IPv6
 */
import type { Packet } from '../switch/packet.js';
import { MISS } from './flowCache.js';

const ENTRIES = 4096;
const STRIDE = 16;
const WORDS_IPV4 = 10;
const WORDS_IPV6 = 16;
const TCP = 6;
const UDP = 17;
const ETHERNET_BYTES = 14;
const TYPE_CVLAN = 0x8100;
const IPV4_WITHOUT_OPTIONS = 0x08_0045;
const IPV6 = 0x86dd6;
/** Headers up to TCP's flags. */
const TCP_BYTES = 14;
const UDP_BYTES = 4;

export class ExactCache {
  readonly #words = new Int32Array(ENTRIES * STRIDE);
  readonly #key = new Int32Array(STRIDE);
  /** Words of the key in hand; 0: not of the kind that is kept here. */
  #length = 0;
  #at = 0;
  hits = 0;

  /** The chain of the frame, or MISS: then `put` keeps it where it was looked for. */
  find(packet: Packet): number {
    const key = this.#key;
    const length = fill(packet, key);
    this.#length = length;
    if (length === 0) return MISS;
    let hash = key[1]!;
    for (let i = 2; i < length; i++) hash = Math.imul(hash ^ key[i]!, 0x9e37_79b1) ^ (hash >>> 15);
    const at = ((hash ^ (hash >>> 16)) & (ENTRIES - 1)) * STRIDE;
    this.#at = at;
    const words = this.#words;
    for (let i = 1; i < length; i++) if (words[at + i] !== key[i]) return MISS;
    const chain = words[at]! - 1;
    if (chain >= 0) this.hits++;
    return chain;
  }

  put(chain: number): void {
    const length = this.#length;
    if (length === 0) return;
    const words = this.#words;
    const key = this.#key;
    const at = this.#at;
    words[at] = chain + 1;
    for (let i = 1; i < length; i++) words[at + i] = key[i]!;
  }

  clear(): void {
    this.#words.fill(0);
  }
}

/** Writes the words of a frame of the kind that is kept, and answers how many; 0 for any other. */
function fill(packet: Packet, key: Int32Array): number {
  const view = packet.view;
  const at = packet.at;
  const end = at + packet.length_bytes;
  // The smallest of them; whoever is longer is looked at again below.
  if (packet.length_bytes < ETHERNET_BYTES + 20 + UDP_BYTES + 4) return 0;
  let l3At = at + ETHERNET_BYTES;
  if (view.getUint16(l3At - 2) === TYPE_CVLAN) l3At += 4;
  const kind = view.getInt32(l3At - 2);
  let l4At = 0;
  let protocol = 0;
  let packetEnd = 0;
  let length = 0;
  if (kind >>> 8 === IPV4_WITHOUT_OPTIONS) {
    packetEnd = l3At + view.getUint16(l3At + 2);
    if (packetEnd > end || (view.getUint16(l3At + 6) & 0x3fff) !== 0) return 0;
    protocol = view.getUint8(l3At + 9);
    l4At = l3At + 20;
    key[5] = kind;
    key[8] = view.getInt32(l3At + 12);
    key[9] = view.getInt32(l3At + 16);
    length = WORDS_IPV4;
  } else if (kind >>> 12 === IPV6) {
    if (end - l3At < 40) return 0;
    packetEnd = l3At + 40 + view.getUint16(l3At + 4);
    if (packetEnd > end) return 0;
    protocol = view.getUint8(l3At + 6);
    l4At = l3At + 40;
    // Without the flow label's first bits.
    key[5] = kind & ~15;
    for (let i = 0; i < 8; i++) key[8 + i] = view.getInt32(l3At + 8 + 4 * i);
    length = WORDS_IPV6;
  } else {
    return 0;
  }
  let word = protocol;
  if (protocol === TCP) {
    if (l4At + TCP_BYTES > packetEnd) return 0;
    word |= view.getUint8(l4At + 13) << 8;
  } else if (protocol !== UDP || l4At + UDP_BYTES > packetEnd) {
    return 0;
  }
  key[1] = (packet.port << 16) | (packet.priority << 12) | packet.vlan;
  key[2] = view.getInt32(at);
  key[3] = view.getInt32(at + 4);
  key[4] = view.getInt32(at + 8);
  key[6] = word;
  key[7] = view.getInt32(l4At);
  return length;
}
