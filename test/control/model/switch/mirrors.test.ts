import t from 'tap';
import { MirrorSession } from '../../../../dataplane/contract.js';
import { SwitchSpec } from '../../../../control/model/spec.js';
import * as mirrors from '../../../../control/model/switch/mirrors.js';

const ports = { up: { tap: 'up' }, probe: { tap: 'probe' }, other: { tap: 'other' } };
const faults = (sessions: object) => [...mirrors.faults(SwitchSpec.parse({ ports, mirrors: sessions }))];

await t.test('what the plane is told', async t => {
  const words = mirrors.SessionWords.parse({
    ports: { up: 'both', 'web.nic0': 'in', other: 'out' },
    vlans: [7, '20-29'],
    to: { port: 'probe' },
    snaplen: 128,
    oneIn: 10,
  });
  t.same(MirrorSession.parse(mirrors.sessionToPlane('s', words)), {
    name: 's',
    in: ['up', 'web.nic0'],
    out: ['up', 'other'],
    vlans: [
      [7, 7],
      [20, 29],
    ],
    destination: { port: 'probe' },
    snaplen_bytes: 128,
    oneIn: 10,
  });
  const away = mirrors.sessionToPlane('s', mirrors.SessionWords.parse({ to: { vlan: 900 } }));
  t.same(MirrorSession.parse(away), { name: 's', in: [], out: [], vlans: [], destination: { vlan: 900 } });
});

await t.test('a destination is one thing, and not watched by its own session', async t => {
  const message = (words: object): string | undefined =>
    mirrors.SessionWords.safeParse(words).error?.issues[0]?.message;
  t.match(message({ to: {} }), /either port or vlan/);
  t.match(message({ to: { port: 'a', vlan: 1 } }), /either port or vlan/);
  t.match(message({ ports: { a: 'in' }, to: { port: 'a' } }), /copied again/);
});

await t.test('mirrors of mirrors, and ports that are not there', async t => {
  t.same(faults({ a: { ports: { up: 'both' }, to: { port: 'probe' } } }), []);
  t.same(faults({ a: { ports: { 'vm.nic3': 'in' }, to: { port: 'ids.nic0' } } }), [], 'cards are believed');
  t.match(faults({ a: { ports: { down: 'in' }, to: { port: 'probe' } } }), [
    { path: ['mirrors', 'a', 'ports', 'down'], message: /no port down/ },
  ]);
  t.match(faults({ a: { ports: { up: 'in' }, to: { port: 'gone' } } }), [
    { path: ['mirrors', 'a', 'to', 'port'], message: /no port gone/ },
  ]);
  t.match(
    faults({
      a: { ports: { up: 'in' }, to: { port: 'probe' } },
      b: { ports: { probe: 'in' }, to: { port: 'other' } },
    }),
    [{ path: ['mirrors', 'b', 'ports', 'probe'], message: /session a go to probe/ }],
  );
  t.match(
    faults({
      a: { ports: { up: 'in' }, to: { vlan: 900 } },
      b: { vlans: ['890-910'], to: { vlan: 800 } },
    }),
    [{ path: ['mirrors', 'b', 'vlans'], message: /mirror the mirror/ }],
  );
  t.same(faults({ a: { vlans: [900], to: { port: 'probe' } } }), [], 'where copies arrive they may be shown');
  const many = Object.fromEntries(Array.from({ length: 31 }, (_, i) => [`s${i}`, { to: { port: 'probe' } }]));
  t.match(faults(many), [{ path: ['mirrors'], message: /30 mirror sessions/ }]);
});
