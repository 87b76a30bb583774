/**
 * A rule's match as patterns over the key (key.ts): each a value under a mask, one of which must fit. Lists are
 * multiplied out, ranges become prefixes: a range of 16-bit numbers is at most thirty of them.
 */
import type { FlowMatch, MacPattern } from '../contract.js';
import { parseCidr, parseMac } from '../../host/ip.js';
import * as ethernet from '../wire/ethernet.js';
import * as k from './key.js';

export interface Pattern {
  readonly value: number[];
  readonly mask: number[];
}

/** What one rule may come to; beyond it the rule is refused. */
export const PATTERNS_OF_RULE_MAX = 8192;

const PRODUCT_MAX = 4 * PATTERNS_OF_RULE_MAX;

export class RuleTooWide extends Error {}

const tooWide = (): RuleTooWide =>
  new RuleTooWide(
    `its lists and ranges multiply to more than ${PATTERNS_OF_RULE_MAX} patterns: split it, or name wider ranges`,
  );

/** RFC 9293, RFC 768, RFC 9260, RFC 4340, RFC 3828: those with ports. */
const WITH_PORTS = [k.PROTOCOL_TCP, k.PROTOCOL_UDP, k.PROTOCOL_SCTP, k.PROTOCOL_DCCP, k.PROTOCOL_UDP_LITE];

const ANY_IP = 4 << k.VERSION_SHIFT;
const VERSION_MASK = 7 << k.VERSION_SHIFT;

/** Plain arrays: making typed ones is what building would spend its time with. */
const zeros = (): number[] => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

function pattern(...words: [word: number, value: number, mask: number][]): Pattern {
  const made = { value: zeros(), mask: zeros() };
  for (const [word, value, mask] of words) {
    made.value[word]! |= value & mask;
    made.mask[word]! |= mask;
  }
  return made;
}

/** Both must fit; undefined when nothing can fit both. */
function and(a: Pattern, b: Pattern): Pattern | undefined {
  const both = { value: zeros(), mask: zeros() };
  for (let w = 0; w < k.KEY_WORDS; w++) {
    if (((a.value[w]! ^ b.value[w]!) & a.mask[w]! & b.mask[w]!) !== 0) return undefined;
    both.value[w] = a.value[w]! | b.value[w]!;
    both.mask[w] = a.mask[w]! | b.mask[w]!;
  }
  return both;
}

/** Value and mask of the prefixes that together are first … last, of numbers of `bits` bits. */
export function prefixesOfRange(first: number, last: number, bits: number): [value: number, mask: number][] {
  const all = 2 ** bits - 1;
  const prefixes: [number, number][] = [];
  for (let from = first; from <= last;) {
    let size = 1;
    while (size * 2 <= all + 1 && from % (size * 2) === 0 && from + size * 2 - 1 <= last) size *= 2;
    prefixes.push([from, all & ~(size - 1)]);
    from += size;
  }
  return prefixes;
}

/** Ranges that meet or overlap are one, or their prefixes would be multiplied out twice. */
function ranges(list: readonly (readonly [number, number])[], bits: number): [number, number][] {
  const joined: [number, number][] = [];
  for (const [first, last] of list.toSorted(([a], [b]) => a - b)) {
    const before = joined.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else joined.push([first, last]);
  }
  return joined.flatMap(([first, last]) => prefixesOfRange(first, last, bits));
}

function once<T>(list: readonly T[]): T[] {
  return [...new Set(list)];
}

/** Of the mask's bits; octets 0-1 into the upper or lower half of one word, the others into another. */
function mac(one: MacPattern, high: number, shift: number, low: number): Pattern {
  const address = parseMac(one.address);
  const mask = parseMac(one.mask);
  if (address === undefined || mask === undefined)
    throw new RuleTooWide(`"${one.address}" is no MAC address`);
  const octets = (of: Uint8Array) => new DataView(of.buffer, of.byteOffset);
  return pattern(
    [high, octets(address).getUint16(0) << shift, octets(mask).getUint16(0) << shift],
    [low, octets(address).getInt32(2), octets(mask).getInt32(2)],
  );
}

function prefix(text: string, word: number): Pattern {
  const cidr = parseCidr(text);
  if (cidr === undefined) throw new RuleTooWide(`"${text}" is no address and no prefix`);
  const isIpv6 = cidr.address.length === 16;
  const words: [number, number, number][] = [[k.W_IP, (isIpv6 ? 6 : 4) << k.VERSION_SHIFT, VERSION_MASK]];
  const view = new DataView(cidr.address.buffer, cidr.address.byteOffset);
  for (let i = 0; i < cidr.address.length / 4; i++) {
    const bits = Math.min(32, Math.max(0, cidr.prefix_bits - 32 * i));
    if (bits > 0) words.push([word + i, view.getInt32(4 * i), bits === 32 ? -1 : ~(0xffff_ffff >>> bits)]);
  }
  return pattern(...words);
}

/** In ARP the addresses stand in the same words, and there is no version. */
function arpPrefix(text: string, word: number): Pattern {
  const found = prefix(text, word);
  found.value[k.W_IP] = 0;
  found.mask[k.W_IP] = 0;
  return found;
}

const FRAGMENTS: Readonly<Record<NonNullable<FlowMatch['fragment']>, [number, number]>> = {
  none: [k.FRAGMENT_NONE, 3],
  first: [k.FRAGMENT_FIRST, 3],
  later: [k.FRAGMENT_LATER, 3],
  any: [1, 1],
};

/** Each field as its alternatives; `portNumber` knows the ports that there are. */
function* fields(match: FlowMatch, portNumber: (name: string) => number | undefined): Generator<Pattern[]> {
  const ip = (value: number, mask: number) => pattern([k.W_IP, value, mask], [k.W_IP, ANY_IP, ANY_IP]);
  if (match.inPorts !== undefined)
    yield once(match.inPorts).flatMap(name => {
      const port = portNumber(name);
      return port === undefined ? [] : [pattern([k.W_PORT_TYPE, port, 0xffff])];
    });
  if (match.etherTypes !== undefined)
    yield once(match.etherTypes).map(type =>
      pattern([k.W_PORT_TYPE, type << k.TYPE_SHIFT, 0xffff << k.TYPE_SHIFT]),
    );
  if (match.vlans !== undefined)
    yield ranges(match.vlans, 12).map(([value, mask]) => pattern([k.W_VLAN, value, mask]));
  if (match.priorities !== undefined)
    yield once(match.priorities).map(p => pattern([k.W_VLAN, p << k.PRIORITY_SHIFT, 7 << k.PRIORITY_SHIFT]));
  if (match.destinationMacs !== undefined)
    yield match.destinationMacs.map(one => mac(one, k.W_MAC_HIGH, 16, k.W_DESTINATION_LOW));
  if (match.sourceMacs !== undefined)
    yield match.sourceMacs.map(one => mac(one, k.W_MAC_HIGH, 0, k.W_SOURCE_LOW));
  if (match.arp !== undefined) yield* arpFields(match.arp);
  if (match.ipVersion !== undefined)
    yield [pattern([k.W_IP, match.ipVersion << k.VERSION_SHIFT, VERSION_MASK])];
  if (match.sources !== undefined) yield once(match.sources).map(text => prefix(text, k.W_SOURCE));
  if (match.destinations !== undefined)
    yield once(match.destinations).map(text => prefix(text, k.W_DESTINATION));
  const hasPorts = match.sourcePorts !== undefined || match.destinationPorts !== undefined;
  const protocols = match.protocols ?? (hasPorts ? WITH_PORTS : undefined);
  if (protocols !== undefined)
    // Numbers that stand for ports elsewhere are ICMP's type and code: of such a protocol no port can match.
    yield once(protocols)
      .filter(p => !hasPorts || WITH_PORTS.includes(p))
      .map(protocol => ip(protocol, 0xff));
  if (match.dscps !== undefined)
    yield once(match.dscps).map(dscp =>
      and(ip(0, 0), pattern([k.W_VLAN, dscp << k.DSCP_SHIFT, 63 << k.DSCP_SHIFT]))!,
    );
  if (match.fragment !== undefined) {
    const [value, mask] = FRAGMENTS[match.fragment];
    yield [ip(value << k.FRAGMENT_SHIFT, mask << k.FRAGMENT_SHIFT)];
  }
  const shown = pattern([k.W_IP, k.SHOWN, k.SHOWN]);
  if (hasPorts) yield [shown];
  if (match.sourcePorts !== undefined)
    yield ranges(match.sourcePorts, 16).map(([value, mask]) => pattern([k.W_L4, value << 16, mask << 16]));
  if (match.destinationPorts !== undefined)
    yield ranges(match.destinationPorts, 16).map(([value, mask]) => pattern([k.W_L4, value, mask]));
  if (match.tcpFlags !== undefined)
    yield match.tcpFlags.map(({ value, mask }) =>
      and(ip(k.PROTOCOL_TCP | k.SHOWN, 0xff | k.SHOWN), ip(value << k.FLAGS_SHIFT, mask << k.FLAGS_SHIFT))!,
    );
  if (match.icmp !== undefined)
    yield match.icmp.map(({ version, type, code }) =>
      pattern(
        [k.W_IP, version << k.VERSION_SHIFT, VERSION_MASK],
        [k.W_IP, (version === 4 ? k.PROTOCOL_ICMP : k.PROTOCOL_ICMP6) | k.SHOWN, 0xff | k.SHOWN],
        [k.W_L4, type << 16, 0xff << 16],
        ...(code === undefined ? [] : [[k.W_L4, code, 0xff] satisfies [number, number, number]]),
      ),
    );
}

function* arpFields(match: NonNullable<FlowMatch['arp']>): Generator<Pattern[]> {
  yield [
    pattern(
      [k.W_PORT_TYPE, ethernet.TYPE_ARP << k.TYPE_SHIFT, 0xffff << k.TYPE_SHIFT],
      [k.W_IP, k.SHOWN, k.SHOWN | VERSION_MASK],
    ),
  ];
  if (match.operations !== undefined)
    yield match.operations.map(operation => pattern([k.W_IP, operation, 0xff]));
  const words = [
    [match.senders, match.senderMacs, k.W_SOURCE],
    [match.targets, match.targetMacs, k.W_DESTINATION],
  ] as const;
  for (const [prefixes, macs, word] of words) {
    if (prefixes !== undefined)
      yield prefixes.filter(text => !text.includes(':')).map(text => arpPrefix(text, word));
    if (macs !== undefined) yield macs.map(one => mac(one, word + 1, 0, word + 2));
  }
}

/**
 * None: nothing can match it (a port that is not there, IPv4 to IPv6, …). Throws RuleTooWide when there would be more
 * than PATTERNS_OF_RULE_MAX.
 */
export function patternsOf(match: FlowMatch, portNumber: (name: string) => number | undefined): Pattern[] {
  let patterns = [pattern()];
  for (const alternatives of fields(match, portNumber)) {
    // Many of them may contradict each other; but a rule must not keep the engine busy with finding out.
    if (patterns.length * alternatives.length > PRODUCT_MAX) throw tooWide();
    const next: Pattern[] = [];
    for (const one of patterns)
      for (const other of alternatives) {
        const both = and(one, other);
        if (both !== undefined) next.push(both);
      }
    if (next.length > PATTERNS_OF_RULE_MAX) throw tooWide();
    patterns = next;
  }
  return patterns;
}

/** Whether a frame of this kind could fit: what the pattern says of type, version, protocol and `shown` allows it. */
export function canBe(one: Pattern, kind: number): boolean {
  const type =
    one.mask[k.W_PORT_TYPE]! >>> k.TYPE_SHIFT === 0 ? -1 : one.value[k.W_PORT_TYPE]! >>> k.TYPE_SHIFT;
  const value = one.value[k.W_IP]!;
  const mask = one.mask[k.W_IP]!;
  if (kind === k.KIND_OTHER || kind === k.KIND_ARP) {
    if ((value & mask & VERSION_MASK) !== 0) return false;
    if (kind === k.KIND_OTHER) return (value & mask & k.SHOWN) === 0;
    return type < 0 || type === ethernet.TYPE_ARP;
  }
  const isIpv6 = kind >= k.KIND_IPV6;
  const version = (isIpv6 ? 6 : 4) << k.VERSION_SHIFT;
  if (((value ^ version) & mask & VERSION_MASK) !== 0) return false;
  if (type >= 0 && type !== (isIpv6 ? ethernet.TYPE_IPV6 : ethernet.TYPE_IPV4)) return false;
  if ((mask & 0xff) === 0) return true;
  return k.kindOfProtocol(value & 0xff, isIpv6) === kind - (isIpv6 ? k.KIND_IPV6 : k.KIND_IPV4);
}
