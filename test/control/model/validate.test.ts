/** What is wrong with a configuration as a whole, with its place; through planFiles, as a user meets it. */
import t from 'tap';
import { planFiles, planRemoval } from '../../../control/model/change.js';
import type { ChangeContext, Current } from '../../../control/model/change.js';
import { layoutOf } from '../../../control/model/layout.js';
import { derivedMac } from '../../../control/model/mac.js';
import { keyOf, readSpec } from '../../../control/model/resource.js';
import type { Key } from '../../../control/model/resource.js';

const CONTEXT: ChangeContext = {
  layout: layoutOf('/s'),
  volumeSizes: new Map(),
  isActive: () => false,
  buriedGeneration: () => undefined,
};

function current(...files: string[]): Map<Key, Current> {
  const { problems, put } = plan(new Map(), files, false);
  if (problems.length > 0) throw new Error(problems.map(one => one.message).join('; '));
  return new Map(
    put.map(({ kind, name, generation, written }) => [
      keyOf(kind, name),
      { kind, name, generation, written, spec: readSpec(kind, written) },
    ]),
  );
}

function plan(before: Map<Key, Current>, texts: string[], prune: boolean, context = CONTEXT) {
  const files = texts.map((text, index) => ({ path: `${'abc'[index]}.yaml`, text }));
  return planFiles(before, files, prune, context);
}

function problems(texts: string[], before = new Map<Key, Current>(), context = CONTEXT): string[] {
  return plan(before, texts, false, context).problems.map(
    ({ path, line, column, message }) => `${path}:${line}:${column}: ${message}`,
  );
}

const BASE = 'switch: { lan: {} }\npool: { main: {} }\nimage: { tiny: { tiny: {} }, deb: { disk: /d } }\n';

const CASES: readonly [what: string, text: string, expected: string[]][] = [
  [
    'references to what is not there, with what is',
    'volume: { v: { pool: mian, size: 1MiB, image: debb } }\nexport: { e: { volume: w } }\nmachine:\n  m: { image: tiy, disks: [{ volume: x }], nics: [{ switch: wan }] }\n',
    [
      'b.yaml:1:22: no pool named "mian"; did you mean "main"?',
      'b.yaml:1:47: no image named "debb"; did you mean "deb"?',
      'b.yaml:2:24: no volume named "w"; did you mean "v"?',
      'b.yaml:4:15: no image named "tiy"; did you mean "tiny"?',
      'b.yaml:4:38: no volume named "x"; did you mean "v"?',
      'b.yaml:4:61: no switch named "wan"; did you mean "lan"?',
    ],
  ],
  [
    'nothing of that kind',
    'export: { e: { volume: disk } }\n',
    ['b.yaml:1:24: no volume named "disk"; there is no volume at all'],
  ],
  [
    'images of the wrong sort',
    'volume: { v: { pool: main, size: 1MiB, image: tiny } }\nmachine: { m: { image: deb } }\n',
    [
      'b.yaml:1:47: image "tiny" is a kernel to boot; a volume is filled from an image with "disk"',
      'b.yaml:2:24: image "deb" is a disk; fill a volume from it (volume: image:) and boot from that volume',
    ],
  ],
  [
    'one disk, two writers',
    'volume: { v: { pool: main, size: 1MiB } }\nmachine:\n  a: { disks: [{ volume: v }] }\n  b: { disks: [{ volume: v }] }\n  c: { disks: [{ volume: v, readOnly: true }] }\nexport:\n  e: { volume: v }\n  f: { volume: v, readOnly: true }\n',
    [
      'b.yaml:4:26: volume "v" is writable by machine "a" already; two writers destroy each other\'s data: set readOnly: true on one',
      'b.yaml:7:16: volume "v" is writable by machine "a" already; two writers destroy each other\'s data: set readOnly: true on one',
    ],
  ],
  [
    'a disk twice in one machine',
    'volume: { v: { pool: main, size: 1MiB } }\nmachine:\n  a: { disks: [{ volume: v }, { volume: v, readOnly: true }] }\n',
    ['b.yaml:3:41: volume "v" is a disk of this machine already'],
  ],
  [
    'exports that cannot be told apart',
    'volume: { v: { pool: main, size: 1MiB } }\nexport:\n  e: { volume: v, readOnly: true, unix: /x, exportName: n }\n  f: { volume: v, readOnly: true, unix: /x, exportName: n, tcp: { host: "::", port: 10809 } }\n  g: { volume: v, readOnly: true, exportName: n, tcp: { host: "::", port: 10809 } }\n  h: { volume: v, readOnly: true, unix: /x, exportName: o, tcp: { host: "::", port: 10809 } }\n',
    [
      'b.yaml:4:41: socket "/x" under the export name "n" is used by export "e" already',
      'b.yaml:5:55: :::10809 under the export name "n" is used by export "f" already',
    ],
  ],
  [
    'addresses, taps, sockets and files that two claim',
    'machine:\n  a: { image: tiny, nics: [{ switch: lan, mac: "02:00:00:00:00:01" }] }\n  b: { image: tiny, nics: [{ switch: lan, mac: "02:00:00:00:00:01" }] }\nswitch:\n  x: { ports: { p: { tap: t0 }, q: { stream: { path: /q, role: listen } }, r: { pcap: /r } } }\n  y: { ports: { p: { tap: t0 }, q: { stream: { path: /q, role: connect } }, r: { pcap: /r }, s: { loopback: true, mtu: 1500 } } }\n',
    [
      'b.yaml:3:48: 02:00:00:00:00:01 is the address of nic 0 of machine "a" already',
      'b.yaml:6:27: interface "t0" is used by port "p" of switch "x" already',
      'b.yaml:6:54: socket "/q" is used by port "q" of switch "x" already',
      'b.yaml:6:88: file "/r" is used by port "r" of switch "x" already',
      'b.yaml:6:120: only a tap has an mtu',
    ],
  ],
  [
    'an address that happens to be a derived one',
    `machine:\n  a: { image: tiny, nics: [{ switch: lan, mac: "${derivedMac('b', 0)}" }] }\n  b: { image: tiny, nics: [{ switch: lan }] }\n`,
    [
      `b.yaml:3:28: the address derived for this card, ${derivedMac('b', 0)}, is that of nic 0 of machine "a" already; choose one with mac:`,
    ],
  ],
  [
    'sizes and times that cannot be',
    'volume:\n  a: { pool: main, size: 1000B }\n  b: { pool: main, size: 65TiB }\n  c: { pool: main, size: 10000B }\nmachine:\n  m: { image: tiny, memory: 1MiB }\n  n: { image: tiny, memory: 100000KiB, stopTimeout: 2h }\nswitch:\n  s: { ageing: 9s }\n  u: { ageing: 10500ms }\n',
    [
      'b.yaml:2:26: "1000B" is too small: the least is 4KiB',
      'b.yaml:3:26: "65TiB" is too big: the most is 64TiB',
      'b.yaml:4:26: "10000B" is not a multiple of 4KiB; the next is 12KiB',
      'b.yaml:6:29: "1MiB" is too small: the least is 16MiB',
      'b.yaml:7:29: "100000KiB" is not a whole number of MiB',
      'b.yaml:7:53: "2h" is too long: the most is 1h',
      'b.yaml:9:16: "9s" is out of range: whole seconds from 10s to 1000000s (802.1Q)',
      'b.yaml:10:16: "10500ms" is out of range: whole seconds from 10s to 1000000s (802.1Q)',
    ],
  ],
  [
    'nothing to boot; one directory for two pools',
    'machine:\n  m: { nics: [{ switch: lan }] }\npool:\n  a: { directory: /p }\n  b: { directory: /p/ }\n',
    [
      'b.yaml:2:3: nothing to boot: give it an image (kernel or tiny), or a disk as the first of its disks',
      'b.yaml:5:19: directory "/p" is used by pool "a" already',
    ],
  ],
];

await t.test('paths that are relative, or weft’s own', async t => {
  const text =
    'switch:\n  x: { ports: { p: { pcap: rel.pcapng }, q: { stream: { path: /s/run/../run/weftd.sock, role: connect } } } }\nvolume: { v: { pool: main, size: 1MiB } }\nexport:\n  e: { volume: v, unix: /s/run/weftd.sock }\n  f: { volume: v, unix: /s/run/exports/mine.sock }\n';
  t.same(problems([BASE, text]), [
    'b.yaml:2:28: "rel.pcapng" must be an absolute path',
    'b.yaml:2:63: "/s/run/../run/weftd.sock" lies among weft\'s own sockets (/s/run): choose another place',
    'b.yaml:5:25: "/s/run/weftd.sock" lies among weft\'s own sockets (/s/run): choose another place',
  ]);
});

await t.test('more than a plane can hold', async t => {
  const machines = Array.from(
    { length: 260 },
    (_, i) => `  m${i}: { image: tiny, nics: [${'{ switch: lan }, '.repeat(16)}] }\n`,
  );
  t.same(problems([BASE, `machine:\n${machines.join('')}`]), [
    "a.yaml:1:11: 4160 ports (with the machines' cards) are too many: the most is 4096",
  ]);
});

for (const [what, text, expected] of CASES)
  await t.test(what, async t => {
    t.same(problems([BASE, text]), expected);
  });

await t.test('a file is judged together with what is there already, and the newcomer is blamed', async t => {
  const before = current(
    BASE,
    'volume: { v: { pool: main, size: 64MiB } }\nmachine: { z: { disks: [{ volume: v }] } }\n',
  );
  t.same(problems(['machine:\n  a: { disks: [{ volume: v }] }\n'], before), [
    'a.yaml:2:26: volume "v" is writable by machine "z" already; two writers destroy each other\'s data: set readOnly: true on one',
  ]);
  t.same(
    problems(['machine: { z: { image: tiny } }\nexport: { e: { volume: v } }\n'], before),
    [],
    'it lets go of it',
  );
});

await t.test('what is mentioned, though wrongly, is not missing as well', async t => {
  t.same(problems([BASE, 'volume: { v: { pool: main, size: 7 } }\nexport: { e: { volume: v } }\n']), [
    'b.yaml:1:34: expected a text, found the number 7',
  ]);
});

await t.test('after a syntax error nothing is said to be missing', async t => {
  t.same(problems(['pool:\n\tmain: {}\n', 'volume: { v: { pool: main, size: 1MiB } }\n']), [
    'a.yaml:2:1: YAML syntax: a tab cannot indent YAML; use spaces',
  ]);
});

await t.test('volumes stay in their pool and do not shrink', async t => {
  const before = current(BASE, 'pool: { other: {} }\nvolume: { v: { pool: main, size: 1GiB } }\n');
  t.same(problems(['volume:\n  v: { pool: other, size: 1GiB }\n'], before), [
    'a.yaml:2:14: volume "v" is in pool "main", and stays there: weft volume move main/v other moves it, also while it is used',
  ]);
  t.same(problems(['volume:\n  v: { pool: main, size: 512MiB }\n'], before), [
    'a.yaml:2:26: volume "v" is 1GiB large and cannot shrink to 512MiB; keep its size, or copy its data to a new volume; shrink: true beside the size cuts off what lies behind',
  ]);
  const kept = { ...CONTEXT, volumeSizes: new Map([['main/old', 2 ** 31]]) };
  t.same(problems(['volume:\n  old: { pool: main, size: 1GiB }\n'], before, kept), [
    'a.yaml:2:28: volume "old" is there already with 2048MiB and cannot shrink to 1GiB; keep its size, or copy its data to a new volume; shrink: true beside the size cuts off what lies behind',
  ]);
});

await t.test('a state directory too deep for sockets', async t => {
  const deep = { ...CONTEXT, layout: layoutOf(`/${'d'.repeat(80)}`) };
  t.match(problems([BASE, 'machine: { alice: { image: tiny } }\n'], new Map(), deep), [
    /^b.yaml:1:12: the path of its sockets would be 112 bytes long, a Unix socket's is at most 107/,
  ]);
});

await t.test('a plan: what is created, changed and deleted, in order', async t => {
  const before = current(
    BASE,
    'volume: { v: { pool: main, size: 64MiB } }\nmachine: { m: { image: tiny, disks: [{ volume: v }], nics: [{ switch: lan }] } }\n',
  );
  const running = { ...CONTEXT, isActive: () => true };
  const text =
    'machine: { m: { image: tiny, cpus: 2, nics: [{ switch: lan, vlan: 5 }] }, n: { image: tiny } }\nswitch: { wan: {} }\n';
  const { problems: none, actions, put, remove } = plan(before, [text], false, running);
  t.same(none, []);
  t.match(actions, [
    { verb: 'create', kind: 'switch', name: 'wan' },
    {
      verb: 'update',
      kind: 'machine',
      name: 'm',
      summary:
        'cpus 1 -> 2, disks[0] {"volume":"v","readOnly":false,"undo":"keep"} -> none, nics[0].vlan 1 -> 5 (takes effect when the machine is restarted)',
      changes: [{ path: 'cpus', from: 1, to: 2 }, { path: 'disks[0]' }, { path: 'nics[0].vlan', to: 5 }],
    },
    { verb: 'create', kind: 'machine', name: 'n' },
  ]);
  t.match(put, [
    { name: 'm', generation: 2 },
    { name: 'n', generation: 1 },
    { name: 'wan', generation: 1 },
  ]);
  t.same(remove, []);
  const live = 'machine: { m: { image: tiny, disks: [{ volume: v }], nics: [{ switch: lan, vlan: 5 }] } }\n';
  t.notMatch(plan(before, [live], false, running).actions[0]?.summary, /restarted/, 'a VLAN is changed live');
  const pruned = plan(before, ['switch: { lan: {} }\n'], true, running);
  t.same(
    pruned.actions.map(({ verb, kind, name }) => `${verb} ${kind} ${name}`),
    ['delete machine m', 'delete volume v', 'delete image tiny', 'delete image deb', 'delete pool main'],
  );
});

await t.test('equal meaning is no change', async t => {
  const before = current(
    BASE,
    'switch: { s: { ageing: 300s, ports: { p: { tap: t0, trunk: { allowed: [1, 2, 3] } } } } }\nvolume: { v: { pool: main, size: 1024MiB } }\nmachine: { m: { image: tiny, nics: [{ switch: lan }] } }\n',
  );
  const same = `switch: { s: { ageing: 5m, ports: { p: { trunk: { allowed: ["2-3", 1] }, tap: t0 } } } }
volume: { v: { size: 1GiB, pool: main } }
machine:
  m:
    cpus: 1
    memory: 0.25GiB
    running: true
    nics: [{ switch: lan, vlan: 1, mac: "${derivedMac('m', 0)}" }]
    image: tiny
`;
  const { problems: none, actions, put } = plan(before, [same], false);
  t.same([none, actions, put], [[], [], []]);
});

await t.test('a generation goes on counting after a deletion', async t => {
  const context = { ...CONTEXT, buriedGeneration: () => 4 };
  t.match(plan(new Map(), ['pool: { p: {} }\n'], false, context).put, [{ generation: 5 }]);
});

await t.test('what others use is not removed', async t => {
  const before = current(BASE, 'machine: { m: { image: tiny, nics: [{ switch: lan }] } }\n');
  t.match(planRemoval(before, 'switch/lan', CONTEXT).problems, [
    { message: 'switch "lan" is used by machine "m": change or delete that first' },
  ]);
  t.match(planRemoval(before, 'machine/m', CONTEXT), { problems: [], remove: ['machine/m'] });
});
