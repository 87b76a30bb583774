/**
 * DHCP for IPv4 (RFC 2131, RFC 2132), as far as who watches leases needs it.
 *
 *   0 op | 1 htype | 2 hlen | 3 hops | 4 xid | 8 secs | 10 flags | 12 ciaddr | 16 yiaddr | 20 siaddr | 24 giaddr
 *   28 chaddr 16 | 44 sname 64 | 108 file 128 | 236 cookie 63 82 53 63 | 240 options
 */
export const OP = 0;
export const HTYPE = 1;
export const HLEN = 2;
export const XID = 4;
export const CIADDR = 12;
export const YIADDR = 16;
export const GIADDR = 24;
export const CHADDR = 28;
export const SNAME = 44;
export const FILE = 108;
export const COOKIE = 236;
export const OPTIONS = 240;

export const PORT_SERVER = 67;
export const PORT_CLIENT = 68;
export const BOOTREQUEST = 1;
export const BOOTREPLY = 2;
export const MAGIC = 0x6382_5363;

/** RFC 2132 9.6. */
export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
export const INFORM = 8;

const OPTION_PAD = 0;
const OPTION_LEASE_TIME = 51;
const OPTION_OVERLOAD = 52;
const OPTION_MESSAGE_TYPE = 53;
const OPTION_END = 255;

/** RFC 2131 3.3. */
export const LEASE_FOR_EVER_S = 0xffff_ffff;

export interface Message {
  op: number;
  xid: number;
  clientHigh: number;
  clientLow: number;
  ciaddr: number;
  yiaddr: number;
  giaddr: number;
  /** 0: BOOTP, without options of DHCP. */
  type: number;
  /** 0 when it is not said. */
  lease_s: number;
}

/** `at`: behind the UDP header. An Ethernet client, the cookie, and options that end within the message. */
export function parse(view: DataView, at: number, end: number, out: Message): boolean {
  if (end - at < OPTIONS || view.getUint32(at + COOKIE) !== MAGIC) return false;
  if (view.getUint8(at + HTYPE) !== 1 || view.getUint8(at + HLEN) !== 6) return false;
  out.op = view.getUint8(at + OP);
  if (out.op !== BOOTREQUEST && out.op !== BOOTREPLY) return false;
  out.xid = view.getInt32(at + XID);
  out.clientHigh = view.getUint16(at + CHADDR);
  out.clientLow = view.getInt32(at + CHADDR + 2);
  out.ciaddr = view.getInt32(at + CIADDR);
  out.yiaddr = view.getInt32(at + YIADDR);
  out.giaddr = view.getInt32(at + GIADDR);
  out.type = 0;
  out.lease_s = 0;
  const overload = parseOptions(view, at + OPTIONS, end, out);
  if (overload < 0) return false;
  // RFC 2132 9.3: options may go on in `file`, then in `sname`.
  if ((overload & 1) !== 0 && parseOptions(view, at + FILE, at + COOKIE, out) < 0) return false;
  return (overload & 2) === 0 || parseOptions(view, at + SNAME, at + FILE, out) >= 0;
}

/** What option 52 says (0 without it), or -1 when an option runs over the end. The first of equal options counts. */
function parseOptions(view: DataView, from: number, end: number, out: Message): number {
  let overload = 0;
  for (let at = from; at < end;) {
    const code = view.getUint8(at);
    if (code === OPTION_END) break;
    if (code === OPTION_PAD) {
      at++;
      continue;
    }
    if (at + 2 > end) return -1;
    const length_bytes = view.getUint8(at + 1);
    const valueAt = at + 2;
    if (valueAt + length_bytes > end) return -1;
    if (code === OPTION_MESSAGE_TYPE && length_bytes === 1 && out.type === 0)
      out.type = view.getUint8(valueAt);
    else if (code === OPTION_LEASE_TIME && length_bytes === 4 && out.lease_s === 0)
      out.lease_s = view.getUint32(valueAt);
    else if (code === OPTION_OVERLOAD && length_bytes === 1) overload = view.getUint8(valueAt) & 3;
    at = valueAt + length_bytes;
  }
  return overload;
}

/** A message with type, and lease if there is one; returns its length. `view` holds zeros from `at` on. */
export function emit(view: DataView, at: number, message: Message): number {
  view.setUint8(at + OP, message.op);
  view.setUint8(at + HTYPE, 1);
  view.setUint8(at + HLEN, 6);
  view.setInt32(at + XID, message.xid);
  view.setInt32(at + CIADDR, message.ciaddr);
  view.setInt32(at + YIADDR, message.yiaddr);
  view.setInt32(at + GIADDR, message.giaddr);
  view.setUint16(at + CHADDR, message.clientHigh);
  view.setInt32(at + CHADDR + 2, message.clientLow);
  view.setUint32(at + COOKIE, MAGIC);
  let option = at + OPTIONS;
  if (message.type !== 0) {
    view.setUint16(option, (OPTION_MESSAGE_TYPE << 8) | 1);
    view.setUint8(option + 2, message.type);
    option += 3;
  }
  if (message.lease_s !== 0) {
    view.setUint16(option, (OPTION_LEASE_TIME << 8) | 4);
    view.setUint32(option + 2, message.lease_s);
    option += 6;
  }
  view.setUint8(option, OPTION_END);
  return option + 1 - at;
}
