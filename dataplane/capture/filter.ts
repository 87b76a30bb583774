/**
 * Which frames a capture wants, in the language that tcpdump made common (pcap-filter(7)): the part of it that is
 * about Ethernet, VLANs, IP and ports. Pure: the text is parsed where it arrives, so that a mistake is answered in
 * words; what goes to the engine is a tree of plain objects, which `matches` holds against each frame.
 *
 *   host 10.0.0.7 and not port 22        src net 10.0.0.0/8 or arp        vlan 10 and udp dst portrange 67-68
 *
 * One difference, on purpose: headers are looked for behind VLAN tags, without `vlan` having to be said first.
 * Bytes of a packet (`tcp[13] & 2 != 0`) cannot be asked for.
 */
import { parseIp } from '../../host/ip.js';
import { parse } from '../switch/headers.js';
import { Packet } from '../switch/packet.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as vlan from '../wire/vlan.js';

/** Which end is meant; `either` is what is meant when nothing is said. */
type End = 'source' | 'destination' | 'either' | 'both';

export type Filter =
  | { is: 'and' | 'or'; left: Filter; right: Filter }
  | { is: 'not'; of: Filter }
  | { is: 'etherType'; value: number }
  | { is: 'protocol'; value: number }
  /** `bits` leading bits of `address` (4 or 16 octets), in IP packets and ARP. */
  | { is: 'address'; end: End; address: number[]; bits: number }
  | { is: 'mac'; end: End; high: number; low: number }
  | { is: 'port'; end: End; first: number; last: number; protocol: number | null }
  /** Any tag, or one of this VLAN. */
  | { is: 'vlan'; vid: number | null }
  | { is: 'group'; broadcast: boolean }
  | { is: 'length'; least: number; most: number };

export class FilterError extends Error {}

const TEXT_MAX_CHARACTERS = 2000;
const DEPTH_MAX = 64;

const ETHER_TYPES: Readonly<Record<string, number>> = {
  ip: ethernet.TYPE_IPV4,
  ip6: ethernet.TYPE_IPV6,
  arp: ethernet.TYPE_ARP,
  lldp: 0x88cc,
};
const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: 1,
  igmp: 2,
  tcp: 6,
  udp: 17,
  esp: 50,
  ah: 51,
  icmp6: 58,
  ospf: 89,
  pim: 103,
  vrrp: 112,
  sctp: 132,
};
const ENDS: Readonly<Record<string, End>> = { src: 'source', dst: 'destination' };
const TYPES = ['host', 'net', 'port', 'portrange', 'proto'] as const;
type Type = (typeof TYPES)[number];
/** RFC 826, for Ethernet and IPv4. */
const ARP_BYTES = 28;
/** Protocols that have ports. */
const WITH_PORTS = [6, 17, 132];

/** Throws FilterError, whose message says where. Undefined for a text of blanks: all frames. */
export function parseFilter(text: string): Filter | undefined {
  if (text.length > TEXT_MAX_CHARACTERS)
    throw new FilterError(`a filter has at most ${TEXT_MAX_CHARACTERS} characters`);
  const words = text.match(/[()!]|&&|\|\||[^\s()!&|]+|\S/g) ?? [];
  if (words.length === 0) return undefined;
  return new Parser(words).whole();
}

class Parser {
  readonly #words: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  whole(): Filter {
    const filter = this.#any();
    if (this.#at < this.#words.length) throw this.#unexpected('"and", "or" or the end');
    return filter;
  }

  #any(): Filter {
    let left = this.#all();
    while (this.#takes('or', '||')) left = { is: 'or', left, right: this.#all() };
    return left;
  }

  #all(): Filter {
    let left = this.#one();
    for (;;) {
      const isJoined = this.#takes('and', '&&');
      const next = this.#words[this.#at];
      if (!isJoined && (next === undefined || next === ')' || next === 'or' || next === '||')) return left;
      left = { is: 'and', left, right: this.#one() };
    }
  }

  #one(): Filter {
    if (++this.#depth > DEPTH_MAX) throw new FilterError(`a filter is nested at most ${DEPTH_MAX} deep`);
    const filter = this.#unnested();
    this.#depth--;
    return filter;
  }

  #unnested(): Filter {
    if (this.#takes('not', '!')) return { is: 'not', of: this.#one() };
    if (!this.#takes('(')) return this.#primitive();
    const inner = this.#any();
    if (!this.#takes(')')) throw this.#unexpected('")"');
    return inner;
  }

  #primitive(): Filter {
    const word = this.#next('a condition');
    if (word === 'broadcast') return { is: 'group', broadcast: true };
    if (word === 'multicast') return { is: 'group', broadcast: false };
    if (word === 'less') return { is: 'length', least: 0, most: this.#number('a length', 0, 0xffff) };
    if (word === 'greater')
      return { is: 'length', least: this.#number('a length', 0, 0xffff), most: Infinity };
    if (word === 'vlan') return this.#vlan();
    if (word === 'ether') return this.#ether();
    const etherType = ETHER_TYPES[word];
    if (etherType !== undefined) {
      const about: Filter = { is: 'etherType', value: etherType };
      if (word === 'lldp' || !this.#continues()) return about;
      return { is: 'and', left: about, right: this.#qualified(null) };
    }
    const protocol = PROTOCOLS[word];
    if (protocol !== undefined) {
      if (WITH_PORTS.includes(protocol) && this.#continues()) return this.#qualified(protocol);
      return { is: 'protocol', value: protocol };
    }
    this.#at--;
    if (this.#continues()) return this.#qualified(null);
    throw this.#unexpected('a condition: host, net, port, tcp, arp, vlan …');
  }

  /** Whether `src`, `dst` or a type follows. */
  #continues(): boolean {
    const word = this.#words[this.#at] ?? '';
    return word in ENDS || (TYPES as readonly string[]).includes(word);
  }

  #end(): End {
    const word = this.#words[this.#at] ?? '';
    const end = ENDS[word];
    if (end === undefined) return 'either';
    this.#at++;
    const joint = this.#words[this.#at];
    const other = ENDS[this.#words[this.#at + 1] ?? ''];
    if (other === undefined || other === end || (joint !== 'or' && joint !== 'and')) return end;
    this.#at += 2;
    return joint === 'or' ? 'either' : 'both';
  }

  /** [src|dst] [host|net|port|portrange|proto] value; `host` when no type is said. */
  #qualified(protocol: number | null): Filter {
    const end = this.#end();
    const word = this.#words[this.#at] ?? '';
    const isSaid = (TYPES as readonly string[]).includes(word);
    if (isSaid) this.#at++;
    const type: Type = isSaid ? (word as Type) : 'host';
    if (type === 'port' || type === 'portrange') {
      const text = this.#next('a port');
      const [first, last = first] = text.split('-').map(number => portNumber(number));
      if (first === undefined || first > last! || (type === 'port' && text.includes('-')))
        throw this.#refused(text, type === 'port' ? 'a port is 0 to 65535' : 'a range is written 67-68');
      return { is: 'port', end, first, last: last!, protocol };
    }
    if (protocol !== null) throw this.#unexpected('"port" or "portrange"');
    if (type === 'proto') {
      const text = this.#next('a protocol');
      const value = PROTOCOLS[text] ?? (/^\d{1,3}$/.test(text) ? Number(text) : 256);
      if (value > 255) throw this.#refused(text, 'a protocol is 0 to 255 or a name like tcp');
      return { is: 'protocol', value };
    }
    const text = this.#next('an address');
    const [address = '', length] = text.split('/');
    const octets = parseIp(address);
    if (octets === undefined || (isSaid && type === 'host' && length !== undefined))
      throw this.#refused(text, type === 'host' ? 'not an IP address' : 'a net is written 10.0.0.0/8');
    const most = octets.length * 8;
    const bits = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : most + 1;
    if (bits > most) throw this.#refused(text, `a prefix has 0 to ${most} bits`);
    return { is: 'address', end, address: [...octets], bits };
  }

  #vlan(): Filter {
    if (!/^\d+$/.test(this.#words[this.#at] ?? '')) return { is: 'vlan', vid: null };
    return { is: 'vlan', vid: this.#number('a VLAN', 0, 4095) };
  }

  #ether(): Filter {
    if (this.#takes('broadcast')) return { is: 'group', broadcast: true };
    if (this.#takes('multicast')) return { is: 'group', broadcast: false };
    if (this.#takes('proto')) {
      const text = this.#next('an EtherType');
      const value =
        ETHER_TYPES[text] ?? (/^(0x[0-9a-f]{1,4}|\d{1,5})$/i.test(text) ? Number(text) : 0x1_0000);
      if (value > 0xffff) throw this.#refused(text, 'an EtherType is 0 to 0xffff or a name like arp');
      return { is: 'etherType', value };
    }
    const end = this.#end();
    this.#takes('host');
    const text = this.#next('a MAC address');
    const view = new DataView(new ArrayBuffer(ethernet.ADDRESS_LENGTH));
    if (!ethernet.emitAddress(view, 0, text)) throw this.#refused(text, 'not a MAC address');
    return { is: 'mac', end, high: view.getUint16(0), low: view.getInt32(2) };
  }

  #number(what: string, least: number, most: number): number {
    const text = this.#next(what);
    const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
    if (!(value >= least && value <= most)) throw this.#refused(text, `${what} is ${least} to ${most}`);
    return value;
  }

  #takes(...wanted: readonly string[]): boolean {
    const word = this.#words[this.#at];
    if (word === undefined || !wanted.includes(word)) return false;
    this.#at++;
    return true;
  }

  #next(what: string): string {
    const word = this.#words[this.#at];
    if (word === undefined) throw this.#unexpected(what);
    this.#at++;
    return word;
  }

  /** About the word that was just taken. */
  #refused(word: string, why: string): FilterError {
    return new FilterError(`capture filter, word ${this.#at} "${word}": ${why}`);
  }

  #unexpected(wanted: string): FilterError {
    const word = this.#words[this.#at];
    if (word === undefined) return new FilterError(`capture filter: it ends where ${wanted} should follow`);
    return new FilterError(`capture filter, word ${this.#at + 1} "${word}": ${wanted} should stand here`);
  }
}

function portNumber(text: string): number | undefined {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  return value <= 0xffff ? value : undefined;
}

// --- holding it against a frame ----------------------------------------------------------------------------

/** The frame that is being looked at; one at a time. */
const packet = new Packet(new DataView(new ArrayBuffer(0)));

/** Octets of an address (4, 16, or 0 when the frame has none), and where the two are. */
let address_bytes = 0;
let sourceAt = 0;
let destinationAt = 0;

/** Whether the frame (14 bytes at least) is wanted. */
export function matches(filter: Filter, view: DataView, at: number, length_bytes: number): boolean {
  if (length_bytes < ethernet.LENGTH) return false;
  packet.view = view;
  packet.at = at;
  packet.length_bytes = length_bytes;
  packet.isParsed = false;
  parse(packet);
  findAddresses();
  return holds(filter, view);
}

function findAddresses(): void {
  const { l3At, ipVersion } = packet;
  address_bytes = 0;
  if (ipVersion === 4) {
    address_bytes = 4;
    sourceAt = l3At + ipv4.SOURCE;
    destinationAt = l3At + ipv4.DESTINATION;
  } else if (ipVersion === 6) {
    address_bytes = 16;
    sourceAt = l3At + ipv6.SOURCE;
    destinationAt = l3At + ipv6.DESTINATION;
  } else if (packet.etherType === ethernet.TYPE_ARP && packet.at + packet.length_bytes - l3At >= ARP_BYTES) {
    // RFC 826 for Ethernet and IPv4: sender at 14, target at 24.
    if (packet.view.getUint32(l3At + 2) !== 0x0800_0604) return;
    address_bytes = 4;
    sourceAt = l3At + 14;
    destinationAt = l3At + 24;
  }
}

function holds(filter: Filter, view: DataView): boolean {
  switch (filter.is) {
    case 'and':
      return holds(filter.left, view) && holds(filter.right, view);
    case 'or':
      return holds(filter.left, view) || holds(filter.right, view);
    case 'not':
      return !holds(filter.of, view);
    case 'etherType':
      return packet.etherType === filter.value;
    case 'protocol':
      return packet.ipVersion !== 0 && packet.protocol === filter.value;
    case 'vlan':
      return hasVlan(view, filter.vid);
    case 'group':
      return filter.broadcast ? ethernet.isBroadcast(view, packet.at) : ethernet.isGroup(view, packet.at);
    case 'length':
      return packet.length_bytes >= filter.least && packet.length_bytes <= filter.most;
    case 'mac':
      return atEnds(
        filter.end,
        isMac(view, packet.at + ethernet.SOURCE, filter.high, filter.low),
        isMac(view, packet.at, filter.high, filter.low),
      );
    case 'address':
      if (address_bytes !== filter.address.length) return false;
      return atEnds(
        filter.end,
        isWithin(view, sourceAt, filter.address, filter.bits),
        isWithin(view, destinationAt, filter.address, filter.bits),
      );
    case 'port':
      if (packet.l4At === 0 || !WITH_PORTS.includes(packet.protocol)) return false;
      if (filter.protocol !== null && packet.protocol !== filter.protocol) return false;
      return atEnds(
        filter.end,
        packet.sourcePort >= filter.first && packet.sourcePort <= filter.last,
        packet.destinationPort >= filter.first && packet.destinationPort <= filter.last,
      );
  }
}

function atEnds(end: End, source: boolean, destination: boolean): boolean {
  if (end === 'source') return source;
  if (end === 'destination') return destination;
  return end === 'both' ? source && destination : source || destination;
}

function isMac(view: DataView, at: number, high: number, low: number): boolean {
  return view.getUint16(at) === high && view.getInt32(at + 2) === low;
}

function isWithin(view: DataView, at: number, address: readonly number[], bits: number): boolean {
  const whole = bits >>> 3;
  for (let i = 0; i < whole; i++) if (view.getUint8(at + i) !== address[i]) return false;
  const rest = bits & 7;
  return rest === 0 || (view.getUint8(at + whole) ^ address[whole]!) >>> (8 - rest) === 0;
}

/** The tags are what stands between the addresses and the type. */
function hasVlan(view: DataView, vid: number | null): boolean {
  const firstAt = packet.at + ethernet.TYPE;
  const typeAt = packet.l3At - 2;
  if (vid === null) return typeAt > firstAt;
  for (let at = firstAt; at < typeAt; at += vlan.LENGTH)
    if ((view.getUint16(at + 2) & vlan.VID_MASK) === vid) return true;
  return false;
}
