/** Manifests of backups: what is written is read back, what was changed is refused, chains go by sequence. */
import * as crypto from 'node:crypto';
import t from 'tap';
import {
  chainOf,
  formatManifest,
  newestOf,
  parseManifest,
  pieceBytesOf,
  sealManifest,
  type Manifest,
  type ManifestBody,
} from '../../../storage/jobs/manifest.js';

const sha256 = (text: string): string => crypto.createHash('sha256').update(text).digest('hex');
const body = (more: Partial<ManifestBody> = {}): ManifestBody => ({
  format: 'weft-backup-1',
  uuid: '0b0c7e2e-8f7a-4c6e-9a3b-1d2e3f405162',
  volume: 'disk',
  name: 'one',
  size_bytes: 2 ** 30,
  sequence: 1,
  snapshot: { name: 'one', uuid: '0b0c7e2e-8f7a-4c6e-9a3b-1d2e3f405163' },
  base: null,
  createdAt_ms: 5,
  piece_bytes: 4 * 2 ** 20,
  data_bytes: 8192,
  zero_bytes: 4096,
  extents: [
    [0, 8192, 'a'.repeat(64)],
    [2 ** 20, 4096],
  ],
  ...more,
});

void t.test('read back as written, or refused', async t => {
  const manifest = sealManifest(body(), sha256);
  const text = formatManifest(manifest);
  t.same(parseManifest(text, sha256), { manifest, problem: null });
  t.match(parseManifest(text.replace('8192', '4096'), sha256).problem, /SHA-256/);
  t.match(parseManifest('', sha256).problem, /empty or too long/);
  t.match(parseManifest('{', sha256).problem, /no JSON/);
  const problemOf = (more: Partial<ManifestBody>) =>
    parseManifest(formatManifest(sealManifest(body(more), sha256)), sha256).problem;
  t.match(problemOf({ data_bytes: 1 }), /totals/);
  t.match(problemOf({ size_bytes: 2 ** 20 }), /beyond the volume/);
  t.match(problemOf({ size_bytes: 2 ** 30 + 1 }), /multiple/);
  t.match(problemOf({ extents: [[100, 4096]] }), /whole blocks/);
  t.match(
    problemOf({
      extents: [
        [4096, 8192],
        [8192, 4096],
      ],
    }),
    /overlap/,
  );
  t.throws(() => sealManifest(body({ name: '../x' }), sha256));
  t.throws(() => sealManifest(body({ volume: 'a/b' }), sha256));
});

void t.test('chains', async t => {
  const make = (name: string, sequence: number, base: Manifest | null): Manifest =>
    sealManifest(
      body({
        name,
        sequence,
        // The clock went backwards.
        createdAt_ms: 1000 - sequence,
        base:
          base === null
            ? null
            : { name: base.name, snapshotUuid: base.snapshot.uuid, manifestSha256: base.sha256 },
      }),
      sha256,
    );
  const a = make('a', 1, null);
  const b = make('b', 2, a);
  const c = make('c', 3, b);
  t.same(chainOf(c, [a, b, c]), { chain: [a, b, c], problem: null });
  t.match(chainOf(c, [a, c]).problem, /builds upon b, which is not there/);
  t.match(chainOf(c, [make('b', 2, null), a, c]).problem, /not there/, 'another one of that name is no base');
  t.match(chainOf(make('d', 1, c), [a, b, c]).problem, /later/);
  t.equal(newestOf([c, a, b])?.name, 'c');
  t.equal(newestOf([]), null);
  t.equal(pieceBytesOf(2 ** 30), 4 * 2 ** 20);
  t.ok(2 ** 46 / pieceBytesOf(2 ** 46) <= 2 ** 20);
});
