/** The words of storage: what is wrong with them, with its place; through planFiles, as a user meets it. */
import t from 'tap';
import { planFiles } from '../../../control/model/change.js';
import type { ChangeContext } from '../../../control/model/change.js';
import { layoutOf } from '../../../control/model/layout.js';
import { keyOf, readSpec } from '../../../control/model/resource.js';
import { limitsToPlane } from '../../../control/model/storage/rates.js';
import { sameMeaning } from '../../../control/model/meaning.js';

const CONTEXT: ChangeContext = {
  layout: layoutOf('/s'),
  volumeSizes: new Map(),
  isActive: () => false,
  buriedGeneration: () => undefined,
};
const BASE = 'pool: { main: {}, other: {}, dev: { device: /d }, far: { remote: { unix: /s } } }\n';

function problems(text: string): string[] {
  const files = [
    { path: 'a.yaml', text: BASE },
    { path: 'b.yaml', text },
  ];
  return planFiles(new Map(), files, false, CONTEXT).problems.map(
    ({ line, column, message }) => `${line}:${column}: ${message}`,
  );
}

const volume = (words: string): string => `volume: { v: { ${words} } }\n`;

const CASES: readonly [what: string, text: string, expected: RegExp | null][] = [
  ['no size where it is made', volume('pool: main'), /1:11: it has no size/],
  ['a size on a device', volume('pool: dev, size: 1MiB'), /leave size out/],
  [
    'checksums on a server',
    volume('pool: far, checksums: true'),
    /1:\d+: checksums is for volumes in a directory/,
  ],
  ['a device as it is', volume('pool: dev'), null],
  ['two on a device', 'volume: { v: { pool: dev }, w: { pool: dev } }\n', /device \/d is volume "v" already/],
  ['a mirror onto itself', volume('pool: main, size: 1MiB, mirror: { pool: main }'), /needs a second one/],
  ['a mirror to a server', volume('pool: main, size: 1MiB, mirror: { pool: far, remoteName: x }'), null],
  ['a mirror in no pool', volume('pool: main, size: 1MiB, mirror: { pool: othr }'), /did you mean "other"/],
  ['a clone of itself', volume('pool: main, from: { volume: v }'), /a clone of itself/],
  [
    'a clone elsewhere',
    'volume: { v: { pool: main, size: 1MiB }, w: { pool: other, from: { volume: v } } }\n',
    /a clone lies in the pool of its source/,
  ],
  [
    'a clone under another key',
    'volume: { v: { pool: main, size: 1MiB, encryption: { keyFile: /k } }, w: { pool: main, from: { volume: v } } }\n',
    /needs the same encryption/,
  ],
  [
    'clones in a circle',
    'volume: { v: { pool: main, from: { volume: w } }, w: { pool: main, from: { volume: v } } }\n',
    /in a circle/,
  ],
  [
    'a rate without a unit',
    volume('pool: main, size: 1MiB, limits: { bandwidth: 100MiB }'),
    /a size per second/,
  ],
  [
    'a schedule by the second',
    volume('pool: main, size: 1MiB, snapshots: { every: 1s, keep: 2 }'),
    /from 1m/,
  ],
  ['two kinds of pool', 'pool: { p: { directory: /a, device: /b } }\n', /say one/],
  [
    'a key for a pool without a certificate',
    'pool: { p: { remote: { tcp: { host: h, port: 1 }, tls: { key: /k } } } }\n',
    /key goes with certificate/,
  ],
  [
    'tls without tcp',
    `${volume('pool: main, size: 1MiB')}export: { e: { volume: v, tls: { psk: /p } } }\n`,
    /tls is for tcp/,
  ],
  [
    'two sorts of tls at one address',
    `${volume('pool: main, size: 1MiB')}export:\n  e: { volume: v, tcp: { host: 127.0.0.1, port: 1 } }\n  f: { volume: v, tcp: { host: 127.0.0.1, port: 1 }, tls: { psk: /p } }\n`,
    /4:\d+: exports at one address have the same tls/,
  ],
  [
    'undo on a device',
    `${volume('pool: dev')}machine: { m: { disks: [{ volume: v, undo: discard }] } }\n`,
    /no snapshots/,
  ],
];

for (const [what, text, expected] of CASES)
  await t.test(what, async t => {
    const found = problems(text);
    if (expected === null) t.same(found, []);
    else
      t.ok(
        found.some(one => expected.test(one)),
        found.join('\n'),
      );
  });

await t.test('what a volume was made with is not changed; a flattened clone forgets its source', async t => {
  const file = (words: string) => [
    {
      path: 'a.yaml',
      text: `${BASE}volume: { s: { pool: main, size: 1MiB }, v: { pool: main, size: 1MiB, ${words} } }\n`,
    },
  ];
  const after = (from: string, to: string): string[] => {
    const { put } = planFiles(new Map(), file(from), false, CONTEXT);
    const current = new Map(
      put.map(one => [keyOf(one.kind, one.name), { ...one, spec: readSpec(one.kind, one.written) }]),
    );
    return planFiles(current, file(to), false, CONTEXT).problems.map(({ message }) => message);
  };
  t.match(after('', 'encryption: { keyFile: /k }'), [/cannot be encrypted where it lies/]);
  t.match(after('encryption: { keyFile: /k }', ''), [/reads as noise/]);
  t.match(after('', 'checksums: false'), [/was made with checksums/]);
  t.match(after('', 'from: { volume: s }'), [/made already/]);
  t.same(after('from: { volume: s }', ''), []);
  t.same(after('limits: { iops: 5 }', 'limits: { iops: 6 }, mirror: { pool: other }'), []);
});

await t.test('limits, and that equal ones are no change', async t => {
  t.same(limitsToPlane({ iops: 5, readBandwidth: { rate: '1MiB/s', burst: '2MiB' } }), {
    operations: { rate_per_s: 5 },
    readBytes: { rate_per_s: 2 ** 20, burst: 2 ** 21 },
  });
  t.equal(limitsToPlane({}), undefined);
  const spec = (limits: object) => readSpec('volume', { pool: 'main', size: '1MiB', limits });
  t.ok(sameMeaning('volume', 'v', spec({ bandwidth: '1024KiB/s' }), spec({ bandwidth: { rate: '1MiB/s' } })));
  t.notOk(sameMeaning('volume', 'v', spec({ iops: 1 }), spec({ iops: 2 })));
});
