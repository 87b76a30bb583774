/**
 * rtnetlink on the wire: messages, attributes, and the three bodies that we read (links, addresses, errors).
 * Pure; the socket is netlinkSocket.ts, the verbs are netlink.ts.
 *
 *   struct nlmsghdr  16 bytes   0 len(u32)  4 type(u16)  6 flags(u16)  8 seq(u32)  12 pid(u32)      padded to 4
 *   struct rtattr     4 bytes   0 len(u16)  2 type(u16)   then the value                            padded to 4
 *   struct ifinfomsg 16 bytes   0 family(u8)  2 type(u16)  4 index(i32)  8 flags(u32)  12 change(u32)
 *   struct ifaddrmsg  8 bytes   0 family(u8)  1 prefixlen(u8)  2 flags(u8)  3 scope(u8)  4 index(u32)
 *   struct rtmsg     12 bytes   0 family(u8) 1 dst_len(u8) 2 src_len(u8) 3 tos(u8) 4 table(u8) 5 protocol(u8)
 *                               6 scope(u8) 7 type(u8) 8 flags(u32)
 *   struct nlmsgerr             0 error(i32)  4 the request's header(16)  [its body unless CAPPED]  [attributes]
 *
 * Host byte order, which is little-endian wherever weft runs. Malformed bytes make a parser return undefined
 * (or stop, in `readMessages`, which says so); nothing here throws on what was received.
 */
import { formatIp, formatMac } from './ip.js';

/** linux/netlink.h and linux/rtnetlink.h. */
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;

export const NLM_F_REQUEST = 0x01;
export const NLM_F_MULTI = 0x02;
export const NLM_F_ACK = 0x04;
/** The table changed while it was dumped: ask again. */
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const NLMSGERR_ATTR_MSG = 1;

export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINK = 5;
export const IFLA_MASTER = 10;
export const IFLA_LINKINFO = 18;
export const IFLA_NET_NS_PID = 19;
export const IFLA_STATS64 = 23;
export const IFLA_GROUP = 27;
export const IFLA_NET_NS_FD = 28;
export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;
export const VETH_INFO_PEER = 1;
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_FLAGS = 8;
export const RTA_DST = 1;
export const RTA_OIF = 4;
export const RTA_GATEWAY = 5;

export const IFF_UP = 0x1;
const IFF_LOWER_UP = 0x10000;

export const HEADER_BYTES = 16;
export const IFINFOMSG_BYTES = 16;
export const IFADDRMSG_BYTES = 8;
export const RTMSG_BYTES = 12;
const RTATTR_BYTES = 4;

/** Attributes read from one message at most; the kernel sends some sixty for a link. */
export const ATTRIBUTES_MAX_COUNT = 256;

const align4 = (n: number) => (n + 3) & ~3;

/** Builds one message. Grows as needed; `finish` gives its bytes. */
export class MessageWriter {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #at = HEADER_BYTES;

  constructor(type: number, flags: number, seq: number) {
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, flags, true);
    this.#view.setUint32(8, seq, true);
  }

  #reserve(length_bytes: number): number {
    const at = this.#at;
    const end = at + align4(length_bytes);
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#at = end;
    return at;
  }

  ifinfomsg(index: number, flags = 0, change = 0): this {
    const at = this.#reserve(IFINFOMSG_BYTES);
    this.#view.setInt32(at + 4, index, true);
    this.#view.setUint32(at + 8, flags, true);
    this.#view.setUint32(at + 12, change, true);
    return this;
  }

  ifaddrmsg(family: number, prefix_bits: number, index: number): this {
    const at = this.#reserve(IFADDRMSG_BYTES);
    this.#bytes[at] = family;
    this.#bytes[at + 1] = prefix_bits;
    this.#view.setUint32(at + 4, index, true);
    return this;
  }

  rtmsg(fields: {
    family: number;
    dst_len: number;
    table: number;
    protocol: number;
    scope: number;
    type: number;
  }): this {
    const at = this.#reserve(RTMSG_BYTES);
    const { family, dst_len, table, protocol, scope, type } = fields;
    this.#bytes.set([family, dst_len, 0, 0, table, protocol, scope, type], at);
    return this;
  }

  attribute(type: number, value: Uint8Array): this {
    const length = RTATTR_BYTES + value.length;
    if (length > 0xffff) throw new RangeError(`attribute ${type} of ${value.length} bytes`);
    const at = this.#reserve(length);
    this.#view.setUint16(at, length, true);
    this.#view.setUint16(at + 2, type, true);
    this.#bytes.set(value, at + RTATTR_BYTES);
    return this;
  }

  u32(type: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return this.attribute(type, bytes);
  }

  /** With the zero that ends it. */
  string(type: number, value: string): this {
    return this.attribute(type, Buffer.from(`${value}\0`));
  }

  /** The attributes that `fill` writes, inside of one. */
  nest(type: number, fill: (writer: this) => void): this {
    const at = this.#reserve(RTATTR_BYTES);
    fill(this);
    const length = this.#at - at;
    if (length > 0xffff) throw new RangeError(`nested attribute ${type} of ${length} bytes`);
    this.#view.setUint16(at, length, true);
    this.#view.setUint16(at + 2, type | NLA_F_NESTED, true);
    return this;
  }

  finish(): Uint8Array {
    this.#view.setUint32(0, this.#at, true);
    return this.#bytes.slice(0, this.#at);
  }
}

export interface Message {
  type: number;
  flags: number;
  seq: number;
  pid: number;
  /** What follows the header: a view into what was received. */
  body: Uint8Array;
}

export interface Messages {
  messages: Message[];
  /** False when a length was wrong: what came before it is in `messages`. */
  wellFormed: boolean;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** All messages of one datagram. */
export function readMessages(bytes: Uint8Array): Messages {
  const view = viewOf(bytes);
  const messages: Message[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + HEADER_BYTES > bytes.length) return { messages, wellFormed: false };
    const length = view.getUint32(at, true);
    if (length < HEADER_BYTES || length > bytes.length - at) return { messages, wellFormed: false };
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      seq: view.getUint32(at + 8, true),
      pid: view.getUint32(at + 12, true),
      body: bytes.subarray(at + HEADER_BYTES, at + length),
    });
    at += align4(length);
  }
  return { messages, wellFormed: true };
}

export type Attributes = Map<number, Uint8Array>;

/** By type, without the flag bits; of a type that comes twice, the last. Undefined when a length is wrong. */
export function readAttributes(bytes: Uint8Array): Attributes | undefined {
  const view = viewOf(bytes);
  const attributes: Attributes = new Map();
  let at = 0;
  for (let count = 0; at < bytes.length; count++) {
    if (at + RTATTR_BYTES > bytes.length || count >= ATTRIBUTES_MAX_COUNT) return undefined;
    const length = view.getUint16(at, true);
    if (length < RTATTR_BYTES || length > bytes.length - at) return undefined;
    attributes.set(
      view.getUint16(at + 2, true) & NLA_TYPE_MASK,
      bytes.subarray(at + RTATTR_BYTES, at + length),
    );
    at += align4(length);
  }
  return attributes;
}

function u32Of(value: Uint8Array | undefined): number | undefined {
  return value?.length === 4 ? viewOf(value).getUint32(0, true) : undefined;
}

function stringOf(value: Uint8Array | undefined): string | undefined {
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return Buffer.from(end < 0 ? value : value.subarray(0, end)).toString();
}

/** struct rtnl_link_stats64 begins with these, each 8 bytes. */
export interface LinkCounters {
  rx_packets: number;
  tx_packets: number;
  rx_bytes: number;
  tx_bytes: number;
  rx_errors: number;
  tx_errors: number;
  rx_dropped: number;
  tx_dropped: number;
}

const COUNTER_NAMES = [
  'rx_packets',
  'tx_packets',
  'rx_bytes',
  'tx_bytes',
  'rx_errors',
  'tx_errors',
  'rx_dropped',
  'tx_dropped',
] as const satisfies readonly (keyof LinkCounters)[];

export interface Link {
  index: number;
  name: string;
  /** Set up by someone. */
  up: boolean;
  /** Has a carrier. */
  running: boolean;
  mtu_bytes: number;
  /** Undefined where there is none (tun), or it is not Ethernet's. */
  mac: string | undefined;
  /** Index of the bridge or bond that it belongs to. */
  master: number | undefined;
  /** `veth`, `bridge`, `tun`, …; undefined for hardware and lo. */
  kind: string | undefined;
  /** Index of the other end of a veth, in its namespace. */
  peer: number | undefined;
  counters: LinkCounters | undefined;
}

/** Of an RTM_NEWLINK body. */
export function readLink(body: Uint8Array): Link | undefined {
  if (body.length < IFINFOMSG_BYTES) return undefined;
  const view = viewOf(body);
  const flags = view.getUint32(8, true);
  const attributes = readAttributes(body.subarray(IFINFOMSG_BYTES));
  const name = stringOf(attributes?.get(IFLA_IFNAME));
  if (attributes === undefined || name === undefined) return undefined;
  const mac = attributes.get(IFLA_ADDRESS);
  const info = attributes.get(IFLA_LINKINFO);
  const infoAttributes = info === undefined ? undefined : readAttributes(info);
  return {
    index: view.getInt32(4, true),
    name,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_LOWER_UP) !== 0,
    mtu_bytes: u32Of(attributes.get(IFLA_MTU)) ?? 0,
    mac: mac?.length === 6 ? formatMac(mac) : undefined,
    master: u32Of(attributes.get(IFLA_MASTER)),
    kind: stringOf(infoAttributes?.get(IFLA_INFO_KIND)),
    peer: u32Of(attributes.get(IFLA_LINK)),
    counters: readCounters(attributes.get(IFLA_STATS64)),
  };
}

function readCounters(value: Uint8Array | undefined): LinkCounters | undefined {
  if (value === undefined || value.length < COUNTER_NAMES.length * 8) return undefined;
  const view = viewOf(value);
  const at = (name: keyof LinkCounters) => Number(view.getBigUint64(COUNTER_NAMES.indexOf(name) * 8, true));
  return {
    rx_packets: at('rx_packets'),
    tx_packets: at('tx_packets'),
    rx_bytes: at('rx_bytes'),
    tx_bytes: at('tx_bytes'),
    rx_errors: at('rx_errors'),
    tx_errors: at('tx_errors'),
    rx_dropped: at('rx_dropped'),
    tx_dropped: at('tx_dropped'),
  };
}

export interface Address {
  /** Index of the link. */
  index: number;
  /** `192.0.2.1/24`. */
  cidr: string;
}

/** Of an RTM_NEWADDR body. */
export function readAddress(body: Uint8Array): Address | undefined {
  if (body.length < IFADDRMSG_BYTES) return undefined;
  const attributes = readAttributes(body.subarray(IFADDRMSG_BYTES));
  // On a point-to-point link IFA_ADDRESS is the other side; IFA_LOCAL is ours. IPv6 has the former only.
  const ip = attributes?.get(IFA_LOCAL) ?? attributes?.get(IFA_ADDRESS);
  if (ip === undefined || (ip.length !== 4 && ip.length !== 16)) return undefined;
  return { index: viewOf(body).getUint32(4, true), cidr: `${formatIp(ip)}/${body[1]}` };
}

export interface Refusal {
  /** Positive; 0 for an acknowledgement. */
  errno: number;
  /** What the kernel says in words (extended acknowledgement), '' when it says nothing. */
  text: string;
}

/** Of an NLMSG_ERROR body, with the flags of its header. */
export function readError(body: Uint8Array, flags: number): Refusal | undefined {
  if (body.length < 4 + HEADER_BYTES) return undefined;
  const view = viewOf(body);
  const error = view.getInt32(0, true);
  if (error > 0) return undefined;
  let text = '';
  if ((flags & NLM_F_ACK_TLVS) !== 0) {
    const requestLength = (flags & NLM_F_CAPPED) === 0 ? view.getUint32(4, true) : HEADER_BYTES;
    const at = 4 + align4(requestLength);
    if (requestLength >= HEADER_BYTES && at <= body.length)
      text = stringOf(readAttributes(body.subarray(at))?.get(NLMSGERR_ATTR_MSG)) ?? '';
  }
  return { errno: error === 0 ? 0 : -error, text };
}
