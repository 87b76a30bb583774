/**
 * Group "lag": what an aggregate costs a frame.
 *
 *   namespace a: sender [lagA]--( one )====( two )--[lagB] namespace b: counted at the interface
 *
 * Both switches are one weft-dataplane, with nothing offloaded; ==== is one veth pair, or two pairs as an aggregate
 * with LACP. The frames of lag-64b are one flow, so that with two cables they cost what choosing a cable costs; lag-tcp
 * is one stream of TCP, in super-frames.
 */
import { LagSettings } from '../../../dataplane/contract.js';
import type { LagView, PortConfig, SwitchConfig } from '../../../dataplane/contract.js';
import { eventually } from '../../lab/harness/processes.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS, group } from '../bench.js';
import type { SwitchCase } from './load.js';
import { source } from './rooms.js';

const CASES: readonly SwitchCase[] = [
  { name: 'lag-tcp', unit: 'Gb/s', better: 'higher', per: 'Gb', load: 'tcp' },
  { name: 'lag-64b', unit: 'kpps', better: 'higher', per: 'Mframe', load: 'frames', isUdp: true },
];

const access = (name: string, device: PortConfig['device']): PortConfig => ({
  name,
  vlan: { mode: 'access', vlan: 1 },
  device,
});

function lanOf(name: string, tap: string, cables: readonly string[], isAggregate: boolean): SwitchConfig {
  const members = cables.map(ifname => ({
    name: ifname,
    device: { kind: 'packet' as const, ifname },
    priority: 32_768,
  }));
  const settings = LagSettings.parse({ mode: 'lacp', lacp: { timeout: 'fast' } });
  const device = isAggregate ? ({ kind: 'lag', settings, members } as const) : members[0]!.device;
  return {
    ...switchOf(name, [access('host', { kind: 'tap', ifname: tap }), access('up', device)]),
    offload: { mode: 'off' },
  };
}

const joinedBy = (name: string, label: string, isAggregate: boolean) =>
  source(name, label, [], async (lab, rooms, ifA, ifB) => {
    const { s } = rooms;
    const cables = isAggregate ? [0, 1] : [0];
    for (const n of cables) {
      await lab.veth(s, `${label}x${n}`, s, `${label}y${n}`);
      for (const end of ['x', 'y']) await s.up(`${label}${end}${n}`);
    }
    const plane = await Dataplane.start(lab, { netns: s.path, socket: lab.path(`${label}.sock`) });
    const ends = (end: string): string[] => cables.map(n => `${label}${end}${n}`);
    await plane.configure([
      lanOf('one', ifA, ends('x'), isAggregate),
      lanOf('two', ifB, ends('y'), isAggregate),
    ]);
    await s.moveLink(ifA, rooms.a);
    await s.moveLink(ifB, rooms.b);
    if (isAggregate)
      await eventually('both members to carry', async () => {
        const { aggregates } = await plane.get<LagView>('/switches/one/show/lag');
        return aggregates[0]!.members.every(({ role }) => role === 'distributing') ? true : null;
      });
    return plane.program;
  });

export const lagGroup = group<SwitchCase>({
  name: 'lag',
  cases: CASES,
  contenders: [joinedBy(OURS, 'lag', true), joinedBy('weft-one-cable', 'one', false)],
});
