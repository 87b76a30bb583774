/**
 * Spanning tree, as users say it, and in the plane's words. A switch without `spanningTree` takes no part: its ports
 * forward, and BPDUs are dropped, as 802.1Q-2022 8.6.3 wants of a bridge.
 */
import { z } from 'zod';
import type { PortSpanningTree, SwitchSpanningTree } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';
import { BitRate, Duration, parseBitRate_bps, parseDuration_ms } from '../words.js';

const seconds = (text: string): number => (parseDuration_ms(text) ?? Number.NaN) / 1000;

const Seconds = (min: number, max: number, what: string) =>
  Duration.refine(
    text => Number.isInteger(seconds(text)) && seconds(text) >= min && seconds(text) <= max,
    `${what} is a whole number of seconds from ${min}s to ${max}s`,
  );

/** On a port or a machine's card. */
export const PortWords = z
  .strictObject({
    priority: z.int().min(0).max(240).multipleOf(16).optional().meta({
      description: 'of two ports to the same switch the lower one is used; a multiple of 16, default 128',
    }),
    cost: z.int().min(1).max(200_000_000).optional().meta({
      description: 'path cost; default: from `speed`, as 802.1D-2004 table 17-3 has it',
    }),
    speed: BitRate.optional().meta({
      description: 'what the path cost follows from; default 10Gbit, times the members of an aggregate',
    }),
    edge: z
      .union([z.boolean(), z.literal('auto')])
      .optional()
      .meta({
        description:
          'true: no switch behind this port, it forwards at once; auto: when none has spoken for 3 s; default: true for guests, else auto',
      }),
    pointToPoint: z
      .union([z.boolean(), z.literal('auto')])
      .optional()
      .meta({
        description: 'false: several switches share this link, so nothing is agreed in haste',
      }),
    bpduGuard: z.boolean().optional().meta({
      description: 'a switch that speaks here puts the port down; default: true for guests, else false',
    }),
    bpduGuardRecovery: Seconds(0, 86_400, 'bpduGuardRecovery').optional().meta({
      description: 'when a port that was put down is tried again; 0s: not by itself; default 300s',
    }),
    bpduFilter: z.boolean().optional().meta({
      description: 'neither send nor mind BPDUs here: a loop through this port is not seen',
    }),
    rootGuard: z.boolean().optional().meta({
      description: 'the root is never behind this port: it blocks while a better root is told here',
    }),
    restrictTopologyChanges: z.boolean().optional().meta({
      description: 'topology changes noticed here are not passed on',
    }),
    loopGuard: z.boolean().optional().meta({
      description: 'when the switch behind this port falls silent, block rather than forward',
    }),
  })
  .refine(words => words.cost === undefined || words.speed === undefined, 'either cost or speed, not both')
  .refine(
    words => words.bpduFilter !== true || words.bpduGuard !== true,
    'bpduFilter minds no BPDU, so bpduGuard beside it would never act: say one of them',
  )
  .refine(
    words => words.rootGuard !== true || words.loopGuard !== true,
    'rootGuard is for ports toward the leaves and loopGuard for ports toward the root: say one of them',
  );
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane(words: PortWords): PortSpanningTree {
  const { cost, speed, bpduGuardRecovery, restrictTopologyChanges, ...same } = words;
  return {
    ...same,
    ...(cost === undefined ? {} : { pathCost: cost }),
    ...(speed === undefined ? {} : { speed_bps: parseBitRate_bps(speed) ?? Number.NaN }),
    ...(bpduGuardRecovery === undefined ? {} : { guardRecovery_s: seconds(bpduGuardRecovery) }),
    ...(restrictTopologyChanges === undefined ? {} : { restrictedTcn: restrictTopologyChanges }),
  };
}

/** On a switch. */
export const SwitchWords = z
  .strictObject({
    mode: z.enum(['off', 'stp', 'rstp']).default('rstp').meta({
      description: 'rstp speaks STP by itself to a switch that knows no better; off drops BPDUs',
    }),
    priority: z.int().min(0).max(61_440).multipleOf(4096).default(32_768).meta({
      description: 'the switch with the lowest becomes the root; a multiple of 4096',
    }),
    maxAge: Seconds(6, 40, 'maxAge').default('20s'),
    hello: Seconds(1, 10, 'hello').default('2s').meta({ description: 'how often BPDUs are sent' }),
    forwardDelay: Seconds(4, 30, 'forwardDelay').default('15s').meta({
      description: 'how long a port listens and then learns where nothing can be agreed',
    }),
    transmitHoldCount: z.int().min(1).max(10).default(6).meta({
      description: 'BPDUs that a port sends in one second at most',
    }),
  })
  // 802.1D-2004 17.14.
  .refine(
    words => 2 * (seconds(words.forwardDelay) - 1) >= seconds(words.maxAge),
    'maxAge is at most twice (forwardDelay less one second): longer, and old news could outlive the wait for it',
  )
  .refine(
    words => seconds(words.maxAge) >= 2 * (seconds(words.hello) + 1),
    'maxAge is at least twice (hello and one second): shorter, and one lost BPDU would be taken for a failure',
  );
export type SwitchWords = z.infer<typeof SwitchWords>;

export function switchToPlane(words: SwitchWords): SwitchSpanningTree {
  return {
    mode: words.mode,
    priority: words.priority,
    maxAge_s: seconds(words.maxAge),
    helloTime_s: seconds(words.hello),
    forwardDelay_s: seconds(words.forwardDelay),
    transmitHoldCount: words.transmitHoldCount,
  };
}

const PORTS_MAX = 4095;

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(spec: SwitchSpec): Generator<Fault> {
  const isOn = spec.spanningTree !== undefined && spec.spanningTree.mode !== 'off';
  if (isOn && Object.keys(spec.ports).length > PORTS_MAX)
    yield {
      path: ['spanningTree'],
      blame: 'key',
      message: `spanning tree numbers ports with 12 bits: ${PORTS_MAX} at most; split the switch`,
    };
  if (isOn) return;
  for (const [name, port] of Object.entries(spec.ports))
    if (port.spanningTree !== undefined)
      yield {
        path: ['ports', name, 'spanningTree'],
        blame: 'key',
        message:
          'this switch has spanning tree off, so this would do nothing: give the switch spanningTree: {}',
      };
}
