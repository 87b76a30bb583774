/**
 * What weft-dataplane can be asked and what it answers: the only file of this plane that control imports.
 *
 * The plane serves HTTP + JSON on a Unix socket (`curl --unix-socket S http://x/status` debugs it):
 *
 *   GET  /health                          Health
 *   PUT  /config       DataplaneConfig    Applied        the whole desired state; only what differs is touched
 *   GET  /status                          DataplaneStatus
 *   GET  /switches/:switch/macs           MacTable
 *   DELETE /switches/:switch/macs         {flushed: n}   forget learned addresses
 *   GET  /switches/:switch/capture        pcapng stream  ?port=NAME (repeatable) ?snaplen_bytes= ?count=
 *   GET  /events                          SSE of DataplaneEvent; the stream's end means that the plane is gone
 *
 * Every error reply is an ErrorReply. The plane keeps nothing on disk: after a restart it is empty and
 * healthy with generation -1, and whoever supervises it sends the configuration again.
 */
import { z } from 'zod';

/** IEEE 802.1Q-2022 table 9-2: 0 is the null VLAN, 4095 is reserved. */
export const VlanId = z.int().min(1).max(4094);

export const PortVlan = z.discriminatedUnion('mode', [
  /** Untagged frames belong to `vlan`; frames leave untagged. Tagged frames of another VLAN are dropped. */
  z.strictObject({ mode: z.literal('access'), vlan: VlanId }),
  /** Frames of the `allowed` VLANs pass tagged, those of `native` (if any) untagged. Ranges are inclusive. */
  z.strictObject({
    mode: z.literal('trunk'),
    allowed: z.array(z.tuple([VlanId, VlanId])).max(4094),
    native: VlanId.nullable(),
  }),
]);
export type PortVlan = z.infer<typeof PortVlan>;

export const PortDevice = z.discriminatedUnion('kind', [
  /** A tap device of the host, made if absent, with IFF_VNET_HDR where the kernel has it. Needs CAP_NET_ADMIN. */
  z.strictObject({
    kind: z.literal('tap'),
    ifname: z.string().min(1).max(15),
    mtu_bytes: z.int().min(576).max(65_521).optional(),
  }),
  /**
   * A Unix stream socket carrying frames, each behind a 32-bit big-endian length (QEMU `-netdev stream`).
   * `connect`: dialled, and dialled again, until the peer listens. `listen`: one peer at a time.
   */
  z.strictObject({
    kind: z.literal('stream'),
    path: z.string().min(1).max(107),
    role: z.enum(['connect', 'listen']),
  }),
  /** Returns to the switch what the switch sends to it. For tests and measurements. */
  z.strictObject({ kind: z.literal('loopback') }),
  /** Writes every frame that the switch sends to it into a pcapng file; receives nothing. */
  z.strictObject({ kind: z.literal('pcap'), path: z.string().min(1) }),
]);
export type PortDevice = z.infer<typeof PortDevice>;

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
  faults: PortFaults.optional(),
});
export type PortConfig = z.infer<typeof PortConfig>;

export const SwitchConfig = z.strictObject({
  name: z.string().min(1).max(40),
  /** 802.1Q-2022 8.8.3 and table 8-6: 10 to 1,000,000 s, recommended 300 s. */
  ageingTime_s: z.int().min(10).max(1_000_000).default(300),
  /** Learned addresses kept at most; beyond it frames are still flooded, and a counter says so. */
  macLimit: z.int().min(1).max(1_000_000).default(32_768),
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

export const PortStatus = z.object({
  name: z.string(),
  kind: z.string(),
  state: PortState,
  /** In words, with what to do about it; null when there is nothing to say. */
  reason: z.string().nullable(),
  vlan: PortVlan,
  /** Names as in IF-MIB (RFC 2863) where it has one; `drop…` for each reason to drop. Totals since the port was made. */
  counters: z.record(z.string(), z.number()),
});
export type PortStatus = z.infer<typeof PortStatus>;

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
    }),
  ),
});
export type MacTable = z.infer<typeof MacTable>;

export const DataplaneEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('port'),
    at_ms: z.number(),
    switch: z.string(),
    port: z.string(),
    state: PortState,
    reason: z.string().nullable(),
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
