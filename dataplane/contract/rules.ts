/**
 * Flow rules and meters of a switch. Lists are alternatives: one of them must hold; of several fields all must.
 * What is left out matches anything.
 *
 * A rule that names ports of TCP or the like, flags or a type of ICMP matches only packets that show them: never a
 * later fragment. Of frames whose IP headers contradict themselves nothing can be said; a switch with a rule about IP
 * drops them (`dropRulesMalformed`).
 */
import { z } from 'zod';
import { VlanRanges } from './vlan.js';
import { VlanId } from './vlan.js';

const Mac = z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
/** Bits of `address` where `mask` has them; a full mask is ff:ff:ff:ff:ff:ff. */
export const MacPattern = z.strictObject({ address: Mac, mask: Mac });
export type MacPattern = z.infer<typeof MacPattern>;

/** `192.0.2.0/24`, `2001:db8::/32`, or one address. */
const Prefix = z.string().min(2).max(49);
const Octet = z.int().min(0).max(255);
const PortRanges = z
  .array(z.tuple([z.int().min(0).max(65_535), z.int().min(0).max(65_535)]))
  .min(1)
  .max(256);

export const FlowMatch = z.strictObject({
  /** Names of ports that the frame came in by. */
  inPorts: z.array(z.string().min(1).max(64)).min(1).max(4096).optional(),
  sourceMacs: z.array(MacPattern).min(1).max(256).optional(),
  destinationMacs: z.array(MacPattern).min(1).max(256).optional(),
  /** Behind all tags. */
  etherTypes: z.array(z.int().min(0).max(0xffff)).min(1).max(64).optional(),
  vlans: VlanRanges.min(1).optional(),
  /** 802.1p, of the tag or of the port. */
  priorities: z.array(z.int().min(0).max(7)).min(1).max(8).optional(),
  /** ARP for IPv4 over Ethernet only. */
  arp: z
    .strictObject({
      operations: z.array(Octet).min(1).max(16).optional(),
      senderMacs: z.array(MacPattern).min(1).max(64).optional(),
      targetMacs: z.array(MacPattern).min(1).max(64).optional(),
      senders: z.array(Prefix).min(1).max(256).optional(),
      targets: z.array(Prefix).min(1).max(256).optional(),
    })
    .optional(),
  /** Of either family, mixed at will; a frame has one, so source and destination must have one in common. */
  sources: z.array(Prefix).min(1).max(256).optional(),
  destinations: z.array(Prefix).min(1).max(256).optional(),
  /** 4 or 6: only packets of this version. */
  ipVersion: z.union([z.literal(4), z.literal(6)]).optional(),
  protocols: z.array(Octet).min(1).max(64).optional(),
  sourcePorts: PortRanges.optional(),
  destinationPorts: PortRanges.optional(),
  /** RFC 9293 3.1: the octet of flags; bits under `mask` must be as in `value`. */
  tcpFlags: z
    .array(z.strictObject({ value: Octet, mask: Octet }))
    .min(1)
    .max(16)
    .optional(),
  icmp: z
    .array(
      z.strictObject({ version: z.union([z.literal(4), z.literal(6)]), type: Octet, code: Octet.optional() }),
    )
    .min(1)
    .max(64)
    .optional(),
  dscps: z.array(z.int().min(0).max(63)).min(1).max(64).optional(),
  /** `none`: whole packets; `any`: fragments of either kind. */
  fragment: z.enum(['none', 'first', 'later', 'any']).optional(),
});
export type FlowMatch = z.infer<typeof FlowMatch>;

export const FlowActions = z.strictObject({
  /**
   * `allow`: goes the ordinary way of a frame of its (perhaps new) VLAN. `output`: leaves by `output`, without being
   * looked up. `continue`: what the rule does is done, and the next rule that matches is asked (all rules see the
   * frame as it came).
   */
  verdict: z.enum(['allow', 'drop', 'output', 'continue']),
  output: z.array(z.string().min(1).max(64)).min(1).max(64).optional(),
  /** Name of a mirror session, which is given a copy of the frame as it came. */
  mirror: z.string().min(1).max(64).optional(),
  setVlan: VlanId.optional(),
  setSourceMac: Mac.optional(),
  setDestinationMac: Mac.optional(),
  setDscp: z.int().min(0).max(63).optional(),
  /** 802.1p: by which the frame is queued, and which stands in its tag when it leaves with one. */
  setPriority: z.int().min(0).max(7).optional(),
  meter: z.string().min(1).max(64).optional(),
  /** An event for what it matches, once a second at most. */
  log: z.boolean().optional(),
});
export type FlowActions = z.infer<typeof FlowActions>;

export const FlowRule = z.strictObject({
  /** Unique; by it counters are kept over a change. */
  name: z.string().min(1).max(64),
  /** The highest that matches decides; of equals the one written first. */
  priority: z.int().min(0).max(65_535),
  match: FlowMatch,
  actions: FlowActions,
});
export type FlowRule = z.infer<typeof FlowRule>;

/** A token bucket (RFC 2697, one rate, two colours). Frames are counted with their Ethernet header, without FCS. */
export const FlowMeter = z.strictObject({
  name: z.string().min(1).max(64),
  rate_bps: z.int().min(1000).max(1e12),
  burst_bytes: z
    .int()
    .min(1)
    .max(2 ** 31 - 1),
  /** What becomes of what exceeds it: dropped, or marked with this code point. */
  exceed: z.union([z.literal('drop'), z.strictObject({ setDscp: z.int().min(0).max(63) })]),
});
export type FlowMeter = z.infer<typeof FlowMeter>;

export const FlowRules = z.strictObject({
  /** What becomes of a frame that no rule matches. */
  default: z.enum(['allow', 'drop']),
  meters: z.array(FlowMeter).max(1024),
  rules: z.array(FlowRule).max(10_000),
});
export type FlowRules = z.infer<typeof FlowRules>;

/** GET /switches/:switch/show/rules */
export const RulesView = z.object({
  default: z.enum(['allow', 'drop']),
  /** Frames and octets that no rule decided about. */
  unmatched: z.object({ frames: z.number(), octets: z.number() }),
  /** In the order in which they are asked. */
  rules: z.array(
    z.object({
      name: z.string(),
      priority: z.int(),
      verdict: z.enum(['allow', 'drop', 'output', 'continue']),
      frames: z.number(),
      octets: z.number(),
      /** Since it last matched; null: never. */
      lastHit_ms: z.number().nullable(),
      /** What keeps it from working as written, in words; null when nothing does. */
      problem: z.string().nullable(),
    }),
  ),
  meters: z.array(
    z.object({
      name: z.string(),
      rate_bps: z.number(),
      burst_bytes: z.number(),
      conformedFrames: z.number(),
      conformedOctets: z.number(),
      exceededFrames: z.number(),
      exceededOctets: z.number(),
    }),
  ),
  /** How the rules were compiled, and how the cache does. */
  classifier: z.object({
    tuples: z.int(),
    entries: z.int(),
    cacheFlows: z.int(),
    cacheHits: z.number(),
    cacheMisses: z.number(),
  }),
});
export type RulesView = z.infer<typeof RulesView>;
