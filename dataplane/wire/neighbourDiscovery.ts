/**
 * Neighbour discovery for IPv6 (RFC 4861 4): ICMPv6 types 133 to 137.
 *
 *   0 type | 1 code | 2 checksum | 4 reserved, flags … | options, each: type, length in eights of octets, …
 *   solicitation and advertisement of neighbours: 8 target 16; redirect: 8 target 16 | 24 destination 16
 */
export const ROUTER_SOLICITATION = 133;
export const ROUTER_ADVERTISEMENT = 134;
export const NEIGHBOUR_SOLICITATION = 135;
export const NEIGHBOUR_ADVERTISEMENT = 136;
export const REDIRECT = 137;
export const TARGET = 8;

const OPTION_SOURCE_LINK_LAYER = 1;
const OPTION_TARGET_LINK_LAYER = 2;

/** Where options begin, by type from 133 on. */
const OPTIONS_AT = [8, 16, 24, 24, 40];

export interface Found {
  /** The sender's own address at the link layer, if an option says one: of the right kind for its type. */
  hasLinkLayer: boolean;
  linkLayerHigh: number;
  linkLayerLow: number;
}

export function isNeighbourDiscovery(type: number): boolean {
  return type >= ROUTER_SOLICITATION && type <= REDIRECT;
}

/** RFC 4861 6.1, 7.1, 8.1: code 0, long enough, options that are not of no length and end where the message does. */
export function parse(view: DataView, at: number, end: number, out: Found): boolean {
  out.hasLinkLayer = false;
  if (end - at < 8) return false;
  const type = view.getUint8(at);
  if (!isNeighbourDiscovery(type) || view.getUint8(at + 1) !== 0) return false;
  // An advertisement speaks of its target; everything else that says an address says the sender's.
  const wanted = type === NEIGHBOUR_ADVERTISEMENT ? OPTION_TARGET_LINK_LAYER : OPTION_SOURCE_LINK_LAYER;
  let option = at + OPTIONS_AT[type - ROUTER_SOLICITATION]!;
  if (option > end) return false;
  while (option < end) {
    if (option + 2 > end) return false;
    const length_bytes = view.getUint8(option + 1) * 8;
    if (length_bytes === 0 || option + length_bytes > end) return false;
    if (view.getUint8(option) === wanted && !out.hasLinkLayer) {
      out.hasLinkLayer = true;
      out.linkLayerHigh = view.getUint16(option + 2);
      out.linkLayerLow = view.getInt32(option + 4);
    }
    option += length_bytes;
  }
  return true;
}
