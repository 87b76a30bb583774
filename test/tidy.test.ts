/**
 * The import rules of ARCHITECTURE.md ("Who may import whom"), and a few habits, as checks of the tracked
 * sources. To change a rule, change it here and there.
 *
 * `importFaults` and `textFaults` are pure; the tests at the end plant a violation of each rule and want it found.
 */
import t from 'tap';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';

// --- the rules ---------------------------------------------------------------------------------------------

/** Files where the world outside may be touched, besides the folders below. */
const EDGE_FILES = ['server', 'process', 'loop', 'main'];
const isEdgeFile = (file: string) => EDGE_FILES.some(name => file.endsWith(`/${name}.ts`));

const within =
  (...rooms: string[]) =>
  (file: string) =>
    rooms.some(room => file === room || file.startsWith(room));

/** `file` may import ours from where `to` holds. The first rule whose `from` holds decides. */
interface Rule {
  from: (file: string) => boolean;
  to: (target: string, file: string) => boolean;
  says: string;
}

/** Of a process, or of a thread of it. */
const isMain = (file: string) => /^(dataplane|storage|control)\/(.*\/)?main\.ts$/.test(file);

const topOf = (file: string) => file.split('/')[0]!;

const isOfDataplane = (file: string) => topOf(file) === 'dataplane';

/** Capabilities of a switch, each in a room of its own (dataplane/switch/feature.ts is the seam). */
const FEATURE_ROOMS = [
  'guard',
  'lag',
  'lldp',
  'mirrors',
  'offload',
  'qos',
  'rules',
  'sampling',
  'snooping',
  'spanningTree',
  'storm',
  'trace',
].map(room => `dataplane/${room}/`);
/** Text and bytes of IP addresses: pure, and wanted wherever people write addresses. */
const PURE_OF_HOST = 'host/ip.ts';
const isFeatureRoom = within(...FEATURE_ROOMS);

const RULES: Rule[] = [
  { from: within('host/'), to: within('host/'), says: 'host/ imports nothing of ours' },
  { from: within('dataplane/wire/'), to: within('dataplane/wire/'), says: 'wire/ imports nothing' },
  {
    from: file => isMain(file) && topOf(file) !== 'control',
    to: (target, file) => topOf(target) === topOf(file) || topOf(target) === 'host',
    says: 'main.ts, of a process or of a thread, wires its own plane only',
  },
  {
    from: file => file.startsWith('dataplane/switch/') && !/\/app[^/]*\.ts$/.test(file),
    to: (target, file) =>
      within('dataplane/switch/', 'dataplane/wire/')(target) ||
      (within('dataplane/switch/feature.ts', 'dataplane/switch/stages.ts')(file) && isOfDataplane(target)),
    says: 'switch/ imports wire/ and itself; only its app files and the seam know the engine',
  },
  {
    from: file => isFeatureRoom(file) && !/\/app[^/]*\.ts$/.test(file),
    to: (target, file) =>
      target.startsWith(file.split('/').slice(0, 2).join('/') + '/') ||
      within(
        'dataplane/wire/',
        'dataplane/contract',
        'dataplane/switch/counters.ts',
        'dataplane/switch/packet.ts',
        'dataplane/switch/headers.ts',
        'dataplane/switch/feature.ts',
      )(target) ||
      target === PURE_OF_HOST ||
      (isEdgeFile(file) && topOf(target) === 'host'),
    says: 'a room of a capability imports wire/, the contract, the seam and itself; its app files know the engine',
  },
  {
    from: within('dataplane/contract/'),
    to: within('dataplane/contract/'),
    says: 'the contract imports nothing but itself',
  },
  {
    from: file => file.startsWith('dataplane/engine/') && !/\/app[^/]*\.ts$/.test(file),
    to: (target, file) =>
      within('dataplane/engine/', 'host/', 'dataplane/contract')(target) ||
      (file === 'dataplane/engine/messages.ts' && isOfDataplane(target)),
    says: 'engine/ knows ports and links, no protocol; its messages name the types of what is asked for',
  },
  {
    from: within('dataplane/ports/'),
    to: within('dataplane/ports/', 'dataplane/engine/', 'dataplane/wire/', 'host/', 'dataplane/contract'),
    says: 'ports/ import engine/, wire/ and host/',
  },
  { from: within('storage/volume/'), to: within('storage/volume/'), says: 'volume/ imports itself' },
  {
    from: within('storage/pool/'),
    to: within('storage/pool/', 'storage/volume/', 'storage/layers/', 'storage/checksum/', 'host/'),
    says: 'pool/ imports volume/, layers/, checksum/ and host/',
  },
  {
    from: within('storage/checksum/'),
    to: within('storage/checksum/', 'host/'),
    says: 'checksum/ imports itself; its edge files host/',
  },
  {
    from: within('storage/layers/'),
    to: within(
      'storage/layers/',
      'storage/volume/',
      'storage/checksum/',
      'storage/pool/file.ts',
      'storage/pool/fileVolume.ts',
    ),
    says: 'layers/ imports volume/, checksum/, and of pool/ the file edge and the volume on one file',
  },
  {
    from: within('storage/remote/'),
    to: (target, file) =>
      within(
        'storage/remote/',
        'storage/volume/',
        'storage/tls/stream.ts',
        'storage/nbd/wire.ts',
        'storage/nbd/chunks.ts',
      )(target) ||
      ((isEdgeFile(file) || file === 'storage/remote/file.ts') && within('host/', 'storage/')(target)),
    says: "remote/ speaks NBD's wire to others and is a volume to us; its edge files know sockets",
  },
  {
    from: within('storage/jobs/'),
    to: within(
      'storage/jobs/',
      'storage/volume/',
      'storage/layers/',
      'storage/checksum/',
      'storage/pool/',
      'storage/remote/',
      'storage/cipher/key.ts',
      'storage/contract',
      'host/',
    ),
    says: 'jobs/ work on layers beside the data thread',
  },
  {
    from: within('storage/nbd/'),
    to: (target, file) =>
      within('storage/nbd/', 'storage/volume/', 'storage/tls/secrets.ts', 'host/')(target) ||
      (file.endsWith('/server.ts') && target.startsWith('storage/')),
    says: 'nbd/ imports volume/; its server.ts joins it to the rest',
  },
  {
    from: within('storage/vhost/'),
    to: (target, file) =>
      within(
        'storage/vhost/',
        'storage/volume/',
        'storage/nbd/chunks.ts',
        'storage/nbd/counters.ts',
        'storage/nbd/limits.ts',
        'host/',
      )(target) ||
      (file === 'storage/vhost/guests.ts' && within('storage/nbd/')(target)),
    says: "vhost/ imports volume/ and host/, and shares NBD's memory and bounds; guests.ts is a door of its loop",
  },
  {
    from: within('control/'),
    to: within('control/', 'host/', 'dataplane/contract.ts', 'storage/contract.ts'),
    says: "control/ imports the planes' contract.ts only",
  },
  {
    from: within('cli/'),
    to: within('cli/', 'control/api/contract.ts', 'control/model/', 'control/image/disk/describe.ts'),
    says: 'cli/ reaches the system through control/api/contract.ts and HTTP only, and shares the pure control/model/ and what judges disk images',
  },
  {
    from: within('dataplane/', 'storage/'),
    to: (target, file) => topOf(target) === topOf(file) || topOf(target) === 'host',
    says: 'the planes import neither each other nor control/',
  },
  { from: within('test/'), to: () => true, says: 'tests import what they test' },
];

/** Edges: who may import host/. */
const mayImportHost = (file: string) =>
  within(
    'host/',
    'test/',
    'dataplane/engine/',
    'dataplane/ports/',
    'control/store/',
    'control/supervise/',
    'control/vmm/',
  )(file) ||
  isMain(file) ||
  // What a data thread is made of, the cipher that calls OpenSSL, and guests' memory.
  within('storage/dataThread/', 'storage/cipher/', 'storage/tls/', 'storage/vhost/')(file) ||
  (within('storage/pool/', 'storage/nbd/', 'storage/checksum/', 'storage/remote/', 'storage/jobs/')(file) &&
    /\/(server|process|loop|file|tls|peer|clients)\.ts$/.test(file)) ||
  file === 'storage/jobs/calls.ts';

const mayImportPool = (file: string) =>
  within('storage/pool/', 'storage/jobs/', 'storage/desk/', 'storage/dataThread/', 'test/')(file) ||
  isMain(file) ||
  file.endsWith('/server.ts');

/** Where sockets, files, processes, timers and the clock may appear. */
const mayTouchTheWorld = (file: string) =>
  within('host/', 'dataplane/ports/', 'control/store/', 'storage/pool/', 'cli/', 'test/')(file) ||
  file === 'storage/remote/session.ts' ||
  file === 'storage/jobs/file.ts' ||
  file === 'storage/jobs/calls.ts' ||
  file === 'storage/remote/file.ts' ||
  file === 'storage/tls/files.ts' ||
  file === 'storage/desk/keys.ts' ||
  isEdgeFile(file);

const WORLD_MODULES =
  /^(node:)?(fs|fs\/promises|net|tls|dgram|http|https|http2|child_process|cluster|worker_threads|timers|timers\/promises|dns|dns\/promises)$/;
const WORLD_CALLS =
  /\b(Date\.now|new Date\(\)|setTimeout|setInterval|setImmediate|performance\.now|process\.hrtime|fetch)\b/;

/** In pieces, so that this line is none of what it looks for. */
const TYPE_ANY = new RegExp(['\\bas ', '<', ':\\s*'].map(before => `${before}any\\b`).join('|'));

const FILE_MAX_LINES = 600;

// --- the checks --------------------------------------------------------------------------------------------

/** Comments and the insides of string literals become blanks, so that words in them are not taken for code. */
function codeOf(source: string): string {
  const token = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;
  return source.replace(token, found => {
    const quoted = '\'"`'.includes(found[0]!);
    const inner = quoted ? found.slice(1, -1) : found;
    const blank = inner.replace(/[^\n]/g, ' ');
    return quoted ? found[0]! + blank + found[0]! : blank;
  });
}

/** What the file imports, exports from, or loads by `import()`; with the line. */
function importsOf(source: string): { specifier: string; line: number; typeOnly: boolean }[] {
  const withoutComments = source.replace(/^\s*\/\*[\s\S]*?\*\//gm, found => found.replace(/[^\n]/g, ' '));
  const statement =
    /^\s*(?:import|export)\b[^;'"`]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\s*\(\s*['"]([^'"]+)['"]/gm;
  return [...withoutComments.matchAll(statement)].map(match => ({
    specifier: match[1] ?? match[2] ?? match[3]!,
    typeOnly: /^\s*(import|export)\s+type\b/.test(match[0]),
    line: withoutComments.slice(0, match.index + match[0].length).split('\n').length,
  }));
}

export function importFaults(file: string, source: string): string[] {
  const faults: string[] = [];
  for (const { specifier, line, typeOnly } of importsOf(source)) {
    const at = `${file}:${line} imports ${specifier}`;
    if (specifier === 'koffi' && topOf(file) !== 'host') faults.push(`${at}: host/ alone loads koffi`);
    // A type of node:http is a word for what an edge hands in; it opens nothing.
    if (WORLD_MODULES.test(specifier) && !typeOnly && !mayTouchTheWorld(file))
      faults.push(`${at}: files, sockets and processes belong into edges (server, process, loop, main)`);
    if (!specifier.startsWith('.')) continue;
    const target = path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, '.ts');
    const rule = RULES.find(({ from }) => from(file));
    if (rule !== undefined && !rule.to(target, file)) faults.push(`${at}: ${rule.says}`);
    if (topOf(target) === 'host' && target !== PURE_OF_HOST && !mayImportHost(file))
      faults.push(`${at}: only edges import host/`);
    // The file edge is shared; who holds pools is not.
    if (
      target.startsWith('storage/pool/') &&
      target !== 'storage/pool/file.ts' &&
      !(file.startsWith('storage/layers/') && target === 'storage/pool/fileVolume.ts') &&
      !mayImportPool(file)
    )
      faults.push(`${at}: only main.ts and server.ts import pool/`);
    if (topOf(target) === 'test' && topOf(file) !== 'test') faults.push(`${at}: nothing imports tests`);
  }
  return faults;
}

export function textFaults(file: string, source: string): string[] {
  const faults: string[] = [];
  const lines = source.split('\n');
  if (lines.length > FILE_MAX_LINES) faults.push(`${file} has ${lines.length} lines: split it by subject`);
  const code = codeOf(source).split('\n');
  for (const [index, line] of lines.entries()) {
    const at = `${file}:${index + 1}`;
    if (TYPE_ANY.test(code[index]!)) faults.push(`${at} has the type any`);
    if (/(\/\/|\/\*|^\s*\*)\s*@ts-(ignore|nocheck|expect-error)/.test(line))
      faults.push(`${at}: silences the compiler`);
    if (/\b(t|tap|test|suite)\.only\b|\bonly:\s*true/.test(code[index]!) && topOf(file) === 'test')
      faults.push(`${at}: an exclusive test hides the others`);
    const call = WORLD_CALLS.exec(code[index]!);
    if (call !== null && !mayTouchTheWorld(file))
      faults.push(`${at}: ${call[0]} belongs into an edge; pass the time in`);
  }
  return faults;
}

// --- the tree ----------------------------------------------------------------------------------------------

const ROOT = path.resolve(import.meta.dirname, '../..');
const tracked = () =>
  execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' })
    .split('\0')
    .filter(file => file !== '' && fs.existsSync(path.join(ROOT, file)));

const inGit = fs.existsSync(path.join(ROOT, '.git'));
const skip = inGit ? false : 'this is no git checkout';

await t.test('the tree keeps the rules', { skip }, async t => {
  const files = tracked();
  const sources = files.filter(file => file.endsWith('.ts'));
  t.ok(sources.length > 20, 'there is something to look at');
  const faults = sources.flatMap(file => {
    const source = fs.readFileSync(path.join(ROOT, file), 'utf8');
    return [...importFaults(file, source), ...textFaults(file, source)];
  });
  t.same(faults, []);
});

await t.test('each top-level folder has a README', { skip }, async t => {
  const folders = new Set(
    tracked()
      .filter(file => file.includes('/'))
      .map(topOf),
  );
  for (const folder of folders)
    if (!folder.startsWith('.') && !['bin', 'docs', 'scripts'].includes(folder))
      t.ok(fs.existsSync(path.join(ROOT, folder, 'README.md')), `${folder}/README.md`);
});

await t.test('a planted violation is found', async t => {
  const planted: [file: string, source: string, fault: RegExp | null][] = [
    ['dataplane/engine/loop.ts', "import koffi from 'koffi';", /host\/ alone loads koffi/],
    ['host/tap.ts', "import { x } from '../dataplane/wire/arp.js';", /host\/ imports nothing of ours/],
    ['host/tap.ts', "import koffi from 'koffi';\nimport { x } from './errno.js';", null],
    ['dataplane/wire/arp.ts', "import { x } from '../engine/port.js';", /wire\/ imports nothing/],
    ['dataplane/wire/arp.ts', "import { x } from './ethernet.js';", null],
    ['dataplane/switch/fdb.ts', "import type { x } from '../engine/port.js';", /switch\/ imports wire\//],
    ['dataplane/switch/fdb.ts', "import { x } from '../../host/raw.js';", /only edges import host/],
    ['dataplane/switch/app.ts', "import { x } from '../engine/port.js';", null],
    ['dataplane/engine/link.ts', "import { x } from '../switch/fdb.js';", /no protocol/],
    ['dataplane/engine/link.ts', "import { x } from '../../host/raw.js';", null],
    [
      'dataplane/ports/tap.ts',
      "import {\n  x,\n  y,\n} from '../switch/fdb.js';",
      /tap.ts:4 imports .*ports\/ import/,
    ],
    ['dataplane/main.ts', "import { x } from '../storage/contract.js';", /wires its own plane/],
    ['dataplane/config.ts', "import { x } from '../storage/contract.js';", /neither each other/],
    [
      'storage/data/main.ts',
      "import { x } from '../../host/raw.js';\nimport { y } from '../pool/pool.js';",
      null,
    ],
    ['storage/main.ts', "export { x } from '../control/model/spec.js';", /wires its own plane/],
    ['storage/volume/cow.ts', "import { x } from '../pool/pool.js';", /volume\/ imports itself/],
    ['storage/pool/allocate.ts', "import { x } from '../../host/raw.js';", /only edges import host/],
    ['storage/pool/file.ts', "import { x } from '../../host/raw.js';", null],
    ['storage/nbd/wire.ts', "import { x } from '../pool/pool.js';", /only main.ts and server.ts import pool/],
    [
      'storage/status.ts',
      "const x = await import('./pool/pool.js');",
      /only main.ts and server.ts import pool/,
    ],
    ['control/reconcile/plan.ts', "import { x } from '../../dataplane/engine/port.js';", /contract.ts only/],
    ['control/reconcile/plan.ts', "import { x } from '../../dataplane/contract.js';", null],
    ['control/reconcile/plan.ts', "import { x } from '../../host/raw.js';", /only edges import host/],
    ['control/reconcile/plan.ts', "import * as fs from 'node:fs';", /belong into edges/],
    ['control/reconcile/loop.ts', "import * as fs from 'node:fs';", null],
    ['control/reconcile/plan.ts', "import type { Stats } from 'node:fs';", null],
    [
      'dataplane/switch/fdb.ts',
      "import type { Server } from 'node:http';\nimport { x } from 'node:net';",
      /:2 imports node:net/,
    ],
    ['cli/get.ts', "import { x } from '../control/store/keeper.js';", /through control\/api\/contract.ts/],
    ['cli/get.ts', "import { x } from '../control/model/parse.js';", null],
    ['cli/get.ts', "import 'node:http';", null],
    ['cli/get.ts', "import { x } from '../test/lab/guest.js';", /nothing imports tests/],
    ['dataplane/switch/fdb.ts', "// import { x } from '../engine/port.js';\n/* import 'node:fs'; */", null],
  ];
  for (const [file, source, fault] of planted) {
    const found = importFaults(file, source);
    if (fault === null) t.same(found, [], `${file}: ${source}`);
    else t.match(found.join('\n'), fault, `${file}: ${source}`);
  }

  const only = 'on' + 'ly';
  const silenced = '@ts-' + 'ignore';
  const texts: [file: string, source: string, fault: RegExp | null][] = [
    ['control/model/x.ts', 'const x = y as ' + 'any;', /:1 has the type any/],
    ['control/model/x.ts', '\nfunction f(x: ' + 'any) {}', /:2 has the type any/],
    ['control/model/x.ts', "const x = 'as any'; // as any", null],
    ['control/model/x.ts', `// ${silenced}\nx();`, /silences the compiler/],
    ['control/model/x.ts', `/* ${silenced} */ x();`, /silences the compiler/],
    ['test/x.test.ts', `t.${only}('x', () => {});`, /exclusive test/],
    ['test/x.test.ts', `t.test('x', { ${only}: true }, () => {});`, /exclusive test/],
    ['control/model/x.ts', 'const now = Date.now();', /Date.now belongs/],
    ['control/model/x.ts', 'setTimeout(f, 5);', /setTimeout belongs/],
    ['control/model/x.ts', '/** Never Date.now here. */', null],
    ['control/supervise/process.ts', 'const now = Date.now();', null],
    ['control/model/x.ts', 'x;\n'.repeat(600), /601 lines/],
    ['control/model/x.ts', 'x;\n'.repeat(599), null],
  ];
  for (const [file, source, fault] of texts) {
    const found = textFaults(file, source);
    if (fault === null) t.same(found, [], source.slice(0, 60));
    else t.match(found.join('\n'), fault, source.slice(0, 60));
  }
});
