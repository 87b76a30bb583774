/**
 * Rules that can never decide, since one that is asked earlier takes all that they could match. Judged by each field
 * alone: what only several earlier rules together cover is not found, and nothing is said that is not so.
 */
import type { FlowMatch, FlowRule, MacPattern } from './rules.js';

/** Every pair is looked at: beyond so many rules nothing is said. */
const RULES_MAX_COUNT = 3000;

export interface Covered {
  /** Places in the list as it was given. */
  rule: number;
  by: number;
}

export function coveredRules(rules: readonly FlowRule[]): Covered[] {
  if (rules.length > RULES_MAX_COUNT) return [];
  const order = rules.map((_, index) => index).sort((a, b) => rules[b]!.priority - rules[a]!.priority);
  const covered: Covered[] = [];
  for (const [rank, rule] of order.entries())
    for (const by of order.slice(0, rank)) {
      if (rules[by]!.actions.verdict === 'continue' || !covers(rules[by]!.match, rules[rule]!.match))
        continue;
      covered.push({ rule, by });
      break;
    }
  return covered;
}

/** Whatever `b` matches, `a` matches. False when in doubt. */
export function covers(a: FlowMatch, b: FlowMatch): boolean {
  return (
    all(a.inPorts, b.inPorts, equal) &&
    all(a.sourceMacs, b.sourceMacs, macWithin) &&
    all(a.destinationMacs, b.destinationMacs, macWithin) &&
    all(a.etherTypes, b.etherTypes, equal) &&
    all(joined(a.vlans), b.vlans, rangeWithin) &&
    all(a.priorities, b.priorities, equal) &&
    arpCovers(a.arp, b.arp) &&
    all(a.sources, b.sources, prefixWithin) &&
    all(a.destinations, b.destinations, prefixWithin) &&
    (a.ipVersion === undefined || a.ipVersion === b.ipVersion) &&
    all(a.protocols, b.protocols, equal) &&
    all(joined(a.sourcePorts), b.sourcePorts, rangeWithin) &&
    all(joined(a.destinationPorts), b.destinationPorts, rangeWithin) &&
    // A port without a protocol means any that has ports.
    (b.protocols !== undefined || a.protocols === undefined) &&
    all(a.tcpFlags, b.tcpFlags, (x, y) => (x.mask & ~y.mask) === 0 && ((x.value ^ y.value) & x.mask) === 0) &&
    all(
      a.icmp,
      b.icmp,
      (x, y) => x.version === y.version && x.type === y.type && (x.code === undefined || x.code === y.code),
    ) &&
    all(a.dscps, b.dscps, equal) &&
    (a.fragment === undefined || a.fragment === b.fragment || (a.fragment === 'any' && isPart(b.fragment)))
  );
}

const isPart = (fragment: FlowMatch['fragment']): boolean => fragment === 'first' || fragment === 'later';

/** Each alternative of `b` lies within one of `a`. */
function all<T>(
  a: readonly T[] | undefined,
  b: readonly T[] | undefined,
  within: (a: T, b: T) => boolean,
): boolean {
  if (a === undefined) return true;
  return b !== undefined && b.every(inner => a.some(outer => within(outer, inner)));
}

const equal = (a: string | number, b: string | number): boolean => a === b;

function arpCovers(a: FlowMatch['arp'], b: FlowMatch['arp']): boolean {
  if (a === undefined) return true;
  return (
    b !== undefined &&
    all(a.operations, b.operations, equal) &&
    all(a.senderMacs, b.senderMacs, macWithin) &&
    all(a.targetMacs, b.targetMacs, macWithin) &&
    all(a.senders, b.senders, prefixWithin) &&
    all(a.targets, b.targets, prefixWithin)
  );
}

type Range = readonly [number, number];

const rangeWithin = (a: Range, b: Range): boolean => a[0] <= b[0] && b[1] <= a[1];

/** Neighbours and overlapping ones become one. */
function joined(ranges: readonly Range[] | undefined): Range[] | undefined {
  if (ranges === undefined) return undefined;
  const list: [number, number][] = [];
  for (const [first, last] of ranges.toSorted((x, y) => x[0] - y[0])) {
    const before = list.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else list.push([first, last]);
  }
  return list;
}

const octets = (mac: string): number[] => mac.split(':').map(part => Number.parseInt(part, 16));

function macWithin(a: MacPattern, b: MacPattern): boolean {
  const [aMask, bMask, aAddress, bAddress] = [a.mask, b.mask, a.address, b.address].map(octets);
  return aMask!.every(
    (mask, i) => (mask & ~bMask![i]!) === 0 && ((aAddress![i]! ^ bAddress![i]!) & mask) === 0,
  );
}

/** As 128 bits, IPv4 apart from IPv6. Only equal texts are compared where a text is not plain. */
function prefixWithin(a: string, b: string): boolean {
  if (a === b) return true;
  const [x, y] = [bitsOf(a), bitsOf(b)];
  return x !== undefined && y !== undefined && x.family === y.family && y.bits.startsWith(x.bits);
}

/** The leading bits of a prefix, as text. */
function bitsOf(text: string): { family: number; bits: string } | undefined {
  const [address = '', length] = text.split('/');
  const isIpv6 = address.includes(':');
  const groups = isIpv6 ? ipv6Groups(address) : address.split('.').map(Number);
  if (groups === undefined || groups.some(Number.isNaN)) return undefined;
  const bits = groups.map(group => group.toString(2).padStart(isIpv6 ? 16 : 8, '0')).join('');
  return { family: isIpv6 ? 6 : 4, bits: length === undefined ? bits : bits.slice(0, Number(length)) };
}

function ipv6Groups(text: string): number[] | undefined {
  if (text.includes('.')) return undefined;
  const halves = text
    .split('::')
    .map(half => (half === '' ? [] : half.split(':').map(group => Number.parseInt(group, 16))));
  const [head = [], tail] = halves;
  if (tail === undefined) return head.length === 8 ? head : undefined;
  return [...head, ...Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => 0), ...tail];
}
