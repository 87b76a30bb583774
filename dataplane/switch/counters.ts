/**
 * The names of what a switch counts, in the order of their places: per port behind the counters of its link (see
 * engine/counters.ts), and per switch in a row of its own. A drop reason is DROP less its place, so
 * that a stage can answer "pass" (0) or why not in one small number. README.md says what each means.
 */

/** Where drop reasons begin, downwards; -1 is FLOOD (relay.ts). */
export const DROP = -2;

/** Per port. Each capability appends its own. */
export const PORT_COUNTERS = [
  'dropTruncated',
  'dropOversized',
  'dropVlanReserved',
  'dropVlanNotMember',
  'dropUntagged',
  'dropDoubleTagged',
  'dropReservedGroup',
  'dropSamePort',
  'dropNoReceiver',
  'sourceNotLearnable',
  'dropPortDiscarding',
  'dropPortFault',
  'dropIsolated',
  'controlFrames',
  'dropRule',
  'dropRuleDefault',
  'dropRuleMeter',
  'dropRuleNoBuffer',
  'dropRulesMalformed',
  'dropGuardMac',
  'dropGuardAddress',
  'dropGuardMalformed',
  'dropGuardArp',
  'dropGuardArpRate',
  'dropGuardNd',
  'dropGuardNdRate',
  'dropGuardDhcpServer',
  'dropGuardDhcp',
  'dropGuardRouter',
  'dropAddressLimit',
  'dropStationMoved',
  'dropStaticNowhere',
  'dropStormBroadcast',
  'dropStormMulticast',
  'dropStormUnknown',
  'macsNotLearnedPortFull',
  'sourceElsewhereStatic',
  'bpdusIn',
  'bpdusOut',
  'bpdusRefused',
  'spanningTreeGuardTrips',
  'dot1dStpPortForwardTransitions',
  'dropPortRate',
  'dropVlanRate',
  'policedRemarked',
  'dropEgressQueue',
  'dropEgressPool',
  'snoopQueries',
  'snoopReports',
  'snoopMalformed',
] as const;
export type PortCounter = (typeof PORT_COUNTERS)[number];

/** The drop reason that is counted under this name. */
export function dropReason(name: PortCounter): number {
  return DROP - PORT_COUNTERS.indexOf(name);
}

/** The place among PORT_COUNTERS of a drop reason. */
export function placeOf(reason: number): number {
  return DROP - reason;
}

/** Per switch. */
export const SWITCH_COUNTERS = [
  'unicastFrames',
  'floodedFrames',
  'floodedCopies',
  'macsLearned',
  'macsMoved',
  'macMovesUntold',
  'macsNotLearnedFull',
  'macsAged',
  'macCount',
  'offloadedFrames',
  'offloadedOctets',
  'dot1dStpTopChanges',
  'mirroredFrames',
  'mirroredFramesLost',
] as const;
export type SwitchCounter = (typeof SWITCH_COUNTERS)[number];
