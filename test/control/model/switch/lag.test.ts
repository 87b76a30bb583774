/** The word `lag` of a port: what is refused and how, and what becomes of it in the plane. */
import t from 'tap';
import { layoutOf } from '../../../../control/model/layout.js';
import { parse } from '../../../../control/model/parse.js';
import { specsOf } from '../../../../control/model/resource.js';
import { deviceToPlane } from '../../../../control/model/switch/devices.js';
import { validate } from '../../../../control/model/validate.js';
import { LagDevice } from '../../../../dataplane/contract.js';

const WORLD = { layout: layoutOf('/var/lib/weft'), mentioned: new Set<string>() };
const text = (ports: string): string => `switch: { lan: { ports: ${ports} } }`;

function problemsOf(ports: string): string[] {
  const parsed = parse([{ path: 'a', text: text(ports) }]);
  if (parsed.problems.length > 0) return parsed.problems.map(({ message }) => message);
  return validate(specsOf(parsed.declared.values()), WORLD).map(
    ({ path, message }) => `${path.join('.')}: ${message}`,
  );
}

function planeOf(ports: string): unknown {
  const parsed = parse([{ path: 'a', text: text(ports) }]);
  const port = specsOf(parsed.declared.values()).switch.get('lan')!.ports['up']!;
  const device = deviceToPlane(port);
  t.same(LagDevice.parse(device), device, 'the plane takes it as it is');
  return device;
}

void t.test('defaults', async t => {
  t.same(planeOf('{ up: { lag: { members: { b: { tap: t1 }, a: { tap: t0, mtu: 9000 } } } } }'), {
    kind: 'lag',
    settings: {
      mode: 'lacp',
      balance: 'l34',
      minLinks: 1,
      upDelay_ms: 0,
      revertDelay_ms: 0,
      announce: true,
    },
    members: [
      { name: 'a', device: { kind: 'tap', ifname: 't0', mtu_bytes: 9000 }, priority: 32_768 },
      { name: 'b', device: { kind: 'tap', ifname: 't1' }, priority: 32_768 },
    ],
  });
});

void t.test('every word', async t => {
  t.match(
    planeOf(
      `{ up: { lag: { mode: lacp, balance: l2, minLinks: 1, maxLinks: 2, upDelay: 1.5s, members: { a: { tap: t0, priority: 5 } },
         lacp: { activity: passive, timeout: fast, systemPriority: 1, system: '02:00:00:00:00:07', key: 9, control: coupled, fallback: true } } } }`,
    ),
    {
      settings: {
        balance: 'l2',
        maxLinks: 2,
        upDelay_ms: 1500,
        lacp: {
          activity: 'passive',
          timeout: 'fast',
          systemPriority: 1,
          system: '02:00:00:00:00:07',
          key: 9,
          control: 'coupled',
          fallback: true,
        },
      },
      members: [{ priority: 5 }],
    },
  );
  const backup = (revert: string): unknown =>
    planeOf(
      `{ up: { lag: { mode: active-backup, primary: a, revertDelay: ${revert}, announce: false, members: { a: { tap: t0 } } } } }`,
    );
  t.match(backup('30s'), {
    settings: { mode: 'activeBackup', primary: 'a', revertDelay_ms: 30_000, announce: false },
  });
  t.match(backup('never'), { settings: { revertDelay_ms: null } });
});

void t.test('what is refused', async t => {
  const lag = (words: string): string => `{ up: { lag: { ${words} } } }`;
  const members = 'members: { a: { tap: t0 }, b: { tap: t1 } }';
  const rows: [ports: string, message: RegExp][] = [
    [lag('members: {}'), /one member at least/],
    [lag(`${members}, minLinks: 3`), /minLinks is 3, and there are only 2 members/],
    [lag(`${members}, minLinks: 2, maxLinks: 1`), /maxLinks is 1, less than minLinks/],
    [lag(`${members}, mode: static, lacp: {}`), /mode static does not speak LACP/],
    [lag(`${members}, mode: static, maxLinks: 1`), /only mode lacp/],
    [lag(`${members}, primary: a`), /only mode active-backup has a primary/],
    [lag(`${members}, mode: active-backup, primary: c`), /"c" is none of the members: a, b/],
    [lag(`${members}, mode: active-backup, revertDelay: 1s`), /no primary to revert to/],
    [lag(`${members}, mode: active-backup, minLinks: 2`), /leave minLinks out/],
    [lag(`${members}, upDelay: 2h`), /1h at most/],
    [lag('members: { a: {} }'), /a member is exactly one of tap/],
    [lag('members: { a: { loopback: true } }'), /loopback/],
    ['{ up: { tap: t0, lag: { members: { a: { tap: t1 } } } } }', /exactly one of/],
    [
      '{ up: { lag: { members: { a: { tap: t0 } } } }, other: { tap: t0 } }',
      /interface "t0" is used by .*member "a" already/,
    ],
    [lag('members: { a: { tap: t0 }, b: { tap: t0 } }'), /members\.b\.tap: interface "t0" is used/],
  ];
  for (const [ports, message] of rows) t.match(problemsOf(ports).join('\n'), message, ports);
  t.same(problemsOf(lag(members)), []);
});
