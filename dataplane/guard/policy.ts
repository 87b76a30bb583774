/**
 * What one port's guard allows, compiled for the frame path: lists of words instead of text. Pure.
 */
import type { PortGuard } from '../contract.js';
import { parseCidr, parseMac } from '../../host/ip.js';
import type { Leases } from './leases.js';
import { MAPPED } from './leases.js';

/** Per prefix: four words, four masks, and the MAC address it is bound to. */
const STRIDE = 11;
const MASKS = 4;
const IS_BOUND = 8;
const MAC_HIGH = 9;
const MAC_LOW = 10;
const ALL_ONES = -1;

export class Policy {
  readonly config: PortGuard;
  readonly port: number;
  /** Any source when there is none. */
  readonly #macs: Int32Array;
  readonly checksMac: boolean;
  readonly #prefixes: Int32Array;
  /** IP sources are judged. */
  readonly checksAddress: boolean;
  /** Something beyond MAC addresses is judged: then headers are read, and the kernel cannot do it for us. */
  readonly looksInside: boolean;
  readonly anyLinkLocal: boolean;

  // This second's packets, for the rates.
  #second_ms = -1000;
  #arpCount = 0;
  #ndCount = 0;

  constructor(config: PortGuard, port: number) {
    this.config = config;
    this.port = port;
    const macs = (config.macs ?? []).flatMap(text => macWords(text));
    this.#macs = Int32Array.from(macs);
    this.checksMac = config.macs !== undefined;
    this.#prefixes = Int32Array.from(
      (config.addresses ?? []).flatMap(({ prefix, mac }) => words(prefix, mac)),
    );
    this.checksAddress = config.addresses !== undefined || config.leases;
    this.anyLinkLocal = config.linkLocal === 'any';
    this.looksInside =
      this.checksAddress ||
      config.arp !== undefined ||
      config.nd !== undefined ||
      !config.dhcpServer ||
      !config.router;
  }

  allowsMac(high16: number, low32: number): boolean {
    const macs = this.#macs;
    for (let i = 0; i < macs.length; i += 2) if (macs[i + 1] === low32 && macs[i] === high16) return true;
    return false;
  }

  allowsIpv4(address: number, high16: number, low32: number, leases: Leases, now_ms: number): boolean {
    return this.allows(0, 0, MAPPED, address, high16, low32, leases, now_ms);
  }

  /** Whether this station may speak as this address: listed here, or leased to this port. */
  allows(
    a: number,
    b: number,
    c: number,
    d: number,
    high16: number,
    low32: number,
    leases: Leases,
    now_ms: number,
  ): boolean {
    const list = this.#prefixes;
    for (let i = 0; i < list.length; i += STRIDE) {
      if (list[i + IS_BOUND]! !== 0 && (list[i + MAC_HIGH] !== high16 || list[i + MAC_LOW] !== low32))
        continue;
      if (
        ((d ^ list[i + 3]!) & list[i + MASKS + 3]!) === 0 &&
        ((c ^ list[i + 2]!) & list[i + MASKS + 2]!) === 0 &&
        ((b ^ list[i + 1]!) & list[i + MASKS + 1]!) === 0 &&
        ((a ^ list[i]!) & list[i + MASKS]!) === 0
      )
        return true;
    }
    if (!this.config.leases) return false;
    const lease = leases.find(this.port, a, b, c, d, now_ms);
    return lease !== undefined && lease.macHigh === high16 && lease.macLow === low32;
  }

  /** One more ARP packet; false: there were too many this second. */
  arpConforms(now_ms: number): boolean {
    this.#newSecond(now_ms);
    return ++this.#arpCount <= (this.config.arp?.rate_pps ?? Infinity);
  }

  ndConforms(now_ms: number): boolean {
    this.#newSecond(now_ms);
    return ++this.#ndCount <= (this.config.nd?.rate_pps ?? Infinity);
  }

  #newSecond(now_ms: number): void {
    if (now_ms - this.#second_ms < 1000) return;
    this.#second_ms = now_ms;
    this.#arpCount = 0;
    this.#ndCount = 0;
  }
}

function macWords(text: string): [number, number] {
  const octets = parseMac(text);
  if (octets === undefined) return [0, 0];
  const view = new DataView(octets.buffer);
  return [view.getUint16(0), view.getInt32(2)];
}

/** None for what is no prefix. */
function words(prefix: string, mac: string | undefined): number[] {
  const cidr = parseCidr(prefix);
  if (cidr === undefined) return [];
  const isIpv4 = cidr.address.length === 4;
  const bits = cidr.prefix_bits + (isIpv4 ? 96 : 0);
  const address = new DataView(new ArrayBuffer(16));
  if (isIpv4) address.setInt32(8, MAPPED);
  for (const [i, octet] of cidr.address.entries()) address.setUint8(i + (isIpv4 ? 12 : 0), octet);
  const value = [0, 4, 8, 12].map(at => address.getInt32(at));
  const masks = [0, 1, 2, 3].map(word => {
    const own = Math.min(32, Math.max(0, bits - 32 * word));
    return own === 32 ? ALL_ONES : own === 0 ? 0 : ~(0xffff_ffff >>> own);
  });
  const bound = mac === undefined ? [0, 0, 0] : [1, ...macWords(mac)];
  return [...value, ...masks, ...bound];
}
