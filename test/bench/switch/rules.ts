/**
 * Group "rules": what flow rules cost a frame whose flow was looked up before.
 *
 *   namespace a: sender  [tapA]====( weft: 0 or 1000 rules )====[tapB]  namespace b: counted at the interface
 *
 * The frames are UDP in IPv4, nothing is offloaded, and the same weft takes both cases in turn: only the rules differ.
 * The rules are of the kind that people write (prefixes, ports, ranges); none matches the frames, which is the
 * dearest that can be for whoever would read them one by one. Beside it stands Open vSwitch without any rule.
 */
import type { FlowRule, FlowRules } from '../../../dataplane/contract.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS, group } from '../bench.js';
import type { ContenderSource } from '../bench.js';
import type { SwitchCase } from './load.js';
import { source } from './rooms.js';
import { ovsNetdev } from './tapContenders.js';

interface RulesCase extends SwitchCase {
  readonly rules: number;
}

const CASES: readonly RulesCase[] = [0, 1, 1000].map(rules => ({
  name: `rules-${rules}`,
  unit: 'kpps',
  better: 'higher',
  per: 'Mframe',
  load: 'frames',
  isUdp: true,
  rules,
}));

/** Four shapes in turn, so that there are several masks and ranges to look under. */
export function manyRules(count: number): FlowRules | undefined {
  if (count === 0) return undefined;
  const rules = Array.from({ length: count }, (_, i): FlowRule => {
    const [high, low] = [i >> 8, i & 255];
    const match = [
      { destinations: [`10.${high}.${low}.0/24`], protocols: [6], destinationPorts: [[443, 443]] },
      { sources: [`172.16.${low}.${high}`], protocols: [17], destinationPorts: [[1000 + i, 1100 + i]] },
      { destinations: [`192.168.${low}.0/25`], dscps: [46] },
      { sources: [`10.${128 + high}.${low}.0/24`], protocols: [17], sourcePorts: [[53, 53]] },
    ][i % 4]!;
    return {
      name: `r${i}`,
      priority: i % 7,
      match: match as FlowRule['match'],
      actions: { verdict: 'drop' },
    };
  });
  return { default: 'allow', meters: [], rules };
}

const LABEL = 'rul';

const weft: ContenderSource<SwitchCase> = {
  name: OURS,
  missing: () => plain(() => {}).missing(),
  start: async (lab, options) => {
    let plane: Dataplane | undefined;
    const contender = await plain(made => (plane = made)).start(lab, options);
    return {
      name: OURS,
      measure: async (useCase, seconds) => {
        await plane!.configure([bench(manyRules((useCase as RulesCase).rules))]);
        return contender.measure(useCase, seconds);
      },
    };
  },
};

const bench = (rules: FlowRules | undefined) => ({
  ...switchOf(
    'bench',
    ['A', 'B'].map(end => ({
      name: end,
      vlan: { mode: 'access', vlan: 1 } as const,
      device: { kind: 'tap', ifname: `${LABEL}${end}` } as const,
    })),
  ),
  offload: { mode: 'off' as const },
  ...(rules === undefined ? {} : { rules }),
});

const plain = (made: (plane: Dataplane) => void): ContenderSource<SwitchCase> =>
  source(OURS, LABEL, [], async (lab, rooms, ifA, ifB) => {
    const plane = await Dataplane.start(lab, { netns: rooms.s.path });
    made(plane);
    await plane.configure([bench(undefined)]);
    await rooms.s.moveLink(ifA, rooms.a);
    await rooms.s.moveLink(ifB, rooms.b);
    return plane.program;
  });

/** It has no rules of these to look at. */
const peer: ContenderSource<SwitchCase> = { ...ovsNetdev, takes: ({ name }) => name === 'rules-0' };

export const rulesGroup = group<SwitchCase>({ name: 'rules', cases: CASES, contenders: [weft, peer] });
