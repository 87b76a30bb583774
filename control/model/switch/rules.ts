/**
 * Flow rules, as users say them, and in the plane's words:
 *
 *   rules:
 *     default: allow
 *     meters: { guests: { rate: 10Mbit, burst: 64KiB } }
 *     list:
 *       - { name: no-telnet, priority: 100, match: { protocol: tcp, destinationPort: 23 }, do: drop }
 *       - { name: slow, match: { in: alice.nic0 }, do: { meter: guests } }
 */
import { z } from 'zod';
import { coveredRules } from '../../../dataplane/contract.js';
import type { FlowActions, FlowMatch, FlowMeter, FlowRule, FlowRules } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import { didYouMean, someOf } from '../nearest.js';
import type { SwitchSpec } from '../spec.js';
import { BitRate, Name, Size, VlanRange, parseBitRate_bps, parseSize } from '../words.js';
import { vlanRanges } from '../ranges.js';
import { VlanId } from '../../../dataplane/contract.js';
import * as read from './ruleWords.js';

const oneOrMany = <T extends z.ZodType>(one: T) => z.union([one, z.array(one).min(1).max(256)]);

const Mac = z
  .string()
  .refine(
    text => read.macPattern(text) !== undefined,
    'a MAC address is written 02:00:00:00:00:01, with a mask 02:00:00:00:00:00/ff:ff:ff:00:00:00',
  );
const StationAddress = z
  .string()
  .regex(
    /^[0-9a-f][0-9a-f](:[0-9a-f]{2}){5}$/,
    'a MAC address is six lower-case hexadecimal bytes with colons',
  );
const Prefix = z
  .string()
  .refine(
    text => read.isPrefix(text),
    'an address or a prefix is expected: 10.0.0.1, 10.0.0.0/8, 2001:db8::/32',
  );
const Port = z
  .union([z.int().min(0).max(65_535), z.string()])
  .refine(
    value => read.portRange(value) !== undefined,
    'a port is a number from 0 to 65535, or a range "1024-65535"',
  );
const named = (table: Readonly<Record<string, number>>, max: number, what: string) =>
  z
    .union([z.int(), z.string()])
    .refine(
      value => read.named(table, value, max) !== undefined,
      `${what} is a number up to ${max} or one of: ${Object.keys(table).join(', ')}`,
    );

const PortName = z.string().min(1).max(64);

export const MatchWords = z
  .strictObject({
    in: oneOrMany(PortName)
      .optional()
      .meta({ description: 'ports that the frame came in by; a machine has alice.nic0' }),
    sourceMac: oneOrMany(Mac).optional(),
    destinationMac: oneOrMany(Mac).optional(),
    etherType: oneOrMany(named(read.ETHER_TYPES, 0xffff, 'a type')).optional(),
    vlan: oneOrMany(VlanRange).optional(),
    vlanPriority: oneOrMany(z.int().min(0).max(7)).optional().meta({ description: '802.1p' }),
    arp: z
      .strictObject({
        op: oneOrMany(named(read.ARP_OPERATIONS, 255, 'an operation')).optional(),
        senderMac: oneOrMany(Mac).optional(),
        targetMac: oneOrMany(Mac).optional(),
        sender: oneOrMany(Prefix).optional(),
        target: oneOrMany(Prefix).optional(),
      })
      .optional(),
    ip: z
      .union([z.literal(4), z.literal(6)])
      .optional()
      .meta({ description: 'IP version' }),
    source: oneOrMany(Prefix).optional().meta({ description: 'of IPv4 and IPv6 packets' }),
    destination: oneOrMany(Prefix).optional(),
    protocol: oneOrMany(named(read.PROTOCOLS, 255, 'a protocol')).optional(),
    sourcePort: oneOrMany(Port).optional(),
    destinationPort: oneOrMany(Port).optional(),
    tcpFlags: oneOrMany(
      z
        .string()
        .refine(
          text => read.tcpFlags(text) !== undefined,
          `flags are written "syn !ack": ${read.TCP_FLAGS.join(', ')}, each with ! when it must not be set`,
        ),
    ).optional(),
    icmpType: oneOrMany(named(read.ICMP_TYPES, 255, 'a type')).optional(),
    icmpCode: z.int().min(0).max(255).optional(),
    dscp: oneOrMany(named(read.DSCPS, 63, 'a code point')).optional(),
    fragment: z
      .enum(['none', 'first', 'later', 'any'])
      .optional()
      .meta({ description: 'a rule with ports never matches later fragments: they do not show them' }),
  })
  .superRefine((match, context) => {
    const withPorts = match.sourcePort !== undefined || match.destinationPort !== undefined;
    const say = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (withPorts && match.protocol === undefined)
      say(
        match.sourcePort === undefined ? 'destinationPort' : 'sourcePort',
        'a port needs a protocol: tcp, udp or sctp',
      );
    if (withPorts && match.icmpType !== undefined) say('icmpType', 'ICMP has no ports');
    if (match.icmpCode !== undefined && match.icmpType === undefined)
      say('icmpCode', 'a code needs an icmpType');
    if (withPorts)
      for (const protocol of many(match.protocol))
        if (!read.PROTOCOLS_WITH_PORTS.includes(read.named(read.PROTOCOLS, protocol, 255) ?? -1))
          say('protocol', `"${protocol}" has no ports: tcp, udp, sctp, dccp and udplite have`);
    if (match.icmpType !== undefined && icmpVersions(match).length === 0)
      say('icmpType', 'an icmpType needs protocol: icmp (IPv4) or icmp6 (IPv6)');
  });
export type MatchWords = z.infer<typeof MatchWords>;

const VERDICTS = ['allow', 'drop', 'count'] as const;

export const ActionWords = z.union([
  z.enum(VERDICTS).meta({ description: 'count: only counts, and asks the next rule' }),
  z
    .strictObject({
      output: oneOrMany(PortName)
        .optional()
        .meta({ description: 'leaves by these ports, without being looked up' }),
      mirror: Name.optional().meta({ description: 'a mirror session, which gets a copy' }),
      setVlan: VlanId.optional(),
      setSourceMac: StationAddress.optional(),
      setDestinationMac: StationAddress.optional(),
      setDscp: named(read.DSCPS, 63, 'a code point').optional(),
      setPriority: z.int().min(0).max(7).optional().meta({ description: '802.1p, by which it is queued' }),
      meter: Name.optional(),
      log: z
        .boolean()
        .optional()
        .meta({ description: 'an event for what it matches, once a second at most' }),
      next: z
        .boolean()
        .optional()
        .meta({ description: 'then asks the next rule; without it, what is left is allowed' }),
      drop: z.literal(true).optional().meta({ description: 'with mirror or log' }),
    })
    .superRefine((actions, context) => {
      const say = (path: string, message: string): void =>
        context.addIssue({ code: 'custom', path: [path], message });
      if (Object.keys(actions).length === 0)
        context.addIssue({ code: 'custom', message: 'says nothing to do' });
      if (actions.drop && actions.output !== undefined) say('output', 'what is dropped does not leave');
      if (actions.next && actions.output !== undefined)
        say('next', 'what leaves by output is not asked about again');
      if (actions.next && actions.drop) say('next', 'what is dropped is not asked about again');
    }),
]);
export type ActionWords = z.infer<typeof ActionWords>;

export const RuleWords = z.strictObject({
  name: Name,
  priority: z
    .int()
    .min(0)
    .max(65_535)
    .default(0)
    .meta({ description: 'the highest that matches decides; of equals the one written first' }),
  match: MatchWords.default({}),
  do: ActionWords,
});

const CONTINUING_MAX = 64;

/** On a switch. */
export const SwitchWords = z.strictObject({
  default: z.enum(['allow', 'drop']).default('allow').meta({ description: 'of frames that no rule matches' }),
  meters: z
    .record(
      Name,
      z.strictObject({
        rate: BitRate,
        burst: Size.default('64KiB'),
        exceed: z
          .union([z.literal('drop'), z.strictObject({ setDscp: named(read.DSCPS, 63, 'a code point') })])
          .default('drop'),
      }),
    )
    .default({}),
  list: z.array(RuleWords).max(10_000).default([]),
});
export type SwitchWords = z.infer<typeof SwitchWords>;

function many<T>(value: T | readonly T[] | undefined): T[] {
  return value === undefined ? [] : Array.isArray(value) ? [...(value as T[])] : [value as T];
}

function icmpVersions(match: MatchWords): (4 | 6)[] {
  const protocols = many(match.protocol).map(protocol => read.named(read.PROTOCOLS, protocol, 255));
  return [...(protocols.includes(1) ? [4 as const] : []), ...(protocols.includes(58) ? [6 as const] : [])];
}

/** `{key: list}` when something is said, nothing when not. */
function some<K extends string, W, P>(
  key: K,
  words: W | readonly W[] | undefined,
  turn: (one: W) => P | undefined,
) {
  // What the schema let through turns into something.
  const list = many(words)
    .map(turn)
    .filter(one => one !== undefined);
  return (words === undefined ? {} : { [key]: list }) as { [k in K]?: P[] };
}

function matchToPlane(match: MatchWords): FlowMatch {
  const { arp } = match;
  const number = (table: Readonly<Record<string, number>>, max: number) => (value: string | number) =>
    read.named(table, value, max);
  const icmp = many(match.icmpType).flatMap(value =>
    icmpVersions(match).map(version => ({
      version,
      type: read.named(version === 6 ? read.ICMP6_TYPES : read.ICMP_TYPES, value, 255) ?? 0,
      ...(match.icmpCode === undefined ? {} : { code: match.icmpCode }),
    })),
  );
  return {
    ...some('inPorts', match.in, name => name),
    ...some('sourceMacs', match.sourceMac, read.macPattern),
    ...some('destinationMacs', match.destinationMac, read.macPattern),
    ...some('etherTypes', match.etherType, number(read.ETHER_TYPES, 0xffff)),
    ...(match.vlan === undefined ? {} : { vlans: vlanRanges(many(match.vlan)) }),
    ...some('priorities', match.vlanPriority, n => n),
    ...(arp === undefined
      ? {}
      : {
          arp: {
            ...some('operations', arp.op, number(read.ARP_OPERATIONS, 255)),
            ...some('senderMacs', arp.senderMac, read.macPattern),
            ...some('targetMacs', arp.targetMac, read.macPattern),
            ...some('senders', arp.sender, text => text),
            ...some('targets', arp.target, text => text),
          },
        }),
    ...(match.ip === undefined ? {} : { ipVersion: match.ip }),
    ...some('sources', match.source, text => text),
    ...some('destinations', match.destination, text => text),
    ...some('protocols', match.protocol, number(read.PROTOCOLS, 255)),
    ...some('sourcePorts', match.sourcePort, read.portRange),
    ...some('destinationPorts', match.destinationPort, read.portRange),
    ...some('tcpFlags', match.tcpFlags, read.tcpFlags),
    ...(icmp.length === 0 ? {} : { icmp }),
    ...some('dscps', match.dscp, number(read.DSCPS, 63)),
    ...(match.fragment === undefined ? {} : { fragment: match.fragment }),
  };
}

function actionsToPlane(words: ActionWords): FlowActions {
  if (typeof words === 'string') return { verdict: words === 'count' ? 'continue' : words };
  const { output, next, drop, setDscp, ...same } = words;
  const verdict = drop ? 'drop' : next ? 'continue' : output === undefined ? 'allow' : 'output';
  return {
    verdict,
    ...(output === undefined ? {} : { output: many(output) }),
    ...(setDscp === undefined ? {} : { setDscp: read.named(read.DSCPS, setDscp, 63) ?? 0 }),
    ...same,
  };
}

function ruleToPlane({ name, priority, match, do: actions }: z.infer<typeof RuleWords>): FlowRule {
  return { name, priority, match: matchToPlane(match), actions: actionsToPlane(actions) };
}

export function switchToPlane(words: SwitchWords): FlowRules {
  return {
    default: words.default,
    meters: Object.entries(words.meters).map(([name, { rate, burst, exceed }]): FlowMeter => ({
      name,
      rate_bps: Math.round(parseBitRate_bps(rate) ?? Number.NaN),
      burst_bytes: parseSize(burst) ?? Number.NaN,
      exceed: exceed === 'drop' ? 'drop' : { setDscp: read.named(read.DSCPS, exceed.setDscp, 63) ?? 0 },
    })),
    rules: words.list.map(ruleToPlane),
  };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(spec: SwitchSpec, ports: ReadonlySet<string>): Generator<Fault> {
  const { rules } = spec;
  if (rules === undefined) return;
  const value = (path: (string | number)[], message: string): Fault => ({
    path: ['rules', ...path],
    blame: 'value',
    message,
  });
  for (const [name, meter] of Object.entries(rules.meters)) {
    const rate_bps = parseBitRate_bps(meter.rate) ?? 0;
    if (rate_bps < 1000 || rate_bps > 1e12)
      yield value(['meters', name, 'rate'], `"${meter.rate}" is out of range: 1kbit to 1000Gbit`);
    const burst_bytes = parseSize(meter.burst) ?? 0;
    if (burst_bytes < 1514 || burst_bytes > 2 ** 31 - 1)
      yield value(
        ['meters', name, 'burst'],
        `"${meter.burst}" is out of range: a whole frame (1514B) to 2GiB`,
      );
  }
  const seen = new Map<string, number>();
  const sessions = Object.keys(spec.mirrors ?? {});
  let continuing = 0;
  for (const [index, rule] of rules.list.entries()) {
    const at = ['list', index];
    const first = seen.get(rule.name);
    if (first === undefined) seen.set(rule.name, index);
    else yield value([...at, 'name'], `rule ${first + 1} of this list is named "${rule.name}" already`);
    yield* references(rule, index, ports, rules, sessions);
    if (actionsToPlane(rule.do).verdict === 'continue' && ++continuing > CONTINUING_MAX)
      yield value([...at, 'do'], `at most ${CONTINUING_MAX} rules of a switch may ask the next one`);
  }
  for (const { rule, by } of coveredRules(switchToPlane(rules).rules))
    yield {
      ...value(
        ['list', rule, 'name'],
        `rule "${rules.list[rule]!.name}" can never match: all that it could is taken by rule "${rules.list[by]!.name}"`,
      ),
      isWarning: true,
      other: { path: ['rules', 'list', by, 'name'], says: 'which stands' },
    };
}

function* references(
  rule: z.infer<typeof RuleWords>,
  index: number,
  ports: ReadonlySet<string>,
  rules: SwitchWords,
  sessions: readonly string[],
): Generator<Fault> {
  const unknown = (path: (string | number)[], what: string, name: string, known: Iterable<string>): Fault => {
    const names = [...known];
    const hint =
      didYouMean(name, names) ||
      (names.length === 0 ? `; there is no ${what} at all` : `; there are: ${someOf(names)}`);
    return {
      path: ['rules', 'list', index, ...path],
      blame: 'value',
      message: `no ${what} "${name}" here${hint}`,
    };
  };
  for (const name of many(rule.match.in))
    if (!ports.has(name)) yield unknown(['match', 'in'], 'port', name, ports);
  if (typeof rule.do === 'string') return;
  for (const name of many(rule.do.output))
    if (!ports.has(name)) yield unknown(['do', 'output'], 'port', name, ports);
  const { meter, mirror } = rule.do;
  if (meter !== undefined && !(meter in rules.meters))
    yield unknown(['do', 'meter'], 'meter', meter, Object.keys(rules.meters));
  if (mirror !== undefined && !sessions.includes(mirror))
    yield unknown(['do', 'mirror'], 'mirror session', mirror, sessions);
}
