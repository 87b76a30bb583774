/**
 * The words of a switch and of its ports, put together from the file of each capability, and turned into the
 * plane's. A machine's card takes the same words as a port of a switch, but for what is at its outer end.
 */
import { z } from 'zod';
import { PortConfig, PortFaults, SwitchConfig } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';
import { Name, StationMac } from '../words.js';
import * as addresses from './addresses.js';
import * as guard from './guard.js';
import * as lldp from './lldp.js';
import * as mirrors from './mirrors.js';
import * as offload from './offload.js';
import * as qos from './qos.js';
import * as rules from './rules.js';
import * as sampling from './sampling.js';
import * as snooping from './snooping.js';
import * as spanningTree from './spanningTree.js';
import * as storm from './storm.js';
import { vlanProblem, vlanToPlane, vlanWords } from './vlan.js';

export const portWords = {
  ...vlanWords,
  isolated: z.boolean().optional().meta({ description: 'speaks to no other isolated port of its switch' }),
  addresses: addresses.PortWords.optional(),
  storm: storm.PortWords.optional(),
  guard: guard.PortWords.optional(),
  spanningTree: spanningTree.PortWords.optional(),
  snooping: snooping.PortWords.optional(),
  qos: qos.PortWords.optional(),
  lldp: lldp.PortWords.optional(),
  faults: PortFaults.optional(),
};

const AnyPort = z.object(portWords);
export type PortSpec = z.infer<typeof AnyPort>;

export const switchWords = {
  address: StationMac.optional().meta({
    description: "the switch's own MAC address; default: derived from this host's identity and its name",
  }),
  staticAddresses: z.array(addresses.StaticWords).optional(),
  privateVlans: z.array(addresses.PrivateVlanWords).optional(),
  spanningTree: spanningTree.SwitchWords.optional(),
  snooping: snooping.SwitchWords.optional(),
  qos: qos.SwitchWords.optional(),
  rules: rules.SwitchWords.optional(),
  mirrors: z.record(Name, mirrors.SessionWords).optional(),
  lldp: lldp.SwitchWords.optional(),
  sampling: sampling.SwitchWords.optional(),
  offload: offload.SwitchWords.optional(),
};

/** What is wrong with a port by itself. */
export function refinePort(port: PortSpec, context: z.RefinementCtx): void {
  const problem = vlanProblem(port);
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
}

type Converted = Omit<PortConfig, 'name' | 'device'>;

/** `{key: turn(words)}` when there are words, nothing when not: absent stays absent. */
function given<K extends string, W, P>(
  key: K,
  words: W | undefined,
  turn: (words: W) => P,
): { [k in K]?: P } {
  return words === undefined ? {} : ({ [key]: turn(words) } as { [k in K]?: P });
}

export function portToPlane(port: PortSpec): Converted {
  return {
    vlan: vlanToPlane(port),
    ...(port.isolated === undefined ? {} : { isolated: port.isolated }),
    ...given('addresses', port.addresses, addresses.portToPlane),
    ...given('storm', port.storm, storm.portToPlane),
    ...given('guard', port.guard, guard.portToPlane),
    ...given('spanningTree', port.spanningTree, spanningTree.portToPlane),
    ...given('snooping', port.snooping, snooping.portToPlane),
    ...given('qos', port.qos, qos.portToPlane),
    ...given('lldp', port.lldp, lldp.portToPlane),
    ...(port.faults === undefined ? {} : { faults: port.faults }),
  };
}

export function switchToPlane(
  spec: SwitchSpec,
): Omit<SwitchConfig, 'name' | 'ageingTime_s' | 'macLimit' | 'ports'> {
  return {
    ...given('staticAddresses', spec.staticAddresses, addresses.staticsToPlane),
    ...given('privateVlans', spec.privateVlans, addresses.privateVlansToPlane),
    ...given('spanningTree', spec.spanningTree, spanningTree.switchToPlane),
    ...given('snooping', spec.snooping, snooping.switchToPlane),
    ...given('qos', spec.qos, qos.switchToPlane),
    ...given('rules', spec.rules, rules.switchToPlane),
    ...given('mirrors', spec.mirrors, all =>
      Object.entries(all).map(([name, words]) => mirrors.sessionToPlane(name, words)),
    ),
    ...given('lldp', spec.lldp, lldp.switchToPlane),
    ...given('sampling', spec.sampling, sampling.switchToPlane),
    ...given('offload', spec.offload, offload.switchToPlane),
  };
}

const OfPort = PortConfig.omit({ name: true, device: true });
const OfSwitch = SwitchConfig.omit({ name: true, ageingTime_s: true, macLimit: true, ports: true });

/**
 * What the plane would refuse and nobody here has words for: one such port, and it takes none of the configuration.
 * Only asked when nothing else was found.
 */
function* netFaults(schema: z.ZodType, config: unknown): Generator<Fault> {
  const judged = schema.safeParse(config);
  const issue = judged.error?.issues[0];
  if (issue === undefined) return;
  const [word] = issue.path;
  yield {
    path: typeof word === 'string' ? [word] : [],
    blame: 'key',
    message: `weft-dataplane does not take this: ${issue.path.join('.')}: ${issue.message}`,
  };
}

/** Of a switch's port, or of a machine's card; paths begin at it. */
export function* portFaults(port: PortSpec): Generator<Fault> {
  const found = [
    ...(port.addresses === undefined ? [] : addresses.portFaults(port.addresses)),
    ...(port.storm === undefined ? [] : storm.portFaults(port.storm)),
    ...(port.qos === undefined ? [] : qos.portFaults(port.qos)),
  ];
  yield* found;
  if (found.every(({ isWarning }) => isWarning)) yield* netFaults(OfPort, portToPlane(port));
}

/** Paths begin at the switch's spec; `ports` are its own and those of machines' cards, by name. */
export function* switchFaults(spec: SwitchSpec, ports: ReadonlySet<string>): Generator<Fault> {
  const found = [...wholeFaults(spec, ports)];
  yield* found;
  if (found.every(({ isWarning }) => isWarning)) yield* netFaults(OfSwitch, switchToPlane(spec));
  for (const [name, port] of Object.entries(spec.ports))
    for (const fault of portFaults(port)) yield { ...fault, path: ['ports', name, ...fault.path] };
}

function* wholeFaults(spec: SwitchSpec, ports: ReadonlySet<string>): Generator<Fault> {
  yield* addresses.faults(spec);
  yield* guard.faults(spec);
  yield* spanningTree.faults(spec);
  yield* snooping.faults(spec);
  yield* qos.faults(spec);
  yield* rules.faults(spec, ports);
  yield* mirrors.faults(spec);
  yield* lldp.faults(spec);
  yield* sampling.faults(spec);
  yield* offload.faults(spec);
}
