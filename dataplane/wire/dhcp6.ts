/**
 * DHCP for IPv6 (RFC 8415), as far as who watches leases needs it.
 *
 *   client and server   0 type | 1 transaction 24 | 4 options
 *   option              0 code 16 | 2 length 16 | 4 …
 *   IA_NA, IA_PD        4 IAID | 8 T1 | 12 T2 | 16 options      IA_TA: 4 IAID | 8 options
 *   IAADDR              4 address 16 | 20 preferred | 24 valid | 28 options
 */
export const PORT_CLIENT = 546;
export const PORT_SERVER = 547;

export const SOLICIT = 1;
export const ADVERTISE = 2;
export const REQUEST = 3;
export const CONFIRM = 4;
export const RENEW = 5;
export const REBIND = 6;
export const REPLY = 7;
export const RELEASE = 8;
export const DECLINE = 9;
export const RECONFIGURE = 10;
export const INFORMATION_REQUEST = 11;
export const RELAY_FORW = 12;
export const RELAY_REPL = 13;

const OPTION_IA_NA = 3;
const OPTION_IA_TA = 4;
const OPTION_IAADDR = 5;

/** Our constant: addresses of one message that are looked at. */
export const ADDRESSES_MAX_COUNT = 16;
/** RFC 8415 7.7. */
export const LEASE_FOR_EVER_S = 0xffff_ffff;

export class Message {
  type = 0;
  transaction = 0;
  count = 0;
  /** Four words each. */
  readonly addresses = new Int32Array(ADDRESSES_MAX_COUNT * 4);
  /** Zero: it is given up. */
  readonly valid_s = new Float64Array(ADDRESSES_MAX_COUNT);
}

/** RFC 8415 7.3: what only servers (and relays towards clients) say. */
export function isOfServer(type: number): boolean {
  return type === ADVERTISE || type === REPLY || type === RECONFIGURE || type === RELAY_REPL;
}

/** `at`: behind the UDP header. False when an option runs over its end. Of relays' messages only the type is read. */
export function parse(view: DataView, at: number, end: number, out: Message): boolean {
  out.count = 0;
  if (end - at < 4) return false;
  out.type = view.getUint8(at);
  out.transaction = view.getUint32(at) & 0xff_ffff;
  if (out.type === 0 || out.type === RELAY_FORW || out.type === RELAY_REPL) return out.type !== 0;
  for (let option = at + 4; option < end;) {
    if (option + 4 > end) return false;
    const code = view.getUint16(option);
    const next = option + 4 + view.getUint16(option + 2);
    if (next > end) return false;
    if (code === OPTION_IA_NA || code === OPTION_IA_TA) {
      const inside = option + (code === OPTION_IA_NA ? 16 : 8);
      if (inside > next || !parseAddresses(view, inside, next, out)) return false;
    }
    option = next;
  }
  return true;
}

function parseAddresses(view: DataView, from: number, end: number, out: Message): boolean {
  for (let option = from; option < end;) {
    if (option + 4 > end) return false;
    const code = view.getUint16(option);
    const next = option + 4 + view.getUint16(option + 2);
    if (next > end) return false;
    if (code === OPTION_IAADDR) {
      if (next - option < 28) return false;
      if (out.count < ADDRESSES_MAX_COUNT) {
        for (let i = 0; i < 4; i++) out.addresses[out.count * 4 + i] = view.getInt32(option + 4 + 4 * i);
        out.valid_s[out.count] = view.getUint32(option + 24);
        out.count++;
      }
    }
    option = next;
  }
  return true;
}
