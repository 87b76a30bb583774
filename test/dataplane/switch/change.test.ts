/** A change of the configuration touches what changed, and nobody else's frames. */
import t from 'tap';
import type { PortConfig, SwitchConfig } from '../../../dataplane/contract.js';
import { buildFrame } from '../../../control/model/switch/trialFrame.js';
import type { Membership } from '../../../dataplane/switch/vlanMembership.js';
import { SwitchBench } from '../switchBench.js';

const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';

type Change = Partial<Omit<SwitchConfig, 'ports'>> & { others: (Partial<PortConfig> & { name: string })[] };

const access = (vlan: number): Pick<PortConfig, 'vlan'> => ({ vlan: { mode: 'access', vlan } });
const limits = { limit: 2, onFull: 'drop' as const, moves: null, recovery_s: null };

const CHANGES: readonly Change[] = [
  { others: [{ name: 'c', ...access(10) }] },
  { others: [{ name: 'c', ...access(20) }] },
  { others: [{ name: 'c', vlan: { mode: 'trunk', allowed: [[1, 4094]], native: 10 } }] },
  { others: [{ name: 'c', vlan: { mode: 'tunnel', vlan: 30 } }] },
  { others: [{ name: 'c', isolated: true }] },
  { others: [{ name: 'c', addresses: limits }] },
  { others: [{ name: 'd', ...access(10) }] },
  {
    others: [{ name: 'd' }, { name: 'e' }],
    staticAddresses: [{ mac: '02:00:00:00:00:0f', vlan: 1, port: 'd' }],
  },
  { others: [{ name: 'd' }], macLimit: 500, ageingTime_s: 20 },
  {
    others: [
      {
        name: 'd',
        storm: { broadcast: { unit: 'frames', rate_per_s: 1, burst: 1 }, action: 'drop', recovery_s: null },
      },
    ],
  },
  { others: [] },
];

await t.test('no frame of a flow is lost, nor flooded, while everything around it changes', async t => {
  const ends = [
    { name: 'a', ...access(10) },
    { name: 'b', ...access(10) },
  ];
  const bench = new SwitchBench({ ports: ends });
  const there = buildFrame({ src: A, dst: B });
  const back = buildFrame({ src: B, dst: A });
  bench.send('a', there);
  bench.send('b', back);
  for (const name of ['a', 'b']) bench.port(name).taken();
  let sent = 0;
  for (let round = 0; round < 20; round++)
    for (const { others, ...rest } of CHANGES) {
      // Some of them lie in the port's queue while the change is made.
      for (let i = 0; i < 5; i++) bench.port('a').port.arrive(there);
      for (const { name, vlan } of others) {
        const known = bench.app.portNamed(name);
        if (known !== undefined && vlan !== undefined)
          bench.app.setMembership(known.link, vlan as Membership);
      }
      bench.configure({ ...rest, ports: [...ends, ...others] });
      bench.send('b', back);
      sent++;
      t.equal(bench.port('b').taken().length, 5, JSON.stringify(others));
      t.equal(bench.port('a').taken().length, 1);
      for (const { name } of others)
        t.equal(bench.port(name).taken().length, 0, `${name} hears nothing of it`);
    }
  t.equal(sent, 20 * CHANGES.length);
  t.same(
    Object.fromEntries(
      ['dropNoReceiver', 'dropIsolated', 'dropVlanNotMember'].map(name => [
        name,
        bench.port('a').count(name as 'dropNoReceiver'),
      ]),
    ),
    { dropNoReceiver: 0, dropIsolated: 0, dropVlanNotMember: 0 },
  );
});

await t.test('a port whose own VLAN changes forgets its own stations only', async t => {
  const bench = new SwitchBench({ ports: [{ name: 'a' }, { name: 'b' }, { name: 'c' }] });
  bench.send('a', buildFrame({ src: A, dst: 'ff:ff:ff:ff:ff:ff' }));
  bench.send('b', buildFrame({ src: B, dst: 'ff:ff:ff:ff:ff:ff' }));
  const port = bench.app.portNamed('b')!;
  bench.app.setMembership(port.link, { mode: 'access', vlan: 5 });
  t.same(
    bench.app.macs().map(({ mac }) => mac),
    [A],
  );
});
