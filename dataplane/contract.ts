/**
 * What weft-dataplane can be asked and what it answers: the only file of this plane that control imports.
 *
 * The plane serves HTTP + JSON on a Unix socket (`curl --unix-socket S http://x/status` debugs it):
 *
 *   GET  /health                          Health
 *   PUT  /config       DataplaneConfig    Applied        the whole desired state; only what differs is touched
 *   GET  /status                          DataplaneStatus
 *   GET  /switches/:switch/macs           MacTable
 *   DELETE /switches/:switch/macs         {flushed: n}   forget learned addresses ?port= ?vlan=
 *   GET  /switches/:switch/capture        pcapng stream  ?port=NAME (repeatable) ?snaplen_bytes= ?count= ?filter=
 *   GET  /switches/:switch/top            TopTalkers     ?seconds= ?limit=   watches for so long, then tells
 *   GET  /switches/:switch/show/:what                     what a capability knows: its View in contract/
 *   POST /switches/:switch/trace  TraceRequest  TraceView       what would become of a frame; nothing is sent
 *   GET  /events                          SSE of DataplaneEvent; the stream's end means that the plane is gone
 *
 * Every error reply is an ErrorReply. The plane keeps nothing on disk: after a restart it is empty and
 * healthy with generation -1, and whoever supervises it sends the configuration again.
 */
import { z } from 'zod';
import { PortAddresses, PrivateVlan, StaticAddress } from './contract/addresses.js';
import { PortDevice } from './contract/devices.js';
import { PortGuard } from './contract/guard.js';
import { PortLldp, SwitchLldp } from './contract/lldp.js';
import { MirrorSession } from './contract/mirrors.js';
import { SwitchOffload } from './contract/offload.js';
import { PortQos, SwitchQos } from './contract/qos.js';
import { FlowRules } from './contract/rules.js';
import { SwitchSampling } from './contract/sampling.js';
import { PortSnooping, SwitchSnooping } from './contract/snooping.js';
import { PortSpanningTree, SwitchSpanningTree } from './contract/spanningTree.js';
import { PortStorm } from './contract/storm.js';
import { PortVlan } from './contract/vlan.js';

export * from './contract/addresses.js';
export * from './contract/devices.js';
export * from './contract/guard.js';
export * from './contract/lag.js';
export * from './contract/lldp.js';
export * from './contract/mirrorDestinations.js';
export * from './contract/mirrors.js';
export * from './contract/offload.js';
export * from './contract/qos.js';
export * from './contract/ruleCover.js';
export * from './contract/rules.js';
export * from './contract/sampling.js';
export * from './contract/snooping.js';
export * from './contract/spanningTree.js';
export * from './contract/storm.js';
export * from './contract/trace.js';
export * from './contract/vlan.js';

/** Deliberate faults on a port, as parts per million of frames, repeatable by seed. For rehearsals. */
export const PortFaults = z.strictObject({
  seed: z.int().min(0).max(0xffff_ffff).default(1),
  drop_ppm: z.int().min(0).max(1_000_000).default(0),
  corrupt_ppm: z.int().min(0).max(1_000_000).default(0),
  duplicate_ppm: z.int().min(0).max(1_000_000).default(0),
});
export type PortFaults = z.infer<typeof PortFaults>;

export const PortConfig = z.strictObject({
  /** Unique within its switch. */
  name: z.string().min(1).max(64),
  vlan: PortVlan,
  device: PortDevice,
  /** Forwards nothing to other isolated ports of its switch. */
  isolated: z.boolean().optional(),
  addresses: PortAddresses.optional(),
  storm: PortStorm.optional(),
  guard: PortGuard.optional(),
  spanningTree: PortSpanningTree.optional(),
  snooping: PortSnooping.optional(),
  qos: PortQos.optional(),
  lldp: PortLldp.optional(),
  faults: PortFaults.optional(),
});
export type PortConfig = z.infer<typeof PortConfig>;

export const SwitchConfig = z.strictObject({
  name: z.string().min(1).max(40),
  /** 802.1Q-2022 8.8.3 and table 8-6: 10 to 1,000,000 s, recommended 300 s. */
  ageingTime_s: z.int().min(10).max(1_000_000).default(300),
  /** Learned addresses kept at most; beyond it frames are still flooded, and a counter says so. */
  macLimit: z.int().min(1).max(1_000_000).default(32_768),
  /** The bridge's own address, lower-case with colons: sender of what it says itself. */
  address: z
    .string()
    .regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/)
    .optional(),
  staticAddresses: z.array(StaticAddress).max(100_000).optional(),
  privateVlans: z.array(PrivateVlan).max(256).optional(),
  spanningTree: SwitchSpanningTree.optional(),
  snooping: SwitchSnooping.optional(),
  qos: SwitchQos.optional(),
  rules: FlowRules.optional(),
  mirrors: z.array(MirrorSession).max(64).optional(),
  lldp: SwitchLldp.optional(),
  sampling: SwitchSampling.optional(),
  offload: SwitchOffload.optional(),
  ports: z.array(PortConfig).max(4096),
});
export type SwitchConfig = z.infer<typeof SwitchConfig>;

export const DataplaneConfig = z.strictObject({
  /** Chosen by the sender; reported back, so that the sender knows whether the plane has its latest word. */
  generation: z.int().min(0),
  switches: z.array(SwitchConfig).max(1024),
});
export type DataplaneConfig = z.infer<typeof DataplaneConfig>;

export const Health = z.object({
  name: z.literal('weft-dataplane'),
  version: z.string(),
  pid: z.int(),
  /** Milliseconds since the Unix epoch. */
  startedAt_ms: z.number(),
  /** -1 until a configuration has been taken. */
  generation: z.int(),
});
export type Health = z.infer<typeof Health>;

/** `connecting`: a stream port whose peer does not listen yet. `error`: see reason; tried again by the plane. */
export const PortState = z.enum(['up', 'connecting', 'error']);
export type PortState = z.infer<typeof PortState>;

/** One of the links that an aggregate is made of. */
export const MemberStatus = z.object({
  name: z.string(),
  kind: z.string(),
  state: PortState,
  reason: z.string().nullable(),
  counters: z.record(z.string(), z.number()),
});
export type MemberStatus = z.infer<typeof MemberStatus>;

export const PortStatus = z.object({
  name: z.string(),
  kind: z.string(),
  state: PortState,
  /** In words, with what to do about it; null when there is nothing to say. */
  reason: z.string().nullable(),
  vlan: PortVlan,
  /** Names as in IF-MIB (RFC 2863) where it has one; `drop…` for each reason to drop. Totals since the port was made. */
  counters: z.record(z.string(), z.number()),
  /** Of an aggregate; GET /switches/:switch/show/lag tells more. */
  members: z.array(MemberStatus).optional(),
});
export type PortStatus = z.infer<typeof PortStatus>;

/** `show ports`. */
export const PortsView = z.object({ ports: z.array(PortStatus) });
export type PortsView = z.infer<typeof PortsView>;

export const SwitchStatus = z.object({
  name: z.string(),
  macCount: z.int(),
  counters: z.record(z.string(), z.number()),
  ports: z.array(PortStatus),
});
export type SwitchStatus = z.infer<typeof SwitchStatus>;

export const DataplaneStatus = z.object({
  generation: z.int(),
  switches: z.array(SwitchStatus),
  /** Engine counters: turns, sleeps, buffers in use, … */
  engine: z.record(z.string(), z.number()),
});
export type DataplaneStatus = z.infer<typeof DataplaneStatus>;

/** One entry for each port that is not up, so that the sender can report it without asking again. */
export const Applied = z.object({
  generation: z.int(),
  problems: z.array(
    z.object({ switch: z.string(), port: z.string().nullable(), state: PortState, reason: z.string() }),
  ),
});
export type Applied = z.infer<typeof Applied>;

export const MacTable = z.object({
  entries: z.array(
    z.object({
      /** Lower-case hexadecimal with colons. */
      mac: z.string(),
      vlan: z.int(),
      port: z.string(),
      age_ms: z.number(),
      /** Of the configuration: it does not age. */
      isStatic: z.boolean().default(false),
    }),
  ),
});
export type MacTable = z.infer<typeof MacTable>;

export const TopTalkers = z.object({
  /** By bytes, most first. On a busy switch, estimated from a random sample. */
  talkers: z.array(
    z.object({
      /** Where the frames came in. */
      port: z.string(),
      sourceMac: z.string(),
      destinationMac: z.string(),
      etherType: z.int(),
      protocol: z.int().nullable(),
      source: z.string().nullable(),
      destination: z.string().nullable(),
      sourcePort: z.int().nullable(),
      destinationPort: z.int().nullable(),
      frames: z.number(),
      bytes: z.number(),
    }),
  ),
  frames: z.number(),
  bytes: z.number(),
  untold: z.number(),
  seconds: z.number(),
});
export type TopTalkers = z.infer<typeof TopTalkers>;

export const DataplaneEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('port'),
    at_ms: z.number(),
    switch: z.string(),
    port: z.string(),
    /** It is about this one of an aggregate's links. */
    member: z.string().optional(),
    state: PortState,
    reason: z.string().nullable(),
  }),
  /** Something that an operator would want to know, by the capability that says it: `spanningTree.rootChanged`. */
  z.object({
    type: z.literal('switchEvent'),
    at_ms: z.number(),
    switch: z.string(),
    what: z.string(),
    port: z.string().nullable(),
    message: z.string(),
  }),
  z.object({
    type: z.literal('macMoved'),
    at_ms: z.number(),
    switch: z.string(),
    mac: z.string(),
    vlan: z.int(),
    from: z.string(),
    to: z.string(),
  }),
]);
export type DataplaneEvent = z.infer<typeof DataplaneEvent>;

export const ErrorReply = z.object({
  error: z.object({ code: z.string(), message: z.string() }),
});
export type ErrorReply = z.infer<typeof ErrorReply>;
