/** Config files: every kind of mistake, word for word, with its file, line and column. */
import t from 'tap';
import { parse } from '../../../control/model/parse.js';

function problems(...texts: string[]): string[] {
  const files = texts.map((text, index) => ({ path: `${'abc'[index]}.yaml`, text }));
  return parse(files).problems.map(
    ({ path, line, column, at, message }) => `${path}:${line}:${column}: ${at}: ${message}`,
  );
}

await t.test('a good file has no problem, and keeps what the user wrote', async t => {
  const text = 'switch:\n  lan:\nmachine:\n  alice: { image: tiny, memory: 1024MiB }\n';
  const parsed = parse([{ path: 'a.yaml', text }]);
  t.same(parsed.problems, []);
  t.same([...parsed.declared.keys()], ['switch/lan', 'machine/alice']);
  const alice = parsed.declared.get('machine/alice');
  t.same(alice?.written, { image: 'tiny', memory: '1024MiB' });
  t.match(alice?.spec, { memory: '1024MiB', cpus: 1, running: true });
  t.same(parse([{ path: 'empty.yaml', text: '# nothing\n' }]).problems, []);
});

const CASES: readonly [what: string, texts: string[], expected: string[]][] = [
  [
    'unknown key, with the nearest right one; the column is the key’s',
    ['machine:\n  alice:\n    image: tiny\n    nics:\n      - { switch: lan, vlna: 10 }\n'],
    ['a.yaml:5:24: machine.alice.nics[0].vlna: unknown key "vlna"; did you mean "vlan"?'],
  ],
  [
    'unknown key with nothing near: what could be there',
    ['pool:\n  main: { colour: red }\n'],
    [
      'a.yaml:2:11: pool.main.colour: unknown key "colour"; known here: directory, device, remote, overcommit, lowSpace',
    ],
  ],
  [
    'unknown kind',
    ['machines:\n  alice: {}\nfrobnicate: {}\n'],
    [
      'a.yaml:1:1: machines: unknown kind "machines"; did you mean "machine"?',
      'a.yaml:3:1: frobnicate: unknown kind "frobnicate"; there are switch, pool, image, volume, export, machine',
    ],
  ],
  [
    'wrong types',
    [
      'machine:\n  a: { cpus: many, memory: 512, nics: lan, running: "yes" }\n  b: { cpus: 1.5 }\n  c: [1]\n  d: { disks: [x] }\n',
    ],
    [
      'a.yaml:2:14: machine.a.cpus: expected a number, found the text "many"',
      'a.yaml:2:28: machine.a.memory: expected a text, found the number 512',
      'a.yaml:2:39: machine.a.nics: expected a list, found the text "lan"',
      'a.yaml:2:53: machine.a.running: expected true or false, found the text "yes"',
      'a.yaml:3:14: machine.b.cpus: expected a whole number, found 1.5',
      'a.yaml:4:6: machine.c: expected a map, found a list',
      'a.yaml:5:16: machine.d.disks[0]: expected a map, found the text "x"',
    ],
  ],
  [
    'a kind or a file of the wrong shape',
    ['switch: 5\n', '- a\n- b\n', 'just words\n'],
    [
      'a.yaml:1:9: switch: expected a map from names to switch specs, found the number 5',
      'b.yaml:1:1: : a configuration is a map of kinds (switch, pool, image, volume, export, machine), this is a list',
      'c.yaml:1:1: : a configuration is a map of kinds (switch, pool, image, volume, export, machine), this is the text "just words"',
    ],
  ],
  [
    'VLANs outside 1-4094, and ranges the wrong way round',
    [
      'switch:\n  lan:\n    ports:\n      p: { tap: t0, vlan: 4095 }\n      q: { tap: t1, vlan: 0 }\n      r: { tap: t2, trunk: { allowed: [5000, "20-10", "x"], native: 4095 } }\n',
    ],
    [
      'a.yaml:4:27: switch.lan.ports.p.vlan: 4095 is out of range: from 1 to 4094',
      'a.yaml:5:27: switch.lan.ports.q.vlan: 0 is out of range: from 1 to 4094',
      'a.yaml:6:40: switch.lan.ports.r.trunk.allowed[0]: 5000 is out of range: from 1 to 4094',
      'a.yaml:6:46: switch.lan.ports.r.trunk.allowed[1]: "20-10": a range of VLANs lies within 1-4094, its smaller end first',
      'a.yaml:6:55: switch.lan.ports.r.trunk.allowed[2]: "x": a range of VLANs is written "20-29"',
      'a.yaml:6:69: switch.lan.ports.r.trunk.native: 4095 is out of range: from 1 to 4094',
    ],
  ],
  [
    'a port of two devices, or of none; access and trunk at once',
    [
      'switch:\n  lan:\n    ports:\n      p: { tap: t0, loopback: true }\n      q: { vlan: 5 }\n      r: { tap: t1, vlan: 5, trunk: { allowed: [1] } }\n      s: { tap: "a b" }\n      t: { loopback: false }\n',
    ],
    [
      'a.yaml:4:7: switch.lan.ports.p: a port is exactly one of tap, packet, xdp, stream, vhost, dgram, vxlan, patch, loopback, pcap, lag',
      'a.yaml:5:7: switch.lan.ports.q: a port is exactly one of tap, packet, xdp, stream, vhost, dgram, vxlan, patch, loopback, pcap, lag',
      'a.yaml:6:7: switch.lan.ports.r: either vlan or trunk, not both',
      'a.yaml:7:17: switch.lan.ports.s.tap: "a b": an interface name is 1 to 15 characters without space, slash or colon',
      'a.yaml:8:22: switch.lan.ports.t.loopback: must be true, found false',
    ],
  ],
  [
    'names',
    ['pool:\n  Main: {}\n  -x: {}\n  ok-1: {}\n  7: {}\n'],
    [
      'a.yaml:2:3: pool.Main: "Main" cannot be a name: a name is 1 to 40 of a-z, 0-9 and inner hyphens',
      'a.yaml:3:3: pool.-x: "-x" cannot be a name: a name is 1 to 40 of a-z, 0-9 and inner hyphens',
    ],
  ],
  [
    'the same name twice in a file, and in two files',
    [
      'machine:\n  alice: { image: tiny }\n  alice: { image: tiny }\n',
      'machine:\n  alice: { image: tiny }\n',
    ],
    [
      'a.yaml:3:3: machine.alice: machine "alice" is defined twice; the first is at a.yaml:2:3',
      'b.yaml:2:3: machine.alice: machine "alice" is defined twice; the first is at a.yaml:2:3',
    ],
  ],
  [
    'the same key twice',
    ['machine:\n  alice: { image: tiny, cpus: 1, cpus: 2 }\npool: {}\npool: {}\n'],
    [
      'a.yaml:2:34: machine.alice.cpus: "cpus" is written twice; the first is on line 2',
      'a.yaml:4:1: pool: "pool" is written twice; the first is on line 3',
    ],
  ],
  [
    'sizes, durations, choices, addresses, paths',
    [
      'machine:\n  a: { memory: 10MB, restart: alwyas, stopTimeout: 5, nics: [{ switch: lan, mac: "FF:00" }] }\nvolume:\n  v: { pool: main, size: "12" }\npool:\n  p: { directory: here }\n',
    ],
    [
      'a.yaml:2:16: machine.a.memory: "10MB": a size is a number and a unit: B, KiB, MiB, GiB or TiB',
      'a.yaml:2:31: machine.a.restart: must be one of always, on-failure, never, found the text "alwyas"; did you mean "always"?',
      'a.yaml:2:52: machine.a.stopTimeout: expected a text, found the number 5',
      'a.yaml:2:82: machine.a.nics[0].mac: "FF:00": a MAC address is six lower-case hexadecimal bytes with colons',
      'a.yaml:4:26: volume.v.size: "12": a size is a number and a unit: B, KiB, MiB, GiB or TiB',
      'a.yaml:6:19: pool.p.directory: "here": must begin with "/"',
    ],
  ],
  [
    'missing keys are blamed on whom they are missing from',
    ['volume:\n  v: {}\nexport:\n  e: { volume: v, tcp: { host: x } }\n'],
    ['a.yaml:2:3: volume.v: "pool" is missing', 'a.yaml:4:19: export.e.tcp: "port" is missing'],
  ],
  [
    'images: the nearest of the three forms is meant',
    [
      'image:\n  a: { tinny: {} }\n  b: { disk: /x, formt: raw }\n  c: { disk: /x, format: vmdk }\n  d: {}\n  e: { tiny: { x: 1 } }\n  f: nope\n',
    ],
    [
      'a.yaml:2:6: image.a: must be a map with one of the keys tiny, disk, kernel; did you mean "tiny"?',
      'a.yaml:3:18: image.b.formt: unknown key "formt"; did you mean "format"?',
      'a.yaml:4:26: image.c.format: must be one of raw, qcow2, found the text "vmdk"',
      'a.yaml:5:6: image.d: must be a map with one of the keys tiny, disk, kernel',
      'a.yaml:6:16: image.e.tiny.x: unknown key "x"; known here: ',
      'a.yaml:7:6: image.f: must be a map with one of the keys tiny, disk, kernel',
    ],
  ],
  [
    'YAML syntax; the other files are still read',
    ['switch:\n\tlan: {}\n', 'a: b: c\n', 'pool:\n  main: { x: 1 }\n'],
    [
      'a.yaml:2:1: : YAML syntax: a tab cannot indent YAML; use spaces',
      'b.yaml:1:4: : YAML syntax: Nested mappings are not allowed in compact mappings',
      'c.yaml:2:11: pool.main.x: unknown key "x"; known here: directory, device, remote, overcommit, lowSpace',
    ],
  ],
  [
    'several problems, in the order of their places',
    [
      'volume:\n  v: { pool: p, size: 1 }\nmachine:\n  m: { nics: [{}], cpus: 0 }\nswitch:\n  s: { ports: { p: {} } }\n',
    ],
    [
      'a.yaml:2:23: volume.v.size: expected a text, found the number 1',
      'a.yaml:4:15: machine.m.nics[0]: "switch" is missing',
      'a.yaml:4:26: machine.m.cpus: 0 is out of range: from 1 to 256',
      'a.yaml:6:17: switch.s.ports.p: a port is exactly one of tap, packet, xdp, stream, vhost, dgram, vxlan, patch, loopback, pcap, lag',
    ],
  ],
  [
    'long values are shown shortened',
    [`machine:\n  m: { restart: ${'x'.repeat(200)} }\n`],
    [
      `a.yaml:2:17: machine.m.restart: must be one of always, on-failure, never, found the text "${'x'.repeat(57)}..."`,
    ],
  ],
];

for (const [what, texts, expected] of CASES)
  await t.test(what, async t => {
    t.same(problems(...texts), expected);
  });

await t.test('anchors and several documents in one file', async t => {
  const text = 'machine:\n  a: &m { image: tiny }\n  b: *m\n---\nmachine:\n  c: { image: tiny, cpus: 0 }\n';
  t.same(problems(text), ['a.yaml:6:27: machine.c.cpus: 0 is out of range: from 1 to 256']);
  const parsed = parse([{ path: 'a.yaml', text }]);
  t.same(parsed.declared.get('machine/b')?.written, { image: 'tiny' });
});

await t.test('files that mean harm end in a problem, not in our end', async t => {
  t.match(problems('a: &a [*a]\n').at(0), /cannot be read as YAML|unknown kind/);
  const laughs = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 10; i++) laughs.push(`a${i}: &a${i} [${`*a${i - 1}, `.repeat(10)}]`);
  t.match(problems(`machine:\n  m: {}\n${laughs.join('\n')}\n`).length > 0, true);
  const bomb = `machine:\n  m:\n    ${laughs.join('\n    ')}\n`;
  t.match(problems(bomb).join('\n'), /Excessive alias count/);
  t.match(problems('['.repeat(50_000)).at(0), /a.yaml:\d+:\d+: : /);
  t.match(problems('\0\u0001\n').length >= 0, true);
});

await t.test('more problems than anyone reads are counted', async t => {
  const text = `machine:\n${Array.from({ length: 500 }, (_, i) => `  m${i}: { x: 1 }\n`).join('')}`;
  const found = problems(text);
  t.equal(found.length, 201);
  t.equal(found.at(-1), ':0:0: : and 300 more problems');
});
