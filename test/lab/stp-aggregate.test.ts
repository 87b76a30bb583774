/**
 * An aggregate is a port: two switches joined by an aggregate of two links and by a single cable, a loop that spanning
 * tree cuts at the single one, as it costs more. Nobody but us: this needs no rights.
 *
 *     one ==(a, b: static aggregate)== two
 *        \----------- cable ----------/
 */
import t from 'tap';
import { LagSettings } from '../../dataplane/contract.js';
import type { PortConfig, SpanningTreeView } from '../../dataplane/contract.js';
import { Lab } from './harness/lab.js';
import { eventually } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const spanningTree = {
  mode: 'rstp',
  maxAge_s: 6,
  helloTime_s: 1,
  forwardDelay_s: 4,
  transmitHoldCount: 6,
} as const;

function ports(lab: Lab, role: 'listen' | 'connect', cut: boolean): PortConfig[] {
  const stream = (name: string) => ({ kind: 'stream', path: lab.path(`${name}.sock`), role }) as const;
  const member = (name: string) => ({ name, device: stream(name), priority: 32_768 });
  const tree = { edge: false, bpduGuard: false };
  const vlan = { mode: 'access', vlan: 1 } as const;
  const settings = LagSettings.parse({ mode: 'static' });
  const members = cut ? [member('a')] : [member('a'), member('b')];
  return [
    {
      name: 'both',
      vlan,
      spanningTree: { ...tree, pathCost: 1000 },
      device: { kind: 'lag', settings, members },
    },
    { name: 'cable', vlan, spanningTree: tree, device: stream('cable') },
  ];
}

t.setTimeout(120_000);

await t.test('spanning tree over an aggregate', async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const [one, two] = [
    await Dataplane.start(lab, { socket: lab.path('one.plane') }),
    await Dataplane.start(lab, { socket: lab.path('two.plane') }),
  ];
  const configure = async (cut: boolean): Promise<void> => {
    const address = (last: number) => `02:00:00:00:00:0${last}`;
    for (const [plane, role, priority, last] of [
      [one, 'listen', 4096, 1],
      [two, 'connect', 32_768, 2],
    ] as const)
      await plane.configure([
        {
          ...switchOf('lan', ports(lab, role, cut)),
          address: address(last),
          spanningTree: { ...spanningTree, priority },
        },
      ]);
  };
  const states = async (): Promise<string> => {
    const view = await two.get<SpanningTreeView>('/switches/lan/show/stp');
    return view.ports.map(({ port, role, state }) => `${port} ${role} ${state}`).join(', ');
  };
  const become = async (wanted: string): Promise<string> =>
    eventually(
      wanted,
      async () => {
        const now = await states();
        return now === wanted ? now : null;
      },
      { timeout_ms: 30_000, every_ms: 100 },
    );
  await configure(false);
  t.ok(await become('both root forwarding, cable alternate discarding'));
  const before = (await two.get<SpanningTreeView>('/switches/lan/show/stp')).topologyChanges;
  await configure(true);
  await new Promise(resolve => setTimeout(resolve, 2500));
  t.equal(await states(), 'both root forwarding, cable alternate discarding', 'one member is enough');
  const after = (await two.get<SpanningTreeView>('/switches/lan/show/stp')).topologyChanges;
  t.equal(after, before, 'and the tree did not move for it');
});
