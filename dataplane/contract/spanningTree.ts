/** Spanning tree (IEEE 802.1D-2004 clause 17) of a switch and its ports, and what is shown of it. */
import { z } from 'zod';

/** Table 17-1 and 17.14: the ranges of the standard. */
export const SwitchSpanningTree = z.strictObject({
  /** `off`: every port forwards, and BPDUs are dropped (802.1Q-2022 8.6.3). `stp` is Force Protocol Version 0. */
  mode: z.enum(['off', 'stp', 'rstp']).default('rstp'),
  priority: z.int().min(0).max(61_440).multipleOf(4096).default(32_768),
  maxAge_s: z.int().min(6).max(40).default(20),
  helloTime_s: z.int().min(1).max(10).default(2),
  forwardDelay_s: z.int().min(4).max(30).default(15),
  transmitHoldCount: z.int().min(1).max(10).default(6),
});
export type SwitchSpanningTree = z.infer<typeof SwitchSpanningTree>;

/** What is left out follows from what the port is: spanningTree/defaults.ts. */
export const PortSpanningTree = z.strictObject({
  priority: z.int().min(0).max(240).multipleOf(16).optional(),
  pathCost: z.int().min(1).max(200_000_000).optional(),
  /** From which the path cost follows (table 17-3). */
  speed_bps: z.number().min(1).optional(),
  /** AdminEdgePort and AutoEdgePort: true is both, `auto` the second, false neither. */
  edge: z.union([z.boolean(), z.literal('auto')]).optional(),
  /** `auto`: true, as every port of ours has one peer; a tunnel with several remote ends has not. */
  pointToPoint: z.union([z.boolean(), z.literal('auto')]).optional(),
  bpduGuard: z.boolean().optional(),
  /** 0: not by itself. */
  guardRecovery_s: z.int().min(0).max(86_400).optional(),
  bpduFilter: z.boolean().optional(),
  rootGuard: z.boolean().optional(),
  restrictedTcn: z.boolean().optional(),
  loopGuard: z.boolean().optional(),
});
export type PortSpanningTree = z.infer<typeof PortSpanningTree>;

export const SpanningTreePortView = z.object({
  port: z.string(),
  /** Priority and number, as neighbours see it. */
  portId: z.string(),
  role: z.enum(['disabled', 'root', 'designated', 'alternate', 'backup']),
  state: z.enum(['discarding', 'learning', 'forwarding']),
  pathCost: z.int(),
  isEdge: z.boolean(),
  isPointToPoint: z.boolean(),
  /** What it sends. */
  speaks: z.enum(['rstp', 'stp', 'nothing']),
  designatedBridge: z.string(),
  designatedPort: z.string(),
  designatedCost: z.int(),
  /** What keeps it from forwarding besides its role, in words. */
  heldBackBy: z.string().nullable(),
  /** BPDUs in and out by kind, topology changes, transitions, guards. */
  counters: z.record(z.string(), z.number()),
});
export type SpanningTreePortView = z.infer<typeof SpanningTreePortView>;

/** `show` `stp`. */
export const SpanningTreeView = z.object({
  mode: z.enum(['off', 'stp', 'rstp']),
  /** `32768.02:00:5e:00:00:01`; what follows is null or empty when the mode is off. */
  bridgeId: z.string().nullable(),
  rootId: z.string().nullable(),
  rootPathCost: z.int(),
  /** Null: this switch is the root, or spanning tree is off. */
  rootPort: z.string().nullable(),
  isRoot: z.boolean(),
  /** In force, as the root says. */
  maxAge_s: z.int(),
  helloTime_s: z.int(),
  forwardDelay_s: z.int(),
  topologyChanges: z.int(),
  /** Null: none yet. */
  sinceTopologyChange_s: z.int().nullable(),
  lastTopologyChangePort: z.string().nullable(),
  ports: z.array(SpanningTreePortView),
});
export type SpanningTreeView = z.infer<typeof SpanningTreeView>;
